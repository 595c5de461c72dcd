//! Peers that ask much and take nothing, or begin much and end nothing.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http_body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pregon_proto::v1::delivery_service_client::DeliveryServiceClient;
use pregon_proto::v1::{ListEventsRequest, PublishBatchRequest, PublishRequest};
use prost::Message as _;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::Endpoint;

use crate::harness::World;
use crate::harness::load::{Publisher, order};
use crate::harness::shop::Shop;
use crate::on_both;

on_both!(a_peer_that_takes_nothing_holds_little, a_peer_that_ends_no_message_holds_little);

const MIB: u64 = 1 << 20;
/// Calls at once, as many as one connection may have.
const CALLS: usize = 128;
/// What the process may grow by while answers wait that nobody takes, all in all.
const GROWTH: u64 = 32 * MIB;
/// And while messages wait that nobody ends: those that are gathered, what lies unread in the
/// windows of the other streams, and slack for the allocator.
const GROWTH_READING: u64 = 48 * MIB;

async fn a_peer_that_takes_nothing_holds_little<W: World>() {
    let pregon = W::in_memory().await;
    let shop = Shop::open(pregon.grpcurl()).await;
    let data = json!({"text": "x".repeat(200_000)}).to_string();
    let mut publisher = Publisher::new(pregon.target());
    for ten in 0..6 {
        let orders = (0..10).map(|n| order(format!("e{ten}-{n}"), data.clone())).collect();
        publisher.publish(orders).await;
    }
    let list = json!({"parent": "tenants/acme", "page_size": 500});
    shop.grpc.ok("DeliveryService/ListEvents", list.clone()).await;

    let resident = || pregon.resident(pregon.management());
    let before = resident();
    let endpoint = Endpoint::from_shared(format!("http://{}", pregon.management())).unwrap();
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
        most = most.max(resident());
        tokio::select! {
            ended = calls.join_next() => break ended.unwrap().unwrap(),
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
    };
    assert_eq!(refused.unwrap_err().code(), Code::DeadlineExceeded);
    let (grew, kept) = (most.saturating_sub(before), resident().saturating_sub(before));
    println!("{CALLS} lists that nobody takes: {} KiB, {} KiB at last", grew / 1024, kept / 1024);
    assert!(grew <= GROWTH, "{grew} bytes");
    // Others are answered meanwhile.
    shop.grpc.ok("DeliveryService/ListEvents", list).await;
    drop(calls);
}

/// A message as it is sent: but for its last bytes, until it may end.
struct Sent {
    rest: Bytes,
    end: watch::Receiver<bool>,
    ended: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    taken: Arc<AtomicUsize>,
}

impl Sent {
    const FRAME: usize = 16 * 1024;

    fn new(message: Bytes, end: &watch::Receiver<bool>, taken: &Arc<AtomicUsize>) -> Self {
        Self { rest: message, end: end.clone(), ended: None, taken: Arc::clone(taken) }
    }
}

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        if self.rest.len() <= Self::FRAME {
            let mut end = self.end.clone();
            let ended = self.ended.get_or_insert_with(|| {
                Box::pin(async move { drop(end.wait_for(|end| *end).await) })
            });
            std::task::ready!(ended.as_mut().poll(cx));
            self.taken.fetch_add(self.rest.len(), Ordering::Relaxed);
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.rest)))));
        }
        self.taken.fetch_add(Self::FRAME, Ordering::Relaxed);
        let some = self.rest.split_to(Self::FRAME);
        Poll::Ready(Some(Ok(Frame::data(some))))
    }
}

async fn a_peer_that_ends_no_message_holds_little<W: World>() {
    let pregon = W::in_memory().await;
    let shop = Shop::open(pregon.grpcurl()).await;
    let node = pregon.events()[0];
    // Nearly 4 MiB, of which nothing is stored in the end: there is no such tenant.
    let data = json!({"text": "x".repeat(200_000)}).to_string();
    let stray = |n| PublishRequest {
        tenant: "tenants/nobody".into(),
        ..order(format!("s{n}"), data.clone())
    };
    let batch = PublishBatchRequest { requests: (0..20).map(stray).collect() };
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(u32::try_from(batch.encoded_len()).unwrap());
    batch.encode(&mut message).unwrap();
    let message = message.freeze();
    // What a first one costs has been paid.
    Publisher::new(pregon.target()).publish(vec![order("first".into(), "{}".into())]).await;

    let before = pregon.resident(node);
    let tcp = tokio::net::TcpStream::connect(node).await.unwrap();
    let http2 = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp));
    let (client, connection) = http2.await.unwrap();
    let connection = tokio::spawn(connection);
    let (end, ended) = watch::channel(false);
    let taken = Arc::new(AtomicUsize::new(0));
    let mut calls = JoinSet::new();
    for _ in 0..CALLS {
        let request =
            hyper::Request::post(format!("http://{node}/pregon.v1.EventService/PublishBatch"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .header("grpc-timeout", "60S")
                .body(Sent::new(message.clone(), &ended, &taken))
                .unwrap();
        let mut client = client.clone();
        calls.spawn(async move {
            client.ready().await.unwrap();
            let answer = client.send_request(request).await.unwrap();
            // A refusal says so in the headers; an answer in the trailers.
            answer.headers().get("grpc-status").cloned()
        });
    }
    // Until no more is read: nothing tells but that nothing happens.
    let mut last = 0;
    let sent = loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = taken.load(Ordering::Relaxed);
        if now == last && now > 0 {
            break now;
        }
        last = now;
    };
    let grew = pregon.resident(node).saturating_sub(before);
    println!(
        "{CALLS} messages that do not end: {} KiB sent, {} KiB held",
        sent / 1024,
        grew / 1024
    );
    assert!(grew <= GROWTH_READING, "{grew} bytes");
    // Others publish meanwhile, and each of these is answered when it ends.
    Publisher::new(pregon.target()).publish(vec![order("other".into(), "{}".into())]).await;
    shop.grpc.report("tenants/acme").await;
    end.send(true).unwrap();
    while let Some(answer) = calls.join_next().await {
        assert_eq!(answer.unwrap(), None, "it is not refused");
    }
    assert_eq!(taken.load(Ordering::Relaxed), CALLS * message.len());
    connection.abort();
}
