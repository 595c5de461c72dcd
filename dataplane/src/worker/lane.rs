//! A lane's way out of this node: how many attempts it may have in flight, what may wait for a slot
//! in memory, and what goes into the store instead.
//!
//! Signals:
//! - The receiver's time: from the first byte of a request to the head of its answer. What this
//!   node takes before and after is not in it, so a busy node does not look like a slow receiver.
//! - Timeouts.
//! - Progress: when an attempt last ended.
//!
//! Slots: a lane starts with few, gets one more with each success while all are used, and half of
//! them after a timeout. So a receiver is asked for what it bears.
//!
//! Waiting in memory: a delivery that finds no slot waits here, for as long as the receiver's pace
//! says that its turn comes within the node's patience ([`Means::patience`]). A delivery that was
//! not attempted costs nothing but its place, and its event stays under the lease of its batch. The
//! patience is long while memory is free, and short when it is not.
//!
//! Overflow: what would wait for longer goes into the lane in the store. That is so when
//! - the lane makes no progress: what waited here goes, too, and a receiver that hangs keeps its few
//!   slots, no memory and nobody else's delivery;
//! - more waits than the patience allows.
//!
//! Recovery: deliveries come back out of the store ahead of free slots, for what the receiver
//! answers within [`PATIENCE`], so that a lane drains at the receiver's pace and not at the store's.
//! What the receiver's [breaker](super::breaker) holds back waits, too.
//! While some wait there, new ones get half of the slots and of the places here: those that waited
//! longer go on, and what is new does not have to be stored as long as the lane keeps up.
//!
//! Rates ([`super::rate`]): an attempt starts only where they let it pass, and no more waits here,
//! and is fetched, than they let pass in the time that it may wait. What waits for a rate waits for
//! no slot and not for this node.
//!
//! Who can starve whom: what waits for receivers that are slower than this node does not count
//! against taking new events ([`LaneFlow::ahead`]), so nobody waits for another's receiver; what
//! waits for the node itself does, so it takes no more than it can work on.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use pregon_core::contract::Batch;
use pregon_core::id::PartitionNo;
use pregon_core::limits;
use pregon_core::outcome::PendingReason;
use tokio::time::Instant;

use super::breaker::{Guard, Shift, Signal};

mod terms;

pub(super) use terms::{Admission, Means, Pace, Pass, Waits};

/// How long a delivery may wait in memory that came out of the store. Also how long a lane that has
/// shown its pace may be without progress, where its receiver does not take longer.
pub(super) const PATIENCE: Duration = Duration::from_millis(200);
/// How long a lane that has not shown its pace may be without progress. Receivers take up to half a
/// second as a rule.
const FIRST_ANSWER: Duration = Duration::from_secs(1);
/// How long a lane may be without progress, whatever its receiver takes.
const STALL_MAX: Duration = Duration::from_secs(5);
/// What a receiver is taken to need before it has shown its pace.
const LATENCY_GUESS: Duration = Duration::from_millis(2);
/// No receiver is taken to need less.
const LATENCY_MIN: Duration = Duration::from_micros(100);
/// How long a delivery may wait in memory that came out of the store into a lane under a rate. More
/// are fetched when half of them went.
const RATE_PATIENCE: Duration = Duration::from_millis(500);
/// Deliveries that one look into the store may bring for one lane, however fast it is.
const CREDIT_MAX: usize = 2048;
/// Slots of a lane without progress while the node is short of slots.
const TIGHT_LIMIT: u32 = 2;

/// A lane within this node. `J` is what waits.
#[derive(Debug)]
pub(super) struct LaneFlow<J> {
    limit: u32,
    cap: u32,
    in_flight: u32,
    /// What waits here, and since when.
    queue: VecDeque<(Instant, J)>,
    /// How deliveries go out together; none: each by itself.
    batch: Option<Batch>,
    /// Of the events of what waits here.
    bytes: usize,
    /// The receiver's time, on average; none: it has not answered yet.
    latency: Option<Duration>,
    /// When an attempt last ended, or when the lane last went from idle to busy.
    progress: Instant,
    halved: Option<Instant>,
    closed_until: Option<Instant>,
    /// When an operator's word last opened it.
    opened: Option<Instant>,
    /// Its receiver's breaker.
    pub(super) guard: Guard,
    /// Partitions in which deliveries are taken to wait and to be due, and since when that is said.
    stored: BTreeMap<PartitionNo, Instant>,
    /// What rates allowed when that was last looked at.
    pass: Pass,
}

