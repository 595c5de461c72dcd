//! CallbackService, and the secrets of callbacks.

use pregon_proto::v1;
use pregon_proto::v1::CallbackState as State;
use pregon_proto::v1::callback_service_server::CallbackService as _;
use pregon_proto::v1::secret_service_server::SecretService as _;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use pregon_proto::v1::tenant_service_server::TenantService as _;
use tonic::Code;

use crate::world::{URL, World, ask, assert_refused, assert_wrong, mask, seconds};

const ASK: &str = "tenants/acme/callbacks/ask";

fn callback() -> v1::Callback {
    v1::Callback { url: URL.into(), ..Default::default() }
}

fn create(id: &str, callback: v1::Callback) -> v1::CreateCallbackRequest {
    v1::CreateCallbackRequest {
        parent: "tenants/acme".into(),
        callback_id: id.into(),
        callback: Some(callback),
        ..Default::default()
    }
}

fn update(given: v1::Callback, paths: &[&str]) -> v1::UpdateCallbackRequest {
    let callback = Some(v1::Callback { name: ASK.into(), ..given });
    let update_mask = mask(paths).filter(|mask| !mask.paths.is_empty());
    v1::UpdateCallbackRequest { callback, update_mask, ..Default::default() }
}

async fn with_callback() -> World {
    let world = World::with_tenant().await;
    ask!(world.callbacks, create_callback, create("ask", callback())).unwrap();
    world
}

async fn get(world: &World) -> v1::Callback {
    let request = v1::GetCallbackRequest { name: ASK.into() };
    ask!(world.callbacks, get_callback, request).unwrap().callback.unwrap()
}

async fn secrets(world: &World) -> Vec<v1::Secret> {
    let request = v1::ListSecretsRequest { parent: ASK.into(), ..Default::default() };
    ask!(world.secrets, list_secrets, request).unwrap().secrets
}

#[tokio::test]
async fn a_callback_lives_and_goes_with_its_keys() {
    let world = World::with_tenant().await;
    let request = v1::CreateCallbackRequest { request_id: "r".into(), ..create("", callback()) };
    let dry = v1::CreateCallbackRequest { validate_only: true, ..request.clone() };
    let dry = ask!(world.callbacks, create_callback, dry).unwrap();
    assert_eq!((dry.revision, dry.callback.unwrap().name.as_str()), (0, ""));
    let made = ask!(world.callbacks, create_callback, request.clone()).unwrap();
    assert_eq!(ask!(world.callbacks, create_callback, request).unwrap(), made);
    assert!(made.callback.unwrap().name.starts_with("tenants/acme/callbacks/cb_"));
    let made = ask!(world.callbacks, create_callback, create("ask", callback())).unwrap();
    let it = made.callback.unwrap();
    assert_eq!((it.state(), it.environment()), (State::Active, v1::Environment::Live));
    assert_eq!((it.contract.as_str(), it.timeout), ("contracts/standard_webhooks", seconds(3)));
    assert_eq!((it.on_error(), it.cache_ttl), (v1::FailurePolicy::Deny, seconds(0)));
    assert_eq!((it.max_concurrency, it.secrets_live), (64, 1));
    assert_eq!(get(&world).await, it);
    let list = v1::ListCallbacksRequest { parent: "tenants/-".into(), ..Default::default() };
    let list = ask!(world.callbacks, list_callbacks, list).unwrap().callbacks;
    assert_eq!((list.len(), &list[0]), (2, &it));
    let again = ask!(world.callbacks, create_callback, create("ask", callback()));
    assert_refused(again, Code::AlreadyExists, "RESOURCE_EXISTS");

    let delete = v1::DeleteCallbackRequest { name: ASK.into(), ..Default::default() };
    let stale = v1::DeleteCallbackRequest { etag: "r1".into(), ..delete.clone() };
    let answer = ask!(world.callbacks, delete_callback, stale);
    assert_refused(answer, Code::Aborted, "ETAG_MISMATCH");
    ask!(world.callbacks, delete_callback, delete.clone()).unwrap();
    let answer = ask!(world.callbacks, delete_callback, delete.clone());
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    let delete = v1::DeleteCallbackRequest { allow_missing: true, ..delete };
    assert_eq!(ask!(world.callbacks, delete_callback, delete).unwrap().revision, 0);
    assert!(!world.names().await.iter().any(|name| name.starts_with(ASK)));
}

