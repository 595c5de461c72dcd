//! Trimming: history goes when it is old, or when there is too much of it; work never does.
//!
//! A cursor (`trim`) walks up the events as they come of age. It spares an event that is not
//! matched, that has a pending delivery, or that has a failed one which is kept longer. One whose
//! delivery ends is looked at anew in the next step; a second cursor (`again`) goes round below for
//! all others. An event takes its deliveries, its dedupe entry and its trails along. Chunks of the
//! log go when all events that they tell of are behind the cursor; those that tell of trouble when
//! none of those events is spared any more.

use std::collections::BTreeSet;

use rusqlite::{Connection, params};

use crate::embedded::History;
use crate::embedded::config::audit;
use crate::embedded::engine::codec::{self, FAILED, PENDING, int, len};
use crate::embedded::engine::ends;
use crate::embedded::engine::fault::Result;
use crate::embedded::engine::rows;
use crate::embedded::engine::state::Tx;
use crate::embedded::log::chunk;
use crate::embedded::work::runs;
use crate::node::FORGOTTEN_AFTER;
use pregon_core::limits;

/// Events that one step looks at: about 2 ms.
const EVENTS: i64 = 500;
/// Spared events that one step looks at again.
const AGAIN: i64 = 100;
/// Chunks that one step removes.
const CHUNKS: i64 = 50;
/// Chunks that tell of trouble that one step looks into: about 5 ms.
const TROUBLE: i64 = 20;
/// Rows of other kinds that one step removes.
const OTHERS: i64 = 200;
/// How old the mark of a cancelled delivery is before it is looked at.
const MARKS_KEPT_MS: i64 = 3_600_000;

/// One bounded step; says whether there is more to trim.
pub(in crate::embedded) fn step(tx: &mut Tx<'_>, history: &History) -> Result<bool> {
    let more = advance(tx, history)?;
    let more_loose = loose(tx, history)?;
    look_again(tx, history)?;
    let more_chunks = chunks(tx)?;
    let more_trouble = trouble(tx)?;
    let more_stale = stale(tx)?;
    marks(tx)?;
    forget_requests(tx, OTHERS)?;
    forget_nodes(tx)?;
    ends::trim(tx.db)?;
    let more_audit = audit::trim(tx, &history.audit)?;
    Ok(more || more_audit || more_loose || more_chunks || more_trouble || more_stale)
}

/// An event, as far as trimming needs it.
struct Old {
    n: i64,
    ms: i64,
    tenant: i64,
    head: Vec<u8>,
    data: i64,
}

fn old_events(db: &Connection, first: i64, last: i64, limit: i64) -> Result<Vec<Old>> {
    let mut select = db.prepare_cached(
        "SELECT n, ms, tenant, head, length(data) FROM event
         WHERE n BETWEEN ?1 AND ?2 ORDER BY n LIMIT ?3",
    )?;
    let events = select.query_map([first, last, limit], |row| {
        Ok(Old {
            n: row.get(0)?,
            ms: row.get(1)?,
            tenant: row.get(2)?,
            head: row.get(3)?,
            data: row.get(4)?,
        })
    })?;
    Ok(events.collect::<rusqlite::Result<_>>()?)
}

/// Moves the cursor up as far as history is to go.
fn advance(tx: &mut Tx<'_>, history: &History) -> Result<bool> {
    let too_old = tx.now.minus(history.max_age).millis();
    let over = |bound: u64, have: i64| bound > 0 && have > int(bound);
    let events = old_events(tx.db, tx.st.trim + 1, tx.st.cur, EVENTS)?;
    let looked_at = len(events.len());
    for event in events {
        let crowded = over(history.max_events, tx.st.kept) || over(history.max_bytes, tx.st.bytes);
        if event.ms >= too_old && !crowded {
            return Ok(false);
        }
        tx.st.trim = event.n;
        tx.st.moved();
        trim(tx, history, &event)?;
    }
    Ok(looked_at == EVENTS)
}

/// Looks at events that were spared and had a delivery end since.
fn loose(tx: &mut Tx<'_>, history: &History) -> Result<bool> {
    for _ in 0..EVENTS {
        let Some(n) = tx.st.loose.pop_first() else { break };
        for event in old_events(tx.db, n, n, 1)? {
            trim(tx, history, &event)?;
        }
    }
    Ok(!tx.st.loose.is_empty())
}

/// Looks at some of the events that were spared.
fn look_again(tx: &mut Tx<'_>, history: &History) -> Result<()> {
    let events = old_events(tx.db, tx.st.again + 1, tx.st.trim, AGAIN)?;
    let next = if len(events.len()) < AGAIN { 0 } else { events.last().map_or(0, |e| e.n) };
    if next != tx.st.again {
        tx.st.again = next;
        tx.st.moved();
    }
    for event in &events {
        trim(tx, history, event)?;
    }
    Ok(())
}

