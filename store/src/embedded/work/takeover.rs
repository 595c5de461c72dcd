//! Takeover: a batch whose lease ran out gets a new token and a new owner.
//!
//! The row gets a new number, and with that the old token is dead. What is handed on is what is
//! still open: events of the range that are not done, deliveries that the batch holds. A batch
//! that lapsed repeatedly may hold an item that kills nodes, so it is halved until that item is by
//! itself, and a node gets one such batch at a time. A released batch counts no take.
//!
//! Deliveries that were held get a `LOST` record: they may have been sent. (An event that was
//! still being matched has no deliveries yet to say that of; `previous` tells the new owner.)

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pregon_core::attempt::AttemptRecord;
use pregon_core::clock::Timestamp;
use pregon_core::id::NodeId;
use rusqlite::params;

use crate::batch::{Batch, HeldDelivery, OpenEvent, Token};
use crate::codec::{packed, records};
use crate::embedded::engine::codec::{self, len};
use crate::embedded::engine::fault::Result;
use crate::embedded::engine::rows::{self, BatchRow, Events, Found};
use crate::embedded::engine::state::Tx;
use crate::embedded::log::chunk;
use crate::embedded::work::runs::{self, Lease};
use crate::embedded::work::{apply, take};
use crate::run::Bits;
use crate::work::{Claim, SUSPECT_AT, SUSPECT_WAIT};

/// Lapsed batches that one call looks at: room behind suspects that are put off.
const LOOK: usize = 64;

/// Leases up to `limit` lapsed batches, and says when the next lease lapses.
pub(in crate::embedded) fn take_over(
    tx: &mut Tx<'_>,
    claim: &Claim,
    limit: usize,
    mut suspects: usize,
) -> Result<(Vec<Batch>, Option<Duration>)> {
    let now = tx.now.millis();
    let lapsed: Vec<BatchRow> = {
        let sql = rows::batch_columns!("WHERE expiry <= ?1 ORDER BY expiry, b LIMIT ?2");
        let mut select = tx.db.prepare_cached(sql)?;
        let rows = select.query_map(params![now, len(LOOK)], rows::batch_row)?;
        rows.collect::<rusqlite::Result<_>>()?
    };
    let (mut batches, mut lost) = (Vec::new(), Vec::new());
    for old in lapsed {
        if batches.len() >= limit {
            break;
        }
        let takes = if old.released { old.takes } else { old.takes + 1 };
        let suspect = takes >= i64::from(SUSPECT_AT);
        if suspect && suspects == 0 {
            put_off(tx, &old)?;
            continue;
        }
        rows::remove_batch(tx.db, old.b)?;
        let mut contents = Contents::read(tx, &old)?;
        if !old.released {
            lost.extend(contents.deliveries.iter().filter_map(|d| lost_record(tx, &old, d)));
        }
        if suspect && let Some(other) = contents.halve() {
            let left = Owner { node: &old.node, takes, expiry: now, released: true };
            lease(tx, &left, &old, other)?;
        }
        let expiry = tx.now.plus(claim.lease).millis();
        let own = Owner { node: claim.node.as_str(), takes, expiry, released: false };
        let taken = lease(tx, &own, &old, contents)?;
        suspects -= usize::from(suspect && taken.is_some());
        batches.extend(taken);
    }
    for packed in packed::pack(&lost)? {
        chunk::store(tx, &packed, |_| chunk::FoundBy::ByEvent)?;
    }
    let next: Option<i64> =
        tx.db.prepare_cached("SELECT MIN(expiry) FROM batch")?.query_row([], |row| row.get(0))?;
    let wait = |expiry: i64| Duration::from_millis(codec::uint(expiry - now));
    Ok((batches, next.map(wait)))
}

/// A suspect that nobody has a use for yet is looked at again a moment later, so that it stands in
/// nobody's way. Its takes and its owner stay as they are.
fn put_off(tx: &Tx<'_>, old: &BatchRow) -> Result<()> {
    let mut update = tx.db.prepare_cached("UPDATE batch SET expiry = ?2 WHERE b = ?1")?;
    update.execute(params![old.b, tx.now.plus(SUSPECT_WAIT).millis()])?;
    Ok(())
}

