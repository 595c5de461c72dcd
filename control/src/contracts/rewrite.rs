//! An update of a contract's document, with all that it reaches: contracts that extend it are put
//! together anew in the same commit, and whoever uses one of them has to fit what becomes of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use pregon_core::contract::{Composed, Contract, Extends};
use pregon_core::error::Refusal;
use pregon_core::id::ContractId;
use pregon_core::model::{ContractDocument, Resource};
use pregon_core::pool::Pools;

use super::children::{Children, document, parent};
use super::given::Given;
use super::users::{Change, in_use};
use super::uses::{self, Uses};
use crate::catalog::Stored;
use crate::commit::Plan;
use crate::{Control, catalog};

/// Who uses a contract and who extends it, read before the contract: what is read after it is as it
/// was, if it still is.
#[derive(Debug)]
pub(super) struct Grounds {
    /// Who uses it.
    pub uses: Uses,
    /// Who extends it.
    pub children: Children,
}

/// The contracts that an update changes.
type Changes = BTreeMap<ContractId, Change>;

impl Control {
    /// Who uses a contract and who extends it.
    pub(super) async fn grounds_of(&self, id: &ContractId) -> Result<Grounds, Refusal> {
        let names = [uses::document(id), document(id)];
        let mut found = self.store.config.get(&names).await?.into_iter();
        let (uses, children) = (found.next().flatten(), found.next().flatten());
        let children = Children::read(id, children.as_ref())?;
        Ok(Grounds { uses: Uses::read(uses.as_ref())?, children })
    }

    /// Gives a stored contract another document, in a plan that writes the contract beside.
    pub(super) async fn rewrite(
        &self,
        mut plan: Plan,
        grounds: Grounds,
        before: Option<Arc<Contract>>,
        now: &mut ContractDocument,
        given: &Given,
    ) -> Result<(Plan, Arc<Contract>), Refusal> {
        let (ready, joined) = self.ready(given).await?;
        let (id, left) = (now.id.clone(), parent(now));
        ready.apply(now);
        if let Some(left) = left.filter(|left| joined.as_ref().is_none_or(|it| it.id != *left)) {
            plan = self.children_of(&left).await?.without(plan, &id);
        }
        if let Some(joined) = joined {
            plan = joined.joined(plan, &id)?;
        }
        let Grounds { uses, children } = grounds;
        let (mut plan, mut changes) = self.composed_anew(plan, now, &children).await?;
        if uses.users > 0 {
            changes.insert(id.clone(), Change { before, after: Arc::clone(&ready.contract) });
        }
        self.check_users(&id, &changes).await?;
        plan = uses.change(children.stay(plan), &id, uses.users);
        Ok((plan, ready.contract))
    }

    /// Adds to a plan what becomes of the contracts that extend this one, and answers with those that
    /// somebody uses.
    async fn composed_anew(
        &self,
        mut plan: Plan,
        parent: &ContractDocument,
        children: &Children,
    ) -> Result<(Plan, Changes), Refusal> {
        let mut changes = Changes::new();
        if children.ids().is_empty() {
            return Ok((plan, changes));
        }
        let names = children.ids().iter().flat_map(|id| [id.name(), uses::document(id)]);
        let found = self.store.config.get(&names.collect::<Vec<_>>()).await?;
        for (id, pair) in children.ids().iter().zip(found.chunks(2)) {
            // Nobody is noted who is not stored.
            let [Some(child), uses] = pair else { continue };
            let stored = catalog::read::<ContractDocument>(child)?;
            let composed =
                composed(&stored.value, parent, self.contracts.pools()).map_err(|why| {
                    let text = format!("{}, which extends it, would not hold: {why}", id.name());
                    in_use(&parent.id, text)
                })?;
            if composed.document == stored.value.document {
                plan = plan.relies_on(id.name(), Some(stored.revision));
            } else {
                let uses = Uses::read(uses.as_ref())?;
                plan = uses.change(self.put_anew(plan, &stored, composed.document), id, uses.users);
                if uses.users > 0 {
                    let before = self.contracts.compiled(&stored).ok();
                    let after = Arc::new(composed.contract);
                    changes.insert(id.clone(), Change { before, after });
                }
            }
            // Compiling may have taken its time.
            tokio::task::yield_now().await;
        }
        Ok((plan, changes))
    }

    fn put_anew(&self, plan: Plan, stored: &Stored<ContractDocument>, document: String) -> Plan {
        let mut now = stored.value.clone();
        now.document = document;
        now.document_revision = 0;
        now.common.update_time = self.clock.now();
        plan.put(&Resource::Contract(now), stored.revision)
    }
}

/// A stored contract with what the one that it extends becomes, or why that is none.
fn composed(
    child: &ContractDocument,
    parent: &ContractDocument,
    pools: &Pools,
) -> Result<Composed, String> {
    let source = child.source();
    let extends = Extends::of(source).map_err(|fault| fault.to_string())?;
    let extends = extends.ok_or("it extends nothing")?;
    let composed = extends.compose(source, parent.source(), 0).map_err(|faults| {
        let more = faults.len().saturating_sub(1);
        let first = faults.first().map(ToString::to_string).unwrap_or_default();
        if more == 0 { first } else { format!("{first}; and {more} faults more") }
    })?;
    match composed.contract.check_egress(pools) {
        Ok(()) => Ok(composed),
        Err(wrong) => Err(wrong.description),
    }
}
