//! Ed25519 secrets and the publication of their public halves; keys by contract.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use pregon_proto::v1;
use pregon_proto::v1::SecretAlgorithm as Algorithm;
use pregon_proto::v1::secret_service_server::SecretService as _;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use tonic::Code;

use crate::world::{World, ask, assert_refused, assert_wrong, at, seconds, subscription};

const ERP: &str = "tenants/acme/subscriptions/erp";
/// The first key pair of RFC 8032, section 7.1.
const SEED: &str = "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
const PUBLIC: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

fn create(id: &str, material: &str) -> v1::CreateSecretRequest {
    let secret = v1::Secret {
        algorithm: Algorithm::Ed25519.into(),
        material: material.into(),
        ..Default::default()
    };
    v1::CreateSecretRequest {
        parent: ERP.into(),
        secret_id: id.into(),
        secret: Some(secret),
        ..Default::default()
    }
}

async fn jwks(world: &World, parent: &str) -> serde_json::Value {
    let answer = ask!(world.secrets, get_jwks, v1::GetJwksRequest { parent: parent.into() });
    serde_json::from_str(&answer.unwrap().jwks).unwrap()
}

async fn under(world: &World, id: &str, contract: &str) {
    let it = v1::Subscription { contract: contract.into(), ..subscription() };
    world.subscribe("acme", id, it).await;
}

#[tokio::test]
async fn only_the_public_half_is_ever_shown() {
    let world = World::with_subscription().await;
    let made = ask!(world.secrets, create_secret, create("k", SEED)).unwrap().secret.unwrap();
    assert_eq!(made.algorithm(), Algorithm::Ed25519);
    assert_eq!((made.public_key, made.material.as_str()), (format!("whpk_{PUBLIC}"), ""));
    let get = v1::GetSecretRequest { name: made.name.clone() };
    let stored = ask!(world.secrets, get_secret, get).unwrap().secret.unwrap();
    assert_eq!(stored.public_key, format!("whpk_{PUBLIC}"));
    let reveal = v1::RevealSecretRequest { name: made.name };
    let answer = ask!(world.secrets, reveal_secret, reveal);
    assert_refused(answer, Code::FailedPrecondition, "STATE_CONFLICT");
    let answer = ask!(world.secrets, create_secret, create("bad", "whsec_AAAA"));
    assert_wrong(answer, &[("secret.material", "MALFORMED")]);
}

#[tokio::test]
async fn live_keys_are_published_and_no_others() {
    let world = World::with_subscription().await;
    ask!(world.secrets, create_secret, create("k", SEED)).unwrap();
    let key = jwks(&world, ERP).await["keys"][0].clone();
    let x = URL_SAFE_NO_PAD.encode(STANDARD.decode(PUBLIC).unwrap());
    assert_eq!((key["kid"].as_str(), key["x"].as_str()), (Some("k"), Some(x.as_str())));
    world.subscription("acme", "crm").await;
    let mut other = create("k2", "");
    other.parent = "tenants/acme/subscriptions/crm".into();
    ask!(world.secrets, create_secret, other).unwrap();
    let ids = |set: serde_json::Value| -> Vec<String> {
        let keys = set["keys"].as_array().unwrap().iter();
        keys.map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(jwks(&world, "tenants/acme").await), ["k2", "k"], "by name, HMAC ones left out");
    assert_eq!(ids(jwks(&world, ERP).await), ["k"]);
    let revoke = v1::RevokeSecretRequest { name: format!("{ERP}/secrets/k"), ..Default::default() };
    ask!(world.secrets, revoke_secret, revoke).unwrap();
    assert!(ids(jwks(&world, ERP).await).is_empty());
    for parent in ["tenants/none", "tenants/acme/subscriptions/none", "tenants/acme/callbacks/none"]
    {
        let request = v1::GetJwksRequest { parent: parent.into() };
        let answer = ask!(world.secrets, get_jwks, request);
        assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    }
    let request = v1::GetJwksRequest { parent: "tenants/-".into() };
    assert_wrong(ask!(world.secrets, get_jwks, request), &[("parent", "MALFORMED")]);
}

