//! Deliveries that matched events lack.

use std::collections::BTreeSet;

use pregon_core::event::Erasure;
use pregon_core::id::{DeliveryKey, Position};
use pregon_core::outcome::{DeliveryState, EndReason};

use super::Rig;
use super::kit::{EXHAUSTED, HOUR, MINUTE, RETRY, Results, WAITING, event, events, key, lane, tag};
use super::rig::{keys, within};
use crate::erase::EventErased;
use crate::log::{Books, EventQuery, Most};
use crate::operate::{Filled, LaneEnd, Missing, Replay, STEP_MAX};
use crate::settlement::Transition;

const SUCCEEDED: Transition = Transition::Succeeded;

async fn fill(rig: &Rig, missing: &[(Position, u64)], make: bool) -> Vec<Filled> {
    let of =
        |(position, number): &(Position, u64)| Missing { position: *position, lane: lane(*number) };
    let missing: Vec<_> = missing.iter().map(of).collect();
    rig.store.operate.fill(&missing, make).await.expect("a fill")
}

async fn fill_one(rig: &Rig, position: Position, number: u64) -> Filled {
    let looked = fill(rig, &[(position, number)], false).await.remove(0);
    let made = fill(rig, &[(position, number)], true).await.remove(0);
    assert_eq!(looked, made, "a look says what will be done");
    made
}

/// It is a new delivery, due at once, and whatever becomes of it there is no second one.
pub async fn a_missing_delivery_is_made_once(rig: &mut Rig) {
    let position = rig.deliver(event(), &[(1, SUCCEEDED)]).await;
    rig.advance(HOUR).await;
    let before = rig.books().await;
    let new = key(position, 2);
    let looked = fill(rig, &[(position, 2)], false).await;
    assert_eq!(looked, [Filled::Created(new)]);
    assert_eq!(rig.books().await, before, "a look makes nothing");
    assert_eq!(rig.find_delivery(new).await, None);
    assert_eq!(fill_one(rig, position, 2).await, Filled::Created(new));
    assert_eq!(rig.books().await, Books { created: 2, pending: 1, ..before });
    let record = rig.delivery(new).await;
    assert_eq!((record.state, record.attempts), (DeliveryState::Pending, 0));
    assert!(record.create_time > record.event.accept_time(), "made now, not then");
    assert_eq!(fill_one(rig, position, 2).await, Filled::Existed, "while it waits");

    let due = rig.due("n1").await;
    assert_eq!(keys(&due), BTreeSet::from([new]));
    assert_eq!(due[0].deliveries[0].event.position, position);
    assert_eq!(fill_one(rig, position, 2).await, Filled::Existed, "in flight");
    rig.lapse().await;
    assert_eq!(fill_one(rig, position, 2).await, Filled::Existed, "its node is gone");
    let due = rig.take_over("n2").await;
    rig.settle_all("n2", &due, &[(2, RETRY)]).await;
    assert_eq!(fill_one(rig, position, 2).await, Filled::Existed, "it is tried again");
    rig.advance(MINUTE).await;
    let due = rig.due("n1").await;
    rig.settle_all("n1", &due, &[(2, SUCCEEDED)]).await;
    assert_eq!(fill_one(rig, position, 2).await, Filled::Existed, "when it has ended");
    assert_eq!(rig.books().await, Books { created: 2, succeeded: 2, pending: 0, ..before });
    let attempts = rig.store.log.attempts(new).await.expect("attempts");
    assert_eq!(attempts.len(), 3, "one was lost with its node: {attempts:?}");
}

