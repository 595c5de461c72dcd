//! Test sends: handed to one node, answered once, and told apart when they are not.
//!
//! Times of waiting are real, for nobody moves them: cases that wait for an end choose short ones.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use pregon_core::clock::Timestamp;
use pregon_core::event::{Environment, Event};
use pregon_core::id::{EventId, Position};
use pregon_core::trace::TraceContext;
use tokio::task::{JoinHandle, JoinSet};

use super::Rig;
use super::kit::{MINUTE, event_type, lane, node, tenant};
use super::rig::within;
use crate::log::Books;
use crate::test_send::{
    TAKE_TESTS_MAX, TEST_RESULT_MAX, TESTS_MAX, TakenTest, TestSend, Tested, Ticket,
};
use crate::{Store, StoreError};

type Asked = JoinHandle<Result<Tested, StoreError>>;

fn test(number: u64) -> TestSend {
    let position = Position { ms: 1_800_000_000_000, partition: 0, n: 0 };
    let event = Event {
        position,
        tenant: tenant("acme"),
        id: EventId::parse(&format!("test-{number}")).expect("an event's id"),
        version: 2,
        event_type: event_type("order.captured"),
        environment: Environment::Test,
        given_occur_time: Some(Timestamp::from_millis(5)),
        erased: None,
        min_revision: 0,
        trace: None,
        terms: None,
        attributes: [("subject".to_owned(), "A-1".to_owned())].into(),
        data: Bytes::from(format!("{{ \"number\" : {number} }}")),
    };
    TestSend {
        lane: lane(number),
        event,
        min_revision: 99,
        timeout: Duration::from_millis(19_999),
        trace: TraceContext::from_text(
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 vendor=1",
        ),
    }
}

/// Asks in a task of its own.
fn ask(rig: &Rig, test: TestSend, take_within: Duration, within: Duration) -> Asked {
    let tests = rig.store.tests.clone();
    tokio::spawn(async move { tests.send_test(test, take_within, within).await })
}

/// Asks, and waits for the bell, so that the request is there.
async fn hand_over(rig: &Rig, number: u64) -> Asked {
    let asked = ask(rig, test(number), MINUTE, 2 * MINUTE);
    within(rig.store.work.wait(MINUTE)).await;
    asked
}

async fn take(store: &Store, by: &str, want: usize) -> Vec<TakenTest> {
    store.tests.take_tests(&node(by), want).await.expect("a take of test sends")
}

/// Takes so many, as a node does: whenever the bell rings.
async fn take_exactly(store: &Store, by: &str, count: usize) -> Vec<TakenTest> {
    let mut taken = Vec::new();
    let all = async {
        while taken.len() < count {
            let more = take(store, by, count - taken.len()).await;
            assert!(more.len() <= TAKE_TESTS_MAX.min(count - taken.len()), "{}", more.len());
            if more.is_empty() {
                store.work.wait(Duration::from_millis(100)).await;
            }
            taken.extend(more);
        }
    };
    within(all).await;
    taken
}

async fn settle(store: &Store, ticket: &Ticket, result: &'static [u8]) {
    let result = Bytes::from_static(result);
    store.tests.settle_test(ticket, result).await.expect("the answer to be taken");
}

async fn end(asked: Asked) -> Tested {
    within(asked).await.expect("the asking task").expect("a test send")
}

/// All of it reaches a node that was woken, its answer comes back, and nothing counts it.
pub async fn a_test_send_is_handed_over_and_answered(rig: &mut Rig) {
    assert_eq!(take(&rig.store, "n1", 5).await, []);
    let asked = hand_over(rig, 7).await;
    assert_eq!(take(&rig.store, "n1", 0).await, []);
    let taken = take_exactly(&rig.store, "n1", 1).await;
    assert_eq!(taken[0].test, test(7));
    assert!(taken[0].waits_for <= 2 * MINUTE, "{:?}", taken[0].waits_for);
    assert!(taken[0].waits_for > MINUTE, "{:?}", taken[0].waits_for);
    settle(&rig.store, &taken[0].ticket, b"\0\xffdone").await;
    assert_eq!(end(asked).await, Tested::Done(Bytes::from_static(b"\0\xffdone")));
    assert_eq!(rig.books().await, Books::default());
    assert!(rig.take_all("n1").await.is_empty(), "it is no event");
}

