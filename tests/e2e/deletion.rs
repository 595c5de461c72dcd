//! What waits is called off: with its subscription, with its tenant, or by hand.

use serde_json::{Value, json};

use crate::harness::planes::{Plan, Planes};
use crate::harness::redis::Redis;
use crate::harness::shop::{Shop, subscription};
use crate::harness::{Receiver, World, eventually};
use crate::on_both;

on_both!(
    disabling_cancels_what_waits_and_a_replay_brings_it_back,
    deleting_a_subscription_cancels_what_waits,
    a_deleted_tenant_is_gone_and_its_name_begins_anew,
    one_delivery_is_cancelled_by_hand,
);

/// A shop whose deliveries `e1` to `e3` wait under a paused subscription.
async fn waiting(pregon: &impl World, receiver: &Receiver) -> Shop {
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", receiver, "/hook").await;
    shop.turn("Pause", "erp").await;
    for event in ["e1", "e2", "e3"] {
        shop.publish(event, "{}").await;
        shop.delivery(event, "erp", "PENDING").await;
    }
    shop
}

/// Waits for all three to be cancelled, and says why they were.
async fn cancelled(shop: &Shop, parent: &str) -> Vec<Value> {
    let filters = json!({"parent": parent, "state": "DELIVERY_STATE_CANCELLED"});
    let found = eventually("three deliveries are cancelled", || async {
        let found = shop.deliveries(filters.clone()).await;
        if found.len() == 3 { Ok(found) } else { Err(found) }
    })
    .await;
    found.iter().map(|delivery| delivery["endReason"].clone()).collect()
}

async fn disabling_cancels_what_waits_and_a_replay_brings_it_back<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = waiting(&pregon, &receiver).await;
    let answer = shop.turn("Disable", "erp").await;
    assert_eq!(answer["subscription"]["state"], "SUBSCRIPTION_STATE_DISABLED");
    assert_eq!(answer["subscription"]["stateReason"], "a story needs it");
    let reasons = cancelled(&shop, "tenants/acme").await;
    assert_eq!(reasons, vec!["END_REASON_SUBSCRIPTION_DISABLED"; 3]);

    // Nothing can be replayed to it while it is disabled.
    let old = shop.delivery("e1", "erp", "CANCELLED").await;
    let request = json!({"name": old["name"]});
    let refused = shop.grpc.refused("DeliveryService/ReplayDelivery", request).await;
    assert_eq!((refused.code, refused.reason()), ("FAILED_PRECONDITION", "STATE_CONFLICT"));

    shop.turn("Resume", "erp").await;
    let request =
        json!({"parent": "tenants/acme", "end_reason": "END_REASON_SUBSCRIPTION_DISABLED"});
    let (messages, end) = shop.grpc.stream("DeliveryService/ReplayDeliveries", &request).await;
    end.unwrap();
    assert_eq!(messages.last().unwrap()["done"], "3");
    receiver.expect("/hook", 3).await;
    let report = shop.settled().await;
    assert_eq!(report["deliveries"]["cancelled"], "3");
    assert_eq!(report["deliveries"]["succeeded"], "3");
    assert_eq!(report["events"]["accepted"], "3");
}

async fn deleting_a_subscription_cancels_what_waits<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = waiting(&pregon, &receiver).await;
    let name = json!({"name": subscription("erp")});
    shop.write("SubscriptionService/DeleteSubscription", name.clone()).await;
    let reasons = cancelled(&shop, "tenants/acme").await;
    assert_eq!(reasons, vec!["END_REASON_SUBSCRIPTION_DELETED"; 3]);
    let refused = shop.grpc.refused("SubscriptionService/GetSubscription", name).await;
    assert_eq!((refused.code, refused.reason()), ("NOT_FOUND", "RESOURCE_NOT_FOUND"));
    shop.publish("e4", "{}").await;
    let report = shop.settled().await;
    assert_eq!(report["events"]["unmatched"], "1");
    assert_eq!(receiver.requests("/hook").len(), 0);

    // The same id again is another subscription: the old deliveries are not its own.
    shop.subscribe("erp", &receiver, "/hook").await;
    shop.publish("e5", "{}").await;
    receiver.expect("/hook", 1).await;
    assert_eq!(shop.settled().await["deliveries"]["succeeded"], "1");
}

