//! Events and deliveries, as nodes handle them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pregon_core::attempt::AttemptRecord;
use pregon_core::clock::Timestamp;
use pregon_core::event::{Event, NewEvent};
use pregon_core::id::{DeliveryKey, LaneNo, NodeId, PartitionNo, Position, ReplayTag, TenantId};
use pregon_core::outcome::{DeliveryState, EndReason, PendingReason};

use crate::StoreError;

/// Events in one take, and successes in one settle.
pub const BATCH_MAX: usize = 256;
/// Deliveries that one step moves one by one: retries, cancels, replays.
pub const STEP_MAX: usize = 200;
/// Deliveries that one due call hands out of one lane, so that lanes take turns.
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

/// What settles in one step: results of many batches, their log, and lanes that close by them.
#[derive(Clone, Debug, Default)]
pub struct Settlement {
    /// Results, by batch.
    pub batches: Vec<BatchSettle>,
    /// The attempts behind them; they are logged even where the lease is gone, as late ones.
    pub attempts: Vec<(Token, AttemptRecord)>,
    /// Lanes that receivers asked to leave alone for a while.
    pub close: Vec<LaneClose>,
}

impl Settlement {
    /// Events and deliveries that move by themselves.
    pub fn items(&self) -> usize {
        self.batches.iter().map(|batch| batch.events.len() + batch.deliveries.len()).sum()
    }

    /// Cuts a settlement that the store does not take in two, to find out what it does not take: the
    /// first half of the items with the lanes to close, and the others, each with their attempts.
    /// None for a single item.
    pub fn halve(&self) -> Option<(Settlement, Settlement)> {
        let mut left = self.items() / 2;
        if left == 0 {
            return None;
        }
        let mut first = Settlement { close: self.close.clone(), ..Settlement::default() };
        let mut second = Settlement::default();
        for batch in &self.batches {
            let events = batch.events.len().min(left);
            left -= events;
            let deliveries = batch.deliveries.len().min(left);
            left -= deliveries;
            let part = |events: &[EventSettle], deliveries: &[DeliverySettle]| BatchSettle {
                token: batch.token,
                events: events.to_vec(),
                deliveries: deliveries.to_vec(),
            };
            for (half, part) in [
                (&mut first, part(&batch.events[..events], &batch.deliveries[..deliveries])),
                (&mut second, part(&batch.events[events..], &batch.deliveries[deliveries..])),
            ] {
                if !part.events.is_empty() || !part.deliveries.is_empty() {
                    half.batches.push(part);
                }
            }
        }
        let of_first: HashSet<(Token, Position)> =
            first.batches.iter().flat_map(BatchSettle::places).collect();
        for (token, record) in &self.attempts {
            let half = match of_first.contains(&(*token, record.key.position)) {
                true => &mut first,
                false => &mut second,
            };
            half.attempts.push((*token, record.clone()));
        }
        Some((first, second))
    }
}

/// Results of one batch. Items that are not named stay open.
#[derive(Clone, Debug)]
pub struct BatchSettle {
    /// Which batch.
    pub token: Token,
    /// Events that need the batch no more.
    pub events: Vec<EventSettle>,
    /// Deliveries of the batch that moved.
    pub deliveries: Vec<DeliverySettle>,
}

impl BatchSettle {
    /// The events that it speaks of, each with the batch.
    fn places(&self) -> impl Iterator<Item = (Token, Position)> + '_ {
        let events = self.events.iter().map(|event| event.position);
        let all = events.chain(self.deliveries.iter().map(|delivery| delivery.key.position));
        all.map(|position| (self.token, position))
    }

    /// Every delivery that it moves, those of its events included.
    pub fn moved(&self) -> impl Iterator<Item = &DeliverySettle> {
        let of_events = self.events.iter().flat_map(|event| match &event.outcome {
            EventOutcome::Matched(deliveries) | EventOutcome::FannedOut { deliveries, .. } => {
                deliveries.as_slice()
            }
            EventOutcome::Unmatched | EventOutcome::Postponed(_) | EventOutcome::SetAside => &[],
        });
        of_events.chain(&self.deliveries)
    }
}

