//! GetSubscriptionHealth: how a receiver does lately, and what waits for it.
//!
//! Counted are the attempts of the subscription's lane that a bounded look at the log finds
//! (`pregon_store::lane_log`); the answer says how far back that reached. Attempts that failed for a
//! fault of our own say nothing of the receiver: they show among the errors and count nowhere.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use pregon_core::attempt::{AttemptRecord, RecordKind};
use pregon_core::clock::Timestamp;
use pregon_core::error::{Refusal, Violations};
use pregon_core::id::SubscriptionName;
use pregon_core::model::{Subscription, SubscriptionState, Tenant};
use pregon_core::outcome::{AttemptOutcome, ErrorClass, PendingReason};
use pregon_proto::v1;
use pregon_rpc::time;
use pregon_store::lane_log::{LaneReport, Unanswered};

use crate::{Control, map, parse};

/// How far back a caller may ask to look.
const WINDOW: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
/// How far back is looked where nobody says.
const WINDOW_DEFAULT: Duration = Duration::from_secs(3600);
/// Attempts that are counted: more would not move a rank much.
const ATTEMPTS: usize = 2000;

impl Control {
    pub(crate) async fn get_subscription_health(
        &self,
        request: v1::GetSubscriptionHealthRequest,
    ) -> Result<v1::GetSubscriptionHealthResponse, Refusal> {
        let mut wrong = Violations::new();
        let name = wrong.check("name", SubscriptionName::parse(&request.name));
        let window = match &request.window {
            None => Some(WINDOW_DEFAULT),
            Some(given) => wrong.check("window", time::parse_duration_within(given, WINDOW)),
        };
        let (name, window) = parse::done(wrong, name.zip(window))?;
        let subscription = self.fetch::<Subscription>(&name.to_string()).await?.value;
        let tenant = self.fetch::<Tenant>(&name.tenant.name()).await?.value;
        let now = self.clock.now();
        let lane = self.store.lanes.lane(subscription.lane).await?;
        let since = now.minus(window);
        let log = self.store.lanes.lane_attempts(subscription.lane, since, ATTEMPTS).await?;
        let mut answer = v1::GetSubscriptionHealthResponse {
            state: map::subscription_state(subscription.state).into(),
            backlog: Some(backlog(&lane, now)),
            covered_from: map::moment(log.since),
            as_of: map::moment(now),
            filter_errors: filter_errors(&lane.unanswered),
            breaker: breaker(&lane).into(),
            failing_since: subscription.failing().and_then(|it| map::moment(it.since)),
            disable_time: subscription.failing().and_then(|it| map::moment(it.until)),
            ..Default::default()
        };
        lane_state(&subscription, &tenant, &lane, &mut answer);
        count(&log.records, &mut answer);
        Ok(answer)
    }
}

fn backlog(lane: &LaneReport, now: Timestamp) -> v1::LaneBacklog {
    let age = |oldest: Timestamp| {
        let millis = u64::try_from(now.millis() - oldest.millis()).unwrap_or(0);
        time::duration(Duration::from_millis(millis))
    };
    v1::LaneBacklog {
        waiting: map::count(lane.waiting),
        in_flight: map::count(lane.held),
        oldest_age: lane.oldest.map(age),
        next_due_time: lane.next_due.and_then(map::moment),
    }
}

/// Events that the filter had no answer for; none of none.
fn filter_errors(counted: &Unanswered) -> Option<v1::FilterErrors> {
    let last_time = map::moment(counted.last?);
    let last_reason = counted.reason.clone();
    Some(v1::FilterErrors { count: map::count(counted.count), last_time, last_reason })
}

/// What the lane's breaker does, as far as the store knows: whether one had it closed.
fn breaker(lane: &LaneReport) -> v1::BreakerState {
    match lane.closed {
        Some((_, PendingReason::BreakerOpen)) => v1::BreakerState::Open,
        Some(_) | None if lane.on_trial => v1::BreakerState::Recovering,
        Some(_) | None => v1::BreakerState::Closed,
    }
}

/// Whether deliveries go out, and why not.
fn lane_state(
    subscription: &Subscription,
    tenant: &Tenant,
    lane: &LaneReport,
    answer: &mut v1::GetSubscriptionHealthResponse,
) {
    let (state, reason) = match (subscription.state, lane.closed) {
        (SubscriptionState::Active, _) if tenant.suspended => {
            (v1::LaneState::Paused, "its tenant is suspended".to_owned())
        }
        (SubscriptionState::Active, Some((until, why))) => {
            answer.closed_until = map::moment(until);
            (v1::LaneState::Closed, format!("its receiver is left alone for a while ({why})"))
        }
        (SubscriptionState::Active, None) => (v1::LaneState::Open, String::new()),
        (SubscriptionState::Paused, _) => {
            (v1::LaneState::Paused, "the subscription is PAUSED".to_owned())
        }
        (state @ SubscriptionState::PendingVerification, _) => {
            let reason = &subscription.state_reason;
            (v1::LaneState::Paused, format!("the subscription is {state}: {reason}"))
        }
        (
            SubscriptionState::PendingApproval
            | SubscriptionState::Rejected
            | SubscriptionState::Disabled,
            _,
        ) => {
            let state = subscription.state;
            let why = match subscription.state_reason.as_str() {
                "" => format!("the subscription is {state}"),
                reason => format!("the subscription is {state}: {reason}"),
            };
            (v1::LaneState::Inactive, why)
        }
    };
    answer.lane_state = state.into();
    answer.lane_reason = reason;
}

