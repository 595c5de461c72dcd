//! The egress pools of the deployment that tests run in.

use pregon_core::id::PoolName;
use pregon_core::pool::{Pool, Pools};

/// `default`, whose addresses nobody says, and `fixed`.
pub fn pools() -> Pools {
    let addresses = ["203.0.113.7/32", "2001:db8::/64"].map(|net| net.parse().unwrap()).to_vec();
    Pools::of(vec![Pool { name: PoolName::parse("fixed").unwrap(), addresses }])
}
