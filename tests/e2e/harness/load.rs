//! A publisher for load: the generated client, ids given, repeating until each event is accepted.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pregon_proto::v1::event::Data;
use pregon_proto::v1::event_service_client::EventServiceClient;
use pregon_proto::v1::publish_batch_result::Outcome;
use pregon_proto::v1::{Event, PublishBatchRequest, PublishRequest};
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::poll::{BOUND, within};
use super::shop;

/// Publishers of a load at once, and events in each of their calls.
const PUBLISHERS: usize = 4;
const BATCH: usize = 50;

/// Where the nodes are just now; they move when they are started again.
#[derive(Clone, Debug)]
pub struct Target(Arc<Mutex<Nodes>>);

#[derive(Debug)]
struct Nodes {
    addrs: Vec<SocketAddr>,
    turn: usize,
}

impl Target {
    /// Nodes at these addresses.
    pub fn new(addrs: Vec<SocketAddr>) -> Self {
        Self(Arc::new(Mutex::new(Nodes { addrs, turn: 0 })))
    }

    /// They are at other addresses now.
    pub fn moved(&self, addrs: Vec<SocketAddr>) {
        self.0.lock().expect("nobody panics while holding it").addrs = addrs;
    }

    /// The node whose turn it is.
    fn next(&self) -> SocketAddr {
        let mut nodes = self.0.lock().expect("nobody panics while holding it");
        nodes.turn += 1;
        nodes.addrs[nodes.turn % nodes.addrs.len()]
    }
}

/// Events with the ids 0 and up, published in batches by several at once, each batch as often as it
/// takes.
#[derive(Debug)]
pub struct Load {
    accepted: Arc<AtomicUsize>,
    publishers: JoinSet<usize>,
    events: usize,
}

/// How many events a story under load publishes: `PREGON_TEST_EVENTS`, or 10,000.
pub fn events() -> usize {
    std::env::var("PREGON_TEST_EVENTS")
        .map_or(10_000, |text| text.parse().expect("PREGON_TEST_EVENTS is a number of events"))
}

/// The bound of all conditions, and more where more events were asked for.
pub fn patience(events: usize) -> Duration {
    BOUND + Duration::from_millis(10) * u32::try_from(events).unwrap_or(u32::MAX)
}

/// The id of an event of a load.
pub fn id(n: usize) -> String {
    format!("event-{n}")
}

impl Load {
    /// Begins to publish.
    pub fn start(events: usize, target: &Target) -> Self {
        let accepted = Arc::new(AtomicUsize::new(0));
        let mut publishers = JoinSet::new();
        for share in 0..PUBLISHERS {
            let publisher = Publisher::new(target.clone());
            publishers.spawn(publish(share, events, publisher, Arc::clone(&accepted)));
        }
        Self { accepted, publishers, events }
    }

    /// How many events were acknowledged.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Waits until so many events were acknowledged.
    pub async fn reach(&self, count: usize) {
        within(patience(self.events), "publishing goes on", || async {
            let now = self.accepted();
            if now >= count { Ok(()) } else { Err(now) }
        })
        .await;
    }

    /// Waits until all were acknowledged; how often a call was repeated.
    pub async fn done(self) -> usize {
        self.publishers.join_all().await.into_iter().sum()
    }
}

/// Publishes every n-th batch until all of it is accepted; how many calls were repeated.
async fn publish(
    share: usize,
    events: usize,
    mut publisher: Publisher,
    accepted: Arc<AtomicUsize>,
) -> usize {
    let mut repeats = 0;
    for start in (share * BATCH..events).step_by(PUBLISHERS * BATCH) {
        let numbers = start..(start + BATCH).min(events);
        let count = numbers.len();
        let orders = numbers.map(|n| order(id(n), format!(r#"{{"n":{n}}}"#))).collect();
        repeats += publisher.publish(orders).await;
        accepted.fetch_add(count, Ordering::Relaxed);
    }
    repeats
}

/// A client that survives the nodes, and publishes to them by turns.
#[derive(Debug)]
pub struct Publisher {
    target: Target,
    clients: HashMap<SocketAddr, EventServiceClient<Channel>>,
}

/// The publish of an order with an id.
pub fn order(id: String, data: String) -> PublishRequest {
    PublishRequest {
        tenant: "tenants/acme".into(),
        event: Some(Event {
            id,
            r#type: shop::TYPE.into(),
            data: Some(Data::Json(data)),
            ..Event::default()
        }),
        ..PublishRequest::default()
    }
}

impl Publisher {
    /// A client of these nodes.
    pub fn new(target: Target) -> Self {
        Self { target, clients: HashMap::new() }
    }

    /// Publishes all of these, each as often as it takes; how often a call had to be repeated.
    ///
    /// # Panics
    ///
    /// When an event is refused for good, or not accepted within the bound of all conditions.
    pub async fn publish(&mut self, mut requests: Vec<PublishRequest>) -> usize {
        let deadline = tokio::time::Instant::now() + BOUND;
        for repeats in 0.. {
            requests = self.once(requests).await;
            if requests.is_empty() {
                return repeats;
            }
            assert!(tokio::time::Instant::now() < deadline, "not accepted within {BOUND:?}");
            // The server may be gone for a moment: there is nothing to be woken by.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        unreachable!("the loop ends by returning")
    }

    /// One call; what has to be published again.
    pub async fn once(&mut self, requests: Vec<PublishRequest>) -> Vec<PublishRequest> {
        let addr = self.target.next();
        let Some(client) = self.client(addr).await else { return requests };
        let batch = PublishBatchRequest { requests: requests.clone() };
        let Ok(answer) = client.publish_batch(batch).await else {
            self.clients.remove(&addr);
            return requests;
        };
        let results = answer.into_inner().results;
        assert_eq!(results.len(), requests.len());
        let again = requests.into_iter().zip(results).filter_map(|(request, result)| {
            let Some(Outcome::Status(status)) = result.outcome else { return None };
            let code = Code::from(status.code);
            let later = matches!(code, Code::Unavailable | Code::ResourceExhausted);
            assert!(later, "refused for good: {code:?} {}", status.message);
            Some(request)
        });
        again.collect()
    }

    async fn client(&mut self, addr: SocketAddr) -> Option<&mut EventServiceClient<Channel>> {
        if let Entry::Vacant(place) = self.clients.entry(addr) {
            let endpoint = Endpoint::from_shared(format!("http://{addr}")).ok()?;
            let channel = endpoint.timeout(Duration::from_secs(10)).connect().await.ok()?;
            place.insert(EventServiceClient::new(channel));
        }
        self.clients.get_mut(&addr)
    }
}
