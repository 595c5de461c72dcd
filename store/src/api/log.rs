//! What happened: events, deliveries, attempts, and whether the books balance.

use std::collections::BTreeMap;

use async_trait::async_trait;
use pregon_core::attempt::{AttemptRecord, End};
use pregon_core::clock::Timestamp;
use pregon_core::event::{Environment, Event};
use pregon_core::id::{
    DeliveryKey, EventName, EventTypeId, LaneNo, NodeId, Position, ReplayTag, TenantId,
};
use pregon_core::outcome::{DeliveryState, EndReason, PendingReason};

use crate::StoreError;

/// Where an event stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventStage {
    /// Nobody took it yet, or it was put off.
    Waiting,
    /// A node has it.
    Claimed(NodeId),
    /// Its time has not come.
    Scheduled,
    /// It was matched (perhaps with nobody).
    Matched,
    /// It was called off before its time came: nobody gets it.
    Cancelled,
}

impl EventStage {
    /// Whether it will not be matched any more.
    pub fn is_settled(&self) -> bool {
        match self {
            EventStage::Waiting | EventStage::Claimed(_) | EventStage::Scheduled => false,
            EventStage::Matched | EventStage::Cancelled => true,
        }
    }
}

/// Which events to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct EventQuery {
    /// Only this tenant's; none: all.
    pub tenant: Option<TenantId>,
    /// Only of this type.
    pub event_type: Option<EventTypeId>,
    /// Only of this environment.
    pub environment: Option<Environment>,
    /// Accepted at or after this.
    pub from: Option<Timestamp>,
    /// Accepted before this.
    pub to: Option<Timestamp>,
    /// Only those that nobody wanted, or that were called off.
    pub unmatched_only: bool,
    /// Only those whose time has not come.
    pub scheduled_only: bool,
}

/// Which deliveries to list, newest event first.
#[derive(Clone, Debug, Default)]
pub struct DeliveryQuery {
    /// Only this tenant's; none: all.
    pub tenant: Option<TenantId>,
    /// Only of the event at this place.
    pub event: Option<Position>,
    /// Only of this lane.
    pub lane: Option<LaneNo>,
    /// Only of events of this type.
    pub event_type: Option<EventTypeId>,
    /// Only in this state.
    pub state: Option<DeliveryState>,
    /// Only ended for this reason.
    pub end_reason: Option<EndReason>,
    /// Event accepted at or after this.
    pub from: Option<Timestamp>,
    /// Event accepted before this.
    pub to: Option<Timestamp>,
}

/// Where a page of events ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Most {
    /// With so many of them.
    pub items: usize,
    /// With so many bytes of their data and attributes.
    pub bytes: usize,
}

impl Most {
    /// So many, whatever their size.
    pub fn items(items: usize) -> Self {
        Self { items, bytes: usize::MAX }
    }

    /// Whether a page with so much is full. A page with one event may be.
    pub(crate) fn is_reached(self, items: usize, bytes: usize) -> bool {
        items >= self.items.max(1) || bytes >= self.bytes
    }
}

/// One page, and where the next begins. A page may be short or empty while there is a next one:
/// the work of a call is bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// What was found.
    pub items: Vec<T>,
    /// Opaque place of the next page; none: this was the last.
    pub next: Option<String>,
}

/// Replays that a delivery names at most.
pub const REPLAYS_NAMED: usize = 100;

/// A delivery as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRecord {
    /// Which.
    pub key: DeliveryKey,
    /// Its event, without having to ask again; without data in a list.
    pub event: Event,
    /// Its state.
    pub state: DeliveryState,
    /// What it waits for, while pending.
    pub pending_reason: Option<PendingReason>,
    /// Why it ended, where the state alone does not say.
    pub end_reason: Option<EndReason>,
    /// Attempts counted so far.
    pub attempts: u32,
    /// When the next attempt is due, while it waits for one.
    pub next_attempt: Option<Timestamp>,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it ended.
    pub end_time: Option<Timestamp>,
    /// The node that attempts it just now.
    pub node: Option<NodeId>,
    /// Its replays, the latest first, [`REPLAYS_NAMED`] at most. A replay has none itself; a watch
    /// does not look for them.
    pub replays: Vec<ReplayTag>,
}

