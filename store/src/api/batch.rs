//! What a claim leases: a batch of events and deliveries, under a token that is its fence.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pregon_core::clock::Timestamp;
use pregon_core::event::Event;
use pregon_core::id::{DeliveryKey, LaneNo, NodeId, PartitionNo, Position};
use pregon_core::outcome::PendingReason;

/// The name of a batch, unique for ever. Whether it still exists is the fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// Which process made it: random at each start.
    pub incarnation: u64,
    /// Its number within the process.
    pub sequence: u64,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.{}", self.incarnation, self.sequence)
    }
}

/// An event of a batch that is still to be matched, or matched on.
#[derive(Clone, Debug)]
pub struct OpenEvent {
    /// The event.
    pub event: Arc<Event>,
    /// A large fan-out got this far: lanes up to this one have it.
    pub cursor: Option<LaneNo>,
    /// It was scheduled ([`EventOutcome::Scheduled`]), and by the store's clock its time has come.
    ///
    /// [`EventOutcome::Scheduled`]: crate::settlement::EventOutcome::Scheduled
    pub ripe: bool,
}

/// A delivery of a batch.
#[derive(Clone, Debug)]
pub struct HeldDelivery {
    /// Which.
    pub key: DeliveryKey,
    /// Its event.
    pub event: Arc<Event>,
    /// Attempts counted so far.
    pub attempts: u32,
    /// When the delivery was created.
    pub create_time: Timestamp,
    /// When it was due; none: another node had it and lost it.
    pub due: Option<Timestamp>,
}

/// What one claim leased.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its name.
    pub token: Token,
    /// Its partition.
    pub partition: PartitionNo,
    /// How often it was taken: 1 when fresh.
    pub takes: u32,
    /// Who had it before, when it was taken over.
    pub previous: Option<NodeId>,
    /// Events to be matched, by number.
    pub events: Vec<OpenEvent>,
    /// Deliveries to be attempted.
    pub deliveries: Vec<HeldDelivery>,
    /// Events that cannot be decoded; to be settled as [`EventOutcome::SetAside`](crate::settlement::EventOutcome::SetAside).
    pub spoiled: Vec<Position>,
    /// Lanes that are closed just now, and for how long yet: what one node's receiver asked for,
    /// other nodes learn of with the new events that they take. Some of them, where there are many.
    ///
    /// A lane that a breaker closed (`BREAKER_OPEN`) is named for [`TRIAL`] longer, with no time
    /// left, and also where its deliveries are handed out: whoever attempts them is to begin with
    /// a probe.
    pub closed: Vec<LaneClose>,
}

impl Batch {
    /// Events and deliveries in it.
    pub fn len(&self) -> usize {
        self.events.len() + self.deliveries.len() + self.spoiled.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How long a lane is on trial that a breaker had closed: long enough for its receiver to have
/// shown what it bears.
pub const TRIAL: Duration = Duration::from_secs(300);

/// A lane that hands nothing out for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneClose {
    /// Which.
    pub lane: LaneNo,
    /// For how long.
    pub wait: Duration,
    /// Why.
    pub reason: PendingReason,
}

impl LaneClose {
    /// A lane that a breaker had closed until not long ago; see [`Batch::closed`].
    pub(crate) fn on_trial(lane: LaneNo) -> Self {
        Self { lane, wait: Duration::ZERO, reason: PendingReason::BreakerOpen }
    }
}