/// Who gets a batch, and for how long.
struct Owner<'a> {
    node: &'a str,
    takes: i64,
    expiry: i64,
    /// It lapsed for nobody's fault: its next take is not counted.
    released: bool,
}

/// What is still open of a batch.
#[derive(Default)]
struct Contents {
    events: Vec<OpenEvent>,
    spoiled: Vec<pregon_core::id::Position>,
    deliveries: Vec<HeldDelivery>,
    /// What of them it had in hand out of runs.
    leases: Vec<Lease>,
}

impl Contents {
    fn read(tx: &mut Tx<'_>, old: &BatchRow) -> Result<Self> {
        let mut contents = Contents::default();
        for n in old.open_events() {
            contents.add_event(tx, n, false)?;
        }
        let mut select = tx.db.prepare_cached(
            "SELECT n, lane, replay, attempts, create_ms, pending FROM delivery WHERE batch = ?1
             ORDER BY n, lane, replay",
        )?;
        let mut rows = select.query([old.b])?;
        let mut events = Events::default();
        while let Some(row) = rows.next()? {
            let (n, lane): (i64, i64) = (row.get(0)?, row.get(1)?);
            if lane == 0 {
                contents.add_event(tx, n, row.get::<_, i64>(5)? == codec::SCHEDULED)?;
                continue;
            }
            let tag: String = row.get(2)?;
            let Some(event) = events.get(tx.db, n)? else {
                apply::end_unreadable(tx, n, lane, &tag, None)?;
                continue;
            };
            contents.deliveries.push(HeldDelivery {
                key: codec::key(n, codec::int(event.position.ms), lane, &tag)?,
                event,
                attempts: codec::uint32(row.get(3)?),
                create_time: Timestamp::from_millis(row.get(4)?),
                due: None,
            });
        }
        contents.add_runs(tx, old.b, &mut events)?;
        Ok(contents)
    }

    /// Adds what the batch has in hand of runs, and ends those leases.
    fn add_runs(&mut self, tx: &mut Tx<'_>, b: i64, events: &mut Events) -> Result<()> {
        for lease in runs::leased_by(tx.db, b)? {
            Lease { bits: Bits::default(), ..lease.clone() }.store(tx.db)?;
            let Some(mut run) = runs::pending_at(tx.db, lease.base, lease.lane)? else { continue };
            for n in lease.bits.numbers(codec::uint(lease.base)).map(codec::int) {
                let Some(event) = events.get(tx.db, n)? else {
                    run.remove(n);
                    run.store(tx.db)?;
                    apply::end_unreadable(tx, n, run.lane, "", Some(&run))?;
                    continue;
                };
                let ms = codec::int(event.position.ms);
                self.deliveries.push(HeldDelivery {
                    key: codec::key(n, ms, run.lane, "")?,
                    event,
                    attempts: 0,
                    create_time: Timestamp::from_millis(run.created(ms)),
                    due: None,
                });
            }
            self.leases.push(lease);
        }
        self.deliveries.sort_by_key(|held| held.key);
        Ok(())
    }

    fn add_event(&mut self, tx: &Tx<'_>, n: i64, ripe: bool) -> Result<()> {
        match rows::event_at(tx.db, n)? {
            Some(Found::Event(event)) => {
                let cursor = apply::fan_out_cursor(tx.db, n)?;
                self.events.push(OpenEvent { event, cursor, ripe });
            }
            Some(Found::Spoiled(position)) => self.spoiled.push(position),
            None => {}
        }
        Ok(())
    }

    /// Cuts the second half off; nothing of a single item.
    fn halve(&mut self) -> Option<Contents> {
        let mut keep = self.len().div_ceil(2);
        if keep == self.len() {
            return None;
        }
        Some(Contents {
            events: second(&mut self.events, &mut keep),
            spoiled: second(&mut self.spoiled, &mut keep),
            deliveries: second(&mut self.deliveries, &mut keep),
            leases: self.leases.clone(),
        })
    }

