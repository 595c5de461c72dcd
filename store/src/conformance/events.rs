//! Asking for events.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use pregon_core::event::{Environment, Event, NewEvent};
use pregon_core::id::{EventId, EventName, Position};

use super::Rig;
use super::kit::{Results, event, event_type, events, given, tenant};
use crate::log::{EventQuery, Most, Page};
use crate::settlement::Transition;

async fn page(rig: &Rig, query: &EventQuery, from: Option<&str>, limit: usize) -> Page<Event> {
    let most = Most::items(limit);
    let page = rig.store.log.events(query, from, most).await.expect("a page of events");
    assert!(page.items.len() <= limit, "a page of {} where {limit} is the limit", page.items.len());
    page
}

/// All events of a query, in pages of this size, in order.
async fn list(rig: &Rig, query: &EventQuery, limit: usize) -> Vec<Position> {
    let mut next = page(rig, query, None, limit).await;
    let mut all = Vec::new();
    loop {
        all.extend(next.items.iter().map(|event| event.position));
        match next.next {
            Some(from) => next = page(rig, query, Some(&from), limit).await,
            None => return all,
        }
    }
}

/// Events published one after the other, a moment apart; newest first.
async fn publish_in_turn(rig: &Rig, count: usize) -> Vec<Position> {
    let mut all = Vec::new();
    for event in events(count) {
        all.push(rig.accept_one(event).await);
        rig.advance(Duration::from_millis(5)).await;
    }
    all.reverse();
    all
}

/// The newest comes first, whole, wherever it stands.
pub async fn events_are_listed_newest_first(rig: &mut Rig) {
    let expected = publish_in_turn(rig, 10).await;
    let taken = rig.take_up_to("n1", 3).await.expect("events to take");
    rig.settle(Results::all("n1", &taken, &[(1, Transition::Succeeded)])).await;
    assert_eq!(list(rig, &EventQuery::default(), 100).await, expected);
    let page = page(rig, &EventQuery::default(), None, 100).await;
    for open in &taken.events {
        assert!(page.items.contains(&open.event));
    }
}

/// Whatever the page size, each event comes once, also while others are published.
pub async fn event_pages_neither_lose_nor_repeat(rig: &mut Rig) {
    let expected = publish_in_turn(rig, 23).await;
    for limit in [1, 2, 5, 22, 23, 24] {
        assert_eq!(list(rig, &EventQuery::default(), limit).await, expected, "pages of {limit}");
    }
    let mut all = Vec::new();
    let mut next = page(rig, &EventQuery::default(), None, 4).await;
    loop {
        all.extend(next.items.iter().map(|event| event.position));
        let Some(from) = next.next else { break };
        publish_in_turn(rig, 1).await;
        next = page(rig, &EventQuery::default(), Some(&from), 4).await;
    }
    assert_eq!(all, expected, "what came later is not in later pages");
}

/// A page ends with the event that makes it as large as is wanted, and the next one goes on there.
pub async fn event_pages_are_bounded_in_bytes(rig: &mut Rig) {
    let data = Bytes::from(format!("\"{}\"", "x".repeat(10_000)));
    let mut expected = Vec::new();
    for _ in 0..12 {
        expected.push(rig.accept_one(NewEvent { data: data.clone(), ..event() }).await);
        rig.advance(Duration::from_millis(5)).await;
    }
    expected.reverse();
    let (mut all, mut place) = (Vec::new(), None);
    let most = Most { items: 100, bytes: 25_000 };
    loop {
        let query = EventQuery::default();
        let page = rig.store.log.events(&query, place.as_deref(), most).await.expect("a page");
        assert!(page.items.len() <= 3, "a page of {} events", page.items.len());
        all.extend(page.items.iter().map(|event| event.position));
        place = page.next;
        if place.is_none() {
            break;
        }
    }
    assert_eq!(all, expected);
}

