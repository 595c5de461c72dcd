//! Which contracts there are: those that come with Pregón, and those that are stored.
//!
//! A built-in contract is in memory and goes before a stored one of its name. A stored one is
//! compiled when it is first asked for and kept by name and revision, so that it is read from the
//! store each time, and compiled once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use pregon_core::contract::{BuiltIn, Contract, builtins};
use pregon_core::error::{Reason, Refusal};
use pregon_core::id::ContractId;
use pregon_core::model::ContractDocument;
use pregon_core::pool::Pools;
use pregon_core::url::UrlPolicy;

use crate::catalog::Stored;

/// Compiled contracts that are kept: some hundred KiB each at most. When they are more, it starts
/// afresh.
const KEPT: usize = 128;

/// The contracts that are compiled, and the deployment's rules for URLs.
#[derive(Debug)]
pub(crate) struct Registry {
    policy: UrlPolicy,
    pools: Pools,
    compiled: Mutex<HashMap<ContractId, Arc<Contract>>>,
}

/// A contract that comes with Pregón.
pub(crate) fn built_in(id: &ContractId) -> Option<&'static BuiltIn> {
    builtins().iter().find(|it| it.contract.id() == id)
}

impl Registry {
    /// Of a deployment with this policy and these egress pools.
    pub(crate) fn new(policy: UrlPolicy, pools: Pools) -> Self {
        Self { policy, pools, compiled: Mutex::default() }
    }

    /// The egress pools of the deployment.
    pub(crate) fn pools(&self) -> &Pools {
        &self.pools
    }

    /// Which URLs may be had under a contract.
    pub(crate) fn policy(&self, contract: &Contract) -> UrlPolicy {
        contract.url().map_or_else(|| self.policy.clone(), |rules| self.policy.under(rules))
    }

    /// A stored contract, compiled.
    pub(crate) fn compiled(
        &self,
        stored: &Stored<ContractDocument>,
    ) -> Result<Arc<Contract>, Refusal> {
        let id = &stored.value.id;
        let known = || self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let revision = stored.value.written_at(stored.revision);
        let kept = known().get(id).filter(|it| it.revision() == revision).cloned();
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let read = Contract::read(&stored.value.document, revision);
        let contract = Arc::new(read.map_err(|faults| {
            let first = faults.first().map(ToString::to_string).unwrap_or_default();
            tracing::error!(contract = %id, first, "a stored contract cannot be read");
            Refusal::new(Reason::Internal, format!("{} cannot be read from the store", id.name()))
        })?);
        let mut known = known();
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(id.clone(), Arc::clone(&contract));
        Ok(contract)
    }
}