async fn a_deleted_tenant_is_gone_and_its_name_begins_anew<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = waiting(&pregon, &receiver).await;
    let name = json!({"name": "tenants/acme"});
    let refused = shop.grpc.refused("TenantService/DeleteTenant", name).await;
    assert_eq!((refused.code, refused.reason()), ("FAILED_PRECONDITION", "CHILDREN_EXIST"));
    let request = json!({"name": "tenants/acme", "force": true});
    shop.write("TenantService/DeleteTenant", request).await;
    for (method, request) in [
        ("EventService/Publish", shop.request("e4", "{}")),
        ("DeliveryService/GetEvent", json!({"name": "tenants/acme/events/e1"})),
        ("DeliveryService/ListEvents", json!({"parent": "tenants/acme"})),
    ] {
        let refused = shop.grpc.refused(method, request).await;
        assert_eq!((refused.code, refused.reason()), ("NOT_FOUND", "RESOURCE_NOT_FOUND"));
    }
    assert_eq!(shop.deliveries(json!({"parent": "tenants/-"})).await, Vec::<Value>::new());
    // The books of all keep what ended.
    eventually("three deliveries are cancelled", || async {
        let report = shop.grpc.report("tenants/-").await;
        if report["deliveries"]["cancelled"] == "3" { Ok(()) } else { Err(report) }
    })
    .await;

    // Another tenant of the same id: with nothing of the first one, and its ids are free.
    let request = json!({"tenant_id": "acme", "tenant": {}});
    shop.write("TenantService/CreateTenant", request).await;
    assert_eq!(shop.deliveries(json!({"parent": "tenants/acme"})).await, Vec::<Value>::new());
    let report = shop.grpc.report("tenants/acme").await;
    assert_eq!(
        (&report["events"]["accepted"], &report["deliveries"]["created"]),
        (&json!("0"), &json!("0"))
    );
    shop.subscribe("erp", &receiver, "/anew").await;
    let answer = shop.publish("e1", "{}").await;
    assert_ne!(answer["duplicate"], true, "{answer}");
    receiver.expect("/anew", 1).await;
    let report = shop.settled().await;
    assert_eq!(report["events"]["accepted"], "1", "{report}");
    assert_eq!(receiver.requests("/hook").len(), 0);
}

/// Whether a text stands in what Redis has of events and attempts.
async fn holds(redis: &Redis, text: &str) -> bool {
    let keys = redis.run("KEYS {pg*").await.expect("it runs");
    let mut found = false;
    for key in keys.lines().filter(|line| line.starts_with('{')) {
        let command = match key.rsplit(':').next() {
            Some("ev" | "log" | "elog") => format!("XRANGE {key} - +"),
            Some("re") => format!("HGETALL {key}"),
            _ => continue,
        };
        found |= redis.run(&command).await.expect("it runs").contains(text);
    }
    found
}

/// In the background, and also where the control plane dies meanwhile: the next one goes on.
#[tokio::test]
async fn what_a_deleted_tenant_left_is_erased() {
    const MARKER: &str = "XyZ-7-secret-of-acme";
    let mut planes = Planes::start(Plan { nodes: 2, ..Plan::default() }).await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(planes.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    for n in 0..5 {
        shop.publish(&format!("e{n}"), &format!("{{\"text\":\"{MARKER}\"}}")).await;
    }
    receiver.expect("/hook", 5).await;
    shop.turn("Pause", "erp").await;
    shop.publish("waits", &format!("{{\"text\":\"{MARKER}\"}}")).await;
    shop.delivery("waits", "erp", "PENDING").await;
    assert!(holds(&planes.redis, MARKER).await);
    let request = json!({"name": "tenants/acme", "force": true});
    shop.write("TenantService/DeleteTenant", request).await;
    planes.control.kill().await;
    planes.control.start_again().await;
    let redis = &planes.redis;
    eventually("the erasing is over", || async {
        let marked = redis.run("HEXISTS {pgc}:doc erasures/acme").await;
        if marked.is_ok_and(|it| it == ":0\r\n") { Ok(()) } else { Err("not yet") }
    })
    .await;
    assert!(!holds(redis, MARKER).await);
}

async fn one_delivery_is_cancelled_by_hand<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = waiting(&pregon, &receiver).await;
    let delivery = shop.delivery("e2", "erp", "PENDING").await;
    let request = json!({"name": delivery["name"]});
    let check = json!({"name": delivery["name"], "validate_only": true});
    shop.grpc.ok("DeliveryService/CancelDelivery", check).await;
    shop.delivery("e2", "erp", "PENDING").await;
    let answer = shop.grpc.ok("DeliveryService/CancelDelivery", request.clone()).await;
    assert_eq!(answer["delivery"]["state"], "DELIVERY_STATE_CANCELLED");
    assert_eq!(answer["delivery"]["endReason"], "END_REASON_BY_CALLER");
    // Once more changes nothing.
    shop.grpc.ok("DeliveryService/CancelDelivery", request).await;

    shop.turn("Resume", "erp").await;
    let done = shop.delivery("e1", "erp", "SUCCEEDED").await;
    shop.delivery("e3", "erp", "SUCCEEDED").await;
    let refused =
        shop.grpc.refused("DeliveryService/CancelDelivery", json!({"name": done["name"]})).await;
    assert_eq!((refused.code, refused.reason()), ("FAILED_PRECONDITION", "STATE_CONFLICT"));
    let ids: Vec<_> = receiver.seen("/hook").into_keys().collect();
    assert!(!ids.contains(&"e2".to_owned()) && ids.len() == 2, "{ids:?}");
    let report = shop.settled().await;
    assert_eq!(report["deliveries"]["cancelled"], "1");
}
