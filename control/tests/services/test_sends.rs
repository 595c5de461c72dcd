//! TestSubscription: the control plane's side; the test plays the node.

use std::sync::Arc;
use std::time::Duration;

use pregon_core::id::{DeliveryKey, NodeId, TenantId};
use pregon_proto::v1;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use pregon_proto::v1::test_subscription_request::Sample;
use pregon_store::settlement::Transition;
use pregon_store::test_reply::TestReply;
use pregon_store::test_send::TakenTest;
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use crate::world::{World, ask, assert_refused, assert_wrong, seconds, subscription};

const ERP: &str = "tenants/acme/subscriptions/erp";

fn example() -> v1::TestSubscriptionRequest {
    v1::TestSubscriptionRequest {
        name: ERP.into(),
        sample: Some(Sample::EventType("eventTypes/order.captured".into())),
        ..Default::default()
    }
}

fn given(event: v1::Event) -> v1::TestSubscriptionRequest {
    v1::TestSubscriptionRequest { sample: Some(Sample::Event(event)), ..example() }
}

async fn world() -> Arc<World> {
    let world = World::with_subscription().await;
    world.event_type("order.captured").await;
    Arc::new(world)
}

type Answer = Result<v1::TestSubscriptionResponse, Status>;

fn test(world: &Arc<World>, request: v1::TestSubscriptionRequest) -> JoinHandle<Answer> {
    let world = Arc::clone(world);
    tokio::spawn(async move { ask!(world.subscriptions, test_subscription, request) })
}

/// Takes the test as a node does: when the bell rings.
async fn take(world: &World) -> TakenTest {
    loop {
        let node = NodeId::parse("n1").unwrap();
        if let Some(taken) = world.store.tests.take_tests(&node, 1).await.unwrap().pop() {
            return taken;
        }
        world.store.work.wait(Duration::from_secs(1)).await;
    }
}

/// What a node tells of a test that was acknowledged.
fn reply(world: &World, taken: &TakenTest) -> TestReply {
    let TakenTest { test, .. } = taken;
    let key = DeliveryKey { position: test.event.position, lane: test.lane, replay: None };
    let tenant = TenantId::parse("acme").unwrap();
    TestReply {
        record: world.record(key, &tenant, Transition::Succeeded),
        url: "https://example.com/hook?a=1".into(),
        headers: vec![("authorization".into(), "[masked]".into())],
        body: test.event.data.to_vec(),
        error: None,
    }
}

async fn settle(world: &World, taken: &TakenTest, reply: &TestReply) {
    world.store.tests.settle_test(&taken.ticket, reply.encode().into()).await.unwrap();
}

#[tokio::test]
async fn the_whole_story_is_the_answer() {
    let world = world().await;
    let asked = test(&world, example());
    let taken = take(&world).await;
    let head = world.store.config.head().await.unwrap().revision;
    assert_eq!((taken.test.lane, taken.test.min_revision), (world.lane(ERP).await, head));
    assert_eq!(taken.test.event.data.as_ref(), b"{\"amount\":7}");
    assert!(taken.test.timeout < Duration::from_secs(20));
    settle(&world, &taken, &reply(&world, &taken)).await;
    let answer = asked.await.unwrap().unwrap();
    let event = answer.event.unwrap();
    assert!(event.id.starts_with("test_"), "{}", event.id);
    assert_eq!(answer.event_type.unwrap().name, "eventTypes/order.captured");
    let delivery = answer.delivery.unwrap();
    assert!(delivery.test && delivery.subscription == ERP);
    assert!(delivery.end_time.is_some());
    assert_eq!((delivery.state(), delivery.attempt_count), (v1::DeliveryState::Succeeded, 1));
    assert_eq!(delivery.contract, "contracts/standard_webhooks");
    let attempt = answer.attempt.unwrap();
    assert_eq!(attempt.name, format!("{}/attempts/1", delivery.name));
    assert_eq!(
        (attempt.node.as_str(), attempt.outcome()),
        ("nodes/n1", v1::AttemptOutcome::Succeeded)
    );
    let request = attempt.request.unwrap();
    assert_eq!(
        (request.body.as_str(), request.headers[0].value.as_str()),
        ("{\"amount\":7}", "[masked]")
    );
    assert_eq!(attempt.response.unwrap().status, 204);
}

