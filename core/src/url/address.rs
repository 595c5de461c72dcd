//! Which addresses may be dialled: by default those that are public, and no others.
//!
//! The lists are IANA's special-purpose address registries for IPv4 and IPv6, whole (also the few
//! entries that are globally reachable: none of them is a webhook receiver), and what else leads
//! into somebody's machine: addresses with an IPv4 address inside (compatible, translated, local
//! NAT64, 6to4, Teredo), site-local ones, multicast, and a cloud's wire server. IPv6 outside
//! 2000::/3 is not handed out by anybody, so it is refused even where no list names it.
//!
//! Two forms are judged as the IPv4 address inside: mapped ones, and those under a prefix of NAT64
//! ([`Nat64Prefix`]): the well-known one, 64:ff9b::/96 (RFC 6052, 2.1), the local one,
//! 64:ff9b:1::/48 (RFC 8215), and those that the deployment names. The local one may be used at
//! any length from 48 on, and which is known to the deployment only: unless it names the prefix
//! that it uses, an address must be public in every reading.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::nat64::{Nat64Prefix, inside};
use super::rules::OpenNetwork;

/// Prefix, its length, and the class that a refusal names; more particular ones first.
const V4: &[([u8; 4], u32, &str)] = &[
    ([255, 255, 255, 255], 32, "broadcast"),
    ([168, 63, 129, 16], 32, "cloud platform"), // Azure's wire server, from within its machines
    ([0, 0, 0, 0], 8, "this network"),
    ([10, 0, 0, 0], 8, "private"),
    ([100, 64, 0, 0], 10, "carrier-grade NAT"),
    ([127, 0, 0, 0], 8, "loopback"),
    ([169, 254, 0, 0], 16, "link-local"),
    ([172, 16, 0, 0], 12, "private"),
    ([192, 0, 0, 0], 24, "protocol assignments"),
    ([192, 0, 2, 0], 24, "documentation"),
    ([192, 31, 196, 0], 24, "AS112"),
    ([192, 52, 193, 0], 24, "AMT"),
    ([192, 88, 99, 0], 24, "6to4 relay"),
    ([192, 168, 0, 0], 16, "private"),
    ([192, 175, 48, 0], 24, "AS112"),
    ([198, 18, 0, 0], 15, "benchmarking"),
    ([198, 51, 100, 0], 24, "documentation"),
    ([203, 0, 113, 0], 24, "documentation"),
    ([224, 0, 0, 0], 4, "multicast"),
    ([240, 0, 0, 0], 4, "reserved"),
];

/// As [`V4`]; what lies outside [`V6_GLOBAL`] is refused besides.
const V6: &[([u16; 8], u32, &str)] = &[
    ([0, 0, 0, 0, 0, 0, 0, 0], 128, "unspecified"),
    ([0, 0, 0, 0, 0, 0, 0, 1], 128, "loopback"),
    ([0, 0, 0, 0, 0, 0, 0, 0], 96, "IPv4-compatible"),
    ([0, 0, 0, 0, 0xffff, 0, 0, 0], 96, "IPv4-translated"),
    ([0x100, 0, 0, 0, 0, 0, 0, 0], 64, "discard"),
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, "Teredo"),
    ([0x2001, 2, 0, 0, 0, 0, 0, 0], 48, "benchmarking"),
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, "protocol assignments"),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, "documentation"),
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, "6to4"),
    ([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48, "AS112"),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, "documentation"),
    ([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16, "segment routing"),
    ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, "unique local"),
    ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, "link-local"),
    ([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, "site-local"),
    ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, "multicast"),
];

/// The well-known prefix of NAT64, 64:ff9b::/96, as its upper 96 bits (RFC 6052, 2.1).
const NAT64: u128 = 0x0064_ff9b << 64;
/// The local prefix of NAT64, 64:ff9b:1::/48, as its upper 48 bits (RFC 8215).
const NAT64_LOCAL: u128 = 0x0064_ff9b_0001;
/// Lengths at which it may be used (RFC 8215 and RFC 6052, 2.2).
const NAT64_LOCAL_LENGTHS: [u8; 4] = [48, 56, 64, 96];

