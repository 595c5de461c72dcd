//! Events that are matched at a moment of their own: kept until then, found, called off.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pregon_core::clock::Timestamp;
use pregon_core::event::{Erasure, NewEvent, Terms};
use pregon_core::id::{EventName, Position, SubscriptionId};
use pregon_core::limits::DELIVER_AHEAD;
use pregon_core::outcome::DeliveryState;

use super::Rig;
use super::kit::{HOUR, LEASE, MINUTE, Results, claim, event, everything, given, lane, tenant};
use super::rig::positions;
use crate::batch::Batch;
use crate::erase::{Erase, ErasePlace, EventErased};
use crate::intake::Published;
use crate::log::{Books, DeliveryQuery, EventQuery, EventStage, Most};
use crate::operate::{EventCancelled, Filled, Missing};
use crate::settlement::{EventOutcome, Transition};
use crate::work::BATCH_MAX;

/// Events of the large schedule.
const MANY: u64 = 100_000;
/// Steps of time in which it is walked.
const STEP: Duration = Duration::from_millis(500);
/// How late an event may be handed out.
const LATE: Duration = Duration::from_secs(1);

/// An event that is to be delivered at a moment.
fn at(event: NewEvent, time: Timestamp) -> NewEvent {
    let terms = Terms { deliver_time: Some(time), ..Terms::default() };
    NewEvent { terms: Some(Arc::new(terms)), ..event }
}

/// What a node settles of a batch of events whose time has not come.
fn scheduled(by: &str, batch: &Batch) -> Results {
    batch.events.iter().fold(Results::of(by, batch), |results, open| {
        assert!(!open.ripe, "{:?} was not scheduled yet", open.event.position);
        let time = open.event.scheduled().expect("a time that is to come");
        results.event(&open.event, EventOutcome::Scheduled(time))
    })
}

/// Publishes an event, and has a node put it on its schedule.
async fn schedule(rig: &Rig, event: NewEvent, ahead: Duration) -> Position {
    let position = rig.accept_one(at(event, rig.now().await.plus(ahead))).await;
    let batch = rig.take("n1").await;
    rig.settle(scheduled("n1", &batch)).await;
    position
}

async fn stage(rig: &Rig, position: Position) -> EventStage {
    rig.store.log.event(position).await.expect("a read").expect("the event").1
}

async fn call_off(rig: &Rig, position: Position) -> EventCancelled {
    rig.store.operate.cancel_event(position).await.expect("a cancel")
}

async fn listed(rig: &Rig, query: EventQuery) -> BTreeSet<Position> {
    let page = rig.store.log.events(&query, None, Most::items(1000)).await.expect("events");
    page.items.iter().map(|event| event.position).collect()
}

fn waiting(scheduled: u64) -> Books {
    Books { accepted: scheduled, waiting: scheduled, scheduled, ..Books::default() }
}

/// Not before, and then as an event to be matched; what was said of it comes along.
pub async fn an_event_waits_for_its_time(rig: &mut Rig) {
    let terms = Terms {
        deliver_time: Some(rig.now().await.plus(HOUR)),
        deliver_within: Some(MINUTE),
        subscriptions: vec![SubscriptionId::parse("s").expect("an id")],
    };
    let new = NewEvent { terms: Some(Arc::new(terms.clone())), min_revision: 3, ..given("a") };
    let position = rig.accept_one(new.clone()).await;
    let batch = rig.take("n1").await;
    assert_eq!(batch.events[0].event.terms.as_deref(), Some(&terms));
    assert_eq!(batch.events[0].event.min_revision, 3);
    rig.settle(scheduled("n1", &batch)).await;
    assert_eq!(
        (rig.books().await, stage(rig, position).await),
        (waiting(1), EventStage::Scheduled)
    );
    for query in [
        DeliveryQuery { event: Some(position), ..DeliveryQuery::default() },
        DeliveryQuery { tenant: Some(tenant("acme")), ..DeliveryQuery::default() },
        DeliveryQuery {
            tenant: Some(tenant("acme")),
            state: Some(DeliveryState::Pending),
            ..DeliveryQuery::default()
        },
    ] {
        assert_eq!(rig.list(&query, 10).await, [], "it has no deliveries");
    }
    let next = rig.ask("n1", &everything()).await.into_iter().filter_map(|due| due.next).min();
    let next = next.expect("to be told when to look again");
    assert!(HOUR - MINUTE < next && next <= HOUR, "{next:?}");
    rig.advance(HOUR - MINUTE).await;
    assert!(rig.due("n1").await.is_empty());
    rig.check().await;

    rig.advance(MINUTE).await;
    let due = rig.due("n2").await;
    let open = &due[0].events[0];
    assert_eq!((open.ripe, open.event.position), (true, position));
    assert_eq!(open.event.terms.as_deref(), Some(&terms));
    assert_eq!(rig.books().await, waiting(1));
    rig.check().await;
    rig.settle(Results::all("n2", &due[0], &[(1, Transition::Succeeded)])).await;
    assert_eq!(stage(rig, position).await, EventStage::Matched);
    let books = Books { accepted: 1, matched: 1, created: 1, succeeded: 1, ..Books::default() };
    assert_eq!(rig.books().await, books);
    assert!(rig.due("n1").await.is_empty());
    let again = Published::Accepted { position, duplicate: true };
    assert_eq!(rig.publish(vec![new]).await, [again]);
}

