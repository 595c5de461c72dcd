//! Contracts by id, built in or stored.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use pregon_core::contract::Contract;
use pregon_core::error::Refusal;
use pregon_core::id::ContractId;
use pregon_core::model::ContractDocument;

use super::registry::built_in;
use crate::Control;
use crate::catalog::{self, Kind};

impl Control {
    /// A contract, if there is one of this id.
    pub(crate) async fn find_contract(
        &self,
        id: &ContractId,
    ) -> Result<Option<Arc<Contract>>, Refusal> {
        if let Some(it) = built_in(id) {
            return Ok(Some(Arc::clone(&it.contract)));
        }
        let stored = self.find::<ContractDocument>(&id.name()).await?;
        stored.map(|stored| self.contracts.compiled(&stored)).transpose()
    }

    /// Those of these contracts that there are, read at once.
    pub(crate) async fn find_contracts(
        &self,
        ids: HashSet<&ContractId>,
    ) -> Result<HashMap<ContractId, Arc<Contract>>, Refusal> {
        let (mut found, mut names) = (HashMap::new(), Vec::new());
        for id in ids {
            match built_in(id) {
                Some(it) => drop(found.insert(id.clone(), Arc::clone(&it.contract))),
                None => names.push(id.name()),
            }
        }
        if names.is_empty() {
            return Ok(found);
        }
        for document in self.store.config.get(&names).await?.iter().flatten() {
            let stored = catalog::read::<ContractDocument>(document)?;
            let contract = self.contracts.compiled(&stored)?;
            found.insert(stored.value.id, contract);
            // Compiling may have taken its time.
            tokio::task::yield_now().await;
        }
        Ok(found)
    }

    /// A contract, or the refusal that says it does not exist.
    pub(crate) async fn contract(&self, id: &ContractId) -> Result<Arc<Contract>, Refusal> {
        self.find_contract(id).await?.ok_or_else(|| not_found(id))
    }
}

/// The refusal that says a contract does not exist.
pub(crate) fn not_found(id: &ContractId) -> Refusal {
    Refusal::not_found(ContractDocument::WORD, id.name())
}
