//! A lane's way out of this node: how many attempts it may have in flight, and what may wait for
//! a slot in memory.
//!
//! The limit starts low, grows by one with each success while it is used up, and halves on a
//! timeout, so a receiver is asked for what it bears. A delivery that finds no free slot may wait
//! in memory only where the receiver's pace says that a slot comes free within [`PATIENCE`];
//! otherwise it goes back into the lane in the store, from where it is taken for a free slot and
//! for nothing else. So a receiver that hangs holds its own few slots and no claim, no memory and
//! nobody else's delivery. While deliveries wait in the store, new ones queue up behind them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use pregon_core::id::PartitionNo;
use pregon_core::limits;
use pregon_core::outcome::PendingReason;
use tokio::time::Instant;

/// How long a delivery may wait in memory for a slot. Well below the second after which an open
/// event gets a record of its own, so that waiting here is never what causes one.
pub(super) const PATIENCE: Duration = Duration::from_millis(200);
/// Deliveries that one lane may keep waiting in memory, however fast it is.
const QUEUE_MAX: usize = 2048;
/// A receiver whose answers take less than this is fast: what waits for it waits for moments.
const FAST: Duration = Duration::from_millis(20);
/// What a receiver is taken to need before it has shown its pace.
const LATENCY_GUESS: Duration = Duration::from_millis(2);
/// Slots of a lane without progress while the node is short of slots.
const TIGHT_LIMIT: u32 = 2;

/// How an attempt went, as far as the lane's pace is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// The receiver answered as it should.
    Good,
    /// The receiver did not answer in time.
    Timeout,
    /// Anything else: says nothing about how much the receiver bears.
    Other,
}

/// What to do with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Attempt it now.
    Start,
    /// Keep it in memory; a slot comes free soon.
    Queue,
    /// Back into the lane in the store.
    PutBack(PendingReason),
}

/// A lane within this node. `J` is what waits.
#[derive(Debug)]
pub(super) struct LaneFlow<J> {
    limit: u32,
    cap: u32,
    in_flight: u32,
    queue: VecDeque<J>,
    latency: Duration,
    /// When an attempt last ended, or when the lane last went from idle to busy.
    progress: Instant,
    halved: Option<Instant>,
    closed_until: Option<Instant>,
    /// When an operator's word last opened it.
    opened: Option<Instant>,
    /// Partitions in which deliveries are taken to wait and to be due, and since when that is said.
    stored: BTreeMap<PartitionNo, Instant>,
}

impl<J> LaneFlow<J> {
    /// A lane that has shown nothing yet. `cap` is the subscription's.
    pub(super) fn new(cap: u32, now: Instant) -> Self {
        Self {
            limit: limits::CONCURRENCY_START.min(cap.max(1)),
            cap: cap.max(1),
            in_flight: 0,
            queue: VecDeque::new(),
            latency: LATENCY_GUESS,
            progress: now,
            halved: None,
            closed_until: None,
            opened: None,
            stored: BTreeMap::new(),
        }
    }

    /// The subscription's cap changed.
    pub(super) fn set_cap(&mut self, cap: u32) {
        self.cap = cap.max(1);
        self.limit = self.limit.min(self.cap);
    }

