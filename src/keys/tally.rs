//! Which master keys the store's documents are sealed under, and how many under each.
//!
//! All documents are read once, page by page, and then the changes are followed; what changes while
//! they are read comes again as a change. Of a document nothing is kept but a hash of its name and a
//! number that stands for its keys: some forty bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use pregon_core::model::{Resource, ResourceName};
use pregon_core::seal::KeyId;
use pregon_store::config::{Changes, Head};
use pregon_store::{ConfigStore, StoreError};

/// Documents in a page.
const PAGE: usize = 500;
/// Documents decoded between two moments at which others may run.
const SLICE: usize = 32;
/// Commits in one answer.
const CHANGES: usize = 500;
/// How long the store may wait for a change before it answers with none.
const POLL: Duration = Duration::from_secs(5);

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many documents have something sealed under a key.
    pub keys: BTreeMap<KeyId, u64>,
    /// How many may have something sealed and cannot be read.
    pub unreadable: u64,
    /// Whether all documents were counted; else nothing was.
    pub known: bool,
}

impl Counts {
    /// Whether some document is known to need a key.
    pub fn needs(&self, id: KeyId) -> bool {
        self.keys.get(&id).is_some_and(|count| *count > 0)
    }

    /// Whether a key must not go: something needs it, or it is not known that nothing does.
    pub fn may_need(&self, id: KeyId) -> bool {
        self.needs(id) || self.unreadable > 0 || !self.known
    }

    /// Whether something is known to be sealed.
    pub fn any(&self) -> bool {
        self.keys.values().any(|count| *count > 0)
    }
}

/// What is counted, and where the counting stands.
pub struct Tally {
    store: Arc<dyn ConfigStore>,
    known: Option<Head>,
    count: Count,
}

/// Documents with something sealed, by what it is sealed under.
#[derive(Default)]
struct Count {
    documents: HashMap<u64, Place>,
    /// How many of them cannot be read.
    unreadable: u64,
    /// Hashes names. Of a million, two meet once in 37 million starts.
    hasher: RandomState,
    /// Sets of keys that some document is or was sealed under, with how many are.
    sets: Vec<(BTreeSet<KeyId>, u64)>,
}

/// Under what a document is sealed.
#[derive(Clone, Copy)]
enum Place {
    /// The set of keys at this place.
    Under(usize),
    /// It cannot be read.
    Unreadable,
}

impl Tally {
    /// Nothing was read yet.
    pub fn new(store: Arc<dyn ConfigStore>) -> Self {
        Self { store, known: None, count: Count::default() }
    }

    /// Reads everything, or waits for the next changes and takes them in; what there is then.
    ///
    /// # Errors
    ///
    /// The store does not answer; what was counted stays.
    pub async fn step(&mut self) -> Result<Counts, StoreError> {
        let Some(known) = self.known else { return self.read_all().await };
        match self.store.changes(known, CHANGES, POLL).await? {
            Changes::Gap => self.known = None,
            Changes::Next(changes) => {
                for change in changes {
                    for (name, bytes) in &change.documents {
                        self.count.take_in(name, bytes.as_deref());
                    }
                    let (revision, nonce) = (change.revision, change.nonce);
                    self.known = Some(Head { revision, nonce, ..known });
                }
            }
        }
        Ok(self.count.counts())
    }

    async fn read_all(&mut self) -> Result<Counts, StoreError> {
        let head = self.store.head().await?;
        let (mut count, mut after) = (Count::default(), String::new());
        loop {
            let page = self.store.documents(&after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.name);
            for slice in page.chunks(SLICE) {
                slice.iter().for_each(|it| count.take_in(&it.name, Some(&it.bytes)));
                tokio::task::yield_now().await;
            }
        }
        (self.count, self.known) = (count, Some(head));
        Ok(self.count.counts())
    }
}

