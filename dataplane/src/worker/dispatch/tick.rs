//! The passing of time: splitting, leases, going down.

use std::time::Duration;

use pregon_core::id::DeliveryKey;
use pregon_core::outcome::PendingReason;
use pregon_store::batch::Token;
use pregon_store::settlement::{EventOutcome, Transition};
use tokio::time::Instant;

use super::intake::settle_of;
use super::results::aged;
use super::{Dispatcher, Item, LANE_KEPT, SPLIT_AFTER};
use crate::worker::job::Job;
use crate::worker::lane::{LaneFlow, PATIENCE};

impl Dispatcher {
    /// When [`Self::on_tick`] has something to do; none while nothing is under way.
    pub(in crate::worker) fn next_tick(&self) -> Option<Instant> {
        let open = self.work.values().map(|work| work.look).min();
        let queued = (self.lanes.queued().len() > 0).then_some(self.look);
        let kept = (self.lanes.len() > 0).then_some(self.forget);
        let ripe = (!self.ripe.is_empty()).then_some(self.look);
        let (rated, probe) = (self.rates.next_wake(), self.next_probe());
        [open, queued, kept, ripe, probe, rated].into_iter().flatten().min()
    }

    /// Puts back what waits for too long, splits what is open for too long, forgets idle lanes.
    pub(in crate::worker) fn on_tick(&mut self, now: Instant) {
        for lane in std::mem::take(&mut self.ripe) {
            self.start_queued(lane, now);
        }
        self.send_probes(now);
        self.take_turns(now);
        if now >= self.look {
            self.look = now + PATIENCE / 4;
            self.put_back_overdue(now);
        }
        let looks = self.work.iter().filter(|(_, work)| now >= work.look).map(|(token, _)| *token);
        for token in looks.collect::<Vec<_>>() {
            self.split(token, SPLIT_AFTER, now);
        }
        if now >= self.forget {
            self.forget = now + LANE_KEPT / 16;
            self.look_at_breakers(now);
            self.lanes.forget(now, LANE_KEPT);
            let lanes = &self.lanes;
            self.rates.keep(|no| lanes.get(no).is_some());
        }
    }

    /// Puts back what waits for too long, and starts what there are slots for: the node may have
    /// been short of them when they came free.
    fn put_back_overdue(&mut self, now: Instant) {
        for lane in self.lanes.queued().collect::<Vec<_>>() {
            let means = self.means_of(lane, now);
            let overdue = self.lanes.change_known(lane, now, |flow| {
                let overdue = flow.overdue(now, means);
                (overdue, flow.full_for())
            });
            let Some((overdue, reason)) = overdue else { continue };
            for job in overdue {
                self.put_back(&job, reason, now);
            }
            self.start_queued(lane, now);
        }
    }

    /// A delivery goes back into its lane without an attempt.
    pub(super) fn put_back(&mut self, job: &Job, reason: PendingReason, now: Instant) {
        let rated = reason == PendingReason::RateLimited && self.is_open(job.key, now);
        if rated || matches!(reason, PendingReason::LaneFull | PendingReason::BreakerOpen) {
            self.note_stored(job.key, now);
        }
        let to = Transition::Waiting(reason);
        let moved = self.moved(job.key, &job.event, job.number - 1, to);
        self.on_moved(job.place, moved, Vec::new(), now);
    }

    /// A delivery waits in the store that is due.
    pub(super) fn note_stored(&mut self, key: DeliveryKey, now: Instant) {
        let partition = key.position.partition;
        self.lanes.change_known(key.lane, now, |flow| flow.note_stored(partition, now));
    }

    /// Settles what ended of all events: the node goes, and nothing more ends here.
    pub(in crate::worker) fn split_all(&mut self, now: Instant) {
        for token in self.tokens() {
            self.split(token, Duration::ZERO, now);
        }
    }

