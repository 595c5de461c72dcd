//! Replays: new deliveries of old events.

use std::collections::BTreeSet;

use pregon_core::id::{DeliveryKey, Position};
use pregon_core::outcome::DeliveryState;

use super::Rig;
use super::kit::{EXHAUSTED, RETRY, WAITING, event, events, key, tag};
use super::rig::keys;
use crate::log::Books;
use crate::operate::{Replay, Replayed, STEP_MAX};
use crate::settlement::Transition;

const SUCCEEDED: Transition = Transition::Succeeded;

async fn replay(rig: &Rig, key: DeliveryKey, number: u8) -> Replayed {
    let answers =
        rig.store.operate.replay(&[Replay { key, tag: tag(number), where_needed: false }]).await;
    answers.expect("a replay").remove(0)
}

/// The delivery that a replay makes.
fn replayed(key: DeliveryKey, number: u8) -> DeliveryKey {
    DeliveryKey { replay: Some(tag(number)), ..key }
}

/// A success that has no record: the replay is due at once, as a new delivery of the same event.
pub async fn a_success_is_replayed(rig: &mut Rig) {
    let position = rig.deliver(event(), &[(1, SUCCEEDED)]).await;
    let (old, new) = (key(position, 1), replayed(key(position, 1), 1));
    rig.advance(super::kit::HOUR).await;
    assert_eq!(replay(rig, old, 1).await, Replayed::Created(new));
    let expected =
        Books { accepted: 1, matched: 1, created: 2, succeeded: 1, pending: 1, ..Books::default() };
    assert_eq!(rig.books().await, expected);
    let record = rig.delivery(new).await;
    assert_eq!((record.state, record.attempts), (DeliveryState::Pending, 0));
    assert_eq!(record.event.position, position);
    assert!(record.create_time > record.event.accept_time(), "made now, not then");

    let due = rig.due("n1").await;
    assert_eq!(keys(&due), BTreeSet::from([new]));
    assert_eq!(due[0].deliveries[0].attempts, 0);
    assert_eq!(due[0].deliveries[0].event.position, position);
    rig.settle_all("n1", &due, &[(1, SUCCEEDED)]).await;
    assert_eq!(rig.books().await, Books { succeeded: 2, pending: 0, ..expected });
}

/// A failure keeps its end; its replay may end otherwise.
pub async fn a_failure_is_replayed(rig: &mut Rig) {
    let position = rig.deliver(event(), &[(1, EXHAUSTED)]).await;
    let (old, new) = (key(position, 1), replayed(key(position, 1), 1));
    assert_eq!(replay(rig, old, 1).await, Replayed::Created(new));
    let due = rig.due("n1").await;
    rig.settle_all("n1", &due, &[(1, SUCCEEDED)]).await;
    assert_eq!(rig.state(old).await.0, DeliveryState::Failed);
    assert_eq!(rig.state(new).await.0, DeliveryState::Succeeded);
    assert_eq!(rig.delivery(new).await.attempts, 1);
    let attempts = |key| rig.store.log.attempts(key);
    assert_eq!(attempts(old).await.expect("attempts").len(), 1, "the logs are not mixed");
    assert_eq!(attempts(new).await.expect("attempts").len(), 1);
}

/// A request that is repeated makes no second delivery, whatever became of the first.
pub async fn the_same_tag_makes_no_second_one(rig: &mut Rig) {
    let position = rig.deliver(event(), &[(1, SUCCEEDED)]).await;
    let (old, new) = (key(position, 1), replayed(key(position, 1), 1));
    assert_eq!(replay(rig, old, 1).await, Replayed::Created(new));
    assert_eq!(replay(rig, old, 1).await, Replayed::Existed(new), "while it waits");
    let due = rig.due("n1").await;
    assert_eq!(replay(rig, old, 1).await, Replayed::Existed(new), "in flight");
    rig.settle_all("n1", &due, &[(1, SUCCEEDED)]).await;
    assert_eq!(replay(rig, old, 1).await, Replayed::Existed(new), "when it has ended");
    let twice = [2, 2].map(|number| Replay { key: old, tag: tag(number), where_needed: false });
    let answers = rig.store.operate.replay(&twice).await.expect("a replay");
    let other = replayed(old, 2);
    assert_eq!(answers, [Replayed::Created(other), Replayed::Existed(other)], "in one call");
    assert_eq!(rig.due_keys("n1").await, BTreeSet::from([other]));
    assert_eq!(rig.books().await.created, 3);
}

