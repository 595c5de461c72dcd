//! Publishing: places, ids, and what a repeat is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use pregon_core::clock::Timestamp;
use pregon_core::event::{Attributes, Environment, NewEvent};
use pregon_core::id::{EventId, EventName, Position};
use pregon_core::limits::{
    ATTRIBUTE_KEY_LEN, ATTRIBUTE_VALUE_LEN, ATTRIBUTES, DEDUPE_WINDOW, EVENT_DATA_MAX,
    PUBLISH_BATCH,
};
use pregon_core::outcome::PendingReason;
use pregon_core::trace::TraceContext;

use super::Rig;
use super::kit::{
    HOUR, MINUTE, PAST_MEMORY, RETRY, accept_ms, event, event_type, events, given, key, tenant,
};
use super::rig::positions;
use crate::intake::Published;
use crate::log::{Books, EventQuery, Most};
use crate::operate::Former;
use crate::settlement::Transition;

/// The answer to a repeat of the event there.
fn duplicate(position: Position) -> Published {
    Published::Accepted { position, duplicate: true }
}

fn attributes(pairs: &[(&str, &str)]) -> Attributes {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Numbers within a partition are 1, 2, 3… in the order of the calls and within them.
pub async fn numbers_are_dense_and_in_publish_order(rig: &mut Rig) {
    let mut last: BTreeMap<u16, u64> = BTreeMap::new();
    for count in [1, 3, 100, 1, 7] {
        let before = rig.now().await;
        let positions = rig.accept(events(count)).await;
        assert_eq!(positions.len(), count);
        let after = rig.now().await;
        for position in positions {
            let last = last.entry(position.partition).or_default();
            assert_eq!(position.n, *last + 1, "dense in partition {}", position.partition);
            assert!((accept_ms(before)..=accept_ms(after)).contains(&position.ms));
            *last = position.n;
        }
        rig.advance(Duration::from_millis(3)).await;
    }
    assert!(rig.publish(Vec::new()).await.is_empty());
    assert_eq!(rig.books().await, Books { accepted: 112, waiting: 112, ..Books::default() });
}

/// A call as large as callers may make it is answered event by event.
pub async fn a_large_call_is_answered_in_order(rig: &mut Rig) {
    let mut all: Vec<NewEvent> = (0..PUBLISH_BATCH).map(|i| given(&format!("e{i}"))).collect();
    let first = rig.accept(all.clone()).await;
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), PUBLISH_BATCH);
    for i in (0..PUBLISH_BATCH).step_by(3) {
        all[i].data = Bytes::from_static(b"[]");
    }
    let again = rig.publish(all).await;
    for (i, (answer, position)) in again.into_iter().zip(first).enumerate() {
        let expected = if i % 3 == 0 { Published::IdReused } else { duplicate(position) };
        assert_eq!(answer, expected, "event {i}");
    }
}

/// Every field comes back as it was given, the data byte for byte.
pub async fn an_event_is_kept_as_published(rig: &mut Rig) {
    let full = NewEvent {
        tenant: tenant("globex"),
        version: 4,
        event_type: event_type("payment.refunded"),
        environment: Environment::Test,
        occur_time: Some(Timestamp::from_millis(1_600_000_000_123)),
        min_revision: 99,
        trace: TraceContext::from_text(
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 vendor=1",
        ),
        terms: None,
        attributes: attributes(&[("subject", "A-1"), ("empty", ""), ("note", "ñ \"\n\0 ✓")]),
        data: Bytes::from("{ \"n\" : 1.0, \"big\":12345678901234567890, \"ñ\":\"\\u00e1\" }\n"),
        ..given("e:1-a_b")
    };
    let pattern: Vec<u8> =
        (0..EVENT_DATA_MAX).map(|i| b'a' + u8::try_from(i % 23).unwrap_or(0)).collect();
    let large = NewEvent { data: Bytes::from([b"\"", &pattern[2..], b"\""].concat()), ..event() };
    let value = "ñ".repeat(ATTRIBUTE_VALUE_LEN);
    let all = (0..ATTRIBUTES)
        .map(|i| (format!("{i:0>width$}", width = ATTRIBUTE_KEY_LEN), value.clone()));
    let described = NewEvent { attributes: all.collect(), ..event() };
    for new in [full, large, described] {
        let position = rig.accept_one(new.clone()).await;
        let batch = rig.take("n1").await;
        let (found, _) = rig.store.log.event(position).await.expect("a read").expect("the event");
        assert_eq!(found, *batch.events[0].event, "read and taken alike");
        let assigned = EventId::assigned(position);
        assert_eq!(
            NewEvent {
                tenant: found.tenant,
                id: (found.id != assigned).then_some(found.id),
                version: found.version,
                event_type: found.event_type,
                environment: found.environment,
                occur_time: found.given_occur_time,
                since: None,
                min_revision: found.min_revision,
                trace: found.trace,
                terms: found.terms,
                attributes: found.attributes,
                data: found.data,
            },
            new
        );
    }
}