/// One whose time came on the way is due at once, and one that is not told as scheduled is not ripe.
pub async fn a_time_that_has_passed_is_due_at_once(rig: &mut Rig) {
    rig.accept_one(at(event(), rig.now().await.plus(MINUTE))).await;
    let batch = rig.take("n1").await;
    rig.advance(2 * MINUTE).await;
    rig.settle(scheduled("n1", &batch)).await;
    let due = rig.due("n1").await.remove(0);
    assert!(due.events[0].ripe);
    rig.settle(Results::of("n1", &due).postponed(&due.events[0], MINUTE)).await;
    assert_eq!(rig.books().await.scheduled, 0, "it waits for something else now");
    rig.advance(MINUTE).await;
    let due = rig.due("n1").await.remove(0);
    assert!(!due.events[0].ripe);
    rig.settle(scheduled("n1", &due)).await;
    let due = rig.due("n1").await.remove(0);
    assert!(due.events[0].ripe);
    rig.settle(Results::of("n1", &due).unmatched(&due.events[0])).await;
    assert_eq!(rig.books().await, Books { accepted: 1, unmatched: 1, ..Books::default() });
}

/// A node that dies with ripe events in hand, some of a fan-out, leaves them ripe.
pub async fn a_ripe_event_is_taken_over_ripe(rig: &mut Rig) {
    let position = schedule(rig, event(), MINUTE).await;
    rig.advance(MINUTE).await;
    let batch = rig.due("n1").await.remove(0);
    rig.settle(Results::of("n1", &batch).fanned_out(&batch.events[0], 1..=5, false)).await;
    rig.advance(LEASE + MINUTE).await;
    let batch = rig.take_over("n2").await.remove(0);
    let open = &batch.events[0];
    assert_eq!((open.event.position, open.ripe), (position, true));
    assert_eq!(open.cursor, Some(super::kit::lane(5)));
    rig.check().await;
    rig.settle(Results::of("n2", &batch).fanned_out(open, 6..=7, true)).await;
    let books = rig.books().await;
    assert_eq!((books.matched, books.pending, books.scheduled, books.waiting), (1, 7, 0, 0));
}

/// Until its time an event can be called off, once and for all; it is told from what nobody wanted.
pub async fn a_scheduled_event_is_called_off(rig: &mut Rig) {
    let new = at(given("a"), rig.now().await.plus(HOUR));
    let position = rig.accept_one(new.clone()).await;
    assert_eq!(call_off(rig, position).await, EventCancelled::InHand, "nobody took it yet");
    let batch = rig.take("n1").await;
    assert_eq!(call_off(rig, position).await, EventCancelled::InHand, "a node has it");
    rig.settle(scheduled("n1", &batch)).await;
    assert_eq!(call_off(rig, position).await, EventCancelled::Done);
    assert_eq!(call_off(rig, position).await, EventCancelled::Done, "as it was");
    assert_eq!(stage(rig, position).await, EventStage::Cancelled);
    let books = Books { accepted: 1, unmatched: 1, called_off: 1, ..Books::default() };
    assert_eq!((rig.books().await, rig.tenant_books("acme").await), (books, books));
    let unmatched = EventQuery { unmatched_only: true, ..EventQuery::default() };
    assert_eq!(listed(rig, unmatched).await, [position].into());
    assert_eq!(rig.list(&DeliveryQuery::default(), 10).await, []);
    let again = Published::Accepted { position, duplicate: true };
    assert_eq!(rig.publish(vec![new]).await, [again], "its id is not free by that");
    rig.check().await;
    rig.advance(2 * HOUR).await;
    assert!(rig.due("n1").await.is_empty() && rig.take_over("n1").await.is_empty());

    let ripe = schedule(rig, event(), MINUTE).await;
    rig.advance(MINUTE).await;
    let due = rig.due("n1").await.remove(0);
    assert_eq!(call_off(rig, ripe).await, EventCancelled::InHand, "it is being matched");
    rig.settle(Results::of("n1", &due).unmatched(&due.events[0])).await;
    assert_eq!(call_off(rig, ripe).await, EventCancelled::Over);
    let unknown = Position { ms: ripe.ms + 1, ..ripe };
    assert_eq!(call_off(rig, unknown).await, EventCancelled::Unknown);
    let put_off = rig.take_new("n1").await;
    let open = &put_off.events[0];
    rig.settle(Results::of("n1", &put_off).postponed(open, MINUTE)).await;
    let at = open.event.position;
    assert_eq!(call_off(rig, at).await, EventCancelled::InHand, "it waits for no time");
}

