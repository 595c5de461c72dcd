use proptest::prelude::*;

use super::*;

fn policy() -> UrlPolicy {
    UrlPolicy { allow_http: true, ..UrlPolicy::default() }
}

fn parse(text: &str) -> Result<EndpointUrl, Wrong> {
    EndpointUrl::parse(text, &policy())
}

#[test]
fn parts_are_slices_of_what_was_given() {
    let text = "https://hooks.example.com:8443/a/b%20c?token=x%2Fy&&b=+~";
    let url = parse(text).unwrap();
    assert_eq!(url.as_str(), text);
    assert_eq!((url.scheme(), url.port()), (Scheme::Https, 8443));
    assert_eq!(url.host(), Host::Domain("hooks.example.com"));
    assert_eq!(url.authority(), "hooks.example.com:8443");
    assert_eq!(url.redacted(), "https://hooks.example.com:8443/a/b%20c");
    assert!(!format!("{url:?}").contains("token"));

    let plain = parse("http://example.com/").unwrap();
    assert_eq!((plain.port(), plain.authority()), (80, "example.com"));
    assert_eq!((plain.path_and_query(), plain.redacted()), ("/", "http://example.com/"));
    assert_eq!(parse("https://example.com/?").unwrap().path_and_query(), "/?");
}

#[test]
fn addresses_are_hosts_too() {
    let v6 = parse("https://[2606:4700::1111]:444/x").unwrap();
    assert_eq!(v6.host(), Host::Ip("2606:4700::1111".parse().unwrap()));
    assert_eq!((v6.authority(), v6.port()), ("[2606:4700::1111]:444", 444));
    let v4 = parse("https://8.8.8.8/").unwrap();
    assert_eq!(v4.host(), Host::Ip("8.8.8.8".parse().unwrap()));
}

#[test]
fn another_form_is_refused_with_the_right_one() {
    let cases = [
        ("https://example.com", "https://example.com/"),
        ("HTTPS://Example.COM/A", "https://example.com/A"),
        ("https://example.com:443/", "https://example.com/"),
        ("https://example.com/a/../b", "https://example.com/b"),
        ("https://example.com/%2e/b", "https://example.com/b"),
        ("https://example.com\\b", "https://example.com/b"),
        (" https://example.com/", "https://example.com/"),
        ("https://exa\tmple.com/", "https://example.com/"),
        ("https://@example.com/", "https://example.com/"),
        ("https://müller.example/", "https://xn--mller-kva.example/"),
        ("https:example.com/", "https://example.com/"),
        ("https://134744072/", "https://8.8.8.8/"),
        ("https://0x7f.1/", "https://127.0.0.1/"),
        ("https://example.com/ñ", "https://example.com/%C3%B1"),
        ("https://example.com/?a b", "https://example.com/?a%20b"),
        ("https://EXAMPLE.com/?key=s3cret", "https://example.com/?…"),
    ];
    for (given, right) in cases {
        let wrong = parse(given).unwrap_err();
        assert_eq!(wrong.rule, Rule::Malformed, "{given}");
        assert_eq!(wrong.description, format!("must have the form {right}"), "{given}");
    }
    let long = format!("https://example.com/{}/./b", "a".repeat(600));
    let wrong = parse(&long).unwrap_err();
    assert_eq!(wrong.description, "must be in WHATWG form: from byte 621 on it must go on with b");
}

#[test]
fn what_is_never_a_receiver() {
    let cases = [
        ("", Rule::Required),
        ("example.com", Rule::Malformed),
        ("/hook", Rule::Malformed),
        ("https://", Rule::Malformed),
        ("https:///", Rule::Malformed),
        ("https://exa mple.com/", Rule::Malformed),
        ("https://a..b/", Rule::Malformed),
        ("https://example.com:99999/", Rule::Malformed),
        ("https://[::1/", Rule::Malformed),
        ("ftp://example.com/", Rule::UrlRefused),
        ("file:///etc/passwd", Rule::UrlRefused),
        ("javascript:alert(1)", Rule::UrlRefused),
        ("https://user@example.com/", Rule::UrlRefused),
        ("https://user:pw@example.com/", Rule::UrlRefused),
        ("https://:pw@example.com/", Rule::UrlRefused),
        ("https://example.com/#", Rule::UrlRefused),
        ("https://example.com/#a", Rule::UrlRefused),
        ("https://example.com:0/", Rule::UrlRefused),
    ];
    for (text, rule) in cases {
        assert_eq!(parse(text).unwrap_err().rule, rule, "{text}");
    }
    assert!(
        !parse("https://user:hunter2@example.com/").unwrap_err().description.contains("hunter2")
    );
    let label = format!("https://{}.com/", "a".repeat(64));
    assert_eq!(parse(&label).unwrap_err().rule, Rule::Malformed);
    let host = format!("https://{}com/", "abc.".repeat(63));
    assert_eq!(parse(&host).unwrap_err().rule, Rule::Malformed);
}

#[test]
fn eight_kibibytes_and_no_more() {
    let of_length = |length: usize| format!("https://example.com/{}", "a".repeat(length - 20));
    assert!(parse(&of_length(8192)).is_ok());
    let wrong = parse(&of_length(8193)).unwrap_err();
    assert_eq!(
        (wrong.rule, &*wrong.description),
        (Rule::TooLong, "must be 8192 bytes at most, is 8193")
    );
}

