//! Replays, of one delivery and of many.

use std::time::Duration;

use futures::StreamExt as _;
use pregon_core::outcome::EndReason;
use pregon_proto::v1;
use pregon_proto::v1::delivery_service_server::DeliveryService as _;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use pregon_proto::v1::tenant_service_server::TenantService as _;
use pregon_proto::v1::{DeliveryState, PendingReason};
use pregon_store::settlement::Transition;
use tonic::{Code, Status};

use crate::world::{World, ask, assert_refused, assert_wrong};

const ERP: &str = "tenants/acme/subscriptions/erp";

fn replay(name: &str, request_id: &str) -> v1::ReplayDeliveryRequest {
    v1::ReplayDeliveryRequest {
        name: name.into(),
        request_id: request_id.into(),
        validate_only: false,
    }
}

fn run() -> v1::ReplayDeliveriesRequest {
    v1::ReplayDeliveriesRequest {
        parent: "tenants/acme".into(),
        state: DeliveryState::Failed.into(),
        ..Default::default()
    }
}

/// All answers of a run, up to a refusal.
async fn answers(
    world: &World,
    request: v1::ReplayDeliveriesRequest,
) -> Result<Vec<v1::ReplayDeliveriesResponse>, Status> {
    let mut stream = ask!(world.deliveries, replay_deliveries, request)?;
    let mut answers = Vec::new();
    while let Some(answer) = stream.next().await {
        answers.push(answer?);
    }
    Ok(answers)
}

async fn failed(world: &World, count: usize) {
    let lane = world.lane(ERP).await;
    for _ in 0..count {
        world.publish("acme", None, "{}").await;
    }
    world.settle_new(&[lane], Transition::Failed(EndReason::AttemptsExhausted)).await;
}

async fn pending(world: &World) -> usize {
    let request = v1::ListDeliveriesRequest {
        parent: "tenants/acme".into(),
        state: DeliveryState::Pending.into(),
        page_size: 1000,
        ..Default::default()
    };
    ask!(world.deliveries, list_deliveries, request).unwrap().deliveries.len()
}

#[tokio::test]
async fn a_replay_is_a_new_delivery_once_per_request() {
    let world = World::with_subscription().await;
    let old = world.failed_delivery().await;
    world.clock.advance(Duration::from_secs(60));
    let dry = v1::ReplayDeliveryRequest { validate_only: true, ..replay(&old, "one") };
    let shown = ask!(world.deliveries, replay_delivery, dry).unwrap().delivery.unwrap();
    assert_eq!((shown.name.as_str(), shown.replay_of.as_str()), ("", old.as_str()));
    assert_eq!(pending(&world).await, 0);
    let new = ask!(world.deliveries, replay_delivery, replay(&old, "one")).unwrap();
    let new = new.delivery.unwrap();
    assert_eq!((new.replay_of.as_str(), new.subscription.as_str()), (old.as_str(), ERP));
    assert_eq!(
        (new.state(), new.pending_reason()),
        (DeliveryState::Pending, PendingReason::Queued)
    );
    let get = v1::GetDeliveryRequest { name: new.name.clone() };
    assert_eq!(ask!(world.deliveries, get_delivery, get).unwrap().delivery, Some(new.clone()));
    let again = ask!(world.deliveries, replay_delivery, replay(&old, "one")).unwrap();
    assert_eq!(again.delivery.unwrap().name, new.name);
    assert_eq!(pending(&world).await, 1);
    // Without an id each call makes one.
    ask!(world.deliveries, replay_delivery, replay(&old, "")).unwrap();
    assert_eq!(pending(&world).await, 2);
    let answer = ask!(world.deliveries, replay_delivery, replay(&new.name, "one"));
    assert_refused(answer, Code::AlreadyExists, "REQUEST_ID_REUSED");
    let answer = ask!(world.deliveries, replay_delivery, replay(&new.name, ""));
    assert_refused(answer, Code::FailedPrecondition, "STATE_CONFLICT");
}

