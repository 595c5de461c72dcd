//! How receivers identify themselves: roots and pinned certificates, of subscriptions and callbacks.

use pregon_proto::v1;
use pregon_proto::v1::callback_service_server::CallbackService as _;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;

use crate::world::{World, ask, assert_wrong, create, mask, subscription};

const ROOT: &str = include_str!("../../../core/testdata/tls/self_signed.pem");
const PIN: &str = include_str!("../../../core/testdata/tls/self_signed.sha256");

/// This deployment does not allow http at all.
const HTTP: (&str, &str) = ("subscription.url", "URL_REFUSED");

fn rooted(pem: &str) -> Option<v1::Auth> {
    Some(v1::Auth { ca_pem: pem.into(), ..Default::default() })
}

fn pinned(pins: &[&str]) -> Option<v1::Auth> {
    let pinned_sha256 = pins.iter().map(|it| (*it).to_owned()).collect();
    Some(v1::Auth { pinned_sha256, ..Default::default() })
}

fn secure(auth: Option<v1::Auth>) -> v1::Subscription {
    v1::Subscription { url: "https://receiver.example/hook".into(), auth, ..subscription() }
}

#[tokio::test]
async fn roots_and_pins_are_kept_as_given_and_replaced_by_what_comes() {
    let world = World::with_tenant().await;
    let made = ask!(world.subscriptions, create_subscription, create("erp", secure(rooted(ROOT))));
    let shown = made.unwrap().subscription.unwrap();
    assert_eq!(shown.auth.as_ref().unwrap().ca_pem, ROOT);
    let set = async |auth: Option<v1::Auth>| {
        let given = v1::Subscription { name: shown.name.clone(), auth, ..Default::default() };
        let request = v1::UpdateSubscriptionRequest {
            subscription: Some(given),
            update_mask: mask(&["auth"]),
            ..Default::default()
        };
        ask!(world.subscriptions, update_subscription, request).map(|it| it.subscription.unwrap())
    };
    let auth = set(pinned(&[PIN.trim()])).await.unwrap().auth.unwrap();
    let digits = PIN.trim().replace(':', "").to_lowercase();
    assert_eq!((auth.ca_pem.as_str(), auth.pinned_sha256), ("", vec![digits]));
    assert_eq!(set(None).await.unwrap().auth, None);
    let bearer = v1::BearerAuth { token: "t".into(), ..Default::default() };
    let kind = Some(v1::auth::Kind::Bearer(bearer));
    let auth = set(Some(v1::Auth { kind, ..rooted(ROOT).unwrap() })).await.unwrap().auth.unwrap();
    assert!(matches!(auth.kind, Some(v1::auth::Kind::Bearer(it)) if it.configured));
    assert_eq!(auth.ca_pem, ROOT);
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_by_its_field() {
    let world = World::with_tenant().await;
    let pin = PIN.trim();
    let both = v1::Auth { pinned_sha256: vec![pin.into()], ..rooted(ROOT).unwrap() };
    for (auth, field, rule) in [
        (rooted("x"), "ca_pem", "MALFORMED"),
        (rooted(&ROOT.repeat(17)), "ca_pem", "TOO_MANY"),
        (rooted(&"x".repeat(33 * 1024)), "ca_pem", "TOO_LONG"),
        (pinned(&[pin, "x"]), "pinned_sha256[1]", "MALFORMED"),
        (pinned(&[pin; 5]), "pinned_sha256", "TOO_MANY"),
        (Some(both), "pinned_sha256", "OUT_OF_RANGE"),
    ] {
        let given = secure(auth.clone());
        let answer = ask!(world.subscriptions, create_subscription, create("erp", given));
        assert_wrong(answer, &[(&format!("subscription.auth.{field}"), rule)]);
        let callback =
            v1::Callback { url: "https://receiver.example/".into(), auth, ..Default::default() };
        let request = v1::CreateCallbackRequest {
            parent: "tenants/acme".into(),
            callback_id: "ask".into(),
            callback: Some(callback),
            ..Default::default()
        };
        let answer = ask!(world.callbacks, create_callback, request);
        assert_wrong(answer, &[(&format!("callback.auth.{field}"), rule)]);
    }
}

#[tokio::test]
async fn certificates_go_with_https_only() {
    let world = World::with_tenant().await;
    let plain = |auth| v1::Subscription { url: "http://receiver.example/".into(), ..secure(auth) };
    let create = |it| create("erp", it);
    let answer = ask!(world.subscriptions, create_subscription, create(plain(rooted(ROOT))));
    assert_wrong(answer, &[("subscription.auth.ca_pem", "OUT_OF_RANGE"), HTTP]);
    let answer =
        ask!(world.subscriptions, create_subscription, create(plain(pinned(&[PIN.trim()]))));
    assert_wrong(answer, &[("subscription.auth.pinned_sha256", "OUT_OF_RANGE"), HTTP]);
    // Either of the two may come later.
    let made = ask!(world.subscriptions, create_subscription, create(secure(rooted(ROOT))));
    let name = made.unwrap().subscription.unwrap().name;
    let given = v1::Subscription {
        name: name.clone(),
        url: "http://receiver.example/".into(),
        ..Default::default()
    };
    let request = v1::UpdateSubscriptionRequest { subscription: Some(given), ..Default::default() };
    let answer = ask!(world.subscriptions, update_subscription, request);
    assert_wrong(answer, &[("subscription.auth.ca_pem", "OUT_OF_RANGE"), HTTP]);
}
