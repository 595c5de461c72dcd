//! An event that a filter cannot be evaluated on does not match, and whoever looks learns of it.

use serde_json::json;

use crate::harness::shop::{Shop, subscription};
use crate::harness::{Receiver, World, eventually};
use crate::on_both;

on_both!(events_that_a_filter_had_no_answer_for_are_counted);

async fn events_that_a_filter_had_no_answer_for_are_counted<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let url = receiver.url("/hook");
    shop.subscribe_with("erp", json!({"url": url, "filter": "event.data.amount > 100"})).await;
    shop.subscribe("all", &receiver, "/all").await;
    let health = async |id: &str| {
        let request = json!({"name": subscription(id)});
        shop.grpc.ok("SubscriptionService/GetSubscriptionHealth", request).await
    };
    shop.publish("large", r#"{"amount":101}"#).await;
    shop.publish("small", r#"{"amount":1}"#).await;
    receiver.expect("/all", 2).await;
    assert_eq!(receiver.requests("/hook").len(), 1);
    assert_eq!(health("erp").await["filterErrors"], json!(null));

    for n in 0..12 {
        shop.publish(&format!("e{n}"), r#"{"amuont":101}"#).await;
    }
    receiver.expect("/all", 14).await;
    let told = eventually("all of them are counted", || async {
        let told = health("erp").await["filterErrors"].clone();
        if told["count"] == "12" { Ok(told) } else { Err(told) }
    })
    .await;
    assert_eq!(told["lastReason"], "event.data.amount is absent");
    assert!(told["lastTime"].is_string(), "{told}");
    assert_eq!(health("all").await["filterErrors"], json!(null));
    assert_eq!(receiver.requests("/hook").len(), 1);
    let request = json!({"name": "tenants/acme/events/e3"});
    let story = shop.grpc.ok("DeliveryService/ExplainEvent", request).await.to_string();
    assert!(story.contains("it cannot be evaluated: event.data.amount is absent"), "{story}");
}
