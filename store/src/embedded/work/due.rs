//! Due work: lanes are scheduled, not deliveries.
//!
//! A call walks the lanes whose `wake` has come, in the order of their turns, round after round, and
//! lets each hand out a few deliveries; then it sets their `wake` anew: nothing when nothing is left;
//! now, behind the others, when more is due; half a second on when the lane has no free slot (the node pulls
//! it by name as soon as it has one). A closed lane is not looked into at all, whatever waits in
//! it. Lane 0 hands out events that were put off.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use rusqlite::params;

use crate::batch::{Batch, HeldDelivery, LaneClose, OpenEvent, TRIAL};
use crate::embedded::engine::codec::{self, len};
use crate::embedded::engine::fault::Result;
use crate::embedded::engine::rows::{BatchRow, Events};
use crate::embedded::engine::state::{Lane, Tx};
use crate::embedded::work::runs::{self, Lease, RunRow};
use crate::embedded::work::{apply, take};
use crate::run::Bits;
use crate::work::{Claim, Due, DueRequest, LANE_QUANTUM};
use pregon_core::clock::Timestamp;
use pregon_core::id::LaneNo;
use pregon_core::outcome::PendingReason;

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
    pending: i64,
}

/// One call at work.
struct Round<'a> {
    row: BatchRow,
    batch: Batch,
    events: Events,
    request: &'a DueRequest,
    /// How many each lane has handed out.
    handed: HashMap<i64, usize>,
    /// What it leases of runs, by base and lane.
    leases: HashMap<(i64, i64), Lease>,
}

