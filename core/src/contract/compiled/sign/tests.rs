use data_encoding::BASE64;

use super::*;
use crate::clock::Timestamp;
use crate::contract::tests::{Around, event, key, lines};
use crate::contract::{EcdsaForm, SignatureAlgorithm, SigningKey, render, standard_webhooks};
use crate::model::SecretAlgorithm;
use crate::secret::SecretBytes;

const A: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const B: &str = "whsec_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";

fn signed(keys: Vec<SigningKey>, seconds: i64) -> Result<Signed, RenderError> {
    let (contract, event, around) = (standard_webhooks(), event("e", "{}"), Around::at(seconds));
    let input = around.input(&event);
    sign(&contract, &render(&contract, &input).unwrap(), &input, &SigningKeys::new(keys))
}

fn ids(signed: &Signed) -> Vec<&str> {
    signed.keys.iter().map(SecretId::as_str).collect()
}

#[test]
fn a_rotation_signs_with_both_keys_newest_first() {
    let keys = || vec![key("a", A, 0, Some(200)), key("b", B, 100, None)];
    let both = signed(keys(), 150).unwrap();
    assert_eq!(ids(&both), ["b", "a"]);
    let signature = |signed: &Signed| lines(&signed.headers).last().unwrap().1.to_owned();
    let single = |key| signature(&signed(vec![key], 150).unwrap());
    let (a, b) = (single(key("a", A, 0, None)), single(key("b", B, 0, None)));
    assert_ne!(a, b);
    assert_eq!(signature(&both), format!("{b} {a}"));

    assert_eq!(ids(&signed(keys(), 99).unwrap()), ["a"]);
    assert_eq!(ids(&signed(keys(), 200).unwrap()), ["b"]);
}

#[test]
fn required_and_no_active_key_fails() {
    assert_eq!(signed(vec![], 5), Err(RenderError::NoActiveSecret));
    assert_eq!(signed(vec![key("a", A, 10, None)], 5), Err(RenderError::NoActiveSecret));
    assert_eq!(RenderError::NoActiveSecret.to_string(), "no active secret");
}

#[test]
fn keys_that_became_active_at_once_have_an_order() {
    let one = signed(vec![key("a", A, 0, None), key("b", B, 0, None)], 5).unwrap();
    let other = signed(vec![key("b", B, 0, None), key("a", A, 0, None)], 5).unwrap();
    assert_eq!(one, other);
    assert_eq!(ids(&one), ["b", "a"]);
}

#[test]
fn every_kind_of_key_signs_what_its_kind_can() {
    let id = |id| SecretId::parse(id).unwrap();
    let (seed, begin) = (SecretBytes::new(vec![1; 32]), Timestamp::MIN);
    let pair = SigningKey::new(id("p"), SecretAlgorithm::Ed25519, &seed, begin, None).unwrap();
    let both = signed(vec![key("a", A, 0, None), pair.clone()], 5).unwrap();
    assert_eq!(ids(&both), ["a", "p"]);
    let (name, value) = *lines(&both.headers).last().unwrap();
    assert_eq!(name, "webhook-signature");
    let (v1, v1a) = value.split_once(' ').unwrap();
    assert!(v1.starts_with("v1,"));
    // Standard Webhooks signs id, time and body.
    let (contract, event, around) = (standard_webhooks(), event("e", "{}"), Around::at(5));
    let body = render(&contract, &around.input(&event)).unwrap().body;
    let mut signer = pair.signer(SignatureAlgorithm::Ed25519, EcdsaForm::Der).unwrap();
    signer.update(b"e.5.");
    signer.update(&body);
    assert_eq!(v1a, format!("v1a,{}", BASE64.encode(signer.finish().unwrap().as_ref())));
    assert_eq!(ids(&signed(vec![pair], 5).unwrap()), ["p"]);
}
