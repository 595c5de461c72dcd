//! What a node does with what it claimed: a machine without I/O.
//!
//! Batches, results, snapshots and the passing of time go in; attempts to start, lanes to close or
//! empty, and settlements come out. The loop around it ([`super::Worker`]) only awaits.
//!
//! An event of a batch is matched once, against the snapshot of that moment. Its deliveries are
//! attempted from memory, and when the last one has somewhere to go the event is settled as a
//! whole. An event that is still open after [`SPLIT_AFTER`] is split: what ended is settled, what
//! is in flight gets a record of its own under the same lease. So a slow receiver holds nobody
//! else's result, and a crash repeats what was in flight and little more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pregon_core::attempt::AttemptRecord;
use pregon_core::event::Event;
use pregon_core::id::{LaneNo, NodeId, SubscriptionName};
use pregon_core::limits;
use pregon_store::queue::{
    BATCH_MAX, Batch, DeliverySettle, DueRequest, LANE_QUANTUM, LaneClose, LaneEnd, Token,
};
use pregon_telemetry::Telemetry;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::job::{Job, Place};
use super::lane::LaneFlow;
use super::ledger::{LEDGER_MAX, Ledger};
use crate::snapshot::{Lane, Snapshot};

mod change;
mod intake;
mod results;
mod tick;

#[cfg(test)]
mod tests;

/// An event that is open for longer than this is split.
pub(super) const SPLIT_AFTER: Duration = Duration::from_secs(1);
/// How long a paused lane stays closed in the store before a node looks at it again.
const PAUSE_PROBE: Duration = Duration::from_secs(60);
/// How soon an event is looked at again that waits for configuration.
const REVISION_PROBE: Duration = Duration::from_millis(100);
/// Deliveries that may wait in memory for fast receivers before new events are left in the queue.
/// There they cost nothing, and their turn comes within milliseconds; taken, they would overflow
/// into the lanes of the store. Slow receivers do not count: nobody waits for them.
const AHEAD: usize = 512;
/// A lane without work is forgotten after this long.
const LANE_KEPT: Duration = Duration::from_secs(60);

/// Bounds of one node.
#[derive(Clone, Copy, Debug)]
pub struct WorkerLimits {
    /// Attempts in flight at most.
    pub max_in_flight: usize,
    /// Events and deliveries under lease at most.
    pub max_claimed: usize,
}

impl Default for WorkerLimits {
    fn default() -> Self {
        // In flight: a connection each, and most are idle receivers' patience. Claimed: a few
        // takes ahead of the attempts; events are split after a second, so they do not pile up.
        Self { max_in_flight: 4096, max_claimed: 6144 }
    }
}

/// What the loop is asked to do.
#[derive(Debug)]
pub(super) enum Effect {
    /// Make this attempt.
    Start(Job),
    /// End what waits in a lane, step by step.
    EndLane(LaneEnd),
    /// Close a lane in the store.
    CloseLane(LaneClose),
    /// Open a lane in the store.
    OpenLane(LaneNo),
    /// A receiver said that it is gone for good: disable its subscription.
    Disable(SubscriptionName, u16),
}

/// One item of a batch.
#[derive(Debug)]
enum Item {
    /// An event whose deliveries are attempted from memory.
    Event {
        event: Arc<Event>,
        done: Vec<DeliverySettle>,
        records: Vec<AttemptRecord>,
        /// Lanes whose delivery is in flight or waits in memory.
        open: Vec<Arc<Lane>>,
    },
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
    split: bool,
}

impl Work {
    fn new(open: usize, now: Instant, lease: Duration) -> Self {
        Self { items: Vec::new(), open, taken: now, lease_until: now + lease, split: false }
    }
}

