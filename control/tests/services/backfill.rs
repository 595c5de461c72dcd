//! DeliverMissing: what a subscription should have had, and never more than that.

use std::time::Duration;

use futures::StreamExt as _;
use pregon_core::id::LaneNo;
use pregon_core::outcome::EndReason;
use pregon_proto::v1;
use pregon_proto::v1::DeliveryState;
use pregon_proto::v1::delivery_service_server::DeliveryService as _;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use pregon_proto::v1::tenant_service_server::TenantService as _;
use pregon_store::settlement::Transition;
use tonic::{Code, Status};

use crate::world::{World, ask, assert_refused, assert_wrong, new_event};

const ERP: &str = "tenants/acme/subscriptions/erp";

fn missing() -> v1::DeliverMissingRequest {
    v1::DeliverMissingRequest { subscription: ERP.into(), ..Default::default() }
}

/// All answers of a run, up to a refusal.
async fn answers(
    world: &World,
    request: v1::DeliverMissingRequest,
) -> Result<Vec<v1::DeliverMissingResponse>, Status> {
    let mut stream = ask!(world.deliveries, deliver_missing, request)?;
    let mut answers = Vec::new();
    while let Some(answer) = stream.next().await {
        answers.push(answer?);
    }
    Ok(answers)
}

/// What a run came to: seen, matched, missing, done, skipped.
async fn sums(world: &World, request: v1::DeliverMissingRequest) -> [i64; 5] {
    let last = answers(world, request).await.unwrap().pop().unwrap();
    assert_eq!(last.cursor, "", "it came to its end");
    [last.seen, last.matched, last.missing, last.done, last.skipped]
}

/// Events that were matched with these lanes.
async fn events(world: &World, count: usize, lanes: &[LaneNo], to: Transition) {
    world.publish_many("acme", count).await;
    world.settle_new(lanes, to).await;
}

async fn deliveries(world: &World) -> Vec<v1::Delivery> {
    let request = v1::ListDeliveriesRequest {
        parent: "tenants/acme".into(),
        subscription: ERP.into(),
        page_size: 1000,
        ..Default::default()
    };
    ask!(world.deliveries, list_deliveries, request).unwrap().deliveries
}

#[tokio::test]
async fn what_never_went_to_a_subscription_goes_there_once() {
    let world = World::with_subscription().await;
    let lane = world.lane(ERP).await;
    events(&world, 2, &[lane], Transition::Succeeded).await;
    events(&world, 1, &[lane], Transition::Failed(EndReason::AttemptsExhausted)).await;
    events(&world, 250, &[], Transition::Succeeded).await;
    world.publish_many("acme", 3).await;
    let dry = v1::DeliverMissingRequest { validate_only: true, ..missing() };
    assert_eq!(sums(&world, dry.clone()).await, [256, 256, 250, 0, 3]);
    assert_eq!(deliveries(&world).await.len(), 3);
    let all = answers(&world, missing()).await.unwrap();
    assert!(all.len() >= 3 && all[..all.len() - 1].iter().all(|it| !it.cursor.is_empty()));
    let last = all.last().unwrap();
    assert_eq!((last.missing, last.done, last.cursor.as_str()), (250, 250, ""));
    assert_eq!(sums(&world, missing()).await, [256, 256, 0, 0, 3]);
    world.settle_due(Transition::Failed(EndReason::AttemptsExhausted)).await;
    assert_eq!(sums(&world, missing()).await, [256, 256, 0, 0, 3], "what failed is replayed");
    assert_eq!(sums(&world, dry).await, [256, 256, 0, 0, 3]);
    let made = deliveries(&world).await;
    assert_eq!(made.len(), 253);
    assert!(made.iter().all(|it| it.replay_of.is_empty()));
}

