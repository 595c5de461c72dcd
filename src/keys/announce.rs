//! A control plane says that it is there, and which master keys it has: so that no other seals under a
//! key that it lacks. Nodes say so themselves.

use std::sync::Arc;

use pregon_core::clock::SharedClock;
use pregon_core::id::NodeId;
use pregon_core::seal::Held;
use pregon_store::NodeRegistry;
use pregon_store::node::{HEARTBEAT, NodeStatus, Plane};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Announces a control plane until `stop`, and takes it off the list then.
pub async fn announce(
    registry: Arc<dyn NodeRegistry>,
    id: NodeId,
    clock: SharedClock,
    mut keys: watch::Receiver<Arc<Held>>,
    stop: CancellationToken,
) {
    let start_time = clock.now();
    let said = |held: &Held| (held.given.clone(), held.ring.current());
    let mut beat = tokio::time::interval(HEARTBEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = beat.tick() => {}
            Ok(()) = keys.changed() => if told == Some(said(&keys.borrow())) { continue },
        }
        let (master_keys, sealing) = said(&keys.borrow_and_update());
        told = Some((master_keys.clone(), sealing));
        let status = NodeStatus {
            id: id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            start_time,
            heartbeat_time: clock.now(),
            // A release that knows no control planes here takes it for a node: one that goes, and serves
            // whatever is asked for, it never waits for.
            draining: true,
            served_revision: i64::MAX,
            refused: Vec::new(),
            in_flight: 0,
            claimed: 0,
            lanes: 0,
            plane: Plane::Control,
            master_keys,
            sealing: Some(sealing),
            lacking: Vec::new(),
        };
        if let Err(error) = registry.announce(status).await {
            tracing::warn!(%error, "could not announce this control plane");
        }
    }
    if let Err(error) = registry.leave(&id).await {
        tracing::warn!(%error, "could not take this control plane off the list");
    }
}
