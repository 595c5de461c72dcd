//! Configuration writes: masks, etags, checks without effect, and repeats that are safe.

use serde_json::{Value, json};

use crate::harness::shop::{Shop, subscription};
use crate::harness::{Receiver, World};
use crate::on_both;

on_both!(
    an_update_changes_what_its_mask_says,
    a_stale_etag_is_aborted,
    checks_without_effect_have_none,
    a_request_id_makes_a_repeat_safe,
    what_is_set_for_good_stays,
    a_new_url_holds_for_the_next_event,
);

async fn an_update_changes_what_its_mask_says<W: World>() {
    let pregon = W::in_memory().await;
    let g = pregon.grpcurl();
    let tenant = json!({"display_name": "Acme", "labels": {"plan": "gold"}});
    g.ok("TenantService/CreateTenant", json!({"tenant_id": "acme", "tenant": tenant})).await;
    let update = async |fields: Value, mask: &str| {
        let mut request = json!({"tenant": fields});
        request["tenant"]["name"] = json!("tenants/acme");
        if !mask.is_empty() {
            request["update_mask"] = json!({"paths": [mask]});
        }
        g.call("TenantService/UpdateTenant", request).await
    };

    // Without a mask: what is set.
    let answer = update(json!({"display_name": "Acme Inc"}), "").await.unwrap();
    assert_eq!(answer["tenant"]["displayName"], "Acme Inc");
    assert_eq!(answer["tenant"]["labels"], json!({"plan": "gold"}));
    // With one: what it names, here to empty it.
    let answer = update(json!({}), "labels").await.unwrap();
    assert_eq!(answer["tenant"]["labels"], json!({}));
    assert_eq!(answer["tenant"]["displayName"], "Acme Inc");
    // A star: everything.
    let answer = update(json!({"labels": {"a": "b"}}), "*").await.unwrap();
    assert_eq!(answer["tenant"]["displayName"], "");
    assert_eq!(answer["tenant"]["labels"], json!({"a": "b"}));
    for (mask, rule) in [
        ("colour", "UNKNOWN_FIELD"),
        ("createTime", "UNKNOWN_FIELD"),
        ("name", "IMMUTABLE"),
        ("revision", "UNKNOWN_FIELD"),
    ] {
        let refused = update(json!({}), mask).await.unwrap_err();
        let expected = [("update_mask.paths[0]".to_owned(), rule.to_owned())];
        assert_eq!(refused.violations(), expected, "{mask}");
    }
}

async fn a_stale_etag_is_aborted<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let created = shop.subscribe("erp", &receiver, "/hook").await;
    let (name, first) = (subscription("erp"), created["subscription"]["etag"].clone());
    assert_ne!(first, "");
    let update = |etag: &Value, text: &str| {
        let fields = json!({"name": subscription("erp"), "etag": etag, "display_name": text});
        json!({ "subscription": fields })
    };
    let answer = shop.write("SubscriptionService/UpdateSubscription", update(&first, "one")).await;
    let second = answer["subscription"]["etag"].clone();
    assert_ne!(first, second);
    for (method, request) in [
        ("SubscriptionService/UpdateSubscription", update(&first, "two")),
        ("SubscriptionService/DeleteSubscription", json!({"name": name, "etag": first})),
    ] {
        let refused = shop.grpc.refused(method, request).await;
        assert_eq!((refused.code, refused.reason()), ("ABORTED", "ETAG_MISMATCH"), "{method}");
    }
    let answer = shop.grpc.ok("SubscriptionService/GetSubscription", json!({"name": name})).await;
    assert_eq!(answer["subscription"]["displayName"], "one");
    assert_eq!(answer["subscription"]["etag"], second);
    shop.write("SubscriptionService/DeleteSubscription", json!({"name": name, "etag": second}))
        .await;

    // Gone: again only where that is allowed.
    let again = json!({"name": name});
    let refused = shop.grpc.refused("SubscriptionService/DeleteSubscription", again).await;
    assert_eq!(refused.code, "NOT_FOUND");
    let again = json!({"name": name, "allow_missing": true});
    let answer = shop.grpc.ok("SubscriptionService/DeleteSubscription", again).await;
    assert_eq!(answer["revision"], "0");
}

