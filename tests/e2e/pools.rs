//! Egress pools and tenants' rules: by which way requests leave, whom they may go to, and who is
//! charged when the way is closed.

use data_encoding::BASE64;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::proxy::Proxy;
use crate::harness::shop::{Shop, TYPE, subscription};
use crate::harness::{Planes, Receiver, Standalone, World, eventually};
use crate::on_both;

on_both!(
    a_proxys_outage_charges_no_receiver,
    wrong_credentials_at_a_proxy_are_told_and_charged_to_nobody,
    a_tenants_rules_stop_its_requests_and_let_them_go_again,
);

/// A file of one pool, `partners`, by that proxy with that password.
fn pools(proxy: &Proxy, password: &str) -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let (file, secret) = (dir.path().join("pools"), dir.path().join("password"));
    std::fs::write(&secret, format!("{password}\n")).unwrap();
    let (port, user, secret) = (proxy.port(), Proxy::USER, secret.display());
    let line = format!(
        "name=partners proxy=http://127.0.0.1:{port} user={user} password_file={secret} \
         addresses=198.51.100.7\n"
    );
    std::fs::write(&file, line).unwrap();
    let file = file.display().to_string();
    (dir, file)
}

/// Waits for an attempt of the only delivery of an event to end in this class.
async fn attempt_of_class(shop: &Shop, event: &str, class: &str) -> Value {
    let class = format!("ERROR_CLASS_{class}");
    eventually(&format!("an attempt for {event} is of class {class}"), || async {
        let filter = json!({"event": format!("tenants/acme/events/{event}")});
        let found = shop.deliveries(filter).await;
        let Some(delivery) = found.first() else { return Err(vec![json!("no delivery")]) };
        let attempts = shop.attempts(delivery).await;
        let of_class = attempts.iter().find(|it| it["errorClass"] == class.as_str());
        of_class.cloned().ok_or(attempts)
    })
    .await
}

async fn a_proxys_outage_charges_no_receiver<W: World>() {
    let mut proxy = Proxy::start().await;
    let (_dir, file) = pools(&proxy, Proxy::PASSWORD);
    let pregon = W::set_up(&["--egress-pools-file", &file]).await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let listed = shop.grpc.ok("EgressService/ListEgressAddresses", json!({})).await;
    let partners = json!({"pool": "partners", "addresses": ["198.51.100.7/32"]});
    assert_eq!(listed["pools"][1], partners, "{listed}");
    let fields = json!({"url": receiver.url("/hook"), "egress": "nowhere", "event_types": ["*"]});
    let request = json!({"parent": "tenants/acme", "subscription": fields});
    let refused = shop.grpc.refused("SubscriptionService/CreateSubscription", request).await;
    let wrong = [("subscription.egress".to_owned(), "UNSUPPORTED".to_owned())];
    assert_eq!(refused.violations(), wrong);

    let fields = json!({"url": receiver.url("/hook"), "egress": "partners"});
    shop.subscribe_with("erp", fields).await;
    shop.publish("e1", "{}").await;
    shop.delivery("e1", "erp", "SUCCEEDED").await;
    let log = proxy.log();
    let asked = format!("CONNECT {}", receiver.url("").trim_start_matches("http://"));
    assert!(log.contains(asked.trim_end_matches('/')), "{asked} is not in {log}");

    proxy.stop().await;
    shop.publish("e2", "{}").await;
    let attempt = attempt_of_class(&shop, "e2", "EGRESS").await;
    let reason = attempt["reason"].as_str().unwrap();
    assert!(reason.starts_with("egress pool partners: its proxy: "), "{attempt}");
    let pending = shop.delivery("e2", "erp", "PENDING").await;
    assert_eq!(pending["attemptCount"], 0, "{pending}");
    let name = json!({"name": subscription("erp")});
    let still = shop.grpc.ok("SubscriptionService/GetSubscription", name).await;
    assert_eq!(still["subscription"]["state"], "SUBSCRIPTION_STATE_ACTIVE");

    proxy.start_again().await;
    let delivered = shop.delivery("e2", "erp", "SUCCEEDED").await;
    assert_eq!(delivered["attemptCount"], 1, "{delivered}");
    assert_eq!(receiver.requests("/hook").len(), 2);
}

