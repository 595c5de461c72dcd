//! What a `request_id` promises.

use pregon_core::limits;
use pregon_proto::v1;
use pregon_proto::v1::event_type_service_server::EventTypeService as _;
use pregon_proto::v1::secret_service_server::SecretService as _;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use pregon_proto::v1::tenant_service_server::TenantService as _;
use tonic::Code;

use crate::world::{World, ask, assert_refused, subscription};

#[tokio::test]
async fn a_repeat_answers_as_the_first_did() {
    let world = World::new();
    let labels = (0..10).map(|i| (i.to_string(), "x".to_owned())).collect();
    let request = v1::CreateTenantRequest {
        tenant_id: "acme".into(),
        tenant: Some(v1::Tenant { labels, ..Default::default() }),
        request_id: "one".into(),
        ..Default::default()
    };
    let first = ask!(world.tenants, create_tenant, request.clone()).unwrap();
    // Another copy of the map has another order.
    let mut again = request.clone();
    let tenant = again.tenant.as_mut().unwrap();
    tenant.labels = std::mem::take(&mut tenant.labels).into_iter().collect();
    assert_eq!(ask!(world.tenants, create_tenant, again).unwrap(), first);
    let mut other = request.clone();
    other.tenant.as_mut().unwrap().display_name = "Acme".into();
    let answer = ask!(world.tenants, create_tenant, other);
    assert_refused(answer, Code::AlreadyExists, "REQUEST_ID_REUSED");
    // The same id is another request under another method.
    let kind = v1::CreateEventTypeRequest {
        event_type_id: "a".into(),
        event_type: Some(v1::EventType::default()),
        request_id: "one".into(),
        ..Default::default()
    };
    let kind = ask!(world.event_types, create_event_type, kind).unwrap();
    assert!(kind.revision > first.revision);
    // After a day it is a new one.
    world.clock.advance(limits::REQUEST_ID_KEPT + std::time::Duration::from_secs(1));
    let answer = ask!(world.tenants, create_tenant, request);
    assert_refused(answer, Code::AlreadyExists, "RESOURCE_EXISTS");
}

#[tokio::test]
async fn assigned_ids_and_keys_are_made_once() {
    let world = World::with_tenant().await;
    let request = v1::CreateSubscriptionRequest {
        parent: "tenants/acme".into(),
        subscription: Some(subscription()),
        request_id: "one".into(),
        ..Default::default()
    };
    let first = ask!(world.subscriptions, create_subscription, request.clone()).unwrap();
    // A dry run is no first request.
    let dry = v1::CreateSubscriptionRequest { validate_only: true, ..request.clone() };
    assert_eq!(ask!(world.subscriptions, create_subscription, dry).unwrap().revision, 0);
    assert_eq!(ask!(world.subscriptions, create_subscription, request).unwrap(), first);
    let parent = first.subscription.unwrap().name;
    let request =
        v1::RotateSecretRequest { parent, request_id: "one".into(), ..Default::default() };
    let first = ask!(world.secrets, rotate_secret, request.clone()).unwrap();
    assert_eq!(ask!(world.secrets, rotate_secret, request.clone()).unwrap(), first);
    let other = v1::RotateSecretRequest { overlap: crate::world::seconds(5), ..request };
    let answer = ask!(world.secrets, rotate_secret, other);
    assert_refused(answer, Code::AlreadyExists, "REQUEST_ID_REUSED");
}
