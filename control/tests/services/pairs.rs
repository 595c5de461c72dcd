//! Secrets of RSA and ECDSA: made, imported, shown, rotated, published.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pregon_proto::v1;
use pregon_proto::v1::SecretAlgorithm as Algorithm;
use pregon_proto::v1::secret_service_server::SecretService as _;
use tonic::Code;

use crate::world::{World, ask, assert_refused, assert_wrong, seconds, subscription};

const ERP: &str = "tenants/acme/subscriptions/erp";

/// A key of the core's test data, made by OpenSSL.
macro_rules! key {
    ($name:literal) => {
        include_str!(concat!("../../../core/testdata/keys/", $name, ".pem"))
    };
}

/// Signs with every kind of key pair.
const RULES: &str = "secret: { required: true }
signatures:
  - { name: a, algorithm: rsa_sha256, header: x-a }
  - { name: b, algorithm: ecdsa_p256, header: x-b }
  - { name: c, algorithm: ecdsa_p521, form: raw, header: x-c }
  - { name: d, algorithm: ecdsa_secp256k1, header: x-d }";

const KINDS: [Algorithm; 4] =
    [Algorithm::Rsa, Algorithm::EcdsaP256, Algorithm::EcdsaP521, Algorithm::EcdsaSecp256k1];

async fn world(rules: &str) -> World {
    let world = World::with_tenant().await;
    world.contract("pairs", rules).await;
    let it = v1::Subscription { contract: "contracts/pairs".into(), ..subscription() };
    world.subscribe("acme", "erp", it).await;
    world
}

fn create(id: &str, algorithm: Algorithm, material: &str) -> v1::CreateSecretRequest {
    let material = material.to_owned();
    let secret = v1::Secret { algorithm: algorithm.into(), material, ..Default::default() };
    v1::CreateSecretRequest {
        parent: ERP.into(),
        secret_id: id.into(),
        secret: Some(secret),
        ..Default::default()
    }
}

async fn list(world: &World) -> Vec<v1::Secret> {
    let request = v1::ListSecretsRequest { parent: ERP.into(), ..Default::default() };
    ask!(world.secrets, list_secrets, request).unwrap().secrets
}

async fn reveal(world: &World, id: &str) -> v1::RevealSecretResponse {
    let request = v1::RevealSecretRequest { name: format!("{ERP}/secrets/{id}") };
    ask!(world.secrets, reveal_secret, request).unwrap()
}

async fn jwks(world: &World, parent: &str) -> Vec<serde_json::Value> {
    let request = v1::GetJwksRequest { parent: parent.into() };
    let set = ask!(world.secrets, get_jwks, request).unwrap().jwks;
    let set: serde_json::Value = serde_json::from_str(&set).unwrap();
    set["keys"].as_array().unwrap().clone()
}

#[tokio::test]
async fn the_first_key_is_of_the_contracts_kind() {
    let world = world(RULES).await;
    let first = list(&world).await.remove(0);
    assert_eq!(first.algorithm(), Algorithm::Rsa);
    assert!(first.public_key.is_empty() && first.material.is_empty());
    let pem = first.public_key_pem.lines().filter(|line| !line.starts_with("---"));
    assert_eq!(pem.collect::<String>(), first.public_key_der);
    // A structure of 294 bytes is that of 2048 bits.
    assert_eq!(STANDARD.decode(&first.public_key_der).unwrap().len(), 294);
    let hmac = create("h", Algorithm::Hmac, "");
    let answer = ask!(world.secrets, create_secret, hmac);
    assert_wrong(answer, &[("secret.algorithm", "OUT_OF_RANGE")]);
}

#[tokio::test]
async fn each_kind_is_made_shown_and_revealed() {
    let world = world(RULES).await;
    for kind in KINDS {
        let id = format!("{kind:?}");
        let made = ask!(world.secrets, create_secret, create(&id, kind, "")).unwrap();
        let made = made.secret.unwrap();
        assert_eq!(made.algorithm(), kind);
        assert!(made.public_key_pem.starts_with("-----BEGIN PUBLIC KEY-----\n"));
        let get = v1::GetSecretRequest { name: made.name.clone() };
        let got = ask!(world.secrets, get_secret, get).unwrap().secret.unwrap();
        assert_eq!(got, v1::Secret { revision: got.revision, etag: got.etag.clone(), ..made });
        let shown = reveal(&world, &id).await;
        assert!(shown.material.starts_with("-----BEGIN PRIVATE KEY-----\n"));
        // The same key, given in both forms, has the same fingerprint and public half.
        for (n, text) in [shown.material, shown.material_der].iter().enumerate() {
            let again = create(&format!("{id}-{n}"), kind, text);
            assert!(!format!("{again:?}").contains("MI"), "keys are not printed");
            let again = ask!(world.secrets, create_secret, again).unwrap().secret.unwrap();
            assert_eq!(
                (again.fingerprint.as_str(), again.public_key_der.as_str()),
                (got.fingerprint.as_str(), got.public_key_der.as_str())
            );
            let revoke = v1::RevokeSecretRequest { name: again.name, ..Default::default() };
            ask!(world.secrets, revoke_secret, revoke).unwrap();
        }
        // Nothing of it lies open in the store.
        for document in world.store.config.documents("", 1000).await.unwrap() {
            let text = String::from_utf8_lossy(&document.bytes).into_owned();
            assert!(!text.contains("PRIVATE KEY"), "{}", document.name);
        }
    }
}

