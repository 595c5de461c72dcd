//! What a network, and whoever runs a Redis, can do to events on their way.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pregon_core::clock::Timestamp;
use pregon_core::event::{Environment, NewEvent};
use pregon_core::id::{DeliveryKey, EventTypeId, LaneNo, NodeId, Position, TenantId};
use pregon_core::outcome::{DeliveryState, EndReason, PendingReason};
use pregon_store::audit::{AuditClass, AuditId, NewAudit, WhenFull};
use pregon_store::batch::{Batch, LaneClose};
use pregon_store::intake::Published;
use pregon_store::operate::Cancelled;
use pregon_store::redis::{self as engine, RedisOptions};
use pregon_store::settlement::{
    BatchSettle, DeliverySettle, EventOutcome, EventSettle, Settlement, Transition,
};
use pregon_store::work::{Claim, DueRequest};
use pregon_store::{Store, StoreError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::proxy::Proxy;
use crate::server::Server;

pub const LEASE: Duration = Duration::from_secs(20);
const WAITING: Transition = Transition::Waiting(PendingReason::Queued);

pub async fn store(options: &RedisOptions) -> Store {
    // One partition: a case looks at one call after the other.
    engine::setup(options, 1).await.expect("to set up");
    engine::open(options.clone()).await.expect("to open").store()
}

/// The socket and the number of a database that nobody used yet.
fn socket() -> (String, usize) {
    let url = crate::fresh();
    let parts = url.trim_start_matches("redis+unix://").split_once("?db=");
    let (path, database) = parts.expect("a socket and a database");
    (path.to_owned(), database.parse().expect("a number"))
}

/// A store behind a proxy, whose scripts Redis knows already.
pub async fn behind_a_proxy() -> (Store, Proxy, RedisOptions) {
    let (path, database) = socket();
    let proxy = Proxy::before(path.into());
    let options = RedisOptions {
        janitor: false, // whose own calls would be those that get lost
        ..RedisOptions::new(&proxy.url(database))
    };
    let store = store(&options).await;
    publish(&store, 1).await;
    settle(&store, &take(&store).await, &[(1, WAITING)]).await;
    settle(&store, &due(&store).await, &[(1, Transition::Succeeded)]).await;
    take_over(&store).await;
    (store, proxy, options)
}

pub fn events(count: usize) -> Vec<NewEvent> {
    let event = |i| NewEvent {
        tenant: TenantId::parse("acme").expect("an id"),
        id: None,
        version: 0,
        event_type: EventTypeId::parse("order.captured").expect("a type"),
        environment: Environment::Live,
        occur_time: None,
        since: None,
        min_revision: 0,
        trace: None,
        terms: None,
        attributes: Default::default(),
        data: Bytes::from(format!("{{\"i\":{i}}}")),
    };
    (0..count).map(event).collect()
}

pub async fn publish(store: &Store, count: usize) -> Vec<Position> {
    let position = |published| match published {
        Published::Accepted { position, duplicate: false } => position,
        other => panic!("a new event was {other:?}"),
    };
    let published = store.intake.publish(events(count)).await.expect("a publish");
    published.into_iter().map(position).collect()
}

pub fn claim(node: &str) -> Claim {
    Claim { node: NodeId::parse(node).expect("an id"), lease: LEASE }
}

async fn try_take(store: &Store) -> Option<Batch> {
    store.work.take(0, &claim("n1"), 256, usize::MAX).await.expect("a take")
}

pub async fn take(store: &Store) -> Batch {
    try_take(store).await.expect("events to take")
}

pub async fn due(store: &Store) -> Batch {
    let request = DueRequest { want: 100, default_slots: 100, ..DueRequest::default() };
    let due = store.work.due(0, &claim("n1"), request).await.expect("what is due");
    due.batch.expect("due deliveries")
}

pub async fn take_over(store: &Store) -> Vec<Batch> {
    store.work.take_over(0, &claim("n2"), 4, 4).await.expect("a takeover").0
}

/// All of a batch goes that way: events to these lanes, deliveries as the first.
pub fn results(batch: &Batch, to: &[(u64, Transition)]) -> Settlement {
    let moved = |key: DeliveryKey, to| DeliverySettle {
        key,
        tenant: TenantId::parse("acme").expect("an id"),
        attempts: 1,
        age: Duration::ZERO,
        to,
    };
    let lanes = |position| {
        let lane = |(lane, to): &(u64, Transition)| {
            moved(DeliveryKey { position, lane: LaneNo(*lane), replay: None }, *to)
        };
        to.iter().map(lane).collect()
    };
    let events = batch.events.iter().map(|open| {
        let (position, tenant) = (open.event.position, open.event.tenant.clone());
        EventSettle::new(position, tenant, EventOutcome::Matched(lanes(position)))
    });
    let deliveries = batch.deliveries.iter().map(|held| moved(held.key, to[0].1));
    let settle = BatchSettle {
        token: batch.token,
        events: events.collect(),
        deliveries: deliveries.collect(),
    };
    Settlement { batches: vec![settle], ..Settlement::default() }
}

pub async fn settle(store: &Store, batch: &Batch, to: &[(u64, Transition)]) {
    let settled = store.work.settle(results(batch, to)).await.expect("a settle");
    assert_eq!(settled.lost, [], "no lease was lost");
}

pub async fn in_order(store: &Store) {
    let books = store.log.books(None).await.expect("the books");
    assert!(books.balance(), "{books:?}");
    assert_eq!(store.log.audit().await.expect("an audit"), []);
}

/// A publish whose answer is lost is sent again, and makes no second event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_whose_answer_is_lost_happens_once() {
    let (store, proxy, _) = behind_a_proxy().await;
    let mut positions = BTreeSet::new();
    for _ in 0..10 {
        proxy.lose_a_reply();
        positions.extend(publish(&store, 3).await);
        assert!(proxy.has_lost(), "a reply was lost");
    }
    assert_eq!(positions.len(), 30);
    assert_eq!(store.log.books(None).await.expect("the books").accepted, 31);
    assert_eq!(take(&store).await.events.len(), 30);
    in_order(&store).await;
}

