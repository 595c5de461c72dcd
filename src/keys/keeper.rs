//! The keys of a process while it runs: those of the file as it is now, and what the store needs.
//!
//! Four things move them. The file changes: keys come and go. The store's documents change: a key that
//! they need and that is not here makes the process not ready, until it is. A key that was taken out of
//! the file while documents need it stays in memory, loudly, and goes once none does: a slip of an
//! operator's stops nothing, and shows before the next start. And processes come and go: who seals does
//! so under the first key of the file that all of them have, so that nobody meets a key that it lacks,
//! in whatever order their files are changed ([`super::choice`]).

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use pregon_core::id::NodeId;
use pregon_core::seal::{Held, KeyId, KeyRing};
use pregon_rpc::page::PageKey;
use pregon_rpc::portal::PortalKeys;
use pregon_store::node::LOST_AFTER;
use pregon_store::{NodeRegistry, Store, StoreError};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Loaded;
use super::choice::{Decision, Known, Other};
use super::tally::{Counts, Tally};

/// What the page tokens' keys are derived for.
const PAGES: &str = "pregon page tokens";
/// What the portal tokens' keys are derived for.
const PORTAL: &str = "pregon portal tokens";

/// How often who seals looks which processes there are: a key seals soon after all have it.
const LOOK: Duration = Duration::from_secs(1);
/// How soon a store that failed is asked again.
const AGAIN: Duration = Duration::from_millis(250);

/// Whether a process seals, and beside whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seals {
    /// It only opens: it is no control plane.
    Never,
    /// It does, and nobody else uses its store.
    Alone,
    /// It does, and others use its store.
    Among,
}

/// What a keeper is made of.
pub struct KeeperOptions<'a> {
    /// The keys at the start, and their file.
    pub loaded: Loaded,
    /// The store that they are for.
    pub store: &'a Store,
    /// The name under which this process announces itself.
    pub id: NodeId,
    /// Whether it seals.
    pub seals: Seals,
    /// Cancelled when the process is to end.
    pub stop: CancellationToken,
}

/// Keeps a process's keys up to date.
pub struct Keeper {
    held: watch::Receiver<Arc<Held>>,
    pages: PageKey,
    portal: PortalKeys,
}

/// What was seen of the other processes.
#[derive(Clone, PartialEq)]
struct Seen {
    others: Vec<Other>,
    /// Since when every look at them had an answer; none: the last had none.
    since: Option<Instant>,
}

/// What is moved, and what moves it.
struct Keeping {
    file: Arc<KeyRing>,
    counts: Counts,
    seen: Seen,
    /// The key that is to take over, and since when it could.
    waits: Option<(KeyId, Instant)>,
    seals: Seals,
    held: watch::Sender<Arc<Held>>,
    pages: PageKey,
    portal: PortalKeys,
}

impl Keeper {
    /// Keeps them from now on, until the process ends. Who seals has counted the store's documents
    /// by then, and knows the other processes.
    ///
    /// # Errors
    ///
    /// The store does not answer one that seals.
    pub async fn start(options: KeeperOptions<'_>) -> anyhow::Result<Self> {
        let KeeperOptions { loaded, store, id, seals, stop } = options;
        let (file, followed) = match loaded {
            Loaded::File(file) => (file.current(), Some(file)),
            Loaded::Memory(ring) => (watch::channel(ring).1, None),
        };
        let mut tally = Tally::new(Arc::clone(&store.config));
        let (mut counts, mut others) = (Counts::default(), Vec::new());
        if seals != Seals::Never {
            counts = tally.step().await.context("cannot read the store")?;
            others = look(&*store.nodes, &id).await.context("cannot read the store")?;
        }
        let seen = Seen { others, since: Some(Instant::now()) };
        let ring = Arc::clone(&file.borrow());
        let held = watch::Sender::new(Arc::new(Held::new(KeyRing::clone(&ring))));
        let (pages, portal) = (PageKey::derive::<&[u8]>(&[]), PortalKeys::default());
        let keeper = Self { held: held.subscribe(), pages: pages.clone(), portal: portal.clone() };
        let mut keeping =
            Keeping { file: ring, counts, seen, waits: None, seals, held, pages, portal };
        keeping.settle(None);
        let registry = Arc::clone(&store.nodes);
        tokio::spawn(async move {
            let following = async {
                tokio::join!(
                    async {
                        match followed {
                            Some(followed) => followed.follow().await,
                            None => std::future::pending().await,
                        }
                    },
                    keeping.keep(file, tally, registry, id),
                )
            };
            tokio::select! {
                () = stop.cancelled() => {}
                _ = following => {}
            }
        });
        Ok(keeper)
    }

