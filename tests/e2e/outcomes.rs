//! What a receiver can answer, and what becomes of the delivery.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::shop::{Shop, subscription};
use crate::harness::{Answer, Receiver, World, eventually};
use crate::on_both;

on_both!(
    a_failure_is_tried_again_with_the_same_id_and_a_fresh_signature,
    gone_disables_the_subscription,
    retry_after_closes_the_whole_lane,
    redirects_are_not_followed,
    a_closed_port_and_a_name_that_is_not_there_are_told_apart,
    an_answer_that_never_comes_is_a_timeout,
);

async fn shop_with<W: World>(receiver: &Receiver) -> (W, Shop) {
    let pregon = W::in_memory().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", receiver, "/hook").await;
    (pregon, shop)
}

async fn a_failure_is_tried_again_with_the_same_id_and_a_fresh_signature<W: World>() {
    let receiver = Receiver::start(|request| match request.earlier {
        0 => Answer::Status(500),
        _ => Answer::Status(204),
    })
    .await;
    let (_pregon, shop) = shop_with::<W>(&receiver).await;
    let secret = shop.secret("erp").await;
    shop.publish("e1", "{}").await;
    let delivery = shop.delivery("e1", "erp", "SUCCEEDED").await;
    assert_eq!(delivery["attemptCount"], 2);

    let attempts = shop.attempts(&delivery).await;
    let facts: Vec<_> = attempts
        .iter()
        .map(|attempt| {
            let field = |name: &str| attempt[name].as_str().unwrap_or_default().to_owned();
            (attempt["number"].clone(), field("outcome"), field("errorClass"))
        })
        .collect();
    assert_eq!(
        facts,
        [
            (json!(1), "ATTEMPT_OUTCOME_RETRY".into(), "ERROR_CLASS_STATUS".into()),
            (json!(2), "ATTEMPT_OUTCOME_SUCCEEDED".into(), "ERROR_CLASS_UNSPECIFIED".to_owned()),
        ]
    );
    assert_eq!(attempts[0]["response"]["status"], 500);

    let [first, second] = receiver.requests("/hook").try_into().unwrap();
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
    assert_eq!(first.body, second.body);
    assert_ne!(first.header("webhook-timestamp"), second.header("webhook-timestamp"));
    crate::harness::verifier::assert_good(&[(&first, &secret), (&second, &secret)]).await;
    // The first delay of the contract is 5 s with a tenth of jitter, and never shorter.
    assert!(second.at - first.at >= Duration::from_millis(4500), "{:?}", second.at - first.at);
}

async fn gone_disables_the_subscription<W: World>() {
    let receiver = Receiver::start(|_| Answer::Status(410)).await;
    let (_pregon, shop) = shop_with::<W>(&receiver).await;
    shop.publish("e1", "{}").await;
    let delivery = shop.delivery("e1", "erp", "FAILED").await;
    assert_eq!(delivery["endReason"], "END_REASON_REFUSED");
    let erp = eventually("410 disables", || async {
        let name = json!({"name": subscription("erp")});
        let answer = shop.grpc.ok("SubscriptionService/GetSubscription", name).await;
        let erp = answer["subscription"].clone();
        if erp["state"] == "SUBSCRIPTION_STATE_DISABLED" { Ok(erp) } else { Err(erp) }
    })
    .await;
    assert!(erp["stateReason"].as_str().unwrap().contains("410"), "{erp}");
    assert!(erp["stateChange"]["time"].is_string(), "{erp}");

    // What is published afterwards matches nothing, once the node serves the change.
    let wait = json!({"revision": erp["revision"], "timeout": "30s"});
    assert_eq!(shop.grpc.ok("NodeService/WaitForRevision", wait).await["served"], true);
    shop.publish("e2", "{}").await;
    let report = shop.settled().await;
    assert_eq!(
        (&report["events"]["unmatched"], receiver.requests("/hook").len()),
        (&json!("1"), 1)
    );
}

