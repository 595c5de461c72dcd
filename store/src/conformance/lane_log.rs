//! One lane, for who asks how it is.

use std::collections::BTreeMap;

use pregon_core::id::LaneNo;
use pregon_core::outcome::{DeliveryState, EndReason, PendingReason};

use super::Rig;
use super::kit::{
    EXHAUSTED, HOUR, MINUTE, RETRY, Results, WAITING, close, event, events, key, lane,
};
use super::rig::eventually;
use crate::batch::{Batch, LaneClose, OpenEvent, TRIAL};
use crate::lane_log::{LaneAttempts, LaneReport, Unanswered};
use crate::operate::{Cancelled, LaneEnd};
use crate::settlement::Transition;

async fn look(rig: &Rig, number: u64) -> LaneReport {
    rig.store.lanes.lane(lane(number)).await.expect("a lane")
}

async fn recent(rig: &Rig, number: u64, minutes: u32, limit: usize) -> LaneAttempts {
    let since = rig.now().await.minus(MINUTE * minutes);
    rig.store.lanes.lane_attempts(lane(number), since, limit).await.expect("attempts")
}

/// Publishes events and moves each into this lane so.
async fn settle_into(rig: &Rig, number: u64, count: usize, to: Transition) {
    rig.accept(events(count)).await;
    for batch in rig.take_all("n1").await {
        rig.settle(Results::all("n1", &batch, &[(number, to)])).await;
    }
}

/// Waiting deliveries, the oldest of them, the first that is due, and those in flight.
pub async fn a_lane_shows_what_waits(rig: &mut Rig) {
    assert_eq!(look(rig, 1).await, LaneReport::default());
    let start = rig.now().await;
    settle_into(rig, 1, 5, Transition::Retry(3 * HOUR)).await;
    rig.advance(HOUR).await;
    settle_into(rig, 1, 5, Transition::Retry(HOUR)).await;
    settle_into(rig, 2, 7, WAITING).await;
    settle_into(rig, 1, 2, Transition::Succeeded).await;
    settle_into(rig, 1, 2, EXHAUSTED).await;
    let report = look(rig, 1).await;
    assert_eq!((report.waiting, report.held, report.closed), (10, 0, None));
    let due = report.next_due.expect("something is due");
    assert!(start.plus(2 * HOUR) <= due && due <= start.plus(2 * HOUR + MINUTE), "{due:?}");
    let oldest = report.oldest.expect("the oldest");
    assert!(start <= oldest && oldest <= start.plus(MINUTE), "{oldest:?}");
    assert_eq!(look(rig, 2).await.waiting, 7);
    let held = rig.due("n1").await;
    assert_eq!(held.iter().map(|batch| batch.len()).sum::<usize>(), 7);
    eventually((0, 7), async || {
        let report = look(rig, 2).await;
        (report.waiting, report.held)
    })
    .await;
}

/// Until when, and why; in the lane's own report, and for many lanes at once.
pub async fn a_closed_lane_says_until_when(rig: &mut Rig) {
    settle_into(rig, 1, 1, WAITING).await;
    let start = rig.now().await;
    rig.store.operate.close_lanes(&[close(1, HOUR), close(3, MINUTE)]).await.expect("a close");
    let (until, why) = look(rig, 1).await.closed.expect("closed");
    assert_eq!(why, PendingReason::RateLimited);
    assert!(start.plus(HOUR) <= until && until <= start.plus(HOUR + MINUTE), "{until:?}");
    assert_eq!(closed(rig).await, [1, 3]);
    rig.advance(2 * MINUTE).await;
    assert_eq!(closed(rig).await, [1]);
    rig.store.operate.open_lanes(&[lane(1)]).await.expect("an open");
    assert_eq!((look(rig, 1).await.closed, closed(rig).await), (None, vec![]));
}

/// For a while after its time, and to whoever is handed something of it.
pub async fn a_lane_that_a_breaker_closed_is_on_trial(rig: &mut Rig) {
    for number in [1, 2] {
        settle_into(rig, number, 1, WAITING).await;
    }
    let by_breaker = LaneClose { reason: PendingReason::BreakerOpen, ..close(1, MINUTE) };
    rig.store.operate.close_lanes(&[by_breaker, close(2, MINUTE)]).await.expect("a close");
    let report = look(rig, 1).await;
    assert_eq!(report.closed.map(|(_, why)| why), Some(PendingReason::BreakerOpen));
    assert!(!report.on_trial, "it is closed yet");
    rig.advance(MINUTE + MINUTE / 4).await;
    let report = look(rig, 1).await;
    assert_eq!((report.closed, report.on_trial), (None, true));
    assert!(!look(rig, 2).await.on_trial, "its receiver asked for it");
    let handed = rig.due("n1").await;
    let named: Vec<LaneClose> = handed.iter().flat_map(|batch| batch.closed.clone()).collect();
    assert_eq!(named, [LaneClose::on_trial(lane(1))]);
    let back: Vec<_> = handed.iter().flat_map(|batch| &batch.deliveries).map(|it| it.key).collect();
    assert_eq!(back.len(), 2);
    rig.settle_all("n1", &handed, &[(1, WAITING), (2, WAITING)]).await;

    rig.advance(TRIAL).await;
    let handed = rig.due("n2").await;
    assert_eq!(handed.iter().map(|batch| batch.closed.len()).sum::<usize>(), 0, "it is over");
    assert!(!look(rig, 1).await.on_trial);
}

