//! Runs in their tables: what waits unattempted, what is leased of it, and what ended of it together.
//!
//! - A row of `run` with state 0 has all pending deliveries of a lane in a stretch of 256 events:
//!   `bits` are all of them, `free` those that wait.
//! - A row of `lease` has those that one batch has in hand.
//! - Other rows of `run` have what ended at one moment for one reason.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use pregon_core::id::DeliveryKey;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use crate::embedded::engine::codec::{self, PENDING, int, uint};
use crate::embedded::engine::fault::Result;
use crate::run::{self, BYTES, Bits};

/// By how much the create time that a run tells of a delivery may be wrong, in ms. One that was made
/// at another time has a record of its own.
const TOLERANCE: u64 = 1000;

/// A run: what is pending of it, or what ended of it together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::embedded) struct RunRow {
    pub base: i64,
    pub lane: i64,
    pub state: i64,
    /// When it ended, in ms; 0 while it is pending.
    pub end_ms: i64,
    /// Why it ended; 0 while it is pending.
    pub reason: i64,
    pub tenant: i64,
    /// When it began, in ms.
    pub began: i64,
    /// What it waits for.
    pub pending: i64,
    pub bits: Bits,
    /// Which of them are in no batch; none of what ended.
    pub free: Bits,
}

/// What one batch has in hand of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::embedded) struct Lease {
    pub batch: i64,
    pub base: i64,
    pub lane: i64,
    pub bits: Bits,
}

impl FromSql for Bits {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let bytes = value.as_blob()?;
        let size = FromSqlError::InvalidBlobSize { expected_size: BYTES, blob_size: bytes.len() };
        Bits::read(bytes).ok_or(size)
    }
}

impl ToSql for Bits {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(self.bytes())))
    }
}

macro_rules! run_columns {
    ($rest:literal) => {
        concat!(
            "SELECT base, lane, state, end_ms, reason, tenant, began, pending, bits, free FROM run ",
            $rest
        )
    };
}
pub(in crate::embedded) use run_columns;

/// Reads a row of `run_columns`.
pub(in crate::embedded) fn read(row: &Row<'_>) -> rusqlite::Result<RunRow> {
    Ok(RunRow {
        base: row.get(0)?,
        lane: row.get(1)?,
        state: row.get(2)?,
        end_ms: row.get(3)?,
        reason: row.get(4)?,
        tenant: row.get(5)?,
        began: row.get(6)?,
        pending: row.get(7)?,
        bits: row.get(8)?,
        free: row.get(9)?,
    })
}

fn lease(row: &Row<'_>) -> rusqlite::Result<Lease> {
    Ok(Lease { batch: row.get(0)?, base: row.get(1)?, lane: row.get(2)?, bits: row.get(3)? })
}

/// The first number of the run that an event lies in.
pub(in crate::embedded) fn base(n: i64) -> i64 {
    int(run::base(uint(n)))
}

impl RunRow {
    /// A pending one without a delivery yet.
    fn empty(base: i64, lane: i64) -> Self {
        Self {
            base,
            lane,
            state: PENDING,
            end_ms: 0,
            reason: 0,
            tenant: 0,
            began: 0,
            pending: 0,
            bits: Bits::default(),
            free: Bits::default(),
        }
    }

    /// Lets waiting deliveries of it end; answers with those, as a run that ended.
    pub fn end(&mut self, state: i64, end_ms: i64, reason: i64, bits: Bits) -> Self {
        self.free = self.free.without(&bits);
        self.bits = self.bits.without(&bits);
        Self { state, end_ms, reason, bits, free: Bits::default(), ..self.clone() }
    }

    /// Whether an event's delivery is in it.
    pub fn has(&self, n: i64) -> bool {
        base(n) == self.base && self.bits.contains(uint(n))
    }

    /// Whether an event's delivery is in it and in no batch.
    pub fn waits(&self, n: i64) -> bool {
        base(n) == self.base && self.free.contains(uint(n))
    }

