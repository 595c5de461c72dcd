//! Following the log: its chunks in their order, and the ends that no attempt tells of.
//!
//! Chunks have dense numbers. Ends that a group of writes brought about are one chunk of a kind of
//! its own, written with the group; no event leads to it, and only the latest are kept. A number
//! that is missing tells a watcher that it came too late.

use async_trait::async_trait;
use pregon_core::attempt::End;
use pregon_core::clock::Timestamp;
use pregon_core::id::{LaneNo, PartitionNo, TenantId};
use rusqlite::{Connection, OptionalExtension, params};
use std::time::Duration;

use crate::StoreError;
use crate::embedded::engine::codec::{self, int, len, uint};
use crate::embedded::engine::ends::{ENDS, EndRow, EndedRun, RUN_ENDS};
use crate::embedded::engine::executor::Handle;
use crate::embedded::engine::fault::Result;
use crate::embedded::engine::rows;
use crate::embedded::engine::schema;
use crate::embedded::log::chunk;
use crate::log::DeliveryRecord;
use crate::run::Bits;
use crate::watch::{
    Content, DeliveryWatch, EVENTS_AT_ONCE, Ended, Entry, Move, Place, STRETCH, Seen, Stretch,
    Wanted, WatchQuery, wanted,
};

fn tip(db: &Connection) -> Result<Place> {
    let mark = schema::mark(db)?;
    Ok(Place { epoch: mark.epoch.cast_unsigned(), partitions: vec![[uint(mark.chunk), 0, 0]] })
}

/// Reads on behind chunk `from`, up to chunk `to`.
fn read_on(db: &Connection, query: &WatchQuery, from: &Place, to: &Place) -> Result<Stretch> {
    let ([[from_k, ..]], [[to_k, ..]]) = (&from.partitions[..], &to.partitions[..]) else {
        return Ok(Stretch::Gap);
    };
    if from.epoch != to.epoch || from_k > to_k {
        return Ok(Stretch::Gap);
    }
    let mut select = db.prepare_cached(
        "SELECT late, data, k, kind, ms FROM chunk WHERE k > ?1 AND k <= ?2 ORDER BY k LIMIT ?3",
    )?;
    let mut rows = select.query([int(*from_k), int(*to_k), len(STRETCH)])?;
    let (mut entries, mut at) = (Vec::new(), *from_k);
    while let Some(row) = rows.next()? {
        let (k, kind): (i64, i64) = (row.get(2)?, row.get(3)?);
        if uint(k) != at + 1 {
            return Ok(Stretch::Gap);
        }
        at = uint(k);
        let content = match kind {
            ENDS => Content::Ends(ends(db, row.get_ref(1)?.as_blob().unwrap_or_default())?),
            RUN_ENDS => Content::Ends(run_ends(db, row.get_ref(1)?.as_blob().unwrap_or_default())?),
            _ => Content::Attempts(chunk::unpack(row)?),
        };
        entries.push(Entry { ms: row.get(4)?, content });
    }
    if at == *from_k && at != *to_k {
        return Ok(Stretch::Gap); // there were some, and they are gone
    }
    let seen = named(db, wanted(query, entries))?;
    Ok(Stretch::Read { seen, place: Place { epoch: to.epoch, partitions: vec![[at, 0, 0]] } })
}

fn ends(db: &Connection, data: &[u8]) -> Result<Vec<Ended>> {
    let rows: Vec<EndRow> = postcard::from_bytes(data)?;
    let mut ends = Vec::with_capacity(rows.len());
    for row in rows {
        ends.push(Ended {
            n: uint(row.n),
            lane: LaneNo(uint(row.lane)),
            replay: codec::key(row.n, 0, row.lane, &row.tag)?.replay,
            tenant: tenant(db, row.tenant)?,
            end: end(row.state, row.reason)?,
            attempts: row.attempts,
            create_ms: row.create_ms,
        });
    }
    Ok(ends)
}

fn run_ends(db: &Connection, data: &[u8]) -> Result<Vec<Ended>> {
    let runs: Vec<EndedRun> = postcard::from_bytes(data)?;
    let mut ends = Vec::new();
    for run in runs {
        let one = Ended {
            n: 0,
            lane: LaneNo(uint(run.lane)),
            replay: None,
            tenant: tenant(db, run.tenant)?,
            end: end(run.state, Some(run.reason))?,
            attempts: 0,
            create_ms: run.began,
        };
        let bits = Bits::read(&run.bits).unwrap_or_default();
        ends.extend(bits.numbers(uint(run.base)).map(|n| Ended { n, ..one.clone() }));
    }
    Ok(ends)
}

fn tenant(db: &Connection, t: i64) -> Result<TenantId> {
    let mut name = db.prepare_cached("SELECT name FROM tenant WHERE t = ?1")?;
    let name: String = name.query_row([t], |row| row.get(0))?;
    TenantId::parse(&name).map_err(|_| codec::bad("tenant", name))
}

fn end(state: i64, reason: Option<i64>) -> Result<End> {
    Ok(End { state: codec::state_of(state)?, reason: reason.map(codec::end_of).transpose()? })
}

/// What is wanted, with the events that name it. What lost its event is no longer there.
fn named(db: &Connection, wanted: Vec<Wanted>) -> Result<Vec<Seen>> {
    let mut seen = Vec::with_capacity(wanted.len());
    let mut wanted = wanted.into_iter().peekable();
    while wanted.peek().is_some() {
        let mut events = rows::Heads::default();
        for one in wanted.by_ref().take(EVENTS_AT_ONCE) {
            match one {
                Wanted::Attempt(record) => seen.push(Seen::Attempt(record)),
                Wanted::Moved(moved) => {
                    if let Some(event) = events.get(db, int(moved.n))? {
                        let record = delivery(db, *moved, &event)?;
                        seen.push(Seen::Delivery(Box::new(record)));
                    }
                }
            }
        }
    }
    Ok(seen)
}

fn delivery(
    db: &Connection,
    moved: Move,
    event: &pregon_core::event::Event,
) -> Result<DeliveryRecord> {
    let tag = moved.replay.as_ref().map_or("", |tag| tag.as_str());
    let recorded: Option<i64> = db
        .prepare_cached(
            "SELECT create_ms FROM delivery WHERE n = ?1 AND lane = ?2 AND replay = ?3",
        )?
        .query_row(params![int(moved.n), codec::lane(moved.lane), tag], |row| row.get(0))
        .optional()?;
    Ok(moved.record(event, recorded.map(Timestamp::from_millis)))
}

#[async_trait]
impl DeliveryWatch for Handle {
    async fn tip(&self) -> std::result::Result<Place, StoreError> {
        self.read(tip).await
    }

    async fn read_on(
        &self,
        query: &WatchQuery,
        from: &Place,
        to: &Place,
        partition: PartitionNo,
    ) -> std::result::Result<Stretch, StoreError> {
        if partition != codec::PARTITION {
            return Err(StoreError::Unavailable(format!("there is no partition {partition}")));
        }
        let (query, from, to) = (query.clone(), from.clone(), to.clone());
        self.read(move |db| read_on(db, &query, &from, &to)).await
    }

    async fn wait_past(&self, place: &Place, at_most: Duration) {
        let known = place.partitions.first().map_or(0, |[k, ..]| int(*k));
        let mut chunks = self.chunks();
        let more = chunks.wait_for(|k| *k > known);
        let _ = tokio::time::timeout(at_most, more).await;
    }
}
