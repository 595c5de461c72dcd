//! SecretService.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pregon_proto::v1;
use pregon_proto::v1::SecretState as State;
use pregon_proto::v1::secret_service_server::SecretService as _;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use tonic::Code;

use crate::world::{World, ask, assert_refused, assert_wrong, at, seconds};

const ERP: &str = "tenants/acme/subscriptions/erp";
const DAY: i64 = 24 * 3600;

fn create(id: &str, secret: v1::Secret) -> v1::CreateSecretRequest {
    v1::CreateSecretRequest {
        parent: ERP.into(),
        secret_id: id.into(),
        secret: Some(secret),
        ..Default::default()
    }
}

fn rotate() -> v1::RotateSecretRequest {
    v1::RotateSecretRequest { parent: ERP.into(), ..Default::default() }
}

fn key(byte: u8) -> String {
    format!("whsec_{}", STANDARD.encode([byte; 32]))
}

async fn list(world: &World) -> Vec<v1::Secret> {
    let request =
        v1::ListSecretsRequest { parent: ERP.into(), page_size: 1000, ..Default::default() };
    ask!(world.secrets, list_secrets, request).unwrap().secrets
}

async fn reveal(world: &World, name: &str) -> String {
    let request = v1::RevealSecretRequest { name: name.into() };
    ask!(world.secrets, reveal_secret, request).unwrap().material
}

async fn states(world: &World) -> Vec<State> {
    let mut secrets = list(world).await;
    secrets.sort_by_key(|it| it.activate_time.unwrap().seconds);
    secrets.iter().map(v1::Secret::state).collect()
}

#[tokio::test]
async fn a_key_is_shown_by_reveal_alone() {
    let world = World::with_subscription().await;
    let generated = list(&world).await.remove(0);
    let text = reveal(&world, &generated.name).await;
    let bytes = STANDARD.decode(text.strip_prefix("whsec_").unwrap()).unwrap();
    assert_eq!(bytes.len(), 32);
    let given = v1::Secret { material: key(9), ..Default::default() };
    let made = ask!(world.secrets, create_secret, create("k2", given)).unwrap();
    let made = made.secret.unwrap();
    assert_eq!((made.material.as_str(), made.state()), ("", State::Active));
    assert_eq!(made.algorithm(), v1::SecretAlgorithm::Hmac);
    assert_eq!(reveal(&world, &made.name).await, key(9));
    assert_ne!(made.fingerprint, generated.fingerprint);

    // Not in lists, not in the store, not in what would be logged.
    let stored = world.store.config.documents("", 1000).await.unwrap();
    let raw = STANDARD.encode([9u8; 32]);
    for document in stored {
        let text = String::from_utf8_lossy(&document.bytes).into_owned();
        assert!(!text.contains(&raw), "{}", document.name);
    }
    assert!(list(&world).await.iter().all(|secret| secret.material.is_empty()));
    let request = create("k3", v1::Secret { material: key(9), ..Default::default() });
    assert!(!format!("{request:?}").contains(&raw));
    let answer = v1::RevealSecretResponse { material: key(9), material_der: key(9) };
    assert!(!format!("{answer:?}").contains(&raw));
    assert!(!format!("{:?}", world.control).contains("5a5a"));
}

