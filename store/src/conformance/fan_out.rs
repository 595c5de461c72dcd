//! Events with more subscriptions than an attempt from memory allows: they go into the lanes step
//! by step, and a crash between two steps loses and repeats nothing.

use std::collections::BTreeSet;

use super::Rig;
use super::kit::{MINUTE, Results, key, lane};
use super::rig::{keys, positions};
use crate::batch::Batch;
use crate::log::{Books, EventStage};
use crate::settlement::Transition;
use crate::work::FAN_OUT_STEP;

/// Lanes that one step reaches.
const STEP: u64 = FAN_OUT_STEP as u64;

/// What the books say of one event while `created` deliveries of it wait.
fn books(created: u64, done: bool) -> Books {
    Books {
        accepted: 1,
        matched: u64::from(done),
        waiting: u64::from(!done),
        created,
        pending: created,
        ..Books::default()
    }
}

/// The lanes of all that is due, each once.
async fn due_lanes(rig: &Rig) -> BTreeSet<u64> {
    let keys = rig.due_keys("n3").await;
    let lanes: BTreeSet<_> = keys.iter().map(|key| key.lane.0).collect();
    assert_eq!(lanes.len(), keys.len(), "a lane got the event twice");
    lanes
}

/// The one batch that a takeover gives, with the event fanned out that far.
async fn continued(rig: &Rig, by: &str, cursor: Option<u64>) -> Batch {
    rig.lapse().await;
    let mut batches = rig.take_over(by).await;
    assert_eq!(positions(&batches).len(), 1);
    let batch = batches.remove(0);
    assert_eq!(batch.events[0].cursor, cursor.map(lane));
    batch
}

/// Step by step, until the last one says so; the books balance in between.
pub async fn a_fan_out_in_steps_reaches_each_lane_once(rig: &mut Rig) {
    let batch = rig.take_new("n1").await;
    let open = &batch.events[0];
    for step in 0..3 {
        let lanes = step * STEP + 1..=(step + 1) * STEP;
        rig.settle(Results::of("n1", &batch).fanned_out(open, lanes, step == 2)).await;
        assert_eq!(rig.books().await, books((step + 1) * STEP, step == 2));
        rig.check().await;
        let stage = rig.store.log.event(open.event.position).await.expect("a read");
        let matched = stage.expect("the event").1 == EventStage::Matched;
        assert_eq!(matched, step == 2, "the event is open until the last step");
    }
    assert_eq!(rig.extend(&[batch.token]).await, [batch.token]);
    assert_eq!(due_lanes(rig).await, (1..=3 * STEP).collect());
}

/// A crash after each step: the next node goes on above the cursor, each lane has it once.
pub async fn a_fan_out_is_continued_above_its_cursor(rig: &mut Rig) {
    let mut batch = rig.take_new("n1").await;
    for step in 0..4 {
        let lanes = step * STEP + 1..=(step + 1) * STEP;
        let results = Results::of("n2", &batch).fanned_out(&batch.events[0], lanes, false);
        rig.settle(results).await;
        batch = continued(rig, "n2", Some((step + 1) * STEP)).await;
        assert_eq!(rig.books().await, books((step + 1) * STEP, false));
    }
    let lanes = 4 * STEP + 1..=4 * STEP + 7;
    rig.settle(Results::of("n2", &batch).fanned_out(&batch.events[0], lanes, true)).await;
    assert_eq!(due_lanes(rig).await, (1..=4 * STEP + 7).collect());
    rig.lapse().await;
    assert_eq!(positions(&rig.take_over("n1").await).len(), 0);
}

