use proptest::prelude::*;

use super::*;
use crate::contract::standard_webhooks;

/// The stored word (serde) and the shown word (API, logs, metrics) are one.
fn same_words<T: Copy + Serialize>(all: &[T], word: impl Fn(T) -> &'static str) {
    for value in all {
        let stored = serde_json::to_value(value).unwrap();
        assert_eq!(stored, serde_json::Value::from(word(*value)));
    }
}

#[test]
fn words_are_the_same_everywhere() {
    same_words(ErrorClass::ALL, ErrorClass::word);
    same_words(AttemptOutcome::ALL, AttemptOutcome::word);
    same_words(DeliveryState::ALL, DeliveryState::word);
    same_words(PendingReason::ALL, PendingReason::word);
    same_words(EndReason::ALL, EndReason::word);
}

#[test]
fn every_reason_ends_a_delivery_short_of_success() {
    for reason in EndReason::ALL {
        assert!(reason.state().is_end());
        assert_ne!(reason.state(), DeliveryState::Succeeded);
    }
}

const TIMINGS: Timings = Timings { took: Duration::from_secs(2), age: Duration::from_secs(3) };

fn decided(attempt: u32, reply: &Reply) -> Decision {
    decide(&standard_webhooks(), attempt, reply, TIMINGS, 0.5)
}

fn answered(status: u16, retry_after: Option<u64>) -> Reply {
    let judged = match status {
        200..300 => Judged { acknowledged: true, ..Judged::default() },
        410 => Judged { acknowledged: false, refused: true, disable: true },
        _ => Judged::default(),
    };
    Reply::Response { status, judged, retry_after: retry_after.map(Duration::from_secs) }
}

fn fault(class: ErrorClass) -> Reply {
    Reply::Fault { class, detail: "detail".into(), again: None }
}

fn retry(seconds: u64) -> Outcome {
    Outcome::Retry { after: Duration::from_secs(seconds) }
}

#[test]
fn success_ends_it() {
    for status in [200, 201, 204, 299] {
        let decision = decided(1, &answered(status, Some(60)));
        assert_eq!(decision, Decision::of(Outcome::Succeeded, None));
    }
}

#[test]
fn every_other_answer_is_tried_again_until_the_schedule_ends() {
    for status in [0, 100, 199, 300, 301, 302, 307, 400, 404, 409, 411, 500, 503, 599, u16::MAX] {
        let reply = answered(status, None);
        let status = Some(ErrorClass::Status);
        assert_eq!(decided(1, &reply), Decision::of(retry(5), status));
        assert_eq!(decided(9, &reply), Decision::of(retry(86_400), status));
        let given_up = Outcome::Failed { reason: EndReason::AttemptsExhausted };
        assert_eq!(decided(10, &reply), Decision::of(given_up, status));
        assert_eq!(decided(u32::MAX, &reply), Decision::of(given_up, status));
    }
}

#[test]
fn gone_ends_it_and_disables_the_subscription() {
    for attempt in [1, 10] {
        let refused = Outcome::Failed { reason: EndReason::Refused };
        let expected =
            Decision { disable: true, ..Decision::of(refused, Some(ErrorClass::Status)) };
        assert_eq!(decided(attempt, &answered(410, Some(5))), expected);
    }
}

#[test]
fn a_receiver_that_asks_to_be_left_alone_slows_its_lane() {
    let lane = |status, wait| {
        let decision = decided(1, &answered(status, Some(wait)));
        (decision.outcome, decision.slow_lane.map(|wait| wait.as_secs()))
    };
    assert_eq!(lane(429, 60), (retry(60), Some(60)));
    assert_eq!(lane(503, 1), (retry(5), Some(1)));
    assert_eq!(lane(503, 10_000_000), (retry(86_400), Some(86_400)));
    assert_eq!(lane(500, 60), (retry(5), None));
    // Also when this delivery is given up.
    assert_eq!(decided(10, &answered(429, Some(60))).slow_lane, Some(Duration::from_secs(60)));
    assert_eq!(decided(1, &answered(429, None)).slow_lane, None);
}

#[test]
fn faults_of_the_way_are_tried_again_and_timeouts_are_reported() {
    for class in ErrorClass::ALL {
        if class.is_ours() {
            continue;
        }
        let decision = decided(2, &fault(*class));
        assert_eq!((decision.outcome, decision.error_class), (retry(300), Some(*class)));
        assert_eq!(decision.timeout, *class == ErrorClass::Timeout);
        assert!(decision.counts && !decision.disable && decision.slow_lane.is_none());
        let last = decided(10, &fault(*class)).outcome;
        assert_eq!(last, Outcome::Failed { reason: EndReason::AttemptsExhausted });
    }
}

#[test]
fn our_own_faults_cost_no_attempt() {
    for attempt in [1, 10, u32::MAX] {
        let decision = decided(attempt, &fault(ErrorClass::Local));
        assert_eq!(decision.outcome, Outcome::Retry { after: LOCAL_DELAY });
        assert!(!decision.counts && !decision.timeout);
        let decision = decided(attempt, &fault(ErrorClass::Egress));
        assert_eq!(decision.outcome, Outcome::Retry { after: LOCAL_DELAY });
        assert!(!decision.counts && !decision.timeout);
    }
    let timings = Timings { age: Duration::from_secs(3600), ..TIMINGS };
    let decision = decide(&standard_webhooks(), 3, &fault(ErrorClass::Egress), timings, 0.5);
    assert_eq!(decision.outcome, Outcome::Retry { after: HELD_MAX });
    assert_eq!(decision.error_class, Some(ErrorClass::Egress));
}

