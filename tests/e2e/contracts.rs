//! Wire contracts on the running program: what receivers see under each, and how a platform brings its
//! own.

use serde_json::{Value, json};

use crate::harness::receiver::{Answer, Receiver};
use crate::harness::shop::{Shop, subscription};
use crate::harness::standalone::Standalone;
use crate::harness::tls::Authority;

mod approval;
mod auth;
mod batches;
mod callbacks;
mod catalogue;
mod environments;
mod extends;
mod hostile;
mod own;
mod pairs;
mod samples;
mod tryout;
mod verification;

/// A shop on a Pregón that also trusts an authority of the test's own, and a receiver under it.
struct Secured {
    shop: Shop,
    receiver: Receiver,
    _authority: Authority,
    pregon: Standalone,
}

impl Secured {
    async fn open(
        behave: impl Fn(&crate::harness::Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let authority = Authority::new();
        let file = authority.file();
        let pregon = Standalone::start(&["--in-memory", "--egress-ca-file", &file], None).await;
        let receiver = Receiver::over_tls(&authority, behave).await;
        let shop = Shop::open(pregon.grpcurl()).await;
        Self { shop, receiver, _authority: authority, pregon }
    }

    /// What the process has said.
    fn output(&self) -> String {
        self.pregon.output()
    }
}

/// Brings a contract's event types into the catalogue.
async fn import(shop: &mut Shop, contract: &str) -> Value {
    let request = json!({"contract": format!("contracts/{contract}")});
    shop.write("EventTypeService/ImportEventTypes", request).await
}

/// Subscribes to everything under a contract, with these fields beside.
async fn subscribe(shop: &mut Shop, id: &str, contract: &str, url: &str, mut more: Value) -> Value {
    more["url"] = json!(url);
    more["contract"] = json!(format!("contracts/{contract}"));
    if more.get("event_types").is_none() {
        more["event_types"] = json!(["*"]);
    }
    shop.subscribe_with(id, more).await
}

/// Publishes an event of any type at the last revision, with these fields.
async fn publish(shop: &Shop, event: Value) -> Value {
    let request = json!({"tenant": "tenants/acme", "min_revision": shop.revision, "event": event});
    shop.grpc.ok("EventService/Publish", request).await
}

/// The one delivery of an event to a subscription, once it is in a state, and its attempts.
async fn story(shop: &Shop, event: &str, id: &str, state: &str) -> (Value, Vec<Value>) {
    let delivery = shop.delivery(event, id, state).await;
    let attempts = shop.attempts(&delivery).await;
    (delivery, attempts)
}

/// A subscription as it is.
async fn get(shop: &Shop, id: &str) -> Value {
    let request = json!({"name": subscription(id)});
    let answer = shop.grpc.ok("SubscriptionService/GetSubscription", request).await;
    answer["subscription"].clone()
}
