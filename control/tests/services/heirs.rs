//! What is seen by a tenant that has the id of one that was deleted: nothing of the earlier one, by
//! no method, at no moment between the deletion and the end of the erasing.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use pregon_control::AuditLogs;
use pregon_core::id::TenantId;
use pregon_core::outcome::EndReason;
use pregon_proto::v1;
use pregon_proto::v1::api_key_service_server::ApiKeyService as _;
use pregon_proto::v1::audit_log_service_server::AuditLogService as _;
use pregon_proto::v1::callback_service_server::CallbackService as _;
use pregon_proto::v1::delivery_service_server::DeliveryService as _;
use pregon_proto::v1::preview_delivery_request::Source;
use pregon_proto::v1::secret_service_server::SecretService as _;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use pregon_proto::v1::tenant_service_server::TenantService as _;
use pregon_proto::v1::watch_deliveries_response::Happened;
use pregon_rpc::caller::{Caller, Role};
use pregon_store::settlement::Transition;
use tonic::{Code, Response, Status};

use crate::world::{self, World, ask, assert_refused, from, new_event};

/// Stands in all that was the earlier tenant's.
const MARK: &str = "m4rk-of-first";
const FAILED: Transition = Transition::Failed(EndReason::AttemptsExhausted);

fn acme() -> String {
    "tenants/acme".to_owned()
}

/// Whoever manages acme.
fn manager() -> Caller {
    let tenants = BTreeSet::from([TenantId::parse("acme").unwrap()]);
    Caller::new("manager", Role::TenantManager, Some(tenants))
}

/// Asks as the manager.
macro_rules! as_manager {
    ($service:expr, $method:ident, $request:expr) => {
        $service.$method(from(manager(), $request)).await.map(Response::into_inner)
    };
}

/// What the earlier tenant's people knew, and may ask for again.
struct Known {
    event: String,
    delivery: String,
    subscription: String,
    key: String,
    resume_token: String,
}

fn watch(resume_token: String) -> v1::WatchDeliveriesRequest {
    let (parent, include_attempts) = (acme(), true);
    v1::WatchDeliveriesRequest { parent, include_attempts, resume_token, ..Default::default() }
}

/// Deletes acme, which had everything that a tenant can have.
async fn deleted(world: &World) -> Known {
    let subscription = format!("{}/subscriptions/{MARK}", acme());
    let given = v1::Subscription { display_name: MARK.into(), ..world::subscription() };
    world.subscribe("acme", MARK, given).await;
    let callback = v1::Callback { url: world::URL.into(), ..Default::default() };
    let request = v1::CreateCallbackRequest {
        parent: acme(),
        callback_id: MARK.into(),
        callback: Some(callback),
        ..Default::default()
    };
    ask!(world.callbacks, create_callback, request).unwrap();
    let api_key = v1::ApiKey {
        display_name: MARK.into(),
        role: v1::ApiKeyRole::Viewer.into(),
        tenants: vec![acme()],
        ..Default::default()
    };
    let request = v1::CreateApiKeyRequest { api_key: Some(api_key), ..Default::default() };
    let key = as_manager!(world.api_keys, create_api_key, request).unwrap().api_key.unwrap().name;
    let mut stream = as_manager!(world.deliveries, watch_deliveries, watch(String::new())).unwrap();
    let resume_token = stream.next().await.unwrap().unwrap().resume_token;
    let mut event = new_event("acme", Some(MARK), &format!("{{\"text\":\"{MARK}\"}}"));
    event.attributes = [("who".to_owned(), MARK.to_owned())].into();
    world.store.intake.publish(vec![event]).await.unwrap();
    let lane = world.lane(&subscription).await;
    let key_of = world.settle_new(&[lane], FAILED).await[0];
    world.clock.advance(Duration::from_secs(1));
    let request = v1::DeleteTenantRequest { name: acme(), force: true, ..Default::default() };
    ask!(world.tenants, delete_tenant, request).unwrap();
    world.clock.advance(Duration::from_secs(1));
    Known {
        event: format!("{}/events/{MARK}", acme()),
        delivery: format!("{}/deliveries/{key_of}", acme()),
        subscription,
        key,
        resume_token,
    }
}