/// A claim whose answer is lost leases nothing to nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_whose_answer_is_lost_is_given_again() {
    let (store, proxy, options) = behind_a_proxy().await;
    publish(&store, 5).await;
    proxy.lose_a_reply();
    let taken = take(&store).await;
    assert!(proxy.has_lost());
    assert_eq!(taken.events.len(), 5);
    settle(&store, &taken, &[(1, WAITING)]).await;

    proxy.lose_a_reply();
    let handed_out = due(&store).await;
    assert!(proxy.has_lost());
    assert_eq!(handed_out.deliveries.len(), 5);

    options.ahead.advance(LEASE * 2);
    proxy.lose_a_reply();
    let taken_over = take_over(&store).await;
    assert!(proxy.has_lost());
    assert_eq!(taken_over.iter().map(|batch| batch.deliveries.len()).sum::<usize>(), 5);
    for batch in &taken_over {
        settle(&store, batch, &[(1, Transition::Succeeded)]).await;
    }
    options.ahead.advance(LEASE * 2);
    assert!(take_over(&store).await.is_empty(), "nobody else has anything");
    in_order(&store).await;
}

/// A settle whose answer is lost moves every counter once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settle_whose_answer_is_lost_happens_once() {
    let (store, proxy, _) = behind_a_proxy().await;
    let before = store.log.books(None).await.expect("the books");
    for _ in 0..10 {
        publish(&store, 3).await;
        let batch = take(&store).await;
        proxy.lose_a_reply();
        settle(&store, &batch, &[(1, Transition::Succeeded), (2, WAITING)]).await;
        assert!(proxy.has_lost());
    }
    let books = store.log.books(None).await.expect("the books");
    assert_eq!(books.created - before.created, 60);
    assert_eq!((books.succeeded - before.succeeded, books.pending), (30, 30));
    in_order(&store).await;
}

/// A copy of a call that lay about somewhere is answered as the call was, or, once a later call of
/// its kind ran, refused; it never runs again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_call_never_runs() {
    let (path, database) = socket();
    let proxy = Proxy::before(path.clone().into());
    let options = RedisOptions { janitor: false, ..RedisOptions::new(&proxy.url(database)) };
    let store = store(&options).await;
    publish(&store, 2).await; // by its text, as Redis does not know it yet
    publish(&store, 2).await;
    let copy = proxy.last_script();
    let send = async |copy: &[u8]| {
        let mut stream = UnixStream::connect(&path).await.expect("the server");
        let select = format!("SELECT {database}\r\n");
        stream.write_all(&[select.as_bytes(), copy].concat()).await.expect("to send");
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        while answer.iter().filter(|byte| **byte == b'\n').count() < 2 {
            let read = stream.read(&mut buffer).await.expect("an answer");
            assert!(read > 0, "the server hung up: {}", String::from_utf8_lossy(&answer));
            answer.extend(&buffer[..read]);
        }
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answer = send(&copy).await;
    assert!(answer.starts_with("+OK\r\n$"), "answered as before: {answer}");
    assert_eq!(store.log.books(None).await.expect("the books").accepted, 4);
    publish(&store, 2).await;
    let answer = send(&copy).await;
    assert!(answer.starts_with("+OK\r\n-STALE"), "refused: {answer}");
    assert_eq!(store.log.books(None).await.expect("the books").accepted, 6);
    in_order(&store).await;
}