#[tokio::test]
async fn a_replay_needs_a_receiver() {
    let world = World::with_subscription().await;
    let old = world.failed_delivery().await;
    let ask_replay = async || ask!(world.deliveries, replay_delivery, replay(&old, ""));
    let disable = v1::DisableSubscriptionRequest {
        name: ERP.into(),
        reason: "x".into(),
        validate_only: false,
    };
    ask!(world.subscriptions, disable_subscription, disable).unwrap();
    assert_refused(ask_replay().await, Code::FailedPrecondition, "STATE_CONFLICT");
    let delete = v1::DeleteSubscriptionRequest { name: ERP.into(), ..Default::default() };
    ask!(world.subscriptions, delete_subscription, delete).unwrap();
    assert_refused(ask_replay().await, Code::NotFound, "RESOURCE_NOT_FOUND");
    world.subscription("acme", "erp").await;
    assert_refused(ask_replay().await, Code::NotFound, "RESOURCE_NOT_FOUND");
    let other = old.replace("acme", "beta");
    let answer = ask!(world.deliveries, replay_delivery, replay(&other, ""));
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn a_tenant_may_be_suspended_or_full() {
    let world = World::with_subscription().await;
    let old = world.failed_delivery().await;
    let update = async |tenant: v1::Tenant| {
        let tenant = Some(v1::Tenant { name: "tenants/acme".into(), ..tenant });
        let request = v1::UpdateTenantRequest { tenant, ..Default::default() };
        ask!(world.tenants, update_tenant, request).unwrap();
    };
    let limits = v1::TenantLimits { max_pending: Some(1), ..Default::default() };
    update(v1::Tenant { limits: Some(limits), ..Default::default() }).await;
    ask!(world.deliveries, replay_delivery, replay(&old, "")).unwrap();
    let answer = ask!(world.deliveries, replay_delivery, replay(&old, ""));
    assert_refused(answer, Code::ResourceExhausted, "QUOTA_EXCEEDED");
    assert_refused(answers(&world, run()).await, Code::ResourceExhausted, "QUOTA_EXCEEDED");
    update(v1::Tenant { suspended: Some(true), ..Default::default() }).await;
    let answer = ask!(world.deliveries, replay_delivery, replay(&old, ""));
    assert_refused(answer, Code::FailedPrecondition, "TENANT_SUSPENDED");
    assert_refused(answers(&world, run()).await, Code::FailedPrecondition, "TENANT_SUSPENDED");
}

#[tokio::test]
async fn many_are_replayed_in_batches() {
    let world = World::with_subscription().await;
    failed(&world, 450).await;
    world.clock.advance(Duration::from_secs(60));
    let dry = v1::ReplayDeliveriesRequest { validate_only: true, ..run() };
    let counted = answers(&world, dry).await.unwrap();
    let last = counted.last().unwrap();
    assert_eq!((last.matched, last.done, last.skipped, last.cursor.as_str()), (450, 0, 0, ""));
    assert_eq!(pending(&world).await, 0);

    let few = v1::ReplayDeliveriesRequest { limit: 7, ..run() };
    assert_eq!(answers(&world, few).await.unwrap().last().unwrap().done, 7);
    let all = answers(&world, run()).await.unwrap();
    let last = all.last().unwrap();
    assert_eq!((last.matched, last.done, last.skipped, last.cursor.as_str()), (450, 443, 7, ""));
    assert!(all.len() >= 3 && all[..all.len() - 1].iter().all(|it| !it.cursor.is_empty()));
    assert_eq!(pending(&world).await, 450);
}

/// As a job does that runs every few minutes.
#[tokio::test]
async fn the_same_run_again_sends_nothing_twice() {
    let world = World::with_subscription().await;
    failed(&world, 3).await;
    let go = async |request_id: &str| {
        world.clock.advance(Duration::from_secs(60));
        let request = v1::ReplayDeliveriesRequest { request_id: request_id.into(), ..run() };
        let last = answers(&world, request).await.unwrap().pop().unwrap();
        (last.matched, last.done, last.skipped)
    };
    assert_eq!(go("").await, (3, 3, 0));
    assert_eq!(go("").await, (3, 0, 3), "what was replayed is pending");
    assert_eq!(pending(&world).await, 3);
    world.settle_due(Transition::Failed(EndReason::AttemptsExhausted)).await;
    assert_eq!(go("one").await, (6, 3, 3), "one of each event");
    assert_eq!(pending(&world).await, 3);
    world.settle_due(Transition::Failed(EndReason::AttemptsExhausted)).await;
    assert_eq!(go("one").await, (6, 3, 3), "the same request: answered as at first");
    assert_eq!(pending(&world).await, 0);
    assert_eq!(go("two").await, (9, 3, 6));
    world.settle_due(Transition::Succeeded).await;
    assert_eq!(go("").await, (9, 0, 9), "each event was delivered since");
    assert_eq!(pending(&world).await, 0);
}

/// Also by a control plane that has just started, however the first one ended.
#[tokio::test]
async fn a_repeated_request_is_answered_as_at_first_by_whichever_process() {
    let world = World::with_subscription().await;
    failed(&world, 250).await;
    world.clock.advance(Duration::from_secs(60));
    let request = v1::ReplayDeliveriesRequest { request_id: "one".into(), ..run() };
    let mut stream = ask!(world.deliveries, replay_deliveries, request.clone()).unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().done, 200);
    drop(stream);
    world.settle_due(Transition::Failed(EndReason::AttemptsExhausted)).await;
    world.clock.advance(Duration::from_secs(1));
    failed(&world, 5).await;

    let other = World::over(world.store.clone());
    other.clock.advance(Duration::from_secs(120));
    let whole = answers(&other, request.clone()).await.unwrap().pop().unwrap();
    assert_eq!((whole.matched, whole.done), (250, 250), "of what there was when it began");
    assert_eq!(pending(&world).await, 50);
    world.settle_due(Transition::Failed(EndReason::AttemptsExhausted)).await;
    for process in [&world, &other] {
        let again = answers(process, request.clone()).await.unwrap();
        assert_eq!(again, std::slice::from_ref(&whole), "the answer alone");
    }
    assert_eq!(pending(&world).await, 0);
    let changed = v1::ReplayDeliveriesRequest { limit: 5, ..request };
    let refused = answers(&other, changed).await;
    assert_refused(refused, Code::AlreadyExists, "REQUEST_ID_REUSED");
}