#[tokio::test]
async fn every_wrong_field_is_reported_without_the_key() {
    let world = World::with_subscription().await;
    let given = v1::Secret {
        material: "whsec_c2hvcnQ=".into(),
        algorithm: 7,
        activate_time: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }),
        expire_time: at(-1),
        ..Default::default()
    };
    let answer = ask!(world.secrets, create_secret, create("a b", given));
    assert!(!format!("{:?}", answer.as_ref().unwrap_err()).contains("c2hvcnQ"));
    let wrong = [
        ("secret.activate_time", "OUT_OF_RANGE"),
        ("secret.algorithm", "OUT_OF_RANGE"),
        ("secret.expire_time", "OUT_OF_RANGE"),
        ("secret.material", "OUT_OF_RANGE"),
        ("secret_id", "MALFORMED"),
    ];
    assert_wrong(answer, &wrong);
    let request = v1::RotateSecretRequest {
        parent: "tenants/acme/callbacks/c".into(),
        overlap: seconds(7 * DAY + 1),
        material: "x".into(),
        ..Default::default()
    };
    let wrong = [("material", "MALFORMED"), ("overlap", "OUT_OF_RANGE")];
    assert_wrong(ask!(world.secrets, rotate_secret, request), &wrong);
    let request =
        v1::ListSecretsRequest { parent: "x".into(), page_size: -1, ..Default::default() };
    let wrong = [("page_size", "OUT_OF_RANGE"), ("parent", "MALFORMED")];
    assert_wrong(ask!(world.secrets, list_secrets, request), &wrong);
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let world = World::with_subscription().await;
    let other = v1::CreateSecretRequest {
        parent: "tenants/acme/subscriptions/none".into(),
        ..Default::default()
    };
    let answer = ask!(world.secrets, create_secret, other);
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    let name = || format!("{ERP}/secrets/none");
    let answer = ask!(world.secrets, get_secret, v1::GetSecretRequest { name: name() });
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    let answer = ask!(world.secrets, reveal_secret, v1::RevealSecretRequest { name: name() });
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    let delete = v1::DeleteSecretRequest { name: name(), ..Default::default() };
    let answer = ask!(world.secrets, delete_secret, delete.clone());
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    let delete = v1::DeleteSecretRequest { allow_missing: true, ..delete };
    assert_eq!(ask!(world.secrets, delete_secret, delete).unwrap().revision, 0);
    ask!(world.secrets, create_secret, create("k", v1::Secret::default())).unwrap();
    let answer = ask!(world.secrets, create_secret, create("k", v1::Secret::default()));
    assert_refused(answer, Code::AlreadyExists, "RESOURCE_EXISTS");
}

#[tokio::test]
async fn a_rotation_lets_both_sign_for_the_overlap() {
    let world = World::with_subscription().await;
    let request = v1::RotateSecretRequest { overlap: seconds(3600), ..rotate() };
    let rotated = ask!(world.secrets, rotate_secret, request).unwrap();
    assert_eq!(rotated.previous.len(), 1);
    assert_eq!(rotated.previous[0].expire_time, at(3600));
    assert_eq!(rotated.previous[0].revision, rotated.revision);
    assert_eq!(rotated.secret.unwrap().state(), State::Active);
    world.clock.advance(Duration::from_secs(3599));
    assert_eq!(states(&world).await, [State::Active, State::Active]);
    world.clock.advance(Duration::from_secs(1));
    let mut now = states(&world).await;
    now.sort();
    assert_eq!(now, [State::Active, State::Expired]);
}

#[tokio::test]
async fn a_rotation_may_be_planned() {
    let world = World::with_subscription().await;
    let request = v1::RotateSecretRequest { activate_time: at(100), ..rotate() };
    let rotated = ask!(world.secrets, rotate_secret, request).unwrap();
    assert_eq!(rotated.secret.unwrap().state(), State::Scheduled);
    assert_eq!(rotated.previous[0].expire_time, at(100 + DAY), "the default is a day");
    // A second rotation leaves the earlier end where it is.
    let request = v1::RotateSecretRequest { overlap: seconds(7 * DAY), ..rotate() };
    let again = ask!(world.secrets, rotate_secret, request).unwrap();
    let ends: Vec<_> = again.previous.iter().map(|it| it.expire_time).collect();
    assert_eq!(ends, [at(7 * DAY), at(100 + DAY)], "newest first");
    // At once: the old ones are over.
    let request =
        v1::RotateSecretRequest { overlap: seconds(0), activate_time: at(-50), ..rotate() };
    let last = ask!(world.secrets, rotate_secret, request).unwrap();
    assert!(last.previous.iter().all(|it| it.state() == State::Expired));
    assert_eq!(last.secret.unwrap().activate_time, at(0), "no key signs in the past");
}

#[tokio::test]
async fn an_eleventh_live_secret_is_refused() {
    let world = World::with_subscription().await;
    for index in 1..10 {
        let id = format!("k{index}");
        ask!(world.secrets, create_secret, create(&id, v1::Secret::default())).unwrap();
    }
    let answer = ask!(world.secrets, create_secret, create("k10", v1::Secret::default()));
    assert_refused(answer, Code::ResourceExhausted, "QUOTA_EXCEEDED");
    let answer = ask!(world.secrets, rotate_secret, rotate());
    assert_refused(answer, Code::ResourceExhausted, "QUOTA_EXCEEDED");
    let request = v1::RotateSecretRequest { overlap: seconds(0), ..rotate() };
    ask!(world.secrets, rotate_secret, request).unwrap();
    let live = list(&world).await.iter().filter(|it| it.state() == State::Active).count();
    assert_eq!(live, 1);
}