/// A replay of a replay is a replay of the same event to the same lane.
pub async fn a_replay_is_replayed(rig: &mut Rig) {
    let position = rig.deliver(event(), &[(1, SUCCEEDED)]).await;
    let old = key(position, 1);
    replay(rig, old, 1).await;
    let due = rig.due("n1").await;
    rig.settle_all("n1", &due, &[(1, SUCCEEDED)]).await;
    let (first, second) = (replayed(old, 1), replayed(old, 2));
    assert_eq!(replay(rig, first, 2).await, Replayed::Created(second));
    assert_eq!(replay(rig, old, 2).await, Replayed::Existed(second), "the same wish");
    assert_eq!(rig.due_keys("n1").await, BTreeSet::from([second]));
}

/// A replay is retried, taken over, cancelled like any delivery, beside its original.
pub async fn a_replay_ends_by_itself(rig: &mut Rig) {
    use pregon_core::outcome::EndReason;
    let position = rig.deliver(event(), &[(1, RETRY)]).await;
    let old = key(position, 1);
    for number in [1, 2, 3] {
        replay(rig, old, number).await;
    }
    let due = rig.due("n1").await;
    assert_eq!(keys(&due).len(), 3, "the original is not due yet");
    rig.settle_all("n1", &due, &[(1, RETRY)]).await;
    rig.advance(super::kit::MINUTE).await;
    assert_eq!(rig.due_keys("n1").await.len(), 4);
    rig.lapse().await;
    let again = rig.take_over("n2").await;
    assert_eq!(keys(&again).len(), 4);
    rig.settle_all("n2", &again, &[(1, WAITING)]).await;
    let cancel = rig.store.operate.cancel(replayed(old, 2), EndReason::ByCaller);
    assert_eq!(cancel.await.expect("a cancel"), crate::operate::Cancelled::Done);
    let due = rig.due("n1").await;
    assert_eq!(keys(&due), [old, replayed(old, 1), replayed(old, 3)].into());
    rig.settle_all("n1", &due, &[(1, SUCCEEDED)]).await;
    let expected = Books {
        accepted: 1,
        matched: 1,
        created: 4,
        succeeded: 3,
        cancelled: 1,
        ..Books::default()
    };
    assert_eq!(rig.books().await, expected);
}

