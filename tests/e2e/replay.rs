//! Deliveries made again: which ones, under what, and no batch twice.

use serde_json::json;

use crate::harness::load::{Publisher, order};
use crate::harness::shop::{Shop, subscription};
use crate::harness::{Receiver, World};
use crate::on_both;

on_both!(
    many_are_replayed_in_batches,
    a_replay_goes_where_the_subscription_is_today,
    a_replay_without_a_filter_is_refused,
);

/// More than one batch of a replay, which is 500 at most.
const MANY: usize = 700;

async fn many_are_replayed_in_batches<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::counting(|_| crate::harness::Answer::Status(204)).await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    let mut publisher = Publisher::new(pregon.target());
    let requests = (0..MANY).map(|n| {
        let mut request = order(format!("e{n}"), format!("{n}"));
        request.min_revision = shop.revision.parse().unwrap();
        request
    });
    publisher.publish(requests.collect()).await;
    shop.settled().await;

    let mut request = json!({"parent": "tenants/acme", "subscription": subscription("erp")});
    request["validate_only"] = json!(true);
    let (messages, end) = shop.grpc.stream("DeliveryService/ReplayDeliveries", &request).await;
    end.unwrap();
    let last = messages.last().unwrap();
    assert_eq!((&last["matched"], &last["done"]), (&json!(MANY.to_string()), &json!("0")));

    request["validate_only"] = json!(false);
    request["request_id"] = json!("once");
    let (messages, end) = shop.grpc.stream("DeliveryService/ReplayDeliveries", &request).await;
    end.unwrap();
    assert!(messages.len() > 1, "more than one batch: {messages:?}");
    assert_eq!(messages.last().unwrap()["done"], MANY.to_string());
    let report = shop.settled().await;
    assert_eq!(report["deliveries"]["created"], (2 * MANY).to_string());
    assert_eq!(report["events"]["accepted"], MANY.to_string());
    let seen = receiver.seen("/hook");
    assert_eq!(seen.len(), MANY);
    assert!(seen.values().all(|seen| seen.count == 2), "each event came twice");

    // The stream was cut off after its first message, and is taken up again: nothing twice.
    request["cursor"] = messages[0]["cursor"].clone();
    let (_, end) = shop.grpc.stream("DeliveryService/ReplayDeliveries", &request).await;
    end.unwrap();
    let report = shop.settled().await;
    assert_eq!(report["deliveries"]["created"], (2 * MANY).to_string());
}

async fn a_replay_goes_where_the_subscription_is_today<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/old").await;
    shop.publish("e1", r#"{"amount":1.0}"#).await;
    let old = shop.delivery("e1", "erp", "SUCCEEDED").await;
    let update =
        json!({"subscription": {"name": subscription("erp"), "url": receiver.url("/new")}});
    shop.write("SubscriptionService/UpdateSubscription", update).await;
    shop.served().await;

    let request = json!({"name": old["name"]});
    let answer = shop.grpc.ok("DeliveryService/ReplayDelivery", request).await;
    let sent = receiver.expect("/new", 1).await.remove(0);
    let before = receiver.requests("/old").remove(0);
    assert_eq!((sent.header("webhook-id"), &sent.body), ("e1", &before.body));
    shop.settled().await;
    let name = json!({"name": answer["delivery"]["name"]});
    let replay = shop.grpc.ok("DeliveryService/GetDelivery", name).await;
    assert_eq!(replay["delivery"]["replayOf"], old["name"]);
    assert_eq!(replay["delivery"]["state"], "DELIVERY_STATE_SUCCEEDED");
    let still = shop.grpc.ok("DeliveryService/GetDelivery", json!({"name": old["name"]})).await;
    assert_eq!(still["delivery"]["endTime"], old["endTime"]);
}

async fn a_replay_without_a_filter_is_refused<W: World>() {
    let pregon = W::in_memory().await;
    let shop = Shop::open(pregon.grpcurl()).await;
    for (request, code) in [
        (json!({"parent": "tenants/acme"}), "INVALID_ARGUMENT"),
        (json!({"parent": "tenants/acme", "state": "DELIVERY_STATE_PENDING"}), "INVALID_ARGUMENT"),
        (
            json!({"parent": "tenants/acme", "state": "DELIVERY_STATE_FAILED", "limit": 1_000_001}),
            "INVALID_ARGUMENT",
        ),
        (json!({"parent": "tenants/nobody", "state": "DELIVERY_STATE_FAILED"}), "NOT_FOUND"),
    ] {
        let (_, end) = shop.grpc.stream("DeliveryService/ReplayDeliveries", &request).await;
        assert_eq!(end.unwrap_err().code, code, "{request}");
    }
    let name = json!({"name": "tenants/acme/deliveries/nothing"});
    let refused = shop.grpc.refused("DeliveryService/ReplayDelivery", name).await;
    assert!(["NOT_FOUND", "INVALID_ARGUMENT"].contains(&refused.code), "{refused}");
}
