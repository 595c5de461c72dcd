//! How fast a credential may go on: one number and no lock.
//!
//! It keeps the moment at which all that was granted so far is used up at the allowed rate. A grant
//! moves it by what is taken, and is refused where it lies a second ahead or more: so whoever was
//! quiet may use a second's worth at once. What is taken at once may be more than that; it is paid
//! off before the next grant.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

const SECOND: u64 = 1_000_000_000;

/// What was used of a rate.
#[derive(Debug)]
pub(crate) struct Rate {
    start: Instant,
    /// Nanoseconds since the start.
    used_up: AtomicU64,
}

impl Default for Rate {
    fn default() -> Self {
        Self { start: Instant::now(), used_up: AtomicU64::new(0) }
    }
}

impl Rate {
    /// Takes so many shares of `per_second` (0: no limit), or says when there is one.
    pub(crate) fn take(&self, per_second: u32, shares: u32) -> Result<(), Duration> {
        if per_second == 0 {
            return Ok(());
        }
        let one = SECOND / u64::from(per_second);
        let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let take = |used_up: u64| {
            let from = used_up.max(now);
            (from + one <= now + SECOND).then(|| from + one * u64::from(shares))
        };
        let order = Ordering::Relaxed;
        let taken = self.used_up.fetch_update(order, order, take);
        taken.map(drop).map_err(|used_up| {
            Duration::from_nanos((used_up.max(now) + one).saturating_sub(now + SECOND))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_second_is_granted_at_once_and_then_the_rate() {
        let rate = Rate::default();
        assert!((0..10).all(|_| rate.take(10, 1).is_ok()));
        assert_eq!(rate.take(10, 1), Err(Duration::from_millis(100)));
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(rate.take(10, 1), Ok(()));
        assert!(rate.take(10, 1).is_err());
        assert_eq!(rate.take(0, 1), Ok(()), "no limit");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_more_than_a_second_is_paid_off() {
        let rate = Rate::default();
        assert_eq!(rate.take(1024, 10 * 1024), Ok(()));
        let wait = rate.take(1024, 1).unwrap_err();
        assert!(wait > Duration::from_secs(8) && wait < Duration::from_secs(10), "{wait:?}");
        tokio::time::advance(wait).await;
        assert_eq!(rate.take(1024, 1), Ok(()));
    }
}
