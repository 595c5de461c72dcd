//! A node put together: configuration, publish, workers, verification, heartbeat.
//!
//! Going down has an order. First nothing new is accepted and the node says so; then attempts
//! under way finish, are settled, and the rest is given back; only then does the node leave the
//! list and let go of its configuration, which the last settlements still needed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pregon_core::clock::SharedClock;
use pregon_core::id::NodeId;
use pregon_core::rate::HostRates;
use pregon_core::seal::Held;
use pregon_proto::v1::check_service_server::CheckServiceServer;
use pregon_proto::v1::event_service_server::EventServiceServer;
use pregon_store::Store;
use pregon_telemetry::Telemetry;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::check::{CheckOptions, CheckServiceImpl};
use crate::egress::Egress;
use crate::gauges::Gauges;
use crate::node::Heartbeat;
use crate::publish::{EventServiceImpl, PublishOptions};
use crate::snapshot::{Configuration, Follower, FollowerOptions};
use crate::verify::Verifier;
use crate::worker::{Load, WorkerLimits, WorkerOptions, Workers};

/// What a node is made of.
pub struct DataplaneOptions {
    /// Where everything lives.
    pub store: Store,
    /// The master keys that secrets are sealed under, as they are at present.
    pub keys: watch::Receiver<Arc<Held>>,
    /// Whether the process is a control plane too, which seals.
    pub seals: bool,
    /// The wall clock.
    pub clock: SharedClock,
    /// The way out.
    pub egress: Egress,
    /// The node's name.
    pub node: NodeId,
    /// Bytes of an event's data.
    pub max_event_bytes: usize,
    /// Bounds of the workers.
    pub limits: WorkerLimits,
    /// How fast hosts may be sent to.
    pub hosts: HostRates,
    /// How long claims last.
    pub lease: Duration,
    /// How long attempts under way may take when the node goes down; none: a second more than the
    /// longest attempt that a served contract allows.
    pub drain_limit: Option<Duration>,
    /// `User-Agent` of requests whose contract names none.
    pub user_agent: Bytes,
    /// Decides the jitter of retries and the ids of checks: random for each node.
    pub seed: u64,
    /// Where what happens here is reported.
    pub telemetry: Telemetry,
}

/// A running node.
pub struct Dataplane {
    configuration: Configuration,
    events: EventServiceImpl,
    checks: CheckServiceImpl,
    workers: Workers,
    /// Publishing and asking end with this.
    draining: CancellationToken,
    /// Everything else ends with this.
    stop: CancellationToken,
    background: Vec<JoinHandle<()>>,
}

impl Dataplane {
    /// Starts a node. It accepts and delivers once its first snapshot is there.
    pub fn start(options: DataplaneOptions) -> Self {
        let (draining, stop) = (CancellationToken::new(), CancellationToken::new());
        let (follower, configuration) = Follower::new(FollowerOptions {
            store: Arc::clone(&options.store.config),
            keys: options.keys.clone(),
            clock: Arc::clone(&options.clock),
            egress: options.egress.clone(),
            telemetry: options.telemetry.clone(),
        });
        let events = EventServiceImpl::new(PublishOptions {
            configuration: configuration.clone(),
            intake: options.store.intake,
            clock: Arc::clone(&options.clock),
            max_event_bytes: options.max_event_bytes,
            draining: draining.clone(),
            telemetry: options.telemetry.clone(),
        });
        let checks = CheckServiceImpl::new(CheckOptions {
            configuration: configuration.clone(),
            egress: options.egress.clone(),
            clock: Arc::clone(&options.clock),
            user_agent: options.user_agent.clone(),
            draining: draining.clone(),
            seed: options.seed.rotate_left(32), // not the workers' chances again
            telemetry: options.telemetry.clone(),
        });
        let workers = Workers::start(WorkerOptions {
            node: options.node.clone(),
            work: options.store.work,
            operate: options.store.operate,
            tests: options.store.tests,
            rates: options.store.rates,
            hosts: Arc::new(options.hosts),
            config: Arc::clone(&options.store.config),
            configuration: configuration.clone(),
            egress: options.egress.clone(),
            clock: Arc::clone(&options.clock),
            limits: options.limits,
            lease: options.lease,
            drain_limit: options.drain_limit,
            user_agent: options.user_agent.clone(),
            seed: options.seed,
            telemetry: options.telemetry.clone(),
        });
        let verifier = Verifier {
            configuration: configuration.clone(),
            config: Arc::clone(&options.store.config),
            egress: options.egress.clone(),
            clock: Arc::clone(&options.clock),
            node: options.node.clone(),
            user_agent: options.user_agent,
            seed: options.seed.rotate_left(16), // not the workers' chances again
            telemetry: options.telemetry.clone(),
        };
        let gauges = Gauges {
            telemetry: options.telemetry,
            configuration: configuration.clone(),
            config: options.store.config,
            backlog: options.store.backlog,
            load: workers.load(),
            egress: options.egress,
        };
        let heartbeat = Heartbeat {
            node: options.node,
            start_time: options.clock.now(),
            registry: options.store.nodes,
            configuration: configuration.clone(),
            load: workers.load(),
            clock: options.clock,
            keys: options.keys,
            seals: options.seals,
        };
        let background = vec![
            tokio::spawn(follower.run(stop.clone())),
            tokio::spawn(verifier.run(draining.clone())),
            tokio::spawn(heartbeat.run(draining.clone(), stop.clone())),
            tokio::spawn(gauges.run(stop.clone())),
        ];
        Self { configuration, events, checks, workers, draining, stop, background }
    }

    /// The publish service, to be added to a server.
    pub fn events(&self) -> EventServiceServer<EventServiceImpl> {
        self.events.clone().service()
    }

    /// The service that asks callbacks, to be added to a server.
    pub fn checks(&self) -> CheckServiceServer<CheckServiceImpl> {
        self.checks.clone().service()
    }

    /// What the node serves.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// What its workers have to do, and whether they take turns.
    pub fn load(&self) -> Arc<Load> {
        self.workers.load()
    }

    /// Cancelled when the node begins to go down; publishes and checks are refused from then on.
    pub fn draining(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// Takes the node down; returns when everything is settled or given back.
    pub async fn drain(self) {
        self.draining.cancel();
        self.workers.drain().await;
        self.stop.cancel();
        for task in self.background {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the node ended badly");
            }
        }
    }
}