/// Redis was emptied: what it held is gone, and said to be; what comes now flows, under places that
/// were never another event's, and what was held from before settles nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_flow_again_after_redis_was_emptied() {
    let server = Server::start();
    let store = store(&RedisOptions::new(&server.url(0))).await;
    let before = publish(&store, 3).await;
    let held = take(&store).await;
    server.run(&["FLUSHALL"]);
    // Times are of milliseconds: the next one has to come.
    let last = i64::try_from(before[2].ms).expect("a time");
    while store.operate.now().await.expect("the time").millis() <= last {
        tokio::task::yield_now().await;
    }

    let after = publish(&store, 2).await;
    assert_eq!(after.iter().map(|at| at.n).collect::<Vec<_>>(), [1, 2], "numbers begin anew");
    assert!(after.iter().all(|at| !before.contains(at)), "and their times tell them apart");
    let lost = store.work.settle(results(&held, &[(1, WAITING)])).await.expect("a settle").lost;
    assert_eq!(lost, [held.token]);
    assert_eq!(store.log.event(before[2]).await.expect("a read"), None);
    let batch = take(&store).await;
    assert_eq!(batch.events.len(), 2);
    settle(&store, &batch, &[(1, Transition::Succeeded)]).await;
    in_order(&store).await;
}

/// Redis comes back as it was a while ago: what was taken since is there to be taken again, and
/// what was held of it settles nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_set_back_redis_has_is_taken_again() {
    let server = Server::start();
    let store = store(&RedisOptions::new(&server.url(0))).await;
    let kept = publish(&store, 3).await;
    server.run(&["SAVE"]);
    let lost = publish(&store, 2).await;
    let held = take(&store).await;
    assert_eq!(held.events.len(), 5);
    let server = Server::start_in(server.kill());

    let settled = store.work.settle(results(&held, &[(1, WAITING)])).await.expect("a settle");
    assert_eq!(settled.lost, [held.token]);
    // The cursor went back, which a node sees a second later at the latest.
    let until = Instant::now() + Duration::from_secs(20);
    let again = loop {
        match try_take(&store).await {
            Some(batch) => break batch,
            None => assert!(Instant::now() < until, "events to take"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let positions: Vec<_> = again.events.iter().map(|open| open.event.position).collect();
    assert_eq!(positions, kept);
    let new = publish(&store, 1).await;
    assert_eq!(new[0].n, lost[0].n, "a number that was lost is given again");
    assert_ne!(new[0], lost[0], "to an event of another time");
    settle(&store, &again, &[(1, Transition::Succeeded)]).await;
    in_order(&store).await;
    drop(server);
}

/// Out of memory, nothing new is accepted, and nothing is lost: what was accepted is finished.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_is_finished_without_memory_for_more() {
    let server = Server::start();
    let store = store(&RedisOptions::new(&server.url(0))).await;
    publish(&store, 20).await;
    let batch = take(&store).await;
    publish(&store, 20).await;
    server.run(&["CONFIG", "SET", "maxmemory", "1mb"]);

    let refused = store.intake.publish(events(1)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Full(_)), "{refused}");
    settle(&store, &batch, &[(1, WAITING), (2, Transition::Succeeded)]).await;
    let more = take(&store).await;
    assert_eq!(more.events.len(), 20);
    settle(&store, &more, &[(2, Transition::Succeeded)]).await;
    let entry = [NewAudit {
        id: AuditId::new(Timestamp::from_millis(1_700_000_000_000), 0, [0; 6]),
        class: AuditClass::Call,
        bytes: "{}".into(),
    }];
    let refused = store.audit.record(&entry, WhenFull::Refused).await.unwrap_err();
    assert!(matches!(refused, StoreError::Full(_)), "{refused}");
    store.audit.record(&entry, WhenFull::Written).await.expect("that of a cancel");
    let waiting = due(&store).await;
    let cancelled = store.operate.cancel(waiting.deliveries[0].key, EndReason::ByCaller).await;
    assert_eq!(cancelled.expect("a cancel"), Cancelled::InFlight);
    settle(&store, &waiting, &[(1, Transition::Failed(EndReason::AttemptsExhausted))]).await;
    let first = store.log.delivery(waiting.deliveries[0].key).await.expect("a read");
    assert_eq!(first.expect("a delivery").state, DeliveryState::Cancelled);

    server.run(&["CONFIG", "SET", "maxmemory", "0"]);
    publish(&store, 1).await;
    in_order(&store).await;
}

