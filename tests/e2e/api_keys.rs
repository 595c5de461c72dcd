//! API keys: made and ended while everything runs, and every process knows.

use std::time::Instant;

use pregon_proto::v1;
use pregon_proto::v1::event_service_client::EventServiceClient;
use serde_json::{Value, json};
use tonic::codegen::tokio_stream;

use crate::harness::poll;
use crate::harness::watcher::Watcher;
use crate::harness::{Grpcurl, Shop, Standalone, World, eventually};
use crate::on_both;
use crate::strangers::{Token, guarded};

on_both!(a_key_is_made_used_and_revoked_on_every_process);

/// Creates a key; its name and the key.
async fn create(grpc: &Grpcurl, api_key: Value) -> (String, String) {
    let answer = grpc.ok("ApiKeyService/CreateApiKey", json!({"api_key": api_key})).await;
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    (text(&answer["apiKey"]["name"]), text(&answer["key"]))
}

/// The reason for which a call is refused; none: it is let in.
async fn refusal(grpc: &Grpcurl, method: &str, request: &Value) -> Option<String> {
    let answer = grpc.call(method, request.clone()).await;
    answer.err().map(|refused| refused.to_string())
}

/// Waits until a call is let in.
async fn let_in(grpc: &Grpcurl, method: &str, request: &Value) {
    eventually(&format!("{method} is let in"), || async {
        refusal(grpc, method, request).await.map_or(Ok(()), Err)
    })
    .await;
}

