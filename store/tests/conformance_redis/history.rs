//! History is kept within its bounds, and work is no history.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pregon_core::attempt::{AttemptRecord, End, RecordKind, Timing};
use pregon_core::clock::Timestamp;
use pregon_core::event::{Environment, Erasure, NewEvent};
use pregon_core::id::{
    ContractId, DeliveryKey, EventId, EventTypeId, LaneNo, NodeId, Position, TenantId,
};
use pregon_core::outcome::{AttemptOutcome, DeliveryState, EndReason};
use pregon_store::Store;
use pregon_store::audit::{
    AuditBound, AuditClass, AuditId, AuditKept, AuditRange, NewAudit, WhenFull,
};
use pregon_store::erase::{Erase, ErasePlace, EventErased};
use pregon_store::log::DeliveryQuery;
use pregon_store::operate::{Filled, Missing};
use pregon_store::redis::{History, RedisOptions};
use pregon_store::settlement::Transition;

use crate::queue::{due, events, in_order, publish, results, settle, store, take};
use crate::server::Server;

/// The record of an attempt that was acknowledged at once.
pub fn acknowledged(key: DeliveryKey) -> AttemptRecord {
    AttemptRecord {
        key,
        kind: RecordKind::Attempt,
        number: 1,
        tenant: TenantId::parse("acme").expect("an id"),
        event_type: EventTypeId::parse("order.captured").expect("a type"),
        environment: Environment::Live,
        node: NodeId::parse("n1").expect("an id"),
        start: Timestamp::from_millis(i64::try_from(key.position.ms).expect("a time")),
        timing: Timing::default(),
        outcome: Some(AttemptOutcome::Succeeded),
        end: Some(End { state: DeliveryState::Succeeded, reason: None }),
        error_class: None,
        reason: String::new(),
        status: 200,
        url: "https://receiver.example/hook".into(),
        remote: None,
        next_attempt: None,
        configuration_revision: 1,
        contract: ContractId::parse("standard_webhooks").expect("an id"),
        contract_revision: 0,
        secrets: Vec::new(),
        response: None,
        late: false,
        resent: false,
        headers: Default::default(),
    }
}

