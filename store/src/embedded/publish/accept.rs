//! Publish: events get the next numbers.
//!
//! All that costs (hashing, encoding) is done by the caller; the writer inserts rows. A given id
//! is a repeat within a day by the clock, and
//! longer while the event is not matched or a delivery of it is pending; later it is a new event,
//! and the name then points to that one.

use std::sync::Arc;

use pregon_core::clock::Timestamp;
use pregon_core::event::{Event, NewEvent};
use pregon_core::id::{EventId, Position, TenantId};
use pregon_core::limits;
use rusqlite::{Connection, OptionalExtension, Statement, params};

use crate::embedded::engine::codec::{self, len};
use crate::embedded::engine::fault::Result;
use crate::embedded::engine::rows;
use crate::embedded::engine::state::{State, Tx};
use crate::embedded::log::books;
use crate::embedded::work::runs;
use crate::intake::Published;
use crate::operate::Former;

/// How far an accept time may be held back to keep them in order when the clock steps back.
const CLOCK_STEP_MS: i64 = 60_000;

/// An event, encoded.
pub(in crate::embedded) struct Prepared {
    event: NewEvent,
    head: Vec<u8>,
    given: Option<Given>,
}

impl Prepared {
    /// The event, now that it has a place.
    fn at(&self, position: Position) -> Event {
        let event = &self.event;
        Event {
            position,
            tenant: event.tenant.clone(),
            id: event.id.clone().unwrap_or_else(|| EventId::assigned(position)),
            version: event.version,
            event_type: event.event_type.clone(),
            environment: event.environment,
            given_occur_time: event.occur_time,
            min_revision: event.min_revision,
            trace: event.trace.clone(),
            terms: event.terms.clone(),
            attributes: event.attributes.clone(),
            data: event.data.clone(),
            erased: None,
        }
    }
}

/// A given id, and what its repeats are told by.
struct Given {
    id: EventId,
    version: u32,
    digest: [u8; 16],
    /// What was noted before this was another tenant's.
    since: i64,
}

/// Encodes events; needs no database.
pub(in crate::embedded) fn prepare(events: Vec<NewEvent>) -> Result<Vec<Prepared>> {
    let one = |event: NewEvent| {
        let digest = || codec::content_digest(&event);
        let given = event.id.clone();
        let since = event.since.map_or(i64::MIN, Timestamp::millis);
        let given = given.map(|id| Given { id, version: event.version, digest: digest(), since });
        let head = codec::head_of(&event)?;
        Ok(Prepared { event, head, given })
    };
    events.into_iter().map(one).collect()
}

/// Appends events, and says where they lie.
pub(in crate::embedded) fn publish(tx: &mut Tx<'_>, events: &[Prepared]) -> Result<Vec<Published>> {
    let db = tx.db;
    let now = tx.now.millis();
    let behind = tx.st.last_ms - now;
    let ms = if (0..=CLOCK_STEP_MS).contains(&behind) { tx.st.last_ms } else { now };
    let mut insert = db.prepare_cached(
        "INSERT INTO event(n, ms, tenant, head, data) VALUES(?1, ?2, ?3, ?4, ?5)",
    )?;
    let mut note = db.prepare_cached(
        "INSERT INTO dedupe(tenant, id, version, digest, n, ms)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
    )?;
    let mut answers = Vec::with_capacity(events.len());
    for event in events {
        let n = tx.st.last + 1;
        let (tenant, data) = (tx.st.tenant(db, &event.event.tenant)?, &event.event.data);
        if let Some(given) = &event.given
            && let Some(known) = recall(db, &mut note, tx.st, tenant, given, (n, ms))?
        {
            answers.push(known);
            continue;
        }
        insert.execute(params![n, ms, tenant, event.head, &data[..]])?;
        tx.st.last = n;
        tx.st.kept += 1;
        tx.st.bytes += len(event.head.len() + data.len());
        tx.st.counts(tenant).accepted += 1;
        let position = codec::position(n, ms);
        if tx.st.fresh.wants(n, tx.st.cur) {
            tx.st.fresh.push(Arc::new(event.at(position)));
        }
        answers.push(Published::Accepted { position, duplicate: false });
    }
    tx.st.last_ms = ms;
    tx.st.ring = true;
    tx.st.moved();
    Ok(answers)
}

/// Begins a tenant's counters anew, unless something of it is outstanding. Accept times go on behind
/// those of before.
pub(in crate::embedded) fn supersede(tx: &mut Tx<'_>, tenant: &TenantId) -> Result<Former> {
    tx.st.flush_counts(tx.db)?;
    let accepted: Option<i64> = tx
        .db
        .prepare_cached("SELECT accepted FROM tenant WHERE name = ?1")?
        .query_row([tenant.as_str()], |row| row.get(0))
        .optional()?;
    if accepted.unwrap_or(0) == 0 {
        return Ok(Former::Nobody);
    }
    if books::outstanding(tx.db, tenant.as_str())? > 0 {
        return Ok(Former::Busy);
    }
    tx.db
        .prepare_cached(
            "UPDATE tenant SET accepted = 0, matched = 0, unmatched = 0, created = 0,
               succeeded = 0, failed = 0, cancelled = 0, called_off = 0, scheduled = 0
             WHERE name = ?1",
        )?
        .execute([tenant.as_str()])?;
    tx.st.last_ms = tx.st.last_ms.max(tx.now.millis()) + 1;
    tx.st.moved();
    Ok(Former::Gone(Timestamp::from_millis(tx.st.last_ms)))
}

/// Notes a given id for event `n`, or says what it was given to before.
fn recall(
    db: &Connection,
    note: &mut Statement<'_>,
    st: &State,
    tenant: i64,
    given: &Given,
    (n, ms): (i64, i64),
) -> Result<Option<Published>> {
    let (id, version) = (given.id.as_str(), given.version);
    let noted = note.execute(params![tenant, id, version, given.digest, n, ms])?;
    if noted == 1 {
        return Ok(None);
    }
    let (digest, old_n, old_ms): ([u8; 16], i64, i64) = db
        .prepare_cached(
            "SELECT digest, n, ms FROM dedupe WHERE tenant = ?1 AND id = ?2 AND version = ?3",
        )?
        .query_row(params![tenant, id, version], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    let window = i64::try_from(limits::DEDUPE_WINDOW.as_millis()).unwrap_or(i64::MAX);
    if old_ms < given.since || ms - old_ms >= window && !is_busy(db, st, old_n)? {
        db.prepare_cached(
            "UPDATE dedupe SET digest = ?4, n = ?5, ms = ?6
             WHERE tenant = ?1 AND id = ?2 AND version = ?3",
        )?
        .execute(params![tenant, id, version, given.digest, n, ms])?;
        return Ok(None);
    }
    Ok(Some(if digest == given.digest {
        Published::Accepted { position: codec::position(old_n, old_ms), duplicate: true }
    } else {
        Published::IdReused
    }))
}

/// Whether an event is not matched yet or has a pending delivery.
fn is_busy(db: &Connection, st: &State, n: i64) -> Result<bool> {
    if !rows::stage(db, n, st.cur)?.is_settled() {
        return Ok(true);
    }
    let mut pending = db.prepare_cached("SELECT 1 FROM delivery WHERE n = ?1 AND state = 0")?;
    Ok(pending.exists([n])? || runs::is_pending(db, n)?)
}
