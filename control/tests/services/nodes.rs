//! NodeService.

use std::time::Duration;

use pregon_core::id::NodeId;
use pregon_proto::v1;
use pregon_proto::v1::NodeState as State;
use pregon_proto::v1::node_service_server::NodeService as _;
use pregon_store::node::{NodeStatus, Plane, RefusedDocument};
use tonic::Code;

use crate::world::{World, ask, assert_refused, assert_wrong, seconds};

fn node(id: &str, served: i64) -> NodeStatus {
    NodeStatus {
        id: NodeId::parse(id).unwrap(),
        version: "0.1.0".into(),
        start_time: crate::world::START,
        heartbeat_time: crate::world::START,
        draining: false,
        served_revision: served,
        refused: Vec::new(),
        in_flight: 3,
        claimed: 5,
        lanes: 2,
        plane: Plane::Data,
        master_keys: Vec::new(),
        sealing: None,
        lacking: Vec::new(),
    }
}

async fn list(world: &World) -> Vec<(String, State)> {
    let request = v1::ListNodesRequest::default();
    let page = ask!(world.nodes, list_nodes, request).unwrap();
    page.nodes.into_iter().map(|node| (node.name.clone(), node.state())).collect()
}

fn wait(revision: i64, timeout: i64) -> v1::WaitForRevisionRequest {
    v1::WaitForRevisionRequest { revision, timeout: seconds(timeout) }
}

#[tokio::test]
async fn nodes_are_listed_with_their_state() {
    let world = World::with_tenant().await;
    let latest = world.latest.get().unwrap();
    world.store.nodes.announce(node("lost", latest)).await.unwrap();
    world.clock.advance(Duration::from_secs(5));
    let draining = NodeStatus { draining: true, ..node("going", latest) };
    world.store.nodes.announce(draining).await.unwrap();
    world.store.nodes.announce(node("ready", latest - 1)).await.unwrap();
    world.clock.advance(Duration::from_secs(5));
    let expected = [("going", State::Draining), ("lost", State::Lost), ("ready", State::Ready)];
    let expected = expected.map(|(id, state)| (format!("nodes/{id}"), state));
    assert_eq!(list(&world).await, expected);
    let get = v1::GetNodeRequest { name: "nodes/ready".into() };
    let shown = ask!(world.nodes, get_node, get).unwrap().node.unwrap();
    assert_eq!((shown.served_revision, shown.latest_revision), (latest - 1, latest));
    assert_eq!((shown.in_flight, shown.claimed, shown.lanes), (3, 5, 2));
    assert_eq!(shown.lag, seconds(10), "since the tenant was created");
    let get = v1::GetNodeRequest { name: "nodes/going".into() };
    let shown = ask!(world.nodes, get_node, get).unwrap().node.unwrap();
    assert_eq!(shown.lag, seconds(0));
    let request = v1::ListNodesRequest { page_size: 2, ..Default::default() };
    let page = ask!(world.nodes, list_nodes, request).unwrap();
    assert_eq!(page.nodes.len(), 2);
    let request = v1::ListNodesRequest { page_token: page.next_page_token, ..Default::default() };
    let page = ask!(world.nodes, list_nodes, request).unwrap();
    assert_eq!((page.nodes.len(), page.next_page_token.as_str()), (1, ""));
    let get = v1::GetNodeRequest { name: "nodes/none".into() };
    let answer = ask!(world.nodes, get_node, get);
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_when_every_ready_node_serves() {
    let world = World::with_tenant().await;
    let latest = world.latest.get().unwrap();
    let nobody = ask!(world.nodes, wait_for_revision, wait(latest, 1)).unwrap();
    assert_eq!((nobody.served, nobody.nodes.len()), (false, 0));
    world.store.nodes.announce(node("a", latest)).await.unwrap();
    world.store.nodes.announce(node("b", latest - 1)).await.unwrap();
    let behind = ask!(world.nodes, wait_for_revision, wait(latest, 1)).unwrap();
    assert_eq!((behind.served, behind.nodes[0].name.as_str()), (false, "nodes/b"));

    let (store, began) = (world.store.clone(), tokio::time::Instant::now());
    let later = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(3)).await;
        store.nodes.announce(node("b", latest)).await.unwrap();
    });
    let served = ask!(world.nodes, wait_for_revision, wait(latest, 60)).unwrap();
    assert_eq!((served.served, served.nodes.len()), (true, 2));
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(4), "{took:?}");
    later.await.unwrap();
}

/// It takes nothing, so that it serves a revision means nothing.
#[tokio::test(start_paused = true)]
async fn a_node_that_lacks_a_master_key_is_not_ready_and_not_waited_for() {
    let world = World::with_tenant().await;
    let latest = world.latest.get().unwrap();
    let lacking = vec!["00112233445566ff".parse().unwrap()];
    world.store.nodes.announce(NodeStatus { lacking, ..node("a", latest) }).await.unwrap();
    assert_eq!(list(&world).await, [("nodes/a".to_owned(), State::NotReady)]);
    assert!(!ask!(world.nodes, wait_for_revision, wait(latest, 0)).unwrap().served);
    world.store.nodes.announce(node("b", latest)).await.unwrap();
    let served = ask!(world.nodes, wait_for_revision, wait(latest, 0)).unwrap();
    assert_eq!((served.served, served.nodes.len()), (true, 1));
}

#[tokio::test(start_paused = true)]
async fn lost_nodes_are_not_waited_for() {
    let world = World::with_tenant().await;
    let latest = world.latest.get().unwrap();
    world.store.nodes.announce(node("lost", 0)).await.unwrap();
    world.clock.advance(Duration::from_secs(10));
    world.store.nodes.announce(node("ready", latest)).await.unwrap();
    assert!(ask!(world.nodes, wait_for_revision, wait(latest, 0)).unwrap().served);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_cannot_end_well_ends() {
    let world = World::with_tenant().await;
    let latest = world.latest.get().unwrap();
    let answer = ask!(world.nodes, wait_for_revision, wait(latest + 1, 10));
    assert_refused(answer, Code::FailedPrecondition, "REVISION_UNKNOWN");
    let refused = RefusedDocument {
        revision: latest,
        resource: "tenants/acme".into(),
        reason: "line 1 column 2".into(),
        time: crate::world::START,
    };
    let status = NodeStatus { refused: vec![refused], ..node("a", latest) };
    world.store.nodes.announce(status).await.unwrap();
    let answer = ask!(world.nodes, wait_for_revision, wait(latest, 10));
    assert_refused(answer, Code::FailedPrecondition, "REVISION_REFUSED");
    let answer = ask!(world.nodes, wait_for_revision, wait(0, 61));
    assert_wrong(answer, &[("revision", "REQUIRED"), ("timeout", "OUT_OF_RANGE")]);

    world.store.nodes.announce(node("a", 0)).await.unwrap();
    let (drain, began) = (world.drain.clone(), tokio::time::Instant::now());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drain.cancel();
    });
    let answer = ask!(world.nodes, wait_for_revision, wait(latest, 60));
    assert_refused(answer, Code::Unavailable, "DRAINING");
    assert!(began.elapsed() < Duration::from_secs(2));
}
