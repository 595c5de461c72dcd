//! Ends that no attempt tells of, as the log keeps them: chunks of a kind of their own.

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::embedded::engine::codec::len;
use crate::embedded::engine::fault::Result;
use crate::embedded::engine::rows::Refs;
use crate::embedded::work::runs::RunRow;
use crate::run::BYTES;
use crate::watch::ENDS_KEPT;

/// Kind of a chunk of ends.
pub(in crate::embedded) const ENDS: i64 = 2;
/// Kind of a chunk of runs that ended.
pub(in crate::embedded) const RUN_ENDS: i64 = 3;
/// Runs that a chunk tells of at most: 1,024 deliveries.
pub(in crate::embedded) const RUNS: usize = 4;
/// Chunks of ends that one step of trimming removes.
const STEP: i64 = 50;

/// An end as it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::embedded) struct EndRow {
    pub n: i64,
    pub lane: i64,
    pub tag: String,
    pub tenant: i64,
    pub state: i64,
    pub reason: Option<i64>,
    pub attempts: u32,
    pub create_ms: i64,
}

/// A run that ended, as it is written.
#[derive(Serialize, Deserialize)]
pub(in crate::embedded) struct EndedRun {
    pub base: i64,
    pub lane: i64,
    pub tenant: i64,
    pub state: i64,
    pub reason: i64,
    pub began: i64,
    pub bits: [u8; BYTES],
}

/// Writes ends as the chunk of this number.
pub(in crate::embedded) fn store(db: &Connection, k: i64, ends: &[EndRow], now: i64) -> Result<()> {
    let max_n = ends.iter().map(|end| end.n).max().unwrap_or(0);
    write(db, (k, ENDS), max_n, &postcard::to_stdvec(ends)?, now)
}

/// Writes runs that ended as the chunk of this number; [`RUNS`] at most.
pub(in crate::embedded) fn store_runs(
    db: &Connection,
    k: i64,
    runs: &[RunRow],
    now: i64,
) -> Result<()> {
    let max_n = runs.iter().filter_map(|run| run.numbers().next_back()).max().unwrap_or(0);
    let ended = |run: &RunRow| EndedRun {
        base: run.base,
        lane: run.lane,
        tenant: run.tenant,
        state: run.state,
        reason: run.reason,
        began: run.began,
        bits: *run.bits.bytes(),
    };
    let runs: Vec<EndedRun> = runs.iter().map(ended).collect();
    write(db, (k, RUN_ENDS), max_n, &postcard::to_stdvec(&runs)?, now)
}

fn write(db: &Connection, (k, kind): (i64, i64), max_n: i64, data: &[u8], now: i64) -> Result<()> {
    let refs = postcard::to_stdvec(&Refs::default())?;
    db.prepare_cached(
        "INSERT INTO chunk(k, kind, ms, max_n, refs, late, data)
         VALUES(?1, ?2, ?3, ?4, ?5, NULL, ?6)",
    )?
    .execute(params![k, kind, now, max_n, refs, data])?;
    Ok(())
}

/// Removes chunks of ends beyond those that are kept.
pub(in crate::embedded) fn trim(db: &Connection) -> Result<()> {
    let newest: Option<i64> = db
        .prepare_cached(
            "SELECT k FROM chunk WHERE kind IN (?1, ?2) ORDER BY k DESC LIMIT 1 OFFSET ?3",
        )?
        .query_row([ENDS, RUN_ENDS, len(ENDS_KEPT)], |row| row.get(0))
        .optional()?;
    if let Some(newest) = newest {
        db.prepare_cached(
            "DELETE FROM chunk WHERE k IN
                   (SELECT k FROM chunk WHERE kind IN (?1, ?2) AND k <= ?3 ORDER BY k LIMIT ?4)",
        )?
        .execute([ENDS, RUN_ENDS, newest, STEP])?;
    }
    Ok(())
}
