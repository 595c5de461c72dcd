//! Events flow through two nodes while one of them is killed again and again and Redis goes away:
//! nothing that was acknowledged is lost, and no more is repeated than was under way.
//!
//! What may come twice is counted as in the story of one process: what had reached the receiver
//! and was not yet settled, at each kill. Both nodes' share of it is in the count, although only
//! one was killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::harness::load::{self, Load, Publisher, Target, id, order};
use crate::harness::planes::{Plan, Planes};
use crate::harness::redis::{self, Keep};
use crate::harness::shop::{Shop, balanced};
use crate::harness::{Answer, Receiver, eventually, poll};

const KILLS: usize = 5;
/// After so many kills Redis is ended and started again.
const KILLS_BEFORE_REDIS: usize = 3;
/// Events where each second is confirmed.
const CONFIRMED_EVENTS: usize = 2_000;
/// The shortest that there is.
const LEASE: [&str; 2] = ["--lease", "16s"];
/// The same with a second for whoever looks, and a noisy machine's share.
const TAKEOVER: Duration = Duration::from_secs(16 + 1 + 15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_and_redis_die_under_load() {
    Box::pin(under_load(Keep::EverySecond)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_killed_under_load_and_redis_too() {
    Box::pin(under_load(Keep::Always)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_killed_under_load_and_redis_too_where_each_second_is_confirmed() {
    if redis::confirms() {
        Box::pin(under_load(Keep::Confirmed)).await;
    }
}

/// Redis is asked to end where it keeps what is a second old, and killed where it keeps everything.
async fn under_load(keep: Keep) {
    let events = match keep {
        // Four publishers get one batch confirmed a second, each.
        Keep::Confirmed => load::events().min(CONFIRMED_EVENTS),
        Keep::Nothing | Keep::EverySecond | Keep::Always => load::events(),
    };
    let mut planes = Planes::start(Plan { keep, node: &LEASE, ..Plan::default() }).await;
    let receiver = Receiver::counting(|_| Answer::Status(204)).await;
    let mut shop = Shop::open(planes.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    shop.served().await;
    let target = crate::harness::World::target(&planes);
    let (began, load) = (Instant::now(), Load::start(events, &target));

    let mut under_way = 0;
    for kill in 1..=KILLS {
        load.reach(events * (2 * kill - 1) / (2 * KILLS + 1)).await;
        under_way += unsettled(&shop, &receiver, &load, "a node is killed", async || {
            planes.nodes[1].kill().await;
        })
        .await;
        planes.nodes[1].start_again().await;
        target.moved(planes.events());
        shop.grpc = planes.grpcurl();
        if kill == KILLS_BEFORE_REDIS {
            load.reach(events * 2 * kill / (2 * KILLS + 1)).await;
            under_way += unsettled(&shop, &receiver, &load, "Redis is gone", async || match keep {
                Keep::Always | Keep::Confirmed => planes.redis.kill().await,
                Keep::Nothing | Keep::EverySecond => planes.redis.stop().await,
            })
            .await;
            planes.redis.start_again().await;
        }
    }
    let repeats = load.done().await;
    let published = began.elapsed();

    let all = events.to_string();
    let report = poll::within(load::patience(events), "everything is settled", || async {
        let report = shop.grpc.report("tenants/acme").await;
        let done = report["deliveries"]["succeeded"] == all.as_str();
        if done && report["deliveries"]["pending"] == "0" { Ok(report) } else { Err(report) }
    })
    .await;
    let settled = began.elapsed() - published;
    balanced(&report).unwrap();
    assert_eq!(report["events"]["accepted"], events.to_string());
    assert_eq!(report["events"]["matched"], events.to_string());
    let seen = receiver.seen("/hook");
    for n in 0..events {
        assert!(seen.contains_key(&id(n)), "{} was accepted and never received", id(n));
    }
    let requests: usize = seen.values().map(|seen| seen.count as usize).sum();
    let twice = requests - events;
    println!(
        "{keep:?}: {events} events in {published:?}, settled {settled:?} later; {KILLS} kills and \
         one Redis, {repeats} publishes repeated; {requests} requests: {twice} repeats of \
         {under_way} that were under way"
    );
    assert!(twice <= under_way, "{twice} repeated, {under_way} were under way");
    let most = seen.values().map(|seen| seen.count as usize).max().unwrap_or(0);
    assert!(most <= 2 + KILLS, "one event came {most} times");
}

/// What had reached the receiver and was not yet settled when something came to an end.
async fn unsettled(
    shop: &Shop,
    receiver: &Receiver,
    load: &Load,
    what: &str,
    end: impl AsyncFnOnce(),
) -> usize {
    // Asked before: what is settled between this and the end only widens the count.
    let report = shop.grpc.report("tenants/acme").await;
    let settled = report["deliveries"]["succeeded"].as_str().unwrap().parse::<usize>().unwrap();
    end().await;
    let (accepted, received) = (load.accepted(), receiver.distinct("/hook"));
    println!("{what}: {accepted} accepted, {received} received, {settled} settled before");
    received - settled
}

#[tokio::test]
async fn a_dead_nodes_work_is_taken_over_within_a_lease() {
    const EVENTS: usize = 300;
    let mut planes = Planes::start(Plan { node: &LEASE, ..Plan::default() }).await;
    // Slow enough that the node has work whenever it dies; at once afterwards, so that what is
    // measured is the takeover.
    let dead = Arc::new(AtomicBool::new(false));
    let fast = Arc::clone(&dead);
    let receiver = Receiver::counting(move |_| match fast.load(Ordering::Relaxed) {
        false => Answer::After(Duration::from_millis(300)),
        true => Answer::Status(204),
    })
    .await;
    let mut shop = Shop::open(planes.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    shop.served().await;
    // While the other one stands still, all work is this one's.
    planes.nodes[0].signal("STOP").await;
    let dying = Target::new(vec![planes.nodes[1].addr()]);
    let orders = (0..EVENTS).map(|n| order(id(n), "{}".into())).collect();
    Publisher::new(dying).publish(orders).await;
    eventually("the node has attempts under way", || async {
        let now = receiver.in_flight("/hook");
        if now >= 4 { Ok(()) } else { Err(now) }
    })
    .await;
    planes.nodes[1].kill().await;
    planes.nodes[0].signal("CONT").await;
    dead.store(true, Ordering::Relaxed);
    let (killed, before) = (Instant::now(), receiver.distinct("/hook"));
    let report = shop.settled().await;
    let took = killed.elapsed();
    assert_eq!(report["deliveries"]["succeeded"], EVENTS.to_string());
    let requests: u32 = receiver.seen("/hook").values().map(|seen| seen.count).sum();
    println!(
        "{before} of {EVENTS} before the kill; the rest was settled {took:?} after it, with a \
         lease of 16 s; {requests} requests"
    );
    assert!(took <= TAKEOVER, "{took:?}");
}