/// By tenant, type, environment and time, and by several of them.
pub async fn events_are_filtered(rig: &mut Rig) {
    let mut all = Vec::new();
    for i in 0..24 {
        let new = NewEvent {
            tenant: tenant(["acme", "globex"][i % 2]),
            event_type: event_type(["order.captured", "order.voided", "order"][i % 3]),
            environment: [Environment::Live, Environment::Test][i / 12],
            ..event()
        };
        let position = rig.accept_one(new.clone()).await;
        all.push((position, new));
        rig.advance(Duration::from_secs(1)).await;
    }
    let time = |i: usize| {
        Some(pregon_core::clock::Timestamp::from_millis(
            i64::try_from(all[i].0.ms).expect("a time"),
        ))
    };
    let (acme, order) = (Some(tenant("acme")), Some(event_type("order")));
    let test = Some(Environment::Test);
    let by_tenant = EventQuery { tenant: acme.clone(), ..EventQuery::default() };
    let by_type = EventQuery { event_type: order.clone(), ..EventQuery::default() };
    let by_environment = EventQuery { environment: test, ..EventQuery::default() };
    let by_time = EventQuery { from: time(5), to: time(17), ..EventQuery::default() };
    let by_all = EventQuery {
        tenant: acme,
        event_type: order,
        environment: test,
        from: time(5),
        to: time(22),
        unmatched_only: false,
        scheduled_only: false,
    };
    let nobody = EventQuery { tenant: Some(tenant("nobody")), ..EventQuery::default() };
    for query in [by_tenant, by_type, by_environment, by_time, by_all, nobody] {
        let wanted = |(position, new): &&(Position, NewEvent)| {
            let at = pregon_core::clock::Timestamp::from_millis(
                i64::try_from(position.ms).expect("a time"),
            );
            query.tenant.as_ref().is_none_or(|tenant| *tenant == new.tenant)
                && query.event_type.as_ref().is_none_or(|wanted| *wanted == new.event_type)
                && query.environment.is_none_or(|environment| environment == new.environment)
                && query.from.is_none_or(|from| at >= from)
                && query.to.is_none_or(|to| at < to)
        };
        let expected: Vec<_> = all.iter().rev().filter(wanted).map(|(at, _)| *at).collect();
        for limit in [3, 100] {
            assert_eq!(list(rig, &query, limit).await, expected, "{query:?}");
        }
    }
}

/// Those that nobody wanted, not those that nobody looked at yet.
pub async fn unmatched_events_are_found(rig: &mut Rig) {
    rig.accept(events(9)).await;
    let mut expected = BTreeSet::new();
    for batch in rig.take_all("n1").await {
        let mut results = Results::of("n1", &batch);
        for (i, open) in batch.events.iter().enumerate() {
            results = match i % 3 {
                0 => {
                    expected.insert(open.event.position);
                    results.unmatched(open)
                }
                1 => results.matched(open, &[(1, Transition::Succeeded)]),
                _ => results,
            };
        }
        rig.settle(results).await;
    }
    rig.accept_one(event()).await;
    let query = EventQuery { unmatched_only: true, ..EventQuery::default() };
    for limit in [1, 100] {
        let found = list(rig, &query, limit).await;
        assert_eq!(found.len(), expected.len());
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
    }
    let theirs = EventQuery { tenant: Some(tenant("globex")), ..query };
    assert!(list(rig, &theirs, 100).await.is_empty());
}

/// By the id that was given, by the one that was assigned, by version.
pub async fn events_are_found_by_name(rig: &mut Rig) {
    let named = NewEvent { version: 3, ..given("a:b") };
    for new in [event(), given("a:b"), named] {
        let position = rig.accept_one(new).await;
        let (event, _) = rig.store.log.event(position).await.expect("a read").expect("the event");
        assert_eq!(rig.store.log.find(&event.name()).await.expect("a find"), Some(position));
        let other = EventName { tenant: tenant("globex"), ..event.name() };
        assert_eq!(rig.store.log.find(&other).await.expect("a find"), None, "another tenant's");
    }
}

/// What never was is not found, however like a name it looks.
pub async fn an_unknown_event_is_not_found(rig: &mut Rig) {
    let position = rig.accept_one(event()).await;
    let none = Position { n: position.n + 1_000, ..position };
    let older = Position { ms: position.ms - 1, ..position };
    let nowhere = Position { partition: 4_095, ..position };
    for unknown in [none, older, nowhere] {
        assert_eq!(rig.store.log.event(unknown).await.expect("a read"), None, "{unknown}");
        let name = EventName { tenant: tenant("acme"), id: EventId::assigned(unknown), version: 0 };
        assert_eq!(rig.store.log.find(&name).await.expect("a find"), None, "{unknown}");
    }
    let id = EventId::parse("a").expect("an id");
    let name = EventName { tenant: tenant("acme"), id, version: 0 };
    assert_eq!(rig.store.log.find(&name).await.expect("a find"), None);
}
