//! What a node does with what it claimed: a machine without I/O.
//!
//! Batches, results, snapshots and the passing of time go in; attempts to start, lanes to close or
//! empty, and settlements come out. The loop around it ([`super::Driver`]) only awaits.
//!
//! An event of a batch is matched once, against the snapshot of that moment. Its deliveries are
//! attempted from memory, and when the last one has somewhere to go the event is settled as a
//! whole. An event that is still open [`SPLIT_AFTER`] the first of them was attempted or moved is
//! split: what ended is settled, what is open gets a record of its own under the same lease. So a
//! slow receiver holds nobody else's result, and a crash repeats what was in flight and little more.
//! An event of which nothing was touched waits as it is: that costs nothing, and a crash repeats
//! nothing of it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use pregon_core::attempt::AttemptRecord;
use pregon_core::event::Event;
use pregon_core::id::{LaneNo, NodeId, PartitionNo, SubscriptionName};
use pregon_core::limits;
use pregon_core::rate::HostRates;
use pregon_store::batch::{Batch, LaneClose, Token};
use pregon_store::operate::LaneEnd;
use pregon_store::settlement::{DeliverySettle, FilterError};
use pregon_store::work::{BATCH_MAX, Due, DueRequest, SUSPECT_AT};
use pregon_telemetry::Telemetry;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::disable::Note;
use super::job::{Job, Place};
use super::lane::Means;
use super::lanes::{Lanes, WAITING_MAX};
use super::ledger::{LEDGER_MAX, Ledger};
use super::matcher::Question;
use super::rate::Rates;
use crate::snapshot::{Lane, Snapshot};

mod breaking;
mod change;
mod intake;
mod matching;
mod rated;
mod records;
mod results;
mod tick;

#[cfg(test)]
mod tests;

use matching::Queues;

/// How long after the first of its deliveries was attempted or moved an event is split that is
/// still open.
pub(super) const SPLIT_AFTER: Duration = Duration::from_secs(1);
/// How long a paused lane stays closed in the store before a node looks at it again.
const PAUSE_PROBE: Duration = Duration::from_secs(60);
/// How long it may take until a lane that an operator opened is open in the store, too.
const OPENING: Duration = Duration::from_secs(5);
/// How soon an event is looked at again that waits for configuration.
const REVISION_PROBE: Duration = Duration::from_millis(100);
/// Deliveries that may wait in memory for this node before new events are left in the queue: some
/// tens of milliseconds of work. What waits for receivers does not count: nobody waits for them.
const AHEAD: usize = 2048;
/// One subscription, in the average of subscriptions that an event has.
const ONE: usize = 1024;
/// Events that this average remembers, about.
const FAN_OUT_OF: usize = 64;
/// How long a suspect is the only one in hand: what kills a node does so when it is attempted.
const TRIAL: Duration = Duration::from_secs(1);
/// How long a delivery is held back that node after node went down with: long enough for somebody
/// to see it and cancel it, short enough for a receiver that only was unlucky.
pub(super) const SUSPECT_HOLD: Duration = Duration::from_secs(600);
/// Lanes that one due call pulls; an engine looks at no more.
const PULL_MAX: usize = 256;
/// A lane without work is forgotten after this long.
const LANE_KEPT: Duration = Duration::from_secs(60);

/// Bounds of one node.
#[derive(Clone, Copy, Debug)]
pub struct WorkerLimits {
    /// Attempts in flight at most.
    pub max_in_flight: usize,
    /// Bytes that attempts in flight hold at most: of each the event and the body made of it, which
    /// is taken to be as large. The one that reaches it is started.
    pub max_in_flight_bytes: usize,
    /// Events and deliveries under lease at most.
    pub max_claimed: usize,
    /// After how long of nothing but failures a subscription is disabled; none: never.
    pub disable_after: Option<Duration>,
}

impl Default for WorkerLimits {
    fn default() -> Self {
        // In flight: a connection each, and most are idle receivers' patience. Claimed: what may
        // wait in memory, and a few takes more.
        Self {
            max_in_flight: 4096,
            max_in_flight_bytes: limits::IN_FLIGHT_BYTES_DEFAULT,
            max_claimed: WAITING_MAX + 4096,
            disable_after: Some(limits::DISABLE_AFTER_DEFAULT),
        }
    }
}

/// What the loop is asked to do.
#[derive(Debug)]
pub(super) enum Effect {
    /// Make this attempt.
    Start(Job),
    /// Match this event off the loop.
    Match(Question),
    /// End what waits in a lane, step by step.
    EndLane(LaneEnd),
    /// The same, of what is as old by the store's clock; of what is there by its present time, where
    /// that is nothing: what comes after may be meant to be delivered.
    EndLaneOlder(LaneEnd, Duration),
    /// Close a lane in the store.
    CloseLane(LaneClose),
    /// Open a lane in the store.
    OpenLane(LaneNo),
    /// Write down what attempts say of a subscription's receiver.
    Note(SubscriptionName, Note),
}

