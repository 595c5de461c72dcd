//! EraseEvent and EraseEvents.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt as _;
use pregon_core::attempt::{AttemptRecord, ResponseHead};
use pregon_core::id::{DeliveryKey, TenantId};
use pregon_core::outcome::{EndReason, PendingReason};
use pregon_proto::v1;
use pregon_proto::v1::delivery_service_server::DeliveryService as _;
use pregon_proto::v1::erase_events_request::Place;
use pregon_proto::v1::preview_delivery_request::Source;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use pregon_proto::v1::tenant_service_server::TenantService as _;
use pregon_rpc::caller::{Caller, Role};
use pregon_store::settlement::{
    BatchSettle, DeliverySettle, EventOutcome, EventSettle, Settlement, Transition,
};
use tonic::{Code, Response, Status};

use crate::world::{World, ask, assert_refused, assert_wrong, claim, from, new_event};

const ERP: &str = "tenants/acme/subscriptions/erp";
const DATA: &str = r#"{"who":"jane","items":[{"card":"4111"},{"card":"4222"}],"n":7}"#;
const FAILED: Transition = Transition::Failed(EndReason::AttemptsExhausted);
const WAITING: Transition = Transition::Waiting(PendingReason::Queued);

fn e1() -> String {
    "tenants/acme/events/e1".to_owned()
}

fn request(name: String) -> v1::EraseEventRequest {
    v1::EraseEventRequest { name, reason: "she asked".into(), ..Default::default() }
}

async fn get(world: &World) -> v1::Event {
    let request = v1::GetEventRequest { name: e1() };
    ask!(world.deliveries, get_event, request).unwrap().event.unwrap()
}

/// A world with `e1`, whose delivery to `erp` went there.
async fn world(to: Transition) -> (World, DeliveryKey) {
    let world = World::with_subscription().await;
    let mut event = new_event("acme", Some("e1"), DATA);
    event.attributes = [("who".to_owned(), "jane".to_owned())].into();
    world.store.intake.publish(vec![event]).await.unwrap();
    let key = world.settle_new(&[world.lane(ERP).await], to).await[0];
    (world, key)
}

