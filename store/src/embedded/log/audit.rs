//! The audit: walks the structure and names what does not fit.

use std::collections::HashMap;

use rusqlite::{Connection, Params, Row};

use crate::embedded::engine::codec::{PENDING, len, uint};
use crate::embedded::engine::fault::Result;
use crate::embedded::log::books;
use crate::embedded::work::runs::{self, RunRow, run_columns};
use crate::log::{Books, Orphan};
use crate::run::Bits;

/// What one audit names at most.
const ORPHANS: usize = 100;

/// One check: a query that finds what does not fit, and how to say it.
struct Check {
    kind: &'static str,
    detail: &'static str,
    /// Answers with the thing's name.
    sql: &'static str,
}

const CHECKS: [Check; 12] = [
    Check {
        kind: "lane",
        detail: "its count of waiting deliveries is not what lies in it",
        sql: "SELECT lane.lane || '' FROM lane WHERE waiting <>
                (SELECT COUNT(*) FROM delivery d INDEXED BY delivery_waiting
                 WHERE d.lane = lane.lane AND d.state = 0 AND d.batch IS NULL)
                + (SELECT COALESCE(SUM(run.waiting), 0) FROM run INDEXED BY run_lane
                   WHERE run.lane = lane.lane AND state = 0)",
    },
    Check {
        kind: "lane",
        detail: "it has waiting deliveries and is never looked at",
        sql: "SELECT lane || '' FROM lane WHERE waiting > 0 AND wake IS NULL",
    },
    Check {
        kind: "delivery",
        detail: "it waits in a lane that does not exist",
        sql: "SELECT DISTINCT d.n || '.' || d.lane || '.' || d.replay
              FROM delivery d INDEXED BY delivery_waiting
              WHERE d.state = 0 AND d.batch IS NULL
                AND NOT EXISTS (SELECT 1 FROM lane WHERE lane.lane = d.lane)",
    },
    Check {
        kind: "run",
        detail: "it waits in a lane that does not exist",
        sql: "SELECT DISTINCT base || '.' || run.lane FROM run
              WHERE state = 0 AND waiting > 0
                AND NOT EXISTS (SELECT 1 FROM lane WHERE lane.lane = run.lane)",
    },
    Check {
        kind: "lease",
        detail: "it is of a batch that does not exist",
        sql: "SELECT base || '.' || lane FROM lease
              WHERE NOT EXISTS (SELECT 1 FROM batch WHERE batch.b = lease.batch)",
    },
    Check {
        kind: "delivery",
        detail: "it is held by a batch that does not exist",
        sql: "SELECT d.n || '.' || d.lane || '.' || d.replay
              FROM delivery d INDEXED BY delivery_held
              WHERE d.batch IS NOT NULL
                AND NOT EXISTS (SELECT 1 FROM batch WHERE batch.b = d.batch)",
    },
    Check {
        kind: "delivery",
        detail: "it is held by a batch although it has ended",
        sql: "SELECT d.n || '.' || d.lane || '.' || d.replay
              FROM delivery d INDEXED BY delivery_held
              WHERE d.batch IS NOT NULL AND d.state <> 0",
    },
    Check {
        kind: "delivery",
        detail: "it is pending and its event is gone",
        sql: "SELECT d.n || '.' || d.lane || '.' || d.replay FROM delivery d
              WHERE d.state = 0 AND NOT EXISTS (SELECT 1 FROM event WHERE event.n = d.n)",
    },
    Check {
        kind: "backlog",
        detail: "its counter is not what is pending in that stretch of events",
        sql: "SELECT page || '' FROM
                (SELECT n / 256 AS page, 1 AS count FROM delivery
                 WHERE state = 0 AND lane > 0
                 UNION ALL SELECT base / 256, count FROM run WHERE state = 0
                 UNION ALL SELECT page, -count FROM backlog WHERE level = 0)
              GROUP BY page HAVING SUM(count) <> 0",
    },
    Check {
        kind: "tenant",
        detail: "its counter of scheduled events is not what lies in lane 0",
        sql: "SELECT name FROM
                (SELECT tenant AS t, 1 AS count FROM delivery INDEXED BY delivery_lane
                 WHERE lane = 0 AND state = 0 AND state <> 1 AND pending = 100
                 UNION ALL SELECT t, -scheduled FROM tenant WHERE scheduled <> 0)
              JOIN tenant USING(t) GROUP BY t HAVING SUM(count) <> 0",
    },
    Check {
        kind: "chunk",
        detail: "attempts are said to be in it and it is gone",
        sql: "SELECT k || '' FROM map
              WHERE NOT EXISTS (SELECT 1 FROM chunk WHERE chunk.k = map.k)",
    },
    Check {
        kind: "event",
        detail: "its number is above the latest",
        sql: "SELECT n || '' FROM event WHERE n > (SELECT last FROM mark)",
    },
];