#[tokio::test]
async fn a_rotation_keeps_to_the_kind_that_is_there() {
    let world = World::with_subscription().await;
    ask!(world.secrets, create_secret, create("ed", SEED)).unwrap();
    let rotate = || v1::RotateSecretRequest {
        parent: ERP.into(),
        overlap: seconds(60),
        ..Default::default()
    };
    let rotated = ask!(world.secrets, rotate_secret, rotate()).unwrap();
    assert_eq!(rotated.secret.unwrap().algorithm(), Algorithm::Hmac);
    assert!(rotated.previous.iter().all(|it| it.algorithm() == Algorithm::Hmac));
    let list = v1::ListSecretsRequest { parent: ERP.into(), ..Default::default() };
    for it in ask!(world.secrets, list_secrets, list).unwrap().secrets {
        if it.algorithm() == Algorithm::Hmac {
            let delete =
                v1::DeleteSecretRequest { name: it.name, force: true, ..Default::default() };
            ask!(world.secrets, delete_secret, delete).unwrap();
        } else {
            assert_eq!(it.expire_time, None);
        }
    }
    let rotated = ask!(world.secrets, rotate_secret, rotate()).unwrap();
    assert_eq!(rotated.secret.unwrap().algorithm(), Algorithm::Ed25519);
    assert_eq!(rotated.previous[0].expire_time, at(60));
    let wrong = v1::RotateSecretRequest { material: "whsec_AAAA".into(), ..rotate() };
    assert_wrong(ask!(world.secrets, rotate_secret, wrong), &[("material", "MALFORMED")]);
}

#[tokio::test]
async fn secrets_have_the_form_of_their_contract() {
    let world = World::with_tenant().await;
    under(&world, "erp", "contracts/crypto_onramp").await;
    let create_text = |id: &str, material: &str| v1::CreateSecretRequest {
        secret: Some(v1::Secret { material: material.into(), ..Default::default() }),
        ..create(id, "")
    };
    let plain = ask!(world.secrets, create_secret, create_text("k", "any text, ñ")).unwrap();
    let reveal = v1::RevealSecretRequest { name: plain.secret.unwrap().name };
    let material = ask!(world.secrets, reveal_secret, reveal).unwrap().material;
    assert_eq!(material, "any text, ñ");
    let answer = ask!(world.secrets, create_secret, create("ed", ""));
    assert_wrong(answer, &[("secret.algorithm", "OUT_OF_RANGE")]);
    // Its body has room for one signature: the old key ends when the new one begins.
    let rotate = v1::RotateSecretRequest {
        parent: ERP.into(),
        activate_time: at(100),
        overlap: seconds(3600),
        ..Default::default()
    };
    let rotated = ask!(world.secrets, rotate_secret, rotate).unwrap();
    assert_eq!(rotated.previous[0].expire_time, at(100));
    // Where only Ed25519 signs, that is what a first secret is.
    let rules =
        "secret: { required: true }\nsignatures: [{ name: s, algorithm: ed25519, header: x-s }]";
    world.contract("ed", rules).await;
    under(&world, "ed", "contracts/ed").await;
    let parent = "tenants/acme/subscriptions/ed".to_owned();
    let list = v1::ListSecretsRequest { parent: parent.clone(), ..Default::default() };
    let first = ask!(world.secrets, list_secrets, list).unwrap().secrets.remove(0);
    assert!(first.algorithm() == Algorithm::Ed25519 && first.public_key.starts_with("whpk_"));
    let hmac = v1::Secret { algorithm: Algorithm::Hmac.into(), ..Default::default() };
    let request = v1::CreateSecretRequest { parent, secret: Some(hmac), ..Default::default() };
    let answer = ask!(world.secrets, create_secret, request);
    assert_wrong(answer, &[("secret.algorithm", "OUT_OF_RANGE")]);
}

#[tokio::test]
async fn a_key_that_cannot_sign_is_not_counted_on() {
    let world = World::with_tenant().await;
    under(&world, "erp", "contracts/standard_webhooks").await;
    ask!(world.secrets, create_secret, create("zed", SEED)).unwrap();
    // From here on HMAC alone signs: the other key stays, and helps nobody.
    let hmac_only = "secret: { required: true, form: base64, prefix: whsec_, bytes: [24, 64] }\n\
                     signatures: [{ name: s, algorithm: hmac_sha256, header: x-s }]";
    world.contract("hmac", hmac_only).await;
    let subscription = Some(v1::Subscription {
        name: ERP.into(),
        contract: "contracts/hmac".into(),
        ..Default::default()
    });
    let update = v1::UpdateSubscriptionRequest { subscription, ..Default::default() };
    ask!(world.subscriptions, update_subscription, update).unwrap();
    let list = v1::ListSecretsRequest { parent: ERP.into(), ..Default::default() };
    for it in ask!(world.secrets, list_secrets, list).unwrap().secrets {
        let last = it.algorithm() == Algorithm::Hmac;
        let delete = v1::DeleteSecretRequest { name: it.name, ..Default::default() };
        let answer = ask!(world.secrets, delete_secret, delete);
        match last {
            true => assert_refused(answer, Code::FailedPrecondition, "LAST_SECRET"),
            false => drop(answer.unwrap()),
        }
    }
}
