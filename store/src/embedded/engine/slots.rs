//! Slots of rates within the process, in memory: who asks is the only one there is.
//!
//! Nothing of it is in the database. What an earlier process handed out lies before this one was
//! opened, and no slot from before that is handed out: see [`crate::rate`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use pregon_core::clock::Timestamp;

use crate::rate::{ASKS_MAX, OPENING, RateAsk, RateKey, RateLease, lease, micros};

/// Rates that are remembered before those are looked for that need not be.
const KEPT_MIN: usize = 1024;

/// What was handed out.
pub(in crate::embedded) struct Slots {
    /// When the store was opened, in µs.
    opened: f64,
    known: Mutex<Known>,
}

struct Known {
    /// The first slot that was not handed out, and until when that matters; both in µs.
    next: HashMap<RateKey, (f64, f64)>,
    /// How many there are before one is forgotten.
    most: usize,
}

impl Slots {
    /// Of a store that is opened now.
    pub(in crate::embedded) fn new(now: Timestamp) -> Self {
        let known = Mutex::new(Known { next: HashMap::new(), most: KEPT_MIN });
        Self { opened: moment(now), known }
    }

    pub(in crate::embedded) fn lease(&self, asks: &[RateAsk], now: Timestamp) -> Vec<RateLease> {
        let now = moment(now);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answers = Vec::with_capacity(asks.len());
        for ask in asks.iter().take(ASKS_MAX) {
            let first = self.opened + ask.rate.micros().min(micros(OPENING));
            let next = known.next.get(&ask.key).map_or(first, |(next, _)| *next);
            let (lease, next) = lease(next, now, ask);
            known.next.insert(ask.key.clone(), (next, next + micros(ask.rate.slack())));
            answers.push(lease);
        }
        known.forget(now);
        answers
    }
}

impl Known {
    /// Forgets rates that would get as much without it. Looks at them when there are twice as many
    /// as the last look left.
    fn forget(&mut self, now: f64) {
        if self.next.len() > self.most {
            self.next.retain(|_, (_, matters)| *matters > now);
            self.most = KEPT_MIN.max(2 * self.next.len());
        }
    }
}

#[allow(clippy::cast_precision_loss)] // exact for another 200 years
fn moment(now: Timestamp) -> f64 {
    now.millis() as f64 * 1000.0
}

#[cfg(test)]
mod tests {
    use pregon_core::id::LaneNo;
    use pregon_core::rate::Rate;

    use super::*;

    #[test]
    fn rates_that_nobody_uses_are_forgotten() {
        let slots = Slots::new(Timestamp::from_millis(0));
        let rate = Rate::new(100.0, 0).unwrap();
        for lane in 0..10_000u64 {
            let ask = RateAsk { key: RateKey::Lane(LaneNo(lane)), rate, want: 1 };
            let now = Timestamp::from_millis(1000 + i64::try_from(lane).unwrap() * 10);
            assert_eq!(slots.lease(&[ask], now)[0].slots, 1);
        }
        assert!(slots.known.lock().unwrap().next.len() <= KEPT_MIN + 1);
    }
}
