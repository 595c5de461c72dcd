//! Reading events: by name, by place, in lists.

use std::sync::Arc;

use pregon_core::clock::Timestamp;
use pregon_core::event::Event;
use pregon_core::id::{EventName, Position};
use rusqlite::{Connection, OptionalExtension, params};

use crate::embedded::engine::codec::{self, int};
use crate::embedded::engine::fault::Result;
use crate::embedded::engine::rows::{self, Found, event_columns};
use crate::embedded::engine::schema;
use crate::log::{EventQuery, EventStage, Most, Page};

/// Events that one page looks at, whatever it finds.
pub(in crate::embedded) const SCAN: i64 = 2000;

/// The place of an event.
pub(in crate::embedded) fn find(db: &Connection, name: &EventName) -> Result<Option<Position>> {
    let Some(t) = tenant(db, name.tenant.as_str())? else { return Ok(None) };
    let n = match name.id.position() {
        Some(position) if name.version == 0 && rows::is_kept(db, position)? => int(position.n),
        Some(_) => return Ok(None), // an assigned id has no versions
        None => {
            let sql = "SELECT n FROM dedupe WHERE tenant = ?1 AND id = ?2 AND version = ?3";
            let mut select = db.prepare_cached(sql)?;
            let values = params![t, name.id.as_str(), name.version];
            match select.query_row(values, |row| row.get(0)).optional()? {
                Some(n) => n,
                None => return Ok(None),
            }
        }
    };
    let mut select = db.prepare_cached("SELECT ms FROM event WHERE n = ?1 AND tenant = ?2")?;
    let ms: Option<i64> = select.query_row([n, t], |row| row.get(0)).optional()?;
    Ok(ms.map(|ms| codec::position(n, ms)))
}

/// An event and where it stands.
pub(in crate::embedded) fn event(
    db: &Connection,
    position: Position,
) -> Result<Option<(Event, EventStage)>> {
    if !rows::is_kept(db, position)? {
        return Ok(None);
    }
    let n = int(position.n);
    match rows::event_at(db, n)? {
        Some(Found::Event(event)) => {
            let cur = schema::mark(db)?.cur;
            Ok(Some(((*event).clone(), rows::stage(db, n, cur)?)))
        }
        Some(Found::Spoiled(_)) => Err(codec::bad("event", position.to_string())),
        None => Ok(None),
    }
}

/// Numbers between which events accepted in a stretch of time lie.
pub(in crate::embedded) fn numbers(
    db: &Connection,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
) -> Result<(i64, i64)> {
    let last = schema::mark(db)?.last;
    let low = match from {
        None => 1,
        Some(from) => rows::highest_before(db, from.millis(), last)? + 1,
    };
    let high = match to {
        None => last,
        Some(to) => rows::highest_before(db, to.millis(), last)?,
    };
    Ok((low, high))
}

/// The number of a tenant; none: it never published.
pub(in crate::embedded) fn tenant(db: &Connection, name: &str) -> Result<Option<i64>> {
    let mut select = db.prepare_cached("SELECT t FROM tenant WHERE name = ?1")?;
    Ok(select.query_row([name], |row| row.get(0)).optional()?)
}

/// Events, newest first. A page's place is the number below which the next one begins.
pub(in crate::embedded) fn events(
    db: &Connection,
    query: &EventQuery,
    from: Option<&str>,
    most: Most,
) -> Result<Page<Event>> {
    let (low, high) = numbers(db, query.from, query.to)?;
    let mut below = match from {
        None => i64::MAX,
        Some(text) => text.parse().map_err(|_| codec::bad("page place", text))?,
    };
    below = below.min(high + 1);
    let tenant = match &query.tenant {
        None => None,
        Some(name) => match self::tenant(db, name.as_str())? {
            Some(t) => Some(t),
            None => return Ok(Page { items: Vec::new(), next: None }),
        },
    };
    let mut page = Page { items: Vec::new(), next: None };
    let mut select = match (tenant, query.unmatched_only) {
        (Some(_), _) if query.scheduled_only => db.prepare_cached(event_columns!(
            "WHERE event.n IN (SELECT n FROM delivery INDEXED BY delivery_tenant
               WHERE tenant = ?4 AND state = 0 AND state <> 1 AND lane = 0 AND pending = 100
                 AND n >= ?1 AND n < ?2 ORDER BY n DESC LIMIT ?3) ORDER BY event.n DESC"
        ))?,
        (None, _) if query.scheduled_only => db.prepare_cached(event_columns!(
            "WHERE event.n IN (SELECT n FROM delivery INDEXED BY delivery_lane
               WHERE lane = 0 AND state = 0 AND state <> 1 AND pending = 100
                 AND n >= ?1 AND n < ?2 AND ?4 IS NULL
               ORDER BY n DESC LIMIT ?3) ORDER BY event.n DESC"
        ))?,
        (Some(_), true) => db.prepare_cached(event_columns!(
            "WHERE event.n IN (SELECT n FROM unmatched WHERE tenant = ?4 AND n >= ?1 AND n < ?2
               ORDER BY n DESC LIMIT ?3) ORDER BY event.n DESC"
        ))?,
        (Some(_), false) => db.prepare_cached(event_columns!(
            "WHERE event.tenant = ?4 AND event.n >= ?1 AND event.n < ?2
             ORDER BY event.n DESC LIMIT ?3"
        ))?,
        (None, _) => db.prepare_cached(event_columns!(
            "WHERE event.n >= ?1 AND event.n < ?2 AND ?4 IS NULL
             ORDER BY event.n DESC LIMIT ?3"
        ))?,
    };
    let mut rows = select.query(params![low, below, SCAN, tenant])?;
    let (mut seen, mut bytes) = (0, 0);
    while let Some(row) = rows.next()? {
        seen += 1;
        let n: i64 = row.get(0)?;
        if let Found::Event(event) = rows::found(row)?
            && wanted(db, query, &event)?
        {
            bytes += event.size();
            page.items.push(Arc::unwrap_or_clone(event));
        }
        if most.is_reached(page.items.len(), bytes) || seen == SCAN {
            page.next = (n > low).then(|| n.to_string());
            break;
        }
    }
    Ok(page)
}

fn wanted(db: &Connection, query: &EventQuery, event: &Event) -> Result<bool> {
    if query.event_type.as_ref().is_some_and(|wanted| *wanted != event.event_type)
        || query.environment.is_some_and(|wanted| wanted != event.environment)
        || query.from.is_some_and(|from| event.accept_time() < from)
        || query.to.is_some_and(|to| event.accept_time() >= to)
    {
        return Ok(false);
    }
    if !query.unmatched_only {
        return Ok(true);
    }
    let Some(t) = tenant(db, event.tenant.as_str())? else { return Ok(false) };
    let mut select = db.prepare_cached("SELECT 1 FROM unmatched WHERE tenant = ?1 AND n = ?2")?;
    let n = int(event.position.n);
    Ok(select.query_row([t, n], |_| Ok(())).optional()?.is_some())
}
