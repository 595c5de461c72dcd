//! ExplainEvent: where an event is.

use std::time::Duration;

use pregon_core::outcome::PendingReason;
use pregon_proto::v1;
use pregon_proto::v1::delivery_service_server::DeliveryService as _;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use pregon_proto::v1::tenant_service_server::TenantService as _;
use pregon_proto::v1::{EventStage, OtherSubscriptions};
use pregon_store::batch::LaneClose;
use pregon_store::settlement::Transition;
use tonic::Code;

use crate::world::{
    World, ask, assert_refused, assert_wrong, at, claim, mask, seconds, subscription,
};

const ERP: &str = "tenants/acme/subscriptions/erp";
const O1: &str = "tenants/acme/events/o1";

async fn explain(world: &World, name: &str) -> v1::ExplainEventResponse {
    let request = v1::ExplainEventRequest { name: name.into() };
    ask!(world.deliveries, explain_event, request).unwrap()
}

/// Makes a subscription with a change to what is usual.
async fn subscribe(world: &World, id: &str, change: impl FnOnce(&mut v1::Subscription)) {
    let mut it = subscription();
    change(&mut it);
    world.subscribe("acme", id, it).await;
}

/// The checks that refuse, by subscription.
fn refusing(answer: &v1::ExplainEventResponse) -> Vec<(&str, bool, Vec<&str>)> {
    let of = |it: &'_ v1::ExplainedSubscription| -> Vec<usize> {
        (0..it.match_steps.len()).filter(|i| !it.match_steps[*i].passed).collect()
    };
    let subscriptions = answer.subscriptions.iter();
    subscriptions
        .map(|it| {
            let checks = of(it).into_iter().map(|i| it.match_steps[i].check.as_str()).collect();
            (it.name.rsplit('/').next().unwrap(), it.matched, checks)
        })
        .collect()
}

#[tokio::test]
async fn stages_follow_the_event() {
    let world = World::with_subscription().await;
    let lane = world.lane(ERP).await;
    world.publish("acme", Some("o1"), "{}").await;
    let answer = explain(&world, O1).await;
    assert_eq!((answer.stage(), answer.node.as_str()), (EventStage::Waiting, ""));
    assert_eq!(answer.event.unwrap().name, O1);
    assert!(answer.subscriptions[0].detail.contains("not matched yet"));
    world.store.work.take(0, &claim(), 1, usize::MAX).await.unwrap().unwrap();
    let answer = explain(&world, O1).await;
    assert_eq!((answer.stage(), answer.node.as_str()), (EventStage::Claimed, "nodes/n1"));
    assert!(answer.deliveries.is_empty());
    world.publish("acme", Some("o2"), "{}").await;
    world.settle_new(&[lane], Transition::Succeeded).await;
    let answer = explain(&world, "tenants/acme/events/o2").await;
    assert_eq!((answer.stage(), answer.node.as_str()), (EventStage::Matched, ""));
    assert_eq!(answer.as_of, at(0));
}

