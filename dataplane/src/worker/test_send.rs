//! Test sends: one attempt on request, by the same code as any attempt.
//!
//! A test send has no lease and no place in a lane: it is made whether the subscription is paused
//! or disabled and however busy its receiver is, it counts nowhere, and a receiver that says it is
//! gone disables nothing. Its outcome is reported to whoever waits for it, once; nobody else sees
//! it. Bounded by [`AT_ONCE`].

use std::sync::Arc;

use bytes::Bytes;
use pregon_core::attempt::{AttemptRecord, End, RecordKind};
use pregon_core::id::{DeliveryKey, NodeId};
use pregon_core::limits;
use pregon_core::model::SubscriptionState;
use pregon_core::outcome::{AttemptOutcome, DeliveryState, EndReason, Outcome};
use pregon_store::test_reply::TestReply;
use pregon_store::test_send::{TAKE_TESTS_MAX, TEST_RESULT_MAX, TakenTest, TestSend, Ticket};
use pregon_store::{StoreError, TestSends};
use pregon_telemetry::AttemptSeen;
use tokio::time::{Instant, sleep, timeout_at};

use super::RETRY_STORE;
use super::attempt::{Context, Fired, Shot, fire};
use super::record;
use crate::snapshot::{Configuration, Lane, Snapshot};

/// Test sends of a node that are under way at once: each may hold an event of 1 MiB.
pub(super) const AT_ONCE: usize = TAKE_TESTS_MAX;

/// What test sends need.
pub(super) struct Tester {
    pub(super) context: Arc<Context>,
    pub(super) configuration: Configuration,
    pub(super) store: Arc<dyn TestSends>,
}

/// Makes a test send and answers it, while somebody waits. A node that is going down says so
/// instead: nobody else gets it.
pub(super) async fn answer(tester: Arc<Tester>, taken: TakenTest, going: bool) {
    let TakenTest { ticket, test, waits_for } = taken;
    let until = Instant::now() + waits_for;
    let made = async {
        match going {
            true => tester.unmade(&test, "the node is going down; ask again".to_owned()),
            false => tester.attempt(&test).await,
        }
    };
    if let Ok(reply) = timeout_at(until, made).await {
        tester.settle(&ticket, fitting(reply), until).await;
    }
}

impl Tester {
    async fn attempt(&self, test: &TestSend) -> TestReply {
        let (snapshot, lane) = match self.find(test).await {
            Ok(found) => found,
            Err(why) => return self.unmade(test, why),
        };
        let shot = Shot {
            key: key(test),
            lane: &lane,
            event: &test.event,
            number: 1,
            create_time: test.event.accept_time(),
            revision: snapshot.revision(),
            share: None,
            timeout: lane.contract.timeout(1).min(test.timeout),
            chance: 0.0, // there is no retry
            test: true,
        };
        let fired = fire(&self.context, &shot).await;
        let (render, ended_at) = (fired.render, fired.ended_at);
        let reply = answered(&lane, fired);
        let telemetry = &self.context.telemetry;
        telemetry.test_send(AttemptSeen {
            record: &reply.record,
            event: &test.event,
            subscription: Some(&lane.name),
            parent: None,
            render,
            ended: telemetry.at(ended_at),
        });
        reply
    }

    /// The subscription as the node serves it, at the revision that is asked for or later.
    async fn find(&self, test: &TestSend) -> Result<(Arc<Snapshot>, Arc<Lane>), String> {
        let within = limits::MIN_REVISION_WAIT;
        let snapshot = self.configuration.wait_for(test.min_revision, within).await;
        let mut snapshot = snapshot.map_err(|late| {
            let (served, wanted) = (late.served, test.min_revision);
            format!("the node serves configuration revision {served}, not {wanted}")
        })?;
        if snapshot.lane(test.lane).is_none() {
            let late = "the store does not say whether the subscription exists";
            snapshot = self.configuration.catch_up().await.map_err(|_| late)?;
        }
        if snapshot.gaps().stop() {
            // A tenant whose document cannot be read has no rules here: nothing goes out then.
            return Err(snapshot.gaps().stop_text());
        }
        let lane = snapshot.lane(test.lane).ok_or("the subscription does not exist")?;
        let lane = Arc::clone(lane);
        match lane.state {
            SubscriptionState::Active | SubscriptionState::Paused | SubscriptionState::Disabled => {
                Ok((snapshot, lane))
            }
            // Its URL is not approved or not verified: nothing goes there.
            state @ (SubscriptionState::PendingApproval
            | SubscriptionState::PendingVerification
            | SubscriptionState::Rejected) => Err(format!("the subscription is {state}")),
        }
    }

