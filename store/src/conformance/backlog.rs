//! How much waits, and for how long. After every case of the suite the report also has to agree
//! with the books (see `rig`); here are the ages, which the books do not know.

use std::time::Duration;

use super::Rig;
use super::kit::{EXHAUSTED, HOUR, MINUTE, Results, WAITING, event, events, key, lane, tag};
use crate::backlog::{AGES, BacklogReport};
use crate::operate::{LaneEnd, Replay};
use crate::settlement::Transition;
use pregon_core::outcome::{DeliveryState, EndReason};

/// More events than share a counter, so that ages cut through stretches.
const SOME: usize = 300;

async fn look(rig: &Rig) -> BacklogReport {
    rig.store.backlog.backlog().await.expect("the backlog")
}

/// Publishes events and puts each into lane 1.
async fn wait_in_lane(rig: &Rig, count: usize, to: Transition) {
    rig.accept(events(count)).await;
    for batch in rig.take_all("n1").await {
        rig.settle(Results::all("n1", &batch, &[(1, to)])).await;
    }
}

/// Of an empty store.
pub async fn nothing_waits(rig: &mut Rig) {
    let report = look(rig).await;
    assert_eq!((report.events, report.deliveries, report.oldest), (0, [0; AGES], None));
    wait_in_lane(rig, 10, Transition::Succeeded).await;
    wait_in_lane(rig, 10, EXHAUSTED).await;
    let report = look(rig).await;
    assert_eq!((report.events, report.deliveries, report.oldest), (0, [0; AGES], None));
}

/// Events that nobody took, that a node has, and that were put off.
pub async fn events_wait_to_be_matched(rig: &mut Rig) {
    rig.accept(events(20)).await;
    assert_eq!(look(rig).await.events, 20);
    let batch = rig.take_up_to("n1", 5).await.expect("events");
    assert_eq!(look(rig).await.events, 20, "a claim matches nothing");
    let mut results = Results::of("n1", &batch);
    for (i, open) in batch.events.iter().enumerate() {
        results = match i {
            0 => results.postponed(open, HOUR),
            1 => results.unmatched(open),
            _ => results.matched(open, &[(1, Transition::Succeeded)]),
        };
    }
    let done = batch.events.len() as u64 - 1;
    rig.settle(results).await;
    assert_eq!(look(rig).await.events, 20 - done);
    rig.advance(HOUR + MINUTE).await;
    let again = rig.due("n2").await;
    assert_eq!(again.iter().map(|batch| batch.events.len()).sum::<usize>(), 1);
    assert_eq!(look(rig).await.events, 20 - done);
}

/// Deliveries are counted by the age of their event, whatever was done to them since.
pub async fn pending_deliveries_are_counted_by_age(rig: &mut Rig) {
    let first = rig.now().await;
    wait_in_lane(rig, SOME, WAITING).await; // will be older than a day
    rig.advance(19 * HOUR).await;
    wait_in_lane(rig, 7, Transition::Retry(30 * HOUR)).await; // ≤ 1 d
    rig.advance(4 * HOUR).await;
    wait_in_lane(rig, SOME, WAITING).await; // ≤ 6 h
    rig.advance(2 * HOUR).await;
    wait_in_lane(rig, 3, WAITING).await; // ≤ 1 h
    wait_in_lane(rig, 100, Transition::Succeeded).await;
    rig.advance(30 * MINUTE).await;
    wait_in_lane(rig, SOME, WAITING).await; // ≤ 10 min
    rig.advance(5 * MINUTE).await;
    wait_in_lane(rig, 2, Transition::Held).await; // ≤ 1 min, and in flight
    let report = look(rig).await;
    let some = SOME as u64;
    assert_eq!(report.deliveries, [2, some, 3, some, 7, some]);
    let oldest = report.oldest.expect("the oldest");
    assert!(first <= oldest && oldest <= first.plus(MINUTE), "{oldest:?} of {first:?}");
    assert!(report.now >= first.plus(25 * HOUR));

    // They grow older by themselves.
    rig.advance(2 * MINUTE).await;
    assert_eq!(look(rig).await.deliveries, [0, some + 2, 3, some, 7, some]);
    rig.advance(HOUR).await;
    assert_eq!(look(rig).await.deliveries, [0, 0, 0, 2 * some + 5, 7, some]);
}

/// What ends, one by one or together, counts no more; a replay counts by its event's age.
pub async fn what_ended_waits_no_more(rig: &mut Rig) {
    rig.accept(events(10)).await;
    let mut all = Vec::new();
    for batch in rig.take_all("n1").await {
        all.extend(batch.events.iter().map(|open| open.event.position));
        rig.settle(Results::all("n1", &batch, &[(1, WAITING), (2, WAITING)])).await;
    }
    assert_eq!(look(rig).await.pending(), 20);
    rig.advance(2 * HOUR).await;
    let wanted = key(all[0], 1);
    rig.store.operate.cancel(wanted, EndReason::ByCaller).await.expect("a cancel");
    let (state, reason) = (DeliveryState::Failed, EndReason::Expired);
    let end = LaneEnd { lane: lane(2), state, reason, before: None, limit: 200 };
    while rig.store.operate.end_lane(end.clone()).await.expect("an end") > 0 {}
    assert_eq!(look(rig).await.deliveries, [0, 0, 0, 9, 0, 0]);
    let replay = Replay { key: wanted, tag: tag(1), where_needed: false };
    for _ in 0..2 {
        rig.store.operate.replay(&[replay]).await.expect("a replay");
        assert_eq!(look(rig).await.deliveries, [0, 0, 0, 10, 0, 0]);
    }
    for batch in rig.due("n1").await {
        rig.settle(Results::all("n1", &batch, &[(1, Transition::Succeeded)])).await;
    }
    let report = look(rig).await;
    assert_eq!((report.pending(), report.oldest), (0, None));
}

/// Events with more deliveries than a look counts: their sum is right, and so is their age where
/// no limit cuts through them.
pub async fn a_large_fan_out_is_counted(rig: &mut Rig) {
    let batch = rig.take_new("n1").await;
    let open = &batch.events[0];
    for first in (1..=12_000u64).step_by(100) {
        let step = Results::of("n1", &batch).fanned_out(open, first..=first + 99, first > 11_900);
        rig.settle(step).await;
    }
    assert_eq!(look(rig).await.deliveries, [12_000, 0, 0, 0, 0, 0]);
    rig.advance(Duration::from_secs(700)).await;
    rig.accept_one(event()).await;
    let report = look(rig).await;
    assert_eq!((report.events, report.pending()), (1, 12_000));
    assert!(report.oldest.is_some_and(|oldest| oldest < report.now));
}
