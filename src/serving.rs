//! A gRPC server at work: where it listens, what its health says, how it ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use pregon_rpc::health::Health;
use pregon_rpc::server::{Drained, Ready};
use pregon_store::{ConfigStore, StoreError};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often the store is asked whether it is there. A call to it gives up after two seconds, so
/// health is at most three behind.
const LOOK: Duration = Duration::from_secs(1);

/// A loop that takes no turn for so long is stuck: the slowest takes one every ten seconds.
const STUCK: Duration = Duration::from_secs(60);

/// The condition that the store answers.
const STORE: &str = "store";
/// The condition that the configuration is read, and can be.
pub const CONFIGURATION: &str = "configuration";
/// The condition that every master key that the store needs is here.
pub const KEYS: &str = "keys";
/// The condition that the embedded store's disk takes what is written.
pub const DISK: &str = "disk";

/// A condition of readiness that is looked at.
pub struct Fault {
    of: &'static str,
    look: Box<dyn Fn() -> Option<String> + Send>,
    known: Option<String>,
}

impl Fault {
    /// `look` says in words what is the matter with the condition `of`.
    pub fn new(of: &'static str, look: impl Fn() -> Option<String> + Send + 'static) -> Self {
        Self { of, look: Box::new(look), known: None }
    }
}

/// A server that serves.
pub struct Serving {
    addr: SocketAddr,
    health: Health,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<Drained>>,
}

impl Serving {
    /// Serves until the token is cancelled; health says NOT_SERVING until told otherwise.
    pub fn start(ready: Ready, shutdown: CancellationToken) -> Self {
        let (addr, health) = (ready.local_addr(), ready.health());
        let end = shutdown.clone();
        let serve = async move { ready.serve(end).await.map_err(anyhow::Error::from) };
        Self { addr, health, shutdown, task: tokio::spawn(serve) }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it says of itself.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// From now on, health says whether the store takes writes and nothing else is the matter, once
    /// `first`, the configuration, is there.
    pub fn follow(
        &self,
        store: Arc<dyn ConfigStore>,
        first: impl Future<Output = ()> + Send + 'static,
        faults: Vec<Fault>,
    ) {
        let (health, shutdown) = (self.health.clone(), self.shutdown.clone());
        let followed = async move {
            first.await;
            follow(&*store, &health, faults).await;
        };
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = followed => {}
            }
        });
    }

    /// From now on, health says whether a loop takes turns, once it has taken its first; `turns` is
    /// how many it has taken. The store has no part in it.
    pub fn follow_turns(&self, turns: impl Fn() -> u64 + Send + 'static) {
        let (health, shutdown) = (self.health.clone(), self.shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = watch_turns(&health, turns) => {}
            }
        });
    }

    /// Closes the port; calls under way go on.
    pub fn begin_to_end(&self) {
        self.shutdown.cancel();
    }

    /// Ends it; returns when calls under way had their answers or the limit came.
    pub async fn end(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        let drained = self.task.await.context("the server ended badly")??;
        if let Drained::Cut { connections } = drained {
            tracing::warn!(connections, "cut connections that did not end in time");
        }
        Ok(())
    }
}

async fn watch_turns(health: &Health, turns: impl Fn() -> u64) {
    let (mut taken, mut since) = (turns(), Instant::now());
    let mut alive = true;
    loop {
        tokio::time::sleep(LOOK).await;
        let now = turns();
        if now != taken {
            (taken, since) = (now, Instant::now());
        }
        let turning = taken == 0 || since.elapsed() < STUCK;
        if turning != alive {
            alive = turning;
            if !alive {
                tracing::error!(seconds = STUCK.as_secs(), "the delivery loop takes no turn");
            }
            health.set_alive(alive).await;
        }
    }
}

async fn follow(store: &dyn ConfigStore, health: &Health, mut faults: Vec<Fault>) {
    let mut answered = None;
    loop {
        let answer = store.head_if_writable().await;
        let answers = answer.is_ok();
        if answered != Some(answers) {
            match &answer {
                Ok(head) => tracing::info!(revision = head.revision, "the store answers"),
                // Not an outage that passes: somebody has to restore it, or set it up again.
                Err(StoreError::Emptied(_)) => {
                    tracing::error!("the store was emptied: restore it, or run pregon init");
                }
                Err(error) => tracing::warn!(%error, "the store does not answer"),
            }
            answered = Some(answers);
        }
        let silence = match &answer {
            Ok(_) => None,
            Err(StoreError::Emptied(_)) => {
                Some("was emptied: restore it, or run pregon init".into())
            }
            Err(error) => Some(error.to_string()),
        };
        health.set_condition(STORE, silence).await;
        for Fault { of, look, known } in &mut faults {
            let fault = look();
            if fault != *known {
                match &fault {
                    Some(fault) => tracing::error!(of, fault, "not ready"),
                    None => tracing::info!(of, "ready again"),
                }
                known.clone_from(&fault);
            }
            health.set_condition(of, fault).await;
        }
        // From here on it is the conditions that say.
        health.set_all(true).await;
        tokio::time::sleep(LOOK).await;
    }
}
