//! Settling: where events and deliveries go, what is logged, what the books say.

use std::collections::BTreeSet;
use std::sync::Arc;

use pregon_core::clock::Timestamp;
use pregon_core::event::NewEvent;
use pregon_core::id::SecretId;
use pregon_core::outcome::{DeliveryState, EndReason};

use super::Rig;
use super::kit::{
    EXHAUSTED, HOUR, MINUTE, RETRY, Results, WAITING, attempt, event, events, key, node, tenant,
    together,
};
use super::rig::positions;
use crate::log::{Books, DeliveryQuery, EventStage};
use crate::settlement::{EventOutcome, Settled, Settlement, Transition};
use crate::work::BATCH_MAX;

const SUCCEEDED: Transition = Transition::Succeeded;
const CANCELLED: Transition = Transition::Cancelled(EndReason::SubscriptionDeleted);

/// The usual case: everything succeeded, nothing waits, nothing lapses.
pub async fn a_batch_of_successes_leaves_nothing(rig: &mut Rig) {
    rig.accept(events(BATCH_MAX)).await;
    for batch in rig.take_all("n1").await {
        rig.settle(Results::all("n1", &batch, &[(1, SUCCEEDED)])).await;
    }
    let all = u64::try_from(BATCH_MAX).expect("a small number");
    let books =
        Books { accepted: all, matched: all, created: all, succeeded: all, ..Books::default() };
    assert_eq!(rig.books().await, books);
    rig.advance(HOUR).await;
    assert!(rig.take_over("n2").await.is_empty());
    assert!(rig.due("n2").await.is_empty());
    assert!(rig.take_up_to("n2", 1).await.is_none());
}

/// Events of a batch may be settled in any order, in as many calls as it takes.
pub async fn a_batch_settles_by_parts(rig: &mut Rig) {
    rig.accept(events(9)).await;
    for batch in rig.take_all("n1").await {
        for open in batch.events.iter().step_by(2).chain(batch.events.iter().skip(1).step_by(2)) {
            assert!(rig.extend(&[batch.token]).await.is_empty(), "something is open");
            rig.settle(Results::of("n1", &batch).matched(open, &[(1, SUCCEEDED)])).await;
            rig.check().await;
        }
        assert_eq!(rig.extend(&[batch.token]).await, [batch.token], "nothing is open");
    }
    assert_eq!(rig.books().await.succeeded, 9);
}

/// An event that nobody wants is counted as that, and has no deliveries.
pub async fn nobody_wanted_it(rig: &mut Rig) {
    let batch = rig.take_new("n1").await;
    rig.settle(Results::of("n1", &batch).unmatched(&batch.events[0])).await;
    assert_eq!(rig.books().await, Books { accepted: 1, unmatched: 1, ..Books::default() });
    assert!(rig.list(&DeliveryQuery::default(), 10).await.is_empty());
}

/// Deliveries of one event end, wait and are retried independently.
pub async fn one_event_ends_in_many_ways(rig: &mut Rig) {
    let to = [(1, SUCCEEDED), (2, EXHAUSTED), (3, CANCELLED), (4, RETRY), (5, WAITING)];
    let position = rig.deliver(event(), &to).await;
    let books = Books {
        accepted: 1,
        matched: 1,
        created: 5,
        succeeded: 1,
        failed: 1,
        cancelled: 1,
        pending: 2,
        ..Books::default()
    };
    assert_eq!(rig.books().await, books);
    let expected = [
        (DeliveryState::Succeeded, None, 1),
        (DeliveryState::Failed, Some(EndReason::AttemptsExhausted), 1),
        (DeliveryState::Cancelled, Some(EndReason::SubscriptionDeleted), 0),
        (DeliveryState::Pending, None, 1),
        (DeliveryState::Pending, None, 0),
    ];
    for (number, expected) in (1..).zip(expected) {
        let record = rig.delivery(key(position, number)).await;
        assert_eq!((record.state, record.end_reason, record.attempts), expected, "{number}");
        assert_eq!(record.end_time.is_some(), record.state != DeliveryState::Pending);
    }
    assert_eq!(rig.due_keys("n1").await, BTreeSet::from([key(position, 5)]));
}

