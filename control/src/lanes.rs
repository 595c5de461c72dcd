//! Whose lane a delivery went by.
//!
//! A delivery is recorded by the number of its subscription's lane, and is shown long after the
//! subscription may have been deleted and its id given to another. So the creation of a
//! subscription also writes `tenants/{t}/lanes/{lane}`, which says whose lane it is and stays.
//! Nothing in it ever changes, so that it may be remembered as long as there is room.

use std::collections::{BTreeSet, HashMap};

use pregon_core::error::{Reason, Refusal};
use pregon_core::id::{LaneNo, SubscriptionId, SubscriptionName, TenantId};
use pregon_core::model::Subscription;
use pregon_store::config::ListRange;
use serde::{Deserialize, Serialize};

use crate::Control;
use crate::commit::Plan;

mod known;

pub(crate) use known::LaneNames;

/// Collections of the documents' names.
const COLLECTIONS: &str = "tenants/lanes";
/// Lanes of one tenant that are searched for a deleted subscription's.
const SEARCHED: usize = 20_000;
/// Documents that one call to the store lists.
const CHUNK: usize = 1000;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Lane {
    subscription: SubscriptionId,
}

fn document(tenant: &TenantId, lane: LaneNo) -> String {
    format!("{}/lanes/{lane}", tenant.name())
}

/// Adds to a plan that a new subscription's lane is its own.
pub(crate) fn claim(plan: Plan, subscription: &Subscription) -> Plan {
    let lane = Lane { subscription: subscription.id.clone() };
    // A struct of one string cannot fail to be written.
    let bytes = serde_json::to_vec(&lane).unwrap_or_default();
    plan.write(document(&subscription.tenant, subscription.lane), bytes)
}

impl Control {
    /// Adds to a plan that nobody knows any more whose lanes were a tenant's that is gone: the next
    /// tenant of its id must not learn what subscriptions that one had.
    pub(crate) async fn without_lanes(
        &self,
        tenant: &TenantId,
        plan: Plan,
    ) -> Result<Plan, Refusal> {
        let names = self.names_below(COLLECTIONS, &format!("{}/lanes/", tenant.name())).await?;
        Ok(names.into_iter().fold(plan, Plan::delete))
    }

    /// The subscriptions that lanes belong or belonged to. A lane that nobody wrote down is left
    /// out.
    pub(crate) async fn lane_owners(
        &self,
        lanes: impl IntoIterator<Item = (TenantId, LaneNo)>,
    ) -> Result<HashMap<LaneNo, SubscriptionName>, Refusal> {
        let mut owners = HashMap::new();
        let mut unknown = BTreeSet::new();
        for (tenant, lane) in lanes {
            match self.lane_names.get(lane) {
                Some(name) => drop(owners.insert(lane, name)),
                None => drop(unknown.insert((lane, tenant))),
            }
        }
        if unknown.is_empty() {
            return Ok(owners);
        }
        let names: Vec<_> = unknown.iter().map(|(lane, tenant)| document(tenant, *lane)).collect();
        let found = self.store.config.get(&names).await?;
        for ((lane, tenant), document) in unknown.into_iter().zip(found) {
            if let Some(document) = document {
                let subscription = read(&document.name, &document.bytes)?.subscription;
                let name = SubscriptionName { tenant, subscription };
                self.lane_names.put(lane, name.clone());
                owners.insert(lane, name);
            }
        }
        Ok(owners)
    }

    /// The lane of a subscription; of one that was deleted, the last that had its name.
    pub(crate) async fn lane_of(
        &self,
        subscription: &SubscriptionName,
    ) -> Result<Option<LaneNo>, Refusal> {
        if let Some(stored) = self.find::<Subscription>(&subscription.to_string()).await? {
            return Ok(Some(stored.value.lane));
        }
        let prefix = format!("{}/lanes/", subscription.tenant.name());
        let (mut after, mut lane, mut searched) = (String::new(), None, 0);
        while searched < SEARCHED {
            let range = ListRange {
                collections: COLLECTIONS,
                prefix: prefix.clone(),
                after: after.clone(),
                limit: CHUNK,
            };
            let page = self.store.config.list(range).await?;
            for document in &page {
                let own = read(&document.name, &document.bytes)?.subscription
                    == subscription.subscription;
                let number = document.name.strip_prefix(&prefix).and_then(|n| n.parse().ok());
                lane = lane.max(number.filter(|_| own));
            }
            searched += page.len();
            match page.last() {
                Some(last) if page.len() == CHUNK => after.clone_from(&last.name),
                Some(_) | None => break,
            }
        }
        Ok(lane)
    }
}

fn read(name: &str, bytes: &[u8]) -> Result<Lane, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| {
        tracing::error!(name, %error, "a stored document cannot be read");
        let text = "whose deliveries these are cannot be read from the store; the log has more";
        Refusal::new(Reason::Internal, text)
    })
}
