//! A tenant with a light, steady load beside one that takes whatever it can get: whose receivers
//! hang, whose names nobody answers for, who floods the API, whose filters are costly. Whatever the
//! other one does, each event of the modest tenant is delivered once, at its first attempt, and the
//! process keeps its leases, answers its probes and ends when it is told to.
//!
//! How much slower the modest tenant's deliveries become is measured, and printed, by `measured`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use pregon_proto::v1::event_service_client::EventServiceClient;
use pregon_proto::v1::{Environment, PublishRequest};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic::transport::Endpoint;

use crate::harness::load::{Publisher, order};
use crate::harness::poll::within;
use crate::harness::{Answer, Grpcurl, Receiver, Shop, World, eventually};
use crate::on_both;

mod measured;
mod names;

on_both!(
    multi_thread:
        receivers_that_hang_cost_their_own_tenant_only,
        a_flood_of_calls_costs_its_own_tenant_only,
);

/// Events of the modest tenant, and how many of them a second.
const EVENTS: usize = 300;
const RATE: u64 = 50;
/// Subscriptions of the other tenant: as many as it may have.
const SUBSCRIPTIONS: usize = 100;
/// Connections of a flood, and calls at once on each.
const CONNECTIONS: usize = 4;
const CALLS: usize = 32;

/// The process, the modest tenant and its receiver, which hangs below `/hang`.
struct Town<W> {
    pregon: W,
    shop: Shop,
    receiver: Receiver,
}

impl<W: World> Town<W> {
    async fn open() -> Self {
        Self::at("127.0.0.1").await
    }

    /// Its receiver is called by this name.
    async fn at(host: &str) -> Self {
        let pregon = W::on_disk(&[]).await;
        let receiver = Receiver::counting(|request| match request.path().starts_with("/hang") {
            true => Answer::Never,
            false => Answer::Status(204),
        })
        .await;
        let mut shop = Shop::open(pregon.grpcurl()).await;
        let url = receiver.url("/hook").replace("127.0.0.1", host);
        shop.subscribe_with("erp", json!({"url": url})).await;
        let greedy = json!({"tenant_id": "greedy", "tenant": {}});
        shop.write("TenantService/CreateTenant", greedy).await;
        shop.served().await;
        Self { pregon, shop, receiver }
    }

    /// Subscribes the other tenant, with these fields.
    async fn subscribe(&mut self, n: usize, mut fields: serde_json::Value) {
        fields["event_types"] = json!(["order.*"]);
        let request = json!({
            "parent": "tenants/greedy", "subscription_id": format!("s{n}"), "subscription": fields,
        });
        self.shop.write("SubscriptionService/CreateSubscription", request).await;
    }

    /// Publishes events of the other tenant.
    async fn publish(&self, ids: impl Iterator<Item = String>, data: &str) {
        self.publish_in(Environment::Live, ids, data).await;
    }

    /// The same, in an environment.
    async fn publish_in(
        &self,
        environment: Environment,
        ids: impl Iterator<Item = String>,
        data: &str,
    ) {
        let mut publisher = Publisher::new(self.pregon.target());
        for id in ids {
            let mut request = greedy(id, data);
            let event = request.event.as_mut().expect("it has one");
            event.environment = environment.into();
            publisher.publish(vec![request]).await;
        }
    }

    /// The modest tenant publishes, a little at a time, and each event arrives; how long each took.
    async fn modest(&self, name: &str, events: usize) -> Vec<Duration> {
        let mut publisher = Publisher::new(self.pregon.target());
        let mut ticks = interval(Duration::from_secs(1) / u32::try_from(RATE).unwrap());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sent = Vec::with_capacity(events);
        for n in 0..events {
            ticks.tick().await;
            let id = format!("{name}-{n}");
            sent.push((id.clone(), Instant::now()));
            publisher.publish(vec![order(id, "{}".into())]).await;
        }
        let seen = eventually("each event of the modest tenant is received", || async {
            let seen = self.receiver.seen("/hook");
            let missing = sent.iter().filter(|(id, _)| !seen.contains_key(id)).count();
            if missing == 0 { Ok(seen) } else { Err(missing) }
        })
        .await;
        let took = sent.iter().map(|(id, at)| {
            assert_eq!(seen[id].count, 1, "{id}");
            seen[id].first.saturating_duration_since(*at)
        });
        took.collect()
    }

