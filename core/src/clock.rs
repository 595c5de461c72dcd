//! Time as an argument.
//!
//! The only place of the project that reads the wall clock. Everybody else is handed a [`Clock`]
//! (or an instant), so that schedules of days can be tested in microseconds. Waiting is not done
//! here: it is tokio's, on the monotonic clock.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A moment of wall-clock time: milliseconds since the Unix epoch, UTC.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 9999-12-30T22:00:00.000Z: the last moment whose year has four digits in every time zone.
    pub const MAX: Timestamp = Timestamp(253_402_207_200_000);
    /// 0001-01-01T00:00:00Z, the first moment that protobuf's Timestamp can say.
    pub const MIN: Timestamp = Timestamp(-62_135_596_800_000);

    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This moment and a stretch after it, saturating.
    pub fn plus(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This moment less a stretch, saturating.
    pub fn minus(self, stretch: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(stretch.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// From a text of RFC 3339, in any offset; parts of a millisecond are dropped.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|time| Self(time.as_millisecond()))
    }

    /// RFC 3339 in UTC with `Z` and exactly `digits` (0 to 3) fractional digits.
    pub fn rfc3339(self, digits: u8) -> String {
        let time = jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        format!("{time:.width$}", width = usize::from(digits.min(3)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339(3))
    }
}

/// Where wall-clock time comes from.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present moment.
    fn now(&self) -> Timestamp;

    /// The present moment in nanoseconds since the Unix epoch, as finely as the clock has it: for
    /// spans, whose stages take microseconds. Zero before the epoch.
    fn nanos(&self) -> u64 {
        u64::try_from(self.now().millis()).unwrap_or(0).saturating_mul(1_000_000)
    }
}

/// A shared clock.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one place that may
    fn now(&self) -> Timestamp {
        let ms = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
        };
        Timestamp(ms)
    }

    #[allow(clippy::disallowed_methods)] // as above
    fn nanos(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A clock that stands still until it is moved; for tests and simulation.
#[derive(Debug, Default)]
pub struct ManualClock(std::sync::atomic::AtomicI64);

impl ManualClock {
    /// A clock standing at `start`.
    pub fn at(start: Timestamp) -> Arc<Self> {
        Arc::new(Self(std::sync::atomic::AtomicI64::new(start.millis())))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.0.fetch_add(ms, std::sync::atomic::Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_has_exactly_the_digits_asked_for() {
        let time = Timestamp::from_millis(1_666_823_801_600);
        assert_eq!(time.rfc3339(3), "2022-10-26T22:36:41.600Z");
        assert_eq!(time.rfc3339(0), "2022-10-26T22:36:41Z");
        assert_eq!(Timestamp::from_millis(-1).rfc3339(3), "1969-12-31T23:59:59.999Z");
        assert_eq!(Timestamp::MAX.rfc3339(3), "9999-12-30T22:00:00.000Z");
    }
}
