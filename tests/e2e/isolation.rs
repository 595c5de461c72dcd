//! A receiver that never answers beside one that does. Every event goes to both; the hanging one
//! costs only itself: it holds a few slots of its own, and everything reaches the other one.
//!
//! How fast that is the benchmark asserts; here the times are only printed.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::harness::load::{Publisher, Target, order};
use crate::harness::receiver::Seen;
use crate::harness::shop::{Shop, subscription};
use crate::harness::{Answer, Receiver, World, eventually};
use crate::on_both;

on_both!(multi_thread: a_receiver_that_hangs_costs_only_itself);

/// Events a second.
const RATE: usize = 200;
/// Seconds of each stretch. A healthy lane's deliveries of many times over would have piled up
/// behind the hanging one's 15 s timeout.
const SECONDS: usize = 6;
/// Attempts that a lane starts with on each node; a receiver that never answers gets no more.
const LANE_START: usize = 8;

async fn a_receiver_that_hangs_costs_only_itself<W: World>() {
    let pregon = W::on_disk(&[]).await;
    let receiver = Receiver::counting(|request| match request.path() {
        "/hang" => Answer::Never,
        _ => Answer::Status(204),
    })
    .await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("healthy", &receiver, "/healthy").await;
    shop.served().await;
    let target = pregon.target();
    let alone = stretch("alone", &target, &receiver).await;

    shop.subscribe("hanging", &receiver, "/hang").await;
    shop.served().await;
    let beside = stretch("beside", &target, &receiver).await;
    println!("publish to receipt, p50 and p99: alone {alone:?}, beside one that hangs {beside:?}");

    let most = receiver.most_in_flight("/hang");
    let lane_start = W::NODES * LANE_START;
    assert!((1..=lane_start).contains(&most), "{most} attempts in flight to the one that hangs");
    let count = (SECONDS * RATE).to_string();
    let report = eventually("all healthy deliveries are settled", || async {
        let report = shop.grpc.report("tenants/acme").await;
        let succeeded = (2 * SECONDS * RATE).to_string();
        if report["deliveries"]["succeeded"] == succeeded { Ok(report) } else { Err(report) }
    })
    .await;
    assert_eq!(report["deliveries"]["pending"], count, "the hanging one's wait, every one");
    assert_eq!(report["deliveries"]["failed"], "0");
    crate::harness::shop::balanced(&report).unwrap();

    // What waits for a slot holds no claim: a node has little more than what is in flight.
    let nodes = eventually("no node holds a claim for what waits", || async {
        let answer = shop.grpc.ok("NodeService/ListNodes", json!({})).await;
        let nodes = answer["nodes"].as_array().unwrap();
        let claimed = |node: &Value| node["claimed"].as_str().unwrap().parse::<usize>().unwrap();
        let few = nodes.iter().all(|node| claimed(node) <= 4 * LANE_START);
        if few { Ok(nodes.clone()) } else { Err(answer) }
    })
    .await;
    for node in nodes {
        println!("in flight {}, claimed {}", node["inFlight"], node["claimed"]);
    }
    let waiting = json!({"subscription": subscription("hanging"), "page_size": 1000});
    let waiting = shop
        .grpc
        .ok("DeliveryService/ListDeliveries", {
            let mut request = waiting;
            request["parent"] = json!("tenants/acme");
            request
        })
        .await;
    let reasons = waiting["deliveries"].as_array().unwrap().iter().map(|one| {
        let reason = one["pendingReason"].as_str().unwrap();
        reason.trim_start_matches("PENDING_REASON_").to_owned()
    });
    let mut reasons: Vec<_> = reasons.collect();
    reasons.sort();
    let in_flight = reasons.iter().filter(|reason| *reason == "IN_FLIGHT").count();
    assert!(in_flight <= lane_start, "{in_flight} are said to be in flight");
    reasons.dedup();
    println!("the hanging one's deliveries are {reasons:?}");

    // And when the subscription goes, so does all that waited.
    let name = json!({"name": subscription("hanging")});
    shop.write("SubscriptionService/DeleteSubscription", name).await;
    let report = shop.settled().await;
    assert_eq!(report["deliveries"]["cancelled"], count);
}

/// Publishes at the rate, and waits until all is received; p50 and p99 of publish to receipt.
async fn stretch(name: &str, target: &Target, receiver: &Receiver) -> (Duration, Duration) {
    let mut publisher = Publisher::new(target.clone());
    let mut sent = Vec::with_capacity(SECONDS * RATE);
    let each = RATE / 20;
    let mut ticks = interval(Duration::from_millis(50));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for _ in 0..SECONDS * 20 {
        ticks.tick().await;
        let at = Instant::now();
        let ids = (sent.len()..sent.len() + each).map(|n| format!("{name}-{n}"));
        let orders: Vec<_> = ids.map(|id| order(id, "{\"amount\":1}".into())).collect();
        for order in &orders {
            let id = order.event.as_ref().expect("an order has an event").id.clone();
            sent.push((id, at));
        }
        publisher.publish(orders).await;
    }
    let seen = eventually(&format!("all events of {name} reach the healthy one"), || async {
        let seen = receiver.seen("/healthy");
        let missing = sent.iter().filter(|(id, _)| !seen.contains_key(id)).count();
        if missing == 0 { Ok(seen) } else { Err(missing) }
    })
    .await;
    let took = |(id, at): &(String, Instant)| {
        let Seen { first, count } = seen[id];
        assert_eq!(count, 1, "{id}");
        first.saturating_duration_since(*at)
    };
    let mut times: Vec<_> = sent.iter().map(took).collect();
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}