/// Which of the lanes 1 to 3 are closed in the first partition.
async fn closed(rig: &Rig) -> Vec<u64> {
    let lanes: Vec<LaneNo> = (1..=3).map(lane).collect();
    let found = rig.store.lanes.closed(0, &lanes).await.expect("closed lanes");
    let mut found: Vec<u64> = found.into_keys().map(|lane| lane.0).collect();
    found.sort_unstable();
    found
}

/// Those of the lane and the window, and no others.
pub async fn attempts_of_a_lane_are_found_newest_first(rig: &mut Rig) {
    settle_into(rig, 1, 3, EXHAUSTED).await;
    rig.advance(HOUR).await;
    settle_into(rig, 1, 4, Transition::Succeeded).await;
    settle_into(rig, 2, 4, Transition::Succeeded).await;
    rig.advance(2 * MINUTE).await;
    settle_into(rig, 1, 2, RETRY).await;
    let found = recent(rig, 1, 10, 100).await;
    assert!(found.since <= rig.now().await.minus(9 * MINUTE), "all of it: {:?}", found.since);
    let statuses: Vec<u16> = found.records.iter().map(|record| record.status).collect();
    assert_eq!(statuses, [503, 503, 200, 200, 200, 200]);
    assert!(found.records.iter().all(|record| record.key.lane == lane(1)));
    assert!(found.records.is_sorted_by_key(|record| std::cmp::Reverse(record.start)));
    assert_eq!(recent(rig, 1, 120, 100).await.records.len(), 9);
    assert_eq!(recent(rig, 3, 120, 100).await.records, []);
}

/// What ended without an attempt is written beside the attempts, and hides none of them.
pub async fn ends_without_an_attempt_hide_no_attempts(rig: &mut Rig) {
    settle_into(rig, 1, 3, EXHAUSTED).await;
    let position = rig.deliver(event(), &[(2, WAITING)]).await;
    let cancel = rig.store.operate.cancel(key(position, 2), EndReason::ByCaller);
    assert_eq!(cancel.await.expect("a cancel"), Cancelled::Done);
    settle_into(rig, 3, 4, WAITING).await;
    let (lane, reason) = (lane(3), EndReason::SubscriptionDisabled);
    let end = LaneEnd { lane, state: DeliveryState::Cancelled, reason, before: None, limit: 10 };
    assert_eq!(rig.store.operate.end_lane(end).await.expect("an end"), 4);
    assert_eq!(recent(rig, 1, 10, 100).await.records.len(), 3);
}

/// A look that stops at its limit covers less than was asked for, and says so.
pub async fn a_look_says_how_far_back_it_reached(rig: &mut Rig) {
    for _ in 0..10 {
        settle_into(rig, 1, 10, Transition::Succeeded).await;
        rig.advance(MINUTE).await;
    }
    let found = recent(rig, 1, 60, 35).await;
    assert!((20..=35).contains(&found.records.len()), "{}", found.records.len());
    let start = rig.now().await.minus(10 * MINUTE);
    assert!(found.since > start.plus(4 * MINUTE), "{:?} of {start:?}", found.since);
    let whole = recent(rig, 1, 60, 1000).await;
    assert_eq!(whole.records.len(), 100);
    assert!(whole.since < start);
}

/// Each delivery's attempts by themselves, oldest first; a delivery without any is not there.
pub async fn attempts_of_an_event_are_told_by_delivery(rig: &mut Rig) {
    let batch = rig.take_new("n1").await;
    let position = batch.events[0].event.position;
    let to = [(1, Transition::Succeeded), (2, RETRY), (3, WAITING)];
    rig.settle(Results::all("n1", &batch, &to)).await;
    rig.advance(2 * MINUTE).await;
    for batch in rig.due("n1").await {
        let mut results = Results::of("n1", &batch);
        for held in batch.deliveries.iter().filter(|held| held.key.lane == lane(2)) {
            results = results.delivery(held, Transition::Succeeded);
        }
        rig.settle(results).await;
    }
    let shown = rig.store.log.event_attempts(position).await.expect("attempts");
    let numbers: BTreeMap<_, Vec<u32>> = shown
        .iter()
        .map(|(key, records)| (*key, records.iter().map(|record| record.number).collect()))
        .collect();
    assert_eq!(numbers, [(key(position, 1), vec![1]), (key(position, 2), vec![1, 2])].into());
    for (key, records) in &shown {
        assert_eq!(&rig.store.log.attempts(*key).await.expect("attempts"), records);
    }
}

/// What is counted of a lane's filter: how many events, and why the last one had no answer.
async fn unanswered(rig: &Rig, number: u64) -> (u64, String) {
    let Unanswered { count, last, reason } = look(rig, number).await.unanswered;
    assert_eq!(last.is_some(), count > 0);
    if let Some(last) = last {
        let now = rig.now().await;
        assert!(now.minus(MINUTE) <= last && last <= now, "{last:?} of {now:?}");
    }
    (count, reason)
}

