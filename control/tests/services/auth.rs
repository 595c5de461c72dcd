//! How Pregón identifies itself: kept sealed, shown as configured, left out in an update.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pregon_core::model::{Auth, Resource};
use pregon_core::seal::KeyRing;
use pregon_proto::v1;
use pregon_proto::v1::auth::Kind;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use tonic::Status;

use crate::world::{World, ask, assert_wrong, mask, subscription};

const ERP: &str = "tenants/acme/subscriptions/erp";

fn bearer(token: &str) -> Option<v1::Auth> {
    let kind = Kind::Bearer(v1::BearerAuth { token: token.into(), ..Default::default() });
    Some(v1::Auth { kind: Some(kind), ..Default::default() })
}

fn api_key(header: &str, value: &str) -> Option<v1::Auth> {
    let kind = Kind::ApiKey(v1::ApiKeyAuth {
        header: header.into(),
        value: value.into(),
        ..Default::default()
    });
    Some(v1::Auth { kind: Some(kind), ..Default::default() })
}

fn basic(username: &str, password: &str) -> Option<v1::Auth> {
    let kind = Kind::Basic(v1::BasicAuth {
        username: username.into(),
        password: password.into(),
        ..Default::default()
    });
    Some(v1::Auth { kind: Some(kind), ..Default::default() })
}

async fn set(world: &World, auth: Option<v1::Auth>) -> Result<v1::Subscription, Status> {
    let given = v1::Subscription { name: ERP.into(), auth, ..Default::default() };
    let request = v1::UpdateSubscriptionRequest {
        subscription: Some(given),
        update_mask: mask(&["auth"]),
        ..Default::default()
    };
    ask!(world.subscriptions, update_subscription, request).map(|it| it.subscription.unwrap())
}

async fn stored(world: &World) -> Auth {
    let Some(Resource::Subscription(it)) = world.stored(ERP).await else {
        panic!("no subscription")
    };
    it.auth
}

/// The credential, opened as a node opens it.
fn open(sealed: &str) -> String {
    let keys = Arc::new(KeyRing::parse(&"5a".repeat(32)).unwrap());
    let sealed = STANDARD.decode(sealed).unwrap();
    let key = keys.open(&sealed, &format!("{ERP}/auth")).unwrap();
    String::from_utf8(key.expose().to_vec()).unwrap()
}

#[tokio::test]
async fn credentials_are_sealed_and_never_shown() {
    let world = World::with_subscription().await;
    let shown = set(&world, bearer("hush-1")).await.unwrap();
    assert!(!format!("{shown:?}").contains("hush"));
    let Some(Kind::Bearer(it)) = shown.auth.unwrap().kind else { panic!("another kind") };
    assert!(it.configured && it.token.is_empty());
    let Auth::Bearer { token } = stored(&world).await else { panic!("another kind") };
    assert_eq!(open(&token), "hush-1");
    let shown = set(&world, basic("me", "hush-2")).await.unwrap();
    let Some(Kind::Basic(it)) = shown.auth.unwrap().kind else { panic!("another kind") };
    assert_eq!((it.username.as_str(), it.password.as_str(), it.configured), ("me", "", true));
    let shown = set(&world, api_key("X-Api-Key", "hush 3")).await.unwrap();
    let Some(Kind::ApiKey(it)) = shown.auth.unwrap().kind else { panic!("another kind") };
    assert_eq!((it.header.as_str(), it.value.as_str(), it.configured), ("X-Api-Key", "", true));
    assert_eq!(set(&world, None).await.unwrap().auth, None);
    assert_eq!(stored(&world).await, Auth::None);
}

#[tokio::test]
async fn one_that_is_left_out_stays_as_long_as_it_goes_the_same_way() {
    let world = World::with_subscription().await;
    let missing = |answer: Result<v1::Subscription, Status>, path: &str| {
        assert_wrong(answer, &[(&format!("subscription.auth.{path}"), "REQUIRED")]);
    };
    missing(set(&world, bearer("")).await, "bearer.token");
    set(&world, api_key("x-key", "hush")).await.unwrap();
    let before = stored(&world).await;
    set(&world, api_key("X-Key", "")).await.unwrap();
    let (Auth::ApiKey { value: kept, .. }, Auth::ApiKey { header, value }) =
        (before, stored(&world).await)
    else {
        panic!("another kind")
    };
    assert_eq!((header.as_str(), value), ("X-Key", kept));
    missing(set(&world, api_key("x-other", "")).await, "api_key.value");
    missing(set(&world, basic("me", "")).await, "basic.password");
    set(&world, basic("me", "hush")).await.unwrap();
    set(&world, basic("you", "")).await.unwrap();
    let Auth::Basic { username, password } = stored(&world).await else { panic!("another kind") };
    assert_eq!((username.as_str(), open(&password).as_str()), ("you", "hush"));
}

#[tokio::test]
async fn no_header_is_set_twice() {
    let world = World::with_tenant().await;
    let header =
        |name: &str| v1::Header { name: name.into(), value: "x".into(), ..Default::default() };
    let create = |it: v1::Subscription| crate::world::create("erp", it);
    let headers = vec![header("x-shop"), header("Authorization")];
    let own = v1::Subscription { headers: headers.clone(), ..subscription() };
    let both = v1::Subscription { auth: bearer("t"), ..own.clone() };
    let answer = ask!(world.subscriptions, create_subscription, create(both));
    assert_wrong(answer, &[("subscription.headers[1]", "HEADER_REFUSED")]);
    let both = v1::Subscription { auth: api_key("X-Shop", "t"), ..own.clone() };
    let answer = ask!(world.subscriptions, create_subscription, create(both));
    assert_wrong(answer, &[("subscription.headers[0]", "HEADER_REFUSED")]);
    let theirs = v1::Subscription { auth: api_key("webhook-id", "t"), ..subscription() };
    let answer = ask!(world.subscriptions, create_subscription, create(theirs));
    assert_wrong(answer, &[("subscription.auth.api_key.header", "HEADER_REFUSED")]);
    ask!(world.subscriptions, create_subscription, create(own)).unwrap();
    // Either of the two may come later.
    assert_wrong(set(&world, bearer("t")).await, &[("subscription.headers[1]", "HEADER_REFUSED")]);
    set(&world, api_key("x-key", "t")).await.unwrap();
    let given =
        v1::Subscription { name: ERP.into(), headers: vec![header("X-Key")], ..Default::default() };
    let request = v1::UpdateSubscriptionRequest { subscription: Some(given), ..Default::default() };
    let answer = ask!(world.subscriptions, update_subscription, request);
    assert_wrong(answer, &[("subscription.headers[0]", "HEADER_REFUSED")]);
}
