//! Signatures of RSA and ECDSA, and the keys of their examples.

use super::accepted::read;
use crate::contract::{Contract, EcdsaForm};
use crate::jwk::RsaUse;
use crate::model::SecretAlgorithm;

const P256: &str = include_str!("../example/p256.pem");
const P384: &str = include_str!("../../../../testdata/keys/p384.pem");

/// A document with an example that has these keys more.
fn document(keys: &str, example: &str) -> String {
    format!("contract: c\n{keys}\nexamples:\n  - event: {{ id: e, type: a, data: '1' }}\n{example}")
}

fn refused(keys: &str, example: &str) -> Vec<String> {
    let faults = Contract::read(&document(keys, example), 1).unwrap_err();
    faults.iter().map(ToString::to_string).collect()
}

/// A key as a block of an example.
fn secret(pem: &str) -> String {
    let lines: String = pem.lines().map(|line| format!("      {line}\n")).collect();
    format!("    secret: |\n{lines}")
}

#[test]
fn each_algorithm_has_keys_of_its_kind() {
    for (algorithm, kind) in [
        ("rsa_sha256", SecretAlgorithm::Rsa),
        ("rsa_pss_sha256", SecretAlgorithm::Rsa),
        ("ecdsa_p256", SecretAlgorithm::EcdsaP256),
        ("ecdsa_p521", SecretAlgorithm::EcdsaP521),
        ("ecdsa_secp256k1", SecretAlgorithm::EcdsaSecp256k1),
    ] {
        // It is required, and the example gives none: a fixed one signs.
        let contract = read(&format!(
            "secret: {{ required: true }}\nsignatures: [{{ algorithm: {algorithm}, header: x-s }}]"
        ));
        for other in SecretAlgorithm::ALL {
            assert_eq!(contract.uses(*other), *other == kind, "{algorithm} {other}");
        }
        assert_eq!(contract.signatures[0].form, EcdsaForm::Der);
    }
}

#[test]
fn how_rsa_keys_sign_is_known() {
    let of = |names: &[&str]| {
        let one = |name: &&str| format!("{{ name: {name}, algorithm: {name}, header: x-{name} }}");
        let list: Vec<_> = names.iter().map(one).collect();
        read(&format!("signatures: [{}]", list.join(", "))).rsa_use()
    };
    assert_eq!(of(&["rsa_sha256"]), Some(RsaUse::Pkcs1));
    assert_eq!(of(&["rsa_pss_sha256", "hmac_sha1"]), Some(RsaUse::Pss));
    assert_eq!(of(&["rsa_pss_sha256", "rsa_sha256"]), None);
    assert_eq!(of(&["ecdsa_p256"]), None);
}

#[test]
fn the_form_is_one_of_two_and_for_ecdsa() {
    let contract = read("signatures: [{ algorithm: ecdsa_p521, form: raw, header: x-s }]");
    assert_eq!(contract.signatures[0].form, EcdsaForm::Raw);
    for (keys, fault) in [
        (
            "signatures: [{ algorithm: rsa_sha256, form: raw, header: x-s }]",
            "2:45: signatures[0].form: is for an algorithm of ECDSA",
        ),
        (
            "signatures: [{ algorithm: ecdsa_p256, form: fixed, header: x-s }]",
            "2:45: signatures[0].form: must be one of der, raw",
        ),
    ] {
        assert_eq!(refused(keys, ""), [fault]);
    }
}

#[test]
fn an_example_may_give_a_private_key() {
    let keys = "signatures: [{ name: s, algorithm: ecdsa_p256, header: x-s }]";
    let example = format!("{}    expect: {{ body: '1', signed: {{ s: '1' }} }}\n", secret(P256));
    let keys = format!("body: \"${{event.data}}\"\n{keys}");
    if let Err(faults) = Contract::read(&document(&keys, &example), 1) {
        panic!("{faults:#?}");
    }
    let text =
        "4:5: examples[0]: secret: is a P-384 key; must be of RSA, P-256, P-521 or secp256k1";
    let keys = "signatures: [{ name: s, algorithm: ecdsa_p256, header: x-s }]";
    assert_eq!(refused(keys, &secret(P384)), [text]);
}

#[test]
fn what_differs_each_time_is_not_compared() {
    let example = format!("{}    expect: {{ headers: {{ x-s: abc }} }}\n", secret(P256));
    let faults = refused("signatures: [{ algorithm: ecdsa_p256, header: x-s }]", &example);
    let text = "examples[0].expect.headers.x-s: holds a signature that differs each time; expect \
                what is signed, in signed";
    assert!(faults.len() == 1 && faults[0].ends_with(text), "{faults:?}");
    let example = format!("{}    expect: {{ body: '1' }}\n", secret(P256));
    let keys = "body: { a: \"${event.data}\" }\nsignatures: [{ algorithm: ecdsa_p256, body: s }]";
    let faults = refused(keys, &example);
    assert!(
        faults.len() == 1 && faults[0].contains("expect.body: holds a signature"),
        "{faults:?}"
    );
    // PKCS#1 v1.5 is the same each time.
    let example = "    expect: { headers: { x-s: abc } }\n";
    let keys = "secret: { required: true }\nsignatures: [{ algorithm: rsa_sha256, header: x-s }]";
    let faults = refused(keys, example);
    assert!(faults.len() == 1 && faults[0].contains("differs from what is rendered"), "{faults:?}");
}
