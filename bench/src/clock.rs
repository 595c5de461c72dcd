//! The clock that all processes of a benchmark share.
//!
//! CLOCK_MONOTONIC counts the same nanoseconds in every process of one machine and is never set,
//! so a moment that the load generator writes into an event can be subtracted in the sink. The
//! wall clock would do until somebody corrects it in the middle of a run.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Nanoseconds of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(pub u64);

impl Moment {
    /// Now.
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanos = u64::try_from(time.tv_nsec).unwrap_or_default();
        Self(seconds * 1_000_000_000 + nanos)
    }

    /// How long after `earlier` this is; zero when it is not.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This moment and a stretch after it, saturating.
    pub fn plus(self, stretch: Duration) -> Self {
        Self(self.0.saturating_add(nanos(stretch)))
    }
}

/// A stretch in nanoseconds, saturating.
pub fn nanos(stretch: Duration) -> u64 {
    u64::try_from(stretch.as_nanos()).unwrap_or(u64::MAX)
}
