//! What the writer holds in memory between and within transactions.
//!
//! It is a cache of the tables and nothing more: numbers of `mark`, counters not yet added up,
//! lanes as they will be written. Steps change it; [`State::flush`] writes it before the commit;
//! after a rollback it is thrown away and read again. Only what must not go back with a rollback
//! is kept: the next batch number (a claim may have been answered already), and put-offs.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use pregon_core::clock::Timestamp;
use pregon_core::id::TenantId;
use rusqlite::{Connection, OptionalExtension, params};

use crate::backlog::STRETCH;
use crate::embedded::engine::ends::{self, EndRow};
use crate::embedded::engine::fault::Result;
use crate::embedded::engine::fresh::Fresh;
use crate::embedded::engine::pending;
use crate::embedded::work::runs::{self, RunRow};

/// Lanes kept in memory at most; more are read again when they are needed.
const LANES_CACHED: usize = 8192;
/// Tenants whose numbers are kept in memory at most.
const TENANTS_CACHED: usize = 65_536;

/// One step's view: the database within the transaction, and the writer's memory.
pub(in crate::embedded) struct Tx<'a> {
    /// The writing connection.
    pub db: &'a Connection,
    /// The writer's memory.
    pub st: &'a mut State,
    /// The moment of the step.
    pub now: Timestamp,
    /// This opening of the store.
    pub boot: i64,
}

/// Counters of a tenant, as changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::embedded) struct Counts {
    pub accepted: i64,
    pub matched: i64,
    pub unmatched: i64,
    pub created: i64,
    pub succeeded: i64,
    pub failed: i64,
    pub cancelled: i64,
    /// Events that were called off.
    pub called_off: i64,
    /// Events whose time has not come, or that a node matches since it has.
    pub scheduled: i64,
}

/// A lane with waiting deliveries, or a closed one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::embedded) struct Lane {
    /// When to look at it; none: nothing waits.
    pub wake: Option<i64>,
    /// Orders lanes that are due at one moment: who had a turn goes behind the others.
    pub turn: i64,
    /// It hands nothing out before this; 0: it is open.
    pub shut_until: i64,
    /// Why it is closed, as a pending reason.
    pub why: i64,
    /// Pending deliveries in no batch.
    pub waiting: i64,
    /// It had no free slot: an arrival does not make it due before this. Not stored.
    pub put_off: i64,
    dirty: bool,
}

impl Lane {
    /// When work that is due at `due` can be handed out at the earliest.
    pub fn reachable(&self, due: i64) -> i64 {
        due.max(self.shut_until).max(self.put_off)
    }
}

/// Events that are remembered as loose: 1 MB.
const LOOSE: usize = 20_000;

/// The writer's memory.
#[derive(Debug, Default)]
pub(in crate::embedded) struct State {
    /// Number and accept time of the latest event.
    pub last: i64,
    pub last_ms: i64,
    /// Events up to here were taken.
    pub cur: i64,
    /// Events up to here were looked at for trimming.
    pub trim: i64,
    /// Where the next look at events that were spared begins.
    pub again: i64,
    /// Events kept, and their bytes.
    pub kept: i64,
    pub bytes: i64,
    /// Number of the latest chunk.
    pub chunk: i64,
    pub turn: i64,
    /// Number of the latest lane given out.
    pub lane: i64,
    pub revision: i64,
    pub nonce: i64,
    /// Rows of `killed`.
    pub kills: i64,
    /// Number of the next batch; never goes back.
    pub next_batch: i64,
    /// There may be something to claim.
    pub ring: bool,
    /// Events below the trimming cursor that had a delivery end since: what spared them may be over.
    /// [`LOOSE`] at most; others are found as the second cursor goes round.
    pub loose: BTreeSet<i64>,
    /// Where the next look at chunks that tell of trouble begins.
    pub trouble: i64,
    /// Events that nobody took yet.
    pub fresh: Fresh,
    /// Ends of this group that no attempt tells of.
    pub ends: Vec<EndRow>,
    /// Runs of this group that ended together.
    pub ended_runs: Vec<RunRow>,
    /// Runs that a settlement changes; none between steps.
    pub runs: runs::Open,
    dirty: bool,
    tenants: HashMap<TenantId, i64>,
    counts: HashMap<i64, Counts>,
    /// Changes of how many deliveries are pending, by stretch of event numbers.
    backlog: HashMap<i64, i64>,
    /// Events that filters had no answer for, by lane: how many more, and why the last one.
    filter_errors: HashMap<i64, (i64, Arc<str>)>,
    lanes: HashMap<i64, Lane>,
}