#[tokio::test]
async fn a_match_is_a_fact_and_the_rest_is_found_out_anew() {
    let world = World::with_subscription().await;
    let lane = world.lane(ERP).await;
    subscribe(&world, "test", |it| it.environment = v1::Environment::Test.into()).await;
    subscribe(&world, "invoices", |it| it.event_types = vec!["invoice.*".into()]).await;
    subscribe(&world, "large", |it| it.filter = "event.data.amount > 100".into()).await;
    subscribe(&world, "strange", |it| it.filter = "event.data.nothing.at_all > 1".into()).await;
    world.publish("acme", Some("o1"), "{\"amount\":7}").await;
    world.settle_new(&[lane], Transition::Succeeded).await;
    // What the event went to stays a match, whatever becomes of the subscription.
    let paths = mask(&["event_types"]);
    let changed = v1::Subscription {
        name: ERP.into(),
        event_types: vec!["invoice.*".into()],
        ..Default::default()
    };
    let update = v1::UpdateSubscriptionRequest {
        subscription: Some(changed),
        update_mask: paths,
        ..Default::default()
    };
    ask!(world.subscriptions, update_subscription, update).unwrap();
    world.clock.advance(Duration::from_secs(1));
    subscribe(&world, "young", |_| {}).await;
    let answer = explain(&world, O1).await;
    let expected = [
        ("erp", true, vec![]),
        ("invoices", false, vec!["event_types"]),
        ("large", false, vec!["filter"]),
        ("strange", false, vec!["filter"]),
        ("test", false, vec!["environment"]),
        ("young", false, vec![]),
    ];
    assert_eq!(refusing(&answer), expected);
    let detail = |id: &str| {
        let it = answer.subscriptions.iter().find(|it| it.name.ends_with(id)).unwrap();
        (it.match_steps.last().unwrap().detail.clone(), it.detail.clone())
    };
    assert_eq!(detail("large").0, "it does not hold");
    assert!(detail("strange").0.starts_with("it cannot be evaluated: "), "{:?}", detail("strange"));
    assert!(detail("large").1.contains("today's configuration"));
    assert!(detail("young").1.contains("made after the event"), "{:?}", detail("young"));
    assert!(answer.others.is_empty() && !answer.more_deliveries);
    // One that is gone keeps its fact.
    let delete = v1::DeleteSubscriptionRequest { name: ERP.into(), ..Default::default() };
    ask!(world.subscriptions, delete_subscription, delete).unwrap();
    let answer = explain(&world, O1).await;
    let reported = answer.deliveries[0].delivery.as_ref().unwrap();
    assert_eq!(reported.contract, "contracts/standard_webhooks", "its attempts tell");
    let erp = &answer.subscriptions[0];
    assert_eq!(
        (erp.name.as_str(), erp.matched, erp.detail.as_str()),
        (ERP, true, "it was deleted since")
    );
}

#[tokio::test]
async fn a_pending_delivery_tells_what_comes_next() {
    let world = World::with_subscription().await;
    let lane = world.lane(ERP).await;
    world.publish("acme", Some("o1"), "{}").await;
    world.settle_new(&[lane], Transition::Retry(Duration::from_secs(5))).await;
    let it = explain(&world, O1).await.deliveries.remove(0);
    assert_eq!(it.delivery.as_ref().unwrap().subscription, ERP);
    assert_eq!((it.attempts.len(), it.more_attempts), (1, 0));
    let attempt = &it.attempts[0];
    assert_eq!(attempt.name, format!("{}/attempts/1", it.delivery.as_ref().unwrap().name));
    assert_eq!(attempt.response.as_ref().unwrap().status, 503);
    assert_eq!(it.waits_for, "the time of attempt 2");
    let numbers: Vec<i32> = it.planned.iter().map(|send| send.attempt).collect();
    assert_eq!(numbers, (2..=10).collect::<Vec<_>>());
    let first = &it.planned[0];
    assert_eq!((first.earliest, first.latest, first.timeout), (at(5), at(5), seconds(15)));
    let second = &it.planned[1];
    assert_eq!((second.earliest, second.latest), (at(5 + 270), at(5 + 330)));
    assert!(
        it.ends.contains("attempt 10") && it.ends.contains("ATTEMPTS_EXHAUSTED"),
        "{}",
        it.ends
    );

    // Its lane is closed: nothing goes out before it opens.
    let wait = Duration::from_secs(60);
    let close = LaneClose { lane, wait, reason: PendingReason::RateLimited };
    world.store.operate.close_lanes(&[close]).await.unwrap();
    world.clock.advance(Duration::from_secs(10));
    let it = explain(&world, O1).await.deliveries.remove(0);
    assert_eq!(it.lane_closed_until, at(60));
    assert_eq!(
        it.waits_for,
        "a rate: its subscription's, its tenant's or its host's; its lane is closed (RATE_LIMITED)"
    );
    assert_eq!(it.planned[0].earliest, at(60));

    // And paused, which says nothing of when.
    let pause = v1::PauseSubscriptionRequest { name: ERP.into(), ..Default::default() };
    ask!(world.subscriptions, pause_subscription, pause).unwrap();
    let suspended =
        v1::Tenant { name: "tenants/acme".into(), suspended: Some(true), ..Default::default() };
    let update = v1::UpdateTenantRequest {
        tenant: Some(suspended),
        update_mask: mask(&["suspended"]),
        ..Default::default()
    };
    ask!(world.tenants, update_tenant, update).unwrap();
    let it = explain(&world, O1).await.deliveries.remove(0);
    assert!(
        it.waits_for.ends_with("its subscription is PAUSED; its tenant is suspended"),
        "{}",
        it.waits_for
    );
}

