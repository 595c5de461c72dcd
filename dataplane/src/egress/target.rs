//! Where a request goes, worked out once per subscription and not once per request.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderValue, Uri};
use pregon_core::id::{PoolName, TenantId};
use pregon_core::outcome::ErrorClass;
use pregon_core::url::{EndpointUrl, Host as UrlHost, Scheme};
use rustls::pki_types::ServerName;

use super::fault::Fault;
use super::tls::Terms;

/// The receiver's machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Host {
    Name(Arc<str>),
    Address(IpAddr),
}

/// Which egress pool requests leave by: the first of receiver, tenant and contract that names one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolChoice {
    /// What the subscription names.
    pub receiver: Option<PoolName>,
    /// What the contract names.
    pub contract: PoolName,
}

impl Default for PoolChoice {
    fn default() -> Self {
        Self { receiver: None, contract: PoolName::default_pool() }
    }
}

impl PoolChoice {
    /// What a receiver and its contract name. No contract is read that names what is no name.
    pub fn new(receiver: Option<PoolName>, contract: &str) -> Self {
        let contract = PoolName::parse(contract).unwrap_or_else(|_| PoolName::default_pool());
        Self { receiver, contract }
    }

    /// The pool, where the tenant names this one.
    pub(super) fn of<'a>(&'a self, tenant: Option<&'a PoolName>) -> &'a PoolName {
        self.receiver.as_ref().or(tenant).unwrap_or(&self.contract)
    }
}

/// What connections are pooled by. Tenants do not share connections, so that one cannot tell from
/// another's timing that it talks to the same receiver, and a receiver cannot tie them together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PoolKey {
    pub tenant: TenantId,
    pub scheme: Scheme,
    pub host: Host,
    pub port: u16,
    pub choice: PoolChoice,
    /// What the receiver's TLS has of its own: a connection is used under the terms that it was
    /// opened under.
    pub terms: Option<Terms>,
    /// Of the others, computed once: the pool is asked twice per request.
    digest: u64,
}

impl PoolKey {
    fn new(
        tenant: TenantId,
        (scheme, host, port): (Scheme, Host, u16),
        choice: PoolChoice,
        terms: Option<Terms>,
    ) -> Self {
        // Fixed keys will do: the pool's map hashes the digest again with keys of its own, and
        // who makes digests collide slows down the connections of the same tenant only.
        let mut hasher = std::hash::DefaultHasher::new();
        (&tenant, scheme, &host, port, &choice, &terms).hash(&mut hasher);
        Self { digest: hasher.finish(), tenant, scheme, host, port, choice, terms }
    }
}

impl Hash for PoolKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.digest);
    }
}

/// What every request to the target has in common.
pub(super) struct Plan {
    /// Whom the certificate must name; none without TLS.
    pub server_name: Option<ServerName<'static>>,
    pub host_header: HeaderValue,
    pub uri: Uri,
}

struct Parts {
    key: Arc<PoolKey>,
    plan: Result<Plan, Fault>,
}

/// A receiver's URL for one tenant, ready to be sent to; cheap to clone, so keep it beside the
/// subscription. A URL that cannot be sent to (a name that no certificate can carry) still has a
/// target: each request to it ends with the fault that says so.
#[derive(Clone)]
pub struct Target(Arc<Parts>);

impl Target {
    /// Makes ready what requests to the URL have in common.
    pub fn new(tenant: TenantId, url: &EndpointUrl) -> Self {
        Self::by(tenant, url, PoolChoice::default(), None)
    }

    /// The same, by this choice of egress pools, under these terms of the receiver's own.
    pub fn by(
        tenant: TenantId,
        url: &EndpointUrl,
        choice: PoolChoice,
        terms: Option<Terms>,
    ) -> Self {
        let host = match url.host() {
            UrlHost::Domain(name) => Host::Name(name.into()),
            UrlHost::Ip(address) => Host::Address(address),
        };
        let origin = (url.scheme(), host, url.port());
        let key = Arc::new(PoolKey::new(tenant, origin, choice, terms));
        let plan = plan(&key, url);
        Self(Arc::new(Parts { key, plan }))
    }

    /// Another URL of the same receiver's.
    pub fn at(&self, url: &EndpointUrl) -> Self {
        self.by_another(url, &self.key().choice)
    }

