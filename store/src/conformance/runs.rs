//! What waits unattempted, many deliveries of a lane at a time: such deliveries may have no record of
//! their own, and yet each is found, handed out, settled, ended and forgotten by itself.

use std::collections::BTreeSet;

use pregon_core::id::DeliveryKey;
use pregon_core::outcome::{DeliveryState, EndReason, PendingReason};

use super::Rig;
use super::ends::end_all;
use super::kit::{
    EXHAUSTED, HOUR, MINUTE, PAUSED, RETRY, Results, WAITING, close, event, everything, key, lane,
    node, tag, tenant,
};
use super::rig::keys;
use crate::batch::{Batch, HeldDelivery};
use crate::log::DeliveryQuery;
use crate::operate::{Cancelled, END_STEP, LaneEnd, Replay, Replayed};
use crate::settlement::Transition;
use crate::work::{DueRequest, SUSPECT_AT};

const SUCCEEDED: Transition = Transition::Succeeded;

fn of_lane(number: u64) -> DeliveryQuery {
    DeliveryQuery { lane: Some(lane(number)), ..DeliveryQuery::default() }
}

/// The keys of a query's deliveries, in pages of this size, and that newer events come first.
async fn listed(rig: &Rig, query: &DeliveryQuery, limit: usize) -> BTreeSet<DeliveryKey> {
    let all = rig.list(query, limit).await;
    let mut before: Option<DeliveryKey> = None;
    for key in all.iter().map(|record| record.key) {
        if let Some(before) = before
            && before.position.partition == key.position.partition
        {
            assert!((before.position.n, before.lane) >= (key.position.n, key.lane));
        }
        before = Some(key);
    }
    let keys: BTreeSet<_> = all.iter().map(|record| record.key).collect();
    assert_eq!(keys.len(), all.len(), "each once");
    keys
}

/// Each of many is found by itself, in lists by lane, tenant, state and event, in pages of any size.
pub async fn each_that_waits_is_found(rig: &mut Rig) {
    let before = rig.now().await;
    let all = rig.backlog(&[1, 2], 300).await;
    let after = rig.now().await;
    let some = rig.deliver(event(), &[(1, RETRY), (2, SUCCEEDED)]).await;
    for found in &all {
        let record = rig.delivery(*found).await;
        assert_eq!((record.key, record.event.position), (*found, found.position));
        assert_eq!((record.state, record.attempts), (DeliveryState::Pending, 0));
        assert_eq!(record.pending_reason, Some(PendingReason::Queued));
        assert_eq!((record.end_reason, record.end_time, record.node), (None, None, None));
        assert!(record.create_time >= record.event.accept_time());
        assert!(record.create_time >= before && record.create_time <= after);
        assert_eq!(record.next_attempt, Some(record.create_time));
    }
    let pending = DeliveryQuery { state: Some(DeliveryState::Pending), ..DeliveryQuery::default() };
    let acme = DeliveryQuery { tenant: Some(tenant("acme")), ..pending.clone() };
    let mut expected = all.clone();
    expected.insert(key(some, 1));
    for limit in [7, 256, 1000] {
        assert_eq!(listed(rig, &acme, limit).await, expected, "pages of {limit}");
        for number in [1, 2] {
            let query = DeliveryQuery { lane: Some(lane(number)), ..pending.clone() };
            let own: BTreeSet<_> =
                expected.iter().filter(|key| key.lane == lane(number)).copied().collect();
            assert_eq!(listed(rig, &query, limit).await, own, "lane {number}, pages of {limit}");
        }
    }
    assert_eq!(listed(rig, &of_lane(2), 64).await.len(), 301, "those that ended, too");
    let one = all.iter().next().expect("a delivery").position;
    let query = DeliveryQuery { event: Some(one), ..DeliveryQuery::default() };
    assert_eq!(listed(rig, &query, 10).await, BTreeSet::from([key(one, 1), key(one, 2)]));
    let record = rig.delivery(key(one, 1)).await;
    assert_eq!(rig.list(&query, 10).await[1].create_time, record.create_time);
    let nobody = DeliveryQuery { tenant: Some(tenant("globex")), ..pending };
    assert_eq!(listed(rig, &nobody, 10).await, BTreeSet::new());
    let report = rig.store.lanes.lane(lane(1)).await.expect("a report");
    assert_eq!((report.waiting, report.held), (301, 0));
    assert!(report.oldest.is_some_and(|oldest| oldest <= after));
}

