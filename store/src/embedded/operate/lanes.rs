//! Closing, opening and emptying lanes.
//!
//! Closing and opening touch the lane's row and no delivery, whatever number waits. Ending what
//! waits goes in bounded steps, oldest events first.

use pregon_core::id::LaneNo;
use rusqlite::params;

use crate::batch::LaneClose;
use crate::embedded::engine::codec::{self, len};
use crate::embedded::engine::ends::EndRow;
use crate::embedded::engine::fault::Result;
use crate::embedded::engine::rows;
use crate::embedded::engine::state::Tx;
use crate::embedded::work::apply;
use crate::embedded::work::runs;
use crate::operate::LaneEnd;
use crate::run::Bits;

/// Deliveries with rows that one step ends: 10 ms of the writer.
const END_MAX: usize = 1000;
/// Runs that one step ends: some ms of the writer.
const END_RUNS: usize = 64;

/// Closes lanes; closing longer wins.
pub(in crate::embedded) fn close(tx: &mut Tx<'_>, lanes: &[LaneClose]) -> Result<()> {
    for close in lanes {
        let until = tx.now.plus(close.wait).millis();
        let lane = tx.st.lane_mut(tx.db, codec::lane(close.lane))?;
        if until > lane.shut_until {
            lane.shut_until = until;
            lane.why = codec::pending_code(close.reason);
            lane.wake = lane.wake.map(|wake| wake.max(until));
        }
    }
    Ok(())
}

/// Opens lanes and lets them be looked at now.
pub(in crate::embedded) fn open(tx: &mut Tx<'_>, lanes: &[LaneNo]) -> Result<()> {
    let now = tx.now.millis();
    for lane in lanes {
        let turn = tx.st.next_turn();
        let lane = tx.st.lane_mut(tx.db, codec::lane(*lane))?;
        lane.shut_until = 0;
        lane.put_off = 0;
        lane.turn = turn;
        lane.wake = (lane.waiting > 0).then_some(now);
    }
    tx.st.ring = true;
    Ok(())
}

/// Ends waiting deliveries of a lane; answers how many.
pub(in crate::embedded) fn end(tx: &mut Tx<'_>, end: &LaneEnd) -> Result<usize> {
    let lane = codec::lane(end.lane);
    let (state, reason) = (codec::state_code(end.state), codec::end_code(end.reason));
    let before = end.before.map_or(i64::MAX, pregon_core::clock::Timestamp::millis);
    // A delivery is no older than its event: above this number none can qualify.
    let highest = match end.before {
        None => i64::MAX,
        Some(_) => rows::highest_before(tx.db, before, tx.st.last)?,
    };
    let ended = end_runs(tx, end, highest, before)?;
    if ended > 0 {
        return Ok(ended); // rows have their turn when no run is left
    }
    let limit = end.limit.min(END_MAX);
    let mut select = tx.db.prepare_cached(
        "SELECT n, replay, tenant, attempts, create_ms FROM delivery INDEXED BY delivery_lane
         WHERE lane = ?1 AND state = 0 AND state <> 1 AND n <= ?2 AND batch IS NULL AND create_ms < ?3
         ORDER BY n LIMIT ?4",
    )?;
    let found = select.query_map(params![lane, highest, before, len(limit)], |row| {
        Ok(EndRow {
            n: row.get(0)?,
            lane,
            tag: row.get(1)?,
            tenant: row.get(2)?,
            state,
            reason: Some(reason),
            attempts: row.get(3)?,
            create_ms: row.get(4)?,
        })
    })?;
    let found = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut update = tx.db.prepare_cached(
        "UPDATE delivery SET state = ?4, reason = ?5, end_ms = ?6
         WHERE n = ?1 AND lane = ?2 AND replay = ?3",
    )?;
    for row in &found {
        update.execute(params![row.n, lane, row.tag, state, reason, tx.now.millis()])?;
        apply::count_end(tx.st.counts(row.tenant), state, 1);
        tx.st.pend(row.n, -1);
    }
    let ended = found.len();
    tx.st.leave(tx.db, lane, len(ended))?;
    tx.st.ends.extend(found);
    Ok(ended)
}

/// Ends waiting runs of a lane, each as a whole unless the limit is reached within it; answers how many
/// deliveries those had.
fn end_runs(tx: &mut Tx<'_>, end: &LaneEnd, highest: i64, before: i64) -> Result<usize> {
    let lane = codec::lane(end.lane);
    let (state, reason) = (codec::state_code(end.state), codec::end_code(end.reason));
    let mut ended = 0;
    for mut run in runs::to_end(tx.db, lane, highest, before, END_RUNS)? {
        let due = Bits::up_to(codec::uint(run.base), codec::uint(highest)).and(&run.free);
        let bits = due.first(end.limit - ended);
        if bits.is_empty() {
            continue;
        }
        let gone = run.end(state, tx.now.millis(), reason, bits);
        run.store(tx.db)?;
        gone.clone().merge(tx.db)?;
        apply::count_end(tx.st.counts(run.tenant), state, gone.count());
        tx.st.pend_less(&gone);
        ended += gone.numbers().count();
        tx.st.ended_runs.push(gone);
    }
    tx.st.leave(tx.db, lane, len(ended))?;
    Ok(ended)
}
