//! What of stored events is shown to whom, whichever method shows them.

use pregon_core::model::Resource;
use pregon_proto::v1;
use pregon_proto::v1::delivery_service_server::DeliveryService as _;
use pregon_proto::v1::event_type_service_server::EventTypeService as _;
use pregon_proto::v1::preview_delivery_request::Source;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use pregon_store::config::Commit;

use pregon_rpc::caller::{Caller, Role};

use crate::world::{World, ask, assert_refused, from, subscription};

const DATA: &str = r#"{"card":"hush-1","who":"hush-2","iban":"hush-3","test":"seen-4","n":5}"#;
const SHOWN: &str =
    r#"{"card":"[redacted]","who":"[redacted]","iban":"[redacted]","test":"seen-4","n":5}"#;

fn json(event: Option<v1::Event>) -> String {
    match event.unwrap().data.unwrap() {
        v1::event::Data::Json(json) => json,
        other @ v1::event::Data::Object(_) => panic!("{other:?}"),
    }
}

fn viewer() -> Caller {
    Caller::new("somebody", Role::Viewer, None)
}

/// One way to be shown the data of the event.
async fn get(world: &World, by: Caller) -> String {
    let request = v1::GetEventRequest { name: "tenants/acme/events/e1".into() };
    let answer = world.deliveries.get_event(from(by, request)).await;
    json(answer.unwrap().into_inner().event)
}

async fn list(world: &World, by: Caller, parent: &str) -> String {
    let request = v1::ListEventsRequest { parent: parent.into(), ..Default::default() };
    let answer = world.deliveries.list_events(from(by, request)).await;
    json(answer.unwrap().into_inner().events.pop())
}

async fn explain(world: &World, by: Caller) -> String {
    let request = v1::ExplainEventRequest { name: "tenants/acme/events/e1".into() };
    let answer = world.deliveries.explain_event(from(by, request)).await;
    json(answer.unwrap().into_inner().event)
}

async fn every_way(world: &World, by: Caller) -> [String; 4] {
    [
        get(world, by.clone()).await,
        list(world, by.clone(), "tenants/acme").await,
        list(world, by.clone(), "tenants/-").await,
        explain(world, by).await,
    ]
}

/// As a viewer is shown it.
async fn by_get(world: &World) -> String {
    get(world, viewer()).await
}

async fn by_list(world: &World, parent: &str) -> String {
    list(world, viewer(), parent).await
}

async fn preview(world: &World, id: &str) -> v1::PreviewDeliveryResponse {
    let request = v1::PreviewDeliveryRequest {
        name: format!("tenants/acme/subscriptions/{id}"),
        source: Some(Source::StoredEvent("tenants/acme/events/e1".into())),
        ..Default::default()
    };
    ask!(world.subscriptions, preview_delivery, request).unwrap()
}

/// A tenant whose event type, contract and subscriptions each call something sensitive.
async fn world() -> World {
    let world = World::with_tenant().await;
    world.event_type("order.captured").await;
    let given = v1::EventType {
        name: "eventTypes/order.captured".into(),
        sensitive_paths: vec!["event.data.card".into()],
        ..Default::default()
    };
    let request = v1::UpdateEventTypeRequest { event_type: Some(given), ..Default::default() };
    ask!(world.event_types, update_event_type, request).unwrap();
    let contract = world.contract("mine", "sensitive: [event.data.iban]").await.name;
    let paths = |path: &str| vec![path.to_owned()];
    let a = v1::Subscription { sensitive_paths: paths("event.data.who"), ..subscription() };
    world.subscribe("acme", "a", a).await;
    let b = v1::Subscription { contract, filter: "event.data.n == 5".into(), ..subscription() };
    world.subscribe("acme", "b", b).await;
    // None of these two may get the event.
    let other = v1::Subscription {
        environment: v1::Environment::Test.into(),
        sensitive_paths: paths("event.data.test"),
        ..subscription()
    };
    world.subscribe("acme", "c", other).await;
    let other = v1::Subscription {
        event_types: vec!["payment.*".into()],
        sensitive_paths: paths("event.data.test"),
        ..subscription()
    };
    world.subscribe("acme", "d", other).await;
    world.publish("acme", Some("e1"), DATA).await;
    world
}

