//! The log: attempts packed by the settlement that brought them.
//!
//! Records of one settlement resemble each other (tenants, types, URLs, nodes), so they are
//! encoded together and compressed, by the caller and not by the writer. `map` and `trail` lead
//! from an event to the chunks that tell of it. Which records are late is known only when they
//! are written, and is stored beside them.

use pregon_core::attempt::{AttemptRecord, RecordKind};
use pregon_core::outcome::AttemptOutcome;
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};

use super::codec;
use super::fault::{Fault, Result};
use super::state::Tx;
use crate::queue::Token;

/// Records in a chunk at most: reading one attempt unpacks a whole chunk.
const RECORDS: usize = 256;
/// Kind of a chunk with nothing but successes at the first attempt.
pub(super) const SMOOTH: i64 = 0;
/// Kind of a chunk that tells of trouble; kept as long as failed deliveries are.
pub(super) const TROUBLE: i64 = 1;

/// A chunk before it is stored.
pub(super) struct Packed {
    kind: i64,
    max_n: i64,
    data: Vec<u8>,
    /// For each record its batch and its event.
    records: Vec<(Token, i64)>,
}

impl Packed {
    /// The batches that its records name.
    pub fn tokens(&self) -> impl Iterator<Item = Token> + '_ {
        self.records.iter().map(|(token, _)| *token)
    }
}

/// How readers find a chunk's record again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// By the range of its batch, whose first number this was.
    ByRange(i64),
    /// By its event alone.
    ByEvent,
    /// By its event alone, and its lease was gone.
    Late,
}

/// What leads to a chunk; kept with it, so that it can be taken away with it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Refs {
    pub map: Vec<i64>,
    pub trail: Vec<i64>,
}

/// Packs attempts.
pub(super) fn pack(mut attempts: Vec<(Token, AttemptRecord)>) -> Result<Vec<Packed>> {
    let mut chunks = Vec::with_capacity(attempts.len().div_ceil(RECORDS));
    while !attempts.is_empty() {
        let rest = attempts.split_off(attempts.len().min(RECORDS));
        chunks.push(pack_one(&attempts)?);
        attempts = rest;
    }
    Ok(chunks)
}

fn pack_one(attempts: &[(Token, AttemptRecord)]) -> Result<Packed> {
    let smooth = |record: &AttemptRecord| {
        record.kind == RecordKind::Attempt
            && record.outcome == Some(AttemptOutcome::Succeeded)
            && record.number == 1
    };
    let records: Vec<&AttemptRecord> = attempts.iter().map(|(_, record)| record).collect();
    let number = |record: &AttemptRecord| codec::int(record.key.position.n);
    let encoded = postcard::to_stdvec(&records)?;
    Ok(Packed {
        kind: if records.iter().all(|record| smooth(record)) { SMOOTH } else { TROUBLE },
        max_n: records.iter().map(|record| number(record)).max().unwrap_or(0),
        data: lz4_flex::compress_prepend_size(&encoded),
        records: attempts.iter().map(|(token, record)| (*token, number(record))).collect(),
    })
}

/// Stores a chunk; `told` says how each batch's records are found.
pub(super) fn store(tx: &mut Tx<'_>, chunk: &Packed, told: impl Fn(Token) -> Told) -> Result<()> {
    let (mut refs, mut late) = (Refs::default(), Vec::new());
    let mut last = None; // records of one batch mostly follow each other
    for (i, (token, n)) in chunk.records.iter().enumerate() {
        let how = match last {
            Some((known, how)) if known == *token => how,
            _ => told(*token),
        };
        last = Some((*token, how));
        match how {
            Told::ByRange(first) => refs.map.push(first),
            Told::ByEvent => refs.trail.push(*n),
            Told::Late => {
                refs.trail.push(*n);
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
            chunk.kind,
            tx.now.millis(),
            chunk.max_n,
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
pub(super) fn unpack(row: &Row<'_>) -> Result<Vec<AttemptRecord>> {
    let late: Option<Vec<u8>> = row.get(0)?;
    let data = row.get_ref(1)?.as_blob().map_err(|error| codec::bad("chunk", error))?;
    let encoded = lz4_flex::decompress_size_prepended(data)
        .map_err(|error| Fault::Corrupt(format!("chunk: {error}")))?;
    let mut records: Vec<AttemptRecord> = postcard::from_bytes(&encoded)?;
    if let Some(late) = late {
        for i in postcard::from_bytes::<Vec<u16>>(&late)? {
            if let Some(record) = records.get_mut(usize::from(i)) {
                record.late = true;
            }
        }
    }
    Ok(records)
}