/// Lists of what is scheduled hold nothing else that waits, of either tenant.
pub async fn scheduled_events_are_listed(rig: &mut Rig) {
    let ours = schedule(rig, event(), HOUR).await;
    let theirs = schedule(rig, NewEvent { tenant: tenant("globex"), ..event() }, HOUR).await;
    let gone = schedule(rig, event(), HOUR).await;
    assert_eq!(call_off(rig, gone).await, EventCancelled::Done);
    let batch = rig.take_new("n1").await;
    rig.settle(Results::of("n1", &batch).postponed(&batch.events[0], HOUR)).await;
    rig.take_new("n1").await;
    rig.accept_one(event()).await;
    let all = EventQuery { scheduled_only: true, ..EventQuery::default() };
    assert_eq!(listed(rig, all.clone()).await, [ours, theirs].into());
    let own = EventQuery { tenant: Some(tenant("acme")), ..all.clone() };
    assert_eq!(listed(rig, own.clone()).await, [ours].into());
    let page = rig.store.log.events(&all, None, Most::items(1)).await.expect("a page");
    let next = page.next.expect("a next page");
    let rest = rig.store.log.events(&all, Some(&next), Most::items(5)).await.expect("a page");
    assert_eq!([&page.items[..], &rest.items[..]].concat().len(), 2);
    assert_eq!((rig.tenant_books("acme").await.scheduled, rig.books().await.scheduled), (1, 2));
}

/// For the longest that may be: neither it nor its id goes with the history around it.
pub async fn what_is_scheduled_is_kept_with_its_id(rig: &mut Rig) {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let new = at(given("a"), rig.now().await.plus(DELIVER_AHEAD));
    let position = rig.accept_one(new.clone()).await;
    let batch = rig.take("n1").await;
    rig.settle(scheduled("n1", &batch)).await;
    let name = EventName { tenant: tenant("acme"), id: new.id.clone().expect("an id"), version: 0 };
    let again = [Published::Accepted { position, duplicate: true }];
    for day in 1..30 {
        rig.advance(DAY).await;
        rig.deliver(given(&format!("other-{day}")), &[(1, Transition::Succeeded)]).await;
        assert_eq!(rig.publish(vec![new.clone()]).await, again, "after {day} days");
        assert_eq!(rig.store.log.find(&name).await.expect("a look"), Some(position));
        assert_eq!(rig.books().await.scheduled, 1);
    }
    rig.advance(DAY).await;
    let due = rig.due("n1").await;
    assert_eq!(positions(&due), [position].into());
    assert_eq!(due[0].events[0].event.data, new.data);
    rig.settle(Results::all("n1", &due[0], &[(1, Transition::Succeeded)])).await;
}

/// Nothing of a tenant that is gone waits for its time, so that its name can be given anew.
pub async fn what_a_tenant_scheduled_is_erased(rig: &mut Rig) {
    schedule(rig, event(), HOUR).await;
    let theirs = schedule(rig, NewEvent { tenant: tenant("globex"), ..event() }, HOUR).await;
    let erase = Erase { tenant: tenant("acme"), before: rig.now().await.plus(MINUTE) };
    let mut place = Some(ErasePlace::default());
    let (mut erased, mut left) = (0, 0);
    while let Some(at) = place {
        let step = rig.store.operate.erase(&erase, at).await.expect("a step");
        (erased, left, place) = (erased + step.erased, left + step.left, step.next);
    }
    assert_eq!((erased, left), (1, 0));
    assert_eq!(rig.store.intake.outstanding(&tenant("acme")).await.expect("a look"), 0);
    let gone = rig.tenant_books("acme").await;
    assert_eq!((gone.unmatched, gone.called_off, gone.scheduled), (1, 1, 0));
    rig.check().await;
    rig.advance(HOUR).await;
    let due = rig.due("n1").await;
    assert_eq!(positions(&due), [theirs].into());
    rig.settle_all("n1", &due, &[(2, Transition::Succeeded)]).await;
}