/// Where another delivery of the event to the lane is pending, or succeeded since, none is made.
pub async fn what_is_served_is_replayed_on_demand_only(rig: &mut Rig) {
    let position = rig.deliver(event(), &[(1, EXHAUSTED), (2, EXHAUSTED)]).await;
    let old = key(position, 1);
    let where_needed = async |rig: &Rig, old: DeliveryKey, number: u8| {
        let wanted = Replay { key: old, tag: tag(number), where_needed: true };
        rig.store.operate.replay(&[wanted]).await.expect("a replay").remove(0)
    };
    rig.advance(super::kit::MINUTE).await;
    let first = replayed(old, 1);
    assert_eq!(where_needed(rig, old, 1).await, Replayed::Created(first));
    assert_eq!(where_needed(rig, old, 2).await, Replayed::Needless, "one is pending");
    assert_eq!(where_needed(rig, old, 1).await, Replayed::Existed(first));
    let due = rig.due("n1").await;
    assert_eq!(where_needed(rig, old, 2).await, Replayed::Needless, "one is in flight");
    rig.settle_all("n1", &due, &[(1, EXHAUSTED)]).await;
    rig.advance(super::kit::MINUTE).await;
    let second = replayed(old, 2);
    assert_eq!(where_needed(rig, first, 2).await, Replayed::Created(second), "it failed, too");
    let due = rig.due("n1").await;
    rig.settle_all("n1", &due, &[(1, SUCCEEDED)]).await;
    for served in [old, first] {
        assert_eq!(where_needed(rig, served, 3).await, Replayed::Needless, "succeeded since");
    }
    rig.advance(super::kit::MINUTE).await;
    let third = replayed(old, 3);
    assert_eq!(where_needed(rig, second, 3).await, Replayed::Created(third), "the success itself");
    // Another lane's are its own.
    let other = key(position, 2);
    assert_eq!(where_needed(rig, other, 1).await, Replayed::Created(replayed(other, 1)));
    // Two wishes of one call.
    let position = rig.deliver(event(), &[(1, EXHAUSTED)]).await;
    let old = key(position, 1);
    let both = [4, 5].map(|number| Replay { key: old, tag: tag(number), where_needed: true });
    let answers = rig.store.operate.replay(&both).await.expect("a replay");
    assert_eq!(answers, [Replayed::Created(replayed(old, 4)), Replayed::Needless]);
}

/// However many deliveries their events have, all wishes of a call are answered.
pub async fn replays_of_large_fan_outs_are_all_looked_at(rig: &mut Rig) {
    let lanes: Vec<(u64, Transition)> = (1..=250).map(|lane| (lane, EXHAUSTED)).collect();
    let mut replays = Vec::new();
    for _ in 0..90 {
        let position = rig.deliver(event(), &lanes).await;
        replays.extend([1, 250].map(|lane| Replay {
            key: key(position, lane),
            tag: tag(1),
            where_needed: true,
        }));
    }
    let answers = rig.store.operate.replay(&replays).await.expect("a replay");
    let expected = replays.iter().map(|wanted| Replayed::Created(replayed(wanted.key, 1)));
    assert_eq!(answers, expected.collect::<Vec<_>>());
}

/// Without the event there is nothing to send; the others of the call are replayed.
pub async fn an_event_that_is_gone_cannot_be_replayed(rig: &mut Rig) {
    let position = rig.deliver(event(), &[(1, SUCCEEDED)]).await;
    let gone = key(Position { n: position.n + 1_000, ..position }, 1);
    let both = [gone, key(position, 1)].map(|key| Replay { key, tag: tag(1), where_needed: false });
    let answers = rig.store.operate.replay(&both).await.expect("a replay");
    assert_eq!(answers, [Replayed::EventGone, Replayed::Created(replayed(both[1].key, 1))]);
    assert_eq!(rig.books().await.created, 2);
}

/// As many as one step may move, answered in order, each due once.
pub async fn many_are_replayed_in_one_step(rig: &mut Rig) {
    rig.accept(events(STEP_MAX)).await;
    let mut replays = Vec::new();
    while let Some(batch) = rig.take_up_to("n1", STEP_MAX).await {
        rig.settle_all("n1", std::slice::from_ref(&batch), &[(1, SUCCEEDED)]).await;
        let keys = batch.events.iter().map(|open| key(open.event.position, 1));
        replays.extend(keys.map(|key| Replay { key, tag: tag(9), where_needed: false }));
    }
    replays.reverse();
    let answers = rig.store.operate.replay(&replays).await.expect("a replay");
    let expected: Vec<_> = replays.iter().map(|wanted| replayed(wanted.key, 9)).collect();
    assert_eq!(answers, expected.iter().copied().map(Replayed::Created).collect::<Vec<_>>());
    assert_eq!(rig.due_keys("n1").await, expected.into_iter().collect());
}
