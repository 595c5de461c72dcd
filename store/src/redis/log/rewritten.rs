//! Chunks of the log that were written anew: they lie beside their streams, by name.
//!
//! An entry of a stream cannot be changed, so a chunk that something was erased from leaves its
//! stream and is kept in a hash, as the row that it was. Numbers of a stream are dense, so a number
//! that is missing between two others, or behind the last that was read, is looked for here.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use redis::Value;

use crate::redis::engine::Engine;
use crate::redis::engine::args::Args;
use crate::redis::engine::fault::{Result, bad};
use crate::redis::engine::partition::Partition;
use crate::redis::engine::steps::STEPS;
use crate::redis::engine::value;
use crate::redis::layout::chunk::{self, Chunk, Stream};
use crate::redis::layout::keys::Key;
use crate::redis::layout::stream::Row;
use crate::redis::layout::{self, Stored};

/// Numbers that one look asks for at most.
const MOST: usize = 2000;

/// Whether there are any.
pub(in crate::redis) async fn any(engine: &Engine, partition: &Partition) -> Result<bool> {
    let mut cmd = redis::cmd("EXISTS");
    cmd.arg(partition.keys.key(Key::Rewritten));
    Ok(engine.main.query(&cmd).await? == Value::Int(1))
}

/// Those of some numbers.
pub(in crate::redis) async fn rows(
    engine: &Engine,
    partition: &Partition,
    stream: Stream,
    numbers: impl IntoIterator<Item = u64>,
) -> Result<Vec<Row>> {
    let names = numbers.into_iter().map(|k| Chunk { stream, k }.to_string());
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut cmd = redis::cmd("HMGET");
    cmd.arg(partition.keys.key(Key::Rewritten)).arg(names);
    let found = value::array(engine.main.query(&cmd).await?)?;
    found.into_iter().filter_map(|found| value::stored(found).transpose()).collect()
}

/// One of them: its row, and how it lies there.
pub(in crate::redis) async fn one(
    engine: &Engine,
    partition: &Partition,
    chunk: Chunk,
) -> Result<Option<(Row, Vec<u8>)>> {
    let mut cmd = redis::cmd("HGET");
    cmd.arg(partition.keys.key(Key::Rewritten)).arg(chunk.to_string());
    let Some(packed) = value::bytes(engine.main.query(&cmd).await?)? else { return Ok(None) };
    Ok(Some((value::decoded(&packed)?, packed.to_vec())))
}

/// Adds those of a range of numbers to rows of their stream, the lowest first. Of more than `most`
/// the highest are looked for.
async fn fill(
    engine: &Engine,
    partition: &Partition,
    stream: Stream,
    rows_there: Vec<Row>,
    (wanted, most): (Range<u64>, usize),
) -> Result<Vec<Row>> {
    let mut all: BTreeMap<u64, Row> = rows_there.into_iter().map(|row| (row.id.n, row)).collect();
    let missing: Vec<u64> = wanted.rev().filter(|k| !all.contains_key(k)).take(most).collect();
    all.extend(rows(engine, partition, stream, missing).await?.into_iter().map(|it| (it.id.n, it)));
    Ok(all.into_values().collect())
}

/// Adds those that are missing from what was read upwards: rows behind a number, up to another,
/// `stretch` or more of them.
pub(in crate::redis) async fn fill_up(
    engine: &Engine,
    partition: &Partition,
    stream: Stream,
    rows: Vec<Row>,
    Range { start: after, end: last }: Range<u64>,
    stretch: usize,
) -> Result<Vec<Row>> {
    let read = rows.last().map_or(0, |row| row.id.n);
    let to = read.max(after.saturating_add(stretch as u64)).min(last);
    let dense = read == to && rows.len() as u64 == to - after;
    if dense || !any(engine, partition).await? {
        return Ok(rows);
    }
    fill(engine, partition, stream, rows, (after + 1..to + 1, MOST)).await
}

