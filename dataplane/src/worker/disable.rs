//! Disabling a subscription whose receiver said that it is gone for good.
//!
//! The one write of configuration that a node makes. It goes the way of every write: with the
//! document's revision as precondition, so that nobody else's change is undone.

use bytes::Bytes;
use pregon_core::clock::Timestamp;
use pregon_core::id::{NodeId, SubscriptionName};
use pregon_core::model::{Resource, ResourceName, StateChange, SubscriptionState};
use pregon_store::author::Author;
use pregon_store::config::{Commit, Committed, Expect};
use pregon_store::{ConfigStore, StoreError};

/// Tries to get between other writers.
const TRIES: u32 = 5;

/// Moves the subscription to DISABLED unless somebody already moved it out of the way.
pub(super) async fn disable(
    config: &dyn ConfigStore,
    name: &SubscriptionName,
    status: u16,
    node: &NodeId,
    now: Timestamp,
) {
    let reason = format!("the receiver answered {status}");
    for _ in 0..TRIES {
        match attempt(config, name, &reason, node, now).await {
            Ok(true) => {
                tracing::warn!(subscription = %name, status, "disabled: the receiver is gone for good");
                return;
            }
            Ok(false) => {}
            Err(error) => {
                // The next delivery gets the same answer and leads here again.
                tracing::warn!(subscription = %name, %error, "could not disable");
                return;
            }
        }
    }
}

/// One try; true when there is nothing left to do.
async fn attempt(
    config: &dyn ConfigStore,
    name: &SubscriptionName,
    reason: &str,
    node: &NodeId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let key = ResourceName::Subscription(name.clone());
    let Some(document) = config.get(&[key.to_string()]).await?.into_iter().flatten().next() else {
        return Ok(true);
    };
    let Ok(Resource::Subscription(mut subscription)) = Resource::decode(&key, &document.bytes)
    else {
        return Err(StoreError::Corrupt(key.to_string()));
    };
    if !subscription.state.matches() {
        return Ok(true);
    }
    subscription.state = SubscriptionState::Disabled;
    subscription.state_reason = reason.to_owned();
    subscription.state_change =
        Some(StateChange { time: now, actor: node.name(), note: reason.to_owned() });
    subscription.common.update_time = now;
    let committed = config
        .commit(Commit {
            expect: vec![(document.name.clone(), Expect::Revision(document.revision))],
            write: vec![
                (document.name, Some(Bytes::from(Resource::Subscription(subscription).encode()))),
                Author { actor: node.name(), time: now, trace: None }.document(),
            ],
            request: None,
            audit: None,
        })
        .await?;
    Ok(matches!(committed, Committed::Done { .. }))
}