/// A success at the first attempt leaves no record: the log tells of it. So does one out of a run.
pub async fn what_went_well_at_once_is_not_missing(rig: &mut Rig) {
    let at_once = rig.deliver(event(), &[(1, SUCCEEDED), (2, SUCCEEDED)]).await;
    let of_run = rig.deliver(event(), &[(1, WAITING), (2, SUCCEEDED)]).await;
    let due = rig.due("n1").await;
    rig.settle_all("n1", &due, &[(1, SUCCEEDED)]).await;
    let asked = [(at_once, 1), (at_once, 2), (at_once, 3), (of_run, 1), (of_run, 2), (of_run, 3)];
    let expected = [
        Filled::Existed,
        Filled::Existed,
        Filled::Created(key(at_once, 3)),
        Filled::Existed,
        Filled::Existed,
        Filled::Created(key(of_run, 3)),
    ];
    assert_eq!(fill(rig, &asked, false).await, expected);
    assert_eq!(fill(rig, &asked, true).await, expected);
    assert_eq!(rig.due_keys("n1").await, [key(at_once, 3), key(of_run, 3)].into());
}

/// Not what waits, is in flight, failed, or was called off, and not what was replayed.
pub async fn what_waits_or_ended_is_not_missing(rig: &mut Rig) {
    let failed = rig.deliver(event(), &[(1, EXHAUSTED), (2, RETRY)]).await;
    let waits = rig.deliver(event(), &[(1, WAITING), (2, WAITING), (3, WAITING)]).await;
    let replayed = rig.deliver(event(), &[(1, SUCCEEDED)]).await;
    let replay = Replay { key: key(replayed, 1), tag: tag(1), where_needed: false };
    rig.store.operate.replay(&[replay]).await.expect("a replay");
    let end = LaneEnd {
        lane: lane(2),
        state: DeliveryState::Cancelled,
        reason: EndReason::SubscriptionDisabled,
        before: None,
        limit: 100,
    };
    let asked = [(failed, 1), (failed, 2), (waits, 1), (waits, 2), (waits, 3), (replayed, 1)];
    assert_eq!(fill(rig, &asked, true).await, [Filled::Existed; 6], "waiting");
    rig.store.operate.end_lane(end).await.expect("an end");
    assert_eq!(fill(rig, &asked, true).await, [Filled::Existed; 6], "called off");
    let due = rig.due("n1").await;
    assert!(!due.is_empty());
    assert_eq!(fill(rig, &asked, true).await, [Filled::Existed; 6], "in flight");
}

/// An event without any delivery gets its first, and is counted as matched from then on.
pub async fn an_event_that_nobody_wanted_is_wanted(rig: &mut Rig) {
    let batch = rig.take_new("n1").await;
    let position = batch.events[0].event.position;
    rig.settle(Results::of("n1", &batch).unmatched(&batch.events[0])).await;
    let unmatched = async |rig: &Rig| {
        let query = EventQuery { unmatched_only: true, ..EventQuery::default() };
        let page = rig.store.log.events(&query, None, Most::items(10)).await.expect("events");
        page.items.len()
    };
    assert_eq!(unmatched(rig).await, 1);
    assert_eq!(fill_one(rig, position, 1).await, Filled::Created(key(position, 1)));
    let expected = Books { accepted: 1, matched: 1, created: 1, pending: 1, ..Books::default() };
    assert_eq!(rig.books().await, expected);
    assert_eq!(unmatched(rig).await, 0);
    assert_eq!(fill_one(rig, position, 2).await, Filled::Created(key(position, 2)));
    assert_eq!(rig.books().await, Books { created: 2, pending: 2, ..expected });
}