/// One item of a batch.
#[derive(Debug)]
enum Item {
    /// An event whose deliveries are attempted from memory.
    Event {
        event: Arc<Event>,
        done: Vec<DeliverySettle>,
        records: Vec<Arc<AttemptRecord>>,
        /// Lanes whose delivery is in flight or waits in memory.
        open: Vec<Arc<Lane>>,
        /// When the first of its deliveries was attempted or moved.
        touched: Option<Instant>,
        /// Filters that had no answer for it.
        filter_errors: Vec<FilterError>,
    },
    /// An event that is being matched off the loop.
    Matching,
    /// Its results are settled one by one, or there is nothing more to come.
    Apart,
}

/// A batch under lease.
#[derive(Debug)]
struct Work {
    items: Vec<Item>,
    /// Events not settled and deliveries not settled.
    open: usize,
    taken: Instant,
    lease_until: Instant,
    /// When its events are looked at next for one to be split.
    look: Instant,
    suspect: bool,
}

impl Work {
    fn new(batch: &Batch, now: Instant, lease: Duration) -> Self {
        Self {
            items: Vec::new(),
            open: batch.len(),
            taken: now,
            lease_until: now + lease,
            look: now + SPLIT_AFTER,
            suspect: batch.takes >= SUSPECT_AT,
        }
    }
}

/// The machine.
#[derive(Debug)]
pub(super) struct Dispatcher {
    node: NodeId,
    lease: Duration,
    limits: WorkerLimits,
    snapshot: Arc<Snapshot>,
    lanes: Lanes,
    /// How fast they may start attempts.
    rates: Rates,
    /// Lanes in which enough waits for a request.
    ripe: BTreeSet<LaneNo>,
    /// When lanes are looked at next for what waits too long.
    look: Instant,
    /// When idle lanes are forgotten next.
    forget: Instant,
    /// Subscriptions that an event has, on average, in parts of [`ONE`].
    fan_out: usize,
    work: HashMap<Token, Work>,
    ledger: Ledger,
    effects: Vec<Effect>,
    chance: StdRng,
    in_flight: usize,
    /// Bytes that they hold.
    in_flight_bytes: usize,
    claimed: usize,
    draining: bool,
    /// The lane that was pulled last.
    pulled: LaneNo,
    /// Events that are matched off the loop, by tenant.
    matching: Queues,
    /// When lanes are looked at whose breakers let a probe out.
    probes: BTreeSet<(Instant, LaneNo)>,
    /// When something was last to be noted of whose receiver, and whether it was that it is well: nobody
    /// asks again at once.
    noted: HashMap<LaneNo, (Instant, bool)>,
    /// A sink and nothing else: what is reported decides nothing.
    telemetry: Telemetry,
}

impl Dispatcher {
    /// A machine that serves `snapshot`. `seed` decides the jitter.
    pub(super) fn new(
        node: NodeId,
        lease: Duration,
        limits: WorkerLimits,
        snapshot: Arc<Snapshot>,
        seed: u64,
        telemetry: Telemetry,
    ) -> Self {
        Self {
            node,
            lease,
            limits,
            snapshot,
            lanes: Lanes::default(),
            rates: Rates::default(),
            ripe: BTreeSet::new(),
            look: Instant::now(),
            forget: Instant::now(),
            fan_out: ONE,
            work: HashMap::new(),
            ledger: Ledger::default(),
            effects: Vec::new(),
            chance: StdRng::seed_from_u64(seed),
            in_flight: 0,
            in_flight_bytes: 0,
            claimed: 0,
            draining: false,
            pulled: LaneNo::default(),
            matching: Queues::default(),
            probes: BTreeSet::new(),
            noted: HashMap::new(),
            telemetry,
        }
    }

    /// The same under these rates of hosts.
    pub(super) fn under(mut self, hosts: Arc<HostRates>) -> Self {
        self.rates = Rates::new(hosts);
        self
    }

    /// Attempts in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Events and deliveries under lease.
    pub(super) fn claimed(&self) -> usize {
        self.claimed
    }

    /// Whether the node is going down.
    pub(super) fn draining(&self) -> bool {
        self.draining
    }

    /// Lanes with work here.
    pub(super) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// What the loop has to do now.
    pub(super) fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// New events that takes may bring: what there is room for. None while the configuration cannot
    /// be read whole.
    pub(super) fn room(&self) -> usize {
        let events = (self.places() * ONE).div_ceil(self.fan_out);
        events.min(self.limits.max_claimed.saturating_sub(self.claimed))
    }

    /// Whether the store needs a master key that is not here: others have it, and can do the work.
    pub(super) fn lacks_keys(&self) -> bool {
        !self.snapshot.gaps().keys.is_empty()
    }

    /// Deliveries that there are places for.
    fn places(&self) -> usize {
        let behind = self.ledger.len() >= LEDGER_MAX;
        let partial = self.snapshot.gaps().stop();
        if self.draining || behind || partial || self.is_full() {
            return 0;
        }
        AHEAD.saturating_sub(self.lanes.ahead())
    }

