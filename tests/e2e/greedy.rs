//! A peer that asks much and takes nothing.

use pregon_proto::v1::ListEventsRequest;
use pregon_proto::v1::delivery_service_client::DeliveryServiceClient;
use serde_json::json;
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::Endpoint;

use crate::harness::load::{Publisher, order};
use crate::harness::shop::Shop;
use crate::harness::{Standalone, World};

/// Calls at once, as many as one connection may have.
const CALLS: usize = 128;
/// What a connection may hold, what answers take while they are made, and slack for the allocator.
const GROWTH: u64 = 160 << 20;

#[tokio::test]
async fn a_peer_that_takes_nothing_holds_little() {
    let pregon = Standalone::in_memory().await;
    let shop = Shop::open(pregon.grpcurl()).await;
    let data = json!({"text": "x".repeat(200_000)}).to_string();
    let orders = (0..20).map(|n| order(format!("e{n}"), data.clone())).collect();
    Publisher::new(pregon.target()).publish(orders).await;
    let list = json!({"parent": "tenants/acme", "page_size": 1});
    shop.grpc.ok("DeliveryService/ListEvents", list.clone()).await;

    let before = pregon.resident();
    let endpoint = Endpoint::from_shared(format!("http://{}", pregon.addr())).unwrap();
    let channel = endpoint.initial_stream_window_size(0).connect().await.unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..CALLS {
        let mut client = DeliveryServiceClient::new(channel.clone());
        let request = ListEventsRequest {
            parent: "tenants/acme".into(),
            page_size: 500,
            ..Default::default()
        };
        calls.spawn(async move { client.list_events(request).await.map(drop) });
    }
    // Those that found no room end with their deadline, which is all headers; nothing else comes.
    let mut most = 0;
    let refused = loop {
        most = most.max(pregon.resident());
        tokio::select! {
            ended = calls.join_next() => break ended.unwrap().unwrap(),
            () = tokio::time::sleep(std::time::Duration::from_millis(20)) => {}
        }
    };
    assert_eq!(refused.unwrap_err().code(), Code::DeadlineExceeded);
    let grew = most.saturating_sub(before);
    println!("{CALLS} lists that nobody takes: {} KiB", grew / 1024);
    assert!(grew < GROWTH, "{grew} bytes");
    // Others are answered meanwhile.
    shop.grpc.ok("DeliveryService/ListEvents", list).await;
    drop(calls);
}
