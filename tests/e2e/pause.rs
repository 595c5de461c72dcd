//! Subscriptions and tenants that wait, and go on.

use serde_json::{Value, json};

use crate::harness::shop::{Shop, subscription};
use crate::harness::{Receiver, World, eventually};
use crate::on_both;

on_both!(
    a_paused_subscription_keeps_its_deliveries,
    a_pause_outlives_the_process,
    a_suspended_tenant_publishes_nothing_and_its_deliveries_wait,
    states_that_cannot_follow_are_refused,
);

/// Waits for the delivery of an event to wait because of a pause.
async fn paused(shop: &Shop, event: &str) -> Value {
    let filters = json!({"event": format!("tenants/acme/events/{event}")});
    eventually(&format!("{event} waits for the resume"), || async {
        let found = shop.deliveries(filters.clone()).await;
        match found.as_slice() {
            [one] if one["pendingReason"] == "PENDING_REASON_PAUSED" => Ok(one.clone()),
            _ => Err(found),
        }
    })
    .await
}

async fn a_paused_subscription_keeps_its_deliveries<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    let answer = shop.turn("Pause", "erp").await;
    assert_eq!(answer["subscription"]["state"], "SUBSCRIPTION_STATE_PAUSED");
    for event in ["e1", "e2", "e3"] {
        shop.publish(event, "{}").await;
        let delivery = paused(&shop, event).await;
        assert_eq!(delivery["state"], "DELIVERY_STATE_PENDING");
    }
    assert_eq!(receiver.requests("/hook").len(), 0);
    let report = shop.grpc.report("tenants/acme").await;
    assert_eq!(report["deliveries"]["pending"], "3");

    shop.turn("Resume", "erp").await;
    for event in ["e1", "e2", "e3"] {
        shop.delivery(event, "erp", "SUCCEEDED").await;
    }
    assert_eq!(receiver.requests("/hook").len(), 3);
    // Resuming what runs changes nothing; it can be paused again.
    shop.turn("Resume", "erp").await;
    shop.turn("Pause", "erp").await;
}

async fn a_pause_outlives_the_process<W: World>() {
    let mut pregon = W::on_disk(&[]).await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    shop.turn("Pause", "erp").await;
    shop.publish("e1", "{}").await;
    paused(&shop, "e1").await;
    pregon.kill().await;
    pregon.start_again().await;
    shop.grpc = pregon.grpcurl();
    paused(&shop, "e1").await;
    assert_eq!(receiver.requests("/hook").len(), 0);
    shop.turn("Resume", "erp").await;
    shop.delivery("e1", "erp", "SUCCEEDED").await;
}

async fn a_suspended_tenant_publishes_nothing_and_its_deliveries_wait<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    shop.turn("Pause", "erp").await;
    shop.publish("e1", "{}").await;
    paused(&shop, "e1").await;

    let suspend = |suspended: bool| {
        json!({
            "tenant": {"name": "tenants/acme", "suspended": suspended},
            "update_mask": {"paths": ["suspended"]},
        })
    };
    shop.write("TenantService/UpdateTenant", suspend(true)).await;
    let refused = shop.grpc.refused("EventService/Publish", shop.request("e2", "{}")).await;
    assert_eq!((refused.code, refused.reason()), ("FAILED_PRECONDITION", "TENANT_SUSPENDED"));
    shop.turn("Resume", "erp").await;
    shop.served().await;
    paused(&shop, "e1").await;
    assert_eq!(receiver.requests("/hook").len(), 0);

    shop.write("TenantService/UpdateTenant", suspend(false)).await;
    shop.delivery("e1", "erp", "SUCCEEDED").await;
    shop.publish("e2", "{}").await;
    shop.delivery("e2", "erp", "SUCCEEDED").await;
}

async fn states_that_cannot_follow_are_refused<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    shop.turn("Disable", "erp").await;
    let name = json!({"name": subscription("erp")});
    let refused = shop.grpc.refused("SubscriptionService/PauseSubscription", name).await;
    assert_eq!((refused.code, refused.reason()), ("FAILED_PRECONDITION", "STATE_CONFLICT"));
    let name = json!({"name": subscription("nobody")});
    let refused = shop.grpc.refused("SubscriptionService/ResumeSubscription", name).await;
    assert_eq!((refused.code, refused.reason()), ("NOT_FOUND", "RESOURCE_NOT_FOUND"));
    let answer = shop.turn("Resume", "erp").await;
    assert_eq!(answer["subscription"]["state"], "SUBSCRIPTION_STATE_ACTIVE");
    shop.publish("e1", "{}").await;
    shop.delivery("e1", "erp", "SUCCEEDED").await;
}
