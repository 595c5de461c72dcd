//! Carries moves out: a delivery's row, its bit of a run, its lane, and the counters.
//!
//! A delivery has a row once it is in trouble; before that it exists only in the memory of the node
//! that attempts its event, or as a bit of a run while it waits unattempted. The rules are
//! [`crate::moves`]'s. A lane that is closed takes deliveries with their own due times, and merely is
//! not looked into.

use pregon_core::id::{DeliveryKey, LaneNo};
use pregon_core::outcome::{DeliveryState, EndReason};
use rusqlite::{Connection, OptionalExtension, params};

use crate::embedded::engine::codec::{self, CANCELLED, FAILED, PENDING, SUCCEEDED};
use crate::embedded::engine::ends::EndRow;
use crate::embedded::engine::fault::Result;
use crate::embedded::engine::rows::BatchRow;
use crate::embedded::engine::state::{Counts, Tx};
use crate::embedded::work::runs::{self, Joined, RunRow};
use crate::moves::{Kept, Logged, Move};
use crate::settlement::{DeliverySettle, Transition};

/// A row's columns that a move sets.
struct Columns {
    state: i64,
    pending: i64,
    due: i64,
    batch: Option<i64>,
    end_ms: Option<i64>,
    reason: Option<i64>,
}

impl Columns {
    fn of(tx: &Tx<'_>, batch: i64, to: &Move) -> Self {
        let ended = to.state != DeliveryState::Pending;
        Columns {
            state: codec::state_code(to.state),
            pending: codec::pending_code(to.pending),
            due: tx.now.plus(to.due).millis(),
            batch: (!to.leaves()).then_some(batch),
            end_ms: ended.then(|| tx.now.millis()),
            reason: to.reason.map(codec::end_code),
        }
    }
}

/// Settles a delivery that a match made.
pub(in crate::embedded) fn create(
    tx: &mut Tx<'_>,
    batch: &mut BatchRow,
    delivery: &DeliverySettle,
    tenant: i64,
    logged: &Logged,
) -> Result<()> {
    let to = decide(tx, delivery, logged)?;
    if to.kept == Kept::Log {
        let counts = tx.st.counts(tenant);
        counts.created += 1;
        counts.succeeded += 1;
        return Ok(());
    }
    let columns = Columns::of(tx, batch.b, &to);
    let created = tx.now.minus(delivery.age).millis();
    let made = match wait(tx, delivery, &to, tenant, created)? {
        Joined::New => true,
        Joined::Before => false,
        Joined::Apart => insert(tx, delivery, tenant, &columns, created)?,
    };
    if !made {
        return Ok(()); // an earlier step of the same fan-out made it
    }
    tx.st.counts(tenant).created += 1;
    tx.st.pend(codec::int(delivery.key.position.n), 1);
    if !to.leaves() {
        batch.open += 1;
    }
    after(tx, delivery, tenant, &to, &columns, created)
}

/// Has a delivery wait in its lane's run, if that is where it goes. It is apart, and needs a row, if
/// not.
fn wait(
    tx: &mut Tx<'_>,
    delivery: &DeliverySettle,
    to: &Move,
    tenant: i64,
    began: i64,
) -> Result<Joined> {
    if to.kept != Kept::Run {
        return Ok(Joined::Apart);
    }
    tx.st.runs.join(tx.db, &delivery.key, tenant, began, codec::pending_code(to.pending))
}

/// Writes a delivery's row; false: it has one.
fn insert(
    tx: &Tx<'_>,
    delivery: &DeliverySettle,
    tenant: i64,
    columns: &Columns,
    created: i64,
) -> Result<bool> {
    let made = tx
        .db
        .prepare_cached(
            "INSERT INTO delivery(n, lane, replay, tenant, state, attempts, due, batch, create_ms,
               end_ms, pending, reason)
             VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            codec::int(delivery.key.position.n),
            codec::lane(delivery.key.lane),
            codec::tag(&delivery.key),
            tenant,
            columns.state,
            delivery.attempts,
            columns.due,
            columns.batch,
            created,
            columns.end_ms,
            columns.pending,
            columns.reason
        ])?;
    Ok(made > 0)
}

