use proptest::prelude::*;

use super::*;

mod simulated;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A breaker that opened at the moment it tells.
fn opened() -> (Breaker, Instant) {
    let t = Instant::now();
    let mut breaker = Breaker::new(t);
    let shifts: Vec<_> = (0..RUN).filter_map(|_| breaker.ended(t, t, Signal::Failed)).collect();
    assert_eq!(shifts, [Shift::Opened { wait: WAIT_MIN, again: false }]);
    (breaker, t)
}

/// A breaker that recovers since the moment it tells.
fn recovering() -> (Breaker, Instant) {
    let (mut breaker, t) = opened();
    let t = t + WAIT_MIN;
    assert!(breaker.may_start(t));
    breaker.started(t);
    assert_eq!(breaker.ended(t, t, Signal::Good), Some(Shift::Recovering));
    (breaker, t)
}

#[tokio::test]
async fn failures_in_a_row_open_it_and_a_success_between_does_not() {
    let t = Instant::now();
    let mut breaker = Breaker::new(t);
    for _ in 0..3 {
        for _ in 0..RUN - 1 {
            assert_eq!(breaker.ended(t, t, Signal::Failed), None);
        }
        assert_eq!(breaker.ended(t, t, Signal::Good), None);
        if breaker.seen == WINDOW {
            break;
        }
    }
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test]
async fn connections_that_do_not_come_about_weigh_more() {
    let t = Instant::now();
    let mut breaker = Breaker::new(t);
    let refused = (1..).find(|_| breaker.ended(t, t, Signal::Unreachable).is_some());
    assert_eq!(refused, Some(5));
}

#[tokio::test]
async fn half_of_the_last_attempts_open_it() {
    let t = Instant::now();
    let mut breaker = Breaker::new(t);
    let signals = (0..).map(|n| if n % 2 == 0 { Signal::Failed } else { Signal::Good });
    let at = signals.take(1000).position(|signal| breaker.ended(t, t, signal).is_some());
    assert_eq!(at, Some(64), "the first failure with a whole window");
}

