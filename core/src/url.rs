//! Where attempts go: URLs that are what they look like, and addresses that may be dialled.
//!
//! A receiver's URL is kept exactly as it was given, because it must equal its own WHATWG
//! serialisation: what is shown, what is signed, what is dialled and what the receiver's server
//! reads are one text. So there is no userinfo to mislead, no fragment to be dropped, no dot
//! segment, tab, upper-case host or `0x7f.1` to be read differently elsewhere. The query goes out
//! byte for byte.
//!
//! An address that a URL names literally is judged here at once ([`AddressPolicy`]); a name's
//! addresses are judged by the same policy when they are dialled, whatever DNS says then.

use std::fmt;
use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use ::url::Position;

use crate::error::{Rule, Wrong};
use crate::limits;

mod address;
mod host_name;
mod nat64;
mod rules;

pub use address::AddressPolicy;
use host_name::is_host_name;
pub use nat64::{BadNat64Prefix, Nat64Prefix};
pub use rules::{BadNetwork, EgressRule, EgressRules, OpenNetwork, Unruled};

/// Longest right form that a refusal repeats, in bytes: it travels in gRPC trailers, which many
/// clients cut at 8 KiB.
const SHOWN_LEN: usize = 512;

/// How a request travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// In clear.
    Http,
    /// Under TLS.
    Https,
}

impl Scheme {
    /// As it stands in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// The port where a URL names none.
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// What a URL may be here: the deployment's settings, or a contract's rules over them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlPolicy {
    /// Whether requests may travel in clear.
    pub allow_http: bool,
    /// Whether requests may travel under TLS; only a contract for http alone says no.
    pub allow_https: bool,
    /// Ports that may be named; empty: any but 0.
    pub ports: Vec<RangeInclusive<u16>>,
    /// Addresses that a URL may name.
    pub addresses: AddressPolicy,
    /// The deployment's lists.
    pub rules: EgressRules,
    /// Whether it is the contract that says no to http.
    pub https_by_contract: bool,
}

impl Default for UrlPolicy {
    /// https to any port of any public address.
    fn default() -> Self {
        let (addresses, rules) = (AddressPolicy::default(), EgressRules::default());
        let (ports, https_by_contract) = (Vec::new(), false);
        Self { allow_http: false, allow_https: true, ports, addresses, rules, https_by_contract }
    }
}

/// A contract's `url`: exactly these schemes and ports, whatever the deployment's are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UrlRules {
    /// Empty: the deployment's.
    pub schemes: Vec<Scheme>,
    /// Empty: the deployment's.
    pub ports: Vec<RangeInclusive<u16>>,
}

impl UrlPolicy {
    /// This policy under a contract's rules. Addresses stay the deployment's.
    pub fn under(&self, rules: &UrlRules) -> Self {
        let mut policy = self.clone();
        if !rules.schemes.is_empty() {
            policy.allow_http = rules.schemes.contains(&Scheme::Http);
            policy.allow_https = rules.schemes.contains(&Scheme::Https);
            policy.https_by_contract = !policy.allow_http;
        }
        if !rules.ports.is_empty() {
            policy.ports.clone_from(&rules.ports);
        }
        policy
    }

    fn check(&self, scheme: Scheme, host: Host<'_>, port: u16) -> Result<(), Wrong> {
        let refused = |text: String| Err(Wrong::new(Rule::UrlRefused, text));
        match scheme {
            Scheme::Http if !self.allow_http && self.https_by_contract => {
                return refused("must be https: the contract allows no other scheme".into());
            }
            Scheme::Http if !self.allow_http => {
                return refused("must be https; --allow-http permits http".into());
            }
            Scheme::Https if !self.allow_https => {
                return refused("must be http: the contract allows no other scheme".into());
            }
            Scheme::Http | Scheme::Https => {}
        }
        if port == 0 || !(self.ports.is_empty() || self.ports.iter().any(|p| p.contains(&port))) {
            return refused(format!("port {port} is not allowed"));
        }
        if let Host::Ip(ip) = host
            && let Err(class) = self.addresses.permits(ip, port)
        {
            return refused(format!(
                "{ip} is not a public address ({class}); --allow-egress permits it"
            ));
        }
        match host.judge(&self.rules, &self.addresses, port) {
            Ok(()) => Ok(()),
            Err(Unruled::Denied) => refused("the deployment denies it (--egress-deny)".into()),
            Err(Unruled::Unlisted) => {
                refused("the deployment allows other receivers only (--egress-only)".into())
            }
        }
    }
}

/// The host of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'a> {
    /// A name, in ASCII and lower case.
    Domain(&'a str),
    /// An address.
    Ip(IpAddr),
}

impl Host<'_> {
    /// What rules say of it, as far as can be said before a name is looked up.
    ///
    /// # Errors
    ///
    /// They forbid it.
    pub fn judge(
        &self,
        rules: &EgressRules,
        addresses: &AddressPolicy,
        port: u16,
    ) -> Result<(), Unruled> {
        match self {
            Host::Domain(name) => rules.judge_host(Some(name), port),
            Host::Ip(ip) => rules.judge(None, &addresses.forms(*ip), port),
        }
    }
}

