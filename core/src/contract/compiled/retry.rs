//! When a failed attempt is repeated: a contract's `retry` as data, and one pure function over it.
//!
//! Attempts are numbered from 1, and attempt n is followed by delay n, or by nothing. The steps
//! from the schedule's delay to the wait of a caller, which stands at the end of the attempt:
//!
//! 1. delay × (1 ± jitter), chance given by the caller;
//! 2. counted from the previous attempt's start or end: due = max(that + delay, its end);
//! 3. on 429 and 503 at least the receiver's `Retry-After`, that one cut at the contract's cap;
//! 4. nothing when the send would fall after the delivery's greatest age.
//!
//! So a wait is never shorter than the schedule's less its jitter, and a receiver can stretch a
//! schedule only as far as its contract says.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::error::{Rule, Wrong};

/// Delays of a list, at most.
pub const DELAYS: usize = 32;
/// What a delay may be: below a second is a hammer, above a week is longer than history is kept.
pub const DELAY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * DAY);
/// What an exponential schedule may multiply by.
pub const FACTOR: RangeInclusive<f64> = 1.0..=10.0;
/// Sends of an exponential schedule, at most.
pub const ATTEMPTS: u32 = 100;
/// The greatest age that an exponential schedule may set.
pub const AGE: Duration = Duration::from_secs(30 * DAY);
/// The share of a delay that chance may add or take.
pub const JITTER: RangeInclusive<f64> = 0.0..=0.5;
/// How far a receiver may stretch a delay by default.
pub const RETRY_AFTER_CAP: Duration = Duration::from_secs(DAY);

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The delays between attempts.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// One send, no repeat.
    Once,
    /// Fixed delays: one more send than delays.
    Delays(Vec<Duration>),
    /// Growing delays.
    Exponential(Exponential),
}

/// Growing delays: delay n = min(initial · factorⁿ⁻¹, max_delay).
#[derive(Clone, Debug, PartialEq)]
pub struct Exponential {
    /// After the first attempt; within [`DELAY`].
    pub initial: Duration,
    /// What each delay is of the one before; within [`FACTOR`].
    pub factor: f64,
    /// Where growth ends; within [`DELAY`].
    pub max_delay: Duration,
    /// Sends in all; 1 to [`ATTEMPTS`].
    pub attempts: u32,
    /// No send later than this after the delivery was created; up to [`AGE`].
    pub max_age: Option<Duration>,
}

/// What a delay is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountedFrom {
    /// The previous attempt's start.
    Start,
    /// The previous attempt's end.
    End,
}

/// What a contract makes of `Retry-After` on 429 and 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// Honoured up to this.
    Cap(Duration),
    /// As if it were not there.
    Ignore,
}

/// How a failed attempt is repeated. One that exists keeps its bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    schedule: Schedule,
    jitter: f64,
    from: CountedFrom,
    retry_after: RetryAfter,
}

/// A failed attempt, as far as its repeat depends on it. The present moment is its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its number, from 1.
    pub attempt: u32,
    /// From its start to its end.
    pub took: Duration,
    /// From the delivery's creation to the attempt's end.
    pub age: Duration,
    /// The status it was answered with, if it was answered.
    pub status: Option<u16>,
    /// What the answer's `Retry-After` asked for, from the attempt's end on.
    pub retry_after: Option<Duration>,
}

impl Retry {
    /// A retry rule, or what breaks its bounds.
    pub fn new(
        schedule: Schedule,
        jitter: f64,
        from: CountedFrom,
        retry_after: RetryAfter,
    ) -> Result<Self, Wrong> {
        schedule.check()?;
        if !JITTER.contains(&jitter) {
            return Err(out_of_range("retry.jitter must be 0 to 0.5"));
        }
        if let RetryAfter::Cap(cap) = retry_after
            && !DELAY.contains(&cap)
        {
            return Err(out_of_range("retry.retry_after must be 1s to 7d"));
        }
        Ok(Self { schedule, jitter, from, retry_after })
    }

    /// The default: ten sends over 75 hours and 35 minutes, as Standard Webhooks suggests.
    pub fn standard() -> Self {
        let delays = [
            5,
            5 * MINUTE,
            30 * MINUTE,
            2 * HOUR,
            5 * HOUR,
            10 * HOUR,
            14 * HOUR,
            20 * HOUR,
            24 * HOUR,
        ];
        Self {
            schedule: Schedule::Delays(delays.map(Duration::from_secs).to_vec()),
            jitter: 0.1,
            from: CountedFrom::End,
            retry_after: RetryAfter::Cap(RETRY_AFTER_CAP),
        }
    }

    /// One send, no repeat.
    pub fn once() -> Self {
        Self { schedule: Schedule::Once, jitter: 0.0, ..Self::standard() }
    }