impl<J: Waits> LaneFlow<J> {
    /// A lane that has shown nothing yet. `cap` is the subscription's.
    pub(super) fn new(cap: u32, now: Instant) -> Self {
        Self {
            limit: limits::CONCURRENCY_START.min(cap.max(1)),
            cap: cap.max(1),
            in_flight: 0,
            queue: VecDeque::new(),
            batch: None,
            bytes: 0,
            latency: None,
            progress: now,
            halved: None,
            closed_until: None,
            opened: None,
            guard: Guard::default(),
            stored: BTreeMap::new(),
            pass: Pass::default(),
        }
    }

    /// The subscription's cap changed.
    pub(super) fn set_cap(&mut self, cap: u32) {
        self.cap = cap.max(1);
        self.limit = self.limit.min(self.cap);
    }

    /// How deliveries go out together, by the subscription's contract; none: each by itself.
    pub(super) fn set_batch(&mut self, batch: Option<&Batch>) {
        if self.batch.as_ref() != batch {
            self.batch = batch.cloned();
        }
    }

    /// Whether nothing is in flight or waiting here, and no gate is kept.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        let gate = self.closed(now) || !self.guard.is_none();
        self.in_flight == 0 && self.queue.is_empty() && !gate && self.stored.is_empty()
    }

    /// When anything last happened here.
    pub(super) fn last_progress(&self) -> Instant {
        self.progress
    }

    /// Whether nothing is attempted, whatever waits.
    pub(super) fn closed(&self, now: Instant) -> bool {
        self.closed_for(now).is_some()
    }

    /// Why nothing is attempted: the receiver asked to be left alone, or its breaker is open.
    pub(super) fn closed_for(&self, now: Instant) -> Option<PendingReason> {
        match self.closed_until {
            Some(until) if now < until => Some(PendingReason::RateLimited),
            _ => self.guard.shut(now).then_some(PendingReason::BreakerOpen),
        }
    }

    /// Leaves the receiver alone until then, as it asked at `asked`; of two requests the later
    /// wins. What it asked before an operator opened the lane does not count any more.
    pub(super) fn close(&mut self, until: Instant, asked: Instant) {
        if self.opened.is_none_or(|opened| asked > opened) {
            self.closed_until = Some(self.closed_until.map_or(until, |known| known.max(until)));
        }
    }

    /// An operator's word opens it, whatever the receiver asked for before.
    pub(super) fn open(&mut self, now: Instant) {
        (self.closed_until, self.guard) = (None, Guard::default());
        self.opened = Some(now);
    }

    /// How an attempt ended that began at `started`, for the breaker. What began before an operator's
    /// word does not count.
    pub(super) fn ended(
        &mut self,
        now: Instant,
        started: Instant,
        signal: Signal,
    ) -> Option<Shift> {
        let counts = self.opened.is_none_or(|opened| started > opened);
        if counts { self.guard.ended(now, started, signal) } else { None }
    }

    /// Another node's breaker for the receiver is open, or was lately, by a claim asked for at
    /// `asked`; whether this one's opens with it. What was before an operator's word does not count.
    pub(super) fn heard(&mut self, now: Instant, asked: Instant, wait: Duration) -> bool {
        self.opened.is_none_or(|opened| asked > opened) && self.guard.heard(now, asked, wait)
    }

    /// Notes that deliveries wait in that partition of the store that are due.
    pub(super) fn note_stored(&mut self, partition: PartitionNo, now: Instant) {
        self.stored.insert(partition, now);
    }

    /// A look into the partition that was asked for at `asked` found nothing. It says nothing of
    /// what was stored since.
    pub(super) fn found_none(&mut self, partition: PartitionNo, asked: Instant) {
        if self.stored.get(&partition).is_some_and(|noted| *noted <= asked) {
            self.stored.remove(&partition);
        }
    }

    /// Partitions in which deliveries are taken to wait and to be due.
    pub(super) fn stored(&self) -> impl ExactSizeIterator<Item = PartitionNo> + '_ {
        self.stored.keys().copied()
    }

    /// Whether that is one of them.
    pub(super) fn stored_in(&self, partition: PartitionNo) -> bool {
        self.stored.contains_key(&partition)
    }

    /// Deliveries from the store that there is use for: free slots, and what the receiver answers
    /// within [`PATIENCE`] beside them.
    pub(super) fn credit(&self, now: Instant, means: Means) -> u32 {
        if self.closed(now) {
            return 0;
        }
        let limit = self.effective_limit(now, means);
        let ready = self.ready(now, limit, means);
        if self.batch.is_some() {
            let places = self.room(now, (limit, means), ready).saturating_sub(self.queue.len());
            return u32::try_from(places.min(CREDIT_MAX)).unwrap_or(u32::MAX);
        }
        let places = ready.saturating_sub(self.queue.len());
        let held_back = self.guard.cap(now, PATIENCE, usize::MAX).saturating_sub(self.queue.len());
        if means.pass.rate.is_some() {
            let places = if 2 * places < ready { 0 } else { places };
            return u32::try_from(places.min(held_back)).unwrap_or(u32::MAX);
        }
        let slots = if means.full { 0 } else { limit.saturating_sub(self.in_flight) };
        let credit = places.saturating_add(usize::try_from(slots).unwrap_or(usize::MAX));
        u32::try_from(credit.min(held_back)).unwrap_or(u32::MAX)
    }

    /// Decides about a delivery of a new event; a `Start` takes the slot. `partition` is where the
    /// delivery goes when it is put back.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        means: Means,
        partition: PartitionNo,
    ) -> Admission {
        self.pass = means.pass;
        if let Some(why) = self.closed_for(now) {
            return Admission::PutBack(why);
        }
        let whole = self.effective_limit(now, means);
        let (limit, places) = if self.stored.is_empty() {
            (whole, self.allowance(now, (whole, means.pass), means.patience))
        } else {
            (whole / 2, self.ready(now, whole, means) / 2)
        };
        self.place((limit, means), places, partition, now)
    }

    /// Decides about a delivery that came out of the store, which was asked for as many as there is
    /// [`Self::credit`] for.
    pub(super) fn admit_stored(
        &mut self,
        now: Instant,
        means: Means,
        partition: PartitionNo,
    ) -> Admission {
        self.pass = means.pass;
        if let Some(why) = self.closed_for(now) {
            return Admission::PutBack(why);
        }
        let limit = self.effective_limit(now, means);
        let places = self.ready(now, limit, means);
        self.place((limit, means), places, partition, now)
    }

    fn place(
        &mut self,
        (limit, means): (u32, Means),
        places: usize,
        partition: PartitionNo,
        now: Instant,
    ) -> Admission {
        let batches = self.batch.is_some();
        let places = if batches { self.room(now, (limit, means), places) } else { places };
        let free = self.in_flight < limit && self.queue.is_empty();
        let may = !means.full && !means.pass.held;
        if !batches && free && may && self.guard.may_start(now) {
            self.start(now);
            Admission::Start
        } else if self.queue.len() < places {
            Admission::Queue
        } else {
            self.note_stored(partition, now);
            Admission::PutBack(self.full_for())
        }
    }

    /// What a delivery waits for that finds no place here.
    pub(super) fn full_for(&self) -> PendingReason {
        match self.pass.rate {
            _ if self.guard.limits() => PendingReason::BreakerOpen,
            Some(_) if self.pass.held => PendingReason::RateLimited,
            Some(_) | None => PendingReason::LaneFull,
        }
    }

    /// Keeps a delivery that is to be queued.
    pub(super) fn enqueue(&mut self, job: J, now: Instant) {
        self.bytes += job.bytes();
        self.queue.push_back((now, job));
    }

    /// An attempt that began at `started` ended; the receiver took so long, if it answered.
    pub(super) fn finish(
        &mut self,
        now: Instant,
        started: Instant,
        took: Option<Duration>,
        pace: Pace,
    ) {
        let was_full = self.in_flight >= self.limit;
        self.give_up_slot(now);
        if let Some(took) = took {
            self.latency = Some(self.latency.map_or(took, |latency| (latency * 7 + took) / 8));
        }
        match pace {
            Pace::Good if was_full => self.limit = (self.limit + 1).min(self.cap),
            Pace::Good | Pace::Other => {}
            // Attempts that were under way when the limit was halved tell nothing new.
            Pace::Timeout if self.halved.is_none_or(|halved| started > halved) => {
                self.limit = (self.limit / 2).max(1);
                self.halved = Some(now);
            }
            Pace::Timeout => {}
        }
    }

    /// An attempt for which a slot was taken is not made.
    pub(super) fn give_up_slot(&mut self, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.progress = now;
    }

    /// The next delivery that waited here, if there is a slot for it; takes the slot.
    pub(super) fn next_queued(&mut self, now: Instant, means: Means) -> Option<J> {
        self.pass = means.pass;
        let full = self.in_flight >= self.effective_limit(now, means);
        if self.closed(now) || full || means.pass.held {
            return None;
        }
        let place = if self.batch.is_some() { self.ripe(now, means)? } else { 0 };
        if place >= self.queue.len() || !self.guard.may_start(now) {
            return None;
        }
        let (_, job) = self.queue.remove(place)?;
        self.bytes = self.bytes.saturating_sub(job.bytes());
        self.start(now);
        Some(job)
    }

    /// Takes a slot, where there is one, for a delivery that is to go out by itself.
    pub(super) fn start_alone(&mut self, now: Instant, means: Means) -> bool {
        let free = self.in_flight < self.effective_limit(now, means) && !means.full;
        let starts = free && !self.closed(now) && !means.pass.held && self.guard.may_start(now);
        if starts {
            self.start(now);
        }
        starts
    }

    /// Takes out what waits here for longer than the receiver's pace allows, the latest. Whoever
    /// puts it back notes with [`Self::note_stored`] where.
    pub(super) fn overdue(&mut self, now: Instant, means: Means) -> VecDeque<J> {
        self.pass = means.pass;
        let limit = self.effective_limit(now, means);
        let allowed = self.allowance(now, (limit, means.pass), means.patience);
        let keep = match &self.batch {
            _ if self.closed(now) => 0,
            None => allowed,
            Some(_) => self.room(now, (limit, means), allowed),
        };
        if keep >= self.queue.len() {
            return VecDeque::new();
        }
        let gone = self.queue.split_off(keep);
        self.bytes = self.queue.iter().map(|(_, job)| job.bytes()).sum();
        gone.into_iter().map(|(_, job)| job).collect()
    }

    /// Takes out everything that waits here.
    pub(super) fn take_queue(&mut self) -> VecDeque<J> {
        self.bytes = 0;
        std::mem::take(&mut self.queue).into_iter().map(|(_, job)| job).collect()
    }

    /// How many wait here.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Requests that it takes to send what waits here, at least.
    pub(super) fn requests(&self) -> usize {
        self.queue.len().div_ceil(self.each().max(1))
    }

    /// Bytes of the events of what waits here.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.bytes
    }

    /// How many wait here for this node rather than for the receiver, which would have answered all
    /// within [`PATIENCE`].
    pub(super) fn ahead(&self, now: Instant) -> usize {
        if self.pass.held || self.guard.limits() {
            return 0;
        }
        // What goes out together waits for one slot.
        let waiting = self.queue.len() / self.each();
        let allowed = self.allowance(now, (self.limit, self.pass), PATIENCE);
        if waiting <= allowed { waiting } else { 0 }
    }

    /// How many may wait that came out of the store.
    fn ready(&self, now: Instant, limit: u32, means: Means) -> usize {
        let patience = if means.pass.rate.is_some() { RATE_PATIENCE } else { PATIENCE };
        let patience = patience.min(means.patience);
        self.allowance(now, (limit, means.pass), patience).min(CREDIT_MAX)
    }

    fn start(&mut self, now: Instant) {
        if self.in_flight == 0 {
            self.progress = now;
        }
        self.in_flight += 1;
        self.guard.started(now);
    }

    fn effective_limit(&self, now: Instant, means: Means) -> u32 {
        let moving = now.saturating_duration_since(self.progress) < 2 * PATIENCE;
        if means.tight && !moving { self.limit.min(TIGHT_LIMIT) } else { self.limit }
    }

    /// How many may wait: as many as get a slot within `patience` at the present pace.
    fn allowance(&self, now: Instant, (limit, pass): (u32, Pass), patience: Duration) -> usize {
        let stalled = match self.in_flight {
            0 => Duration::ZERO, // the node has no slots left
            _ => now.saturating_duration_since(self.progress),
        };
        let stall = self.latency.map_or(FIRST_ANSWER, |latency| latency * 4);
        let pace = self.latency.unwrap_or(LATENCY_GUESS).max(stalled / 4).max(LATENCY_MIN);
        let moves = stalled < stall.clamp(PATIENCE, STALL_MAX);
        let rounds = if moves { patience.as_micros() / pace.as_micros().max(1) } else { 0 };
        // What a rate or the breaker holds back waits for no answer: free slots are places.
        let held = (pass.rate.is_some() || self.guard.limits()) && !patience.is_zero();
        let free = if held { limit.saturating_sub(self.in_flight) } else { 0 };
        let places = rounds.saturating_mul(u128::from(limit)).max(u128::from(free));
        let allowed = usize::try_from(places).unwrap_or(usize::MAX);
        self.guard.cap(now, patience, allowed.min(pass.within(patience)))
    }
}

mod together;

#[cfg(test)]
mod tests;
