//! Prefixes of NAT64: how a host without IPv4 reaches a receiver that has only IPv4.
//!
//! A translator may stand anywhere, within the platform's own network too. So an address under
//! such a prefix is worth what the IPv4 address inside it is worth. Where that lies depends on the
//! prefix's length (RFC 6052 section 2.2).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::Ipv6Net;

/// Lengths that a prefix may have (RFC 6052 section 2.2).
const LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];
/// Octet 8 is zero in every address of a prefix shorter than 96 (RFC 6052 section 2.2).
const ZERO: usize = 8;

/// A prefix of NAT64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nat64Prefix(Ipv6Net);

/// A text that is no such prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an IPv6 network of length 32, 40, 48, 56, 64 or 96, as in 2001:db8:64::/96")]
pub struct BadNat64Prefix;

impl FromStr for Nat64Prefix {
    type Err = BadNat64Prefix;

    fn from_str(text: &str) -> Result<Self, BadNat64Prefix> {
        let net: Ipv6Net = text.parse().map_err(|_| BadNat64Prefix)?;
        match LENGTHS.contains(&net.prefix_len()) && net.trunc() == net {
            true => Ok(Self(net)),
            false => Err(BadNat64Prefix),
        }
    }
}

impl fmt::Display for Nat64Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Nat64Prefix {
    /// How many bits are given.
    pub fn length(&self) -> u8 {
        self.0.prefix_len()
    }

    /// The IPv4 address inside an address under the prefix; none for any other address.
    pub fn inside(&self, ip: Ipv6Addr) -> Option<Ipv4Addr> {
        self.0.contains(&ip).then(|| inside(ip, self.length()))
    }
}

/// The IPv4 address inside an address whose prefix has that length.
pub(super) fn inside(ip: Ipv6Addr, length: u8) -> Ipv4Addr {
    let octets = ip.octets();
    let begin = usize::from(length / 8);
    let mut four = [0; 4];
    let places = (begin..octets.len()).filter(|place| length == 96 || *place != ZERO);
    for (to, place) in four.iter_mut().zip(places) {
        *to = octets[place];
    }
    four.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 6052 section 2.4.
    #[test]
    fn addresses_of_the_rfc() {
        for (prefix, ip) in [
            ("2001:db8::/32", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
            ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
            ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
        ] {
            let prefix: Nat64Prefix = prefix.parse().unwrap();
            let inside = prefix.inside(ip.parse().unwrap());
            assert_eq!(inside, Some(Ipv4Addr::new(192, 0, 2, 33)), "{prefix} {ip}");
        }
        let prefix: Nat64Prefix = "2001:db8::/32".parse().unwrap();
        assert_eq!(prefix.inside("2001:db9:c000:221::".parse().unwrap()), None);
    }

    #[test]
    fn other_lengths_and_set_host_bits_are_refused() {
        for text in ["2001:db8::/33", "2001:db8::/128", "2001:db8::1/96", "10.0.0.0/32", "x", ""] {
            assert_eq!(text.parse::<Nat64Prefix>(), Err(BadNat64Prefix), "{text}");
        }
    }
}
