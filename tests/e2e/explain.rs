//! "Where is my event?" and "how is my subscription?", as somebody on call asks them.

use serde_json::{Value, json};

use crate::harness::receiver::{Answer, Receiver};
use crate::harness::shop::{Shop, TYPE, subscription};
use crate::harness::{Request, World, eventually};
use crate::on_both;

on_both!(
    an_event_tells_where_it_went_and_why_not_elsewhere,
    a_delivery_that_is_retried_tells_what_comes_next,
    a_failing_and_a_healthy_subscription_are_told_apart,
);

/// Fails soon: a second attempt after a second, the last after an hour.
const PATIENT: &str = r#"
contract: patient
body: { data: "${event.data}" }
retry: { delays: [1s, 1h], jitter: 0 }
examples:
  - event: { type: order.captured, data: '{}' }
    expect: { body: '{"data":{}}' }
"#;

async fn explain(shop: &Shop, event: &str) -> Value {
    let name = format!("tenants/acme/events/{event}");
    shop.grpc.ok("DeliveryService/ExplainEvent", json!({"name": name})).await
}

async fn health(shop: &Shop, id: &str) -> Value {
    let request = json!({"name": subscription(id), "window": "600s"});
    shop.grpc.ok("SubscriptionService/GetSubscriptionHealth", request).await
}

/// What an explanation says of a subscription: whether it matched, and the checks that refuse.
fn of<'a>(story: &'a Value, id: &str) -> (&'a Value, Vec<(&'a str, &'a str)>) {
    let name = subscription(id);
    let all = story["subscriptions"].as_array().unwrap();
    let it = all.iter().find(|it| it["name"] == name.as_str());
    let it = it.unwrap_or_else(|| panic!("{id} in {story}"));
    let steps = it["matchSteps"].as_array().unwrap().iter().filter(|step| step["passed"] == false);
    let text = |step: &'a Value, field: &str| step[field].as_str().unwrap();
    (&it["matched"], steps.map(|step| (text(step, "check"), text(step, "detail"))).collect())
}

