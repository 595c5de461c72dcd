//! What a tenant left is erased, and nothing else is.

use bytes::Bytes;
use pregon_core::clock::Timestamp;
use pregon_core::event::NewEvent;
use pregon_core::id::Position;

use super::Rig;
use super::kit::{EXHAUSTED, HOUR, MINUTE, RETRY, Results, WAITING, event, key, lane, tenant};
use crate::erase::{Erase, ErasePlace, Erased};
use crate::log::{DeliveryQuery, EventQuery, Most};
use crate::settlement::Transition;
use crate::watch::{Seen, Stretch, WatchQuery};

/// Stands in the data of acme's events, and in what its receiver answered.
const MARKER: &str = "XyZ-7-secret-of-acme-7-zYx";
/// Stands in globex's.
const OTHER: &str = "XyZ-7-text-of-globex-7-zYx";

fn of(name: &str, text: &str) -> NewEvent {
    let data = Bytes::from(format!("{{\"text\":\"{text}\"}}"));
    NewEvent { tenant: tenant(name), data, ..event() }
}

/// A whole pass, however many steps.
async fn pass(rig: &Rig, before: Timestamp) -> Erased {
    let erase = Erase { tenant: tenant("acme"), before };
    let (mut all, mut place) = (Erased::default(), ErasePlace::default());
    for _ in 0..10_000 {
        let step = rig.store.operate.erase(&erase, place).await.expect("a step");
        all.erased += step.erased;
        all.left += step.left;
        match step.next {
            Some(next) => place = next,
            None => return all,
        }
    }
    panic!("a pass has no end");
}

/// Events of both tenants, in one call and by turns: each to a lane of its tenant's.
async fn mixed(rig: &Rig, count: usize, to: Transition) -> Vec<Position> {
    let one = |i: usize| if i.is_multiple_of(2) { of("acme", MARKER) } else { of("globex", OTHER) };
    let positions = rig.accept((0..count).map(one).collect()).await;
    for batch in rig.take_all("n1").await {
        let mut results = Results::of("n1", &batch);
        for open in &batch.events {
            let (number, text) = match open.event.tenant.as_str() {
                "acme" => (1, MARKER),
                _ => (2, OTHER),
            };
            results = results.matched(open, &[(number, to)]).answered(text);
        }
        rig.settle(results).await;
    }
    positions
}

async fn events_of(rig: &Rig, name: &str) -> usize {
    let query = EventQuery { tenant: Some(tenant(name)), ..EventQuery::default() };
    rig.store.log.events(&query, None, Most::items(1000)).await.expect("events").items.len()
}

async fn deliveries_of(rig: &Rig, name: &str) -> usize {
    let query = DeliveryQuery { tenant: Some(tenant(name)), ..DeliveryQuery::default() };
    rig.list(&query, 100).await.len()
}

/// Whether a text stands anywhere in the store.
async fn holds(rig: &Rig, text: &str) -> bool {
    let found = |bytes: &Vec<u8>| bytes.windows(text.len()).any(|it| it == text.as_bytes());
    rig.everything().await.iter().any(found)
}

/// Events, records of deliveries, attempts and answers; the other tenant's are as they were, though
/// they lie in the same batches and chunks.
pub async fn what_a_tenant_left_is_erased(rig: &mut Rig) {
    let mut globex = Vec::new();
    for to in [Transition::Succeeded, EXHAUSTED, RETRY] {
        let positions = mixed(rig, 60, to).await;
        globex.extend(positions.into_iter().skip(1).step_by(2));
    }
    rig.advance(2 * MINUTE).await;
    for batch in rig.due("n1").await {
        let mut results = Results::of("n1", &batch);
        for held in &batch.deliveries {
            let text = if held.key.lane == lane(1) { MARKER } else { OTHER };
            results = results.delivery(held, EXHAUSTED).answered(text);
        }
        rig.settle(results).await;
    }
    rig.advance(MINUTE).await;
    let shown = async |rig: &Rig| {
        let mut all = Vec::new();
        for position in &globex {
            all.push(rig.store.log.attempts(key(*position, 2)).await.expect("attempts"));
        }
        let since = rig.now().await.minus(HOUR);
        let recent = rig.store.lanes.lane_attempts(lane(2), since, 1000).await.expect("attempts");
        (all, recent.records)
    };
    let before = shown(rig).await;
    assert_eq!(before.1.len(), 30 + 30 + 60);
    assert!(holds(rig, MARKER).await && holds(rig, OTHER).await);

    let now = rig.now().await;
    let done = pass(rig, now).await;
    assert_eq!(done.left, 0);
    assert!(done.erased > 90, "events and chunks: {done:?}");
    assert!(!holds(rig, MARKER).await, "erased");
    assert_eq!((events_of(rig, "acme").await, deliveries_of(rig, "acme").await), (0, 0));
    assert_eq!(shown(rig).await, before);
    assert_eq!((events_of(rig, "globex").await, deliveries_of(rig, "globex").await), (90, 90));
    assert!(holds(rig, OTHER).await);
    assert_eq!(pass(rig, now).await, Erased::default(), "nothing is left to do");
    assert_eq!(rig.tenant_books("acme").await.accepted, 90, "books are no data");
    rig.check().await;

    // What is published and attempted from now on is found beside what was written anew.
    let position = rig.deliver(of("globex", OTHER), &[(2, Transition::Succeeded)]).await;
    assert_eq!(rig.store.log.attempts(key(position, 2)).await.expect("attempts").len(), 1);
    assert_eq!(shown(rig).await.1.len(), before.1.len() + 1);
}

