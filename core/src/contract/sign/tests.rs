use crate::contract::render;
use crate::contract::standard_webhooks;
use crate::contract::tests::{Around, event, key, lines};

use super::*;

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
    let single = |key| lines(&signed(vec![key], 150).unwrap().headers)[0].1.to_owned();
    let (a, b) = (single(key("a", A, 0, None)), single(key("b", B, 0, None)));
    assert_ne!(a, b);
    assert_eq!(lines(&both.headers), [("webhook-signature", &*format!("{b} {a}"))]);

    assert_eq!(ids(&signed(keys(), 99).unwrap()), ["a"]);
    assert_eq!(ids(&signed(keys(), 200).unwrap()), ["b"]);
}

#[test]
fn a_key_signs_from_its_activation_up_to_its_end() {
    let key = key("a", A, 10, Some(20));
    let at = |ms| key.live_at(Timestamp::from_millis(ms));
    assert_eq!([9_999, 10_000, 19_999, 20_000].map(at), [false, true, true, false]);
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
fn ed25519_is_refused_until_it_is_there() {
    let id = SecretId::parse("k").unwrap();
    let secret = SecretBytes::new(vec![1; 32]);
    let made = SigningKey::new(id, SecretAlgorithm::Ed25519, &secret, Timestamp::MIN, None);
    assert_eq!(made.unwrap_err().rule, Rule::Unsupported);
}

#[test]
fn keys_print_their_ids_only() {
    let keys = SigningKeys::new(vec![key("a", A, 0, None)]);
    assert_eq!(format!("{keys:?}"), "SigningKeys([SigningKey(a)])");
}