#[tokio::test]
async fn a_viewer_is_shown_events_without_what_anybody_calls_sensitive() {
    let world = world().await;
    assert_eq!(every_way(&world, viewer()).await, [SHOWN; 4]);
    // What stands in the configuration now counts.
    let name = "tenants/acme/subscriptions/a".to_owned();
    let request = v1::DeleteSubscriptionRequest { name, ..Default::default() };
    ask!(world.subscriptions, delete_subscription, request).unwrap();
    let want = SHOWN.replace(r#""who":"[redacted]""#, r#""who":"hush-2""#);
    assert_eq!(every_way(&world, viewer()).await, [want.as_str(); 4]);
}

/// The roles that hold the right to read payloads, and where nobody is authenticated.
#[tokio::test]
async fn who_has_the_right_reads_payloads_as_they_are() {
    let world = world().await;
    for role in Role::ALL {
        let may = matches!(role, Role::Admin | Role::Operator | Role::TenantManager);
        let by = Caller::new("somebody", role, None);
        assert_eq!(by.reads_payloads(), may, "{role}");
        let want = if may { DATA } else { SHOWN };
        assert_eq!(every_way(&world, by).await, [want; 4], "{role}");
    }
    assert_eq!(every_way(&world, Caller::anyone()).await, [DATA; 4]);
}

#[tokio::test]
async fn a_preview_of_a_stored_event_shows_what_would_be_sent() {
    let world = world().await;
    let it = preview(&world, "b").await;
    assert_eq!((it.matches, it.render_error.as_str()), (true, ""), "matched as it is");
    assert!(it.body_text.contains(DATA), "{}", it.body_text);
    // One that is given is the caller's own.
    let event = v1::Event {
        r#type: "order.captured".into(),
        data: Some(v1::event::Data::Json(DATA.into())),
        ..Default::default()
    };
    let request = v1::PreviewDeliveryRequest {
        name: "tenants/acme/subscriptions/b".into(),
        source: Some(Source::Event(event)),
        ..Default::default()
    };
    let it = ask!(world.subscriptions, preview_delivery, request).unwrap();
    assert!(it.body_text.contains(DATA), "{}", it.body_text);
}

#[tokio::test]
async fn an_event_of_a_tenant_that_is_gone_is_not_previewed() {
    let world = world().await;
    let Some(Resource::Tenant(mut tenant)) = world.stored("tenants/acme").await else {
        panic!("no tenant")
    };
    tenant.since = Some(world.now().plus(std::time::Duration::from_secs(1)));
    world.put(&Resource::Tenant(tenant)).await;
    let request = v1::PreviewDeliveryRequest {
        name: "tenants/acme/subscriptions/b".into(),
        source: Some(Source::StoredEvent("tenants/acme/events/e1".into())),
        ..Default::default()
    };
    let answer = ask!(world.subscriptions, preview_delivery, request);
    assert_refused(answer, tonic::Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn where_it_cannot_be_told_nothing_is_shown() {
    let world = world().await;
    // A subscription that this release cannot read.
    let spoil = async |bytes: &'static str| {
        let name = "tenants/acme/subscriptions/d".to_owned();
        let write = vec![(name, Some(bytes.into()))];
        world.store.config.commit(Commit { write, ..Commit::default() }).await.unwrap();
    };
    spoil("{}").await;
    let hidden = "\"[redacted]\"";
    assert_eq!(by_get(&world).await, hidden);
    assert_eq!(by_list(&world, "tenants/-").await, hidden);
    let name = "tenants/acme/subscriptions/d".to_owned();
    let write = vec![(name, None)];
    world.store.config.commit(Commit { write, ..Commit::default() }).await.unwrap();
    assert_eq!(by_get(&world).await, SHOWN);
    // A contract that it cannot read, and the event may go out under.
    let contract = world.stored("contracts/mine").await.unwrap();
    let write = vec![("contracts/mine".to_owned(), Some("{}".into()))];
    world.store.config.commit(Commit { write, ..Commit::default() }).await.unwrap();
    assert_eq!(by_get(&world).await, hidden);
    world.put(&contract).await;
    assert_eq!(by_get(&world).await, SHOWN);
    // More paths than an event is searched for.
    for n in 0..16 {
        let path = |i| format!("event.data.p{n}.q{i}");
        let many =
            v1::Subscription { sensitive_paths: (0..64).map(path).collect(), ..subscription() };
        assert_eq!(by_get(&world).await, SHOWN, "{n}");
        world.subscribe("acme", &format!("many{n}"), many).await;
    }
    assert_eq!(by_get(&world).await, hidden);
}
