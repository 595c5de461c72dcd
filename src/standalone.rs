//! Both planes in one process, on one port, over the embedded store.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use pregon_control::{Control, Services};
use pregon_core::clock::{SharedClock, SystemClock};
use pregon_dataplane::egress::Own;
use pregon_dataplane::plane::Dataplane;
use pregon_rpc::revision::Revision;
use pregon_rpc::server::{Limits, Listener, Ready, Server};
use pregon_store::audit::AuditKept;
use pregon_store::embedded::{self, Embedded, EmbeddedOptions, History, Location, SyncMode};
use pregon_store::steady::SteadyClock;
use pregon_telemetry::Running;
use tokio_util::sync::CancellationToken;

use crate::api_keys;
use crate::audit::Auditing;
use crate::keys::{self, Keeper, KeeperOptions, Seals};
use crate::measured::measured;
use crate::planes::{self, ControlParts, NodeParts};
use crate::serving::{CONFIGURATION, DISK, Fault, KEYS, Serving};
use crate::settings::{Level, Settings};

/// A running `pregon standalone`.
pub struct Standalone {
    store: Arc<Embedded>,
    node: Dataplane,
    serving: Serving,
    auditing: Auditing,
    telling: Running,
}

impl Standalone {
    /// Opens the store, binds the port, and serves.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        // The port first: a wrong address should not leave a store behind.
        let clock: SharedClock = Arc::new(SystemClock);
        let listener = Listener::bind(settings.listen.clone(), Arc::clone(&clock)).await?;
        let store = Arc::new(open_store(&settings, &clock)?);
        let config = store.store().config;
        let configured = config.head().await.context("cannot read the store")?.revision > 0;
        let kms = settings.kms.as_ref().map(|kms| kms.address.endpoint());
        let loaded = keys::load(
            settings.master_key_file.as_deref(),
            settings.data_dir.as_deref(),
            configured,
            settings.kms.clone(),
            &listener,
        )
        .await?;
        if settings.listen.keys
            && let Some(key) = api_keys::first(&*config, &*clock).await?
        {
            // To whoever started it, and not into the log.
            eprintln!("The first API key, an admin's, shown this once:\n{}", key.as_str());
        }

        let shutdown = CancellationToken::new();
        let latest = Revision::none();
        let id = planes::node_id(&settings.node)?;
        let (telemetry, telling) =
            planes::telemetry(&settings.telemetry, "standalone", id.as_str(), &clock)?;
        let handles = measured(store.store(), &telemetry);
        let stop = shutdown.clone();
        let options =
            KeeperOptions { loaded, store: &handles, id: id.clone(), seals: Seals::Alone, stop };
        let keys = Keeper::start(options).await?;
        let node = planes::node(NodeParts {
            policy: &settings.policy,
            node: &settings.node,
            id,
            store: handles.clone(),
            keys: keys.held(),
            seals: true,
            clock: &clock,
            own: Own { listeners: vec![listener.local_addr()], hosts: kms.into_iter().collect() },
            telemetry: telemetry.clone(),
        })?;
        let auditing = Auditing::start(handles.audit.clone(), &clock, telemetry.clone());
        let control = planes::control(ControlParts {
            store: handles.clone(),
            clock,
            keys: &keys,
            policy: &settings.policy,
            latest: latest.clone(),
            drain: shutdown.clone(),
            telemetry: telemetry.clone(),
        });
        let descriptors = pregon_proto::FILE_DESCRIPTOR_SET;
        let server = Server::new(descriptors, &Services::WAITS, latest, Limits::default())?
            .with_portal(keys.portal())
            .with_telemetry(telemetry)
            .with_refusals(auditing.refusals());
        let server = api_keys::guard(server, &listener, &handles.config, &shutdown);
        let ready = serve_on(server, listener, &control, &node).await?;
        let serving = Serving::start(ready, shutdown);
        node.configuration().ready().await;
        let (configuration, kept) = (node.configuration().clone(), Arc::clone(&store));
        let unread = configuration.fault();
        serving.health().set_condition(CONFIGURATION, unread).await;
        serving.health().set_condition(KEYS, keys.fault()()).await;
        serving.health().set_all(true).await;
        let faults = vec![
            Fault::new(DISK, move || kept.fault()),
            Fault::new(CONFIGURATION, move || configuration.fault()),
            Fault::new(KEYS, keys.fault()),
        ];
        serving.follow(handles.config, std::future::ready(()), faults);
        let load = node.load();
        serving.follow_turns(move || load.turns());
        Ok(Self { store, node, serving, auditing, telling })
    }

    /// Where gRPC is served.
    pub fn addr(&self) -> SocketAddr {
        self.serving.addr()
    }

    /// Returns when the store cannot go on.
    pub async fn broken(&self) {
        self.store.broken().await;
    }

    /// Takes it down: nothing new is accepted, attempts under way finish, the store closes.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.serving.begin_to_end();
        self.node.drain().await;
        self.serving.end().await?;
        self.auditing.end().await;
        self.telling.stop().await;
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
            failed_age: settings.history_failed_age,
            max_events: settings.history_events,
            audit: AuditKept { age: settings.audit_retention, ..AuditKept::default() },
            ..History::default()
        },
        ..EmbeddedOptions::new(location, SteadyClock::over(Arc::clone(clock)))
    };
    embedded::open(options).with_context(|| match &settings.data_dir {
        Some(directory) => {
            format!("cannot open the store in {} (--data-dir)", directory.display())
        }
        None => "cannot open the store".to_owned(),
    })
}

async fn serve_on(
    server: Server,
    listener: Listener,
    control: &Arc<Control>,
    node: &Dataplane,
) -> anyhow::Result<Ready> {
    let server = control.services().add_to(server)?.with(node.events())?.with(node.checks())?;
    Ok(server.on(listener).await?)
}