    /// Settles what ended of a batch's events that were touched so long ago; what is open gets a
    /// record of its own.
    fn split(&mut self, token: Token, after: Duration, now: Instant) {
        let Some(work) = self.work.get_mut(&token) else { return };
        let age = now.saturating_duration_since(work.taken);
        let mut items = std::mem::take(&mut work.items);
        let mut next = now + after;
        for item in &mut items {
            let Item::Event { event, done, records, open, touched, filter_errors } = item else {
                continue;
            };
            let Some(touched) = *touched else { continue };
            if now < touched + after {
                next = next.min(touched + after);
                continue;
            }
            let mut deliveries = std::mem::take(done);
            for lane in &*open {
                let key = DeliveryKey { position: event.position, lane: lane.lane, replay: None };
                deliveries.push(self.moved(key, event, 0, Transition::Held));
            }
            aged(&mut deliveries, age);
            let open = open.len();
            let mut settle = settle_of(event, EventOutcome::Matched(deliveries));
            settle.filter_errors = std::mem::take(filter_errors);
            self.ledger.event(token, settle, std::mem::take(records), now);
            // The event is settled, and each delivery that is open is an item of its own now.
            self.claimed = self.claimed + open - 1;
            if let Some(work) = self.work.get_mut(&token) {
                work.open = work.open + open - 1;
            }
            *item = Item::Apart;
        }
        if let Some(work) = self.work.get_mut(&token) {
            work.items = items;
            work.look = next;
        }
    }

    /// Leases that should be extended at `now`: those with a third of their time gone.
    pub(in crate::worker) fn leases(&self, now: Instant) -> Vec<Token> {
        let fresh = self.lease * 2 / 3;
        self.work
            .iter()
            .filter(|(_, work)| work.lease_until.saturating_duration_since(now) < fresh)
            .map(|(token, _)| *token)
            .collect()
    }

    /// When [`Self::leases`] will have something; none while nothing is leased.
    pub(in crate::worker) fn lease_due(&self) -> Option<Instant> {
        self.work.values().map(|work| work.lease_until - self.lease * 2 / 3).min()
    }

    /// Leases were extended by a call that began at `asked`.
    pub(in crate::worker) fn on_extended(
        &mut self,
        tokens: &[Token],
        lost: &[Token],
        asked: Instant,
    ) {
        for token in tokens {
            if let Some(work) = self.work.get_mut(token) {
                work.lease_until = asked + self.lease;
            }
        }
        for token in lost {
            self.lose(*token);
        }
    }

    /// How long an attempt that is under way may take at most, and a second for its result.
    pub(in crate::worker) fn longest_attempt(&self) -> Duration {
        let timeouts = self.snapshot.lanes().values().map(|lane| lane.contract.longest_timeout());
        timeouts.max().unwrap_or_default() + Duration::from_secs(1)
    }

    /// Going down: nothing new starts, and what waits in memory goes back, with its batch or before.
    pub(in crate::worker) fn drain(&mut self, now: Instant) {
        self.draining = true;
        for lane in self.lanes.queued().collect::<Vec<_>>() {
            let queued = self.lanes.change_known(lane, now, LaneFlow::take_queue);
            for job in queued.into_iter().flatten() {
                if self.needs_record(&job) {
                    self.put_back(&job, PendingReason::Queued, now);
                }
            }
        }
    }

    /// Whether others need to be told of a delivery that waits here. Of an event of which nothing was
    /// touched they need not: it goes back with its batch, as it came.
    fn needs_record(&self, job: &Job) -> bool {
        let item = self.work.get(&job.place.token).and_then(|work| work.items.get(job.place.item));
        let untouched = |item: &Item| match item {
            Item::Event { touched: None, records, .. } => records.is_empty(),
            Item::Event { .. } | Item::Matching | Item::Apart => false,
        };
        !item.is_some_and(untouched)
    }

    /// Every batch that is still leased; given back when the node goes.
    pub(in crate::worker) fn tokens(&self) -> Vec<Token> {
        self.work.keys().copied().collect()
    }
}
