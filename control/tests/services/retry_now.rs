//! RetryNow: what waits for the time of its next attempt is tried at once.

use std::time::Duration;

use futures::StreamExt as _;
use pregon_core::outcome::{EndReason, PendingReason};
use pregon_proto::v1;
use pregon_proto::v1::AnswerClass;
use pregon_proto::v1::delivery_service_server::DeliveryService as _;
use pregon_store::settlement::Transition;
use tonic::{Code, Status};

use crate::world::{World, ask, assert_refused, assert_wrong, new_event};

const ERP: &str = "tenants/acme/subscriptions/erp";
const HOUR: Transition = Transition::Retry(Duration::from_secs(3600));

fn retry() -> v1::RetryNowRequest {
    v1::RetryNowRequest {
        parent: "tenants/acme".into(),
        subscription: ERP.into(),
        ..Default::default()
    }
}

/// All answers of a run, up to a refusal.
async fn answers(
    world: &World,
    request: v1::RetryNowRequest,
) -> Result<Vec<v1::RetryNowResponse>, Status> {
    let mut stream = ask!(world.deliveries, retry_now, request)?;
    let mut answers = Vec::new();
    while let Some(answer) = stream.next().await {
        answers.push(answer?);
    }
    Ok(answers)
}

/// What a run came to: matched, done, skipped.
async fn sums(world: &World, request: v1::RetryNowRequest) -> [i64; 3] {
    let last = answers(world, request).await.unwrap().pop().unwrap();
    assert_eq!(last.cursor, "", "it came to its end");
    [last.matched, last.done, last.skipped]
}

/// So many deliveries to `erp` that move there; their names.
async fn waiting(world: &World, count: usize, to: Transition) -> Vec<String> {
    let lane = world.lane(ERP).await;
    world.publish_many("acme", count).await;
    let keys = world.settle_new(&[lane], to).await;
    keys.into_iter().map(|key| format!("tenants/acme/deliveries/{key}")).collect()
}

async fn delivery(world: &World, name: &str) -> v1::Delivery {
    let get = v1::GetDeliveryRequest { name: name.into() };
    ask!(world.deliveries, get_delivery, get).unwrap().delivery.unwrap()
}

#[tokio::test]
async fn what_waits_for_its_time_is_due_at_once() {
    let world = World::with_subscription().await;
    let names = waiting(&world, 450, HOUR).await;
    waiting(&world, 3, Transition::Waiting(PendingReason::LaneFull)).await;
    let held_back = Transition::Later(Duration::from_secs(600), PendingReason::Suspect);
    waiting(&world, 2, held_back).await;
    waiting(&world, 4, Transition::Succeeded).await;
    let before = delivery(&world, &names[0]).await;
    let dry = v1::RetryNowRequest { validate_only: true, ..retry() };
    assert_eq!(sums(&world, dry).await, [455, 0, 5]);
    assert_eq!(delivery(&world, &names[0]).await, before);
    let all = answers(&world, retry()).await.unwrap();
    assert!(all.len() >= 3 && all[..all.len() - 1].iter().all(|it| !it.cursor.is_empty()));
    let last = all.last().unwrap();
    assert_eq!((last.matched, last.done, last.skipped), (455, 450, 5));
    assert_eq!(sums(&world, retry()).await, [455, 0, 455], "all are due already");
    let now = delivery(&world, &names[0]).await;
    assert_eq!((&now.name, now.attempt_count), (&before.name, 1));
    assert_eq!(now.pending_reason(), v1::PendingReason::Queued);
    // A lane hands out so many at a time.
    for _ in 0..3 {
        world.clock.advance(Duration::from_secs(1));
        world.settle_due(Transition::Succeeded).await;
    }
    let after = delivery(&world, &names[0]).await;
    assert_eq!((after.state(), after.attempt_count), (v1::DeliveryState::Succeeded, 2));
    assert_eq!(sums(&world, retry()).await, [2, 0, 2], "suspects stay held back");
}