/// A receiver's URL, parsed. Clones share one allocation.
#[derive(Clone)]
pub struct EndpointUrl(Arc<Parts>);

struct Parts {
    text: Arc<str>,
    scheme: Scheme,
    /// The address, where the host is not a name.
    ip: Option<IpAddr>,
    /// The host within the text (brackets of IPv6 included).
    host: Range<usize>,
    port: u16,
    /// Where the path begins: right behind host and port.
    path: usize,
    /// Where the query's question mark stands, or the end.
    query: usize,
}

impl EndpointUrl {
    /// Parses, or says what is wrong; a URL in another form than its own is told the right one.
    pub fn parse(text: &str, policy: &UrlPolicy) -> Result<Self, Wrong> {
        let url = Self::read(text)?;
        policy.check(url.scheme(), url.host(), url.port())?;
        Ok(url)
    }

    /// Reads a URL's form without judging where it leads: for one that was parsed under the policy
    /// of its time and stored since. The dialler judges anew.
    pub fn parse_stored(text: &str) -> Result<Self, Wrong> {
        Self::read(text)
    }

    fn read(text: &str) -> Result<Self, Wrong> {
        let malformed = |text: String| Wrong::new(Rule::Malformed, text);
        let refused = |text: &str| Err(Wrong::new(Rule::UrlRefused, text));
        if text.is_empty() {
            return Err(Wrong::new(Rule::Required, "must be a URL"));
        }
        if text.len() > limits::URL_LEN {
            let text = format!("must be {} bytes at most, is {}", limits::URL_LEN, text.len());
            return Err(Wrong::new(Rule::TooLong, text));
        }
        let url = ::url::Url::parse(text).map_err(|e| malformed(format!("is not a URL: {e}")))?;
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return refused("must begin with https:// or http://"),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return refused("must hold no user name and no password");
        }
        if url.fragment().is_some() {
            return refused("must hold no fragment (#…)");
        }
        if url.as_str() != text {
            return Err(malformed(right_form(text, url.as_str())));
        }
        let ip = match url.host() {
            None => return Err(malformed("must name a host".into())),
            Some(::url::Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(::url::Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
            Some(::url::Host::Domain(name)) if is_host_name(name) => None,
            Some(::url::Host::Domain(_)) => {
                return Err(malformed(
                    "the host must be labels of 1 to 63, 253 bytes in all".into(),
                ));
            }
        };
        let at = |position| url[..position].len();
        Ok(Self(Arc::new(Parts {
            scheme,
            ip,
            host: at(Position::BeforeHost)..at(Position::AfterHost),
            port: url.port().unwrap_or(scheme.default_port()),
            path: at(Position::BeforePath),
            query: at(Position::AfterPath),
            text: text.into(),
        })))
    }

    /// The whole URL, query and all. Not for logs: see [`EndpointUrl::redacted`].
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The whole URL, shared; see [`EndpointUrl::as_str`].
    pub fn shared(&self) -> &Arc<str> {
        &self.0.text
    }

    /// How requests travel.
    pub fn scheme(&self) -> Scheme {
        self.0.scheme
    }

    /// Whom to dial.
    pub fn host(&self) -> Host<'_> {
        match self.0.ip {
            Some(ip) => Host::Ip(ip),
            None => Host::Domain(&self.0.text[self.0.host.clone()]),
        }
    }

    /// Which port to dial; never 0 under a policy.
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// Host, and port where it is not the scheme's own: what the `Host` header says.
    pub fn authority(&self) -> &str {
        &self.0.text[self.0.host.start..self.0.path]
    }

    /// What the request line says; begins with `/`.
    pub fn path_and_query(&self) -> &str {
        &self.0.text[self.0.path..]
    }

    /// Whether its query has a parameter of this name.
    pub fn has_parameter(&self, name: &str) -> bool {
        let query = self.0.text.get(self.0.query + 1..).unwrap_or_default();
        ::url::form_urlencoded::parse(query.as_bytes()).any(|(own, _)| own == name)
    }

    /// The URL without its query, which may hold a credential: for logs.
    pub fn redacted(&self) -> &str {
        &self.0.text[..self.0.query]
    }
}

impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EndpointUrl({})", self.redacted())
    }
}

impl PartialEq for EndpointUrl {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for EndpointUrl {}

/// Tells the right form of a URL that has another; a query that is right already is not repeated,
/// and a form too long to be shown whole is shown from where it differs.
fn right_form(given: &str, right: &str) -> String {
    let query = right.find('?').map_or("", |at| &right[at..]);
    let (shown, rest) = match right.strip_suffix(query) {
        Some(before) if query.len() > 1 && given.ends_with(query) => (before, "?…"),
        Some(_) | None => (right, ""),
    };
    if shown.len() <= SHOWN_LEN {
        return format!("must have the form {shown}{rest}");
    }
    let same = given.bytes().zip(right.bytes()).take_while(|(a, b)| a == b).count();
    // A serialised URL is ASCII, so every index is a character's.
    let excerpt = &right[same..right.len().min(same + 64)];
    format!("must be in WHATWG form: from byte {same} on it must go on with {excerpt}")
}

#[cfg(test)]
mod tests;
