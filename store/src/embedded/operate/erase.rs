//! Erasing what a tenant left, in steps as small as those of trimming.
//!
//! Events are found by their tenant. Chunks have no such index, so all of the log is walked. A
//! chunk of which nothing is left stays as an empty one until history reaches it, so that their
//! numbers are dense.

use pregon_core::event::Erasure;
use pregon_core::id::Position;
use pregon_core::outcome::EndReason;
use rusqlite::{Connection, OptionalExtension, params};

use crate::codec::{packed, stored};
use crate::embedded::engine::codec::{PENDING, bad, int, len, uint};
use crate::embedded::engine::fault::Result;
use crate::embedded::engine::rows::{self, Found};
use crate::embedded::engine::state::Tx;
use crate::embedded::log::{attempts, chunk};
use crate::embedded::operate::call_off::call_off;
use crate::embedded::work::runs;
use crate::erase::{Erase, ErasePlace, Erased, EventErased, STRIP_STEP, Stripped};

/// Events that one step looks at: about 2 ms.
const EVENTS: i64 = 200;
/// Chunks that one step looks into: about 5 ms.
const CHUNKS: i64 = 20;

/// Bytes of events, or of chunks as they lie there, after which a step ends: they may be large.
const BYTES: i64 = 1024 * 1024;

/// The stages of a pass: events, then the log.
const OF_EVENTS: u8 = 0;
const OF_LOG: u8 = 1;

/// One step.
pub(in crate::embedded) fn step(
    tx: &mut Tx<'_>,
    erase: &Erase,
    from: ErasePlace,
) -> Result<Erased> {
    tx.st.fresh.forget();
    match from.stage {
        OF_EVENTS => events(tx, erase, int(from.at)),
        _ => log(tx, erase, int(from.at)),
    }
}

fn at(stage: u8, at: i64) -> Option<ErasePlace> {
    Some(ErasePlace { partition: 0, stage, at: uint(at) })
}

