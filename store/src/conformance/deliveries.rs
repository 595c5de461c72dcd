//! Asking for deliveries and their attempts.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use pregon_core::clock::Timestamp;
use pregon_core::event::{Event, NewEvent};
use pregon_core::id::{DeliveryKey, Position};
use pregon_core::outcome::{DeliveryState, EndReason, PendingReason};

use super::Rig;
use super::kit::{
    EXHAUSTED, MINUTE, PAUSED, RETRY, Results, event, event_type, key, lane, node, tag, tenant,
};
use super::rig::eventually;
use crate::log::{DeliveryQuery, DeliveryRecord};
use crate::operate::Replay;
use crate::settlement::Transition;

const SUCCEEDED: Transition = Transition::Succeeded;
const FAILED: Transition = Transition::Failed(EndReason::Refused);
const CANCELLED: Transition = Transition::Cancelled(EndReason::SubscriptionDisabled);

fn everything() -> DeliveryQuery {
    DeliveryQuery::default()
}

/// A delivery as lists have it: its event is without data.
fn listed(record: DeliveryRecord) -> DeliveryRecord {
    let event = Event { data: Bytes::new(), ..record.event };
    DeliveryRecord { event, ..record }
}

/// A success costs no record of its own, and yet everything about it is found.
pub async fn a_success_without_a_record_is_found(rig: &mut Rig) {
    let position = rig.deliver(event(), &[(1, SUCCEEDED)]).await;
    let record = rig.delivery(key(position, 1)).await;
    let (found, _) = rig.store.log.event(position).await.expect("a read").expect("the event");
    assert_eq!(record.event, found);
    assert_eq!((record.state, record.end_reason), (DeliveryState::Succeeded, None));
    assert_eq!((record.attempts, record.pending_reason, record.next_attempt), (1, None, None));
    assert_eq!(record.node, None);
    assert!(record.create_time >= found.accept_time());
    assert!(record.end_time.is_some());
    assert_eq!(rig.find_delivery(key(position, 2)).await, None, "another lane has none");
    assert_eq!(rig.list(&everything(), 10).await, [listed(record)]);
}

/// Every state, alone and in a list, with the same record.
pub async fn every_state_is_found(rig: &mut Rig) {
    let to = [(1, SUCCEEDED), (2, FAILED), (3, CANCELLED), (4, RETRY)];
    let position = rig.deliver(event(), &to).await;
    let states = [
        (DeliveryState::Succeeded, None),
        (DeliveryState::Failed, Some(EndReason::Refused)),
        (DeliveryState::Cancelled, Some(EndReason::SubscriptionDisabled)),
        (DeliveryState::Pending, None),
    ];
    for (number, (state, end_reason)) in (1..).zip(states) {
        let record = rig.delivery(key(position, number)).await;
        assert_eq!((record.state, record.end_reason), (state, end_reason));
        assert_eq!(record.end().map(|end| (end.state, end.reason)), {
            (state != DeliveryState::Pending).then_some((state, end_reason))
        });
        let query = DeliveryQuery { state: Some(state), ..everything() };
        let one = [listed(record)];
        assert_eq!(rig.list(&query, 10).await, one);
        if end_reason.is_some() {
            let query = DeliveryQuery { end_reason, ..everything() };
            assert_eq!(rig.list(&query, 10).await, one);
        }
    }
}

/// In a lane a delivery shows why and until when it waits; in flight, where.
pub async fn a_delivery_shows_what_it_waits_for(rig: &mut Rig) {
    let position = rig.deliver(event(), &[(1, RETRY), (2, Transition::Waiting(PAUSED))]).await;
    let retried = rig.delivery(key(position, 1)).await;
    assert_eq!(retried.pending_reason, Some(PendingReason::RetryScheduled));
    assert!(retried.next_attempt.is_some_and(|next| next > retried.create_time));
    let paused = rig.delivery(key(position, 2)).await;
    assert_eq!(paused.pending_reason, Some(PAUSED));
    assert_eq!((paused.node, paused.attempts, paused.end_time), (None, 0, None));

    rig.advance(MINUTE).await;
    let due = rig.due("n2").await;
    for number in [1, 2] {
        eventually((Some(PendingReason::InFlight), Some(node("n2"))), async || {
            let record = rig.delivery(key(position, number)).await;
            (record.pending_reason, record.node)
        })
        .await;
    }
    rig.settle_all("n2", &due, &[(1, Transition::Waiting(PendingReason::LaneFull))]).await;
    let record = rig.delivery(key(position, 1)).await;
    assert_eq!((record.pending_reason, record.node), (Some(PendingReason::LaneFull), None));
}

/// While an event is being matched there is nothing to show of its deliveries.
pub async fn deliveries_of_unmatched_events_are_not_recorded_yet(rig: &mut Rig) {
    let waiting = rig.accept_one(event()).await;
    assert_eq!(rig.find_delivery(key(waiting, 1)).await, None);
    let batch = rig.take("n1").await;
    assert_eq!(rig.find_delivery(key(waiting, 1)).await, None);
    rig.settle(Results::of("n1", &batch).unmatched(&batch.events[0])).await;
    assert_eq!(rig.find_delivery(key(waiting, 1)).await, None);
    assert!(rig.list(&everything(), 10).await.is_empty());
}

