use super::*;

const EC: &str = include_str!("../../../testdata/tls/ec.pem");
const EC_SEC1: &str = include_str!("../../../testdata/tls/ec.sec1.key");
const EC_PKCS8: &str = include_str!("../../../testdata/tls/ec.pkcs8.key");
const EC_ENCRYPTED: &str = include_str!("../../../testdata/tls/ec.encrypted.key");
const RSA: &str = include_str!("../../../testdata/tls/rsa.pem");
const RSA_ENCRYPTED: &str = include_str!("../../../testdata/tls/rsa.encrypted.key");
const RSA_PKCS1: &str = include_str!("../../../testdata/tls/rsa.pkcs1.key");
const EXPIRED: &str = include_str!("../../../testdata/tls/expired.pem");

#[test]
fn each_form_of_key_is_read_and_must_fit() {
    for (certificate, key) in [(EC, EC_SEC1), (EC, EC_PKCS8), (RSA, RSA_PKCS1)] {
        let made = Chain::parse(certificate).unwrap().with_key(key.as_bytes()).unwrap();
        assert_eq!(made.cert.len(), 1);
    }
    for (certificate, key, text) in [
        (RSA, EC_SEC1, "does not fit"),
        (EC, RSA_PKCS1, "does not fit"),
        (EC, EC_ENCRYPTED, "is encrypted"),
        (RSA, RSA_ENCRYPTED, "is encrypted"),
        (EC, EC, "must be a private key in PEM"),
        (EC, "hush", "must be a private key in PEM"),
        (EC, "-----BEGIN PRIVATE KEY-----\naHVzaA==\n-----END PRIVATE KEY-----\n", "must be RSA"),
    ] {
        let wrong = Chain::parse(certificate).unwrap().with_key(key.as_bytes()).unwrap_err();
        assert!(wrong.rule == Rule::Malformed && wrong.description.contains(text), "{wrong}");
        assert!(!wrong.description.contains("hush"));
    }
}

#[test]
fn chains_tell_when_their_first_certificate_expires() {
    // As `openssl x509 -noout -enddate` prints it; one before 2050, one later: two forms of time.
    for (first, behind, end) in
        [(EXPIRED, EC, "2020-02-01T00:00:00.000Z"), (EC, EXPIRED, "2126-11-06T13:11:42.000Z")]
    {
        let chain = Chain::parse(&format!("{first}{behind}")).unwrap();
        assert_eq!((chain.not_after().to_string().as_str(), chain.certificates().len()), (end, 2));
    }
}

#[test]
fn chains_keep_their_bounds() {
    assert_eq!(Chain::parse(&EC.repeat(CHAIN)).unwrap().certificates().len(), CHAIN);
    assert_eq!(Chain::parse(&EC.repeat(CHAIN + 1)).unwrap_err().rule, Rule::TooMany);
    let no_certificate = "-----BEGIN CERTIFICATE-----\naHVzaA==\n-----END CERTIFICATE-----\n";
    for pem in ["", "x", EC_PKCS8, &format!("{EC}{EC_PKCS8}"), no_certificate] {
        assert_eq!(Chain::parse(pem).unwrap_err().rule, Rule::Malformed, "{pem}");
    }
    let wrong = Chain::parse(&format!("{EC}{RSA}{no_certificate}")).unwrap_err();
    assert_eq!(wrong.description, "certificate 2 (counted from 0) is not one of X.509");
}
