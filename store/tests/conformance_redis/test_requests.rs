//! What a network, and another process, can do to test sends.

use std::time::{Duration, Instant};

use bytes::Bytes;
use pregon_core::event::{Attributes, Environment, Event};
use pregon_core::id::{EventId, EventTypeId, LaneNo, NodeId, Position, TenantId};
use pregon_store::redis::{self as engine, RedisOptions};
use pregon_store::test_send::{TESTS_MAX, TakenTest, TestSend, Tested};
use pregon_store::{Store, StoreError};
use tokio::task::JoinHandle;

use crate::queue::{behind_a_proxy, store};
use crate::server::Server;

const MINUTE: Duration = Duration::from_secs(60);
/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(30);

type Asked = JoinHandle<Result<Tested, StoreError>>;

fn test() -> TestSend {
    let position = Position { ms: 1_800_000_000_000, partition: 0, n: 0 };
    let event = Event {
        position,
        tenant: TenantId::parse("acme").expect("an id"),
        id: EventId::assigned(position),
        version: 0,
        event_type: EventTypeId::parse("order.captured").expect("a type"),
        environment: Environment::Live,
        given_occur_time: None,
        erased: None,
        min_revision: 0,
        trace: None,
        terms: None,
        attributes: Attributes::new(),
        data: Bytes::from_static(b"{}"),
    };
    let timeout = Duration::from_secs(20);
    TestSend { lane: LaneNo(1), event, min_revision: 0, timeout, trace: None }
}

/// Asks in a task of its own, and waits until the bell rings for it.
async fn hand_over(store: &Store) -> Asked {
    let asked = ask(store);
    let rung = tokio::time::timeout(PATIENCE, store.work.wait(MINUTE)).await;
    rung.expect("the bell to ring");
    asked
}

fn ask(store: &Store) -> Asked {
    let tests = store.tests.clone();
    tokio::spawn(async move { tests.send_test(test(), MINUTE, MINUTE).await })
}

async fn take(store: &Store) -> Vec<TakenTest> {
    let node = NodeId::parse("n1").expect("an id");
    store.tests.take_tests(&node, 5).await.expect("a take of test sends")
}

/// The one that waits.
async fn take_one(store: &Store) -> TakenTest {
    let mut taken = take(store).await;
    assert_eq!(taken.len(), 1);
    taken.remove(0)
}

async fn settle(store: &Store, taken: &TakenTest) {
    let answer = Bytes::from_static(b"done");
    store.tests.settle_test(&taken.ticket, answer).await.expect("the answer to be taken");
}

async fn is_done(asked: Asked) {
    let ended = tokio::time::timeout(PATIENCE, asked).await.expect("an end");
    let tested = ended.expect("the asking task").expect("a test send");
    assert_eq!(tested, Tested::Done(Bytes::from_static(b"done")));
}

fn keys(server: &Server, pattern: &str) -> Vec<String> {
    let redis::Value::Array(keys) = server.run(&["KEYS", pattern]) else { panic!("no keys") };
    keys.into_iter().map(|key| redis::from_redis_value(key).expect("a key")).collect()
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < until, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Every step's reply may get lost: the test is handed over, taken and answered once all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_send_whose_replies_are_lost_happens_once() {
    let (store, proxy, _) = behind_a_proxy().await;
    while !take(&store).await.is_empty() {}
    store.work.wait(Duration::from_millis(1)).await; // for what rang before
    for round in 0..6 {
        // The first round makes Redis know the scripts.
        let lose = || {
            if round > 0 {
                proxy.lose_a_reply();
            }
        };
        lose();
        let asked = hand_over(&store).await;
        until("the reply to the request was lost", || proxy.has_lost()).await;
        lose();
        let taken = take_one(&store).await;
        assert!(proxy.has_lost(), "the reply to the take was lost");
        lose();
        settle(&store, &taken).await;
        assert!(proxy.has_lost(), "the reply to the answer was lost");
        is_done(asked).await;
        // Sent twice, a request rings twice; there is nothing behind it.
        store.work.wait(Duration::from_millis(1)).await;
        assert_eq!(take(&store).await, []);
    }
}

/// Who waits for an answer when the connection breaks, gets it over the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_outlives_the_connection_that_waits_for_it() {
    let server = Server::start();
    let store = store(&RedisOptions::new(&server.url(0))).await;
    let asked = hand_over(&store).await;
    let taken = take_one(&store).await;
    server.run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    settle(&store, &taken).await;
    is_done(asked).await;
}

/// Scripts are sent again where Redis forgot them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_sends_outlive_forgotten_scripts() {
    let server = Server::start();
    let store = store(&RedisOptions::new(&server.url(0))).await;
    for _ in 0..2 {
        server.run(&["SCRIPT", "FLUSH"]);
        let asked = hand_over(&store).await;
        server.run(&["SCRIPT", "FLUSH"]);
        let taken = take_one(&store).await;
        server.run(&["SCRIPT", "FLUSH"]);
        settle(&store, &taken).await;
        is_done(asked).await;
    }
}

/// As many as may wait are those of all processes together; what has lapsed makes room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_sends_of_all_processes_are_bounded_together() {
    let server = Server::start();
    let options = RedisOptions::new(&server.url(0));
    let store = store(&options).await;
    let other = engine::open(options.clone()).await.expect("to open").store();
    let asked: Vec<Asked> = (0..TESTS_MAX).map(|_| ask(&store)).collect();
    let full = redis::Value::Int(i64::try_from(TESTS_MAX).expect("a number"));
    until("all wait", || server.run(&["LLEN", "{pg0}:tests"]) == full).await;
    let refused = other.tests.send_test(test(), MINUTE, MINUTE).await;
    assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");

    options.ahead.advance(2 * MINUTE);
    let more = ask(&other);
    let one = redis::Value::Int(1);
    until("the lapsed ones made room", || server.run(&["LLEN", "{pg0}:tests"]) == one).await;
    settle(&store, &take_one(&store).await).await;
    is_done(more).await;
    asked.iter().for_each(JoinHandle::abort);
}

/// Who goes takes the request along, and nothing that is left of a test send stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_test_send_stays() {
    let server = Server::start();
    let store = store(&RedisOptions::new(&server.url(0))).await;
    let expire = |pattern: &str| {
        let keys = keys(&server, pattern);
        assert!(keys.iter().all(|key| match server.run(&["PTTL", key]) {
            redis::Value::Int(left) => left > 0,
            other => panic!("{other:?}"),
        }));
        keys.len()
    };
    let gone = hand_over(&store).await;
    assert_eq!((expire("*:test:*"), expire("*:tests")), (1, 1));
    gone.abort();
    until("the request went", || keys(&server, "*:tests").is_empty()).await;
    assert_eq!(take(&store).await, []);

    let asked = hand_over(&store).await;
    let taken = take_one(&store).await;
    settle(&store, &taken).await;
    is_done(asked).await;
    settle(&store, &taken).await;
    assert_eq!((expire("*:test:*"), expire("*:res:*"), expire("*:tests")), (2, 0, 0));
    let marked = keys(&server, "*:test:*");
    let fields = marked.iter().map(|key| server.run(&["HKEYS", key]));
    let over = redis::Value::Array(vec![redis::Value::BulkString(b"over".to_vec())]);
    assert!(fields.into_iter().all(|found| found == over), "only marks are left");

    let asked = hand_over(&store).await;
    let taken = take_one(&store).await;
    asked.abort();
    assert!(asked.await.expect_err("it was stopped").is_cancelled());
    settle(&store, &taken).await;
    expire("*:test:*");
    expire("*:res:*");
}
