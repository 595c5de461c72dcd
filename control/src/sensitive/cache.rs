//! What tenants' subscriptions call sensitive, as far as it is kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pregon_core::event::{Environment, Event};
use pregon_core::id::TenantId;
use pregon_core::pattern::Pattern;
use pregon_store::config::Head;

/// Subscriptions with sensitive paths that are kept of all tenants together: each has 64 paths of
/// its own at most, and usually none.
const KEPT: usize = 10_000;

/// What tenants' subscriptions call sensitive, as of one revision.
#[derive(Debug, Default)]
pub(crate) struct Sensitive(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    at: Option<Head>,
    tenants: HashMap<TenantId, Arc<[Rule]>>,
    count: usize,
}

/// What one subscription calls sensitive.
#[derive(Debug)]
pub(super) struct Rule {
    /// None: a document cannot be read, so it may be anything of any event.
    pub(super) of: Option<(Environment, Vec<Pattern>)>,
    /// As written, its own and its contract's.
    pub(super) paths: Vec<String>,
}

impl Sensitive {
    pub(super) fn get(&self, at: Head, tenant: &TenantId) -> Option<Arc<[Rule]>> {
        self.kept().get(at, tenant)
    }

    pub(super) fn put(&self, at: Head, tenant: &TenantId, rules: &Arc<[Rule]>) {
        self.kept().put(at, tenant, rules);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rule {
    pub(super) fn covers(&self, event: &Event) -> bool {
        self.of.as_ref().is_none_or(|(environment, patterns)| {
            *environment == event.environment
                && patterns.iter().any(|pattern| pattern.matches(&event.event_type))
        })
    }
}

impl Kept {
    fn get(&self, at: Head, tenant: &TenantId) -> Option<Arc<[Rule]>> {
        (self.at == Some(at)).then(|| self.tenants.get(tenant).cloned()).flatten()
    }

    fn put(&mut self, at: Head, tenant: &TenantId, rules: &Arc<[Rule]>) {
        // Of a tenant without any it is remembered that there are none.
        let size = rules.len() + 1;
        if self.at != Some(at) || self.count + size > KEPT {
            *self = Self { at: Some(at), ..Self::default() };
        }
        if self.tenants.insert(tenant.clone(), Arc::clone(rules)).is_none() {
            self.count += size;
        }
    }
}