    fn len(&self) -> usize {
        self.events.len() + self.spoiled.len() + self.deliveries.len()
    }

    /// Numbers of its events that lie in a range.
    fn numbers<'a>(&'a self, old: &'a BatchRow) -> impl Iterator<Item = i64> + 'a {
        let events = self.events.iter().map(|open| open.event.position.n);
        let all = events.chain(self.spoiled.iter().map(|position| position.n));
        all.map(codec::int).filter(|n| old.covers(*n))
    }

    /// Numbers of its events that were put off before: they are in lane 0.
    fn put_off<'a>(&'a self, old: &'a BatchRow) -> impl Iterator<Item = i64> + 'a {
        let events = self.events.iter().map(|open| open.event.position.n);
        let all = events.chain(self.spoiled.iter().map(|position| position.n));
        all.map(codec::int).filter(|n| !old.covers(*n))
    }
}

/// Leaves `keep` items at most and answers with the others; takes those that stay off `keep`.
fn second<T>(items: &mut Vec<T>, keep: &mut usize) -> Vec<T> {
    let stay = items.len().min(*keep);
    *keep -= stay;
    items.split_off(stay)
}

/// Writes the row of a batch taken over and moves its deliveries to it.
fn lease(
    tx: &mut Tx<'_>,
    to: &Owner<'_>,
    old: &BatchRow,
    contents: Contents,
) -> Result<Option<Batch>> {
    if contents.len() == 0 {
        return Ok(None);
    }
    let numbers: Vec<i64> = contents.numbers(old).collect();
    let b = tx.st.new_batch();
    let mut row = match (numbers.iter().min(), numbers.iter().max()) {
        (Some(first), Some(last)) => {
            let mut row = BatchRow::range(b, to.node, *first, *last);
            let gone: Vec<i64> = row.open_events().filter(|n| !numbers.contains(n)).collect();
            gone.into_iter().for_each(|n| row.finish(n));
            BatchRow { origin: old.origin, ..row }
        }
        // Held deliveries of a range keep its origin: their attempts are found by it.
        _ => BatchRow { origin: old.origin, ..BatchRow::lanes(b, to.node) },
    };
    row.takes = to.takes;
    row.expiry = to.expiry;
    row.released = to.released;
    row.open = len(contents.len());
    row.insert(tx.db, tx.boot)?;
    let mut hold = tx.db.prepare_cached(
        "UPDATE delivery SET batch = ?4 WHERE n = ?1 AND lane = ?2 AND replay = ?3",
    )?;
    let mut leases: HashMap<(i64, i64), Lease> = HashMap::new();
    for held in &contents.deliveries {
        let (n, lane) = (codec::int(held.key.position.n), codec::lane(held.key.lane));
        let place = (runs::base(n), lane);
        let of = |lease: &Lease| {
            (lease.base, lease.lane) == place && lease.bits.contains(held.key.position.n)
        };
        if held.key.replay.is_none() && contents.leases.iter().any(of) {
            let (base, bits) = (place.0, Bits::default());
            let lease = leases.entry(place).or_insert(Lease { batch: b, base, lane, bits });
            lease.bits.insert(held.key.position.n);
        } else {
            hold.execute(params![n, lane, codec::tag(&held.key), row.b])?;
        }
    }
    leases.values().try_for_each(|lease| lease.store(tx.db))?;
    for n in contents.put_off(old) {
        hold.execute(params![n, 0, "", row.b])?;
    }
    let mut batch = take::empty(tx.boot, &row, NodeId::parse(&old.node).ok());
    batch.events = contents.events;
    batch.spoiled = contents.spoiled;
    batch.deliveries = contents.deliveries;
    Ok(Some(batch))
}

/// The record of an attempt whose end nobody saw; none where the row names no node.
fn lost_record(
    tx: &Tx<'_>,
    old: &BatchRow,
    held: &HeldDelivery,
) -> Option<(Token, Arc<AttemptRecord>)> {
    let node = NodeId::parse(&old.node).ok()?;
    Some((take::token(tx.boot, old.b), Arc::new(records::lost(held, node, tx.now)?)))
}
