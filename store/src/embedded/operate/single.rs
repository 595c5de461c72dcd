//! One delivery at a time: cancel, replay, and try at once.
//!
//! A delivery that waits is cancelled on the spot. One that is being attempted gets a mark, which
//! its settle looks at: a success stays a success, anything else ends as cancelled. The mark also
//! works for a delivery that has no row because its event is still being matched.

use pregon_core::attempt::End;
use pregon_core::id::DeliveryKey;
use pregon_core::outcome::{EndReason, PendingReason};
use rusqlite::{OptionalExtension, params};

use crate::embedded::engine::codec::{self, CANCELLED, PENDING, SUCCEEDED};
use crate::embedded::engine::ends::EndRow;
use crate::embedded::engine::fault::Result;
use crate::embedded::engine::rows;
use crate::embedded::engine::state::Tx;
use crate::embedded::log::attempts;
use crate::embedded::operate::erase;
use crate::embedded::work::apply;
use crate::embedded::work::runs::{self, RunRow};
use crate::log::EventStage;
use crate::operate::{Cancelled, Forwarded, Replay, Replayed};

/// Cancels one delivery.
pub(in crate::embedded) fn cancel(
    tx: &mut Tx<'_>,
    key: &DeliveryKey,
    reason: EndReason,
) -> Result<Cancelled> {
    let (n, lane, tag) = (codec::int(key.position.n), codec::lane(key.lane), codec::tag(key));
    if lane == 0 || !rows::is_kept(tx.db, key.position)? {
        return Ok(Cancelled::Unknown);
    }
    let row: Option<(i64, Option<i64>, i64, u32, i64)> = tx
        .db
        .prepare_cached(
            "SELECT state, batch, tenant, attempts, create_ms FROM delivery
             WHERE n = ?1 AND lane = ?2 AND replay = ?3",
        )?
        .query_row(params![n, lane, tag], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })
        .optional()?;
    match row {
        Some((PENDING, None, tenant, attempts, create_ms)) => {
            tx.db
                .prepare_cached(
                    "UPDATE delivery SET state = ?4, reason = ?5, end_ms = ?6
                     WHERE n = ?1 AND lane = ?2 AND replay = ?3",
                )?
                .execute(params![
                    n,
                    lane,
                    tag,
                    CANCELLED,
                    codec::end_code(reason),
                    tx.now.millis()
                ])?;
            cancelled(tx, key, tenant, attempts, create_ms, reason)
        }
        Some((PENDING, Some(_), ..)) => mark(tx, key, reason),
        Some((ended, ..)) => Ok(Cancelled::Ended(codec::state_of(ended)?)),
        None => match runs::holding(tx.db, n, lane)?.filter(|_| key.replay.is_none()) {
            Some(run) => cancel_in_run(tx, key, run, reason),
            None => cancel_unrecorded(tx, key, reason),
        },
    }
}

/// A delivery without a row of its own, in a run.
fn cancel_in_run(
    tx: &mut Tx<'_>,
    key: &DeliveryKey,
    mut run: RunRow,
    reason: EndReason,
) -> Result<Cancelled> {
    if run.state != PENDING {
        return Ok(Cancelled::Ended(codec::state_of(run.state)?));
    }
    let n = codec::int(key.position.n);
    if !run.waits(n) {
        return mark(tx, key, reason);
    }
    run.remove(n);
    run.store(tx.db)?;
    let create_ms = apply::end_one(tx, &run, n, (CANCELLED, codec::end_code(reason)))?;
    cancelled(tx, key, run.tenant, 0, create_ms, reason)
}

/// Counts and tells of a cancelled delivery that waited in its lane.
fn cancelled(
    tx: &mut Tx<'_>,
    key: &DeliveryKey,
    tenant: i64,
    attempts: u32,
    create_ms: i64,
    reason: EndReason,
) -> Result<Cancelled> {
    let (n, lane) = (codec::int(key.position.n), codec::lane(key.lane));
    tx.st.leave(tx.db, lane, 1)?;
    apply::count_end(tx.st.counts(tenant), CANCELLED, 1);
    tx.st.pend(n, -1);
    tx.st.ends.push(EndRow {
        n,
        lane,
        tag: codec::tag(key).to_owned(),
        tenant,
        state: CANCELLED,
        reason: Some(codec::end_code(reason)),
        attempts,
        create_ms,
    });
    Ok(Cancelled::Done)
}

/// A delivery without a row: of an event that is being matched, or done at once, or none at all.
fn cancel_unrecorded(tx: &mut Tx<'_>, key: &DeliveryKey, reason: EndReason) -> Result<Cancelled> {
    if key.replay.is_some() {
        return Ok(Cancelled::Unknown);
    }
    match rows::stage(tx.db, codec::int(key.position.n), tx.st.cur)? {
        EventStage::Waiting | EventStage::Scheduled | EventStage::Cancelled => {
            Ok(Cancelled::Unknown)
        }
        EventStage::Claimed(_) => mark(tx, key, reason),
        EventStage::Matched => {
            let end = attempts::end_of(tx.db, key)?;
            Ok(end.map_or(Cancelled::Unknown, |End { state, .. }| Cancelled::Ended(state)))
        }
    }
}

