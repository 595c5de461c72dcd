use proptest::prelude::*;

use super::*;

const KEY_A: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const KEY_B: &str = "/////////////////////////////////////////w8";

fn ring(text: &str) -> KeyRing {
    KeyRing::parse(text).unwrap()
}

fn secret() -> SecretBytes {
    SecretBytes::new(b"a key of twenty-four byt".to_vec())
}

#[test]
fn what_is_sealed_opens_in_its_place_only() {
    let ring = ring(KEY_A);
    let here = "tenants/acme/subscriptions/erp/secrets/k1";
    let sealed = ring.seal(&secret(), here, [9; 24]);
    assert_eq!(ring.open(&sealed, here), Ok(secret()));
    for there in ["tenants/acme/subscriptions/crm/secrets/k1", "", &format!("{here}/auth")] {
        assert_eq!(ring.open(&sealed, there), Err(SealError::Refused), "{there}");
    }
}

#[test]
fn an_envelope_holds_nothing_in_clear() {
    let sealed = ring(KEY_A).seal(&secret(), "x", [9; 24]);
    assert_eq!(sealed.len(), HEADER_LEN + 24 + TAG_LEN);
    assert!(!sealed.windows(8).any(|part| secret().expose().windows(8).any(|s| s == part)));
}

#[test]
fn the_master_key_can_change() {
    let (old, new) = (ring(KEY_A), ring(KEY_B));
    let both = ring(&format!("{KEY_B},\n {KEY_A}\n"));
    let sealed = old.seal(&secret(), "x", [1; 24]);
    assert_eq!(both.open(&sealed, "x"), Ok(secret()));
    assert_eq!(sealed_under(&sealed), Ok(old.current()));
    assert_eq!(new.open(&sealed, "x"), Err(SealError::UnknownKey(old.current())));
    assert_eq!(both.current(), new.current());
    let anew = both.seal(&secret(), "x", [2; 24]);
    assert_eq!(new.open(&anew, "x"), Ok(secret()));
}

#[test]
fn keys_are_read_as_hex_or_base64_and_never_repeated() {
    let zeros = "A".repeat(43);
    let same = ring(&"0".repeat(64)).current();
    assert_eq!(ring(&zeros).current(), same);
    assert_eq!(ring(&format!("{zeros}=")).current(), same);
    assert_eq!(ring(&KEY_B.replace('/', "_")).current(), ring(KEY_B).current());
    assert_eq!(ring(&KEY_A.to_uppercase()).current(), ring(KEY_A).current());

    assert_eq!(KeyRing::parse(" ,\n").unwrap_err().rule, Rule::Required);
    let many = (0..17).map(|i| format!("{i:064x}")).collect::<Vec<_>>().join(" ");
    assert_eq!(KeyRing::parse(&many).unwrap_err().rule, Rule::TooMany);
    for bad in ["hunter2hunter2", &KEY_A[1..], &"g".repeat(64), &"!".repeat(43)] {
        let wrong = KeyRing::parse(&format!("{KEY_A} {bad}")).unwrap_err();
        assert_eq!(wrong.description, "key 2 must be 32 bytes, hex or base64");
    }
    let twice = KeyRing::parse(&format!("{KEY_A},{}", KEY_A.to_uppercase())).unwrap_err();
    assert_eq!(twice.description, "key 2 is given twice");
    assert!(!format!("{:?}", ring(KEY_A)).contains(&KEY_A[..8]));
}

#[test]
fn the_key_that_seals_is_the_first_or_the_one_that_is_named() {
    let (a, b) = (ring(KEY_A).current(), ring(KEY_B).current());
    let both = ring(&format!("{KEY_B} {KEY_A}"));
    assert_eq!(both.ids(), [b, a]);
    assert_eq!(both.current(), b);
    let unknown = "00".repeat(8).parse().unwrap();
    let sealed = both.clone().sealing_under(a).seal(&secret(), "x", [1; 24]);
    assert_eq!(ring(KEY_A).open(&sealed, "x"), Ok(secret()));
    assert_eq!(key_of(&BASE64.encode(&sealed)), Ok(a));
    assert_eq!(both.open_text(&BASE64.encode(&sealed), "x"), Ok(secret()));
    assert_eq!(both.sealing_under(unknown).current(), b);
}