impl Count {
    /// A document as it was written; none: deleted.
    fn take_in(&mut self, name: &str, bytes: Option<&[u8]>) {
        let id = self.hasher.hash_one(name);
        match self.documents.remove(&id) {
            Some(Place::Under(old)) => self.sets[old].1 -= 1,
            Some(Place::Unreadable) => self.unreadable -= 1,
            None => {}
        }
        let Some((name, bytes)) = ResourceName::parse(name).zip(bytes) else { return };
        let place = match Resource::decode(&name, bytes).map(|read| read.master_keys()) {
            Ok(keys) if keys.is_empty() => return,
            Ok(keys) => self.under(keys),
            Err(_) if name.may_be_sealed() => {
                self.unreadable += 1;
                Place::Unreadable
            }
            Err(_) => return,
        };
        self.documents.insert(id, place);
    }

    /// One more under these keys.
    fn under(&mut self, keys: BTreeSet<KeyId>) -> Place {
        let known = self.sets.iter().position(|(set, _)| *set == keys);
        let place = known.unwrap_or_else(|| {
            self.sets.push((keys, 0));
            self.sets.len() - 1
        });
        self.sets[place].1 += 1;
        Place::Under(place)
    }

    fn counts(&self) -> Counts {
        let mut keys = BTreeMap::new();
        for (set, count) in self.sets.iter().filter(|(_, count)| *count > 0) {
            for id in set {
                *keys.entry(*id).or_default() += count;
            }
        }
        Counts { keys, unreadable: self.unreadable, known: true }
    }
}

#[cfg(test)]
mod tests {
    use pregon_core::clock::Timestamp;
    use pregon_core::id::SecretName;
    use pregon_core::model::{Common, Secret, SecretAlgorithm};
    use pregon_core::seal::KeyRing;
    use pregon_core::secret::SecretBytes;

    use super::*;

    /// A secret under this key.
    fn secret(name: &str, key: &str) -> (KeyId, Vec<u8>) {
        let ring = KeyRing::parse(&key.repeat(32)).unwrap();
        let sealed = ring.seal(&SecretBytes::new(vec![7; 24]), name, [1; 24]);
        let sealed = data_encoding::BASE64.encode(&sealed);
        let SecretName { signer, secret: id } = SecretName::parse(name).unwrap();
        let secret = Resource::Secret(Secret {
            signer,
            id,
            common: Common::default(),
            algorithm: SecretAlgorithm::Hmac,
            sealed,
            fingerprint: String::new(),
            activate_time: Timestamp::MIN,
            expire_time: None,
            revoke_time: None,
        });
        (ring.current(), secret.encode())
    }

    #[test]
    fn documents_are_counted_under_the_key_that_they_are_sealed_under_last() {
        let mut count = Count::default();
        let names = ["a", "b", "c"].map(|id| format!("tenants/t/subscriptions/s/secrets/{id}"));
        let of = |name: &String, key| secret(name, key);
        let (old, _) = of(&names[0], "11");
        let (new, _) = of(&names[0], "22");
        for name in &names {
            count.take_in(name, Some(&of(name, "11").1));
        }
        count.take_in("tenants/t/subscriptions/s/secrets/d", Some(b"{"));
        count.take_in("later/x", Some(b"{}"));
        let counted = |keys: &[(KeyId, u64)], unreadable| Counts {
            keys: keys.iter().copied().collect(),
            unreadable,
            known: true,
        };
        count.take_in("tenants/t", Some(b"{"));
        assert_eq!(count.counts(), counted(&[(old, 3)], 1));
        assert!(count.counts().may_need(new) && !count.counts().needs(new));
        count.take_in("tenants/t/subscriptions/s/secrets/d", Some(&of(&names[0], "22").1));
        assert_eq!(count.counts(), counted(&[(old, 3), (new, 1)], 0));
        count.take_in("tenants/t/subscriptions/s/secrets/d", Some(b"["));
        count.take_in("tenants/t/subscriptions/s/secrets/d", None);
        assert_eq!(count.counts(), counted(&[(old, 3)], 0));
        assert!(!count.counts().may_need(new) && Counts::default().may_need(new));
        count.take_in(&names[0], Some(&of(&names[0], "22").1));
        count.take_in(&names[0], Some(&of(&names[0], "22").1));
        assert_eq!(count.counts(), counted(&[(old, 2), (new, 1)], 0));
        count.take_in(&names[1], None);
        count.take_in(&names[2], Some(&of(&names[2], "22").1));
        assert_eq!(count.counts(), counted(&[(new, 2)], 0));
    }
}
