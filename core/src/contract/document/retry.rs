//! A document's `retry`.

use std::time::Duration;

use super::fault::{noted, optional};
use crate::contract::compiled::retry::{
    AGE, ATTEMPTS, CountedFrom, DELAY, DELAYS, Exponential, FACTOR, JITTER, RETRY_AFTER_CAP, Retry,
    RetryAfter, Schedule,
};
use crate::yaml::{At, Reader};

/// Reads `retry: none`, or a mapping with `delays` or `exponential`.
pub(super) fn read<'a>(reader: &mut Reader, at: &At<'a>) -> Option<Retry> {
    if at.text() == Ok("none") {
        return Some(Retry::once());
    }
    if at.text().is_ok() {
        reader.add(at.fault("must be none, or a mapping with delays or exponential"));
        return None;
    }
    let map = reader.map(at, &["delays", "exponential", "jitter", "from", "retry_after"])?;
    let delays = optional(reader, &map, "delays", |reader, at| {
        reader.list_of(at, 1..=DELAYS, |reader, at| reader.check(at.duration(DELAY)))
    });
    let grow = optional(reader, &map, "exponential", exponential);
    let jitter = optional(reader, &map, "jitter", |reader, at| reader.check(at.number(JITTER)));
    let ends = [("start", CountedFrom::Start), ("end", CountedFrom::End)];
    let from = optional(reader, &map, "from", |reader, at| reader.check(at.choice(&ends)));
    let after = optional(reader, &map, "retry_after", |reader, at| {
        if at.text() == Ok("ignore") {
            return Some(RetryAfter::Ignore);
        }
        reader.check(at.duration(DELAY)).map(RetryAfter::Cap)
    });
    let (schedule, from_default) = match (delays?, grow?) {
        (Some(delays), None) => (Schedule::Delays(delays), CountedFrom::Start),
        (None, Some(grow)) => (Schedule::Exponential(grow), CountedFrom::End),
        (Some(_), Some(_)) | (None, None) => {
            reader.add(at.fault("must have delays or exponential, and not both; or be none"));
            return None;
        }
    };
    let (jitter, from) = (jitter?.unwrap_or(0.0), from?.unwrap_or(from_default));
    let after = after?.unwrap_or(RetryAfter::Cap(RETRY_AFTER_CAP));
    noted(reader, at, Retry::new(schedule, jitter, from, after))
}

fn exponential<'a>(reader: &mut Reader, at: &At<'a>) -> Option<Exponential> {
    let map = reader.map(at, &["initial", "factor", "max_delay", "attempts", "max_age"])?;
    let duration = |reader: &mut Reader, key: &str| {
        let at = reader.check(map.required(key))?;
        reader.check(at.duration(DELAY))
    };
    let initial = duration(reader, "initial");
    let max_delay = duration(reader, "max_delay");
    let factor = optional(reader, &map, "factor", |reader, at| reader.check(at.number(FACTOR)));
    let attempts = reader.check(map.required("attempts")).cloned();
    let attempts = attempts.and_then(|at| reader.check(at.integer(1..=u64::from(ATTEMPTS))));
    let max_age = optional(reader, &map, "max_age", |reader, at| {
        reader.check(at.duration(Duration::from_secs(1)..=AGE))
    });
    Some(Exponential {
        initial: initial?,
        factor: factor?.unwrap_or(2.0),
        max_delay: max_delay?,
        attempts: u32::try_from(attempts?).ok()?,
        max_age: max_age?,
    })
}
