//! RSA and ECDSA.

use super::*;
use crate::secret::{key_public, pair_generate};

/// Both halves of a new key.
fn made(kind: SecretAlgorithm) -> (SigningKey, VerifyingKey) {
    let secret = pair_generate(kind.pair().unwrap()).unwrap();
    let public = key_public(kind, &secret).unwrap().unwrap();
    let id = SecretId::parse(&secret.fingerprint()).unwrap();
    let key = SigningKey::new(id, kind, &secret, Timestamp::MIN, None).unwrap();
    (key, VerifyingKey::Public(public))
}

fn under(keys: &str) -> Contract {
    signing(&format!("{{ header: x-s, encoding: base64, {keys} }}"))
}

#[test]
fn each_is_verified_in_a_rotation_and_by_no_other_key() {
    for keys in [
        "algorithm: rsa_sha256",
        "algorithm: rsa_pss_sha256",
        "algorithm: ecdsa_p256",
        "algorithm: ecdsa_p256, form: raw",
        "algorithm: ecdsa_p521, form: der",
        "algorithm: ecdsa_p521, form: raw",
        "algorithm: ecdsa_secp256k1",
        "algorithm: ecdsa_secp256k1, form: raw",
    ] {
        let contract = under(keys);
        let kind = contract.signatures[0].algorithm.kind();
        let [(old, old_public), (new, new_public), (_, stranger)] = [(); 3].map(|()| made(kind));
        let both = sent(&contract, &event("e", "{}"), &[&old, &new]);
        for trusted in [old_public, new_public] {
            assert_eq!(
                check(&contract, std::slice::from_ref(&trusted), &both),
                Overall::Verified,
                "{keys}"
            );
            let body = flipped(&both.body, 5, 0);
            let changed = Signed { body, ..both.clone() };
            assert_eq!(check(&contract, &[trusted], &changed), Overall::Wrong, "{keys}");
        }
        assert_eq!(check(&contract, &[stranger], &both), Overall::Wrong, "{keys}");
        let none = check(&contract, &[hmac(1).1], &both);
        assert_eq!(none, Overall::Unverifiable, "{keys}");
    }
}

#[test]
fn the_forms_of_ecdsa_are_not_taken_for_each_other() {
    let (der, raw) = (under("algorithm: ecdsa_p256"), under("algorithm: ecdsa_p256, form: raw"));
    let (key, trusted) = made(SecretAlgorithm::EcdsaP256);
    let signed = sent(&der, &event("e", "{}"), &[&key]);
    assert_eq!(check(&raw, std::slice::from_ref(&trusted), &signed), Overall::Wrong);
    let signed = sent(&raw, &event("e", "{}"), &[&key]);
    assert_eq!(check(&der, &[trusted], &signed), Overall::Wrong);
}

#[test]
fn public_keys_are_read_where_they_sign() {
    let (_, trusted) = made(SecretAlgorithm::EcdsaP256);
    let VerifyingKey::Public(public) = &trusted else { panic!("a pair") };
    let contract = under("algorithm: ecdsa_p256");
    let read = |text: &str| VerifyingKey::parse(&contract, text);
    assert_eq!(read(&public.pem()).as_ref(), Ok(&trusted));
    assert_eq!(read(&public.base64()).as_ref(), Ok(&trusted));
    let VerifyingKey::Public(other) = made(SecretAlgorithm::EcdsaP521).1 else { panic!("a pair") };
    let wrong = read(&other.pem()).unwrap_err();
    assert_eq!(wrong.description, "is a P-521 key, and the contract has no signature of this kind");
    assert_eq!(read("hunter2").unwrap_err().rule, Rule::Malformed);
    // Ed25519 keys come in this form, too; base64 may be a secret where secrets sign as well.
    let standard = standard_webhooks();
    let key = PublicKey::Ed25519([7; 32]);
    let parsed = VerifyingKey::parse(&standard, &key.pem());
    assert_eq!(parsed, Ok(VerifyingKey::Public(key)));
    let parsed = VerifyingKey::parse(&standard, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    assert!(matches!(parsed, Ok(VerifyingKey::Hmac(_))));
}
