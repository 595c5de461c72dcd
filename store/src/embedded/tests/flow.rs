//! Short walks: an event on each of its ways.

use super::*;
use crate::batch::LaneClose;
use crate::log::{DeliveryQuery, EventQuery, EventStage, Most};
use crate::operate::{Cancelled, LaneEnd, Replay, Replayed};
use pregon_core::id::ReplayTag;
use pregon_core::outcome::{EndReason, PendingReason};
use pregon_core::trace::TraceContext;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn success_at_once_leaves_only_the_log() {
    let bench = Bench::memory();
    let positions = bench.publish(300).await;
    let batch = bench.take(256).await.unwrap();
    assert_eq!(batch.len(), 256);
    bench.check().await;
    assert_eq!(bench.match_all(&batch, Transition::Succeeded).await, Settled::default());
    bench.check().await;
    let record = bench.store.log.delivery(key(positions[255], 1)).await.unwrap().unwrap();
    assert_eq!((record.state, record.attempts), (DeliveryState::Succeeded, 1));
    assert_eq!(record.end_time, Some(Timestamp::from_millis(START.millis() + 5)));
    assert_eq!(bench.store.log.attempts(key(positions[7], 1)).await.unwrap().len(), 1);
    assert_eq!(bench.store.log.delivery(key(positions[256], 1)).await.unwrap(), None);
    // A repeat of the settle finds the lease gone, and the log shows the attempt once.
    assert_eq!(bench.match_all(&batch, Transition::Succeeded).await.lost, [batch.token]);
    let attempts = bench.store.log.attempts(key(positions[7], 1)).await.unwrap();
    assert_eq!((attempts.len(), attempts[0].late), (1, false));
    bench.check().await;
}

#[tokio::test]
async fn what_is_taken_at_once_is_what_was_stored() {
    let bench = Bench::memory();
    let traced = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let full = NewEvent {
        version: 3,
        environment: Environment::Test,
        occur_time: Some(START),
        min_revision: 7,
        trace: TraceContext::parse(traced, Some("vendor=1")),
        terms: None,
        attributes: [("color".to_owned(), "red".to_owned())].into(),
        ..event("acme", Some("order-1"), "{}")
    };
    let events = vec![full, event("acme", None, "[1]"), event("beta", None, "[]")];
    bench.store.intake.publish(events).await.unwrap();
    let first = bench.store.work.take(0, &claim("n1"), 10, 1).await.unwrap().unwrap();
    assert_eq!(first.len(), 1, "it has as many bytes as are wanted");
    let rest = bench.take(10).await.unwrap();
    assert_eq!(rest.len(), 2);
    for open in first.events.iter().chain(&rest.events) {
        let stored = bench.store.log.event(open.event.position).await.unwrap().unwrap().0;
        assert_eq!(stored, *open.event);
    }
    bench.check().await;
}

#[tokio::test]
async fn a_retry_comes_back_when_it_is_due() {
    let bench = Bench::memory();
    let position = bench.publish(1).await[0];
    let batch = bench.take(1).await.unwrap();
    bench.match_all(&batch, Transition::Retry(5 * SECOND)).await;
    bench.check().await;
    let due = bench.due().await;
    assert!(due.batch.is_none() && !due.more);
    assert_eq!(due.next, Some(5 * SECOND));
    let record = bench.store.log.delivery(key(position, 1)).await.unwrap().unwrap();
    assert_eq!(record.pending_reason, Some(PendingReason::RetryScheduled));
    assert_eq!(record.next_attempt, Some(START.plus(5 * SECOND)));

    bench.clock.advance(5 * SECOND);
    let batch = bench.due().await.batch.unwrap();
    assert_eq!(batch.deliveries[0].attempts, 1);
    let record = bench.store.log.delivery(key(position, 1)).await.unwrap().unwrap();
    assert_eq!(record.pending_reason, Some(PendingReason::InFlight));
    assert_eq!(record.node.unwrap().as_str(), "n1");
    bench.check().await;
    let to = move_to(position, 1, 2, Transition::Failed(EndReason::AttemptsExhausted));
    bench.settle(settlement(batch.token, Vec::new(), vec![to])).await;
    let failed = DeliveryQuery {
        tenant: Some(tenant()),
        state: Some(DeliveryState::Failed),
        ..DeliveryQuery::default()
    };
    let page = bench.store.log.deliveries(&failed, None, 10).await.unwrap();
    assert_eq!(page.items[0].end_reason, Some(EndReason::AttemptsExhausted));
    assert_eq!(page.next, None);
    bench.check().await;
}

