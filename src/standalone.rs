//! Both planes in one process, on one port, over the embedded store.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use pregon_control::{Control, ControlOptions, Services};
use pregon_core::clock::{SharedClock, SystemClock};
use pregon_core::contract::standard_webhooks;
use pregon_core::id::NodeId;
use pregon_core::seal::KeyRing;
use pregon_core::url::UrlPolicy;
use pregon_dataplane::egress::{Egress, EgressOptions, SystemResolver};
use pregon_dataplane::plane::{Dataplane, DataplaneOptions};
use pregon_dataplane::worker::WorkerLimits;
use pregon_rpc::page::PageKey;
use pregon_rpc::revision::Revision;
use pregon_rpc::server::{Drained, Limits, Listener, Ready, Server};
use pregon_store::Store;
use pregon_store::embedded::{self, Embedded, EmbeddedOptions, History, Location, SyncMode};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::settings::{Level, Settings};

mod keys;

/// A running `pregon standalone`.
pub struct Standalone {
    addr: SocketAddr,
    store: Embedded,
    node: Dataplane,
    shutdown: CancellationToken,
    serving: JoinHandle<anyhow::Result<Drained>>,
}

impl Standalone {
    /// Opens the store, binds the port, and serves.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        // The port first: a wrong address should not leave a store behind.
        let listener = Listener::bind(settings.listen, settings.allow_remote).await?;
        let clock: SharedClock = Arc::new(SystemClock);
        let store = open_store(&settings, &clock)?;
        let keys = Arc::new(keys::load(&settings)?);
        let random = crate::random::fill;

        let shutdown = CancellationToken::new();
        let latest = Revision::none();
        let node = start_node(&settings, store.store(), Arc::clone(&keys), &clock)?;
        let control = Control::new(ControlOptions {
            store: store.store(),
            clock,
            keys,
            page_key: page_key(random),
            url_policy: UrlPolicy {
                allow_http: settings.allow_http,
                addresses: settings.addresses.clone(),
                ..UrlPolicy::default()
            },
            event_data_limit: settings.max_event_bytes,
            random,
            user_agent: settings.user_agent.as_str().into(),
            actor: "anonymous".into(),
            latest: latest.clone(),
            drain: shutdown.clone(),
        });
        tokio::spawn({
            let control = Arc::clone(&control);
            async move { control.follow().await }
        });
        let ready = serve_on(listener, &control, &node, latest).await?;
        let (addr, health) = (ready.local_addr(), ready.health());
        let serving = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { ready.serve(shutdown).await.map_err(anyhow::Error::from) }
        });
        node.configuration().ready().await;
        health.set_all(true).await;
        Ok(Self { addr, store, node, shutdown, serving })
    }

    /// Where gRPC is served.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Takes it down: nothing new is accepted, attempts under way finish, the store closes.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        self.node.drain().await;
        let drained = self.serving.await.context("the server ended badly")??;
        if let Drained::Cut { connections } = drained {
            tracing::warn!(connections, "cut connections that did not end in time");
        }
        let store = self.store;
        tokio::task::spawn_blocking(move || store.close()).await.context("the store ended badly")
    }
}

fn open_store(settings: &Settings, clock: &SharedClock) -> anyhow::Result<Embedded> {
    let location = settings.data_dir.clone().map_or(Location::Memory, Location::Directory);
    let options = EmbeddedOptions {
        sync: match settings.durability {
            Level::Fsync => SyncMode::Fsync,
            Level::Memory => SyncMode::Memory,
        },
        history: History {
            max_age: settings.history_age,
            max_events: settings.history_events,
            ..History::default()
        },
        ..EmbeddedOptions::new(location, Arc::clone(clock))
    };
    embedded::open(options).context("cannot open the store")
}

fn start_node(
    settings: &Settings,
    store: Store,
    keys: Arc<KeyRing>,
    clock: &SharedClock,
) -> anyhow::Result<Dataplane> {
    let egress = Egress::new(EgressOptions {
        addresses: settings.addresses.clone(),
        allow_http: settings.allow_http,
        resolver: Arc::new(SystemResolver::default()),
        extra_roots: read_roots(settings.egress_ca_file.as_deref())?,
        clock: Arc::clone(clock),
        limits: Default::default(),
    })
    .context("--egress-ca-file")?;
    let contract = Arc::new(standard_webhooks());
    let mut seed = [0; 8];
    crate::random::fill(&mut seed);
    let seed = u64::from_le_bytes(seed);
    let node = match &settings.node {
        Some(node) => node.clone(),
        None => NodeId::parse(&format!("node-{:08x}", seed >> 32))?,
    };
    Ok(Dataplane::start(DataplaneOptions {
        store,
        keys,
        contracts: HashMap::from([(contract.id().clone(), contract)]),
        clock: Arc::clone(clock),
        egress,
        node,
        max_event_bytes: settings.max_event_bytes,
        limits: WorkerLimits { max_in_flight: settings.max_in_flight, ..WorkerLimits::default() },
        lease: settings.lease,
        drain_limit: settings.drain_limit,
        user_agent: settings.user_agent.clone(),
        seed,
    }))
}

fn read_roots(file: Option<&Path>) -> anyhow::Result<Vec<u8>> {
    match file {
        None => Ok(Vec::new()),
        Some(path) => {
            std::fs::read(path).with_context(|| format!("--egress-ca-file {}", path.display()))
        }
    }
}

/// Page tokens are good for one life of the process: they are cheap to get again.
fn page_key(random: fn(&mut [u8])) -> PageKey {
    let mut bytes = [0; 32];
    random(&mut bytes);
    PageKey::new(bytes)
}

async fn serve_on(
    listener: Listener,
    control: &Arc<Control>,
    node: &Dataplane,
    latest: Revision,
) -> anyhow::Result<Ready> {
    let descriptors = pregon_proto::FILE_DESCRIPTOR_SET;
    let server = Server::new(descriptors, &Services::WAITS, latest, Limits::default())?;
    let server = control.services().add_to(server)?.with(node.events())?;
    Ok(server.on(listener).await?)
}