/// An event may be put off between two steps, and goes on where it was.
pub async fn a_fan_out_can_be_put_off(rig: &mut Rig) {
    let batch = rig.take_new("n1").await;
    let open = &batch.events[0];
    rig.settle(Results::of("n1", &batch).fanned_out(open, 1..=STEP, false)).await;
    rig.settle(Results::of("n1", &batch).postponed(open, MINUTE)).await;
    assert_eq!(rig.books().await, books(STEP, false));
    rig.check().await;
    rig.advance(MINUTE).await;
    let mut due = rig.due("n2").await;
    due.retain(|batch| !batch.events.is_empty());
    let again = &due[0].events[0];
    assert_eq!(again.cursor, Some(lane(STEP)));
    let results = Results::of("n2", &due[0]).fanned_out(again, STEP + 1..=STEP + 9, true);
    rig.settle(results).await;
    assert_eq!(rig.books().await, books(STEP + 9, true));
}

/// A step by a node that lost its lease puts nothing into any lane.
pub async fn a_zombies_fan_out_step_reaches_nobody(rig: &mut Rig) {
    let batch = rig.take_new("n1").await;
    let open = &batch.events[0];
    rig.settle(Results::of("n1", &batch).fanned_out(open, 1..=STEP, false)).await;
    let again = continued(rig, "n2", Some(STEP)).await;
    rig.settle_in_vain(Results::of("n1", &batch).fanned_out(open, STEP + 1..=2 * STEP, true)).await;
    assert_eq!(rig.books().await, books(STEP, false));
    let lanes = STEP + 1..=STEP + 5;
    rig.settle(Results::of("n2", &again).fanned_out(&again.events[0], lanes, true)).await;
    assert_eq!(due_lanes(rig).await, (1..=STEP + 5).collect());
}

/// A step whose answer was lost is sent again, and some lanes may have gone further since.
pub async fn a_repeated_step_reaches_nobody_twice(rig: &mut Rig) {
    let batch = rig.take_new("n1").await;
    let open = &batch.events[0];
    let first = || Results::of("n1", &batch).fanned_out(open, 1..=10, false);
    rig.settle(first()).await;
    rig.settle(first()).await;
    assert_eq!(rig.books().await, books(10, false));
    let due = rig.due("n2").await;
    rig.settle_all("n2", &due, &[(1, Transition::Succeeded)]).await;
    rig.settle(first()).await;
    rig.settle(Results::of("n1", &batch).fanned_out(open, 11..=20, false)).await;
    rig.settle(first()).await;
    assert_eq!(rig.books().await.created, 20);
    assert_eq!(rig.books().await.pending, 10);
    assert_eq!(due_lanes(rig).await, (11..=20).collect());
}

/// The last lanes may turn out to want nothing: the step that ends it has no deliveries.
pub async fn a_fan_out_may_end_with_an_empty_step(rig: &mut Rig) {
    use crate::settlement::EventOutcome;
    let batch = rig.take_new("n1").await;
    let open = &batch.events[0];
    rig.settle(Results::of("n1", &batch).fanned_out(open, 1..=70, false)).await;
    for (cursor, done) in [(100, false), (200, true)] {
        let (deliveries, cursor) = (Vec::new(), lane(cursor));
        let empty = EventOutcome::FannedOut { deliveries, cursor, done };
        rig.settle(Results::of("n1", &batch).event(&open.event, empty)).await;
    }
    assert_eq!(rig.books().await, books(70, true));
}

/// The first lanes need not wait for the last.
pub async fn deliveries_go_out_while_their_event_fans_out(rig: &mut Rig) {
    let batch = rig.take_new("n1").await;
    let open = &batch.events[0];
    let position = open.event.position;
    rig.settle(Results::of("n1", &batch).fanned_out(open, 1..=3, false)).await;
    let due = rig.due("n2").await;
    assert_eq!(keys(&due), [1, 2, 3].map(|number| key(position, number)).into());
    rig.settle_all("n2", &due, &[(1, Transition::Succeeded)]).await;
    rig.check().await;
    rig.settle(Results::of("n1", &batch).fanned_out(open, 4..=5, true)).await;
    assert_eq!(due_lanes(rig).await, BTreeSet::from([4, 5]));
    let expected = Books { succeeded: 3, pending: 2, ..books(5, true) };
    assert_eq!(rig.books().await, expected);
}
