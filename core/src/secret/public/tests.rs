use super::*;
use crate::secret::SecretBytes;

/// A key of `testdata/keys`, made by OpenSSL.
macro_rules! key {
    ($name:literal) => {
        include_str!(concat!("../../../testdata/keys/", $name, ".pem"))
    };
}

#[test]
fn keys_are_written_as_they_are_read() {
    for text in
        [key!("rsa-public"), key!("p256-public"), key!("p521-public"), key!("secp256k1-public")]
    {
        let key = PublicKey::parse(text).unwrap();
        assert_eq!(key.pem(), text);
        let base64 = key.base64();
        assert_eq!(PublicKey::parse(&base64).unwrap(), key);
        assert_eq!(PublicKey::parse(base64.trim_end_matches('=')).unwrap(), key);
    }
}

/// RFC 8410, section 10.1.
#[test]
fn the_key_of_rfc_8410() {
    let text = "-----BEGIN PUBLIC KEY-----\n\
                MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
                -----END PUBLIC KEY-----\n";
    let key = PublicKey::parse(text).unwrap();
    assert_eq!(key.pem(), text);
    assert!(matches!(key, PublicKey::Ed25519(bytes) if bytes[..2] == [0x19, 0xbf]));
}

#[test]
fn what_is_no_key_or_another_is_named() {
    let form = "must be a public key";
    for (text, rule, words) in [
        ("", Rule::Required, form),
        ("no key", Rule::Malformed, form),
        ("AAAA", Rule::Malformed, form),
        (key!("rsa2048"), Rule::Malformed, form),
        (&"A".repeat(KEY_TEXT_LEN + 1), Rule::TooLong, form),
        (key!("p256-compressed-public"), Rule::Malformed, form),
        (key!("rsa1024-public"), Rule::OutOfRange, "is an RSA key of 1024 bits; must be"),
        (key!("p384-public"), Rule::OutOfRange, "is a P-384 key; must be of RSA"),
    ] {
        let wrong = PublicKey::parse(text).unwrap_err();
        assert_eq!(wrong.rule, rule, "{text:.60}");
        assert!(wrong.description.starts_with(words), "{}", wrong.description);
    }
}

#[test]
fn pem_has_lines_of_64_characters() {
    for length in [0, 1, 47, 48, 49, 96, 300] {
        let text = pem::write("X", &vec![7; length]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((lines[0], lines[lines.len() - 1]), ("-----BEGIN X-----", "-----END X-----"));
        assert!(lines[1..lines.len() - 1].iter().rev().skip(1).all(|line| line.len() == 64));
        assert_eq!(lines[1..lines.len() - 1].concat(), BASE64.encode(&vec![7; length]));
    }
    let text = pem::write("PUBLIC KEY", &[7; 100]);
    let read = pem::read(&text).unwrap();
    assert_eq!(read, (SectionKind::PublicKey, SecretBytes::new(vec![7; 100])));
}
