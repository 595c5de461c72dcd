//! Keeping history within its bounds: one process for each partition at a time, in small steps.
//!
//! Events go from the head of their stream, oldest first; one that has a pending delivery, or a
//! failed one that is kept longer, is spared: its entry is saved and looked at again when a delivery
//! of it ends, and every hour. A chunk of the log goes when all events that it tells of are behind
//! the trim mark; one that tells of trouble when none of them is spared any more. What must stay,
//! stays, whatever the bounds.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use pregon_core::clock::Timestamp;
use redis::Value;

use crate::redis::config;
use crate::redis::engine::Engine;
use crate::redis::engine::args::Args;
use crate::redis::engine::fault::Result;
use crate::redis::engine::partition::Partition;
use crate::redis::engine::steps::STEPS;
use crate::redis::engine::value;
use crate::redis::layout::chunk::{Chunk, Highest, Leads, Stream};
use crate::redis::layout::keys::Key;
use crate::redis::layout::stream::Row;
use crate::redis::layout::token;
use crate::redis::log::{attempts, rewritten};

/// How often there is a look at each partition.
const EVERY: Duration = Duration::from_secs(1);
/// How long a process keeps a partition to itself.
const LEASE: Duration = Duration::from_secs(10);
/// Events in one step.
const EVENTS: usize = 200;
/// Chunks in one step.
const CHUNKS: usize = 50;
/// Rounds of one look, so that other partitions get theirs.
const ROUNDS: usize = 50;
/// When a spared event is looked at again.
const AGAIN: Duration = Duration::from_secs(3600);
/// How long what a process was answered is kept.
const CALLS_KEPT: Duration = Duration::from_secs(600);
/// How long the mark of a cancelled delivery is left alone.
const MARKS_KEPT: Duration = Duration::from_secs(3600);
/// Buckets of ids that one step drops.
const BUCKETS: usize = 500;

/// Looks after the partitions until the engine is gone.
pub(in crate::redis) async fn run(engine: Weak<Engine>) {
    let mut places: HashMap<_, Places> = HashMap::new();
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(engine) = engine.upgrade() else { return };
        if let Err(fault) = engine.raise().await {
            tracing::debug!(?fault, "the store's form was not raised");
        }
        for partition in &engine.partitions {
            let from = places.entry(partition.no).or_default();
            if let Err(fault) = look(&engine, partition, from).await {
                tracing::debug!(partition = partition.no, ?fault, "history was not trimmed");
            }
        }
    }
}

/// Where the next look at chunks of a partition begins that are not removed in their order.
#[derive(Default)]
struct Places {
    /// At those that tell of trouble.
    trouble: u64,
    /// At those that were written anew.
    rewritten: u64,
}

async fn look(engine: &Arc<Engine>, partition: &Partition, from: &mut Places) -> Result<()> {
    if !mine(engine, partition).await? {
        return Ok(());
    }
    let now = engine.now().await?;
    let bound = bound(engine, partition, now).await?;
    for _ in 0..ROUNDS {
        let more = trim(engine, partition, bound, now).await?;
        let more_chunks = chunks(engine, partition, from).await?;
        if !more && !more_chunks {
            break;
        }
    }
    for _ in 0..ROUNDS {
        if !sweep(engine, partition).await? {
            break;
        }
    }
    // Whoever has the first partition looks after what belongs to none.
    if partition.no == 0 {
        let kept = &engine.history.audit;
        for _ in 0..ROUNDS {
            if !config::audit::trim(&engine.main, engine.ahead(), now, kept).await? {
                break;
            }
        }
    }
    Ok(())
}

/// Whether this process has the partition to itself for a while.
async fn mine(engine: &Engine, partition: &Partition) -> Result<bool> {
    let key = partition.keys.key(Key::Janitor);
    let own = token::process(engine.incarnation);
    let mut cmd = redis::cmd("SET");
    cmd.arg(&key).arg(&own).arg("NX").arg("PX").arg(u64::try_from(LEASE.as_millis()).unwrap_or(0));
    if engine.main.query(&cmd).await? != Value::Nil {
        return Ok(true);
    }
    let mut cmd = redis::cmd("GET");
    cmd.arg(&key);
    let kept = engine.main.query(&cmd).await? == Value::BulkString(own.into_bytes());
    if kept {
        let mut cmd = redis::cmd("PEXPIRE");
        cmd.arg(&key).arg(u64::try_from(LEASE.as_millis()).unwrap_or(0));
        engine.main.query(&cmd).await?;
    }
    Ok(kept)
}

