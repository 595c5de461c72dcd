use proptest::prelude::*;

use super::*;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn failed(attempt: u32) -> Failure {
    Failure { attempt, took: secs(2), age: secs(2), status: Some(500), retry_after: None }
}

/// Every wait of a schedule when each attempt takes `took`, without chance.
fn waits(retry: &Retry, took: Duration) -> Vec<Duration> {
    let step = |attempt| retry.next(Failure { took, ..failed(attempt) }, 0.5);
    (1..).map_while(step).collect()
}

fn exponential(initial: u64, factor: f64, max_delay: u64, attempts: u32) -> Exponential {
    let (initial, max_delay) = (secs(initial), secs(max_delay));
    Exponential { initial, factor, max_delay, attempts, max_age: None }
}

fn retry(schedule: Schedule, jitter: f64, from: CountedFrom) -> Retry {
    Retry::new(schedule, jitter, from, RetryAfter::Cap(RETRY_AFTER_CAP)).unwrap()
}

#[test]
fn the_default_is_ten_sends_over_75_hours_and_35_minutes() {
    let standard = Retry::standard();
    let planned = waits(&standard, secs(15));
    assert_eq!(planned, [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400].map(secs));
    assert_eq!(planned.iter().sum::<Duration>(), secs(75 * 3600 + 35 * 60 + 5));
    assert_eq!(standard.sends(), 10);
    assert_eq!(standard.next(failed(1), 0.0), Some(Duration::from_millis(4500)));
    assert_eq!(standard.next(failed(1), 1.0), Some(Duration::from_millis(5500)));
    let same =
        Retry::new(standard.schedule.clone(), standard.jitter, standard.from, standard.retry_after);
    assert_eq!(same.unwrap(), standard);
}

#[test]
fn growing_delays_reach_their_top_and_end() {
    // 1 m doubling up to 6 h, 16 sends: 44.5 h in all.
    let schedule = Schedule::Exponential(exponential(60, 2.0, 21_600, 16));
    let planned = waits(&retry(schedule, 0.0, CountedFrom::End), secs(1));
    assert_eq!(planned.len(), 15);
    assert_eq!(planned[..4], [60, 120, 240, 480].map(secs));
    assert_eq!(planned[9..], [21_600; 6].map(secs));
    assert_eq!(planned.iter().sum::<Duration>(), secs(44 * 3600 + 31 * 60));
}

#[test]
fn a_delay_from_the_start_is_never_due_before_the_end() {
    let schedule = Schedule::Delays([300, 1800, 10_800, 21_600, 43_200].map(secs).to_vec());
    let retry = retry(schedule, 0.0, CountedFrom::Start);
    assert_eq!(waits(&retry, secs(20)), [280, 1780, 10_780, 21_580, 43_180].map(secs));
    let long = Failure { took: secs(400), ..failed(1) };
    assert_eq!(retry.next(long, 0.5), Some(Duration::ZERO));
}

#[test]
fn retry_after_counts_on_429_and_503_between_the_own_delay_and_the_cap() {
    let standard = Retry::standard();
    let answered = |status, wait| {
        let failure = Failure { status: Some(status), retry_after: Some(secs(wait)), ..failed(1) };
        standard.next(failure, 0.5)
    };
    assert_eq!(answered(429, 60), Some(secs(60)));
    assert_eq!(answered(503, 1), Some(secs(5)));
    assert_eq!(answered(503, 1_000_000), Some(secs(86_400)));
    assert_eq!(answered(500, 60), Some(secs(5)));
    assert_eq!(answered(302, 60), Some(secs(5)));
    let deaf = Retry { retry_after: RetryAfter::Ignore, ..standard.clone() };
    let failure = Failure { status: Some(429), retry_after: Some(secs(60)), ..failed(1) };
    assert_eq!(deaf.next(failure, 0.5), Some(secs(5)));
    // No cap takes from the schedule's own delay.
    let low = Retry { retry_after: RetryAfter::Cap(secs(1)), ..standard };
    assert_eq!(low.next(failure, 0.5), Some(secs(5)));
}

#[test]
fn no_send_after_the_greatest_age() {
    let grow = Exponential { max_age: Some(secs(100)), ..exponential(10, 2.0, 3600, 30) };
    let retry = retry(Schedule::Exponential(grow), 0.0, CountedFrom::End);
    let aged = |age| retry.next(Failure { age: secs(age), ..failed(1) }, 0.5);
    assert_eq!(aged(90), Some(secs(10)));
    assert_eq!(aged(91), None);
}

