//! Both planes in one process, on one port, over the embedded store.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use pregon_control::{Control, Services};
use pregon_core::clock::{SharedClock, SystemClock};
use pregon_dataplane::plane::Dataplane;
use pregon_rpc::page::PageKey;
use pregon_rpc::revision::Revision;
use pregon_rpc::server::{Limits, Listener, Ready, Server};
use pregon_store::embedded::{self, Embedded, EmbeddedOptions, History, Location, SyncMode};
use tokio_util::sync::CancellationToken;

use crate::keys;
use crate::planes::{self, ControlParts};
use crate::serving::Serving;
use crate::settings::{Level, Settings};

/// A running `pregon standalone`.
pub struct Standalone {
    store: Embedded,
    node: Dataplane,
    serving: Serving,
}

impl Standalone {
    /// Opens the store, binds the port, and serves.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        // The port first: a wrong address should not leave a store behind.
        let clock: SharedClock = Arc::new(SystemClock);
        let listener = Listener::bind(settings.listen.clone(), Arc::clone(&clock)).await?;
        let store = open_store(&settings, &clock)?;
        let keys = Arc::new(keys::load(&settings)?);
        let random = crate::random::fill;

        let shutdown = CancellationToken::new();
        let latest = Revision::none();
        let (policy, node) = (&settings.policy, &settings.node);
        let node = planes::node(policy, node, store.store(), Arc::clone(&keys), &clock)?;
        let control = planes::control(ControlParts {
            store: store.store(),
            clock,
            keys,
            page_key: page_key(random),
            policy: &settings.policy,
            latest: latest.clone(),
            drain: shutdown.clone(),
        });
        let ready = serve_on(listener, &control, &node, latest).await?;
        let serving = Serving::start(ready, shutdown);
        node.configuration().ready().await;
        serving.health().set_all(true).await;
        Ok(Self { store, node, serving })
    }

    /// Where gRPC is served.
    pub fn addr(&self) -> SocketAddr {
        self.serving.addr()
    }

    /// Takes it down: nothing new is accepted, attempts under way finish, the store closes.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.serving.begin_to_end();
        self.node.drain().await;
        self.serving.end().await?;
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
    let server = control.services().add_to(server)?.with(node.events())?.with(node.checks())?;
    Ok(server.on(listener).await?)
}
