//! A partition, as one process sees it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pregon_core::id::PartitionNo;
use tokio::time::Instant;

use crate::redis::engine::operations::Operations;
use crate::redis::layout::entry::Found;
use crate::redis::layout::keys::{Key, Keys};

/// How long a guess is good for. Redis set back to an older state has a cursor below it, and then
/// a look above it would find nothing.
const GUESS_KEPT: Duration = Duration::from_secs(1);
/// How large an event is taken to be before any was seen.
const EVENT_BYTES_GUESS: usize = 4096;

/// Calls of one kind and partition go one at a time: that is what their sequence is good for, and
/// what makes batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::redis) enum Kind {
    Publish,
    Take,
    Due,
    TakeOver,
    Settle,
    TakeTests,
}

impl Kind {
    const ALL: [Kind; 6] =
        [Kind::Publish, Kind::Take, Kind::Due, Kind::TakeOver, Kind::Settle, Kind::TakeTests];

    pub fn letter(self) -> char {
        match self {
            Kind::Publish => 'p',
            Kind::Take => 't',
            Kind::Due => 'd',
            Kind::TakeOver => 'o',
            Kind::Settle => 's',
            Kind::TakeTests => 'x',
        }
    }
}

/// What is known here of where a partition's cursor stands.
#[derive(Clone, Copy, Debug)]
pub(in crate::redis) struct Guess {
    /// The cursor.
    pub cur: u64,
    /// When it was read.
    at: Instant,
}

/// A partition, as one process sees it.
pub(in crate::redis) struct Partition {
    pub no: PartitionNo,
    pub keys: Keys,
    /// The key that scripts are given.
    pub marks: String,
    /// Names the partition's life.
    pub epoch: Mutex<Vec<u8>>,
    /// The latest of each kind; held while a call is under way.
    operations: [tokio::sync::Mutex<Operations>; Kind::ALL.len()],
    pub guess: Mutex<Option<Guess>>,
    /// Held by a take: the next one reads on behind it, and not the same events.
    taking: tokio::sync::Mutex<()>,
    /// Bytes of the largest event of the last take.
    event_bytes: AtomicUsize,
}

impl Partition {
    /// A partition whose epoch is not known yet.
    pub fn new(no: PartitionNo, of: PartitionNo) -> Self {
        let keys = Keys::new(no, of);
        Self {
            no,
            marks: keys.key(Key::Marks),
            keys,
            epoch: Mutex::default(),
            operations: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            guess: Mutex::default(),
            taking: tokio::sync::Mutex::default(),
            event_bytes: AtomicUsize::new(EVENT_BYTES_GUESS),
        }
    }

    /// How many events to read for so many bytes, going by the last ones: what is read and does not
    /// fit is read for nothing, and all of it is in memory at once.
    pub fn expected(&self, want: usize, bytes: usize) -> usize {
        (bytes / self.event_bytes.load(Ordering::Relaxed).max(1)).clamp(1, want)
    }

    /// Notes how large events are.
    pub fn saw(&self, events: &[Found]) {
        let largest = events.iter().map(Found::len).max().unwrap_or(0);
        self.event_bytes.store(largest, Ordering::Relaxed);
    }

    /// The cursor, if it was read a moment ago.
    pub fn guess(&self) -> Option<Guess> {
        let guess = *locked(&self.guess);
        guess.filter(|guess| guess.at.elapsed() < GUESS_KEPT)
    }

    /// Notes where the cursor stands.
    pub fn guessed(&self, cur: u64) {
        *locked(&self.guess) = Some(Guess { cur, at: Instant::now() });
    }

    /// A turn to take new events, once no other take is under way.
    pub async fn turn_to_take(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.taking.lock().await
    }

    /// Operations of a kind, once none is under way.
    pub async fn operations(&self, kind: Kind) -> tokio::sync::MutexGuard<'_, Operations> {
        self.operations[kind as usize].lock().await
    }

    pub fn epoch(&self) -> Vec<u8> {
        locked(&self.epoch).clone()
    }
}

/// A lock whose holders cannot panic.
pub(in crate::redis) fn locked<T>(lock: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
