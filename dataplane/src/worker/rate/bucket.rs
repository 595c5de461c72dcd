//! The slots of one rate that this node has, and who waits for them.
//!
//! The store names moments by its clock, from when it answered. That was between the call and its
//! answer. So a slot may be used from its distance after the answer on, and lapses by its distance
//! after the call: it is never used before its time or after its slack. Where the call took longer
//! than that, each slot may be used until the next one may, so a slow store slows a rate and does
//! not stop it.

use std::collections::VecDeque;
use std::time::Duration;

use pregon_core::id::LaneNo;
use pregon_core::rate::Rate;
use pregon_store::rate::{AHEAD, RateKey, RateLease};
use tokio::time::Instant;

use super::Row;

/// A slot may be used for this long at least, however long the call took: no loop is finer.
const TURN: Duration = Duration::from_millis(5);

/// A rate, as this node has it.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) key: RateKey,
    pub(super) rate: Rate,
    /// Lanes under it.
    pub(super) lanes: u32,
    /// Those that wait for a slot, in turn.
    pub(super) row: Row,
    /// When the row is looked at.
    pub(super) wake: Option<Instant>,
    /// When it may be asked for.
    pub(super) ask_at: Instant,
    /// Slots by leases, the earliest first.
    leases: VecDeque<Slots>,
    /// Slots that are to be left unused.
    debt: u32,
    /// Slots that were used since it was asked for.
    used: u32,
}

/// What is left of a lease.
#[derive(Debug)]
struct Slots {
    /// When the next may be used.
    from: Instant,
    /// When that lapses.
    lapses: Instant,
    /// From one to the next.
    each: Duration,
    left: u32,
}

impl Slots {
    fn drop_one(&mut self) {
        self.left = self.left.saturating_sub(1);
        (self.from, self.lapses) = (self.from + self.each, self.lapses + self.each);
    }
}

impl Bucket {
    /// One that has nothing and may be asked for.
    pub(super) fn new(key: RateKey, rate: Rate) -> Self {
        Self {
            key,
            rate,
            lanes: 0,
            row: Row::new(),
            wake: None,
            ask_at: Instant::now(),
            leases: VecDeque::new(),
            debt: 0,
            used: 0,
        }
    }

    /// Takes a lease in.
    pub(super) fn lease(&mut self, rate: Rate, lease: RateLease, (asked, now): (Instant, Instant)) {
        self.used = 0;
        if lease.slots == 0 {
            return;
        }
        let distance = Duration::from_micros(lease.first.unsigned_abs());
        let at = |moment: Instant| match lease.first < 0 {
            true => moment.checked_sub(distance).unwrap_or(moment),
            false => moment + distance,
        };
        self.leases.push_back(Slots {
            from: at(now),
            lapses: at((asked + rate.slack()).max(now + rate.interval().max(TURN))),
            each: rate.interval(),
            left: lease.slots,
        });
        self.settle(now);
    }

    /// Whether a slot may be used now.
    pub(super) fn has_slot(&mut self, now: Instant) -> bool {
        self.next_slot(now).is_some_and(|from| from <= now)
    }

    /// When a slot may be used; none: there is none here.
    pub(super) fn next_slot(&mut self, now: Instant) -> Option<Instant> {
        self.settle(now);
        self.leases.front().map(|slots| slots.from)
    }

    /// Uses a slot; where there is none, the next one is left unused.
    pub(super) fn take(&mut self, now: Instant) {
        self.used = self.used.saturating_add(1);
        // What goes out without asking is bounded by what a burst is: nobody waits longer for it.
        self.debt = (self.debt + 1).min(self.rate.burst().max(1));
        self.settle(now);
    }

    /// Slots to ask for: for what waits, by `waits`, and as many as were used since the last time,
    /// less what is here. None while half of that is here.
    pub(super) fn want(&mut self, now: Instant, waits: impl Fn(LaneNo) -> usize) -> u32 {
        self.settle(now);
        let most = self.rate.within(AHEAD).saturating_add(self.burst());
        let waiting = self.row.iter().map(|lane| waits(*lane).max(1));
        let waiting = waiting.fold(0, usize::saturating_add);
        let used = usize::try_from(self.used.saturating_add(self.debt)).unwrap_or(usize::MAX);
        let need = waiting.saturating_add(used).min(most);
        let here = self.leases.iter().map(|slots| slots.left as usize).sum::<usize>();
        if 2 * here >= need {
            // What is here may lapse unused; then this much was not needed.
            return 0;
        }
        u32::try_from(need - here).unwrap_or(u32::MAX)
    }

    fn burst(&self) -> usize {
        usize::try_from(self.rate.burst()).unwrap_or(usize::MAX)
    }

    /// Drops what lapsed, and what is owed of what may be used now.
    fn settle(&mut self, now: Instant) {
        while let Some(first) = self.leases.front_mut() {
            if first.left == 0 {
                self.leases.pop_front();
            } else if first.lapses <= now {
                first.drop_one();
            } else if self.debt > 0 && first.from <= now {
                first.drop_one();
                self.debt -= 1;
            } else {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_slow_store_slows_a_rate_and_does_not_stop_it() {
        let mut bucket = Bucket::new(RateKey::Lane(LaneNo(1)), Rate::new(200.0, 0).unwrap());
        let (asked, mut used) = (bucket.ask_at, 0);
        let answered = asked + 400 * MS;
        let lease = RateLease { slots: 20, first: 0, again: Duration::ZERO };
        bucket.lease(bucket.rate, lease, (asked, answered));
        for ms in 0..200 {
            if bucket.has_slot(answered + MS * ms) {
                bucket.take(answered + MS * ms);
                used += 1;
            }
        }
        assert_eq!(used, 20);
    }
}
