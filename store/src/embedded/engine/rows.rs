//! Events and batches as they are read from their rows; for the writer and for readers.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use pregon_core::event::Event;
use pregon_core::id::{NodeId, Position, TenantId};
use rusqlite::{Connection, OptionalExtension, Row};
use serde::{Deserialize, Serialize};

use crate::embedded::engine::codec::{self, uint32};
use crate::embedded::engine::fault::Result;
use crate::log::EventStage;

/// Columns of an event, in the order that [`found`] reads them. The tenant's name is joined from
/// the left: an event without one is spoiled, not missing.
macro_rules! event_columns {
    ($rest:literal) => {
        event_columns!("event.data", $rest)
    };
    ($data:literal, $rest:literal) => {
        concat!(
            "SELECT event.n, event.ms, tenant.name, event.head, ",
            $data,
            " FROM event LEFT JOIN tenant ON tenant.t = event.tenant ",
            $rest
        )
    };
}
pub(in crate::embedded) use event_columns;

/// An event, or what is left of one that cannot be decoded.
pub(in crate::embedded) enum Found {
    /// It can be read.
    Event(Arc<Event>),
    /// It cannot.
    Spoiled(Position),
}

impl Found {
    /// The event, if it can be read.
    pub fn event(self) -> Option<Arc<Event>> {
        match self {
            Found::Event(event) => Some(event),
            Found::Spoiled(_) => None,
        }
    }
}

/// Reads an event's row.
pub(in crate::embedded) fn found(row: &Row<'_>) -> rusqlite::Result<Found> {
    let position = codec::position(row.get(0)?, row.get(1)?);
    let tenant = row.get_ref(2)?.as_str_or_null().ok().flatten().map(TenantId::parse);
    let head = row.get_ref(3)?.as_blob().ok().and_then(codec::read_head);
    let (Some(Ok(tenant)), Some(head)) = (tenant, head) else {
        return Ok(Found::Spoiled(position));
    };
    let data = row.get_ref(4)?.as_blob().map(Bytes::copy_from_slice).unwrap_or_default();
    Ok(Found::Event(Arc::new(codec::event(position, tenant, head, data))))
}

/// The event of a number.
pub(in crate::embedded) fn event_at(db: &Connection, n: i64) -> Result<Option<Found>> {
    let mut select = db.prepare_cached(event_columns!("WHERE event.n = ?1"))?;
    Ok(select.query_row([n], found).optional()?)
}

/// The event of a number, without its data.
fn head_at(db: &Connection, n: i64) -> Result<Option<Found>> {
    let mut select = db.prepare_cached(event_columns!("x''", "WHERE event.n = ?1"))?;
    Ok(select.query_row([n], found).optional()?)
}

/// Events of a list of deliveries, each read once, all without their data: a list names its events,
/// and their data may be a thousand times as much.
#[derive(Default)]
pub(in crate::embedded) struct Heads(HashMap<i64, Option<Arc<Event>>>);

impl Heads {
    /// The event of a number; none: it is gone or cannot be decoded.
    pub fn get(&mut self, db: &Connection, n: i64) -> Result<Option<Arc<Event>>> {
        if let Some(event) = self.0.get(&n) {
            return Ok(event.clone());
        }
        let event = head_at(db, n)?.and_then(Found::event);
        self.0.insert(n, event.clone());
        Ok(event)
    }
}

/// Events of a call, each read once.
#[derive(Default)]
pub(in crate::embedded) struct Events(HashMap<i64, Option<Arc<Event>>>);

impl Events {
    /// The event of a number; none: it is gone or cannot be decoded.
    pub fn get(&mut self, db: &Connection, n: i64) -> Result<Option<Arc<Event>>> {
        if let Some(event) = self.0.get(&n) {
            return Ok(event.clone());
        }
        let event = event_at(db, n)?.and_then(Found::event);
        self.0.insert(n, event.clone());
        Ok(event)
    }
}

