use proptest::prelude::*;

use super::*;

fn standard() -> SecretForm {
    SecretForm::new(SecretEncoding::Base64, "whsec_", 24..=64, 32).unwrap()
}

fn form(encoding: SecretEncoding) -> SecretForm {
    SecretForm::new(encoding, "", 1..=256, 32).unwrap()
}

#[test]
fn the_standard_webhooks_example_is_read() {
    let key = standard().parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    assert_eq!(key.expose().len(), 24);
    assert_eq!(*standard().format(&key).unwrap(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
}

#[test]
fn padding_may_be_left_out_but_not_wrong() {
    let with = standard().parse("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGA==").unwrap();
    let without = standard().parse("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGA").unwrap();
    assert_eq!(with, without);
    assert!(standard().parse("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGA=").is_err());
}

#[test]
fn what_is_wrong_is_said_without_the_text() {
    let cases = [
        ("", Rule::Required),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", Rule::Malformed),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS!", Rule::Malformed),
        ("whsec_MfKQ9r8GKYqrTwjUPD8I-_ZIo2LaLaSw", Rule::Malformed),
        ("whsec_MfKQ", Rule::OutOfRange),
        ("whsec_", Rule::OutOfRange),
    ];
    for (text, rule) in cases {
        let wrong = standard().parse(text).unwrap_err();
        assert_eq!(wrong.rule, rule, "{text}");
        assert_eq!(wrong.description, "must be whsec_ and 24 to 64 bytes as base64");
    }
    let long = format!("whsec_{}", "A".repeat(10_000));
    assert_eq!(standard().parse(&long).unwrap_err().rule, Rule::TooLong);
}

#[test]
fn hex_and_text() {
    let hex = form(SecretEncoding::Hex);
    assert_eq!(hex.parse("00fFaB").unwrap().expose(), [0, 255, 171]);
    assert_eq!(*hex.format(&hex.parse("00fFaB").unwrap()).unwrap(), "00ffab");
    assert!(hex.parse("00f").is_err() && hex.parse("0x00").is_err());

    let text = form(SecretEncoding::Text);
    assert_eq!(text.parse("clavé ").unwrap().expose(), "clavé ".as_bytes());
    assert_eq!(text.format(&SecretBytes::new(vec![0xff])), None);
}

#[test]
fn generated_keys_are_of_their_form() {
    let mut counter = 0u8;
    let mut random = |buffer: &mut [u8]| {
        buffer.iter_mut().for_each(|byte| {
            counter = counter.wrapping_add(101);
            *byte = counter;
        });
    };
    for form in [standard(), form(SecretEncoding::Hex), form(SecretEncoding::Text)] {
        let key = form.generate(&mut random);
        assert_eq!(form.parse(&form.format(&key).unwrap()).unwrap(), key);
        assert_ne!(form.generate(&mut random), key);
    }
    let text = form(SecretEncoding::Text).generate(&mut random);
    assert!(text.expose().len() == 64 && text.expose().iter().all(u8::is_ascii_hexdigit));
}

#[test]
fn forms_keep_their_bounds() {
    let made = |prefix: &str, bytes, generate| {
        SecretForm::new(SecretEncoding::Text, prefix, bytes, generate).is_ok()
    };
    assert!(made("whsec_", 1..=256, 32));
    assert!(!made("a b", 1..=256, 32) && !made(&"a".repeat(33), 1..=256, 32));
    assert!(!made("", 0..=256, 32) && !made("", 1..=257, 32));
    #[allow(clippy::reversed_empty_ranges)]
    let backwards = made("", 9..=8, 8);
    assert!(!backwards);
    assert!(!made("", 1..=63, 32) && !made("", 1..=256, usize::MAX) && !made("", 1..=256, 0));
}

#[test]
fn secrets_cannot_be_printed() {
    let key = SecretBytes::new(b"hunter2".to_vec());
    assert_eq!(format!("{key:?}"), "SecretBytes(redacted)");
    // SHA-256 of "hunter2", as sha256sum gives it, cut to 16 characters.
    assert_eq!(key.fingerprint(), "f52fbd32b2b3b86f");
    assert_ne!(key, SecretBytes::new(b"hunter3".to_vec()));
    assert_ne!(key, SecretBytes::new(b"hunter".to_vec()));
}

proptest! {
    #[test]
    fn keys_round_trip(key in prop::collection::vec(any::<u8>(), 1..=256)) {
        let key = SecretBytes::new(key);
        for form in [form(SecretEncoding::Hex), form(SecretEncoding::Base64)] {
            prop_assert_eq!(&form.parse(&form.format(&key).unwrap()).unwrap(), &key);
        }
    }

    #[test]
    fn no_text_panics_or_is_repeated(text in "[^ ]{12,60}") {
        for form in [standard(), form(SecretEncoding::Hex)] {
            if let Err(wrong) = form.parse(&text) {
                prop_assert!(!wrong.description.contains(&text));
            }
        }
    }
}