#[tokio::test]
async fn every_wrong_field_is_reported() {
    let world = World::with_tenant().await;
    let header =
        |name: &str| v1::Header { name: name.into(), value: "x".into(), ..Default::default() };
    let given = v1::Callback {
        url: "http://example.com/".into(),
        contract: "mine".into(),
        headers: vec![header("host"), header("webhook-id")],
        auth: Some(v1::Auth { ca_pem: "x".into(), ..Default::default() }),
        verdict: "event.data == 1".into(),
        timeout: seconds(11),
        on_error: 9,
        cache_ttl: seconds(3601),
        max_concurrency: 1025,
        environment: 9,
        ..Default::default()
    };
    let wrong = [
        ("callback.auth.ca_pem", "MALFORMED"),
        ("callback.cache_ttl", "OUT_OF_RANGE"),
        ("callback.contract", "MALFORMED"),
        ("callback.environment", "OUT_OF_RANGE"),
        ("callback.headers[0]", "HEADER_REFUSED"),
        ("callback.headers[1]", "HEADER_REFUSED"),
        ("callback.max_concurrency", "OUT_OF_RANGE"),
        ("callback.on_error", "OUT_OF_RANGE"),
        ("callback.timeout", "OUT_OF_RANGE"),
        ("callback.url", "URL_REFUSED"),
        ("callback.verdict", "EXPRESSION_INVALID"),
        ("callback_id", "MALFORMED"),
    ];
    assert_wrong(ask!(world.callbacks, create_callback, create("a b", given)), &wrong);
    let stranger =
        v1::CreateCallbackRequest { parent: "tenants/none".into(), ..create("a", callback()) };
    let answer = ask!(world.callbacks, create_callback, stranger);
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    let other = v1::Callback { contract: "contracts/none".into(), ..callback() };
    let answer = ask!(world.callbacks, create_callback, create("a", other));
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    // A contract that signs what only an event has cannot ask.
    world
        .contract(
            "typed",
            "signatures: [{ name: s, algorithm: hmac_sha256, payload: \"${event.type}\", header: x-s }]",
        )
        .await;
    let typed = v1::Callback { contract: "contracts/typed".into(), ..callback() };
    let answer = ask!(world.callbacks, create_callback, create("a", typed));
    assert_wrong(answer, &[("callback.contract", "OUT_OF_RANGE")]);
}

#[tokio::test]
async fn updates_keep_what_is_not_chosen() {
    let world = with_callback().await;
    let before = get(&world).await;
    let given = v1::Callback {
        verdict: "response.json.ok == true".into(),
        on_error: v1::FailurePolicy::Allow.into(),
        cache_ttl: seconds(60),
        ..Default::default()
    };
    let now = ask!(world.callbacks, update_callback, update(given, &[])).unwrap();
    let now = now.callback.unwrap();
    assert_eq!((now.on_error(), now.cache_ttl), (v1::FailurePolicy::Allow, seconds(60)));
    assert_eq!((&now.url, now.timeout, now.secrets_live), (&before.url, before.timeout, 1));
    let now = ask!(world.callbacks, update_callback, update(callback(), &["*"])).unwrap();
    let now = now.callback.unwrap();
    assert_eq!((now.verdict.as_str(), now.on_error()), ("", v1::FailurePolicy::Deny));
    let stale = v1::Callback { etag: before.etag, ..callback() };
    let answer = ask!(world.callbacks, update_callback, update(stale, &[]));
    assert_refused(answer, Code::Aborted, "ETAG_MISMATCH");
    let test = v1::Callback { environment: v1::Environment::Test.into(), ..callback() };
    let answer = ask!(world.callbacks, update_callback, update(test, &[]));
    assert_wrong(answer, &[("callback.environment", "IMMUTABLE")]);
    // Another contract needs no key; the one that is there stays.
    let other = v1::Callback { contract: "contracts/preauth".into(), ..Default::default() };
    let now = ask!(world.callbacks, update_callback, update(other, &[])).unwrap();
    assert_eq!(now.callback.unwrap().secrets_live, 1);
    let mut missing = update(callback(), &[]);
    missing.callback.as_mut().unwrap().name = "tenants/acme/callbacks/new".into();
    let answer = ask!(world.callbacks, update_callback, missing.clone());
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    let request = v1::UpdateCallbackRequest { allow_missing: true, ..missing };
    let made = ask!(world.callbacks, update_callback, request).unwrap();
    assert_eq!(made.callback.unwrap().secrets_live, 1);
}