/// Settles a delivery that the batch holds in a run.
fn advance_run(
    tx: &mut Tx<'_>,
    batch: &mut BatchRow,
    delivery: &DeliverySettle,
    logged: &Logged,
) -> Result<()> {
    let key = &delivery.key;
    if delivery.to == Transition::Held && delivery.attempts == 0 {
        return Ok(()); // it is
    }
    let to = decide(tx, delivery, logged)?;
    let run = tx.st.runs.take(tx.db, key, batch.b)?;
    let created = run.created(codec::int(key.position.ms));
    let columns = Columns::of(tx, batch.b, &to);
    if to.leaves() {
        batch.open -= 1;
    }
    let apart =
        to.kept != Kept::Log && wait(tx, delivery, &to, run.tenant, run.began)? == Joined::Apart;
    if apart {
        insert(tx, delivery, run.tenant, &columns, created)?;
    }
    after(tx, delivery, run.tenant, &to, &columns, created)
}

/// Settles a delivery that the batch holds.
pub(in crate::embedded) fn advance(
    tx: &mut Tx<'_>,
    batch: &mut BatchRow,
    delivery: &DeliverySettle,
    logged: &Logged,
) -> Result<()> {
    if tx.st.runs.holds(tx.db, &delivery.key, batch.b)? {
        return advance_run(tx, batch, delivery, logged);
    }
    if tx.st.kills > 0 && !holds(tx, batch, &delivery.key)? {
        return Ok(()); // a repeat must not use up the mark of a later attempt
    }
    let to = decide(tx, delivery, logged)?;
    let columns = Columns::of(tx, batch.b, &to);
    let row: Option<(i64, i64)> = tx
        .db
        .prepare_cached(
            "UPDATE delivery SET state = ?5, attempts = ?6, due = ?7, batch = ?8, end_ms = ?9,
               pending = ?10, reason = ?11
             WHERE n = ?1 AND lane = ?2 AND replay = ?3 AND batch = ?4 RETURNING tenant, create_ms",
        )?
        .query_row(
            params![
                codec::int(delivery.key.position.n),
                codec::lane(delivery.key.lane),
                codec::tag(&delivery.key),
                batch.b,
                columns.state,
                delivery.attempts,
                columns.due,
                columns.batch,
                columns.end_ms,
                columns.pending,
                columns.reason
            ],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let Some((tenant, created)) = row else { return Ok(()) }; // it moved before
    if to.leaves() {
        batch.open -= 1;
    }
    after(tx, delivery, tenant, &to, &columns, created)
}

/// Whether a delivery is held by a batch.
fn holds(tx: &Tx<'_>, batch: &BatchRow, key: &DeliveryKey) -> Result<bool> {
    let mut select = tx.db.prepare_cached(
        "SELECT 1 FROM delivery WHERE n = ?1 AND lane = ?2 AND replay = ?3 AND batch = ?4",
    )?;
    let place =
        params![codec::int(key.position.n), codec::lane(key.lane), codec::tag(key), batch.b];
    Ok(select.query_row(place, |_| Ok(())).optional()?.is_some())
}

/// What follows from a move: counters, a place in the lane, and the word of an end that no attempt
/// tells of.
fn after(
    tx: &mut Tx<'_>,
    delivery: &DeliverySettle,
    tenant: i64,
    to: &Move,
    columns: &Columns,
    create_ms: i64,
) -> Result<()> {
    let key = &delivery.key;
    let (n, lane) = (codec::int(key.position.n), codec::lane(key.lane));
    if to.unlogged {
        tx.st.ends.push(EndRow {
            n,
            lane,
            tag: codec::tag(key).to_owned(),
            tenant,
            state: columns.state,
            reason: columns.reason,
            attempts: delivery.attempts,
            create_ms,
        });
    }
    if columns.state != PENDING {
        count_end(tx.st.counts(tenant), columns.state, 1);
        tx.st.pend(n, -1);
    } else if to.leaves() {
        tx.st.arrive(tx.db, lane, columns.due)?;
    }
    Ok(())
}

/// Counts deliveries that ended.
pub(in crate::embedded) fn count_end(counts: &mut Counts, state: i64, ended: i64) {
    match state {
        SUCCEEDED => counts.succeeded += ended,
        FAILED => counts.failed += ended,
        CANCELLED => counts.cancelled += ended,
        _ => {}
    }
}

/// Where a delivery goes, the mark of a cancel heeded.
fn decide(tx: &mut Tx<'_>, delivery: &DeliverySettle, logged: &Logged) -> Result<Move> {
    let to = Move::of(delivery, logged);
    if tx.st.kills > 0
        && to.leaves()
        && let Some(reason) = unmark(tx, &delivery.key)?
    {
        return Ok(to.if_marked(reason));
    }
    Ok(to)
}

/// Drops the mark of a cancelled delivery; says why it was cancelled, if it was.
fn unmark(tx: &mut Tx<'_>, key: &DeliveryKey) -> Result<Option<EndReason>> {
    let mut drop_mark = tx.db.prepare_cached(
        "DELETE FROM killed WHERE n = ?1 AND lane = ?2 AND replay = ?3 RETURNING reason",
    )?;
    let place = params![codec::int(key.position.n), codec::lane(key.lane), codec::tag(key)];
    let reason: Option<i64> = drop_mark.query_row(place, |row| row.get(0)).optional()?;
    if reason.is_some() {
        tx.st.kills -= 1;
    }
    reason.map(codec::end_of).transpose()
}

/// Drops the marks of an event that was matched, but for deliveries that are still attempted.
pub(in crate::embedded) fn unmark_event(tx: &mut Tx<'_>, n: i64) -> Result<()> {
    let mut select = tx.db.prepare_cached(
        "SELECT lane, replay FROM killed WHERE n = ?1 AND NOT EXISTS (SELECT 1 FROM delivery
           WHERE delivery.n = killed.n AND delivery.lane = killed.lane
             AND delivery.replay = killed.replay AND delivery.batch IS NOT NULL)",
    )?;
    let marks = select.query_map([n], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let marks = marks.collect::<rusqlite::Result<Vec<(i64, String)>>>()?;
    let mut remove =
        tx.db.prepare_cached("DELETE FROM killed WHERE n = ?1 AND lane = ?2 AND replay = ?3")?;
    for (lane, tag) in marks {
        if !(tag.is_empty() && runs::is_leased(tx.db, n, lane)?) {
            tx.st.kills -= codec::len(remove.execute(params![n, lane, tag])?);
        }
    }
    Ok(())
}

/// Ends a pending delivery whose event cannot be read any more. Its run, if it was in one, is without
/// it already.
pub(in crate::embedded) fn end_unreadable(
    tx: &mut Tx<'_>,
    n: i64,
    lane: i64,
    tag: &str,
    run: Option<&RunRow>,
) -> Result<()> {
    let (now, reason) = (tx.now.millis(), codec::end_code(EndReason::RenderFailed));
    let tenant = match run {
        Some(run) => {
            end_one(tx, run, n, (FAILED, reason))?;
            run.tenant
        }
        None => tx
            .db
            .prepare_cached(
                "UPDATE delivery SET state = 2, end_ms = ?4, reason = ?5, batch = NULL
                 WHERE n = ?1 AND lane = ?2 AND replay = ?3 RETURNING tenant",
            )?
            .query_row(params![n, lane, tag, now, reason], |row| row.get(0))?,
    };
    tracing::error!(n, lane, "a delivery's event cannot be read: the delivery failed");
    count_end(tx.st.counts(tenant), FAILED, 1);
    tx.st.pend(n, -1);
    Ok(())
}

/// Writes the row of a delivery that ends, and was in a run until now; answers when it was made.
pub(in crate::embedded) fn end_one(
    tx: &Tx<'_>,
    run: &RunRow,
    n: i64,
    (state, reason): (i64, i64),
) -> Result<i64> {
    let created = run.created(accept_ms(tx.db, n)?);
    tx.db
        .prepare_cached(
            "INSERT INTO delivery(n, lane, replay, tenant, state, attempts, due, batch, create_ms,
               end_ms, pending, reason) VALUES(?1, ?2, '', ?3, ?4, 0, ?5, NULL, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            n,
            run.lane,
            run.tenant,
            state,
            created,
            created,
            tx.now.millis(),
            run.pending,
            reason
        ])?;
    Ok(created)
}

/// How far the fan-out of an event got, if one is under way.
pub(in crate::embedded) fn fan_out_cursor(db: &Connection, n: i64) -> Result<Option<LaneNo>> {
    let mut select = db.prepare_cached("SELECT cursor FROM partial WHERE n = ?1")?;
    let cursor: Option<i64> = select.query_row([n], |row| row.get(0)).optional()?;
    Ok(cursor.map(|lane| LaneNo(codec::uint(lane))))
}

/// An event's accept time; 0 if it is gone.
pub(in crate::embedded) fn accept_ms(db: &Connection, n: i64) -> Result<i64> {
    let mut select = db.prepare_cached("SELECT ms FROM event WHERE n = ?1")?;
    Ok(select.query_row([n], |row| row.get(0)).optional()?.unwrap_or(0))
}