/// What cannot be matched at all is counted as unmatched, kept, and never handed out again.
pub async fn a_spoiled_event_is_set_aside(rig: &mut Rig) {
    let batch = rig.take_new("n1").await;
    let spoiled = &batch.events[0].event;
    rig.settle(Results::of("n1", &batch).event(spoiled, EventOutcome::SetAside)).await;
    assert_eq!(rig.books().await, Books { accepted: 1, unmatched: 1, ..Books::default() });
    let (kept, stage) =
        rig.store.log.event(spoiled.position).await.expect("a read").expect("the event");
    assert_eq!((&kept, stage), (&**spoiled, EventStage::Matched));
    rig.lapse().await;
    assert!(rig.take_over("n2").await.is_empty());
}

/// One step may hold results of many batches, of new events and of due ones.
pub async fn one_call_settles_many_batches(rig: &mut Rig) {
    let (due, held) = rig.in_flight("n1", 9).await;
    let mut results = vec![Results::of("n1", &due).delivery(&held, SUCCEEDED)];
    for _ in 0..5 {
        results.push(Results::all("n1", &rig.take_new("n1").await, &[(1, SUCCEEDED), (2, RETRY)]));
    }
    let settled = rig.settle_as_is(together(results)).await;
    assert_eq!(settled, Settled::default());
    let books = Books {
        accepted: 6,
        matched: 6,
        created: 11,
        succeeded: 6,
        pending: 5,
        ..Books::default()
    };
    assert_eq!(rig.books().await, books);
}

/// Of many batches in one step, the lost are told and the others settle.
pub async fn a_lost_batch_does_not_hold_the_others_back(rig: &mut Rig) {
    let lost = rig.take_new("n1").await;
    rig.lapse().await;
    let again = rig.take_over("n2").await;
    let live = rig.take_new("n1").await;
    let both = [&lost, &live].map(|batch| Results::all("n1", batch, &[(1, SUCCEEDED)]));
    let settled = rig.settle_as_is(together(both.into())).await;
    assert_eq!(settled.lost, [lost.token]);
    assert_eq!(rig.books().await.succeeded, 1);
    rig.settle_all("n2", &again, &[(1, SUCCEEDED)]).await;
    assert_eq!(rig.books().await.succeeded, 2);
}

/// A step that is sent again, because its answer was lost, changes nothing.
pub async fn a_repeated_settle_moves_nothing_twice(rig: &mut Rig) {
    rig.backlog(&[9], 3).await;
    let due = rig.due("n1").await;
    rig.accept(events(3)).await;
    let mut parts = Vec::new();
    for batch in due.iter().chain(&rig.take_all("n1").await) {
        let mut part = Results::of("n1", batch);
        for open in batch.events.iter().take(2) {
            part = part.matched(open, &[(1, SUCCEEDED), (2, RETRY), (3, EXHAUSTED)]);
        }
        for held in batch.deliveries.iter().take(2) {
            part = part.delivery(held, RETRY);
        }
        parts.push(part);
    }
    let step = together(parts);
    rig.settle_as_is(step.clone()).await;
    let before = rig.books().await;
    for _ in 0..2 {
        rig.settle_as_is(step.clone()).await;
        assert_eq!(rig.books().await, before);
        rig.check().await;
    }
    rig.advance(HOUR).await;
    let still_held: usize = due.iter().map(|batch| batch.len().saturating_sub(2)).sum();
    let retried = rig.due_keys("n1").await.len();
    assert_eq!(u64::try_from(retried + still_held).expect("a small number"), before.pending);
    rig.settle_as_is(step).await;
    assert_eq!(rig.books().await, before, "also while they are in flight again");
}

/// Nothing to say is no mistake.
pub async fn a_settle_of_nothing_does_nothing(rig: &mut Rig) {
    assert_eq!(rig.settle_as_is(Settlement::default()).await, Settled::default());
    let batch = rig.take_new("n1").await;
    rig.settle(Results::of("n1", &batch)).await;
    rig.lapse().await;
    assert_eq!(positions(&rig.take_over("n2").await).len(), 1, "it is still open");
}

