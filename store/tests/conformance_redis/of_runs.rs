//! Runs: what waits and was never attempted, as a bit each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pregon_core::id::{DeliveryKey, LaneNo, Position, ReplayTag, TenantId};
use pregon_core::outcome::{DeliveryState, EndReason, PendingReason};
use pregon_store::Store;
use pregon_store::batch::{Batch, HeldDelivery, OpenEvent};
use pregon_store::erase::{Erase, ErasePlace};
use pregon_store::log::DeliveryQuery;
use pregon_store::operate::{Cancelled, LaneEnd, Replay, Replayed};
use pregon_store::redis::{self as engine, RedisOptions};
use pregon_store::settlement::{
    BatchSettle, DeliverySettle, EventOutcome, EventSettle, Settlement, Transition,
};
use pregon_store::work::DueRequest;

use crate::history::acknowledged;
use crate::queue::{LEASE, claim, due, in_order, publish, store, take, take_over};
use crate::server::Server;

pub const WAITING: Transition = Transition::Waiting(PendingReason::LaneFull);

pub fn key(position: Position, lane: u64) -> DeliveryKey {
    DeliveryKey { position, lane: LaneNo(lane), replay: None }
}

/// What is settled of a batch, with attempts that tell of the successes.
pub struct Results {
    batch: BatchSettle,
    settlement: Settlement,
    pub age: Duration,
}

impl Results {
    pub fn of(batch: &Batch) -> Self {
        let batch = BatchSettle { token: batch.token, events: Vec::new(), deliveries: Vec::new() };
        Self { batch, settlement: Settlement::default(), age: Duration::ZERO }
    }

    fn moved(
        &mut self,
        key: DeliveryKey,
        before: u32,
        to: Transition,
        shown: bool,
    ) -> DeliverySettle {
        let tried = !matches!(
            to,
            Transition::Waiting(_)
                | Transition::Later(..)
                | Transition::Held
                | Transition::Cancelled(_)
        );
        if to == Transition::Succeeded && shown {
            let mut record = acknowledged(key);
            record.number = before + 1;
            self.settlement.attempts.push((self.batch.token, Arc::new(record)));
        }
        let (tenant, age) = (TenantId::parse("acme").expect("an id"), self.age);
        DeliverySettle { key, tenant, attempts: before + u32::from(tried), age, to }
    }

    pub fn event(mut self, open: &OpenEvent, to: &[(u64, Transition)]) -> Self {
        let position = open.event.position;
        let moved = to.iter().map(|(lane, to)| self.moved(key(position, *lane), 0, *to, true));
        let outcome = EventOutcome::Matched(moved.collect());
        let tenant = open.event.tenant.clone();
        self.batch.events.push(EventSettle::new(position, tenant, outcome));
        self
    }

    pub fn delivery(mut self, held: &HeldDelivery, to: Transition, shown: bool) -> Self {
        let moved = self.moved(held.key, held.attempts, to, shown);
        self.batch.deliveries.push(moved);
        self
    }

    pub fn settlement(mut self) -> Settlement {
        self.settlement.batches.push(self.batch);
        self.settlement
    }

    pub async fn settle(self, store: &Store) {
        let settled = store.work.settle(self.settlement()).await.expect("a settle");
        assert_eq!(settled.lost, [], "no lease was lost");
    }
}

/// Settles all events of a batch so.
pub async fn settle_events(store: &Store, batch: &Batch, to: &[(u64, Transition)]) {
    let results = Results::of(batch);
    batch.events.iter().fold(results, |all, open| all.event(open, to)).settle(store).await;
}

/// Settles all deliveries of a batch so.
pub async fn settle_held(store: &Store, batch: &Batch, to: Transition) {
    let results = Results::of(batch);
    let all = batch.deliveries.iter().fold(results, |all, held| all.delivery(held, to, true));
    all.settle(store).await;
}

/// Publishes so many events, and has them wait in these lanes.
pub async fn wait(store: &Store, count: usize, lanes: &[u64]) -> Vec<Position> {
    let positions = publish(store, count).await;
    let to: Vec<_> = lanes.iter().map(|lane| (*lane, WAITING)).collect();
    let mut left = count;
    while left > 0 {
        let batch = take(store).await;
        left -= batch.events.len();
        settle_events(store, &batch, &to).await;
    }
    positions
}