#[track_caller]
fn unmarked(answer: &impl Debug) {
    let text = format!("{answer:?}");
    assert!(!text.contains(MARK), "{text}");
}

#[track_caller]
fn gone<T: Debug>(answer: Result<T, Status>) {
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
}

/// Asks every method that reads for what the earlier tenant had.
async fn sees_nothing(world: &World, known: &Known) {
    let (name, parent) = (known.event.clone(), acme());
    gone(as_manager!(world.deliveries, get_event, v1::GetEventRequest { name: name.clone() }));
    gone(as_manager!(world.deliveries, explain_event, v1::ExplainEventRequest { name }));
    let request = v1::ListEventsRequest { parent: parent.clone(), ..Default::default() };
    assert_eq!(as_manager!(world.deliveries, list_events, request).unwrap().events, []);
    let all = v1::ListDeliveriesRequest { parent: parent.clone(), ..Default::default() };
    let of_event = v1::ListDeliveriesRequest { event: known.event.clone(), ..all.clone() };
    let of_lane =
        v1::ListDeliveriesRequest { subscription: known.subscription.clone(), ..all.clone() };
    for request in [all, of_event, of_lane] {
        let found = as_manager!(world.deliveries, list_deliveries, request).unwrap();
        assert_eq!(found.deliveries, []);
    }
    let name = known.delivery.clone();
    gone(as_manager!(world.deliveries, get_delivery, v1::GetDeliveryRequest { name }));
    let request = v1::ListAttemptsRequest { parent: known.delivery.clone(), ..Default::default() };
    gone(as_manager!(world.deliveries, list_attempts, request));
    let name = format!("{}/attempts/1", known.delivery);
    gone(as_manager!(world.deliveries, get_attempt, v1::GetAttemptRequest { name }));
    let name = known.delivery.clone();
    let request = v1::ReplayDeliveryRequest { name, ..Default::default() };
    gone(as_manager!(world.deliveries, replay_delivery, request));
    let name = known.delivery.clone();
    let request = v1::CancelDeliveryRequest { name, ..Default::default() };
    gone(as_manager!(world.deliveries, cancel_delivery, request));
    // Not even that there was such a subscription.
    let request = v1::ReplayDeliveriesRequest {
        parent: parent.clone(),
        subscription: known.subscription.clone(),
        ..Default::default()
    };
    gone(as_manager!(world.deliveries, replay_deliveries, request).map(drop));
    let subscription = known.subscription.clone();
    let request = v1::WatchDeliveriesRequest { subscription, ..watch(String::new()) };
    gone(as_manager!(world.deliveries, watch_deliveries, request).map(drop));
    let request =
        v1::GetReconciliationReportRequest { parent: parent.clone(), ..Default::default() };
    let report = as_manager!(world.deliveries, get_reconciliation_report, request).unwrap();
    assert_eq!(report.events, Some(v1::EventCounts::default()));
    assert_eq!(report.deliveries, Some(v1::DeliveryCounts::default()));

    let name = known.key.clone();
    gone(as_manager!(world.api_keys, get_api_key, v1::GetApiKeyRequest { name }));
    let request = v1::ListApiKeysRequest::default();
    assert_eq!(as_manager!(world.api_keys, list_api_keys, request).unwrap().api_keys, []);
    let audit = AuditLogs::new(Arc::clone(&world.control));
    let request = v1::ListAuditEntriesRequest::default();
    unmarked(&as_manager!(audit, list_audit_entries, request).unwrap());
    let request = v1::ListSubscriptionsRequest { parent: parent.clone(), ..Default::default() };
    unmarked(&as_manager!(world.subscriptions, list_subscriptions, request).unwrap());
    let request = v1::ListCallbacksRequest { parent, ..Default::default() };
    unmarked(&as_manager!(world.callbacks, list_callbacks, request).unwrap());
    let parent = known.subscription.clone();
    let request = v1::ListSecretsRequest { parent, ..Default::default() };
    gone(as_manager!(world.secrets, list_secrets, request));
    let name = known.subscription.clone();
    let request = v1::GetSubscriptionHealthRequest { name, ..Default::default() };
    gone(as_manager!(world.subscriptions, get_subscription_health, request));
}

