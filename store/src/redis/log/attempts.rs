//! Reading the log: which chunks tell of an event, and what they tell.

use std::collections::{BTreeMap, HashMap};

use pregon_core::attempt::{AttemptRecord, End};
use pregon_core::id::DeliveryKey;
use redis::Value;

use crate::codec::{packed, records};
use crate::redis::engine::Engine;
use crate::redis::engine::fault::{Fault, Result, bad};
use crate::redis::engine::partition::Partition;
use crate::redis::engine::value;
use crate::redis::layout::chunk::{Chunk, Late, Use};
use crate::redis::layout::keys::Key;
use crate::redis::layout::stream::Row;
use crate::redis::log::rewritten;

/// Unpacked chunks that a call keeps: neighbouring events are told of by the same few.
const CHUNKS_KEPT: usize = 64;

/// Records of a chunk by event number.
type ByEvent = BTreeMap<u64, Vec<AttemptRecord>>;

/// The log of a partition, as one call reads it.
pub(in crate::redis) struct Log<'a> {
    engine: &'a Engine,
    partition: &'a Partition,
    chunks: HashMap<Chunk, std::sync::Arc<ByEvent>>,
}

impl<'a> Log<'a> {
    pub fn new(engine: &'a Engine, partition: &'a Partition) -> Self {
        Self { engine, partition, chunks: HashMap::new() }
    }

    /// All records of some events, each in the order of its chunks.
    pub async fn of_events(&mut self, numbers: &[u64]) -> Result<HashMap<u64, Vec<AttemptRecord>>> {
        let telling = self.telling(numbers).await?;
        let mut records = HashMap::new();
        for (n, chunks) in telling {
            let mut own = Vec::new();
            for chunk in &chunks {
                if let Some(found) = self.chunk(*chunk).await?.get(&n) {
                    own.extend_from_slice(found);
                }
            }
            records.insert(n, own);
        }
        Ok(records)
    }

    /// The chunks that may tell of each event, oldest first.
    async fn telling(&self, numbers: &[u64]) -> Result<Vec<(u64, Vec<Chunk>)>> {
        let keys = &self.partition.keys;
        let mut pipeline = redis::pipe();
        for n in numbers {
            pipeline.cmd("ZREVRANGEBYSCORE").arg(keys.key(Key::Map)).arg(*n).arg("-inf");
            pipeline.arg("WITHSCORES").arg("LIMIT").arg(0).arg(1);
            pipeline.cmd("ZRANGEBYSCORE").arg(keys.key(Key::Trail)).arg(*n).arg(*n);
        }
        let mut answers = self.engine.main.pipeline(&pipeline).await?.into_iter();
        let (mut found, mut firsts) = (Vec::with_capacity(numbers.len()), Vec::new());
        for n in numbers {
            let (Some(map), Some(trail)) = (answers.next(), answers.next()) else {
                return Err(bad("the log's index", n));
            };
            firsts.push(texts(map)?.get(1).cloned());
            found.push((*n, chunks_in(trail)?));
        }
        let mut ranges: Vec<&String> = firsts.iter().flatten().collect();
        ranges.sort_unstable();
        ranges.dedup();
        let mut pipeline = redis::pipe();
        for first in &ranges {
            pipeline.cmd("ZRANGEBYSCORE").arg(keys.key(Key::Map)).arg(first).arg(first);
        }
        let answers = self.engine.main.pipeline(&pipeline).await?;
        let mut by_range = HashMap::new();
        for (first, answer) in ranges.iter().zip(answers) {
            by_range.insert(first.as_str(), chunks_in(answer)?);
        }
        for ((_, chunks), first) in found.iter_mut().zip(&firsts) {
            chunks.extend(first.iter().filter_map(|first| by_range.get(first.as_str())).flatten());
            chunks.sort_unstable_by_key(|chunk| (chunk.k, chunk.stream));
            chunks.dedup();
        }
        Ok(found)
    }

    async fn chunk(&mut self, chunk: Chunk) -> Result<std::sync::Arc<ByEvent>> {
        if let Some(known) = self.chunks.get(&chunk) {
            return Ok(known.clone());
        }
        let Chunk { stream, k } = chunk;
        let mut cmd = redis::cmd("XRANGE");
        cmd.arg(self.partition.keys.key(stream.key())).arg(k).arg(k);
        let mut rows = Row::read_all(self.engine.main.query(&cmd).await?)?;
        if rows.is_empty() {
            rows = rewritten::rows(self.engine, self.partition, stream, [k]).await?;
        }
        let mut records = ByEvent::new();
        for row in rows {
            for record in unpack(&row)? {
                records.entry(record.key.position.n).or_default().push(record);
            }
        }
        if self.chunks.len() >= CHUNKS_KEPT {
            self.chunks.clear();
        }
        let records = std::sync::Arc::new(records);
        self.chunks.insert(chunk, records.clone());
        Ok(records)
    }
}

/// The chunks that may tell of an event, oldest first.
pub(in crate::redis) async fn telling(
    engine: &Engine,
    partition: &Partition,
    n: u64,
) -> Result<Vec<Chunk>> {
    let mut found = Log::new(engine, partition).telling(&[n]).await?;
    Ok(found.pop().map(|(_, chunks)| chunks).unwrap_or_default())
}

/// The records of a chunk.
pub(in crate::redis) fn unpack(row: &Row) -> Result<Vec<AttemptRecord>> {
    let data = row.get(b"c").ok_or_else(|| bad("a chunk", row.id))?;
    let late: Option<Late> = row.stored(b"l")?;
    packed::unpack(data, late.iter().flat_map(Late::places)).map_err(Fault::Corrupt)
}

/// Strings of an answer.
pub(in crate::redis) fn texts(value: Value) -> Result<Vec<String>> {
    let text = |value| match value {
        Value::BulkString(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Value::SimpleString(text) => Ok(text),
        other => Err(bad("a text", other)),
    };
    match value.extract_error()? {
        Value::Array(values) => values.into_iter().map(text).collect(),
        other => Err(bad("a list", other)),
    }
}

fn chunks_in(value: Value) -> Result<Vec<Chunk>> {
    let uses = value::array(value)?.into_iter().filter_map(|it| value::stored(it).transpose());
    uses.map(|used: Result<Use>| Ok(used?.chunk)).collect()
}

/// What is logged of a delivery, oldest first.
pub(in crate::redis) async fn of_delivery(
    engine: &Engine,
    partition: &Partition,
    key: DeliveryKey,
) -> Result<Vec<AttemptRecord>> {
    let n = key.position.n;
    let mut found = Log::new(engine, partition).of_events(&[n]).await?;
    Ok(records::of_delivery(found.remove(&n).unwrap_or_default(), &key))
}

/// All that is logged of an event, by delivery.
pub(in crate::redis) async fn of_event(
    engine: &Engine,
    partition: &Partition,
    n: u64,
) -> Result<BTreeMap<DeliveryKey, Vec<AttemptRecord>>> {
    let mut found = Log::new(engine, partition).of_events(&[n]).await?;
    Ok(records::by_delivery(found.remove(&n).unwrap_or_default()))
}

/// How a delivery that has no record ended, if the log tells.
pub(in crate::redis) async fn end_of(
    engine: &Engine,
    partition: &Partition,
    key: DeliveryKey,
) -> Result<Option<End>> {
    Ok(records::end(&of_delivery(engine, partition, key).await?))
}
