//! Much configuration, written while two nodes serve it, and a node that missed more of it than the
//! change log keeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pregon_proto::v1;
use pregon_proto::v1::node_service_client::NodeServiceClient;
use pregon_proto::v1::subscription_service_client::SubscriptionServiceClient;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use crate::harness::planes::{Plan, Planes, node_states};
use crate::harness::{Grpcurl, Receiver, eventually};

const TENANTS: usize = 4;
/// Writers at once, each to all tenants.
const WRITERS: usize = 8;
/// Of so many writes one is followed until both nodes serve it.
const SAMPLE: usize = 20;
/// More than the change log keeps.
const MISSED: usize = 10_200;

/// Writes, and how long each of a sample took to be acknowledged and to be served.
struct Writes {
    next: AtomicUsize,
    count: usize,
    url: String,
}

#[derive(Default)]
struct Times {
    acknowledged: Vec<Duration>,
    served: Vec<Duration>,
    latest: i64,
}

impl Writes {
    fn new(count: usize, url: String) -> Arc<Self> {
        Arc::new(Self { next: AtomicUsize::new(0), count, url })
    }

    /// Makes all writes by several at once; `write` makes the n-th and gives its revision.
    async fn by_all<F>(
        self: Arc<Self>,
        channel: &Channel,
        write: fn(Arc<Self>, Channel, usize) -> F,
    ) -> Times
    where
        F: Future<Output = i64> + Send + 'static,
    {
        let mut writers = JoinSet::new();
        for _ in 0..WRITERS {
            let (writes, channel) = (Arc::clone(&self), channel.clone());
            writers.spawn(async move {
                let mut times = Times::default();
                loop {
                    let n = writes.next.fetch_add(1, Ordering::Relaxed);
                    if n >= writes.count {
                        return times;
                    }
                    let asked = Instant::now();
                    let revision = write(Arc::clone(&writes), channel.clone(), n).await;
                    let acknowledged = Instant::now();
                    times.latest = revision;
                    if n.is_multiple_of(SAMPLE) {
                        served(&channel, revision).await;
                        times.acknowledged.push(acknowledged - asked);
                        times.served.push(acknowledged.elapsed());
                    }
                }
            });
        }
        let mut all = Times::default();
        for times in writers.join_all().await {
            all.acknowledged.extend(times.acknowledged);
            all.served.extend(times.served);
            all.latest = all.latest.max(times.latest);
        }
        all
    }

    async fn create(self: Arc<Self>, channel: Channel, n: usize) -> i64 {
        let request = v1::CreateSubscriptionRequest {
            parent: format!("tenants/t{}", n % TENANTS),
            subscription_id: format!("s{n}"),
            subscription: Some(v1::Subscription {
                url: format!("{}?n={n}", self.url),
                event_types: vec![format!("order.n{n}")],
                ..v1::Subscription::default()
            }),
            ..v1::CreateSubscriptionRequest::default()
        };
        let mut client = SubscriptionServiceClient::new(channel);
        client.create_subscription(request).await.expect("a write").into_inner().revision
    }

    async fn update(self: Arc<Self>, channel: Channel, n: usize) -> i64 {
        // Each writer's neighbours are other subscriptions: no two write the same at once.
        let s = n % (TENANTS * WRITERS * 4);
        let request = v1::UpdateSubscriptionRequest {
            subscription: Some(v1::Subscription {
                name: format!("tenants/t{}/subscriptions/s{s}", s % TENANTS),
                display_name: format!("update {n}"),
                ..v1::Subscription::default()
            }),
            ..v1::UpdateSubscriptionRequest::default()
        };
        let mut client = SubscriptionServiceClient::new(channel);
        client.update_subscription(request).await.expect("a write").into_inner().revision
    }
}

async fn served(channel: &Channel, revision: i64) {
    let request = v1::WaitForRevisionRequest { revision, ..v1::WaitForRevisionRequest::default() };
    let answer = NodeServiceClient::new(channel.clone()).wait_for_revision(request).await;
    let answer = answer.expect("nodes are there").into_inner();
    assert!(answer.served, "revision {revision}: {answer:?}");
}

/// How many subscriptions are written: `PREGON_TEST_SUBSCRIPTIONS`, or 1,000.
fn subscriptions() -> usize {
    std::env::var("PREGON_TEST_SUBSCRIPTIONS").map_or(1000, |text| {
        text.parse().expect("PREGON_TEST_SUBSCRIPTIONS is a number of subscriptions")
    })
}

