//! What tenants say of their way out: whom they may send to, and by which pool.
//!
//! Whoever reads the configuration tells it here before it is served, so that no attempt is made
//! under rules older than the subscription that it is made for. A change closes the tenant's
//! connections: those that are idle at once, those in use after their request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use pregon_core::id::{PoolName, TenantId};
use pregon_core::url::EgressRules;

/// What a tenant says of its way out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantEgress {
    /// Whom its requests may go to, of those whom the deployment allows.
    pub rules: EgressRules,
    /// The pool of its subscriptions and callbacks that name none.
    pub pool: Option<PoolName>,
}

impl TenantEgress {
    /// Whether it says nothing.
    pub fn is_silent(&self) -> bool {
        self.rules.is_empty() && self.pool.is_none()
    }
}

/// The same, as it was told at one time.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub says: TenantEgress,
    /// Which telling: connections opened under another are not used again. 0: nothing was said.
    pub version: u64,
}

#[derive(Default)]
struct State {
    tenants: HashMap<TenantId, Arc<Told>>,
    version: u64,
    /// What was taken over last.
    last: imbl::HashMap<TenantId, TenantEgress>,
}

/// All tenants that say something.
#[derive(Default)]
pub(super) struct Tenants {
    state: RwLock<State>,
    silent: Arc<Told>,
    /// Somebody says something: a look without a lock, for the many deployments where nobody does.
    any: AtomicBool,
}

impl Tenants {
    /// What the tenant says now.
    pub fn get(&self, tenant: &TenantId) -> Arc<Told> {
        if !self.any.load(Ordering::Acquire) {
            return Arc::clone(&self.silent);
        }
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(state.tenants.get(tenant).unwrap_or(&self.silent))
    }

    /// Takes over what all tenants say that say something; answers with those who said something
    /// else before.
    pub fn set(&self, all: &imbl::HashMap<TenantId, TenantEgress>) -> Vec<TenantId> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let State { tenants, version, last } = &mut *state;
        // Few changes of the configuration are about any of this.
        if last.ptr_eq(all) {
            return Vec::new();
        }
        last.clone_from(all);
        let mut changed = Vec::new();
        tenants.retain(|id, _| {
            let speaks = all.contains_key(id);
            if !speaks {
                changed.push(id.clone());
            }
            speaks
        });
        for (id, says) in all {
            if tenants.get(id).is_some_and(|told| told.says == *says) {
                continue;
            }
            *version += 1;
            changed.push(id.clone());
            tenants.insert(id.clone(), Arc::new(Told { says: says.clone(), version: *version }));
        }
        self.any.store(!tenants.is_empty(), Ordering::Release);
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(deny: &str) -> TenantEgress {
        let rules = EgressRules { allow: Vec::new(), deny: vec![deny.parse().unwrap()] };
        TenantEgress { rules, pool: None }
    }

    #[test]
    fn who_says_something_else_is_told_and_has_another_version() {
        let (tenants, id) = (Tenants::default(), |id: &str| TenantId::parse(id).unwrap());
        let all =
            |it: &[(&str, &str)]| it.iter().map(|(who, deny)| (id(who), says(deny))).collect();
        assert_eq!(tenants.get(&id("a")).version, 0);
        let mut changed = tenants.set(&all(&[("a", "*:25"), ("b", "*:25")]));
        changed.sort();
        assert_eq!(changed, [id("a"), id("b")]);
        let before = tenants.get(&id("a")).version;
        assert_eq!(tenants.set(&all(&[("a", "*:25"), ("b", "*:26")])), [id("b")]);
        assert_eq!(tenants.get(&id("a")).version, before);
        assert_eq!(tenants.get(&id("b")).says, says("*:26"));
        assert_eq!(tenants.set(&all(&[("b", "*:26")])), [id("a")]);
        assert_eq!(tenants.set(&all(&[])), [id("b")]);
        assert_eq!(tenants.get(&id("b")).version, 0);
        assert!(!tenants.any.load(Ordering::Acquire));
    }
}
