//! The engine's handle: connections, partitions, and how a step is called on one of them.

pub(super) mod args;
pub(super) mod bodies;
pub(super) mod fault;
pub(super) mod link;
pub(super) mod look;
pub(super) mod open;
pub(super) mod operation;
pub(super) mod operations;
pub(super) mod partition;
pub(super) mod script;
pub(super) mod scripts;
pub(super) mod server;
pub(super) mod steps;
pub(super) mod sure;
pub(super) mod tip;
pub(super) mod trim;
pub(super) mod value;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pregon_core::id::PartitionNo;
use redis::Value;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::StoreError;
use crate::batch::Token;
use crate::redis::engine::args::Args;
use crate::redis::engine::fault::{Fault, Result, bad};
use crate::redis::engine::link::Link;
use crate::redis::engine::open::Parts;
use crate::redis::engine::partition::{Kind, Partition, locked};
use crate::redis::engine::script::Script;
use crate::redis::engine::server::Promise;
use crate::redis::engine::steps::STEPS;
use crate::redis::engine::sure::Confirmer;
use crate::redis::engine::tip::Tip;
use crate::redis::layout::token;
use crate::redis::{Ahead, History, RedisOptions};
use crate::test_send::TESTS_MAX;

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
        if self.runs.load(Ordering::Relaxed)
            || !crate::redis::engine::open::raise(&self.main).await?
        {
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
