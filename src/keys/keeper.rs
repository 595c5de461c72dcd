//! The keys of a process while it runs: those of the file as it is now, and what the store needs.
//!
//! Four things move them. The file changes: keys come and go. The store's documents change: a key that
//! they need and that is not here makes the process not ready, until it is. A key that was taken out of
//! the file while documents need it stays in memory, loudly, and goes once none does: a slip of an
//! operator's stops nothing, and shows before the next start. And processes come and go: who seals does
//! so under the first key of the file that all of them have, so that nobody meets a key that it lacks,
//! in whatever order their files are changed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use pregon_core::id::NodeId;
use pregon_core::seal::{Held, KeyId, KeyRing};
use pregon_rpc::files::Followed;
use pregon_rpc::page::PageKey;
use pregon_rpc::portal::PortalKeys;
use pregon_store::{NodeRegistry, Store, StoreError};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::tally::{Counts, Tally};
use super::{KeyFile, Loaded};

/// What the page tokens' keys are derived for.
const PAGES: &str = "pregon page tokens";
/// What the portal tokens' keys are derived for.
const PORTAL: &str = "pregon portal tokens";

/// How often who seals looks which processes there are: a key seals soon after all have it.
const LOOK: Duration = Duration::from_secs(1);
/// How soon a store that failed is asked again.
const AGAIN: Duration = Duration::from_millis(250);

/// What a keeper is made of.
pub struct KeeperOptions<'a> {
    /// The keys as they were at the start, and their file.
    pub loaded: Loaded,
    /// The store that they are for.
    pub store: &'a Store,
    /// The name under which this process announces itself.
    pub id: NodeId,
    /// Whether it seals: whether it is a control plane.
    pub seals: bool,
    /// Cancelled when the process is to end.
    pub stop: CancellationToken,
}

/// Keeps a process's keys up to date.
pub struct Keeper {
    held: watch::Receiver<Arc<Held>>,
    pages: PageKey,
    portal: PortalKeys,
}

/// Who has which keys, of the other processes that are there.
type Others = Vec<Vec<KeyId>>;

