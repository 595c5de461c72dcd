//! How many contracts are stored: nodes compile all of them, so they are not without end. One
//! document says so, which whoever adds or takes away one rewrites and relies on.

use pregon_core::error::{Reason, Refusal};
use pregon_core::limits;
use serde::{Deserialize, Serialize};

use crate::Control;
use crate::commit::Plan;

/// The document's name.
const DOCUMENT: &str = "registry/contracts";

/// The document's contents.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Stored {
    contracts: usize,
}

/// How many there are, as it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    contracts: usize,
    revision: Option<i64>,
}

impl Count {
    /// Adds to a plan that there is one more; refuses one too many.
    pub(super) fn one_more(self, plan: Plan) -> Result<Plan, Refusal> {
        if self.contracts >= limits::CONTRACTS {
            let text = format!("there may be {} contracts", limits::CONTRACTS);
            return Err(Refusal::new(Reason::QuotaExceeded, text));
        }
        Ok(self.change(plan, self.contracts + 1))
    }

    /// Adds to a plan that there is one less.
    pub(super) fn one_less(self, plan: Plan) -> Plan {
        self.change(plan, self.contracts.saturating_sub(1))
    }

    fn change(self, plan: Plan, contracts: usize) -> Plan {
        // A struct of one number cannot fail to be written.
        let bytes = serde_json::to_vec(&Stored { contracts }).unwrap_or_default();
        plan.relies_on(DOCUMENT, self.revision).write(DOCUMENT, bytes)
    }
}

impl Control {
    /// How many contracts are stored.
    pub(super) async fn count_contracts(&self) -> Result<Count, Refusal> {
        let found = self.store.config.get(&[DOCUMENT.to_owned()]).await?.pop().flatten();
        let Some(found) = found else { return Ok(Count { contracts: 0, revision: None }) };
        let Stored { contracts } = serde_json::from_slice(&found.bytes).map_err(|error| {
            tracing::error!(name = DOCUMENT, %error, "a stored document cannot be read");
            Refusal::new(Reason::Internal, format!("{DOCUMENT} cannot be read"))
        })?;
        Ok(Count { contracts, revision: Some(found.revision) })
    }
}
