//! Where configuration, events and their deliveries live.
//!
//! Planes speak to traits, by caller: [`ConfigStore`] for what the control plane writes and nodes
//! follow, [`Queue`] for what nodes do to events, [`DeliveryLog`] for who asks what happened,
//! [`DeliveryWatch`] for who wants to see it happen, [`NodeRegistry`] for who is there, [`Backlog`]
//! for how much waits, [`LaneLog`] for how a lane is, and [`TestSends`] for attempts that are no
//! deliveries. Engines stand behind them: [`embedded`] for one process, and [`redis`] for many.
//! `conformance` is the one suite that every engine must pass; only the binary knows which one
//! runs.
//!
//! The queue in one paragraph. Events get dense numbers within a partition and lie in one log that
//! is queue, body store and history at once. A node *takes* a range of new events as one batch
//! under one lease, or the *due* deliveries of lanes as another; it matches and attempts them from
//! memory and *settles* many results in one atomic step, which also logs the attempts and moves
//! the counters. An event whose deliveries all succeed at once costs nothing more. Only a delivery
//! in trouble (to be tried again, failed, cancelled, replayed) gets a record and a place in its
//! subscription's lane; what merely waits there, unattempted, may share one with its neighbours. Whether a batch's token still exists is the fence: who lost the
//! lease settles nothing.

pub mod author;
pub mod backlog;
pub mod config;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod embedded;
pub mod erase;
pub mod error;
pub mod lane_log;
pub mod log;
pub mod node;
mod packed;
pub mod queue;
pub mod redis;
mod run;
pub mod steady;
mod stored;
pub mod test_send;
pub mod tested;
mod told;
pub mod watch;

pub use backlog::Backlog;
pub use config::ConfigStore;
pub use error::StoreError;
pub use lane_log::LaneLog;
pub use log::DeliveryLog;
pub use node::NodeRegistry;
pub use queue::Queue;
pub use test_send::TestSends;
pub use watch::DeliveryWatch;

use std::sync::Arc;

/// The handles of one engine: what the binary opens and the planes are given.
#[derive(Clone)]
pub struct Store {
    /// Configuration.
    pub config: Arc<dyn ConfigStore>,
    /// Events and deliveries.
    pub queue: Arc<dyn Queue>,
    /// What happened.
    pub log: Arc<dyn DeliveryLog>,
    /// Who is there.
    pub nodes: Arc<dyn NodeRegistry>,
    /// How one subscription's lane is.
    pub lanes: Arc<dyn LaneLog>,
    /// How much waits.
    pub backlog: Arc<dyn Backlog>,
    /// Attempts that are no deliveries.
    pub tests: Arc<dyn TestSends>,
    /// What happens, as it happens.
    pub watch: Arc<dyn DeliveryWatch>,
}