/// What IANA hands out: 2000::/3.
const V6_GLOBAL: ([u16; 8], u32) = ([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// Which addresses may be dialled: public ones, and those of the networks named here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    /// Networks that are allowed whatever their class. They go before every refusal but one: an
    /// address under a prefix of NAT64 is judged by the class of the IPv4 address inside.
    pub allow: Vec<OpenNetwork>,
    /// Prefixes of NAT64 beside the well-known one.
    pub nat64: Vec<Nat64Prefix>,
}

impl AddressPolicy {
    /// Public addresses, and those of these networks.
    pub fn opening(allow: Vec<OpenNetwork>) -> Self {
        Self { allow, nat64: Vec::new() }
    }

    /// Whether the address may be dialled, else the class that forbids it. An IPv4 address mapped
    /// into IPv6 is judged as what it is. No network that is allowed opens an address under a
    /// prefix of NAT64: the translator may stand anywhere, so only public IPv4 addresses are
    /// dialled through it.
    ///
    /// # Errors
    ///
    /// The class.
    pub fn permits(&self, ip: IpAddr, port: u16) -> Result<(), &'static str> {
        let bare = ip.to_canonical();
        let within = self.within(bare);
        if !within.is_empty() {
            return within.into_iter().find_map(class_v4).map_or(Ok(()), Err);
        }
        if self.opens(ip, port) {
            return Ok(());
        }
        let class = match bare {
            IpAddr::V4(ip) => class_v4(ip),
            IpAddr::V6(ip) => class_v6(ip),
        };
        class.map_or(Ok(()), Err)
    }

    /// Whether a network that is allowed opens the address. None opens one under a prefix of NAT64.
    pub fn opens(&self, ip: IpAddr, port: u16) -> bool {
        let bare = ip.to_canonical();
        self.within(bare).is_empty()
            && self.allow.iter().any(|net| net.has(bare, port) || net.has(ip, port))
    }

    /// All that an address stands for: itself, without a mapping, and the IPv4 address inside one
    /// under a prefix of NAT64.
    pub fn forms(&self, ip: IpAddr) -> Vec<IpAddr> {
        let bare = ip.to_canonical();
        let within = self.within(bare).into_iter().map(IpAddr::V4);
        std::iter::once(bare).chain(within).collect()
    }

    /// The IPv4 addresses that may be inside an address: one where the prefix is known.
    fn within(&self, ip: IpAddr) -> Vec<Ipv4Addr> {
        let IpAddr::V6(ip) = ip else { return Vec::new() };
        let bits = u128::from(ip);
        if bits >> 32 == NAT64 {
            return vec![inside(ip, 96)];
        }
        let named = self.nat64.iter().filter_map(|prefix| Some((prefix, prefix.inside(ip)?)));
        if let Some((_, four)) = named.max_by_key(|(prefix, _)| prefix.length()) {
            return vec![four];
        }
        match bits >> 80 == NAT64_LOCAL {
            true => NAT64_LOCAL_LENGTHS.iter().map(|length| inside(ip, *length)).collect(),
            false => Vec::new(),
        }
    }
}

fn class_v4(ip: Ipv4Addr) -> Option<&'static str> {
    let within = |prefix: [u8; 4], length: u32| {
        let differ = u32::from(ip) ^ u32::from_be_bytes(prefix);
        differ.leading_zeros() >= length
    };
    V4.iter().find(|(prefix, length, _)| within(*prefix, *length)).map(|(_, _, class)| *class)
}