#[tokio::test]
async fn lanes_take_turns_and_full_ones_are_put_off() {
    let bench = Bench::memory();
    let positions = bench.publish(60).await;
    let batch = bench.take(60).await.unwrap();
    let waiting = Transition::Waiting(PendingReason::LaneFull);
    let events = positions.iter().enumerate().map(|(i, position)| {
        let lane = if i < 50 { 1 } else { 2 };
        let to = move_to(*position, lane, 0, waiting);
        event_settle(*position, EventOutcome::Matched(vec![to]))
    });
    bench.settle(settlement(batch.token, events.collect(), Vec::new())).await;
    bench.check().await;
    let ask = |want, slots| {
        let request = DueRequest { want, default_slots: slots, ..DueRequest::default() };
        let work = std::sync::Arc::clone(&bench.store.work);
        async move { work.due(0, &claim("n1"), request).await.unwrap() }
    };
    let first = ask(30, 100).await;
    let lanes = |due: &Due| {
        let batch = due.batch.as_ref().unwrap();
        let of = |lane| batch.deliveries.iter().filter(|d| d.key.lane.0 == lane).count();
        (of(1), of(2))
    };
    assert_eq!((lanes(&first), first.more), ((20, 10), true));
    let second = ask(100, 12).await;
    assert_eq!((lanes(&second), second.more), ((12, 0), false));
    let none = DueRequest { want: 100, ..DueRequest::default() };
    let due = bench.store.work.due(0, &claim("n1"), none).await.unwrap();
    assert!(due.batch.is_none() && !due.more);
    assert_eq!(due.next, Some(Duration::from_millis(500)));
    assert!(bench.due().await.batch.is_none(), "it is put off");
    let pull = DueRequest {
        want: 100,
        slots: [(LaneNo(1), 5)].into(),
        pull: vec![LaneNo(1)],
        ..DueRequest::default()
    };
    let due = bench.store.work.due(0, &claim("n1"), pull).await.unwrap();
    assert_eq!((lanes(&due), due.more), ((5, 0), false));
    bench.check().await;
}

#[tokio::test]
async fn a_closed_lane_hands_nothing_out_until_it_opens() {
    let bench = Bench::memory();
    let position = bench.publish(2).await[0];
    let batch = bench.take(2).await.unwrap();
    bench.match_all(&batch, Transition::Waiting(PendingReason::Queued)).await;
    let close = LaneClose { lane: LaneNo(1), wait: 60 * SECOND, reason: PendingReason::Paused };
    bench.store.operate.close_lanes(&[close]).await.unwrap();
    let due = bench.due().await;
    assert!(due.batch.is_none());
    assert_eq!(due.next, Some(60 * SECOND));
    let record = bench.store.log.delivery(key(position, 1)).await.unwrap().unwrap();
    assert_eq!(record.pending_reason, Some(PendingReason::Paused));
    bench.store.operate.open_lanes(&[LaneNo(1)]).await.unwrap();
    assert_eq!(bench.due().await.batch.unwrap().len(), 2);
    bench.check().await;
}

#[tokio::test]
async fn a_cancel_ends_what_waits_and_marks_what_is_attempted() {
    let bench = Bench::memory();
    let positions = bench.publish(3).await;
    let operate = &bench.store.operate;
    let reason = EndReason::ByCaller;
    assert_eq!(operate.cancel(key(positions[0], 1), reason).await.unwrap(), Cancelled::Unknown);
    let batch = bench.take(3).await.unwrap();
    for position in &positions[..2] {
        let cancelled = operate.cancel(key(*position, 1), reason).await.unwrap();
        assert_eq!(cancelled, Cancelled::InFlight);
    }
    let events = [
        (0, Transition::Retry(SECOND)),
        (1, Transition::Succeeded),
        (2, Transition::Waiting(PendingReason::LaneFull)),
    ]
    .map(|(i, to)| {
        let to = move_to(positions[i], 1, 1, to);
        event_settle(positions[i], EventOutcome::Matched(vec![to]))
    });
    bench.settle(settlement(batch.token, events.into(), Vec::new())).await;
    bench.check().await;
    let end = |state| Cancelled::Ended(state);
    let now = |i: usize| operate.cancel(key(positions[i], 1), reason);
    assert_eq!(now(0).await.unwrap(), end(DeliveryState::Cancelled));
    assert_eq!(now(1).await.unwrap(), end(DeliveryState::Succeeded));
    assert_eq!(now(2).await.unwrap(), Cancelled::Done);
    assert_eq!(now(2).await.unwrap(), end(DeliveryState::Cancelled));
    bench.check().await;
}

