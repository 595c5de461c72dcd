//! What a caller may touch, and what is kept of who it was.

use std::collections::BTreeSet;

use pregon_core::id::TenantId;
use pregon_proto::v1;
use pregon_proto::v1::delivery_service_server::DeliveryService;
use pregon_proto::v1::secret_service_server::SecretService;
use pregon_proto::v1::subscription_service_server::SubscriptionService;
use pregon_proto::v1::tenant_service_server::TenantService;
use pregon_rpc::caller::{Caller, Role};
use tonic::{Code, Request};

use crate::world::{World, assert_refused, from};

/// An operator of `acme` only.
fn of_acme() -> Caller {
    let tenants = BTreeSet::from([TenantId::parse("acme").unwrap()]);
    Caller::new("acme-team", Role::Operator, Some(tenants))
}

/// Calls a method as the operator of `acme`, who must be denied.
macro_rules! denied {
    ($service:expr, $method:ident, $request:expr) => {{
        let answer = $service.$method(from(of_acme(), $request)).await;
        let answer = answer.map(drop);
        assert_refused(answer, Code::PermissionDenied, "TENANT_DENIED");
    }};
}

#[tokio::test]
async fn a_bound_caller_sees_and_changes_its_tenants_only() {
    let world = World::with_subscription().await;
    world.tenant("other").await;
    world.subscription("other", "erp").await;
    let erp = |tenant: &str| format!("tenants/{tenant}/subscriptions/erp");

    let get = |tenant: &str| from(of_acme(), v1::GetSubscriptionRequest { name: erp(tenant) });
    world.subscriptions.get_subscription(get("acme")).await.unwrap();
    let answer = world.subscriptions.get_subscription(get("other")).await;
    assert_refused(answer, Code::PermissionDenied, "TENANT_DENIED");
    // As for one that does not exist: the answer tells nothing.
    let answer = world.subscriptions.get_subscription(get("nobody")).await;
    assert_refused(answer, Code::PermissionDenied, "TENANT_DENIED");

    for parent in ["tenants/-", "tenants/other", ""] {
        let parent = parent.to_owned();
        let list = v1::ListSubscriptionsRequest { parent: parent.clone(), ..Default::default() };
        denied!(world.subscriptions, list_subscriptions, list);
        let list = v1::ListDeliveriesRequest { parent: parent.clone(), ..Default::default() };
        denied!(world.deliveries, list_deliveries, list);
        let report = v1::GetReconciliationReportRequest { parent, ..Default::default() };
        denied!(world.deliveries, get_reconciliation_report, report);
    }
}

#[tokio::test]
async fn every_name_in_a_request_is_looked_at() {
    let world = World::with_subscription().await;
    let (mine, other) = ("tenants/acme".to_owned(), "tenants/other".to_owned());
    let subscription = format!("{other}/subscriptions/erp");
    let list = v1::ListDeliveriesRequest {
        parent: mine.clone(),
        event: format!("{other}/events/e"),
        ..Default::default()
    };
    denied!(world.deliveries, list_deliveries, list);
    let list = v1::ListDeliveriesRequest {
        parent: mine.clone(),
        subscription: subscription.clone(),
        ..Default::default()
    };
    denied!(world.deliveries, list_deliveries, list);
    let replay = v1::ReplayDeliveriesRequest {
        parent: mine,
        subscription: subscription.clone(),
        ..Default::default()
    };
    denied!(world.deliveries, replay_deliveries, replay);
    let named = v1::Subscription { name: subscription, ..Default::default() };
    let update = v1::UpdateSubscriptionRequest { subscription: Some(named), ..Default::default() };
    denied!(world.subscriptions, update_subscription, update);
    denied!(world.subscriptions, update_subscription, v1::UpdateSubscriptionRequest::default());
    let rotate = v1::RotateSecretRequest {
        parent: format!("{other}/subscriptions/erp"),
        ..Default::default()
    };
    denied!(world.secrets, rotate_secret, rotate);
    let tenant = v1::Tenant { name: other, ..Default::default() };
    let update = v1::UpdateTenantRequest { tenant: Some(tenant), ..Default::default() };
    denied!(world.tenants, update_tenant, update);
    let create = v1::CreateTenantRequest { tenant_id: "other".into(), ..Default::default() };
    denied!(world.tenants, create_tenant, create);
}

#[tokio::test]
async fn the_change_says_who_made_it() {
    let world = World::with_subscription().await;
    let name = "tenants/acme/subscriptions/erp".to_owned();
    let pause = v1::PauseSubscriptionRequest { name, ..Default::default() };
    let answer = world.subscriptions.pause_subscription(from(of_acme(), pause)).await.unwrap();
    let change = answer.into_inner().subscription.unwrap().state_change.unwrap();
    assert_eq!(change.actor, "acme-team");
}

/// The same `request_id` of two callers is two requests.
#[tokio::test]
async fn a_repeat_is_one_callers() {
    let world = World::new();
    let create = |id: &str| v1::CreateTenantRequest {
        tenant_id: id.into(),
        tenant: Some(v1::Tenant::default()),
        request_id: "r1".into(),
        ..Default::default()
    };
    let by = |name: &str| Caller::new(name, Role::Operator, None);
    world.tenants.create_tenant(from(by("a"), create("t1"))).await.unwrap();
    world.tenants.create_tenant(from(by("a"), create("t1"))).await.unwrap();
    let reused = world.tenants.create_tenant(from(by("a"), create("t2"))).await;
    assert_refused(reused, Code::AlreadyExists, "REQUEST_ID_REUSED");
    world.tenants.create_tenant(from(by("b"), create("t2"))).await.unwrap();
}

#[tokio::test]
async fn a_call_past_the_layer_is_not_answered() {
    let world = World::with_tenant().await;
    let get = v1::GetTenantRequest { name: "tenants/acme".into() };
    let answer = world.tenants.get_tenant(Request::new(get)).await;
    assert_refused(answer, Code::Internal, "INTERNAL");
}
