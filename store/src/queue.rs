//! Events and deliveries, as nodes handle them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pregon_core::clock::Timestamp;
use pregon_core::event::{Event, NewEvent};
use pregon_core::id::{DeliveryKey, LaneNo, NodeId, PartitionNo, Position, ReplayTag, TenantId};
use pregon_core::outcome::{DeliveryState, EndReason};

use crate::StoreError;
use crate::erase::{Erase, ErasePlace, Erased};

mod settlement;

pub use settlement::{
    BatchSettle, DeliverySettle, EventOutcome, EventSettle, FILTER_REASON_MAX, FilterError,
    LaneClose, Settled, Settlement, Transition,
};

/// Events in one take, and successes in one settle.
pub const BATCH_MAX: usize = 256;
/// Deliveries that one step moves one by one: retries, cancels, replays.
pub const STEP_MAX: usize = 200;
/// Deliveries that one step of [`Queue::end_lane`] ends at most: what waits unattempted is ended many at
/// a time.
pub const END_STEP: usize = 65_536;
/// Deliveries that a due call hands out of one lane before the next lane has its turn.
pub const LANE_QUANTUM: usize = 16;
/// Takes from which a batch is a suspect: nodes went down twice with it in hand, so one of its items
/// may be what kills them. The first time is no sign: everything that a node had lapses with it.
pub const SUSPECT_AT: u32 = 3;
/// Takes of a batch of one item from which the item is held back: three nodes in a row went down with
/// it as the only suspect that they had in hand.
pub const HELD_BACK_AT: u32 = 6;
/// How long a suspect waits that its taker has no use for yet.
pub const SUSPECT_WAIT: Duration = Duration::from_millis(100);
/// Matching subscriptions up to which an event is attempted from memory; above, it is fanned out
/// into the lanes step by step.
pub const FAN_OUT_DIRECT: usize = 64;
/// Lanes that one fan-out step reaches.
pub const FAN_OUT_STEP: usize = 100;

/// What an acknowledged publish survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The end of the publishing process, not of the store's.
    Memory,
    /// A power cut: it was on disk before the reply.
    Fsync,
    /// The loss of a machine: replicas had it before the reply.
    Replicated,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Durability::Memory => "memory",
            Durability::Fsync => "fsync",
            Durability::Replicated => "replicated",
        })
    }
}

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

/// What became of one event of a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// It has a place.
    Accepted {
        /// Where it lies, now or since its first publish.
        position: Position,
        /// It had been published before.
        duplicate: bool,
    },
    /// Its id and version were published before with other content.
    IdReused,
}

/// Who claims, and for how long.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The node.
    pub node: NodeId,
    /// From now until the claim lapses unless it is extended.
    pub lease: Duration,
}

/// An event of a batch that is still to be matched, or matched on.
#[derive(Clone, Debug)]
pub struct OpenEvent {
    /// The event.
    pub event: Arc<Event>,
    /// A large fan-out got this far: lanes up to this one have it.
    pub cursor: Option<LaneNo>,
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
    /// Events that cannot be decoded; to be settled as [`EventOutcome::SetAside`].
    pub spoiled: Vec<Position>,
    /// Lanes that are closed just now, and for how long yet: what one node's receiver asked for,
    /// other nodes learn of with the new events that they take. Some of them, where there are many.
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

/// How many deliveries of which lanes a node can use now.
#[derive(Clone, Debug, Default)]
pub struct DueRequest {
    /// Deliveries wanted at most.
    pub want: usize,
    /// Free slots of lanes that the node knows; a lane with none is put off, not handed out.
    pub slots: HashMap<LaneNo, u32>,
    /// Free slots of every other lane.
    pub default_slots: u32,
    /// Lanes to look at even though they were put off: slots came free.
    pub pull: Vec<LaneNo>,
}

/// Due deliveries, and when to ask again.
#[derive(Clone, Debug, Default)]
pub struct Due {
    /// What was due, if anything.
    pub batch: Option<Batch>,
    /// More is due already, in lanes that had free slots.
    pub more: bool,
    /// When the next lane is due; none: no lane waits.
    pub next: Option<Duration>,
}

/// How waiting deliveries of a lane end together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneEnd {
    /// Which lane.
    pub lane: LaneNo,
    /// `FAILED` or `CANCELLED`.
    pub state: DeliveryState,
    /// Why.
    pub reason: EndReason,
    /// Only deliveries created before this.
    pub before: Option<Timestamp>,
    /// Deliveries at most, in this step.
    pub limit: usize,
}

/// What became of a cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// No such delivery is recorded.
    Unknown,
    /// It had ended already.
    Ended(DeliveryState),
    /// It waited and is cancelled now.
    Done,
    /// It is being attempted: a success stays one, anything else ends as cancelled.
    InFlight,
}

/// One delivery to replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// A delivery of the event and lane; a replay may be replayed.
    pub key: DeliveryKey,
    /// Names the new delivery; the same tag makes no second one.
    pub tag: ReplayTag,
    /// Makes none where the event needs none: another of its deliveries to this lane is pending, or
    /// was made after this one and succeeded.
    pub where_needed: bool,
}