/// The highest number that may go, by age and by how many there are.
async fn bound(engine: &Engine, partition: &Partition, now: Timestamp) -> Result<u64> {
    let oldest = now.minus(engine.history.max_age);
    let by_age =
        crate::redis::log::read::first_since(engine, partition, oldest).await?.saturating_sub(1);
    let most = engine.history.max_events / engine.partitions.len() as u64;
    if engine.history.max_events == 0 {
        return Ok(by_age);
    }
    let mut cmd = redis::cmd("HGET");
    cmd.arg(partition.keys.key(Key::Marks)).arg("last");
    let last = value::mark(engine.main.query(&cmd).await?)?;
    Ok(by_age.max(last.saturating_sub(most)))
}

async fn trim(engine: &Engine, partition: &Partition, bound: u64, now: Timestamp) -> Result<bool> {
    let args = Args::default()
        .text(bound)
        .text(EVENTS)
        .text(now.minus(engine.history.failed_age).millis())
        .millis(AGAIN);
    let (_, more): (String, bool) = engine.step(partition, &STEPS.trim, args).await?;
    Ok(more)
}

/// Removes chunks whose events are gone; says whether there may be more.
async fn chunks(engine: &Engine, partition: &Partition, from: &mut Places) -> Result<bool> {
    let mut cmd = redis::cmd("HGET");
    cmd.arg(partition.keys.key(Key::Marks)).arg("trim");
    let trim = value::mark(engine.main.query(&cmd).await?)?;
    if trim == 0 {
        return Ok(false);
    }
    let smooth = smooth(engine, partition, trim).await?;
    let anew = of_rewritten(engine, partition, trim, &mut from.rewritten).await?;
    Ok(of_trouble(engine, partition, trim, &mut from.trouble).await? || smooth || anew)
}

/// Chunks of a stream from a number on.
async fn read_chunks(
    engine: &Engine,
    partition: &Partition,
    stream: Stream,
    from: u64,
) -> Result<Vec<Old>> {
    let mut cmd = redis::cmd("XRANGE");
    cmd.arg(partition.keys.key(stream.key())).arg(from).arg("+").arg("COUNT").arg(CHUNKS);
    let rows = Row::read_all(engine.main.query(&cmd).await?)?;
    rows.into_iter().map(|row| Old::read(row, stream)).collect()
}

/// Removes chunks that tell of successes once their events are behind the trim mark.
async fn smooth(engine: &Engine, partition: &Partition, trim: u64) -> Result<bool> {
    let found = read_chunks(engine, partition, Stream::Smooth, 0).await?;
    let full = found.len() == CHUNKS;
    let old: Vec<Old> = found.into_iter().take_while(|old| old.max_n <= trim).collect();
    let Some(highest) = old.last().map(|old| old.row.id.n) else { return Ok(false) };
    let mut pipeline = unlead(partition, &old);
    pipeline.cmd("XTRIM").arg(partition.keys.key(Key::Log)).arg("MINID").arg(highest + 1);
    run_all(engine, &pipeline).await?;
    Ok(full)
}

/// Removes chunks that tell of trouble once none of the events that they tell of is spared; says
/// whether it removed some, and so may find more. Goes round, since some stay for long.
async fn of_trouble(
    engine: &Engine,
    partition: &Partition,
    trim: u64,
    from: &mut u64,
) -> Result<bool> {
    let found = read_chunks(engine, partition, Stream::Trouble, *from).await?;
    let full = found.len() == CHUNKS;
    let behind: Vec<Old> = found.into_iter().take_while(|old| old.max_n <= trim).collect();
    *from =
        behind.last().filter(|_| full && behind.len() == CHUNKS).map_or(0, |old| old.row.id.n + 1);
    if behind.is_empty() {
        return Ok(false);
    }
    let old = without_spared(engine, partition, behind).await?;
    if old.is_empty() {
        return Ok(false);
    }
    let mut pipeline = unlead(partition, &old);
    let ids: Vec<String> = old.iter().map(|old| old.row.id.to_string()).collect();
    pipeline.cmd("XDEL").arg(partition.keys.key(Key::TroubleLog)).arg(ids);
    run_all(engine, &pipeline).await?;
    Ok(true)
}