/// What is moved, and what moves it.
struct Keeping {
    file: Arc<KeyRing>,
    counts: Counts,
    others: Others,
    seals: bool,
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
    /// The file cannot be read any more; or the store does not answer one that seals.
    pub async fn start(options: KeeperOptions<'_>) -> anyhow::Result<Self> {
        let KeeperOptions { loaded, store, id, seals, stop } = options;
        let followed = match loaded.file {
            Some(path) => Some(Followed::load(KeyFile(path)).await.context("--master-key-file")?),
            None => None,
        };
        let file = match &followed {
            Some(followed) => followed.current(),
            None => watch::channel(Arc::new(loaded.ring)).1,
        };
        let mut tally = Tally::new(Arc::clone(&store.config));
        let (mut counts, mut others) = (Counts::new(), Others::new());
        if seals {
            counts = tally.step().await.context("cannot read the store")?;
            others = look(&*store.nodes, &id).await.context("cannot read the store")?;
        }
        let ring = Arc::clone(&file.borrow());
        let held = watch::Sender::new(Arc::new(Held::new(KeyRing::clone(&ring))));
        let (pages, portal) = (PageKey::derive::<&[u8]>(&[]), PortalKeys::default());
        let keeper = Self { held: held.subscribe(), pages: pages.clone(), portal: portal.clone() };
        let keeping = Keeping { file: ring, counts, others, seals, held, pages, portal };
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
        let looked = watch::Sender::new(self.others.clone());
        let mut others = looked.subscribe();
        let counting = async {
            loop {
                match tally.step().await {
                    Ok(now) => {
                        counted.send_if_modified(|known| set(known, now));
                    }
                    Err(error) => {
                        tracing::debug!(%error, "the store's documents are not counted");
                        sleep(AGAIN).await;
                    }
                }
            }
        };
        let looking = async {
            if !seals {
                std::future::pending::<()>().await;
            }
            loop {
                sleep(LOOK).await;
                match look(&*registry, &id).await {
                    Ok(now) => {
                        looked.send_if_modified(|known| set(known, now));
                    }
                    Err(error) => tracing::debug!(%error, "the other processes are not known"),
                }
            }
        };
        let moving = async {
            loop {
                tokio::select! {
                    Ok(()) = file.changed() => {}
                    Ok(()) = counts.changed() => {}
                    Ok(()) = others.changed(), if seals => {}
                    else => return,
                }
                self.file = Arc::clone(&file.borrow_and_update());
                self.counts.clone_from(&counts.borrow_and_update());
                self.others.clone_from(&others.borrow_and_update());
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
    fn settle(&self, before: Option<&Held>) {
        let (held, kept) = decide(&self.file, &self.counts, &self.others, self.seals, before);
        let same = before.is_some_and(|before| {
            before.ring.ids() == held.ring.ids()
                && before.ring.current() == held.ring.current()
                && before.given == held.given
        });
        if !same {
            tell(&held, &kept, before, self.seals);
            self.pages.change(&held.ring.derive_each(PAGES));
            self.portal.change(held.ring.derive_each(PORTAL));
        }
        let ring = match before {
            Some(before) if same => Arc::clone(&before.ring),
            Some(_) | None => held.ring,
        };
        self.held.send_replace(Arc::new(Held { ring, ..held }));
    }
}

/// The keys that a process has, of its file, what its store needs and who else is there; and those of
/// them that are not in the file any more.
fn decide(
    file: &KeyRing,
    counts: &Counts,
    others: &Others,
    seals: bool,
    before: Option<&Held>,
) -> (Held, Vec<KeyId>) {
    let given = file.ids();
    let had = before.map(|before| before.ring.ids()).unwrap_or_default();
    let needed = |id: &KeyId| counts.get(id).is_some_and(|count| *count > 0);
    let kept: Vec<_> = had.into_iter().filter(|id| !file.has(*id) && needed(id)).collect();
    // What most is sealed under is what everybody had until now.
    let most = counts.iter().filter(|(id, _)| file.has(**id)).max_by_key(|(_, count)| **count);
    let until_now = before.map(|before| before.ring.current()).filter(|id| file.has(*id));
    let sealing = match seals {
        true => file.choose(others, until_now.or(most.map(|(id, _)| *id))),
        false => file.current(),
    };
    let mut ring = file.clone();
    if let Some(before) = before {
        ring = ring.keeping(&before.ring, &kept);
    }
    let ring = Arc::new(ring.sealing_under(sealing));
    (Held { ring, given, documents: counts.clone() }, kept)
}

/// Puts a value in the place of another; whether they differ.
fn set<T: PartialEq>(known: &mut T, now: T) -> bool {
    let differ = *known != now;
    *known = now;
    differ
}

/// The keys of the other processes that are there and say so.
async fn look(registry: &dyn NodeRegistry, own: &NodeId) -> Result<Others, StoreError> {
    let (nodes, now) = registry.nodes().await?;
    let others = nodes.into_iter().filter(|it| it.id != *own && it.is_alive(now));
    let sets: BTreeSet<_> = others.map(|it| it.master_keys).filter(|it| !it.is_empty()).collect();
    Ok(sets.into_iter().collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(keys: &str) -> KeyRing {
        let text: Vec<_> = keys.split(' ').map(|key| key.repeat(32)).collect();
        KeyRing::parse(&text.join(" ")).unwrap()
    }

    fn id(key: &str) -> KeyId {
        ring(key).current()
    }

    #[test]
    fn a_new_first_key_seals_once_all_have_it() {
        let counts = Counts::from([(id("11"), 5)]);
        let before = Held::new(ring("11"));
        let file = ring("22 11");
        let behind = vec![vec![id("11")], vec![id("22"), id("11")]];
        let (held, kept) = decide(&file, &counts, &behind, true, Some(&before));
        assert_eq!((held.ring.current(), kept), (id("11"), vec![]));
        assert_eq!((held.given.clone(), held.ring.ids()), (file.ids(), file.ids()));
        let all = vec![vec![id("22"), id("11")]];
        let (held, _) = decide(&file, &counts, &all, true, Some(&held));
        assert_eq!(held.ring.current(), id("22"));
        // A start among processes that have nothing in common goes on with what was used.
        let apart = vec![vec![id("11")], vec![id("22")]];
        let (held, _) = decide(&file, &counts, &apart, true, None);
        assert_eq!(held.ring.current(), id("11"));
    }

    #[test]
    fn a_key_that_is_needed_stays_in_memory_and_is_not_given() {
        let before = Held::new(ring("22 11"));
        let needed = Counts::from([(id("11"), 1), (id("22"), 4)]);
        let (held, kept) = decide(&ring("22"), &needed, &Others::new(), true, Some(&before));
        assert_eq!((kept, held.given.clone()), (vec![id("11")], vec![id("22")]));
        assert_eq!(held.ring.ids(), [id("22"), id("11")]);
        assert_eq!(held.fault(), None);
        let done = Counts::from([(id("22"), 5)]);
        let (held, kept) = decide(&ring("22"), &done, &Others::new(), true, Some(&held));
        assert_eq!((kept, held.ring.ids()), (vec![], vec![id("22")]));
        // After a start it is nowhere.
        let (held, _) = decide(&ring("22"), &needed, &Others::new(), true, None);
        assert!(held.fault().unwrap().contains(&id("11").to_string()));
    }

    #[test]
    fn a_key_that_the_file_lost_does_not_seal() {
        let before = Held::new(ring("11"));
        let counts = Counts::from([(id("11"), 5)]);
        let (held, kept) = decide(&ring("22"), &counts, &Others::new(), true, Some(&before));
        assert_eq!((held.ring.current(), kept), (id("22"), vec![id("11")]));
    }
}