    /// The answer where no request was made.
    fn unmade(&self, test: &TestSend, why: String) -> TestReply {
        let (node, revision): (&NodeId, _) =
            (&self.context.node, self.configuration.served_revision());
        let now = self.context.clock.now();
        let blank = record::blank(node, revision, key(test), &test.event);
        let record = AttemptRecord {
            kind: RecordKind::Attempt,
            number: 1,
            start: now,
            reason: why.clone(),
            ..ended(blank, Outcome::Failed { reason: EndReason::RenderFailed })
        };
        TestReply {
            record,
            url: String::new(),
            headers: Vec::new(),
            body: Vec::new(),
            error: Some(why),
        }
    }

    /// Hands the answer over, as often as it takes while somebody waits.
    async fn settle(&self, ticket: &Ticket, reply: Bytes, until: Instant) {
        while Instant::now() < until {
            match self.store.settle_test(ticket, reply.clone()).await {
                Ok(()) | Err(StoreError::Closed) => return,
                Err(error) => tracing::warn!(%ticket, %error, "could not answer a test send"),
            }
            sleep(RETRY_STORE).await;
        }
    }
}

fn key(test: &TestSend) -> DeliveryKey {
    DeliveryKey { position: test.event.position, lane: test.lane, replay: None }
}

/// The answer to an attempt.
fn answered(lane: &Lane, fired: Fired) -> TestReply {
    let outcome = fired.decision.outcome;
    let error = fired.request.is_none().then(|| fired.record.reason.clone());
    let (headers, body) = match fired.request {
        None => (Vec::new(), Vec::new()),
        Some(request) => {
            let own = request.headers.len() - lane.headers.lines().len();
            let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
            let lines = request.headers[..own].iter();
            let lines = lines.map(|(name, value)| (name.to_string(), text(value.as_bytes())));
            let kept = lane
                .headers
                .kept()
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()));
            (lines.chain(kept).collect(), request.body.to_vec())
        }
    };
    let record = ended(Arc::unwrap_or_clone(fired.record), outcome);
    TestReply { record, url: lane.url.as_str().to_owned(), headers, body, error }
}

/// A test send is never repeated: what would be for a delivery is the end here.
fn ended(record: AttemptRecord, outcome: Outcome) -> AttemptRecord {
    let reason = match outcome {
        Outcome::Succeeded => None,
        Outcome::Retry { .. } => Some(EndReason::AttemptsExhausted),
        Outcome::Failed { reason } => Some(reason),
    };
    let (outcome, state) = match reason {
        None => (AttemptOutcome::Succeeded, DeliveryState::Succeeded),
        Some(_) => (AttemptOutcome::Failed, DeliveryState::Failed),
    };
    AttemptRecord { outcome: Some(outcome), end: Some(End { state, reason }), ..record }
}

/// The answer as the store takes it: of a body that makes it too long only the beginning.
fn fitting(mut reply: TestReply) -> Bytes {
    let mut bytes = reply.encode();
    if let Some(over) = bytes.len().checked_sub(TEST_RESULT_MAX).filter(|over| *over > 0) {
        reply.body.truncate(reply.body.len().saturating_sub(over));
        bytes = reply.encode();
    }
    bytes.into()
}

#[cfg(test)]
mod tests;
