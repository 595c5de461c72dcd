//! The log: attempts as `packed` leaves them.
//!
//! `map` and `trail` lead from an event to the chunks that tell of it. Which records are late is
//! known only when they are written, and is stored beside them.

use pregon_core::attempt::AttemptRecord;
use rusqlite::{Row, params};

use crate::batch::Token;
use crate::codec::packed::{self, Kind, Packed};
use crate::embedded::engine::codec;
use crate::embedded::engine::fault::{Fault, Result};
use crate::embedded::engine::rows::Refs;
use crate::embedded::engine::state::Tx;

/// Kind of a chunk with nothing but successes at the first attempt.
pub(in crate::embedded) const SMOOTH: i64 = 0;
/// Kind of a chunk that tells of trouble; kept as long as one of the events that it tells of.
pub(in crate::embedded) const TROUBLE: i64 = 1;

/// How readers find a chunk's record again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::embedded) enum FoundBy {
    /// By the range of its batch, whose first number this was.
    ByRange(i64),
    /// By its event alone.
    ByEvent,
    /// By its event alone, and its lease was gone.
    Late,
}

/// Stores a chunk; `found` says how each batch's records are found.
pub(in crate::embedded) fn store(
    tx: &mut Tx<'_>,
    chunk: &Packed,
    found: impl Fn(Token) -> FoundBy,
) -> Result<()> {
    let (mut refs, mut late) = (Refs::default(), Vec::new());
    let mut last = None; // records of one batch mostly follow each other
    for (i, (token, n)) in chunk.records.iter().enumerate() {
        let how = match last {
            Some((known, how)) if known == *token => how,
            _ => found(*token),
        };
        last = Some((*token, how));
        match how {
            FoundBy::ByRange(first) => refs.map.push(first),
            FoundBy::ByEvent => refs.trail.push(codec::int(*n)),
            FoundBy::Late => {
                refs.trail.push(codec::int(*n));
                late.push(u16::try_from(i).unwrap_or(u16::MAX));
            }
        }
        refs.map.dedup();
    }
    for list in [&mut refs.map, &mut refs.trail] {
        list.sort_unstable();
        list.dedup();
    }
    tx.st.chunk += 1;
    tx.st.moved();
    let k = tx.st.chunk;
    let late = if late.is_empty() { None } else { Some(postcard::to_stdvec(&late)?) };
    tx.db
        .prepare_cached(
            "INSERT INTO chunk(k, kind, ms, max_n, refs, late, data)
             VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            k,
            match chunk.kind {
                Kind::Smooth => SMOOTH,
                Kind::Trouble => TROUBLE,
            },
            tx.now.millis(),
            codec::int(chunk.max_n),
            postcard::to_stdvec(&refs)?,
            late,
            chunk.data
        ])?;
    let mut map = tx.db.prepare_cached("INSERT INTO map(first, k) VALUES(?1, ?2)")?;
    for first in &refs.map {
        map.execute([*first, k])?;
    }
    let mut trail = tx.db.prepare_cached("INSERT INTO trail(n, k) VALUES(?1, ?2)")?;
    for n in &refs.trail {
        trail.execute([*n, k])?;
    }
    Ok(())
}

/// Reads a chunk's records from its columns `late` and `data`.
pub(in crate::embedded) fn unpack(row: &Row<'_>) -> Result<Vec<AttemptRecord>> {
    let late: Option<Vec<u8>> = row.get(0)?;
    let data = row.get_ref(1)?.as_blob().map_err(|error| codec::bad("chunk", error))?;
    let late: Vec<u16> =
        late.map(|late| postcard::from_bytes(&late)).transpose()?.unwrap_or_default();
    packed::unpack(data, late.into_iter().map(usize::from)).map_err(Fault::Corrupt)
}