#[tokio::test]
async fn attributes_and_answers_narrow_a_run() {
    let world = World::with_subscription().await;
    let lane = world.lane(ERP).await;
    for shop in ["a", "b", "b"] {
        let mut event = crate::world::new_event("acme", None, "{}");
        event.attributes.insert("shop".into(), shop.into());
        world.store.intake.publish(vec![event]).await.unwrap();
    }
    world.settle_new(&[lane], Transition::Failed(EndReason::AttemptsExhausted)).await;
    let base = v1::ReplayDeliveriesRequest {
        parent: "tenants/acme".into(),
        validate_only: true,
        ..Default::default()
    };
    let of_shop = |shop: &str| v1::ReplayDeliveriesRequest {
        attributes: [("shop".into(), shop.into())].into(),
        ..base.clone()
    };
    let matched = async |request| answers(&world, request).await.unwrap().pop().unwrap().matched;
    assert_eq!((matched(of_shop("a")).await, matched(of_shop("b")).await), (1, 2));
    for (class, expected) in [
        (v1::AnswerClass::ServerError, 3),
        (v1::AnswerClass::ClientError, 0),
        (v1::AnswerClass::None, 0),
    ] {
        let answered = v1::ReplayDeliveriesRequest { last_answer: class.into(), ..base.clone() };
        assert_eq!(matched(answered).await, expected, "{class:?}");
    }
}

#[tokio::test]
async fn a_delivery_names_its_replays() {
    let world = World::with_subscription().await;
    let old = world.failed_delivery().await;
    let mut made = Vec::new();
    for _ in 0..2 {
        world.clock.advance(Duration::from_secs(60));
        let new = ask!(world.deliveries, replay_delivery, replay(&old, "")).unwrap();
        made.insert(0, new.delivery.unwrap().name);
    }
    let get = v1::GetDeliveryRequest { name: old.clone() };
    let shown = ask!(world.deliveries, get_delivery, get).unwrap().delivery.unwrap();
    assert_eq!(shown.replayed_by, made, "the latest first");
    let get = v1::GetDeliveryRequest { name: made[0].clone() };
    let shown = ask!(world.deliveries, get_delivery, get).unwrap().delivery.unwrap();
    assert_eq!((shown.replay_of, shown.replayed_by), (old, Vec::new()));
}

