//! The audit log: one row an entry, and how much there is of each class.

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{OptionalExtension, params};

use crate::StoreError;
use crate::audit::{
    AuditClass, AuditId, AuditKept, AuditLog, AuditRange, AuditRecord, NewAudit, TRIMMED, WhenFull,
    first,
};
use crate::embedded::engine::Class;
use crate::embedded::engine::codec::{self, len};
use crate::embedded::engine::executor::Handle;
use crate::embedded::engine::fault::Result;
use crate::embedded::engine::state::Tx;

/// How a class is written.
fn number(class: AuditClass) -> i64 {
    match class {
        AuditClass::Call => 0,
        AuditClass::Refusal => 1,
        AuditClass::Bound => 2,
    }
}

/// Writes an entry, of a commit or (revision 0) by itself.
pub(super) fn put(tx: &Tx<'_>, entry: &NewAudit, revision: i64) -> Result<()> {
    let class = number(entry.class);
    let before: Option<i64> = tx
        .db
        .prepare_cached("SELECT length(body) FROM audit WHERE id = ?1")?
        .query_row([entry.id.as_str()], |row| row.get(0))
        .optional()?;
    tx.db
        .prepare_cached(
            "INSERT OR REPLACE INTO audit(id, class, revision, body) VALUES(?1, ?2, ?3, ?4)",
        )?
        .execute(params![entry.id.as_str(), class, revision, &entry.bytes[..]])?;
    let (entries, bytes) = (i64::from(before.is_none()), len(entry.bytes.len()));
    grow(tx, class, entries, bytes - before.unwrap_or(0))
}

fn grow(tx: &Tx<'_>, class: i64, entries: i64, bytes: i64) -> Result<()> {
    tx.db
        .prepare_cached(
            "INSERT INTO audit_size(class, entries, bytes) VALUES(?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET entries = entries + ?2, bytes = bytes + ?3",
        )?
        .execute([class, entries, bytes])?;
    Ok(())
}

/// One bounded step of trimming; says whether there may be more.
pub(in crate::embedded) fn trim(tx: &Tx<'_>, kept: &AuditKept) -> Result<bool> {
    let mut more = false;
    for class in AuditClass::ALL {
        more |= trim_class(tx, kept, class)?;
    }
    Ok(more)
}

fn trim_class(tx: &Tx<'_>, kept: &AuditKept, class: AuditClass) -> Result<bool> {
    let (bound, class) = (kept.of(class), number(class));
    let size: Option<(i64, i64)> = tx
        .db
        .prepare_cached("SELECT entries, bytes FROM audit_size WHERE class = ?1")?
        .query_row([class], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((mut entries, mut bytes)) = size else { return Ok(false) };
    let (oldest, many) =
        (first(tx.now.minus(kept.age)), |bound| i64::try_from(bound).unwrap_or(i64::MAX));
    let (most, most_bytes) = (many(bound.entries), many(bound.bytes));
    let mut select = tx.db.prepare_cached(
        "SELECT id, length(body) FROM audit WHERE class = ?1 ORDER BY id LIMIT ?2",
    )?;
    let mut rows = select.query([class, len(TRIMMED)])?;
    let mut gone: Vec<(String, i64)> = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, size): (String, i64) = (row.get(0)?, row.get(1)?);
        if id >= oldest && entries <= most && bytes <= most_bytes {
            break;
        }
        (entries, bytes) = (entries - 1, bytes - size);
        gone.push((id, size));
    }
    drop(rows);
    if gone.is_empty() {
        return Ok(false);
    }
    let mut remove = tx.db.prepare_cached("DELETE FROM audit WHERE id = ?1")?;
    for (id, _) in &gone {
        remove.execute([id])?;
    }
    grow(tx, class, -len(gone.len()), -gone.iter().map(|(_, size)| size).sum::<i64>())?;
    Ok(gone.len() == TRIMMED)
}

#[async_trait]
impl AuditLog for Handle {
    async fn record(
        &self,
        entries: &[NewAudit],
        full: WhenFull,
    ) -> std::result::Result<(), StoreError> {
        let (entries, items) = (entries.to_vec(), entries.len());
        let class = match full {
            WhenFull::Refused => Class::Accept,
            WhenFull::Written => Class::Decide,
        };
        let record = move |tx: &mut Tx<'_>| entries.iter().try_for_each(|entry| put(tx, entry, 0));
        self.write(class, items, record).await
    }

    async fn entries(
        &self,
        range: AuditRange,
    ) -> std::result::Result<Vec<AuditRecord>, StoreError> {
        let (since, below) = range.ids();
        self.read(move |db| {
            let mut select = db.prepare_cached(
                "SELECT id, revision, body FROM audit WHERE id >= ?1 AND id < ?2
                 ORDER BY id DESC LIMIT ?3",
            )?;
            let mut rows = select.query(params![since, below, len(range.limit)])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let id: String = row.get(0)?;
                let id = AuditId::parse(&id).ok_or_else(|| codec::bad("audit", &id))?;
                let bytes = Bytes::from(row.get::<_, Vec<u8>>(2)?);
                found.push(AuditRecord { id, revision: row.get(1)?, bytes });
            }
            Ok(found)
        })
        .await
    }
}