impl State {
    /// Reads it from the tables.
    pub fn load(db: &Connection) -> Result<State> {
        let mut state = db.query_row("SELECT * FROM mark", [], |row| {
            Ok(State {
                last: row.get("last")?,
                last_ms: row.get("last_ms")?,
                cur: row.get("cur")?,
                trim: row.get("trim")?,
                again: row.get("again")?,
                kept: row.get("kept")?,
                bytes: row.get("bytes")?,
                chunk: row.get("chunk")?,
                turn: row.get("turn")?,
                lane: row.get("lane")?,
                revision: row.get("revision")?,
                nonce: row.get("nonce")?,
                ..State::default()
            })
        })?;
        state.kills = db.query_row("SELECT COUNT(*) FROM killed", [], |row| row.get(0))?;
        let highest: i64 =
            db.query_row("SELECT COALESCE(MAX(b), 0) FROM batch", [], |row| row.get(0))?;
        state.next_batch = highest + 1;
        Ok(state)
    }

    /// Reads it again after a rollback.
    pub fn reload(&mut self, db: &Connection) -> Result<()> {
        let fresh = State::load(db)?;
        let next_batch = self.next_batch.max(fresh.next_batch);
        *self = State { next_batch, ..fresh };
        Ok(())
    }

    /// Notes that a number of `mark` moved.
    pub fn moved(&mut self) {
        self.dirty = true;
    }

    /// A batch number that was never given before.
    pub fn new_batch(&mut self) -> i64 {
        let b = self.next_batch;
        self.next_batch += 1;
        b
    }

    /// A place behind all lanes that had one.
    pub fn next_turn(&mut self) -> i64 {
        self.turn += 1;
        self.dirty = true;
        self.turn
    }

    /// The number of a tenant; gives it one if it has none.
    pub fn tenant(&mut self, db: &Connection, tenant: &TenantId) -> Result<i64> {
        if let Some(t) = self.tenants.get(tenant) {
            return Ok(*t);
        }
        let mut find = db.prepare_cached("SELECT t FROM tenant WHERE name = ?1")?;
        let t = match find.query_row([tenant.as_str()], |row| row.get(0)).optional()? {
            Some(t) => t,
            None => {
                db.prepare_cached("INSERT INTO tenant(name) VALUES(?1)")?
                    .execute([tenant.as_str()])?;
                db.last_insert_rowid()
            }
        };
        if self.tenants.len() >= TENANTS_CACHED {
            self.tenants.clear();
        }
        self.tenants.insert(tenant.clone(), t);
        Ok(t)
    }

    /// The changes of a tenant's counters.
    pub fn counts(&mut self, t: i64) -> &mut Counts {
        self.counts.entry(t).or_default()
    }

    /// Deliveries of an event become pending, or fewer are.
    pub fn pend(&mut self, n: i64, by: i64) {
        if by < 0 {
            self.loosen(n);
        }
        *self.backlog.entry(n / STRETCH).or_insert(0) += by;
    }

    /// The deliveries of a run end.
    pub fn pend_less(&mut self, run: &RunRow) {
        if run.base <= self.trim {
            let spared = run.numbers().filter(|n| *n <= self.trim);
            self.loose.extend(spared.take(LOOSE.saturating_sub(self.loose.len())));
        }
        *self.backlog.entry(run.base / STRETCH).or_insert(0) -= run.count();
    }

    /// A lane's filter had no answer for an event.
    pub fn unanswered(&mut self, lane: i64, reason: &Arc<str>) {
        let (count, last) = self.filter_errors.entry(lane).or_insert_with(|| (0, reason.clone()));
        *count += 1;
        last.clone_from(reason);
    }

    /// A lane, to look at.
    pub fn lane(&mut self, db: &Connection, lane: i64) -> Result<&mut Lane> {
        let place = match self.lanes.entry(lane) {
            Entry::Occupied(known) => return Ok(known.into_mut()),
            Entry::Vacant(place) => place,
        };
        let sql = "SELECT wake, turn, shut_until, why, waiting FROM lane WHERE lane = ?1";
        let found = db
            .prepare_cached(sql)?
            .query_row([lane], |row| {
                Ok(Lane {
                    wake: row.get(0)?,
                    turn: row.get(1)?,
                    shut_until: row.get(2)?,
                    why: row.get(3)?,
                    waiting: row.get(4)?,
                    ..Lane::default()
                })
            })
            .optional()?;
        Ok(place.insert(found.unwrap_or_default()))
    }

    /// A lane, to change.
    pub fn lane_mut(&mut self, db: &Connection, lane: i64) -> Result<&mut Lane> {
        let lane = self.lane(db, lane)?;
        lane.dirty = true;
        Ok(lane)
    }

    /// What spared an event from trimming may be over.
    pub fn loosen(&mut self, n: i64) {
        if n <= self.trim && self.loose.len() < LOOSE {
            self.loose.insert(n);
        }
    }