async fn checks_without_effect_have_none<W: World>() {
    let pregon = W::in_memory().await;
    let g = pregon.grpcurl();
    let request = json!({"tenant_id": "acme", "tenant": {}, "validate_only": true});
    let answer = g.ok("TenantService/CreateTenant", request).await;
    assert_eq!(answer["revision"], "0");
    let refused = g.refused("TenantService/GetTenant", json!({"name": "tenants/acme"})).await;
    assert_eq!(refused.code, "NOT_FOUND");
    // Checks are whole: what would be refused is.
    let mut shop = Shop::open(g.clone()).await;
    let request = json!({"tenant_id": "acme", "tenant": {}, "validate_only": true});
    let refused = g.refused("TenantService/CreateTenant", request).await;
    assert_eq!(refused.code, "ALREADY_EXISTS");
    let fields = json!({"url": "http://127.0.0.1:9/", "event_types": ["*"]});
    shop.subscribe_with("erp", fields).await;
    for how in ["Pause", "Disable", "Delete"] {
        let mut request = json!({"name": subscription("erp"), "validate_only": true});
        if how == "Disable" {
            request["reason"] = json!("a check");
        }
        let method = format!("SubscriptionService/{how}Subscription");
        assert_eq!(g.ok(&method, request).await["revision"], "0", "{how}");
    }
    let name = json!({"name": subscription("erp")});
    let answer = g.ok("SubscriptionService/GetSubscription", name).await;
    assert_eq!(answer["subscription"]["state"], "SUBSCRIPTION_STATE_ACTIVE");
    let request = json!({"parent": subscription("erp"), "validate_only": true});
    g.ok("SecretService/RotateSecret", request).await;
    let list = shop
        .all("SecretService/ListSecrets", "secrets", json!({"parent": subscription("erp")}))
        .await;
    assert_eq!(list.len(), 1);
}

async fn a_request_id_makes_a_repeat_safe<W: World>() {
    let mut pregon = W::on_disk(&[]).await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    let rotate = json!({"parent": subscription("erp"), "overlap": "60s", "request_id": "r1"});
    let first = shop.grpc.ok("SecretService/RotateSecret", rotate.clone()).await;
    let again = shop.grpc.ok("SecretService/RotateSecret", rotate.clone()).await;
    assert_eq!(first["secret"]["name"], again["secret"]["name"]);
    let mut other = rotate.clone();
    other["overlap"] = json!("61s");
    let refused = shop.grpc.refused("SecretService/RotateSecret", other).await;
    assert_eq!((refused.code, refused.reason()), ("ALREADY_EXISTS", "REQUEST_ID_REUSED"));

    shop.publish("e1", "{}").await;
    let delivery = shop.delivery("e1", "erp", "SUCCEEDED").await;
    let replay = json!({"name": delivery["name"], "request_id": "r1"});
    let one = shop.grpc.ok("DeliveryService/ReplayDelivery", replay.clone()).await;
    // The memory of it is the store's, not the process's.
    pregon.kill().await;
    pregon.start_again().await;
    shop.grpc = pregon.grpcurl();
    let two = shop.grpc.ok("DeliveryService/ReplayDelivery", replay).await;
    assert_eq!(one["delivery"]["name"], two["delivery"]["name"]);
    let three = shop.grpc.ok("SecretService/RotateSecret", rotate).await;
    assert_eq!(first["secret"]["name"], three["secret"]["name"]);
    shop.settled().await;
    assert_eq!(shop.deliveries(json!({})).await.len(), 2);
}

async fn what_is_set_for_good_stays<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let url = receiver.url("/test");
    let fields = json!({"url": url, "environment": "ENVIRONMENT_TEST"});
    shop.subscribe_with("sandbox", fields).await;
    shop.subscribe("erp", &receiver, "/live").await;
    let update = json!({
        "subscription": {"name": subscription("sandbox"), "environment": "ENVIRONMENT_LIVE"},
        "update_mask": {"paths": ["environment"]},
    });
    let refused = shop.grpc.refused("SubscriptionService/UpdateSubscription", update).await;
    let rules: Vec<_> = refused.violations().into_iter().map(|(_, rule)| rule).collect();
    assert_eq!(rules, ["IMMUTABLE"], "{refused}");

    // And so a test event never reaches a live subscription, nor the reverse.
    shop.publish("live1", "{}").await;
    let mut request = shop.request("test1", "{}");
    request["event"]["environment"] = json!("ENVIRONMENT_TEST");
    shop.grpc.ok("EventService/Publish", request).await;
    shop.settled().await;
    let ids = |path: &str| receiver.seen(path).into_keys().collect::<Vec<_>>();
    assert_eq!((ids("/live"), ids("/test")), (vec!["live1".into()], vec!["test1".to_owned()]));
}

async fn a_new_url_holds_for_the_next_event<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/old").await;
    shop.publish("e1", "{}").await;
    receiver.expect("/old", 1).await;
    // The query goes out byte for byte, and the tenant's header with it.
    let target = "/new?cliente=(vendedor)&q=%C3%B1%20+";
    let update = json!({"subscription": {
        "name": subscription("erp"),
        "url": receiver.url(target),
        "headers": [{"name": "X-Shop", "value": "acme"}],
    }});
    shop.write("SubscriptionService/UpdateSubscription", update).await;
    shop.publish("e2", "{}").await;
    let received = receiver.expect("/new", 1).await.remove(0);
    assert_eq!(received.target, target);
    assert_eq!(received.header("x-shop"), "acme");
    assert_eq!(receiver.requests("/old").len(), 1);
}
