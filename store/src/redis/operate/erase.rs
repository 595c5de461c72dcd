//! Erasing what a tenant left: events by a script, chunks of the log by writing them anew.
//!
//! Neither events nor chunks are found by their tenant, so all of them are walked, a stretch at a
//! time. Events that were spared from trimming lie beside their stream, and so do chunks that were
//! written anew before: each has a stage of its own.

use pregon_core::event::Erasure;
use pregon_core::id::Position;
use redis::Value;

use crate::codec::packed;
use crate::erase::{Erase, ErasePlace, Erased, EventErased, STRIP_STEP, Stripped};
use crate::redis::engine::Engine;
use crate::redis::engine::args::Args;
use crate::redis::engine::fault::{Result, bad};
use crate::redis::engine::partition::Partition;
use crate::redis::engine::steps::STEPS;
use crate::redis::layout;
use crate::redis::layout::chunk::{Chunk, Stream};
use crate::redis::layout::entry;
use crate::redis::layout::keys::Key;
use crate::redis::layout::stream::Row;
use crate::redis::log::{attempts, read, rewritten};

/// Events that one step looks at.
const EVENTS: usize = 500;
/// Bytes of events that one step looks at, about: a millisecond of Redis.
const BYTES: usize = 1024 * 1024;
/// Spared events that one step looks at.
const SPARED: usize = 100;
/// Chunks that one step looks into.
const CHUNKS: usize = 20;

/// The stages of a pass over a partition.
const OF_STREAM: u8 = 0;
const OF_SPARED: u8 = 1;
const OF_SMOOTH: u8 = 2;
const OF_TROUBLE: u8 = 3;
const OF_REWRITTEN: u8 = 4;
const OF_TOMBSTONES: u8 = 5;

/// One step.
pub(in crate::redis) async fn step(
    engine: &Engine,
    erase: &Erase,
    from: ErasePlace,
) -> Result<Erased> {
    let Some(partition) = engine.partitions.get(usize::from(from.partition)) else {
        return Ok(Erased::default());
    };
    let (mut done, next) = match from.stage {
        OF_STREAM => stream(engine, partition, erase, from.at).await?,
        OF_SPARED => beside(engine, partition, erase, (Key::Spared, from.at)).await?,
        OF_SMOOTH => chunks(engine, partition, erase, Stream::Smooth, from.at).await?,
        OF_TROUBLE => chunks(engine, partition, erase, Stream::Trouble, from.at).await?,
        OF_REWRITTEN => again(engine, partition, erase, from.at).await?,
        _ => beside(engine, partition, erase, (Key::Tombstones, from.at)).await?,
    };
    let more = usize::from(from.partition) + 1 < engine.partitions.len();
    done.next = match next {
        Some(at) => Some(ErasePlace { at, ..from }),
        None if from.stage < OF_TOMBSTONES => {
            Some(ErasePlace { stage: from.stage + 1, at: 0, ..from })
        }
        None if more => Some(ErasePlace { partition: from.partition + 1, stage: 0, at: 0 }),
        None => None,
    };
    Ok(done)
}

/// What a step did, and where its stage goes on.
type Step = (Erased, Option<u64>);

/// Runs the script on events above a number, or on some of them.
async fn events(
    engine: &Engine,
    partition: &Partition,
    erase: &Erase,
    from: u64,
    numbers: &[u64],
) -> Result<Step> {
    let args = Args::default()
        .text(erase.tenant.as_str())
        .text(erase.before.millis())
        .text(from)
        .table(&numbers)?
        .text(EVENTS)
        .text(BYTES);
    let (erased, left, at, last): (u64, u64, String, bool) =
        engine.step(partition, &STEPS.erase, args).await?;
    let at = at.parse().map_err(|_| bad("a number", &at))?;
    Ok((Erased { erased, left, next: None }, (!last).then_some(at)))
}

async fn stream(engine: &Engine, partition: &Partition, erase: &Erase, from: u64) -> Result<Step> {
    events(engine, partition, erase, from, &[]).await
}