#[tokio::test]
async fn imported_keys_are_those_of_openssl() {
    let world = world(RULES).await;
    for (id, kind, private, public) in [
        ("r4", Algorithm::Rsa, key!("rsa4096"), None),
        ("r1", Algorithm::Rsa, key!("rsa2048-pkcs1"), None),
        ("e1", Algorithm::EcdsaP256, key!("p256-sec1"), None),
        (
            "e2",
            Algorithm::EcdsaP521,
            include_str!("../../../core/src/contract/document/example/p521.pem"),
            Some(key!("p521-public")),
        ),
    ] {
        let made = ask!(world.secrets, create_secret, create(id, kind, private)).unwrap();
        let made = made.secret.unwrap();
        if let Some(public) = public {
            assert_eq!(made.public_key_pem, public);
            assert_eq!(reveal(&world, id).await.material, private);
        }
    }
    assert_eq!(reveal(&world, "r1").await.material, key!("rsa2048"));
    for (kind, text, rule, words) in [
        (Algorithm::Rsa, key!("rsa1024"), "OUT_OF_RANGE", "1024 bits; must be of 2048"),
        (Algorithm::EcdsaP256, key!("p384"), "OUT_OF_RANGE", "is a P-384 key; must be a P-256 key"),
        (Algorithm::EcdsaP521, key!("rsa2048"), "OUT_OF_RANGE", "is an RSA key; must be a P-521"),
        (Algorithm::EcdsaSecp256k1, key!("p256-public"), "MALFORMED", "must be a private key"),
        (Algorithm::Rsa, "whsec_AAAA", "MALFORMED", "must be a private key"),
    ] {
        let answer = ask!(world.secrets, create_secret, create("bad", kind, text));
        let said = format!("{:?}", answer.as_ref().unwrap_err());
        assert!(said.contains(words) && !said.contains("AAAA"), "{said}");
        assert_wrong(answer, &[("secret.material", rule)]);
    }
}

#[tokio::test]
async fn a_rotation_takes_the_kind_that_is_said() {
    let world = world(RULES).await;
    ask!(world.secrets, create_secret, create("p256", Algorithm::EcdsaP256, "")).unwrap();
    let rotate = |algorithm: Algorithm| v1::RotateSecretRequest {
        parent: ERP.into(),
        algorithm: algorithm.into(),
        overlap: seconds(60),
        ..Default::default()
    };
    let rotated = ask!(world.secrets, rotate_secret, rotate(Algorithm::EcdsaP256)).unwrap();
    assert_eq!(rotated.secret.unwrap().algorithm(), Algorithm::EcdsaP256);
    let names: Vec<_> = rotated.previous.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, [format!("{ERP}/secrets/p256")]);
    let rotated = ask!(world.secrets, rotate_secret, rotate(Algorithm::Unspecified)).unwrap();
    assert_eq!(rotated.secret.unwrap().algorithm(), Algorithm::Rsa, "the first that lives");
    let answer = ask!(world.secrets, rotate_secret, rotate(Algorithm::Hmac));
    assert_wrong(answer, &[("algorithm", "OUT_OF_RANGE")]);
}

#[tokio::test]
async fn public_halves_are_published_with_what_they_sign_with() {
    let world = world(RULES).await;
    for (id, kind) in [("b", KINDS[1]), ("c", KINDS[2]), ("d", KINDS[3])] {
        ask!(world.secrets, create_secret, create(id, kind, "")).unwrap();
    }
    let keys = jwks(&world, "tenants/acme").await;
    assert_eq!(keys, jwks(&world, ERP).await);
    let of = |alg: &str| {
        let found: Vec<_> = keys.iter().filter(|key| key["alg"] == alg).collect();
        assert_eq!(found.len(), 1, "{alg}: {keys:?}");
        found[0].clone()
    };
    assert_eq!((&of("RS256")["kty"], &of("RS256")["e"]), (&"RSA".into(), &"AQAB".into()));
    for (alg, kid, crv, length) in
        [("ES256", "b", "P-256", 43), ("ES512", "c", "P-521", 88), ("ES256K", "d", "secp256k1", 43)]
    {
        let key = of(alg);
        assert_eq!((&key["kid"], &key["crv"]), (&kid.into(), &crv.into()));
        assert_eq!(["x", "y"].map(|it| key[it].as_str().unwrap().len()), [length; 2]);
    }
    assert!(keys.iter().all(|key| key.get("d").is_none()), "no private number");
}

#[tokio::test]
async fn an_rsa_key_of_pss_is_published_as_such() {
    let pss = "secret: { required: true }\n\
               signatures: [{ name: s, algorithm: rsa_pss_sha256, header: x-s }]";
    let world = world(pss).await;
    assert_eq!(jwks(&world, ERP).await[0]["alg"], "PS256");
    let both = "secret: { required: true }\n\
                signatures:\n  - { name: s, algorithm: rsa_pss_sha256, header: x-s }\n  - { name: t, algorithm: rsa_sha256, header: x-t }";
    let world = self::world(both).await;
    let key = jwks(&world, "tenants/acme").await.remove(0);
    assert!(key["kty"] == "RSA" && key.get("alg").is_none(), "{key}");
}

#[tokio::test]
async fn a_contract_that_signs_otherwise_has_no_use_for_them() {
    let world = world(RULES).await;
    let name = list(&world).await.remove(0).name;
    let delete = v1::DeleteSecretRequest { name: name.clone(), ..Default::default() };
    let answer = ask!(world.secrets, delete_secret, delete.clone());
    assert_refused(answer, Code::FailedPrecondition, "LAST_SECRET");
    // A key of another kind that signs is another key that signs.
    ask!(world.secrets, create_secret, create("e", Algorithm::EcdsaP256, "")).unwrap();
    ask!(world.secrets, delete_secret, delete).unwrap();
}