#[test]
fn a_token_is_waited_for_as_long_as_a_paused_lane() {
    let after = |age| {
        let timings = Timings { age, ..TIMINGS };
        let decision = decide(&standard_webhooks(), 3, &fault(ErrorClass::Token), timings, 0.5);
        assert!(!decision.counts && !decision.timeout && !decision.disable);
        assert_eq!(decision.error_class, Some(ErrorClass::Token));
        decision.outcome
    };
    assert_eq!(after(Duration::ZERO), Outcome::Retry { after: LOCAL_DELAY });
    assert_eq!(after(Duration::from_secs(3600)), Outcome::Retry { after: HELD_MAX });
    let moment = Duration::from_millis(1);
    assert_eq!(after(limits::PAUSED_KEPT - moment), Outcome::Retry { after: HELD_MAX });
}

#[test]
fn a_token_that_did_not_come_in_seven_days_counts_as_an_answer_does() {
    let timings = Timings { age: limits::PAUSED_KEPT, ..TIMINGS };
    for attempt in [1, 3, 10] {
        let [token, connect] = [ErrorClass::Token, ErrorClass::Connect]
            .map(|class| decide(&standard_webhooks(), attempt, &fault(class), timings, 0.5));
        assert_eq!(token, Decision { error_class: Some(ErrorClass::Token), ..connect });
        assert!(
            token.counts && (token.outcome.word() == AttemptOutcome::Failed) == (attempt == 10)
        );
    }
}

#[test]
fn the_lane_waits_until_its_token_can_be_asked_for_again() {
    let again = Some(Duration::from_secs(42));
    let reply = Reply::Fault { class: ErrorClass::Token, detail: "detail".into(), again };
    for age in [Duration::ZERO, limits::PAUSED_KEPT] {
        let timings = Timings { age, ..TIMINGS };
        assert_eq!(decide(&standard_webhooks(), 1, &reply, timings, 0.5).slow_lane, again);
    }
    assert_eq!(decided(1, &fault(ErrorClass::Token)).slow_lane, None);
}

proptest! {
    #[test]
    fn decisions_are_total_and_consistent(
        attempt: u32, status: u16, wait in prop::option::of(any::<u64>()), random: f64,
        took: u64, age: u64, class in prop::option::of(0..ErrorClass::ALL.len()),
    ) {
        let reply = class.map_or(answered(status, wait), |class| fault(ErrorClass::ALL[class]));
        let timings = Timings { took: Duration::from_secs(took), age: Duration::from_secs(age) };
        let decision = decide(&standard_webhooks(), attempt, &reply, timings, random);
        let succeeded = decision.outcome == Outcome::Succeeded;
        prop_assert_eq!(decision.error_class.is_none(), succeeded);
        prop_assert_eq!(succeeded, class.is_none() && (200..300).contains(&status));
        let refused = decision.outcome == Outcome::Failed { reason: EndReason::Refused };
        prop_assert!(!decision.disable || refused);
        let ours = decision.error_class.is_some_and(ErrorClass::is_ours);
        let token = decision.error_class == Some(ErrorClass::Token);
        prop_assert_eq!(decision.counts, !ours || token && timings.age >= limits::PAUSED_KEPT);
        if let (Outcome::Retry { after }, Some(lane)) = (decision.outcome, decision.slow_lane) {
            prop_assert!(after >= lane);
        }
    }
}

/// What lacks something of ours is never given up for it, and looked at within a minute.
#[test]
fn what_is_lacking_is_waited_for() {
    for (age, after) in [(0, 1), (3, 1), (40, 10), (200, 50), (86_400, 60)] {
        let decision = Decision::held(Duration::from_secs(age));
        assert_eq!(decision.outcome, Outcome::Retry { after: Duration::from_secs(after) });
        assert_eq!(decision.error_class, Some(ErrorClass::Local));
        assert!(!decision.counts && !decision.disable && decision.slow_lane.is_none());
    }
}

/// A retry that would come too late is none; what ends otherwise ends so.
#[test]
fn what_would_be_tried_too_late_is_expired() {
    let minute = Duration::from_secs(60);
    let retry = Decision::of(Outcome::Retry { after: minute }, Some(ErrorClass::Status));
    let expired = Outcome::Failed { reason: EndReason::Expired };
    assert_eq!(retry.within(None), retry);
    assert_eq!(retry.within(Some(minute + Duration::from_millis(1))), retry);
    assert_eq!(retry.within(Some(minute)).outcome, expired);
    assert_eq!(retry.within(Some(Duration::ZERO)).outcome, expired);
    let refused = Decision::given_up(EndReason::Refused);
    assert_eq!(refused.within(Some(Duration::ZERO)), refused);
    assert!(!Decision::expired().counts && Decision::expired().outcome == expired);
}