/// Looks until an event is gone; history is trimmed by a task that has its own pace.
pub async fn gone(store: &Store, position: Position) {
    let until = Instant::now() + Duration::from_secs(30);
    while store.log.event(position).await.expect("a read").is_some() {
        assert!(Instant::now() < until, "{position:?} is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What is left of an erased event goes with the history around it, and no earlier.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tombstone_goes_with_its_time() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let server = Server::start();
    let options = RedisOptions::new(&server.url(0));
    let store = store(&options).await;
    let mut positions = Vec::new();
    for _ in 0..3 {
        publish(&store, 1).await;
        let batch = take(&store).await;
        positions.push(batch.events[0].event.position);
        settle(&store, &batch, &[(1, Transition::Succeeded)]).await;
    }
    let erasure = Erasure { time: Timestamp::from_millis(0), reason: "asked".to_owned() };
    let erased = store.operate.erase_event(positions[1], &erasure).await;
    assert_eq!(erased.expect("an erasing"), EventErased::Done);
    options.ahead.advance(6 * DAY);
    publish(&store, 1).await;
    let batch = take(&store).await;
    let young = batch.events[0].event.position;
    settle(&store, &batch, &[(1, Transition::Succeeded)]).await;
    for position in &positions {
        assert!(store.log.event(*position).await.expect("a read").is_some(), "{position:?}");
    }
    options.ahead.advance(2 * DAY);
    for position in &positions {
        gone(&store, *position).await;
    }
    assert!(store.log.event(young).await.expect("a read").is_some());
    let redis::Value::Array(left) = server.run(&["KEYS", "*:body:*"]) else { panic!("no keys") };
    assert_eq!(left, []);
    let redis::Value::Array(left) = server.run(&["KEYS", "*:tomb"]) else { panic!("no keys") };
    assert_eq!(left, []);
    in_order(&store).await;
}

/// What is old goes, with all that tells of it; what is pending stays, however old, and what failed
/// stays as long as it is said to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_goes_and_work_stays() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let server = Server::start();
    let options = RedisOptions::new(&server.url(0));
    let store = store(&options).await;
    let exhausted = Transition::Failed(EndReason::AttemptsExhausted);
    let given =
        NewEvent { id: Some(EventId::parse_given("a").expect("an id")), ..events(1).remove(0) };
    store.intake.publish(vec![given]).await.expect("a publish");
    let batch = take(&store).await;
    let smooth = batch.events[0].event.position;
    let mut settlement = results(&batch, &[(1, Transition::Succeeded)]);
    let key = DeliveryKey { position: smooth, lane: LaneNo(1), replay: None };
    settlement.attempts.push((batch.token, acknowledged(key).into()));
    store.work.settle(settlement).await.expect("a settle");
    publish(&store, 1).await;
    let batch = take(&store).await;
    let failed = batch.events[0].event.position;
    settle(&store, &batch, &[(1, exhausted)]).await;
    publish(&store, 1).await;
    let batch = take(&store).await;
    let waiting = batch.events[0].event.position;
    settle(&store, &batch, &[(2, Transition::Retry(20 * DAY)), (3, Transition::Succeeded)]).await;
    publish(&store, 1).await;
    settle(&store, &take(&store).await, &[]).await;
    assert_eq!(store.log.attempts(key).await.expect("the attempts").len(), 1);
    let before = store.log.books(None).await.expect("the books");

    options.ahead.advance(8 * DAY);
    gone(&store, smooth).await;
    assert_eq!(store.log.delivery(key).await.expect("a read"), None);
    for kept in [failed, waiting] {
        assert!(store.log.event(kept).await.expect("a read").is_some(), "{kept:?}");
    }
    // Of the deliveries of what is spared the log may be gone: none is taken for missing.
    let missing = [(failed, 2), (waiting, 3), (waiting, 4)];
    let missing = missing.map(|(position, lane)| Missing { position, lane: LaneNo(lane) });
    let filled = store.operate.fill(&missing, true).await.expect("a fill");
    assert_eq!(filled, [Filled::EventGone; 3]);
    let query = |state| DeliveryQuery { state: Some(state), ..DeliveryQuery::default() };
    for (state, position) in [(DeliveryState::Failed, failed), (DeliveryState::Pending, waiting)] {
        let page = store.log.deliveries(&query(state), None, 10).await.expect("a page");
        let listed: Vec<_> = page.items.iter().map(|record| record.key.position).collect();
        assert_eq!(listed, [position], "{state:?} is listed though it was spared from trimming");
    }
    in_order(&store).await;

    options.ahead.advance(13 * DAY);
    let handed_out = due(&store).await;
    assert_eq!(handed_out.deliveries[0].key.position, waiting, "with its event");
    settle(&store, &handed_out, &[(2, Transition::Succeeded)]).await;
    gone(&store, waiting).await;
    assert!(store.log.event(failed).await.expect("a read").is_some());
    options.ahead.advance(30 * DAY);
    gone(&store, failed).await;
    in_order(&store).await;
    assert_eq!(store.log.books(None).await.expect("the books").succeeded, before.succeeded + 1);

    // What is left has a bound that no event moves: marks, books, owners of lanes, the configuration.
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let redis::Value::Array(keys) = server.run(&["KEYS", "*"]) else { panic!("no keys") };
        let left: BTreeSet<String> = keys
            .into_iter()
            .map(|key| redis::from_redis_value::<String>(key).expect("a key"))
            .filter(|key| !key.starts_with("{pgc}"))
            .map(|key| key.split_once(':').expect("a tag and a name").1.to_owned())
            .collect();
        // Streams that are empty stay, to go on with their numbers.
        let bound = ["bell", "elog", "ev", "jan", "log", "m", "n", "n:acme", "op", "own", "un:0"];
        if left.iter().all(|key| bound.contains(&key.as_str())) {
            break;
        }
        assert!(Instant::now() < until, "{left:?} is left");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.run(&["XLEN", "{pg0}:log"]), redis::Value::Int(0));
}