fn shown(count: u64, reason: &str) -> (u64, String) {
    (count, reason.to_owned())
}

/// Whatever becomes of the events: of each lane by itself, with the latest reason.
pub async fn filters_without_an_answer_are_counted(rig: &mut Rig) {
    assert_eq!(unanswered(rig, 1).await, shown(0, ""));
    rig.accept(events(6)).await;
    for batch in rig.take_all("n1").await {
        let mut results = Results::of("n1", &batch);
        for open in &batch.events {
            results = results.unmatched(open).unanswered("a is absent", &[1, 2]);
        }
        rig.settle(results).await;
    }
    assert_eq!(unanswered(rig, 1).await, shown(6, "a is absent"));
    rig.advance(HOUR).await;
    for to in [Transition::Succeeded, RETRY, WAITING, EXHAUSTED, Transition::Held] {
        let batch = rig.take_new("n1").await;
        let results = Results::of("n1", &batch).matched(&batch.events[0], &[(9, to)]);
        rig.settle(results.unanswered("b is absent", &[2]).unanswered("no bool", &[3])).await;
    }
    assert_eq!(unanswered(rig, 2).await, shown(11, "b is absent"));
    assert_eq!(unanswered(rig, 3).await, shown(5, "no bool"));
    assert_eq!(look(rig, 1).await.unanswered.count, 6);
    assert_eq!(unanswered(rig, 9).await, shown(0, ""));
}

/// A fan-out counts with its last step, and an event that is put off not yet. A repeat counts
/// nothing, and neither does who lost the lease.
pub async fn a_filter_error_is_counted_once(rig: &mut Rig) {
    const WHY: &str = "a is absent";
    let batch = rig.take_new("n1").await;
    let fan_out = |done| {
        let to = if done { 101..=150 } else { 1..=100 };
        let results = Results::of("n1", &batch).fanned_out(&batch.events[0], to, done);
        results.unanswered(WHY, &[7]).settlement()
    };
    rig.settle_as_is(fan_out(false)).await;
    assert_eq!(unanswered(rig, 7).await.0, 0);
    for _ in 0..2 {
        rig.settle_as_is(fan_out(true)).await;
        assert_eq!(unanswered(rig, 7).await, shown(1, WHY));
    }

    let nobody = |batch: &Batch, open: &OpenEvent| {
        Results::of("n1", batch).unmatched(open).unanswered(WHY, &[8])
    };
    rig.accept(events(9)).await;
    for batch in rig.take_all("n1").await {
        for open in &batch.events {
            // Of all but the last, the batch is still there for the repeat.
            rig.settle_as_is(nobody(&batch, open).settlement()).await;
            rig.settle_as_is(nobody(&batch, open).settlement()).await;
        }
    }
    assert_eq!(unanswered(rig, 8).await, shown(9, WHY));
    let batch = rig.take_new("n1").await;
    let put_off = Results::of("n1", &batch).postponed(&batch.events[0], MINUTE);
    rig.settle(put_off.unanswered(WHY, &[8])).await;
    assert_eq!(unanswered(rig, 8).await, shown(9, WHY));
    rig.advance(2 * MINUTE).await;
    let with_it = |batches: Vec<Batch>| batches.into_iter().find(|it| !it.events.is_empty());
    let batch = with_it(rig.due("n1").await).expect("the event that was put off");
    rig.lapse().await;
    let taken = with_it(rig.take_over("n2").await).expect("the same");
    rig.settle_in_vain(nobody(&batch, &batch.events[0])).await;
    assert_eq!(look(rig, 8).await.unanswered.count, 9);
    rig.settle(nobody(&taken, &taken.events[0])).await;
    assert_eq!(unanswered(rig, 8).await, shown(10, WHY));
}

/// What nodes count is one sum, and whoever asks sees all of it.
pub async fn filter_errors_of_two_processes_add_up(rig: &mut Rig) {
    let Some(second) = rig.second().await else { return };
    for work in [rig.store.work.clone(), second.work.clone()] {
        let batch = rig.take_new("n1").await;
        let results = Results::of("n1", &batch).unmatched(&batch.events[0]);
        let results = results.unanswered("a is absent", &[1]).settlement();
        assert!(work.settle(results).await.expect("a settle").lost.is_empty());
    }
    let seen = second.lanes.lane(lane(1)).await.expect("a lane").unanswered;
    assert_eq!((seen.count, seen.reason.as_str()), (2, "a is absent"));
    assert_eq!(unanswered(rig, 1).await, shown(2, "a is absent"));
}

/// As all books do.
pub async fn filter_errors_survive_a_restart(rig: &mut Rig) {
    let batch = rig.take_new("n1").await;
    let results = Results::of("n1", &batch).unmatched(&batch.events[0]);
    rig.settle(results.unanswered("a is absent", &[1])).await;
    if rig.reopen().await {
        assert_eq!(unanswered(rig, 1).await, shown(1, "a is absent"));
    }
}
