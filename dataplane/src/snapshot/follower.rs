//! Reads the store's configuration and keeps up with it.
//!
//! All documents are read page by page, which is not one moment's view; so the head is read before
//! and after, and the changes between are applied on top before anything is served. Then the
//! changes are followed with a long poll. A gap (the log was trimmed, or the history is another)
//! means to read all again, and so do other master keys: what did not open may open now. An error
//! means to wait and go on; the last good snapshot serves.

use std::sync::Arc;
use std::time::Duration;

use pregon_core::clock::SharedClock;
use pregon_core::seal::{Held, KeyId, KeyRing};
use pregon_core::trace::TraceContext;
use pregon_store::author::Author;
use pregon_store::config::{Change, Changes, Document, Head};
use pregon_store::node::RefusedDocument;
use pregon_store::{ConfigStore, StoreError};
use pregon_telemetry::{Kind, Span, Telemetry};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::configuration::Configuration;
use super::draft::Draft;
use crate::egress::Egress;

/// Documents in a page: a page is decoded in a few milliseconds.
const PAGE: usize = 500;
/// Documents decoded between two moments at which others may run.
const SLICE: usize = 32;
/// Commits in one answer.
const CHANGES: usize = 500;
/// How long the store may wait for a change before it answers with none.
const POLL: Duration = Duration::from_secs(5);
/// First wait after an error; doubled with each one more.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// Longest wait after an error: a store that is back is noticed within it.
const BACKOFF_LAST: Duration = Duration::from_secs(2);

/// What a follower works with.
pub struct FollowerOptions {
    /// Where the configuration is.
    pub store: Arc<dyn ConfigStore>,
    /// The master keys that secrets are sealed under, as they are at present.
    pub keys: watch::Receiver<Arc<Held>>,
    /// Tells when a document was refused.
    pub clock: SharedClock,
    /// Told what tenants say of their way out.
    pub egress: Egress,
    /// Where documents that are refused are reported.
    pub telemetry: Telemetry,
}

/// The one task that reads the configuration; see [`Follower::run`].
pub struct Follower {
    configuration: Configuration,
    clock: SharedClock,
    egress: Egress,
    telemetry: Telemetry,
    keys: watch::Receiver<Arc<Held>>,
    /// The keys that documents are read with.
    ring: Arc<KeyRing>,
    draft: Draft,
    /// What the draft shows; none: everything is to be read (again).
    known: Option<Head>,
    /// The store's revision when the last snapshot was made; 0 before.
    served: i64,
}

/// Why nothing new is served.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the configuration's history has a gap")]
    Gap,
    /// An emptied store is a fault, not an empty configuration.
    #[error("the store has no configuration any more; revision {0} is kept")]
    Emptied(i64),
}

impl Follower {
    /// A follower, to be run, and the handle on what it serves.
    pub fn new(options: FollowerOptions) -> (Self, Configuration) {
        let configuration = Configuration::new(options.store);
        let ring = Arc::clone(&options.keys.borrow().ring);
        let draft = Draft::new(Arc::clone(&ring));
        let follower = Self {
            configuration: configuration.clone(),
            clock: options.clock,
            egress: options.egress,
            telemetry: options.telemetry,
            keys: options.keys,
            ring,
            draft,
            known: None,
            served: 0,
        };
        (follower, configuration)
    }

    /// Reads and follows until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let following = async {
            let mut wait = None;
            loop {
                let ring = Arc::clone(&self.keys.borrow().ring);
                if ring.ids() != self.ring.ids() {
                    self.ring = ring;
                    self.known = None;
                }
                let (mut keys, ids) = (self.keys.clone(), self.ring.ids());
                let step = tokio::select! {
                    step = self.step() => step,
                    // What the step had read is read again.
                    () = other_keys(&mut keys, &ids) => continue,
                };
                match step {
                    Ok(()) => {
                        if wait.take().is_some() {
                            info!(revision = self.served, "configuration is followed again");
                        }
                    }
                    Err(obstacle) => {
                        if wait.is_none() {
                            warn!(%obstacle, revision = self.served, "configuration stands still");
                        }
                        let now = wait.map_or(BACKOFF_FIRST, |last: Duration| last * 2);
                        sleep(*wait.insert(now.min(BACKOFF_LAST))).await;
                    }
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = following => {}
        }
    }