/// An assigned id says where its event lies.
pub async fn assigned_ids_name_their_position(rig: &mut Rig) {
    let positions = rig.accept(events(3)).await;
    for batch in rig.take_all("n1").await {
        for open in &batch.events {
            assert_eq!(open.event.id, EventId::assigned(open.event.position));
            assert!(positions.contains(&open.event.position));
            let found = rig.store.log.find(&open.event.name()).await.expect("a find");
            assert_eq!(found, Some(open.event.position));
        }
    }
}

/// The same event again is answered with its first place, wherever it stands.
pub async fn a_repeat_is_a_duplicate(rig: &mut Rig) {
    let position = rig.accept_one(given("a")).await;
    assert_eq!(rig.publish(vec![given("a")]).await, [duplicate(position)], "waiting");
    let batch = rig.take("n1").await;
    assert_eq!(rig.publish(vec![given("a")]).await, [duplicate(position)], "taken");
    rig.settle(super::kit::Results::all("n1", &batch, &[(1, Transition::Succeeded)])).await;
    rig.advance(DEDUPE_WINDOW - HOUR).await;
    assert_eq!(rig.publish(vec![given("a")]).await, [duplicate(position)], "settled");
    assert!(rig.take_all("n1").await.is_empty(), "and is not delivered again");
    let books = Books { accepted: 1, matched: 1, created: 1, succeeded: 1, ..Books::default() };
    assert_eq!(rig.books().await, books);
}

/// The same id with another type, environment, time or data is no repeat.
pub async fn other_content_is_refused(rig: &mut Rig) {
    let time = Some(Timestamp::from_millis(1));
    let first = NewEvent { occur_time: time, ..given("a") };
    let position = rig.accept_one(first.clone()).await;
    for other in [
        NewEvent { event_type: event_type("order.voided"), ..first.clone() },
        NewEvent { environment: Environment::Test, ..first.clone() },
        NewEvent { occur_time: Some(Timestamp::from_millis(2)), ..first.clone() },
        NewEvent { occur_time: None, ..first.clone() },
        NewEvent { data: Bytes::from_static(b"{}"), ..first.clone() },
    ] {
        assert_eq!(rig.publish(vec![other]).await, [Published::IdReused]);
    }
    assert_eq!(rig.publish(vec![first]).await, [duplicate(position)], "the first still stands");
    assert_eq!(rig.books().await.accepted, 1);
}

/// Attributes are content: the same id with others is no repeat, in whatever way they differ.
pub async fn other_attributes_are_refused(rig: &mut Rig) {
    let with = |pairs| NewEvent { attributes: attributes(pairs), ..given("a") };
    let first = with(&[("a", "1"), ("b", "2")]);
    let position = rig.accept_one(first.clone()).await;
    let others: [&[(&str, &str)]; 7] = [
        &[],
        &[("a", "1")],
        &[("a", "1"), ("b", "3")],
        &[("a", "1"), ("c", "2")],
        &[("a", "2"), ("b", "1")],
        &[("a", "1b"), ("2", "")],
        &[("a", "1"), ("b", "2"), ("c", "")],
    ];
    for other in others {
        assert_eq!(rig.publish(vec![with(other)]).await, [Published::IdReused], "{other:?}");
    }
    assert_eq!(rig.publish(vec![first]).await, [duplicate(position)], "the first still stands");
    let plain = rig.accept_one(given("b")).await;
    let described = NewEvent { attributes: attributes(&[("a", "1")]), ..given("b") };
    assert_eq!(rig.publish(vec![described]).await, [Published::IdReused]);
    assert_eq!(rig.publish(vec![given("b")]).await, [duplicate(plain)]);
    let listed =
        rig.store.log.events(&EventQuery::default(), None, Most::items(10)).await.expect("a page");
    let listed: Vec<_> = listed.items.into_iter().map(|event| event.attributes).collect();
    assert_eq!(listed.len(), 2);
    assert!(listed.contains(&attributes(&[])), "{listed:?}");
    assert!(listed.contains(&attributes(&[("a", "1"), ("b", "2")])), "{listed:?}");
}

