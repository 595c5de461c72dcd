use super::*;
use crate::contract::tests::key;

const A: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[test]
fn a_key_signs_from_its_activation_up_to_its_end() {
    let key = key("a", A, 10, Some(20));
    let at = |ms| key.live_at(Timestamp::from_millis(ms));
    assert_eq!([9_999, 10_000, 19_999, 20_000].map(at), [false, true, true, false]);
}

#[test]
fn encodings_are_those_of_the_contract() {
    let bytes = [0xfb, 0xff, 0x00, 0x3e];
    assert_eq!(SignatureEncoding::Hex.encode(&bytes), "fbff003e");
    assert_eq!(SignatureEncoding::Base64.encode(&bytes), "+/8APg==");
    assert_eq!(SignatureEncoding::Base64Url.encode(&bytes), "-_8APg");
}

#[test]
fn keys_print_their_ids_only() {
    let keys = SigningKeys::new(vec![key("a", A, 0, None)]);
    assert_eq!(format!("{keys:?}"), "SigningKeys([SigningKey(a)])");
}
