//! What attempts say of their receivers: breakers, and rows of nothing but failures.

use std::sync::Arc;
use std::time::Duration;

use pregon_core::id::{LaneNo, SubscriptionName};
use pregon_core::outcome::{ErrorClass, Outcome, PendingReason};
use pregon_store::batch::LaneClose;
use tokio::time::Instant;

use super::{Dispatcher, Effect};
use crate::snapshot::Lane;
use crate::worker::announce::{self, Announced};
use crate::worker::breaker::{Shift, Signal, State};
use crate::worker::disable::{Cause, Note};
use crate::worker::job::Report;
use crate::worker::lane::LaneFlow;

/// How long nothing was acknowledged before that is written down: an outage as they come and go is
/// no news to the configuration.
const ROW: Duration = Duration::from_secs(3600);
/// How soon a node writes of the same receiver again: what it wrote is served by then.
const NOTE_AGAIN: Duration = Duration::from_secs(60);
/// A probe goes out so much after the wait: the store closes the lane a moment later than the node.
const PROBE_LAG: Duration = Duration::from_millis(20);
/// Shares of the time until a subscription is disabled: after four of five it is told that it will be.
const SHARES: u32 = 5;

/// Lanes with work in a node, by why nothing, or not everything, goes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::worker) struct Census {
    /// Their receivers asked to be left alone.
    pub(in crate::worker) closed: usize,
    /// Their subscriptions are paused.
    pub(in crate::worker) paused: usize,
    /// Their breakers are open.
    pub(in crate::worker) broken: usize,
    /// Their breakers let attempts out at a rate.
    pub(in crate::worker) recovering: usize,
}

impl Dispatcher {
    /// Counts lanes by their state, which walks all that have work.
    pub(in crate::worker) fn census(&self, now: Instant) -> Census {
        let mut census = Census::default();
        for (no, flow) in self.lanes.all() {
            let count = match (flow.closed_for(now), flow.guard.state()) {
                _ if self.snapshot.lane(no).is_some_and(|lane| lane.holds()) => &mut census.paused,
                (Some(PendingReason::RateLimited), _) => &mut census.closed,
                (_, State::Open) => &mut census.broken,
                (_, State::Recovering) => &mut census.recovering,
                (_, State::Closed) => continue,
            };
            *count += 1;
        }
        census
    }

    /// The breaker of a report's lane changed. What opened it tells so in the log.
    pub(super) fn on_shift(&mut self, report: &mut Report, shift: Shift, now: Instant) {
        let lane = Arc::clone(&report.job.lane);
        if let Shift::Opened { wait, .. } = shift {
            let record = Arc::make_mut(&mut report.record);
            let seconds = wait.as_secs();
            record.reason.push_str(&format!("; the breaker is open for {seconds} s"));
            let reason = PendingReason::BreakerOpen;
            self.ledger.close(LaneClose { lane: lane.lane, wait, reason }, now);
            self.stop_for(lane.lane, wait, now);
        }
        announce::tell(&self.telemetry, &lane.name, Announced::Breaker(shift));
    }

    /// Another node's breaker is open for a receiver, or was lately, as the store knew at `asked`.
    pub(super) fn on_foreign_breaker(
        &mut self,
        lane: &Lane,
        wait: Duration,
        asked: Instant,
        now: Instant,
    ) {
        if self.lanes.change(lane, now, |flow| flow.heard(now, asked, wait)) {
            self.stop_for(lane.lane, wait, now);
        }
    }

    /// Nothing of a lane starts for so long: what waits here goes back, and then a probe goes out.
    fn stop_for(&mut self, lane: LaneNo, wait: Duration, now: Instant) {
        let waiting = self.lanes.change_known(lane, now, LaneFlow::take_queue);
        for job in waiting.into_iter().flatten() {
            self.put_back(&job, PendingReason::BreakerOpen, now);
        }
        self.probes.insert((now + wait + PROBE_LAG, lane));
    }