fn keys(server: &Server, pattern: &str) -> usize {
    match server.run(&["KEYS", pattern]) {
        redis::Value::Array(keys) => keys.len(),
        other => panic!("{other:?}"),
    }
}

/// Runs need no records, and next to no room; what succeeds out of one leaves none either, and is
/// found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_a_bit() {
    const COUNT: usize = 5_120;
    let server = Server::start();
    let options = RedisOptions { janitor: false, ..RedisOptions::new(&server.url(0)) };
    let store = store(&options).await;
    let positions = wait(&store, COUNT, &[1, 2]).await;
    let none = |what: &str| assert_eq!(keys(&server, "{pg0}:x:*"), 0, "records of what {what}");
    none("waits");
    assert_eq!(keys(&server, "{pg0}:r:*"), COUNT / 256 + 1, "from number 1 on");
    let mut bytes = 0;
    for name in ["{pg0}:r:*", "{pg0}:lane:*", "{pg0}:rw"] {
        let redis::Value::Array(found) = server.run(&["KEYS", name]) else { panic!("no keys") };
        for key in found {
            let key: String = redis::from_redis_value(key).expect("a key");
            match server.run(&["MEMORY", "USAGE", &key]) {
                redis::Value::Int(more) => bytes += usize::try_from(more).expect("bytes"),
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(bytes <= 2 * COUNT * 8, "{bytes} bytes for {} deliveries", 2 * COUNT);
    let first = key(positions[0], 1);
    let record = store.log.delivery(first).await.expect("a read").expect("a delivery");
    assert_eq!((record.attempts, record.next_attempt), (0, Some(record.create_time)));
    assert_eq!(record.pending_reason, Some(PendingReason::LaneFull));
    in_order(&store).await;

    let batch = due(&store).await;
    assert!(batch.deliveries.iter().any(|held| held.key == first), "the oldest first");
    let record = store.log.delivery(first).await.expect("a read").expect("a delivery");
    assert_eq!(record.pending_reason, Some(PendingReason::InFlight));
    assert_eq!(record.node.expect("a node").as_str(), "n1");
    settle_held(&store, &batch, Transition::Succeeded).await;
    none("succeeded");
    let record = store.log.delivery(first).await.expect("a read").expect("a delivery");
    assert_eq!((record.state, record.attempts), (DeliveryState::Succeeded, 1));
    // What nothing tells of has a record.
    let batch = due(&store).await;
    let results = Results::of(&batch);
    let silent = batch
        .deliveries
        .iter()
        .fold(results, |all, held| all.delivery(held, Transition::Succeeded, false));
    silent.settle(&store).await;
    let some = batch.deliveries[0].key;
    let record = store.log.delivery(some).await.expect("a read").expect("a delivery");
    assert_eq!(record.state, DeliveryState::Succeeded);
    assert!(keys(&server, "{pg0}:x:*") > 0);
    in_order(&store).await;
}

/// No create time that is told of a run is off by more than a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_made_at_another_time_is_of_no_run() {
    let options = RedisOptions { janitor: false, ..RedisOptions::new(&crate::fresh()) };
    let store = store(&options).await;
    publish(&store, 60).await;
    let batch = take(&store).await;
    let mut made = BTreeMap::new();
    // Matched together, by and by, and settled in an order of its own.
    for (i, step) in [0u64, 700, 1_500, 100, 4_000, 900].into_iter().enumerate() {
        options.ahead.advance(Duration::from_millis(step));
        let now = store.operate.now().await.expect("the time");
        let mut results = Results::of(&batch);
        for open in &batch.events[i * 10..(i + 1) * 10] {
            results.age = Duration::from_millis(open.event.position.n % 7 * 300);
            made.insert(open.event.position, now.minus(results.age));
            results = results.event(open, &[(1, WAITING)]);
        }
        results.settle(&store).await;
    }
    let second = Duration::from_millis(1_020); // and what passes between two looks at the clock
    for (position, made) in made {
        let record = store.log.delivery(key(position, 1)).await.expect("a read").expect("one");
        let shown = record.create_time;
        assert!(shown <= made.plus(second) && made <= shown.plus(second), "{shown:?} for {made:?}");
    }
    in_order(&store).await;
    let mut all = BTreeSet::new();
    for _ in 0..3 {
        options.ahead.advance(Duration::from_secs(1));
        let request = DueRequest { want: 100, default_slots: 100, ..DueRequest::default() };
        let due = store.work.due(0, &claim("n1"), request).await.expect("what is due");
        all.extend(due.batch.into_iter().flat_map(|it| it.deliveries).map(|held| held.key));
    }
    assert_eq!(all.len(), 60);
}

/// An event that was fanned out in part makes nothing for the lanes that have it, whatever became
/// of that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_match_after_a_fan_out_goes_on_behind_its_cursor() {
    let options = RedisOptions { janitor: false, ..RedisOptions::new(&crate::fresh()) };
    let store = store(&options).await;
    publish(&store, 1).await;
    let batch = take(&store).await;
    let open = &batch.events[0];
    let mut results = Results::of(&batch).event(open, &[(1, WAITING), (2, WAITING)]);
    let EventOutcome::Matched(deliveries) = results.batch.events[0].outcome.clone() else {
        panic!("it was matched")
    };
    results.batch.events[0].outcome =
        EventOutcome::FannedOut { deliveries, cursor: LaneNo(2), done: false };
    results.settle(&store).await;
    settle_held(&store, &due(&store).await, Transition::Succeeded).await;
    options.ahead.advance(LEASE * 2);
    let again = take_over(&store).await.pop().expect("the event");
    assert_eq!(again.events[0].cursor, Some(LaneNo(2)));
    settle_events(&store, &again, &[(1, WAITING), (2, WAITING), (3, WAITING)]).await;
    let books = store.log.books(None).await.expect("the books");
    assert_eq!((books.matched, books.created, books.succeeded, books.pending), (1, 3, 2, 1));
    assert_eq!(due(&store).await.deliveries[0].key.lane, LaneNo(3));
    in_order(&store).await;
}

