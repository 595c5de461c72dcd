//! Results out: what an attempt's decision means for its delivery, its event and its lane.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pregon_core::attempt::{AttemptRecord, RecordKind};
use pregon_core::clock::Timestamp;
use pregon_core::id::{LaneNo, PartitionNo};
use pregon_core::model::SubscriptionState;
use pregon_core::outcome::{Decision, EndReason, ErrorClass, Outcome, PendingReason};
use pregon_store::batch::{LaneClose, Token};
use pregon_store::settlement::{DeliverySettle, EventOutcome, EventSettle, Settlement, Transition};
use pregon_telemetry::AttemptSeen;
use tokio::time::Instant;

use super::breaking::signal_of;
use super::intake::settle_of;
use super::records::Ends;
use super::{Dispatcher, Effect, Item};
use crate::worker::disable::{Cause, Note};
use crate::worker::job::{Also, Job, Report};
use crate::worker::traced;

/// When an attempt ended, on both clocks, and what rendering took, in microseconds.
#[derive(Clone, Copy)]
struct Seen {
    ended: Timestamp,
    render: u32,
    ended_at: Instant,
}

impl Dispatcher {
    /// Takes in how an attempt came out.
    pub(in crate::worker) fn on_report(&mut self, mut report: Report, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(report.held());
        let job = &report.job;
        let slow = report.decision.slow_lane;
        let (took, signal) = (report.receiver_took(), signal_of(&report));
        let (closed, shift) = self.lanes.change(&job.lane, now, |flow| {
            flow.finish(now, report.started, took, report.pace);
            let shift = flow.ended(now, report.started, signal);
            let closed = slow.is_some_and(|wait| {
                flow.close(now + wait, report.started);
                flow.closed_for(now) == Some(PendingReason::RateLimited)
            });
            (closed, shift)
        });
        if let Some(wait) = slow.filter(|_| closed) {
            let close = LaneClose { lane: job.key.lane, wait, reason: PendingReason::RateLimited };
            self.ledger.close(close, now);
        }
        if report.decision.disable {
            let gone = Note::Disable(Cause::Gone(report.record.status));
            self.effects.push(Effect::Note(job.lane.name.clone(), gone));
        }
        if let Some(shift) = shift {
            self.on_shift(&mut report, shift, now);
        }
        self.note_row(&report, signal, now);
        let Report { job, decision, record, company, left, ended, render, ended_at, .. } = report;
        let seen = Seen { ended, render, ended_at };
        let lane = job.key.lane;
        self.on_outcome(Also { job, decision, record }, seen, now);
        for also in company {
            self.on_outcome(also, seen, now);
        }
        for job in left {
            self.put_back(&job, PendingReason::Queued, now);
        }
        self.start_queued(lane, now);
    }

    /// Takes in what an attempt means for one of its deliveries.
    fn on_outcome(&mut self, also: Also, seen: Seen, now: Instant) {
        let Also { job, decision, record } = also;
        let left = job.event.expire_time().map(|end| end.since(seen.ended));
        let decision = decision.within(left);
        let to = self.transition(&job, &decision);
        let attempts = if decision.counts { job.number } else { job.number - 1 };
        let moved = self.moved(job.key, &job.event, attempts, to);
        let record = finish_record(record, decision.outcome, to, seen.ended);
        self.telemetry.attempt(AttemptSeen {
            record: &record,
            event: &job.event,
            subscription: Some(&job.lane.name),
            parent: traced::parent(&self.telemetry, &job.event, job.place.token),
            render: seen.render,
            ended: self.telemetry.at(seen.ended_at),
        });
        if let Transition::Failed(reason) = to {
            tell_failure(&job, &record, reason);
        }
        self.on_moved(job.place, moved, vec![record], now);
    }

    /// Where a delivery goes after an attempt, with the configuration as it is now.
    fn transition(&self, job: &Job, decision: &Decision) -> Transition {
        let again = match decision.outcome {
            Outcome::Succeeded => return Transition::Succeeded,
            Outcome::Failed { reason } => return Transition::Failed(reason),
            Outcome::Retry { after } => Transition::Retry(after),
        };
        match self.snapshot.lane(job.key.lane).map(|lane| lane.state) {
            None => Transition::Cancelled(self.gone(&job.event)),
            Some(SubscriptionState::Disabled) => {
                Transition::Cancelled(EndReason::SubscriptionDisabled)
            }
            Some(
                SubscriptionState::Active
                | SubscriptionState::Paused
                | SubscriptionState::PendingApproval
                | SubscriptionState::PendingVerification
                | SubscriptionState::Rejected,
            ) => again,
        }
    }