/// What a publisher cannot repeat exactly does not make a repeat another event.
pub async fn trace_and_revision_are_no_content(rig: &mut Rig) {
    let position = rig.accept_one(given("a")).await;
    let trace =
        TraceContext::from_text("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 vendor=1");
    let again = NewEvent { trace, min_revision: 5, ..given("a") };
    assert_eq!(rig.publish(vec![again]).await, [duplicate(position)]);
}

/// One call may hold a repeat of its own event, and a misuse of its id.
pub async fn repeats_within_one_call_are_seen(rig: &mut Rig) {
    let other = NewEvent { data: Bytes::from_static(b"0"), ..given("a") };
    let answers = rig.publish(vec![given("a"), given("b"), given("a"), other]).await;
    let Published::Accepted { position, duplicate: false } = answers[0] else {
        panic!("the first was {:?}", answers[0])
    };
    assert!(matches!(answers[1], Published::Accepted { duplicate: false, .. }));
    assert_eq!(answers[2..], [duplicate(position), Published::IdReused]);
    assert_eq!(rig.books().await.accepted, 2);
    assert_eq!(positions(&rig.take_all("n1").await).len(), 2);
}

/// However many publish one id at once, there is one event.
pub async fn parallel_publishes_of_one_id_make_one_event(rig: &mut Rig) {
    let mut publishers = tokio::task::JoinSet::new();
    for i in 0..100 {
        let intake = rig.store.intake.clone();
        let id = format!("e{}", i % 5);
        publishers.spawn(async move {
            let answer = intake.publish(vec![given(&id)]).await.expect("a publish").remove(0);
            (id, answer)
        });
    }
    let mut places: BTreeMap<String, BTreeSet<Position>> = BTreeMap::new();
    let mut fresh = 0;
    for (id, answer) in publishers.join_all().await {
        match answer {
            Published::Accepted { position, duplicate } => {
                fresh += u32::from(!duplicate);
                places.entry(id).or_default().insert(position);
            }
            Published::IdReused => panic!("{id} was the same event"),
        }
    }
    assert_eq!(fresh, 5, "one of each was the first");
    assert!(places.values().all(|places| places.len() == 1), "{places:?}");
    assert_eq!(rig.books().await.accepted, 5);
    assert_eq!(positions(&rig.take_all("n1").await).len(), 5);
}

/// Two tenants may use the same id.
pub async fn ids_are_a_tenants_own(rig: &mut Rig) {
    let theirs =
        NewEvent { tenant: tenant("globex"), data: Bytes::from_static(b"1"), ..given("a") };
    let ours = rig.accept_one(given("a")).await;
    let other = rig.accept_one(theirs).await;
    for (tenant_id, position) in [("acme", ours), ("globex", other)] {
        let id = EventId::parse("a").expect("an id");
        let name = EventName { tenant: tenant(tenant_id), id, version: 0 };
        assert_eq!(rig.store.log.find(&name).await.expect("a find"), Some(position));
        assert_eq!(rig.tenant_books(tenant_id).await.accepted, 1);
    }
}

/// Versions are events of their own, each recognised by itself.
pub async fn versions_of_one_id_are_different_events(rig: &mut Rig) {
    let version =
        |version, data| NewEvent { version, data: Bytes::from_static(data), ..given("a") };
    let all = vec![version(0, b"0"), version(1, b"1"), version(2, b"2")];
    let first = rig.accept(all.clone()).await;
    let again: Vec<_> = first.iter().map(|position| duplicate(*position)).collect();
    assert_eq!(rig.publish(all).await, again);
    assert_eq!(rig.publish(vec![version(1, b"2")]).await, [Published::IdReused]);
    for (version, position) in (0..).zip(first) {
        let id = EventId::parse("a").expect("an id");
        let name = EventName { tenant: tenant("acme"), id, version };
        assert_eq!(rig.store.log.find(&name).await.expect("a find"), Some(position));
    }
}

/// After the window, with nothing pending, the same id is a new event.
pub async fn an_id_is_free_after_its_window(rig: &mut Rig) {
    let first = rig.deliver(given("a"), &[(1, Transition::Succeeded)]).await;
    rig.advance(PAST_MEMORY).await;
    let other = NewEvent { data: Bytes::from_static(b"{}"), ..given("a") };
    let second = rig.accept_one(other).await;
    assert_ne!(first, second);
    assert_eq!(positions(&rig.take_all("n1").await), BTreeSet::from([second]));
}