fn mark(tx: &mut Tx<'_>, key: &DeliveryKey, reason: EndReason) -> Result<Cancelled> {
    let made = tx
        .db
        .prepare_cached(
            "INSERT INTO killed(n, lane, replay, reason, ms) VALUES(?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            codec::int(key.position.n),
            codec::lane(key.lane),
            codec::tag(key),
            codec::end_code(reason),
            tx.now.millis()
        ])?;
    tx.st.kills += codec::len(made);
    Ok(Cancelled::InFlight)
}

/// Makes new deliveries of old ones.
pub(in crate::embedded) fn replay(tx: &mut Tx<'_>, replays: &[Replay]) -> Result<Vec<Replayed>> {
    replays.iter().map(|replay| replay_one(tx, replay)).collect()
}

fn replay_one(tx: &mut Tx<'_>, replay: &Replay) -> Result<Replayed> {
    let key = DeliveryKey { replay: Some(replay.tag), ..replay.key };
    let (n, lane) = (codec::int(key.position.n), codec::lane(key.lane));
    if lane == 0 || !rows::is_kept(tx.db, key.position)? || erase::is_erased(tx.db, n)? {
        return Ok(Replayed::EventGone);
    }
    let now = tx.now.millis();
    if replay.where_needed && !is_needed(tx, &replay.key, codec::tag(&key))? {
        return Ok(Replayed::Needless);
    }
    let tenant: Option<i64> = tx
        .db
        .prepare_cached(
            "INSERT INTO delivery(n, lane, replay, tenant, state, attempts, due, batch, create_ms,
               pending)
             SELECT n, ?2, ?3, tenant, 0, 0, ?4, NULL, ?4, ?5 FROM event WHERE n = ?1
             ON CONFLICT DO NOTHING RETURNING tenant",
        )?
        .query_row(
            params![n, lane, codec::tag(&key), now, codec::pending_code(PendingReason::Queued)],
            |row| row.get(0),
        )
        .optional()?;
    let Some(tenant) = tenant else { return Ok(Replayed::Existed(key)) };
    tx.st.counts(tenant).created += 1;
    tx.st.pend(n, 1);
    tx.st.arrive(tx.db, lane, now)?;
    Ok(Replayed::Created(key))
}

/// Whether an event has no delivery to a lane that is pending, or that succeeded and is younger than
/// this one. Of a new tag that was used before nothing is said here.
fn is_needed(tx: &Tx<'_>, old: &DeliveryKey, tag: &str) -> Result<bool> {
    let (n, lane) = (codec::int(old.position.n), codec::lane(old.lane));
    let used = "SELECT 1 FROM delivery WHERE n = ?1 AND lane = ?2 AND replay = ?3";
    if tx.db.prepare_cached(used)?.exists(params![n, lane, tag])? {
        return Ok(true);
    }
    let served = "SELECT 1 FROM delivery WHERE n = ?1 AND lane = ?2 AND replay <> ?3
                    AND (state = ?4 OR state = ?5 AND create_ms >= COALESCE(
                      (SELECT create_ms FROM delivery WHERE n = ?1 AND lane = ?2 AND replay = ?3), 0))";
    let served = tx.db.prepare_cached(served)?.exists(params![
        n,
        lane,
        codec::tag(old),
        PENDING,
        SUCCEEDED
    ])?;
    let waits = old.replay.is_some()
        && runs::holding(tx.db, n, lane)?.is_some_and(|run| run.state == PENDING);
    Ok(!served && !waits)
}

/// Makes waiting deliveries due now.
pub(in crate::embedded) fn bring_forward(
    tx: &mut Tx<'_>,
    keys: &[DeliveryKey],
) -> Result<Vec<Forwarded>> {
    keys.iter().map(|key| forward_one(tx, key)).collect()
}

fn forward_one(tx: &mut Tx<'_>, key: &DeliveryKey) -> Result<Forwarded> {
    let (n, lane, tag) = (codec::int(key.position.n), codec::lane(key.lane), codec::tag(key));
    if lane == 0 || !rows::is_kept(tx.db, key.position)? {
        return Ok(Forwarded::NotPending);
    }
    let row: Option<(i64, Option<i64>, i64, i64)> = tx
        .db
        .prepare_cached(
            "SELECT state, batch, due, pending FROM delivery
             WHERE n = ?1 AND lane = ?2 AND replay = ?3",
        )?
        .query_row(params![n, lane, tag], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .optional()?;
    let now = tx.now.millis();
    match row {
        Some((PENDING, None, due, _)) if due <= now => Ok(Forwarded::Due),
        Some((PENDING, None, _, why)) if why == codec::pending_code(PendingReason::Suspect) => {
            Ok(Forwarded::HeldBack)
        }
        Some((PENDING, None, ..)) => {
            let sql = "UPDATE delivery SET due = ?4, pending = ?5
                       WHERE n = ?1 AND lane = ?2 AND replay = ?3";
            let why = codec::pending_code(PendingReason::Queued);
            tx.db.prepare_cached(sql)?.execute(params![n, lane, tag, now, why])?;
            tx.st.leave(tx.db, lane, 1)?;
            tx.st.arrive(tx.db, lane, now)?;
            Ok(Forwarded::Done)
        }
        Some((PENDING, Some(_), ..)) => Ok(Forwarded::InFlight),
        Some(_) => Ok(Forwarded::NotPending),
        None => match runs::holding(tx.db, n, lane)?.filter(|_| key.replay.is_none()) {
            Some(run) if run.waits(n) => Ok(Forwarded::Due),
            Some(run) if run.state == PENDING => Ok(Forwarded::InFlight),
            Some(_) | None => Ok(Forwarded::NotPending),
        },
    }
}