/// Waits until calls with a key are refused, on every process; how long that took.
async fn revoked(grpc: &Grpcurl, calls: &[(&str, &Value)]) {
    let begun = Instant::now();
    for (method, request) in calls {
        eventually(&format!("{method} is refused"), || async {
            match refusal(grpc, method, request).await {
                Some(text) if text.starts_with("UNAUTHENTICATED") => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }
    println!("revoked everywhere within {:?}", begun.elapsed());
}

async fn a_key_is_made_used_and_revoked_on_every_process<W: World>() {
    let first = Token::of("admin").await;
    let (pregon, _dir) = guarded::<W>(&[&first]).await;
    let plain = pregon.grpcurl();
    let shop = Shop::open(plain.with_token(&first.token)).await;
    shop.grpc.ok("TenantService/CreateTenant", json!({"tenant_id": "other", "tenant": {}})).await;
    let fields = json!({
        "display_name": "checkout", "role": "API_KEY_ROLE_PUBLISHER",
        "tenants": ["tenants/acme"], "event_types": ["order.*"],
    });
    let (name, key) = create(&shop.grpc, fields).await;
    let publisher = plain.with_token(&key);
    let publish = |tenant: &str, kind: &str| {
        let event = json!({"type": kind, "json": "{}"});
        json!({"tenant": format!("tenants/{tenant}"), "event": event})
    };
    let order = publish("acme", "order.captured");
    for _ in 0..W::NODES {
        let_in(&publisher, "EventService/Publish", &order).await; // the nodes by turns
    }
    for (method, request, reason) in [
        ("EventService/Publish", publish("other", "order.captured"), "TENANT_DENIED"),
        ("EventService/Publish", publish("acme", "user.created"), "EVENT_TYPE_DENIED"),
        ("TenantService/GetTenant", json!({"name": "tenants/acme"}), "ROLE_MISSING"),
    ] {
        let refused = publisher.refused(method, request).await;
        assert_eq!((refused.code, refused.reason()), ("PERMISSION_DENIED", reason));
    }

    // A manager makes keys for its own tenant, and none with more rights.
    let fields = json!({"role": "API_KEY_ROLE_TENANT_MANAGER", "tenants": ["tenants/acme"]});
    let (manager_name, manager_key) = create(&shop.grpc, fields).await;
    let manager = plain.with_token(&manager_key);
    let get = json!({"name": manager_name});
    let_in(&manager, "ApiKeyService/GetApiKey", &get).await;
    let more = json!({"api_key": {"role": "API_KEY_ROLE_VIEWER"}});
    let refused = manager.refused("ApiKeyService/CreateApiKey", more).await;
    assert_eq!(refused.reason(), "TENANT_DENIED");
    let fields = json!({"role": "API_KEY_ROLE_VIEWER", "tenants": ["tenants/acme"]});
    let (viewer_name, viewer_key) = create(&manager, fields).await;
    let viewer = plain.with_token(&viewer_key);
    let list = json!({"parent": "tenants/acme"});
    let_in(&viewer, "DeliveryService/ListEvents", &list).await;
    let fields = json!({"role": "API_KEY_ROLE_AUDITOR", "tenants": ["tenants/acme"]});
    let (_, auditor_key) = create(&manager, fields).await;
    let auditor = plain.with_token(&auditor_key);
    let_in(&auditor, "SubscriptionService/ListSubscriptions", &list).await;
    let refused = auditor.refused("DeliveryService/ListEvents", list.clone()).await;
    assert_eq!(refused.reason(), "ROLE_MISSING");

    a_portal_token_ends_with_its_maker(&plain, &shop.grpc).await;

    // Rotated, both secrets are good; revoked, neither, and what idles is ended.
    let rotate = json!({"name": name, "overlap": "60s"});
    let rotated = shop.grpc.ok("ApiKeyService/RotateApiKey", rotate).await;
    let newer = plain.with_token(rotated["key"].as_str().expect("the key"));
    for _ in 0..W::NODES {
        let_in(&newer, "EventService/Publish", &order).await;
    }
    for _ in 0..W::NODES {
        publisher.ok("EventService/Publish", order.clone()).await;
    }
    let mut idle = idle_publisher(&pregon, &key).await;
    shop.grpc.ok("ApiKeyService/RevokeApiKey", json!({"name": name})).await;
    let ended = tokio::time::timeout(poll::BOUND, idle.message()).await.expect("it is ended");
    assert_eq!(ended.unwrap_err().code(), tonic::Code::Unauthenticated);
    let calls: Vec<_> = (0..W::NODES).map(|_| ("EventService/Publish", &order)).collect();
    revoked(&publisher, &calls).await;
    revoked(&newer, &calls).await;
    let idle = Watcher::start(&viewer, "DeliveryService/WatchDeliveries", list.clone()).await;
    shop.grpc.ok("ApiKeyService/RevokeApiKey", json!({"name": viewer_name})).await;
    let ended = idle.refused().await;
    // grpcurl's own reflection is ended too, so it cannot read the details.
    assert_eq!(ended.code, "UNAUTHENTICATED");
    assert!(ended.message.contains("the credential was revoked"), "{ended:?}");

    let output = pregon.output();
    for key in [&key, &manager_key, &viewer_key, &auditor_key] {
        let secret = key.rsplit_once('_').expect("a key has parts").1;
        assert!(!output.contains(secret), "a key is in the log: {output}");
    }
}

/// A customer's page watches its tenant, and no longer than the key that let it.
async fn a_portal_token_ends_with_its_maker(plain: &Grpcurl, admin: &Grpcurl) {
    let fields = json!({"role": "API_KEY_ROLE_TENANT_MANAGER", "tenants": ["tenants/acme"]});
    let (name, key) = create(admin, fields).await;
    let backend = plain.with_token(&key);
    let lend = json!({"tenant": "tenants/acme", "user": "jane"});
    let_in(&backend, "ApiKeyService/CreatePortalToken", &lend).await;
    let lent = backend.ok("ApiKeyService/CreatePortalToken", lend.clone()).await;
    let portal = plain.with_token(lent["token"].as_str().expect("the token"));
    let list = json!({"parent": "tenants/acme"});
    for _ in 0..2 {
        portal.ok("DeliveryService/ListEvents", list.clone()).await;
    }
    for (method, request, reason) in [
        (
            "SubscriptionService/ListSubscriptions",
            json!({"parent": "tenants/other"}),
            "TENANT_DENIED",
        ),
        (
            "SubscriptionService/DeleteSubscription",
            json!({"name": "tenants/acme/subscriptions/x"}),
            "ROLE_MISSING",
        ),
        ("ApiKeyService/ListApiKeys", json!({}), "ROLE_MISSING"),
        ("ApiKeyService/CreatePortalToken", lend, "ROLE_MISSING"),
    ] {
        let refused = portal.refused(method, request).await;
        assert_eq!((refused.code, refused.reason()), ("PERMISSION_DENIED", reason), "{method}");
    }
    let watch = Watcher::start(&portal, "DeliveryService/WatchDeliveries", list.clone()).await;
    admin.ok("ApiKeyService/RevokeApiKey", json!({"name": name})).await;
    let ended = watch.refused().await;
    assert_eq!(ended.code, "UNAUTHENTICATED");
    revoked(&portal, &[("DeliveryService/ListEvents", &list)]).await;
}

/// A publish stream with nothing to say.
async fn idle_publisher(
    pregon: &impl World,
    key: &str,
) -> tonic::Streaming<v1::PublishStreamResponse> {
    let addr = format!("http://{}", pregon.events()[0]);
    let channel = tonic::transport::Endpoint::from_shared(addr).unwrap().connect().await.unwrap();
    let mut request = tonic::Request::new(tokio_stream::pending());
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    EventServiceClient::new(channel).publish_stream(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn standalone_beyond_loopback_makes_its_first_key_once() {
    let args = ["standalone", "--listen", "0.0.0.0:0", "--allow-plaintext"];
    let dir = tempfile::tempdir().unwrap();
    let mut pregon = Standalone::exactly(&args, Some(dir)).await;
    let output = pregon.output();
    let key = output.lines().find(|line| line.starts_with("pgk_")).expect("the key").to_owned();
    assert_eq!(output.matches("pgk_").count(), 1, "{output}");
    for _ in 0..2 {
        let plain = Grpcurl::new(pregon.addr());
        let admin = plain.with_token(&key);
        let_in(&admin, "TenantService/ListTenants", &json!({})).await;
        let refused = raw_stranger(&pregon).await;
        assert_eq!(refused, tonic::Code::Unauthenticated);
        pregon.kill().await;
        pregon.start_again().await;
        assert!(!pregon.output().contains("pgk_"), "it is shown once");
    }
}

/// What a caller without a credential is told.
async fn raw_stranger(pregon: &Standalone) -> tonic::Code {
    let addr = format!("http://{}", pregon.addr());
    let endpoint = tonic::transport::Endpoint::from_shared(addr).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let path = "/pregon.v1.TenantService/ListTenants";
    crate::harness::raw::call(&channel, path, Vec::new(), None).await.unwrap_err().code()
}
