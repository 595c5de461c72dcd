//! Who uses a contract, and that nobody slips in while it changes.
//!
//! A subscription must have a contract that exists and that it fits; so must a callback. A commit
//! can rely on the contract being as it was read, and every write of a subscription, a callback or
//! a secret that the contract has a say in does. But the other way round a commit cannot rely on
//! nobody having come: that a contract may go, or change, is said of all its users together. So
//! there is one small document beside each stored contract, `contracts/{c}/uses`, with the number
//! of its users. Whoever begins or ends to use the contract, and whoever changes something that the
//! contract has a say in, rewrites it and relies on it as it was read; and so does whoever changes
//! or deletes the contract, having read it before looking at the users. Of two such writes on the
//! same grounds one only succeeds, however many control planes there are, and the other is decided
//! again.
//!
//! Built-in contracts never change and never go: nothing is counted for them. Within one process
//! the writes that count take turns, so that they do not race each other at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use pregon_core::contract::Contract;
use pregon_core::error::{Reason, Refusal};
use pregon_core::id::ContractId;
use pregon_core::model::ContractDocument;
use pregon_store::config::Document;
use serde::{Deserialize, Serialize};
use tokio::sync::MutexGuard;

use super::find::not_found;
use super::registry::built_in;
use crate::commit::Plan;
use crate::{Control, catalog};

/// The document's contents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Count {
    /// Subscriptions and callbacks under the contract.
    users: u64,
}

/// How many use a contract, as it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Uses {
    /// Subscriptions and callbacks under it.
    pub users: u64,
    revision: Option<i64>,
}

/// The document's name.
pub(super) fn document(contract: &ContractId) -> String {
    format!("{}/uses", contract.name())
}

impl Uses {
    /// Of its document.
    pub(super) fn read(found: Option<&Document>) -> Result<Self, Refusal> {
        let Some(found) = found else { return Ok(Self { users: 0, revision: None }) };
        let count: Count = serde_json::from_slice(&found.bytes).map_err(|error| {
            tracing::error!(name = found.name, %error, "a stored document cannot be read");
            Refusal::new(Reason::Internal, format!("{} cannot be read", found.name))
        })?;
        Ok(Self { users: count.users, revision: Some(found.revision) })
    }

    /// Adds to a plan that nobody has come or gone or changed, and how many they are from then on.
    pub(super) fn change(self, plan: Plan, contract: &ContractId, users: u64) -> Plan {
        // A struct of one number cannot fail to be written.
        let bytes = serde_json::to_vec(&Count { users }).unwrap_or_default();
        let name = document(contract);
        plan.relies_on(name.clone(), self.revision).write(name, bytes)
    }

    /// Adds to a plan that the count goes, with its contract.
    pub(super) fn end(self, plan: Plan, contract: &ContractId) -> Plan {
        let name = document(contract);
        let plan = plan.relies_on(name.clone(), self.revision);
        if self.revision.is_some() { plan.delete(name) } else { plan }
    }
}

/// Some contracts at one moment, for a write that leans on them.
#[derive(Debug)]
pub(crate) struct Leans<'a> {
    contracts: BTreeMap<ContractId, Lean>,
    /// The turn among the writes of this process; none where nothing is counted.
    _turn: Option<MutexGuard<'a, ()>>,
}

#[derive(Debug)]
enum Lean {
    /// It comes with Pregón.
    BuiltIn(Arc<Contract>),
    /// It is stored: what it says, the revision that wrote the resource last, and who uses it.
    Stored(Arc<Contract>, i64, Uses),
    /// It does not exist.
    Missing,
}

impl Leans<'_> {
    /// One of the contracts, or the refusal that says it does not exist.
    pub(crate) fn get(&self, id: &ContractId) -> Result<&Arc<Contract>, Refusal> {
        match self.contracts.get(id) {
            Some(Lean::BuiltIn(contract) | Lean::Stored(contract, ..)) => Ok(contract),
            Some(Lean::Missing) | None => Err(not_found(id)),
        }
    }

    /// Adds to a plan that the contracts are as they were read, and that so many more (or fewer)
    /// use each from then on. 0 says that a user changed.
    pub(crate) fn change<'a>(
        &self,
        mut plan: Plan,
        users: impl IntoIterator<Item = (&'a ContractId, i64)>,
    ) -> Plan {
        let mut sums: BTreeMap<&ContractId, i64> = BTreeMap::new();
        for (id, more) in users {
            let sum = sums.entry(id).or_default();
            *sum = sum.saturating_add(more);
        }
        for (id, more) in sums {
            if let Some(Lean::Stored(_, revision, uses)) = self.contracts.get(id) {
                plan = plan.relies_on(id.name(), Some(*revision));
                plan = uses.change(plan, id, uses.users.saturating_add_signed(more));
            }
        }
        plan
    }
}

impl Control {
    /// Contracts for a write that leans on them, in one step. Ask once for all that it needs.
    pub(crate) async fn lean_on<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a ContractId>,
    ) -> Result<Leans<'_>, Refusal> {
        let (mut contracts, mut stored) = (BTreeMap::new(), Vec::new());
        for id in ids {
            match built_in(id) {
                Some(it) => {
                    contracts.insert(id.clone(), Lean::BuiltIn(Arc::clone(&it.contract)));
                }
                None if stored.contains(&id) => {}
                None => stored.push(id),
            }
        }
        if stored.is_empty() {
            return Ok(Leans { contracts, _turn: None });
        }
        let turn = self.contract_turn.lock().await;
        let names: Vec<_> = stored.iter().flat_map(|id| [id.name(), document(id)]).collect();
        let found = self.store.config.get(&names).await?;
        for (id, pair) in stored.into_iter().zip(found.chunks(2)) {
            let lean = match pair {
                [Some(contract), uses] => {
                    let stored = catalog::read::<ContractDocument>(contract)?;
                    let uses = Uses::read(uses.as_ref())?;
                    Lean::Stored(self.contracts.compiled(&stored)?, stored.revision, uses)
                }
                _ => Lean::Missing,
            };
            contracts.insert(id.clone(), lean);
        }
        Ok(Leans { contracts, _turn: Some(turn) })
    }
}
