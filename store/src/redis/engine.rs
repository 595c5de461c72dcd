//! The engine's handle: connections, partitions, and how a step is called on one of them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use pregon_core::id::PartitionNo;
use redis::Value;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::fault::{Fault, Result, bad};
use super::layout::entry::Found;
use super::layout::keys::{Key, Keys};
use super::layout::token;
use super::link::Link;
use super::open::Parts;
use super::operation::Operations;
use super::script::Script;
use super::server::Promise;
use super::steps::STEPS;
use super::sure::Confirmer;
use super::watch::Tip;
use super::{Ahead, History, RedisOptions};
use crate::StoreError;
use crate::batch::Token;
use crate::test_send::TESTS_MAX;

/// Calls of one kind and partition go one at a time: that is what their sequence is good for, and
/// what makes batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
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

    fn letter(self) -> char {
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
pub(super) struct Guess {
    /// The cursor.
    pub cur: u64,
    /// When it was read.
    at: Instant,
}

/// How long a guess is good for. Redis set back to an older state has a cursor below it, and then
/// a look above it would find nothing.
const GUESS_KEPT: Duration = Duration::from_secs(1);

/// How large an event is taken to be before any was seen.
const EVENT_BYTES_GUESS: usize = 4096;

/// A partition, as one process sees it.
pub(super) struct Partition {
    pub no: PartitionNo,
    pub keys: Keys,
    /// The key that scripts are given.
    marks: String,
    /// Names the partition's life.
    epoch: Mutex<Vec<u8>>,
    /// The latest of each kind; held while a call is under way.
    operations: [tokio::sync::Mutex<Operations>; Kind::ALL.len()],
    guess: Mutex<Option<Guess>>,
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

    fn epoch(&self) -> Vec<u8> {
        locked(&self.epoch).clone()
    }
}

/// A lock whose holders cannot panic.
fn locked<T>(lock: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The queue and the log of one process on Redis.
pub struct Engine {
    /// For all calls but publishes.
    pub(super) main: Link,
    /// For publishes, which are large.
    pub(super) publish: Link,
    /// For the bell.
    pub(super) block: Link,
    /// Where the log ended a moment ago, for who watches it.
    pub(super) tip: Tip,
    /// How many more test sends this process may have under way.
    pub(super) tests: Semaphore,
    pub(super) partitions: Vec<Partition>,
    /// What the server promises.
    pub(super) promise: Promise,
    /// What a publish waits for after it ran.
    pub(super) confirmer: Confirmer,
    pub(super) history: History,
    /// Names this process: no token and no sequence of it was ever another's.
    pub(super) incarnation: u64,
    ahead: Ahead,
    tokens: AtomicU64,
    /// Whether the store's form has runs.
    runs: AtomicBool,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("partitions", &self.partitions.len()).finish_non_exhaustive()
    }
}

impl Engine {
    /// Puts an engine together and reads its partitions' epochs; a partition without one begins
    /// its life now.
    pub(super) async fn new(parts: Parts, options: &RedisOptions) -> Result<Self> {
        let engine = Self {
            main: parts.main,
            publish: parts.publish,
            block: parts.block,
            tip: Tip::default(),
            tests: Semaphore::new(TESTS_MAX),
            partitions: (0..parts.partitions)
                .map(|p| Partition::new(p, parts.partitions))
                .collect(),
            promise: parts.promise,
            confirmer: parts.confirmer,
            history: options.history.clone(),
            incarnation: random()?,
            ahead: options.ahead.clone(),
            tokens: AtomicU64::new(1),
            runs: AtomicBool::new(parts.runs),
        };
        for partition in &engine.partitions {
            engine.learn_epoch(partition).await?;
        }
        Ok(engine)
    }

    /// By how many milliseconds the store's time is ahead of the server's.
    pub(super) fn ahead(&self) -> i64 {
        self.ahead.millis()
    }

    /// The partition of that number.
    pub(super) fn partition(&self, no: PartitionNo) -> std::result::Result<&Partition, StoreError> {
        let found = self.partitions.get(usize::from(no));
        found.ok_or_else(|| StoreError::Unavailable(format!("there is no partition {no}")))
    }

    /// A token that was never given before.
    pub(super) fn new_token(&self, partition: PartitionNo) -> Token {
        token::make(self.incarnation, partition, self.tokens.fetch_add(1, Ordering::Relaxed))
    }

    /// The first of so many tokens that were never given before.
    pub(super) fn new_tokens(&self, partition: PartitionNo, count: u64) -> Token {
        token::make(self.incarnation, partition, self.tokens.fetch_add(count, Ordering::Relaxed))
    }

    /// Runs a step that is the same when it is repeated.
    pub(super) async fn step<T: DeserializeOwned>(
        &self,
        partition: &Partition,
        script: &Script,
        args: Args,
    ) -> Result<T> {
        self.send(&self.main, partition, script, None, args).await
    }

    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        link: &Link,
        partition: &Partition,
        script: &Script,
        operation: Option<(Kind, u64)>,
        args: Args,
    ) -> Result<T> {
        let mut args = self.head(partition, operation, args);
        for again in [true, false] {
            let key = &partition.marks;
            match link.run(script, key, &args).await {
                Err(Fault::Epoch) if again => {
                    self.begin_anew(partition).await?;
                    args[1] = partition.epoch();
                }
                other => return other,
            }
        }
        Err(Fault::Epoch)
    }

    /// Under which the answer to its last operation of a kind is kept.
    pub(super) fn field(&self, kind: Kind) -> String {
        token::call(self.incarnation, kind.letter())
    }

    /// A step's arguments behind those that every step has.
    fn head(
        &self,
        partition: &Partition,
        operation: Option<(Kind, u64)>,
        args: Args,
    ) -> Vec<Vec<u8>> {
        let (field, sequence) = match operation {
            Some((kind, sequence)) => (self.field(kind), sequence),
            None => (String::new(), 0),
        };
        let ahead = self.ahead.millis().to_string().into_bytes();
        let head = [ahead, partition.epoch(), field.into_bytes(), sequence.to_string().into()];
        head.into_iter().chain(args.0).collect()
    }

    /// A partition that lost its epoch was emptied: what was in it is gone, and it begins anew, so
    /// that what is published from now on flows.
    async fn begin_anew(&self, partition: &Partition) -> Result<()> {
        let before = partition.epoch();
        self.learn_epoch(partition).await?;
        *locked(&partition.guess) = None;
        if !same_life(&before, &partition.epoch()) {
            tracing::error!(
                partition = partition.no,
                "Redis was emptied, or is another one: events and deliveries that were in this \
                 partition are gone, and it begins anew"
            );
        }
        Ok(())
    }

    /// Has the store's form raised to one with runs, as soon as that can be.
    pub(super) async fn raise(&self) -> Result<()> {
        if self.runs.load(Ordering::Relaxed) || !super::open::raise(&self.main).await? {
            return Ok(());
        }
        self.runs.store(true, Ordering::Relaxed);
        for partition in &self.partitions {
            self.learn_epoch(partition).await?;
        }
        Ok(())
    }

    async fn learn_epoch(&self, partition: &Partition) -> Result<()> {
        loop {
            let fresh = format!("{:016x}", random()?);
            let mut pipeline = redis::pipe();
            pipeline.cmd("HSETNX").arg(&partition.marks).arg("epoch").arg(fresh);
            pipeline.cmd("HGET").arg(&partition.marks).arg("epoch");
            let mut answers = self.main.pipeline(&pipeline).await?;
            let epoch = match answers.pop() {
                Some(Value::BulkString(epoch)) => epoch,
                other => return Err(bad("a partition's epoch", other)),
            };
            let fenced = epoch.last() == Some(&KNOWS_RUNS);
            locked(&partition.epoch).clone_from(&epoch);
            if fenced || !self.runs.load(Ordering::Relaxed) {
                return Ok(());
            }
            let args = [self.ahead.millis().to_string().into_bytes(), epoch];
            let done = self.main.run::<bool>(&STEPS.fence, &partition.marks, &args).await;
            if !matches!(done, Ok(_) | Err(Fault::Epoch)) {
                return done.map(|_| ()); // else it is another one now
            }
        }
    }
}

