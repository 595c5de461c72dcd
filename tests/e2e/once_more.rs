//! After an outage: what waits is tried at once, what was missed is delivered, what was called off
//! is replayed, by as many callers and as often as they like; and no event is delivered twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::harness::load::{Publisher, id, order};
use crate::harness::shop::{Shop, balanced, subscription};
use crate::harness::{Answer, Receiver, World, eventually};
use crate::on_both;

on_both!(multi_thread:
    what_waits_is_tried_at_once,
    what_was_missed_is_delivered_once,
    what_a_filter_kept_back_is_delivered,
    a_kill_in_between_makes_no_double,
    a_replay_by_filter_makes_no_double,
    a_wrong_call_says_why,
);

/// More than a batch or two of each call.
const MANY: usize = 450;

const PATIENT: &str = r#"
contract: patient
body: { data: "${event.data}" }
headers: { webhook-id: "${event.unique_id}" }
retry: { delays: [1h], jitter: 0 }
examples:
  - event: { type: order.captured, data: '{}' }
    expect: { body: '{"data":{}}' }
"#;

async fn publish<W: World>(pregon: &W, shop: &Shop, count: usize) {
    let mut publisher = Publisher::new(pregon.target());
    let requests = (0..count).map(|n| {
        let mut request = order(id(n), format!("{n}"));
        request.min_revision = shop.revision.parse().expect("a revision");
        request
    });
    publisher.publish(requests.collect()).await;
}

/// The last message of a run that came to its end.
async fn run(shop: &Shop, method: &str, request: &Value) -> Value {
    let (mut messages, end) = shop.grpc.stream(method, request).await;
    end.unwrap_or_else(|refused| panic!("{method} {request}: {refused}"));
    messages.pop().expect("a message")
}

fn count(message: &Value, field: &str) -> usize {
    message[field].as_str().expect("a count").parse().expect("a number")
}

/// Waits until all events are matched.
async fn matched(shop: &Shop) {
    eventually("all events are matched", || async {
        let report = shop.grpc.report("tenants/acme").await;
        if report["events"]["awaitingMatch"] == "0" { Ok(()) } else { Err(report) }
    })
    .await;
}

/// Each event came so often to a path.
fn each_came(receiver: &Receiver, path: &str, events: usize, times: u32) {
    let seen = receiver.seen(path);
    assert_eq!(seen.len(), events);
    let other: Vec<_> = seen.iter().filter(|(_, seen)| seen.count != times).collect();
    assert!(other.is_empty(), "{times} times: {other:?}");
}