/// Its match may still make what is missing: nothing is made before it is over.
pub async fn an_event_still_to_be_matched_is_left_alone(rig: &mut Rig) {
    let position = rig.accept_one(event()).await;
    assert_eq!(fill_one(rig, position, 1).await, Filled::NotMatched, "nobody took it");
    let batch = rig.take("n1").await;
    assert_eq!(fill_one(rig, position, 1).await, Filled::NotMatched, "a node has it");
    rig.lapse().await;
    assert_eq!(fill_one(rig, position, 1).await, Filled::NotMatched, "its node is gone");
    let again = rig.take_over("n2").await;
    let open = &again[0].events[0];
    rig.settle(Results::of("n2", &again[0]).postponed(open, MINUTE)).await;
    assert_eq!(fill_one(rig, position, 1).await, Filled::NotMatched, "it was put off");
    rig.advance(MINUTE).await;
    let due = rig.due("n1").await;
    assert_eq!(fill_one(rig, position, 1).await, Filled::NotMatched, "it was handed out");
    let open = &due[0].events[0];
    let first = Results::of("n1", &due[0]).fanned_out(open, 1..=1, false);
    rig.settle(first).await;
    let both = [(position, 1), (position, 2)];
    assert_eq!(fill(rig, &both, true).await, [Filled::NotMatched; 2], "it fans out");
    let second = Results::of("n1", &due[0]).fanned_out(open, 3..=3, true);
    rig.settle(second).await;
    rig.settle_in_vain(Results::of("n1", &batch).matched(&batch.events[0], &[(2, SUCCEEDED)]))
        .await;
    let all = [(position, 1), (position, 2), (position, 3)];
    let expected = [Filled::Existed, Filled::Created(key(position, 2)), Filled::Existed];
    assert_eq!(fill(rig, &all, true).await, expected);
    assert_eq!(rig.due_keys("n1").await, [1, 2, 3].map(|number| key(position, number)).into());
}

/// However many ask at once, in whatever order, and while nodes deliver what is made.
pub async fn of_many_at_once_one_makes_it(rig: &mut Rig) {
    const CALLERS: usize = 4;
    let positions = rig.accept(events(STEP_MAX)).await;
    while let Some(batch) = rig.take_up_to("n1", STEP_MAX).await {
        rig.settle_all("n1", std::slice::from_ref(&batch), &[(1, SUCCEEDED)]).await;
    }
    let wanted: Vec<_> =
        positions.iter().map(|position| Missing { position: *position, lane: lane(2) }).collect();
    let calls = (0..CALLERS).map(|i| {
        let (operate, mut wanted) = (rig.store.operate.clone(), wanted.clone());
        if i % 2 == 1 {
            wanted.reverse();
        }
        tokio::spawn(async move {
            let mut made: Vec<DeliveryKey> = Vec::new();
            for some in wanted.chunks(7) {
                let answers = operate.fill(some, true).await.expect("a fill");
                made.extend(answers.into_iter().filter_map(|answer| match answer {
                    Filled::Created(key) => Some(key),
                    Filled::Existed | Filled::NotMatched | Filled::EventGone => None,
                }));
            }
            made
        })
    });
    let calls: Vec<_> = calls.collect();
    let mut delivered = Vec::new();
    within(async {
        while delivered.len() < STEP_MAX {
            let due = rig.due("n1").await;
            delivered.extend(keys(&due));
            rig.settle_all("n1", &due, &[(2, SUCCEEDED)]).await;
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut made = Vec::new();
    for call in calls {
        made.extend(call.await.expect("a caller"));
    }
    made.sort();
    delivered.sort();
    let mut expected: Vec<_> = positions.iter().map(|position| key(*position, 2)).collect();
    expected.sort();
    assert_eq!(made, expected, "each was made by one");
    assert_eq!(delivered, expected, "and delivered once");
    assert!(rig.due("n1").await.is_empty());
}

/// Of an event that there is not, or that was erased, nothing can be made.
pub async fn what_is_gone_is_not_missing(rig: &mut Rig) {
    let position = rig.deliver(event(), &[(1, SUCCEEDED)]).await;
    let other = Position { n: position.n + 1_000, ..position };
    let time = Position { ms: position.ms + 1, ..position };
    let asked = [(other, 2), (time, 2), (position, 0), (position, 2)];
    let created = Filled::Created(key(position, 2));
    let expected = [Filled::EventGone, Filled::EventGone, Filled::EventGone, created];
    assert_eq!(fill(rig, &asked, false).await, expected);
    let erasure = Erasure { time: rig.now().await, reason: "it was asked for".to_owned() };
    let erased = rig.store.operate.erase_event(position, &erasure).await.expect("an erasure");
    assert_eq!(erased, EventErased::Done);
    assert_eq!(fill_one(rig, position, 2).await, Filled::EventGone);
    assert_eq!(rig.books().await.created, 1);
}