/// What a node logs is what is read, in every field.
pub async fn attempts_are_logged_as_given(rig: &mut Rig) {
    let batch = rig.take_new("n1").await;
    let open = &batch.events[0];
    let at = key(open.event.position, 1);
    let mut expected = Vec::new();
    let mut settlement = Results::of("n1", &batch).settlement();
    for (number, to) in (1..).zip([RETRY, RETRY, CANCELLED, EXHAUSTED]) {
        let record = attempt(&node("n1"), &open.event, at, number, to);
        let mut record = record.expect("all of these are logged");
        record.url = Arc::from("https://[2001:db8::1]:8443/a?b=c&ñ");
        record.remote = Some(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 8443).into());
        record.secrets = vec![SecretId::parse("k2").expect("an id")];
        record.contract_revision = i64::MAX;
        expected.push(record);
    }
    settlement.attempts =
        expected.iter().map(|record| (batch.token, Arc::new(record.clone()))).collect();
    rig.settle_as_is(settlement).await;
    assert_eq!(rig.store.log.attempts(at).await.expect("the attempts"), expected);
    let other = key(open.event.position, 2);
    assert!(rig.store.log.attempts(other).await.expect("no attempts").is_empty());
}

/// Events that are not matched yet and deliveries that have not ended, of one tenant.
pub async fn what_is_outstanding_is_known_by_tenant(rig: &mut Rig) {
    let outstanding = async |rig: &Rig, name: &str| {
        rig.store.intake.outstanding(&tenant(name)).await.expect("a number")
    };
    assert_eq!(outstanding(rig, "acme").await, 0);
    rig.accept(events(5)).await;
    rig.accept_one(NewEvent { tenant: tenant("globex"), ..event() }).await;
    assert_eq!((outstanding(rig, "acme").await, outstanding(rig, "globex").await), (5, 1));
    for batch in rig.take_all("n1").await {
        rig.settle_all("n1", &[batch], &[(1, WAITING), (2, SUCCEEDED), (3, RETRY)]).await;
    }
    assert_eq!((outstanding(rig, "acme").await, outstanding(rig, "globex").await), (10, 2));
    let due = rig.due("n1").await;
    assert_eq!(outstanding(rig, "acme").await, 10, "in hand");
    rig.settle_all("n1", &due, &[(1, SUCCEEDED)]).await;
    assert_eq!((outstanding(rig, "acme").await, outstanding(rig, "globex").await), (5, 1));
}

/// Each tenant has books of its own.
pub async fn books_are_kept_by_tenant(rig: &mut Rig) {
    let theirs = NewEvent { tenant: tenant("globex"), ..event() };
    rig.deliver(event(), &[(1, SUCCEEDED), (2, RETRY)]).await;
    rig.deliver(theirs.clone(), &[(3, EXHAUSTED)]).await;
    rig.accept_one(theirs).await;
    let ours =
        Books { accepted: 1, matched: 1, created: 2, succeeded: 1, pending: 1, ..Books::default() };
    let theirs =
        Books { accepted: 2, matched: 1, waiting: 1, created: 1, failed: 1, ..Books::default() };
    assert_eq!(rig.tenant_books("acme").await, ours);
    assert_eq!(rig.tenant_books("globex").await, theirs);
    assert_eq!(rig.tenant_books("nobody").await, Books::default());
}

/// A delivery exists since its event was matched, whenever its first result is stored.
pub async fn a_delivery_is_as_old_as_its_match(rig: &mut Rig) {
    rig.advance(MINUTE).await;
    let batch = rig.take_new("n1").await;
    let before = rig.now().await;
    let (waits, fails) = ((1, RETRY), (2, Transition::Failed(EndReason::Refused)));
    let results = Results::of("n1", &batch).matched_ago(MINUTE / 2);
    rig.settle(results.matched(&batch.events[0], &[waits, fails])).await;
    let after = rig.now().await;
    for lane in [1, 2] {
        let created = rig.delivery(key(batch.events[0].event.position, lane)).await.create_time;
        let then = |time: Timestamp| time.minus(MINUTE / 2);
        assert!((then(before)..=then(after)).contains(&created), "{created} for {before}");
    }
}
