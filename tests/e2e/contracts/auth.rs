//! How Pregón identifies itself to receivers, and that nobody else gets to see it.

use serde_json::{Value, json};

use super::{get, publish, story};
use crate::harness::shop::{Shop, subscription};
use crate::harness::{Receiver, World};
use crate::on_both;

on_both!(credentials_go_to_the_receiver_and_nowhere_else);

const TOKEN: &str = "tok-7f3c9a-SECRET";
const PASSWORD: &str = "contraseña-SECRET";
const KEY: &str = "key-51d2-SECRET";

async fn credentials_go_to_the_receiver_and_nowhere_else<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    for (id, auth) in [
        ("bearer", json!({"bearer": {"token": TOKEN}})),
        ("basic", json!({"basic": {"username": "pregon", "password": PASSWORD}})),
        ("key", json!({"api_key": {"header": "x-api-key", "value": KEY}})),
        ("none", json!({"none": {}})),
    ] {
        let url = receiver.url(&format!("/{id}"));
        let made = shop.subscribe_with(id, json!({"url": url, "auth": auth})).await;
        assert_hidden(&made);
    }
    let shown = get(&shop, "bearer").await;
    assert_eq!(shown["auth"]["bearer"]["configured"], true);

    // An update that does not repeat the credential keeps it.
    let update = json!({
        "subscription": {
            "name": subscription("key"), "display_name": "renamed",
            "auth": {"api_key": {"header": "x-api-key"}},
        },
        "update_mask": {"paths": ["display_name", "auth"]},
    });
    assert_hidden(&shop.write("SubscriptionService/UpdateSubscription", update).await);
    shop.served().await;
    publish(&shop, json!({"id": "e1", "type": "order.captured", "json": "{}"})).await;
    shop.settled().await;

    let header = |path: &str, name: &str| {
        let request = receiver.requests(path).remove(0);
        request.header(name).to_owned()
    };
    assert_eq!(header("/bearer", "authorization"), format!("Bearer {TOKEN}"));
    let basic = header("/basic", "authorization");
    let pair = base64::Engine::decode(
        &base64::engine::general_purpose::STANDARD,
        basic.strip_prefix("Basic ").unwrap(),
    );
    assert_eq!(String::from_utf8(pair.unwrap()).unwrap(), format!("pregon:{PASSWORD}"));
    assert_eq!(header("/key", "x-api-key"), KEY);
    assert_eq!(header("/none", "authorization"), "");

    for id in ["bearer", "basic", "key"] {
        let (_, attempts) = story(&shop, "e1", id, "SUCCEEDED").await;
        assert_hidden(&attempts[0]);
        let preview = json!({"name": subscription(id), "stored_event": "tenants/acme/events/e1"});
        assert_hidden(&shop.grpc.ok("SubscriptionService/PreviewDelivery", preview).await);
    }
    let said = pregon.output();
    for secret in [TOKEN, PASSWORD, KEY, basic.as_str()] {
        assert!(!said.contains(secret), "a credential is in the log");
    }

    for (auth, field) in [
        (json!({"bearer": {}}), "subscription.auth.bearer.token"),
        (json!({"bearer": {"token": "a\nb"}}), "subscription.auth.bearer.token"),
        (
            json!({"basic": {"username": "a:b", "password": "x"}}),
            "subscription.auth.basic.username",
        ),
        (json!({"api_key": {"header": "host", "value": "x"}}), "subscription.auth.api_key.header"),
        (
            json!({"api_key": {"header": "webhook-id", "value": "x"}}),
            "subscription.auth.api_key.header",
        ),
        (
            json!({"oauth2": {"token_url": "https://example.com/"}}),
            "subscription.auth.oauth2.client_id",
        ),
    ] {
        let request = json!({
            "parent": "tenants/acme",
            "subscription": {"url": receiver.url("/x"), "event_types": ["*"], "auth": auth},
        });
        let refused = shop.grpc.refused("SubscriptionService/CreateSubscription", request).await;
        let fields: Vec<_> = refused.violations().into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, [field], "{refused}");
    }
}

fn assert_hidden(answer: &Value) {
    let text = answer.to_string();
    assert!(!text.contains("SECRET"), "a credential is shown: {text}");
}
