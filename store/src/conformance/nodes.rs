//! Who is there.

use std::time::Duration;

use pregon_core::clock::Timestamp;

use super::Rig;
use super::kit::node;
use crate::node::{FORGOTTEN_AFTER, LOST_AFTER, NodeStatus, Plane, RefusedDocument};

fn status(id: &str) -> NodeStatus {
    NodeStatus {
        id: node(id),
        version: "1.2.3".into(),
        start_time: Timestamp::from_millis(1_700_000_000_000),
        heartbeat_time: Timestamp::MIN,
        draining: true,
        served_revision: 17,
        refused: vec![RefusedDocument {
            revision: 16,
            resource: "tenants/acme/subscriptions/erp".into(),
            reason: "no such contract".into(),
            time: Timestamp::from_millis(1_700_000_000_001),
        }],
        in_flight: 3,
        claimed: 4,
        lanes: 5,
        plane: Plane::Control,
        master_keys: vec!["00112233445566ff".parse().expect("an id"); 2],
        sealing: Some("00112233445566ff".parse().expect("an id")),
        lacking: vec!["ff00112233445566".parse().expect("an id")],
    }
}

async fn announce(rig: &Rig, status: NodeStatus) {
    rig.store.nodes.announce(status).await.expect("to be announced");
}

async fn nodes(rig: &Rig) -> (Vec<NodeStatus>, Timestamp) {
    rig.store.nodes.nodes().await.expect("the nodes")
}

/// What a node says of itself is what is listed, by id; the last word counts.
pub async fn a_node_is_listed_as_it_said(rig: &mut Rig) {
    assert!(nodes(rig).await.0.is_empty());
    for id in ["n2", "n10", "n1"] {
        announce(rig, status(id)).await;
    }
    announce(rig, NodeStatus { served_revision: 18, ..status("n1") }).await;
    let (mut listed, _) = nodes(rig).await;
    for one in &mut listed {
        one.heartbeat_time = Timestamp::MIN;
    }
    let first = NodeStatus { served_revision: 18, ..status("n1") };
    assert_eq!(listed, [first, status("n10"), status("n2")]);
}

/// Heartbeats are the store's time, whatever the node's clock says.
pub async fn the_heartbeat_is_by_the_stores_clock(rig: &mut Rig) {
    let (_, before) = nodes(rig).await;
    announce(rig, NodeStatus { heartbeat_time: Timestamp::MAX, ..status("n1") }).await;
    let (listed, after) = nodes(rig).await;
    let heartbeat = listed[0].heartbeat_time;
    assert!(before <= heartbeat && heartbeat <= after, "{before} {heartbeat} {after}");
}

/// A node that says goodbye is not listed, and may come again.
pub async fn a_node_that_leaves_is_gone(rig: &mut Rig) {
    announce(rig, status("n1")).await;
    announce(rig, status("n2")).await;
    rig.store.nodes.leave(&node("n1")).await.expect("to leave");
    rig.store.nodes.leave(&node("n9")).await.expect("leaving twice is no mistake");
    let ids = |listed: Vec<NodeStatus>| listed.into_iter().map(|n| n.id).collect::<Vec<_>>();
    assert_eq!(ids(nodes(rig).await.0), [node("n2")]);
    announce(rig, status("n1")).await;
    assert_eq!(ids(nodes(rig).await.0), [node("n1"), node("n2")]);
}

/// A silent node stays listed, with its age to see, until it is forgotten.
pub async fn a_silent_node_is_lost_before_it_is_forgotten(rig: &mut Rig) {
    announce(rig, status("n1")).await;
    rig.advance(LOST_AFTER + Duration::from_secs(1)).await;
    announce(rig, status("n2")).await;
    let (listed, now) = nodes(rig).await;
    let lost = |node: &NodeStatus| now.since(node.heartbeat_time) > LOST_AFTER;
    assert_eq!(listed.iter().map(lost).collect::<Vec<_>>(), [true, false]);
    rig.advance(FORGOTTEN_AFTER - LOST_AFTER).await;
    let (listed, _) = nodes(rig).await;
    assert_eq!(listed.into_iter().map(|n| n.id).collect::<Vec<_>>(), [node("n2")]);
}