/// Names what does not fit.
pub(in crate::embedded) fn audit(db: &Connection) -> Result<Vec<Orphan>> {
    let mut orphans = Vec::new();
    for check in &CHECKS {
        let names = names(db, check.sql, [], ORPHANS - orphans.len())?;
        orphans.extend(names.into_iter().map(|name| Orphan {
            kind: check.kind,
            name,
            detail: check.detail.to_owned(),
        }));
    }
    runs(db, &mut orphans)?;
    batches(db, &mut orphans)?;
    counters(db, &mut orphans)?;
    orphans.truncate(ORPHANS);
    Ok(orphans)
}

fn names(db: &Connection, sql: &str, values: impl Params, limit: usize) -> Result<Vec<String>> {
    let mut select = db.prepare(sql)?;
    let names = select.query_map(values, |row| row.get(0))?.take(limit);
    Ok(names.collect::<rusqlite::Result<_>>()?)
}

/// A run must count what it holds, no delivery may be in two or have a record beside it, and what is
/// pending must have its event.
fn runs(db: &Connection, orphans: &mut Vec<Orphan>) -> Result<()> {
    let mut select = db.prepare(run_columns!("ORDER BY base, lane"))?;
    let mut counted = db.prepare_cached(
        "SELECT count, waiting FROM run WHERE base = ?1 AND lane = ?2 AND state = ?3
           AND end_ms = ?4 AND reason = ?5",
    )?;
    let mut leased: HashMap<(i64, i64), Bits> = HashMap::new();
    for lease in runs::all_leased(db)? {
        let all = leased.entry((lease.base, lease.lane)).or_default();
        if !all.and(&lease.bits).is_empty() {
            let detail = "one of its deliveries is leased twice".to_owned();
            let name = format!("{}.{}", lease.base, lease.lane);
            orphans.push(Orphan { kind: "lease", name, detail });
        }
        *all = all.or(&lease.bits);
    }
    let mut recorded = db.prepare_cached(
        "SELECT n FROM delivery WHERE n >= ?1 AND n < ?1 + 256 AND lane = ?2 AND replay = ''",
    )?;
    let mut events = db.prepare_cached("SELECT n FROM event WHERE n >= ?1 AND n < ?1 + 256")?;
    let mut before: Option<RunRow> = None;
    let mut rows = select.query([])?;
    while orphans.len() < ORPHANS
        && let Some(row) = rows.next()?
    {
        let run = runs::read(row)?;
        let place = (run.base, run.lane, run.state, run.end_ms, run.reason);
        let mut wrong = |detail: &str| {
            let name = format!("{}.{}", run.base, run.lane);
            orphans.push(Orphan { kind: "run", name, detail: detail.to_owned() });
        };
        let counts: (i64, i64) = counted.query_row(place, |row| Ok((row.get(0)?, row.get(1)?)))?;
        if counts != (run.count(), run.waiting()) {
            wrong("it does not count what it holds");
        }
        if run.state == PENDING {
            let leased = leased.remove(&(run.base, run.lane)).unwrap_or_default();
            if leased != run.bits.without(&run.free) || !run.free.without(&run.bits).is_empty() {
                wrong("what does not wait of it is not what is leased");
            }
        }
        let mut others = numbers(&mut recorded, rusqlite::params![run.base, run.lane])?;
        if let Some(last) = &before
            && (last.base, last.lane) == (run.base, run.lane)
        {
            others = others.or(&last.bits);
        }
        if !others.and(&run.bits).is_empty() {
            wrong("one of its deliveries is elsewhere, too");
        }
        let kept = numbers(&mut events, [run.base])?;
        if run.state == PENDING && !run.bits.without(&kept).is_empty() {
            wrong("it is pending and an event of it is gone");
        }
        before = Some(match before {
            Some(last) if (last.base, last.lane) == (run.base, run.lane) => {
                RunRow { bits: last.bits.or(&run.bits), ..run }
            }
            Some(_) | None => run,
        });
    }
    if orphans.len() < ORPHANS {
        orphans.extend(leased.into_keys().map(|(base, lane)| Orphan {
            kind: "lease",
            name: format!("{base}.{lane}"),
            detail: "nothing of its run is pending".to_owned(),
        }));
    }
    Ok(())
}

