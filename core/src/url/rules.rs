//! Whom requests may go to, and whom not: by network, host name and port.
//!
//! A list narrows, it opens nothing: what is no public address stays closed to all rules (see
//! [`super::AddressPolicy`]). There are two lists on each of two levels, the deployment's and the
//! tenant's, and a request has to pass all four.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::host_name::is_host_name;
use crate::error::{Rule, Wrong};

/// Longest rule as text: a host name of 253 bytes and a range of ports.
const RULE_LEN: usize = 270;

/// A rule: whom it names.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EgressRule {
    text: Arc<str>,
    whom: Whom,
    /// None: every port.
    ports: Option<RangeInclusive<u16>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Whom {
    /// `*`
    Everybody,
    /// `203.0.113.0/24`
    Network(IpNet),
    /// `hooks.example.com`
    Host(Box<str>),
    /// `*.example.com`: with the full stop, without the star.
    Below(Box<str>),
}

/// The form of a rule, in words.
const FORM: &str = "must be a network (203.0.113.0/24), a host (hooks.example.com), all hosts below \
                    one (*.example.com) or *, and perhaps ports (*.example.com:443, \
                    [2001:db8::/32]:8000-8999)";

impl EgressRule {
    /// Parses, or says what is wrong.
    ///
    /// # Errors
    ///
    /// The text has another form, or a host that no URL can name.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        if text.len() > RULE_LEN {
            let rule = format!("must be {RULE_LEN} bytes at most");
            return Err(Wrong::new(Rule::TooLong, rule));
        }
        let malformed = |rule: &str| Wrong::new(Rule::Malformed, rule);
        let (whom, ports) = split(text).ok_or_else(|| malformed(FORM))?;
        let whom = whom_of(whom).ok_or_else(|| malformed(FORM))?;
        if let Whom::Network(net) = &whom {
            let bracketed = text.starts_with('[');
            unambiguous(net, text, bracketed).map_err(malformed)?;
        }
        Ok(Self { text: text.into(), whom, ports })
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it names a host, or else an address that stands in its place, and the port. A network
    /// names the addresses in it.
    pub fn covers(&self, host: Option<&str>, ip: Option<IpAddr>, port: u16) -> bool {
        let held = ip.is_some_and(|ip| self.holds(ip));
        self.has_port(port) && (self.names(host.map(bare)) || held)
    }

    fn has_port(&self, port: u16) -> bool {
        self.ports.as_ref().is_none_or(|ports| ports.contains(&port))
    }

    /// Whether it names the host; none as host: a URL with an address in it.
    fn names(&self, host: Option<&str>) -> bool {
        match (&self.whom, host) {
            (Whom::Everybody, _) => true,
            (Whom::Host(name), Some(host)) => **name == *host,
            (Whom::Below(end), Some(host)) => host.len() > end.len() && host.ends_with(&**end),
            (Whom::Host(_) | Whom::Below(_), None) | (Whom::Network(_), _) => false,
        }
    }

    fn holds(&self, ip: IpAddr) -> bool {
        match &self.whom {
            Whom::Network(net) => net.contains(&ip),
            Whom::Everybody | Whom::Host(_) | Whom::Below(_) => false,
        }
    }

    fn is_network(&self) -> bool {
        matches!(self.whom, Whom::Network(_))
    }
}

/// Takes the ports from a rule's end: `whom`, `whom:port`, `whom:first-last`, `[whom]:port`.
fn split(text: &str) -> Option<(&str, Option<RangeInclusive<u16>>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (whom, rest) = rest.split_once(']')?;
        let ports = match rest {
            "" => None,
            rest => Some(ports(rest.strip_prefix(':')?)?),
        };
        return network(whom).map(|_| (whom, ports));
    }
    if network(text).is_some() {
        return Some((text, None));
    }
    match text.rsplit_once(':') {
        // An IPv6 network with ports has brackets.
        Some((whom, _)) if whom.contains(':') => None,
        Some((whom, numbers)) => Some((whom, Some(ports(numbers)?))),
        None => Some((text, None)),
    }
}

fn ports(text: &str) -> Option<RangeInclusive<u16>> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..=last)
}

fn network(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()
}

/// Whether a network says what it seems to say.
fn unambiguous(net: &IpNet, text: &str, bracketed: bool) -> Result<(), &'static str> {
    if net.trunc() != *net {
        return Err(
            "must be a network whose bits beyond its length are zero, as in 203.0.113.0/24, \
                    or one address (203.0.113.7)",
        );
    }
    let IpNet::V6(six) = net else { return Ok(()) };
    if six.addr().to_ipv4_mapped().is_some() {
        return Err("must be written as the IPv4 network that it stands for (203.0.113.0/24): \
                    addresses under ::ffff:0:0/96 are judged as IPv4");
    }
    // 2001:db8::1:443 is an address whole, whatever was meant by its end.
    match bracketed || text.contains('/') {
        true => Ok(()),
        false => Err("must have brackets around an IPv6 address ([2001:db8::1]), or a length \
                      (2001:db8::1/128): its end may be taken for a port"),
    }
}