#[tokio::test]
async fn what_is_left_says_why_and_is_nothing_to_deliver() {
    let (world, key) = world(FAILED).await;
    let before = get(&world).await;
    let dry = v1::EraseEventRequest { validate_only: true, ..request(e1()) };
    let dry = ask!(world.deliveries, erase_event, dry).unwrap();
    assert_eq!((dry.event, dry.pending), (Some(before.clone()), false));
    assert_eq!(get(&world).await, before);

    let erased = ask!(world.deliveries, erase_event, request(e1())).unwrap();
    assert!(!erased.pending);
    let left = erased.event.unwrap();
    assert_eq!((left.data.clone(), left.attributes.len()), (None, 0));
    let erasure = left.erasure.clone().unwrap();
    assert_eq!(erasure.reason, "she asked");
    assert!(erasure.time.is_some());
    let kept = |it: &v1::Event| (it.name.clone(), it.r#type.clone(), it.accept_time, it.occur_time);
    assert_eq!(kept(&left), kept(&before));
    assert_eq!(get(&world).await, left);
    // The first reason stays.
    let again = v1::EraseEventRequest { reason: "again".into(), ..request(e1()) };
    assert_eq!(ask!(world.deliveries, erase_event, again).unwrap().event, Some(left.clone()));

    let name = format!("tenants/acme/deliveries/{key}");
    let attempt = v1::GetAttemptRequest { name: format!("{name}/attempts/1") };
    let attempt = ask!(world.deliveries, get_attempt, attempt).unwrap().attempt.unwrap();
    let (sent, got) = (attempt.request.unwrap(), attempt.response.unwrap());
    assert_eq!(sent.body, "[not shown: the event was erased]");
    assert_eq!((sent.headers.len(), got.headers.len(), got.body.as_str()), (0, 0, ""));
    assert_eq!(got.status, 503);
    let replay = v1::ReplayDeliveryRequest { name, ..Default::default() };
    let answer = ask!(world.deliveries, replay_delivery, replay);
    assert_refused(answer, Code::FailedPrecondition, "STATE_CONFLICT");
    let replay = v1::ReplayDeliveriesRequest {
        parent: "tenants/acme".into(),
        state: v1::DeliveryState::Failed.into(),
        ..Default::default()
    };
    let mut stream = ask!(world.deliveries, replay_deliveries, replay).unwrap();
    let sums = stream.next().await.unwrap().unwrap();
    assert_eq!((sums.matched, sums.done, sums.skipped), (1, 0, 1));
    let preview = v1::PreviewDeliveryRequest {
        name: ERP.into(),
        source: Some(Source::StoredEvent(e1())),
        ..Default::default()
    };
    let answer = ask!(world.subscriptions, preview_delivery, preview);
    assert_refused(answer, Code::FailedPrecondition, "STATE_CONFLICT");
    let explain = v1::ExplainEventRequest { name: e1() };
    let told = ask!(world.deliveries, explain_event, explain).unwrap();
    assert_eq!((told.event, told.deliveries.len()), (Some(left), 1));
}

/// A viewer may not; a tenant manager may, of its own tenant; and nothing is erased of what is not there.
#[tokio::test]
async fn what_cannot_be_erased_is_refused() {
    let (world, _) = world(FAILED).await;
    let wrong = v1::EraseEventRequest { name: "events/e1".into(), ..Default::default() };
    let answer = ask!(world.deliveries, erase_event, wrong);
    assert_wrong(answer, &[("name", "MALFORMED"), ("reason", "REQUIRED")]);
    for reason in ["a\nb".to_owned(), "x".repeat(201)] {
        let answer = ask!(
            world.deliveries,
            erase_event,
            v1::EraseEventRequest { reason: reason.clone(), ..request(e1()) }
        );
        let rule = if reason.len() > 200 { "TOO_LONG" } else { "MALFORMED" };
        assert_wrong(answer, &[("reason", rule)]);
    }
    let longest =
        v1::EraseEventRequest { reason: "x".repeat(200), validate_only: true, ..request(e1()) };
    ask!(world.deliveries, erase_event, longest).unwrap();
    let answer = ask!(world.deliveries, erase_event, request("tenants/acme/events/e2".into()));
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    let tenants = BTreeSet::from([TenantId::parse("globex").unwrap()]);
    let stranger = Caller::new("somebody", Role::TenantManager, Some(tenants));
    let answer = world.deliveries.erase_event(from(stranger, request(e1()))).await;
    assert_refused(answer.map(Response::into_inner), Code::PermissionDenied, "TENANT_DENIED");
    assert!(get(&world).await.erasure.is_none());
}

/// What waits is called off; what is not matched yet is erased later, by whichever control plane.
#[tokio::test]
async fn what_is_under_way_is_erased_when_it_is_over() {
    let (world, key) = world(WAITING).await;
    let erased = ask!(world.deliveries, erase_event, request(e1())).unwrap();
    assert!(!erased.pending && erased.event.unwrap().erasure.is_some());
    let name = format!("tenants/acme/deliveries/{key}");
    let delivery = v1::GetDeliveryRequest { name };
    let delivery = ask!(world.deliveries, get_delivery, delivery).unwrap().delivery.unwrap();
    assert_eq!(delivery.state(), v1::DeliveryState::Cancelled);
    assert_eq!(delivery.end_reason(), v1::EndReason::Erased);

    let position = world.publish("acme", Some("e2"), DATA).await;
    let e2 = "tenants/acme/events/e2".to_owned();
    let erased = ask!(world.deliveries, erase_event, request(e2)).unwrap();
    assert!(erased.pending && erased.event.unwrap().erasure.is_none());
    let put_off = |names: Vec<String>| names.iter().any(|it| it.starts_with("eventErasures/"));
    assert!(put_off(world.names().await));
    world.control.erase_put_off(&mut String::new()).await.unwrap();
    assert!(put_off(world.names().await), "it is still to be matched");
    world.settle_new(&[], WAITING).await;
    let other = World::over(world.store.clone());
    other.control.erase_put_off(&mut String::new()).await.unwrap();
    let (left, _) = world.store.log.event(position).await.unwrap().unwrap();
    assert_eq!(left.erased.unwrap().reason, "she asked");
    // An attempt whose lease was lost may still be answered.
    assert!(put_off(world.names().await));
    other.clock.advance(Duration::from_secs(60));
    other.control.erase_put_off(&mut String::new()).await.unwrap();
    other.control.erase_put_off(&mut String::new()).await.unwrap();
    assert!(!put_off(world.names().await));
}

/// The first reason stays also where nothing could be erased yet.
#[tokio::test]
async fn who_asks_again_does_not_change_the_reason() {
    let world = World::with_subscription().await;
    let position = world.publish("acme", Some("e1"), DATA).await;
    assert!(ask!(world.deliveries, erase_event, request(e1())).unwrap().pending);
    let again = v1::EraseEventRequest { reason: "again".into(), ..request(e1()) };
    assert!(ask!(world.deliveries, erase_event, again.clone()).unwrap().pending);
    world.settle_new(&[], WAITING).await;
    assert!(!ask!(world.deliveries, erase_event, again).unwrap().pending);
    let (left, _) = world.store.log.event(position).await.unwrap().unwrap();
    assert_eq!(left.erased.unwrap().reason, "she asked");
}

/// What is kept of the answers to a delivery's attempts.
async fn answers(world: &World, key: DeliveryKey) -> Vec<Option<ResponseHead>> {
    let records = world.store.log.attempts(key).await.unwrap();
    records.into_iter().map(|it| it.response).collect()
}

/// The answer to an attempt whose lease was lost comes when it comes: it is shown to nobody, and goes.
#[tokio::test]
async fn a_late_answer_is_not_shown_and_goes() {
    let world = World::with_subscription().await;
    let lane = world.lane(ERP).await;
    let position = world.publish("acme", Some("e1"), DATA).await;
    let begun = world.now();
    let lost = world.store.work.take(0, &claim(), 256, usize::MAX).await.unwrap().unwrap();
    world.clock.advance(Duration::from_secs(21));
    let (again, _) = world.store.work.take_over(0, &claim(), 64, 64).await.unwrap();
    let key = DeliveryKey { position, lane, replay: None };
    let tenant = TenantId::parse("acme").unwrap();
    let settle = async |token, start| {
        let deliveries = vec![DeliverySettle {
            key,
            tenant: tenant.clone(),
            attempts: 1,
            age: Duration::ZERO,
            to: FAILED,
        }];
        let outcome = EventOutcome::Matched(deliveries);
        let events = vec![EventSettle::new(position, tenant.clone(), outcome)];
        let record = AttemptRecord { start, ..world.record(key, &tenant, FAILED) };
        let attempts = vec![(token, record.into())];
        let batches = vec![BatchSettle { token, events, deliveries: Vec::new() }];
        world.store.work.settle(Settlement { batches, attempts, ..Settlement::default() }).await
    };
    settle(again[0].token, world.now()).await.unwrap();
    assert!(!ask!(world.deliveries, erase_event, request(e1())).unwrap().pending);
    assert_eq!(settle(lost.token, begun).await.unwrap().lost, [lost.token]);
    assert!(answers(&world, key).await.iter().any(Option::is_some), "it came");

    let empty = |it: &v1::Attempt| {
        let response = it.response.as_ref().unwrap();
        response.status == 503 && response.body.is_empty() && response.headers.is_empty()
    };
    let parent = format!("tenants/acme/deliveries/{key}");
    let list = v1::ListAttemptsRequest { parent, ..Default::default() };
    let listed = ask!(world.deliveries, list_attempts, list).unwrap().attempts;
    assert!(listed.len() == 2 && listed.iter().all(empty), "{listed:?}");
    let explain = v1::ExplainEventRequest { name: e1() };
    let told = ask!(world.deliveries, explain_event, explain).unwrap();
    let told = &told.deliveries[0].attempts;
    assert!(told.len() == 2 && told.iter().all(empty), "{told:?}");

    world.control.erase_put_off(&mut String::new()).await.unwrap();
    assert!(answers(&world, key).await.iter().any(Option::is_some), "another may come");
    world.clock.advance(Duration::from_secs(60));
    world.control.erase_put_off(&mut String::new()).await.unwrap();
    assert_eq!(answers(&world, key).await, [None, None]);
}

/// A run ends where its tenant does, also where there is another of the name.
#[tokio::test]
async fn a_run_does_not_go_on_for_the_next_tenant() {
    let world = World::with_subscription().await;
    world.publish_many("acme", 150).await;
    world.settle_new(&[], FAILED).await;
    let run = of(Place::DataPath("event.data.gone".into()), "x");
    let mut stream = ask!(world.deliveries, erase_events, run).unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().seen, 100);
    let name = "tenants/acme".to_owned();
    let delete = v1::DeleteTenantRequest { name, force: true, ..Default::default() };
    ask!(world.tenants, delete_tenant, delete).unwrap();
    world.clock.advance(Duration::from_secs(1));
    world.tenant("acme").await;
    let answer = stream.next().await.unwrap();
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
}