/// Events a moment apart, each to these lanes; oldest first.
async fn in_turn(rig: &Rig, count: usize, to: &[(u64, Transition)]) -> Vec<Position> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(rig.deliver(event(), to).await);
        rig.advance(Duration::from_millis(5)).await;
    }
    all
}

/// The deliveries of the newest event come first, in every state.
pub async fn deliveries_are_listed_newest_event_first(rig: &mut Rig) {
    let to = [(1, SUCCEEDED), (2, FAILED), (3, RETRY), (4, SUCCEEDED)];
    let mut expected = in_turn(rig, 6, &to).await;
    expected.reverse();
    let all = rig.list(&everything(), 100).await;
    let order: Vec<_> = all.iter().map(|record| record.key.position).collect();
    assert_eq!(order, expected.iter().flat_map(|at| [*at; 4]).collect::<Vec<_>>());
    assert_eq!(all.iter().map(|record| record.key).collect::<BTreeSet<_>>().len(), 24);
    for record in all {
        assert_eq!(listed(rig.delivery(record.key).await), record, "listed and read alike");
    }
}

/// The keys in the order of a list.
fn keys_of(list: &[DeliveryRecord]) -> Vec<DeliveryKey> {
    list.iter().map(|record| record.key).collect()
}

/// Whatever the page size, each delivery comes once, also while others are made.
pub async fn delivery_pages_neither_lose_nor_repeat(rig: &mut Rig) {
    let positions = in_turn(rig, 7, &[(1, SUCCEEDED), (2, RETRY), (3, SUCCEEDED)]).await;
    let whole = keys_of(&rig.list(&everything(), 100).await);
    assert_eq!(whole.len(), 21);
    for limit in [1, 2, 4, 20, 21, 22] {
        assert_eq!(keys_of(&rig.list(&everything(), limit).await), whole, "pages of {limit}");
    }
    let query = DeliveryQuery { lane: Some(lane(3)), ..everything() };
    let one_lane: Vec<_> = positions.iter().rev().map(|at| key(*at, 3)).collect();
    for limit in [1, 2, 10] {
        assert_eq!(keys_of(&rig.list(&query, limit).await), one_lane, "pages of {limit}");
    }
    let (mut all, mut from) = (Vec::new(), None::<String>);
    loop {
        let page = rig.store.log.deliveries(&everything(), from.as_deref(), 4).await;
        let page = page.expect("a page");
        all.extend(keys_of(&page.items));
        let Some(next) = page.next else { break };
        from = Some(next);
        in_turn(rig, 1, &[(1, SUCCEEDED), (2, RETRY)]).await;
    }
    assert_eq!(all, whole, "what came later is not in later pages");
}

/// Every filter by itself, and all of them together.
pub async fn deliveries_are_filtered(rig: &mut Rig) {
    let ways = [SUCCEEDED, FAILED, EXHAUSTED, CANCELLED, RETRY];
    let mut all = Vec::new();
    for i in 0..20_usize {
        let new = NewEvent {
            tenant: tenant(["acme", "globex"][i % 2]),
            event_type: event_type(["order.captured", "order.voided"][i / 2 % 2]),
            ..event()
        };
        let to = [(1, ways[i % 5]), (2, SUCCEEDED)];
        let position = rig.deliver(new, &to).await;
        all.extend([key(position, 1), key(position, 2)]);
        rig.advance(Duration::from_millis(5)).await;
    }
    let mut records = Vec::new();
    for key in &all {
        records.push(rig.delivery(*key).await);
    }
    let voided = Some(event_type("order.voided"));
    let (acme, position) = (Some(tenant("acme")), Some(all[8].position));
    let (failed, refused) = (Some(DeliveryState::Failed), Some(EndReason::Refused));
    let mut queries = vec![
        everything(),
        DeliveryQuery { tenant: acme.clone(), ..everything() },
        DeliveryQuery { event: position, ..everything() },
        DeliveryQuery { lane: Some(lane(1)), ..everything() },
        DeliveryQuery { lane: Some(lane(2)), ..everything() },
        DeliveryQuery { lane: Some(lane(77)), ..everything() },
        DeliveryQuery { event_type: voided.clone(), ..everything() },
        DeliveryQuery { end_reason: refused, ..everything() },
        DeliveryQuery { event: position, lane: Some(lane(2)), ..everything() },
        DeliveryQuery { lane: Some(lane(1)), state: failed, ..everything() },
        DeliveryQuery { state: failed, end_reason: refused, ..everything() },
        DeliveryQuery { tenant: acme, event_type: voided, state: failed, ..everything() },
    ];
    let states = DeliveryState::ALL.iter().map(|state| Some(*state));
    queries.extend(states.map(|state| DeliveryQuery { state, ..everything() }));
    for query in queries {
        let wanted = |record: &&DeliveryRecord| {
            query.tenant.as_ref().is_none_or(|tenant| *tenant == record.event.tenant)
                && query.event.is_none_or(|event| event == record.key.position)
                && query.lane.is_none_or(|lane| lane == record.key.lane)
                && query.event_type.as_ref().is_none_or(|t| *t == record.event.event_type)
                && query.state.is_none_or(|state| state == record.state)
                && query.end_reason.is_none_or(|reason| Some(reason) == record.end_reason)
        };
        let expected: BTreeSet<_> =
            records.iter().filter(wanted).map(|record| record.key).collect();
        for limit in [3, 100] {
            let found = keys_of(&rig.list(&query, limit).await);
            assert_eq!(found.len(), expected.len(), "{query:?}");
            assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected, "{query:?}");
        }
    }
}