    /// So many subscriptions an event had.
    fn note_fan_out(&mut self, lanes: usize) {
        let sum = self.fan_out * (FAN_OUT_OF - 1) + lanes.max(1) * ONE;
        self.fan_out = sum.div_ceil(FAN_OUT_OF);
    }

    /// Suspects that may be taken over now: one, and none while one is on trial here.
    pub(super) fn suspects(&self, now: Instant) -> usize {
        let on_trial = |work: &Work| work.suspect && work.open > 0 && now < work.taken + TRIAL;
        usize::from(!self.work.values().any(on_trial))
    }

    /// Partitions in which deliveries wait for lanes that have free slots.
    pub(super) fn wanted(&mut self, now: Instant) -> BTreeSet<PartitionNo> {
        if self.draining || self.room() == 0 {
            return BTreeSet::new();
        }
        let means = self.means();
        let Self { lanes, rates, snapshot, .. } = self;
        let free = lanes
            .stored()
            .filter(|(no, lane)| lane.credit(now, rates.means(means, snapshot.lane(*no), now)) > 0);
        free.flat_map(|(_, lane)| lane.stored()).collect()
    }

    /// Which due deliveries of a partition there is use for. Where a lane has deliveries in several
    /// partitions, each is offered its share of the credit, and one at least.
    pub(super) fn due_request(&mut self, partition: PartitionNo, now: Instant) -> DueRequest {
        let means = self.means();
        let claimable = self.limits.max_claimed.saturating_sub(self.claimed);
        let mut request = DueRequest {
            want: self.places().min(claimable).min(BATCH_MAX),
            default_slots: if means.tight { 2 } else { limits::CONCURRENCY_START },
            ..DueRequest::default()
        };
        for (no, lane) in self.lanes.all() {
            let stored = lane.stored_in(partition);
            let others = lane.stored().len() - usize::from(stored);
            let shares = u32::try_from(others + 1).unwrap_or(u32::MAX);
            let means = self.rates.means(means, self.snapshot.lane(no), now);
            let slots = lane.credit(now, means).div_ceil(shares);
            request.slots.insert(no, slots);
            if slots > 0 && stored {
                request.pull.push(no);
            }
        }
        // In turns, where more lanes want a look than one call takes.
        request.pull.sort_unstable();
        let turn = request.pull.partition_point(|no| *no <= self.pulled);
        request.pull.rotate_left(turn);
        request.pull.truncate(PULL_MAX);
        self.pulled = request.pull.last().copied().unwrap_or_default();
        request.slots.insert(LaneNo::EVENTS, u32::try_from(request.want).unwrap_or(u32::MAX));
        request
    }

    /// Learns from what a due call of the moment `asked` answered which lanes have nothing more in the
    /// partition that is due, and which may have: those that filled the slots they were given.
    pub(super) fn on_due(
        &mut self,
        partition: PartitionNo,
        request: &DueRequest,
        due: &Due,
        (asked, now): (Instant, Instant),
    ) {
        let batch = due.batch.as_ref();
        let mut got: HashMap<LaneNo, u32> = HashMap::new();
        for delivery in batch.into_iter().flat_map(|batch| &batch.deliveries) {
            *got.entry(delivery.key.lane).or_default() += 1;
        }
        // Each lane was looked into until it had no more, or no more slots.
        let whole = !due.more && batch.is_none_or(|batch| batch.len() < request.want);
        for no in request.pull.iter().filter(|no| whole && !got.contains_key(no)) {
            self.lanes.change_known(*no, now, |flow| flow.found_none(partition, asked));
        }
        for (no, count) in &got {
            let slots = request.slots.get(no).copied().unwrap_or(request.default_slots);
            let more = !whole || *count >= slots;
            let Some(lane) = self.snapshot.lane(*no).cloned() else { continue };
            self.lanes.change(&lane, now, |flow| match more {
                true => flow.note_stored(partition, now),
                false => flow.found_none(partition, asked),
            });
        }
    }

    /// Whether the snapshot has the lanes of all deliveries of a batch.
    pub(super) fn knows_lanes_of(&self, batch: &Batch) -> bool {
        batch.deliveries.iter().all(|held| self.snapshot.lane(held.key.lane).is_some())
    }

    /// What there is for a lane.
    fn means_of(&mut self, lane: LaneNo, now: Instant) -> Means {
        let means = self.means();
        self.rates.means(means, self.snapshot.lane(lane), now)
    }

    fn means(&self) -> Means {
        let limits = &self.limits;
        let tight = self.in_flight > limits.max_in_flight / 2
            || self.in_flight_bytes > limits.max_in_flight_bytes / 2;
        self.lanes.means(tight, self.is_full())
    }

    /// Whether nothing more may be started.
    fn is_full(&self) -> bool {
        self.in_flight >= self.limits.max_in_flight
            || self.in_flight_bytes >= self.limits.max_in_flight_bytes
    }

    /// One more item of a batch has somewhere to go.
    fn close_items(&mut self, token: Token, count: usize) {
        self.claimed = self.claimed.saturating_sub(count);
        if let Some(work) = self.work.get_mut(&token) {
            work.open = work.open.saturating_sub(count);
        }
    }
}