/// Those of which no event is spared.
async fn without_spared(
    engine: &Engine,
    partition: &Partition,
    chunks: Vec<Old>,
) -> Result<Vec<Old>> {
    let mut old = Vec::new();
    for chunk in chunks {
        let told: BTreeSet<u64> =
            attempts::unpack(&chunk.row)?.iter().map(|record| record.key.position.n).collect();
        let mut bodies = redis::cmd("EXISTS");
        for n in &told {
            bodies.arg(partition.keys.key(Key::Body(*n)));
        }
        if told.is_empty() || engine.main.query(&bodies).await? == Value::Int(0) {
            old.push(chunk);
        }
    }
    Ok(old)
}

/// Removes chunks that were written anew as those in their streams; goes round.
async fn of_rewritten(
    engine: &Engine,
    partition: &Partition,
    trim: u64,
    from: &mut u64,
) -> Result<bool> {
    if !rewritten::any(engine, partition).await? {
        return Ok(false);
    }
    let (next, found) = rewritten::scan(engine, partition, *from, CHUNKS).await?;
    *from = next;
    let (mut smooth, mut trouble) = (Vec::new(), Vec::new());
    for chunk in found {
        let old = Old::read(chunk.row, chunk.stream)?;
        if old.max_n <= trim {
            match chunk.stream {
                Stream::Smooth => smooth.push(old),
                Stream::Trouble => trouble.push(old),
            }
        }
    }
    let trouble = without_spared(engine, partition, trouble).await?;
    for old in [smooth, trouble] {
        if old.is_empty() {
            continue;
        }
        let mut pipeline = unlead(partition, &old);
        let names: Vec<_> = old.iter().map(|old| old.chunk().to_string()).collect();
        pipeline.cmd("HDEL").arg(partition.keys.key(Key::Rewritten)).arg(names);
        run_all(engine, &pipeline).await?;
    }
    Ok(next != 0)
}

/// Removes what leads to chunks. It goes first: a cut in between leaves a chunk that nothing leads
/// to, which the next look finds.
fn unlead(partition: &Partition, old: &[Old]) -> redis::Pipeline {
    let mut pipeline = redis::pipe();
    let leads = || old.iter().filter_map(|old| Some((old.chunk(), old.leads.as_ref()?)));
    let map: Vec<String> = leads().flat_map(|(chunk, leads)| leads.map(chunk)).collect();
    let trail: Vec<String> = leads().flat_map(|(_, leads)| leads.trail().cloned()).collect();
    for (key, members) in [(Key::Map, map), (Key::Trail, trail)] {
        if !members.is_empty() {
            pipeline.cmd("ZREM").arg(partition.keys.key(key)).arg(members);
        }
    }
    pipeline
}

async fn run_all(engine: &Engine, pipeline: &redis::Pipeline) -> Result<()> {
    for answer in engine.main.pipeline(pipeline).await? {
        answer.extract_error()?;
    }
    Ok(())
}

/// A chunk, as far as removing it needs it.
struct Old {
    stream: Stream,
    row: Row,
    max_n: u64,
    leads: Option<Leads>,
}

impl Old {
    fn read(row: Row, stream: Stream) -> Result<Self> {
        let max_n = row.stored(b"m")?.map_or(0, |Highest(n)| n);
        Ok(Self { stream, max_n, leads: row.stored(b"r")?, row })
    }

    fn chunk(&self) -> Chunk {
        Chunk { stream: self.stream, k: self.row.id.n }
    }
}

async fn sweep(engine: &Engine, partition: &Partition) -> Result<bool> {
    let args = Args::default().millis(CALLS_KEPT).millis(MARKS_KEPT).text(BUCKETS);
    engine.step(partition, &STEPS.sweep, args).await
}