/// Events that lie beside their stream: spared ones, or what is left of erased ones.
async fn beside(
    engine: &Engine,
    partition: &Partition,
    erase: &Erase,
    (key, cursor): (Key, u64),
) -> Result<Step> {
    let mut cmd = redis::cmd("ZSCAN");
    cmd.arg(partition.keys.key(key)).arg(cursor).arg("COUNT").arg(SPARED);
    let (next, flat) = rewritten::scanned(engine.main.query(&cmd).await?)?;
    let names = flat.iter().step_by(2).filter_map(|value| match value {
        // An event's number, or its id.
        Value::BulkString(name) => layout::number(name.split(|it| *it == b'-').next()?),
        _ => None,
    });
    let numbers: Vec<u64> = names.collect();
    let mut done = Erased::default();
    for some in numbers.chunks(SPARED) {
        let (more, _) = events(engine, partition, erase, 0, some).await?;
        done.erased += more.erased;
        done.left += more.left;
    }
    Ok((done, (next != 0).then_some(next)))
}

/// Writes chunks of a stream anew that tell of the tenant, above a number.
async fn chunks(
    engine: &Engine,
    partition: &Partition,
    erase: &Erase,
    stream: Stream,
    from: u64,
) -> Result<Step> {
    let mut cmd = redis::cmd("XRANGE");
    cmd.arg(partition.keys.key(stream.key())).arg(from + 1).arg("+").arg("COUNT").arg(CHUNKS);
    let rows = Row::read_all(engine.main.query(&cmd).await?)?;
    let (full, mut last, mut done) = (rows.len() == CHUNKS, from, Erased::default());
    for row in rows {
        last = row.id.n;
        without(engine, partition, erase, (stream, row, &[]), &mut done).await?;
    }
    Ok((done, full.then_some(last)))
}

/// Writes a chunk anew if it tells of the tenant. Where somebody else was faster, one more pass is
/// needed.
async fn without(
    engine: &Engine,
    partition: &Partition,
    erase: &Erase,
    (stream, row, packed): (Stream, Row, &[u8]),
    done: &mut Erased,
) -> Result<()> {
    let Some(data) = packed::without(attempts::unpack(&row)?, |record| erase.names(record))? else {
        return Ok(());
    };
    match rewritten::put(engine, partition, stream, (row, packed), &data).await? {
        true => done.erased += 1,
        false => done.left += 1,
    }
    Ok(())
}

/// Looks at chunks that were written anew before.
async fn again(engine: &Engine, partition: &Partition, erase: &Erase, cursor: u64) -> Result<Step> {
    let (next, found) = rewritten::scan(engine, partition, cursor, CHUNKS).await?;
    let mut done = Erased::default();
    for rewritten::Anew { stream, row, packed } in found {
        without(engine, partition, erase, (stream, row, &packed), &mut done).await?;
    }
    Ok((done, (next != 0).then_some(next)))
}

/// Puts a tombstone in the place of an event of which nothing is pending.
pub(in crate::redis) async fn event(
    engine: &Engine,
    position: Position,
    erasure: &Erasure,
) -> Result<EventErased> {
    let Some(event) = read::event_at(engine, position).await? else {
        return Ok(EventErased::Unknown);
    };
    if event.erased.is_some() {
        return Ok(EventErased::Done);
    }
    let Ok(partition) = engine.partition(position.partition) else {
        return Ok(EventErased::Unknown);
    };
    let mut args = Args::default().text(position.n).text(position.ms);
    args.push_bytes(entry::encode_erased(&event, erasure)?);
    let answer: char = engine.step(partition, &STEPS.tombstone, args).await?;
    match answer {
        'D' => Ok(EventErased::Done),
        'O' => Ok(EventErased::Open),
        'U' => Ok(EventErased::Unknown),
        other => Err(bad("a tombstone's answer", other)),
    }
}