/// Adds those that are missing from what is read downwards.
pub(in crate::redis) struct Down<'a> {
    engine: &'a Engine,
    partition: &'a Partition,
    stream: Stream,
    /// What is below this is to be read; none: there is nothing to add.
    below: Option<u64>,
    /// How many chunks are wanted at most.
    most: usize,
}

impl<'a> Down<'a> {
    /// From the end of a stream.
    pub async fn begin(
        engine: &'a Engine,
        partition: &'a Partition,
        stream: Stream,
        most: usize,
    ) -> Result<Self> {
        let mut down = Self { engine, partition, stream, below: None, most: most.min(MOST) };
        if any(engine, partition).await? {
            let mut cmd = redis::cmd("HGET");
            cmd.arg(partition.keys.key(Key::Marks)).arg(stream.latest());
            down.below = Some(value::mark(engine.main.query(&cmd).await?)? + 1);
        }
        Ok(down)
    }

    /// Rows of the stream, highest first, with what is missing from them and above them; and below
    /// them, where they are the last.
    pub async fn fill(&mut self, rows: Vec<Row>, last: bool) -> Result<Vec<Row>> {
        let Some(below) = self.below else { return Ok(rows) };
        let mut from = rows.last().map_or(below, |row| row.id.n);
        if last {
            from = from.saturating_sub(self.most as u64).max(1);
        }
        self.below = Some(from);
        let wanted = (from..below, self.most);
        let mut rows = fill(self.engine, self.partition, self.stream, rows, wanted).await?;
        rows.reverse();
        Ok(rows)
    }
}

/// A chunk that was written anew.
pub(in crate::redis) struct Anew {
    pub stream: Stream,
    /// The row that it was.
    pub row: Row,
    /// As it lies there.
    pub packed: Bytes,
}

/// Some of them from a cursor on; and the next cursor, 0 at the end.
pub(in crate::redis) async fn scan(
    engine: &Engine,
    partition: &Partition,
    cursor: u64,
    count: usize,
) -> Result<(u64, Vec<Anew>)> {
    let mut cmd = redis::cmd("HSCAN");
    cmd.arg(partition.keys.key(Key::Rewritten)).arg(cursor).arg("COUNT").arg(count);
    let (next, flat) = scanned(engine.main.query(&cmd).await?)?;
    let mut all = Vec::with_capacity(flat.len() / 2);
    let mut flat = flat.into_iter();
    while let (Some(Value::BulkString(name)), Some(Value::BulkString(packed))) =
        (flat.next(), flat.next())
    {
        let chunk = layout::text(&name).and_then(Chunk::parse);
        let stream = chunk.ok_or_else(|| bad("a chunk's name", name))?.stream;
        let packed = Bytes::from(packed);
        all.push(Anew { stream, row: value::decoded(&packed)?, packed });
    }
    Ok((next, all))
}

/// What a scan answers: the next cursor, and what it found.
pub(in crate::redis) fn scanned(answer: Value) -> Result<(u64, Vec<Value>)> {
    let Value::Array(parts) = answer else { return Err(bad("a scan", answer)) };
    match <[Value; 2]>::try_from(parts) {
        Ok([Value::BulkString(cursor), Value::Array(found)]) => {
            Ok((layout::number(&cursor).ok_or_else(|| bad("a cursor", cursor))?, found))
        }
        other => Err(bad("a scan", other)),
    }
}

/// Puts a chunk in the place of what it was: its row with other data. `packed` is how it lies here,
/// if it does. False: it was removed or written anew meanwhile, and stays as it is.
pub(in crate::redis) async fn put(
    engine: &Engine,
    partition: &Partition,
    stream: Stream,
    (row, packed): (Row, &[u8]),
    data: &[u8],
) -> Result<bool> {
    let (id, name) = (row.id, Chunk { stream, k: row.id.n });
    let mut args = Args::default().text(stream.letter()).text(id).text(name);
    args.push_bytes(chunk::anew(row, data).encode()?);
    args.push_bytes(packed.to_vec());
    engine.step(partition, &STEPS.rewrite, args).await
}
