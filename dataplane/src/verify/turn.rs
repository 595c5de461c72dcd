//! Turns: who may ask, and what came of it, as writes of the subscription's document.
//!
//! They go the way of every write: with the document's revision as precondition, so that of several
//! nodes one has the turn and nobody's change is undone.

use std::time::Duration;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use pregon_core::clock::Timestamp;
use pregon_core::contract::{Failure, VerificationRule};
use pregon_core::id::SubscriptionName;
use pregon_core::model::{
    Resource, ResourceName, StateChange, Subscription, SubscriptionState, Turn, Verification,
};
use pregon_core::outcome::{Decision, ErrorClass};
use pregon_store::StoreError;
use pregon_store::author::Author;
use pregon_store::config::{Commit, Committed, Expect};
use tokio::time::{Instant, sleep};

use super::told::{Refused, Told};
use super::{STORE_AGAIN, Verifier};

/// What a turn lasts beyond the requests' own timeouts: serving the revision that took it, and
/// writing what came of it.
const SPARE: Duration = Duration::from_secs(15);
/// Tries to get between other writers.
const TRIES: u32 = 10;

/// A turn of this node's.
pub(super) struct Taken {
    /// The subscription as it was when the turn was taken.
    pub subscription: Subscription,
    /// The revision that says so.
    pub revision: i64,
    /// The turn's id.
    pub id: String,
    /// How long the turn lasts.
    until: Instant,
}

impl Taken {
    fn name(&self) -> SubscriptionName {
        self.subscription.name()
    }
}

/// Takes the turn to ask a subscription's receiver, whose requests take `longest` at most; none
/// where it is not due, or somebody else's.
pub(super) async fn take(
    of: &Verifier,
    name: &SubscriptionName,
    longest: Duration,
) -> Result<Option<Taken>, StoreError> {
    let Some((mut subscription, read)) = fetch(of, name).await? else { return Ok(None) };
    let (now, begun, lasts) = (of.clock.now(), Instant::now(), longest + SPARE);
    if subscription.asked_at().is_none_or(|at| at > now) {
        return Ok(None);
    }
    let Some(verification) = &mut subscription.verification else { return Ok(None) };
    let id = turn_id()?;
    let until = now.plus(lasts);
    verification.turn = Some(Turn { node: of.node.name(), id: id.clone(), until });
    let revision = write(of, subscription.clone(), read, now).await?;
    let taken = |revision| Taken { subscription, revision, id, until: begun + lasts };
    Ok(revision.map(taken))
}

/// An id that no other turn has, and no receiver can guess.
fn turn_id() -> Result<String, StoreError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        StoreError::Unavailable(format!("the system gives no random bits: {error}"))
    })?;
    Ok(format!("ver_{}", HEXLOWER.encode(&bytes)))
}

/// Writes what came of a turn, as long as it is one.
pub(super) async fn settle(of: &Verifier, taken: &Taken, told: &Told, chance: f64) {
    let name = taken.name();
    let mut tries = 0;
    while Instant::now() < taken.until && tries < TRIES {
        match try_settle(of, taken, told, chance).await {
            Ok(true) => return,
            Ok(false) => tries += 1,
            Err(error) => {
                tracing::warn!(subscription = %name, %error, "could not write how a verification went");
                sleep(STORE_AGAIN).await;
            }
        }
    }
    tracing::warn!(subscription = %name, "how a verification went is lost; it is asked again");
}

/// One try; true when there is nothing left to do.
async fn try_settle(
    of: &Verifier,
    taken: &Taken,
    told: &Told,
    chance: f64,
) -> Result<bool, StoreError> {
    let Some((mut subscription, read)) = fetch(of, &taken.name()).await? else { return Ok(true) };
    let own = |it: &Verification| it.turn.as_ref().is_some_and(|turn| turn.id == taken.id);
    if !subscription.verification.as_deref().is_some_and(own) {
        return Ok(true); // it has another URL or contract now, or the turn is over
    }
    let now = of.clock.now();
    apply(&mut subscription, told, chance, now);
    subscription.common.update_time = now;
    Ok(write(of, subscription, read, now).await?.is_some())
}

