//! What must hold of a tenant's children as a set.
//!
//! A commit can rely on documents one by one only: on a tenant being there, but not on it having no
//! subscription, nor on a subscription having no eleventh key. So every write that adds or takes
//! away a child (a subscription, a callback or a secret), or ends one, also rewrites one small document of the
//! tenant, `tenants/{t}/children`, and relies on it as it was read before the children were. Two
//! such writes cannot both succeed on the same grounds, however many control planes there are.
//!
//! Within one process they take turns ([`crate::turns`]), so that they do not race at all.

use pregon_core::error::{Reason, Refusal};
use pregon_core::id::TenantId;
use pregon_core::model::Tenant;
use serde::{Deserialize, Serialize};

use crate::Control;
use crate::catalog::{self, Kind, Stored};
use crate::commit::Plan;

/// The document's contents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Children {
    /// Subscriptions of the tenant.
    pub subscriptions: u32,
    /// Callbacks of the tenant.
    #[serde(default)]
    pub callbacks: u32,
}

/// A tenant and the state of its children, read in one step.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    /// The tenant.
    pub tenant: Stored<Tenant>,
    /// How many children it has.
    pub children: Children,
    revision: Option<i64>,
}

fn document(tenant: &TenantId) -> String {
    format!("{}/children", tenant.name())
}

impl Family {
    /// Adds to a plan that the set changes, and to how many.
    pub(crate) fn change(&self, plan: Plan, children: Children) -> Plan {
        let name = document(&self.tenant.value.id);
        // A struct of numbers cannot fail to be written.
        let bytes = serde_json::to_vec(&children).unwrap_or_default();
        plan.needs(self.tenant.value.id.name())
            .relies_on(name.clone(), self.revision)
            .write(name, bytes)
    }

    /// Adds to a plan that the set goes, with its tenant.
    pub(crate) fn end(&self, plan: Plan) -> Plan {
        let name = document(&self.tenant.value.id);
        let plan = plan.relies_on(name.clone(), self.revision);
        if self.revision.is_some() { plan.delete(name) } else { plan }
    }
}

impl Control {
    /// A tenant with its family, or the refusal that says it does not exist.
    pub(crate) async fn family(&self, tenant: &TenantId) -> Result<Family, Refusal> {
        self.find_family(tenant)
            .await?
            .ok_or_else(|| Refusal::not_found(Tenant::WORD, tenant.name()))
    }

    /// A tenant with its family, if it exists.
    pub(crate) async fn find_family(&self, tenant: &TenantId) -> Result<Option<Family>, Refusal> {
        let names = [tenant.name(), document(tenant)];
        let mut found = self.store.config.get(&names).await?;
        let (children, parent) = (found.pop().flatten(), found.pop().flatten());
        let Some(parent) = parent else { return Ok(None) };
        let tenant = catalog::read::<Tenant>(&parent)?;
        let Some(children) = children else {
            let children = Children::default();
            return Ok(Some(Family { tenant, children, revision: None }));
        };
        let revision = Some(children.revision);
        let children = serde_json::from_slice(&children.bytes).map_err(|error| {
            tracing::error!(name = children.name, %error, "a stored document cannot be read");
            let text = format!("what lies below {} cannot be read", parent.name);
            Refusal::new(Reason::Internal, text)
        })?;
        Ok(Some(Family { tenant, children, revision }))
    }
}
