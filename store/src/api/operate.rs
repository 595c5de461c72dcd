//! What an operator does to tenants, lanes and single deliveries.

use async_trait::async_trait;
use pregon_core::clock::Timestamp;
use pregon_core::event::Erasure;
use pregon_core::id::{DeliveryKey, LaneNo, Position, ReplayTag, TenantId};
use pregon_core::outcome::{DeliveryState, EndReason};

use crate::StoreError;
use crate::batch::LaneClose;
use crate::erase::{Erase, ErasePlace, Erased, EventErased, Stripped};

/// Deliveries that one step of [`Operate::end_lane`] ends at most: what waits unattempted is ended many at
/// a time.
pub const END_STEP: usize = 65_536;
/// Deliveries that one step moves one by one: retries, cancels, replays, and those it makes.
pub const STEP_MAX: usize = 200;

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

/// What became of calling an event off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventCancelled {
    /// No such event is kept.
    Unknown,
    /// It is called off, now or since before.
    Done,
    /// No node put it on its schedule yet, or one matches it just now. The first takes milliseconds.
    InHand,
    /// It was matched, or is to be as soon as can be.
    Over,
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
    /// The event is no longer kept, or was erased.
    EventGone,
}

/// What became of a waiting delivery that was to be tried at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// Its time has come.
    Done,
    /// Its time had come already: it waits for a node, a slot, or its lane to open.
    Due,
    /// It is being attempted, or about to be.
    InFlight,
    /// It is held back, because nodes went down with it in hand, and stays so.
    HeldBack,
    /// It has ended, or there is none.
    NotPending,
}

/// A delivery that an event may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Which event.
    pub position: Position,
    /// To which lane.
    pub lane: LaneNo,
}

/// What became of a missing delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// It waits in its lane now; where nothing was to be made, it is missing.
    Created(DeliveryKey),
    /// It is not missing: the event has one to this lane, in whatever state.
    Existed,
    /// The event is still to be matched, which may make it.
    NotMatched,
    /// The event was erased, or is kept no more, or of its history a part only: what became of it is
    /// not known any more.
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

/// What operators are given, and nodes that carry out what an operator's configuration asks for.
/// Every step is atomic and bounded, and safe to repeat after an unknown outcome.
#[async_trait]
pub trait Operate: Send + Sync {
    /// Cancels one delivery.
    async fn cancel(&self, key: DeliveryKey, reason: EndReason) -> Result<Cancelled, StoreError>;

    /// Calls an event off whose time has not come: it is never matched, and counts as unmatched.
    async fn cancel_event(&self, position: Position) -> Result<EventCancelled, StoreError>;

    /// Makes new deliveries of old ones, due now; answers in order.
    async fn replay(&self, replays: &[Replay]) -> Result<Vec<Replayed>, StoreError>;

    /// Makes deliveries, due now, of matched events that have none to a lane, [`STEP_MAX`] at most;
    /// answers in order. Makes none of an event whose delivery to the lane was ever recorded,
    /// however often and by however many it is called. Where `make` is not set, it only says what
    /// it would do.
    async fn fill(&self, missing: &[Missing], make: bool) -> Result<Vec<Filled>, StoreError>;

    /// Makes waiting deliveries due now, [`STEP_MAX`] at most, and leaves their attempts as they
    /// are; answers in order. A closed lane stays closed.
    async fn bring_forward(&self, keys: &[DeliveryKey]) -> Result<Vec<Forwarded>, StoreError>;

    /// Ends waiting deliveries of a lane: [`END_STEP`] at most in a step, and of those that have records
    /// [`STEP_MAX`] (embedded: 1,000). Answers how many; zero: none is left. What is in a batch just
    /// then is not touched.
    async fn end_lane(&self, end: LaneEnd) -> Result<usize, StoreError>;

    /// Closes lanes: they hand nothing out for a while. Closing longer wins.
    async fn close_lanes(&self, lanes: &[LaneClose]) -> Result<(), StoreError>;

    /// Opens lanes again, and lets them be looked at now.
    async fn open_lanes(&self, lanes: &[LaneNo]) -> Result<(), StoreError>;

    /// Begins a tenant's counters anew, for another tenant of the same name, unless something of the
    /// earlier one is outstanding.
    async fn supersede(&self, tenant: &TenantId) -> Result<Former, StoreError>;

    /// Erases some of what a tenant left, from a place on: one bounded step, which may be repeated.
    async fn erase(&self, erase: &Erase, from: ErasePlace) -> Result<Erased, StoreError>;

    /// Puts a tombstone in the place of an event of which nothing is pending.
    async fn erase_event(
        &self,
        position: Position,
        erasure: &Erasure,
    ) -> Result<EventErased, StoreError>;

    /// Takes answers and headers out of what is logged of an event's attempts, from a place on (0 at
    /// first): one bounded step, which may be repeated.
    async fn strip_attempts(&self, position: Position, from: u64) -> Result<Stripped, StoreError>;

    /// The store's present time, which create times and due times are of.
    async fn now(&self) -> Result<Timestamp, StoreError>;
}
