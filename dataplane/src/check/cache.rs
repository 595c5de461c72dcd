//! ALLOWED answers that are remembered, for as long as their callback says.
//!
//! Answers may overtake each other: the one to the later question counts. So a denial leaves behind
//! when it was asked for, as long as there is room.
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
    answers: HashMap<Key, Answer>,
    /// By age: the number is that of the answer.
    order: BTreeMap<u64, Key>,
    next: u64,
}

#[derive(Clone, Copy)]
struct Answer {
    /// When it was asked for.
    asked: Instant,
    /// It is allowed before this; none: it was denied.
    until: Option<Instant>,
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
        let known = self.known();
        known.answers.get(&key).and_then(|answer| answer.until).is_some_and(|until| now < until)
    }

    /// Remembers that this is allowed, as was asked at `asked` and answered `now`. The answer that was
    /// remembered first makes room.
    pub(super) fn put(&self, key: Key, (asked, now): (Instant, Instant), ttl: Duration) {
        self.known().note(key, asked, Some(now + ttl));
    }

    /// Forgets it: it is denied, as was asked at `asked`.
    pub(super) fn remove(&self, key: Key, asked: Instant) {
        self.known().note(key, asked, None);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn note(&mut self, key: Key, asked: Instant, until: Option<Instant>) {
        if let Some(answer) = self.answers.get(&key) {
            if answer.asked > asked {
                return;
            }
            self.order.remove(&answer.number);
            self.answers.remove(&key);
        }
        if self.answers.len() >= MOST
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.answers.remove(&oldest);
        }
        let number = self.next;
        self.next += 1;
        self.order.insert(number, key);
        self.answers.insert(key, Answer { asked, until, number });
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
        (0..most).for_each(|n| cache.put((n, n), (now, now), TTL));
        cache.put((0, 0), (now, now), TTL);
        cache.put((most, most), (now, now), TTL);
        let known = |n| cache.allows((n, n), now);
        assert_eq!([known(0), known(1), known(2), known(most)], [true, false, true, true]);
        let kept = cache.known();
        assert_eq!((kept.answers.len(), kept.order.len()), (MOST, MOST));
    }

    #[tokio::test]
    async fn an_answer_is_remembered_for_its_time() {
        let (cache, now) = (Cache::default(), Instant::now());
        cache.put((1, 1), (now, now), TTL);
        assert!(cache.allows((1, 1), now + TTL - Duration::from_millis(1)));
        assert!(!cache.allows((1, 1), now + TTL));
        cache.put((1, 1), (now, now), TTL);
        cache.remove((1, 1), now);
        assert!(!cache.allows((1, 1), now));
    }

    #[tokio::test]
    async fn the_answer_to_the_later_question_counts() {
        let (cache, first) = (Cache::default(), Instant::now());
        let (second, later) = (first + TTL / 4, first + TTL / 2);
        cache.remove((1, 1), second);
        cache.put((1, 1), (first, later), TTL);
        assert!(!cache.allows((1, 1), later), "the first was slow, and things have changed since");
        cache.put((1, 1), (later, later), TTL);
        cache.remove((1, 1), second);
        assert!(cache.allows((1, 1), later));
    }
}