#[tokio::test]
async fn one_delivery_may_be_meant() {
    let world = World::with_subscription().await;
    let names = waiting(&world, 3, HOUR).await;
    let one = |name: &str| v1::RetryNowRequest {
        parent: "tenants/acme".into(),
        delivery: name.into(),
        ..Default::default()
    };
    assert_eq!(sums(&world, one(&names[1])).await, [1, 1, 0]);
    assert_eq!(sums(&world, one(&names[1])).await, [1, 0, 1]);
    let reasons = async |world: &World| {
        let mut reasons = Vec::new();
        for name in &names {
            reasons.push(delivery(world, name).await.pending_reason());
        }
        reasons
    };
    let (queued, later) = (v1::PendingReason::Queued, v1::PendingReason::RetryScheduled);
    assert_eq!(reasons(&world).await, [later, queued, later]);
    world.settle_due(Transition::Failed(EndReason::Refused)).await;
    let refused = answers(&world, one(&names[1])).await;
    assert_refused(refused, Code::FailedPrecondition, "STATE_CONFLICT");
    let other = names[0].replace("acme", "beta");
    assert_refused(answers(&world, one(&other)).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    let mut nothing = names[0].clone();
    nothing.push('7');
    assert_refused(answers(&world, one(&nothing)).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    let named = v1::RetryNowRequest { subscription: format!("{ERP}2"), ..retry() };
    assert_refused(answers(&world, named).await, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn filters_narrow_a_run() {
    let world = World::with_subscription().await;
    let lane = world.lane(ERP).await;
    for shop in ["a", "b", "b"] {
        let mut event = new_event("acme", None, "{}");
        event.attributes.insert("shop".into(), shop.into());
        world.store.intake.publish(vec![event]).await.unwrap();
    }
    world.settle_new(&[lane], HOUR).await;
    let of_shop = |shop: &str| v1::RetryNowRequest {
        parent: "tenants/acme".into(),
        attributes: [("shop".into(), shop.into())].into(),
        validate_only: true,
        ..Default::default()
    };
    assert_eq!(sums(&world, of_shop("a")).await, [1, 0, 0]);
    assert_eq!(sums(&world, of_shop("b")).await, [2, 0, 0]);
    assert_eq!(sums(&world, of_shop("c")).await, [0, 0, 0]);
    for (class, matched) in [(AnswerClass::ServerError, 3), (AnswerClass::None, 0)] {
        let answered =
            v1::RetryNowRequest { last_answer: class.into(), validate_only: true, ..of_shop("a") };
        let answered = v1::RetryNowRequest { attributes: Default::default(), ..answered };
        assert_eq!(sums(&world, answered).await, [matched, 0, 0], "{class:?}");
    }
    let other = v1::RetryNowRequest { event_type: "eventTypes/other".into(), ..retry() };
    assert_eq!(sums(&world, other).await, [0; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_run_keeps_its_pace_and_its_limit() {
    let world = World::with_subscription().await;
    waiting(&world, 100, HOUR).await;
    let some = v1::RetryNowRequest { limit: 30, ..retry() };
    let first = answers(&world, some.clone()).await.unwrap().pop().unwrap();
    assert_eq!((first.done, first.cursor.is_empty()), (30, false));
    let began = tokio::time::Instant::now();
    let slow = v1::RetryNowRequest { per_second: 10, ..retry() };
    let all = answers(&world, slow).await.unwrap();
    assert_eq!(all.last().unwrap().done, 70);
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(6) && took <= Duration::from_secs(8), "{took:?}");
}

/// What was brought forward, failed and waits again is not what the cursor leads back to.
#[tokio::test]
async fn a_run_that_came_to_its_limit_goes_on_with_others() {
    let world = World::with_subscription().await;
    let names = waiting(&world, 100, HOUR).await;
    let mut request = v1::RetryNowRequest { limit: 30, ..retry() };
    let mut dry = v1::RetryNowRequest { validate_only: true, ..request.clone() };
    let (mut steps, mut counted) = (0, 0);
    while !dry.cursor.is_empty() || steps == 0 {
        let last = answers(&world, dry.clone()).await.unwrap().pop().unwrap();
        (dry.cursor, counted, steps) = (last.cursor, counted + last.matched, steps + 1);
    }
    assert_eq!((counted, steps), (100, 4));
    let mut done = 0;
    loop {
        let last = answers(&world, request.clone()).await.unwrap().pop().unwrap();
        (request.cursor, done) = (last.cursor, done + last.done);
        if request.cursor.is_empty() {
            break;
        }
        world.settle_due(HOUR).await;
    }
    assert_eq!(done, 100);
    for name in &names {
        let attempts = delivery(&world, name).await.attempt_count;
        assert!((1..=2).contains(&attempts), "{name}: {attempts}");
    }
}

#[tokio::test]
async fn every_wrong_field_is_reported() {
    let world = World::with_subscription().await;
    let request = v1::RetryNowRequest {
        parent: "tenants/-".into(),
        limit: -1,
        per_second: -1,
        cursor: "x".into(),
        ..Default::default()
    };
    let wrong = [
        ("cursor", "PAGE_TOKEN_INVALID"),
        ("limit", "OUT_OF_RANGE"),
        ("parent", "MALFORMED"),
        ("per_second", "OUT_OF_RANGE"),
        ("subscription", "REQUIRED"),
    ];
    assert_wrong(answers(&world, request).await, &wrong);
    let request = v1::RetryNowRequest { last_answer: 77, delivery: "x".into(), ..retry() };
    let wrong = [("delivery", "MALFORMED"), ("last_answer", "OUT_OF_RANGE")];
    assert_wrong(answers(&world, request).await, &wrong);
}