async fn an_event_tells_where_it_went_and_why_not_elsewhere<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let url = receiver.url("/hook");
    shop.subscribe("erp", &receiver, "/hook").await;
    shop.subscribe_with("sandbox", json!({"url": url, "environment": "ENVIRONMENT_TEST"})).await;
    shop.subscribe_with("billing", json!({"url": url, "event_types": ["invoice.*"]})).await;
    shop.subscribe_with("large", json!({"url": url, "filter": "event.data.amount > 1000"})).await;
    let strange = json!({"url": url, "filter": "event.data.customer.vip"});
    shop.subscribe_with("strange", strange).await;
    shop.publish("o1", r#"{"amount":7}"#).await;
    shop.delivery("o1", "erp", "SUCCEEDED").await;

    let story = explain(&shop, "o1").await;
    assert_eq!(story["event"]["json"], r#"{"amount":7}"#);
    assert_eq!(story["stage"], "EVENT_STAGE_MATCHED");
    assert_eq!(of(&story, "erp"), (&json!(true), vec![]));
    let (no, sandbox) = of(&story, "sandbox");
    assert_eq!((no, sandbox[0].0), (&json!(false), "environment"));
    assert_eq!(sandbox[0].1, "the event is LIVE, the subscription TEST");
    assert_eq!(of(&story, "billing").1[0].0, "event_types");
    assert_eq!(of(&story, "large").1, [("filter", "it does not hold")]);
    let strange = of(&story, "strange").1;
    assert!(strange[0].1.starts_with("it cannot be evaluated: "), "{strange:?}");
    let deliveries = story["deliveries"].as_array().unwrap();
    assert_eq!(deliveries.len(), 1);
    let attempts = deliveries[0]["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0]["outcome"], "ATTEMPT_OUTCOME_SUCCEEDED");
    assert_eq!(deliveries[0]["planned"], json!([]));

    // An event that nobody has.
    let nothing = json!({"name": "tenants/acme/events/nothing"});
    let refused = shop.grpc.refused("DeliveryService/ExplainEvent", nothing).await;
    assert_eq!((refused.code, refused.reason()), ("NOT_FOUND", "RESOURCE_NOT_FOUND"));
}

async fn a_delivery_that_is_retried_tells_what_comes_next<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::start(|_: &Request| Answer::Status(503)).await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let request = json!({"contract_id": "patient", "contract": {"document": PATIENT}});
    shop.write("ContractService/CreateContract", request).await;
    let fields = json!({"url": receiver.url("/busy"), "contract": "contracts/patient"});
    shop.subscribe_with("busy", fields).await;
    shop.publish("o1", "{}").await;
    let story = eventually("two attempts were made and a third is planned", || async {
        let story = explain(&shop, "o1").await;
        let it = &story["deliveries"][0];
        let planned = it["planned"].as_array().map_or(0, Vec::len);
        let attempts = it["attempts"].as_array().map_or(0, Vec::len);
        if (attempts, planned) == (2, 1) && it["delivery"]["attemptCount"] == 2 {
            Ok(story)
        } else {
            Err(story)
        }
    })
    .await;
    let it = &story["deliveries"][0];
    assert_eq!(it["delivery"]["pendingReason"], "PENDING_REASON_RETRY_SCHEDULED");
    for (i, attempt) in it["attempts"].as_array().unwrap().iter().enumerate() {
        assert_eq!(attempt["number"], i + 1);
        assert_eq!(attempt["response"]["status"], 503);
        assert_eq!(attempt["request"], Value::Null, "GetAttempt renders it");
    }
    let planned = &it["planned"][0];
    assert_eq!((&planned["attempt"], &planned["timeout"]), (&json!(3), &json!("15s")));
    assert_eq!(planned["earliest"], it["delivery"]["nextAttemptTime"]);
    assert_eq!(planned["earliest"], planned["latest"], "its time is decided");
    assert!(it["waitsFor"].as_str().unwrap().starts_with("the time of attempt 3"), "{it}");
    assert!(it["ends"].as_str().unwrap().contains("the failure of attempt 3"), "{it}");
}

async fn a_failing_and_a_healthy_subscription_are_told_apart<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::start(|request: &Request| match request.path() {
        "/fails" => Answer::Status(500),
        _ => Answer::Status(204),
    })
    .await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("good", &receiver, "/works").await;
    shop.subscribe("bad", &receiver, "/fails").await;
    shop.subscribe("idle", &receiver, "/paused").await;
    shop.turn("Pause", "idle").await;
    for i in 0..3 {
        shop.publish(&format!("e{i}"), "{}").await;
        shop.delivery(&format!("e{i}"), "good", "SUCCEEDED").await;
    }
    // A test send is no part of how a subscription does.
    let test = json!({"name": subscription("bad"), "event": {"type": TYPE, "json": "{}"}});
    shop.grpc.ok("SubscriptionService/TestSubscription", test).await;

    let good = health(&shop, "good").await;
    assert_eq!((&good["attempts"], &good["succeeded"]), (&json!(3), &json!(3)));
    assert_eq!((&good["successRate"], &good["consecutiveFailures"]), (&json!(1), &json!(0)));
    assert_eq!((&good["laneState"], &good["errors"]), (&json!("LANE_STATE_OPEN"), &json!([])));
    for rank in ["p50", "p90", "p99"] {
        for latency in ["attemptLatency", "deliveryLatency"] {
            assert!(good[latency][rank].as_str().is_some_and(|it| it.ends_with('s')), "{good}");
        }
    }
    assert_ne!(good["lastSuccessTime"], Value::Null);
    assert_eq!(
        (&good["lastFailureTime"], &good["backlog"]["waiting"]),
        (&Value::Null, &json!("0"))
    );

    let bad = eventually("three deliveries wait for their second attempt", || async {
        let bad = health(&shop, "bad").await;
        if bad["attempts"] == 3 && bad["backlog"]["waiting"] == "3" { Ok(bad) } else { Err(bad) }
    });
    let bad = bad.await;
    assert_eq!((&bad["successRate"], &bad["consecutiveFailures"]), (&json!(0), &json!(3)));
    let error = &bad["errors"][0];
    assert_eq!(error["errorClass"], "ERROR_CLASS_STATUS");
    assert_eq!((&error["count"], &error["lastStatus"]), (&json!(3), &json!(500)));
    assert_eq!(bad["lastSuccessTime"], Value::Null);
    assert_ne!(bad["backlog"]["oldestAge"], Value::Null);

    let idle = health(&shop, "idle").await;
    assert_eq!((&idle["laneState"], &idle["attempts"]), (&json!("LANE_STATE_PAUSED"), &json!(0)));
}