async fn what_waits_is_tried_at_once<W: World>() {
    const FEW: usize = 3;
    let pregon = W::in_memory().await;
    let well = Arc::new(AtomicBool::new(false));
    let answers = well.clone();
    let receiver = Receiver::counting(move |_| match answers.load(Ordering::SeqCst) {
        true => Answer::Status(204),
        false => Answer::Status(500),
    })
    .await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let contract = json!({"contract_id": "patient", "contract": {"document": PATIENT}});
    shop.write("ContractService/CreateContract", contract).await;
    let fields = json!({"url": receiver.url("/hook"), "contract": "contracts/patient"});
    shop.subscribe_with("erp", fields).await;
    publish(&pregon, &shop, FEW).await;
    let waiting = eventually("all wait for an hour", || async {
        let found = shop.deliveries(json!({"state": "DELIVERY_STATE_PENDING"})).await;
        let waits = |it: &&Value| it["pendingReason"] == "PENDING_REASON_RETRY_SCHEDULED";
        match found.iter().filter(waits).count() {
            FEW => Ok(found),
            _ => Err(found),
        }
    })
    .await;
    well.store(true, Ordering::SeqCst);

    let all = json!({"parent": "tenants/acme", "subscription": subscription("erp"),
        "last_answer": "ANSWER_CLASS_SERVER_ERROR"});
    let other = json!({"parent": "tenants/acme", "last_answer": "ANSWER_CLASS_CLIENT_ERROR"});
    let mut dry = all.clone();
    dry["validate_only"] = json!(true);
    let counted = run(&shop, "DeliveryService/RetryNow", &dry).await;
    assert_eq!((count(&counted, "matched"), count(&counted, "done")), (FEW, 0), "{counted}");
    let none = run(&shop, "DeliveryService/RetryNow", &other).await;
    assert_eq!(count(&none, "matched"), 0, "{none}");
    let one = json!({"parent": "tenants/acme", "delivery": waiting[0]["name"]});
    let done = run(&shop, "DeliveryService/RetryNow", &one).await;
    assert_eq!((count(&done, "matched"), count(&done, "done")), (1, 1), "{done}");
    let (left, right) = tokio::join!(
        run(&shop, "DeliveryService/RetryNow", &all),
        run(&shop, "DeliveryService/RetryNow", &all),
    );
    assert_eq!(count(&left, "done") + count(&right, "done"), FEW - 1, "{left} {right}");
    let report = shop.settled().await;
    assert_eq!(report["deliveries"]["created"], FEW.to_string());
    for old in &waiting {
        let name = json!({"name": old["name"]});
        let now = shop.grpc.ok("DeliveryService/GetDelivery", name).await;
        assert_eq!(now["delivery"]["state"], "DELIVERY_STATE_SUCCEEDED", "{now}");
        assert_eq!(now["delivery"]["attemptCount"], 2, "{now}");
    }
    each_came(&receiver, "/hook", FEW, 2);
    let (_, end) = shop.grpc.stream("DeliveryService/RetryNow", &one).await;
    assert_eq!(end.unwrap_err().code, "FAILED_PRECONDITION");
}

async fn what_was_missed_is_delivered_once<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::counting(|_| Answer::Status(204)).await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    shop.turn("Disable", "erp").await;
    publish(&pregon, &shop, MANY).await;
    matched(&shop).await;
    let (_, end) = shop
        .grpc
        .stream("DeliveryService/DeliverMissing", &json!({"subscription": subscription("erp")}))
        .await;
    assert_eq!(end.unwrap_err().code, "FAILED_PRECONDITION", "it is disabled");
    shop.turn("Resume", "erp").await;
    shop.served().await;

    let all = json!({"subscription": subscription("erp")});
    let mut dry = all.clone();
    dry["validate_only"] = json!(true);
    let counted = run(&shop, "DeliveryService/DeliverMissing", &dry).await;
    let of = |message: &Value| ["seen", "matched", "missing", "done"].map(|it| count(message, it));
    assert_eq!(of(&counted), [MANY, MANY, MANY, 0], "{counted}");
    let (left, right) = tokio::join!(
        run(&shop, "DeliveryService/DeliverMissing", &all),
        run(&shop, "DeliveryService/DeliverMissing", &all),
    );
    assert_eq!(count(&left, "done") + count(&right, "done"), MANY, "{left} {right}");
    for _ in 0..2 {
        let again = run(&shop, "DeliveryService/DeliverMissing", &all).await;
        assert_eq!(of(&again), [MANY, MANY, 0, 0], "{again}");
    }
    let report = shop.settled().await;
    assert_eq!(report["deliveries"]["created"], MANY.to_string());
    assert_eq!(report["events"]["matched"], MANY.to_string(), "somebody wanted them");
    each_came(&receiver, "/hook", MANY, 1);
    let again = run(&shop, "DeliveryService/DeliverMissing", &all).await;
    assert_eq!(of(&again), [MANY, MANY, 0, 0], "{again}");

    // Another subscription comes late; the first has all it wants.
    shop.subscribe("late", &receiver, "/late").await;
    shop.served().await;
    let few = json!({"subscription": subscription("late"), "limit": 7});
    let some = run(&shop, "DeliveryService/DeliverMissing", &few).await;
    assert_eq!(count(&some, "done"), 7, "{some}");
    let rest = json!({"subscription": subscription("late")});
    let rest = run(&shop, "DeliveryService/DeliverMissing", &rest).await;
    assert_eq!(of(&rest), [MANY, MANY, MANY - 7, MANY - 7], "{rest}");
    shop.settled().await;
    each_came(&receiver, "/late", MANY, 1);
    each_came(&receiver, "/hook", MANY, 1);
}