#[tokio::test]
async fn the_last_attempt_and_the_greatest_age_end_the_plan() {
    let world = World::with_tenant().await;
    let rules = "retry: { exponential: { initial: 10s, factor: 2, max_delay: 1h, attempts: 30, \
                 max_age: 1m } }";
    world.contract("short", rules).await;
    subscribe(&world, "short", |it| it.contract = "contracts/short".into()).await;
    let lane = world.lane("tenants/acme/subscriptions/short").await;
    world.publish("acme", Some("o1"), "{}").await;
    world.settle_new(&[lane], Transition::Retry(Duration::from_secs(10))).await;
    let it = explain(&world, O1).await.deliveries.remove(0);
    // 10 s, then 20 s more; 40 s more would be beyond a minute.
    let planned: Vec<_> = it.planned.iter().map(|send| (send.attempt, send.earliest)).collect();
    assert_eq!(planned, [(2, at(10)), (3, at(30))]);
    assert!(it.ends.contains("attempt 3") && it.ends.contains("max_age"), "{}", it.ends);
}

#[tokio::test]
async fn what_many_subscriptions_do_not_get_is_counted() {
    let world = World::with_tenant().await;
    world.allow(1000).await;
    let mut lanes = Vec::new();
    for i in 0..340 {
        let id = format!("s{i:03}");
        subscribe(&world, &id, |it| match i {
            0..120 => {}
            120..330 => it.event_types = vec!["invoice.*".into()],
            _ => it.filter = "event.data.amount > 100".into(),
        })
        .await;
        if i < 120 {
            lanes.push(world.lane(&format!("tenants/acme/subscriptions/{id}")).await);
        }
    }
    world.publish("acme", Some("o1"), "{\"amount\":7}").await;
    world.settle_new(&lanes, Transition::Retry(Duration::from_secs(5))).await;
    let answer = explain(&world, O1).await;
    assert_eq!(
        answer.subscriptions.iter().filter(|it| it.matched).count(),
        120,
        "facts are listed"
    );
    assert_eq!(answer.subscriptions.len(), 320);
    let other = |check: &str, count| OtherSubscriptions { check: check.into(), count };
    assert_eq!(answer.others, [other("event_types", 10), other("filter", 10)]);
    assert_eq!((answer.deliveries.len(), answer.more_deliveries), (100, true));
    assert!(prost::Message::encoded_len(&answer) < 4 * 1024 * 1024);
}

#[tokio::test]
async fn a_name_must_be_an_events() {
    let world = World::with_tenant().await;
    let ask = |name: &str| {
        let request = v1::ExplainEventRequest { name: name.into() };
        async { ask!(world.deliveries, explain_event, request) }
    };
    assert_wrong(ask("").await, &[("name", "REQUIRED")]);
    assert_wrong(ask("tenants/acme").await, &[("name", "MALFORMED")]);
    world.publish("beta", Some("o1"), "{}").await;
    for name in [O1, "tenants/acme/events/o1@2", "tenants/none/events/o1"] {
        assert_refused(ask(name).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    }
}
