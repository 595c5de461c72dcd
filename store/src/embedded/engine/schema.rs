//! The tables, and how a connection is set up.
//!
//! | table | a row is |
//! |---|---|
//! | `mark` | the numbers that only ever move forward, in one row: it is written once a group |
//! | `tenant` | a tenant that ever published, its number here and its counters |
//! | `event` | an event; `n` is its number, the rest but its data is in `head` |
//! | `dedupe` | a given id and where its latest event lies; goes with that event, or a day after |
//! | `stale` | a `dedupe` row that outlived its event, and when to drop it |
//! | `unmatched` | an event that nobody wanted |
//! | `batch` | what one claim leased: a range of new events, or what `delivery.batch` names |
//! | `delivery` | a delivery that is or was in trouble; lane 0: an event that is put off, or was called off |
//! | `run` | deliveries of a lane that never were attempted, a bit each: pending, or ended together |
//! | `lease` | what a batch has in hand of a run |
//! | `partial` | how far the fan-out of an event got |
//! | `lane` | a lane with waiting deliveries, or a closed one |
//! | `filter_error` | a lane whose filter had no answer for some events: how many, and the last reason |
//! | `backlog` | how many deliveries of some event numbers are pending |
//! | `killed` | a delivery that was cancelled while it was attempted |
//! | `chunk` | attempts of one settle, packed; or ends that none tells of (`watch`) |
//! | `map` | which chunks tell of the events of a batch, as first taken: ranges are disjoint |
//! | `trail` | which chunks tell of an event by attempts made from lanes |
//! | `doc`, `change`, `request` | configuration, its change log, and remembered requests |
//! | `audit`, `audit_size` | the audit log, and how much there is of it by class |
//! | `node` | a node that announced itself |
//!
//! `batch` has no index but its key: there are few at a time, and each would be one more page to
//! write for every take and settle.
//!
//! `dedupe` is ordered by the ids themselves and not by a hash of them. Ids that rise with time
//! (ULID, UUIDv7, order numbers) then fill pages one after the other; by a hash each would dirty
//! a page of its own, which under load is 8 KiB written for each event.
//!
//! An event whose deliveries all succeed at once touches `event`, and a 256th of `batch`, `chunk`
//! and `map`. Everything else is for work in trouble.

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension};

use crate::embedded::engine::fault::Result;
use crate::embedded::{OpenError, SyncMode};

/// The schema that this release writes.
pub(in crate::embedded) const VERSION: i64 = 3;
/// What schema 2 has that schema 1 had not: counters of pending deliveries, by stretches of event
/// numbers and by many stretches together.
const BACKLOG: &str = "
CREATE TABLE backlog(
  level INTEGER NOT NULL, page INTEGER NOT NULL, count INTEGER NOT NULL,
  PRIMARY KEY(level, page)) WITHOUT ROWID;
";
/// What schema 3 has that schema 2 had not: runs.
const RUNS: &str = "
CREATE TABLE run(
  base INTEGER NOT NULL, lane INTEGER NOT NULL, state INTEGER NOT NULL, end_ms INTEGER NOT NULL,
  reason INTEGER NOT NULL, tenant INTEGER NOT NULL, began INTEGER NOT NULL,
  pending INTEGER NOT NULL, bits BLOB NOT NULL, free BLOB NOT NULL, count INTEGER NOT NULL,
  waiting INTEGER NOT NULL, PRIMARY KEY(base, lane, state, end_ms, reason)) WITHOUT ROWID;
CREATE INDEX run_lane ON run(lane, state, base);
CREATE INDEX run_tenant ON run(tenant, state, base);
CREATE TABLE lease(
  batch INTEGER NOT NULL, base INTEGER NOT NULL, lane INTEGER NOT NULL, bits BLOB NOT NULL,
  PRIMARY KEY(batch, base, lane)) WITHOUT ROWID;
