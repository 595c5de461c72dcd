//! Who is there: nodes announce themselves and say what they serve. Control planes announce themselves
//! too, so that everybody knows which master keys they have.

use async_trait::async_trait;
use pregon_core::clock::Timestamp;
use pregon_core::id::NodeId;
use pregon_core::seal::KeyId;
use serde::{Deserialize, Serialize};

use crate::StoreError;

/// How often a process announces itself; three of them fit into the time after which it is lost.
pub const HEARTBEAT: std::time::Duration = std::time::Duration::from_secs(3);
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

/// What a process is, of those that announce themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Plane {
    /// It publishes and delivers, whether or not it is a control plane as well.
    #[default]
    Data,
    /// It is a control plane only: of what it says, only the keys count.
    Control,
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
    /// What it is.
    #[serde(default)]
    pub plane: Plane,
    /// The master keys of its key file, in the order of the file; empty: it does not say.
    #[serde(default)]
    pub master_keys: Vec<KeyId>,
    /// The key that it seals under; none: it seals nothing.
    #[serde(default)]
    pub sealing: Option<KeyId>,
    /// The master keys that the store needs and that it lacks: while there are some it takes nothing.
    #[serde(default)]
    pub lacking: Vec<KeyId>,
}

impl NodeStatus {
    /// What it is called: `nodes/{id}`, or `controlPlanes/{id}`.
    pub fn name(&self) -> String {
        match self.plane {
            Plane::Data => self.id.name(),
            Plane::Control => format!("controlPlanes/{}", self.id),
        }
    }

    /// Whether it publishes and delivers.
    pub fn is_node(&self) -> bool {
        self.plane == Plane::Data
    }

    /// Whether it was heard of lately enough, at `now` of the store's clock, to be counted on.
    pub fn is_alive(&self, now: Timestamp) -> bool {
        now.since(self.heartbeat_time) < LOST_AFTER
    }
}

/// Who is there.
#[async_trait]
pub trait NodeRegistry: Send + Sync {
    /// A node says how it is; sets `heartbeat_time`.
    async fn announce(&self, status: NodeStatus) -> Result<(), StoreError>;

    /// A node goes.
    async fn leave(&self, id: &NodeId) -> Result<(), StoreError>;

    /// All processes that are not forgotten, by id, and the store's present time. What another
    /// release said in another form is left out.
    async fn nodes(&self) -> Result<(Vec<NodeStatus>, Timestamp), StoreError>;
}