/// Chunks that something was erased from go as those in their streams do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_anew_goes_with_history() {
    let server = Server::start();
    let options = RedisOptions::new(&server.url(0));
    let store = store(&options).await;
    publish(&store, 2).await;
    let batch = take(&store).await;
    let mut settlement = results(&batch, &[(1, Transition::Succeeded)]);
    let keys = [0, 1].map(|i: usize| DeliveryKey {
        position: batch.events[i].event.position,
        lane: LaneNo(1),
        replay: None,
    });
    let globex = TenantId::parse("globex").expect("an id");
    let other = AttemptRecord { tenant: globex.clone(), ..acknowledged(keys[0]) };
    settlement.attempts.extend([other, acknowledged(keys[1])].map(|it| (batch.token, it.into())));
    store.work.settle(settlement).await.expect("a settle");
    let before = store.operate.now().await.expect("the time").plus(Duration::from_secs(1));
    let (erase, mut place) = (Erase { tenant: globex, before }, Some(ErasePlace::default()));
    while let Some(from) = place {
        place = store.operate.erase(&erase, from).await.expect("a step").next;
    }
    assert_eq!(server.run(&["XLEN", "{pg0}:log"]), redis::Value::Int(0));
    assert_eq!(server.run(&["HLEN", "{pg0}:re"]), redis::Value::Int(1));
    for (key, count) in keys.into_iter().zip([0, 1]) {
        assert_eq!(store.log.attempts(key).await.expect("the attempts").len(), count);
    }

    options.ahead.advance(Duration::from_secs(8 * 24 * 3600));
    gone(&store, keys[1].position).await;
    let until = Instant::now() + Duration::from_secs(30);
    while server.run(&["EXISTS", "{pg0}:re", "{pg0}:map"]) != redis::Value::Int(0) {
        assert!(Instant::now() < until, "a chunk is left, or what leads to it");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Of each class of entries of the audit log as many are kept as may be, in number and in bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_log_is_bounded_by_class() {
    let server = Server::start();
    let bound = AuditBound { entries: 20, bytes: 1 << 20 };
    let (calls, refusals) =
        (AuditBound { entries: 30, bytes: 1 << 20 }, AuditBound { entries: 1000, bytes: 5100 });
    let audit = AuditKept { calls, bound, refusals, ..AuditKept::default() };
    let history = History { audit, ..History::default() };
    let store = store(&RedisOptions { history, ..RedisOptions::new(&server.url(0)) }).await;
    let now = store.operate.now().await.expect("the time");
    let entry = |n: u32, class, len| NewAudit {
        id: AuditId::new(now, n, [0; 6]),
        class,
        bytes: vec![b'x'; len].into(),
    };
    for n in 0..300 {
        let call = entry(3 * n, AuditClass::Call, 10);
        let bound = entry(3 * n + 1, AuditClass::Bound, 11);
        let refusal = entry(3 * n + 2, AuditClass::Refusal, 100);
        store
            .audit
            .record(&[call, bound, refusal], WhenFull::Refused)
            .await
            .expect("to be recorded");
    }
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let (since, until_time) = (Timestamp::MIN, Timestamp::MAX);
        let range = AuditRange { since, until: until_time, before: None, limit: 1000 };
        let left = store.audit.entries(range).await.expect("the audit log");
        let of = |len| left.iter().filter(|it| it.bytes.len() == len).count();
        // Two bytes more are before each.
        if (of(10), of(11), of(100)) == (30, 20, 50) {
            assert_eq!(left[0].id, entry(899, AuditClass::Refusal, 0).id);
            break;
        }
        assert!(Instant::now() < until, "{} and {} are left", of(10), of(100));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.run(&["HLEN", "{pgc}:audit"]), redis::Value::Int(100));
    let size = server.run(&["HGET", "{pgc}:asize", "r"]);
    assert_eq!(size, redis::Value::BulkString(b"5100".to_vec()));
}
