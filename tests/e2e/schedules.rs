//! Events that say when they are to be delivered, for how long, and to whom.

use std::time::Duration;

use pregon_core::clock::{Clock, SystemClock, Timestamp};
use serde_json::{Value, json};

use crate::harness::shop::{Shop, balanced, subscription};
use crate::harness::{Answer, Receiver, Request, World, eventually};
use crate::on_both;

on_both!(
    an_event_is_delivered_at_its_time_across_a_restart,
    a_scheduled_event_is_cancelled_and_erased,
    an_event_that_comes_too_late_is_not_sent,
    an_event_goes_to_those_it_names,
);

fn in_future(ahead: Duration) -> Timestamp {
    SystemClock.now().plus(ahead)
}

fn event_name(id: &str) -> Value {
    json!({"name": format!("tenants/acme/events/{id}")})
}

/// Publishes an order with more fields.
async fn publish(shop: &Shop, id: &str, more: Value) -> Value {
    let mut request = shop.request(id, "{}");
    let fields = request["event"].as_object_mut().expect("an event");
    fields.extend(more.as_object().expect("fields").clone());
    shop.grpc.ok("EventService/Publish", request).await
}

async fn at_stage(shop: &Shop, id: &str, stage: &str) -> Value {
    let wanted = format!("EVENT_STAGE_{stage}");
    eventually(&format!("{id} is {stage}"), || async {
        let found = shop.grpc.ok("DeliveryService/GetEvent", event_name(id)).await;
        if found["stage"] == wanted.as_str() { Ok(found) } else { Err(found) }
    })
    .await
}

async fn scheduled(shop: &Shop) -> Vec<Value> {
    let filter = json!({"scheduled_only": true});
    shop.all("DeliveryService/ListEvents", "events", filter).await
}

/// Not before, however often everything ends meanwhile; to the subscriptions that there are then.
async fn an_event_is_delivered_at_its_time_across_a_restart<W: World>() {
    let mut pregon = W::on_disk(&[]).await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("gone", &receiver, "/gone").await;
    shop.served().await;
    let ahead = Duration::from_secs(20);
    let time = in_future(ahead);
    let later = json!({"deliver_time": time.to_string()});
    publish(&shop, "later", later.clone()).await;
    publish(
        &shop,
        "month",
        json!({"deliver_time": in_future(29 * 24 * 3600 * SECOND).to_string()}),
    )
    .await;
    at_stage(&shop, "later", "SCHEDULED").await;
    at_stage(&shop, "month", "SCHEDULED").await;
    assert_eq!(publish(&shop, "later", later).await["duplicate"], true);
    assert_eq!(scheduled(&shop).await.len(), 2);
    let report = shop.grpc.report("tenants/acme").await;
    assert_eq!(
        (&report["events"]["scheduled"], &report["events"]["awaitingMatch"]),
        (&json!("2"), &json!("2"))
    );
    balanced(&report).unwrap();

    shop.write("SubscriptionService/DeleteSubscription", json!({"name": subscription("gone")}))
        .await;
    shop.subscribe("new", &receiver, "/new").await;
    shop.served().await;
    pregon.kill().await;
    pregon.start_again().await;
    shop.grpc = pregon.grpcurl();
    let story = shop.grpc.ok("DeliveryService/ExplainEvent", event_name("later")).await;
    assert_eq!(story["stage"], "EVENT_STAGE_SCHEDULED", "{story}");
    assert_eq!(story["event"]["deliverTime"], time.to_string().as_str());

    let delivery = shop.delivery("later", "new", "SUCCEEDED").await;
    let attempt = &shop.attempts(&delivery).await[0];
    let sent = Timestamp::parse(attempt["startTime"].as_str().expect("a time")).expect("a time");
    assert!(sent >= time, "sent {sent}, not before {time}");
    println!("sent {:?} after its time", sent.since(time));
    assert_eq!(receiver.requests("/gone").len(), 0, "a subscription that was deleted meanwhile");
    assert_eq!(scheduled(&shop).await.len(), 1, "the other one still waits");
}

const SECOND: Duration = Duration::from_secs(1);