    /// A URL of the same receiver's, by another choice of egress pools.
    pub(crate) fn by_another(&self, url: &EndpointUrl, choice: &PoolChoice) -> Self {
        let PoolKey { tenant, terms, .. } = self.key().as_ref();
        Self::by(tenant.clone(), url, choice.clone(), terms.clone())
    }

    /// Whether requests to both leave in the same way: for the same tenant to the same machine, by the
    /// same choice of pools, under the same terms.
    pub(crate) fn is_as(&self, other: &Target) -> bool {
        self.key() == other.key()
    }

    pub(super) fn key(&self) -> &Arc<PoolKey> {
        &self.0.key
    }

    pub(super) fn plan(&self) -> Result<&Plan, &Fault> {
        self.0.plan.as_ref()
    }
}

fn plan(key: &PoolKey, url: &EndpointUrl) -> Result<Plan, Fault> {
    let nameless = Fault::new(ErrorClass::Tls, "no certificate can carry the host's name");
    let server_name = match (key.scheme, &key.host) {
        (Scheme::Http, _) => None,
        (Scheme::Https, Host::Address(address)) => Some(ServerName::IpAddress((*address).into())),
        (Scheme::Https, Host::Name(name)) => {
            // Certificates know no full stop at the end; the name server is asked with it.
            let bare = name.strip_suffix('.').unwrap_or(name).to_owned();
            Some(ServerName::try_from(bare).map_err(|_| nameless)?)
        }
    };
    let unfit = || Fault::new(ErrorClass::Protocol, "the URL does not fit into a request");
    let host_header = HeaderValue::try_from(url.authority()).map_err(|_| unfit())?;
    let path = PathAndQuery::try_from(url.path_and_query()).map_err(|_| unfit())?;
    if path.as_str() != url.path_and_query() {
        return Err(unfit()); // it goes out verbatim or not at all
    }
    Ok(Plan { server_name, host_header, uri: Uri::from(path) })
}

impl fmt::Debug for Target {
    /// The origin only: path and query may hold a credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PoolKey { scheme, host, port, .. } = self.key().as_ref();
        match host {
            Host::Name(name) => write!(f, "Target({}://{name}:{port})", scheme.as_str()),
            Host::Address(address) => write!(f, "Target({}://{address}:{port})", scheme.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Target {
        let url = EndpointUrl::parse_stored(url).unwrap();
        Target::new(TenantId::parse("acme").unwrap(), &url)
    }

    #[test]
    fn query_goes_out_verbatim_and_stays_out_of_debug() {
        let made = target("https://receiver.example:8443/a%2Fb//c?q=%20x+y&&token=s3cret");
        let plan = made.plan().unwrap();
        assert_eq!(plan.uri.to_string(), "/a%2Fb//c?q=%20x+y&&token=s3cret");
        assert_eq!(plan.host_header, "receiver.example:8443");
        assert_eq!(format!("{made:?}"), "Target(https://receiver.example:8443)");
    }

    #[test]
    fn every_character_that_a_url_may_hold_can_be_sent() {
        let mut held = 0;
        for c in '!'..='~' {
            for text in [format!("https://r.example/a{c}b"), format!("https://r.example/?a{c}b")] {
                let Ok(url) = EndpointUrl::parse_stored(&text) else { continue };
                let made = Target::new(TenantId::parse("acme").unwrap(), &url);
                let plan = made.plan().unwrap_or_else(|_| panic!("{text}"));
                assert_eq!(plan.uri.to_string(), url.path_and_query(), "{text}");
                held += 1;
            }
        }
        assert!(held > 160, "only {held} were tried");
    }

    #[test]
    fn host_header_has_no_default_port() {
        let made = target("https://[2001:db8::1]/");
        assert_eq!(made.plan().unwrap().host_header, "[2001:db8::1]");
        let made = target("https://[2001:db8::1]:80/");
        assert_eq!(made.plan().unwrap().host_header, "[2001:db8::1]:80");
    }

    #[test]
    fn name_that_no_certificate_can_carry_is_a_fault() {
        let made = target("https://odd!name.example/");
        assert_eq!(made.plan().err().unwrap().class, ErrorClass::Tls);
        assert!(target("http://odd!name.example/").plan().is_ok());
        assert!(target("https://rooted.example./").plan().is_ok());
    }
}