/// What came of a turn, in the subscription.
fn apply(subscription: &mut Subscription, told: &Told, chance: f64, now: Timestamp) {
    let state = subscription.state;
    let Some(verification) = &mut subscription.verification else { return };
    match told {
        Told::NotAsked => verification.turn = None,
        Told::Passed { asked, repeat } => {
            verification.pass(asked.clone(), *repeat);
            if state == SubscriptionState::PendingVerification {
                let note = "its receiver has passed the verification";
                moved(subscription, SubscriptionState::Active, "", (now, &asked.node, note));
            }
        }
        Told::Failed { asked, refused, rule } => {
            if refused.class.is_some_and(ErrorClass::is_ours) {
                // It says nothing about the receiver: what has passed stays so.
                let age = refused.ended.since(verification.begun);
                verification.hold(asked.clone(), Decision::held_for(age));
            } else {
                let retry =
                    rule.as_ref().and_then(|rule| retry(rule, verification, refused, chance));
                verification.fail(asked.clone(), retry);
            }
            let failed = !verification.passed && verification.next.is_none();
            match state {
                SubscriptionState::PendingVerification => {
                    subscription.state_reason.clone_from(&asked.reason);
                }
                SubscriptionState::Active if failed => {
                    let (to, reason) = (SubscriptionState::PendingVerification, &asked.reason);
                    moved(subscription, to, reason, (now, &asked.node, reason));
                }
                SubscriptionState::Active
                | SubscriptionState::Paused
                | SubscriptionState::PendingApproval
                | SubscriptionState::Disabled
                | SubscriptionState::Rejected => {}
            }
        }
    }
}

fn moved(
    subscription: &mut Subscription,
    to: SubscriptionState,
    reason: &str,
    (time, actor, note): (Timestamp, &str, &str),
) {
    subscription.state = to;
    reason.clone_into(&mut subscription.state_reason);
    let (actor, note) = (actor.to_owned(), note.to_owned());
    subscription.state_change = Some(StateChange { time, actor, note });
}

/// How long until it is asked again; none: not any more.
fn retry(
    rule: &VerificationRule,
    verification: &Verification,
    refused: &Refused,
    chance: f64,
) -> Option<Duration> {
    let failure = Failure {
        attempt: verification.attempts.saturating_add(1),
        took: refused.took,
        age: refused.ended.since(verification.begun),
        status: refused.status,
        retry_after: refused.retry_after,
    };
    rule.retry().next(failure, chance)
}

async fn fetch(
    of: &Verifier,
    name: &SubscriptionName,
) -> Result<Option<(Subscription, i64)>, StoreError> {
    let key = ResourceName::Subscription(name.clone());
    let found = of.config.get(&[key.to_string()]).await?;
    let Some(document) = found.into_iter().flatten().next() else { return Ok(None) };
    match Resource::decode(&key, &document.bytes) {
        Ok(Resource::Subscription(subscription)) => Ok(Some((subscription, document.revision))),
        Ok(
            Resource::Tenant(_)
            | Resource::EventType(_)
            | Resource::Contract(_)
            | Resource::Callback(_)
            | Resource::Secret(_)
            | Resource::ApiKey(_),
        )
        | Err(_) => Err(StoreError::Corrupt(key.to_string())),
    }
}

/// Writes a subscription as it was read at a revision; none where somebody else was first.
async fn write(
    of: &Verifier,
    subscription: Subscription,
    read: i64,
    now: Timestamp,
) -> Result<Option<i64>, StoreError> {
    let name = subscription.name().to_string();
    let author = Author { actor: of.node.name(), time: now, trace: None };
    let bytes = Bytes::from(Resource::Subscription(subscription).encode());
    let commit = Commit {
        expect: vec![(name.clone(), Expect::Revision(read))],
        write: vec![(name, Some(bytes)), author.document()],
        request: None,
        audit: None,
    };
    match of.config.commit(commit).await? {
        Committed::Done { revision } => Ok(Some(revision)),
        Committed::Conflict { .. } | Committed::Repeated { .. } | Committed::RequestReused => {
            Ok(None)
        }
    }
}