/// Leases due deliveries, lanes taking turns.
pub(in crate::embedded) fn due(
    tx: &mut Tx<'_>,
    claim: &Claim,
    request: &DueRequest,
) -> Result<Due> {
    let now = tx.now.millis();
    tx.st.flush_lanes(tx.db, now)?;
    let mut row = BatchRow::lanes(tx.st.new_batch(), claim.node.as_str());
    row.expiry = tx.now.plus(claim.lease).millis();
    let batch = take::empty(tx.boot, &row, None);
    let (events, handed, leases) = (Events::default(), HashMap::new(), HashMap::new());
    let mut round = Round { row, batch, events, request, handed, leases };
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
    round.leases.values().try_for_each(|lease| lease.store(tx.db))?;
    tx.st.flush_lanes(tx.db, now)?;
    let next: Option<i64> = tx
        .db
        .prepare_cached("SELECT MIN(wake) FROM lane WHERE wake IS NOT NULL")?
        .query_row([], |row| row.get(0))?;
    let wait = |wake: i64| Duration::from_millis(codec::uint(wake - now));
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
            let name = LaneNo(codec::uint(lane));
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
    let on_trial = trial(lane, state, now);
    let before = round.handed.get(&lane).copied().unwrap_or(0);
    if before == 0 {
        round.batch.closed.extend(on_trial);
    }
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

/// A lane that a breaker had closed until not long ago.
fn trial(lane: i64, state: &Lane, now: i64) -> Option<LaneClose> {
    let on_trial = state.shut_until > 0
        && state.why == codec::pending_code(PendingReason::BreakerOpen)
        && Timestamp::from_millis(now).since(Timestamp::from_millis(state.shut_until)) < TRIAL;
    on_trial.then(|| LaneClose::on_trial(LaneNo(codec::uint(lane))))
}

fn put_off(lane: &mut Lane, now: i64) {
    lane.put_off = now + PUT_OFF_MS;
    lane.wake = Some(lane.put_off);
}

/// Moves up to `share` due deliveries into the batch, those that are due longest first; says how many,
/// and when the next is due.
fn hand_out(
    tx: &mut Tx<'_>,
    round: &mut Round<'_>,
    lane: i64,
    share: usize,
) -> Result<(usize, Option<i64>)> {
    let now = tx.now.millis();
    let mut rows = waiting(tx, lane, share + 1)?.into_iter().peekable();
    let runs = if lane == 0 { Vec::new() } else { runs::waiting(tx.db, lane, share)? };
    let mut runs = runs.into_iter().peekable();
    let mut handed = 0;
    loop {
        let (row, run) = (rows.peek().map(|row| row.due), runs.peek().map(|run| run.began));
        let first = match (row, run) {
            (None, None) => return Ok((handed, None)),
            (Some(due), None) | (None, Some(due)) => due,
            (Some(row), Some(run)) => row.min(run),
        };
        if first > now || handed == share {
            return Ok((handed, Some(first)));
        }
        if run.is_some_and(|began| row.is_none_or(|due| began <= due)) {
            if let Some(run) = runs.next() {
                let all = run.waiting();
                let taken = hand_out_run(tx, round, run, share - handed)?;
                handed += taken;
                if len(taken) < all {
                    return Ok((handed, Some(first)));
                }
            }
        } else if let Some(item) = rows.next() {
            handed += 1;
            hand_out_row(tx, round, lane, &item)?;
        }
    }
}

/// A lane's first waiting rows.
fn waiting(tx: &Tx<'_>, lane: i64, limit: usize) -> Result<Vec<Waiting>> {
    let mut select = tx.db.prepare_cached(
        "SELECT n, replay, attempts, create_ms, due, pending FROM delivery
         WHERE lane = ?1 AND state = 0 AND batch IS NULL ORDER BY due, n LIMIT ?2",
    )?;
    let rows = select.query_map(params![lane, len(limit)], |row| {
        Ok(Waiting {
            n: row.get(0)?,
            replay: row.get(1)?,
            attempts: row.get(2)?,
            create_ms: row.get(3)?,
            due: row.get(4)?,
            pending: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn hand_out_row(tx: &mut Tx<'_>, round: &mut Round<'_>, lane: i64, item: &Waiting) -> Result<()> {
    if lane == 0 {
        hand_out_event(tx, round, item)?;
    } else if !hand_out_delivery(tx, round, lane, item)? {
        return Ok(());
    }
    tx.db
        .prepare_cached(
            "UPDATE delivery SET batch = ?4 WHERE n = ?1 AND lane = ?2 AND replay = ?3",
        )?
        .execute(params![item.n, lane, item.replay, round.row.b])?;
    Ok(())
}

/// Leases the first `most` deliveries of a run; says how many left it.
fn hand_out_run(
    tx: &mut Tx<'_>,
    round: &mut Round<'_>,
    mut run: RunRow,
    most: usize,
) -> Result<usize> {
    let leased = run.free.first(most);
    run.free = run.free.without(&leased);
    let lease = (run.base, run.lane);
    let empty = Lease { batch: round.row.b, base: run.base, lane: run.lane, bits: Bits::default() };
    let mut taken = 0;
    for n in leased.numbers(codec::uint(run.base)).map(codec::int) {
        taken += 1;
        let Some(event) = round.events.get(tx.db, n)? else {
            run.remove(n);
            apply::end_unreadable(tx, n, run.lane, "", Some(&run))?;
            continue;
        };
        let ms = codec::int(event.position.ms);
        let created = Timestamp::from_millis(run.created(ms));
        round.batch.deliveries.push(HeldDelivery {
            key: codec::key(n, ms, run.lane, "")?,
            event,
            attempts: 0,
            create_time: created,
            due: Some(created),
        });
        round.leases.entry(lease).or_insert_with(|| empty.clone()).bits.insert(codec::uint(n));
    }
    run.store(tx.db)?;
    Ok(taken)
}

fn hand_out_event(tx: &Tx<'_>, round: &mut Round<'_>, item: &Waiting) -> Result<()> {
    let (n, ripe) = (item.n, item.pending == codec::SCHEDULED);
    match round.events.get(tx.db, n)? {
        Some(event) => {
            let cursor = apply::fan_out_cursor(tx.db, n)?;
            round.batch.events.push(OpenEvent { event, cursor, ripe });
        }
        None => round.batch.spoiled.push(codec::position(n, apply::accept_ms(tx.db, n)?)),
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
        apply::end_unreadable(tx, item.n, lane, &item.replay, None)?;
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
