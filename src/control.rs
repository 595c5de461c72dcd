//! `pregon control`: the management API over a Redis. It never opens a connection to a receiver.

use std::net::SocketAddr;
use std::sync::Arc;

use pregon_control::Services;
use pregon_core::clock::{SharedClock, SystemClock};
use pregon_rpc::revision::Revision;
use pregon_rpc::server::{Limits, Listener, Server};
use pregon_store::redis::{self, Redis};
use pregon_telemetry::Running;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api_keys;
use crate::audit::Auditing;
use crate::keys::{self, Keeper, KeeperOptions, Seals};
use crate::measured::measured;
use crate::planes::{self, ControlParts};
use crate::serving::{Fault, KEYS, Serving};
use crate::settings::ControlSettings;

/// A running `pregon control`.
pub struct ControlPlane {
    serving: Serving,
    /// Says that it is there.
    announced: JoinHandle<()>,
    auditing: Auditing,
    telling: Running,
    _redis: Redis,
}

impl ControlPlane {
    /// Opens the store, binds the port, and serves.
    pub async fn start(settings: ControlSettings) -> anyhow::Result<Self> {
        let clock: SharedClock = Arc::new(SystemClock);
        let listener = Listener::bind(settings.listen, Arc::clone(&clock)).await?;
        let loaded = keys::given(&settings.master_key_file, settings.kms, &listener).await?;
        let redis = redis::open(settings.redis).await?;
        let id = planes::process_name()?;
        let (telemetry, telling) =
            planes::telemetry(&settings.telemetry, "control", id.as_str(), &clock)?;
        let store = measured(redis.store(), &telemetry);
        let (latest, shutdown) = (Revision::none(), CancellationToken::new());
        let stop = shutdown.clone();
        let options =
            KeeperOptions { loaded, store: &store, id: id.clone(), seals: Seals::Among, stop };
        let keys = Keeper::start(options).await?;
        let announced = tokio::spawn(keys::announce(
            Arc::clone(&store.nodes),
            id,
            Arc::clone(&clock),
            keys.held(),
            shutdown.clone(),
        ));
        let auditing = Auditing::start(store.audit.clone(), &clock, telemetry.clone());
        let control = planes::control(ControlParts {
            store: store.clone(),
            clock,
            keys: &keys,
            policy: &settings.policy,
            latest: latest.clone(),
            drain: shutdown.clone(),
            telemetry: telemetry.clone(),
        });
        let descriptors = pregon_proto::FILE_DESCRIPTOR_SET;
        let server = Server::new(descriptors, &Services::WAITS, latest, Limits::default())?
            .with_elsewhere("nodes serve it, call a `pregon dataplane`")
            .with_portal(keys.portal())
            .with_telemetry(telemetry)
            .with_refusals(auditing.refusals());
        let server = api_keys::guard(server, &listener, &store.config, &shutdown);
        let ready = control.services().add_to(server)?.on(listener).await?;
        let serving = Serving::start(ready, shutdown);
        let fault = Fault::new(KEYS, keys.fault());
        serving.health().set_condition(KEYS, keys.fault()()).await;
        serving.follow(store.config, std::future::ready(()), vec![fault]);
        Ok(Self { serving, announced, auditing, telling, _redis: redis })
    }

    /// Where gRPC is served.
    pub fn addr(&self) -> SocketAddr {
        self.serving.addr()
    }

    /// Takes it down: calls under way have their answers.
    pub async fn stop(self) -> anyhow::Result<()> {
        let ended = self.serving.end().await;
        if let Err(error) = self.announced.await {
            tracing::error!(%error, "a task of the control plane ended badly");
        }
        self.auditing.end().await;
        self.telling.stop().await;
        ended
    }
}
