//! A publisher for load: the generated client, ids given, repeating until each event is accepted.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pregon_proto::v1::event::Data;
use pregon_proto::v1::event_service_client::EventServiceClient;
use pregon_proto::v1::publish_batch_result::Outcome;
use pregon_proto::v1::{Event, PublishBatchRequest, PublishRequest};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::poll::BOUND;
use super::shop;

/// Where the server is just now; it moves when it is started again.
#[derive(Clone, Debug)]
pub struct Target(Arc<Mutex<SocketAddr>>);

impl Target {
    /// A server at this address.
    pub fn new(addr: SocketAddr) -> Self {
        Self(Arc::new(Mutex::new(addr)))
    }

    /// It is at another address now.
    pub fn moved(&self, addr: SocketAddr) {
        *self.0.lock().expect("nobody panics while holding it") = addr;
    }

    fn addr(&self) -> SocketAddr {
        *self.0.lock().expect("nobody panics while holding it")
    }
}

/// A client that survives the server.
#[derive(Debug)]
pub struct Publisher {
    target: Target,
    client: Option<EventServiceClient<Channel>>,
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
    /// A client of this server.
    pub fn new(target: Target) -> Self {
        Self { target, client: None }
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
        let Some(client) = self.client().await else { return requests };
        let batch = PublishBatchRequest { requests: requests.clone() };
        let Ok(answer) = client.publish_batch(batch).await else {
            self.client = None;
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

    async fn client(&mut self) -> Option<&mut EventServiceClient<Channel>> {
        if self.client.is_none() {
            let endpoint = Endpoint::from_shared(format!("http://{}", self.target.addr())).ok()?;
            let channel = endpoint.timeout(Duration::from_secs(10)).connect().await.ok()?;
            self.client = Some(EventServiceClient::new(channel));
        }
        self.client.as_mut()
    }
}