    /// A delivery has somewhere to go; its event may be done with that.
    pub(super) fn on_moved(
        &mut self,
        place: super::Place,
        moved: DeliverySettle,
        mut new: Vec<Arc<AttemptRecord>>,
        now: Instant,
    ) {
        let Some(work) = self.work.get_mut(&place.token) else {
            // The lease was lost and the batch forgotten; the store logs the attempt as late.
            self.ledger.delivery(place.token, moved, new, now);
            return;
        };
        let Some(item) = work.items.get_mut(place.item) else { return };
        match item {
            Item::Apart | Item::Matching => self.settle_delivery(place.token, moved, new, now),
            Item::Event { event, done, records, open, touched, filter_errors } => {
                touched.get_or_insert(now);
                open.retain(|lane| lane.lane != moved.key.lane);
                done.push(moved);
                records.append(&mut new);
                if !open.is_empty() {
                    return;
                }
                aged(done, now.saturating_duration_since(work.taken));
                let mut settle = settle_of(event, EventOutcome::Matched(std::mem::take(done)));
                settle.filter_errors = std::mem::take(filter_errors);
                let records = std::mem::take(records);
                *item = Item::Apart;
                self.settle_event(place.token, settle, records, now);
            }
        }
    }

    /// An event needs its batch no more.
    pub(super) fn settle_event(
        &mut self,
        token: Token,
        event: EventSettle,
        records: Vec<Arc<AttemptRecord>>,
        now: Instant,
    ) {
        self.ledger.event(token, event, records, now);
        self.close_items(token, 1);
    }

    /// A delivery needs its batch no more.
    pub(super) fn settle_delivery(
        &mut self,
        token: Token,
        delivery: DeliverySettle,
        records: Vec<Arc<AttemptRecord>>,
        now: Instant,
    ) {
        self.ledger.delivery(token, delivery, records, now);
        self.close_items(token, 1);
    }

    /// Uses free slots of a lane for what waits in memory, as far as rates let it.
    pub(super) fn start_queued(&mut self, lane: LaneNo, now: Instant) {
        self.start_some(lane, usize::MAX, now);
    }

    /// The same, for so many requests at most; says how many were made.
    pub(super) fn start_some(&mut self, lane: LaneNo, most: usize, now: Instant) -> usize {
        if self.lanes.get(lane).is_none_or(|flow| flow.waiting() == 0) {
            return 0;
        }
        // It may have waited for a while: it is sent as the subscription is now.
        let now_is = self.snapshot.lane(lane).cloned();
        let mut started = 0;
        while started < most && !self.is_full() && !self.draining {
            let means = self.rates.means(self.means(), now_is.as_ref(), now);
            let next = self.lanes.change_known(lane, now, |flow| {
                let job = flow.next_queued(now, means)?;
                let company = flow.company(&job);
                Some((job, company))
            });
            let Some((job, company)) = next.flatten() else {
                self.wait_for_rate(lane, means, now);
                break;
            };
            // Somebody else may have it: nothing new starts from a lease that may be gone. Should it
            // still be there, an extension revives it, and what was put back is not lost.
            let mut first: Option<Job> = None;
            for job in std::iter::once(job).chain(company) {
                if !self.touch(job.place, now) {
                    self.put_back(&job, PendingReason::Queued, now);
                } else if let Some(first) = &mut first {
                    first.company.push(job);
                } else {
                    first = Some(job);
                }
            }
            let Some(mut job) = first else {
                self.lanes.change_known(lane, now, |flow| {
                    flow.guard.not_made();
                    flow.give_up_slot(now);
                });
                continue;
            };
            if let Some(lane) = &now_is {
                let revision = self.snapshot.revision();
                for also in &mut job.company {
                    (also.lane, also.revision) = (Arc::clone(lane), revision);
                }
                (job.lane, job.revision) = (Arc::clone(lane), revision);
            }
            self.rates.spend(&job.lane, now);
            self.start(job);
            started += 1;
        }
        started
    }

    /// Notes that a delivery is attempted; false where its lease may be gone.
    fn touch(&mut self, place: super::Place, now: Instant) -> bool {
        let work = self.work.get_mut(&place.token);
        let Some(work) = work.filter(|work| now < work.lease_until) else { return false };
        if let Some(Item::Event { touched, .. }) = work.items.get_mut(place.item) {
            touched.get_or_insert(now);
        }
        true
    }

    /// When results should be settled; none while there are none.
    pub(in crate::worker) fn settle_due(&self) -> Option<Instant> {
        self.ledger.due()
    }

    /// Takes out what is to be settled now; empty when there is nothing.
    pub(in crate::worker) fn settlement(&mut self, now: Instant) -> Option<Settlement> {
        (!self.ledger.is_empty()).then(|| self.ledger.settlement(now))
    }

