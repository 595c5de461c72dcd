//! How fast requests may go to a receiver: a rate, and how much of it may be used at once.
//!
//! A rate is a row of slots, one request each, at even distances. Slots are handed out once, in
//! order. A request may use a slot from its moment on, and for [`Rate::slack`] afterwards; then it
//! lapses. So in any stretch of time `w` no more than `w` × rate + burst requests go out, whoever
//! makes them: those are the slots from `w` + slack, and slack is what the burst takes at the rate.
//! This is the generic cell rate algorithm, cut into pieces that can be handed to several nodes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

mod hosts;

pub use hosts::{BadHostRate, HOST_RATES_MAX, HostRate, HostRates};

/// The slowest rate, in thousandths of a request a second: one in a quarter of an hour or so.
pub const MILLI_MIN: u32 = 1;
/// The fastest: more than one process sends.
pub const MILLI_MAX: u32 = 100_000_000;
/// The largest burst.
pub const BURST_MAX: u32 = 100_000;
/// What is allowed within this time may always go out at once: timers and loops are not finer.
const FINEST_MICROS: u64 = 20_000;
/// The part of a second's requests that may go out at once where nobody says: so few that a
/// receiver that counts by seconds sees no more than a twentieth above its rate.
const BURST_SHARE: u32 = 20;

/// A rate above 0 and its burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rate {
    /// Requests in a thousand seconds: [`MILLI_MIN`] to [`MILLI_MAX`].
    milli: u32,
    /// Requests that may go out at once after a pause; 0: a twentieth of a second's, rounded up.
    #[serde(default, skip_serializing_if = "is_zero")]
    burst: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde asks
fn is_zero(burst: &u32) -> bool {
    *burst == 0
}

impl Rate {
    /// A rate by its requests a second, to the thousandth; none where that is not between 0.001 and
    /// 100,000, or the burst above [`BURST_MAX`] or what the rate allows in an hour (one, at least).
    pub fn new(per_second: f64, burst: u32) -> Option<Self> {
        let milli = (per_second * 1000.0).round();
        if !(f64::from(MILLI_MIN)..=f64::from(MILLI_MAX)).contains(&milli) {
            return None;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within its bounds
        let milli = milli as u32;
        let hour = (u64::from(milli) * 3600 / 1000).max(1);
        (burst <= BURST_MAX && u64::from(burst) <= hour).then_some(Self { milli, burst })
    }

    /// A rate in whole requests a second, with the usual burst; none: no limit.
    pub fn whole(per_second: u32) -> Option<Self> {
        Self::new(f64::from(per_second), 0)
    }

    /// Requests a second.
    pub fn per_second(self) -> f64 {
        f64::from(self.milli) / 1000.0
    }

    /// The burst as it was given; 0: nobody said.
    pub fn given_burst(self) -> u32 {
        self.burst
    }

    /// Requests that may go out at once after a pause: 1 at least.
    pub fn burst(self) -> u32 {
        let asked = match self.burst {
            0 => self.milli.div_ceil(1000 * BURST_SHARE),
            given => given,
        };
        let finest = (u64::from(self.milli) * FINEST_MICROS).div_ceil(1_000_000_000);
        asked.max(u32::try_from(finest).unwrap_or(u32::MAX))
    }

    /// Microseconds from one slot to the next.
    pub fn micros(self) -> f64 {
        1e9 / f64::from(self.milli.max(1))
    }

    /// From one slot to the next.
    pub fn interval(self) -> Duration {
        Duration::from_secs_f64(self.micros() / 1e6)
    }

    /// How long a slot may be used from its moment on.
    pub fn slack(self) -> Duration {
        self.interval() * self.burst()
    }

    /// Requests that it allows in so long, rounded up.
    pub fn within(self, time: Duration) -> usize {
        let count = (self.per_second() * time.as_secs_f64()).ceil();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // it saturates
        let count = count as usize;
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_burst_is_a_twentieth_of_a_second() {
        let burst = |per_second, burst| Rate::new(per_second, burst).map(Rate::burst);
        assert_eq!(burst(200.0, 0), Some(10));
        assert_eq!(burst(1.0, 0), Some(1));
        assert_eq!(burst(0.001, 0), Some(1));
        assert_eq!(burst(50.0, 2), Some(2));
        assert_eq!(burst(1000.0, 1), Some(20), "what 20 ms allow");
        assert_eq!(burst(100_000.0, 0), Some(5000));
    }

    #[test]
    fn what_is_out_of_bounds_is_no_rate() {
        for wrong in [0.0, -1.0, 0.0001, 100_001.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Rate::new(wrong, 0), None, "{wrong}");
        }
        assert!(Rate::new(100.0, BURST_MAX).is_some());
        assert_eq!(Rate::new(100.0, BURST_MAX + 1), None);
        assert!(Rate::new(0.001, 3).is_some(), "an hour's");
        assert_eq!(Rate::new(0.001, 4), None);
        assert_eq!(Rate::whole(0), None);
    }

    #[test]
    fn slots_and_their_slack() {
        let rate = Rate::new(200.0, 0).unwrap();
        assert_eq!(rate.interval(), Duration::from_millis(5));
        assert_eq!(rate.slack(), Duration::from_millis(50));
        assert_eq!(rate.within(Duration::from_millis(501)), 101);
        let slow = Rate::new(0.016, 0).unwrap();
        assert_eq!(slow.interval(), Duration::from_millis(62_500));
        assert_eq!(slow.within(Duration::from_secs(1)), 1);
    }

    #[test]
    fn a_document_says_no_more_than_it_must() {
        let written = serde_json::to_string(&Rate::new(2.5, 0).unwrap()).unwrap();
        assert_eq!(written, r#"{"milli":2500}"#);
        let read: Rate = serde_json::from_str(r#"{"milli":2500,"burst":7}"#).unwrap();
        assert_eq!(Some(read), Rate::new(2.5, 7));
    }
}
