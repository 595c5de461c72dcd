//! What was published of an event goes, and what is left of it keeps its place.

use std::collections::BTreeSet;

use bytes::Bytes;
use pregon_core::attempt::AttemptRecord;
use pregon_core::clock::Timestamp;
use pregon_core::event::{Attributes, Erasure, NewEvent};
use pregon_core::id::Position;
use pregon_core::outcome::{DeliveryState, EndReason};

use super::Rig;
use super::kit::{EXHAUSTED, MINUTE, RETRY, Results, WAITING, event, events, given, key, tag};
use crate::erase::{Erase, ErasePlace, EventErased};
use crate::intake::Published;
use crate::log::{EventQuery, Most};
use crate::operate::{Cancelled, Replay, Replayed};
use crate::settlement::Transition;

/// Stands in the event's data and attributes, and in what its receiver answered.
const MARKER: &str = "XyZ-7-secret-of-somebody-7-zYx";

/// An event with the marker wherever it may be.
fn personal(id: &str) -> NewEvent {
    NewEvent {
        data: Bytes::from(format!("{{\"who\":\"{MARKER}\"}}")),
        attributes: Attributes::from([("who".to_owned(), MARKER.to_owned())]),
        occur_time: Some(Timestamp::from_millis(77)),
        ..given(id)
    }
}

fn erasure() -> Erasure {
    Erasure { time: Timestamp::from_millis(1_790_000_000_000), reason: "they asked".to_owned() }
}

async fn erase(rig: &Rig, position: Position) -> EventErased {
    let erased = rig.store.operate.erase_event(position, &erasure()).await;
    erased.expect("an erasing")
}

/// Strips all of an event's attempts, however many steps; answers how many chunks changed.
async fn strip(rig: &Rig, position: Position) -> u64 {
    let (mut from, mut changed) = (0, 0);
    loop {
        let step = rig.store.operate.strip_attempts(position, from).await.expect("a step");
        assert_eq!(step.left, 0, "nobody else is at it");
        changed += step.changed;
        let Some(next) = step.next else { return changed };
        from = next;
    }
}

/// Whether the marker stands anywhere in the store.
async fn is_anywhere(rig: &Rig) -> bool {
    let found = |bytes: &Vec<u8>| bytes.windows(MARKER.len()).any(|it| it == MARKER.as_bytes());
    rig.everything().await.iter().any(found)
}

/// All events, newest first, in pages of so many.
async fn listed(rig: &Rig, page: usize) -> Vec<Position> {
    let (mut all, mut from) = (Vec::new(), None::<String>);
    loop {
        let query = EventQuery::default();
        let found = rig.store.log.events(&query, from.as_deref(), Most::items(page)).await;
        let found = found.expect("events");
        all.extend(found.items.iter().map(|it| it.position));
        from = found.next;
        if from.is_none() {
            return all;
        }
    }
}