/// While a delivery is pending its event's id is recognised, however old it is.
pub async fn a_pending_delivery_keeps_its_id(rig: &mut Rig) {
    let to = [(1, Transition::Succeeded), (2, Transition::Waiting(PendingReason::Paused))];
    let position = rig.deliver(given("a"), &to).await;
    rig.advance(PAST_MEMORY).await;
    assert_eq!(rig.publish(vec![given("a")]).await, [duplicate(position)]);
    let other = NewEvent { data: Bytes::from_static(b"{}"), ..given("a") };
    assert_eq!(rig.publish(vec![other]).await, [Published::IdReused]);

    let batches = rig.due("n1").await;
    assert_eq!(batches.len(), 1);
    rig.settle_all("n1", &batches, &[(2, RETRY)]).await;
    rig.advance(PAST_MEMORY).await;
    assert_eq!(rig.publish(vec![given("a")]).await, [duplicate(position)], "a retry is pending");

    let batches = rig.due("n1").await;
    rig.settle_all("n1", &batches, &[(2, Transition::Succeeded)]).await;
    assert_eq!(rig.delivery(key(position, 2)).await.attempts, 2);
    rig.advance(PAST_MEMORY).await;
    assert_ne!(rig.accept_one(given("a")).await, position, "nothing is pending any more");
}

/// An event that nobody matched yet may still get deliveries: its id is recognised.
pub async fn an_event_still_to_be_matched_keeps_its_id(rig: &mut Rig) {
    let position = rig.accept_one(given("a")).await;
    rig.advance(PAST_MEMORY).await;
    assert_eq!(rig.publish(vec![given("a")]).await, [duplicate(position)]);
    let batch = rig.take("n1").await;
    rig.settle(super::kit::Results::of("n1", &batch).postponed(&batch.events[0], HOUR)).await;
    rig.advance(PAST_MEMORY).await;
    assert_eq!(rig.publish(vec![given("a")]).await, [duplicate(position)]);
    assert_eq!(positions(&rig.due("n1").await), BTreeSet::from([position]));
}

/// Another tenant of the same name begins with nothing, once nothing of the first is outstanding.
pub async fn a_name_that_is_taken_again_inherits_nothing(rig: &mut Rig) {
    let supersede =
        async |rig: &Rig| rig.store.operate.supersede(&tenant("acme")).await.expect("an answer");
    assert_eq!(supersede(rig).await, Former::Nobody);
    let old = rig.accept_one(given("a")).await;
    assert_eq!(supersede(rig).await, Former::Busy, "to be matched");
    for batch in rig.take_all("n1").await {
        rig.settle_all("n1", &[batch], &[(1, Transition::Succeeded), (2, RETRY)]).await;
    }
    assert_eq!(supersede(rig).await, Former::Busy, "a delivery is pending");
    rig.advance(MINUTE).await;
    let due = rig.due("n1").await;
    rig.settle_all("n1", &due, &[(2, Transition::Succeeded)]).await;
    let Former::Gone(since) = supersede(rig).await else { panic!("it had events") };
    let accepted = async |rig: &Rig, position| {
        let found = rig.store.log.event(position).await.expect("an answer");
        found.expect("an event").0
    };
    assert!(accepted(rig, old).await.accept_time() < since);
    let books = rig.store.log.books(Some(&tenant("acme"))).await.expect("the books");
    assert_eq!(books, Books::default());
    // The same id again, and otherwise: a new event, which the name then points to.
    let new = NewEvent { since: Some(since), data: Bytes::from_static(b"0"), ..given("a") };
    let answers = rig.store.intake.publish(vec![new.clone()]).await.expect("a publish");
    let [Published::Accepted { position, duplicate: false }] = answers[..] else {
        panic!("{answers:?}")
    };
    assert_ne!(position, old);
    let event = accepted(rig, position).await;
    assert!(event.accept_time() >= since);
    let again = rig.store.intake.publish(vec![new]).await.expect("a publish");
    assert_eq!(again, [Published::Accepted { position, duplicate: true }]);
    assert_eq!(rig.store.log.find(&event.name()).await.expect("a place"), Some(position));
    let books = rig.store.log.books(Some(&tenant("acme"))).await.expect("the books");
    assert_eq!((books.accepted, books.waiting), (1, 1));
}
