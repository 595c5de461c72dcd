//! Due work: lanes are scheduled, not deliveries.
//!
//! A call walks the lanes whose `wake` has come, in the order of their turns, round after round, and
//! lets each hand out a few deliveries; then it sets their `wake` anew: nothing when nothing is left;
//! now, behind the others, when more is due; half a second on when the lane has no free slot (the node pulls
//! it by name as soon as it has one). A closed lane is not looked into at all, whatever waits in
//! it. Lane 0 hands out events that were put off.

use std::collections::{HashMap, VecDeque};

use rusqlite::params;

use super::codec::{self, len};
use super::fault::Result;
use super::rows::{BatchRow, Events};
use super::state::{Lane, Tx};
use super::{moves, take};
use crate::queue::{Batch, Claim, Due, DueRequest, HeldDelivery, LANE_QUANTUM, OpenEvent};
use pregon_core::clock::Timestamp;

/// Lanes that one call looks at: 1 ms of work when all of them are full.
const LOOK: usize = 256;
/// How long a lane without a free slot is put off.
const PUT_OFF_MS: i64 = 500;

/// A waiting delivery's row, or a put-off event's.
struct Waiting {
    n: i64,
    replay: String,
    attempts: i64,
    create_ms: i64,
    due: i64,
}

/// One call at work.
struct Round<'a> {
    row: BatchRow,
    batch: Batch,
    events: Events,
    request: &'a DueRequest,
    /// How many each lane has handed out.
    handed: HashMap<i64, usize>,
}

/// Leases due deliveries, lanes taking turns.
pub(super) fn due(tx: &mut Tx<'_>, claim: &Claim, request: &DueRequest) -> Result<Due> {
    let now = tx.now.millis();
    tx.st.flush_lanes(tx.db, now)?;
    let mut row = BatchRow::lanes(tx.st.new_batch(), claim.node.as_str());
    row.expiry = tx.now.plus(claim.lease).millis();
    let batch = take::empty(tx.boot, &row, None);
    let handed = HashMap::new();
    let mut round = Round { row, batch, events: Events::default(), request, handed };
    let (mut turns, mut more) = candidates(tx, request)?;
    while let Some(lane) = turns.pop_front() {
        if round.batch.len() >= request.want {
            more |= tx.st.lane(tx.db, lane)?.wake.is_some_and(|wake| wake <= now);
            break;
        }
        if visit(tx, &mut round, lane)? {
            turns.push_back(lane);
        }
    }
    round.row.open = len(round.batch.len());
    if round.row.open > 0 {
        round.row.insert(tx.db, tx.boot)?;
    }
    tx.st.flush_lanes(tx.db, now)?;
    let next: Option<i64> = tx
        .db
        .prepare_cached("SELECT MIN(wake) FROM lane WHERE wake IS NOT NULL")?
        .query_row([], |row| row.get(0))?;
    let wait = |wake: i64| std::time::Duration::from_millis(codec::uint(wake - now));
    Ok(Due {
        more,
        next: next.map(wait),
        batch: Some(round.batch).filter(|batch| !batch.is_empty()),
    })
}

/// Lanes to visit: those that are pulled, then those that are due, longest waiting first. With them
/// whether there may be more.
fn candidates(tx: &Tx<'_>, request: &DueRequest) -> Result<(VecDeque<i64>, bool)> {
    let mut lanes: Vec<i64> = Vec::new();
    for lane in request.pull.iter().map(|lane| codec::lane(*lane)).take(LOOK) {
        if !lanes.contains(&lane) {
            lanes.push(lane);
        }
    }
    let pulled = lanes.len();
    let mut select = tx.db.prepare_cached(
        "SELECT lane FROM lane WHERE wake IS NOT NULL AND wake <= ?1 ORDER BY wake, turn LIMIT ?2",
    )?;
    let due = select.query_map(params![tx.now.millis(), len(LOOK)], |row| row.get(0))?;
    for lane in due {
        let lane: i64 = lane?;
        if !lanes[..pulled].contains(&lane) {
            lanes.push(lane);
        }
    }
    let more = lanes.len() - pulled >= LOOK;
    Ok((lanes.into(), more))
}