#[tokio::test]
async fn a_tenant_has_a_hundred_at_most_and_takes_them_along() {
    let world = World::with_tenant().await;
    for index in 0..100 {
        let request = create(&format!("c{index}"), callback());
        ask!(world.callbacks, create_callback, request).unwrap();
    }
    let answer = ask!(world.callbacks, create_callback, create("more", callback()));
    assert_refused(answer, Code::ResourceExhausted, "QUOTA_EXCEEDED");
    let other = v1::Callback { contract: "contracts/none".into(), ..callback() };
    let answer = ask!(world.callbacks, create_callback, create("more", other));
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    let delete = v1::DeleteCallbackRequest {
        name: "tenants/acme/callbacks/c7".into(),
        ..Default::default()
    };
    ask!(world.callbacks, delete_callback, delete).unwrap();
    ask!(world.callbacks, create_callback, create("more", callback())).unwrap();
    // They are counted beside subscriptions, not among them.
    world.subscription("acme", "erp").await;
    let list = v1::ListSubscriptionsRequest { parent: "tenants/acme".into(), ..Default::default() };
    assert_eq!(ask!(world.subscriptions, list_subscriptions, list).unwrap().subscriptions.len(), 1);
    let delete = v1::DeleteTenantRequest { name: "tenants/acme".into(), ..Default::default() };
    let answer = ask!(world.tenants, delete_tenant, delete.clone());
    assert_refused(answer, Code::FailedPrecondition, "CHILDREN_EXIST");
    let delete = v1::DeleteTenantRequest { force: true, ..delete };
    ask!(world.tenants, delete_tenant, delete).unwrap();
    let left = world.names().await;
    let others = ["books/apiKeys", "erasures/acme"];
    let kept = |name: &String| name.contains("/lanes/") || others.contains(&name.as_str());
    assert!(left.iter().all(kept), "{left:?}");
}

#[tokio::test]
async fn its_keys_are_managed_like_a_subscriptions() {
    let world = with_callback().await;
    // A subscription of the same id has keys of its own.
    world.subscription("acme", "ask").await;
    let first = secrets(&world).await.remove(0);
    assert!(first.name.starts_with(&format!("{ASK}/secrets/key_")), "{}", first.name);
    let reveal = v1::RevealSecretRequest { name: first.name.clone() };
    assert!(ask!(world.secrets, reveal_secret, reveal).unwrap().material.starts_with("whsec_"));
    let answer = ask!(
        world.secrets,
        delete_secret,
        v1::DeleteSecretRequest { name: first.name.clone(), ..Default::default() }
    );
    assert_refused(answer, Code::FailedPrecondition, "LAST_SECRET");
    let rotate = v1::RotateSecretRequest { parent: ASK.into(), ..Default::default() };
    let rotated = ask!(world.secrets, rotate_secret, rotate).unwrap();
    assert_eq!(rotated.previous[0].name, first.name);
    let create = v1::CreateSecretRequest {
        parent: ASK.into(),
        secret_id: "mine".into(),
        ..Default::default()
    };
    ask!(world.secrets, create_secret, create).unwrap();
    let revoke = v1::RevokeSecretRequest { name: first.name, ..Default::default() };
    ask!(world.secrets, revoke_secret, revoke).unwrap();
    let get_secret = v1::GetSecretRequest { name: format!("{ASK}/secrets/mine") };
    assert_eq!(
        ask!(world.secrets, get_secret, get_secret).unwrap().secret.unwrap().state(),
        v1::SecretState::Active
    );
    assert_eq!((secrets(&world).await.len(), get(&world).await.secrets_live), (3, 2));
    let list = v1::ListCallbacksRequest { parent: "tenants/acme".into(), ..Default::default() };
    let list = ask!(world.callbacks, list_callbacks, list).unwrap().callbacks;
    assert_eq!(list[0].secrets_live, 2);
    let none = v1::ListSecretsRequest {
        parent: "tenants/acme/callbacks/none".into(),
        ..Default::default()
    };
    assert_refused(ask!(world.secrets, list_secrets, none), Code::NotFound, "RESOURCE_NOT_FOUND");
}
