//! The passing of time: splitting, leases, going down.

use std::time::Duration;

use pregon_core::id::DeliveryKey;
use pregon_core::outcome::PendingReason;
use pregon_store::queue::{EventOutcome, Token, Transition};
use tokio::time::Instant;

use super::intake::told;
use super::results::aged;
use super::{Dispatcher, Item, LANE_KEPT, SPLIT_AFTER};
use crate::worker::job::Job;
use crate::worker::lane::PATIENCE;

impl Dispatcher {
    /// When [`Self::on_tick`] has something to do; none while nothing is under way.
    pub(in crate::worker) fn next_tick(&self, now: Instant) -> Option<Instant> {
        let split =
            self.work.values().filter(|work| !work.split).map(|work| work.taken + SPLIT_AFTER);
        let queued = self.lanes.values().any(|lane| lane.waiting() > 0).then(|| now + PATIENCE / 4);
        let kept = self.lanes.values().map(|lane| lane.last_progress() + LANE_KEPT).min();
        split.min().into_iter().chain(queued).chain(kept).min()
    }

    /// Puts back what waits for too long, splits what is open for too long, forgets idle lanes.
    pub(in crate::worker) fn on_tick(&mut self, now: Instant) {
        let tight = self.tight();
        let mut back = Vec::new();
        for lane in self.lanes.values_mut() {
            back.extend(lane.overdue(now, tight));
        }
        for job in back {
            self.put_back(&job, PendingReason::LaneFull, now);
        }
        let late: Vec<Token> = self
            .work
            .iter()
            .filter(|(_, work)| !work.split && now >= work.taken + SPLIT_AFTER)
            .map(|(token, _)| *token)
            .collect();
        for token in late {
            self.split(token, now);
        }
        self.lanes
            .retain(|_, lane| !(lane.is_idle(now) && now >= lane.last_progress() + LANE_KEPT));
        let waiting: Vec<_> =
            self.lanes.iter().filter(|(_, lane)| lane.waiting() > 0).map(|(no, _)| *no).collect();
        for lane in waiting {
            self.start_queued(lane, now);
        }
    }

    /// A delivery goes back into its lane without an attempt.
    pub(super) fn put_back(&mut self, job: &Job, reason: PendingReason, now: Instant) {
        if reason == PendingReason::LaneFull
            && let Some(flow) = self.lanes.get_mut(&job.key.lane)
        {
            flow.note_stored(job.key.position.partition, now);
        }
        let to = Transition::Waiting(reason);
        let moved = self.moved(job.key, &job.event, job.number - 1, to);
        self.on_moved(job.place, moved, Vec::new(), now);
    }

    /// Settles what ended of a batch's events; what is in flight gets a record of its own.
    fn split(&mut self, token: Token, now: Instant) {
        // What still waits in memory for a slot had its chance.
        let queued: Vec<Job> = self
            .lanes
            .values_mut()
            .flat_map(|lane| lane.take_queue_of(|job: &Job| job.place.token == token))
            .collect();
        for job in queued {
            self.put_back(&job, PendingReason::LaneFull, now);
        }
        let Some(work) = self.work.get_mut(&token) else { return };
        work.split = true;
        let age = now.saturating_duration_since(work.taken);
        let mut items = std::mem::take(&mut work.items);
        for item in &mut items {
            let Item::Event { event, done, records, open, filter_errors } = item else { continue };
            let mut deliveries = std::mem::take(done);
            for lane in &*open {
                let key = DeliveryKey { position: event.position, lane: lane.lane, replay: None };
                deliveries.push(self.moved(key, event, 0, Transition::Held));
            }
            aged(&mut deliveries, age);
            let open = open.len();
            let mut settle = told(event, EventOutcome::Matched(deliveries));
            settle.filter_errors = std::mem::take(filter_errors);
            self.ledger.event(token, settle, std::mem::take(records), now);
            // The event is settled, and each delivery in flight is an item of its own now.
            self.claimed = self.claimed + open - 1;
            if let Some(work) = self.work.get_mut(&token) {
                work.open = work.open + open - 1;
            }
            *item = Item::Apart;
        }
        if let Some(work) = self.work.get_mut(&token) {
            work.items = items;
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

    /// Going down: nothing new starts, and what waits in memory goes back.
    pub(in crate::worker) fn drain(&mut self, now: Instant) {
        self.draining = true;
        let queued: Vec<Job> = self.lanes.values_mut().flat_map(|lane| lane.take_queue()).collect();
        for job in queued {
            self.put_back(&job, PendingReason::Queued, now);
        }
    }

    /// Every batch that is still leased; given back when the node goes.
    pub(in crate::worker) fn tokens(&self) -> Vec<Token> {
        self.work.keys().copied().collect()
    }
}
