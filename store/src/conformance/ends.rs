//! Ending what waits in a lane: its subscription was deleted, disabled, or paused too long.

use std::time::Duration;

use pregon_core::outcome::{DeliveryState, EndReason};

use super::Rig;
use super::kit::{HOUR, Results, WAITING, close, event, key, lane, tag};
use crate::operate::{LaneEnd, Replay, STEP_MAX};
use crate::settlement::Transition;

/// Ends a lane's deliveries as those of a deleted subscription.
fn deleted(number: u64, limit: usize) -> LaneEnd {
    LaneEnd {
        lane: lane(number),
        state: DeliveryState::Cancelled,
        reason: EndReason::SubscriptionDeleted,
        before: None,
        limit,
    }
}

/// Ends step by step until nothing is left; answers how many.
pub(super) async fn end_all(rig: &Rig, end: &LaneEnd) -> usize {
    let mut all = 0;
    loop {
        let ended = rig.store.operate.end_lane(end.clone()).await.expect("a step");
        assert!(ended <= end.limit, "{ended} ended where {} is the limit", end.limit);
        if ended == 0 {
            return all;
        }
        all += ended;
    }
}

/// Each step ends as many as it may; the books balance between steps.
pub async fn a_lane_ends_in_steps(rig: &mut Rig) {
    let all = rig.backlog(&[1], 25).await;
    let mut left = 25;
    while left > 0 {
        let ended = rig.store.operate.end_lane(deleted(1, 10)).await.expect("a step");
        assert!(ended > 0 && ended <= 10);
        left -= ended;
        assert_eq!(rig.books().await.pending, u64::try_from(left).expect("a small number"));
        rig.check().await;
    }
    assert_eq!(rig.store.operate.end_lane(deleted(1, 10)).await.expect("a step"), 0);
    for key in all {
        let ended = (DeliveryState::Cancelled, Some(EndReason::SubscriptionDeleted));
        assert_eq!(rig.state(key).await, ended);
        assert!(rig.delivery(key).await.end_time.is_some());
    }
    assert!(rig.due("n1").await.is_empty());
}

/// What waited too long has failed.
pub async fn a_lane_may_fail_as_well(rig: &mut Rig) {
    let all = rig.backlog(&[1], 3).await;
    let (state, reason) = (DeliveryState::Failed, EndReason::Expired);
    assert_eq!(end_all(rig, &LaneEnd { state, reason, ..deleted(1, STEP_MAX) }).await, 3);
    for key in all {
        assert_eq!(rig.state(key).await, (state, Some(reason)));
    }
    assert_eq!(rig.books().await.failed, 3);
}

/// A node that attempts a delivery just then settles it as it would have.
pub async fn what_is_in_a_batch_is_not_touched(rig: &mut Rig) {
    let (batch, held) = rig.in_flight("n1", 1).await;
    rig.backlog(&[1], 3).await;
    assert_eq!(end_all(rig, &deleted(1, STEP_MAX)).await, 3);
    assert_eq!(rig.state(held.key).await.0, DeliveryState::Pending);
    rig.settle(Results::of("n1", &batch).delivery(&held, Transition::Succeeded)).await;
    assert_eq!(rig.books().await.succeeded, 1);
    assert_eq!(rig.books().await.cancelled, 3);
}

/// Ending by age spares what came later.
pub async fn only_what_was_created_before_ends(rig: &mut Rig) {
    let old = rig.backlog(&[1], 4).await;
    rig.advance(HOUR).await;
    let before = Some(rig.now().await.minus(HOUR / 2));
    let young = rig.backlog(&[1], 3).await;
    assert_eq!(end_all(rig, &LaneEnd { before, ..deleted(1, 2) }).await, 4);
    for key in old {
        assert_eq!(rig.state(key).await.0, DeliveryState::Cancelled);
    }
    rig.advance(Duration::from_secs(1)).await;
    assert_eq!(rig.due_keys("n1").await, young);
}

/// The age of a delivery counts, not that of its event: a replay of old events is young.
pub async fn a_young_delivery_of_an_old_event_is_spared(rig: &mut Rig) {
    let old = rig.deliver(event(), &[(1, Transition::Succeeded)]).await;
    let late = rig.take_new("n1").await;
    rig.advance(HOUR).await;
    let before = Some(rig.now().await.minus(HOUR / 2));
    rig.settle(Results::all("n1", &late, &[(1, WAITING)])).await;
    let replay = Replay { key: key(old, 1), tag: tag(1), where_needed: false };
    rig.store.operate.replay(&[replay]).await.expect("a replay");
    assert_eq!(end_all(rig, &LaneEnd { before, ..deleted(1, STEP_MAX) }).await, 0);
    assert_eq!(rig.due_keys("n1").await.len(), 2);
}

/// A lane's end is its own.
pub async fn other_lanes_go_on(rig: &mut Rig) {
    rig.backlog(&[1, 2, 3], 4).await;
    assert_eq!(end_all(rig, &deleted(2, STEP_MAX)).await, 4);
    assert_eq!(end_all(rig, &deleted(77, STEP_MAX)).await, 0, "a lane that holds nothing");
    let due = rig.due_keys("n1").await;
    assert_eq!(due.len(), 8);
    assert!(due.iter().all(|key| key.lane != lane(2)));
}

/// A paused subscription may be deleted.
pub async fn a_closed_lane_ends_too(rig: &mut Rig) {
    rig.backlog(&[1], 4).await;
    rig.store.operate.close_lanes(&[close(1, HOUR)]).await.expect("to close");
    assert_eq!(end_all(rig, &deleted(1, STEP_MAX)).await, 4);
    assert_eq!(rig.books().await.cancelled, 4);
    rig.advance(2 * HOUR).await;
    assert!(rig.due("n1").await.is_empty());
}
