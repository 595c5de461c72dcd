//! Headers of a receiver's own: credentials among them are sealed, masked, and kept in an update.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pregon_core::model::{HeaderText, OwnHeaders, Resource};
use pregon_core::seal::KeyRing;
use pregon_proto::v1;
use pregon_proto::v1::callback_service_server::CallbackService as _;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use tonic::Status;

use crate::world::{World, ask, assert_wrong, mask, subscription};

const ERP: &str = "tenants/acme/subscriptions/erp";

fn header(name: &str, value: &str) -> v1::Header {
    v1::Header { name: name.into(), value: value.into(), ..Default::default() }
}

fn credential(name: &str, value: &str) -> v1::Header {
    v1::Header { credential: true, ..header(name, value) }
}

async fn set(world: &World, headers: Vec<v1::Header>) -> Result<v1::Subscription, Status> {
    let given = v1::Subscription { name: ERP.into(), headers, ..Default::default() };
    let request = v1::UpdateSubscriptionRequest {
        subscription: Some(given),
        update_mask: mask(&["headers"]),
        ..Default::default()
    };
    ask!(world.subscriptions, update_subscription, request).map(|it| it.subscription.unwrap())
}

/// The headers as they are stored; sealed ones opened, as a node opens them.
async fn stored(world: &World, name: &str) -> Vec<(String, String, bool)> {
    let headers: OwnHeaders = match world.stored(name).await {
        Some(Resource::Subscription(it)) => it.headers,
        Some(Resource::Callback(it)) => it.headers,
        other => panic!("{other:?}"),
    };
    let keys = Arc::new(KeyRing::parse(&"5a".repeat(32)).unwrap());
    let opened = |(header, value): (String, HeaderText)| match value {
        HeaderText::Plain(text) => (header, text, false),
        HeaderText::Sealed { sealed } => {
            let sealed = STANDARD.decode(sealed).unwrap();
            let opened = keys.open(&sealed, &HeaderText::binding(&name, &header)).unwrap();
            (header, String::from_utf8(opened.expose().to_vec()).unwrap(), true)
        }
    };
    headers.into_iter().map(opened).collect()
}

fn line(name: &str, value: &str, sealed: bool) -> (String, String, bool) {
    (name.into(), value.into(), sealed)
}

#[tokio::test]
async fn credentials_among_headers_are_sealed_and_shown_to_nobody() {
    let world = World::with_subscription().await;
    let given = vec![
        header("X-Shop", "7"),
        header("X-Custom-Token", "hush-1"),
        credential("X-Id", "hush-2"),
    ];
    let want = vec![
        header("X-Shop", "7"),
        credential("X-Custom-Token", "[masked]"),
        credential("X-Id", "[masked]"),
    ];
    let shown = set(&world, given).await.unwrap();
    assert_eq!(shown.headers, want);
    let request = v1::GetSubscriptionRequest { name: ERP.into() };
    let got = ask!(world.subscriptions, get_subscription, request).unwrap();
    assert_eq!(got.subscription.unwrap().headers, want);
    let request =
        v1::ListSubscriptionsRequest { parent: "tenants/acme".into(), ..Default::default() };
    let list = ask!(world.subscriptions, list_subscriptions, request).unwrap();
    assert_eq!(list.subscriptions[0].headers, want);
    let want = [
        line("X-Shop", "7", false),
        line("X-Custom-Token", "hush-1", true),
        line("X-Id", "hush-2", true),
    ];
    assert_eq!(stored(&world, ERP).await, want);
}

#[tokio::test]
async fn what_was_read_may_be_written_back() {
    let world = World::with_subscription().await;
    let given = vec![header("x-token", "hush-1"), credential("x-id", "hush-2"), header("x-a", "1")];
    let mut shown = set(&world, given).await.unwrap();
    shown.headers[2].value = "2".into();
    shown.headers[0].name = "X-Token".into();
    shown.headers[1].credential = false; // a client that does not know the field
    set(&world, shown.headers).await.unwrap();
    let want =
        [line("X-Token", "hush-1", true), line("x-id", "hush-2", true), line("x-a", "2", false)];
    assert_eq!(stored(&world, ERP).await, want);
    // The mask stands for what is stored of this header, and of no other.
    let answer = set(&world, vec![header("x-a", "[masked]"), header("x-key", "[masked]")]).await;
    assert_wrong(answer, &[("subscription.headers[1].value", "REQUIRED")]);
    set(&world, vec![header("x-a", "[masked]"), header("x-id", "plain")]).await.unwrap();
    let want = [line("x-a", "[masked]", false), line("x-id", "plain", false)];
    assert_eq!(stored(&world, ERP).await, want);
}

#[tokio::test]
async fn a_credential_that_is_stored_as_it_is_is_hidden_and_sealed_by_the_next_update() {
    let world = World::with_subscription().await;
    let Some(Resource::Subscription(mut it)) = world.stored(ERP).await else {
        panic!("no subscription")
    };
    it.headers = vec![("x-token".into(), "hush".into()), ("x-a".into(), "1".into())];
    world.put(&Resource::Subscription(it)).await;
    let request = v1::GetSubscriptionRequest { name: ERP.into() };
    let got = ask!(world.subscriptions, get_subscription, request).unwrap().subscription.unwrap();
    assert_eq!(got.headers, [credential("x-token", "[masked]"), header("x-a", "1")]);
    let request = v1::UpdateSubscriptionRequest {
        subscription: Some(v1::Subscription { display_name: "ERP".into(), ..got }),
        update_mask: mask(&["display_name"]),
        ..Default::default()
    };
    ask!(world.subscriptions, update_subscription, request).unwrap();
    let want = [line("x-token", "hush", true), line("x-a", "1", false)];
    assert_eq!(stored(&world, ERP).await, want);
}

#[tokio::test]
async fn callbacks_and_new_subscriptions_are_alike() {
    let world = World::with_tenant().await;
    let headers = vec![header("x-token", "hush"), header("x-a", "1")];
    let want = [credential("x-token", "[masked]"), header("x-a", "1")];
    let sealed = [line("x-token", "hush", true), line("x-a", "1", false)];
    let given = v1::Subscription { headers: headers.clone(), ..subscription() };
    let shown = world.subscribe("acme", "erp", given).await;
    assert_eq!(shown.headers, want);
    assert_eq!(stored(&world, ERP).await, sealed);
    let callback =
        v1::Callback { url: "https://acme.example/ask".into(), headers, ..Default::default() };
    let request = v1::CreateCallbackRequest {
        parent: "tenants/acme".into(),
        callback_id: "ask".into(),
        callback: Some(callback),
        ..Default::default()
    };
    let made = ask!(world.callbacks, create_callback, request).unwrap().callback.unwrap();
    assert_eq!(made.headers, want);
    assert_eq!(stored(&world, &made.name).await, sealed);
    let request = v1::UpdateCallbackRequest {
        callback: Some(v1::Callback { headers: made.headers.clone(), ..made.clone() }),
        update_mask: mask(&["headers"]),
        ..Default::default()
    };
    ask!(world.callbacks, update_callback, request).unwrap();
    assert_eq!(stored(&world, &made.name).await, sealed);
}
