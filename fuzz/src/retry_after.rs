//! A receiver's `Retry-After`.

use std::time::{Duration, UNIX_EPOCH};

use pregon_core::clock::Timestamp;
use pregon_core::retry_after::{LONGEST, VALUE_LEN, parse};

/// Eight bytes of a moment in ms, and a value.
///
/// - No wait is longer than the longest, and no long value is looked at.
/// - White space around a value changes nothing; digits are their number.
/// - A date is the same date in the form that RFC 9110 prefers, and asks for less the later it is.
pub fn retry_after(data: &[u8]) {
    let Some((now, value)) = data.split_first_chunk() else { return };
    let Ok(value) = std::str::from_utf8(value) else { return };
    let now = i64::from_le_bytes(*now);
    let at = |ms| parse(value, Timestamp::from_millis(ms));
    let wait = at(now);
    let bare = value.trim_matches([' ', '\t']);
    if value.len() > VALUE_LEN {
        assert_eq!(wait, None, "a long value is not looked at");
        return;
    }
    assert_eq!(wait, parse(bare, Timestamp::from_millis(now)));
    if !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit()) {
        // Digits that are no u64 are more than any wait.
        let seconds = bare.parse().map_or(LONGEST, Duration::from_secs).min(LONGEST);
        assert_eq!(wait, Some(seconds));
        return;
    }
    let Some(wait) = wait else { return };
    assert!(wait <= LONGEST);
    let later = at(now.saturating_add(1000)).expect("the same date at a later moment");
    assert!(later <= wait);
    // All that is left is a date: what comes before 1970 by this clock is cut to it.
    let zero = Timestamp::from_millis(0);
    let since = parse(value, zero).expect("the same date at another moment");
    if since < LONGEST {
        let preferred = httpdate(since);
        assert_eq!(parse(&preferred, zero), Some(since), "{preferred}");
        assert_eq!(parse(&preferred, Timestamp::from_millis(now)), Some(wait), "{preferred}");
    }
}

fn httpdate(since: Duration) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + since)
}
