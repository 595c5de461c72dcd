//! Attempts, packed by the settlement that brought them.
//!
//! Records of one settlement resemble each other (tenants, types, URLs, nodes), so they are
//! encoded together and compressed, by the caller and not by the engine's writer.

use pregon_core::attempt::{AttemptRecord, RecordKind};
use pregon_core::outcome::AttemptOutcome;

use crate::queue::Token;

/// Records in a chunk at most: reading one attempt unpacks a whole chunk.
const RECORDS: usize = 256;

/// What a chunk tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing but successes at the first attempt.
    Smooth,
    /// Trouble; kept as long as failed deliveries are.
    Trouble,
}

/// A chunk before it is stored.
pub(crate) struct Packed {
    /// What it tells of.
    pub kind: Kind,
    /// The highest number of an event that it tells of.
    pub max_n: u64,
    /// Its records, encoded and compressed.
    pub data: Vec<u8>,
    /// For each record its batch and its event.
    pub records: Vec<(Token, u64)>,
}

impl Packed {
    /// The batches that its records name.
    pub fn tokens(&self) -> impl Iterator<Item = Token> + '_ {
        self.records.iter().map(|(token, _)| *token)
    }
}

/// Packs attempts.
pub(crate) fn pack(
    mut attempts: Vec<(Token, AttemptRecord)>,
) -> Result<Vec<Packed>, postcard::Error> {
    let mut chunks = Vec::with_capacity(attempts.len().div_ceil(RECORDS));
    while !attempts.is_empty() {
        let rest = attempts.split_off(attempts.len().min(RECORDS));
        chunks.push(pack_one(&attempts)?);
        attempts = rest;
    }
    Ok(chunks)
}

fn pack_one(attempts: &[(Token, AttemptRecord)]) -> Result<Packed, postcard::Error> {
    let smooth = |record: &AttemptRecord| {
        record.kind == RecordKind::Attempt
            && record.outcome == Some(AttemptOutcome::Succeeded)
            && record.number == 1
    };
    let records: Vec<&AttemptRecord> = attempts.iter().map(|(_, record)| record).collect();
    let encoded = postcard::to_stdvec(&records)?;
    let kind =
        if records.iter().all(|record| smooth(record)) { Kind::Smooth } else { Kind::Trouble };
    Ok(Packed {
        kind,
        max_n: records.iter().map(|record| record.key.position.n).max().unwrap_or(0),
        data: lz4_flex::compress_prepend_size(&encoded),
        records: attempts.iter().map(|(token, record)| (*token, record.key.position.n)).collect(),
    })
}

/// Reads a chunk's records; `late` are the places of those whose lease was gone. An error says
/// what is wrong with it.
pub(crate) fn unpack(
    data: &[u8],
    late: impl IntoIterator<Item = usize>,
) -> Result<Vec<AttemptRecord>, String> {
    let encoded =
        lz4_flex::decompress_size_prepended(data).map_err(|error| format!("chunk: {error}"))?;
    let mut records: Vec<AttemptRecord> =
        postcard::from_bytes(&encoded).map_err(|error| format!("chunk: {error}"))?;
    for i in late {
        if let Some(record) = records.get_mut(i) {
            record.late = true;
        }
    }
    Ok(records)
}