async fn what_a_filter_kept_back_is_delivered<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::counting(|_| Answer::Status(204)).await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let fields = json!({"url": receiver.url("/hook"), "filter": "event.data.total > 100.0"});
    shop.subscribe_with("erp", fields).await;
    for (id, total) in [("small", "5.0"), ("middling", "50.0"), ("large", "500.0")] {
        let mut request = shop.request(id, &format!(r#"{{"total":{total}}}"#));
        request["event"]["attributes"] = json!({"shop": if id == "small" { "a" } else { "b" }});
        shop.grpc.ok("EventService/Publish", request).await;
    }
    shop.settled().await;
    each_came(&receiver, "/hook", 1, 1);
    let mended =
        json!({"subscription": {"name": subscription("erp"), "filter": "event.data.total > 1.0"}});
    shop.write("SubscriptionService/UpdateSubscription", mended).await;
    let one = json!({"subscription": subscription("erp"), "attributes": {"shop": "a"}});
    let done = run(&shop, "DeliveryService/DeliverMissing", &one).await;
    let of = |message: &Value| ["seen", "matched", "missing", "done"].map(|it| count(message, it));
    assert_eq!(of(&done), [1, 1, 1, 1], "{done}");
    let all =
        json!({"subscription": subscription("erp"), "event_type": "eventTypes/order.captured"});
    let done = run(&shop, "DeliveryService/DeliverMissing", &all).await;
    assert_eq!(of(&done), [3, 3, 1, 1], "{done}");
    shop.settled().await;
    each_came(&receiver, "/hook", 3, 1);
    let made = shop.delivery("small", "erp", "SUCCEEDED").await;
    assert_eq!(made["replayOf"], "", "it is the event's own delivery: {made}");
}

async fn a_kill_in_between_makes_no_double<W: World>() {
    let mut pregon = W::on_disk(&[]).await;
    let receiver = Receiver::counting(|_| Answer::Status(204)).await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    shop.turn("Disable", "erp").await;
    publish(&pregon, &shop, MANY).await;
    matched(&shop).await;
    shop.turn("Resume", "erp").await;
    shop.served().await;
    let all = json!({"subscription": subscription("erp")});
    for kill in 1..=2 {
        let grpc = pregon.grpcurl();
        let slow = json!({"subscription": subscription("erp"), "per_second": 100});
        let cut =
            tokio::spawn(async move { grpc.stream("DeliveryService/DeliverMissing", &slow).await });
        // Some of it is done, and some is under way.
        eventually("some are delivered", || async {
            let received = receiver.distinct("/hook");
            if received >= kill * MANY / 5 { Ok(()) } else { Err(received) }
        })
        .await;
        pregon.kill().await;
        let (_, end) = cut.await.expect("a caller");
        assert!(end.is_err(), "the run was cut off");
        pregon.start_again().await;
        shop.grpc = pregon.grpcurl();
        shop.served().await;
    }
    let (left, right) = tokio::join!(
        run(&shop, "DeliveryService/DeliverMissing", &all),
        run(&shop, "DeliveryService/DeliverMissing", &all),
    );
    let done = count(&left, "done") + count(&right, "done");
    assert!(done > 0 && done < MANY, "some were made before: {left} {right}");
    let report = shop.settled().await;
    balanced(&report).expect("the books balance");
    assert_eq!(report["deliveries"]["created"], MANY.to_string(), "one of each event");
    assert_eq!(receiver.distinct("/hook"), MANY);
    let made =
        shop.deliveries(json!({"subscription": subscription("erp"), "page_size": 1000})).await;
    let events: std::collections::HashSet<_> = made.iter().map(|it| it["event"].as_str()).collect();
    assert_eq!((made.len(), events.len()), (MANY, MANY));
}

async fn a_replay_by_filter_makes_no_double<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::counting(|_| Answer::Status(204)).await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    shop.turn("Pause", "erp").await;
    publish(&pregon, &shop, MANY).await;
    matched(&shop).await;
    shop.turn("Disable", "erp").await;
    shop.settled().await;
    shop.turn("Resume", "erp").await;
    shop.served().await;
    let all = json!({"parent": "tenants/acme", "end_reason": "END_REASON_SUBSCRIPTION_DISABLED"});
    let (mut left, mut right) = (all.clone(), all.clone());
    left["request_id"] = json!("left");
    right["request_id"] = json!("right");
    let (first, second) = tokio::join!(
        run(&shop, "DeliveryService/ReplayDeliveries", &left),
        run(&shop, "DeliveryService/ReplayDeliveries", &right),
    );
    assert_eq!(count(&first, "done") + count(&second, "done"), MANY, "{first} {second}");
    for (request, answer) in [(&left, &first), (&right, &second)] {
        let again = run(&shop, "DeliveryService/ReplayDeliveries", request).await;
        assert_eq!(again, *answer, "a repeat is answered as at first");
    }
    let third = run(&shop, "DeliveryService/ReplayDeliveries", &all).await;
    assert_eq!(count(&third, "done"), 0, "{third}");
    let report = shop.settled().await;
    assert_eq!(report["deliveries"]["created"], (2 * MANY).to_string());
    each_came(&receiver, "/hook", MANY, 1);
    let after = run(&shop, "DeliveryService/ReplayDeliveries", &all).await;
    assert_eq!(count(&after, "done"), 0, "{after}");

    let event = format!("tenants/acme/events/{}", id(0));
    let both = shop.deliveries(json!({"event": event})).await;
    let (replays, own): (Vec<_>, Vec<_>) = both.iter().partition(|it| it["replayOf"] != "");
    assert_eq!((replays.len(), own.len()), (1, 1), "{both:?}");
    assert_eq!(own[0]["replayedBy"], json!([replays[0]["name"]]));
    assert_eq!(replays[0]["replayOf"], own[0]["name"]);
    let missing = json!({"subscription": subscription("erp")});
    let missing = run(&shop, "DeliveryService/DeliverMissing", &missing).await;
    assert_eq!(count(&missing, "missing"), 0, "each has had one: {missing}");
}