async fn retry_after_closes_the_whole_lane<W: World>() {
    const WAIT: Duration = Duration::from_secs(8);
    let receiver =
        Receiver::start(|request| match (request.header("webhook-id"), request.earlier) {
            ("first", 0) => Answer::With(429, "retry-after", WAIT.as_secs().to_string()),
            _ => Answer::Status(204),
        })
        .await;
    let (_pregon, shop) = shop_with::<W>(&receiver).await;
    shop.publish("first", "{}").await;
    let waiting = eventually("the retry is put off", || async {
        let found = shop.deliveries(json!({})).await;
        let scheduled = found.first().is_some_and(|one| one["nextAttemptTime"].is_string());
        if scheduled { Ok(found[0].clone()) } else { Err(found) }
    })
    .await;
    assert_eq!(waiting["pendingReason"], "PENDING_REASON_RETRY_SCHEDULED");
    let attempts = shop.attempts(&waiting).await;
    assert_eq!(attempts[0]["outcome"], "ATTEMPT_OUTCOME_RETRY");

    // The receiver asked to be left alone, not only by this delivery.
    shop.publish("second", "{}").await;
    shop.delivery("first", "erp", "SUCCEEDED").await;
    shop.delivery("second", "erp", "SUCCEEDED").await;
    let requests = receiver.requests("/hook");
    let asked = requests[0].at;
    let early = requests[1..].iter().filter(|request| request.at - asked < WAIT);
    let early: Vec<_> = early.map(|request| request.header("webhook-id")).collect();
    assert!(early.is_empty(), "too early, whichever node has it: {early:?}");
    assert_eq!(requests.len(), 3);
}

async fn redirects_are_not_followed<W: World>() {
    let receiver = Receiver::start(|request| match request.path() {
        "/hook" => Answer::With(302, "location", "/elsewhere".into()),
        _ => Answer::Status(204),
    })
    .await;
    let (_pregon, shop) = shop_with::<W>(&receiver).await;
    shop.publish("e1", "{}").await;
    let attempt = first_attempt(&shop, "e1").await;
    assert_eq!(attempt["outcome"], "ATTEMPT_OUTCOME_RETRY");
    assert_eq!(attempt["errorClass"], "ERROR_CLASS_STATUS");
    assert_eq!(attempt["response"]["status"], 302);
    assert_eq!(receiver.requests("/elsewhere").len(), 0);
}

async fn a_closed_port_and_a_name_that_is_not_there_are_told_apart<W: World>() {
    let receiver = Receiver::friendly().await;
    let (_pregon, mut shop) = shop_with::<W>(&receiver).await;
    // A port that was free a moment ago.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    shop.subscribe_with("closed", json!({"url": closed})).await;
    // RFC 6761: names under `invalid` never resolve.
    shop.subscribe_with("nowhere", json!({"url": "http://pregon.invalid/"})).await;
    shop.publish("e1", "{}").await;
    for (id, class) in [("closed", "ERROR_CLASS_CONNECT"), ("nowhere", "ERROR_CLASS_DNS")] {
        let attempt = attempt_of(&shop, "e1", id).await;
        assert_eq!(attempt["outcome"], "ATTEMPT_OUTCOME_RETRY", "{attempt}");
        assert_eq!(attempt["errorClass"], class, "{attempt}");
    }
    shop.delivery("e1", "erp", "SUCCEEDED").await;
}

async fn an_answer_that_never_comes_is_a_timeout<W: World>() {
    let receiver = Receiver::start(|_| Answer::Never).await;
    let (_pregon, shop) = shop_with::<W>(&receiver).await;
    let published = Instant::now();
    shop.publish("e1", "{}").await;
    let attempt = first_attempt(&shop, "e1").await;
    assert_eq!(attempt["errorClass"], "ERROR_CLASS_TIMEOUT");
    assert_eq!(attempt["outcome"], "ATTEMPT_OUTCOME_RETRY");
    assert!(published.elapsed() >= Duration::from_secs(15), "the contract gives 15 s");
    assert_eq!(receiver.requests("/hook").len(), 1);
}

async fn first_attempt(shop: &Shop, event: &str) -> Value {
    attempt_of(shop, event, "erp").await
}

/// Waits for the first attempt of an event to a subscription to be in the log.
async fn attempt_of(shop: &Shop, event: &str, id: &str) -> Value {
    let filters = json!({
        "event": format!("tenants/acme/events/{event}"), "subscription": subscription(id),
    });
    eventually(&format!("an attempt of {event} to {id}"), || async {
        let found = shop.deliveries(filters.clone()).await;
        let Some(delivery) = found.first() else { return Err(json!("no delivery")) };
        let attempts = shop.attempts(delivery).await;
        attempts.first().cloned().ok_or_else(|| delivery.clone())
    })
    .await
}
