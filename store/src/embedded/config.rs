//! Configuration: documents, their change log, remembered requests.

pub(super) mod audit;
pub(super) mod nodes;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pregon_core::clock::Timestamp;
use pregon_core::id::LaneNo;
use pregon_core::limits;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::engine::Class;
use crate::StoreError;
use crate::config::{
    CHANGES_KEPT, Change, Changes, Commit, Committed, ConfigStore, Document, Expect, Head,
    ListRange, RequestKey, collections_of,
};
use crate::embedded::engine::codec::{self, len};
use crate::embedded::engine::executor::Handle;
use crate::embedded::engine::fault::{Fault, Result};
use crate::embedded::engine::schema;
use crate::embedded::engine::state::Tx;

/// Above every character that a name can hold.
const LAST_CHARACTER: char = '\u{10ffff}';

fn document(row: &Row<'_>) -> rusqlite::Result<Document> {
    Ok(Document {
        name: row.get(0)?,
        revision: row.get(1)?,
        bytes: Bytes::from(row.get::<_, Vec<u8>>(2)?),
    })
}

/// Writes documents if all that was expected holds.
fn commit(tx: &mut Tx<'_>, commit: &Commit, nonce: u32) -> Result<Committed> {
    if let Some(request) = &commit.request
        && let Some(earlier) = remembered(tx.db, tx.now.millis(), &request.id, &request.digest)?
    {
        return Ok(earlier);
    }
    for (name, expect) in &commit.expect {
        let found: Option<i64> = tx
            .db
            .prepare_cached("SELECT revision FROM doc WHERE name = ?1")?
            .query_row([name], |row| row.get(0))
            .optional()?;
        let holds = match expect {
            Expect::Absent => found.is_none(),
            Expect::Present => found.is_some(),
            Expect::Revision(revision) => found == Some(*revision),
        };
        if !holds {
            return Ok(Committed::Conflict { name: name.clone(), found });
        }
    }
    let revision = tx.st.revision + 1;
    write_documents(tx.db, &commit.write, revision)?;
    let body: Vec<(&str, Option<&[u8]>)> =
        commit.write.iter().map(|(name, bytes)| (name.as_str(), bytes.as_deref())).collect();
    tx.db
        .prepare_cached("INSERT INTO change(revision, nonce, body) VALUES(?1, ?2, ?3)")?
        .execute(params![revision, nonce, postcard::to_stdvec(&body)?])?;
    tx.db
        .prepare_cached("DELETE FROM change WHERE revision <= ?1")?
        .execute([revision - len(CHANGES_KEPT)])?;
    if let Some(request) = &commit.request {
        remember(tx, request, revision)?;
    }
    if let Some(entry) = &commit.audit {
        audit::put(tx, entry, revision)?;
    }
    tx.st.revision = revision;
    tx.st.nonce = i64::from(nonce);
    tx.st.moved();
    Ok(Committed::Done { revision })
}

fn write_documents(
    db: &Connection,
    documents: &[(String, Option<Bytes>)],
    revision: i64,
) -> Result<()> {
    let mut put = db.prepare_cached(
        "INSERT INTO doc(name, collections, revision, bytes) VALUES(?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET revision = ?3, bytes = ?4",
    )?;
    let mut delete = db.prepare_cached("DELETE FROM doc WHERE name = ?1")?;
    for (name, bytes) in documents {
        match bytes {
            Some(bytes) => {
                put.execute(params![name, collections_of(name), revision, &bytes[..]])?
            }
            None => delete.execute([name])?,
        };
    }
    Ok(())
}

fn remember(tx: &Tx<'_>, request: &RequestKey, revision: i64) -> Result<()> {
    tx.db
        .prepare_cached(
            "INSERT OR REPLACE INTO request(id, digest, revision, reply, ms)
             VALUES(?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            request.id,
            request.digest,
            revision,
            &request.reply[..],
            tx.now.millis()
        ])?;
    Ok(())
}

