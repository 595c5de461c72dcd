use proptest::prelude::*;

use super::*;

fn rules(allow: &[&str], deny: &[&str]) -> EgressRules {
    let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    EgressRules { allow: parse(allow), deny: parse(deny) }
}

fn judged(rules: &EgressRules, host: &str, ip: &str, port: u16) -> Result<(), Unruled> {
    let host = Some(host).filter(|host| !host.is_empty());
    rules.judge(host, &[ip.parse().unwrap()], port)
}

#[test]
fn rules_have_four_forms_with_and_without_ports() {
    for text in [
        "*",
        "*:443",
        "203.0.113.0/24",
        "203.0.113.7",
        "203.0.113.7:25",
        "203.0.113.0/24:8000-8999",
        "2001:db8::/32",
        "2001:db8::1/128",
        "[2001:db8::/32]:443",
        "[2001:db8::1]",
        "hooks.example.com",
        "hooks.example.com:443",
        "*.example.com",
        "*.example.com:1-65535",
        "localhost",
        "xn--bcher-kva.example",
    ] {
        let rule = EgressRule::parse(text).unwrap_or_else(|wrong| panic!("{text}: {wrong}"));
        assert_eq!(rule.as_str(), text);
    }
}

#[test]
fn other_forms_are_refused() {
    for text in [
        "",
        "**",
        "*example.com",
        "a.*.example.com",
        "*.",
        ".example.com",
        "example.com.",
        "Example.com",
        "bücher.example",
        "a b",
        "https://example.com",
        "example.com/",
        "example.com:",
        "example.com:0",
        "example.com:99999",
        "example.com:443-80",
        "example.com:http",
        "[example.com]:443",
        "[2001:db8::/32]443",
        "10.0.0.0/33",
        "1.2.3",
        "0x7f.1",
        "user@example.com",
        "a..b",
        // What parses and means something else.
        "203.0.113.7/8",
        "2001:db8::1/32",
        "[2001:db8::1/32]:443",
        "::ffff:203.0.113.0/120",
        "[::ffff:203.0.113.7]",
        "2001:db8::1",
        "2001:db8::1:443",
        "2001:db8::/32:443",
    ] {
        assert!(EgressRule::parse(text).is_err(), "{text}");
    }
    let long = format!("{}.example", "a".repeat(300));
    assert_eq!(EgressRule::parse(&long).unwrap_err().rule, Rule::TooLong);
}

#[test]
fn a_list_lets_through_whom_it_names_and_nobody_else() {
    let list = rules(&["*.example.com:443", "hooks.test", "203.0.113.0/24:8000-8010"], &[]);
    let passes = [
        ("a.example.com", "9.9.9.9", 443),
        ("a.b.example.com", "9.9.9.9", 443),
        ("a.example.com.", "9.9.9.9", 443),
        ("hooks.test", "9.9.9.9", 1),
        ("other.test", "203.0.113.9", 8010),
        ("", "203.0.113.9", 8000),
    ];
    for (host, ip, port) in passes {
        assert_eq!(judged(&list, host, ip, port), Ok(()), "{host} {ip} {port}");
    }
    let fails = [
        ("example.com", "9.9.9.9", 443),
        ("a.example.com", "9.9.9.9", 444),
        ("badexample.com", "9.9.9.9", 443),
        ("a.example.com.evil.test", "9.9.9.9", 443),
        ("other.test", "203.0.113.9", 8011),
        ("other.test", "203.0.114.9", 8010),
        ("", "9.9.9.9", 443),
    ];
    for (host, ip, port) in fails {
        assert_eq!(judged(&list, host, ip, port), Err(Unruled::Unlisted), "{host} {ip} {port}");
    }
}

