use super::*;

/// `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj /CN=receiver.test`.
const SELF_SIGNED: &str = include_str!("../../testdata/tls/self_signed.pem");

#[test]
fn roots_are_read_within_their_bounds() {
    assert_eq!(roots(SELF_SIGNED).unwrap().len(), 1);
    let sixteen = SELF_SIGNED.repeat(ROOTS);
    assert_eq!(roots(&format!("a note\n{sixteen}\nand another")).unwrap().len(), ROOTS);
    let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let cut = SELF_SIGNED.replacen("\nM", "\nAAAAM", 1);
    for (pem, rule, text) in [
        (SELF_SIGNED.repeat(ROOTS + 1), Rule::TooMany, "must be 16 certificates at most, are 17"),
        ("x".repeat(PEM_LEN + 1), Rule::TooLong, "must be 32768 bytes at most"),
        ("x".to_owned(), Rule::Malformed, "`-----BEGIN CERTIFICATE-----` is not in it"),
        (format!("{SELF_SIGNED}{key}"), Rule::Malformed, "holds a private key"),
        (format!("{SELF_SIGNED}{cut}"), Rule::Malformed, "certificate 1 (counted from 0): "),
        (
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".to_owned(),
            Rule::Malformed,
            "certificate 0 (counted from 0): ",
        ),
    ] {
        let wrong = roots(&pem).unwrap_err();
        assert_eq!(wrong.rule, rule, "{wrong}");
        assert!(wrong.description.contains(text), "{wrong}");
    }
}

#[test]
fn pins_are_what_openssl_prints() {
    let [certificate] = &certificates(SELF_SIGNED.as_bytes()).unwrap()[..] else { panic!() };
    // openssl x509 -noout -fingerprint -sha256
    let printed = include_str!("../../testdata/tls/self_signed.sha256").trim();
    let pin = Pin::parse(printed).unwrap();
    assert_eq!(pin, Pin::of(certificate));
    let digits = printed.replace(':', "");
    assert_eq!(pin.to_string(), digits.to_lowercase());
    assert_eq!(Pin::parse(&digits).unwrap(), pin);
    assert_eq!(Pin::parse(&digits.to_lowercase()).unwrap(), pin);
    for text in [
        "",
        ":",
        "ab",
        &digits[2..],
        &format!("{digits}ab"),
        &digits.replacen('A', "g", 1),
        &printed.replacen(':', "", 1),
        &format!("{printed}:"),
        &format!(" {digits}"),
    ] {
        assert_eq!(Pin::parse(text).unwrap_err().rule, Rule::Malformed, "{text:?}");
    }
}
