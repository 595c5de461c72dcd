//! Which entries of the audit log a caller sees.
//!
//! Whoever is for some tenants only sees entries that concern these alone, and of each tenant those
//! since it was made: one that was deleted and made anew under the same id may be somebody else's.
//! What concerns a tenant that is not there is seen by nobody who is bound.

use std::collections::{BTreeSet, HashMap};

use pregon_core::clock::Timestamp;
use pregon_core::error::Refusal;
use pregon_core::id::TenantId;
use pregon_core::model::{AuditEntry, Tenant};
use pregon_rpc::caller::Caller;

use crate::Control;
use crate::catalog::read;

/// What one caller sees while it reads one page.
pub(super) struct Sight<'a> {
    caller: &'a Caller,
    /// When tenants were made, of those that were looked up; none: there is no such tenant.
    made: HashMap<TenantId, Option<Timestamp>>,
}

impl<'a> Sight<'a> {
    /// That of a caller.
    pub(super) fn of(caller: &'a Caller) -> Self {
        Self { caller, made: HashMap::new() }
    }

    /// Whether an entry concerns the caller's tenants alone.
    pub(super) fn reaches(&self, entry: &AuditEntry) -> bool {
        if !self.caller.is_bound() {
            return true;
        }
        let tenants: BTreeSet<TenantId> = entry.tenants.iter().cloned().collect();
        self.caller.reaches((!tenants.is_empty()).then_some(&tenants))
    }

    /// Looks up the tenants that these entries name, all of which the caller reaches.
    pub(super) async fn look(
        &mut self,
        control: &Control,
        entries: impl Iterator<Item = &AuditEntry>,
    ) -> Result<(), Refusal> {
        if !self.caller.is_bound() {
            return Ok(());
        }
        let named: BTreeSet<&TenantId> = entries.flat_map(|entry| &entry.tenants).collect();
        let unknown: Vec<&TenantId> =
            named.into_iter().filter(|tenant| !self.made.contains_key(*tenant)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = unknown.iter().map(|tenant| tenant.name()).collect();
        let found = control.store.config.get(&names).await?;
        for (tenant, document) in unknown.into_iter().zip(found) {
            let stored = document.as_ref().map(read::<Tenant>).transpose()?;
            let made = stored.map(|it| it.value.common.create_time);
            self.made.insert(tenant.clone(), made);
        }
        Ok(())
    }

    /// Whether the caller sees an entry that it reaches, and whose tenants were looked up.
    pub(super) fn sees(&self, entry: &AuditEntry) -> bool {
        let since = |tenant| self.made.get(tenant).copied().flatten();
        !self.caller.is_bound()
            || entry.tenants.iter().all(|it| since(it).is_some_and(|made| made <= entry.time))
    }
}