#[test]
fn what_is_denied_is_denied_whatever_is_allowed() {
    let both =
        rules(&["*"], &["*.internal.example", "192.0.2.0/24", "*:25", "[2001:db8::/32]:443"]);
    assert_eq!(both.deny.len(), 4);
    assert_eq!(judged(&both, "a.internal.example", "9.9.9.9", 443), Err(Unruled::Denied));
    assert_eq!(judged(&both, "a.test", "192.0.2.1", 443), Err(Unruled::Denied));
    assert_eq!(judged(&both, "a.test", "9.9.9.9", 25), Err(Unruled::Denied));
    assert_eq!(judged(&both, "a.test", "9.9.9.9", 443), Ok(()));
    let inside = ["64:ff9b::192.0.2.1".parse().unwrap(), "192.0.2.1".parse().unwrap()];
    assert_eq!(both.judge(Some("a.test"), &inside, 443), Err(Unruled::Denied));
}

#[test]
fn an_address_with_several_readings_is_allowed_by_all_of_them_and_denied_by_one() {
    let forms = ["64:ff9b:1::1", "9.9.9.9", "192.0.2.1", "8.8.8.8"].map(|ip| ip.parse().unwrap());
    let judged = |allow: &[&str], deny: &[&str]| rules(allow, deny).judge(None, &forms, 443);
    assert_eq!(judged(&["8.8.8.0/24"], &[]), Err(Unruled::Unlisted));
    assert_eq!(judged(&["8.8.8.0/24", "9.9.9.9", "192.0.2.0/24:80"], &[]), Err(Unruled::Unlisted));
    assert_eq!(judged(&["8.8.8.0/24", "9.9.9.9", "192.0.2.0/24"], &[]), Ok(()));
    assert_eq!(judged(&["64:ff9b:1::/48"], &[]), Ok(()));
    assert_eq!(judged(&["*"], &["192.0.2.0/24"]), Err(Unruled::Denied));
    let one = ["64:ff9b::9.9.9.9".parse().unwrap(), "9.9.9.9".parse().unwrap()];
    assert_eq!(rules(&["9.9.9.9"], &[]).judge(None, &one, 443), Ok(()));
    assert_eq!(rules(&["9.9.9.9"], &[]).judge(None, &[], 443), Err(Unruled::Unlisted));
}

#[test]
fn what_no_address_could_save_is_known_before_the_lookup() {
    let named = rules(&["*.example.com:443"], &["bad.example.com"]);
    assert_eq!(named.judge_host(Some("a.example.com"), 443), Ok(()));
    assert_eq!(named.judge_host(Some("bad.example.com."), 443), Err(Unruled::Denied));
    assert_eq!(named.judge_host(Some("a.test"), 443), Err(Unruled::Unlisted));
    let network = rules(&["203.0.113.0/24:443"], &[]);
    assert_eq!(network.judge_host(Some("a.test"), 443), Ok(()));
    assert_eq!(network.judge_host(Some("a.test"), 80), Err(Unruled::Unlisted));
    assert_eq!(EgressRules::default().judge_host(None, 1), Ok(()));
}

#[test]
fn open_networks_may_name_ports() {
    let open: OpenNetwork = "127.0.0.0/8:9000-9001".parse().unwrap();
    let ip: IpAddr = "127.0.0.9".parse().unwrap();
    assert!(open.has(ip, 9000) && open.has(ip, 9001) && !open.has(ip, 9002));
    assert!("[::1/128]:80".parse::<OpenNetwork>().unwrap().has("::1".parse().unwrap(), 80));
    for text in ["loopback", "127.0.0.1", "*", "127.0.0.0/8:0", ""] {
        assert_eq!(text.parse::<OpenNetwork>(), Err(BadNetwork), "{text}");
    }
}

proptest! {
    #[test]
    fn whom_a_host_alone_condemns_no_address_saves(
        host in "[a-c]{1,2}(\\.[a-c]{1,2}){0,2}", ip: u32, port in 1..5_u16,
        allow in prop::collection::vec("(\\*\\.)?[a-c]{1,2}(:[1-4])?", 0..3),
        deny in prop::collection::vec("(\\*\\.)?[a-c]{1,2}(:[1-4])?", 0..3),
    ) {
        let parse = |texts: &[String]| texts.iter().map(|it| it.parse().unwrap()).collect();
        let rules = EgressRules { allow: parse(&allow), deny: parse(&deny) };
        let early = rules.judge_host(Some(&host), port);
        let late = rules.judge(Some(&host), &[IpAddr::V4(ip.into())], port);
        prop_assert_eq!(early, late);
    }
}