fn class_v6(ip: Ipv6Addr) -> Option<&'static str> {
    let within = |prefix: [u16; 8], length: u32| {
        let differ = u128::from(ip) ^ u128::from(Ipv6Addr::from(prefix));
        differ.leading_zeros() >= length
    };
    let listed = V6.iter().find(|(prefix, length, _)| within(*prefix, *length));
    match listed {
        Some((_, _, class)) => Some(class),
        None if within(V6_GLOBAL.0, V6_GLOBAL.1) => None,
        None => Some("not assigned"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn class(ip: &str) -> Option<&'static str> {
        AddressPolicy::default().permits(ip.parse().unwrap(), 443).err()
    }

    #[test]
    fn public_addresses_are_permitted() {
        for ip in ["8.8.8.8", "1.1.1.1", "172.15.255.255", "172.32.0.0", "100.63.255.255"] {
            assert_eq!(class(ip), None, "{ip}");
        }
        for ip in ["100.128.0.0", "192.0.1.0", "198.17.255.255", "198.20.0.0", "223.255.255.255"] {
            assert_eq!(class(ip), None, "{ip}");
        }
        for ip in ["2606:4700::1111", "2a00:1450::1", "2001:200::1", "2003::1", "::ffff:8.8.8.8"] {
            assert_eq!(class(ip), None, "{ip}");
        }
    }

    #[test]
    fn both_ends_of_every_listed_network_are_refused() {
        for (prefix, length, _) in V4 {
            let first = u32::from_be_bytes(*prefix);
            let last = first | u32::MAX.checked_shr(*length).unwrap_or(0);
            assert!(class_v4(first.into()).is_some() && class_v4(last.into()).is_some());
        }
        for (prefix, length, _) in V6 {
            let first = u128::from(Ipv6Addr::from(*prefix));
            let last = first | u128::MAX.checked_shr(*length).unwrap_or(0);
            assert!(class_v6(first.into()).is_some() && class_v6(last.into()).is_some());
        }
    }

    #[test]
    fn classes_have_their_names() {
        let cases = [
            ("0.0.0.0", "this network"),
            ("127.0.0.1", "loopback"),
            ("127.255.255.255", "loopback"),
            ("10.1.2.3", "private"),
            ("172.31.255.255", "private"),
            ("192.168.0.1", "private"),
            ("169.254.169.254", "link-local"),
            ("100.127.255.255", "carrier-grade NAT"),
            ("168.63.129.16", "cloud platform"),
            ("239.255.255.250", "multicast"),
            ("255.255.255.255", "broadcast"),
            ("255.255.255.254", "reserved"),
            ("198.19.0.1", "benchmarking"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::8.8.8.8", "IPv4-compatible"),
            ("::127.0.0.1", "IPv4-compatible"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:10.0.0.1", "private"),
            ("::ffff:0:127.0.0.1", "IPv4-translated"),
            ("64:ff9b::127.0.0.1", "loopback"),
            ("64:ff9b::169.254.169.254", "link-local"),
            ("64:ff9b::10.0.0.1", "private"),
            ("64:ff9b:0:0:1::8.8.8.8", "not assigned"),
            ("64:ff9b:1::1", "this network"),
            ("64:ff9b:1::8.8.8.8", "this network"),
            ("64:ff9b:1:a00:0:100::", "private"),
            ("64:ff9b:1:808:8:800::", "this network"),
            ("64:ff9b:1:7f7f:7f:7f7f:7f00:1", "loopback"),
            ("100::1", "discard"),
            ("2001::1", "Teredo"),
            ("2001:2::1", "benchmarking"),
            ("2001:20::1", "protocol assignments"),
            ("2001:db8::1", "documentation"),
            ("2002:7f00:1::", "6to4"),
            ("3fff::1", "documentation"),
            ("fd00:ec2::254", "unique local"),
            ("fe80::1", "link-local"),
            ("fec0::1", "site-local"),
            ("ff02::1", "multicast"),
            ("4000::1", "not assigned"),
            ("1000::1", "not assigned"),
        ];
        for (ip, name) in cases {
            assert_eq!(class(ip), Some(name), "{ip}");
        }
    }

    #[test]
    fn allowed_networks_go_before_every_refusal() {
        let allow = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let policy = AddressPolicy::opening(allow);
        for ip in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(policy.permits(ip.parse().unwrap(), 443), Ok(()), "{ip}");
        }
        assert_eq!(policy.permits("10.0.0.1".parse().unwrap(), 443), Err("private"));
        assert_eq!(policy.permits("::2".parse().unwrap(), 443), Err("IPv4-compatible"));
    }

    #[test]
    fn behind_nat64_the_ipv4_address_inside_is_judged_and_nothing_opens_it() {
        let nets = ["64:ff9b::/96", "10.0.0.0/8", "::/0", "0.0.0.0/0"];
        let open = AddressPolicy::opening(nets.iter().map(|net| net.parse().unwrap()).collect());
        for policy in [AddressPolicy::default(), open] {
            let judged = |ip: &str| policy.permits(ip.parse().unwrap(), 443);
            assert_eq!(judged("64:ff9b::8.8.8.8"), Ok(()));
            assert_eq!(judged("64:ff9b::10.0.0.1"), Err("private"));
            assert_eq!(judged("64:ff9b::169.254.169.254"), Err("link-local"));
            assert_eq!(judged("64:ff9b::127.0.0.1"), Err("loopback"));
        }
    }

    #[test]
    fn named_prefixes_are_judged_by_the_ipv4_address_inside_the_longest_one_first() {
        let nat64 = ["2001:db8:64::/48", "2a00:64::/32", "64:ff9b:1:fffe::/96"];
        let nat64 = nat64.map(|prefix| prefix.parse().unwrap()).to_vec();
        let policy = AddressPolicy { allow: vec!["::/0".parse().unwrap()], nat64 };
        let judged = |ip: &str| policy.permits(ip.parse().unwrap(), 443);
        assert_eq!(judged("2001:db8:64:808:8:800::"), Ok(()));
        assert_eq!(judged("2001:db8:64:a00:0:100::"), Err("private"));
        assert_eq!(judged("2a00:64:a9fe:a9fe::"), Err("link-local"));
        assert_eq!(judged("64:ff9b:1:fffe::8.8.8.8"), Ok(()));
        assert_eq!(judged("64:ff9b:1:fffe::10.0.0.1"), Err("private"));
        // Another prefix than the one that is in use.
        assert_eq!(judged("64:ff9b:1:ffff::8.8.8.8"), Err("reserved"));
        let forms = policy.forms("2001:db8:64:808:8:800::".parse().unwrap());
        assert_eq!(forms[1..], ["8.8.8.8".parse::<IpAddr>().unwrap()]);
    }

    proptest! {
        /// Whatever the prefix's length, a forbidden IPv4 address is not reached through it.
        #[test]
        fn nat64_is_worth_the_ipv4_address_inside(
            bits: u32, high: u128, length in prop::sample::select(vec![32_u8, 40, 48, 56, 64, 96]),
        ) {
            let four = Ipv4Addr::from(bits);
            let high = high & (u128::MAX << (128 - u32::from(length)));
            // Octet 8 is zero under all prefixes, and inside none but those of 96.
            let high = (high & !(0xff << 56)) | (0x2a00 << 112);
            let [a, b, c, d] = four.octets();
            let mut octets = high.to_be_bytes();
            let places = (usize::from(length / 8)..16).filter(|place| length == 96 || *place != 8);
            for (place, octet) in places.zip([a, b, c, d]) {
                octets[place] = octet;
            }
            let high = Ipv6Addr::from(high);
            let nat64 = vec![format!("{high}/{length}").parse().unwrap()];
            let policy = AddressPolicy { nat64, ..AddressPolicy::default() };
            let judged = policy.permits(Ipv6Addr::from(octets).into(), 443);
            prop_assert_eq!(judged.err(), class_v4(four));
        }

        #[test]
        fn std_agrees_where_it_has_an_opinion(bits: u32) {
            let ip = Ipv4Addr::from(bits);
            let special = ip.is_private() || ip.is_loopback() || ip.is_link_local()
                || ip.is_multicast() || ip.is_broadcast() || ip.is_documentation()
                || ip.is_unspecified();
            prop_assert!(!special || class_v4(ip).is_some());
            let mapped = AddressPolicy::default().permits(ip.to_ipv6_mapped().into(), 443);
            prop_assert_eq!(mapped.err(), class_v4(ip));
        }

        #[test]
        fn only_the_global_network_is_permitted(bits: u128) {
            let ip = Ipv6Addr::from(bits);
            if class_v6(ip).is_none() {
                prop_assert_eq!(ip.segments()[0] >> 13, 1);
            }
        }
    }
}