/// Scripts are sent again where Redis forgot them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgotten_scripts_are_sent_again() {
    let server = Server::start();
    let store = store(&RedisOptions::new(&server.url(0))).await;
    for _ in 0..3 {
        publish(&store, 2).await;
        server.run(&["SCRIPT", "FLUSH"]);
        let batch = take(&store).await;
        server.run(&["SCRIPT", "FLUSH"]);
        settle(&store, &batch, &[(1, Transition::Succeeded)]).await;
        server.run(&["SCRIPT", "FLUSH"]);
    }
    in_order(&store).await;
}

/// While Redis hangs, callers are told within seconds; when it goes on, so does everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_holds_nobody_up() {
    let server = Server::start();
    let store = store(&RedisOptions::new(&server.url(0))).await;
    publish(&store, 1).await;
    let stopped = server.stop();
    let node = claim("n1");
    let began = Instant::now();
    let (published, taken) =
        tokio::join!(store.intake.publish(events(1)), store.work.take(0, &node, 10, usize::MAX));
    for error in [published.map(|_| ()).unwrap_err(), taken.map(|_| ()).unwrap_err()] {
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    }
    assert!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
    drop(stopped);
    publish(&store, 1).await;
    let found = take(&store).await.events.len();
    assert!((2..=3).contains(&found), "{found}: the publish of unknown outcome may have run");
    in_order(&store).await;
}

/// A node learns with its next events which receivers asked another one to be left alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_take_tells_which_lanes_are_closed() {
    let options = RedisOptions { janitor: false, ..RedisOptions::new(&crate::fresh()) };
    let store = store(&options).await;
    let wait = Duration::from_secs(60);
    let close = LaneClose { lane: LaneNo(7), wait, reason: PendingReason::RateLimited };
    publish(&store, 1).await;
    let batch = take(&store).await;
    assert_eq!(batch.closed, []);
    let mut settlement = results(&batch, &[(7, WAITING)]);
    settlement.close.push(close);
    store.work.settle(settlement).await.expect("a settle");
    publish(&store, 1).await;
    let shown = take(&store).await.closed;
    let [shown] = shown.as_slice() else { panic!("{shown:?}") };
    assert_eq!((shown.lane, shown.reason), (close.lane, close.reason));
    assert!(shown.wait <= wait && shown.wait > wait / 2, "{shown:?}");
    options.ahead.advance(wait);
    publish(&store, 1).await;
    assert_eq!(take(&store).await.closed, [], "its time is over");
}

/// A connection that falls silent without breaking is left to itself, and another is taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_connection_is_replaced() {
    let (store, proxy, _) = behind_a_proxy().await;
    proxy.fall_silent();
    let silent = store.intake.publish(events(1)).await.unwrap_err();
    assert!(matches!(silent, StoreError::Unavailable(_)), "{silent}");
    publish(&store, 1).await;
    // The claims' connection learns of it by its own calls.
    let silent = store.work.take(0, &claim("n1"), 10, usize::MAX).await.unwrap_err();
    assert!(matches!(silent, StoreError::Unavailable(_)), "{silent}");
    let batch = take(&store).await;
    settle(&store, &batch, &[(1, Transition::Succeeded)]).await;
    in_order(&store).await;
}

/// A publish by one process wakes a node of another that waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bell_is_heard_in_another_process() {
    let options = RedisOptions::new(&crate::fresh());
    let ours = store(&options).await;
    let theirs = engine::open(options).await.expect("to open").store();
    let waits = tokio::spawn(async move {
        let began = Instant::now();
        theirs.work.wait(Duration::from_secs(60)).await;
        began.elapsed()
    });
    tokio::task::yield_now().await;
    publish(&ours, 1).await;
    let waited = waits.await.expect("a node that waits");
    assert!(waited < Duration::from_secs(30), "it slept for {waited:?}");
}
