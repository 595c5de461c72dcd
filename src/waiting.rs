//! A process that cannot serve yet: its port is open, and probes are told why it is not ready.
//!
//! Nothing is made by then that would have to do without what it waits for: no store is written, nothing
//! is announced, and every call but those of health and reflection is refused as UNAVAILABLE, before
//! anybody asks who calls. An orchestrator leaves the process alone, and callers go to another.

use std::time::Duration;

use pregon_rpc::revision::Revision;
use pregon_rpc::server::{Limits, Listener, Server};
use tokio_util::sync::CancellationToken;

use crate::serving::Serving;

/// How long probes under way may take at its end.
const DRAIN: Duration = Duration::from_secs(1);

/// A port that says why nobody serves at it.
pub struct Waiting {
    serving: Serving,
    of: &'static str,
    /// What was said last.
    said: String,
}

impl Waiting {
    /// From now on whoever comes to the listener's port is told that the condition `of` does not hold,
    /// and who may know why that it is for this reason. Nobody else may serve there until the end.
    ///
    /// # Errors
    ///
    /// The port cannot be shared, or the listener's files not be read again.
    pub async fn at(listener: &Listener, of: &'static str, fault: String) -> anyhow::Result<Self> {
        let limits = Limits { drain: DRAIN, ..Limits::default() };
        let server = Server::new(pregon_proto::FILE_DESCRIPTOR_SET, &[], Revision::none(), limits)?
            .waiting("the process waits for its master keys to be opened");
        let ready = server.on(listener.again().await?).await?;
        ready.health().set_condition(of, Some(fault.clone())).await;
        let serving = Serving::start(ready, CancellationToken::new());
        let addr = serving.addr();
        tracing::error!(of, fault, "not ready");
        tracing::info!(%addr, "only probes are answered, listening on {addr}");
        Ok(Self { serving, of, said: fault })
    }

    /// It is for this reason now.
    pub async fn say(&mut self, fault: String) {
        if fault != self.said {
            tracing::error!(of = self.of, fault, "not ready");
            self.serving.health().set_condition(self.of, Some(fault.clone())).await;
            self.said = fault;
        }
    }

    /// The wait is over: the port is left to others, and connections are asked to come again.
    pub async fn end(self) {
        tracing::info!(of = self.of, "ready to go on");
        if let Err(error) = self.serving.end().await {
            tracing::warn!(%error, "what answered probes ended badly");
        }
    }
}