/// Lets one lane hand out its share, and sets its next look; whether it is to have another turn.
fn visit(tx: &mut Tx<'_>, round: &mut Round<'_>, lane: i64) -> Result<bool> {
    let now = tx.now.millis();
    let slots = match lane {
        0 => u32::MAX, // events need no slot
        lane => {
            let name = pregon_core::id::LaneNo(codec::uint(lane));
            round.request.slots.get(&name).copied().unwrap_or(round.request.default_slots)
        }
    };
    let turn = tx.st.next_turn();
    let state = tx.st.lane_mut(tx.db, lane)?;
    state.turn = turn;
    if state.waiting <= 0 {
        state.wake = None;
        return Ok(false);
    }
    if state.shut_until > now {
        state.wake = Some(state.shut_until);
        return Ok(false);
    }
    if slots == 0 {
        put_off(state, now);
        return Ok(false);
    }
    let before = round.handed.get(&lane).copied().unwrap_or(0);
    let slots = usize::try_from(slots).unwrap_or(usize::MAX).saturating_sub(before);
    let share = LANE_QUANTUM.min(slots).min(round.request.want - round.batch.len());
    let (handed, next) = hand_out(tx, round, lane, share)?;
    let state = tx.st.lane_mut(tx.db, lane)?;
    state.waiting -= len(handed);
    state.put_off = 0;
    state.wake = next;
    round.handed.insert(lane, before + handed);
    let more = next.is_some_and(|due| due <= now);
    if more && handed >= slots {
        put_off(state, now);
    } else if more {
        state.wake = Some(now);
    }
    Ok(more && handed < slots)
}

fn put_off(lane: &mut Lane, now: i64) {
    lane.put_off = now + PUT_OFF_MS;
    lane.wake = Some(lane.put_off);
}

/// Moves up to `share` due deliveries into the batch; says how many, and when the next is due.
fn hand_out(
    tx: &mut Tx<'_>,
    round: &mut Round<'_>,
    lane: i64,
    share: usize,
) -> Result<(usize, Option<i64>)> {
    let mut select = tx.db.prepare_cached(
        "SELECT n, replay, attempts, create_ms, due FROM delivery
         WHERE lane = ?1 AND state = 0 AND batch IS NULL ORDER BY due, n LIMIT ?2",
    )?;
    let mut rows = select.query(params![lane, len(share) + 1])?;
    let (mut waiting, mut next) = (Vec::new(), None);
    while let Some(row) = rows.next()? {
        let due: i64 = row.get(4)?;
        if due > tx.now.millis() || waiting.len() == share {
            next = Some(due);
            break;
        }
        waiting.push(Waiting {
            n: row.get(0)?,
            replay: row.get(1)?,
            attempts: row.get(2)?,
            create_ms: row.get(3)?,
            due,
        });
    }
    drop(rows);
    let mut lease = tx.db.prepare_cached(
        "UPDATE delivery SET batch = ?4 WHERE n = ?1 AND lane = ?2 AND replay = ?3",
    )?;
    for item in &waiting {
        if lane == 0 {
            hand_out_event(tx, round, item.n)?;
        } else if !hand_out_delivery(tx, round, lane, item)? {
            continue;
        }
        lease.execute(params![item.n, lane, item.replay, round.row.b])?;
    }
    Ok((waiting.len(), next))
}

fn hand_out_event(tx: &Tx<'_>, round: &mut Round<'_>, n: i64) -> Result<()> {
    match round.events.get(tx.db, n)? {
        Some(event) => {
            let cursor = moves::fan_out_cursor(tx.db, n)?;
            round.batch.events.push(OpenEvent { event, cursor });
        }
        None => round.batch.spoiled.push(codec::position(n, moves::accept_ms(tx.db, n)?)),
    }
    Ok(())
}

/// Adds a delivery to the batch. One whose event cannot be read ends here: there is nothing to
/// render.
fn hand_out_delivery(
    tx: &mut Tx<'_>,
    round: &mut Round<'_>,
    lane: i64,
    item: &Waiting,
) -> Result<bool> {
    let Some(event) = round.events.get(tx.db, item.n)? else {
        moves::end_unreadable(tx, item.n, lane, &item.replay)?;
        return Ok(false);
    };
    let ms = codec::int(event.position.ms);
    round.batch.deliveries.push(HeldDelivery {
        key: codec::key(item.n, ms, lane, &item.replay)?,
        event,
        attempts: codec::uint32(item.attempts),
        create_time: Timestamp::from_millis(item.create_ms),
        due: Some(Timestamp::from_millis(item.due)),
    });
    Ok(true)
}
