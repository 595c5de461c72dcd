//! Waiting deliveries that are tried at once.

use std::collections::BTreeSet;

use pregon_core::id::{DeliveryKey, Position};
use pregon_core::outcome::{DeliveryState, PendingReason};

use super::Rig;
use super::kit::{EXHAUSTED, HOUR, MINUTE, RETRY, WAITING, close, event, events, key, lane, tag};
use super::rig::keys;
use crate::operate::{Forwarded, Replay, STEP_MAX};
use crate::settlement::Transition;

async fn forward(rig: &Rig, keys: &[DeliveryKey]) -> Vec<Forwarded> {
    rig.store.operate.bring_forward(keys).await.expect("a forward")
}

/// It is due at once, under its name, and its attempts are counted on.
pub async fn a_retry_is_brought_forward(rig: &mut Rig) {
    let position = rig.deliver(event(), &[(1, Transition::Retry(HOUR)), (2, RETRY)]).await;
    let key = key(position, 1);
    let before = rig.delivery(key).await;
    let books = rig.books().await;
    assert!(rig.due("n1").await.is_empty());
    assert_eq!(forward(rig, &[key]).await, [Forwarded::Done]);
    assert_eq!(forward(rig, &[key]).await, [Forwarded::Due], "its time has come");
    let record = rig.delivery(key).await;
    assert_eq!(record.pending_reason, Some(PendingReason::Queued));
    assert_eq!((record.attempts, record.create_time), (1, before.create_time));
    let due = rig.due("n1").await;
    assert_eq!(keys(&due), BTreeSet::from([key]), "the other one still waits");
    let held = &due[0].deliveries[0];
    assert_eq!((held.attempts, held.create_time), (1, before.create_time));
    assert_eq!(forward(rig, &[key]).await, [Forwarded::InFlight]);
    rig.settle_all("n1", &due, &[(1, RETRY)]).await;
    assert_eq!(rig.delivery(key).await.attempts, 2);
    assert_eq!(rig.books().await, books, "nothing was made");
    assert!(rig.due("n1").await.is_empty(), "the next retry waits for its own time");
    rig.advance(MINUTE).await;
    assert_eq!(rig.due("n1").await.len(), 1);
}

/// What is due, in flight, at its end or unknown stays as it is; others of the call move.
pub async fn what_is_not_waiting_for_its_time_stays(rig: &mut Rig) {
    let in_run = rig.deliver(event(), &[(1, WAITING)]).await;
    let ended = rig.deliver(event(), &[(2, EXHAUSTED), (3, Transition::Succeeded)]).await;
    let retry = rig.deliver(event(), &[(4, RETRY)]).await;
    let replay = Replay { key: key(ended, 2), tag: tag(1), where_needed: false };
    rig.store.operate.replay(&[replay]).await.expect("a replay");
    let replayed = DeliveryKey { replay: Some(tag(1)), ..key(ended, 2) };
    let unknown = key(Position { n: retry.n + 1_000, ..retry }, 4);
    let moment = key(Position { ms: retry.ms + 1, ..retry }, 4);
    let other = DeliveryKey { replay: Some(tag(2)), ..key(in_run, 1) };
    let all = [
        (key(in_run, 1), Forwarded::Due),
        (key(ended, 2), Forwarded::NotPending),
        (key(ended, 3), Forwarded::NotPending),
        (replayed, Forwarded::Due),
        (unknown, Forwarded::NotPending),
        (moment, Forwarded::NotPending),
        (other, Forwarded::NotPending),
        (key(retry, 4), Forwarded::Done),
    ];
    let (asked, expected): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    assert_eq!(forward(rig, &asked).await, expected);
    let due = rig.due("n1").await;
    assert_eq!(keys(&due), [key(in_run, 1), replayed, key(retry, 4)].into());
    let in_flight = [Forwarded::InFlight; 3];
    assert_eq!(forward(rig, &[key(in_run, 1), replayed, key(retry, 4)]).await, in_flight);
    assert_eq!(rig.state(key(ended, 2)).await.0, DeliveryState::Failed);
}

/// A lane that is closed hands nothing out: what was brought forward goes when it opens.
pub async fn a_closed_lane_stays_closed(rig: &mut Rig) {
    let position = rig.deliver(event(), &[(1, Transition::Retry(HOUR))]).await;
    rig.store.operate.close_lanes(&[close(1, 2 * MINUTE)]).await.expect("to close");
    assert_eq!(forward(rig, &[key(position, 1)]).await, [Forwarded::Done]);
    assert!(rig.due("n1").await.is_empty());
    let record = rig.delivery(key(position, 1)).await;
    assert_eq!(record.pending_reason, Some(PendingReason::RateLimited), "why its lane is closed");
    rig.advance(MINUTE).await;
    assert!(rig.due("n1").await.is_empty());
    rig.store.operate.open_lanes(&[lane(1)]).await.expect("to open");
    assert_eq!(rig.due_keys("n1").await, BTreeSet::from([key(position, 1)]));
}

/// What nodes may have gone down with is not handed to the next one because somebody is in a hurry.
pub async fn what_is_held_back_stays_so(rig: &mut Rig) {
    let held = Transition::Later(MINUTE, PendingReason::Suspect);
    let position = rig.deliver(event(), &[(1, held)]).await;
    assert_eq!(forward(rig, &[key(position, 1)]).await, [Forwarded::HeldBack]);
    assert!(rig.due("n1").await.is_empty());
    rig.advance(MINUTE).await;
    assert_eq!(forward(rig, &[key(position, 1)]).await, [Forwarded::Due]);
    assert_eq!(rig.due_keys("n1").await, BTreeSet::from([key(position, 1)]));
}

/// As many as one step may move, answered in order, each handed out once.
pub async fn many_are_brought_forward_in_one_step(rig: &mut Rig) {
    let positions = rig.accept(events(STEP_MAX)).await;
    while let Some(batch) = rig.take_up_to("n1", STEP_MAX).await {
        rig.settle_all("n1", std::slice::from_ref(&batch), &[(1, Transition::Retry(HOUR))]).await;
    }
    let mut keys: Vec<_> = positions.iter().map(|position| key(*position, 1)).collect();
    keys.reverse();
    assert_eq!(forward(rig, &keys).await, vec![Forwarded::Done; STEP_MAX]);
    assert_eq!(forward(rig, &keys).await, vec![Forwarded::Due; STEP_MAX]);
    assert_eq!(rig.due_keys("n1").await, keys.into_iter().collect());
    rig.advance(2 * HOUR).await;
    rig.lapse().await;
    assert!(rig.due("n1").await.is_empty(), "it has no second place in its lane");
}