    /// Takes an event's delivery out of it.
    pub fn remove(&mut self, n: i64) {
        self.bits.remove(uint(n));
        self.free.remove(uint(n));
    }

    /// Its deliveries' events, lowest first.
    pub fn numbers(&self) -> impl DoubleEndedIterator<Item = i64> + use<> {
        self.bits.numbers(uint(self.base)).map(int)
    }

    /// How many deliveries it has.
    pub fn count(&self) -> i64 {
        i64::from(self.bits.count())
    }

    /// How many of them wait.
    pub fn waiting(&self) -> i64 {
        i64::from(self.free.count())
    }

    /// When its delivery was made whose event was accepted at `ms`.
    pub fn created(&self, ms: i64) -> i64 {
        run::created(self.began, ms)
    }

    /// Writes it as it is; one without deliveries vanishes.
    pub fn store(&self, db: &Connection) -> Result<()> {
        if self.bits.is_empty() {
            db.prepare_cached(
                "DELETE FROM run WHERE base = ?1 AND lane = ?2 AND state = ?3 AND end_ms = ?4
                   AND reason = ?5",
            )?
            .execute((self.base, self.lane, self.state, self.end_ms, self.reason))?;
            return Ok(());
        }
        db.prepare_cached(
            "INSERT INTO run(base, lane, state, end_ms, reason, tenant, began, pending, bits, free,
               count, waiting) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
             ON CONFLICT DO UPDATE SET tenant = ?6, began = ?7, pending = ?8, bits = ?9, free = ?10,
               count = ?11, waiting = ?12",
        )?
        .execute(params![
            self.base,
            self.lane,
            self.state,
            self.end_ms,
            self.reason,
            self.tenant,
            self.began,
            self.pending,
            self.bits,
            self.free,
            self.count(),
            self.waiting()
        ])?;
        Ok(())
    }

    /// Adds its deliveries to those that ended with them.
    pub fn merge(mut self, db: &Connection) -> Result<()> {
        let same = |known: &RunRow| {
            (known.state, known.end_ms, known.reason) == (self.state, self.end_ms, self.reason)
        };
        if let Some(known) = at(db, self.base, self.lane)?.into_iter().find(same) {
            self.bits = self.bits.or(&known.bits);
            self.began = self.began.min(known.began);
        }
        self.store(db)
    }
}

impl Lease {
    /// Writes it as it is; one of nothing vanishes.
    pub fn store(&self, db: &Connection) -> Result<()> {
        if self.bits.is_empty() {
            db.prepare_cached("DELETE FROM lease WHERE batch = ?1 AND base = ?2 AND lane = ?3")?
                .execute([self.batch, self.base, self.lane])?;
        } else {
            db.prepare_cached(
                "INSERT INTO lease(batch, base, lane, bits) VALUES(?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET bits = ?4",
            )?
            .execute(params![self.batch, self.base, self.lane, self.bits])?;
        }
        Ok(())
    }
}

