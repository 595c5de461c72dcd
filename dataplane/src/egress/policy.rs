//! What may leave: addresses, schemes, and the lists of the deployment and of tenants.
//!
//! The deployment's policy and a tenant's rules are asked one after the other, so that a tenant's
//! can only narrow. What can be said of a URL's host is said before its name is looked up; the rest
//! when its addresses are known, at every connect.

use std::net::IpAddr;

use pregon_core::outcome::ErrorClass;
use pregon_core::url::{AddressPolicy, EgressRules, Scheme, Unruled};

use super::fault::Fault;
use super::target::Host;

/// Addresses of one answer that are kept, after the forbidden ones are dropped. Eight: more
/// addresses of one receiver do not make it easier to reach within the time of an attempt.
pub(super) const ADDRESSES_KEPT: usize = 8;

/// What may leave of a deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressPolicy {
    /// Which addresses may be connected to.
    pub addresses: AddressPolicy,
    /// Whether `http` URLs may be sent to.
    pub allow_http: bool,
    /// Whom requests may go to, of those.
    pub rules: EgressRules,
}

/// Whose rules.
#[derive(Clone, Copy, Debug)]
enum Whose {
    Deployment,
    Tenant,
}

fn unruled(whose: Whose, why: Unruled) -> &'static str {
    match (whose, why) {
        (Whose::Deployment, Unruled::Denied) => "the deployment denies the receiver",
        (Whose::Deployment, Unruled::Unlisted) => "the deployment allows other receivers only",
        (Whose::Tenant, Unruled::Denied) => "the tenant's rules deny the receiver",
        (Whose::Tenant, Unruled::Unlisted) => "the tenant's rules allow other receivers only",
    }
}

pub(super) fn denied(detail: impl Into<std::borrow::Cow<'static, str>>) -> Fault {
    Fault::new(ErrorClass::Denied, detail)
}

/// The name in a URL; none where it names an address.
pub(super) fn name(host: &Host) -> Option<&str> {
    match host {
        Host::Name(name) => Some(name),
        Host::Address(_) => None,
    }
}

impl EgressPolicy {
    /// Whether the scheme is allowed at all.
    pub(super) fn scheme(&self, scheme: Scheme) -> Result<(), Fault> {
        match scheme {
            Scheme::Http if !self.allow_http => Err(denied("http without TLS is not allowed")),
            Scheme::Http | Scheme::Https => Ok(()),
        }
    }

    /// What can be said before a name is looked up.
    pub(super) fn host(&self, tenant: &EgressRules, host: &Host, port: u16) -> Result<(), Fault> {
        let rules = [(Whose::Deployment, &self.rules), (Whose::Tenant, tenant)];
        rules.into_iter().filter(|(_, rules)| !rules.is_empty()).try_for_each(|(whose, rules)| {
            rules.judge_host(name(host), port).map_err(|why| denied(unruled(whose, why)))
        })
    }

    /// Whether one address of a host may be connected to, else why not.
    fn permits(
        &self,
        tenant: &EgressRules,
        (host, port): (Option<&str>, u16),
        ip: IpAddr,
    ) -> Result<(), String> {
        let class = |class| format!("not a public address ({class})");
        self.addresses.permits(ip, port).map_err(class)?;
        if self.rules.is_empty() && tenant.is_empty() {
            return Ok(());
        }
        let forms = self.addresses.forms(ip);
        let rules = [(Whose::Deployment, &self.rules), (Whose::Tenant, tenant)];
        rules.into_iter().try_for_each(|(whose, rules)| {
            rules.judge(host, &forms, port).map_err(|why| unruled(whose, why).to_owned())
        })
    }

    /// What the policy leaves of an answer: families in turn, so that a machine without IPv6
    /// reaches the IPv4 address soon (RFC 8305 section 4).
    pub(super) fn permitted(
        &self,
        tenant: &EgressRules,
        host: &Host,
        port: u16,
        found: &[IpAddr],
    ) -> Result<Vec<IpAddr>, Fault> {
        let mut refused = None;
        let mut allowed = Vec::with_capacity(found.len());
        for address in found {
            // A mapped address is judged and dialled as the IPv4 address that it stands for.
            match self.permits(tenant, (name(host), port), *address) {
                Ok(()) => allowed.push(address.to_canonical()),
                Err(why) => {
                    refused.get_or_insert(why);
                }
            }
        }
        let Some(first) = allowed.first().copied() else {
            return Err(denied(refused.unwrap_or_else(|| "no address".to_owned())));
        };
        let (same, other): (Vec<_>, Vec<_>) =
            allowed.into_iter().partition(|address| address.is_ipv4() == first.is_ipv4());
        let longest = same.len().max(other.len());
        let turn = |i: usize| same.get(i).into_iter().chain(other.get(i)).copied();
        Ok((0..longest).flat_map(turn).take(ADDRESSES_KEPT).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &str) -> Vec<IpAddr> {
        texts.split(' ').map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_forbidden_addresses_are_dropped_before_eight_are_kept() {
        let (policy, open) = (EgressPolicy::default(), EgressRules::default());
        let found = addresses(
            "2a00::1 2a00::2 10.0.0.1 2a00::3 2a00::4 8.8.8.8 ::1 ::ffff:9.9.9.9 2a00::5 2a00::6 2a00::7",
        );
        let host = Host::Name("receiver.test".into());
        let left = policy.permitted(&open, &host, 443, &found).unwrap();
        let eight = "2a00::1 8.8.8.8 2a00::2 9.9.9.9 2a00::3 2a00::4 2a00::5 2a00::6";
        assert_eq!(left, addresses(eight));
    }

    #[test]
    fn the_tenants_rules_narrow_the_deployments_and_open_nothing() {
        let rules = |allow: &[&str]| EgressRules {
            allow: allow.iter().map(|rule| rule.parse().unwrap()).collect(),
            deny: Vec::new(),
        };
        let deployment = EgressPolicy { rules: rules(&["*.good.test"]), ..Default::default() };
        let (host, other) = (Host::Name("a.good.test".into()), Host::Name("a.test".into()));
        let found = addresses("8.8.8.8 10.0.0.1");
        let judged = |tenant: &EgressRules, host: &Host| {
            let judged = deployment.permitted(tenant, host, 443, &found);
            assert!(deployment.host(tenant, host, 443).is_err() || judged.is_ok());
            judged.map_err(|fault| fault.detail)
        };
        assert_eq!(judged(&rules(&[]), &host), Ok(addresses("8.8.8.8")));
        assert_eq!(judged(&rules(&["*"]), &host), Ok(addresses("8.8.8.8")));
        assert_eq!(judged(&rules(&["10.0.0.0/8", "*.good.test"]), &host), Ok(addresses("8.8.8.8")));
        let unlisted = Err("the deployment allows other receivers only".into());
        assert_eq!(judged(&rules(&["*"]), &other), unlisted);
        let unlisted = Err("the tenant's rules allow other receivers only".into());
        assert_eq!(judged(&rules(&["*.good.test:80"]), &host), unlisted);
    }
}
