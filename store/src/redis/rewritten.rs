//! Chunks of the log that were written anew: they lie beside their streams, by name.
//!
//! An entry of a stream cannot be changed, so a chunk that something was erased from leaves its
//! stream and is kept in a hash, as the row that it was. Numbers of a stream are dense, so a number
//! that is missing between two others, or behind the last that was read, is looked for here.

use std::collections::BTreeMap;
use std::ops::Range;

use redis::Value;

use super::engine::{Args, Engine, Partition};
use super::entry;
use super::fault::{Result, bad};
use super::keys::Key;
use super::steps::STEPS;
use super::value;

/// A stream of the log: its key and the letter that its chunks' names begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stream {
    pub key: Key,
    pub letter: char,
}

/// Successes.
pub(super) const SMOOTH: Stream = Stream { key: Key::Log, letter: 'l' };
/// Everything else.
pub(super) const TROUBLE: Stream = Stream { key: Key::TroubleLog, letter: 'e' };

/// Numbers that one look asks for at most.
const MOST: usize = 2000;

/// The stream of attempts that a key is.
pub(super) fn stream(key: Key) -> Option<Stream> {
    [SMOOTH, TROUBLE].into_iter().find(|stream| stream.key == key)
}

impl Stream {
    /// A chunk's name.
    fn name(self, k: u64) -> String {
        format!("{}{k}", self.letter)
    }
}

/// Whether there are any.
pub(super) async fn any(engine: &Engine, partition: &Partition) -> Result<bool> {
    let mut cmd = redis::cmd("EXISTS");
    cmd.arg(partition.keys.key(Key::Rewritten));
    Ok(engine.main.query(&cmd).await? == Value::Int(1))
}

/// Those of some numbers, as rows of their stream.
pub(super) async fn rows(
    engine: &Engine,
    partition: &Partition,
    stream: Stream,
    numbers: impl IntoIterator<Item = u64>,
) -> Result<Vec<Value>> {
    let names: Vec<String> = numbers.into_iter().map(|k| stream.name(k)).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut cmd = redis::cmd("HMGET");
    cmd.arg(partition.keys.key(Key::Rewritten)).arg(names);
    let Value::Array(found) = engine.main.query(&cmd).await? else {
        return Err(bad("chunks", "no list"));
    };
    let some = found.into_iter().filter_map(|value| match value {
        Value::BulkString(packed) => Some(row(&packed)),
        _ => None,
    });
    some.collect()
}

/// Adds those of a range of numbers to rows of their stream, the lowest first. Of more than `most`
/// the highest are looked for.
async fn fill(
    engine: &Engine,
    partition: &Partition,
    stream: Stream,
    rows_there: Vec<Value>,
    (wanted, most): (Range<u64>, usize),
) -> Result<Vec<Value>> {
    let mut all = BTreeMap::new();
    for row in rows_there {
        all.insert(number(&row)?, row);
    }
    let missing: Vec<u64> = wanted.rev().filter(|k| !all.contains_key(k)).take(most).collect();
    for row in rows(engine, partition, stream, missing).await? {
        all.insert(number(&row)?, row);
    }
    Ok(all.into_values().collect())
}

/// Adds those that are missing from what was read upwards: rows behind a number, up to another,
/// `stretch` or more of them.
pub(super) async fn fill_up(
    engine: &Engine,
    partition: &Partition,
    stream: Stream,
    rows: Vec<Value>,
    Range { start: after, end: last }: Range<u64>,
    stretch: usize,
) -> Result<Vec<Value>> {
    let read = rows.last().map(number).transpose()?.unwrap_or(0);
    let to = read.max(after.saturating_add(stretch as u64)).min(last);
    let dense = read == to && rows.len() as u64 == to - after;
    if dense || !any(engine, partition).await? {
        return Ok(rows);
    }
    fill(engine, partition, stream, rows, (after + 1..to + 1, MOST)).await
}

/// Adds those that are missing from what is read downwards.
pub(super) struct Down<'a> {
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
            cmd.arg(partition.keys.key(Key::Marks)).arg(format!("{}k", stream.letter));
            let latest: Option<u64> = value::number(engine.main.query(&cmd).await?)?;
            down.below = Some(latest.unwrap_or(0) + 1);
        }
        Ok(down)
    }

    /// Rows of the stream, highest first, with what is missing from them and above them; and below
    /// them, where they are the last.
    pub async fn fill(&mut self, rows: Vec<Value>, last: bool) -> Result<Vec<Value>> {
        let Some(below) = self.below else { return Ok(rows) };
        let mut from = rows.last().map(number).transpose()?.unwrap_or(below);
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

/// The number of a chunk, by its row.
pub(super) fn number(row: &Value) -> Result<u64> {
    let (id, _) = entry::stream_row(row.clone())?;
    let place = entry::position_of(0, &id).ok_or_else(|| bad("a chunk's id", &id))?;
    Ok(place.n)
}

/// A chunk that was written anew.
pub(super) struct Anew {
    pub stream: Stream,
    /// The row that it was.
    pub row: Value,
    /// As it lies there.
    pub packed: Vec<u8>,
}

/// Some of them from a cursor on; and the next cursor, 0 at the end.
pub(super) async fn scan(
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
        let stream = if name.first() == Some(&b'l') { SMOOTH } else { TROUBLE };
        all.push(Anew { stream, row: row(&packed)?, packed });
    }
    Ok((next, all))
}

/// What a scan answers: the next cursor, and what it found.
pub(super) fn scanned(answer: Value) -> Result<(u64, Vec<Value>)> {
    let Value::Array(parts) = answer else { return Err(bad("a scan", answer)) };
    match <[Value; 2]>::try_from(parts) {
        Ok([Value::BulkString(cursor), Value::Array(found)]) => {
            let cursor = String::from_utf8_lossy(&cursor).into_owned();
            Ok((cursor.parse().map_err(|_| bad("a cursor", &cursor))?, found))
        }
        other => Err(bad("a scan", other)),
    }
}

/// Puts a chunk in the place of what it was: its row with other data. `packed` is how it lies here,
/// if it does. What was late is said by its records themselves. False: it was removed or written anew
/// meanwhile, and stays as it is.
pub(super) async fn put(
    engine: &Engine,
    partition: &Partition,
    stream: Stream,
    (row, packed): (Value, &[u8]),
    data: &[u8],
) -> Result<bool> {
    let k = number(&row)?;
    let (id, fields) = entry::stream_row(row)?;
    let mut kept: Vec<Vec<u8>> = Vec::with_capacity(fields.len());
    let mut fields = fields.into_iter();
    while let (Some(Value::BulkString(name)), Some(Value::BulkString(value))) =
        (fields.next(), fields.next())
    {
        match name.as_slice() {
            b"c" => kept.extend([name, data.to_vec()]),
            b"l" => {}
            _ => kept.extend([name, value]),
        }
    }
    let anew = postcard::to_stdvec(&(&id, &kept))?;
    let name = if stream == SMOOTH { "log" } else { "elog" };
    let mut args = Args::default().text(name).text(&id).text(stream.name(k));
    args.push_bytes(anew);
    args.push_bytes(packed.to_vec());
    engine.step(partition, &STEPS.rewrite, args).await
}

/// The row of a stream that a chunk was.
fn row(packed: &[u8]) -> Result<Value> {
    let (id, fields): (String, Vec<Vec<u8>>) =
        postcard::from_bytes(packed).map_err(|error| bad("a chunk", error))?;
    let fields = Value::Array(fields.into_iter().map(Value::BulkString).collect());
    Ok(Value::Array(vec![Value::BulkString(id.into_bytes()), fields]))
}
