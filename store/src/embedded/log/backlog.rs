//! What waits, from the counters of `backlog` and the one stretch that each age cuts through.

use async_trait::async_trait;
use pregon_core::clock::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use crate::StoreError;
use crate::backlog::{AGE_LIMITS, AGES, Backlog, BacklogReport, LOOK, STRETCH, STRETCHES, by_age};
use crate::embedded::engine::codec::{self, len, uint};
use crate::embedded::engine::executor::Handle;
use crate::embedded::engine::fault::Result;
use crate::embedded::engine::pending::{COARSE, FINE, WIDE, sum};
use crate::embedded::engine::{rows, schema};
use crate::embedded::log::books;
use crate::embedded::work::runs;
use crate::run::Bits;

/// Pending deliveries of events below a number.
fn below(db: &Connection, n: i64) -> Result<i64> {
    let (page, stretch) = (n / WIDE, n / STRETCH);
    let whole = sum(db, COARSE, 0, page)? + sum(db, FINE, page * STRETCHES, stretch)?;
    Ok(whole + part(db, stretch, n)?)
}

/// Pending deliveries of a stretch's events below a number: counted, or in proportion where its
/// records are too many.
fn part(db: &Connection, stretch: i64, n: i64) -> Result<i64> {
    let (first, all) = (stretch * STRETCH, sum(db, FINE, stretch, stretch + 1)?);
    if all == 0 || n == first {
        return Ok(0);
    }
    let mut select = db.prepare_cached(
        "SELECT COUNT(*), COALESCE(SUM(state = 0 AND lane > 0), 0) FROM
         (SELECT state, lane FROM delivery WHERE n >= ?1 AND n < ?2 LIMIT ?3)",
    )?;
    let (seen, pending): (i64, i64) =
        select.query_row(params![first, n, LOOK], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let runs = runs::pending_of(db, first, LOOK)?;
    if seen == LOOK || codec::len(runs.len()) == LOOK {
        return Ok(all * (n - first) / STRETCH);
    }
    let up_to = Bits::up_to(uint(first), uint(n - 1));
    let of_runs = runs.iter().map(|bits| i64::from(bits.and(&up_to).count())).sum::<i64>();
    Ok(pending + of_runs)
}

/// When the oldest event with a pending delivery was accepted. Where a stretch has too many
/// records, its first event stands for it.
fn oldest(db: &Connection) -> Result<Option<i64>> {
    let sql = "SELECT page FROM backlog WHERE level = 0 AND count > 0 ORDER BY page LIMIT 1";
    let stretch: Option<i64> =
        db.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
    let Some(stretch) = stretch else { return Ok(None) };
    let first = stretch * STRETCH;
    let sql = "SELECT n FROM
         (SELECT n, state, lane FROM delivery WHERE n >= ?1 AND n < ?2 ORDER BY n LIMIT ?3)
         WHERE state = 0 AND lane > 0 LIMIT 1";
    let found: Option<i64> = db
        .prepare_cached(sql)?
        .query_row([first, first + STRETCH, LOOK], |row| row.get(0))
        .optional()?;
    let runs = runs::pending_of(db, first, LOOK)?;
    let of_runs = runs.iter().filter_map(|bits| bits.numbers(uint(first)).next()).min();
    let found = found.into_iter().chain(of_runs.map(codec::int)).min();
    let mut select = db.prepare_cached("SELECT ms FROM event WHERE n >= ?1 ORDER BY n LIMIT 1")?;
    Ok(select.query_row([found.unwrap_or(first)], |row| row.get(0)).optional()?)
}

/// Events that are not matched yet.
fn events(db: &Connection, mark: &schema::Mark) -> Result<i64> {
    let count = |sql: &str| -> Result<i64> {
        let found = db.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
        Ok(found.unwrap_or(0))
    };
    let put_off = count("SELECT waiting FROM lane WHERE lane = 0")?;
    // What is in flight is few.
    let held = count(
        "SELECT COUNT(*) FROM delivery INDEXED BY delivery_held WHERE batch IS NOT NULL AND lane = 0",
    )?;
    let scheduled = count("SELECT COALESCE(SUM(scheduled), 0) FROM tenant WHERE scheduled <> 0")?;
    let open: usize = books::batches(db)?.iter().map(|batch| batch.open_events().count()).sum();
    Ok(mark.last - mark.cur + put_off + held + len(open) - scheduled)
}

fn backlog(db: &Connection, now: Timestamp) -> Result<BacklogReport> {
    let mark = schema::mark(db)?;
    let oldest = oldest(db)?;
    let pending = sum(db, COARSE, 0, i64::MAX)?;
    let mut older = [0; AGES - 1];
    for (older, limit) in older.iter_mut().zip(AGE_LIMITS) {
        let before = now.minus(limit).millis();
        if oldest.is_some_and(|oldest| oldest < before) {
            *older = uint(below(db, rows::highest_before(db, before, mark.last)? + 1)?);
        }
    }
    Ok(BacklogReport {
        events: uint(events(db, &mark)?),
        deliveries: by_age(uint(pending), older),
        oldest: oldest.map(Timestamp::from_millis),
        now,
    })
}

#[async_trait]
impl Backlog for Handle {
    async fn backlog(&self) -> std::result::Result<BacklogReport, StoreError> {
        let now = self.now();
        self.read(move |db| backlog(db, now)).await
    }
}