/// The time of a delivery's event counts: from it, and before it.
pub async fn deliveries_are_filtered_by_time(rig: &mut Rig) {
    let mut all = in_turn(rig, 12, &[(1, SUCCEEDED), (2, RETRY)]).await;
    let time = |i: usize| {
        Some(Timestamp::from_millis(i64::try_from(all[i].ms).expect("a time of the log")))
    };
    let query = DeliveryQuery { from: time(3), to: time(8), ..everything() };
    let one_lane = DeliveryQuery { lane: Some(lane(2)), ..query.clone() };
    all = all[3..8].iter().rev().copied().collect();
    for limit in [3, 100] {
        let found: Vec<_> = rig.list(&query, limit).await;
        let order: Vec<_> = found.iter().map(|record| record.key.position).collect();
        assert_eq!(order, all.iter().flat_map(|at| [*at; 2]).collect::<Vec<_>>());
        let found = keys_of(&rig.list(&one_lane, limit).await);
        assert_eq!(found, all.iter().map(|at| key(*at, 2)).collect::<Vec<_>>());
    }
}

/// A replay is a delivery of its own, listed with the event it is of.
pub async fn replays_are_listed_beside_their_originals(rig: &mut Rig) {
    let position = rig.deliver(event(), &[(1, SUCCEEDED)]).await;
    in_turn(rig, 1, &[(1, SUCCEEDED)]).await;
    let old = key(position, 1);
    rig.store
        .operate
        .replay(&[Replay { key: old, tag: tag(1), where_needed: false }])
        .await
        .expect("a replay");
    let new = DeliveryKey { replay: Some(tag(1)), ..old };
    let query = DeliveryQuery { event: Some(position), ..everything() };
    let found = keys_of(&rig.list(&query, 1).await);
    assert_eq!(found.len(), 2);
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([old, new]));
    assert_eq!(rig.list(&everything(), 2).await.len(), 3);
}

/// A delivery names its replays, the latest first, whether it has a record or not; no other's.
pub async fn a_delivery_names_its_replays(rig: &mut Rig) {
    let position = rig.deliver(event(), &[(1, SUCCEEDED), (2, FAILED), (3, FAILED)]).await;
    for (number, tags) in [(1, [2, 1]), (2, [4, 3])] {
        for number_of_tag in tags {
            let key = key(position, number);
            let replay = Replay { key, tag: tag(number_of_tag), where_needed: false };
            rig.store.operate.replay(&[replay]).await.expect("a replay");
            rig.advance(MINUTE).await;
        }
        let names = [tags[1], tags[0]].map(tag);
        assert_eq!(rig.delivery(key(position, number)).await.replays, names);
    }
    for query in [everything(), DeliveryQuery { event: Some(position), ..everything() }] {
        for record in rig.list(&query, 2).await {
            let expected: &[u8] = match (record.key.lane.0, record.key.replay) {
                (1, None) => &[1, 2],
                (2, None) => &[3, 4],
                _ => &[],
            };
            let expected: Vec<_> = expected.iter().copied().map(tag).collect();
            assert_eq!(record.replays, expected, "{}", record.key);
        }
    }
}

/// The whole story of a delivery, from several batches and nodes, and no other's.
pub async fn attempts_are_listed_oldest_first(rig: &mut Rig) {
    let position = rig.deliver(event(), &[(1, RETRY), (2, SUCCEEDED)]).await;
    for to in [RETRY, RETRY, SUCCEEDED] {
        rig.advance(MINUTE).await;
        let due = rig.due("n2").await;
        rig.settle_all("n2", &due, &[(1, to)]).await;
        rig.deliver(event(), &[(1, SUCCEEDED)]).await;
    }
    let attempts = rig.store.log.attempts(key(position, 1)).await.expect("the attempts");
    let shown: Vec<_> = attempts.iter().map(|a| (a.number, a.node.as_str(), a.status)).collect();
    assert_eq!(shown, [(1, "n1", 503), (2, "n2", 503), (3, "n2", 503), (4, "n2", 200)]);
    assert!(attempts.iter().all(|attempt| attempt.key == key(position, 1) && !attempt.late));
    let other = rig.store.log.attempts(key(position, 2)).await.expect("the attempts");
    assert_eq!(other.len(), 1);
}