#[test]
fn bounds_are_kept() {
    let bad = |schedule, jitter| {
        let made = Retry::new(schedule, jitter, CountedFrom::End, RetryAfter::Ignore);
        assert_eq!(made.unwrap_err().rule, Rule::ContractInvalid);
    };
    bad(Schedule::Delays(vec![secs(1); 33]), 0.0);
    bad(Schedule::Delays(vec![Duration::from_millis(999)]), 0.0);
    bad(Schedule::Delays(vec![secs(7 * 86_400 + 1)]), 0.0);
    bad(Schedule::Once, 0.51);
    bad(Schedule::Once, -0.1);
    bad(Schedule::Once, f64::NAN);
    bad(Schedule::Exponential(exponential(0, 2.0, 60, 3)), 0.0);
    bad(Schedule::Exponential(exponential(1, 0.9, 60, 3)), 0.0);
    bad(Schedule::Exponential(exponential(1, f64::NAN, 60, 3)), 0.0);
    bad(Schedule::Exponential(exponential(1, 2.0, 60, 0)), 0.0);
    bad(Schedule::Exponential(exponential(1, 2.0, 60, 101)), 0.0);
    let old = Exponential { max_age: Some(secs(31 * 86_400)), ..exponential(1, 2.0, 60, 3) };
    bad(Schedule::Exponential(old), 0.0);
    let cap = RetryAfter::Cap(Duration::ZERO);
    assert!(Retry::new(Schedule::Once, 0.0, CountedFrom::End, cap).is_err());
    assert_eq!(Retry::once().next(failed(1), 0.5), None);
}

prop_compose! {
    fn any_delay()(ms in 1000u64..=604_800_000) -> Duration { Duration::from_millis(ms) }
}

fn any_schedule() -> impl Strategy<Value = Schedule> {
    let grow = (any_delay(), 1.0f64..=10.0, any_delay(), 1u32..=100, any::<bool>()).prop_map(
        |(initial, factor, max_delay, attempts, aged)| {
            let max_age = aged.then_some(AGE);
            Schedule::Exponential(Exponential { initial, factor, max_delay, attempts, max_age })
        },
    );
    prop_oneof![
        Just(Schedule::Once),
        prop::collection::vec(any_delay(), 0..=DELAYS).prop_map(Schedule::Delays),
        grow,
    ]
}

prop_compose! {
    fn any_retry()(
        schedule in any_schedule(), jitter in 0.0f64..=0.5, start: bool,
        cap in prop::option::of(any_delay()),
    ) -> Retry {
        let from = if start { CountedFrom::Start } else { CountedFrom::End };
        let retry_after = cap.map_or(RetryAfter::Ignore, RetryAfter::Cap);
        Retry::new(schedule, jitter, from, retry_after).unwrap()
    }
}

prop_compose! {
    fn any_failure()(
        attempt in prop_oneof![0u32..40, any::<u32>()], took in 0u64..60_000, age: u32,
        status in prop::option::of(prop_oneof![Just(429u16), Just(503), any::<u16>()]),
        wait in prop::option::of(any::<u64>()),
    ) -> Failure {
        let (took, age) = (Duration::from_millis(took), Duration::from_millis(age.into()));
        Failure { attempt, took, age, status, retry_after: wait.map(Duration::from_secs) }
    }
}

proptest! {
    #[test]
    fn a_wait_is_never_early_nor_late(retry in any_retry(), failure in any_failure(), random: f64) {
        let Some(wait) = retry.next(failure, random) else { return Ok(()) };
        let delay = retry.delay(failure.attempt).expect("a wait implies a delay");
        let spent = match retry.from { CountedFrom::Start => failure.took, CountedFrom::End => Duration::ZERO };
        // A microsecond for the rounding of floating point.
        let shortest = delay.mul_f64(1.0 - retry.jitter).saturating_sub(spent);
        prop_assert!(wait + Duration::from_micros(1) >= shortest);
        let longest = delay.mul_f64(1.0 + retry.jitter) + Duration::from_micros(1);
        let asked = retry.asked(failure.status, failure.retry_after).unwrap_or_default();
        prop_assert!(wait <= longest.max(asked));
        prop_assert!(wait >= asked);
    }

    #[test]
    fn a_receiver_is_not_undercut_up_to_the_cap(
        retry in any_retry(), failure in any_failure(), random in 0.0f64..1.0,
    ) {
        let (RetryAfter::Cap(cap), Some(429 | 503), Some(asked)) =
            (retry.retry_after, failure.status, failure.retry_after) else { return Ok(()) };
        if let Some(wait) = retry.next(failure, random) {
            prop_assert!(wait >= asked.min(cap));
            let own = retry.own_wait(failure, random).expect("a wait implies a delay");
            prop_assert!(wait <= own.max(cap));
        }
    }

    #[test]
    fn every_schedule_ends(retry in any_retry(), took in 0u64..60_000) {
        let failure = |attempt| Failure { took: Duration::from_millis(took), age: Duration::ZERO, ..failed(attempt) };
        let count = (1..=200).take_while(|n| retry.next(failure(*n), 0.5).is_some()).count();
        prop_assert_eq!(u32::try_from(count).unwrap() + 1, retry.sends());
        prop_assert_eq!(retry.next(failure(retry.sends()), 0.5), None);
        prop_assert_eq!(retry.next(failure(u32::MAX), 0.5), None);
    }
}