/// One of each way to go on, out of one batch; and the way that it went shows.
pub async fn each_goes_its_own_way(rig: &mut Rig) {
    rig.backlog(&[1], 40).await;
    let request = DueRequest { want: 8, ..everything() };
    let mut batches = rig.due_of("n1", &request).await;
    let batch: Batch = loop {
        let batch = batches.pop().expect("a batch of eight");
        if batch.deliveries.len() == 8 {
            break batch;
        }
        rig.settle_all("n1", &[batch], &[(1, WAITING)]).await;
    };
    rig.settle_all("n1", &batches, &[(1, WAITING)]).await;
    for held in &batch.deliveries {
        let record = rig.delivery(held.key).await;
        assert_eq!(record.pending_reason, Some(PendingReason::InFlight));
        assert_eq!(record.node, Some(node("n1")));
        assert_eq!((record.next_attempt, record.create_time), (None, held.create_time));
        assert_eq!((held.attempts, held.due), (0, Some(held.create_time)));
    }
    let called_off = Transition::Cancelled(EndReason::SubscriptionDisabled);
    let later = Transition::Later(MINUTE, PendingReason::RateLimited);
    let to = [
        SUCCEEDED,
        RETRY,
        EXHAUSTED,
        called_off,
        Transition::Waiting(PAUSED),
        later,
        Transition::Held,
        SUCCEEDED,
    ];
    let mut results = Results::of("n1", &batch);
    for (held, to) in batch.deliveries.iter().zip(to) {
        results = results.delivery(held, to);
    }
    let step = results.settlement();
    rig.settle_as_is(step.clone()).await;
    rig.settle_as_is(step).await; // moves nothing twice
    let pending = |reason| (DeliveryState::Pending, Some(reason), None);
    let ended = |state, reason| (state, None, reason);
    let expected = [
        ended(DeliveryState::Succeeded, None),
        pending(PendingReason::RetryScheduled),
        ended(DeliveryState::Failed, Some(EndReason::AttemptsExhausted)),
        ended(DeliveryState::Cancelled, Some(EndReason::SubscriptionDisabled)),
        pending(PAUSED),
        pending(PendingReason::RateLimited),
        pending(PendingReason::InFlight),
        ended(DeliveryState::Succeeded, None),
    ];
    let whole = rig.list(&of_lane(1), 100).await;
    assert_eq!(whole.len(), 40);
    for (held, expected) in batch.deliveries.iter().zip(expected) {
        let record = rig.delivery(held.key).await;
        assert_eq!((record.state, record.pending_reason, record.end_reason), expected);
        let same = whole.iter().find(|other| other.key == held.key).expect("in the list");
        assert_eq!((same.state, same.attempts), (record.state, record.attempts));
        if record.state != DeliveryState::Succeeded {
            assert_eq!(record.create_time, held.create_time, "{record:?}");
        }
    }
    let books = rig.books().await;
    assert_eq!((books.created, books.succeeded, books.failed, books.cancelled), (40, 2, 1, 1));
    let last = Results::of("n1", &batch).delivery(&batch.deliveries[6], RETRY);
    rig.settle(last).await;
    rig.advance(HOUR).await;
    assert_eq!(rig.due_keys("n1").await.len(), 36);
}

