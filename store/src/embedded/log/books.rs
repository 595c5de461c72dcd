//! The books: counters on one side, the structure on the other.
//!
//! `waiting` and `pending` are counted where the work lies, never taken from counters: that is
//! what makes the sums a proof.

use std::collections::BTreeMap;

use pregon_core::id::TenantId;
use rusqlite::{Connection, OptionalExtension, Row};

use crate::embedded::engine::codec::{len, uint};
use crate::embedded::engine::fault::Result;
use crate::embedded::engine::rows::{self, BatchRow, batch_columns};
use crate::embedded::engine::schema;
use crate::log::Books;

/// The books of one tenant, or of all.
pub(in crate::embedded) fn books(db: &Connection, tenant: Option<&TenantId>) -> Result<Books> {
    let mut books = match tenant {
        None => {
            let sql = "SELECT SUM(accepted), SUM(matched), SUM(unmatched), SUM(created),
                 SUM(succeeded), SUM(failed), SUM(cancelled), SUM(called_off), SUM(scheduled)
                 FROM tenant";
            db.prepare_cached(sql)?.query_row([], counters)?
        }
        Some(tenant) => {
            let sql = "SELECT accepted, matched, unmatched, created, succeeded, failed, cancelled,
                 called_off, scheduled FROM tenant WHERE name = ?1";
            let mut select = db.prepare_cached(sql)?;
            match select.query_row([tenant.as_str()], counters).optional()? {
                Some(books) => books,
                None => return Ok(Books::default()),
            }
        }
    };
    let t = match tenant {
        None => None,
        Some(tenant) => crate::embedded::log::events::tenant(db, tenant.as_str())?,
    };
    books.waiting = uint(waiting(db, t)?);
    books.pending = uint(pending(db, t)?);
    Ok(books)
}

/// What a tenant has outstanding, by its counters.
pub(in crate::embedded) fn outstanding(db: &Connection, tenant: &str) -> Result<u64> {
    let sql = "SELECT accepted - matched - unmatched + created - succeeded - failed - cancelled
         FROM tenant WHERE name = ?1";
    let found: Option<i64> =
        db.prepare_cached(sql)?.query_row([tenant], |row| row.get(0)).optional()?;
    Ok(uint(found.unwrap_or(0)))
}

fn counters(row: &Row<'_>) -> rusqlite::Result<Books> {
    let count = |i: usize| row.get::<_, Option<i64>>(i).map(|n| uint(n.unwrap_or(0)));
    Ok(Books {
        accepted: count(0)?,
        matched: count(1)?,
        unmatched: count(2)?,
        created: count(3)?,
        succeeded: count(4)?,
        failed: count(5)?,
        cancelled: count(6)?,
        called_off: count(7)?,
        scheduled: count(8)?,
        ..Books::default()
    })
}

fn count(db: &Connection, sql: &str, values: impl rusqlite::Params) -> Result<i64> {
    Ok(db.prepare_cached(sql)?.query_row(values, |row| row.get(0))?)
}

/// Deliveries in lanes and in batches.
fn pending(db: &Connection, tenant: Option<i64>) -> Result<i64> {
    if let Some(t) = tenant {
        let sql = "SELECT COUNT(*) FROM delivery INDEXED BY delivery_tenant
             WHERE tenant = ?1 AND state = 0 AND state <> 1 AND lane > 0";
        let runs = "SELECT COALESCE(SUM(count), 0) FROM run INDEXED BY run_tenant
             WHERE tenant = ?1 AND state = 0";
        return Ok(count(db, sql, [t])? + count(db, runs, [t])?);
    }
    let waiting = "SELECT COUNT(*) FROM delivery INDEXED BY delivery_waiting
         WHERE lane > 0 AND state = 0 AND batch IS NULL";
    let held = "SELECT COUNT(*) FROM delivery INDEXED BY delivery_held
         WHERE batch IS NOT NULL AND lane > 0";
    let runs = "SELECT COALESCE(SUM(count), 0) FROM run WHERE state = 0";
    Ok(count(db, waiting, [])? + count(db, held, [])? + count(db, runs, [])?)
}

/// Events not taken yet, put off, or open in a batch.
fn waiting(db: &Connection, tenant: Option<i64>) -> Result<i64> {
    let cur = schema::mark(db)?.cur;
    // By tenant even for all: that index holds no data, so a million events are counted quickly.
    let untaken = "SELECT COALESCE(SUM((SELECT COUNT(*) FROM event INDEXED BY event_tenant
           WHERE event.tenant = tenant.t AND event.n > ?1)), 0)
         FROM tenant WHERE ?2 IS NULL OR t = ?2";
    let put_off = match tenant {
        Some(t) => {
            let sql = "SELECT COUNT(*) FROM delivery INDEXED BY delivery_tenant
                 WHERE tenant = ?1 AND state = 0 AND state <> 1 AND lane = 0";
            count(db, sql, [t])?
        }
        None => {
            let sql = "SELECT COUNT(*) FROM delivery INDEXED BY delivery_lane
                 WHERE lane = 0 AND state = 0 AND state <> 1";
            count(db, sql, [])?
        }
    };
    let mut sum = count(db, untaken, rusqlite::params![cur, tenant])? + put_off;
    for batch in batches(db)? {
        match tenant {
            None => sum += len(batch.open_events().count()),
            Some(t) => {
                let own = tenants_of(db, &batch)?.into_iter().filter(|(owner, _)| *owner == t);
                sum += own.map(|(_, events)| events).sum::<i64>();
            }
        }
    }
    Ok(sum)
}

/// All batches there are; few at any time.
pub(in crate::embedded) fn batches(db: &Connection) -> Result<Vec<BatchRow>> {
    let mut select = db.prepare_cached(batch_columns!("ORDER BY b"))?;
    let batches = select.query_map([], rows::batch_row)?;
    Ok(batches.collect::<rusqlite::Result<_>>()?)
}

/// Open events of a batch's range, by tenant.
fn tenants_of(db: &Connection, batch: &BatchRow) -> Result<BTreeMap<i64, i64>> {
    let mut select = db.prepare_cached("SELECT n, tenant FROM event WHERE n BETWEEN ?1 AND ?2")?;
    let mut rows = select.query([batch.first, batch.last])?;
    let mut found = BTreeMap::new();
    while let Some(row) = rows.next()? {
        if !batch.is_done(row.get(0)?) {
            *found.entry(row.get(1)?).or_insert(0) += 1;
        }
    }
    Ok(found)
}