/// What is behind the epoch of a partition that may have runs.
const KNOWS_RUNS: u8 = 0xFF;

/// An epoch as it was before the partition might have runs.
pub(super) fn life(epoch: &[u8]) -> &[u8] {
    epoch.strip_suffix(&[KNOWS_RUNS]).unwrap_or(epoch)
}

/// Whether two epochs are of one life of a partition.
fn same_life(one: &[u8], other: &[u8]) -> bool {
    life(one) == life(other)
}

/// Random bits from the system.
fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| Fault::Corrupt(format!("the system gives no random bits: {error}")))?;
    Ok(u64::from_le_bytes(bytes))
}

/// A step's own arguments, in order.
#[derive(Clone, Default, Hash)]
pub(super) struct Args(Vec<Vec<u8>>);

impl Args {
    pub fn text(mut self, value: impl std::fmt::Display) -> Self {
        self.push_text(value);
        self
    }

    pub fn millis(self, value: Duration) -> Self {
        self.text(value.as_millis())
    }

    /// What Lua reads as a table.
    pub fn table(mut self, value: &impl serde::Serialize) -> Result<Self> {
        self.push_table(value)?;
        Ok(self)
    }

    pub fn push_text(&mut self, value: impl std::fmt::Display) {
        self.0.push(value.to_string().into_bytes());
    }

    pub fn push_bytes(&mut self, value: Vec<u8>) {
        self.0.push(value);
    }

    pub fn push_table(&mut self, value: &impl serde::Serialize) -> Result<()> {
        let packed = rmp_serde::to_vec(value)
            .map_err(|error| Fault::Corrupt(format!("an argument: {error}")))?;
        self.0.push(packed);
        Ok(())
    }
}
