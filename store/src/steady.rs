//! A wall clock that is not thrown by a step.
//!
//! A store keeps moments: when a delivery is due, how old one is. Were its clock eight days ahead for
//! a minute, what waits would expire, and what is put off would be due eight days late. So time goes
//! on by the machine's monotonic clock. Small differences to the wall clock are followed at once; a
//! step is told, and followed once it has stayed for [`STAYS`]. Signatures and certificates go by the
//! wall clock all the while, as whoever checks them does.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pregon_core::clock::{Clock, SharedClock, Timestamp};

/// Differences up to this are no step: what time servers correct by and by.
const SMALL_MS: i64 = 2_000;
/// How long a step stays before it is followed.
pub const STAYS: Duration = Duration::from_secs(300);

/// The clock.
pub struct SteadyClock {
    wall: SharedClock,
    elapsed: Box<dyn Fn() -> Duration + Send + Sync>,
    state: Mutex<State>,
}

struct State {
    /// What is added to the time elapsed, in ms.
    offset: i64,
    /// A step that is not followed yet: the offset it leads to, and when it was seen.
    step: Option<(i64, Duration)>,
}

impl SteadyClock {
    /// A clock beside the wall clock, which is right just now.
    #[allow(clippy::disallowed_methods)] // no clock that steps can stand in for this one
    pub fn over(wall: SharedClock) -> Arc<Self> {
        let start = Instant::now();
        Arc::new(Self::by(wall, Box::new(move || start.elapsed())))
    }

    fn by(wall: SharedClock, elapsed: Box<dyn Fn() -> Duration + Send + Sync>) -> Self {
        let offset = wall.now().millis() - millis(elapsed());
        Self { wall, elapsed, state: Mutex::new(State { offset, step: None }) }
    }
}

fn millis(elapsed: Duration) -> i64 {
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = (self.elapsed)();
        let offset = self.wall.now().millis() - millis(elapsed);
        let off = offset - state.offset;
        if off.abs() <= SMALL_MS {
            if state.step.take().is_some() {
                tracing::warn!("the clock is back where it was");
            }
            state.offset = offset;
            return Timestamp::from_millis(millis(elapsed) + offset);
        }
        let seconds = off / 1000;
        match state.step {
            Some((to, since)) if (to - offset).abs() <= SMALL_MS => {
                if elapsed.saturating_sub(since) >= STAYS {
                    tracing::warn!(seconds, "the clock stepped and stayed; the store follows it");
                    *state = State { offset, step: None };
                }
            }
            Some(_) | None => {
                tracing::warn!(
                    seconds,
                    stays = STAYS.as_secs(),
                    "the clock stepped; the store goes on as before until the step has stayed"
                );
                state.step = Some((offset, elapsed));
            }
        }
        Timestamp::from_millis(millis(elapsed) + state.offset)
    }
}

impl std::fmt::Debug for SteadyClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SteadyClock").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    const DAY: i64 = 24 * 3_600_000;

    /// A wall clock that can be set, and time that goes by.
    #[derive(Debug, Default)]
    struct Hands(AtomicI64);

    impl Clock for Hands {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.0.load(Ordering::SeqCst))
        }
    }

    struct Bench {
        wall: Arc<Hands>,
        elapsed: Arc<AtomicI64>,
        clock: SteadyClock,
    }

    impl Bench {
        fn new() -> Self {
            let (wall, elapsed) = (Arc::new(Hands::default()), Arc::new(AtomicI64::new(0)));
            wall.0.store(1_000 * DAY, Ordering::SeqCst);
            let own = Arc::clone(&elapsed);
            let elapsed_now =
                move || Duration::from_millis(own.load(Ordering::SeqCst).unsigned_abs());
            let clock = SteadyClock::by(wall.clone(), Box::new(elapsed_now));
            Self { wall, elapsed, clock }
        }

        /// Time goes by, on both clocks.
        fn pass(&self, ms: i64) {
            self.wall.0.fetch_add(ms, Ordering::SeqCst);
            self.elapsed.fetch_add(ms, Ordering::SeqCst);
        }

        fn set_ahead(&self, ms: i64) {
            self.wall.0.fetch_add(ms, Ordering::SeqCst);
        }

        /// Milliseconds since the beginning, as the clock has it.
        fn shown(&self) -> i64 {
            self.clock.now().millis() - 1_000 * DAY
        }
    }

    #[test]
    fn a_step_that_is_taken_back_moves_nothing() {
        for step in [8 * DAY, -8 * DAY, 3_600_000, -3_600_000] {
            let bench = Bench::new();
            bench.pass(1_000);
            bench.set_ahead(step);
            assert_eq!(bench.shown(), 1_000);
            for _ in 0..60 {
                bench.pass(1_000);
                bench.clock.now();
            }
            assert_eq!(bench.shown(), 61_000);
            bench.set_ahead(-step);
            bench.pass(1_000);
            assert_eq!(bench.shown(), 62_000);
        }
    }

    #[test]
    fn a_step_that_stays_is_followed() {
        let bench = Bench::new();
        bench.set_ahead(DAY);
        assert_eq!(bench.shown(), 0);
        bench.pass(millis(STAYS) - 1);
        assert_eq!(bench.shown(), millis(STAYS) - 1);
        bench.pass(1);
        assert_eq!(bench.shown(), millis(STAYS) + DAY);
        // Another one is waited for anew.
        bench.set_ahead(DAY);
        assert_eq!(bench.shown(), millis(STAYS) + DAY);
    }

    #[test]
    fn small_corrections_are_followed_at_once() {
        let bench = Bench::new();
        for _ in 0..10 {
            bench.pass(10_000);
            bench.set_ahead(1_500);
            bench.clock.now();
        }
        assert_eq!(bench.shown(), 115_000);
    }
}