#[tokio::test]
async fn the_next_tenant_of_an_id_sees_nothing_of_the_earlier_one() {
    let world = World::with_tenant().await;
    let known = deleted(&world).await;
    world.tenant("acme").await;
    sees_nothing(&world, &known).await;
    world.control.erase_remains(&mut String::new()).await.unwrap();
    sees_nothing(&world, &known).await;
    assert!(!world.names().await.contains(&"erasures/acme".to_owned()), "the erasing is over");
}

/// A watch that goes on from where the earlier tenant's stood shows what is the new one's only.
#[tokio::test]
async fn a_watch_goes_on_without_what_was_the_earlier_tenants() {
    let world = World::with_tenant().await;
    let known = deleted(&world).await;
    world.tenant("acme").await;
    world.subscription("acme", "erp").await;
    let lane = world.lane("tenants/acme/subscriptions/erp").await;
    world.publish("acme", Some("own"), "{}").await;
    world.settle_new(&[lane], FAILED).await;
    let request = watch(known.resume_token);
    let mut stream = as_manager!(world.deliveries, watch_deliveries, request).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        match stream.next().await.unwrap().unwrap().happened.unwrap() {
            Happened::Heartbeat(_) => {}
            Happened::Delivery(it) => seen.push(it.event),
            Happened::Attempt(it) => seen.push(it.name),
        }
    }
    unmarked(&seen);
    let old = known.delivery;
    assert!(seen.contains(&"tenants/acme/events/own".to_owned()), "{seen:?}");
    assert!(seen.iter().all(|name| !name.starts_with(&old)), "{seen:?}");
}

/// A preview is of the own subscription, and of an event that there is.
#[tokio::test]
async fn an_event_of_the_earlier_tenant_is_not_previewed_either() {
    let world = World::with_tenant().await;
    let known = deleted(&world).await;
    world.tenant("acme").await;
    world.subscription("acme", "erp").await;
    let request = v1::PreviewDeliveryRequest {
        name: "tenants/acme/subscriptions/erp".into(),
        source: Some(Source::StoredEvent(known.event)),
        ..Default::default()
    };
    gone(as_manager!(world.subscriptions, preview_delivery, request));
}

/// A key that is for others too goes on without the tenant.
#[tokio::test]
async fn keys_lose_the_tenants_that_are_deleted() {
    let world = World::with_tenant().await;
    world.tenant("globex").await;
    let api_key = v1::ApiKey {
        role: v1::ApiKeyRole::Viewer.into(),
        tenants: vec![acme(), "tenants/globex".into()],
        ..Default::default()
    };
    let request = v1::CreateApiKeyRequest { api_key: Some(api_key), ..Default::default() };
    let name = ask!(world.api_keys, create_api_key, request).unwrap().api_key.unwrap().name;
    let request = v1::DeleteTenantRequest { name: acme(), force: true, ..Default::default() };
    ask!(world.tenants, delete_tenant, request).unwrap();
    let request = v1::GetApiKeyRequest { name: name.clone() };
    let left = ask!(world.api_keys, get_api_key, request.clone()).unwrap().api_key.unwrap();
    assert_eq!(left.tenants, ["tenants/globex"]);
    let name = "tenants/globex".to_owned();
    let delete = v1::DeleteTenantRequest { name, force: true, ..Default::default() };
    ask!(world.tenants, delete_tenant, delete).unwrap();
    gone(ask!(world.api_keys, get_api_key, request));
}
