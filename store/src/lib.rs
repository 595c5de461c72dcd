//! Where configuration, events and their deliveries live.
//!
//! Planes speak to traits, by caller:
//! - [`ConfigStore`] for what the control plane writes and nodes follow,
//! - [`Intake`] for publishers,
//! - [`Work`] for the nodes that deliver,
//! - [`Operate`] for whoever ends, cancels, replays or erases,
//! - [`DeliveryLog`] for who asks what happened, [`DeliveryWatch`] for who wants to see it happen,
//! - [`LaneLog`] for how a lane is, [`Backlog`] for how much waits,
//! - [`AuditLog`] for who called for what,
//! - [`NodeRegistry`] for who is there,
//! - [`TestSends`] for attempts that are no deliveries,
//! - [`Rates`] for how fast all nodes together may send.
//!
//! Engines stand behind them: [`embedded`] for one process, and [`redis`] for many. `conformance` is
//! the one suite that every engine must pass; only the binary knows which one runs.
//!
//! The way of an event:
//! - Events get dense numbers within a partition. They lie in one log that is queue, body store and
//!   history at once.
//! - A node *takes* a range of new events as one batch under one lease, or the *due* deliveries of
//!   lanes as another.
//! - It matches and attempts them from memory and *settles* many results in one atomic step, which
//!   also logs the attempts and moves the counters.
//! - An event whose deliveries all succeed at once costs nothing more.
//! - A delivery in trouble (to be tried again, failed, cancelled, replayed) gets a record and a place
//!   in its subscription's lane. What merely waits there, unattempted, shares one with its neighbours.
//! - Whether a batch's token still exists is the fence: who lost the lease settles nothing.

mod api;
mod codec;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod embedded;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod moves;
pub mod redis;
mod run;
pub mod steady;

pub use api::{
    audit, author, backlog, batch, config, erase, error, intake, lane_log, log, node, operate,
    rate, settlement, test_send, watch, work,
};
pub use codec::test_reply;

pub use api::audit::AuditLog;
pub use api::backlog::Backlog;
pub use api::config::ConfigStore;
pub use api::error::StoreError;
pub use api::intake::Intake;
pub use api::lane_log::LaneLog;
pub use api::log::DeliveryLog;
pub use api::node::NodeRegistry;
pub use api::operate::Operate;
pub use api::rate::Rates;
pub use api::test_send::TestSends;
pub use api::watch::DeliveryWatch;
pub use api::work::Work;

use std::sync::Arc;

/// The handles of one engine: what the binary opens and the planes are given.
#[derive(Clone)]
pub struct Store {
    /// Configuration.
    pub config: Arc<dyn ConfigStore>,
    /// Who called for what.
    pub audit: Arc<dyn AuditLog>,
    /// Accepting events.
    pub intake: Arc<dyn Intake>,
    /// Claiming and settling.
    pub work: Arc<dyn Work>,
    /// Ending, cancelling, replaying, erasing.
    pub operate: Arc<dyn Operate>,
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
    /// Rates that nodes keep together.
    pub rates: Arc<dyn Rates>,
    /// What happens, as it happens.
    pub watch: Arc<dyn DeliveryWatch>,
}