/// What became of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// A new delivery waits in its lane.
    Created(DeliveryKey),
    /// The same tag made it before.
    Existed(DeliveryKey),
    /// Another delivery of the event to the lane is pending, or succeeded since.
    Needless,
    /// The event is no longer kept.
    EventGone,
}

/// What there was of a tenant's name before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Former {
    /// No event was ever accepted for it.
    Nobody,
    /// A tenant some of whose events and deliveries are outstanding.
    Busy,
    /// A tenant with nothing outstanding: what was accepted before this moment was that one's, and
    /// nothing is accepted before it any more.
    Gone(Timestamp),
}

/// Events and deliveries, as nodes handle them. Every step is atomic and bounded, and safe to
/// repeat after an unknown outcome.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Partitions; they are numbered from 0.
    fn partitions(&self) -> PartitionNo;

    /// What an acknowledged publish survives.
    fn durability(&self) -> Durability;

    /// What a tenant has outstanding, by its counters: events that are not matched yet, and deliveries
    /// that have not ended. One look costs about as much as storing an event.
    async fn outstanding(&self, tenant: &TenantId) -> Result<u64, StoreError>;

    /// Begins a tenant's counters anew, for another tenant of the same name, unless something of the
    /// earlier one is outstanding.
    async fn supersede(&self, tenant: &TenantId) -> Result<Former, StoreError>;

    /// Erases some of what a tenant left, from a place on: one bounded step, which may be repeated.
    async fn erase(&self, erase: &Erase, from: ErasePlace) -> Result<Erased, StoreError>;

    /// How long a publish may take until it is given up: longer where it waits for a disk that is
    /// synced once a second.
    fn answers_within(&self) -> Duration;

    /// Accepts events, each on its own, at the store's stated durability. Answers in order.
    async fn publish(&self, events: Vec<NewEvent>) -> Result<Vec<Published>, StoreError>;

    /// Leases the next new events: `want` and [`BATCH_MAX`] at most, and about `bytes` of data
    /// at most (but one event whatever its size).
    async fn take(
        &self,
        partition: PartitionNo,
        claim: &Claim,
        want: usize,
        bytes: usize,
    ) -> Result<Option<Batch>, StoreError>;

    /// Leases due deliveries, lanes taking turns.
    async fn due(
        &self,
        partition: PartitionNo,
        claim: &Claim,
        request: DueRequest,
    ) -> Result<Due, StoreError>;

    /// Leases up to `limit` batches whose lease ran out, under new tokens, and says when the next
    /// lease does.
    ///
    /// Of suspects ([`SUSPECT_AT`]) it leases `suspects` at most, and one that holds several items is
    /// halved: one half is leased, the other can be taken next, and with neither is a take counted
    /// for the cut. So a node never has two halves in hand, and which of them kills shows. Suspects
    /// beyond that are looked at again after [`SUSPECT_WAIT`].
    async fn take_over(
        &self,
        partition: PartitionNo,
        claim: &Claim,
        limit: usize,
        suspects: usize,
    ) -> Result<(Vec<Batch>, Option<Duration>), StoreError>;

    /// Moves the end of leases to `lease` from now; answers with those that are gone.
    async fn extend(&self, tokens: &[Token], lease: Duration) -> Result<Vec<Token>, StoreError>;

    /// Records results: states, log and counters in one step.
    async fn settle(&self, settlement: Settlement) -> Result<Settled, StoreError>;

    /// Gives batches back: anybody may take them over at once, and it counts as no take. Rings,
    /// even with none: whoever gives back has put deliveries into lanes as well.
    async fn release(&self, tokens: &[Token]) -> Result<(), StoreError>;

    /// Closes lanes: they hand nothing out for a while. Closing longer wins.
    async fn close_lanes(&self, lanes: &[LaneClose]) -> Result<(), StoreError>;

    /// Opens lanes again, and lets them be looked at now.
    async fn open_lanes(&self, lanes: &[LaneNo]) -> Result<(), StoreError>;

    /// Ends waiting deliveries of a lane: [`END_STEP`] at most in a step, and of those that have records
    /// [`STEP_MAX`] (embedded: 1,000). Answers how many; zero: none is left. What is in a batch just
    /// then is not touched.
    async fn end_lane(&self, end: LaneEnd) -> Result<usize, StoreError>;

    /// Cancels one delivery.
    async fn cancel(&self, key: DeliveryKey, reason: EndReason) -> Result<Cancelled, StoreError>;

    /// Makes new deliveries of old ones, due now; answers in order.
    async fn replay(&self, replays: &[Replay]) -> Result<Vec<Replayed>, StoreError>;

    /// The store's present time, which create times and due times are of.
    async fn now(&self) -> Result<Timestamp, StoreError>;

    /// Returns when there may be something to claim, or after `at_most`.
    async fn wait(&self, at_most: Duration);
}