/// The numbers of one run that a query finds.
fn numbers(select: &mut rusqlite::Statement<'_>, values: impl Params) -> Result<Bits> {
    let found = select.query_map(values, |row| row.get(0))?;
    let found = found.collect::<rusqlite::Result<Vec<i64>>>()?;
    Ok(Bits::of(found.into_iter().map(uint)))
}

/// What a batch counts as open must be what is open in it.
fn batches(db: &Connection, orphans: &mut Vec<Orphan>) -> Result<()> {
    let mut held = db.prepare_cached("SELECT COUNT(*) FROM delivery WHERE batch = ?1")?;
    for batch in books::batches(db)? {
        let held: i64 = held.query_row([batch.b], |row| row.get(0))?;
        let leases = runs::leased_by(db, batch.b)?;
        let leased: i64 = leases.iter().map(|lease| i64::from(lease.bits.count())).sum();
        let found = len(batch.open_events().count()) + held + leased;
        if found != batch.open {
            let detail = format!("it counts {} items open and holds {found}", batch.open);
            orphans.push(Orphan { kind: "batch", name: batch.b.to_string(), detail });
        }
    }
    Ok(())
}

/// Both sums, for all and for each tenant; tenants' pending deliveries are counted in one walk.
fn counters(db: &Connection, orphans: &mut Vec<Orphan>) -> Result<()> {
    let all = books::books(db, None)?;
    if !all.balance() {
        orphans.push(unbalanced("all", &all));
    }
    let mut select = db.prepare_cached(
        "SELECT name, created - succeeded - failed - cancelled,
           (SELECT COUNT(*) FROM delivery INDEXED BY delivery_tenant
            WHERE delivery.tenant = tenant.t AND state = 0 AND state <> 1 AND lane > 0)
           + (SELECT COALESCE(SUM(count), 0) FROM run INDEXED BY run_tenant
              WHERE run.tenant = tenant.t AND state = 0) AS pending
         FROM tenant WHERE pending <> created - succeeded - failed - cancelled LIMIT 100",
    )?;
    let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    for found in select.query_map([], row)? {
        let (name, counted, pending): (String, i64, i64) = found?;
        let detail =
            format!("{counted} deliveries should be pending by its counters, {pending} are");
        orphans.push(Orphan { kind: "tenant", name, detail });
    }
    Ok(())
}

fn unbalanced(name: &str, books: &Books) -> Orphan {
    Orphan { kind: "books", name: name.to_owned(), detail: format!("do not balance: {books:?}") }
}
