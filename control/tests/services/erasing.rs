//! What a deleted tenant left is erased in the background.

use std::time::Duration;

use pregon_core::id::Position;
use pregon_core::outcome::{EndReason, PendingReason};
use pregon_proto::v1;
use pregon_proto::v1::delivery_service_server::DeliveryService as _;
use pregon_proto::v1::tenant_service_server::TenantService as _;
use pregon_store::settlement::Transition;

use crate::world::{World, ask};

const ERP: &str = "tenants/acme/subscriptions/erp";
const MARKED: &str = r#"{"text":"XyZ-7-secret-of-acme"}"#;
const FAILED: Transition = Transition::Failed(EndReason::AttemptsExhausted);
const WAITING: Transition = Transition::Waiting(PendingReason::Queued);
const ERASURE: &str = "erasures/acme";

/// An event of acme's, whose delivery went there; and a moment passes.
async fn deliver(world: &World, to: Transition) -> Position {
    let position = world.publish("acme", None, MARKED).await;
    let lane = world.lane(ERP).await;
    world.settle_new(&[lane], to).await;
    world.clock.advance(Duration::from_secs(1));
    position
}

async fn delete(world: &World) {
    let name = "tenants/acme".to_owned();
    let request = v1::DeleteTenantRequest { name, force: true, ..Default::default() };
    ask!(world.tenants, delete_tenant, request).unwrap();
    world.clock.advance(Duration::from_secs(1));
}

async fn is_marked(world: &World) -> bool {
    world.names().await.contains(&ERASURE.to_owned())
}

async fn is_kept(world: &World, position: Position) -> bool {
    world.store.log.event(position).await.unwrap().is_some()
}

async fn erase(world: &World) {
    world.control.erase_remains(&mut String::new()).await.unwrap();
}

#[tokio::test]
async fn what_a_deleted_tenant_left_goes_in_steps() {
    let world = World::with_subscription().await;
    world.tenant("globex").await;
    let other = world.publish("globex", None, MARKED).await;
    let mut old = Vec::new();
    for _ in 0..3 {
        old.push(deliver(&world, FAILED).await);
    }
    erase(&world).await;
    assert!(is_kept(&world, old[0]).await, "nobody was deleted");
    delete(&world).await;
    assert!(is_marked(&world).await);
    erase(&world).await;
    for position in old {
        assert!(!is_kept(&world, position).await);
    }
    assert!(is_kept(&world, other).await);
    assert!(!is_marked(&world).await, "it is done");
}

/// A control plane that begins anew goes on where the document says, until nothing is left.
#[tokio::test]
async fn an_erasing_outlives_its_control_plane() {
    let world = World::with_subscription().await;
    let ended = deliver(&world, FAILED).await;
    let waits = deliver(&world, WAITING).await;
    delete(&world).await;
    erase(&world).await;
    assert_eq!((is_kept(&world, ended).await, is_kept(&world, waits).await), (false, true));
    assert!(is_marked(&world).await, "something is still to be done");

    let again = World::over(world.store.clone());
    world.settle_due(Transition::Cancelled(EndReason::TenantDeleted)).await;
    erase(&again).await;
    assert!(!is_kept(&world, waits).await);
    assert!(!is_marked(&world).await);
}

/// What is accepted for the next tenant of the name stays, whether or not the erasing has begun.
#[tokio::test]
async fn the_next_tenant_of_the_name_keeps_its_own() {
    let world = World::with_subscription().await;
    let old = deliver(&world, FAILED).await;
    delete(&world).await;
    world.tenant("acme").await;
    world.subscription("acme", "erp").await;
    let new = deliver(&world, FAILED).await;
    world.clock.advance(Duration::from_secs(3600));
    erase(&world).await;
    assert_eq!((is_kept(&world, old).await, is_kept(&world, new).await), (false, true));
    assert!(!is_marked(&world).await);

    // Deleted again: now that goes, too.
    delete(&world).await;
    erase(&world).await;
    assert!(!is_kept(&world, new).await);
}

/// A name that is taken twice before the erasing began does not bring back what the first had.
#[tokio::test]
async fn a_tenant_without_events_in_between_hides_nothing() {
    let world = World::with_subscription().await;
    let old = deliver(&world, FAILED).await;
    for _ in 0..2 {
        delete(&world).await;
        world.tenant("acme").await;
    }
    let request = v1::ListEventsRequest { parent: "tenants/acme".into(), ..Default::default() };
    let shown = ask!(world.deliveries, list_events, request).unwrap();
    assert_eq!(shown.events, []);
    erase(&world).await;
    assert!(!is_kept(&world, old).await);
}
