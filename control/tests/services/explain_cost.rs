//! What ExplainEvent costs with many events stored, on every store. It measures and asserts no
//! time: `docs/benchmarks.md` has the command and what it printed.
//!
//! One of a hundred subscriptions takes every event, the others refuse it by filters of which no
//! two are the same text; then the tenant has 1,000 of them, then 10,000.

use std::process::Stdio;
use std::time::{Duration, Instant};

use pregon_core::clock::{ManualClock, SharedClock};
use pregon_core::id::LaneNo;
use pregon_proto::v1;
use pregon_proto::v1::delivery_service_server::DeliveryService as _;
use pregon_store::Store;
use pregon_store::embedded::{EmbeddedOptions, Location, open};
use pregon_store::redis::{self as engine, RedisOptions};
use pregon_store::settlement::Transition;
use tokio::process::{Child, Command};

use crate::world::{START, World, ask, new_event, subscription};

/// Events that are published, and settled, at once.
const AT_ONCE: usize = 256;
/// Calls that a line of the table is made of, and the first one.
const CALLS: usize = 400;

/// A number out of the environment.
fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |it| it.parse().unwrap())
}

/// A Redis in a directory that keeps nothing; it ends with this value.
pub(crate) async fn redis(directory: &tempfile::TempDir) -> (Child, Store) {
    let socket = directory.path().join("redis");
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]);
    command.arg(&socket).stdout(Stdio::null()).kill_on_drop(true);
    let server = command.spawn().unwrap();
    let options = RedisOptions::new(&format!("redis+unix://{}", socket.display()));
    let until = Instant::now() + Duration::from_secs(10);
    while let Err(error) = engine::setup(&options, 1).await {
        assert!(Instant::now() < until, "{error}");
        tokio::task::yield_now().await;
    }
    (server, engine::open(options).await.unwrap().store())
}

/// Makes subscriptions with filters that no event here passes, each with a text of its own.
async fn refusing(world: &World, numbers: std::ops::Range<usize>) {
    for i in numbers {
        let it = v1::Subscription {
            filter: format!("event.data.amount > {}", 100 + i),
            ..subscription()
        };
        world.subscribe("acme", &format!("s{i}"), it).await;
    }
}

/// Stores events that one lane took, one in ten batches with a retry to come.
async fn fill(world: &World, count: usize, lane: LaneNo) {
    for first in (0..count).step_by(AT_ONCE) {
        let events = (first..count.min(first + AT_ONCE))
            .map(|i| new_event("acme", Some(&format!("o{i}")), "{\"amount\":7}"));
        world.store.intake.publish(events.collect()).await.unwrap();
        let to = match first % (10 * AT_ONCE) {
            0 => Transition::Retry(Duration::from_secs(5)),
            _ => Transition::Succeeded,
        };
        world.settle_new(&[lane], to).await;
    }
}

/// Asks for events that are spread over all, and prints what the first call and the others took.
async fn measure(world: &World, store: &str, events: usize, subscriptions: usize) {
    let mut took = Vec::new();
    for i in (0..events).step_by((events / CALLS).max(1)) {
        let name = format!("tenants/acme/events/o{i}");
        let start = Instant::now();
        let request = v1::ExplainEventRequest { name };
        let answer = ask!(world.deliveries, explain_event, request).unwrap();
        took.push(start.elapsed());
        let others: i64 = answer.others.iter().map(|it| i64::from(it.count)).sum();
        let reported = i64::try_from(answer.subscriptions.len()).unwrap() + others;
        assert_eq!(usize::try_from(reported).unwrap(), subscriptions);
        assert_eq!(answer.deliveries.len(), 1);
    }
    let first = took.remove(0);
    took.sort();
    let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
    let ms = |it: Duration| it.as_secs_f64() * 1000.0;
    println!(
        "| {store} | {events} | {subscriptions} | {:.2} | {:.2} / {:.2} / {:.2} / {:.2} |",
        ms(first),
        ms(took[0]),
        ms(at(50)),
        ms(at(99)),
        ms(at(100)),
    );
}

#[tokio::test]
#[ignore = "fills three stores for some minutes; it measures"]
async fn an_explanation_among_many_events() {
    let events = number("PREGON_TEST_EVENTS", 1_000_000);
    let most = number("PREGON_TEST_SUBSCRIPTIONS", 10_000);
    let directory = tempfile::tempdir().unwrap();
    let clock: SharedClock = ManualClock::at(START);
    let (_server, redis) = redis(&directory).await;
    let place = Location::Directory(directory.path().join("store"));
    let embedded = open(EmbeddedOptions::new(place, clock)).unwrap();
    println!("| store | events | subscriptions | first call, ms | min / p50 / p99 / max, ms |");
    for (name, store) in
        [("memory", None), ("directory", Some(embedded.store())), ("Redis", Some(redis))]
    {
        let world = store.map_or_else(World::new, World::over);
        world.tenant("acme").await;
        world.allow(10_000).await;
        world.subscription("acme", "erp").await;
        let lane = world.lane("tenants/acme/subscriptions/erp").await;
        fill(&world, events, lane).await;
        let mut made = 1;
        for subscriptions in [100, 1000, 10_000].into_iter().filter(|it| *it <= most) {
            refusing(&world, made..subscriptions).await;
            made = subscriptions;
            measure(&world, name, events, subscriptions).await;
        }
    }
    embedded.close();
}
