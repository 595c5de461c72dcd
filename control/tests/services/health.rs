//! GetSubscriptionHealth: how a receiver does.

use std::time::Duration;

use pregon_core::outcome::{EndReason, PendingReason};
use pregon_proto::v1;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use pregon_proto::v1::{ErrorClass, LaneState, SubscriptionState};
use pregon_store::batch::LaneClose;
use pregon_store::settlement::Transition;
use tonic::Code;

use crate::world::{START, World, ask, assert_refused, assert_wrong, at, seconds};

const ERP: &str = "tenants/acme/subscriptions/erp";
const FAILED: Transition = Transition::Failed(EndReason::AttemptsExhausted);
const RETRY: Transition = Transition::Retry(Duration::from_secs(60));

async fn health(world: &World, window: Option<i64>) -> v1::GetSubscriptionHealthResponse {
    let window = window.and_then(seconds);
    let request = v1::GetSubscriptionHealthRequest { name: ERP.into(), window };
    ask!(world.subscriptions, get_subscription_health, request).unwrap()
}

/// Publishes so many events for the subscription, whose attempts come out so.
async fn deliver(world: &World, count: usize, to: Transition) {
    for _ in 0..count {
        world.publish("acme", None, "{}").await;
    }
    let lane = world.lane(ERP).await;
    world.settle_new(&[lane], to).await;
}

#[tokio::test]
async fn a_subscription_without_attempts_says_nothing_of_them() {
    let world = World::with_subscription().await;
    let it = health(&world, None).await;
    assert_eq!((it.state(), it.lane_state()), (SubscriptionState::Active, LaneState::Open));
    assert_eq!((it.attempts, it.success_rate, it.attempt_latency), (0, None, None));
    assert_eq!((it.covered_from, it.as_of), (at(-3600), at(0)));
    assert_eq!((it.last_success_time, it.last_failure_time), (None, None));
    assert_eq!(it.backlog, Some(v1::LaneBacklog::default()));
}

#[tokio::test]
async fn attempts_are_counted_within_the_window() {
    let world = World::with_subscription().await;
    deliver(&world, 5, FAILED).await;
    world.clock.advance(Duration::from_secs(2 * 3600));
    deliver(&world, 6, Transition::Succeeded).await;
    world.clock.advance(Duration::from_secs(60));
    deliver(&world, 2, RETRY).await;
    let it = health(&world, None).await;
    assert_eq!((it.attempts, it.succeeded, it.failed), (8, 6, 2));
    assert_eq!((it.success_rate, it.consecutive_failures), (Some(0.75), 2));
    // Attempts take 5 ms in this world, and no time passes before them.
    let five = Some(prost_types::Duration { seconds: 0, nanos: 5_000_000 });
    let latency = Some(v1::Latency { p50: five, p90: five, p99: five });
    assert_eq!((it.attempt_latency, it.delivery_latency), (latency, latency));
    let end = |seconds: i64| {
        Some(prost_types::Timestamp { seconds: START.millis() / 1000 + seconds, nanos: 5_000_000 })
    };
    assert_eq!((it.last_success_time, it.last_failure_time), (end(7200), end(7260)));
    let error = v1::ErrorCount {
        error_class: ErrorClass::Status.into(),
        count: 2,
        last_time: end(7260),
        last_status: 503,
        last_reason: "answered 503".into(),
    };
    assert_eq!(it.errors, [error]);
    let backlog = it.backlog.unwrap();
    assert_eq!((backlog.waiting, backlog.in_flight), (2, 0));
    assert_eq!((backlog.oldest_age, backlog.next_due_time), (seconds(0), at(7260 + 60)));

    assert_eq!(health(&world, Some(3 * 3600)).await.attempts, 13);
    let it = health(&world, Some(30)).await;
    assert_eq!((it.attempts, it.success_rate, it.consecutive_failures), (2, Some(0.0), 2));
}

#[tokio::test]
async fn a_busy_lane_is_looked_at_no_further_than_allowed() {
    let world = World::with_subscription().await;
    for _ in 0..25 {
        deliver(&world, 100, Transition::Succeeded).await;
        world.clock.advance(Duration::from_secs(1));
    }
    let it = health(&world, None).await;
    assert!((1800..=2000).contains(&it.attempts), "{}", it.attempts);
    let covered = it.covered_from.unwrap().seconds - START.millis() / 1000;
    assert!((4..=7).contains(&covered), "25 s in all, 2,000 attempts in the last 20: {covered}");
}

#[tokio::test]
async fn a_lane_that_gives_nothing_says_why() {
    let world = World::with_subscription().await;
    let lane = world.lane(ERP).await;
    deliver(&world, 1, RETRY).await;
    let (wait, reason) = (Duration::from_secs(60), PendingReason::RateLimited);
    world.store.operate.close_lanes(&[LaneClose { lane, wait, reason }]).await.unwrap();
    let it = health(&world, None).await;
    assert_eq!((it.lane_state(), it.closed_until), (LaneState::Closed, at(60)));
    assert!(it.lane_reason.contains("RATE_LIMITED"), "{}", it.lane_reason);
    let pause = v1::PauseSubscriptionRequest { name: ERP.into(), ..Default::default() };
    ask!(world.subscriptions, pause_subscription, pause).unwrap();
    let it = health(&world, None).await;
    assert_eq!((it.state(), it.lane_state()), (SubscriptionState::Paused, LaneState::Paused));
    let disable = v1::DisableSubscriptionRequest {
        name: ERP.into(),
        reason: "moved away".into(),
        ..Default::default()
    };
    ask!(world.subscriptions, disable_subscription, disable).unwrap();
    let it = health(&world, None).await;
    assert_eq!(it.lane_state(), LaneState::Inactive);
    assert_eq!(it.lane_reason, "the subscription is DISABLED: moved away");
}

/// Counted by nodes as they settle, whatever the window; the sum and the last reason are shown.
#[tokio::test]
async fn events_that_the_filter_had_no_answer_for_are_counted() {
    let world = World::with_subscription().await;
    let lane = world.lane(ERP).await;
    assert_eq!(health(&world, None).await.filter_errors, None);
    for reason in ["event.data.amount is absent", "the result is string, not bool"] {
        world.publish("acme", None, "{}").await;
        world.publish("acme", None, "{}").await;
        world.settle_unanswered(lane, reason).await;
        world.clock.advance(Duration::from_secs(7200));
    }
    let errors = v1::FilterErrors {
        count: 4,
        last_time: at(7200),
        last_reason: "the result is string, not bool".into(),
    };
    assert_eq!(health(&world, Some(1)).await.filter_errors, Some(errors));
}

#[tokio::test]
async fn name_and_window_are_checked() {
    let world = World::with_subscription().await;
    let ask = |name: &str, window: Option<i64>| {
        let window = window.and_then(seconds);
        let request = v1::GetSubscriptionHealthRequest { name: name.into(), window };
        async { ask!(world.subscriptions, get_subscription_health, request) }
    };
    assert_wrong(ask("", Some(0)).await, &[("name", "REQUIRED"), ("window", "OUT_OF_RANGE")]);
    assert_wrong(ask(ERP, Some(86_401)).await, &[("window", "OUT_OF_RANGE")]);
    let nobody = "tenants/acme/subscriptions/nobody";
    assert_refused(ask(nobody, None).await, Code::NotFound, "RESOURCE_NOT_FOUND");
}