";
/// What a release that does not know it may leave alone, so that it makes no other schema: how often
/// filters had no answer, and the audit log.
const BESIDE: &str = "
CREATE TABLE IF NOT EXISTS filter_error(
  lane INTEGER PRIMARY KEY, count INTEGER NOT NULL, ms INTEGER NOT NULL, reason TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS audit(
  id TEXT NOT NULL UNIQUE, class INTEGER NOT NULL, revision INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS audit_class ON audit(class, id);
CREATE TABLE IF NOT EXISTS audit_size(
  class INTEGER PRIMARY KEY, entries INTEGER NOT NULL, bytes INTEGER NOT NULL);
";
/// Marks a file as ours ("prgn").
const APPLICATION: i64 = 0x7072_676e;
/// Bytes of a page: a row of 500 B event data with its head fits a dozen times.
pub(in crate::embedded) const PAGE: u64 = 8192;
/// Statements kept prepared: all that there are.
const STATEMENTS: usize = 200;
/// KiB of pages that the writer keeps in memory.
const WRITER_CACHE_KIB: i64 = 32 * 1024;
/// KiB of pages that a reader keeps in memory.
const READER_CACHE_KIB: i64 = 8 * 1024;
/// Pages of the log after which it is copied into the database: 16 MiB. A hot page is then copied
/// once for many commits, and the reserve (three times that) has room for the copy.
pub(in crate::embedded) const CHECKPOINT_PAGES: i64 = 2048;
/// Bytes that the log file is cut back to after a checkpoint.
const WAL_KEPT: i64 = 32 * 1024 * 1024;

const TABLES: &str = "
CREATE TABLE mark(
  one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL,
  last INTEGER NOT NULL, last_ms INTEGER NOT NULL, cur INTEGER NOT NULL,
  trim INTEGER NOT NULL, again INTEGER NOT NULL, kept INTEGER NOT NULL, bytes INTEGER NOT NULL,
  chunk INTEGER NOT NULL, turn INTEGER NOT NULL, lane INTEGER NOT NULL,
  revision INTEGER NOT NULL, nonce INTEGER NOT NULL);
CREATE TABLE tenant(
  t INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
  accepted INTEGER NOT NULL DEFAULT 0, matched INTEGER NOT NULL DEFAULT 0,
  unmatched INTEGER NOT NULL DEFAULT 0, created INTEGER NOT NULL DEFAULT 0,
  succeeded INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0,
  cancelled INTEGER NOT NULL DEFAULT 0);
CREATE TABLE event(
  n INTEGER PRIMARY KEY, ms INTEGER NOT NULL, tenant INTEGER NOT NULL,
  head BLOB NOT NULL, data BLOB NOT NULL);
CREATE INDEX event_tenant ON event(tenant, n);
CREATE TABLE dedupe(
  tenant INTEGER NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, digest BLOB NOT NULL,
  n INTEGER NOT NULL, ms INTEGER NOT NULL, PRIMARY KEY(tenant, id, version)) WITHOUT ROWID;
CREATE TABLE stale(
  ms INTEGER NOT NULL, tenant INTEGER NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL,
  PRIMARY KEY(ms, tenant, id, version)) WITHOUT ROWID;
CREATE TABLE unmatched(
  tenant INTEGER NOT NULL, n INTEGER NOT NULL, PRIMARY KEY(tenant, n)) WITHOUT ROWID;
CREATE TABLE batch(
  b INTEGER PRIMARY KEY, boot INTEGER NOT NULL, node TEXT NOT NULL,
  origin INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, done BLOB NOT NULL,
  open INTEGER NOT NULL, takes INTEGER NOT NULL, expiry INTEGER NOT NULL,
  released INTEGER NOT NULL DEFAULT 0);
CREATE TABLE delivery(
  n INTEGER NOT NULL, lane INTEGER NOT NULL, replay TEXT NOT NULL, tenant INTEGER NOT NULL,
  state INTEGER NOT NULL, attempts INTEGER NOT NULL, due INTEGER NOT NULL, batch INTEGER,
  create_ms INTEGER NOT NULL, end_ms INTEGER, pending INTEGER NOT NULL, reason INTEGER,
  PRIMARY KEY(n, lane, replay)) WITHOUT ROWID;
CREATE INDEX delivery_waiting ON delivery(lane, due) WHERE state = 0 AND batch IS NULL;
CREATE INDEX delivery_held ON delivery(batch) WHERE batch IS NOT NULL;
CREATE INDEX delivery_lane ON delivery(lane, state, n) WHERE state <> 1;
CREATE INDEX delivery_tenant ON delivery(tenant, state, n) WHERE state <> 1;
CREATE TABLE partial(n INTEGER PRIMARY KEY, cursor INTEGER NOT NULL);
CREATE TABLE lane(
  lane INTEGER PRIMARY KEY, wake INTEGER, turn INTEGER NOT NULL, shut_until INTEGER NOT NULL,
  why INTEGER NOT NULL, waiting INTEGER NOT NULL);
CREATE INDEX lane_wake ON lane(wake, turn) WHERE wake IS NOT NULL;
CREATE TABLE killed(
  n INTEGER NOT NULL, lane INTEGER NOT NULL, replay TEXT NOT NULL, reason INTEGER NOT NULL,
  ms INTEGER NOT NULL, PRIMARY KEY(n, lane, replay)) WITHOUT ROWID;
CREATE TABLE chunk(
  k INTEGER PRIMARY KEY, kind INTEGER NOT NULL, ms INTEGER NOT NULL, max_n INTEGER NOT NULL,
  refs BLOB NOT NULL, late BLOB, data BLOB NOT NULL);
CREATE INDEX chunk_kind ON chunk(kind, k);
CREATE TABLE map(first INTEGER NOT NULL, k INTEGER NOT NULL, PRIMARY KEY(first, k)) WITHOUT ROWID;
CREATE TABLE trail(n INTEGER NOT NULL, k INTEGER NOT NULL, PRIMARY KEY(n, k)) WITHOUT ROWID;
CREATE TABLE doc(
  name TEXT PRIMARY KEY, collections TEXT NOT NULL, revision INTEGER NOT NULL,
  bytes BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX doc_kind ON doc(collections, name);
CREATE TABLE change(revision INTEGER PRIMARY KEY, nonce INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE request(
  id BLOB PRIMARY KEY, digest BLOB NOT NULL, revision INTEGER NOT NULL, reply BLOB NOT NULL,
  ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX request_ms ON request(ms);
CREATE TABLE node(id TEXT PRIMARY KEY, ms INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
";

/// Sets up the writing connection, makes the tables in a new file, and refuses a newer one.
pub(in crate::embedded) fn prepare(
    db: &Connection,
    sync: SyncMode,
    in_file: bool,
    epoch: i64,
) -> std::result::Result<(), OpenError> {
    let wrong = |error: rusqlite::Error| OpenError::Database(error.to_string());
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    let page = i64::try_from(PAGE).unwrap_or(8192);
    db.pragma_update(None, "page_size", page).map_err(wrong)?;
    if in_file {
        let mode: String = db
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
            .map_err(wrong)?;
        if mode != "wal" {
            return Err(OpenError::Database(format!("journal mode is {mode}, not wal")));
        }
    }
    synchronous(db, sync == SyncMode::Fsync).map_err(wrong)?;
    keep_plans(db).map_err(wrong)?;
    db.pragma_update(None, "cache_size", -WRITER_CACHE_KIB).map_err(wrong)?;
    db.pragma_update(None, "temp_store", "MEMORY").map_err(wrong)?;
    db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(wrong)?;
    db.pragma_update(None, "journal_size_limit", WAL_KEPT).map_err(wrong)?;
    let found: i64 =
        db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(wrong)?;
    if found > VERSION {
        return Err(OpenError::Newer { found, known: VERSION });
    }
    match found {
        0 => create(db, epoch).map_err(wrong)?,
        VERSION => {}
        _ => upgrade(db, found).map_err(wrong)?,
    }
    db.execute_batch(BESIDE).map_err(wrong)?;
    add_counters(db).map_err(wrong)
}

/// Counters that a release which does not know them leaves alone: events that were called off, and
/// events whose time has not come.
fn add_counters(db: &Connection) -> rusqlite::Result<()> {
    for name in ["called_off", "scheduled"] {
        let sql = "SELECT 1 FROM pragma_table_info('tenant') WHERE name = ?1";
        if !db.prepare(sql)?.exists([name])? {
            let sql = format!("ALTER TABLE tenant ADD COLUMN {name} INTEGER NOT NULL DEFAULT 0");
            db.execute_batch(&sql)?;
        }
    }
    db.execute_batch(
        "CREATE INDEX IF NOT EXISTS tenant_scheduled ON tenant(scheduled) WHERE scheduled <> 0",
    )
}

/// A statement is planned once. Else SQLite makes the plan of one with a `LIMIT ?` anew each time
/// that a value is bound, which costs several times what the statement does.
fn keep_plans(db: &Connection) -> rusqlite::Result<()> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

/// Whether a commit waits for the disk. Takes effect with the next transaction.
pub(in crate::embedded) fn synchronous(db: &Connection, full: bool) -> rusqlite::Result<()> {
    let sql = if full { "PRAGMA synchronous=FULL" } else { "PRAGMA synchronous=NORMAL" };
    db.execute_batch(sql)
}

fn create(db: &Connection, epoch: i64) -> rusqlite::Result<()> {
    db.execute_batch("BEGIN IMMEDIATE")?;
    db.execute_batch(TABLES)?;
    db.execute_batch(BACKLOG)?;
    db.execute_batch(RUNS)?;
    db.execute("INSERT INTO mark VALUES(1, ?1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)", [epoch])?;
    db.pragma_update(None, "application_id", APPLICATION)?;
    db.pragma_update(None, "user_version", VERSION)?;
    db.execute_batch("COMMIT")
}

/// From an earlier schema. From schema 1 it counts what waits, once; a second or two for a million
/// deliveries. Waiting deliveries of schema 2 keep their records.
fn upgrade(db: &Connection, found: i64) -> rusqlite::Result<()> {
    db.execute_batch("BEGIN IMMEDIATE")?;
    if found < 2 {
        db.execute_batch(BACKLOG)?;
        crate::embedded::engine::pending::count_anew(db)?;
    }
    db.execute_batch(RUNS)?;
    db.pragma_update(None, "user_version", VERSION)?;
    db.execute_batch("COMMIT")
}

/// Sets up a reading connection.
pub(in crate::embedded) fn prepare_reader(db: &Connection) -> rusqlite::Result<()> {
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    keep_plans(db)?;
    db.busy_timeout(std::time::Duration::from_secs(1))?;
    db.pragma_update(None, "query_only", true)?;
    db.pragma_update(None, "cache_size", -READER_CACHE_KIB)
}

/// The numbers of `mark` that readers need.
pub(in crate::embedded) struct Mark {
    pub epoch: i64,
    pub last: i64,
    pub cur: i64,
    pub chunk: i64,
    pub revision: i64,
    pub nonce: i64,
}

/// Reads the numbers of `mark`.
pub(in crate::embedded) fn mark(db: &Connection) -> Result<Mark> {
    let mark = db
        .prepare_cached("SELECT epoch, last, cur, revision, nonce, chunk FROM mark")?
        .query_row([], |row| {
            Ok(Mark {
                epoch: row.get(0)?,
                last: row.get(1)?,
                cur: row.get(2)?,
                revision: row.get(3)?,
                nonce: row.get(4)?,
                chunk: row.get(5)?,
            })
        })
        .optional()?;
    mark.ok_or_else(|| crate::embedded::engine::codec::bad("mark", "missing"))
}
