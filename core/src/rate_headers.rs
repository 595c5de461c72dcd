//! What a receiver's answer says of its own rate: hostile text, read without trust.
//!
//! An answer that says that nothing is left until a moment asks to be left alone until then, whatever
//! its status is: the next request would be refused. Read are, in this order,
//! - `RateLimit` of draft-ietf-httpapi-ratelimit-headers: `"name";r=0;t=30`, several with commas
//!   between them; also `limit=100, remaining=0, reset=30` of its earlier versions,
//! - `RateLimit-Remaining` and `RateLimit-Reset`, a number of seconds,
//! - `X-RateLimit-Remaining` and `X-RateLimit-Reset`, a number of seconds or a moment in seconds
//!   since 1970. A number above [`MOMENT`] is a moment: as a number of seconds it would be 30 years.
//!
//! Anything else is as if it were absent. Whether a wait is honoured, and up to which cap, is the
//! contract's business (`contract::retry`).

use std::time::Duration;

use crate::clock::Timestamp;
use crate::retry_after::LONGEST;

/// Longest value that is looked at, in bytes.
const VALUE_LEN: usize = 256;
/// From where on a reset is a moment.
const MOMENT: u64 = 1_000_000_000;

/// How long the receiver has nothing left, from `now` on; none: it does not say so. `header` looks a
/// header up by its name in lower case.
pub fn pause<'a>(header: impl Fn(&str) -> Option<&'a str>, now: Timestamp) -> Option<Duration> {
    let header = |name: &str| header(name).filter(|value| value.len() <= VALUE_LEN);
    if let Some(value) = header("ratelimit") {
        return of_list(value);
    }
    for (remaining, reset) in
        [("ratelimit-remaining", "ratelimit-reset"), ("x-ratelimit-remaining", "x-ratelimit-reset")]
    {
        let Some(remaining) = header(remaining) else { continue };
        if let Some(reset) = header(reset) {
            let wait = until(number(reset)?, now).min(LONGEST);
            return (number(remaining)? == 0 && !wait.is_zero()).then_some(wait);
        }
    }
    None
}

/// How long it is until a reset: a number of seconds, or a moment.
fn until(reset: u64, now: Timestamp) -> Duration {
    if reset <= MOMENT {
        return Duration::from_secs(reset);
    }
    let millis = i64::try_from(reset.saturating_mul(1000)).unwrap_or(i64::MAX);
    Timestamp::from_millis(millis).since(now)
}

/// Of `"a";r=0;t=30, "b";r=5;t=60`: the longest wait of those with nothing left.
fn of_list(value: &str) -> Option<Duration> {
    let waits = value.split(',').filter_map(|item| exhausted(item, ("r", "t")));
    // The earlier form is one limit, with its parts where later ones have limits.
    let wait = waits.max().or_else(|| exhausted(&value.replace(',', ";"), ("remaining", "reset")));
    wait.filter(|wait| !wait.is_zero()).map(|wait| wait.min(LONGEST))
}

/// The wait of a limit with nothing left.
fn exhausted(item: &str, (remaining, reset): (&str, &str)) -> Option<Duration> {
    let part = |name: &str| {
        let mut parts = item.split(';').filter_map(|part| part.trim().split_once('='));
        number(parts.find(|(key, _)| *key == name)?.1)
    };
    (part(remaining)? == 0).then_some(())?;
    part(reset).map(Duration::from_secs)
}

fn number(text: &str) -> Option<u64> {
    let text = text.trim_matches([' ', '\t']);
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn wait(headers: &[(&str, &str)]) -> Option<u64> {
        let find = |name: &str| headers.iter().find(|(key, _)| *key == name).map(|(_, text)| *text);
        pause(find, NOW).map(|wait| wait.as_secs())
    }

    #[test]
    fn nothing_left_asks_for_a_pause() {
        assert_eq!(wait(&[("ratelimit", r#""default";r=0;t=30"#)]), Some(30));
        assert_eq!(wait(&[("ratelimit", r#""a";r=0;t=30, "b";r=0;t=60, "c";r=1;t=90"#)]), Some(60));
        assert_eq!(wait(&[("ratelimit", "limit=100, remaining=0, reset=7")]), Some(7));
        let delta = [("ratelimit-remaining", "0"), ("ratelimit-reset", " 5 ")];
        assert_eq!(wait(&delta), Some(5));
        let delta = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "12")];
        assert_eq!(wait(&delta), Some(12));
        let moment = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1700000090")];
        assert_eq!(wait(&moment), Some(90));
        let huge = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "99999999999999999999")];
        assert_eq!(wait(&huge), Some(LONGEST.as_secs()));
    }

    #[test]
    fn anything_else_asks_for_nothing() {
        for headers in [
            &[("ratelimit", r#""default";r=1;t=30"#)][..],
            &[("ratelimit", r#""default";r=0"#)],
            &[("ratelimit", r#""default";r=0;t=0"#)],
            &[("ratelimit", r#""default";r=0;t=-5"#)],
            &[("ratelimit", "limit=100, remaining=3, reset=7")],
            &[("ratelimit-remaining", "0")],
            &[("ratelimit-reset", "9")],
            &[("ratelimit-remaining", "3"), ("ratelimit-reset", "9")],
            &[("ratelimit-remaining", "0.0"), ("ratelimit-reset", "9")],
            &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1600000000")],
            &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "soon")],
        ] {
            assert_eq!(wait(headers), None, "{headers:?}");
        }
        let long = format!("{}\"a\";r=0;t=30", " ".repeat(VALUE_LEN));
        assert_eq!(wait(&[("ratelimit", &long)]), None);
    }

    proptest! {
        #[test]
        fn never_panics_and_never_exceeds_the_longest(
            list in ".{0,300}",
            left in "[0-9]{0,3}",
            reset in "[0-9]{0,22}",
            now: i64,
        ) {
            let now = Timestamp::from_millis(now);
            let of = |name: &str| match name {
                "x-ratelimit-remaining" => Some(left.as_str()),
                "x-ratelimit-reset" => Some(reset.as_str()),
                _ => None,
            };
            let listed = |name: &str| (name == "ratelimit").then_some(list.as_str());
            for wait in [pause(of, now), pause(listed, now)].into_iter().flatten() {
                prop_assert!(wait <= LONGEST);
            }
        }
    }
}
