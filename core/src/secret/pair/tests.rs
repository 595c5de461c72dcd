use super::*;
use crate::model::SecretAlgorithm;
use crate::secret::{key_generate, key_parse, key_public};

/// A key of `testdata/keys`, made by OpenSSL.
macro_rules! key {
    ($name:literal) => {
        include_str!(concat!("../../../testdata/keys/", $name, ".pem"))
    };
}

const KINDS: [PairKind; 4] = [
    PairKind::Rsa,
    PairKind::Ec(Curve::P256),
    PairKind::Ec(Curve::P521),
    PairKind::Ec(Curve::Secp256k1),
];

/// The keys that sign examples, which OpenSSL made, too, and their public halves.
const EXAMPLES: [(PairKind, &str, &str); 4] = [
    (PairKind::Rsa, include_str!("../../contract/document/example/rsa.pem"), key!("rsa-public")),
    (
        PairKind::Ec(Curve::P256),
        include_str!("../../contract/document/example/p256.pem"),
        key!("p256-public"),
    ),
    (
        PairKind::Ec(Curve::P521),
        include_str!("../../contract/document/example/p521.pem"),
        key!("p521-public"),
    ),
    (
        PairKind::Ec(Curve::Secp256k1),
        include_str!("../../contract/document/example/secp256k1.pem"),
        key!("secp256k1-public"),
    ),
];

#[test]
fn keys_of_openssl_are_read_and_have_the_public_half_that_it_says() {
    for (kind, private, public) in EXAMPLES {
        let key = pair_parse(kind, private).unwrap();
        assert_eq!(*pair_pem(&key), private, "{kind:?}: the same structure again");
        let half = pair_public(kind, &key).unwrap();
        assert_eq!(half.pem(), public, "{kind:?}");
        assert_eq!(pair_parse(kind, &pair_base64(&key)).unwrap(), key);
        let text = pair_base64(&key);
        assert_eq!(pair_parse(kind, text.trim_end_matches('=')).unwrap(), key);
        assert_eq!(pair_parse_any(private).unwrap(), (kind, key));
    }
}

#[test]
fn older_forms_of_pem_are_read() {
    let (old, new) = (key!("rsa2048-pkcs1"), key!("rsa2048"));
    let read = |text| pair_parse(PairKind::Rsa, text).unwrap();
    assert!(old.starts_with("-----BEGIN RSA PRIVATE KEY") && read(old) == read(new));
    assert_eq!(*pair_pem(&read(old)), new);
    // With a section for the parameters in front, as OpenSSL writes it.
    let text = key!("p256-sec1");
    assert!(text.starts_with("-----BEGIN EC PARAMETERS"));
    let key = pair_parse(PairKind::Ec(Curve::P256), text).unwrap();
    assert!(pair_public(PairKind::Ec(Curve::P256), &key).is_ok());
    let crlf = old.replace('\n', "\r\n");
    assert_eq!(read(&crlf), read(new));
    assert!(pair_parse(PairKind::Rsa, key!("rsa4096")).is_ok());
}

#[test]
fn keys_of_another_kind_curve_or_size_are_named() {
    let p256 = PairKind::Ec(Curve::P256);
    for (kind, text, words) in [
        (
            PairKind::Rsa,
            key!("rsa1024"),
            "is an RSA key of 1024 bits; must be of 2048, 3072 or 4096",
        ),
        (
            PairKind::Rsa,
            key!("rsa2304"),
            "is an RSA key of 2304 bits; must be of 2048, 3072 or 4096",
        ),
        (PairKind::Rsa, key!("p256-sec1"), "is a P-256 key; must be an RSA key"),
        (p256, key!("rsa2048"), "is an RSA key; must be a P-256 key"),
        (p256, key!("rsa2048-pkcs1"), "is an RSA key; must be a P-256 key"),
        (p256, key!("p384"), "is a P-384 key; must be a P-256 key"),
        (p256, key!("p384-sec1"), "is a P-384 key; must be a P-256 key"),
        (p256, key!("ed25519"), "is an Ed25519 key; must be a P-256 key"),
        (p256, EXAMPLES[3].1, "is a secp256k1 key; must be a P-256 key"),
        (PairKind::Ec(Curve::P521), EXAMPLES[1].1, "is a P-256 key; must be a P-521 key"),
    ] {
        let wrong = pair_parse(kind, text).unwrap_err();
        assert_eq!((wrong.rule, &*wrong.description), (Rule::OutOfRange, words));
    }
    let wrong = pair_parse_any(key!("p384")).unwrap_err();
    assert_eq!(wrong.description, "is a P-384 key; must be of RSA, P-256, P-521 or secp256k1");
}

