//! The control plane as a whole: what it is made of.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use bytes::Bytes;
use pregon_core::clock::{SharedClock, Timestamp};
use pregon_core::model::Resource;
use pregon_core::pool::Pools;
use pregon_core::seal::{Held, KeyRing};
use pregon_core::url::UrlPolicy;
use pregon_rpc::page::PageKey;
use pregon_rpc::portal::PortalKeys;
use pregon_rpc::revision::Revision;
use pregon_store::Store;
use pregon_telemetry::Telemetry;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::contracts::Registry;
use crate::filters::Filters;
use crate::heads::Heads;
use crate::lanes::LaneNames;
use crate::repeat::Recent;
use crate::secrets::Making;
use crate::sensitive::Sensitive;
use crate::subscriptions::Tests;
use crate::turns::Turns;
use crate::watches::Watchers;

/// How long one call waits for the next commit.
const FOLLOW: Duration = Duration::from_secs(1);
/// How soon a store that did not answer is asked again.
const FOLLOW_AGAIN: Duration = Duration::from_secs(1);

/// What a control plane is made of.
pub struct ControlOptions {
    /// Where everything lives.
    pub store: Store,
    /// The present time.
    pub clock: SharedClock,
    /// The master keys that secrets are sealed under, as they are at present.
    pub keys: watch::Receiver<Arc<Held>>,
    /// Authenticates page tokens; shared by all control planes of a deployment.
    pub page_key: PageKey,
    /// Make portal tokens.
    pub portal: PortalKeys,
    /// Which URLs subscriptions may have, addresses included.
    pub url_policy: UrlPolicy,
    /// The egress pools that there are.
    pub pools: Pools,
    /// Bytes that an event's data may have; an event type's example may have no more either.
    pub event_data_limit: usize,
    /// Fills a buffer with random bytes fit for keys.
    pub random: fn(&mut [u8]),
    /// The deployment's `user-agent`, as nodes send it.
    pub user_agent: Bytes,
    /// Moved to each revision that is committed or seen here; answers carry it.
    pub latest: Revision,
    /// Cancelled when the server is to end: waits and long streams end then.
    pub drain: CancellationToken,
    /// Where writes are reported.
    pub telemetry: Telemetry,
}

/// The control plane. Shared by its services.
pub struct Control {
    pub(crate) store: Store,
    pub(crate) clock: SharedClock,
    pub(crate) keys: watch::Receiver<Arc<Held>>,
    pub(crate) page_key: PageKey,
    pub(crate) portal: PortalKeys,
    pub(crate) contracts: Registry,
    pub(crate) event_data_limit: usize,
    pub(crate) random: fn(&mut [u8]),
    pub(crate) making: Making,
    pub(crate) user_agent: Bytes,
    pub(crate) heads: Heads,
    pub(crate) drain: CancellationToken,
    pub(crate) telemetry: Telemetry,
    pub(crate) turns: Turns,
    /// The turn among writes that count who uses a contract.
    pub(crate) contract_turn: Mutex<()>,
    pub(crate) lane_names: LaneNames,
    /// Compiled filters, for those who ask whether an event would match.
    pub(crate) filters: Filters,
    /// What tenants' subscriptions call sensitive.
    pub(crate) sensitive: Sensitive,
    pub(crate) recent: Recent,
    /// Tests that may be repeated.
    pub(crate) tests: Tests,
    /// Places for watches.
    pub(crate) watchers: Watchers,
    /// Counts entries of the audit log.
    pub(crate) told: AtomicU32,
    /// Shows resources in the audit log.
    pub(crate) show: Show,
}

/// A resource of a revision (0: it has none yet) at a moment, as bounded JSON text of what the API
/// shows, and whether it was cut.
pub(crate) type Show = fn(Resource, i64, Timestamp) -> (String, bool);

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl Control {
    /// The master keys at present.
    pub(crate) fn ring(&self) -> Arc<KeyRing> {
        Arc::clone(&self.keys.borrow().ring)
    }

    /// Keeps [`ControlOptions::latest`] at the latest revision, whoever commits it, until the
    /// server is to end. A store that does not answer is asked again.
    pub async fn follow(&self) {
        loop {
            let known = self.store.config.head().await;
            let wait = match known {
                Ok(head) => {
                    self.heads.saw(head.revision, self.clock.now());
                    self.store.config.changes(head, 1, FOLLOW).await.map(drop)
                }
                Err(error) => Err(error),
            };
            let pause = if wait.is_ok() { Duration::ZERO } else { FOLLOW_AGAIN };
            tokio::select! {
                () = self.drain.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}
