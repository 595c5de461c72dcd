//! Where requests may go. What is checked is the address that is connected to, at that moment: a
//! name that was harmless yesterday, or a setting that was taken back, does not help.

use serde_json::json;

use crate::harness::shop::Shop;
use crate::harness::{Receiver, Standalone, eventually};

/// Serves http receivers, but none on loopback.
const CLOSED: [&str; 5] = ["standalone", "--listen", "127.0.0.1:0", "--allow-http", "--in-memory"];

#[tokio::test]
async fn a_name_that_leads_inside_is_denied_at_the_attempt() {
    let pregon = Standalone::exactly(&CLOSED, None).await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let url = receiver.url("/hook").replace("127.0.0.1", "localhost");
    shop.subscribe_with("inside", json!({"url": url})).await;
    shop.publish("e1", "{}").await;
    let attempt = eventually("an attempt is denied", || async {
        let found = shop.deliveries(json!({})).await;
        let Some(delivery) = found.first() else { return Err(json!("no delivery")) };
        let attempts = shop.attempts(delivery).await;
        attempts.first().cloned().ok_or_else(|| delivery.clone())
    })
    .await;
    assert_eq!(attempt["errorClass"], "ERROR_CLASS_DENIED", "{attempt}");
    assert_eq!(attempt["remoteAddress"], "", "{attempt}");
    assert_eq!(receiver.requests("/hook").len(), 0);
}

#[tokio::test]
async fn without_the_settings_http_and_loopback_are_refused() {
    let pregon = Standalone::exactly(&CLOSED[..3], Some(tempfile::tempdir().unwrap())).await;
    let shop = Shop::open(pregon.grpcurl()).await;
    for (url, said) in [
        ("http://example.com/", "--allow-http"),
        ("https://127.0.0.1/", "--allow-egress"),
        ("https://192.168.1.1/", "--allow-egress"),
        ("https://[fd00::1]/", "--allow-egress"),
    ] {
        let fields = json!({"url": url, "event_types": ["*"]});
        let request = json!({"parent": "tenants/acme", "subscription": fields});
        let refused = shop.grpc.refused("SubscriptionService/CreateSubscription", request).await;
        let expected = [("subscription.url".to_owned(), "URL_REFUSED".to_owned())];
        assert_eq!(refused.violations(), expected, "{url}");
        // The refusal names the setting that would allow it.
        assert!(refused.description("subscription.url").contains(said), "{refused}");
    }
}

#[tokio::test]
async fn a_subscription_that_is_no_longer_allowed_is_denied() {
    let mut open = Standalone::on_disk(&[]).await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(open.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    shop.publish("e1", "{}").await;
    receiver.expect("/hook", 1).await;
    shop.settled().await;
    open.kill().await;
    let dir = open.dir().display().to_string();
    let args = ["standalone", "--listen", "127.0.0.1:0", "--allow-http", "--data-dir", &dir];
    let closed = Standalone::exactly(&args, None).await;
    shop.grpc = closed.grpcurl();
    shop.publish("e2", "{}").await;
    eventually("the second event is denied", || async {
        let request = json!({"event": "tenants/acme/events/e2"});
        let found = shop.deliveries(request).await;
        let Some(delivery) = found.first() else { return Err(json!("no delivery")) };
        let attempts = shop.attempts(delivery).await;
        match attempts.first() {
            Some(attempt) if attempt["errorClass"] == "ERROR_CLASS_DENIED" => Ok(()),
            _ => Err(delivery.clone()),
        }
    })
    .await;
    assert_eq!(receiver.requests("/hook").len(), 1);
}