#[tokio::test]
async fn a_run_goes_by_what_the_subscription_wants_today() {
    let world = World::with_subscription().await;
    let mut given = Vec::new();
    for (shop, total) in [("a", 5), ("b", 50), ("b", 500)] {
        let mut event = new_event("acme", None, &format!("{{\"total\":{total}}}"));
        event.attributes.insert("shop".into(), shop.into());
        given.push(event);
    }
    world.store.intake.publish(given).await.unwrap();
    world.settle_new(&[], Transition::Succeeded).await;
    let update = async |filter: &str| {
        let named =
            v1::Subscription { name: ERP.into(), filter: filter.into(), ..Default::default() };
        let request =
            v1::UpdateSubscriptionRequest { subscription: Some(named), ..Default::default() };
        ask!(world.subscriptions, update_subscription, request).unwrap();
    };
    update("event.data.total > 100").await;
    assert_eq!(sums(&world, missing()).await, [3, 1, 1, 1, 0]);
    update("event.data.total > 10").await;
    let of_a =
        v1::DeliverMissingRequest { attributes: [("shop".into(), "a".into())].into(), ..missing() };
    assert_eq!(sums(&world, of_a).await, [1, 0, 0, 0, 0]);
    assert_eq!(sums(&world, missing()).await, [3, 2, 1, 1, 0]);
    let other = v1::DeliverMissingRequest { event_type: "eventTypes/other".into(), ..missing() };
    assert_eq!(sums(&world, other).await, [0; 5]);
    // To a subscription that was made again, all is missing.
    let delete = v1::DeleteSubscriptionRequest { name: ERP.into(), ..Default::default() };
    ask!(world.subscriptions, delete_subscription, delete).unwrap();
    world.subscription("acme", "erp").await;
    assert_eq!(sums(&world, missing()).await, [3, 3, 3, 3, 0]);
}

#[tokio::test]
async fn a_run_stops_at_its_limit_and_goes_on_from_its_cursor() {
    let world = World::with_subscription().await;
    events(&world, 250, &[], Transition::Succeeded).await;
    let some = v1::DeliverMissingRequest { limit: 130, ..missing() };
    let first = answers(&world, some.clone()).await.unwrap().pop().unwrap();
    assert_eq!((first.done, first.cursor.is_empty()), (130, false));
    let rest = v1::DeliverMissingRequest { cursor: first.cursor.clone(), ..some.clone() };
    let rest = answers(&world, rest).await.unwrap().pop().unwrap();
    assert_eq!((rest.done, rest.seen), (120, 150), "the page that it stopped in once more");
    assert_eq!(sums(&world, some).await, [250, 250, 0, 0, 0]);
    let other = v1::DeliverMissingRequest { cursor: first.cursor, limit: 7, ..missing() };
    assert_wrong(answers(&world, other).await, &[("cursor", "PAGE_TOKEN_INVALID")]);
    // Where it stops within the first page, too.
    world.subscription("acme", "late").await;
    let late = v1::DeliverMissingRequest {
        subscription: "tenants/acme/subscriptions/late".into(),
        limit: 1,
        ..Default::default()
    };
    let first = answers(&world, late.clone()).await.unwrap().pop().unwrap();
    let next = v1::DeliverMissingRequest { cursor: first.cursor, ..late };
    assert_eq!(answers(&world, next).await.unwrap().pop().unwrap().done, 1);
}

