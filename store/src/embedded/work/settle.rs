//! Settle: results of many batches, their log and their counters, in one step.
//!
//! Whether a batch's row still exists is the fence. A token without one settles nothing, but its
//! attempts are logged, as late ones. Whatever of a batch was settled before (the call is a
//! repeat) is passed over, so that no counter moves twice. A batch with nothing open vanishes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use pregon_core::clock::Timestamp;
use pregon_core::id::LaneNo;
use pregon_core::outcome::PendingReason;
use rusqlite::{OptionalExtension, Row, params};

use crate::batch::{LaneClose, Token};
use crate::codec::packed::{self, Packed};
use crate::embedded::engine::codec;
use crate::embedded::engine::fault::Result;
use crate::embedded::engine::rows::BatchRow;
use crate::embedded::engine::state::Tx;
use crate::embedded::log::chunk;
use crate::embedded::operate::lanes;
use crate::embedded::work::{apply, take};
use crate::moves::{EventMove, Kept, Logged, Move};
use crate::settlement::{BatchSettle, DeliverySettle, EventSettle, Settled, Settlement};

/// A settlement, its log packed; made without the database.
pub(in crate::embedded) struct Prepared {
    batches: Vec<BatchSettle>,
    close: Vec<LaneClose>,
    chunks: Vec<Packed>,
    logged: Logged,
}

impl Prepared {
    /// Packs the log of a settlement.
    pub fn new(settlement: Settlement) -> Result<Self> {
        let logged = Logged::by(&settlement.attempts);
        let chunks = packed::pack(&settlement.attempts)?;
        Ok(Self { batches: settlement.batches, close: settlement.close, chunks, logged })
    }

    /// Events and deliveries in it.
    pub fn items(&self) -> usize {
        self.batches.iter().map(|batch| batch.events.len() + batch.deliveries.len()).sum()
    }
}

/// Batches of a settlement, each read once; none: the lease is gone.
type Batches = HashMap<Token, Option<BatchRow>>;

/// Records results.
pub(in crate::embedded) fn settle(tx: &mut Tx<'_>, settlement: &Prepared) -> Result<Settled> {
    let mut batches = Batches::new();
    let named = settlement.batches.iter().map(|batch| batch.token);
    for token in named.chain(settlement.chunks.iter().flat_map(Packed::tokens)) {
        if let Entry::Vacant(place) = batches.entry(token) {
            place.insert(take::batch_of(tx, token)?);
        }
    }
    let mut settled = Settled::default();
    for results in &settlement.batches {
        match batches.get_mut(&results.token) {
            Some(Some(batch)) => settle_batch(tx, batch, results, &settlement.logged)?,
            Some(None) | None => {
                if !settled.lost.contains(&results.token) {
                    settled.lost.push(results.token);
                }
            }
        }
    }
    tx.st.runs.store(tx.db)?;
    for chunk in &settlement.chunks {
        chunk::store(tx, chunk, |token| match batches.get(&token) {
            Some(Some(batch)) if batch.is_range() => chunk::FoundBy::ByRange(batch.origin),
            Some(Some(_)) => chunk::FoundBy::ByEvent,
            Some(None) | None => chunk::FoundBy::Late,
        })?;
    }
    for results in &settlement.batches {
        if let Some(Some(batch)) = batches.get_mut(&results.token) {
            batch.store(tx.db)?;
        }
    }
    lanes::close(tx, &settlement.close)?;
    Ok(settled)
}

fn settle_batch(
    tx: &mut Tx<'_>,
    batch: &mut BatchRow,
    results: &BatchSettle,
    logged: &Logged,
) -> Result<()> {
    for event in &results.events {
        settle_event(tx, batch, event, logged)?;
    }
    for delivery in &results.deliveries {
        apply::advance(tx, batch, delivery, logged)?;
    }
    Ok(())
}

/// How a batch has an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In its range.
    Range,
    /// From lane 0; whose it is, if it waited there for its time.
    Lane { ripe: Option<i64> },
}

fn place(tx: &Tx<'_>, batch: &BatchRow, n: i64) -> Result<Option<Place>> {
    if batch.covers(n) {
        return Ok((!batch.is_done(n)).then_some(Place::Range));
    }
    let mut held = tx.db.prepare_cached(
        "SELECT pending, tenant FROM delivery WHERE n = ?1 AND lane = 0 AND batch = ?2",
    )?;
    let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let held: Option<(i64, i64)> = held.query_row([n, batch.b], row).optional()?;
    let ripe = |(pending, tenant)| (pending == codec::SCHEDULED).then_some(tenant);
    Ok(held.map(|held| Place::Lane { ripe: ripe(held) }))
}

/// An event leaves a batch; what waited for its time does so no more.
fn leave(tx: &mut Tx<'_>, batch: &mut BatchRow, place: Place, n: i64) {
    match place {
        Place::Range => batch.finish(n),
        Place::Lane { ripe } => {
            if let Some(tenant) = ripe {
                tx.st.counts(tenant).scheduled -= 1;
            }
            batch.open -= 1;
        }
    }
}