/// A lane ends in few steps, however much waits in it; what failed so is listed and can be
/// replayed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_ends_run_by_run() {
    const COUNT: usize = 40_000;
    let options = RedisOptions { janitor: false, ..RedisOptions::new(&crate::fresh()) };
    let store = store(&options).await;
    let positions = wait(&store, COUNT, &[1]).await;
    let from = store.watch.tip().await.expect("the tip");
    let end = |limit| LaneEnd {
        lane: LaneNo(1),
        state: DeliveryState::Failed,
        reason: EndReason::Expired,
        before: None,
        limit,
    };
    assert_eq!(store.operate.end_lane(end(10)).await.expect("a step"), 10);
    in_order(&store).await;
    assert_eq!(store.operate.end_lane(end(70_000)).await.expect("a step"), COUNT - 10);
    assert_eq!(store.operate.end_lane(end(70_000)).await.expect("a step"), 0);
    in_order(&store).await;
    let books = store.log.books(None).await.expect("the books");
    assert_eq!((books.failed, books.pending), (COUNT as u64, 0));

    let query = DeliveryQuery {
        state: Some(DeliveryState::Failed),
        tenant: Some(TenantId::parse("acme").expect("an id")),
        ..DeliveryQuery::default()
    };
    let (mut listed, mut place) = (Vec::new(), None::<String>);
    for _ in 0..4 {
        let page = store.log.deliveries(&query, place.as_deref(), 150).await.expect("a page");
        listed.extend(page.items.into_iter().map(|it| (it.key.position, it.end_reason)));
        place = page.next;
    }
    let expected: Vec<_> =
        positions.iter().rev().take(600).map(|at| (*at, Some(EndReason::Expired))).collect();
    assert_eq!(listed, expected);

    // Who watches is told of each.
    let (mut place, to) = (from, store.watch.tip().await.expect("the tip"));
    let mut seen = BTreeSet::new();
    while place != to {
        let query = pregon_store::watch::WatchQuery::default();
        match store.watch.read_on(&query, &place, &to, 0).await.expect("a read") {
            pregon_store::watch::Stretch::Read { seen: more, place: next } => {
                seen.extend(more.iter().map(|one| one.key().position));
                place = next;
            }
            pregon_store::watch::Stretch::Gap => panic!("it came too late"),
        }
    }
    assert_eq!(seen.len(), COUNT);

    let replay = |n: usize, where_needed| Replay {
        key: key(positions[n], 1),
        tag: ReplayTag::from_bits([0, 0, 0, 0, 1]),
        where_needed,
    };
    let made = store.operate.replay(&[replay(0, true), replay(0, true), replay(300, false)]).await;
    let made = made.expect("replays");
    assert!(matches!(made[0], Replayed::Created(_)), "{made:?}");
    assert!(matches!(made[1], Replayed::Existed(_)), "{made:?}");
    assert!(matches!(made[2], Replayed::Created(_)), "{made:?}");
    let cancelled = store.operate.cancel(key(positions[5], 1), EndReason::ByCaller).await;
    assert_eq!(cancelled.expect("a cancel"), Cancelled::Ended(DeliveryState::Failed));
    in_order(&store).await;
}