    /// Whether nothing is in flight or waiting here, and no gate is kept.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.in_flight == 0 && self.queue.is_empty() && !self.closed(now) && self.stored.is_empty()
    }

    /// When anything last happened here.
    pub(super) fn last_progress(&self) -> Instant {
        self.progress
    }

    /// Whether the receiver asked to be left alone.
    pub(super) fn closed(&self, now: Instant) -> bool {
        self.closed_until.is_some_and(|until| now < until)
    }

    /// Leaves the receiver alone until then, as it asked at `asked`; the later of two wishes wins. What
    /// it asked before an operator opened the lane does not count any more.
    pub(super) fn close(&mut self, until: Instant, asked: Instant) {
        if self.opened.is_none_or(|opened| asked > opened) {
            self.closed_until = Some(self.closed_until.map_or(until, |known| known.max(until)));
        }
    }

    /// An operator's word opens it, whatever the receiver asked for before.
    pub(super) fn open(&mut self, now: Instant) {
        self.closed_until = None;
        self.opened = Some(now);
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

    /// Slots free for deliveries from the store. `tight`: the node is short of slots.
    pub(super) fn free_slots(&self, now: Instant, tight: bool) -> u32 {
        if self.closed(now) || !self.queue.is_empty() {
            return 0;
        }
        self.effective_limit(now, tight).saturating_sub(self.in_flight)
    }

    /// Decides about a delivery of a new event; a `Start` takes the slot. `partition` is where the
    /// delivery goes when it is put back.
    pub(super) fn admit(&mut self, now: Instant, tight: bool, partition: PartitionNo) -> Admission {
        if self.closed(now) {
            return Admission::PutBack(PendingReason::RateLimited);
        }
        let limit = self.effective_limit(now, tight);
        if !self.stored.is_empty() {
            // Others wait already: leave at least half of the slots to them, and no queue here.
            if self.in_flight < limit / 2 && self.queue.is_empty() {
                self.start(now);
                return Admission::Start;
            }
            return Admission::PutBack(PendingReason::LaneFull);
        }
        if self.in_flight < limit && self.queue.is_empty() {
            self.start(now);
            return Admission::Start;
        }
        if self.queue.len() < self.allowance(now, limit) {
            Admission::Queue
        } else {
            self.note_stored(partition, now);
            Admission::PutBack(PendingReason::LaneFull)
        }
    }

    /// Decides about a delivery that came out of the store for a free slot.
    pub(super) fn admit_stored(
        &mut self,
        now: Instant,
        tight: bool,
        partition: PartitionNo,
    ) -> Admission {
        if self.closed(now) {
            Admission::PutBack(PendingReason::RateLimited)
        } else if self.in_flight < self.effective_limit(now, tight) {
            self.start(now);
            Admission::Start
        } else {
            self.note_stored(partition, now);
            Admission::PutBack(PendingReason::LaneFull)
        }
    }

    /// Keeps a delivery for which [`Self::admit`] said `Queue`.
    pub(super) fn enqueue(&mut self, job: J) {
        self.queue.push_back(job);
    }

    /// An attempt that began at `started` ended.
    pub(super) fn finish(&mut self, now: Instant, started: Instant, pace: Pace) {
        let was_full = self.in_flight >= self.limit;
        self.in_flight = self.in_flight.saturating_sub(1);
        self.progress = now;
        let took = now.saturating_duration_since(started);
        self.latency = (self.latency * 7 + took) / 8;
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

    /// The next delivery that waited here, if there is a slot for it; takes the slot.
    pub(super) fn next_queued(&mut self, now: Instant, tight: bool) -> Option<J> {
        if self.closed(now) || self.in_flight >= self.effective_limit(now, tight) {
            return None;
        }
        let job = self.queue.pop_front()?;
        self.start(now);
        Some(job)
    }

    /// Takes out what waits here for longer than the receiver's pace allows, newest first. Whoever
    /// puts it back notes with [`Self::note_stored`] where.
    pub(super) fn overdue(&mut self, now: Instant, tight: bool) -> Vec<J> {
        if self.queue.is_empty() {
            return Vec::new();
        }
        let limit = self.effective_limit(now, tight);
        let keep = if self.closed(now) { 0 } else { self.allowance(now, limit) };
        if keep >= self.queue.len() {
            return Vec::new();
        }
        self.queue.split_off(keep).into_iter().collect()
    }

    /// Takes out everything that waits here.
    pub(super) fn take_queue(&mut self) -> VecDeque<J> {
        std::mem::take(&mut self.queue)
    }

    /// Takes out what waits here and is of this kind.
    pub(super) fn take_queue_of(&mut self, of: impl Fn(&J) -> bool) -> Vec<J> {
        if !self.queue.iter().any(&of) {
            return Vec::new();
        }
        let (taken, kept): (VecDeque<J>, VecDeque<J>) =
            self.take_queue().into_iter().partition(|job| of(job));
        self.queue = kept;
        taken.into()
    }

    /// How many wait here for a receiver that is fast.
    pub(super) fn waiting_fast(&self) -> usize {
        if self.latency < FAST { self.queue.len() } else { 0 }
    }

    /// How many wait here.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    fn start(&mut self, now: Instant) {
        if self.in_flight == 0 {
            self.progress = now;
        }
        self.in_flight += 1;
    }

    fn effective_limit(&self, now: Instant, tight: bool) -> u32 {
        let moving = now.saturating_duration_since(self.progress) < 2 * PATIENCE;
        if tight && !moving { self.limit.min(TIGHT_LIMIT) } else { self.limit }
    }

    /// How many may wait: as many as get a slot within [`PATIENCE`] at the present pace.
    fn allowance(&self, now: Instant, limit: u32) -> usize {
        let stalled = now.saturating_duration_since(self.progress);
        if stalled >= PATIENCE {
            return 0;
        }
        let pace = self.latency.max(stalled).max(Duration::from_micros(100));
        let rounds = PATIENCE.as_micros() / pace.as_micros().max(1);
        usize::try_from(rounds)
            .unwrap_or(QUEUE_MAX)
            .saturating_mul(usize::try_from(limit).unwrap_or(QUEUE_MAX))
            .min(QUEUE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[tokio::test]
    async fn starts_at_eight_and_grows_with_success_to_the_cap() {
        let t = Instant::now();
        let mut lane = LaneFlow::<u32>::new(12, t);
        let started = (0..100).filter(|_| lane.admit(t, false, 0) == Admission::Start).count();
        assert_eq!(started, 8);
        for _ in 0..100 {
            lane.finish(at(t, 1), t, Pace::Good);
            while lane.free_slots(at(t, 1), false) > 0 {
                assert_eq!(lane.admit_stored(at(t, 1), false, 0), Admission::Start);
            }
        }
        assert_eq!(lane.in_flight, 12);
    }

    #[tokio::test]
    async fn a_burst_of_timeouts_halves_once() {
        let t = Instant::now();
        let mut lane = LaneFlow::<u32>::new(64, t);
        for _ in 0..8 {
            assert_eq!(lane.admit(t, false, 0), Admission::Start);
        }
        for _ in 0..8 {
            lane.finish(at(t, 15_000), t, Pace::Timeout);
        }
        assert_eq!(lane.free_slots(at(t, 15_000), false), 4);
    }

    #[tokio::test]
    async fn a_receiver_that_hangs_keeps_nothing_waiting_in_memory() {
        let t = Instant::now();
        let mut lane = LaneFlow::new(64, t);
        for job in 0..50 {
            match lane.admit(t, false, 0) {
                Admission::Start => {}
                Admission::Queue => lane.enqueue(job),
                Admission::PutBack(reason) => panic!("put back: {reason}"),
            }
        }
        assert!(lane.overdue(at(t, 10), false).is_empty(), "a pause of 10 ms is nothing");
        assert_eq!(lane.overdue(at(t, 250), false).len(), 42);
        assert_eq!(lane.admit(at(t, 250), false, 0), Admission::PutBack(PendingReason::LaneFull));
    }

    #[tokio::test]
    async fn new_deliveries_leave_half_of_the_slots_to_those_that_wait_in_the_store() {
        let t = Instant::now();
        let mut lane = LaneFlow::<u32>::new(64, t);
        lane.note_stored(0, t);
        let started = (0..8).filter(|_| lane.admit(t, false, 0) == Admission::Start).count();
        assert_eq!(started, 4);
        assert_eq!(lane.free_slots(t, false), 4);
    }

    #[tokio::test]
    async fn a_closed_lane_starts_nothing_until_its_time() {
        let t = Instant::now();
        let mut lane = LaneFlow::<u32>::new(64, t);
        lane.close(at(t, 1000), t);
        assert_eq!(lane.admit(t, false, 0), Admission::PutBack(PendingReason::RateLimited));
        assert_eq!(lane.free_slots(t, false), 0);
        assert_eq!(lane.admit(at(t, 1000), false, 0), Admission::Start);
    }

    #[tokio::test]
    async fn an_operator_opens_a_lane_and_what_was_asked_before_closes_it_no_more() {
        let t = Instant::now();
        let mut lane = LaneFlow::<u32>::new(64, t);
        lane.close(at(t, 86_400_000), t);
        lane.open(at(t, 10));
        assert_eq!(lane.admit(at(t, 10), false, 0), Admission::Start);
        lane.close(at(t, 86_400_000), at(t, 5));
        assert!(!lane.closed(at(t, 20)), "the answer to a request of before");
        lane.close(at(t, 1000), at(t, 15));
        assert!(lane.closed(at(t, 20)), "the receiver asks anew");
    }

    #[tokio::test]
    async fn a_lane_without_progress_gets_two_slots_when_the_node_is_short() {
        let t = Instant::now();
        let lane = LaneFlow::<u32>::new(64, t);
        assert_eq!(lane.free_slots(at(t, 1000), true), 2);
        assert_eq!(lane.free_slots(at(t, 1000), false), 8);
    }
}