#[tokio::test]
async fn a_held_delivery_stays_in_its_batch_and_its_takeover_says_that_it_may_be_sent() {
    let bench = Bench::memory();
    let positions = bench.publish(2).await;
    let batch = bench.take(2).await.unwrap();
    let held = move_to(positions[0], 1, 0, Transition::Held);
    let event = event_settle(positions[0], EventOutcome::Matched(vec![held]));
    bench.settle(settlement(batch.token, vec![event], Vec::new())).await;
    bench.check().await;
    bench.clock.advance(LEASE);
    let batches = bench.take_over().await;
    assert_eq!((batches.len(), batches[0].len()), (1, 2), "the first lapse takes nothing apart");
    bench.check().await;
    let held = &batches[0];
    assert_eq!(held.deliveries[0].key, key(positions[0], 1));
    let attempts = bench.store.log.attempts(key(positions[0], 1)).await.unwrap();
    assert_eq!((attempts.len(), attempts[0].kind), (1, RecordKind::Lost));
    let to = move_to(positions[0], 1, 1, Transition::Succeeded);
    let mut done = settlement(held.token, Vec::new(), vec![to]);
    done.attempts.push((held.token, success(positions[0], 1).into()));
    bench.settle(done).await;
    let attempts = bench.store.log.attempts(key(positions[0], 1)).await.unwrap();
    assert_eq!(attempts.len(), 2);
    bench.check().await;
}

#[tokio::test]
async fn released_batches_go_at_once_and_count_no_take() {
    let bench = Bench::memory();
    bench.publish(5).await;
    let batch = bench.take(5).await.unwrap();
    bench.store.work.release(&[batch.token]).await.unwrap();
    let batches = bench.take_over().await;
    assert_eq!((batches.len(), batches[0].takes, batches[0].len()), (1, 1, 5));
    let gone = bench.store.work.extend(&[batch.token, batches[0].token], LEASE).await.unwrap();
    assert_eq!(gone, [batch.token]);
}

#[tokio::test]
async fn a_put_off_event_comes_back_as_an_event() {
    let bench = Bench::memory();
    let position = bench.publish(1).await[0];
    let batch = bench.take(1).await.unwrap();
    let postponed = event_settle(position, EventOutcome::Postponed(SECOND));
    bench.settle(settlement(batch.token, vec![postponed], Vec::new())).await;
    bench.check().await;
    let stage = || async { bench.store.log.event(position).await.unwrap().unwrap().1 };
    assert_eq!(stage().await, EventStage::Waiting);
    bench.clock.advance(SECOND);
    let batch = bench.due().await.batch.unwrap();
    assert_eq!(batch.events[0].event.position, position);
    assert_eq!(stage().await, EventStage::Claimed(NodeId::parse("n1").unwrap()));
    bench.check().await;
    bench.match_all(&batch, Transition::Succeeded).await;
    assert_eq!(stage().await, EventStage::Matched);
    assert_eq!(bench.store.log.attempts(key(position, 1)).await.unwrap().len(), 1);
    bench.check().await;
}

