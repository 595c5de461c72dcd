//! The `Retry-After` of a receiver: hostile text, read without trust.
//!
//! RFC 9110 section 10.2.3 allows whole seconds or an HTTP date in any of three forms. Everything
//! else is as if the header were absent. A date's wait is counted from the moment the answer
//! ended, by our clock; a date that has passed asks for no wait at all. Whether a wait is honoured,
//! and up to which cap, is the contract's business (`contract::retry`).

use std::time::{Duration, UNIX_EPOCH};

use crate::clock::Timestamp;

/// Longest value that is looked at, in bytes: the longest HTTP date (`Wednesday, 09-Nov-94
/// 08:49:37 GMT`) has 34.
pub const VALUE_LEN: usize = 64;

/// Longest wait that is ever reported; longer ones are cut to it, so that sums cannot overflow.
/// No contract's cap comes near it.
pub const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long the receiver asks to be left alone, from `now` on; none when the value says nothing.
pub fn parse(value: &str, now: Timestamp) -> Option<Duration> {
    if value.len() > VALUE_LEN {
        return None;
    }
    let value = value.trim_matches([' ', '\t']);
    let wait = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // Only digits: the one way to fail is overflow, and that asks for the longest wait.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let date = httpdate::parse_http_date(value).ok()?;
        let millis = date.duration_since(UNIX_EPOCH).ok()?.as_millis();
        Timestamp::from_millis(i64::try_from(millis).ok()?).since(now)
    };
    Some(wait.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT, the example date of RFC 9110.
    const EXAMPLE: i64 = 784_111_777_000;

    #[test]
    fn seconds_and_the_three_forms_of_a_date() {
        let now = Timestamp::from_millis(EXAMPLE - 90_500);
        assert_eq!(parse("120", now), Some(Duration::from_secs(120)));
        assert_eq!(parse(" 0\t", now), Some(Duration::ZERO));
        for date in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(parse(date, now), Some(Duration::from_millis(90_500)), "{date}");
        }
    }

    #[test]
    fn a_date_that_has_passed_asks_for_nothing() {
        let later = Timestamp::from_millis(EXAMPLE + 1);
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:37 GMT", later), Some(Duration::ZERO));
    }

    #[test]
    fn hostile_values_are_cut_or_ignored() {
        let now = Timestamp::from_millis(EXAMPLE);
        for huge in ["9".repeat(20), "9".repeat(64), "31536001".to_owned()] {
            assert_eq!(parse(&huge, now), Some(LONGEST), "{huge}");
        }
        assert_eq!(parse("Fri, 31 Dec 9999 23:59:59 GMT", now), Some(LONGEST));
        let too_long = "1".repeat(65);
        for nothing in
            ["", " ", "-1", "+1", "1.5", "1s", "1,2", "soon", "Sun, 32 Nov 1994", "١٢", &too_long]
        {
            assert_eq!(parse(nothing, now), None, "{nothing}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_never_exceeds_the_longest(value in ".{0,80}", now: i64) {
            if let Some(wait) = parse(&value, Timestamp::from_millis(now)) {
                prop_assert!(wait <= LONGEST);
            }
        }

        #[test]
        fn seconds_are_taken_as_they_stand(seconds in 0u64..=31_536_000, now: i64) {
            let wait = parse(&seconds.to_string(), Timestamp::from_millis(now));
            prop_assert_eq!(wait, Some(Duration::from_secs(seconds)));
        }

        #[test]
        fn a_written_date_is_read_back(at in 0u64..253_402_300_799, before in 0u64..31_000_000) {
            let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(at));
            let now = i64::try_from(at).unwrap() * 1000 - i64::try_from(before).unwrap() * 1000;
            let wait = parse(&text, Timestamp::from_millis(now));
            prop_assert_eq!(wait, Some(Duration::from_secs(before)));
        }
    }
}