    /// The keys at present.
    pub fn held(&self) -> watch::Receiver<Arc<Held>> {
        self.held.clone()
    }

    /// The keys of page and resume tokens, which outlive the process as the master keys do: control
    /// planes continue each other's lists, and a watch goes on where one before it was cut.
    pub fn pages(&self) -> PageKey {
        self.pages.clone()
    }

    /// The keys of portal tokens, which every control plane with the same master keys lets in.
    pub fn portal(&self) -> PortalKeys {
        self.portal.clone()
    }

    /// Says which key the process lacks, for whoever asks whether it is ready.
    pub fn fault(&self) -> impl Fn() -> Option<String> + Send + 'static {
        let held = self.held.clone();
        move || held.borrow().fault()
    }
}

impl Keeping {
    /// Moves the keys with whatever moves them, without end.
    async fn keep(
        mut self,
        mut file: watch::Receiver<Arc<KeyRing>>,
        mut tally: Tally,
        registry: Arc<dyn NodeRegistry>,
        id: NodeId,
    ) {
        let seals = self.seals;
        let counted = watch::Sender::new(self.counts.clone());
        let mut counts = counted.subscribe();
        let looked = watch::Sender::new(self.seen.clone());
        let mut seen = looked.subscribe();
        let counting = async {
            let mut counting = true;
            loop {
                match tally.step().await {
                    Ok(now) => {
                        if !std::mem::replace(&mut counting, true) {
                            tracing::info!("the store's documents are counted again");
                        }
                        counted.send_if_modified(|known| set(known, now));
                    }
                    Err(error) => {
                        if std::mem::take(&mut counting) {
                            tracing::warn!(
                                %error,
                                "the store's documents are not counted: which master keys they need \
                                 is not known"
                            );
                        }
                        sleep(AGAIN).await;
                    }
                }
            }
        };
        let looking = async {
            if seals == Seals::Never {
                std::future::pending::<()>().await;
            }
            let mut looks = true;
            loop {
                sleep(LOOK).await;
                // It is sent whether or not it is new: a key that takes over waits for time to pass.
                match look(&*registry, &id).await {
                    Ok(others) => {
                        if !std::mem::replace(&mut looks, true) {
                            tracing::info!("the other processes are known again");
                        }
                        looked.send_modify(|seen| {
                            seen.since = seen.since.or(Some(Instant::now()));
                            seen.others = others;
                        });
                    }
                    Err(error) => {
                        if std::mem::take(&mut looks) {
                            tracing::warn!(
                                %error,
                                "the other processes are not known: no new master key takes over"
                            );
                        }
                        looked.send_modify(|seen| seen.since = None);
                    }
                }
            }
        };
        let moving = async {
            loop {
                tokio::select! {
                    Ok(()) = file.changed() => {}
                    Ok(()) = counts.changed() => {}
                    Ok(()) = seen.changed() => {}
                    else => return,
                }
                self.file = Arc::clone(&file.borrow_and_update());
                self.counts.clone_from(&counts.borrow_and_update());
                self.seen.clone_from(&seen.borrow_and_update());
                let before = Arc::clone(&self.held.borrow());
                self.settle(Some(&before));
            }
        };
        tokio::select! {
            () = counting => {}
            () = looking => {}
            () = moving => {}
        }
    }

