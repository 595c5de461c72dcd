//! How the writer is: whether it takes new work, and whether it is there at all.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// How long a write that failed is held against the store when none was tried since: whoever is told
/// that nothing can be published stops trying.
const HELD_AGAINST: Duration = Duration::from_secs(30);

/// What is known of the writer. Having no room is not among it: that is an answer.
#[derive(Debug, Default)]
pub(in crate::embedded) struct Standing {
    failed: Mutex<Option<(Instant, String)>>,
    broken: watch::Sender<bool>,
}

impl Standing {
    /// New work was written.
    pub fn wrote(&self) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// New work could not be written.
    pub fn failed(&self, why: String) {
        let failed = Some((Instant::now(), why));
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failed;
    }

    /// Why new work cannot be written, as far as that is known.
    pub fn fault(&self) -> Option<String> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.as_ref().filter(|(at, _)| at.elapsed() < HELD_AGAINST).map(|(_, why)| why.clone())
    }

    /// Returns when the writer's thread is gone without having been asked to end.
    pub async fn broken(&self) {
        let mut broken = self.broken.subscribe();
        // The sender lives as long as this.
        let _ = broken.wait_for(|broken| *broken).await;
    }
}

/// Held by the writer's thread: tells when it ends by a panic.
pub(in crate::embedded) struct Alive(pub std::sync::Arc<crate::embedded::engine::Bells>);

impl Drop for Alive {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the store's writer panicked: nothing can be written any more");
            self.0.standing.broken.send_replace(true);
        }
    }
}
