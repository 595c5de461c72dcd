//! A lane's breaker, which there is none of until its receiver fails.

use std::time::Duration;

use tokio::time::Instant;

use super::{Breaker, Shift, Signal, State};

/// None: the receiver has not failed lately, and nothing is limited.
#[derive(Debug, Default)]
pub(in crate::worker) struct Guard(Option<Box<Breaker>>);

impl Guard {
    /// What the breaker does; see [`Breaker::state`].
    pub(in crate::worker) fn state(&self) -> State {
        self.0.as_ref().map_or(State::Closed, |breaker| breaker.state())
    }

    /// Whether it limits anything.
    pub(in crate::worker) fn limits(&self) -> bool {
        self.state() != State::Closed
    }

    /// Whether nothing starts whatever waits.
    pub(in crate::worker) fn shut(&self, now: Instant) -> bool {
        self.0.as_ref().is_some_and(|breaker| breaker.shut(now))
    }

    /// Whether an attempt may start now, that could.
    pub(in crate::worker) fn may_start(&mut self, now: Instant) -> bool {
        self.0.as_mut().is_none_or(|breaker| breaker.may_start(now))
    }

    /// Of so many requests, those that may start within `patience`.
    pub(in crate::worker) fn cap(
        &self,
        now: Instant,
        patience: Duration,
        requests: usize,
    ) -> usize {
        let places = self.0.as_ref().and_then(|breaker| breaker.places(now, patience));
        places.map_or(requests, |places| requests.min(places))
    }

    /// An attempt starts.
    pub(in crate::worker) fn started(&mut self, now: Instant) {
        if let Some(breaker) = &mut self.0 {
            breaker.started(now);
        }
    }

    /// An attempt that was to start is not made.
    pub(in crate::worker) fn not_made(&mut self) {
        if let Some(breaker) = &mut self.0 {
            breaker.not_made();
        }
    }

    /// An attempt that began at `started` ended. The first that fails makes the breaker.
    pub(in crate::worker) fn ended(
        &mut self,
        now: Instant,
        started: Instant,
        signal: Signal,
    ) -> Option<Shift> {
        if self.0.is_none() && matches!(signal, Signal::Good | Signal::Nothing) {
            return None;
        }
        self.made(now).ended(now, started, signal)
    }

    /// See [`Breaker::heard`].
    pub(in crate::worker) fn heard(
        &mut self,
        now: Instant,
        asked: Instant,
        wait: Duration,
    ) -> bool {
        self.made(now).heard(now, asked, wait)
    }

    /// What became of it with time; forgets it once there is nothing to remember.
    pub(in crate::worker) fn look(&mut self, now: Instant) -> Option<Shift> {
        let shift = self.0.as_mut().and_then(|breaker| breaker.look(now));
        if self.0.as_ref().is_some_and(|breaker| breaker.is_at_rest(now)) {
            self.0 = None;
        }
        shift
    }

    /// Whether there is nothing to remember.
    pub(in crate::worker) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// See [`Breaker::streak`].
    pub(in crate::worker) fn streak(&self, now: Instant) -> Option<Duration> {
        self.0.as_ref().and_then(|breaker| breaker.streak(now))
    }

    fn made(&mut self, now: Instant) -> &mut Breaker {
        self.0.get_or_insert_with(|| Box::new(Breaker::new(now)))
    }
}
