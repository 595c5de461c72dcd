//! How fast receivers are sent to: by what is set here, over all nodes, and by what they ask for.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::load::{Publisher, order};
use crate::harness::poll::within;
use crate::harness::shop::{Shop, subscription};
use crate::harness::{Answer, Receiver, World, eventually};
use crate::on_both;

on_both!(
    a_subscription_gets_no_more_than_its_rate,
    what_waits_for_a_rate_says_so_and_goes_on_without_it,
    a_host_gets_no_more_than_its_rate_whoever_sends_to_it,
    a_tenant_sends_no_more_than_its_rate,
    a_receiver_with_nothing_left_is_left_alone_until_its_lane_is_opened,
);

/// A rate, and what a second of it may come to: a twentieth more, and what a busy machine bunches.
const RATE: usize = 40;
const IN_A_SECOND: usize = RATE + RATE / 20 + RATE / 5;
const EVENTS: usize = 160;

async fn publish(world: &impl World, events: usize) {
    let mut publisher = Publisher::new(world.target());
    let all = (0..events).map(|n| order(format!("e{n}"), "{}".into())).collect();
    publisher.publish(all).await;
}

async fn received(receiver: &Receiver, path: &str, count: usize) {
    within(Duration::from_secs(60), "all events are received", || async {
        let received = receiver.distinct(path);
        if received == count { Ok(()) } else { Err(received) }
    })
    .await;
}

/// The most requests to these paths that came within a second.
fn busiest(receiver: &Receiver, paths: &[&str]) -> usize {
    let mut at: Vec<Instant> = paths
        .iter()
        .flat_map(|path| receiver.requests(path).into_iter().map(|request| request.at))
        .collect();
    at.sort();
    let second = Duration::from_secs(1);
    let from =
        |first: Instant| at.iter().filter(|at| **at >= first && **at - first < second).count();
    at.iter().map(|first| from(*first)).max().unwrap_or(0)
}

async fn a_subscription_gets_no_more_than_its_rate<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let limited = json!({"url": receiver.url("/limited"), "rate_limit": {"per_second": RATE}});
    let answer = shop.subscribe_with("limited", limited).await;
    assert_eq!(answer["subscription"]["rateLimit"], json!({"perSecond": RATE, "burst": 0}));
    shop.subscribe("free", &receiver, "/free").await;
    shop.served().await;
    publish(&pregon, EVENTS).await;
    received(&receiver, "/free", EVENTS).await;
    assert!(receiver.distinct("/limited") < EVENTS, "others do not wait for it");
    received(&receiver, "/limited", EVENTS).await;
    let busiest = busiest(&receiver, &["/limited"]);
    println!("{busiest} requests in the busiest second, at {RATE} a second");
    assert!(busiest <= IN_A_SECOND, "{busiest} in a second");
    let report = shop.settled().await;
    assert_eq!(report["deliveries"]["succeeded"], (2 * EVENTS).to_string(), "{report}");
    let limited = receiver.requests("/limited").len();
    assert_eq!(limited, EVENTS, "each was sent once");
}

async fn what_waits_for_a_rate_says_so_and_goes_on_without_it<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let limited = json!({"url": receiver.url("/hook"), "rate_limit": {"per_second": 0.5}});
    shop.subscribe_with("erp", limited).await;
    shop.served().await;
    publish(&pregon, 40).await;
    let waiting = eventually("some wait for the rate", || async {
        let found = shop.deliveries(json!({})).await;
        let rated = |one: &&Value| one["pendingReason"] == "PENDING_REASON_RATE_LIMITED";
        match found.iter().find(rated) {
            Some(one) => Ok(one.clone()),
            None => Err(found),
        }
    })
    .await;
    assert_eq!(waiting["attemptCount"], 0, "waiting costs no attempt: {waiting}");
    let explain = json!({"name": waiting["event"]});
    let story = shop.grpc.ok("DeliveryService/ExplainEvent", explain).await.to_string();
    assert!(story.contains("a rate: its subscription's, its tenant's or its host's"), "{story}");
    let update = json!({
        "subscription": {"name": subscription("erp")},
        "update_mask": {"paths": ["rate_limit"]},
    });
    shop.write("SubscriptionService/UpdateSubscription", update).await;
    received(&receiver, "/hook", 40).await;
    shop.settled().await;
}

