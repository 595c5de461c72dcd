//! Which stored contracts extend a stored one: its children.
//!
//! They are written with it, so there is a small document beside it, `contracts/{c}/children`, with
//! their ids; none where there are no children. It is kept as the number of users is (`uses`): whoever
//! begins or ends to extend the contract rewrites it and relies on it as it was read, and whoever
//! changes or deletes the contract relies on it too, having read it before. A contract that comes with
//! Pregón never changes, and nobody is noted for it.

use std::collections::BTreeSet;

use pregon_core::contract::Extends;
use pregon_core::error::{Reason, Refusal};
use pregon_core::id::ContractId;
use pregon_core::limits;
use pregon_core::model::ContractDocument;
use pregon_store::config::Document;
use serde::{Deserialize, Serialize};

use crate::Control;
use crate::catalog::Kind as _;
use crate::commit::Plan;

/// The document's contents.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Noted {
    children: BTreeSet<ContractId>,
}

/// The contracts that extend one, as it was read.
#[derive(Debug)]
pub(super) struct Children {
    contract: ContractId,
    ids: BTreeSet<ContractId>,
    revision: Option<i64>,
}

/// The document's name.
pub(super) fn document(contract: &ContractId) -> String {
    format!("{}/children", contract.name())
}

/// The contract of one's own that a stored one extends, if it extends one.
pub(super) fn parent(stored: &ContractDocument) -> Option<ContractId> {
    let extends = Extends::of(stored.source()).ok().flatten()?;
    ContractId::parse_name(extends.name()).ok()
}

impl Children {
    /// Those of a contract, of their document.
    pub(super) fn read(contract: &ContractId, found: Option<&Document>) -> Result<Self, Refusal> {
        let contract = contract.clone();
        let Some(found) = found else {
            return Ok(Self { contract, ids: BTreeSet::new(), revision: None });
        };
        let noted: Noted = serde_json::from_slice(&found.bytes).map_err(|error| {
            tracing::error!(name = found.name, %error, "a stored document cannot be read");
            Refusal::new(Reason::Internal, format!("{} cannot be read", found.name))
        })?;
        Ok(Self { contract, ids: noted.children, revision: Some(found.revision) })
    }

    /// Their ids.
    pub(super) fn ids(&self) -> &BTreeSet<ContractId> {
        &self.ids
    }

    /// Adds to a plan that nobody has come or gone.
    pub(super) fn stay(&self, plan: Plan) -> Plan {
        plan.relies_on(document(&self.contract), self.revision)
    }

    /// Adds to a plan that this one is among them from then on; refuses one too many.
    pub(super) fn with(mut self, plan: Plan, child: &ContractId) -> Result<Plan, Refusal> {
        if !self.ids.insert(child.clone()) {
            return Ok(plan);
        }
        if self.ids.len() > limits::CONTRACT_CHILDREN {
            let (name, most) = (self.contract.name(), limits::CONTRACT_CHILDREN);
            let text = format!("{name} is extended by {most} contracts, and may be by no more");
            let refusal = Refusal::new(Reason::QuotaExceeded, text);
            return Err(refusal.about(ContractDocument::WORD, name));
        }
        Ok(self.write(plan))
    }

    /// Adds to a plan that this one is not among them any more.
    pub(super) fn without(mut self, plan: Plan, child: &ContractId) -> Plan {
        if self.ids.remove(child) { self.write(plan) } else { plan }
    }

    fn write(self, plan: Plan) -> Plan {
        let (plan, name) = (self.stay(plan), document(&self.contract));
        if self.ids.is_empty() {
            return plan.delete(name);
        }
        // A list of ids cannot fail to be written.
        let bytes = serde_json::to_vec(&Noted { children: self.ids }).unwrap_or_default();
        plan.write(name, bytes)
    }
}

impl Control {
    /// The contracts that extend a stored one.
    pub(super) async fn children_of(&self, id: &ContractId) -> Result<Children, Refusal> {
        let found = self.store.config.get(&[document(id)]).await?.pop().flatten();
        Children::read(id, found.as_ref())
    }
}