/// A person's data do not wait for a month to be erased.
pub async fn a_scheduled_event_is_erased(rig: &mut Rig) {
    let position = schedule(rig, event(), HOUR).await;
    let erasure = Erasure { time: Timestamp::from_millis(7), reason: "asked".to_owned() };
    let erase =
        async || rig.store.operate.erase_event(position, &erasure).await.expect("an erasing");
    assert_eq!(erase().await, EventErased::Open, "it is to be called off first");
    assert_eq!(call_off(rig, position).await, EventCancelled::Done);
    assert_eq!(erase().await, EventErased::Done);
    let (event, stage) = rig.store.log.event(position).await.expect("a read").expect("a tombstone");
    assert_eq!((event.erased, event.data.len(), stage), (Some(erasure), 0, EventStage::Cancelled));
    rig.advance(HOUR).await;
    assert!(rig.due("n1").await.is_empty());
}

/// Over an hour, to the second, with a restart in the middle; and nothing twice.
pub async fn a_hundred_thousand_are_due_to_the_second(rig: &mut Rig) {
    let start = rig.now().await.plus(MINUTE);
    let apart = u64::try_from(HOUR.as_millis()).expect("milliseconds") / MANY;
    let mut expected = BTreeMap::new();
    for first in (0..MANY).step_by(500) {
        // Not in the order of their times.
        let place = |i: u64| (i * 37_199) % MANY;
        let time = |i: u64| start.plus(Duration::from_millis(place(i) * apart));
        let times: Vec<_> = (first..first + 500).map(time).collect();
        let new = times.iter().map(|time| at(event(), *time)).collect();
        expected.extend(rig.accept(new).await.into_iter().zip(times));
        while let Some(batch) = rig.take_up_to("n1", BATCH_MAX).await {
            rig.settle(scheduled("n1", &batch)).await;
        }
    }
    assert_eq!(expected.len(), usize::try_from(MANY).expect("a count"));
    assert_eq!(rig.books().await, waiting(MANY));
    let mut restarted = false;
    while !expected.is_empty() {
        let now = rig.now().await;
        let mut soonest = None;
        for partition in rig.partitions() {
            loop {
                let due = rig.store.work.due(partition, &claim("n1"), everything()).await;
                let due = due.expect("what is due");
                let Some(batch) = due.batch else {
                    soonest = soonest.into_iter().chain(due.next).min();
                    break;
                };
                let late = rig.now().await;
                for open in &batch.events {
                    let time =
                        expected.remove(&open.event.position).expect("not handed out before");
                    assert!(open.ripe && time <= late && now.since(time) < LATE, "{time} at {now}");
                }
                rig.settle(
                    batch
                        .events
                        .iter()
                        .fold(Results::of("n1", &batch), |results, open| results.unmatched(open)),
                )
                .await;
            }
        }
        if !restarted && expected.len() < 50_000 {
            rig.reopen().await;
            restarted = true;
            continue;
        }
        rig.advance(soonest.map_or(STEP, |next| next.min(STEP))).await;
    }
    assert_eq!(rig.books().await, Books { accepted: MANY, unmatched: MANY, ..Books::default() });
}

/// A time that is over is none, however long ago that was.
pub async fn a_time_long_past_is_none(rig: &mut Rig) {
    let id = |n: i64| format!("e{n}");
    let one = |n: i64| match n % 3 {
        0 => at(given(&id(n)), Timestamp::from_millis(-n)),
        _ => given(&id(n)),
    };
    // In every partition some stand before one, and some behind it.
    let mut accepted = rig.accept((0..60).map(one).collect()).await;
    accepted.extend(rig.accept((60..80).map(one).collect()).await);
    assert_eq!(accepted.iter().collect::<BTreeSet<_>>().len(), 80);
    for (n, position) in (0..80).zip(&accepted) {
        let (event, stage) =
            rig.store.log.event(*position).await.expect("a read").expect("the event");
        assert_eq!((event.id.as_str(), stage), (&*id(n), EventStage::Waiting));
    }
    let again = rig.publish(vec![one(3)]).await;
    assert!(matches!(again[..], [Published::Accepted { duplicate: true, .. }]), "{again:?}");
    rig.check().await;
}

/// Before its time an event lacks nothing, and none is made of one that was called off.
pub async fn a_scheduled_event_lacks_no_delivery(rig: &mut Rig) {
    let position = schedule(rig, given("a"), HOUR).await;
    let missing = [Missing { position, lane: lane(1) }];
    for make in [false, true] {
        let filled = rig.store.operate.fill(&missing, make).await.expect("a fill");
        assert_eq!(filled, [Filled::NotMatched]);
    }
    assert_eq!(rig.books().await, waiting(1));
    assert_eq!(call_off(rig, position).await, EventCancelled::Done);
    let before = rig.books().await;
    for make in [false, true] {
        let filled = rig.store.operate.fill(&missing, make).await.expect("a fill");
        assert_eq!(filled, [Filled::NotMatched]);
    }
    assert_eq!((rig.books().await, stage(rig, position).await), (before, EventStage::Cancelled));
    rig.check().await;
}