/// Whether a record is of an attempt that tells of the receiver.
fn counts(record: &AttemptRecord) -> bool {
    record.kind == RecordKind::Attempt && !record.error_class.is_some_and(ErrorClass::is_ours)
}

fn took(record: &AttemptRecord) -> Duration {
    Duration::from_micros(u64::from(record.timing.total))
}

fn end(record: &AttemptRecord) -> Timestamp {
    record.start.plus(took(record))
}

fn succeeded(record: &AttemptRecord) -> bool {
    record.outcome == Some(AttemptOutcome::Succeeded)
}

/// Fills in all that attempts tell, newest first.
fn count(records: &[AttemptRecord], answer: &mut v1::GetSubscriptionHealthResponse) {
    let counted: Vec<&AttemptRecord> = records.iter().filter(|it| counts(it)).collect();
    let (good, bad): (Vec<&AttemptRecord>, Vec<_>) =
        counted.iter().copied().partition(|it| succeeded(it));
    answer.attempts = map::small(counted.len());
    answer.succeeded = map::small(good.len());
    answer.failed = map::small(bad.len());
    answer.success_rate =
        (!counted.is_empty()).then(|| f64::from(answer.succeeded) / f64::from(answer.attempts));
    answer.attempt_latency = latency(counted.iter().map(|it| took(it)).collect());
    let whole = good.iter().filter(|it| it.key.replay.is_none());
    let whole = whole.map(|it| {
        let accepted = i64::try_from(it.key.position.ms).unwrap_or(i64::MAX);
        Duration::from_millis(u64::try_from(end(it).millis() - accepted).unwrap_or(0))
    });
    answer.delivery_latency = latency(whole.collect());
    answer.consecutive_failures =
        map::small(counted.iter().take_while(|it| !succeeded(it)).count());
    let last = |of: &[&AttemptRecord]| of.iter().map(|it| end(it)).max().and_then(map::moment);
    answer.last_success_time = last(&good);
    answer.last_failure_time = last(&bad);
    answer.errors = errors(records);
}

/// Ranks of some lengths; none of none.
fn latency(mut lengths: Vec<Duration>) -> Option<v1::Latency> {
    lengths.sort_unstable();
    let last = lengths.len().checked_sub(1)?;
    // The smallest that so many of a hundred do not exceed.
    let rank = |percent: usize| {
        let at = (lengths.len() * percent).div_ceil(100).saturating_sub(1).min(last);
        lengths.get(at).copied().map(time::duration)
    };
    Some(v1::Latency { p50: rank(50), p90: rank(90), p99: rank(99) })
}

/// What went wrong, by class, most frequent first.
fn errors(records: &[AttemptRecord]) -> Vec<v1::ErrorCount> {
    let mut classes: BTreeMap<ErrorClass, (i32, &AttemptRecord)> = BTreeMap::new();
    for record in records.iter().filter(|it| it.kind == RecordKind::Attempt && !succeeded(it)) {
        if let Some(class) = record.error_class {
            // Newest first: the first of a class is its last.
            classes.entry(class).or_insert((0, record)).0 += 1;
        }
    }
    let shown = |(class, (count, last)): (ErrorClass, (i32, &AttemptRecord))| v1::ErrorCount {
        error_class: map::error_class(class).into(),
        count,
        last_time: map::moment(end(last)),
        last_status: i32::from(last.status),
        last_reason: last.reason.clone(),
    };
    let mut errors: Vec<_> = classes.into_iter().map(shown).collect();
    errors.sort_by_key(|it| std::cmp::Reverse(it.count));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_of_lengths_that_there_were() {
        let millis = |n: u64| Duration::from_millis(n);
        let percentiles = latency((1..=200).rev().map(millis).collect()).unwrap();
        let wanted = [100, 180, 198].map(|n| Some(time::duration(millis(n))));
        assert_eq!([percentiles.p50, percentiles.p90, percentiles.p99], wanted);
        let one = latency(vec![millis(7)]).unwrap();
        assert_eq!([one.p50, one.p90, one.p99], [Some(time::duration(millis(7))); 3]);
        assert_eq!(latency(Vec::new()), None);
    }
}