    /// Starts what waits in lanes whose breakers let a probe out. What waits in the store is asked for
    /// by the turn of the loop that this is part of.
    pub(super) fn send_probes(&mut self, now: Instant) {
        while self.probes.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, lane)) = self.probes.pop_first() else { return };
            self.start_queued(lane, now);
        }
    }

    /// When that is next.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        self.probes.first().map(|(at, _)| *at)
    }

    /// Closes breakers that hold nothing back any more, and forgets those at rest.
    pub(super) fn look_at_breakers(&mut self, now: Instant) {
        let with: Vec<LaneNo> =
            self.lanes.all().filter(|(_, flow)| !flow.guard.is_none()).map(|(no, _)| no).collect();
        for no in with {
            let shift = self.lanes.change_known(no, now, |flow| flow.guard.look(now)).flatten();
            if let (Some(shift), Some(lane)) = (shift, self.snapshot.lane(no)) {
                announce::tell(&self.telemetry, &lane.name, Announced::Breaker(shift));
            }
        }
        self.noted.retain(|_, (noted, _)| now < *noted + NOTE_AGAIN);
    }

    /// Has it written down where a receiver does nothing but fail, does so no more, or has for so long
    /// that its subscription is disabled.
    pub(super) fn note_row(&mut self, report: &Report, signal: Signal, now: Instant) {
        if signal == Signal::Good && report.job.lane.failing.is_none() {
            return; // as a rule
        }
        let Some(after) = self.limits.disable_after else { return };
        let no = report.job.key.lane;
        let Some(lane) = self.snapshot.lane(no).filter(|lane| lane.state.matches()) else { return };
        let failing = lane.failing.as_deref();
        let ended = report.ended;
        let note = match (signal, failing) {
            (Signal::Nothing, _) | (Signal::Good, None) => return,
            (Signal::Good, Some(_)) => Note::Well,
            (_, None) => match self.row(report, now) {
                Some(row) => {
                    let since = ended.minus(row);
                    Note::Failing { since, until: since.plus(after) }
                }
                None => return,
            },
            (_, Some(failing)) => {
                let row = ended.since(failing.since);
                match failing.warned {
                    None if row >= after * (SHARES - 1) / SHARES => {
                        Note::Warned { until: ended.plus(after / SHARES).max(failing.until) }
                    }
                    Some(warned) if row >= after && ended.since(warned) >= after / SHARES => {
                        Note::Disable(Cause::Failing { since: failing.since })
                    }
                    None | Some(_) => return,
                }
            }
        };
        let name = lane.name.clone();
        self.note(no, name, note, now);
    }

    /// Writes something down of a receiver, unless that was done just now. That it is well is never held
    /// back by that it was not.
    fn note(&mut self, lane: LaneNo, name: SubscriptionName, note: Note, now: Instant) {
        let well = note == Note::Well;
        let again = |(noted, was): &(Instant, bool)| *was != well || now >= *noted + NOTE_AGAIN;
        if self.noted.get(&lane).is_none_or(again) {
            self.noted.insert(lane, (now, well));
            self.effects.push(Effect::Note(name, note));
        }
    }

    /// For how long nothing was acknowledged, where that is worth writing down. A node that has not seen
    /// it itself goes by the delivery: it has failed before, and not just now.
    fn row(&self, report: &Report, now: Instant) -> Option<Duration> {
        let row = self.lanes.get(report.job.key.lane).and_then(|flow| flow.guard.streak(now));
        let age = report.ended.since(report.job.create_time);
        let row = row.unwrap_or_default();
        (row >= ROW || report.job.number > 1 && age >= ROW).then_some(row)
    }
}

/// What an attempt says of its receiver.
pub(super) fn signal_of(report: &Report) -> Signal {
    let record = &report.record;
    match report.decision.error_class {
        None if report.decision.outcome == Outcome::Succeeded => Signal::Good,
        None | Some(ErrorClass::Local | ErrorClass::Egress | ErrorClass::Token) => Signal::Nothing,
        Some(ErrorClass::Dns | ErrorClass::Connect | ErrorClass::Denied) => Signal::Unreachable,
        Some(ErrorClass::Tls | ErrorClass::Timeout | ErrorClass::Protocol) => Signal::Failed,
        Some(ErrorClass::Status) => match record.status {
            408 | 429 | 500.. => Signal::Failed,
            _ => Signal::Refused,
        },
    }
}
