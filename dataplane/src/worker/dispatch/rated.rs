//! Rates: lanes that wait take turns, and the store is asked for slots.

use std::sync::Arc;

use pregon_core::id::{DeliveryKey, LaneNo};
use pregon_store::rate::{RateAsk, RateLease};
use tokio::time::Instant;

use super::Dispatcher;
use crate::worker::lane::Means;

impl Dispatcher {
    /// Has each lane whose turn it is make one attempt.
    pub(super) fn take_turns(&mut self, now: Instant) {
        while let Some(no) = self.rates.next_turn(now) {
            let started = self.start_some(no, 1, now);
            self.rates.end_turn();
            let waits = self.lanes.get(no).is_some_and(|flow| flow.waiting() > 0);
            let lane = self.snapshot.lane(no).filter(|_| waits && started > 0).map(Arc::clone);
            if let Some(lane) = lane {
                self.rates.wait(&lane, now);
            }
        }
    }

    /// A lane did not start what waits in it: where that is for a rate, it waits there.
    pub(super) fn wait_for_rate(&mut self, no: LaneNo, means: Means, now: Instant) {
        let waits = self.lanes.get(no).is_some_and(|flow| flow.waiting() > 0);
        let lane = self.snapshot.lane(no).filter(|_| means.pass.held && waits).map(Arc::clone);
        if let Some(lane) = lane {
            self.rates.wait(&lane, now);
        }
    }

    /// A test send goes out: it waits for nobody, and counts.
    pub(in crate::worker) fn on_test(&mut self, lane: LaneNo, now: Instant) {
        if let Some(lane) = self.snapshot.lane(lane).map(Arc::clone) {
            self.rates.spend(&lane, now);
        }
    }

    /// Slots to ask the store for.
    pub(in crate::worker) fn rate_asks(&mut self, now: Instant) -> Vec<RateAsk> {
        let lanes = &self.lanes;
        self.rates.asks(now, |no| lanes.get(no).map_or(0, |flow| flow.requests()))
    }

    /// When there is something to ask for.
    pub(in crate::worker) fn next_rate_ask(&self) -> Option<Instant> {
        self.rates.next_ask()
    }

    /// What the store answered to what was asked at `asked`.
    pub(in crate::worker) fn on_leases(
        &mut self,
        asks: &[RateAsk],
        leases: &[RateLease],
        times: (Instant, Instant),
    ) {
        self.rates.on_leases(asks, leases, times);
    }

    /// It did not answer.
    pub(in crate::worker) fn not_leased(&mut self, asks: &[RateAsk], again: Instant) {
        self.rates.not_leased(asks, again);
    }

    /// Lanes that wait for a rate.
    pub(in crate::worker) fn rated(&self) -> usize {
        self.rates.waiting()
    }

    /// Whether the receiver did not ask to be left alone.
    pub(super) fn is_open(&self, key: DeliveryKey, now: Instant) -> bool {
        self.lanes.get(key.lane).is_some_and(|flow| !flow.closed(now))
    }
}