impl DeliveryRecord {
    /// Its end, if it has ended.
    pub fn end(&self) -> Option<End> {
        (self.state != DeliveryState::Pending)
            .then_some(End { state: self.state, reason: self.end_reason })
    }
}

/// The books of a tenant, or of all. Two sums must hold at any time:
/// accepted = matched + unmatched + waiting, and created = succeeded + failed + cancelled +
/// pending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Events accepted.
    pub accepted: u64,
    /// Events that were matched with at least one subscription.
    pub matched: u64,
    /// Events that nobody wanted, or that were called off.
    pub unmatched: u64,
    /// Of those, events that were called off before their time came.
    pub called_off: u64,
    /// Events still to be matched, counted where they lie.
    pub waiting: u64,
    /// Of those, events whose time has not come, or that a node matches since it has.
    pub scheduled: u64,
    /// Deliveries created.
    pub created: u64,
    /// Deliveries acknowledged.
    pub succeeded: u64,
    /// Deliveries given up.
    pub failed: u64,
    /// Deliveries called off.
    pub cancelled: u64,
    /// Deliveries still to be made, counted where they lie.
    pub pending: u64,
}

impl Books {
    /// Whether both sums hold.
    pub fn balance(&self) -> bool {
        self.accepted == self.matched + self.unmatched + self.waiting
            && self.called_off <= self.unmatched
            && self.scheduled <= self.waiting
            && self.created == self.succeeded + self.failed + self.cancelled + self.pending
    }
}

impl std::ops::AddAssign for Books {
    fn add_assign(&mut self, other: Self) {
        let Self {
            accepted,
            matched,
            unmatched,
            called_off,
            waiting,
            scheduled,
            created,
            succeeded,
            failed,
            cancelled,
            pending,
        } = other;
        self.accepted += accepted;
        self.matched += matched;
        self.unmatched += unmatched;
        self.called_off += called_off;
        self.waiting += waiting;
        self.scheduled += scheduled;
        self.created += created;
        self.succeeded += succeeded;
        self.failed += failed;
        self.cancelled += cancelled;
        self.pending += pending;
    }
}

/// Orphans that an audit names at most.
pub const ORPHANS_MAX: usize = 1000;

/// Something that the structure holds and nothing leads to, or the reverse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// What it is, as in `delivery` or `lane`.
    pub kind: &'static str,
    /// Which one.
    pub name: String,
    /// What is wrong with it.
    pub detail: String,
}

/// What happened.
#[async_trait]
pub trait DeliveryLog: Send + Sync {
    /// The place of an event; none: never accepted, or no longer kept.
    async fn find(&self, name: &EventName) -> Result<Option<Position>, StoreError>;

    /// An event and where it stands.
    async fn event(&self, position: Position) -> Result<Option<(Event, EventStage)>, StoreError>;

    /// Events, newest first, from the place that an earlier page gave. The page ends with the
    /// event that reaches one of the bounds.
    async fn events(
        &self,
        query: &EventQuery,
        from: Option<&str>,
        most: Most,
    ) -> Result<Page<Event>, StoreError>;

    /// A delivery. One of an event that is still being matched is not recorded yet.
    async fn delivery(&self, key: DeliveryKey) -> Result<Option<DeliveryRecord>, StoreError>;

    /// Deliveries, newest event first, from the place that an earlier page gave. Their events are
    /// without data.
    async fn deliveries(
        &self,
        query: &DeliveryQuery,
        from: Option<&str>,
        limit: usize,
    ) -> Result<Page<DeliveryRecord>, StoreError>;

    /// All that is logged of a delivery, oldest first.
    async fn attempts(&self, key: DeliveryKey) -> Result<Vec<AttemptRecord>, StoreError>;

    /// All that is logged of an event's deliveries, each oldest first: each chunk of the log that
    /// tells of it is read once.
    async fn event_attempts(
        &self,
        position: Position,
    ) -> Result<BTreeMap<DeliveryKey, Vec<AttemptRecord>>, StoreError>;

    /// The books of one tenant, or of all, in one moment; `waiting` and `pending` are counted in
    /// the structure, so that the sums can fail.
    async fn books(&self, tenant: Option<&TenantId>) -> Result<Books, StoreError>;

    /// Walks the structure from its roots and names what does not fit: 100 of a partition at most, and
    /// [`ORPHANS_MAX`] of all.
    async fn audit(&self) -> Result<Vec<Orphan>, StoreError>;
}