/// Removes an event and what belongs to it, unless it has to stay.
fn trim(tx: &mut Tx<'_>, history: &History, event: &Old) -> Result<()> {
    if must_stay(tx, history, event)? {
        return Ok(());
    }
    let db = tx.db;
    db.prepare_cached("DELETE FROM event WHERE n = ?1")?.execute([event.n])?;
    db.prepare_cached("DELETE FROM delivery WHERE n = ?1")?.execute([event.n])?;
    runs::forget(db, event.n)?;
    db.prepare_cached("DELETE FROM partial WHERE n = ?1")?.execute([event.n])?;
    db.prepare_cached("DELETE FROM unmatched WHERE tenant = ?1 AND n = ?2")?
        .execute([event.tenant, event.n])?;
    forget_name(tx, event)?;
    tx.st.kept -= 1;
    tx.st.bytes -= len(event.head.len()) + event.data;
    Ok(())
}

fn must_stay(tx: &Tx<'_>, history: &History, event: &Old) -> Result<bool> {
    let mut select = tx.db.prepare_cached(
        "SELECT state, MAX(end_ms) FROM delivery WHERE n = ?1 AND state IN (0, 2) GROUP BY state",
    )?;
    let mut rows = select.query([event.n])?;
    let failed_from = tx.now.minus(history.failed_age).millis();
    let spares =
        |state: i64, end_ms: i64| state == PENDING || (state == FAILED && end_ms >= failed_from);
    while let Some(row) = rows.next()? {
        if spares(row.get(0)?, row.get::<_, Option<i64>>(1)?.unwrap_or(i64::MIN)) {
            return Ok(true);
        }
    }
    if runs::of_event(tx.db, event.n)?.iter().any(|run| spares(run.state, run.end_ms)) {
        return Ok(true);
    }
    Ok(!rows::stage(tx.db, event.n, tx.st.cur)?.is_settled())
}

/// Drops the dedupe entry that points at an event, or notes that it has to wait for its day.
fn forget_name(tx: &Tx<'_>, event: &Old) -> Result<()> {
    let Some(head) = codec::read_head(&event.head) else { return Ok(()) };
    let Some(id) = head.id else { return Ok(()) };
    let (id, version) = (id.as_str(), head.version);
    let window = int(u64::try_from(limits::DEDUPE_WINDOW.as_millis()).unwrap_or(u64::MAX));
    if event.ms + window <= tx.now.millis() {
        tx.db
            .prepare_cached(
                "DELETE FROM dedupe WHERE tenant = ?1 AND id = ?2 AND version = ?3 AND n = ?4",
            )?
            .execute(params![event.tenant, id, version, event.n])?;
    } else {
        tx.db
            .prepare_cached(
                "INSERT OR IGNORE INTO stale(ms, tenant, id, version) VALUES(?1, ?2, ?3, ?4)",
            )?
            .execute(params![event.ms + window, event.tenant, id, version])?;
    }
    Ok(())
}

/// Drops dedupe entries that outlived their events, on their day.
fn stale(tx: &Tx<'_>) -> Result<bool> {
    let mut select = tx.db.prepare_cached(
        "SELECT ms, tenant, id, version FROM stale WHERE ms <= ?1 ORDER BY ms LIMIT ?2",
    )?;
    let rows = select.query_map([tx.now.millis(), OTHERS], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    })?;
    let rows = rows.collect::<rusqlite::Result<Vec<(i64, i64, String, i64)>>>()?;
    // A name that was given again since points at an event that is kept.
    let mut forget = tx.db.prepare_cached(
        "DELETE FROM dedupe WHERE tenant = ?1 AND id = ?2 AND version = ?3
           AND NOT EXISTS (SELECT 1 FROM event WHERE event.n = dedupe.n)",
    )?;
    let mut done = tx.db.prepare_cached(
        "DELETE FROM stale WHERE ms = ?4 AND tenant = ?1 AND id = ?2 AND version = ?3",
    )?;
    for (ms, tenant, id, version) in &rows {
        forget.execute(params![tenant, id, version])?;
        done.execute(params![tenant, id, version, ms])?;
    }
    Ok(len(rows.len()) == OTHERS)
}

/// Removes chunks that tell of successes once their events are behind the cursor.
fn chunks(tx: &Tx<'_>) -> Result<bool> {
    let mut select = tx
        .db
        .prepare_cached("SELECT k, max_n, refs FROM chunk WHERE kind = ?1 ORDER BY k LIMIT ?2")?;
    let mut rows = select.query([chunk::SMOOTH, CHUNKS])?;
    let mut old = Vec::new();
    while let Some(row) = rows.next()? {
        let max_n: i64 = row.get(1)?;
        if max_n > tx.st.trim {
            break;
        }
        old.push((row.get(0)?, row.get(2)?));
    }
    let more = len(old.len()) == CHUNKS;
    remove(tx, old)?;
    Ok(more)
}