/// They end together, as far as the limit goes; each is told as ended then, for the same reason, and
/// those that failed are found and replayed.
pub async fn many_end_together(rig: &mut Rig) {
    let all = rig.backlog(&[1], 600).await;
    rig.backlog(&[2], 10).await;
    let (held, waiting) = hand_out(rig, 30).await;
    let end = LaneEnd {
        lane: lane(1),
        state: DeliveryState::Failed,
        reason: EndReason::Expired,
        before: None,
        limit: 100,
    };
    let first = rig.store.operate.end_lane(end.clone()).await.expect("a step");
    assert!(first > 0 && first <= 100, "{first} ended");
    rig.check().await;
    let rest = end_all(rig, &LaneEnd { limit: END_STEP, ..end }).await;
    assert_eq!(first + rest, waiting.len(), "what is handed out is not touched");
    let ended = (DeliveryState::Failed, Some(EndReason::Expired));
    for key in &waiting {
        let record = rig.delivery(*key).await;
        assert_eq!((record.state, record.end_reason), ended);
        assert_eq!((record.attempts, record.next_attempt, record.node), (0, None, None));
        assert!(record.end_time.is_some_and(|end| end >= record.create_time));
    }
    let failed = DeliveryQuery { state: Some(DeliveryState::Failed), ..DeliveryQuery::default() };
    let of_tenant = DeliveryQuery { tenant: Some(tenant("acme")), ..failed.clone() };
    let of_lane = DeliveryQuery { lane: Some(lane(1)), ..failed.clone() };
    let expired = DeliveryQuery { end_reason: Some(EndReason::Expired), ..failed };
    for query in [&of_tenant, &of_lane, &expired] {
        assert_eq!(listed(rig, query, 100).await, waiting, "{query:?}");
    }
    let one = *waiting.iter().next().expect("one that ended");
    let operate = &rig.store.operate;
    let reason = EndReason::ByCaller;
    let cancelled = operate.cancel(one, reason).await.expect("a cancel");
    assert_eq!(cancelled, Cancelled::Ended(DeliveryState::Failed));
    let replay = Replay { key: one, tag: tag(1), where_needed: true };
    let replayed = operate.replay(&[replay]).await.expect("a replay");
    let again = DeliveryKey { replay: Some(tag(1)), ..one };
    assert_eq!(replayed, [Replayed::Created(again)]);
    for held in held {
        rig.settle_all("n1", &[held], &[(1, SUCCEEDED)]).await;
    }
    let books = rig.books().await;
    let number = |count: usize| u64::try_from(count).expect("a small number");
    assert_eq!(books.failed, number(waiting.len()));
    assert_eq!(books.succeeded, number(all.len() - waiting.len()));
    assert_eq!(books.pending, 11);
}

/// Hands so many of lane 1 out; answers with the batches and with what still waits in the lane.
async fn hand_out(rig: &Rig, count: u32) -> (Vec<Batch>, BTreeSet<DeliveryKey>) {
    let slots = [(lane(1), count), (lane(2), 0)].into();
    let request = DueRequest { slots, ..everything() };
    let mut batches = Vec::new();
    for due in rig.ask("n1", &request).await {
        batches.extend(due.batch);
    }
    let held = keys(&batches);
    assert!(!held.is_empty());
    let query = DeliveryQuery { state: Some(DeliveryState::Pending), ..of_lane(1) };
    let waiting = rig.list(&query, 1000).await.into_iter().map(|record| record.key);
    (batches, waiting.filter(|key| !held.contains(key)).collect())
}

/// One that is cancelled leaves the others as they are, waiting or in flight.
pub async fn one_is_cancelled(rig: &mut Rig) {
    let all = rig.backlog(&[1], 20).await;
    let (batches, waiting) = hand_out(rig, 5).await;
    let reason = EndReason::ByCaller;
    let in_hand = batches[0].deliveries[0].clone();
    let operate = &rig.store.operate;
    let first = *waiting.iter().next().expect("one that waits");
    assert_eq!(operate.cancel(first, reason).await.expect("a cancel"), Cancelled::Done);
    let again = Cancelled::Ended(DeliveryState::Cancelled);
    assert_eq!(operate.cancel(first, reason).await.expect("a cancel"), again);
    let flying = operate.cancel(in_hand.key, reason).await.expect("a cancel");
    assert_eq!(flying, Cancelled::InFlight);
    rig.settle_all("n1", &batches, &[(1, WAITING)]).await;
    let cancelled = (DeliveryState::Cancelled, Some(reason));
    assert_eq!(rig.state(first).await, cancelled);
    assert_eq!(rig.state(in_hand.key).await, cancelled);
    let left: BTreeSet<_> =
        all.into_iter().filter(|key| ![first, in_hand.key].contains(key)).collect();
    rig.advance(MINUTE).await;
    assert_eq!(rig.due_keys("n1").await, left);
}