fn whom_of(text: &str) -> Option<Whom> {
    if text == "*" {
        return Some(Whom::Everybody);
    }
    if let Some(net) = network(text) {
        return Some(Whom::Network(net));
    }
    let (host, below) = match text.strip_prefix('*') {
        Some(end) => (end.strip_prefix('.')?, true),
        None => (text, false),
    };
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    // A name whose last label is a number is read as an address by URLs (WHATWG URL, 3.5).
    let last = host.rsplit('.').next().unwrap_or_default();
    let number = last.bytes().all(|b| b.is_ascii_digit());
    if !host.bytes().all(good) || host.ends_with('.') || number || !is_host_name(host) {
        return None;
    }
    Some(match below {
        true => Whom::Below(format!(".{host}").into()),
        false => Whom::Host(host.into()),
    })
}

impl fmt::Display for EgressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for EgressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EgressRule({self})")
    }
}

impl FromStr for EgressRule {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        Self::parse(text)
    }
}

impl TryFrom<String> for EgressRule {
    type Error = Wrong;

    fn try_from(text: String) -> Result<Self, Wrong> {
        Self::parse(&text)
    }
}

impl From<EgressRule> for String {
    fn from(rule: EgressRule) -> String {
        rule.text.as_ref().to_owned()
    }
}

/// Two lists: what is denied, and what alone is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressRules {
    /// If there are any, only whom one of them names may be sent to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<EgressRule>,
    /// Whom one of them names may not be sent to, whatever `allow` says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<EgressRule>,
}

/// Why rules refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unruled {
    /// A rule denies it.
    Denied,
    /// No rule of those that allow names it.
    Unlisted,
}

impl EgressRules {
    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    /// What can be said of a host before its addresses are known; none as host: a URL with an
    /// address in it.
    ///
    /// # Errors
    ///
    /// No address that the host may have could be sent to.
    pub fn judge_host(&self, host: Option<&str>, port: u16) -> Result<(), Unruled> {
        let host = host.map(bare);
        let named = |rule: &EgressRule| rule.has_port(port) && rule.names(host);
        if self.deny.iter().any(named) {
            return Err(Unruled::Denied);
        }
        let may =
            |rule: &EgressRule| rule.has_port(port) && (rule.is_network() || rule.names(host));
        match self.allow.is_empty() || self.allow.iter().any(may) {
            true => Ok(()),
            false => Err(Unruled::Unlisted),
        }
    }

    /// Whether a host may be sent to at an address. `ip` are the forms of one address: first as it
    /// is, then the IPv4 address inside it, or all that may be inside. Where one of them is denied,
    /// the address is. It is allowed as it is, or if everything that may be inside is.
    ///
    /// # Errors
    ///
    /// It may not.
    pub fn judge(&self, host: Option<&str>, ip: &[IpAddr], port: u16) -> Result<(), Unruled> {
        let host = host.map(bare);
        let named = |rule: &EgressRule| rule.has_port(port) && rule.names(host);
        let held = |rules: &[EgressRule], ip: IpAddr| {
            rules.iter().any(|rule| rule.has_port(port) && rule.holds(ip))
        };
        if self.deny.iter().any(named) || ip.iter().any(|ip| held(&self.deny, *ip)) {
            return Err(Unruled::Denied);
        }
        let allowed = |ip: &IpAddr| held(&self.allow, *ip);
        let reached = ip.split_first().is_some_and(|(itself, inside)| {
            allowed(itself) || (!inside.is_empty() && inside.iter().all(allowed))
        });
        match self.allow.is_empty() || self.allow.iter().any(named) || reached {
            true => Ok(()),
            false => Err(Unruled::Unlisted),
        }
    }
}

/// A host without the full stop of the root.
fn bare(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

/// A network that is opened although its addresses are not public, and for which ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenNetwork {
    net: IpNet,
    /// None: every port.
    ports: Option<RangeInclusive<u16>>,
}

/// A text that is no such network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a network, as in 127.0.0.0/8 or ::1/128, and perhaps ports: 10.0.0.0/8:8443")]
pub struct BadNetwork;

impl OpenNetwork {
    pub(super) fn has(&self, ip: IpAddr, port: u16) -> bool {
        self.net.contains(&ip) && self.ports.as_ref().is_none_or(|ports| ports.contains(&port))
    }
}

impl FromStr for OpenNetwork {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let (net, ports) = split(text).ok_or(BadNetwork)?;
        Ok(Self { net: net.parse().map_err(|_| BadNetwork)?, ports })
    }
}

#[cfg(test)]
mod tests;
