//! What the rest of the node holds of the configuration.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pregon_core::error::{Reason, Refusal};
use pregon_store::node::RefusedDocument;
use pregon_store::{ConfigStore, StoreError};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::Snapshot;

/// Refused documents that are kept for whoever asks: enough to see what is wrong.
const REFUSED_KEPT: usize = 20;
/// The store is asked for its latest revision no more often, however many publishes name tenants
/// that do not exist.
const CATCH_UP_EVERY: Duration = Duration::from_millis(10);
/// How long a catch-up may take: a publish waits for it.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(2);

/// A handle on the configuration that the node serves. Clones share it.
#[derive(Clone)]
pub struct Configuration(Arc<Shared>);

pub(super) struct Shared {
    snapshot: watch::Sender<Option<Arc<Snapshot>>>,
    refused: Mutex<VecDeque<RefusedDocument>>,
    store: Arc<dyn ConfigStore>,
    /// Reads of the latest revision that began.
    begun: AtomicU64,
    /// Held by whoever reads it.
    latest: AsyncMutex<Latest>,
}

/// The last read of the store's latest revision.
#[derive(Default)]
struct Latest {
    /// Its number among those that began; 0: none succeeded.
    number: u64,
    revision: i64,
    began: Option<Instant>,
}

/// The node does not serve what was asked for, in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node serves configuration revision {served}")]
pub struct Late {
    /// The revision that it serves; 0 before the first snapshot.
    pub served: i64,
}

impl Configuration {
    pub(super) fn new(store: Arc<dyn ConfigStore>) -> Self {
        Self(Arc::new(Shared {
            snapshot: watch::Sender::new(None),
            refused: Mutex::default(),
            store,
            begun: AtomicU64::new(0),
            latest: AsyncMutex::default(),
        }))
    }

    /// The present snapshot; none before the first. Cheap.
    pub fn current(&self) -> Option<Arc<Snapshot>> {
        self.0.snapshot.borrow().clone()
    }

    /// The present snapshot, if it has all that the store has.
    ///
    /// # Errors
    ///
    /// [`Reason::NotReady`] where there is none yet, or the node must take nothing
    /// ([`super::Gaps::stop`]).
    pub fn whole(&self) -> Result<Arc<Snapshot>, Refusal> {
        let snapshot = self
            .current()
            .ok_or_else(|| Refusal::new(Reason::NotReady, "the node has no configuration yet"))?;
        if snapshot.gaps().stop() {
            return Err(Refusal::new(Reason::NotReady, snapshot.gaps().stop_text()));
        }
        Ok(snapshot)
    }

    /// What keeps the node from being ready, in words: something in the store that it cannot read,
    /// whether an older version of it is served or none.
    pub fn fault(&self) -> Option<String> {
        let snapshot = self.current()?;
        let gaps = snapshot.gaps();
        let count = gaps.missing + gaps.outdated;
        let unread = gaps
            .first
            .as_deref()
            .map(|first| format!("{count} of the store's documents cannot be read, first {first}"));
        unread.or_else(|| gaps.keys_text())
    }

    /// Follows the snapshots; intermediate ones may be passed over.
    pub fn watch(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.0.snapshot.subscribe()
    }

    /// Waits for the first snapshot.
    pub async fn ready(&self) -> Arc<Snapshot> {
        self.served(i64::MIN).await
    }

    /// Waits until `revision` or a later one is served.
    ///
    /// # Errors
    ///
    /// [`Late`] after `within`.
    pub async fn wait_for(&self, revision: i64, within: Duration) -> Result<Arc<Snapshot>, Late> {
        let waited = timeout(within, self.served(revision)).await;
        waited.map_err(|_| Late { served: self.served_revision() })
    }

    /// Waits until what the store had committed at the call is served, 2 seconds at most. Calls
    /// at the same time share one question to the store, asked every 10 ms at most.
    ///
    /// # Errors
    ///
    /// [`Late`] when it took longer, or the store does not say.
    pub async fn catch_up(&self) -> Result<Arc<Snapshot>, Late> {
        let late = || Late { served: self.served_revision() };
        let caught_up = async {
            let revision = self.latest().await.map_err(|_| late())?;
            Ok(self.served(revision).await)
        };
        timeout(CATCH_UP_WITHIN, caught_up).await.unwrap_or_else(|_| Err(late()))
    }

    /// The revision that is served; 0 before the first snapshot.
    pub fn served_revision(&self) -> i64 {
        self.0.snapshot.borrow().as_ref().map_or(0, |snapshot| snapshot.revision())
    }

    /// Documents that could not be used, newest first, 20 at most.
    pub fn refused(&self) -> Vec<RefusedDocument> {
        self.0.refused.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Waits for a snapshot of `revision` or later.
    async fn served(&self, revision: i64) -> Arc<Snapshot> {
        let mut snapshots = self.watch();
        loop {
            if let Some(snapshot) = snapshots.borrow_and_update().as_ref()
                && snapshot.revision() >= revision
            {
                return Arc::clone(snapshot);
            }
            if snapshots.changed().await.is_err() {
                // The sender lives as long as this handle.
                std::future::pending::<()>().await;
            }
        }
    }

    /// A latest revision that the store told after this call.
    async fn latest(&self) -> Result<i64, StoreError> {
        let begun_before = self.0.begun.load(Ordering::SeqCst);
        let mut latest = self.0.latest.lock().await;
        if latest.number > begun_before {
            return Ok(latest.revision); // somebody asked after us, while we waited for the lock
        }
        if let Some(began) = latest.began {
            sleep_until(began + CATCH_UP_EVERY).await;
        }
        latest.began = Some(Instant::now());
        let number = self.0.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let head = self.0.store.head().await?;
        latest.number = number;
        latest.revision = head.revision;
        Ok(head.revision)
    }

    pub(super) fn store(&self) -> &dyn ConfigStore {
        &*self.0.store
    }

    /// Serves a snapshot from now on.
    pub(super) fn serve(&self, snapshot: Arc<Snapshot>) {
        self.0.snapshot.send_replace(Some(snapshot));
    }

    /// Keeps a refused document for whoever asks.
    pub(super) fn refuse(&self, document: RefusedDocument) {
        let mut refused = self.0.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.truncate(REFUSED_KEPT - 1);
        refused.push_front(document);
    }
}

impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Configuration")
            .field("served_revision", &self.served_revision())
            .finish_non_exhaustive()
    }
}
