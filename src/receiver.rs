//! A receiver of webhooks, for whoever integrates or tests: `pregon receiver`, the demo, our tests.
//!
//! It takes any request, verifies it under a contract with the secrets that it trusts, makes a
//! [`Receipt`] of it, and answers as it is told: by its [`Script`], or by the path of the request,
//! so that one receiver can play many parts at once (see [`behaviour`]). The verdict does not change
//! the answer: who tests a sender wants to choose both.
//!
//! It verifies with other code than what signs, so that the two check each other. And it is made
//! for trusted senders, but bounded like everything else: connections, bodies, and how long it
//! hangs.

mod args;
pub mod behaviour;
mod receipt;
mod serve;
pub mod tls;
pub mod verify;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use pregon_core::clock::SharedClock;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use args::ReceiverArgs;
pub use receipt::Receipt;

use behaviour::Script;
use serve::Shared;
use tls::Tls;
use verify::{Contracts, Secret};

/// Receipts that wait to be read. When that many wait, answers wait too: a receipt is never lost.
const RECEIPTS: usize = 1024;

/// What a receiver is told before it starts.
#[derive(Clone, Debug)]
pub struct ReceiverOptions {
    /// Where to listen; port 0 is any free one.
    pub listen: SocketAddr,
    /// Serve https with this certificate; none: http.
    pub tls: Option<Tls>,
    /// What requests are verified under.
    pub contracts: Contracts,
    /// Secrets that signatures are verified against; any of them will do.
    pub secrets: Vec<Secret>,
    /// How to answer where the path does not say.
    pub script: Script,
    /// Connections at once; more wait to be accepted.
    pub connections: usize,
}

impl Default for ReceiverOptions {
    /// http on any free port of the loopback address, Standard Webhooks, 200 to everything, 1024
    /// connections.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: None,
            contracts: Contracts::default(),
            secrets: Vec::new(),
            script: Script::default(),
            connections: 1024,
        }
    }
}

/// A running receiver; dropping it closes its port and its connections.
#[derive(Debug)]
pub struct Receiver {
    addr: SocketAddr,
    shared: Arc<Shared>,
    receipts: mpsc::Receiver<Receipt>,
    serving: JoinHandle<()>,
}

impl Receiver {
    /// Listens from now on; the clock says when requests came and which timestamps are stale.
    pub async fn start(options: ReceiverOptions, clock: SharedClock) -> io::Result<Self> {
        let tcp = TcpListener::bind(options.listen).await?;
        let addr = tcp.local_addr()?;
        let (sender, receipts) = mpsc::channel(RECEIPTS);
        let ReceiverOptions { connections, tls, .. } = options;
        let shared = Arc::new(Shared::new(options.script, options.contracts, clock, sender));
        shared.trust(options.secrets);
        let serving = tokio::spawn(serve::accept(tcp, tls, connections, Arc::clone(&shared)));
        Ok(Self { addr, shared, receipts, serving })
    }

    /// Where it listens, with the real port.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Trusts further secrets from now on.
    pub fn trust(&self, secrets: impl IntoIterator<Item = Secret>) {
        self.shared.trust(secrets);
    }

    /// The next request that came, as soon as it is there. Safe to cancel.
    pub async fn next(&mut self) -> Option<Receipt> {
        self.receipts.recv().await
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[cfg(test)]
mod tests;
