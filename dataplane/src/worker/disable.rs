//! What nodes write down of subscriptions whose receivers are gone for good, or only fail.
//!
//! A subscription is disabled
//! - when its receiver says so by an answer that its contract's `disable` names: one is enough;
//! - after a stated time of nothing but failures, seen by any node. It is told before, when four
//!   fifths of the time are over, and a fifth passes between.
//!
//! The row of failures is written down once it is an hour long, and ends with one acknowledgement, whoever
//! sees it. So it outlives nodes, and an outage as they come and go writes nothing.
//!
//! The only writes of configuration that a worker makes. They go the way of every write: with the
//! document's revision as precondition, so that nobody else's change is undone.

use bytes::Bytes;
use pregon_core::clock::Timestamp;
use pregon_core::id::{NodeId, SubscriptionName};
use pregon_core::model::{
    Failing, Resource, ResourceName, StateChange, Subscription, SubscriptionState,
};
use pregon_store::author::Author;
use pregon_store::config::{Commit, Committed, Expect};
use pregon_store::{ConfigStore, StoreError};
use pregon_telemetry::Telemetry;

use super::announce::{Announced, tell};

/// Tries to get between other writers.
const TRIES: u32 = 5;

/// Why a subscription is disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Its receiver answered this, which the contract takes for good.
    Gone(u16),
    /// Nothing but failures since.
    Failing { since: Timestamp },
}

impl Cause {
    fn reason(self) -> String {
        match self {
            Cause::Gone(status) => format!("the receiver answered {status}"),
            Cause::Failing { since } => format!("nothing but failures since {since}"),
        }
    }
}

/// What is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// Its receiver only fails.
    Failing { since: Timestamp, until: Timestamp },
    /// It is told that it is about to be disabled.
    Warned { until: Timestamp },
    /// Its receiver acknowledged something.
    Well,
    /// It is disabled.
    Disable(Cause),
}

/// Who writes.
pub(super) struct Writer<'a> {
    pub(super) config: &'a dyn ConfigStore,
    pub(super) node: &'a NodeId,
    pub(super) now: Timestamp,
    pub(super) telemetry: &'a Telemetry,
}

/// Writes it down, unless it is out of date, and tells of it.
pub(super) async fn write(writer: &Writer<'_>, name: &SubscriptionName, note: Note) {
    for _ in 0..TRIES {
        match attempt(writer, name, note).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                // The next delivery gets the same answer and leads here again.
                tracing::warn!(subscription = %name, ?note, %error, "could not write down");
                return;
            }
        }
    }
}

/// One try; true when there is nothing left to do.
async fn attempt(
    writer: &Writer<'_>,
    name: &SubscriptionName,
    note: Note,
) -> Result<bool, StoreError> {
    let (config, node, now) = (writer.config, writer.node, writer.now);
    let key = ResourceName::Subscription(name.clone());
    let Some(document) = config.get(&[key.to_string()]).await?.into_iter().flatten().next() else {
        return Ok(true);
    };
    let Ok(Resource::Subscription(mut subscription)) = Resource::decode(&key, &document.bytes)
    else {
        return Err(StoreError::Corrupt(key.to_string()));
    };
    if !change(&mut subscription, note, node, now) {
        return Ok(true);
    }
    let (since, reason) =
        (subscription.failing().map(|it| it.since), subscription.state_reason.clone());
    let committed = config
        .commit(Commit {
            expect: vec![(document.name.clone(), Expect::Revision(document.revision))],
            write: vec![
                (document.name, Some(Bytes::from(Resource::Subscription(subscription).encode()))),
                Author { actor: node.name(), time: now, trace: None }.document(),
            ],
            request: None,
            audit: None,
        })
        .await?;
    if !matches!(committed, Committed::Done { .. }) {
        return Ok(false);
    }
    match note {
        Note::Failing { .. } | Note::Well => {}
        Note::Warned { until } => {
            let since = since.unwrap_or(now);
            tell(writer.telemetry, name, Announced::AboutToBeDisabled { since, until });
        }
        Note::Disable(_) => tell(writer.telemetry, name, Announced::Disabled { reason: &reason }),
    }
    Ok(true)
}

/// Changes the subscription, unless somebody moved it out of the way or there is nothing to change.
fn change(subscription: &mut Subscription, note: Note, node: &NodeId, now: Timestamp) -> bool {
    if !subscription.state.matches() {
        return false;
    }
    match note {
        Note::Failing { since, until } => {
            if subscription.failing().is_some() {
                return false;
            }
            // What was before somebody moved it does not count.
            let moved = subscription.state_change.as_ref().map(|change| change.time);
            let since = moved.map_or(since, |moved| since.max(moved));
            let url = subscription.url.clone();
            subscription.failing = Some(Box::new(Failing { since, until, warned: None, url }));
        }
        Note::Warned { until } => {
            let Some(known) = subscription.failing().filter(|it| it.warned.is_none()) else {
                return false;
            };
            let warned = Failing { warned: Some(now), until, ..known.clone() };
            subscription.failing = Some(Box::new(warned));
        }
        Note::Well => return subscription.failing.take().is_some(),
        Note::Disable(cause) => {
            if let Cause::Failing { since } = cause
                && subscription.failing().is_none_or(|it| it.since != since)
            {
                return false;
            }
            let reason = cause.reason();
            subscription.state = SubscriptionState::Disabled;
            subscription.state_reason.clone_from(&reason);
            subscription.state_change =
                Some(StateChange { time: now, actor: node.name(), note: reason });
            subscription.common.update_time = now;
        }
    }
    true
}

#[cfg(test)]
mod tests;