/// With no node there, that is the answer; a node that comes later finds nothing.
pub async fn a_test_send_that_nobody_takes_is_told(rig: &mut Rig) {
    let asked = ask(rig, test(1), Duration::from_millis(20), MINUTE);
    assert_eq!(end(asked).await, Tested::NotTaken);
    assert_eq!(take(&rig.store, "n1", 5).await, []);
}

/// A node took it and is silent; what it says later is dropped.
pub async fn a_test_send_that_nobody_answers_is_told(rig: &mut Rig) {
    // Long enough for the take, which must come first.
    let asked = ask(rig, test(1), MINUTE, Duration::from_secs(3));
    let taken = take_exactly(&rig.store, "n1", 1).await;
    assert_eq!(end(asked).await, Tested::NotSettled);
    settle(&rig.store, &taken[0].ticket, b"late").await;
    assert_eq!(take(&rig.store, "n1", 5).await, []);
}

/// However many nodes ask, one gets it.
pub async fn a_test_send_goes_to_one_taker(rig: &mut Rig) {
    for round in 0..10 {
        let asked = hand_over(rig, round).await;
        let (one, other) = tokio::join!(take(&rig.store, "n1", 5), take(&rig.store, "n2", 5));
        assert_eq!(one.len() + other.len(), 1, "round {round}");
        for taken in one.iter().chain(&other) {
            settle(&rig.store, &taken.ticket, b"done").await;
        }
        assert_eq!(end(asked).await, Tested::Done(Bytes::from_static(b"done")));
    }
}

/// The oldest goes first, and no more go than were wanted; each answer reaches who asked for it.
pub async fn test_sends_are_taken_in_order(rig: &mut Rig) {
    let mut asked = Vec::new();
    for number in 0..5 {
        asked.push(hand_over(rig, number).await);
    }
    let mut taken = take(&rig.store, "n1", 2).await;
    assert_eq!(taken.len(), 2);
    within(rig.store.work.wait(MINUTE)).await; // rung for those that are left
    taken.extend(take(&rig.store, "n2", 5).await);
    let lanes: Vec<_> = taken.iter().map(|taken| taken.test.lane.0).collect();
    assert_eq!(lanes, [0, 1, 2, 3, 4]);
    for taken in taken.iter().rev() {
        let answer = Bytes::from(taken.test.lane.0.to_string());
        rig.store.tests.settle_test(&taken.ticket, answer).await.expect("an answer");
    }
    for (number, asked) in asked.into_iter().enumerate() {
        assert_eq!(end(asked).await, Tested::Done(Bytes::from(number.to_string())));
    }
}

/// As many as there may be are under way, one more is refused; then there is room again. A take is
/// bounded as well.
pub async fn test_sends_under_way_are_bounded(rig: &mut Rig) {
    let mut asked = JoinSet::new();
    for number in 0..=TESTS_MAX as u64 {
        let tests = rig.store.tests.clone();
        asked.spawn(async move { tests.send_test(test(number), MINUTE, 2 * MINUTE).await });
    }
    let refused = within(asked.join_next()).await.expect("one ends").expect("the asking task");
    assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    let taken = take_exactly(&rig.store, "n1", TESTS_MAX).await;
    let tickets: BTreeSet<_> = taken.iter().map(|taken| taken.ticket).collect();
    assert_eq!(tickets.len(), TESTS_MAX);
    for ticket in &tickets {
        settle(&rig.store, ticket, b"done").await;
    }
    for _ in &tickets {
        let done = within(asked.join_next()).await.expect("one ends").expect("the asking task");
        assert_eq!(done, Ok(Tested::Done(Bytes::from_static(b"done"))));
    }
    let more = hand_over(rig, 0).await;
    let taken = take_exactly(&rig.store, "n1", 1).await;
    settle(&rig.store, &taken[0].ticket, b"again").await;
    assert_eq!(end(more).await, Tested::Done(Bytes::from_static(b"again")));
}