/// Whether an event is kept under exactly this position.
pub(in crate::embedded) fn is_kept(db: &Connection, position: Position) -> Result<bool> {
    if position.partition != codec::PARTITION {
        return Ok(false);
    }
    let mut select = db.prepare_cached("SELECT ms FROM event WHERE n = ?1")?;
    let ms: Option<i64> =
        select.query_row([codec::int(position.n)], |row| row.get(0)).optional()?;
    Ok(ms.is_some_and(|ms| codec::uint(ms) == position.ms))
}

/// A batch, as its row has it.
#[derive(Clone, Debug)]
pub(in crate::embedded) struct BatchRow {
    pub b: i64,
    pub node: String,
    /// First number of the range as first taken: the key of `map`.
    pub origin: i64,
    /// The range; empty (1 to 0) for what was claimed from lanes.
    pub first: i64,
    pub last: i64,
    /// A bit for each event of the range that is done.
    pub done: Vec<u8>,
    /// Events and deliveries still open.
    pub open: i64,
    pub takes: i64,
    pub expiry: i64,
    pub released: bool,
}

/// Columns of a batch, in the order that [`batch_row`] reads them.
macro_rules! batch_columns {
    ($rest:literal) => {
        concat!(
            "SELECT b, node, origin, first, last, done, open, takes, expiry, released FROM batch ",
            $rest
        )
    };
}
pub(in crate::embedded) use batch_columns;

/// Reads a batch's row.
pub(in crate::embedded) fn batch_row(row: &Row<'_>) -> rusqlite::Result<BatchRow> {
    Ok(BatchRow {
        b: row.get(0)?,
        node: row.get(1)?,
        origin: row.get(2)?,
        first: row.get(3)?,
        last: row.get(4)?,
        done: row.get(5)?,
        open: row.get(6)?,
        takes: row.get(7)?,
        expiry: row.get(8)?,
        released: row.get(9)?,
    })
}

impl BatchRow {
    /// A fresh range.
    pub fn range(b: i64, node: &str, first: i64, last: i64) -> Self {
        let open = (last - first + 1).max(0);
        let bytes = usize::try_from((open + 7) / 8).unwrap_or(0);
        Self {
            b,
            node: node.to_owned(),
            origin: first,
            first,
            last,
            done: vec![0; bytes],
            open,
            takes: 1,
            expiry: 0,
            released: false,
        }
    }

    /// A fresh batch of what lanes handed out.
    pub fn lanes(b: i64, node: &str) -> Self {
        Self { origin: 0, ..Self::range(b, node, 1, 0) }
    }

    /// Whether it is a range of new events.
    pub fn is_range(&self) -> bool {
        self.first <= self.last
    }

    /// Whether a number lies in its range.
    pub fn covers(&self, n: i64) -> bool {
        self.first <= n && n <= self.last
    }

    fn bit(&self, n: i64) -> (usize, u8) {
        let offset = usize::try_from(n - self.first).unwrap_or(0);
        (offset / 8, 1 << (offset % 8))
    }

    /// Whether the event of a number in its range is done.
    pub fn is_done(&self, n: i64) -> bool {
        let (byte, bit) = self.bit(n);
        self.done.get(byte).is_none_or(|found| found & bit != 0)
    }

    /// Notes that the event of a number in its range is done.
    pub fn finish(&mut self, n: i64) {
        let (byte, bit) = self.bit(n);
        if let Some(place) = self.done.get_mut(byte)
            && *place & bit == 0
        {
            *place |= bit;
            self.open -= 1;
        }
    }

