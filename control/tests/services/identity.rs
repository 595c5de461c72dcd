//! Client certificates and tokens that are fetched: what is kept, shown and refused of them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pregon_core::model::{Auth, Resource};
use pregon_core::seal::KeyRing;
use pregon_proto::v1;
use pregon_proto::v1::auth::Kind;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use pregon_proto::v1::tenant_service_server::TenantService as _;
use tonic::Status;

use crate::world::{World, ask, assert_wrong, create, mask, subscription};

const ERP: &str = "tenants/acme/subscriptions/erp";
const EC: &str = include_str!("../../../core/testdata/tls/ec.pem");
const EC_KEY: &str = include_str!("../../../core/testdata/tls/ec.sec1.key");
const RSA: &str = include_str!("../../../core/testdata/tls/rsa.pem");
const RSA_KEY: &str = include_str!("../../../core/testdata/tls/rsa.pkcs1.key");
const EXPIRED: &str = include_str!("../../../core/testdata/tls/expired.pem");

fn mtls(certificate: &str, key: &str) -> v1::Auth {
    let kind = Kind::Mtls(v1::MtlsAuth {
        certificate_pem: certificate.into(),
        key_pem: key.into(),
        ..Default::default()
    });
    v1::Auth { kind: Some(kind), ..Default::default() }
}

fn grant(url: &str, id: &str, secret: &str) -> v1::Oauth2Auth {
    v1::Oauth2Auth {
        token_url: url.into(),
        client_id: id.into(),
        client_secret: secret.into(),
        ..Default::default()
    }
}

fn oauth2(grant: v1::Oauth2Auth) -> v1::Auth {
    v1::Auth { kind: Some(Kind::Oauth2(grant)), ..Default::default() }
}

async fn with(auth: v1::Auth) -> (World, Result<v1::Auth, Status>) {
    let world = World::with_tenant().await;
    let url = "https://receiver.example/hook".into();
    let given = v1::Subscription { url, auth: Some(auth), ..subscription() };
    let made = ask!(world.subscriptions, create_subscription, create("erp", given));
    let shown = made.map(|it| it.subscription.unwrap().auth.unwrap());
    (world, shown)
}

async fn set(world: &World, auth: v1::Auth) -> Result<v1::Auth, Status> {
    let given = v1::Subscription { name: ERP.into(), auth: Some(auth), ..Default::default() };
    let request = v1::UpdateSubscriptionRequest {
        subscription: Some(given),
        update_mask: mask(&["auth"]),
        ..Default::default()
    };
    let made = ask!(world.subscriptions, update_subscription, request);
    made.map(|it| it.subscription.unwrap().auth.unwrap())
}

async fn stored(world: &World) -> Auth {
    let Some(Resource::Subscription(it)) = world.stored(ERP).await else {
        panic!("no subscription")
    };
    it.auth
}

/// A credential, opened as a node opens it.
fn open(sealed: &str) -> String {
    let keys = Arc::new(KeyRing::parse(&"5a".repeat(32)).unwrap());
    let key = keys.open(&STANDARD.decode(sealed).unwrap(), &format!("{ERP}/auth")).unwrap();
    String::from_utf8(key.expose().to_vec()).unwrap()
}

