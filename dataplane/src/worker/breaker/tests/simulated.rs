//! Receivers that bear so much, with a backlog before them: how soon it is drained, and how many
//! attempts fail for it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

/// What a receiver bears.
#[derive(Clone, Copy, Debug)]
enum Bears {
    /// So many in each second of its clock; what is more fails.
    Second(u32),
    /// So many within any second; what is more fails.
    Sliding(u32),
    /// The same, but what fails counts as well: too many, and nothing succeeds.
    Collapsing(u32),
    /// All, but so many of a hundred fail by chance.
    Chance(u32),
}

struct Receiver {
    bears: Bears,
    down_until: u64,
    lately: VecDeque<u64>,
    chance: StdRng,
}

impl Receiver {
    fn new(bears: Bears, down_until: u64, seed: u64) -> Self {
        let chance = StdRng::seed_from_u64(seed);
        Self { bears, down_until, lately: VecDeque::new(), chance }
    }

    /// Whether it takes a request at that millisecond.
    fn takes(&mut self, at: u64) -> bool {
        if at < self.down_until {
            return false;
        }
        let old = |then: u64| match self.bears {
            Bears::Second(_) => then / 1000 != at / 1000,
            Bears::Sliding(_) | Bears::Collapsing(_) | Bears::Chance(_) => then + 1000 <= at,
        };
        while self.lately.front().is_some_and(|then| old(*then)) {
            self.lately.pop_front();
        }
        let has = u32::try_from(self.lately.len()).unwrap();
        let takes = match self.bears {
            Bears::Second(most) | Bears::Sliding(most) | Bears::Collapsing(most) => has < most,
            Bears::Chance(percent) => return !self.chance.random_ratio(percent, 100),
        };
        if takes || matches!(self.bears, Bears::Collapsing(_)) {
            self.lately.push_back(at);
        }
        takes
    }
}

/// How a backlog was drained.
#[derive(Debug)]
struct Drained {
    /// When nineteen of twenty were delivered, in seconds.
    most: f64,
    /// Attempts that failed.
    failed: usize,
}

/// Drains so many deliveries, by 64 slots, each attempt taking so many milliseconds; what fails is tried
/// again as Standard Webhooks says.
fn drain(mut receiver: Receiver, deliveries: usize, takes: u64) -> Drained {
    const SCHEDULE: [u64; 6] = [5, 300, 1800, 7200, 18_000, 36_000];
    let begun = Instant::now();
    let at = |ms: u64| begun + Duration::from_millis(ms);
    let mut breaker = Breaker::new(begun);
    let mut waiting: VecDeque<usize> = vec![0; deliveries].into();
    let mut later: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let mut flying: VecDeque<(u64, usize, bool)> = VecDeque::new();
    let (mut ms, mut delivered, mut failed) = (0, 0, 0);
    while delivered * 20 < deliveries * 19 {
        assert!(ms < 36_000_000, "not within ten hours: {delivered} of {deliveries}; {breaker:?}");
        while let Some((started, tried, good)) = flying.front().copied()
            && started + takes <= ms
        {
            flying.pop_front();
            let signal = if good { Signal::Good } else { Signal::Failed };
            breaker.ended(at(ms), at(started), signal);
            if good {
                delivered += 1;
            } else {
                failed += 1;
                later.push(Reverse((ms + 1000 * SCHEDULE[tried.min(5)], tried + 1)));
            }
        }
        while let Some(Reverse((due, tried))) = later.peek().copied()
            && due <= ms
        {
            later.pop();
            waiting.push_front(tried);
        }
        breaker.look(at(ms));
        while flying.len() < 64 && !waiting.is_empty() && breaker.may_start(at(ms)) {
            breaker.started(at(ms));
            let tried = waiting.pop_front().unwrap();
            flying.push_back((ms, tried, receiver.takes(ms)));
        }
        ms += 10;
    }
    Drained { most: Duration::from_millis(ms).as_secs_f64(), failed }
}

#[tokio::test]
async fn an_overloaded_receiver_is_drained_at_what_it_bears() {
    for bears in [Bears::Second(20), Bears::Sliding(20)] {
        for takes in [10, 200] {
            let drained = drain(Receiver::new(bears, 0, 1), 5000, takes);
            let ideal = 0.95 * 5000.0 / 20.0;
            assert!(drained.most < 1.25 * ideal, "{bears:?}, {takes} ms: {drained:?}");
            assert!(drained.failed < 500, "{bears:?}, {takes} ms: {drained:?}");
        }
    }
}

#[tokio::test]
async fn a_receiver_that_collapses_when_overloaded_is_drained_too() {
    for takes in [10, 200] {
        let drained = drain(Receiver::new(Bears::Collapsing(20), 0, 1), 5000, takes);
        assert!(drained.most < 2.0 * 0.95 * 250.0, "{takes} ms: {drained:?}");
        assert!(drained.failed < 1000, "{takes} ms: {drained:?}");
    }
}

#[tokio::test]
async fn a_slow_receiver_and_a_fast_one_are_drained() {
    for (most, deliveries) in [(5_u32, 1000_usize), (200, 50_000)] {
        let drained = drain(Receiver::new(Bears::Second(most), 0, 1), deliveries, 10);
        let ideal = 0.95 * deliveries as f64 / f64::from(most);
        assert!(drained.most < 1.5 * ideal, "{most} a second: {drained:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    /// A receiver that was down for a minute and then fails by chance gets back to its speed: 6,400 a
    /// second by its slots.
    #[test]
    fn failures_by_chance_do_not_keep_it_slow(seed: u64, percent in 0_u32..=10) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _in = runtime.enter();
        let drained = drain(Receiver::new(Bears::Chance(percent), 60_000, seed), 50_000, 10);
        prop_assert!(drained.most < 900.0, "{percent} %: {drained:?}");
        // Of the minute that it was down probes fail, and little else.
        let by_chance = 50_000 * percent as usize / 100;
        prop_assert!(drained.failed < 64 + 100 + by_chance * 5 / 4, "{percent} %: {drained:?}");
    }
}
