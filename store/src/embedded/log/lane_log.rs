//! A lane as it stands, and the log read backwards for it.

use std::collections::HashMap;

use async_trait::async_trait;
use pregon_core::clock::Timestamp;
use pregon_core::id::{LaneNo, PartitionNo};
use pregon_core::outcome::PendingReason;
use rusqlite::{Connection, OptionalExtension, params};

use crate::StoreError;
use crate::embedded::engine::codec::{self, len, uint};
use crate::embedded::engine::executor::Handle;
use crate::embedded::engine::fault::Result;
use crate::embedded::log::chunk;
use crate::embedded::work::{apply, runs};
use crate::lane_log::{
    LaneAttempts, LaneLog, LaneReport, SCAN_CHUNKS, SCAN_RECORDS, Unanswered, together,
};

/// Until when a lane is or was closed, and why.
fn shut(db: &Connection, lane: i64) -> Result<Option<(Timestamp, PendingReason)>> {
    let sql = "SELECT shut_until, why FROM lane WHERE lane = ?1 AND shut_until > 0";
    let row: Option<(i64, i64)> = db
        .prepare_cached(sql)?
        .query_row([lane], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    row.map(|(till, why)| Ok((Timestamp::from_millis(till), codec::pending_of(why)?))).transpose()
}

fn unanswered(db: &Connection, lane: i64) -> Result<Unanswered> {
    let sql = "SELECT count, ms, reason FROM filter_error WHERE lane = ?1";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Unanswered {
            count: uint(row.get(0)?),
            last: Some(Timestamp::from_millis(row.get(1)?)),
            reason: row.get(2)?,
        })
    };
    Ok(db.prepare_cached(sql)?.query_row([lane], read).optional()?.unwrap_or_default())
}

fn report(db: &Connection, lane: i64, now: Timestamp) -> Result<LaneReport> {
    let mut select = db.prepare_cached("SELECT waiting FROM lane WHERE lane = ?1")?;
    let waiting: Option<i64> = select.query_row([lane], |row| row.get(0)).optional()?;
    // What is in flight is few.
    let held = "SELECT COUNT(*) FROM delivery INDEXED BY delivery_held
                WHERE batch IS NOT NULL AND lane = ?1";
    let held: i64 = db.prepare_cached(held)?.query_row([lane], |row| row.get(0))?;
    let leases = runs::all_leased(db)?.into_iter().filter(|lease| lease.lane == lane);
    let leased: i64 = leases.map(|lease| i64::from(lease.bits.count())).sum();
    let run = runs::waiting(db, lane, 0)?.into_iter().next();
    let due = "SELECT MIN(due) FROM delivery INDEXED BY delivery_waiting
               WHERE lane = ?1 AND state = 0 AND batch IS NULL";
    let due: Option<i64> = db.prepare_cached(due)?.query_row([lane], |row| row.get(0))?;
    let oldest = "SELECT event.ms FROM delivery INDEXED BY delivery_lane
                  JOIN event ON event.n = delivery.n
                  WHERE lane = ?1 AND state = 0 AND state <> 1 AND batch IS NULL
                  ORDER BY delivery.n LIMIT 1";
    let oldest: Option<i64> =
        db.prepare_cached(oldest)?.query_row([lane], |row| row.get(0)).optional()?;
    let mut of_run = None;
    if let Some(run) = &run
        && let Some(first) = run.free.numbers(uint(run.base)).next()
    {
        let ms = apply::accept_ms(db, codec::int(first))?;
        of_run = Some((run.created(ms), ms));
    }
    let due = due.into_iter().chain(of_run.map(|(due, _)| due)).min();
    let oldest = oldest.into_iter().chain(of_run.map(|(_, ms)| ms)).min();
    let mut report = LaneReport {
        waiting: uint(waiting.unwrap_or(0)),
        held: uint(held + leased),
        next_due: due.map(Timestamp::from_millis),
        oldest: oldest.map(Timestamp::from_millis),
        unanswered: unanswered(db, lane)?,
        ..LaneReport::default()
    };
    report.was_closed(shut(db, lane)?, now);
    Ok(report)
}

fn attempts(db: &Connection, lane: LaneNo, since: Timestamp, limit: usize) -> Result<LaneAttempts> {
    // Chunks of other kinds tell of no attempts.
    let sql = "SELECT late, data, ms FROM chunk WHERE kind IN (?2, ?3) ORDER BY k DESC LIMIT ?1";
    let mut select = db.prepare_cached(sql)?;
    let mut rows = select.query(params![len(SCAN_CHUNKS), chunk::SMOOTH, chunk::TROUBLE])?;
    let (mut found, mut seen, mut chunks, mut reached) = (Vec::new(), 0, 0, since);
    while let Some(row) = rows.next()? {
        let logged = Timestamp::from_millis(row.get(2)?);
        if logged < since {
            break;
        }
        let records = chunk::unpack(row)?;
        (seen, chunks) = (seen + records.len(), chunks + 1);
        let own = records.into_iter().filter(|record| record.key.lane == lane);
        found.extend(own.map(|record| (logged, record)));
        if seen >= SCAN_RECORDS || chunks == SCAN_CHUNKS || found.len() > limit {
            reached = logged;
            break;
        }
    }
    Ok(together(found, reached, limit))
}

#[async_trait]
impl LaneLog for Handle {
    async fn lane(&self, lane: LaneNo) -> std::result::Result<LaneReport, StoreError> {
        let now = self.now();
        self.read(move |db| report(db, codec::lane(lane), now)).await
    }

    async fn closed(
        &self,
        partition: PartitionNo,
        lanes: &[LaneNo],
    ) -> std::result::Result<HashMap<LaneNo, (Timestamp, PendingReason)>, StoreError> {
        if partition != codec::PARTITION {
            return Ok(HashMap::new());
        }
        let (now, lanes) = (self.now(), lanes.to_vec());
        let look = move |db: &Connection| {
            let of = |lane: LaneNo| {
                let shut = shut(db, codec::lane(lane))?.filter(|(until, _)| *until > now);
                Ok(shut.map(|it| (lane, it)))
            };
            lanes.into_iter().filter_map(|lane| of(lane).transpose()).collect()
        };
        self.read(look).await
    }

    async fn lane_attempts(
        &self,
        lane: LaneNo,
        since: Timestamp,
        limit: usize,
    ) -> std::result::Result<LaneAttempts, StoreError> {
        self.read(move |db| attempts(db, lane, since, limit)).await
    }
}