/// Its name, its kind, its times and how its deliveries ended stay; what was published, and what was
/// answered, is nowhere.
pub async fn what_is_left_of_an_event_keeps_its_place(rig: &mut Rig) {
    let other = rig.deliver(event(), &[(1, EXHAUSTED)]).await;
    let position = rig.accept_one(personal("e1")).await;
    let beside = rig.accept_one(event()).await;
    for batch in rig.take_all("n1").await {
        let mut results = Results::of("n1", &batch);
        for open in &batch.events {
            let text = if open.event.position == position { MARKER } else { "busy" };
            let to = [(2, Transition::Succeeded), (1, EXHAUSTED)];
            results = results.matched(open, &to).answered(text);
        }
        rig.settle(results).await;
    }
    let before = rig.store.log.event(position).await.expect("a read").expect("an event").0;
    let books = rig.books().await;
    assert!(is_anywhere(rig).await);

    assert_eq!(erase(rig, position).await, EventErased::Done);
    assert!(strip(rig, position).await >= 1);
    assert!(!is_anywhere(rig).await, "it is gone");
    let (left, _) = rig.store.log.event(position).await.expect("a read").expect("a tombstone");
    assert_eq!(left.erased, Some(erasure()));
    assert_eq!((left.data.len(), left.attributes.len(), left.trace), (0, 0, None));
    assert_eq!((&left.id, left.version, &left.event_type), (&before.id, 0, &before.event_type));
    assert_eq!(left.given_occur_time, before.given_occur_time);
    let name = before.name();
    assert_eq!(rig.store.log.find(&name).await.expect("a look"), Some(position));
    assert_eq!(rig.state(key(position, 1)).await.0, DeliveryState::Failed);
    let attempts = rig.store.log.attempts(key(position, 1)).await.expect("attempts");
    assert_eq!((attempts.len(), attempts[0].response.as_ref()), (1, None));
    assert_eq!(attempts[0].status, 500, "how it came out");
    let kept = rig.store.log.attempts(key(beside, 1)).await.expect("attempts");
    assert_eq!(kept[0].response.as_ref().map(|it| it.body.as_slice()), Some(&b"busy"[..]));
    assert_eq!(rig.books().await, books);
    for page in [1, 2, 100] {
        let found: BTreeSet<_> = listed(rig, page).await.into_iter().collect();
        assert_eq!(found, BTreeSet::from([other, position, beside]), "pages of {page}");
    }
    rig.check().await;

    // Once more changes nothing; and nothing is made of it.
    assert_eq!(erase(rig, position).await, EventErased::Done);
    assert_eq!(strip(rig, position).await, 0);
    let replay = Replay { key: key(position, 1), tag: tag(1), where_needed: false };
    let replayed = rig.store.operate.replay(&[replay]).await.expect("a replay");
    assert_eq!(replayed, [Replayed::EventGone]);
    assert_eq!(rig.books().await, books);
    // Its id was given.
    let again = rig.publish(vec![personal("e1")]).await;
    assert_eq!(again, [Published::Accepted { position, duplicate: true }]);
    let other = NewEvent { data: Bytes::from_static(b"1"), ..personal("e1") };
    assert_eq!(rig.publish(vec![other]).await, [Published::IdReused]);
    let nowhere = Position { n: position.n + 1000, ..position };
    assert_eq!(erase(rig, nowhere).await, EventErased::Unknown);
}

/// What is to be done yet, or under way, is not cut off: the event stays until that is over.
pub async fn what_is_pending_is_called_off_first(rig: &mut Rig) {
    let position = rig.accept_one(personal("e1")).await;
    assert_eq!(erase(rig, position).await, EventErased::Open, "it is not matched");
    let batch = rig.take("n1").await;
    assert_eq!(erase(rig, position).await, EventErased::Open, "it is being matched");
    rig.settle(Results::all("n1", &batch, &[(1, WAITING), (2, RETRY), (3, WAITING)])).await;
    assert_eq!(erase(rig, position).await, EventErased::Open, "it waits");
    assert!(is_anywhere(rig).await, "nothing was changed");
    let held = rig.due("n1").await;
    let cancel = async |number| {
        let cancelled = rig.store.operate.cancel(key(position, number), EndReason::Erased).await;
        cancelled.expect("a cancel")
    };
    assert_eq!(cancel(2).await, Cancelled::Done);
    assert_eq!((cancel(1).await, cancel(3).await), (Cancelled::InFlight, Cancelled::InFlight));
    assert_eq!(erase(rig, position).await, EventErased::Open, "it is attempted");
    for batch in &held {
        let mut results = Results::of("n1", batch);
        for it in &batch.deliveries {
            let to = if it.key == key(position, 1) { Transition::Succeeded } else { RETRY };
            results = results.delivery(it, to);
        }
        rig.settle(results).await;
    }
    assert_eq!(erase(rig, position).await, EventErased::Done);
    strip(rig, position).await;
    assert!(!is_anywhere(rig).await);
    assert_eq!(rig.state(key(position, 1)).await, (DeliveryState::Succeeded, None));
    for number in [2, 3] {
        let erased = (DeliveryState::Cancelled, Some(EndReason::Erased));
        assert_eq!(rig.state(key(position, number)).await, erased, "{number}");
    }
    let books = rig.books().await;
    assert!(books.balance(), "{books:?}");
    assert_eq!((books.created, books.succeeded, books.cancelled), (3, 1, 2));
    rig.advance(MINUTE).await;
    assert_eq!(rig.due("n1").await.len(), 0, "nothing is handed out");
    rig.check().await;
}