    /// What has to hold whatever the other tenant does, at the end of all.
    async fn check_end(mut self, events: usize) {
        let all = json!(events.to_string());
        let report = eventually("its deliveries are settled", || async {
            let report = self.shop.grpc.report("tenants/acme").await;
            if report["deliveries"]["succeeded"] == all { Ok(report) } else { Err(report) }
        })
        .await;
        assert_eq!(report["deliveries"]["created"], all, "{report}");
        let once = self.shop.deliveries(json!({})).await;
        let again: Vec<_> = once.iter().filter(|it| it["attemptCount"] != 1).collect();
        assert!(again.is_empty(), "a fault of ours, or of names: {again:?}");
        for node in self.pregon.events() {
            assert_eq!(Grpcurl::new(node).health_of("liveness").await, "SERVING");
        }
        self.pregon.terminate().await;
        let asked = Instant::now();
        let ended = self.pregon.exit(Duration::from_secs(45)).await;
        println!("it ended {:?} after it was asked to", asked.elapsed());
        assert!(ended.success(), "{ended}");
        let output = self.pregon.output();
        assert!(!output.contains("a lease was lost"), "{output}");
    }
}

/// The publish of an event of the other tenant.
fn greedy(id: String, data: &str) -> PublishRequest {
    PublishRequest { tenant: "tenants/greedy".into(), ..order(id, data.into()) }
}

async fn receivers_that_hang_cost_their_own_tenant_only<W: World>() {
    let mut town = Town::<W>::open().await;
    for n in 0..SUBSCRIPTIONS {
        let url = town.receiver.url(&format!("/hang/{n}"));
        town.subscribe(n, json!({"url": url})).await;
    }
    town.shop.served().await;
    town.publish((0..20).map(|n| format!("hang-{n}")), "{}").await;
    eventually("every receiver of the other tenant hangs", || async {
        let hung = |n| town.receiver.most_in_flight(&format!("/hang/{n}")) > 0;
        let waits = (0..SUBSCRIPTIONS).filter(|n| !hung(*n)).count();
        if waits == 0 { Ok(()) } else { Err(waits) }
    })
    .await;
    town.modest("beside", EVENTS).await;
    town.check_end(EVENTS).await;
}

/// Calls as fast as they are answered, over several connections, until it is dropped.
struct Flood {
    calls: JoinSet<()>,
    on: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
}

impl Flood {
    async fn start<W: World>(pregon: &W) -> Self {
        let (on, answered) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let mut calls = JoinSet::new();
        for connection in 0..CONNECTIONS {
            let nodes = pregon.events();
            let node = nodes[connection % nodes.len()];
            let endpoint = Endpoint::from_shared(format!("http://{node}")).unwrap();
            let channel = endpoint.connect().await.unwrap();
            for call in 0..CALLS {
                let mut client = EventServiceClient::new(channel.clone());
                let (on, answered) = (Arc::clone(&on), Arc::clone(&answered));
                calls.spawn(async move {
                    for n in 0.. {
                        if !on.load(Ordering::Relaxed) {
                            return;
                        }
                        // A refusal is an answer, too.
                        let id = format!("flood-{connection}-{call}-{n}");
                        drop(client.publish(greedy(id, "{}")).await);
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        }
        let flood = Self { calls, on, answered };
        within(Duration::from_secs(20), "the flood is answered", || async {
            let answered = flood.answered.load(Ordering::Relaxed);
            if answered > 1000 { Ok(()) } else { Err(answered) }
        })
        .await;
        flood
    }

    /// Ends it; how many calls were answered.
    async fn end(self) -> usize {
        self.on.store(false, Ordering::Relaxed);
        self.calls.join_all().await;
        self.answered.load(Ordering::Relaxed)
    }
}

async fn a_flood_of_calls_costs_its_own_tenant_only<W: World>() {
    let town = Town::<W>::open().await;
    let flood = Flood::start(&town.pregon).await;
    town.modest("beside", EVENTS).await;
    println!("{} calls of the flood were answered", flood.end().await);
    town.check_end(EVENTS).await;
}
