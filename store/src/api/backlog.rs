//! How much waits, and for how long already: what telemetry asks every few seconds.
//!
//! The answer has to cost the same whether nothing waits or millions do, so nothing is walked.
//! Every step that makes or ends a delivery in trouble also moves two counters, one of its stretch
//! of [`STRETCH`] event numbers and one of the [`STRETCHES`] stretches around it; a success at the
//! first attempt moves none. Numbers rise with accept times, so that an age is a number found by
//! bisection, and what lies below it is a sum of counters. Only the stretch that an age cuts through
//! is looked into, delivery by delivery, [`LOOK`] of them at most; where it holds more, it is
//! divided in proportion to its numbers. That, a clock set back, and events that outlived their
//! history (see [`BacklogReport::deliveries`]) are where counts by age are not exact. Their sum is.

use std::time::Duration;

use async_trait::async_trait;
use pregon_core::clock::Timestamp;

use crate::StoreError;

/// Classes of age that deliveries are counted in.
pub const AGES: usize = 6;

/// The oldest event of each class but the last, which has no end.
pub const AGE_LIMITS: [Duration; AGES - 1] = [
    Duration::from_secs(60),
    Duration::from_secs(600),
    Duration::from_secs(3600),
    Duration::from_secs(6 * 3600),
    Duration::from_secs(24 * 3600),
];

/// Event numbers that share a counter: few enough to be looked into one by one, five times a call.
pub(crate) const STRETCH: i64 = 256;
/// Stretches that share a counter of the second kind: so that a billion events have some fifteen
/// thousand of them, and a call reads no more than that and five times this many.
pub(crate) const STRETCHES: i64 = 256;
/// Records that a call looks at in one stretch; one event may have ten thousand.
pub(crate) const LOOK: i64 = 10_000;

/// What waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BacklogReport {
    /// Events still to be matched: nobody took them yet, a node matches or attempts them from
    /// memory just now, or they were put off. Those whose time has not come are not among them.
    pub events: u64,
    /// Pending deliveries, those in flight included, by the age of their event: at most
    /// [`AGE_LIMITS`], the last older than that. On Redis, events that are kept beyond the history
    /// only because something of them is pending count as older than every age that the history
    /// does not reach back to, as far as the oldest of all allows.
    pub deliveries: [u64; AGES],
    /// When the oldest event with a pending delivery was accepted.
    pub oldest: Option<Timestamp>,
    /// When this held, by the store's clock.
    pub now: Timestamp,
}

impl BacklogReport {
    /// All pending deliveries.
    pub fn pending(&self) -> u64 {
        self.deliveries.iter().sum()
    }
}

/// How much waits.
#[async_trait]
pub trait Backlog: Send + Sync {
    /// What waits just now, in all partitions. Bounded, and cheap enough to be asked every ten
    /// seconds by every node.
    async fn backlog(&self) -> Result<BacklogReport, StoreError>;
}

/// Deliveries by age, from how many there are and how many of them are older than each limit.
pub(crate) fn by_age(pending: u64, older: [u64; AGES - 1]) -> [u64; AGES] {
    let mut counts = [0; AGES];
    let mut left = pending;
    for (count, older) in counts.iter_mut().zip(older) {
        let older = older.min(left);
        *count = left - older;
        left = older;
    }
    counts[AGES - 1] = left;
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_delivery_has_one_age() {
        assert_eq!(by_age(10, [9, 7, 7, 2, 0]), [1, 2, 0, 5, 2, 0]);
        assert_eq!(by_age(10, [10; 5]), [0, 0, 0, 0, 0, 10]);
        // Whatever the parts say, the sum is what there is.
        assert_eq!(by_age(10, [12, 3, 5, 1, 1]), [0, 7, 0, 2, 0, 1]);
        assert_eq!(by_age(0, [3; 5]), [0; AGES]);
    }
}
