//! A receiver that fails gets probes and no load, and what waits loses no attempt; one that bears little
//! gets as much as it bears.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::poll::within;
use crate::harness::shop::{Shop, subscription};
use crate::harness::{Answer, Receiver, Request, World, eventually};
use crate::on_both;

on_both!(
    a_receiver_that_fails_is_probed_and_what_waits_loses_no_attempt,
    an_overloaded_receiver_is_drained,
);

/// A contract that tries every other second.
const OFTEN: &str = r#"
contract: often
body: { type: "${event.type}", data: "${event.data}" }
headers: { webhook-id: "${event.unique_id}" }
retry: { delays: [2s, 2s, 2s, 2s, 2s, 2s, 2s, 2s, 2s, 2s, 2s, 2s] }
examples:
  - event: { type: order.captured, data: '{}' }
    expect: { body: '{"type":"order.captured","data":{}}' }
"#;

/// Waits until the subscription's health is as wanted.
async fn health(shop: &Shop, what: &str, good: impl Fn(&Value) -> bool) -> Value {
    let request = json!({"name": subscription("erp")});
    eventually(what, || async {
        let health =
            shop.grpc.ok("SubscriptionService/GetSubscriptionHealth", request.clone()).await;
        if good(&health) { Ok(health) } else { Err(health) }
    })
    .await
}

async fn publish(shop: &Shop, name: &str, count: u32) {
    let one = |n: u32| {
        json!({
            "tenant": "tenants/acme", "min_revision": shop.revision,
            "event": {"id": format!("{name}{n}"), "type": "order.captured", "json": "{}"},
        })
    };
    let requests: Vec<_> = (0..count).map(one).collect();
    shop.grpc.ok("EventService/PublishBatch", json!({"requests": requests})).await;
}

/// The number of a delivery's attempts; zero is not shown.
fn attempts(delivery: &Value) -> u64 {
    delivery["attemptCount"].as_u64().unwrap_or(0)
}

async fn a_receiver_that_fails_is_probed_and_what_waits_loses_no_attempt<W: World>() {
    let pregon = W::in_memory().await;
    let broken = Arc::new(AtomicBool::new(true));
    let fails = Arc::clone(&broken);
    let receiver = Receiver::start(move |_| match fails.load(Ordering::Relaxed) {
        true => Answer::Status(500),
        false => Answer::Status(204),
    })
    .await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    shop.served().await;
    publish(&shop, "first", 64).await;
    let open = |health: &Value| health["breaker"] == "BREAKER_STATE_OPEN";
    let found = health(&shop, "the breaker is open", open).await;
    assert_eq!(found["laneState"], "LANE_STATE_CLOSED", "{found}");
    assert!(found["laneReason"].as_str().unwrap().contains("BREAKER_OPEN"), "{found}");
    assert!(found["closedUntil"].is_string(), "{found}");

    publish(&shop, "late", 50).await;
    let filters =
        json!({"event": "tenants/acme/events/late49", "subscription": subscription("erp")});
    eventually("the last waits for its receiver", || async {
        let found = shop.deliveries(filters.clone()).await;
        match found.as_slice() {
            [one]
                if one["pendingReason"] == "PENDING_REASON_BREAKER_OPEN" && attempts(one) == 0 =>
            {
                Ok(())
            }
            _ => Err(found),
        }
    })
    .await;
    let explained =
        shop.grpc.ok("DeliveryService/ExplainEvent", json!({"name": "tenants/acme/events/late49"}));
    let explained = explained.await;
    let waits_for = explained["deliveries"][0]["waitsFor"].as_str().unwrap_or_default();
    assert!(waits_for.contains("its receiver to answer again"), "{explained}");
    assert!(pregon.output().contains("the breaker opened"), "{}", pregon.output());

    broken.store(false, Ordering::Relaxed);
    let mut tried_once = 0;
    for n in 0..50 {
        let delivery = shop.delivery(&format!("late{n}"), "erp", "SUCCEEDED").await;
        tried_once += usize::from(attempts(&delivery) == 1);
    }
    // Of the others each was a probe.
    assert!(tried_once >= 35, "{tried_once} of 50");
    shop.settled().await;
    health(&shop, "it is open no more", |health| {
        health["breaker"] != "BREAKER_STATE_OPEN" && health["laneState"] == "LANE_STATE_OPEN"
    })
    .await;
    eventually("the breaker closes", || async {
        if pregon.output().contains("the breaker closed") { Ok(()) } else { Err(pregon.output()) }
    })
    .await;
}

/// Takes 20 in a second of its clock, and fails what is more.
fn bears_twenty() -> impl Fn(&Request) -> Answer + Send + Sync + 'static {
    let (begun, second) = (Instant::now(), Mutex::new((0, 0)));
    move |_: &Request| {
        let mut second = second.lock().unwrap();
        let now = begun.elapsed().as_secs();
        if second.0 != now {
            *second = (now, 0);
        }
        second.1 += 1;
        Answer::Status(if second.1 <= 20 { 204 } else { 503 })
    }
}

async fn an_overloaded_receiver_is_drained<W: World>() {
    const EVENTS: u32 = 300;
    let pregon = W::in_memory().await;
    let receiver = Receiver::counting(bears_twenty()).await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    // Whoever failed comes again soon: that is what kept it overloaded.
    let request = json!({"contract_id": "often", "contract": {"document": OFTEN}});
    shop.write("ContractService/CreateContract", request).await;
    let fields = json!({"url": receiver.url("/hook"), "contract": "contracts/often",
        "event_types": ["order.*"]});
    shop.subscribe_with("erp", fields).await;
    shop.served().await;
    let begun = Instant::now();
    publish(&shop, "e", EVENTS).await;
    let report = within(Duration::from_secs(120), "all are delivered", || async {
        let report = shop.grpc.report("tenants/acme").await;
        let done = report["deliveries"]["succeeded"] == json!(EVENTS.to_string());
        if done { Ok(report) } else { Err(report) }
    })
    .await;
    assert_eq!(report["deliveries"]["failed"], "0", "{report}");
    let requests: u32 = receiver.seen("/hook").values().map(|seen| seen.count).sum();
    println!("{EVENTS} delivered by {requests} requests in {:?}", begun.elapsed());
    // Without a breaker each is tried several times.
    assert!(requests < 2 * EVENTS, "{requests} requests for {EVENTS}");
}