/// Writes chunks anew that tell of an event, without answers and headers of its attempts. `from` is
/// the place of the last chunk that was looked into.
pub(in crate::redis) async fn strip(
    engine: &Engine,
    position: Position,
    from: u64,
) -> Result<Stripped> {
    let Ok(partition) = engine.partition(position.partition) else {
        return Ok(Stripped::default());
    };
    let all = attempts::telling(engine, partition, position.n).await?;
    let mut rest = all.into_iter().filter(|chunk| place(*chunk) > from);
    let (mut done, mut bytes, mut last) = (Stripped::default(), 0, from);
    for chunk in rest.by_ref().take(STRIP_STEP) {
        last = place(chunk);
        let Some((row, packed)) = found(engine, partition, chunk).await? else { continue };
        let own = size(&row);
        bytes += own;
        let records = attempts::unpack(&row)?;
        let anew = packed::stripped(records, |it| it.key.position.n == position.n)?;
        if let Some(data) = anew {
            // What lies next to it first: once it is written anew, nobody comes back for them.
            let done_with_it = move_near(engine, partition, chunk, own).await?
                && rewritten::put(engine, partition, chunk.stream, (row, &packed), &data).await?;
            match done_with_it {
                true => done.changed += 1,
                false => done.left += 1,
            }
        }
        if bytes >= BYTES {
            break;
        }
    }
    done.next = rest.next().map(|_| last);
    Ok(done)
}

/// Where a chunk stands among those that tell of an event: above 0, and in their order.
fn place(Chunk { stream, k }: Chunk) -> u64 {
    let of_number = match stream {
        Stream::Trouble => 0,
        Stream::Smooth => 1,
    };
    k.saturating_mul(2).saturating_add(of_number)
}

/// Bytes of a stream's node, and entries: what Redis has unless it is told otherwise.
const NODE: (usize, usize) = (4096, 100);

fn size(row: &Row) -> usize {
    let bytes = |field: &Value| if let Value::BulkString(it) = field { it.len() } else { 0 };
    row.fields.iter().map(bytes).sum()
}

/// Moves chunks beside their stream that may share a node of it with one that leaves it, or left
/// it: Redis keeps the bytes of a deleted entry while others of its node are there. False: one of
/// them could not be moved and is still there.
async fn move_near(
    engine: &Engine,
    partition: &Partition,
    Chunk { stream, k }: Chunk,
    own: usize,
) -> Result<bool> {
    for down in [true, false] {
        let (mut at, mut bytes) = (k, own);
        for _ in 1..NODE.1 {
            let from = if down { at.checked_sub(1) } else { at.checked_add(1) };
            let Some(from) = from.filter(|_| bytes < NODE.0) else { break };
            let mut cmd = redis::cmd(if down { "XREVRANGE" } else { "XRANGE" });
            cmd.arg(partition.keys.key(stream.key())).arg(from).arg(if down { "-" } else { "+" });
            cmd.arg("COUNT").arg(1);
            let Some(row) = Row::read_all(engine.main.query(&cmd).await?)?.pop() else { break };
            (at, bytes) = (row.id.n, bytes + size(&row));
            let data = packed::whole(attempts::unpack(&row)?)?;
            if !rewritten::put(engine, partition, stream, (row, &[]), &data).await?
                && in_stream(engine, partition, Chunk { stream, k: at }).await?.is_some()
            {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// A chunk's row in its stream.
async fn in_stream(
    engine: &Engine,
    partition: &Partition,
    Chunk { stream, k }: Chunk,
) -> Result<Option<Row>> {
    let mut cmd = redis::cmd("XRANGE");
    cmd.arg(partition.keys.key(stream.key())).arg(k).arg(k);
    Ok(Row::read_all(engine.main.query(&cmd).await?)?.pop())
}

/// A chunk's row, and how it lies beside its stream if it was written anew before; none: it is gone.
async fn found(
    engine: &Engine,
    partition: &Partition,
    chunk: Chunk,
) -> Result<Option<(Row, Vec<u8>)>> {
    match in_stream(engine, partition, chunk).await? {
        Some(row) => Ok(Some((row, Vec::new()))),
        None => rewritten::one(engine, partition, chunk).await,
    }
}
