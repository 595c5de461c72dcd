//! The embedded engine: SQLite in a directory, or in memory, for one process.
//!
//! All writes run on one thread, in the order in which they came, many to a transaction: it takes
//! what waits, runs it, commits once, and answers everybody (`engine`). So one `fsync` pays for
//! all publishes that came while the last one ran. Three things follow from the single writer.
//! Numbers are dense without a lock. A claim answers before its transaction is committed, because
//! it saw committed events only and a crash merely leases them again. And a step that fails takes
//! nobody along: its group is rolled back and its members run again one by one.
//!
//! What is durable when: a publish, a commit, a cancel and a replay are on disk before they are
//! answered (with [`SyncMode::Fsync`]). Claims and settles are not synced by themselves; the next
//! synced commit carries them. If power fails in between, the same work is leased again and sent
//! again, which at-least-once allows. The end of the process alone loses nothing of either.
//!
//! Reads have connections and threads of their own (WAL lets them go on beside the writer) and
//! see one committed moment each. In memory there is neither thread: a call runs where it is made,
//! under a mutex, so that a simulation under a paused clock is the same each time.
//!
//! When the disk is full, publishes and configuration writes are refused, while settles and claims
//! go on from a reserve that was set aside at the start (`room`), until there is room again.
//!
//! Where what is:
//! - `publish`: accepting events.
//! - `work`: what nodes do. `take`, `due` and `takeover` lease, `settle` records results, `apply`
//!   carries moves out, `runs` are the bits of what waits unattempted.
//! - `operate`: `lanes` (close, open, end), `single` (cancel, replay), `erase`.
//! - `log`: what happened, for readers.
//! - `config`: configuration, the audit log (`audit`) and `nodes`.
//! - `engine`: the writer and its readers (`executor`), tables and their reasons (`schema`), what it
//!   holds in memory (`state`), its disk (`files`, `room`), and what keeps history short (`trim`).
//! - `test_sends`: attempts that are no deliveries. `rates`: how fast nodes may send.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pregon_core::clock::SharedClock;

use crate::Store;
use crate::audit::AuditKept;

mod config;
mod engine;
mod log;
mod operate;
mod publish;
mod rates;
mod test_sends;
mod work;

#[cfg(test)]
mod tests;

use engine::executor::Handle;

/// Where the store lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In a directory of its own; made if it is missing.
    Directory(PathBuf),
    /// Nowhere: gone with the process.
    Memory,
}

/// What a publish waits for, where the store lies in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// The disk has it.
    Fsync,
    /// The operating system has it: safe from the end of the process, not from a power cut.
    Memory,
}

/// How much history is kept. What is still to be delivered is never trimmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Events and what became of them.
    pub max_age: Duration,
    /// Events with a failed delivery, which somebody may still want to replay.
    pub failed_age: Duration,
    /// Events kept at most; 0: any number.
    pub max_events: u64,
    /// Bytes of events kept at most, data and what is known about it; 0: any.
    pub max_bytes: u64,
    /// How much of the audit log.
    pub audit: AuditKept,
}

impl Default for History {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self {
            max_age: 7 * day,
            failed_age: 30 * day,
            max_events: 0,
            max_bytes: 0,
            audit: AuditKept::default(),
        }
    }
}

/// How to open an embedded store.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// Where it lies.
    pub location: Location,
    /// The wall clock.
    pub clock: SharedClock,
    /// What a publish waits for.
    pub sync: SyncMode,
    /// How much history is kept.
    pub history: History,
    /// Bytes that the database may reach before the store counts as full; 0: what the disk holds.
    pub max_size: u64,
    /// Bytes set aside so that settles can finish on a full disk.
    pub reserve: u64,
    /// Threads that read; writing has one more.
    pub readers: usize,
}

impl EmbeddedOptions {
    /// The usual settings for `location`.
    pub fn new(location: Location, clock: SharedClock) -> Self {
        Self {
            location,
            clock,
            sync: SyncMode::Fsync,
            history: History::default(),
            max_size: 0,
            // 16 MiB for the log that is folded in when the disk is full, the rest for what is
            // to be finished: settling a retry adds about 600 bytes.
            reserve: 48 * 1024 * 1024,
            readers: 2,
        }
    }
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{0} is in use by another process: a store belongs to one process at a time")]
    InUse(PathBuf),
    /// A later release wrote it.
    #[error("the store has schema {found}, this release knows {known}: use a later release")]
    Newer {
        /// The schema found.
        found: i64,
        /// The latest schema that this release knows.
        known: i64,
    },
    /// The directory or a file in it cannot be used.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// SQLite cannot use the database.
    #[error("cannot use the database: {0}")]
    Database(String),
}

/// An open embedded store. Stays open until it is closed, or until this handle and every [`Store`]
/// made from it are gone.
pub struct Embedded {
    handle: Arc<Handle>,
}

impl Embedded {
    /// The traits that planes are given.
    pub fn store(&self) -> Store {
        Store {
            config: self.handle.clone(),
            audit: self.handle.clone(),
            intake: self.handle.clone(),
            work: self.handle.clone(),
            operate: self.handle.clone(),
            log: self.handle.clone(),
            nodes: self.handle.clone(),
            backlog: self.handle.clone(),
            lanes: self.handle.clone(),
            tests: self.handle.clone(),
            rates: self.handle.clone(),
            watch: self.handle.clone(),
        }
    }

    /// All that is stored, value by value.
    #[cfg(any(test, feature = "conformance"))]
    pub async fn everything(&self) -> Result<Vec<Vec<u8>>, crate::StoreError> {
        self.handle.read_all(operate::erase::everything).await
    }

    /// Why new events cannot be written, as far as that is known: the last write of any failed, within
    /// half a minute. Having no room is not meant.
    pub fn fault(&self) -> Option<String> {
        self.handle.standing().fault()
    }

    /// Returns when the store cannot go on: its writer ended by a panic. The process should end.
    pub async fn broken(&self) {
        self.handle.standing().broken().await;
    }

    /// Finishes what was asked so far and closes; blocks until the files are let go. Later calls
    /// of its [`Store`]s are refused as closed.
    pub fn close(&self) {
        self.handle.close();
    }
}

/// Opens a store, or makes one.
pub fn open(options: EmbeddedOptions) -> Result<Embedded, OpenError> {
    Ok(Embedded { handle: Arc::new(Handle::open(options)?) })
}