#[tokio::test]
async fn a_certificate_is_shown_with_its_end_and_its_key_is_sealed() {
    let (world, shown) = with(mtls(EC, EC_KEY)).await;
    let Some(Kind::Mtls(it)) = shown.unwrap().kind else { panic!("another kind") };
    assert_eq!((it.certificate_pem.as_str(), it.key_pem.as_str(), it.configured), (EC, "", true));
    assert_eq!(it.expire_time.unwrap().seconds / 86_400 / 365, 156, "in 2126");
    let Auth::Mtls { key, .. } = stored(&world).await else { panic!("another kind") };
    assert_eq!(open(&key), EC_KEY);
    // A renewed certificate of the same key, and one of another.
    set(&world, mtls(&format!("{EC}{RSA}"), "")).await.unwrap();
    let Auth::Mtls { key, certificate, .. } = stored(&world).await else { panic!("another kind") };
    assert_eq!((open(&key).as_str(), certificate), (EC_KEY, format!("{EC}{RSA}")));
    let key = "subscription.auth.mtls.key_pem";
    assert_wrong(set(&world, mtls(RSA, "")).await, &[(key, "MALFORMED")]);
    set(&world, mtls(RSA, RSA_KEY)).await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_nobody_could_be_shown_is_refused() {
    let (certificate, key) =
        ("subscription.auth.mtls.certificate_pem", "subscription.auth.mtls.key_pem");
    let long = "x".repeat(9000);
    for (auth, wrong) in [
        (mtls("", EC_KEY), vec![(certificate, "REQUIRED")]),
        (mtls("x", EC_KEY), vec![(certificate, "MALFORMED")]),
        (mtls(&format!("{EC}{EC_KEY}"), EC_KEY), vec![(certificate, "MALFORMED")]),
        (mtls(&EC.repeat(9), EC_KEY), vec![(certificate, "TOO_MANY")]),
        (mtls(EXPIRED, EC_KEY), vec![(certificate, "OUT_OF_RANGE")]),
        (mtls(EC, ""), vec![(key, "REQUIRED")]),
        (mtls(EC, RSA_KEY), vec![(key, "MALFORMED")]),
        (mtls(EC, "hush"), vec![(key, "MALFORMED")]),
        (mtls(EC, &long), vec![(key, "TOO_LONG")]),
        (mtls("x", &long), vec![(certificate, "MALFORMED"), (key, "TOO_LONG")]),
    ] {
        let (_, answer) = with(auth).await;
        assert!(!format!("{answer:?}").contains("hush"));
        assert_wrong(answer, &wrong);
    }
    let world = World::with_tenant().await;
    let url = "http://receiver.example/".into();
    let plain = v1::Subscription { url, auth: Some(mtls(EC, EC_KEY)), ..subscription() };
    let answer = ask!(world.subscriptions, create_subscription, create("other", plain));
    let wrong = [("subscription.auth.mtls", "OUT_OF_RANGE"), ("subscription.url", "URL_REFUSED")];
    assert_wrong(answer, &wrong);
}

#[tokio::test]
async fn a_clients_secret_stays_with_the_place_and_the_client_that_it_is_for() {
    let url = "https://auth.example/token";
    let given = v1::Oauth2Auth {
        scopes: vec!["send".into()],
        audience: "api".into(),
        style: v1::Oauth2Style::Post.into(),
        ..grant(url, "shop", "hush-1")
    };
    let (world, shown) = with(oauth2(given.clone())).await;
    let Some(Kind::Oauth2(it)) = shown.unwrap().kind else { panic!("another kind") };
    assert_eq!(it, v1::Oauth2Auth { client_secret: String::new(), configured: true, ..given });
    let secret = async |world: &World| {
        let Auth::Oauth2 { client_secret, .. } = stored(world).await else {
            panic!("another kind")
        };
        open(&client_secret)
    };
    assert_eq!(secret(&world).await, "hush-1");
    let Some(Kind::Oauth2(it)) = set(&world, oauth2(grant(url, "shop", ""))).await.unwrap().kind
    else {
        panic!("another kind")
    };
    assert_eq!((it.style, it.scopes.len()), (v1::Oauth2Style::Basic.into(), 0));
    assert_eq!(secret(&world).await, "hush-1");
    // To another place, or for another client, it does not go.
    for other in [grant("https://evil.example/token", "shop", ""), grant(url, "other", "")] {
        let wrong = [("subscription.auth.oauth2.client_secret", "REQUIRED")];
        assert_wrong(set(&world, oauth2(other)).await, &wrong);
    }
    set(&world, oauth2(grant(url, "other", "hush-2"))).await.unwrap();
    assert_eq!(secret(&world).await, "hush-2");
}

#[tokio::test]
async fn a_token_url_obeys_the_rules_of_urls() {
    let field = "subscription.auth.oauth2.token_url";
    for url in ["http://auth.example/", "https://10.0.0.1/token"] {
        let (_, answer) = with(oauth2(grant(url, "shop", "hush"))).await;
        assert_wrong(answer, &[(field, "URL_REFUSED")]);
    }
    let (world, made) = with(oauth2(grant("https://auth.example/", "shop", "hush"))).await;
    made.unwrap();
    let rules = v1::EgressRules { deny: vec!["auth2.example".into()], ..Default::default() };
    let tenant =
        v1::Tenant { name: "tenants/acme".into(), egress_rules: Some(rules), ..Default::default() };
    let request = v1::UpdateTenantRequest { tenant: Some(tenant), ..Default::default() };
    ask!(world.tenants, update_tenant, request).unwrap();
    let denied = set(&world, oauth2(grant("https://auth2.example/", "shop", "hush"))).await;
    assert_wrong(denied, &[(field, "URL_REFUSED")]);
}
