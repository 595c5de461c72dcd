//! The Redis engine: any number of processes on one Redis, or one Valkey, 7.0 or later.
//!
//! Events of a partition get dense numbers and lie in one stream that nobody deletes from: it is
//! queue, body store and history at once, and is only ever trimmed at its head. A claim moves a
//! cursor and writes one lease for a whole range. An event whose deliveries all succeed at once
//! costs no key: its batch vanishes and one chunk of the log tells of a hundred attempts. Only a
//! delivery in trouble gets a record and a place in its lane; one that only waits is a bit of a
//! run. Lanes are scheduled, not deliveries: pausing a million is one write.
//!
//! Every step is one script: atomic, bounded, checked before its first write. A call that got no
//! answer is sent again under the same operation's sequence, and answered as it was the first
//! time; a copy that comes later than its successor is refused. Time is Redis's own.
//!
//! Where what is:
//! - `layout`: the table of keys and values.
//! - `publish`: accepting events.
//! - `work`: what nodes do. `claim` leases, `settle` records results, `runs` are the bits of what
//!   waits unattempted.
//! - `operate`: `single` (lanes as a whole, cancel, replay), `erase`.
//! - `log`: what happened, for readers.
//! - `config`: configuration, who follows it (`watcher`), the audit log (`audit`) and `nodes`.
//! - `engine`: partitions and their `steps`, of which an `operation` must not run twice; connections
//!   (`link`) and why there is none (`look`); what a Redis must be able to promise (`server`) and its
//!   confirmations (`sure`); scripts and how they are run; and what keeps history short (`trim`).
//! - `test_sends`: attempts that are no deliveries. `rates`: how fast nodes may send.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "answers of Redis and errors of its client are enums of a library, and what is not \
              expected of them is one thing"
)]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use pregon_core::id::PartitionNo;
use redis::{ConnectionAddr, IntoConnectionInfo};
use zeroize::Zeroizing;

mod config;
mod engine;
mod handle;
mod layout;
mod log;
mod operate;
mod publish;
mod rates;
mod test_sends;
mod work;

pub use crate::redis::engine::fault::OpenError;
pub use crate::redis::engine::open::{Setup, open, setup};

/// What tests hold scripts against.
#[cfg(feature = "conformance")]
pub mod probe {
    pub use super::engine::scripts::PRELUDE as CONFIG_PRELUDE;
    pub use super::engine::steps::prelude_of_runs;
    pub use super::layout::written_again;
}

#[cfg(feature = "fuzzing")]
pub(crate) use layout::written_again;

use crate::Store;
use crate::audit::AuditKept;
use crate::intake::Durability;
use crate::redis::engine::open::Parts;
use crate::redis::publish::accept::Publisher;
use engine::Engine;
use handle::Handle;

/// How much history is kept. What is still to be delivered is never trimmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Events and what became of them.
    pub max_age: Duration,
    /// Events with a failed delivery, which somebody may still want to replay.
    pub failed_age: Duration,
    /// Events kept at most, in all partitions; 0: any number.
    pub max_events: u64,
    /// How much of the audit log.
    pub audit: AuditKept,
}

impl Default for History {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        let audit = AuditKept::default();
        Self { max_age: 7 * day, failed_age: 30 * day, max_events: 0, audit }
    }
}

/// An open store in a Redis.
pub struct Redis {
    store: Store,
}

impl Redis {
    /// The handles.
    pub fn store(&self) -> Store {
        self.store.clone()
    }

    async fn of(parts: Parts, options: &RedisOptions) -> Result<Self, OpenError> {
        let (config, nodes) = (parts.config.clone(), parts.nodes.clone());
        let audit = parts.config.clone();
        let engine = Engine::new(parts, options).await.map_err(OpenError::from_fault)?;
        let engine = Arc::new(engine);
        if options.janitor {
            tokio::spawn(engine::trim::run(Arc::downgrade(&engine)));
        }
        let publisher = Publisher::start(Arc::clone(&engine));
        let handle = Arc::new(Handle { engine, publisher });
        Ok(Self {
            store: Store {
                config,
                audit,
                nodes,
                intake: handle.clone(),
                work: handle.clone(),
                operate: handle.clone(),
                log: handle.clone(),
                backlog: handle.clone(),
                lanes: handle.clone(),
                tests: handle.clone(),
                rates: handle.clone(),
                watch: handle,
            },
        })
    }
}

/// What a process shows of itself to a `rediss://` server.
#[derive(Clone)]
pub struct ClientPem {
    /// Its certificates, in PEM.
    pub certificate: Vec<u8>,
    /// Their key, in PEM.
    pub key: Zeroizing<Vec<u8>>,
}

/// How to reach a Redis, and what it must promise.
#[derive(Clone)]
pub struct RedisOptions {
    /// `redis://host:port/db`, `rediss://…` for TLS, or `redis+unix:///path`.
    pub url: String,
    /// ACL user; none: the one of the URL, or the default one.
    pub user: Option<String>,
    /// Its password; none: the one of the URL, or none.
    pub password: Option<Zeroizing<String>>,
    /// PEM of certificate authorities for `rediss://`; none: the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// The process's own certificate; none: the server asks for none.
    pub client_pem: Option<ClientPem>,
    /// What an acknowledged publish must survive.
    pub durability: Durability,
    /// Replicas that must have it, with [`Durability::Replicated`].
    pub replicas: u32,
    /// How much history is kept.
    pub history: History,
    /// Whether this process keeps history within its bounds (nodes do, by turns).
    pub janitor: bool,
    /// How far time is ahead of the server's, in ms; for tests of what takes days.
    pub ahead: Ahead,
}

impl RedisOptions {
    /// The usual settings for a URL.
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            user: None,
            password: None,
            ca_pem: None,
            client_pem: None,
            durability: Durability::Memory,
            replicas: 1,
            history: History::default(),
            janitor: true,
            ahead: Ahead::default(),
        }
    }

    /// The server's host, a name or an address, and its port; none where it is a socket of this
    /// machine, or the URL is none.
    pub fn endpoint(&self) -> Option<(String, u16)> {
        let info = self.url.as_str().into_connection_info().ok()?;
        match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Some((host.clone(), *port))
            }
            ConnectionAddr::Unix(_) => None,
            #[allow(clippy::wildcard_enum_match_arm)] // a foreign vocabulary, open at its end
            _ => None,
        }
    }
}

impl fmt::Debug for RedisOptions {
    /// Neither the URL nor the password: both may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("durability", &self.durability)
            .field("replicas", &self.replicas)
            .field("history", &self.history)
            .field("janitor", &self.janitor)
            .finish_non_exhaustive()
    }
}

/// How far an engine's time is ahead of its server's: zero but in tests.
#[derive(Clone, Debug, Default)]
pub struct Ahead(Arc<AtomicI64>);

impl Ahead {
    /// Moves time forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap_or(0), Ordering::SeqCst);
    }

    /// By how many milliseconds.
    pub(crate) fn millis(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Partitions of a store that is set up without a wish: more is not better, for each call to
/// Redis costs 30 to 40 µs whatever it carries, and partitions divide every batch.
pub const PARTITIONS: PartitionNo = 4;