    /// The store has taken a settlement: batches without open items are done with. Answers in which
    /// partitions something is due now by it, and how soon: storing it rings nobody.
    pub(in crate::worker) fn on_settled(
        &mut self,
        settlement: &Settlement,
        lost: &[Token],
        (now, wall): (Instant, Timestamp),
    ) -> HashMap<PartitionNo, Duration> {
        for token in lost {
            self.lose(*token);
        }
        for batch in &settlement.batches {
            let token = batch.token;
            let done = self.work.get(&token).is_some_and(|work| work.open == 0);
            if done && !self.ledger.names(token) {
                self.work.remove(&token);
            }
        }
        let mut due = HashMap::new();
        let mut note = |partition, after: Duration| {
            let soonest = due.entry(partition).or_insert(after);
            *soonest = after.min(*soonest);
        };
        for batch in settlement.batches.iter().filter(|batch| !lost.contains(&batch.token)) {
            for delivery in batch.moved() {
                if let Some(after) = self.stored_for(delivery, now) {
                    note(delivery.key.position.partition, after);
                }
            }
            for event in &batch.events {
                match event.outcome {
                    EventOutcome::Postponed(after) => note(event.position.partition, after),
                    // By the store's clock it may be later: the look says then how much.
                    EventOutcome::Scheduled(at) => note(event.position.partition, at.since(wall)),
                    EventOutcome::Unmatched
                    | EventOutcome::Matched(_)
                    | EventOutcome::FannedOut { .. }
                    | EventOutcome::SetAside => {}
                }
            }
        }
        due
    }

    /// After what time a delivery that was stored is due; none when it is not stored, or waits for
    /// its lane to open. A lane into which something was put back holds something from now on,
    /// whatever a look at it says that was under way meanwhile.
    fn stored_for(&mut self, delivery: &DeliverySettle, now: Instant) -> Option<Duration> {
        match delivery.to {
            Transition::Retry(after) | Transition::Later(after, _) => Some(after),
            Transition::Waiting(PendingReason::Queued | PendingReason::LaneFull) => {
                self.note_stored(delivery.key, now);
                Some(Duration::ZERO)
            }
            Transition::Waiting(PendingReason::BreakerOpen) => {
                self.note_stored(delivery.key, now);
                let closed = self.lanes.get(delivery.key.lane).is_none_or(|it| it.closed(now));
                (!closed).then_some(Duration::ZERO)
            }
            Transition::Waiting(PendingReason::RateLimited) if self.is_open(delivery.key, now) => {
                self.note_stored(delivery.key, now);
                None // its lane asks for it when its rate has use for it
            }
            Transition::Waiting(_)
            | Transition::Succeeded
            | Transition::Failed(_)
            | Transition::Cancelled(_)
            | Transition::Held => None,
        }
    }

    /// A lease is gone: nothing new starts from its batch, and what is in flight ends as late.
    pub(in crate::worker) fn lose(&mut self, token: Token) {
        if let Some(work) = self.work.remove(&token) {
            tracing::warn!(%token, open = work.open, "a lease was lost; its batch is left to others");
            self.claimed = self.claimed.saturating_sub(work.open);
            self.telemetry.metrics().leases_lost.add(1, &[]);
        }
    }
}

/// Deliveries that get their records now have existed since their event was matched.
pub(super) fn aged(deliveries: &mut [DeliverySettle], age: Duration) {
    deliveries.iter_mut().for_each(|delivery| delivery.age = age);
}

/// A delivery that is given up is worth a line: somebody may want to replay it.
fn tell_failure(job: &Job, record: &AttemptRecord, reason: EndReason) {
    tracing::warn!(
        delivery = %record.key,
        event = %job.event.name(),
        subscription = %job.lane.name,
        reason = reason.word(),
        attempts = record.number,
        status = record.status,
        error_class = record.error_class.map(ErrorClass::word),
        trace_id = job.event.trace.as_ref().map(|it| tracing::field::display(it.trace)),
        "a delivery failed"
    );
}

/// Fills in what is known only now.
fn finish_record(
    mut record: Arc<AttemptRecord>,
    outcome: Outcome,
    to: Transition,
    ended: Timestamp,
) -> Arc<AttemptRecord> {
    // Nobody else has it yet, so it is not copied.
    let last = Arc::make_mut(&mut record);
    last.end = to.end();
    if last.kind == RecordKind::Attempt {
        last.outcome = Some(outcome.word());
    }
    if let Transition::Retry(after) = to {
        last.next_attempt = Some(ended.plus(after));
    }
    record
}