fn settle_event(
    tx: &mut Tx<'_>,
    batch: &mut BatchRow,
    event: &EventSettle,
    logged: &Logged,
) -> Result<()> {
    let n = codec::int(event.position.n);
    let Some(place) = place(tx, batch, n)? else { return Ok(()) }; // settled before
    let tenant = tx.st.tenant(tx.db, &event.tenant)?;
    match EventMove::of(&event.outcome) {
        EventMove::Unmatched { known: true } => unmatched(tx, n, tenant)?,
        EventMove::Unmatched { known: false } => set_aside(tx, n, tenant)?,
        EventMove::Matched(deliveries) => {
            let smooth = |one: &DeliverySettle| Move::of(one, logged).kept == Kept::Log;
            let reached =
                if deliveries.iter().all(smooth) { None } else { apply::fan_out_cursor(tx.db, n)? };
            create(tx, batch, tenant, deliveries, reached, logged)?;
            tx.st.counts(tenant).matched += 1;
        }
        EventMove::Step(deliveries, cursor, done) => {
            fan_out(tx, batch, n, tenant, (deliveries, codec::lane(cursor), done), logged)?;
            if !done {
                return Ok(());
            }
        }
        EventMove::PutOff(wait) => {
            let reason = codec::pending_code(PendingReason::AwaitingRevision);
            return postpone(tx, batch, place, (n, tenant), (tx.now.plus(wait), reason));
        }
        EventMove::Schedule(at) => {
            let due = at.max(tx.now);
            return postpone(tx, batch, place, (n, tenant), (due, codec::SCHEDULED));
        }
    }
    for error in event.counted_errors() {
        error.lanes.iter().for_each(|lane| tx.st.unanswered(codec::lane(*lane), &error.reason));
    }
    if tx.st.kills > 0 {
        apply::unmark_event(tx, n)?;
    }
    if place != Place::Range {
        tx.db.prepare_cached("DELETE FROM delivery WHERE n = ?1 AND lane = 0")?.execute([n])?;
    }
    leave(tx, batch, place, n);
    Ok(())
}

fn unmatched(tx: &mut Tx<'_>, n: i64, tenant: i64) -> Result<()> {
    tx.db
        .prepare_cached("INSERT INTO unmatched(tenant, n) VALUES(?1, ?2) ON CONFLICT DO NOTHING")?
        .execute([tenant, n])?;
    tx.st.counts(tenant).unmatched += 1;
    Ok(())
}

/// An event that cannot be decoded: whose it is only its row knows for sure.
fn set_aside(tx: &mut Tx<'_>, n: i64, said: i64) -> Result<()> {
    let mut select = tx.db.prepare_cached("SELECT tenant FROM event WHERE n = ?1")?;
    let tenant: Option<i64> = select.query_row([n], |row| row.get(0)).optional()?;
    unmatched(tx, n, tenant.unwrap_or(said))
}

/// Makes an event's deliveries, but for those that an earlier fan-out made, up to a lane: they may have
/// left no trace since.
fn create(
    tx: &mut Tx<'_>,
    batch: &mut BatchRow,
    tenant: i64,
    deliveries: &[DeliverySettle],
    reached: Option<LaneNo>,
    logged: &Logged,
) -> Result<()> {
    let new = deliveries.iter().filter(|one| reached.is_none_or(|lane| one.key.lane > lane));
    for delivery in new {
        apply::create(tx, batch, delivery, tenant, logged)?;
    }
    Ok(())
}

/// One step of a large fan-out: its deliveries, the last lane considered, and whether that is all.
fn fan_out(
    tx: &mut Tx<'_>,
    batch: &mut BatchRow,
    n: i64,
    tenant: i64,
    (deliveries, cursor, done): (&[DeliverySettle], i64, bool),
    logged: &Logged,
) -> Result<()> {
    let before = apply::fan_out_cursor(tx.db, n)?;
    create(tx, batch, tenant, deliveries, before, logged)?;
    if !done {
        tx.db
            .prepare_cached(
                "INSERT INTO partial(n, cursor) VALUES(?1, ?2)
                 ON CONFLICT DO UPDATE SET cursor = MAX(cursor, ?2)",
            )?
            .execute([n, cursor])?;
        return Ok(());
    }
    tx.db.prepare_cached("DELETE FROM partial WHERE n = ?1")?.execute([n])?;
    if before.is_none() && deliveries.is_empty() {
        return unmatched(tx, n, tenant);
    }
    tx.st.counts(tenant).matched += 1;
    Ok(())
}

/// Puts an event off: into lane 0, due at a moment for a reason.
fn postpone(
    tx: &mut Tx<'_>,
    batch: &mut BatchRow,
    place: Place,
    (n, tenant): (i64, i64),
    (due, reason): (Timestamp, i64),
) -> Result<()> {
    let due = due.millis();
    tx.db
        .prepare_cached(
            "INSERT INTO delivery(n, lane, replay, tenant, state, attempts, due, batch, create_ms,
               pending) VALUES(?1, 0, '', ?2, 0, 0, ?3, NULL, ?4, ?5)
             ON CONFLICT DO UPDATE SET due = ?3, batch = NULL, pending = ?5",
        )?
        .execute(params![n, tenant, due, tx.now.millis(), reason])?;
    leave(tx, batch, place, n);
    tx.st.counts(tenant).scheduled += i64::from(reason == codec::SCHEDULED);
    tx.st.arrive(tx.db, 0, due)
}
