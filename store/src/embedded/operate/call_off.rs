//! Calling events off whose time has not come: each is a row of lane 0 until then.
//!
//! What is called off counts as unmatched, and keeps its row, ended, so that it can be told from
//! what nobody wanted. The row goes with the event.

use pregon_core::id::Position;
use pregon_core::outcome::EndReason;
use rusqlite::{OptionalExtension, params};

use crate::embedded::engine::codec::{self, CANCELLED, PENDING, SCHEDULED};
use crate::embedded::engine::fault::Result;
use crate::embedded::engine::rows;
use crate::embedded::engine::state::Tx;
use crate::log::EventStage;
use crate::operate::EventCancelled;

/// Calls an event off, for a caller.
pub(in crate::embedded) fn cancel(tx: &mut Tx<'_>, position: Position) -> Result<EventCancelled> {
    if !rows::is_kept(tx.db, position)? {
        return Ok(EventCancelled::Unknown);
    }
    let n = codec::int(position.n);
    if call_off(tx, n, EndReason::ByCaller)? {
        return Ok(EventCancelled::Done);
    }
    Ok(match rows::stage(tx.db, n, tx.st.cur)? {
        EventStage::Cancelled => EventCancelled::Done,
        EventStage::Matched => EventCancelled::Over,
        EventStage::Waiting | EventStage::Claimed(_) | EventStage::Scheduled => {
            EventCancelled::InHand
        }
    })
}

/// Calls an event off if its time has not come and no node has it; false: nothing was done.
pub(in crate::embedded) fn call_off(tx: &mut Tx<'_>, n: i64, why: EndReason) -> Result<bool> {
    let tenant: Option<i64> = tx
        .db
        .prepare_cached(
            "UPDATE delivery SET state = ?2, end_ms = ?3, reason = ?4
             WHERE n = ?1 AND lane = 0 AND state = ?5 AND batch IS NULL AND pending = ?6
             RETURNING tenant",
        )?
        .query_row(
            params![n, CANCELLED, tx.now.millis(), codec::end_code(why), PENDING, SCHEDULED],
            |row| row.get(0),
        )
        .optional()?;
    let Some(tenant) = tenant else { return Ok(false) };
    tx.db
        .prepare_cached("INSERT INTO unmatched(tenant, n) VALUES(?1, ?2) ON CONFLICT DO NOTHING")?
        .execute([tenant, n])?;
    let counts = tx.st.counts(tenant);
    counts.unmatched += 1;
    counts.called_off += 1;
    counts.scheduled -= 1;
    tx.st.leave(tx.db, 0, 1)?;
    tx.st.loosen(n);
    Ok(true)
}
