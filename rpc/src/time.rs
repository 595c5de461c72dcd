//! Protobuf's times and durations, to and from ours.

use std::ops::RangeInclusive;
use std::time::Duration;

use pregon_core::clock::Timestamp;
use pregon_core::error::{Rule, Wrong};

/// The longest duration that protobuf's Duration may say: ten thousand years.
pub const DURATION_MAX: Duration = Duration::from_secs(315_576_000_000);

const NANOS_PER_SECOND: i32 = 1_000_000_000;
const NANOS_PER_MILLI: i32 = 1_000_000;

/// A moment as the API says it.
pub fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    let millis = i32::try_from(time.millis().rem_euclid(1000)).unwrap_or(0);
    prost_types::Timestamp { seconds: time.seconds(), nanos: millis * NANOS_PER_MILLI }
}

/// A moment that a caller gave, to the millisecond (the rest is cut off).
pub fn parse_timestamp(time: &prost_types::Timestamp) -> Result<Timestamp, Wrong> {
    if !(0..NANOS_PER_SECOND).contains(&time.nanos) {
        return Err(Wrong::new(Rule::Malformed, "nanos must be within 0 and 999999999"));
    }
    let parsed = time
        .seconds
        .checked_mul(1000)
        .and_then(|ms| ms.checked_add(i64::from(time.nanos / NANOS_PER_MILLI)))
        .map(Timestamp::from_millis);
    match parsed {
        Some(parsed) if (Timestamp::MIN..=Timestamp::MAX).contains(&parsed) => Ok(parsed),
        _ => Err(Wrong::new(
            Rule::OutOfRange,
            format!("must be within {} and {}", Timestamp::MIN, Timestamp::MAX),
        )),
    }
}

/// A duration as the API says it; one beyond [`DURATION_MAX`] as that.
pub fn duration(length: Duration) -> prost_types::Duration {
    let length = length.min(DURATION_MAX);
    prost_types::Duration {
        seconds: i64::try_from(length.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(length.subsec_nanos()).unwrap_or(0),
    }
}

/// A duration that a caller gave: not negative.
pub fn parse_duration(length: &prost_types::Duration) -> Result<Duration, Wrong> {
    let (seconds, nanos) = (length.seconds, length.nanos);
    if nanos.unsigned_abs() >= NANOS_PER_SECOND.unsigned_abs()
        || (seconds > 0 && nanos < 0)
        || (seconds < 0 && nanos > 0)
    {
        return Err(Wrong::new(
            Rule::Malformed,
            "nanos must be within 999999999 either way and of the same sign as seconds",
        ));
    }
    match (u64::try_from(seconds), u32::try_from(nanos)) {
        (Ok(seconds), Ok(nanos)) => {
            let parsed = Duration::new(seconds, nanos);
            in_range(parsed, Duration::ZERO..=DURATION_MAX)
        }
        _ => Err(Wrong::new(Rule::OutOfRange, "must not be negative")),
    }
}

/// A duration that a caller gave, within bounds.
pub fn parse_duration_within(
    length: &prost_types::Duration,
    bounds: RangeInclusive<Duration>,
) -> Result<Duration, Wrong> {
    in_range(parse_duration(length)?, bounds)
}

fn in_range(length: Duration, bounds: RangeInclusive<Duration>) -> Result<Duration, Wrong> {
    if bounds.contains(&length) {
        return Ok(length);
    }
    Err(Wrong::new(
        Rule::OutOfRange,
        format!("must be within {} s and {} s", seconds(*bounds.start()), seconds(*bounds.end())),
    ))
}

/// Whole seconds without a fraction, others with as much as they have.
fn seconds(length: Duration) -> String {
    if length.subsec_nanos() == 0 {
        length.as_secs().to_string()
    } else {
        length.as_secs_f64().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(seconds: i64, nanos: i32) -> prost_types::Timestamp {
        prost_types::Timestamp { seconds, nanos }
    }

    fn length(seconds: i64, nanos: i32) -> prost_types::Duration {
        prost_types::Duration { seconds, nanos }
    }

    #[test]
    fn moments_come_back_as_they_went() {
        for ms in [0, 1, -1, 999, -999, -1000, 1_666_823_801_600] {
            let there = Timestamp::from_millis(ms);
            assert_eq!(parse_timestamp(&timestamp(there)), Ok(there), "{ms}");
        }
        for there in [Timestamp::MIN, Timestamp::MAX] {
            assert_eq!(parse_timestamp(&timestamp(there)), Ok(there));
        }
        assert_eq!(timestamp(Timestamp::from_millis(-1)), time(-1, 999_000_000));
        assert_eq!(parse_timestamp(&time(1, 1_999_999)), Ok(Timestamp::from_millis(1001)));
    }

    #[test]
    fn moments_outside_the_calendar_are_refused() {
        for wrong in [time(i64::MAX, 0), time(i64::MIN, 0), time(253_402_300_800, 0)] {
            assert_eq!(parse_timestamp(&wrong).unwrap_err().rule, Rule::OutOfRange);
        }
        for nanos in [-1, NANOS_PER_SECOND, i32::MIN] {
            assert_eq!(parse_timestamp(&time(0, nanos)).unwrap_err().rule, Rule::Malformed);
        }
    }

    #[test]
    fn durations_come_back_as_they_went() {
        for there in [Duration::ZERO, Duration::new(1, 999_999_999), DURATION_MAX] {
            assert_eq!(parse_duration(&duration(there)), Ok(there));
        }
        assert_eq!(parse_duration(&duration(Duration::MAX)), Ok(DURATION_MAX));
    }

    #[test]
    fn durations_are_checked() {
        for (wrong, rule) in [
            (length(-1, 0), Rule::OutOfRange),
            (length(0, -1), Rule::OutOfRange),
            (length(i64::MAX, 0), Rule::OutOfRange),
            (length(1, -1), Rule::Malformed),
            (length(-1, 1), Rule::Malformed),
            (length(0, i32::MIN), Rule::Malformed),
        ] {
            assert_eq!(parse_duration(&wrong).unwrap_err().rule, rule, "{wrong:?}");
        }
        let bounds = Duration::from_secs(1)..=Duration::from_millis(30_500);
        let wrong = parse_duration_within(&length(31, 0), bounds.clone()).unwrap_err();
        assert_eq!(wrong.description, "must be within 1 s and 30.5 s");
        assert!(parse_duration_within(&length(30, 500_000_000), bounds).is_ok());
    }
}