async fn a_wrong_call_says_why<W: World>() {
    let pregon = W::in_memory().await;
    let shop = Shop::open(pregon.grpcurl()).await;
    let erp = subscription("erp");
    for (method, request, code) in [
        ("RetryNow", json!({"parent": "tenants/acme"}), "INVALID_ARGUMENT"),
        ("RetryNow", json!({"parent": "tenants/acme", "subscription": erp}), "NOT_FOUND"),
        ("RetryNow", json!({"parent": "tenants/-", "subscription": erp}), "INVALID_ARGUMENT"),
        ("RetryNow", json!({"parent": "tenants/acme", "delivery": "x"}), "INVALID_ARGUMENT"),
        ("DeliverMissing", json!({}), "INVALID_ARGUMENT"),
        ("DeliverMissing", json!({"subscription": erp}), "NOT_FOUND"),
        ("DeliverMissing", json!({"subscription": erp, "per_second": -1}), "INVALID_ARGUMENT"),
        ("DeliverMissing", json!({"subscription": erp, "cursor": "x"}), "INVALID_ARGUMENT"),
        (
            "DeliverMissing",
            json!({"subscription": erp, "attributes": {"Shop": "a"}}),
            "INVALID_ARGUMENT",
        ),
    ] {
        let (_, end) = shop.grpc.stream(&format!("DeliveryService/{method}"), &request).await;
        assert_eq!(end.unwrap_err().code, code, "{method} {request}");
    }
}
