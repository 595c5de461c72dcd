//! The conformance suite on the embedded engine: in a directory, and in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pregon_core::clock::{ManualClock, Timestamp};
use pregon_store::Store;
use pregon_store::conformance::{Engine, Rig};
use pregon_store::embedded::{self, EmbeddedOptions, Location};
use tempfile::TempDir;

/// Deliveries of the large lane, in memory: what a subscription may have waiting by default.
const MILLION: usize = 1_000_000;

/// An embedded store whose time the suite moves.
struct Tested {
    clock: Arc<ManualClock>,
    directory: Option<TempDir>,
    open: embedded::Embedded,
}

impl Tested {
    fn new(directory: Option<TempDir>) -> Self {
        let clock = ManualClock::at(Timestamp::from_millis(1_800_000_000_000));
        let open = open(directory.as_ref().map(TempDir::path), clock.clone());
        Self { clock, directory, open }
    }
}

fn open(path: Option<&Path>, clock: Arc<ManualClock>) -> embedded::Embedded {
    let location = path.map_or(Location::Memory, |path| Location::Directory(path.to_owned()));
    embedded::open(EmbeddedOptions::new(location, clock)).expect("to open")
}

#[async_trait]
impl Engine for Tested {
    fn store(&self) -> Store {
        self.open.store()
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    async fn reopen(&mut self) -> bool {
        let Some(directory) = &self.directory else { return false };
        self.open.close();
        self.open = open(Some(directory.path()), self.clock.clone());
        true
    }

    async fn everything(&self) -> Vec<Vec<u8>> {
        self.open.everything().await.expect("a read")
    }

    fn restart_frees_leases(&self) -> bool {
        true
    }
}

async fn in_a_directory() -> Rig {
    Rig::new(Tested::new(Some(tempfile::tempdir().expect("a directory"))))
}

async fn in_memory() -> Rig {
    Rig::new(Tested::new(None)).large(MILLION)
}

mod directory {
    use super::in_a_directory;
    pregon_store::conformance_suite!(in_a_directory);
}

mod memory {
    use super::in_memory;
    pregon_store::conformance_suite!(in_memory);
}