async fn a_host_gets_no_more_than_its_rate_whoever_sends_to_it<W: World>() {
    let rule = format!("127.0.0.0/8={RATE}");
    let pregon = W::on_disk(&["--host-rate", &rule]).await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    for path in ["a", "b"] {
        shop.subscribe(path, &receiver, &format!("/{path}")).await;
    }
    shop.served().await;
    publish(&pregon, EVENTS / 2).await;
    for path in ["/a", "/b"] {
        received(&receiver, path, EVENTS / 2).await;
    }
    let busiest = busiest(&receiver, &["/a", "/b"]);
    assert!(busiest <= IN_A_SECOND, "{busiest} in a second");
}

async fn a_tenant_sends_no_more_than_its_rate<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let limits = json!({"name": "tenants/acme", "limits": {"attempts_per_second": RATE}});
    let answer = shop.write("TenantService/UpdateTenant", json!({"tenant": limits})).await;
    assert_eq!(answer["tenant"]["limits"]["attemptsPerSecond"], RATE);
    for path in ["a", "b"] {
        shop.subscribe(path, &receiver, &format!("/{path}")).await;
    }
    shop.served().await;
    publish(&pregon, EVENTS / 2).await;
    for path in ["/a", "/b"] {
        received(&receiver, path, EVENTS / 2).await;
    }
    let busiest = busiest(&receiver, &["/a", "/b"]);
    assert!(busiest <= IN_A_SECOND, "{busiest} in a second");
}

async fn a_receiver_with_nothing_left_is_left_alone_until_its_lane_is_opened<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::start(|request| match request.header("webhook-id") {
        "first" => Answer::With(200, "ratelimit", "\"default\";r=0;t=1800".into()),
        _ => Answer::Status(204),
    })
    .await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    shop.publish("first", "{}").await;
    shop.delivery("first", "erp", "SUCCEEDED").await;
    let health = || async {
        let name = json!({"name": subscription("erp")});
        shop.grpc.ok("SubscriptionService/GetSubscriptionHealth", name).await
    };
    eventually("the lane is closed", || async {
        let health = health().await;
        if health["laneState"] == "LANE_STATE_CLOSED" { Ok(()) } else { Err(health) }
    })
    .await;
    // Whichever node has it: each learns of it with what it takes.
    shop.publish("second", "{}").await;
    let filters = json!({"event": "tenants/acme/events/second"});
    eventually("the second waits", || async {
        let found = shop.deliveries(filters.clone()).await;
        match found.as_slice() {
            [one] if one["pendingReason"] == "PENDING_REASON_RATE_LIMITED" => Ok(()),
            _ => Err(found),
        }
    })
    .await;
    assert_eq!(receiver.requests("/hook").len(), 1);
    let answer =
        shop.write("SubscriptionService/OpenLane", json!({"name": subscription("erp")})).await;
    assert_eq!(answer["subscription"]["state"], "SUBSCRIPTION_STATE_ACTIVE");
    let second = shop.delivery("second", "erp", "SUCCEEDED").await;
    assert_eq!(second["attemptCount"], 1, "the pause burned none: {second}");
    shop.publish("third", "{}").await;
    shop.delivery("third", "erp", "SUCCEEDED").await;

    shop.turn("Pause", "erp").await;
    let name = json!({"name": subscription("erp")});
    let refused = shop.grpc.refused("SubscriptionService/OpenLane", name).await;
    assert_eq!((refused.code, refused.reason()), ("FAILED_PRECONDITION", "STATE_CONFLICT"));
}
