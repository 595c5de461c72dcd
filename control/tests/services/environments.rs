//! A caller for one environment.

use futures::StreamExt as _;
use pregon_core::event::Environment;
use pregon_core::model::{ApiKey, Resource};
use pregon_core::outcome::EndReason;
use pregon_proto::v1;
use pregon_proto::v1::api_key_service_server::ApiKeyService as _;
use pregon_proto::v1::delivery_service_server::DeliveryService as _;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use pregon_proto::v1::watch_deliveries_response::Happened;
use pregon_rpc::caller::Caller;
use pregon_rpc::keys;
use pregon_store::settlement::Transition;
use tonic::Code;

use crate::world::{World, ask, assert_refused, create, from, new_event, subscription, violations};

const DENIED: &str = "ENVIRONMENT_DENIED";

fn of(role: v1::ApiKeyRole, environment: v1::Environment) -> v1::CreateApiKeyRequest {
    let (role, environment) = (role.into(), environment.into());
    let api_key = Some(v1::ApiKey { role, environment, ..Default::default() });
    v1::CreateApiKeyRequest { api_key, ..Default::default() }
}

/// Whoever has a key like this.
async fn caller(world: &World, request: v1::CreateApiKeyRequest) -> Caller {
    let made = ask!(world.api_keys, create_api_key, request).unwrap();
    keys::caller(&stored(world, &made.api_key.unwrap().name).await).unwrap()
}

async fn stored(world: &World, name: &str) -> ApiKey {
    let Some(Resource::ApiKey(key)) = world.stored(name).await else { panic!("no {name}") };
    key
}

#[tokio::test]
async fn keys_of_an_environment_make_and_see_no_others() {
    let world = World::with_tenant().await;
    let manager = caller(&world, of(v1::ApiKeyRole::TenantManager, v1::Environment::Test)).await;
    assert_eq!(manager.environment(), Some(Environment::Test));
    let make = async |environment| {
        let request = of(v1::ApiKeyRole::Viewer, environment);
        world.api_keys.create_api_key(from(manager.clone(), request)).await
    };
    for other in [v1::Environment::Unspecified, v1::Environment::Live] {
        let refused = make(other).await.unwrap_err();
        assert!(refused.message().starts_with("api_key.environment must be"), "{refused:?}");
        assert_refused(Err::<(), _>(refused), Code::PermissionDenied, DENIED);
    }
    let made = make(v1::Environment::Test).await.unwrap().into_inner().api_key.unwrap();
    assert_eq!(made.environment(), v1::Environment::Test);
    caller(&world, of(v1::ApiKeyRole::Viewer, v1::Environment::Live)).await;
    caller(&world, of(v1::ApiKeyRole::Viewer, v1::Environment::Unspecified)).await;
    let list = v1::ListApiKeysRequest::default();
    let seen = world.api_keys.list_api_keys(from(manager, list)).await.unwrap().into_inner();
    assert_eq!(seen.api_keys.len(), 2, "its own and what it made: {seen:?}");
    let wrong = v1::ApiKey { role: 4, environment: 9, ..Default::default() };
    let request = v1::CreateApiKeyRequest { api_key: Some(wrong), ..Default::default() };
    let wrong = violations(ask!(world.api_keys, create_api_key, request));
    assert_eq!(wrong[0].0, "api_key.environment");
}

#[tokio::test]
async fn what_is_made_is_of_the_callers_environment() {
    let world = World::with_tenant().await;
    let manager = caller(&world, of(v1::ApiKeyRole::TenantManager, v1::Environment::Test)).await;
    let make = async |id: &str, environment: v1::Environment| {
        let environment = environment.into();
        let request = create(id, v1::Subscription { environment, ..subscription() });
        world.subscriptions.create_subscription(from(manager.clone(), request)).await
    };
    for other in [v1::Environment::Unspecified, v1::Environment::Live] {
        assert_refused(make("erp", other).await, Code::PermissionDenied, DENIED);
    }
    make("erp", v1::Environment::Test).await.unwrap();
}

#[tokio::test]
async fn a_watch_leaves_out_the_other_environment() {
    let world = World::with_subscription().await;
    let lane = world.lane("tenants/acme/subscriptions/erp").await;
    let viewer = caller(&world, of(v1::ApiKeyRole::Viewer, v1::Environment::Test)).await;
    let watch = v1::WatchDeliveriesRequest { parent: "tenants/acme".into(), ..Default::default() };
    let watch = world.deliveries.watch_deliveries(from(viewer, watch)).await.unwrap();
    let mut watch = watch.into_inner();
    watch.next().await.unwrap().unwrap(); // that it has begun
    let failed = Transition::Failed(EndReason::AttemptsExhausted);
    for environment in [Environment::Live, Environment::Test] {
        let event = pregon_core::event::NewEvent { environment, ..new_event("acme", None, "{}") };
        world.store.intake.publish(vec![event]).await.unwrap();
        world.settle_new(&[lane], failed).await;
    }
    let message = watch.next().await.unwrap().unwrap();
    let Some(Happened::Delivery(it)) = message.happened else { panic!("{message:?}") };
    let name = v1::GetDeliveryRequest { name: it.name };
    let found = ask!(world.deliveries, get_delivery, name).unwrap().delivery.unwrap();
    assert_eq!(found.environment(), v1::Environment::Test);
}