#[tokio::test]
async fn one_probe_at_a_time_and_waits_that_double_up_to_a_minute() {
    let (mut breaker, mut t) = opened();
    let mut waits = Vec::new();
    let mut wait = WAIT_MIN;
    for _ in 0..8 {
        assert!(breaker.shut(t) && !breaker.may_start(t + wait - MS));
        t += wait;
        assert!(!breaker.shut(t) && breaker.may_start(t));
        assert_eq!(breaker.places(t, SECOND), Some(1));
        breaker.started(t);
        assert!(!breaker.may_start(t + 60 * SECOND), "another, before the first has ended");
        assert_eq!(breaker.places(t, SECOND), Some(0));
        assert_eq!(breaker.ended(t, t - SECOND, Signal::Good), None, "one of before is no probe");
        let Some(Shift::Opened { wait: next, again: true }) = breaker.ended(t, t, Signal::Failed)
        else {
            panic!("{breaker:?}")
        };
        wait = next;
        waits.push(next.as_secs());
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
}

#[tokio::test]
async fn a_probe_that_is_not_made_or_says_nothing_makes_room_for_another() {
    let (mut breaker, t) = opened();
    let t = t + WAIT_MIN;
    breaker.started(t);
    breaker.not_made();
    assert!(breaker.may_start(t));
    breaker.started(t);
    assert_eq!(breaker.ended(t + MS, t, Signal::Nothing), None);
    assert!(breaker.may_start(t + MS));
}

#[tokio::test]
async fn the_rate_doubles_each_second_and_the_breaker_closes_when_it_is_not_needed() {
    let (mut breaker, begun) = recovering();
    let (mut t, mut starts) = (begun, Vec::new());
    while t < begun + 8 * SECOND {
        if breaker.may_start(t) {
            breaker.started(t);
            starts.push((t - begun).as_secs());
            assert_eq!(breaker.ended(t, t, Signal::Good), None);
        } else {
            t += MS;
        }
    }
    let second = |n: u64| starts.iter().filter(|at| **at == n).count();
    let counts: Vec<usize> = (0..8).map(second).collect();
    assert!(counts[0] <= 4, "{counts:?}");
    assert!(
        counts.windows(2).skip(1).all(|two| two[1] > two[0] && two[1] < 3 * two[0]),
        "{counts:?}"
    );
    assert!(counts[7] > 100, "{counts:?}");
    // Then there is little to do, and nothing is held back.
    assert_eq!(breaker.look(t + FREE - SECOND), None);
    assert_eq!(breaker.look(t + FREE), Some(Shift::Closed));
    assert!(!breaker.is_at_rest(t + FREE + KEPT - SECOND));
    assert!(breaker.is_at_rest(t + FREE + KEPT));
}

#[tokio::test]
async fn refusals_slow_down_and_do_not_open_and_a_success_ends_that() {
    let t = Instant::now();
    let mut breaker = Breaker::new(t);
    let at = (1..).find(|_| breaker.ended(t, t, Signal::Refused).is_some());
    assert_eq!((at, breaker.state()), (Some(REFUSALS), State::Recovering));
    let (mut now, mut starts) = (t, 0);
    while now < t + 60 * SECOND {
        if breaker.may_start(now) {
            breaker.started(now);
            starts += 1;
            assert_eq!(breaker.ended(now, now, Signal::Refused), None);
        }
        now += MS;
    }
    assert!((110..=125).contains(&starts), "{starts}");
    for _ in 0..20 {
        breaker.may_start(now);
        breaker.ended(now, now, Signal::Good);
    }
    assert!(breaker.places(now, SECOND) >= Some(15), "{breaker:?}");
}

#[tokio::test]
async fn what_another_node_found_begins_with_a_probe_unless_more_is_known_here() {
    let t = Instant::now();
    let mut breaker = Breaker::new(t);
    assert!(breaker.heard(t, t, 5 * SECOND));
    assert!(breaker.shut(t + 4 * SECOND) && breaker.may_start(t + 5 * SECOND));
    assert!(!breaker.heard(t, t, 9 * SECOND), "it is open");

    let mut fresh = Breaker::new(t);
    assert!(fresh.heard(t, t, Duration::ZERO));
    assert_eq!(fresh.places(t, SECOND), Some(1));

    let (mut known, t) = recovering();
    assert!(!known.heard(t, t, SECOND), "it recovers");
    let late = t + 60 * SECOND;
    assert_eq!(known.look(late), Some(Shift::Closed));
    assert!(!known.heard(late, late, Duration::ZERO), "that is its own mark");
    assert!(!known.heard(late, late - SECOND, SECOND), "what was before it closed");
    assert!(known.heard(late, late + MS, SECOND));
}

#[tokio::test]
async fn a_row_of_failures_ends_with_one_success() {
    let t = Instant::now();
    let mut breaker = Breaker::new(t);
    assert_eq!(breaker.streak(t), None);
    breaker.ended(t, t, Signal::Refused);
    breaker.ended(t + SECOND, t, Signal::Failed);
    assert_eq!(breaker.streak(t + 5 * SECOND), Some(5 * SECOND));
    breaker.ended(t + 6 * SECOND, t, Signal::Good);
    assert_eq!(breaker.streak(t + 7 * SECOND), None);
}

/// A signal, and how long after the last.
fn history() -> impl Strategy<Value = Vec<(Signal, u64)>> {
    let signal = prop_oneof![
        Just(Signal::Good),
        Just(Signal::Failed),
        Just(Signal::Failed),
        Just(Signal::Unreachable),
        Just(Signal::Refused),
        Just(Signal::Nothing),
    ];
    proptest::collection::vec((signal, 0_u64..3000), 1..400)
}

proptest! {
    /// Whatever happens, the next attempt may start within the longest wait, once those under way have
    /// ended; and while it is open there is never a second one under way.
    #[test]
    fn it_always_goes_on_and_never_with_two_probes(history in history()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _in = runtime.enter();
        let mut t = Instant::now();
        let mut breaker = Breaker::new(t);
        for (signal, after) in history {
            let asked = t;
            while !breaker.may_start(t) {
                t += 100 * MS;
                prop_assert!(t <= asked + WAIT_MAX + 100 * MS, "{breaker:?}");
            }
            breaker.started(t);
            if breaker.state() == State::Open {
                prop_assert!(!breaker.may_start(t + WAIT_MAX));
            }
            let started = t;
            t += Duration::from_millis(after);
            breaker.ended(t, started, signal);
            breaker.look(t);
        }
    }

    /// A receiver that fails now and then, by chance, is not held back.
    #[test]
    fn failures_by_chance_do_not_open_it(seed: u64, percent in 0_u32..=15) {
        use rand::{Rng, SeedableRng};
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _in = runtime.enter();
        let t = Instant::now();
        let (mut chance, mut breaker) = (rand::rngs::StdRng::seed_from_u64(seed), Breaker::new(t));
        for _ in 0..10_000 {
            let bad = chance.random_ratio(percent, 100);
            let signal = if bad { Signal::Failed } else { Signal::Good };
            prop_assert_eq!(breaker.ended(t, t, signal), None);
        }
    }

    /// One kind of event that is always refused does not hold up the others.
    #[test]
    fn refusals_among_successes_hold_nothing_back(seed: u64, percent in 0_u32..=70) {
        use rand::{Rng, SeedableRng};
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _in = runtime.enter();
        let t = Instant::now();
        let (mut chance, mut breaker) = (rand::rngs::StdRng::seed_from_u64(seed), Breaker::new(t));
        for _ in 0..10_000 {
            let refused = chance.random_ratio(percent, 100);
            let signal = if refused { Signal::Refused } else { Signal::Good };
            prop_assert_eq!(breaker.ended(t, t, signal), None);
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// A receiver that answers probes and fails under any load opens it a bounded number of times.
    #[test]
    fn it_does_not_flap(good in 1_u32..40, bad in 1_u32..40) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _in = runtime.enter();
        let begun = Instant::now();
        let (mut t, mut breaker, mut n, mut opened) = (begun, Breaker::new(begun), 0, 0_u32);
        while t < begun + 1800 * SECOND {
            if breaker.may_start(t) {
                breaker.started(t);
                n = (n + 1) % (good + bad);
                let signal = if n < good { Signal::Good } else { Signal::Failed };
                if let Some(Shift::Opened { .. }) = breaker.ended(t, t, signal) {
                    opened += 1;
                }
                if breaker.state() == State::Closed {
                    t += MS; // or nothing would take time
                }
            } else {
                t += 50 * MS;
            }
        }
        prop_assert!(opened <= 7 + 3 * 30, "{opened}");
    }
}
