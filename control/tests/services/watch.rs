//! Watches: how many, how far behind, how they go on and how they end.

use std::time::Duration;

use futures::StreamExt as _;
use pregon_core::clock::Timestamp;
use pregon_core::limits;
use pregon_core::model::Resource;
use pregon_core::outcome::EndReason;
use pregon_proto::v1;
use pregon_proto::v1::delivery_service_server::DeliveryService as _;
use pregon_proto::v1::node_service_server::NodeService as _;
use pregon_proto::v1::tenant_service_server::TenantService as _;
use pregon_proto::v1::watch_deliveries_response::Happened;
use pregon_rpc::caller::{Caller, Role};
use pregon_rpc::portal::{Grant, Maker};
use pregon_store::settlement::Transition;
use tonic::{Code, Status};

use crate::world::{World, ask, assert_refused, assert_wrong, from};

const ERP: &str = "tenants/acme/subscriptions/erp";

fn acme() -> v1::WatchDeliveriesRequest {
    v1::WatchDeliveriesRequest { parent: "tenants/acme".into(), ..Default::default() }
}

fn everything() -> v1::WatchConfigurationRequest {
    v1::WatchConfigurationRequest::default()
}

/// A watch's first message.
async fn first(
    world: &World,
    request: v1::WatchDeliveriesRequest,
) -> Result<v1::WatchDeliveriesResponse, Status> {
    let mut stream = ask!(world.deliveries, watch_deliveries, request)?;
    stream.next().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_says_that_it_goes_on() {
    let world = World::with_tenant().await;
    let mut deliveries = ask!(world.deliveries, watch_deliveries, acme()).unwrap();
    let mut configuration = ask!(world.nodes, watch_configuration, everything()).unwrap();
    let began = tokio::time::Instant::now();
    for beats in 0..3 {
        let message = deliveries.next().await.unwrap().unwrap();
        assert!(matches!(message.happened, Some(Happened::Heartbeat(_))), "{message:?}");
        assert!(!message.resume_token.is_empty());
        let message = configuration.next().await.unwrap().unwrap();
        assert!(message.heartbeat.is_some() && message.name.is_empty(), "{message:?}");
        assert_eq!(message.revision, world.latest.get().unwrap());
        assert_eq!(began.elapsed().as_secs(), 15 * beats);
    }
}

#[tokio::test]
async fn watches_are_so_many_and_places_come_free() {
    let world = World::with_tenant().await;
    let mut held = Vec::new();
    for _ in 0..127 {
        held.push(ask!(world.deliveries, watch_deliveries, acme()).unwrap());
    }
    let configuration = ask!(world.nodes, watch_configuration, everything()).unwrap();
    let refused = ask!(world.deliveries, watch_deliveries, acme()).map(drop);
    assert!(refused.as_ref().unwrap_err().message().contains("128"), "{refused:?}");
    assert_refused(refused, Code::ResourceExhausted, "LOAD_SHED");
    let refused = ask!(world.nodes, watch_configuration, everything()).map(drop);
    assert_refused(refused, Code::ResourceExhausted, "LOAD_SHED");
    drop(configuration);
    first(&world, acme()).await.unwrap();
}

#[tokio::test]
async fn a_drain_ends_watches() {
    let world = World::with_tenant().await;
    let mut deliveries = ask!(world.deliveries, watch_deliveries, acme()).unwrap();
    let mut configuration = ask!(world.nodes, watch_configuration, everything()).unwrap();
    deliveries.next().await.unwrap().unwrap();
    configuration.next().await.unwrap().unwrap();
    let drain = world.drain.clone();
    let drain = async { drain.cancel() };
    let (deliveries, configuration, ()) =
        tokio::join!(deliveries.next(), configuration.next(), drain);
    assert_refused(deliveries.unwrap(), Code::Unavailable, "DRAINING");
    assert_refused(configuration.unwrap(), Code::Unavailable, "DRAINING");
}

#[tokio::test]
async fn a_token_is_good_for_its_request_and_a_day() {
    let world = World::with_subscription().await;
    let resume_token = first(&world, acme()).await.unwrap().resume_token;
    let resumed = v1::WatchDeliveriesRequest { resume_token, ..acme() };
    first(&world, resumed.clone()).await.unwrap();
    for other in [
        v1::WatchDeliveriesRequest { parent: "tenants/-".into(), ..resumed.clone() },
        v1::WatchDeliveriesRequest { subscription: ERP.into(), ..resumed.clone() },
        v1::WatchDeliveriesRequest { states: vec![2], ..resumed.clone() },
        v1::WatchDeliveriesRequest { include_attempts: true, ..resumed.clone() },
    ] {
        assert_wrong(first(&world, other).await, &[("resume_token", "PAGE_TOKEN_INVALID")]);
    }
    world.clock.advance(limits::PAGE_TOKEN_KEPT + Duration::from_secs(1));
    assert_refused(first(&world, resumed).await, Code::OutOfRange, "RESUME_TOKEN_EXPIRED");
}

/// More than 10,000 entries behind, a watch ends and says what to do; up to there it catches up.
#[tokio::test]
async fn a_watch_too_far_behind_is_let_go() {
    let world = World::with_subscription().await;
    let lane = world.lane(ERP).await;
    let mut watch = ask!(world.deliveries, watch_deliveries, acme()).unwrap();
    let begun = watch.next().await.unwrap().unwrap();
    for _ in 0..10_000 {
        world.publish("acme", None, "{}").await;
        world.settle_new(&[lane], Transition::Failed(EndReason::AttemptsExhausted)).await;
    }
    let message = watch.next().await.unwrap().unwrap();
    assert!(matches!(message.happened, Some(Happened::Delivery(_))), "{message:?}");
    world.publish("acme", None, "{}").await;
    world.settle_new(&[lane], Transition::Failed(EndReason::AttemptsExhausted)).await;
    let request = v1::WatchDeliveriesRequest { resume_token: begun.resume_token, ..acme() };
    let mut stream = ask!(world.deliveries, watch_deliveries, request).unwrap();
    stream.next().await.unwrap().unwrap(); // where it would have begun
    let refused = stream.next().await.unwrap();
    let message = refused.as_ref().unwrap_err().message().to_owned();
    assert!(message.contains("10001 entries behind"), "{message}");
    assert_refused(refused, Code::OutOfRange, "RESUME_TOKEN_EXPIRED");
    assert!(stream.next().await.is_none());
}

/// A watch by a portal token ends with its tenant: it shows nothing of one made anew.
#[tokio::test]
async fn a_portal_watch_ends_with_its_tenant() {
    let world = World::with_subscription().await;
    let Some(Resource::Tenant(tenant)) = world.stored("tenants/acme").await else {
        panic!("there is no tenant");
    };
    let grant = Grant {
        tenant: tenant.id,
        since: tenant.common.create_time,
        role: "viewer".into(),
        user: String::new(),
        end: Timestamp::MAX,
        maker: Maker::Anyone,
    };
    let jane = Caller::with_portal(&grant, Role::Viewer, None);
    let watch = world.deliveries.watch_deliveries(from(jane, acme())).await;
    let mut watch = watch.unwrap().into_inner();
    watch.next().await.unwrap().unwrap(); // that it has begun
    let failed = Transition::Failed(EndReason::AttemptsExhausted);
    world.publish("acme", None, "{}").await;
    world.settle_new(&[world.lane(ERP).await], failed).await;
    let message = watch.next().await.unwrap().unwrap();
    assert!(matches!(message.happened, Some(Happened::Delivery(_))), "{message:?}");

    let name = "tenants/acme".to_owned();
    let delete = v1::DeleteTenantRequest { name, force: true, ..Default::default() };
    ask!(world.tenants, delete_tenant, delete).unwrap();
    world.clock.advance(Duration::from_secs(1));
    world.tenant("acme").await;
    world.subscription("acme", "erp").await;
    world.publish("acme", None, "{}").await;
    world.settle_new(&[world.lane(ERP).await], failed).await;
    let ended = watch.next().await.unwrap();
    assert_refused(ended, Code::Unauthenticated, "CREDENTIAL_REVOKED");
}
