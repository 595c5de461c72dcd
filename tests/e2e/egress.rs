//! Where requests may go. What is checked is the address that is connected to, at that moment: a
//! name that was harmless yesterday, or a setting that was taken back, does not help.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::harness::shop::Shop;
use crate::harness::{Answer, Receiver, Standalone, eventually};

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

/// Every status that redirects, to an address that is denied, as the answer to a delivery, to a test
/// send and to a callback: nobody comes there.
#[tokio::test]
async fn a_redirect_inside_is_not_followed() {
    let args = [&CLOSED[..], &["--allow-egress", "127.0.0.1/32"]].concat();
    let pregon = Standalone::exactly(&args, None).await;
    let inside = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let there = format!("http://{}/", inside.local_addr().unwrap());
    let connected = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connected);
    let accept = tokio::spawn(async move {
        while inside.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let leads_to = there.clone();
    let receiver = Receiver::start(move |request| {
        let status = request.path().trim_start_matches('/').parse().expect("a status");
        Answer::With(status, "location", leads_to.clone())
    })
    .await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let statuses = ["300", "301", "302", "303", "307", "308"];
    for status in statuses {
        let url = receiver.url(&format!("/{status}"));
        shop.subscribe_with(&format!("s{status}"), json!({"url": url})).await;
        let callback = json!({"parent": "tenants/acme", "callback_id": format!("c{status}"),
            "callback": {"url": url}});
        shop.write("CallbackService/CreateCallback", callback).await;
    }
    shop.served().await;
    shop.publish("e1", "{}").await;
    for status in statuses {
        receiver.expect(&format!("/{status}"), 1).await;
        let test = json!({"name": format!("tenants/acme/subscriptions/s{status}"),
            "event": {"type": "order.captured", "json": "{}"}});
        let tested = shop.grpc.ok("SubscriptionService/TestSubscription", test).await;
        assert!(tested.to_string().contains(status), "{tested}");
        let ask = json!({"callback": format!("tenants/acme/callbacks/c{status}"), "json": "{}",
            "min_revision": shop.revision});
        let checked = shop.grpc.ok("CheckService/Check", ask).await;
        assert!(checked.to_string().contains(status), "{checked}");
    }
    // Whoever connects is counted, so that a count of none says something.
    let own = TcpStream::connect(there.trim_start_matches("http://").trim_end_matches('/')).await;
    drop(own.unwrap());
    eventually("the test's own connection is counted", || async {
        match connected.load(Ordering::SeqCst) {
            0 => Err(0),
            _ => Ok(()),
        }
    })
    .await;
    assert_eq!(connected.load(Ordering::SeqCst), 1);
    accept.abort();
}