/// The machine.
#[derive(Debug)]
pub(super) struct Dispatcher {
    node: NodeId,
    lease: Duration,
    limits: WorkerLimits,
    snapshot: Arc<Snapshot>,
    lanes: HashMap<LaneNo, LaneFlow<Job>>,
    work: HashMap<Token, Work>,
    ledger: Ledger,
    effects: Vec<Effect>,
    chance: StdRng,
    in_flight: usize,
    claimed: usize,
    draining: bool,
    /// A sink and nothing else: what is told decides nothing.
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
            lanes: HashMap::new(),
            work: HashMap::new(),
            ledger: Ledger::default(),
            effects: Vec::new(),
            chance: StdRng::seed_from_u64(seed),
            in_flight: 0,
            claimed: 0,
            draining: false,
            telemetry,
        }
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

    /// Of the lanes with work here, how many are closed at their receivers' wish, and how many
    /// are paused.
    pub(super) fn shut(&self, now: Instant) -> (usize, usize) {
        let mut shut = (0, 0);
        for (no, flow) in &self.lanes {
            if self.snapshot.lane(*no).is_some_and(|lane| lane.holds()) {
                shut.1 += 1;
            } else if flow.closed(now) {
                shut.0 += 1;
            }
        }
        shut
    }

    /// What the loop has to do now.
    pub(super) fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// New events that one take may bring: what there is room for, and a batch at most.
    pub(super) fn room(&self) -> usize {
        let behind = self.ledger.len() >= LEDGER_MAX;
        if self.draining || behind || self.in_flight >= self.limits.max_in_flight {
            return 0;
        }
        let waiting: usize = self.lanes.values().map(LaneFlow::waiting_fast).sum();
        let claimable = self.limits.max_claimed.saturating_sub(self.claimed);
        claimable.min(BATCH_MAX).min(AHEAD.saturating_sub(waiting))
    }

    /// Whether lanes with free slots have deliveries waiting in the store.
    pub(super) fn wants_stored(&self, now: Instant) -> bool {
        !self.draining
            && self.room() > 0
            && self
                .lanes
                .values()
                .any(|lane| lane.stored() && lane.free_slots(now, self.tight()) > 0)
    }

    /// Which due deliveries there are slots for.
    pub(super) fn due_request(&self, now: Instant) -> DueRequest {
        let tight = self.tight();
        let free = self.limits.max_in_flight.saturating_sub(self.in_flight);
        let mut request = DueRequest {
            want: self.room().min(free),
            default_slots: if tight { 2 } else { limits::CONCURRENCY_START },
            ..DueRequest::default()
        };
        for (no, lane) in &self.lanes {
            let slots = lane.free_slots(now, tight);
            request.slots.insert(*no, slots);
            if slots > 0 && lane.stored() {
                request.pull.push(*no);
            }
        }
        request.slots.insert(LaneNo::EVENTS, u32::try_from(request.want).unwrap_or(u32::MAX));
        request
    }

    /// Learns from what a due call answered which lanes have nothing more that is due.
    pub(super) fn on_due(&mut self, request: &DueRequest, batch: Option<&Batch>) {
        let mut got: HashMap<LaneNo, u32> = HashMap::new();
        for delivery in batch.into_iter().flat_map(|batch| &batch.deliveries) {
            *got.entry(delivery.key.lane).or_default() += 1;
        }
        for no in &request.pull {
            let slots = request.slots.get(no).copied().unwrap_or(0);
            let quantum = u32::try_from(LANE_QUANTUM).unwrap_or(u32::MAX);
            let whole = got.values().sum::<u32>() < u32::try_from(request.want).unwrap_or(u32::MAX);
            if whole
                && got.get(no).copied().unwrap_or(0) < slots.min(quantum)
                && let Some(lane) = self.lanes.get_mut(no)
            {
                lane.set_stored(false);
            }
        }
    }

    /// Whether the snapshot has the lanes of all deliveries of a batch.
    pub(super) fn knows_lanes_of(&self, batch: &Batch) -> bool {
        batch.deliveries.iter().all(|held| self.snapshot.lane(held.key.lane).is_some())
    }

    fn tight(&self) -> bool {
        self.in_flight > self.limits.max_in_flight / 2
    }

    /// One more item of a batch has somewhere to go.
    fn close_items(&mut self, token: Token, count: usize) {
        self.claimed = self.claimed.saturating_sub(count);
        if let Some(work) = self.work.get_mut(&token) {
            work.open = work.open.saturating_sub(count);
        }
    }

    /// The lane's flow, made when the lane is first met.
    fn flow(&mut self, lane: &Lane, now: Instant) -> &mut LaneFlow<Job> {
        self.lanes.entry(lane.lane).or_insert_with(|| LaneFlow::new(lane.max_concurrency, now))
    }
}
