//! `pregon dataplane`: a node over a Redis. It accepts events and delivers them, with or without a
//! control plane, and is ready once it has read the configuration.

use std::net::SocketAddr;
use std::sync::Arc;

use pregon_core::clock::{SharedClock, SystemClock};
use pregon_dataplane::egress::Own;
use pregon_dataplane::plane::Dataplane;
use pregon_rpc::revision::Revision;
use pregon_rpc::server::{Limits, Listener, Server};
use pregon_store::redis::{self, Redis};
use pregon_telemetry::Running;
use tokio_util::sync::CancellationToken;

use crate::api_keys;
use crate::audit::Auditing;
use crate::keys::{self, Keeper, KeeperOptions, Seals};
use crate::measured::measured;
use crate::planes::{self, NodeParts};
use crate::serving::{CONFIGURATION, Fault, KEYS, Serving};
use crate::settings::DataplaneSettings;

/// A running `pregon dataplane`.
pub struct DataplaneNode {
    serving: Serving,
    node: Dataplane,
    auditing: Auditing,
    telling: Running,
    _redis: Redis,
}

impl DataplaneNode {
    /// Opens the store, binds the port, and begins to work.
    pub async fn start(settings: DataplaneSettings) -> anyhow::Result<Self> {
        let clock: SharedClock = Arc::new(SystemClock);
        let listener = Listener::bind(settings.listen, Arc::clone(&clock)).await?;
        let kms = settings.kms.as_ref().map(|kms| kms.address.endpoint());
        let hosts = settings.redis.endpoint().into_iter().chain(kms).collect();
        let own = Own { listeners: vec![listener.local_addr()], hosts };
        let loaded = keys::given(&settings.master_key_file, settings.kms, &listener).await?;
        let redis = redis::open(settings.redis).await?;
        let id = planes::node_id(&settings.node)?;
        let (telemetry, telling) =
            planes::telemetry(&settings.telemetry, "dataplane", id.as_str(), &clock)?;
        let store = measured(redis.store(), &telemetry);
        let (latest, shutdown) = (Revision::none(), CancellationToken::new());
        let stop = shutdown.clone();
        let options =
            KeeperOptions { loaded, store: &store, id: id.clone(), seals: Seals::Never, stop };
        let keys = Keeper::start(options).await?;
        let node = planes::node(NodeParts {
            policy: &settings.policy,
            node: &settings.node,
            id,
            store: store.clone(),
            keys: keys.held(),
            seals: false,
            clock: &clock,
            own,
            telemetry: telemetry.clone(),
        })?;
        let auditing = Auditing::start(store.audit.clone(), &clock, telemetry.clone());
        let descriptors = pregon_proto::FILE_DESCRIPTOR_SET;
        let server = Server::new(descriptors, &[], latest.clone(), Limits::default())?
            .with_elsewhere("control planes serve it, call a `pregon control`")
            .with_telemetry(telemetry.clone())
            .with_refusals(auditing.refusals());
        let server = api_keys::guard(server, &listener, &store.config, &shutdown);
        let ready = server.with(node.events())?.with(node.checks())?.on(listener).await?;
        let serving = Serving::start(ready, shutdown);
        let configuration = node.configuration().clone();
        tell_revision(&node, latest);
        let load = node.load();
        serving.follow_turns(move || load.turns());
        let read = configuration.clone();
        let first = async move { drop(read.ready().await) };
        let unread = Some("is not read yet".to_owned());
        serving.health().set_condition(CONFIGURATION, unread).await;
        let fault = Fault::new(CONFIGURATION, move || configuration.fault());
        serving.follow(store.config, first, vec![fault, Fault::new(KEYS, keys.fault())]);
        Ok(Self { serving, node, auditing, telling, _redis: redis })
    }

    /// Where gRPC is served.
    pub fn addr(&self) -> SocketAddr {
        self.serving.addr()
    }

    /// Takes it down: nothing new is accepted, attempts under way finish, the rest is given back.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.serving.begin_to_end();
        self.node.drain().await;
        let ended = self.serving.end().await;
        self.auditing.end().await;
        // Last: there was something to tell until here.
        self.telling.stop().await;
        ended
    }
}

/// Answers carry the revision that the node serves.
fn tell_revision(node: &Dataplane, latest: Revision) {
    let mut snapshots = node.configuration().watch();
    tokio::spawn(async move {
        while snapshots.changed().await.is_ok() {
            let served = snapshots.borrow_and_update().as_ref().map(|it| it.revision());
            latest.advance(served.unwrap_or(0));
        }
    });
}