    /// Reads everything, or waits for the next changes.
    async fn step(&mut self) -> Result<(), Obstacle> {
        let Some(known) = self.known else { return self.read_all().await };
        match self.configuration.store().changes(known, CHANGES, POLL).await? {
            Changes::Next(changes) if changes.is_empty() => Ok(()),
            Changes::Next(changes) => {
                let begun = Instant::now();
                let written = written(&changes);
                self.known = Some(apply(&mut self.draft, known, changes));
                self.serve();
                self.tell_arrival(written, begun);
                Ok(())
            }
            Changes::Gap => {
                warn!(revision = self.served, "configuration has a gap: everything is read again");
                self.known = None;
                Ok(())
            }
        }
    }

    /// Reads all documents and what changed meanwhile, then serves that.
    async fn read_all(&mut self) -> Result<(), Obstacle> {
        let store = self.configuration.store();
        let mut known = store.head().await?;
        if known.revision == 0 && self.served > 0 {
            return Err(Obstacle::Emptied(self.served));
        }
        let mut draft = Draft::new(Arc::clone(&self.ring));
        let mut after = String::new();
        loop {
            let page = store.documents(&after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.name);
            take_in(&mut draft, &page, &self.draft).await;
        }
        let head = store.head().await?;
        while known.revision < head.revision {
            match store.changes(known, CHANGES, Duration::ZERO).await? {
                // Nothing, where there should be something: the history is another.
                Changes::Next(changes) if changes.is_empty() => return Err(Obstacle::Gap),
                Changes::Next(changes) => known = apply(&mut draft, known, changes),
                Changes::Gap => return Err(Obstacle::Gap),
            }
        }
        self.draft = draft;
        self.known = Some(known);
        self.serve();
        Ok(())
    }

    /// Tells, in the trace of each write, that it is served here.
    fn tell_arrival(&self, written: Vec<(TraceContext, i64)>, begun: Instant) {
        let time = (self.telemetry.at(begun), self.telemetry.now());
        for (write, revision) in written.into_iter().filter(|it| self.telemetry.recording(&it.0)) {
            let own = write.at(self.telemetry.span_id());
            let name = "serve configuration";
            let mut span = Span::new(own, Some(write.span), Kind::Consumer, name, time)
                .with("pregon.configuration.revision", revision);
            span.links.push(write);
            self.telemetry.span(span);
        }
    }

    fn serve(&mut self) {
        let Some(known) = self.known else { return };
        for refused in self.draft.take_refused() {
            let (resource, revision, reason) = (refused.resource, refused.revision, refused.reason);
            error!(resource, revision, reason, "configuration document refused");
            let time = self.clock.now();
            self.telemetry.metrics().documents_refused.add(1, &[]);
            self.configuration.refuse(RefusedDocument { revision, resource, reason, time });
        }
        self.served = known.revision;
        let snapshot = self.draft.snapshot(known.revision);
        // Before: no attempt is made under rules older than what it is made for.
        self.egress.set_tenants(snapshot.tenants_egress());
        self.configuration.serve(snapshot);
    }
}

/// Waits until there are other keys than these.
async fn other_keys(keys: &mut watch::Receiver<Arc<Held>>, known: &[KeyId]) {
    if keys.wait_for(|held| held.ring.ids() != known).await.is_err() {
        // They stay as they are.
        std::future::pending::<()>().await;
    }
}

/// The traces of commits whose calls' traces are recorded, with their revisions.
fn written(changes: &[Change]) -> Vec<(TraceContext, i64)> {
    let trace = |change: &Change| {
        let text = Author::of(change)?.trace?;
        Some((TraceContext::from_text(&text)?, change.revision))
    };
    changes.iter().filter_map(trace).collect()
}

async fn take_in(draft: &mut Draft, page: &[Document], before: &Draft) {
    for slice in page.chunks(SLICE) {
        for document in slice {
            draft.put(&document.name, document.revision, &document.bytes, Some(before));
        }
        tokio::task::yield_now().await;
    }
}

/// Applies commits in order; answers with where that leads.
fn apply(draft: &mut Draft, mut known: Head, changes: Vec<Change>) -> Head {
    for mut change in changes {
        // Parents before children: a name sorts before the names that it begins.
        change.documents.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, bytes) in &change.documents {
            match bytes {
                Some(bytes) => draft.put(name, change.revision, bytes, None),
                None => draft.delete(name),
            }
        }
        known = Head { revision: change.revision, nonce: change.nonce, ..known };
    }
    known
}