#[test]
fn what_is_no_private_key_is_said_without_the_text() {
    let good = key!("rsa2048");
    let cut = good.replacen("MII", "MIJ", 1);
    let encrypted = good.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    for (text, rule) in [
        ("", Rule::Required),
        ("hunter2-hunter2", Rule::Malformed),
        ("aHVudGVyMg==", Rule::Malformed),
        ("-----BEGIN PRIVATE KEY-----\nhunter2\n", Rule::Malformed),
        ("-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n", Rule::Malformed),
        (key!("rsa-public"), Rule::Malformed),
        (cut.as_str(), Rule::Malformed),
        (encrypted.as_str(), Rule::Malformed),
        (&"A".repeat(KEY_TEXT_LEN + 1), Rule::TooLong),
    ] {
        let wrong = pair_parse(PairKind::Rsa, text).unwrap_err();
        assert_eq!(wrong.rule, rule, "{text:.40}");
        assert!(!wrong.description.contains("hunter2") && !wrong.description.contains("MII"));
    }
}

#[test]
fn an_rsa_key_whose_numbers_do_not_fit_is_refused() {
    let key = pair_parse(PairKind::Rsa, key!("rsa2048")).unwrap();
    let mut der = key.expose().to_vec();
    // A byte within the modulus, well behind the headers.
    der[100] ^= 1;
    let wrong = pair_parse(PairKind::Rsa, &BASE64.encode(&der)).unwrap_err();
    assert_eq!(wrong.description, "is an RSA key whose numbers do not fit");
}

#[test]
fn made_keys_are_of_their_kind_and_never_the_same() {
    for kind in KINDS {
        let (one, other) = (pair_generate(kind).unwrap(), pair_generate(kind).unwrap());
        assert_ne!(one, other);
        let public = pair_public(kind, &one).unwrap();
        assert_eq!(public.algorithm(), kind.algorithm());
        assert_eq!(PublicKey::parse(&public.pem()).unwrap(), public);
        assert_eq!(PublicKey::parse(&public.base64()).unwrap(), public);
        assert_eq!(pair_parse(kind, &pair_pem(&one)).unwrap(), one);
        if let PublicKey::Rsa { modulus, .. } = &public {
            assert_eq!(modulus.len(), 256);
        }
        for wrong in KINDS.into_iter().filter(|it| *it != kind) {
            assert_eq!(pair_public(wrong, &one).unwrap_err().rule, Rule::OutOfRange);
        }
    }
}

#[test]
fn every_kind_of_secret_makes_keys_that_it_reads_again() {
    let form = crate::secret::SecretForm::new(
        crate::secret::SecretEncoding::Base64,
        "whsec_",
        24..=64,
        32,
    );
    let form = form.unwrap();
    let mut random = |buffer: &mut [u8]| buffer.fill(7);
    for algorithm in SecretAlgorithm::ALL {
        let key = key_generate(*algorithm, &form, &mut random).unwrap();
        let public = key_public(*algorithm, &key).unwrap();
        let own = algorithm.has_public_key().then_some(*algorithm);
        assert_eq!(public.as_ref().map(PublicKey::algorithm), own);
        let text = match algorithm {
            SecretAlgorithm::Hmac => form.format(&key).unwrap(),
            SecretAlgorithm::Ed25519 => {
                Zeroizing::new(format!("whsk_{}", BASE64.encode(key.expose())))
            }
            SecretAlgorithm::Rsa
            | SecretAlgorithm::EcdsaP256
            | SecretAlgorithm::EcdsaP521
            | SecretAlgorithm::EcdsaSecp256k1 => pair_pem(&key),
        };
        assert_eq!(key_parse(*algorithm, &form, &text).unwrap(), key);
    }
}