/// Another tenant can be erased from what was written anew.
pub async fn chunks_are_written_anew_again(rig: &mut Rig) {
    mixed(rig, 20, EXHAUSTED).await;
    mixed(rig, 20, Transition::Succeeded).await;
    rig.advance(MINUTE).await;
    let now = rig.now().await;
    pass(rig, now).await;
    assert!(holds(rig, OTHER).await);
    let erase = Erase { tenant: tenant("globex"), before: now };
    let mut place = Some(ErasePlace::default());
    while let Some(from) = place {
        place = rig.store.operate.erase(&erase, from).await.expect("a step").next;
    }
    assert!(!holds(rig, OTHER).await);
    assert_eq!(events_of(rig, "globex").await, 0);
}

/// An event that is to be matched, waits or is attempted stays until that is over.
pub async fn what_is_still_to_be_done_is_erased_later(rig: &mut Rig) {
    mixed(rig, 2, WAITING).await;
    let taken = rig.accept(vec![of("acme", MARKER)]).await;
    let batch = rig.take("n1").await;
    rig.accept(vec![of("acme", MARKER)]).await;
    rig.advance(MINUTE).await;
    let now = rig.now().await;
    let done = pass(rig, now).await;
    assert_eq!((done.erased, done.left), (0, 3));
    rig.settle(Results::of("n1", &batch).unmatched(&batch.events[0])).await;
    let done = pass(rig, now).await;
    assert_eq!((done.erased, done.left), (1, 2));
    assert_eq!(rig.store.log.event(taken[0]).await.expect("a read"), None);
    for batch in rig.take_all("n1").await {
        rig.settle(Results::all("n1", &batch, &[(1, EXHAUSTED)])).await;
    }
    for batch in rig.due("n1").await {
        rig.settle(Results::all("n1", &batch, &[(1, Transition::Succeeded)])).await;
    }
    let done = pass(rig, now).await;
    assert_eq!(done.left, 0);
    assert!(!holds(rig, MARKER).await);
    assert_eq!(events_of(rig, "globex").await, 1);
}

/// What was accepted at or after the moment is another tenant's of the same name.
pub async fn a_name_that_is_taken_again_keeps_its_own(rig: &mut Rig) {
    let old = rig.deliver(of("acme", MARKER), &[(1, EXHAUSTED)]).await;
    rig.advance(MINUTE).await;
    let before = rig.now().await;
    rig.advance(MINUTE).await;
    let new = rig.deliver(of("acme", OTHER), &[(3, EXHAUSTED)]).await;
    let done = pass(rig, before).await;
    assert!(done.erased >= 1, "{done:?}");
    assert!(!holds(rig, MARKER).await);
    assert_eq!(rig.store.log.event(old).await.expect("a read"), None);
    assert!(rig.store.log.event(new).await.expect("a read").is_some());
    assert_eq!(rig.store.log.attempts(key(new, 3)).await.expect("attempts").len(), 1);
    assert_eq!(rig.store.log.attempts(key(old, 1)).await.expect("attempts"), []);
}

/// Attempts that were written anew are seen by who watches and is behind, as all others are.
pub async fn who_watches_sees_what_was_written_anew(rig: &mut Rig) {
    let query =
        WatchQuery { tenant: Some(tenant("globex")), attempts: true, ..WatchQuery::default() };
    let start = rig.store.watch.tip().await.expect("a place");
    mixed(rig, 20, EXHAUSTED).await;
    mixed(rig, 20, Transition::Succeeded).await;
    rig.advance(MINUTE).await;
    let now = rig.now().await;
    assert!(pass(rig, now).await.erased > 20);
    mixed(rig, 20, EXHAUSTED).await;
    let end = rig.store.watch.tip().await.expect("a place");
    let (mut place, mut seen) = (start, 0);
    for partition in rig.partitions() {
        loop {
            let read = rig.store.watch.read_on(&query, &place, &end, partition).await;
            let Stretch::Read { seen: some, place: next } = read.expect("a read") else {
                panic!("a gap");
            };
            seen += some.iter().filter(|it| matches!(it, Seen::Attempt(_))).count();
            if next == place {
                break;
            }
            place = next;
        }
    }
    assert_eq!(seen, 30);
}