#[tokio::test]
async fn a_given_event_goes_out_in_the_subscriptions_environment() {
    let world = world().await;
    let it = v1::Subscription { environment: v1::Environment::Test.into(), ..subscription() };
    world.subscribe("acme", "try", it).await;
    let pause = v1::PauseSubscriptionRequest {
        name: "tenants/acme/subscriptions/try".into(),
        ..Default::default()
    };
    ask!(world.subscriptions, pause_subscription, pause).unwrap();
    let event = v1::Event {
        id: "mine".into(),
        r#type: "order.captured".into(),
        data: Some(v1::event::Data::Json("{ }".into())),
        ..Default::default()
    };
    let request = v1::TestSubscriptionRequest {
        name: "tenants/acme/subscriptions/try".into(),
        ..given(event)
    };
    let asked = test(&world, request);
    let taken = take(&world).await;
    assert_eq!(taken.test.event.environment, pregon_core::event::Environment::Test);
    assert_eq!(
        (taken.test.event.id.as_str(), taken.test.event.data.as_ref()),
        ("mine", &b"{ }"[..])
    );
    let error = Some("no active secret".to_owned());
    let reply = TestReply { error, body: Vec::new(), ..reply(&world, &taken) };
    settle(&world, &taken, &reply).await;
    let attempt = asked.await.unwrap().unwrap().attempt.unwrap();
    assert_eq!((attempt.request, attempt.reason.as_str()), (None, "no active secret"));
}

#[tokio::test]
async fn what_may_not_be_tested_is_refused() {
    let world = world().await;
    let event = |kind: &str, json: &str| v1::Event {
        r#type: kind.into(),
        data: Some(v1::event::Data::Json(json.into())),
        ..Default::default()
    };
    let answer = ask!(world.subscriptions, test_subscription, given(event("order.captured", "[]")));
    assert_wrong(answer, &[("event.json", "EVENT_SCHEMA_MISMATCH")]);
    let answer = ask!(world.subscriptions, test_subscription, given(event("order.other", "{}")));
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    let none = v1::TestSubscriptionRequest { sample: None, timeout: seconds(31), ..example() };
    let wrong = [("event_type", "REQUIRED"), ("timeout", "OUT_OF_RANGE")];
    assert_wrong(ask!(world.subscriptions, test_subscription, none), &wrong);
    let unknown = v1::TestSubscriptionRequest { name: format!("{ERP}2"), ..example() };
    let answer = ask!(world.subscriptions, test_subscription, unknown);
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    let waiting = v1::Subscription { contract: "contracts/operator".into(), ..subscription() };
    world.subscribe("acme", "asked", waiting).await;
    let asked = v1::TestSubscriptionRequest {
        name: "tenants/acme/subscriptions/asked".into(),
        ..example()
    };
    let answer = ask!(world.subscriptions, test_subscription, asked);
    assert_refused(answer, Code::FailedPrecondition, "STATE_CONFLICT");
}

#[tokio::test(start_paused = true)]
async fn nobody_there_is_told_from_nobody_answering() {
    let world = world().await;
    let short = v1::TestSubscriptionRequest { timeout: seconds(1), ..example() };
    let answer = ask!(world.subscriptions, test_subscription, short.clone());
    assert_refused(answer, Code::Unavailable, "NO_NODE");
    let asked = test(&world, short);
    take(&world).await;
    let answer = asked.await.unwrap().unwrap();
    assert_eq!(answer.delivery.unwrap().state(), v1::DeliveryState::Failed);
    assert_eq!(answer.attempt.unwrap().error_class(), v1::ErrorClass::Timeout);
}

#[tokio::test]
async fn a_repeat_is_not_sent_twice() {
    let world = world().await;
    let request = v1::TestSubscriptionRequest { request_id: "r".into(), ..example() };
    let (first, second) = (test(&world, request.clone()), test(&world, request.clone()));
    let taken = take(&world).await;
    settle(&world, &taken, &reply(&world, &taken)).await;
    let answer = first.await.unwrap().unwrap();
    assert_eq!(second.await.unwrap().unwrap(), answer);
    assert_eq!(ask!(world.subscriptions, test_subscription, request.clone()).unwrap(), answer);
    let other = v1::TestSubscriptionRequest { timeout: seconds(5), ..request };
    let answer = ask!(world.subscriptions, test_subscription, other);
    assert_refused(answer, Code::AlreadyExists, "REQUEST_ID_REUSED");
}