/// Removes chunks that tell of trouble once none of the events that they tell of is kept; says
/// whether it removed some, and so may find more. Goes round, since some stay for long.
fn trouble(tx: &mut Tx<'_>) -> Result<bool> {
    let mut select = tx.db.prepare_cached(
        "SELECT late, data, k, max_n, refs FROM chunk WHERE kind = ?1 AND k > ?2 ORDER BY k LIMIT ?3",
    )?;
    let mut is_kept = tx.db.prepare_cached("SELECT 1 FROM event WHERE n = ?1")?;
    let mut rows = select.query(params![chunk::TROUBLE, tx.st.trouble, TROUBLE])?;
    let (mut seen, mut next, mut old) = (0, 0, Vec::new());
    while let Some(row) = rows.next()? {
        let (k, max_n): (i64, i64) = (row.get(2)?, row.get(3)?);
        if max_n > tx.st.trim {
            (seen, next) = (0, 0);
            break;
        }
        (seen, next) = (seen + 1, k);
        let named: BTreeSet<i64> =
            chunk::unpack(row)?.iter().map(|record| int(record.key.position.n)).collect();
        let mut kept = false;
        for n in named {
            kept = kept || is_kept.exists([n])?;
        }
        if !kept {
            old.push((k, row.get(4)?));
        }
    }
    drop(rows);
    tx.st.trouble = if seen == TROUBLE { next } else { 0 };
    let more = !old.is_empty();
    remove(tx, old)?;
    Ok(more)
}

/// Removes chunks, each with what leads to it.
fn remove(tx: &Tx<'_>, chunks: Vec<(i64, Vec<u8>)>) -> Result<()> {
    let mut unmap = tx.db.prepare_cached("DELETE FROM map WHERE first = ?1 AND k = ?2")?;
    let mut untrail = tx.db.prepare_cached("DELETE FROM trail WHERE n = ?1 AND k = ?2")?;
    let mut remove = tx.db.prepare_cached("DELETE FROM chunk WHERE k = ?1")?;
    for (k, refs) in chunks {
        let refs: rows::Refs = postcard::from_bytes(&refs)?;
        for first in refs.map {
            unmap.execute([first, k])?;
        }
        for n in refs.trail {
            untrail.execute([n, k])?;
        }
        remove.execute([k])?;
    }
    Ok(())
}

/// Drops old marks whose delivery is attempted no more. (A settle drops its own; what is left is
/// of deliveries that a match never made.)
fn marks(tx: &mut Tx<'_>) -> Result<()> {
    if tx.st.kills == 0 {
        return Ok(());
    }
    let mut select = tx.db.prepare_cached(
        "SELECT killed.n, killed.lane, killed.replay, delivery.n IS NULL, delivery.batch IS NULL
         FROM killed LEFT JOIN delivery ON delivery.n = killed.n AND delivery.lane = killed.lane
           AND delivery.replay = killed.replay
         WHERE ms <= ?1 LIMIT ?2",
    )?;
    let mut remove =
        tx.db.prepare_cached("DELETE FROM killed WHERE n = ?1 AND lane = ?2 AND replay = ?3")?;
    let mut rows = select.query([tx.now.millis() - MARKS_KEPT_MS, OTHERS])?;
    let mut old = Vec::new();
    while let Some(row) = rows.next()? {
        let n: i64 = row.get(0)?;
        let in_flight = match (row.get::<_, bool>(3)?, row.get::<_, bool>(4)?) {
            (true, _) => {
                !rows::stage(tx.db, n, tx.st.cur)?.is_settled()
                    || runs::is_leased(tx.db, n, row.get(1)?)?
            }
            (false, free) => !free,
        };
        if !in_flight {
            old.push((n, row.get::<_, i64>(1)?, row.get::<_, String>(2)?));
        }
    }
    drop(rows);
    for (n, lane, tag) in old {
        remove.execute(params![n, lane, tag])?;
        tx.st.kills -= 1;
    }
    Ok(())
}

/// Forgets requests of more than a day ago, `limit` at most.
fn forget_requests(tx: &Tx<'_>, limit: i64) -> Result<()> {
    tx.db
        .prepare_cached(
            "DELETE FROM request WHERE id IN (SELECT id FROM request WHERE ms <= ?1 LIMIT ?2)",
        )?
        .execute([tx.now.minus(limits::REQUEST_ID_KEPT).millis(), limit])?;
    Ok(())
}

/// Removes nodes that are forgotten.
fn forget_nodes(tx: &Tx<'_>) -> Result<()> {
    tx.db
        .prepare_cached("DELETE FROM node WHERE ms < ?1")?
        .execute([tx.now.minus(FORGOTTEN_AFTER).millis()])?;
    Ok(())
}
