//! `pregon control`: the management API over a Redis. It never opens a connection to a receiver.

use std::net::SocketAddr;
use std::sync::Arc;

use pregon_control::Services;
use pregon_core::clock::{SharedClock, SystemClock};
use pregon_rpc::page::PageKey;
use pregon_rpc::revision::Revision;
use pregon_rpc::server::{Limits, Listener, Server};
use pregon_store::redis::{self, Redis};
use tokio_util::sync::CancellationToken;

use crate::keys;
use crate::planes::{self, ControlParts};
use crate::serving::Serving;
use crate::settings::ControlSettings;

/// What the page tokens' key is derived for: control planes continue each other's lists.
const PAGES: &str = "pregon page tokens";

/// A running `pregon control`.
pub struct ControlPlane {
    serving: Serving,
    _redis: Redis,
}

impl ControlPlane {
    /// Opens the store, binds the port, and serves.
    pub async fn start(settings: ControlSettings) -> anyhow::Result<Self> {
        let clock: SharedClock = Arc::new(SystemClock);
        let listener = Listener::bind(settings.listen, Arc::clone(&clock)).await?;
        let keys = Arc::new(keys::given(&settings.master_key_file)?);
        let redis = redis::open(settings.redis).await?;
        let store = redis.store();
        let (latest, shutdown) = (Revision::none(), CancellationToken::new());
        let control = planes::control(ControlParts {
            store: store.clone(),
            clock,
            page_key: PageKey::derive(&*keys.derive(PAGES)),
            keys,
            policy: &settings.policy,
            latest: latest.clone(),
            drain: shutdown.clone(),
        });
        let descriptors = pregon_proto::FILE_DESCRIPTOR_SET;
        let server = Server::new(descriptors, &Services::WAITS, latest, Limits::default())?;
        let ready = control.services().add_to(server)?.on(listener).await?;
        let serving = Serving::start(ready, shutdown);
        serving.follow(store.config, std::future::ready(()));
        Ok(Self { serving, _redis: redis })
    }

    /// Where gRPC is served.
    pub fn addr(&self) -> SocketAddr {
        self.serving.addr()
    }

    /// Takes it down: calls under way have their answers.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.serving.end().await
    }
}
