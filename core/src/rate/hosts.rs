//! Rates of hosts, as the deployment says them: by rules, of which the first that names a host holds.

use std::fmt;
use std::str::FromStr;

use super::Rate;
use crate::url::{EgressRule, Host};

/// Rules at most: each lane is held against them once.
pub const HOST_RATES_MAX: usize = 256;

/// A rule and the rate of each host and port that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRate {
    whom: EgressRule,
    rate: Rate,
}

/// A text that is no such rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadHostRate(String);

impl fmt::Display for BadHostRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HostRate {
    type Err = BadHostRate;

    /// `RULE=PER_SECOND` or `RULE=PER_SECOND/BURST`.
    fn from_str(text: &str) -> Result<Self, BadHostRate> {
        let form = "must be RULE=PER_SECOND or RULE=PER_SECOND/BURST, as in \
                    hooks.example.com:443=50 or *=200/20, from 0.001 to 100000 a second";
        let bad = || BadHostRate(form.to_owned());
        let (whom, rate) = text.rsplit_once('=').ok_or_else(bad)?;
        let whom = EgressRule::parse(whom).map_err(|wrong| BadHostRate(wrong.to_string()))?;
        let (per_second, burst) = match rate.split_once('/') {
            Some((per_second, burst)) => (per_second, burst.parse().map_err(|_| bad())?),
            None => (rate, 0),
        };
        let per_second = per_second.parse().map_err(|_| bad())?;
        Ok(Self { whom, rate: Rate::new(per_second, burst).ok_or_else(bad)? })
    }
}

/// All of them, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostRates(Vec<HostRate>);

impl HostRates {
    /// Those that count; [`HOST_RATES_MAX`] at most.
    pub fn new(mut rates: Vec<HostRate>) -> Self {
        rates.truncate(HOST_RATES_MAX);
        Self(rates)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How fast all requests to a host and port may be sent together; none: no rule names it. A
    /// network names hosts that are written as addresses.
    pub fn of(&self, host: Host<'_>, port: u16) -> Option<Rate> {
        let (name, ip) = match host {
            Host::Domain(name) => (Some(name), None),
            Host::Ip(ip) => (None, Some(ip)),
        };
        self.0.iter().find(|rule| rule.whom.covers(name, ip, port)).map(|rule| rule.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(rules: &[&str]) -> HostRates {
        HostRates::new(rules.iter().map(|rule| rule.parse().unwrap()).collect())
    }

    #[test]
    fn the_first_rule_that_names_a_host_holds() {
        let rates = rates(&["a.example.com:443=5/2", "*.example.com=10", "10.0.0.0/8=20", "*=100"]);
        let of = |host, port| rates.of(host, port).map(Rate::per_second);
        assert_eq!(of(Host::Domain("a.example.com"), 443), Some(5.0));
        assert_eq!(of(Host::Domain("a.example.com"), 8443), Some(10.0));
        assert_eq!(of(Host::Ip("10.1.2.3".parse().unwrap()), 80), Some(20.0));
        assert_eq!(of(Host::Ip("11.1.2.3".parse().unwrap()), 80), Some(100.0));
        assert_eq!(of(Host::Domain("example.com"), 80), Some(100.0));
        assert_eq!(HostRates::default().of(Host::Domain("a"), 1), None);
        assert_eq!(rates.of(Host::Domain("a.example.com"), 443).unwrap().burst(), 2);
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for bad in ["", "*", "*=", "*=0", "*=1/x", "*=1/-1", "*=100001", "a b=1", "=1"] {
            assert!(bad.parse::<HostRate>().is_err(), "{bad}");
        }
    }
}