/// p50, p99 and the most.
fn figures(mut times: Vec<Duration>) -> (Duration, Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100], times[times.len() - 1])
}

/// Creates the tenants and a subscription for each number.
async fn written(planes: &Planes, channel: &Channel, count: usize, url: String) -> i64 {
    let grpc = planes.grpcurl();
    for tenant in 0..TENANTS {
        let tenant = json!({"tenant_id": format!("t{tenant}"), "tenant": {
            "limits": {"max_subscriptions": 10_000},
        }});
        grpc.ok("TenantService/CreateTenant", tenant).await;
    }
    for n in [0, count - 1, count] {
        let create = json!({"event_type_id": format!("order.n{n}"), "event_type": {}});
        grpc.ok("EventTypeService/CreateEventType", create).await;
    }
    let began = Instant::now();
    let times = Writes::new(count, url).by_all(channel, Writes::create).await;
    println!(
        "{count} subscriptions by {WRITERS} writers in {:?}; of {} sampled, p50, p99 and most: \
         acknowledged after {:?}, from then until both nodes serve it {:?}",
        began.elapsed(),
        times.served.len(),
        figures(times.acknowledged),
        figures(times.served),
    );
    times.latest
}

/// Publishes the type of the n-th subscription at one node, and waits for it to be received.
async fn delivered(node: &Grpcurl, receiver: &Receiver, n: usize, id: &str) {
    let publish = json!({
        "tenant": format!("tenants/t{}", n % TENANTS),
        "event": {"id": id, "type": format!("order.n{n}"), "json": "{}"},
    });
    node.ok("EventService/Publish", publish).await;
    let target = format!("/hook?n={n}");
    eventually(&format!("{id} comes to {target}"), || async {
        let all = receiver.requests("/hook");
        let found = all.iter().any(|it| it.target == target && it.header("webhook-id") == id);
        if found { Ok(()) } else { Err(all.len()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_missed_more_than_is_kept_comes_back_to_the_same() {
    let count = subscriptions();
    let planes = Planes::start(Plan::default()).await;
    let receiver = Receiver::friendly().await;
    let addr = format!("http://{}", planes.control.addr());
    let channel = Endpoint::from_shared(addr).unwrap().connect().await.unwrap();
    let url = receiver.url("/hook");
    let latest = written(&planes, &channel, count, url.clone()).await;
    served(&channel, latest).await;
    let grpc = planes.grpcurl();
    for (n, node) in planes.nodes.iter().enumerate() {
        let node = Grpcurl::new(node.addr());
        delivered(&node, &receiver, count - 1, &format!("newest-by-{n}")).await;
        delivered(&node, &receiver, 0, &format!("oldest-by-{n}")).await;
    }

    planes.nodes[1].signal("STOP").await;
    let began = Instant::now();
    Writes::new(MISSED, String::new()).by_all(&channel, Writes::update).await;
    let newest = Writes::new(count + 1, url);
    let latest = Arc::clone(&newest).create(channel.clone(), count).await;
    println!("{MISSED} updates that one node missed, in {:?}", began.elapsed());
    eventually("the stopped node is lost", || async {
        let states = node_states(&grpc).await;
        if states.iter().any(|(_, state)| state == "LOST") { Ok(()) } else { Err(states) }
    })
    .await;
    served(&channel, latest).await;

    planes.nodes[1].signal("CONT").await;
    let (went_on, wanted) = (Instant::now(), latest.to_string());
    let revisions = eventually("both nodes serve the latest", || async {
        let list = grpc.ok("NodeService/ListNodes", json!({})).await;
        let nodes = list["nodes"].as_array().unwrap();
        let good = |node: &serde_json::Value| {
            node["state"] == "NODE_STATE_READY" && node["servedRevision"] == wanted.as_str()
        };
        if nodes.len() == 2 && nodes.iter().all(good) { Ok(nodes.clone()) } else { Err(list) }
    })
    .await;
    println!("it serves revision {latest} {:?} after it went on", went_on.elapsed());
    assert!(revisions.iter().all(|node| node["refused"].as_array().unwrap().is_empty()));
    assert!(planes.nodes[1].output().contains("has a gap"), "{}", planes.nodes[1].output());
    // There is no hash of a configuration to compare: it delivers by the newest, and by the oldest.
    for (n, node) in planes.nodes.iter().enumerate() {
        let node = Grpcurl::new(node.addr());
        delivered(&node, &receiver, count, &format!("missed-by-{n}")).await;
        delivered(&node, &receiver, 0, &format!("still-by-{n}")).await;
    }
}