#[test]
fn a_kept_key_opens_and_seals_where_it_is_named() {
    let (a, b) = (ring(KEY_A).current(), ring(KEY_B).current());
    let kept = ring(KEY_B).keeping(&ring(KEY_A), &[a, b]);
    assert_eq!((kept.ids(), kept.current()), (vec![b, a], b));
    let sealed = ring(KEY_A).seal(&secret(), "x", [1; 24]);
    assert_eq!(kept.open(&sealed, "x"), Ok(secret()));
    assert_eq!(kept.sealing_under(a).current(), a);
    assert_eq!(ring(KEY_B).keeping(&ring(KEY_A), &[]).ids(), [b]);
}

#[test]
fn an_id_is_read_as_it_is_written() {
    let id = ring(KEY_A).current();
    assert_eq!(id.to_string().parse(), Ok(id));
    assert_eq!(serde_json::from_str::<KeyId>(&format!("\"{id}\"")).unwrap(), id);
    for bad in ["", "00", &"0".repeat(18), &"AB".repeat(8)] {
        assert_eq!(bad.parse::<KeyId>().unwrap_err().rule, Rule::Malformed, "{bad}");
    }
}

#[test]
fn a_new_key_is_one() {
    let text = new_key(&mut |buffer| buffer.fill(7));
    assert_eq!(*text, "07".repeat(32));
    assert!(KeyRing::parse(&text).is_ok());
}

#[test]
fn broken_envelopes_are_told_apart() {
    let ring = ring(KEY_A);
    let sealed = ring.seal(&SecretBytes::new(Vec::new()), "x", [1; 24]);
    assert_eq!(ring.open(&[], "x"), Err(SealError::Truncated));
    assert_eq!(ring.open(&sealed[..sealed.len() - 1], "x"), Err(SealError::Truncated));
    assert_eq!(ring.open(&[2; 80], "x"), Err(SealError::UnknownVersion(2)));
    assert!(ring.open(&sealed, "x").is_ok());
}

proptest! {
    #[test]
    fn round_trips_and_notices_every_changed_bit(
        bytes in prop::collection::vec(any::<u8>(), 0..=256), aad in ".{0,80}",
        nonce: [u8; 24], bit: prop::sample::Index,
    ) {
        let ring = ring(KEY_A);
        let secret = SecretBytes::new(bytes);
        let mut sealed = ring.seal(&secret, &aad, nonce);
        prop_assert_eq!(ring.open(&sealed, &aad), Ok(secret));
        let bit = bit.index(sealed.len() * 8);
        sealed[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(ring.open(&sealed, &aad).is_err());
    }

    #[test]
    fn no_bytes_panic(sealed in prop::collection::vec(any::<u8>(), 0..=100)) {
        prop_assert!(ring(KEY_A).open(&sealed, "x").is_err());
    }
}

#[test]
fn a_derived_key_is_of_its_purpose_and_of_the_current_key() {
    let ring = |text: &str| KeyRing::parse(text).unwrap();
    let (one, two) = ("11".repeat(32), "22".repeat(32));
    let first = |ring: &KeyRing, purpose: &str| *ring.derive_each(purpose)[0];
    let derived = first(&ring(&one), "pages");
    let both = ring(&format!("{one},{two}"));
    assert_eq!(derived, first(&both, "pages"), "older keys do not matter");
    assert_ne!(derived, first(&ring(&one), "other"));
    assert_ne!(derived, first(&ring(&two), "pages"));
    assert_ne!(derived, [0; 32]);
    let other = both.clone().sealing_under(both.ids()[1]);
    assert_eq!(first(&other, "pages"), first(&ring(&two), "pages"));
    let each = |ring: &KeyRing| ring.derive_each("pages").iter().map(|key| **key).collect();
    let (mut first, second): (Vec<_>, Vec<_>) = (each(&both), each(&other));
    first.reverse();
    assert_eq!(first, second);
}
