//! Egress pools as everybody but the dialler sees them: what they are called, and from which
//! addresses their requests come.
//!
//! A pool is a way out of the network. Receivers that let in known addresses only are told those of
//! a pool, and their subscriptions leave by it. Which pool an attempt takes: the subscription's,
//! else the tenant's, else the contract's, which is `default` where the contract names none.

use ipnet::IpNet;

use crate::error::{Rule, Wrong};
use crate::id::PoolName;

/// Pools of a deployment at most: one for each group of receivers with a list of its own.
pub const POOLS_MAX: usize = 64;

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: PoolName,
    /// The addresses that receivers see, as its operator says; empty: not said.
    pub addresses: Vec<IpNet>,
}

/// The pools of a deployment: `default`, and those that are set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pools(Vec<Pool>);

impl Default for Pools {
    fn default() -> Self {
        Self::of(Vec::new())
    }
}

impl Pools {
    /// These, and `default` where it is not among them; by name.
    pub fn of(mut pools: Vec<Pool>) -> Self {
        if !pools.iter().any(|pool| pool.name.as_str() == PoolName::DEFAULT) {
            pools.push(Pool { name: PoolName::default_pool(), addresses: Vec::new() });
        }
        pools.sort_by(|a, b| a.name.cmp(&b.name));
        Self(pools)
    }

    /// All of them, by name.
    pub fn all(&self) -> &[Pool] {
        &self.0
    }

    /// Whether there is a pool of that name.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn check(&self, name: &str) -> Result<(), Wrong> {
        if self.0.iter().any(|pool| pool.name.as_str() == name) {
            return Ok(());
        }
        let names: Vec<_> = self.0.iter().map(|pool| pool.name.as_str()).collect();
        let names = names.join(", ");
        let text = format!("must be an egress pool that is set up ({names}): there is no {name}");
        Err(Wrong::new(Rule::Unsupported, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_is_always_there_and_others_only_if_set_up() {
        let fixed = Pool { name: PoolName::parse("fixed").unwrap(), addresses: Vec::new() };
        let pools = Pools::of(vec![fixed]);
        assert_eq!(pools.check("default").and(pools.check("fixed")), Ok(()));
        let wrong = pools.check("other").unwrap_err().description;
        assert_eq!(
            wrong,
            "must be an egress pool that is set up (default, fixed): there is no other"
        );
        assert_eq!(Pools::default().all().len(), 1);
    }
}