#[test]
fn the_policy_decides_scheme_port_and_literal_address() {
    let strict = UrlPolicy::default();
    let rule =
        |text: &str, policy: &UrlPolicy| EndpointUrl::parse(text, policy).err().map(|w| w.rule);
    assert_eq!(rule("http://example.com/", &strict), Some(Rule::UrlRefused));
    assert_eq!(rule("https://127.0.0.1/", &strict), Some(Rule::UrlRefused));
    assert_eq!(rule("https://[::ffff:a9fe:a9fe]/", &strict), Some(Rule::UrlRefused));
    assert_eq!(rule("https://localhost/", &strict), None); // judged when it is dialled

    let local = AddressPolicy::opening(vec!["127.0.0.0/8".parse().unwrap()]);
    let open = UrlPolicy { allow_http: true, addresses: local, ..UrlPolicy::default() };
    assert_eq!(rule("http://127.0.0.1:9000/hook", &open), None);
    assert_eq!(rule("http://10.0.0.1/", &open), Some(Rule::UrlRefused));

    let ports = UrlPolicy { ports: vec![443..=443, 8000..=8999], ..UrlPolicy::default() };
    assert_eq!(rule("https://example.com/", &ports), None);
    assert_eq!(rule("https://example.com:8443/", &ports), None);
    assert_eq!(rule("https://example.com:22/", &ports), Some(Rule::UrlRefused));
}

#[test]
fn the_deployments_lists_are_told_apart_from_the_contracts_ports() {
    let rules = |allow: &[&str], deny: &[&str]| {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        EgressRules { allow: parse(allow), deny: parse(deny) }
    };
    let under = |rules: EgressRules, text: &str| {
        let policy = UrlPolicy { rules, ..policy() };
        EndpointUrl::parse(text, &policy).err().map(|wrong| wrong.description)
    };
    let denied = Some("the deployment denies it (--egress-deny)".to_owned());
    let other = Some("the deployment allows other receivers only (--egress-only)".to_owned());
    assert_eq!(under(rules(&[], &["*.evil.test"]), "https://a.evil.test/"), denied);
    assert_eq!(under(rules(&[], &["8.8.0.0/16"]), "https://8.8.8.8/"), denied);
    assert_eq!(under(rules(&[], &["8.8.0.0/16"]), "https://[64:ff9b::808:808]/"), denied);
    assert_eq!(under(rules(&["*.good.test:443"], &[]), "https://a.test/"), other);
    assert_eq!(under(rules(&["*.good.test:443"], &[]), "https://a.good.test:444/"), other);
    assert_eq!(under(rules(&["*.good.test:443"], &[]), "https://8.8.8.8/"), other);
    assert_eq!(under(rules(&["*.good.test:443"], &[]), "https://a.good.test/"), None);
}

#[test]
fn a_contracts_rules_replace_the_deployments() {
    let rules = UrlRules { schemes: vec![Scheme::Https], ports: Vec::new() };
    let under = policy().under(&rules);
    assert!(EndpointUrl::parse("http://example.com/", &under).is_err());
    assert!(EndpointUrl::parse("https://example.com/", &under).is_ok());
    let clear = UrlRules { schemes: vec![Scheme::Http], ports: vec![8080..=8080] };
    let under = UrlPolicy::default().under(&clear);
    assert!(EndpointUrl::parse("http://example.com:8080/", &under).is_ok());
    assert!(EndpointUrl::parse("https://example.com:8080/", &under).is_err());
    assert_eq!(policy().under(&UrlRules::default()), policy());
}

#[test]
fn a_stored_url_comes_back_whatever_the_policy() {
    let url = EndpointUrl::parse_stored("http://127.0.0.1:9/?q").unwrap();
    assert_eq!(url.host(), Host::Ip("127.0.0.1".parse().unwrap()));
    assert!(EndpointUrl::parse_stored("http://x/#y").is_err());
}

proptest! {
    #[test]
    fn no_text_panics_and_what_parses_is_whole(text in "https?://.{0,60}") {
        if let Ok(url) = EndpointUrl::parse_stored(&text) {
            prop_assert_eq!(url.as_str(), &text);
            let whole = format!("{}://{}{}", url.scheme().as_str(), url.authority(), url.path_and_query());
            prop_assert_eq!(&whole, &text);
            prop_assert!(text.is_ascii() && text.starts_with(url.redacted()));
            prop_assert!(!text.contains(['#', '@', ' ', '\t', '\r', '\n']) || url.path_and_query().contains('@'));
            prop_assert!(!url.authority().contains('@'));
        }
    }

    #[test]
    fn the_right_form_is_right(
        host in "[a-zA-Z]{1,8}(\\.[A-Za-z]{1,4})?", path in "[ -~]{0,30}", port in prop::option::of(1u16..),
    ) {
        let port = port.map(|p| format!(":{p}")).unwrap_or_default();
        let text = format!("https://{host}{port}/{path}");
        if let Err(wrong) = EndpointUrl::parse_stored(&text)
            && let Some(right) = wrong.description.strip_prefix("must have the form ")
            && !right.ends_with("?…")
        {
            prop_assert!(EndpointUrl::parse_stored(right).is_ok(), "{} -> {}", text, right);
        }
    }
}

#[test]
fn refusal_of_http_names_who_refuses_it() {
    let refused = |policy: &UrlPolicy| {
        EndpointUrl::parse("http://example.com/", policy).unwrap_err().description
    };
    assert_eq!(refused(&UrlPolicy::default()), "must be https; --allow-http permits http");
    let https = UrlRules { schemes: vec![Scheme::Https], ports: Vec::new() };
    let contract = "must be https: the contract allows no other scheme";
    assert_eq!(refused(&policy().under(&https)), contract);
    assert_eq!(refused(&UrlPolicy::default().under(&https)), contract);
    let ports = UrlRules { schemes: Vec::new(), ports: vec![1..=9] };
    let deployment = "must be https; --allow-http permits http";
    assert_eq!(refused(&UrlPolicy::default().under(&ports)), deployment);
}