#[tokio::test(start_paused = true)]
async fn a_run_keeps_its_pace_and_ends_with_the_process() {
    let world = World::with_subscription().await;
    events(&world, 100, &[], Transition::Succeeded).await;
    let began = tokio::time::Instant::now();
    let slow = v1::DeliverMissingRequest { per_second: 10, ..missing() };
    let all = answers(&world, slow).await.unwrap();
    assert_eq!((all.last().unwrap().done, all.len()), (100, 10), "it tells how far it is");
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(9) && took <= Duration::from_secs(11), "{took:?}");

    events(&world, 100, &[], Transition::Succeeded).await;
    let slow = v1::DeliverMissingRequest { per_second: 1, ..missing() };
    let mut stream = ask!(world.deliveries, deliver_missing, slow).unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().done, 1);
    world.drain.cancel();
    assert_refused(stream.next().await.unwrap(), Code::Unavailable, "DRAINING");
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn nobody_gets_what_they_may_not() {
    let world = World::with_subscription().await;
    events(&world, 3, &[], Transition::Succeeded).await;
    let update = async |tenant: v1::Tenant| {
        let tenant = Some(v1::Tenant { name: "tenants/acme".into(), ..tenant });
        let request = v1::UpdateTenantRequest { tenant, ..Default::default() };
        ask!(world.tenants, update_tenant, request).unwrap();
    };
    let limits = v1::TenantLimits { max_pending: Some(2), ..Default::default() };
    update(v1::Tenant { limits: Some(limits), ..Default::default() }).await;
    assert_refused(answers(&world, missing()).await, Code::ResourceExhausted, "QUOTA_EXCEEDED");
    let pending = deliveries(&world).await;
    assert_eq!(pending.len(), 2, "as many as there was room for");
    let dry = v1::DeliverMissingRequest { validate_only: true, ..missing() };
    assert_eq!(sums(&world, dry).await, [3, 3, 1, 0, 0]);
    world.settle_due(Transition::Succeeded).await;
    assert_eq!(sums(&world, missing()).await, [3, 3, 1, 1, 0]);
    let none = v1::TenantLimits { max_pending: Some(1), ..Default::default() };
    update(v1::Tenant { limits: Some(none), ..Default::default() }).await;
    assert_eq!(sums(&world, missing()).await, [3, 3, 0, 0, 0], "no room is no matter");
    update(v1::Tenant { suspended: Some(true), ..Default::default() }).await;
    assert_refused(answers(&world, missing()).await, Code::FailedPrecondition, "TENANT_SUSPENDED");
    update(v1::Tenant { suspended: Some(false), ..Default::default() }).await;
    let disable = v1::DisableSubscriptionRequest {
        name: ERP.into(),
        reason: "x".into(),
        validate_only: false,
    };
    ask!(world.subscriptions, disable_subscription, disable).unwrap();
    assert_refused(answers(&world, missing()).await, Code::FailedPrecondition, "STATE_CONFLICT");
    let other = v1::DeliverMissingRequest { subscription: format!("{ERP}2"), ..missing() };
    assert_refused(answers(&world, other).await, Code::NotFound, "RESOURCE_NOT_FOUND");
}

/// The subscription, and with it the ground of a run, may go while it runs.
#[tokio::test]
async fn a_run_ends_where_its_subscription_does() {
    let world = World::with_subscription().await;
    events(&world, 250, &[], Transition::Succeeded).await;
    let mut stream = ask!(world.deliveries, deliver_missing, missing()).unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().done, 100);
    let delete = v1::DeleteSubscriptionRequest { name: ERP.into(), ..Default::default() };
    ask!(world.subscriptions, delete_subscription, delete).unwrap();
    world.subscription("acme", "erp").await;
    assert_refused(stream.next().await.unwrap(), Code::NotFound, "RESOURCE_NOT_FOUND");
    let made = deliveries(&world).await;
    assert!(made.is_empty(), "the new one has none: {made:?}");
}

#[tokio::test]
async fn what_was_erased_stays_away() {
    let world = World::with_subscription().await;
    world.publish("acme", Some("o1"), "{}").await;
    events(&world, 1, &[], Transition::Succeeded).await;
    let erase = v1::EraseEventRequest {
        name: "tenants/acme/events/o1".into(),
        reason: "it was asked for".into(),
        validate_only: false,
    };
    ask!(world.deliveries, erase_event, erase).unwrap();
    assert_eq!(sums(&world, missing()).await, [2, 1, 1, 1, 0]);
    let made = deliveries(&world).await;
    assert_eq!(made.len(), 1);
    assert_ne!(made[0].event, "tenants/acme/events/o1");
    assert_eq!(made[0].state(), DeliveryState::Pending);
}

#[tokio::test]
async fn every_wrong_field_is_reported() {
    let world = World::with_subscription().await;
    let request = v1::DeliverMissingRequest {
        subscription: "erp".into(),
        event_type: "x".into(),
        attributes: [("A".into(), "x".repeat(257))].into(),
        limit: 1_000_001,
        per_second: -1,
        cursor: "x".into(),
        ..Default::default()
    };
    let wrong = [
        ("attributes[\"A\"]", "MALFORMED"),
        ("attributes[\"A\"]", "TOO_LONG"),
        ("cursor", "PAGE_TOKEN_INVALID"),
        ("event_type", "MALFORMED"),
        ("limit", "OUT_OF_RANGE"),
        ("per_second", "OUT_OF_RANGE"),
        ("subscription", "MALFORMED"),
    ];
    assert_wrong(answers(&world, request).await, &wrong);
}
