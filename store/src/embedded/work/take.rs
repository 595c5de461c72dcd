//! Leases: taking new events, keeping a lease, giving one back.
//!
//! A take moves the cursor `cur` and writes one row for the whole range. Everything up to `cur`
//! was taken once; what is still open of it is in the batches.

use std::sync::Arc;

use pregon_core::id::NodeId;
use rusqlite::{OptionalExtension, params};

use crate::batch::{Batch, OpenEvent, Token};
use crate::embedded::engine::codec;
use crate::embedded::engine::fault::Result;
use crate::embedded::engine::rows::{self, BatchRow, Found, event_columns};
use crate::embedded::engine::state::Tx;
use crate::work::{BATCH_MAX, Claim};

/// The token of a batch of this opening.
pub(in crate::embedded) fn token(boot: i64, b: i64) -> Token {
    Token { incarnation: boot.cast_unsigned(), sequence: codec::uint(b) }
}

/// The batch number of a token, if this opening made it.
pub(in crate::embedded) fn number(boot: i64, token: Token) -> Option<i64> {
    (token.incarnation == boot.cast_unsigned()).then(|| codec::int(token.sequence))
}

/// An empty batch for callers.
pub(in crate::embedded) fn empty(boot: i64, row: &BatchRow, previous: Option<NodeId>) -> Batch {
    Batch {
        token: token(boot, row.b),
        partition: codec::PARTITION,
        takes: row.takes(),
        previous,
        events: Vec::new(),
        deliveries: Vec::new(),
        spoiled: Vec::new(),
        closed: Vec::new(),
    }
}

/// Leases the next new events.
pub(in crate::embedded) fn take(
    tx: &mut Tx<'_>,
    claim: &Claim,
    want: usize,
    bytes: usize,
) -> Result<Option<Batch>> {
    let first = tx.st.cur + 1;
    let last = tx.st.last.min(tx.st.cur + codec::len(want.min(BATCH_MAX)));
    if first > last {
        return Ok(None);
    }
    let mut row = BatchRow::range(tx.st.new_batch(), claim.node.as_str(), first, last);
    let mut batch = empty(tx.boot, &row, None);
    let (mut size, mut end, mut seen) = (0usize, first, 0);
    let mut add = |n, found, batch: &mut Batch| {
        (end, seen) = (n, seen + 1);
        match found {
            Found::Event(event) => {
                size = size.saturating_add(event.size());
                batch.events.push(OpenEvent { event, cursor: None, ripe: false });
            }
            Found::Spoiled(position) => batch.spoiled.push(position),
        }
        size >= bytes
    };
    if let Some(events) = tx.st.fresh.range(first, last) {
        for event in events {
            if add(codec::int(event.position.n), Found::Event(Arc::clone(event)), &mut batch) {
                break;
            }
        }
    } else {
        let sql = event_columns!("WHERE event.n BETWEEN ?1 AND ?2 ORDER BY event.n");
        let mut select = tx.db.prepare_cached(sql)?;
        let mut rows = select.query([first, last])?;
        while let Some(found) = rows.next()? {
            if add(found.get(0)?, rows::found(found)?, &mut batch) {
                break;
            }
        }
    }
    if seen == 0 {
        end = last; // nothing there: the numbers are passed over
    }
    row = BatchRow { expiry: tx.now.plus(claim.lease).millis(), ..shorten(row, claim, end) };
    pass_over_gaps(&mut row, &batch);
    tx.st.cur = end;
    tx.st.fresh.pass(end);
    tx.st.moved();
    if row.open == 0 {
        return Ok(None);
    }
    row.insert(tx.db, tx.boot)?;
    Ok(Some(batch))
}

fn shorten(row: BatchRow, claim: &Claim, last: i64) -> BatchRow {
    if row.last == last {
        row
    } else {
        BatchRow::range(row.b, claim.node.as_str(), row.first, last)
    }
}

/// Numbers without an event (there should be none) count as done.
fn pass_over_gaps(row: &mut BatchRow, batch: &Batch) {
    if row.open == codec::len(batch.len()) {
        return;
    }
    let has = |n: i64| {
        let n = codec::uint(n);
        batch.events.iter().any(|open| open.event.position.n == n)
            || batch.spoiled.iter().any(|position| position.n == n)
    };
    let missing: Vec<i64> = row.open_events().filter(|n| !has(*n)).collect();
    missing.into_iter().for_each(|n| row.finish(n));
}

/// Moves the end of leases; answers with those that are gone.
pub(in crate::embedded) fn extend(
    tx: &mut Tx<'_>,
    tokens: &[Token],
    lease: std::time::Duration,
) -> Result<Vec<Token>> {
    let expiry = tx.now.plus(lease).millis();
    let mut update = tx.db.prepare_cached(
        "UPDATE batch SET expiry = ?3 WHERE b = ?1 AND boot = ?2 AND released = 0",
    )?;
    let mut gone = Vec::new();
    for token in tokens {
        let kept = match number(tx.boot, *token) {
            Some(b) => update.execute(params![b, tx.boot, expiry])? == 1,
            None => false,
        };
        if !kept {
            gone.push(*token);
        }
    }
    Ok(gone)
}

/// Gives batches back: they lapse at once, and the next take of them does not count.
pub(in crate::embedded) fn release(tx: &mut Tx<'_>, tokens: &[Token]) -> Result<()> {
    let mut update = tx
        .db
        .prepare_cached("UPDATE batch SET expiry = 0, released = 1 WHERE b = ?1 AND boot = ?2")?;
    for b in tokens.iter().filter_map(|token| number(tx.boot, *token)) {
        update.execute(params![b, tx.boot])?;
    }
    tx.st.ring = true;
    Ok(())
}

/// The batch of a token, if its lease still exists.
pub(in crate::embedded) fn batch_of(tx: &Tx<'_>, token: Token) -> Result<Option<BatchRow>> {
    let Some(b) = number(tx.boot, token) else { return Ok(None) };
    let sql = rows::batch_columns!("WHERE b = ?1 AND boot = ?2");
    let mut select = tx.db.prepare_cached(sql)?;
    Ok(select.query_row([b, tx.boot], rows::batch_row).optional()?)
}