/// Removes events of the tenant above a number, and what belongs to them.
fn events(tx: &mut Tx<'_>, erase: &Erase, from: i64) -> Result<Erased> {
    let mut find = tx.db.prepare_cached("SELECT t FROM tenant WHERE name = ?1")?;
    let tenant: Option<i64> =
        find.query_row([erase.tenant.as_str()], |row| row.get(0)).optional()?;
    let Some(tenant) = tenant else { return Ok(Erased::default()) };
    let mut select = tx.db.prepare_cached(
        "SELECT n, head, length(data) FROM event INDEXED BY event_tenant
         WHERE tenant = ?1 AND n > ?2 AND ms < ?3 ORDER BY n LIMIT ?4",
    )?;
    let found = select
        .query_map(params![tenant, from, erase.before.millis(), EVENTS], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?
        .collect::<rusqlite::Result<Vec<(i64, Vec<u8>, i64)>>>()?;
    let (mut done, mut bytes) = (Erased::default(), 0);
    for (n, head, data) in &found {
        bytes += data;
        if bytes > BYTES && *n > found[0].0 {
            done.next = at(OF_EVENTS, n - 1);
            return Ok(done);
        }
        call_off(tx, *n, EndReason::TenantDeleted)?;
        if is_open(tx, *n)? {
            done.left += 1;
            continue;
        }
        remove(tx, tenant, *n, head)?;
        tx.st.kept -= 1;
        tx.st.bytes -= len(head.len()) + data;
        tx.st.moved();
        done.erased += 1;
    }
    done.next = match found.last() {
        Some((last, ..)) if len(found.len()) == EVENTS => at(OF_EVENTS, *last),
        Some(_) | None => at(OF_LOG, 0),
    };
    Ok(done)
}

/// Whether something of an event is to be done yet.
fn is_open(tx: &Tx<'_>, n: i64) -> Result<bool> {
    let mut pending = tx.db.prepare_cached("SELECT 1 FROM delivery WHERE n = ?1 AND state = ?2")?;
    Ok(pending.exists([n, PENDING])?
        || runs::is_pending(tx.db, n)?
        || !rows::stage(tx.db, n, tx.st.cur)?.is_settled())
}

fn remove(tx: &Tx<'_>, tenant: i64, n: i64, head: &[u8]) -> Result<()> {
    let db = tx.db;
    db.prepare_cached("DELETE FROM event WHERE n = ?1")?.execute([n])?;
    db.prepare_cached("DELETE FROM delivery WHERE n = ?1")?.execute([n])?;
    runs::forget(db, n)?;
    db.prepare_cached("DELETE FROM partial WHERE n = ?1")?.execute([n])?;
    db.prepare_cached("DELETE FROM unmatched WHERE tenant = ?1 AND n = ?2")?
        .execute([tenant, n])?;
    if let Some(head) = stored::read_head(head)
        && let Some(id) = head.id
    {
        db.prepare_cached(
            "DELETE FROM dedupe WHERE tenant = ?1 AND id = ?2 AND version = ?3 AND n = ?4",
        )?
        .execute(params![tenant, id.as_str(), head.version, n])?;
    }
    Ok(())
}

/// Writes chunks above a number anew that tell of the tenant.
fn log(tx: &mut Tx<'_>, erase: &Erase, from: i64) -> Result<Erased> {
    let mut select = tx.db.prepare_cached(
        "SELECT late, data, k FROM chunk WHERE k > ?1 AND kind IN (?2, ?3) ORDER BY k LIMIT ?4",
    )?;
    let mut write = tx.db.prepare_cached("UPDATE chunk SET data = ?2, late = NULL WHERE k = ?1")?;
    let mut rows = select.query(params![from, chunk::SMOOTH, chunk::TROUBLE, CHUNKS])?;
    let (mut seen, mut bytes, mut last, mut anew) = (0, 0, from, Vec::new());
    while bytes < BYTES
        && let Some(row) = rows.next()?
    {
        (seen, last) = (seen + 1, row.get(2)?);
        bytes += len(row.get_ref(1)?.as_blob().map_or(0, <[u8]>::len));
        if let Some(data) = packed::without(chunk::unpack(row)?, |record| erase.names(record))? {
            anew.push((last, data));
        }
    }
    drop(rows);
    for (k, data) in &anew {
        write.execute(params![k, data])?;
    }
    let next = if seen == CHUNKS || bytes >= BYTES { at(OF_LOG, last) } else { None };
    Ok(Erased { erased: uint(len(anew.len())), left: 0, next })
}

/// Puts a tombstone in the place of an event of which nothing is pending.
pub(in crate::embedded) fn event(
    tx: &mut Tx<'_>,
    position: Position,
    erasure: &Erasure,
) -> Result<EventErased> {
    if !rows::is_kept(tx.db, position)? {
        return Ok(EventErased::Unknown);
    }
    let n = int(position.n);
    let event = match rows::event_at(tx.db, n)? {
        Some(Found::Event(event)) => event,
        Some(Found::Spoiled(_)) => return Err(bad("event", position.to_string())),
        None => return Ok(EventErased::Unknown),
    };
    if event.erased.is_some() {
        return Ok(EventErased::Done);
    }
    if is_open(tx, n)? {
        return Ok(EventErased::Open);
    }
    let mut select =
        tx.db.prepare_cached("SELECT length(head) + length(data) FROM event WHERE n = ?1")?;
    let before: i64 = select.query_row([n], |row| row.get(0))?;
    let head = stored::erased_head(&event, erasure)?;
    wiping(tx.db, || {
        let sql = "UPDATE event SET head = ?2, data = x'' WHERE n = ?1";
        tx.db.prepare_cached(sql)?.execute(params![n, head])?;
        Ok(())
    })?;
    tx.st.fresh.forget();
    tx.st.bytes += len(head.len()) - before;
    tx.st.moved();
    Ok(EventErased::Done)
}

/// Does something by which rows get shorter: what they leave in the file is overwritten. Elsewhere that
/// would only cost.
fn wiping(db: &Connection, work: impl FnOnce() -> Result<()>) -> Result<()> {
    db.pragma_update(None, "secure_delete", true)?;
    let done = work();
    db.pragma_update(None, "secure_delete", false)?;
    done
}

/// Whether what is kept of an event is a tombstone.
pub(in crate::embedded) fn is_erased(db: &Connection, n: i64) -> Result<bool> {
    let mut select =
        db.prepare_cached("SELECT 1 FROM event WHERE n = ?1 AND substr(head, 1, 1) = ?2")?;
    Ok(select.exists(params![n, [stored::HEAD_ERASED]])?)
}

/// Writes chunks anew that tell of an event, without answers and headers of its attempts. `from` is
/// the number of the last chunk that was looked into.
pub(in crate::embedded) fn strip(
    tx: &mut Tx<'_>,
    position: Position,
    from: u64,
) -> Result<Stripped> {
    let all = attempts::telling(tx.db, int(position.n))?;
    let mut rest = all.into_iter().filter(|k| uint(*k) > from);
    let mut select = tx.db.prepare_cached("SELECT late, data FROM chunk WHERE k = ?1")?;
    let mut write = tx.db.prepare_cached("UPDATE chunk SET data = ?2, late = NULL WHERE k = ?1")?;
    let (mut done, mut bytes, mut last) = (Stripped::default(), 0, from);
    for k in rest.by_ref().take(STRIP_STEP) {
        last = uint(k);
        let mut rows = select.query([k])?;
        let Some(row) = rows.next()? else { continue };
        bytes += len(row.get_ref(1)?.as_blob().map_or(0, <[u8]>::len));
        let anew = packed::stripped(chunk::unpack(row)?, |it| it.key.position == position)?;
        drop(rows);
        if let Some(data) = anew {
            wiping(tx.db, || {
                write.execute(params![k, data])?;
                Ok(())
            })?;
            done.changed += 1;
        }
        if bytes >= BYTES {
            break;
        }
    }
    done.next = rest.next().map(|_| last);
    Ok(done)
}

/// All texts and blobs that there are.
#[cfg(any(test, feature = "conformance"))]
pub(in crate::embedded) fn everything(db: &rusqlite::Connection) -> Result<Vec<Vec<u8>>> {
    use rusqlite::types::ValueRef;
    let mut select = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
    let tables =
        select.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    let mut all = Vec::new();
    for table in tables {
        let mut select = db.prepare(&format!("SELECT * FROM {table}"))?;
        let columns = select.column_count();
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                if let ValueRef::Text(bytes) | ValueRef::Blob(bytes) = row.get_ref(column)? {
                    all.push(bytes.to_vec());
                }
            }
        }
    }
    Ok(all)
}