#[tokio::test]
async fn ended_secrets_do_not_pile_up() {
    let world = World::with_subscription().await;
    for _ in 0..120 {
        world.clock.advance(Duration::from_secs(1));
        let request = v1::RotateSecretRequest { overlap: seconds(0), ..rotate() };
        ask!(world.secrets, rotate_secret, request).unwrap();
    }
    let secrets = list(&world).await;
    assert_eq!(secrets.len(), 100);
    assert_eq!(secrets.iter().filter(|it| it.state() == State::Active).count(), 1);
    let oldest = secrets.iter().map(|it| it.activate_time.unwrap().seconds).min().unwrap();
    assert_eq!(Some(oldest), at(21).map(|it| it.seconds), "the longest ended ones went");
}

#[tokio::test]
async fn the_last_live_secret_stays() {
    let world = World::with_subscription().await;
    let only = list(&world).await.remove(0);
    let delete = v1::DeleteSecretRequest { name: only.name.clone(), ..Default::default() };
    let answer = ask!(world.secrets, delete_secret, delete.clone());
    assert_refused(answer, Code::FailedPrecondition, "LAST_SECRET");
    let revoke = v1::RevokeSecretRequest { name: only.name.clone(), ..Default::default() };
    let answer = ask!(world.secrets, revoke_secret, revoke.clone());
    assert_refused(answer, Code::FailedPrecondition, "LAST_SECRET");
    ask!(world.secrets, create_secret, create("k2", v1::Secret::default())).unwrap();

    let stale = v1::DeleteSecretRequest { etag: "r0".into(), ..delete.clone() };
    let answer = ask!(world.secrets, delete_secret, stale);
    assert_refused(answer, Code::Aborted, "ETAG_MISMATCH");
    let revoked = ask!(world.secrets, revoke_secret, revoke.clone()).unwrap();
    assert_eq!(revoked.secret.unwrap().state(), State::Revoked);
    let again = ask!(world.secrets, revoke_secret, revoke).unwrap();
    assert_eq!(again.revision, revoked.revision, "it changes nothing");
    ask!(world.secrets, delete_secret, delete).unwrap();
    let force = v1::DeleteSecretRequest {
        name: format!("{ERP}/secrets/k2"),
        force: true,
        ..Default::default()
    };
    ask!(world.secrets, delete_secret, force).unwrap();
    assert!(list(&world).await.is_empty());
    let request = v1::GetSubscriptionRequest { name: ERP.into() };
    let shown = ask!(world.subscriptions, get_subscription, request).unwrap();
    assert_eq!(shown.subscription.unwrap().secrets_live, 0);
}

#[tokio::test]
async fn an_expired_secret_cannot_be_revoked() {
    let world = World::with_subscription().await;
    let given = v1::Secret { expire_time: at(10), ..Default::default() };
    ask!(world.secrets, create_secret, create("k", given)).unwrap();
    world.clock.advance(Duration::from_secs(10));
    let name = format!("{ERP}/secrets/k");
    let answer =
        ask!(world.secrets, revoke_secret, v1::RevokeSecretRequest { name, ..Default::default() });
    assert_refused(answer, Code::FailedPrecondition, "STATE_CONFLICT");
}

#[tokio::test]
async fn validate_only_makes_no_key() {
    let world = World::with_subscription().await;
    let dry = v1::RotateSecretRequest { validate_only: true, ..rotate() };
    let dry = ask!(world.secrets, rotate_secret, dry).unwrap();
    assert_eq!((dry.revision, dry.previous.len()), (0, 1));
    assert_eq!(dry.secret.unwrap().name, "");
    let dry = v1::CreateSecretRequest { validate_only: true, ..create("", v1::Secret::default()) };
    assert_eq!(ask!(world.secrets, create_secret, dry).unwrap().secret.unwrap().name, "");
    let secrets = list(&world).await;
    assert_eq!((secrets.len(), secrets[0].expire_time), (1, None));
}
