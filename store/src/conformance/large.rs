//! A lane with a great many waiting deliveries: closed, opened, emptied in steps.
//!
//! Lanes are scheduled, not deliveries: what closing and claiming cost must not grow with what
//! waits. The case does not measure time; it shows that nothing is handed out, counted or lost on
//! the way, at a size at which anything that walks the lane would be noticed.

use std::time::Duration;

use bytes::Bytes;
use pregon_core::event::NewEvent;
use pregon_core::limits::PUBLISH_BATCH;
use pregon_core::outcome::{DeliveryState, EndReason};

use super::Rig;
use super::kit::{HOUR, Results, WAITING, claim, close, event, everything, lane};
use super::rig::keys;
use crate::Store;
use crate::log::Books;
use crate::operate::{END_STEP, LaneEnd, STEP_MAX};
use crate::settlement::Transition;
use crate::work::DueRequest;

/// Publishers and matchers at work at the same time.
const WORKERS: usize = 4;
/// Times that the books are looked at while the lane is emptied: counting costs a walk.
const LOOKS: usize = 5;

/// Publishes so many small events.
async fn publish(store: Store, count: usize) {
    for from in (0..count).step_by(PUBLISH_BATCH) {
        let data = Bytes::from_static(b"{}");
        let some = vec![NewEvent { data, ..event() }; PUBLISH_BATCH.min(count - from)];
        store.intake.publish(some).await.expect("a publish");
    }
}

/// Takes new events until there are none, and puts each into the lane.
async fn fill(store: Store, by: String) {
    for partition in 0..store.work.partitions() {
        while let Some(batch) =
            store.work.take(partition, &claim(&by), STEP_MAX, usize::MAX).await.expect("a take")
        {
            let results = Results::all(&by, &batch, &[(1, WAITING)]);
            let settled = store.work.settle(results.settlement()).await.expect("a settle");
            assert_eq!(settled.lost, []);
        }
    }
}

async fn with_workers<F: Future<Output = ()> + Send + 'static>(work: impl Fn(usize) -> F) {
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..WORKERS {
        workers.spawn(work(worker));
    }
    workers.join_all().await;
}

/// Asks for the lane's deliveries, by time and by name, and must get none.
async fn nothing_is_handed_out(rig: &Rig) {
    let pull = DueRequest { pull: vec![lane(1)], ..everything() };
    for request in [everything(), pull] {
        for _ in 0..20 {
            for due in rig.ask("n1", &request).await {
                assert!(due.batch.is_none() && !due.more, "a closed lane gave {due:?}");
            }
        }
    }
}

/// Closed, nothing of it is handed out; opened, it goes on; deleted, it ends step by step.
pub async fn a_large_lane_is_closed_opened_and_cancelled(rig: &mut Rig) {
    let share = rig.large_lane() / WORKERS;
    let all = u64::try_from(share * WORKERS).expect("a number of deliveries");
    with_workers(|_| publish(rig.store.clone(), share)).await;
    with_workers(|worker| fill(rig.store.clone(), format!("n{worker}"))).await;
    let waiting =
        Books { accepted: all, matched: all, created: all, pending: all, ..Books::default() };
    assert_eq!(rig.books().await, waiting);

    rig.store.operate.close_lanes(&[close(1, HOUR)]).await.expect("to close");
    nothing_is_handed_out(rig).await;
    rig.advance(HOUR / 2).await;
    nothing_is_handed_out(rig).await;
    assert_eq!(rig.books().await, waiting);

    rig.store.operate.open_lanes(&[lane(1)]).await.expect("to open");
    let mut succeeded = 0;
    for _ in 0..10 {
        let answers = rig.ask("n1", &everything()).await;
        let batches: Vec<_> = answers.into_iter().filter_map(|due| due.batch).collect();
        succeeded += keys(&batches).len();
        rig.settle_all("n1", &batches, &[(1, Transition::Succeeded)]).await;
        rig.advance(Duration::from_secs(1)).await;
    }
    assert!(succeeded > 0, "an open lane hands out");
    let succeeded = u64::try_from(succeeded).expect("a number of deliveries");
    let opened = Books { succeeded, pending: all - succeeded, ..waiting };
    assert_eq!(rig.books().await, opened);

    rig.store.operate.close_lanes(&[close(1, HOUR)]).await.expect("to close");
    nothing_is_handed_out(rig).await;
    let cancelled = cancel_all(rig, opened).await;
    let end = Books { pending: 0, cancelled, ..opened };
    assert_eq!(rig.books().await, end);
    rig.store.operate.open_lanes(&[lane(1)]).await.expect("to open");
    assert!(rig.due("n1").await.is_empty());
}

/// Cancels what waits, in steps, with a look at the books now and then; answers how many.
async fn cancel_all(rig: &Rig, before: Books) -> u64 {
    let end = LaneEnd {
        lane: lane(1),
        state: DeliveryState::Cancelled,
        reason: EndReason::SubscriptionDeleted,
        before: None,
        limit: END_STEP,
    };
    let (mut cancelled, mut look) = (0, 0);
    loop {
        let step = rig.store.operate.end_lane(end.clone()).await.expect("a step");
        if step == 0 {
            return cancelled;
        }
        assert!(step <= end.limit);
        cancelled += u64::try_from(step).expect("a small number");
        if cancelled >= look {
            let books = Books { pending: before.pending - cancelled, cancelled, ..before };
            assert_eq!(rig.books().await, books);
            look += rig.large_lane() as u64 / LOOKS as u64;
        }
    }
}
