//! URLs of receivers, and the rules of egress over them.

use std::net::IpAddr;

use pregon_core::limits;
use pregon_core::url::{
    AddressPolicy, EgressRule, EgressRules, EndpointUrl, Host, OpenNetwork, UrlPolicy,
};

use crate::first_line;

/// The first line is a URL, the rest a rule of egress.
///
/// - A URL is taken only as it is: its parts make the text again, and another reader of URIs sees the
///   same host, port and path.
/// - What the form of WHATWG makes of a text is a fixed point.
/// - The address that a policy judges is the address in the text, in all forms that it stands for.
/// - What a rule denies where it stands in the one list is what it allows in the other.
pub fn url(data: &[u8]) {
    let (text, rule) = first_line(data);
    let (Ok(text), Ok(rule)) = (std::str::from_utf8(text), std::str::from_utf8(rule)) else {
        return;
    };
    fixed_point(text);
    let rule = read_rule(rule);
    let Ok(url) = EndpointUrl::parse_stored(text) else {
        for policy in policies() {
            assert!(EndpointUrl::parse(text, &policy).is_err(), "a policy takes what has no form");
        }
        return;
    };
    parts(text, &url);
    another_reader(&url);
    for policy in policies() {
        judged(text, &url, &policy);
    }
    if let Some(rule) = rule {
        ruled(&url, &rule);
    }
}

/// The strictest policy, and one that opens nearly all.
fn policies() -> [UrlPolicy; 2] {
    let open = |net: &str| net.parse::<OpenNetwork>().expect("a network");
    let addresses = AddressPolicy::opening(vec![open("0.0.0.0/0"), open("::/0")]);
    [UrlPolicy::default(), UrlPolicy { allow_http: true, addresses, ..UrlPolicy::default() }]
}

fn fixed_point(text: &str) {
    let Ok(parsed) = ::url::Url::parse(text) else { return };
    let again = ::url::Url::parse(parsed.as_str()).expect("what was serialised is a URL");
    assert_eq!(again.as_str(), parsed.as_str(), "a serialised URL is its own form");
}

fn parts(text: &str, url: &EndpointUrl) {
    assert!(text.len() <= limits::URL_LEN);
    assert_eq!(url.as_str(), text);
    let (scheme, authority, path) = (url.scheme(), url.authority(), url.path_and_query());
    assert_eq!(format!("{}://{authority}{path}", scheme.as_str()), text);
    assert!(path.starts_with('/'));
    assert!(text.starts_with(url.redacted()) && !url.redacted().contains('?'));
    assert!(!authority.contains(['@', '#', '\\', ' ']));
    let host = host_of(authority);
    match url.host() {
        Host::Ip(ip) => {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            assert_eq!(bare.parse::<IpAddr>(), Ok(ip), "the address is the one in the text");
        }
        Host::Domain(name) => {
            assert_eq!(name, host);
            assert!(name.parse::<IpAddr>().is_err(), "no address is taken for a name");
            assert!(name.len() <= 254 && name.is_ascii());
            assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase()));
        }
    }
}

/// The host of an authority that has no user.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        Some(_) | None => authority,
    }
}

fn another_reader(url: &EndpointUrl) {
    // One that takes fewer characters in a path: what it refuses says nothing.
    let Ok(uri) = url.as_str().parse::<http::Uri>() else { return };
    assert_eq!(uri.host(), Some(host_of(url.authority())));
    assert_eq!(uri.port_u16().unwrap_or(url.scheme().default_port()), url.port());
    assert_eq!(uri.path_and_query().map(|it| it.as_str()), Some(url.path_and_query()));
}

fn judged(text: &str, stored: &EndpointUrl, policy: &UrlPolicy) {
    let Ok(url) = EndpointUrl::parse(text, policy) else { return };
    assert_eq!((url.host(), url.port()), (stored.host(), stored.port()));
    assert_ne!(url.port(), 0);
    let again = EndpointUrl::parse(url.as_str(), policy).expect("what was taken is taken again");
    assert_eq!(again.host(), url.host());
    let Host::Ip(ip) = url.host() else { return };
    let addresses = &policy.addresses;
    assert_eq!(addresses.permits(ip, url.port()), Ok(()), "the dialler judges as the parser did");
    if policy == &UrlPolicy::default() {
        for form in addresses.forms(ip) {
            assert!(is_public(form), "{form} is reached by {text}");
        }
    }
}

/// Whether an address is public as far as the standard library can tell.
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast()
                || ip.is_documentation()
                || ip.is_unspecified())
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback()
                || ip.is_multicast()
                || ip.is_unspecified()
                || ip.is_unique_local()
                || ip.is_unicast_link_local())
        }
    }
}

fn read_rule(text: &str) -> Option<EgressRule> {
    let _ = text.parse::<OpenNetwork>();
    let rule = EgressRule::parse(text).ok()?;
    assert_eq!(rule.as_str(), text);
    assert_eq!(rule.to_string(), text);
    let written = serde_json::to_string(&rule).expect("a rule can be written");
    let read: EgressRule = serde_json::from_str(&written).expect("a rule comes back");
    assert_eq!(read, rule);
    Some(rule)
}

fn ruled(url: &EndpointUrl, rule: &EgressRule) {
    let denies = EgressRules { deny: vec![rule.clone()], ..EgressRules::default() };
    let allows = EgressRules { allow: vec![rule.clone()], ..EgressRules::default() };
    let (addresses, port) = (AddressPolicy::default(), url.port());
    let denied = url.host().judge(&denies, &addresses, port).is_err();
    let allowed = url.host().judge(&allows, &addresses, port).is_ok();
    match url.host() {
        // A network says nothing of a name before it is looked up, so that it neither denies it nor
        // keeps it out.
        Host::Domain(_) => assert!(!denied || allowed),
        Host::Ip(ip) if addresses.forms(ip).len() == 1 => assert_eq!(denied, allowed),
        Host::Ip(_) => assert!(denied || !allowed, "what is allowed could be denied"),
    }
}