    /// The schedule's delay after attempt `attempt` (from 1), without jitter; none: no repeat.
    pub fn delay(&self, attempt: u32) -> Option<Duration> {
        let before = attempt.saturating_sub(1);
        match &self.schedule {
            Schedule::Once => None,
            Schedule::Delays(delays) => delays.get(usize::try_from(before).ok()?).copied(),
            Schedule::Exponential(grow) => (attempt < grow.attempts).then(|| grow.delay(before)),
        }
    }

    /// Sends in all, when every one fails and no age ends them early.
    pub fn sends(&self) -> u32 {
        match &self.schedule {
            Schedule::Once => 1,
            Schedule::Delays(delays) => {
                u32::try_from(delays.len()).unwrap_or(u32::MAX).saturating_add(1)
            }
            Schedule::Exponential(grow) => grow.attempts,
        }
    }

    /// The share of a delay that chance may add or take, 0 to 0.5.
    pub fn jitter(&self) -> f64 {
        self.jitter
    }

    /// What delays are counted from.
    pub fn from(&self) -> CountedFrom {
        self.from
    }

    /// How long from the failed attempt's end until the next; none: there is no next.
    ///
    /// `random01` is chance between 0 and 1 (what lies outside is cut): 0 is the shortest wait
    /// that jitter allows, 0.5 the schedule's own, 1 the longest.
    pub fn next(&self, failure: Failure, random01: f64) -> Option<Duration> {
        let own = self.own_wait(failure, random01)?;
        let wait = own.max(self.asked(failure.status, failure.retry_after).unwrap_or_default());
        match self.max_age() {
            Some(max_age) if failure.age.saturating_add(wait) > max_age => None,
            Some(_) | None => Some(wait),
        }
    }

    /// What the receiver asked for and the contract honours, up to the cap; from the attempt's end.
    pub fn asked(&self, status: Option<u16>, retry_after: Option<Duration>) -> Option<Duration> {
        match (self.retry_after, status) {
            (RetryAfter::Cap(cap), Some(429 | 503)) => retry_after.map(|wait| wait.min(cap)),
            (RetryAfter::Cap(_) | RetryAfter::Ignore, _) => None,
        }
    }

    /// For how much of a time in which the receiver says that it has nothing left the contract leaves
    /// it alone: up to the cap.
    pub fn paused(&self, wait: Duration) -> Option<Duration> {
        match self.retry_after {
            RetryAfter::Cap(cap) => Some(wait.min(cap)),
            RetryAfter::Ignore => None,
        }
    }

    fn own_wait(&self, failure: Failure, random01: f64) -> Option<Duration> {
        let chance = if random01.is_nan() { 0.5 } else { random01.clamp(0.0, 1.0) };
        let delay = self.delay(failure.attempt)?;
        let delay = delay.mul_f64(1.0 + self.jitter * (2.0 * chance - 1.0));
        Some(match self.from {
            CountedFrom::Start => delay.saturating_sub(failure.took),
            CountedFrom::End => delay,
        })
    }

    fn max_age(&self) -> Option<Duration> {
        match &self.schedule {
            Schedule::Once | Schedule::Delays(_) => None,
            Schedule::Exponential(grow) => grow.max_age,
        }
    }
}

impl Schedule {
    fn check(&self) -> Result<(), Wrong> {
        match self {
            Schedule::Once => Ok(()),
            Schedule::Delays(delays) if delays.len() > DELAYS => Err(Wrong::new(
                Rule::ContractInvalid,
                format!("retry.delays must be {DELAYS} at most, are {}", delays.len()),
            )),
            Schedule::Delays(delays) => match delays.iter().all(|delay| DELAY.contains(delay)) {
                true => Ok(()),
                false => Err(out_of_range("retry.delays must each be 1s to 7d")),
            },
            Schedule::Exponential(grow) => grow.check(),
        }
    }
}

impl Exponential {
    fn check(&self) -> Result<(), Wrong> {
        if !DELAY.contains(&self.initial) || !DELAY.contains(&self.max_delay) {
            return Err(out_of_range("retry.exponential initial and max_delay must be 1s to 7d"));
        }
        if !FACTOR.contains(&self.factor) {
            return Err(out_of_range("retry.exponential.factor must be 1 to 10"));
        }
        if !(1..=ATTEMPTS).contains(&self.attempts) {
            return Err(out_of_range("retry.exponential.attempts must be 1 to 100"));
        }
        match self.max_age {
            Some(age) if age > AGE => Err(out_of_range("retry.exponential.max_age is 30d at most")),
            Some(_) | None => Ok(()),
        }
    }

    /// `before` is the number of delays that came before this one.
    fn delay(&self, before: u32) -> Duration {
        let exponent = i32::try_from(before).unwrap_or(i32::MAX);
        let grown = self.initial.as_secs_f64() * self.factor.powi(exponent);
        // Compared as numbers first: a Duration could not hold 10⁹⁹ seconds.
        if grown < self.max_delay.as_secs_f64() {
            Duration::from_secs_f64(grown)
        } else {
            self.max_delay
        }
    }
}

fn out_of_range(description: &str) -> Wrong {
    Wrong::new(Rule::ContractInvalid, description)
}

#[cfg(test)]
mod tests;