/// Lists find all events in order, however many of them are tombstones and wherever those lie.
pub async fn lists_go_on_over_tombstones(rig: &mut Rig) {
    let all = rig.accept(events(120)).await;
    for batch in rig.take_all("n1").await {
        rig.settle(Results::all("n1", &batch, &[])).await;
    }
    for position in all[3..40].iter().chain(&all[60..61]).chain(&all[100..]) {
        assert_eq!(erase(rig, *position).await, EventErased::Done);
    }
    let mut expected = all.clone();
    expected.sort_by_key(|it| std::cmp::Reverse((it.ms, it.partition, it.n)));
    for page in [1, 7, 1000] {
        let mut found = listed(rig, page).await;
        assert_eq!(found.len(), all.len(), "pages of {page}");
        found.sort_by_key(|it| std::cmp::Reverse((it.ms, it.partition, it.n)));
        assert_eq!(found, expected, "each of them once");
    }
    rig.check().await;

    // What a deleted tenant left of them goes, too.
    let now = rig.now().await.plus(MINUTE);
    rig.advance(MINUTE).await;
    let what = Erase { tenant: super::kit::tenant("acme"), before: now };
    let mut place = Some(ErasePlace::default());
    while let Some(from) = place {
        place = rig.store.operate.erase(&what, from).await.expect("a step").next;
    }
    assert_eq!(listed(rig, 100).await, []);
    rig.check().await;
}

/// Where the engine cannot let go of an event because of one beside it that is in hand, it says so
/// and changes nothing.
pub async fn what_is_held_nearby_keeps_nothing_of_it(rig: &mut Rig) {
    rig.accept_one(event()).await;
    let below = rig.take("n1").await;
    let position = rig.accept_one(personal("e1")).await;
    for batch in rig.take_all("n1").await {
        rig.settle(Results::all("n1", &batch, &[(1, EXHAUSTED)])).await;
    }
    rig.accept_one(event()).await;
    let above = rig.take("n1").await;
    match erase(rig, position).await {
        EventErased::Open => assert!(is_anywhere(rig).await, "nothing was changed"),
        EventErased::Done => assert!(!is_anywhere(rig).await, "nothing is left"),
        EventErased::Unknown => panic!("it is there"),
    }
    for batch in [above, below] {
        rig.settle(Results::all("n1", &batch, &[(1, EXHAUSTED)])).await;
    }
    assert_eq!(erase(rig, position).await, EventErased::Done);
    strip(rig, position).await;
    assert!(!is_anywhere(rig).await);
    rig.check().await;
}

/// Who strips once more takes what came since.
pub async fn what_came_late_is_taken_away(rig: &mut Rig) {
    let position = rig.accept_one(personal("e1")).await;
    let lost = rig.take("n1").await;
    rig.lapse().await;
    let again = rig.take_over("n2").await;
    rig.settle_all("n2", &again, &[(1, EXHAUSTED)]).await;
    assert_eq!(erase(rig, position).await, EventErased::Done);
    strip(rig, position).await;
    assert!(!is_anywhere(rig).await);
    let late = Results::all("n1", &lost, &[(1, EXHAUSTED)]).answered(MARKER);
    assert_eq!(rig.settle_as_is(late.settlement()).await.lost, [lost.token]);
    assert!(is_anywhere(rig).await, "it came");
    assert_eq!(strip(rig, position).await, 1);
    assert!(!is_anywhere(rig).await);
    let attempts = rig.store.log.attempts(key(position, 1)).await.expect("attempts");
    assert_eq!(attempts.len(), 2);
    assert!(attempts.iter().all(AttemptRecord::is_stripped));
}

/// A step is bounded, and the next goes on behind it.
pub async fn stripping_goes_on_where_it_was(rig: &mut Rig) {
    let position = rig.accept_one(personal("e1")).await;
    let first = rig.take("n1").await;
    rig.settle(Results::all("n1", &first, &[(1, RETRY)]).answered(MARKER)).await;
    for attempt in 2..=45 {
        rig.advance(MINUTE).await;
        let to = if attempt == 45 { EXHAUSTED } else { RETRY };
        for batch in rig.due("n1").await {
            rig.settle(Results::all("n1", &batch, &[(1, to)]).answered(MARKER)).await;
        }
    }
    assert_eq!(erase(rig, position).await, EventErased::Done);
    let (mut from, mut steps, mut changed) = (0, 0, 0);
    loop {
        let step = rig.store.operate.strip_attempts(position, from).await.expect("a step");
        (steps, changed) = (steps + 1, changed + step.changed);
        let Some(next) = step.next else { break };
        assert!(next > from, "it goes on");
        from = next;
    }
    assert_eq!((steps, changed), (3, 45));
    assert!(!is_anywhere(rig).await);
    let attempts = rig.store.log.attempts(key(position, 1)).await.expect("attempts");
    assert_eq!(attempts.len(), 45);
    rig.check().await;
}