    /// Numbers of its range that are not done.
    pub fn open_events(&self) -> impl Iterator<Item = i64> + '_ {
        (self.first..=self.last).filter(|n| !self.is_done(*n))
    }

    /// Writes it for the first time.
    pub fn insert(&self, db: &Connection, boot: i64) -> Result<()> {
        db.prepare_cached(
            "INSERT INTO batch(b, boot, node, origin, first, last, done, open, takes, expiry,
               released) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(rusqlite::params![
            self.b,
            boot,
            self.node,
            self.origin,
            self.first,
            self.last,
            self.done,
            self.open,
            self.takes,
            self.expiry,
            self.released
        ])?;
        Ok(())
    }

    /// Writes its progress; a batch with nothing open vanishes, and with it the lease.
    pub fn store(&self, db: &Connection) -> Result<()> {
        if self.open > 0 {
            db.prepare_cached("UPDATE batch SET done = ?2, open = ?3 WHERE b = ?1")?
                .execute(rusqlite::params![self.b, self.done, self.open])?;
        } else {
            remove_batch(db, self.b)?;
        }
        Ok(())
    }

    /// Takes as callers count them.
    pub fn takes(&self) -> u32 {
        uint32(self.takes)
    }
}

/// Removes a batch, and with it the lease.
pub(in crate::embedded) fn remove_batch(db: &Connection, b: i64) -> Result<()> {
    db.prepare_cached("DELETE FROM batch WHERE b = ?1")?.execute([b])?;
    Ok(())
}

/// The batch whose range an event lies in and is open in, if any.
pub(in crate::embedded) fn open_in_range(db: &Connection, n: i64) -> Result<Option<BatchRow>> {
    // Few batches are open at a time, so this needs no index.
    let sql = batch_columns!("WHERE first <= ?1 AND last >= ?1");
    let mut select = db.prepare_cached(sql)?;
    let batch = select.query_row([n], batch_row).optional()?;
    Ok(batch.filter(|batch| !batch.is_done(n)))
}

/// Where an event stands; the caller knows that it is kept.
pub(in crate::embedded) fn stage(db: &Connection, n: i64, cur: i64) -> Result<EventStage> {
    if n > cur {
        return Ok(EventStage::Waiting);
    }
    if let Some(batch) = open_in_range(db, n)? {
        return Ok(claimed(&batch.node));
    }
    let mut put_off = db.prepare_cached(
        "SELECT batch.node, delivery.state, delivery.pending FROM delivery
         LEFT JOIN batch ON batch.b = delivery.batch
         WHERE delivery.n = ?1 AND delivery.lane = 0",
    )?;
    let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let found: Option<(Option<String>, i64, i64)> = put_off.query_row([n], row).optional()?;
    Ok(match found {
        None => EventStage::Matched,
        Some((_, codec::CANCELLED, _)) => EventStage::Cancelled,
        Some((Some(node), ..)) => claimed(&node),
        Some((None, _, codec::SCHEDULED)) => EventStage::Scheduled,
        Some((None, ..)) => EventStage::Waiting,
    })
}

fn claimed(node: &str) -> EventStage {
    NodeId::parse(node).map_or(EventStage::Waiting, EventStage::Claimed)
}

/// The highest event number accepted before a moment, by bisection: accept times rise with
/// numbers (but for a clock that was set back far, where this is too low or too high by the
/// events of that stretch).
pub(in crate::embedded) fn highest_before(db: &Connection, before: i64, last: i64) -> Result<i64> {
    let mut probe =
        db.prepare_cached("SELECT n, ms FROM event WHERE n >= ?1 ORDER BY n LIMIT 1")?;
    let (mut low, mut high) = (0, last); // everything up to low is before, all above high is not
    while low < high {
        let middle = low + (high - low + 1) / 2;
        let found: Option<(i64, i64)> =
            probe.query_row([middle], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        match found {
            Some((n, ms)) if ms < before && n <= high => low = n,
            Some(_) | None => high = middle - 1,
        }
    }
    Ok(low)
}

/// What leads to a chunk; kept with it, so that it can be taken away with it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(in crate::embedded) struct Refs {
    pub map: Vec<i64>,
    pub trail: Vec<i64>,
}
