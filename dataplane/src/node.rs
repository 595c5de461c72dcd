//! A node says that it is there, and what it serves.
//!
//! It announces itself every few seconds, and at once when it serves another revision or has other
//! master keys, so that a write can wait until it is served everywhere. An announcement that fails is repeated with the
//! next; after ten seconds of silence the node counts as lost, which is no more than the truth.

use std::sync::Arc;

use pregon_core::clock::{SharedClock, Timestamp};
use pregon_core::id::NodeId;
use pregon_core::seal::{Held, KeyId};
use pregon_store::NodeRegistry;
use pregon_store::node::{HEARTBEAT, NodeStatus, Plane};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::snapshot::Configuration;
use crate::worker::Load;

/// What a node says of itself.
pub struct Heartbeat {
    /// Who it is.
    pub node: NodeId,
    /// When it started.
    pub start_time: Timestamp,
    /// Where it says so.
    pub registry: Arc<dyn NodeRegistry>,
    /// What it serves.
    pub configuration: Configuration,
    /// What it has to do.
    pub load: Arc<Load>,
    /// Wall-clock time.
    pub clock: SharedClock,
    /// Its master keys.
    pub keys: watch::Receiver<Arc<Held>>,
    /// Whether the process seals as well.
    pub seals: bool,
}

impl Heartbeat {
    /// Announces the node until `stop`, as draining from `drain` on; takes it off the list at the
    /// end.
    pub async fn run(self, drain: CancellationToken, stop: CancellationToken) {
        let mut served = self.configuration.watch();
        let mut keys = self.keys.clone();
        // What is counted of the store's documents is no news of this node.
        let said = |keys: &watch::Receiver<Arc<Held>>| {
            let held = keys.borrow();
            (held.given.clone(), held.ring.current())
        };
        let mut told = said(&keys);
        let mut beat = tokio::time::interval(HEARTBEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut drained = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = drain.cancelled(), if !drained => drained = true,
                _ = beat.tick() => {}
                changed = served.changed() => if changed.is_err() { break },
                // Who gives no keys any more is going down as well.
                Ok(()) = keys.changed() => if said(&keys) == told { continue },
            }
            served.mark_unchanged();
            told = said(&keys);
            if let Err(error) = self.registry.announce(self.status(drained)).await {
                tracing::warn!(%error, "could not announce this node");
            }
        }
        if let Err(error) = self.registry.leave(&self.node).await {
            tracing::warn!(%error, "could not take this node off the list");
        }
    }

    fn lacking(&self) -> Vec<KeyId> {
        self.configuration.current().map(|it| it.gaps().keys.clone()).unwrap_or_default()
    }

    fn status(&self, draining: bool) -> NodeStatus {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        NodeStatus {
            id: self.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            start_time: self.start_time,
            heartbeat_time: self.clock.now(),
            draining,
            served_revision: self.configuration.served_revision(),
            refused: self.configuration.refused(),
            in_flight: count(self.load.in_flight()),
            claimed: count(self.load.claimed()),
            lanes: count(self.load.lanes()),
            plane: Plane::Data,
            master_keys: self.keys.borrow().given.clone(),
            sealing: self.seals.then(|| self.keys.borrow().ring.current()),
            lacking: self.lacking(),
        }
    }
}