    /// A delivery arrives in a lane, due at `due`.
    pub fn arrive(&mut self, db: &Connection, lane: i64, due: i64) -> Result<()> {
        let turn = self.next_turn();
        let lane = self.lane_mut(db, lane)?;
        lane.waiting += 1;
        let wake = lane.reachable(due);
        if lane.wake.is_none_or(|old| wake < old) {
            lane.wake = Some(wake);
            lane.turn = turn;
        }
        self.ring = true;
        Ok(())
    }

    /// Deliveries leave a lane other than by being handed out.
    pub fn leave(&mut self, db: &Connection, lane: i64, count: i64) -> Result<()> {
        let lane = self.lane_mut(db, lane)?;
        lane.waiting = (lane.waiting - count).max(0);
        if lane.waiting == 0 {
            lane.wake = None;
        }
        Ok(())
    }

    /// Writes the lanes that changed, so that they can be searched.
    pub fn flush_lanes(&mut self, db: &Connection, now: i64) -> Result<()> {
        let mut write = db.prepare_cached(
            "INSERT INTO lane(lane, wake, turn, shut_until, why, waiting)
             VALUES(?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT(lane) DO UPDATE SET wake = ?2, turn = ?3, shut_until = ?4, why = ?5,
               waiting = ?6",
        )?;
        let mut remove = db.prepare_cached("DELETE FROM lane WHERE lane = ?1")?;
        for (number, lane) in &mut self.lanes {
            if !lane.dirty {
                continue;
            }
            lane.dirty = false;
            if lane.waiting == 0 && lane.shut_until <= now {
                remove.execute([number])?;
            } else {
                write.execute(params![
                    number,
                    lane.wake,
                    lane.turn,
                    lane.shut_until,
                    lane.why,
                    lane.waiting
                ])?;
            }
        }
        if self.lanes.len() > LANES_CACHED {
            self.lanes.clear();
        }
        Ok(())
    }

    /// Writes all that changed.
    pub fn flush(&mut self, db: &Connection, now: i64) -> Result<()> {
        self.flush_lanes(db, now)?;
        if !self.counts.is_empty() {
            self.flush_counts(db)?;
        }
        if !self.backlog.is_empty() {
            pending::flush(db, &mut self.backlog)?;
        }
        if !self.filter_errors.is_empty() {
            self.flush_filter_errors(db, now)?;
        }
        if !self.ends.is_empty() {
            self.chunk += 1;
            self.dirty = true;
            ends::store(db, self.chunk, &std::mem::take(&mut self.ends), now)?;
        }
        for runs in std::mem::take(&mut self.ended_runs).chunks(ends::RUNS) {
            self.chunk += 1;
            self.dirty = true;
            ends::store_runs(db, self.chunk, runs, now)?;
        }
        if !self.dirty {
            return Ok(());
        }
        db.prepare_cached(
            "UPDATE mark SET last = ?1, last_ms = ?2, cur = ?3, trim = ?4, again = ?5, kept = ?6,
               bytes = ?7, chunk = ?8, turn = ?9, lane = ?10, revision = ?11, nonce = ?12",
        )?
        .execute(params![
            self.last,
            self.last_ms,
            self.cur,
            self.trim,
            self.again,
            self.kept,
            self.bytes,
            self.chunk,
            self.turn,
            self.lane,
            self.revision,
            self.nonce
        ])?;
        self.dirty = false;
        Ok(())
    }

    fn flush_filter_errors(&mut self, db: &Connection, now: i64) -> Result<()> {
        let mut add = db.prepare_cached(
            "INSERT INTO filter_error(lane, count, ms, reason) VALUES(?1, ?2, ?3, ?4)
             ON CONFLICT(lane) DO UPDATE SET count = count + ?2, ms = ?3, reason = ?4",
        )?;
        for (lane, (count, reason)) in self.filter_errors.drain() {
            add.execute(params![lane, count, now, &*reason])?;
        }
        Ok(())
    }

    pub fn flush_counts(&mut self, db: &Connection) -> Result<()> {
        let mut add = db.prepare_cached(
            "UPDATE tenant SET accepted = accepted + ?2, matched = matched + ?3,
               unmatched = unmatched + ?4, created = created + ?5, succeeded = succeeded + ?6,
               failed = failed + ?7, cancelled = cancelled + ?8, called_off = called_off + ?9,
               scheduled = scheduled + ?10 WHERE t = ?1",
        )?;
        for (t, counts) in self.counts.drain() {
            add.execute(params![
                t,
                counts.accepted,
                counts.matched,
                counts.unmatched,
                counts.created,
                counts.succeeded,
                counts.failed,
                counts.cancelled,
                counts.called_off,
                counts.scheduled
            ])?;
        }
        Ok(())
    }
}