/// What an earlier write with this request id left.
fn remembered(
    db: &Connection,
    now: i64,
    id: &[u8; 16],
    digest: &[u8; 16],
) -> Result<Option<Committed>> {
    let mut select =
        db.prepare_cached("SELECT digest, revision, reply FROM request WHERE id = ?1 AND ms > ?2")?;
    let found: Option<([u8; 16], i64, Vec<u8>)> = select
        .query_row(
            params![id, Timestamp::from_millis(now).minus(limits::REQUEST_ID_KEPT).millis()],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .optional()?;
    Ok(found.map(|(known, revision, reply)| {
        if known == *digest {
            Committed::Repeated { revision, reply: Bytes::from(reply) }
        } else {
            Committed::RequestReused
        }
    }))
}

fn head(db: &Connection) -> Result<Head> {
    let mark = schema::mark(db)?;
    Ok(Head {
        epoch: mark.epoch.cast_unsigned(),
        revision: mark.revision,
        nonce: u32::try_from(mark.nonce).unwrap_or(0),
    })
}

fn head_at(db: &Connection, revision: i64) -> Result<Option<Head>> {
    let head = head(db)?;
    let mut select = db.prepare_cached("SELECT nonce FROM change WHERE revision = ?1")?;
    let nonce: Option<u32> = select.query_row([revision], |row| row.get(0)).optional()?;
    Ok(nonce.map(|nonce| Head { revision, nonce, ..head }))
}

/// The commits after `known`, if the log still joins on to it.
fn changes(db: &Connection, known: Head, limit: usize) -> Result<Changes> {
    let head = head(db)?;
    let same = known.revision != head.revision || known.nonce == head.nonce;
    if known.epoch != head.epoch || known.revision > head.revision || !same {
        return Ok(Changes::Gap);
    }
    let mut select = db.prepare_cached(
        "SELECT revision, nonce, body FROM change WHERE revision >= ?1 ORDER BY revision LIMIT ?2",
    )?;
    let mut rows = select.query([known.revision, len(limit) + 1])?;
    let (mut next, mut after) = (Vec::new(), known.revision);
    while let Some(row) = rows.next()? {
        let change = read_change(row)?;
        if change.revision == known.revision {
            if change.nonce != known.nonce {
                return Ok(Changes::Gap);
            }
            continue;
        }
        if change.revision != after + 1 {
            return Ok(Changes::Gap);
        }
        after = change.revision;
        if next.len() < limit {
            next.push(change);
        }
    }
    Ok(Changes::Next(next))
}

fn read_change(row: &Row<'_>) -> Result<Change> {
    let body = row.get_ref(2)?.as_blob().map_err(|error| codec::bad("change", error))?;
    let body: Vec<(String, Option<Vec<u8>>)> = postcard::from_bytes(body)?;
    Ok(Change {
        revision: row.get(0)?,
        nonce: row.get(1)?,
        documents: body.into_iter().map(|(name, bytes)| (name, bytes.map(Bytes::from))).collect(),
    })
}

fn list(db: &Connection, range: &ListRange) -> Result<Vec<Document>> {
    let above = format!("{}{LAST_CHARACTER}", range.prefix);
    let mut select = db.prepare_cached(
        "SELECT name, revision, bytes FROM doc
         WHERE collections = ?1 AND name >= ?2 AND name < ?3 AND name > ?4
         ORDER BY name LIMIT ?5",
    )?;
    let rows = select.query_map(
        params![range.collections, range.prefix, above, range.after, len(range.limit)],
        document,
    )?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

#[async_trait]
impl ConfigStore for Handle {
    async fn commit(&self, change: Commit) -> std::result::Result<Committed, StoreError> {
        let mut nonce = [0; 4];
        getrandom::fill(&mut nonce)
            .map_err(|error| StoreError::Unavailable(format!("no randomness: {error}")))?;
        let (nonce, items) = (u32::from_le_bytes(nonce), change.write.len());
        self.write(Class::Accept, items, move |tx| commit(tx, &change, nonce)).await
    }

    async fn recall(
        &self,
        id: [u8; 16],
        digest: [u8; 16],
    ) -> std::result::Result<Option<Committed>, StoreError> {
        let now = self.now().millis();
        self.read(move |db| remembered(db, now, &id, &digest)).await
    }

    async fn get(
        &self,
        names: &[String],
    ) -> std::result::Result<Vec<Option<Document>>, StoreError> {
        let names = names.to_vec();
        self.read(move |db| {
            let sql = "SELECT name, revision, bytes FROM doc WHERE name = ?1";
            let mut select = db.prepare_cached(sql)?;
            let get = |name| select.query_row([name], document).optional().map_err(Fault::from);
            names.iter().map(get).collect()
        })
        .await
    }

    async fn list(&self, range: ListRange) -> std::result::Result<Vec<Document>, StoreError> {
        self.read(move |db| list(db, &range)).await
    }

    async fn head(&self) -> std::result::Result<Head, StoreError> {
        self.read(head).await
    }

    async fn head_at(&self, revision: i64) -> std::result::Result<Option<Head>, StoreError> {
        self.read(move |db| head_at(db, revision)).await
    }

    async fn documents(
        &self,
        after: &str,
        limit: usize,
    ) -> std::result::Result<Vec<Document>, StoreError> {
        let after = after.to_owned();
        self.read(move |db| {
            let sql =
                "SELECT name, revision, bytes FROM doc WHERE name > ?1 ORDER BY name LIMIT ?2";
            let mut select = db.prepare_cached(sql)?;
            let rows = select.query_map(params![after, len(limit)], document)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    async fn changes(
        &self,
        known: Head,
        limit: usize,
        wait: Duration,
    ) -> std::result::Result<Changes, StoreError> {
        let mut revision = self.revision();
        let end = tokio::time::Instant::now() + wait;
        loop {
            // Marked as seen before it is read: a commit meanwhile wakes the wait below.
            revision.borrow_and_update();
            let found = self.read(move |db| changes(db, known, limit)).await?;
            if found != Changes::Next(Vec::new()) {
                return Ok(found);
            }
            match tokio::time::timeout_at(end, revision.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(StoreError::Closed),
                Err(_) => return Ok(found),
            }
        }
    }

    async fn next_lane(&self) -> std::result::Result<LaneNo, StoreError> {
        let next = |tx: &mut Tx<'_>| {
            tx.st.lane += 1;
            tx.st.moved();
            Ok(LaneNo(codec::uint(tx.st.lane)))
        };
        self.write(Class::Accept, 1, next).await
    }
}