async fn wrong_credentials_at_a_proxy_are_told_and_charged_to_nobody<W: World>() {
    let proxy = Proxy::start().await;
    let (_dir, file) = pools(&proxy, "another");
    let pregon = W::set_up(&["--egress-pools-file", &file]).await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let tenant = json!({"name": "tenants/acme", "egress": "partners"});
    shop.write("TenantService/UpdateTenant", json!({"tenant": tenant})).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    shop.publish("e1", "{}").await;
    let attempt = attempt_of_class(&shop, "e1", "EGRESS").await;
    let reason = attempt["reason"].as_str().unwrap();
    assert!(reason.contains("does not accept the user or the password"), "{attempt}");
    assert_eq!(receiver.requests("/hook").len(), 0);
    let pair = BASE64.encode(format!("{}:another", Proxy::USER).as_bytes());
    for secret in ["another", &pair, &BASE64.encode(b"another")] {
        let output = pregon.output();
        assert!(!output.contains(secret) && !reason.contains(secret), "a password is told");
    }
    // The subscription's own pool goes before the tenant's.
    let fields = json!({"name": subscription("erp"), "egress": "default"});
    shop.write("SubscriptionService/UpdateSubscription", json!({"subscription": fields})).await;
    shop.delivery("e1", "erp", "SUCCEEDED").await;
}

async fn a_tenants_rules_stop_its_requests_and_let_them_go_again<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    shop.publish("e1", "{}").await;
    shop.delivery("e1", "erp", "SUCCEEDED").await;
    let rules = json!({"deny": ["127.0.0.0/8"]});
    let tenant = json!({"name": "tenants/acme", "egress_rules": rules});
    shop.write("TenantService/UpdateTenant", json!({"tenant": tenant})).await;
    shop.served().await;
    shop.publish("e2", "{}").await;
    let attempt = attempt_of_class(&shop, "e2", "DENIED").await;
    assert_eq!(attempt["reason"], "the tenant's rules deny the receiver");
    let event = json!({"type": TYPE, "json": "{}"});
    let test = json!({"name": subscription("erp"), "event": event});
    let tested = shop.grpc.ok("SubscriptionService/TestSubscription", test).await;
    assert_eq!(tested["attempt"]["errorClass"], "ERROR_CLASS_DENIED", "{tested}");
    assert_eq!(receiver.requests("/hook").len(), 1);
    let tenant = json!({"name": "tenants/acme"});
    let all = json!({"paths": ["egress_rules.allow", "egress_rules.deny"]});
    shop.write("TenantService/UpdateTenant", json!({"tenant": tenant, "update_mask": all})).await;
    shop.served().await;
    shop.publish("e3", "{}").await;
    shop.delivery("e3", "erp", "SUCCEEDED").await;
}

/// Loopback is open to receivers here; the process's own port is not.
#[tokio::test]
async fn the_port_of_the_api_is_no_receiver() {
    let pregon = Standalone::in_memory().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let url = format!("http://{}/", pregon.addr());
    shop.subscribe_with("inside", json!({"url": url})).await;
    shop.publish("e1", "{}").await;
    let attempt = attempt_of_class(&shop, "e1", "DENIED").await;
    assert_eq!(attempt["reason"], "an address of Pregón's own");
}

#[tokio::test]
async fn the_redis_of_the_deployment_is_no_receiver() {
    let planes = <Planes as World>::in_memory().await;
    let mut shop = Shop::open(planes.grpcurl()).await;
    let url = format!("http://localhost:{}/", planes.redis.port());
    shop.subscribe_with("inside", json!({"url": url})).await;
    shop.publish("e1", "{}").await;
    let attempt = attempt_of_class(&shop, "e1", "DENIED").await;
    assert_eq!(attempt["reason"], "an address of Pregón's own");
}