/// What is called off, or erased, goes to nobody and waits for nothing.
async fn a_scheduled_event_is_cancelled_and_erased<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("all", &receiver, "/all").await;
    shop.served().await;
    let later = json!({"deliver_time": in_future(3600 * SECOND).to_string()});
    for id in ["cancelled", "erased"] {
        publish(&shop, id, later.clone()).await;
    }
    publish(&shop, "now", json!({"deliver_time": "2020-01-01T00:00:00Z"})).await;
    shop.delivery("now", "all", "SUCCEEDED").await;
    // At once: the call waits for a node to have put it on its schedule.
    let cancel = event_name("cancelled");
    let cancelled = shop.grpc.ok("DeliveryService/CancelEvent", cancel.clone()).await;
    assert_eq!(cancelled["stage"], "EVENT_STAGE_CANCELLED", "{cancelled}");
    let again = shop.grpc.ok("DeliveryService/CancelEvent", cancel).await;
    assert_eq!(again["stage"], "EVENT_STAGE_CANCELLED");
    let refused = shop.grpc.refused("DeliveryService/CancelEvent", event_name("now")).await;
    assert_eq!((refused.code, refused.reason()), ("FAILED_PRECONDITION", "STATE_CONFLICT"));
    let unknown = shop.grpc.refused("DeliveryService/CancelEvent", event_name("nobodys")).await;
    assert_eq!(unknown.code, "NOT_FOUND");

    at_stage(&shop, "erased", "SCHEDULED").await;
    let erase = json!({"name": "tenants/acme/events/erased", "reason": "request 4711"});
    let erased = shop.grpc.ok("DeliveryService/EraseEvent", erase).await;
    assert!(erased["pending"] != true && erased["event"]["erasure"].is_object(), "{erased}");
    assert_eq!(scheduled(&shop).await, Vec::<Value>::new());
    let report = shop.settled().await;
    let events = &report["events"];
    assert_eq!(
        (&events["cancelled"], &events["unmatched"]),
        (&json!("2"), &json!("2")),
        "{report}"
    );
    assert_eq!((&events["scheduled"], &events["matched"]), (&json!("0"), &json!("1")), "{report}");
    assert_eq!(receiver.requests("/all").len(), 1);
}

/// No attempt begins after its time: not a retry, and not one that a paused subscription held up.
async fn an_event_that_comes_too_late_is_not_sent<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::start(|request: &Request| match request.path() {
        "/bad" => Answer::Status(500),
        _ => Answer::Status(204),
    })
    .await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("bad", &receiver, "/bad").await;
    shop.subscribe("paused", &receiver, "/paused").await;
    shop.subscribe("good", &receiver, "/good").await;
    shop.turn("Pause", "paused").await;
    shop.served().await;
    publish(&shop, "code", json!({"deliver_within": "2s"})).await;
    shop.delivery("code", "good", "SUCCEEDED").await;
    let failed = shop.delivery("code", "bad", "FAILED").await;
    assert_eq!(
        (&failed["endReason"], &failed["attemptCount"]),
        (&json!("END_REASON_EXPIRED"), &json!(1))
    );
    let event = shop.grpc.ok("DeliveryService/GetEvent", event_name("code")).await;
    let accepted =
        event["event"]["acceptTime"].as_str().and_then(Timestamp::parse).expect("a time");
    eventually("its time is over", || async {
        let now = SystemClock.now();
        if now > accepted.plus(3 * SECOND) { Ok(()) } else { Err(now) }
    })
    .await;
    shop.turn("Resume", "paused").await;
    let late = shop.delivery("code", "paused", "FAILED").await;
    assert_eq!(
        (&late["endReason"], &late["attemptCount"]),
        (&json!("END_REASON_EXPIRED"), &json!(0))
    );
    assert_eq!((receiver.requests("/paused").len(), receiver.requests("/bad").len()), (0, 1));
    shop.settled().await;
}

/// Of those that match, the named ones alone; names that are nobody's are refused.
async fn an_event_goes_to_those_it_names<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    for id in ["a", "b", "c"] {
        shop.subscribe(id, &receiver, &format!("/{id}")).await;
    }
    let other = json!({"url": receiver.url("/other"), "event_types": ["invoice.*"]});
    shop.subscribe_with("other", other).await;
    let names = ["a", "c", "other"].map(subscription);
    publish(&shop, "chosen", json!({"subscriptions": names})).await;
    shop.delivery("chosen", "a", "SUCCEEDED").await;
    shop.delivery("chosen", "c", "SUCCEEDED").await;
    let report = shop.settled().await;
    assert_eq!(report["deliveries"]["created"], "2", "{report}");
    let story = shop.grpc.ok("DeliveryService/ExplainEvent", event_name("chosen")).await;
    let left_out = story["subscriptions"].as_array().expect("a list");
    let b = left_out.iter().find(|it| it["name"] == subscription("b").as_str()).expect("b");
    assert_eq!(
        (&b["matchSteps"][0]["check"], &b["matchSteps"][0]["passed"]),
        (&json!("subscriptions"), &json!(false)),
        "{b}"
    );
    for name in
        [subscription("nobody"), "tenants/globex/subscriptions/a".to_owned(), "a".to_owned()]
    {
        let mut request = shop.request("refused", "{}");
        request["event"]["subscriptions"] = json!([subscription("a"), name]);
        let refused = shop.grpc.refused("EventService/Publish", request).await;
        assert_eq!(
            (refused.code, refused.reason()),
            ("INVALID_ARGUMENT", "FIELDS_INVALID"),
            "{name}"
        );
        let fields: Vec<_> = refused.violations().into_iter().map(|(field, _)| field).collect();
        assert!(fields.iter().all(|it| it.starts_with("event.subscriptions")), "{fields:?}");
    }
}
