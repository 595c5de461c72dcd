//! How much more may be published for a tenant, by what it has outstanding.
//!
//! The store's counters say what that is. A look at them holds for a second, less what this node
//! lets in meanwhile; where nothing is left, the next look comes sooner. So a limit is kept to what
//! other nodes let in within that second.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long a look holds.
const FRESH: Duration = Duration::from_secs(1);
/// How soon there may be another where the last one left nothing.
const AGAIN: Duration = Duration::from_millis(10);

/// What is left of a tenant's limit. Lives as long as the tenant is known.
#[derive(Debug)]
pub(super) struct Quota {
    left: AtomicI64,
    /// Milliseconds from `start` to the last look, and one more; 0: there was none.
    looked: AtomicU64,
    start: Instant,
    looking: Mutex<()>,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            left: AtomicI64::new(0),
            looked: AtomicU64::new(0),
            start: Instant::now(),
            looking: Mutex::new(()),
        }
    }
}

impl Quota {
    /// Takes one event's place; false: as much is outstanding as may be. `outstanding` looks at the
    /// store; where that answers nothing, events are let in for a second, for the store to refuse.
    pub(super) async fn take<E>(
        &self,
        max: u32,
        outstanding: impl Future<Output = Result<u64, E>>,
    ) -> bool {
        if self.is_younger(FRESH) && self.take_left() {
            return true;
        }
        let _one = self.looking.lock().await;
        // Somebody may have looked meanwhile.
        if self.is_younger(FRESH) && self.take_left() {
            return true;
        }
        if self.is_younger(AGAIN) {
            return false;
        }
        let max = i64::from(max);
        let left = match outstanding.await {
            Ok(outstanding) => max.saturating_sub(i64::try_from(outstanding).unwrap_or(i64::MAX)),
            Err(_) => max.max(1),
        };
        self.left.store(left, Ordering::Relaxed);
        self.looked.store(self.elapsed() + 1, Ordering::Relaxed);
        self.take_left()
    }

    fn take_left(&self) -> bool {
        let take = |left: i64| (left > 0).then(|| left - 1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    fn is_younger(&self, than: Duration) -> bool {
        let looked = self.looked.load(Ordering::Relaxed);
        looked > 0 && u128::from(self.elapsed() + 1 - looked) < than.as_millis()
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    async fn take(quota: &Quota, outstanding: u64) -> bool {
        quota.take(3, async { Ok::<_, Infallible>(outstanding) }).await
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_let_in_counts_until_the_next_look() {
        let quota = Quota::default();
        assert!(take(&quota, 1).await && take(&quota, 0).await, "two are left, by the first look");
        assert!(!take(&quota, 0).await, "no other look as soon");
        tokio::time::advance(AGAIN).await;
        assert!(take(&quota, 2).await);
        assert!(!take(&quota, 2).await);
        tokio::time::advance(AGAIN).await;
        assert!(!take(&quota, 3).await);
        assert!(!take(&quota, 0).await);
        tokio::time::advance(FRESH).await;
        assert!(take(&quota, 0).await);
        tokio::time::advance(FRESH).await;
        assert!(!take(&quota, 9).await, "the limit was lowered, or other nodes were faster");
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_answer_refuses_for_itself() {
        let quota = Quota::default();
        assert!(quota.take(1, async { Err(()) }).await);
        assert!(!quota.take(1, async { Err(()) }).await);
        tokio::time::advance(AGAIN).await;
        assert!(quota.take(1, async { Err(()) }).await);
    }
}