#[tokio::test]
async fn a_large_fan_out_goes_on_above_its_cursor() {
    let bench = Bench::memory();
    let position = bench.publish(1).await[0];
    let batch = bench.take(1).await.unwrap();
    let step = |lanes: std::ops::Range<u64>, done| {
        let waiting = Transition::Waiting(PendingReason::Queued);
        let cursor = LaneNo(lanes.end - 1);
        let deliveries = lanes.map(|lane| move_to(position, lane, 0, waiting)).collect();
        event_settle(position, EventOutcome::FannedOut { deliveries, cursor, done })
    };
    for _ in 0..2 {
        bench.settle(settlement(batch.token, vec![step(1..101, false)], Vec::new())).await;
        bench.check().await;
    }
    bench.clock.advance(LEASE);
    let batches = bench.take_over().await;
    assert_eq!(batches[0].events[0].cursor, Some(LaneNo(100)));
    bench.settle(settlement(batches[0].token, vec![step(101..151, true)], Vec::new())).await;
    let books = bench.store.log.books(Some(&tenant())).await.unwrap();
    assert_eq!((books.matched, books.created, books.pending), (1, 150, 150));
    bench.check().await;
    let query = DeliveryQuery { event: Some(position), ..DeliveryQuery::default() };
    let (mut seen, mut from) = (Vec::new(), None);
    loop {
        let page = bench.store.log.deliveries(&query, from.as_deref(), 40).await.unwrap();
        seen.extend(page.items.iter().map(|record| record.key.lane.0));
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(seen, (1..151).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_replay_is_made_once_and_its_lane_can_be_ended() {
    let bench = Bench::memory();
    let position = bench.publish(1).await[0];
    let batch = bench.take(1).await.unwrap();
    bench.match_all(&batch, Transition::Succeeded).await;
    let tag = ReplayTag::from_bits([1, 2, 3, 4, 5]);
    let replays = [Replay { key: key(position, 1), tag, where_needed: false }];
    let made = DeliveryKey { replay: Some(tag), ..key(position, 1) };
    let replay = || bench.store.operate.replay(&replays);
    assert_eq!(replay().await.unwrap(), [Replayed::Created(made)]);
    assert_eq!(replay().await.unwrap(), [Replayed::Existed(made)]);
    bench.check().await;
    let end = LaneEnd {
        lane: LaneNo(1),
        state: DeliveryState::Cancelled,
        reason: EndReason::SubscriptionDeleted,
        before: None,
        limit: 200,
    };
    let early = LaneEnd { before: Some(START), ..end.clone() };
    assert_eq!(bench.store.operate.end_lane(early).await.unwrap(), 0);
    assert_eq!(bench.store.operate.end_lane(end).await.unwrap(), 1);
    bench.check().await;
    let record = bench.store.log.delivery(made).await.unwrap().unwrap();
    assert_eq!(record.end_reason, Some(EndReason::SubscriptionDeleted));
    let all = DeliveryQuery { tenant: Some(tenant()), ..DeliveryQuery::default() };
    let page = bench.store.log.deliveries(&all, None, 10).await.unwrap();
    assert_eq!(page.items.len(), 2, "the delivery that the log tells of, and its replay");
}

#[tokio::test]
async fn a_given_id_is_recognised_for_a_day_or_until_it_is_done() {
    let bench = Bench::memory();
    let publish = |data: &'static str| async {
        let events = vec![event("acme", Some("o-1"), data)];
        bench.store.intake.publish(events).await.unwrap().remove(0)
    };
    let first = place(&publish("1").await);
    let again = Published::Accepted { position: first, duplicate: true };
    assert_eq!(publish("1").await, again);
    assert_eq!(publish("2").await, Published::IdReused);
    let batch = bench.take(10).await.unwrap();
    bench.match_all(&batch, Transition::Retry(2 * DAY)).await;
    bench.clock.advance(DAY);
    assert_eq!(publish("1").await, again, "a delivery is pending");
    bench.store.operate.cancel(key(first, 1), EndReason::ByCaller).await.unwrap();
    let second = place(&publish("2").await);
    assert_ne!(second, first);
    let name = bench.store.log.event(second).await.unwrap().unwrap().0.name();
    assert_eq!(bench.store.log.find(&name).await.unwrap(), Some(second));
    bench.check().await;
}

#[tokio::test]
async fn unmatched_events_can_be_listed() {
    let bench = Bench::memory();
    let positions = bench.publish(4).await;
    let batch = bench.take(2).await.unwrap();
    let outcomes = [EventOutcome::Unmatched, EventOutcome::SetAside];
    let events = positions.iter().zip(outcomes).map(|(p, o)| event_settle(*p, o)).collect();
    bench.settle(settlement(batch.token, events, Vec::new())).await;
    bench.check().await;
    for tenant in [None, Some(tenant())] {
        let query = EventQuery { tenant, unmatched_only: true, ..EventQuery::default() };
        let page = bench.store.log.events(&query, None, Most::items(10)).await.unwrap();
        let found: Vec<_> = page.items.iter().map(|event| event.position).collect();
        assert_eq!(found, [positions[1], positions[0]]);
    }
}

#[tokio::test]
async fn nothing_is_rung_in_vain_and_no_ring_is_lost() {
    let bench = Bench::memory();
    let work = bench.store.work.clone();
    bench.publish(1).await;
    work.wait(60 * SECOND).await; // rung before anybody waited
    let waiter = tokio::spawn(async move { work.wait(60 * SECOND).await });
    tokio::task::yield_now().await;
    assert!(!waiter.is_finished());
    bench.publish(1).await;
    waiter.await.unwrap();
}