/// An answer is as long as it may be, and not longer; a large event goes out whole.
pub async fn a_large_answer_comes_back(rig: &mut Rig) {
    let mut large = test(1);
    large.event.data = Bytes::from(vec![b'7'; pregon_core::limits::EVENT_DATA_MAX]);
    let asked = ask(rig, large.clone(), MINUTE, MINUTE);
    let taken = take_exactly(&rig.store, "n1", 1).await;
    assert!(taken[0].test == large, "it is as it was");
    let ticket = &taken[0].ticket;
    let answer: Vec<u8> =
        (0..TEST_RESULT_MAX).map(|i| u8::try_from(i % 251).unwrap_or(0)).collect();
    let longer = Bytes::from([&answer[..], b"x"].concat());
    let refused = rig.store.tests.settle_test(ticket, longer).await;
    assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    let answer = Bytes::from(answer);
    rig.store.tests.settle_test(ticket, answer.clone()).await.expect("an answer");
    assert!(end(asked).await == Tested::Done(answer), "it is as it was");
}

/// Whose time is over is not handed out, though who asked did not say that it went.
pub async fn an_expired_test_send_is_not_handed_out(rig: &mut Rig) {
    let old = hand_over(rig, 1).await;
    rig.advance(MINUTE + Duration::from_secs(1)).await;
    let new = hand_over(rig, 2).await;
    let taken = take_exactly(&rig.store, "n1", 1).await;
    assert_eq!(taken[0].test.lane, lane(2));
    assert_eq!(take(&rig.store, "n1", 5).await, []);
    settle(&rig.store, &taken[0].ticket, b"done").await;
    assert_eq!(end(new).await, Tested::Done(Bytes::from_static(b"done")));
    old.abort();
}

/// Who asked is gone when the answer comes: nobody is troubled, and nobody else gets it.
pub async fn an_answer_that_nobody_waits_for_is_harmless(rig: &mut Rig) {
    let gone = hand_over(rig, 1).await;
    let taken = take_exactly(&rig.store, "n1", 1).await;
    gone.abort();
    assert!(within(gone).await.expect_err("it was stopped").is_cancelled());
    settle(&rig.store, &taken[0].ticket, b"for nobody").await;
    settle(&rig.store, &Ticket::random().expect("a ticket"), b"for nobody").await;
    let asked = hand_over(rig, 2).await;
    let taken = take_exactly(&rig.store, "n1", 1).await;
    settle(&rig.store, &taken[0].ticket, b"done").await;
    assert_eq!(end(asked).await, Tested::Done(Bytes::from_static(b"done")));
}

/// An answer that is repeated, as after a lost reply, changes nothing.
pub async fn of_two_answers_the_first_counts(rig: &mut Rig) {
    let asked = hand_over(rig, 1).await;
    let taken = take_exactly(&rig.store, "n1", 1).await;
    settle(&rig.store, &taken[0].ticket, b"first").await;
    settle(&rig.store, &taken[0].ticket, b"second").await;
    assert_eq!(end(asked).await, Tested::Done(Bytes::from_static(b"first")));
    settle(&rig.store, &taken[0].ticket, b"third").await;
}

/// Who asks and who answers may be two processes; the one that waits is woken by the other.
pub async fn a_test_send_crosses_processes(rig: &mut Rig) {
    let Some(other) = rig.second().await else { return };
    let asked = ask(rig, test(3), MINUTE, MINUTE);
    within(other.work.wait(MINUTE)).await;
    let taken = take_exactly(&other, "n2", 1).await;
    assert_eq!(taken[0].test, test(3));
    settle(&other, &taken[0].ticket, b"done").await;
    assert_eq!(end(asked).await, Tested::Done(Bytes::from_static(b"done")));
}
