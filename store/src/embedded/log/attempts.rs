//! Reading the log: which chunks tell of an event, and what they tell.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use pregon_core::attempt::{AttemptRecord, End};
use pregon_core::id::{DeliveryKey, Position};
use rusqlite::{Connection, OptionalExtension};

use crate::codec::records;
use crate::embedded::engine::codec;
use crate::embedded::engine::fault::Result;
use crate::embedded::log::chunk;

/// Unpacked chunks that a call keeps: neighbouring events are told of by the same few.
const CHUNKS_KEPT: usize = 64;

/// Records of a chunk by event number.
type ByEvent = BTreeMap<u64, Vec<AttemptRecord>>;

/// The log as one call reads it.
#[derive(Default)]
pub(in crate::embedded) struct Log {
    chunks: HashMap<i64, Rc<ByEvent>>,
}

impl Log {
    /// All records of an event, in the order of their chunks.
    pub fn of_event(&mut self, db: &Connection, n: i64) -> Result<Vec<AttemptRecord>> {
        let mut records = Vec::new();
        for k in telling(db, n)? {
            if let Some(found) = self.chunk(db, k)?.get(&codec::uint(n)) {
                records.extend_from_slice(found);
            }
        }
        Ok(records)
    }

    fn chunk(&mut self, db: &Connection, k: i64) -> Result<Rc<ByEvent>> {
        if let Some(chunk) = self.chunks.get(&k) {
            return Ok(chunk.clone());
        }
        let mut select = db.prepare_cached("SELECT late, data FROM chunk WHERE k = ?1")?;
        let mut rows = select.query([k])?;
        let mut records = ByEvent::new();
        if let Some(row) = rows.next()? {
            for record in chunk::unpack(row)? {
                records.entry(record.key.position.n).or_default().push(record);
            }
        }
        if self.chunks.len() >= CHUNKS_KEPT {
            self.chunks.clear();
        }
        let chunk = Rc::new(records);
        self.chunks.insert(k, chunk.clone());
        Ok(chunk)
    }
}

/// The chunks that may tell of an event, oldest first.
pub(in crate::embedded) fn telling(db: &Connection, n: i64) -> Result<Vec<i64>> {
    let mut chunks = Vec::new();
    let sql = "SELECT first FROM map WHERE first <= ?1 ORDER BY first DESC LIMIT 1";
    let first: Option<i64> = db.prepare_cached(sql)?.query_row([n], |row| row.get(0)).optional()?;
    if let Some(first) = first {
        let mut select = db.prepare_cached("SELECT k FROM map WHERE first = ?1")?;
        for k in select.query_map([first], |row| row.get(0))? {
            chunks.push(k?);
        }
    }
    let mut select = db.prepare_cached("SELECT k FROM trail WHERE n = ?1")?;
    for k in select.query_map([n], |row| row.get(0))? {
        chunks.push(k?);
    }
    chunks.sort_unstable();
    chunks.dedup();
    Ok(chunks)
}

/// What is logged of a delivery, oldest first.
pub(in crate::embedded) fn of_delivery(
    db: &Connection,
    key: &DeliveryKey,
) -> Result<Vec<AttemptRecord>> {
    let records = Log::default().of_event(db, codec::int(key.position.n))?;
    Ok(records::of_delivery(records, key))
}

/// All that is logged of an event, by delivery.
pub(in crate::embedded) fn of_event(
    db: &Connection,
    position: Position,
) -> Result<BTreeMap<DeliveryKey, Vec<AttemptRecord>>> {
    if position.partition != codec::PARTITION {
        return Ok(BTreeMap::new());
    }
    Ok(records::by_delivery(Log::default().of_event(db, codec::int(position.n))?))
}

/// How a delivery that has no row ended, if the log tells.
pub(in crate::embedded) fn end_of(db: &Connection, key: &DeliveryKey) -> Result<Option<End>> {
    Ok(records::end(&of_delivery(db, key)?))
}