fn of(place: Place, value: &str) -> v1::EraseEventsRequest {
    v1::EraseEventsRequest {
        parent: "tenants/acme".into(),
        reason: "she asked".into(),
        place: Some(place),
        value: value.into(),
        ..Default::default()
    }
}

async fn last(
    world: &World,
    request: v1::EraseEventsRequest,
) -> Result<v1::EraseEventsResponse, Status> {
    let stream = ask!(world.deliveries, erase_events, request)?;
    let all: Vec<_> = stream.collect().await;
    all.into_iter().next_back().unwrap()
}

#[tokio::test]
async fn a_persons_events_are_found_and_erased() {
    let (world, _) = world(FAILED).await;
    world.tenant("globex").await;
    for (tenant, id, data) in [
        ("acme", "john", r#"{"who":"john","items":[]}"#),
        ("acme", "other", r#"{"items":[{"card":"4222"}],"who":"jane and john"}"#),
        ("globex", "e1", DATA),
    ] {
        world.publish(tenant, Some(id), data).await;
    }
    world.settle_new(&[], FAILED).await;
    let path = |path: &str| Place::DataPath(path.to_owned());
    let jane = of(path("event.data.who"), "jane");
    let dry = v1::EraseEventsRequest { validate_only: true, ..jane.clone() };
    let sums = last(&world, dry).await.unwrap();
    assert_eq!((sums.seen, sums.matched, sums.erased, sums.pending), (3, 1, 0, 0));
    let by_attribute = of(Place::Attribute("who".into()), "jane");
    let dry = v1::EraseEventsRequest { validate_only: true, ..by_attribute };
    assert_eq!(last(&world, dry).await.unwrap().matched, 1);
    let sums = last(&world, jane.clone()).await.unwrap();
    assert_eq!((sums.seen, sums.matched, sums.erased, sums.pending), (3, 1, 1, 0));
    assert_eq!(sums.cursor, "");
    assert!(get(&world).await.erasure.is_some());
    let sums = last(&world, jane).await.unwrap();
    assert_eq!((sums.seen, sums.matched), (3, 0), "it is gone");
    let card = of(path("event.data.items[*].card"), "4222");
    assert_eq!(last(&world, card).await.unwrap().erased, 1);
    for (id, erased) in [("john", false), ("other", true)] {
        let request = v1::GetEventRequest { name: format!("tenants/acme/events/{id}") };
        let event = ask!(world.deliveries, get_event, request).unwrap().event.unwrap();
        assert_eq!(event.erasure.is_some(), erased, "{id}");
    }
    let request = v1::GetEventRequest { name: "tenants/globex/events/e1".into() };
    assert!(ask!(world.deliveries, get_event, request).unwrap().event.unwrap().erasure.is_none());

    let wrong = v1::EraseEventsRequest { parent: "tenants/-".into(), ..Default::default() };
    let answer = last(&world, wrong).await;
    let all = [
        ("attribute", "REQUIRED"),
        ("parent", "MALFORMED"),
        ("reason", "REQUIRED"),
        ("value", "REQUIRED"),
    ];
    assert_wrong(answer, &all);
    let answer = last(&world, of(path("check.data.a"), "x")).await;
    assert_wrong(answer, &[("data_path", "MALFORMED")]);
    let answer = last(&world, of(Place::Attribute(String::new()), "x")).await;
    assert_wrong(answer, &[("attribute", "REQUIRED")]);
}

/// A run that was cut off goes on where it was, and another request's cursor is none.
#[tokio::test]
async fn a_run_goes_on_with_its_cursor() {
    let world = World::with_subscription().await;
    world.publish_many("acme", 250).await;
    world.settle_new(&[], FAILED).await;
    let run = of(Place::DataPath("event.data.gone".into()), "x");
    let mut stream = ask!(world.deliveries, erase_events, run.clone()).unwrap();
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!(first.seen, 100);
    drop(stream);
    let rest = v1::EraseEventsRequest { cursor: first.cursor.clone(), ..run.clone() };
    assert_eq!(last(&world, rest).await.unwrap().seen, 150);
    let other = v1::EraseEventsRequest { cursor: first.cursor, value: "y".into(), ..run };
    assert_wrong(last(&world, other).await, &[("cursor", "PAGE_TOKEN_INVALID")]);
}