/// What became of an event.
#[derive(Clone, Debug)]
pub struct EventSettle {
    /// Which.
    pub position: Position,
    /// For whom it was published.
    pub tenant: TenantId,
    /// What became of it.
    pub outcome: EventOutcome,
}

/// Where matching an event led.
#[derive(Clone, Debug)]
pub enum EventOutcome {
    /// Nobody wants it.
    Unmatched,
    /// It has these deliveries and no others; their keys have no replay tag.
    Matched(Vec<DeliverySettle>),
    /// One step of a large fan-out: these deliveries, in ascending order of lanes, go into their
    /// lanes. The event stays open until the step that says it is done.
    FannedOut {
        /// The step's deliveries.
        deliveries: Vec<DeliverySettle>,
        /// The last lane considered.
        cursor: LaneNo,
        /// All lanes were considered.
        done: bool,
    },
    /// It cannot be matched yet; look again after this long.
    Postponed(Duration),
    /// It cannot be decoded or matched at all: counted as unmatched, kept, and named in the log
    /// of the node.
    SetAside,
}

/// Where a delivery goes.
#[derive(Clone, Debug)]
pub struct DeliverySettle {
    /// Which.
    pub key: DeliveryKey,
    /// For whom its event was published.
    pub tenant: TenantId,
    /// Attempts counted so far, this one included.
    pub attempts: u32,
    /// For how long it has existed already, when this makes its record: since its event was matched.
    pub age: Duration,
    /// Where it goes.
    pub to: Transition,
}

/// The moves of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// Acknowledged.
    Succeeded,
    /// Given up.
    Failed(EndReason),
    /// Called off.
    Cancelled(EndReason),
    /// Tried again after this long.
    Retry(Duration),
    /// Back into its lane without an attempt, due as soon as the lane has room.
    Waiting(PendingReason),
    /// Back into its lane without an attempt, due after this long, however many wait there.
    Later(Duration, PendingReason),
    /// Still being attempted: gets a record of its own, in the same batch under the same lease.
    Held,
}

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

/// What a settle found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Batches whose lease was gone: nothing of them moved.
    pub lost: Vec<Token>,
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

    /// Ends waiting deliveries of a lane, [`STEP_MAX`] (embedded: 1,000) at most in a step;
    /// answers how many. Zero: none is left. What is in a batch just then is not touched.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn settlement(items: u64) -> Settlement {
        let token = |n| Token { incarnation: 1, sequence: n % 3 };
        let position = |n| Position { ms: 1, partition: 0, n };
        let mut settlement = Settlement::default();
        for batch in 0..3 {
            let numbers = (0..items).filter(|n| n % 3 == batch);
            let events = numbers.map(|n| EventSettle {
                position: position(n),
                tenant: TenantId::parse("t").unwrap(),
                outcome: EventOutcome::Unmatched,
            });
            let events = events.collect();
            let part = BatchSettle { token: token(batch), events, deliveries: Vec::new() };
            settlement.batches.push(part);
        }
        settlement
    }

    /// Every item is in one half, and halving on comes to single items.
    #[test]
    fn halves_hold_every_item_once() {
        let mut pieces = vec![settlement(10)];
        let mut single = Vec::new();
        while let Some(piece) = pieces.pop() {
            match piece.halve() {
                Some((a, b)) => {
                    assert_eq!(a.items() + b.items(), piece.items());
                    assert!(a.items() > 0 && b.items() > 0);
                    pieces.extend([a, b]);
                }
                None => single.push(piece),
            }
        }
        let mut numbers: Vec<_> = single
            .iter()
            .flat_map(|piece| &piece.batches)
            .flat_map(|batch| batch.events.iter().map(|event| event.position.n))
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..10).collect::<Vec<_>>());
    }
}