fn all(db: &Connection, sql: &str, values: impl rusqlite::Params) -> Result<Vec<RunRow>> {
    let mut select = db.prepare_cached(sql)?;
    let rows = select.query_map(values, read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A lane's runs of one base, in every state.
fn at(db: &Connection, base: i64, lane: i64) -> Result<Vec<RunRow>> {
    all(db, run_columns!("WHERE base = ?1 AND lane = ?2"), [base, lane])
}

/// What is pending of a lane in one base.
pub(in crate::embedded) fn pending_at(
    db: &Connection,
    base: i64,
    lane: i64,
) -> Result<Option<RunRow>> {
    let sql =
        run_columns!("WHERE base = ?1 AND lane = ?2 AND state = 0 AND end_ms = 0 AND reason = 0");
    Ok(db.prepare_cached(sql)?.query_row([base, lane], read).optional()?)
}

/// The run that an event's delivery to a lane is in.
pub(in crate::embedded) fn holding(db: &Connection, n: i64, lane: i64) -> Result<Option<RunRow>> {
    Ok(at(db, base(n), lane)?.into_iter().find(|run| run.has(n)))
}

/// The runs that an event's deliveries are in, to any lane.
pub(in crate::embedded) fn of_event(db: &Connection, n: i64) -> Result<Vec<RunRow>> {
    let mut runs = all(db, run_columns!("WHERE base = ?1 ORDER BY lane"), [base(n)])?;
    runs.retain(|run| run.has(n));
    Ok(runs)
}

/// What is pending of the runs that begin at a base, to any lane; `limit` at most.
pub(in crate::embedded) fn pending_of(db: &Connection, base: i64, limit: i64) -> Result<Vec<Bits>> {
    let sql = "SELECT bits FROM run WHERE base = ?1 AND state = 0 LIMIT ?2";
    let mut select = db.prepare_cached(sql)?;
    let bits = select.query_map([base, limit], |row| row.get(0))?;
    Ok(bits.collect::<rusqlite::Result<_>>()?)
}

/// Whether an event has a pending delivery in a run.
pub(in crate::embedded) fn is_pending(db: &Connection, n: i64) -> Result<bool> {
    Ok(of_event(db, n)?.iter().any(|run| run.state == PENDING))
}

/// Whether a batch has an event's delivery to a lane in hand out of a run.
pub(in crate::embedded) fn is_leased(db: &Connection, n: i64, lane: i64) -> Result<bool> {
    Ok(pending_at(db, base(n), lane)?.is_some_and(|run| run.has(n) && !run.waits(n)))
}

/// The node that has an event's delivery to a lane in hand.
pub(in crate::embedded) fn node(db: &Connection, n: i64, lane: i64) -> Result<Option<String>> {
    // Few batches are open at a time.
    let mut select = db.prepare_cached(
        "SELECT batch.node, lease.bits FROM batch CROSS JOIN lease
         ON lease.batch = batch.b AND base = ?1 AND lane = ?2",
    )?;
    let mut rows = select.query([base(n), lane])?;
    while let Some(row) = rows.next()? {
        if row.get::<_, Bits>(1)?.contains(uint(n)) {
            return Ok(Some(row.get(0)?));
        }
    }
    Ok(None)
}

/// A lane's runs of which something waits, oldest events first, so many that they hold `most`
/// waiting deliveries and one more.
pub(in crate::embedded) fn waiting(db: &Connection, lane: i64, most: usize) -> Result<Vec<RunRow>> {
    let sql = run_columns!(
        "INDEXED BY run_lane WHERE lane = ?1 AND state = 0 AND waiting > 0 ORDER BY base"
    );
    let mut select = db.prepare_cached(sql)?;
    let mut rows = select.query([lane])?;
    let (mut found, mut count) = (Vec::new(), 0);
    while count <= codec::len(most)
        && let Some(row) = rows.next()?
    {
        let run = read(row)?;
        count += run.waiting();
        found.push(run);
    }
    Ok(found)
}

/// Runs of a lane of which something waits, that began before a moment, and that begin with an event
/// up to a number, oldest first.
pub(in crate::embedded) fn to_end(
    db: &Connection,
    lane: i64,
    highest: i64,
    before: i64,
    limit: usize,
) -> Result<Vec<RunRow>> {
    let sql = run_columns!(
        "INDEXED BY run_lane WHERE lane = ?1 AND state = 0 AND waiting > 0 AND base <= ?2
           AND began < ?3 ORDER BY base LIMIT ?4"
    );
    all(db, sql, params![lane, highest, before, codec::len(limit)])
}

fn leases(db: &Connection, sql: &str, values: impl rusqlite::Params) -> Result<Vec<Lease>> {
    let mut select = db.prepare_cached(sql)?;
    let rows = select.query_map(values, lease)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// What a batch has in hand.
pub(in crate::embedded) fn leased_by(db: &Connection, batch: i64) -> Result<Vec<Lease>> {
    let sql = "SELECT batch, base, lane, bits FROM lease WHERE batch = ?1 ORDER BY base, lane";
    leases(db, sql, [batch])
}

/// What batches have in hand; little at any time.
pub(in crate::embedded) fn all_leased(db: &Connection) -> Result<Vec<Lease>> {
    leases(db, "SELECT batch, base, lane, bits FROM lease ORDER BY base, lane", [])
}

/// Lets an event that is gone go from all that ended. What is pending keeps its event.
pub(in crate::embedded) fn forget(db: &Connection, n: i64) -> Result<()> {
    for mut run in of_event(db, n)? {
        run.remove(n);
        run.store(db)?;
    }
    Ok(())
}

/// Whether a delivery found its place in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::embedded) enum Joined {
    /// It did.
    New,
    /// It was there before.
    Before,
    /// It was made too long before or after the others, so it needs a record.
    Apart,
}

/// Pending runs and leases that a settlement reads and changes, until it writes them all.
#[derive(Debug, Default)]
pub(in crate::embedded) struct Open {
    runs: HashMap<(i64, i64), RunRow>,
    leases: HashMap<(i64, i64, i64), Lease>,
}

impl Open {
    fn run(&mut self, db: &Connection, base: i64, lane: i64) -> Result<&mut RunRow> {
        Ok(match self.runs.entry((base, lane)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let found = pending_at(db, base, lane)?;
                place.insert(found.unwrap_or_else(|| RunRow::empty(base, lane)))
            }
        })
    }

    /// Puts a delivery into the lane's run, to wait; `began` is when the run begins if there is none.
    pub fn join(
        &mut self,
        db: &Connection,
        key: &DeliveryKey,
        tenant: i64,
        began: i64,
        pending: i64,
    ) -> Result<Joined> {
        let (n, ms) = (int(key.position.n), int(key.position.ms));
        let made = run::created(began, ms);
        let run = self.run(db, base(n), codec::lane(key.lane))?;
        if run.bits.is_empty() {
            (run.tenant, run.began) = (tenant, began);
        }
        // A lane is of one tenant; should it not be, each delivery still counts for its own.
        if run.tenant != tenant || run.created(ms).abs_diff(made) > TOLERANCE {
            return Ok(Joined::Apart);
        }
        run.pending = pending;
        if !run.bits.insert(uint(n)) {
            return Ok(Joined::Before);
        }
        run.free.insert(uint(n));
        Ok(Joined::New)
    }

    /// Whether a batch has a delivery in hand out of a run.
    pub fn holds(&mut self, db: &Connection, key: &DeliveryKey, batch: i64) -> Result<bool> {
        Ok(key.replay.is_none() && self.lease(db, key, batch)?.bits.contains(key.position.n))
    }

    fn lease(&mut self, db: &Connection, key: &DeliveryKey, batch: i64) -> Result<&mut Lease> {
        let (base, lane) = (base(int(key.position.n)), codec::lane(key.lane));
        Ok(match self.leases.entry((batch, base, lane)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let sql = "SELECT batch, base, lane, bits FROM lease
                           WHERE batch = ?1 AND base = ?2 AND lane = ?3";
                let found = leases(db, sql, [batch, base, lane])?.pop();
                let none = Lease { batch, base, lane, bits: Bits::default() };
                place.insert(found.unwrap_or(none))
            }
        })
    }

    /// Takes a delivery that a batch has in hand out of its run; answers with the run as it was.
    pub fn take(&mut self, db: &Connection, key: &DeliveryKey, batch: i64) -> Result<RunRow> {
        let n = int(key.position.n);
        self.lease(db, key, batch)?.bits.remove(uint(n));
        let run = self.run(db, base(n), codec::lane(key.lane))?;
        let before = run.clone();
        run.remove(n);
        Ok(before)
    }

    /// Writes them.
    pub fn store(&mut self, db: &Connection) -> Result<()> {
        self.runs.drain().try_for_each(|(_, run)| run.store(db))?;
        self.leases.drain().try_for_each(|(_, lease)| lease.store(db))
    }
}