    /// Makes the keys of what is known, and gives them to everybody.
    fn settle(&mut self, before: Option<&Held>) {
        let Decision { held, kept, waits } = self.decide(before);
        let now = Instant::now();
        let since = self.waits.filter(|(id, _)| waits == Some(*id)).map_or(now, |(_, since)| since);
        self.waits = waits.map(|id| (id, since));
        let same = before.is_some_and(|before| {
            before.ring.ids() == held.ring.ids()
                && before.ring.current() == held.ring.current()
                && before.given == held.given
                && before.ring.wrapped().eq(held.ring.wrapped())
        });
        if !same {
            tell(&held, &kept, before, self.seals != Seals::Never);
            self.pages.change(&held.ring.derive_each(PAGES));
            self.portal.change(held.ring.derive_each(PORTAL));
        }
        let ring = match before {
            Some(before) if same => Arc::clone(&before.ring),
            Some(_) | None => held.ring,
        };
        let held = Held { ring, ..held };
        if let Some(before) = before
            && same
            && before.documents == held.documents
            && (before.unreadable, before.settled) == (held.unreadable, held.settled)
            && before.apart == held.apart
        {
            return;
        }
        self.held.send_replace(Arc::new(held));
    }

    fn decide(&self, before: Option<&Held>) -> Decision {
        // A look that had no answer starts the time anew: somebody who lacks the key may be there.
        let for_long = self.seen.since.map(|since| since.elapsed());
        let waited = self.waits.zip(for_long).map(|((id, since), known)| {
            (id, if self.seals == Seals::Alone { LOST_AFTER } else { known.min(since.elapsed()) })
        });
        Known {
            file: &self.file,
            counts: &self.counts,
            others: &self.seen.others,
            seals: self.seals != Seals::Never,
            waited,
            settled: self.seals != Seals::Among || for_long.is_some_and(|time| time >= LOST_AFTER),
            before,
        }
        .decide()
    }
}

/// Puts a value in the place of another; whether they differ.
fn set<T: PartialEq>(known: &mut T, now: T) -> bool {
    let differ = *known != now;
    *known = now;
    differ
}

/// The other processes that are there, by name.
async fn look(registry: &dyn NodeRegistry, own: &NodeId) -> Result<Vec<Other>, StoreError> {
    let (nodes, now) = registry.nodes().await?;
    let others = nodes.into_iter().filter(|it| it.id != *own && it.is_alive(now));
    let mut others: Vec<_> =
        others.map(|it| Other { name: it.name(), keys: it.master_keys }).collect();
    others.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(others)
}

/// Says in the log what became of the keys.
fn tell(held: &Held, kept: &[KeyId], before: Option<&Held>, seals: bool) {
    let (ids, had) = (held.ring.ids(), before.map(|it| it.ring.ids()).unwrap_or_default());
    for id in &ids {
        if kept.contains(id) && before.is_some_and(|before| before.given.contains(id)) {
            let documents = held.documents.get(id).copied().unwrap_or(0);
            tracing::error!(
                master_key = %id,
                documents,
                "a master key was taken out of the file while the store needs it: it stays in memory \
                 until it is needed no more, and the process is not ready after its next start; put \
                 it back, or run pregon keys reseal"
            );
        } else if before.is_some() && !had.contains(id) {
            tracing::info!(master_key = %id, "a master key was added");
        }
    }
    for id in had.iter().filter(|id| !ids.contains(id)) {
        tracing::info!(master_key = %id, "a master key is gone");
    }
    let sealing = held.ring.current();
    if seals && before.is_none_or(|before| before.ring.current() != sealing) {
        let first = held.given.first() == Some(&sealing);
        tracing::info!(master_key = %sealing, first, "this master key seals");
    }
}