/// What waits in a run, or is held of one, is needed by no replay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pending_in_a_run_needs_no_replay() {
    let options = RedisOptions { janitor: false, ..RedisOptions::new(&crate::fresh()) };
    let store = store(&options).await;
    let at = wait(&store, 1, &[1]).await[0];
    let tag = |number| ReplayTag::from_bits([0, 0, 0, 0, number]);
    let first = Replay { key: key(at, 1), tag: tag(1), where_needed: false };
    let made = store.operate.replay(&[first]).await.expect("a replay");
    let Replayed::Created(replayed) = made[0] else { panic!("{made:?}") };
    store.operate.cancel(replayed, EndReason::ByCaller).await.expect("a cancel");
    let again = Replay { key: replayed, tag: tag(2), where_needed: true };
    assert_eq!(store.operate.replay(&[again]).await.expect("a replay"), [Replayed::Needless]);
    let batch = due(&store).await;
    assert_eq!(store.operate.replay(&[again]).await.expect("a replay"), [Replayed::Needless]);
    settle_held(&store, &batch, Transition::Cancelled(EndReason::ByCaller)).await;
    let made = store.operate.replay(&[again]).await.expect("a replay");
    assert!(matches!(made[0], Replayed::Created(_)), "{made:?}");
    in_order(&store).await;
}

/// What ended together is history: it goes with its events, what failed later than the rest; and
/// what waits stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_runs_go_with_their_events() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let server = Server::start();
    let options = RedisOptions::new(&server.url(0));
    let store = store(&options).await;
    let cancelled = wait(&store, 300, &[1]).await;
    let failed = wait(&store, 100, &[2]).await;
    let waiting = wait(&store, 100, &[3]).await;
    for (lane, state) in [(1, DeliveryState::Cancelled), (2, DeliveryState::Failed)] {
        let reason = EndReason::SubscriptionDeleted;
        let end = LaneEnd { lane: LaneNo(lane), state, reason, before: None, limit: 1_000 };
        store.operate.end_lane(end).await.expect("a step");
    }
    options.ahead.advance(8 * DAY);
    crate::history::gone(&store, cancelled[299]).await;
    crate::history::gone(&store, cancelled[0]).await;
    assert_eq!(store.log.delivery(key(cancelled[7], 1)).await.expect("a read"), None);
    let (state, lane) = (Some(DeliveryState::Failed), Some(LaneNo(2)));
    let query = DeliveryQuery { state, lane, ..DeliveryQuery::default() };
    let page = store.log.deliveries(&query, None, 200).await.expect("a page");
    assert_eq!(page.items.len(), 100, "kept longer");
    in_order(&store).await;
    options.ahead.advance(30 * DAY);
    crate::history::gone(&store, failed[99]).await;
    crate::history::gone(&store, failed[0]).await;
    assert_eq!(keys(&server, "{pg0}:fr:*"), 0);
    in_order(&store).await;

    let batch = due(&store).await;
    let mut handed = batch.deliveries.iter().map(|held| held.key.position).collect::<Vec<_>>();
    handed.sort();
    assert_eq!(handed, waiting, "with their events");
    settle_held(&store, &batch, Transition::Succeeded).await;
    crate::history::gone(&store, waiting[0]).await;
    crate::history::gone(&store, waiting[99]).await;
    assert_eq!(keys(&server, "{pg0}:r:*"), 0);
    in_order(&store).await;
}

