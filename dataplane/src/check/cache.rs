//! ALLOWED answers that are remembered, for as long as their callback says.
//!
//! A key stands for the callback, the revision that wrote it, its contract's revision and the data:
//! whoever changes one of them asks anew. Keys are 128 bits of two SipHashes whose keys are random
//! and never leave the process, so that nobody can find data that is taken for other data.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::snapshot::CallbackEntry;

/// Answers that are remembered: about a MiB.
const MOST: usize = 10_000;

/// A question to a callback, as it was when it was asked.
pub(super) type Key = (u64, u64);

/// What is remembered.
#[derive(Default)]
pub(super) struct Cache {
    hashers: (RandomState, RandomState),
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    answers: HashMap<Key, Allowed>,
    /// By age: the number is that of the answer.
    order: BTreeMap<u64, Key>,
    next: u64,
}

#[derive(Clone, Copy)]
struct Allowed {
    until: Instant,
    number: u64,
}

impl Cache {
    /// The key of a question.
    pub(super) fn key(&self, callback: &CallbackEntry, data: &[u8]) -> Key {
        let contract = &callback.contract;
        let question =
            (&callback.name, callback.revision, contract.id(), contract.revision(), data);
        (self.hashers.0.hash_one(question), self.hashers.1.hash_one(question))
    }

    /// Whether it is remembered that this is allowed.
    pub(super) fn allows(&self, key: Key, now: Instant) -> bool {
        self.known().answers.get(&key).is_some_and(|allowed| now < allowed.until)
    }

    /// Remembers that this is allowed. The answer that was remembered first makes room.
    pub(super) fn put(&self, key: Key, now: Instant, ttl: Duration) {
        let mut known = self.known();
        known.remove(key);
        if known.answers.len() >= MOST
            && let Some((_, oldest)) = known.order.pop_first()
        {
            known.answers.remove(&oldest);
        }
        let number = known.next;
        known.next += 1;
        known.order.insert(number, key);
        known.answers.insert(key, Allowed { until: now + ttl, number });
    }

    /// Forgets it.
    pub(super) fn remove(&self, key: Key) {
        self.known().remove(key);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn remove(&mut self, key: Key) {
        if let Some(allowed) = self.answers.remove(&key) {
            self.order.remove(&allowed.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn the_oldest_makes_room_and_a_new_answer_is_young_again() {
        let (cache, now) = (Cache::default(), Instant::now());
        let most = u64::try_from(MOST).unwrap();
        (0..most).for_each(|n| cache.put((n, n), now, TTL));
        cache.put((0, 0), now, TTL);
        cache.put((most, most), now, TTL);
        let known = |n| cache.allows((n, n), now);
        assert_eq!([known(0), known(1), known(2), known(most)], [true, false, true, true]);
        let kept = cache.known();
        assert_eq!((kept.answers.len(), kept.order.len()), (MOST, MOST));
    }

    #[tokio::test]
    async fn an_answer_is_remembered_for_its_time() {
        let (cache, now) = (Cache::default(), Instant::now());
        cache.put((1, 1), now, TTL);
        assert!(cache.allows((1, 1), now + TTL - Duration::from_millis(1)));
        assert!(!cache.allows((1, 1), now + TTL));
        cache.put((1, 1), now, TTL);
        cache.remove((1, 1));
        assert!(!cache.allows((1, 1), now));
        assert!(cache.known().order.is_empty());
    }
}