/// What a node had in hand of them when it died comes back, told as lost, and suspects are halved.
pub async fn what_was_in_hand_comes_back(rig: &mut Rig) {
    rig.backlog(&[1], 60).await;
    let (batches, waiting) = hand_out(rig, 16).await;
    let held = keys(&batches);
    rig.lapse().await;
    let again = rig.take_over("n2").await;
    assert_eq!(keys(&again), held);
    assert!(again.iter().all(|batch| batch.previous == Some(node("n1"))));
    assert!(again.iter().all(|batch| batch.takes + 1 == SUSPECT_AT));
    for found in &held {
        let records = rig.store.log.attempts(*found).await.expect("the attempts");
        assert_eq!(records.len(), 1, "lost once");
    }
    rig.lapse().await;
    let halves = rig.take_over("n3").await;
    assert_eq!(keys(&halves), held, "both halves, one after the other");
    assert!(halves.len() > batches.len());
    let one: HeldDelivery = halves[0].deliveries[0].clone();
    rig.settle(Results::of("n3", &halves[0]).delivery(&one, SUCCEEDED)).await;
    let tokens: Vec<_> = halves.iter().map(|batch| batch.token).collect();
    rig.store.work.release(&tokens).await.expect("a release");
    let rest = rig.take_over("n4").await;
    assert_eq!(keys(&rest).len(), held.len() - 1);
    rig.settle_all("n4", &rest, &[(1, WAITING)]).await;
    let mut left = waiting;
    left.extend(held.into_iter().filter(|key| *key != one.key));
    rig.advance(MINUTE).await;
    assert_eq!(rig.due_keys("n1").await, left);
}

/// One whose event was matched long after it was accepted is as old as its match, though others of
/// its lane wait since then; by age it ends with those that are as old.
pub async fn a_late_one_keeps_its_own_age(rig: &mut Rig) {
    let old = rig.backlog(&[1], 3).await;
    let late = rig.take_new("n1").await;
    let late_key = key(late.events[0].event.position, 1);
    rig.advance(HOUR).await;
    let matched = rig.now().await;
    rig.settle(Results::all("n1", &late, &[(1, WAITING)])).await;
    let young = rig.backlog(&[1], 3).await;
    assert!(rig.delivery(late_key).await.create_time >= matched);
    for key in &young {
        assert!(rig.delivery(*key).await.create_time >= matched);
    }
    for key in &old {
        assert!(rig.delivery(*key).await.create_time < matched);
    }
    let end = LaneEnd {
        lane: lane(1),
        state: DeliveryState::Cancelled,
        reason: EndReason::SubscriptionDisabled,
        before: Some(matched),
        limit: END_STEP,
    };
    assert_eq!(end_all(rig, &end).await, old.len());
    let mut left = young;
    left.insert(late_key);
    assert_eq!(rig.due_keys("n1").await, left);
}

/// A closed lane says so for each that waits in it, and gives nothing until it opens.
pub async fn a_closed_lane_says_why_each_waits(rig: &mut Rig) {
    let all = rig.backlog(&[1], 5).await;
    rig.store.operate.close_lanes(&[close(1, HOUR)]).await.expect("to close");
    for key in &all {
        assert_eq!(rig.delivery(*key).await.pending_reason, Some(PendingReason::RateLimited));
    }
    assert!(rig.due("n1").await.is_empty());
    rig.store.operate.open_lanes(&[lane(1)]).await.expect("to open");
    assert_eq!(rig.due_keys("n1").await, all);
}

/// Oldest events first, and what was attempted has its turn by its due time among them.
pub async fn they_are_handed_out_in_the_order_of_their_events(rig: &mut Rig) {
    rig.backlog(&[1], 300).await;
    let mut last = std::collections::BTreeMap::new();
    for batch in rig.due("n1").await {
        for held in &batch.deliveries {
            let position = held.key.position;
            let before = last.insert(position.partition, position.n);
            assert!(
                before.is_none_or(|before| before < position.n),
                "{before:?} before {position}"
            );
        }
    }
}