/// A store of the release before runs has none while a node of it is there, and what it has is
/// delivered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_raised_once_all_nodes_know_runs() {
    let server = Server::start();
    let options = RedisOptions::new(&server.url(0));
    engine::setup(&options, 1).await.expect("to set up");
    server.run(&["HSET", "{pgc}:meta", "schema", "1"]);
    server.run(&["ZADD", "{pgc}:seen", "1", "older"]);
    let store = engine::open(options.clone()).await.expect("to open").store();
    wait(&store, 10, &[1]).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!((keys(&server, "{pg0}:x:*"), keys(&server, "{pg0}:r:*")), (10, 0));
    server.run(&["ZREM", "{pgc}:seen", "older"]);
    let schema = || server.run(&["HGET", "{pgc}:meta", "schema"]);
    let epoch = || match server.run(&["HGET", "{pg0}:m", "epoch"]) {
        redis::Value::BulkString(epoch) => epoch,
        other => panic!("{other:?}"),
    };
    let before = epoch();
    let place = store.watch.tip().await.expect("the tip");
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while epoch() == before {
        assert!(std::time::Instant::now() < until, "it is not raised");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(schema(), redis::Value::BulkString(b"2".to_vec()), "an older release refuses it");
    assert_eq!(
        epoch(),
        [&before[..], &[255]].concat(),
        "a process that knows no runs cannot repeat it"
    );
    let now = store.watch.tip().await.expect("the tip");
    assert_eq!(place.behind(&now), Some(0), "the same life");
    wait(&store, 10, &[1]).await;
    assert_eq!((keys(&server, "{pg0}:x:*"), keys(&server, "{pg0}:r:*")), (10, 1));
    assert_eq!(due(&store).await.deliveries.len(), 20);
    in_order(&store).await;
    server.run(&["HSET", "{pgc}:meta", "schema", "3"]);
    let refused = engine::open(options).await.map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("schema 3"), "{refused}");
}

/// When a delivery was made does not change by being handed out and put back, whatever else comes
/// into its lane meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_back_keeps_its_create_time() {
    let options = RedisOptions { janitor: false, ..RedisOptions::new(&crate::fresh()) };
    let store = store(&options).await;
    let mut known = BTreeMap::new();
    for _ in 0..8 {
        for position in wait(&store, 10, &[1]).await {
            let record = store.log.delivery(key(position, 1)).await.expect("a read");
            known.insert(position, record.expect("a delivery").create_time);
        }
        let request = DueRequest { want: 13, default_slots: 13, ..DueRequest::default() };
        let due = store.work.due(0, &claim("n1"), request).await.expect("what is due");
        options.ahead.advance(Duration::from_millis(700));
        wait(&store, 1, &[1]).await;
        for held in due.batch.iter().flat_map(|batch| &batch.deliveries) {
            if let Some(made) = known.get(&held.key.position) {
                assert_eq!((held.create_time, held.attempts), (*made, 0));
            }
        }
        settle_held(&store, &due.batch.expect("deliveries"), WAITING).await;
        for (position, made) in &known {
            let record = store.log.delivery(key(*position, 1)).await.expect("a read");
            assert_eq!(record.expect("a delivery").create_time, *made);
        }
    }
    in_order(&store).await;
}

/// What ended together is erased with its tenant's events, and what waits is erased later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_runs_are_erased() {
    let server = Server::start();
    let options = RedisOptions { janitor: false, ..RedisOptions::new(&server.url(0)) };
    let store = store(&options).await;
    let ended = wait(&store, 300, &[1]).await;
    let end = LaneEnd {
        lane: LaneNo(1),
        state: DeliveryState::Failed,
        reason: EndReason::TenantDeleted,
        before: None,
        limit: 290,
    };
    assert_eq!(store.operate.end_lane(end).await.expect("a step"), 290);
    options.ahead.advance(Duration::from_secs(1));
    let before = store.operate.now().await.expect("the time");
    let erase = Erase { tenant: TenantId::parse("acme").expect("an id"), before };
    let pass = async || {
        let (mut place, mut left) = (Some(ErasePlace::default()), 0);
        while let Some(from) = place {
            let done = store.operate.erase(&erase, from).await.expect("a step");
            (place, left) = (done.next, left + done.left);
        }
        left
    };
    assert_eq!(pass().await, 10, "what waits");
    assert_eq!(store.log.delivery(key(ended[0], 1)).await.expect("a read"), None);
    assert_eq!(keys(&server, "{pg0}:fr:*"), 0);
    in_order(&store).await;
    settle_held(&store, &due(&store).await, Transition::Succeeded).await;
    assert_eq!(pass().await, 0);
    assert_eq!(keys(&server, "{pg0}:r:*"), 0);
    in_order(&store).await;
}
