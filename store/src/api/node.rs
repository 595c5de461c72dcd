//! Who is there: nodes announce themselves and say what they serve.

use async_trait::async_trait;
use pregon_core::clock::Timestamp;
use pregon_core::id::NodeId;
use serde::{Deserialize, Serialize};

use crate::StoreError;

/// A node that did not announce itself for this long is lost: it can neither claim nor settle.
pub const LOST_AFTER: std::time::Duration = std::time::Duration::from_secs(10);
/// A lost node is forgotten after this long.
pub const FORGOTTEN_AFTER: std::time::Duration = std::time::Duration::from_secs(600);

/// A configuration document that a node could not use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedDocument {
    /// The revision that wrote it.
    pub revision: i64,
    /// Its resource name.
    pub resource: String,
    /// Why; never its contents.
    pub reason: String,
    /// When it was refused.
    pub time: Timestamp,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Which node.
    pub id: NodeId,
    /// Its release.
    pub version: String,
    /// When it started.
    pub start_time: Timestamp,
    /// When it said this, by the store's clock (set by the store).
    pub heartbeat_time: Timestamp,
    /// It takes no new work.
    pub draining: bool,
    /// The configuration it serves; 0 before the first.
    pub served_revision: i64,
    /// Documents it could not use, newest first, 20 at most.
    pub refused: Vec<RefusedDocument>,
    /// Attempts in flight.
    pub in_flight: u64,
    /// Events and deliveries under its leases.
    pub claimed: u64,
    /// Lanes with work in its memory.
    pub lanes: u64,
}

/// Who is there.
#[async_trait]
pub trait NodeRegistry: Send + Sync {
    /// A node says how it is; sets `heartbeat_time`.
    async fn announce(&self, status: NodeStatus) -> Result<(), StoreError>;

    /// A node goes.
    async fn leave(&self, id: &NodeId) -> Result<(), StoreError>;

    /// All nodes that are not forgotten, by id, and the store's present time.
    async fn nodes(&self) -> Result<(Vec<NodeStatus>, Timestamp), StoreError>;
}
