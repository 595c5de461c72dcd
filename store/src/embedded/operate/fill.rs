//! Deliveries that events lack: looked for by a reader, made by the writer.
//!
//! A matched event gets no delivery any more but by a replay, which repeats one, or here. What is
//! made here has a row as long as its event is kept. So an event that had none to a lane when a
//! reader looked, into rows, runs and the log, has none as long as there is neither row nor run;
//! that is all that the writer looks at again. The log may be long, and nothing waits for it.

use pregon_core::attempt::AttemptRecord;
use pregon_core::id::DeliveryKey;
use pregon_core::outcome::PendingReason;
use rusqlite::{Connection, OptionalExtension, params};

use crate::codec::records;
use crate::embedded::engine::codec;
use crate::embedded::engine::fault::Result;
use crate::embedded::engine::rows;
use crate::embedded::engine::state::Tx;
use crate::embedded::log::attempts::Log;
use crate::embedded::operate::erase;
use crate::embedded::work::runs;
use crate::log::EventStage;
use crate::operate::{Filled, Missing};

/// Says which of them are missing.
pub(in crate::embedded) fn look(db: &Connection, missing: &[Missing]) -> Result<Vec<Filled>> {
    let (cur, trim): (i64, i64) = db
        .prepare_cached("SELECT cur, trim FROM mark")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut log = Log::default();
    let mut answers = Vec::with_capacity(missing.len());
    for missing in missing {
        let mut stands = stands(db, missing, cur, trim)?;
        if let Filled::Created(key) = stands {
            let told = log.of_event(db, codec::int(key.position.n))?;
            if tells_of(&told, &key) {
                stands = Filled::Existed;
            }
        }
        answers.push(stands);
    }
    Ok(answers)
}

/// Whether the log tells how a delivery of the event to the lane ended.
fn tells_of(told: &[AttemptRecord], key: &DeliveryKey) -> bool {
    let of_lane = |it: &&AttemptRecord| it.key.position == key.position && it.key.lane == key.lane;
    let own: Vec<AttemptRecord> = told.iter().filter(of_lane).cloned().collect();
    records::end(&own).is_some()
}

/// Makes those that are missing, of which the log was found not to tell.
pub(in crate::embedded) fn make(tx: &mut Tx<'_>, missing: &[Missing]) -> Result<Vec<Filled>> {
    missing.iter().map(|missing| make_one(tx, missing)).collect()
}

/// How a delivery stands as far as rows and runs tell.
fn stands(db: &Connection, missing: &Missing, cur: i64, trim: i64) -> Result<Filled> {
    let Missing { position, lane } = *missing;
    let (n, lane_no) = (codec::int(position.n), codec::lane(lane));
    // Of an event that trimming spared the log may be gone.
    if lane_no == 0 || n <= trim || !rows::is_kept(db, position)? || erase::is_erased(db, n)? {
        return Ok(Filled::EventGone);
    }
    if rows::stage(db, n, cur)? != EventStage::Matched {
        return Ok(Filled::NotMatched);
    }
    let row = "SELECT 1 FROM delivery WHERE n = ?1 AND lane = ?2";
    let known =
        db.prepare_cached(row)?.exists([n, lane_no])? || runs::holding(db, n, lane_no)?.is_some();
    let key = DeliveryKey { position, lane, replay: None };
    Ok(if known { Filled::Existed } else { Filled::Created(key) })
}

fn make_one(tx: &mut Tx<'_>, missing: &Missing) -> Result<Filled> {
    let stands = stands(tx.db, missing, tx.st.cur, tx.st.trim)?;
    let Filled::Created(key) = stands else { return Ok(stands) };
    let (n, lane, now) = (codec::int(key.position.n), codec::lane(key.lane), tx.now.millis());
    let tenant: Option<i64> = tx
        .db
        .prepare_cached(
            "INSERT INTO delivery(n, lane, replay, tenant, state, attempts, due, batch, create_ms,
               pending)
             SELECT n, ?2, '', tenant, 0, 0, ?3, NULL, ?3, ?4 FROM event WHERE n = ?1
             RETURNING tenant",
        )?
        .query_row(params![n, lane, now, codec::pending_code(PendingReason::Queued)], |row| {
            row.get(0)
        })
        .optional()?;
    let Some(tenant) = tenant else { return Ok(Filled::EventGone) };
    let wanted = tx
        .db
        .prepare_cached("DELETE FROM unmatched WHERE tenant = ?1 AND n = ?2")?
        .execute([tenant, n])?;
    let counts = tx.st.counts(tenant);
    counts.created += 1;
    counts.unmatched -= codec::len(wanted);
    counts.matched += codec::len(wanted);
    tx.st.pend(n, 1);
    tx.st.arrive(tx.db, lane, now)?;
    Ok(Filled::Created(key))
}