#[tokio::test]
async fn a_run_that_was_cut_off_goes_on_and_repeats_nothing() {
    let world = World::with_subscription().await;
    failed(&world, 450).await;
    let request = v1::ReplayDeliveriesRequest { request_id: "one".into(), ..run() };
    let mut stream = ask!(world.deliveries, replay_deliveries, request.clone()).unwrap();
    let first = stream.next().await.unwrap().unwrap();
    let second = stream.next().await.unwrap().unwrap();
    drop(stream);
    assert_eq!((first.done, second.done), (200, 400));
    // The second answer got lost: go on behind the first.
    let resumed = v1::ReplayDeliveriesRequest { cursor: first.cursor.clone(), ..request.clone() };
    assert_eq!(answers(&world, resumed).await.unwrap().last().unwrap().done, 250);
    assert_eq!(pending(&world).await, 450);
    // From the beginning, with the same id: all there already.
    assert_eq!(answers(&world, request.clone()).await.unwrap().last().unwrap().done, 450);
    assert_eq!(pending(&world).await, 450);
    let other = v1::ReplayDeliveriesRequest { limit: 5, ..request.clone() };
    assert_refused(answers(&world, other).await, Code::AlreadyExists, "REQUEST_ID_REUSED");
    let other = v1::ReplayDeliveriesRequest { cursor: first.cursor, limit: 5, ..run() };
    assert_wrong(answers(&world, other).await, &[("cursor", "PAGE_TOKEN_INVALID")]);
}

#[tokio::test]
async fn what_nobody_receives_is_skipped() {
    let world = World::with_subscription().await;
    failed(&world, 3).await;
    let delete = v1::DeleteSubscriptionRequest { name: ERP.into(), ..Default::default() };
    ask!(world.subscriptions, delete_subscription, delete).unwrap();
    let last = answers(&world, run()).await.unwrap().pop().unwrap();
    assert_eq!((last.matched, last.done, last.skipped), (3, 0, 3));
    let named = v1::ReplayDeliveriesRequest { subscription: ERP.into(), ..run() };
    assert_eq!(answers(&world, named).await.unwrap().pop().unwrap().skipped, 3);
    let named = v1::ReplayDeliveriesRequest { subscription: format!("{ERP}2"), ..run() };
    assert_refused(answers(&world, named).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    let named = v1::ReplayDeliveriesRequest {
        subscription: "tenants/beta/subscriptions/erp".into(),
        ..run()
    };
    assert_refused(answers(&world, named).await, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test(start_paused = true)]
async fn a_run_keeps_its_pace() {
    let world = World::with_subscription().await;
    failed(&world, 100).await;
    let began = tokio::time::Instant::now();
    let slow = v1::ReplayDeliveriesRequest { per_second: 10, ..run() };
    let all = answers(&world, slow).await.unwrap();
    assert_eq!(all.last().unwrap().done, 100);
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(9) && took <= Duration::from_secs(11), "{took:?}");

    failed(&world, 100).await;
    let slow = v1::ReplayDeliveriesRequest { per_second: 1, ..run() };
    let drain = world.drain.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(5)).await;
        drain.cancel();
    });
    assert_refused(answers(&world, slow).await, Code::Unavailable, "DRAINING");
}

#[tokio::test]
async fn every_wrong_field_is_reported() {
    let world = World::with_subscription().await;
    let request = v1::ReplayDeliveriesRequest {
        parent: "tenants/-".into(),
        limit: 1_000_001,
        per_second: -1,
        cursor: "x".into(),
        request_id: "x".repeat(65),
        ..Default::default()
    };
    let wrong = [
        ("cursor", "PAGE_TOKEN_INVALID"),
        ("limit", "OUT_OF_RANGE"),
        ("parent", "MALFORMED"),
        ("per_second", "OUT_OF_RANGE"),
        ("request_id", "TOO_LONG"),
        ("subscription", "REQUIRED"),
    ];
    assert_wrong(answers(&world, request).await, &wrong);
    let request = v1::ReplayDeliveriesRequest { state: DeliveryState::Pending.into(), ..run() };
    assert_wrong(answers(&world, request).await, &[("state", "OUT_OF_RANGE")]);
}
