//! `pregon control`: the management API over a Redis. It never opens a connection to a receiver.

use std::net::SocketAddr;
use std::sync::Arc;

use pregon_control::Services;
use pregon_core::clock::{SharedClock, SystemClock};
use pregon_rpc::revision::Revision;
use pregon_rpc::server::{Limits, Listener, Server};
use pregon_store::redis::{self, Redis};
use pregon_telemetry::Running;
use tokio_util::sync::CancellationToken;

use crate::api_keys;
use crate::keys;
use crate::measured::measured;
use crate::planes::{self, ControlParts};
use crate::serving::Serving;
use crate::settings::ControlSettings;

/// A running `pregon control`.
pub struct ControlPlane {
    serving: Serving,
    telling: Running,
    _redis: Redis,
}

impl ControlPlane {
    /// Opens the store, binds the port, and serves.
    pub async fn start(settings: ControlSettings) -> anyhow::Result<Self> {
        let clock: SharedClock = Arc::new(SystemClock);
        let listener = Listener::bind(settings.listen, Arc::clone(&clock)).await?;
        let keys = Arc::new(keys::given(&settings.master_key_file)?);
        let redis = redis::open(settings.redis).await?;
        keys::fit(&keys, &*redis.store().config).await?;
        let (telemetry, telling) =
            planes::telemetry(&settings.telemetry, "control", &planes::process_name(), &clock)?;
        let store = measured(redis.store(), &telemetry);
        let portal = keys::portal_keys(&keys);
        let (latest, shutdown) = (Revision::none(), CancellationToken::new());
        let control = planes::control(ControlParts {
            store: store.clone(),
            clock,
            page_key: keys::page_key(&keys),
            portal: portal.clone(),
            keys,
            policy: &settings.policy,
            latest: latest.clone(),
            drain: shutdown.clone(),
            telemetry: telemetry.clone(),
        });
        let descriptors = pregon_proto::FILE_DESCRIPTOR_SET;
        let server = Server::new(descriptors, &Services::WAITS, latest, Limits::default())?
            .with_elsewhere("nodes serve it, call a `pregon dataplane`")
            .with_portal(portal)
            .with_telemetry(telemetry);
        let server = api_keys::guard(server, &listener, &store.config, &shutdown);
        let ready = control.services().add_to(server)?.on(listener).await?;
        let serving = Serving::start(ready, shutdown);
        serving.follow(store.config, std::future::ready(()), Vec::new());
        Ok(Self { serving, telling, _redis: redis })
    }

    /// Where gRPC is served.
    pub fn addr(&self) -> SocketAddr {
        self.serving.addr()
    }

    /// Takes it down: calls under way have their answers.
    pub async fn stop(self) -> anyhow::Result<()> {
        let ended = self.serving.end().await;
        self.telling.stop().await;
        ended
    }
}
