//! How fast a tenant may publish: one number and no lock.
//!
//! The generic cell rate algorithm keeps the moment at which everything granted so far would have
//! been used up at the allowed rate. A grant moves it by one event's share, and is refused where
//! that would lead more than a second ahead: so a tenant that was quiet may use a second's worth at
//! once. Each node counts for itself.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use pregon_core::clock::Timestamp;

const SECOND: i64 = 1_000_000_000;

/// What a tenant used of its rate, shared by the snapshots that it goes through.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// Nanoseconds since the Unix epoch.
    used_up: AtomicI64,
}

impl Rate {
    /// Takes one event's share of `per_second`, or says when there is one.
    pub(super) fn take(&self, per_second: u32, now: Timestamp) -> Result<(), Duration> {
        if per_second == 0 {
            return Ok(());
        }
        let share = SECOND / i64::from(per_second);
        let now = now.millis().saturating_mul(1_000_000);
        let mut used_up = self.used_up.load(Ordering::Relaxed);
        loop {
            // More than a second ahead is never granted: the clock was set back since.
            let from = if used_up - now > SECOND { now } else { used_up.max(now) };
            let to = from + share;
            if to - now > SECOND {
                let wait = u64::try_from(to - now - SECOND).unwrap_or(0);
                return Err(Duration::from_nanos(wait));
            }
            let order = Ordering::Relaxed;
            match self.used_up.compare_exchange_weak(used_up, to, order, order) {
                Ok(_) => return Ok(()),
                Err(found) => used_up = found,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_granted_at_once_and_then_the_rate() {
        let rate = Rate::default();
        let at = |ms: i64| Timestamp::from_millis(1_000_000 + ms);
        for _ in 0..10 {
            assert_eq!(rate.take(10, at(0)), Ok(()));
        }
        assert_eq!(rate.take(10, at(0)), Err(Duration::from_millis(100)));
        assert_eq!(rate.take(10, at(60)), Err(Duration::from_millis(40)));
        assert_eq!(rate.take(10, at(100)), Ok(()));
        assert!(rate.take(10, at(100)).is_err());
        let later = (0..30).filter(|_| rate.take(10, at(60_000)).is_ok()).count();
        assert_eq!(later, 10);
        assert_eq!(rate.take(10, at(-3_600_000)), Ok(()), "a clock that is set back");
        assert_eq!(rate.take(0, at(0)), Ok(()), "no limit");
    }
}
