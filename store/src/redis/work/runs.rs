//! Runs as they are written in the hash of their first number, in lanes and in batches: the table of
//! `layout` says how.

use bytes::Bytes;
use pregon_core::id::LaneNo;
use pregon_core::outcome::DeliveryState;

use crate::redis::engine::fault::{Result, bad};
use crate::redis::layout::{Stored, delivery};
use crate::run::{BYTES, Bits};

/// Bytes of what waits: bits, why, when the run began.
const PIECE: usize = BYTES + 7;
/// Bytes of a piece that ended: bits, letter, why, when it ended, when its run had begun.
const ENDED: usize = BYTES + 14;

/// Bits as eight numbers, which Lua reads.
pub(in crate::redis) fn words(bits: &Bits) -> [u64; 8] {
    let mut words = [0; 8];
    for (word, bytes) in words.iter_mut().zip(bits.bytes().as_chunks::<4>().0) {
        *word = u64::from(u32::from_be_bytes(*bytes));
    }
    words
}

/// A run that waits, or a piece of one that a batch holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::redis) struct Piece {
    pub bits: Bits,
    /// Why it waits.
    pub why: i64,
    pub began_ms: i64,
}

impl Stored for Piece {
    const WHAT: &'static str = "a run";

    fn encode(&self) -> Result<Vec<u8>> {
        let mut stored = self.bits.bytes().to_vec();
        stored.extend(digits::<1>(self.why)?);
        stored.extend(digits::<6>(self.began_ms)?);
        Ok(stored)
    }

    fn decode(stored: &Bytes) -> Option<Self> {
        let (bits, rest) = stored.split_at_checked(BYTES)?;
        (stored.len() == PIECE).then_some(())?;
        Some(Self {
            bits: Bits::read(bits)?,
            why: number(&rest[..1]),
            began_ms: number(&rest[1..]),
        })
    }
}

/// Bits of what batches hold.
impl Stored for Bits {
    const WHAT: &'static str = "held bits";

    fn encode(&self) -> Result<Vec<u8>> {
        Ok(self.bytes().to_vec())
    }

    fn decode(stored: &Bytes) -> Option<Self> {
        Self::read(stored)
    }
}

/// Deliveries of a run that ended together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::redis) struct Ended {
    pub bits: Bits,
    pub state: DeliveryState,
    /// Why they ended.
    pub why: i64,
    pub end_ms: i64,
    pub began_ms: i64,
}

/// All of a field, piece behind piece.
impl Stored for Vec<Ended> {
    const WHAT: &'static str = "runs that ended";

    fn encode(&self) -> Result<Vec<u8>> {
        let mut stored = Vec::with_capacity(self.len() * ENDED);
        for it in self {
            stored.extend(it.bits.bytes());
            stored.extend(delivery::letter(it.state).to_string().into_bytes());
            stored.extend(digits::<1>(it.why)?);
            stored.extend(digits::<6>(it.end_ms)?);
            stored.extend(digits::<6>(it.began_ms)?);
        }
        Ok(stored)
    }

    fn decode(stored: &Bytes) -> Option<Self> {
        let one = |piece: &[u8]| {
            let (bits, rest) = piece.split_at_checked(BYTES)?;
            (piece.len() == ENDED).then_some(())?;
            Some(Ended {
                bits: Bits::read(bits)?,
                state: delivery::state_of(char::from(rest[0]))?,
                why: number(&rest[1..2]),
                end_ms: number(&rest[2..8]),
                began_ms: number(&rest[8..]),
            })
        };
        stored.chunks(ENDED).map(one).collect()
    }
}

fn number(bytes: &[u8]) -> i64 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | i64::from(*byte))
}

/// The lowest bytes of a number that has no higher ones.
fn digits<const N: usize>(number: i64) -> Result<[u8; N]> {
    let bytes = number.to_be_bytes();
    match bytes.split_last_chunk() {
        Some((rest, digits)) if rest.iter().all(|byte| *byte == 0) => Ok(*digits),
        _ => Err(bad("a number of a run", number)),
    }
}

/// What the hash of a run's numbers says of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::redis) enum Said {
    Waits(Piece),
    Held(Bits),
    Ended(Vec<Ended>),
}

/// Reads a field of the hash.
pub(in crate::redis) fn read_field(name: &str, value: &Bytes) -> Result<(LaneNo, Said)> {
    let number = name.strip_prefix(['h', 'e']).unwrap_or(name);
    let lane = number.parse().map(LaneNo).map_err(|_| bad("a field of runs", name))?;
    let said = match name.as_bytes().first() {
        Some(b'h') => Bits::decode(value).map(Said::Held),
        Some(b'e') => Stored::decode(value).map(Said::Ended),
        _ => Piece::decode(value).map(Said::Waits),
    };
    Ok((lane, said.ok_or_else(|| bad("a field of runs", name))?))
}

/// The fields of a lane: what waits, what is held, what ended.
pub(in crate::redis) fn fields_of(lane: LaneNo) -> [String; 3] {
    [lane.0.to_string(), format!("h{}", lane.0), format!("e{}", lane.0)]
}

/// A run that waits as it stands in its lane, by its first number.
pub(in crate::redis) fn member(base: u64) -> String {
    format!("r{base}")
}

/// The first number of the run that a lane's member stands for; none: it is a delivery.
pub(in crate::redis) fn parse_member(member: &str) -> Option<u64> {
    member.strip_prefix('r')?.parse().ok()
}

/// A piece's field in a batch, by its first number and its lane.
pub(in crate::redis) fn piece(base: u64, lane: LaneNo) -> String {
    format!("{}.{}", member(base), lane.0)
}

/// The first number and the lane of a piece by its field in a batch; none: it is something else.
pub(in crate::redis) fn parse_piece(name: &str) -> Option<(u64, LaneNo)> {
    let (base, lane) = name.split_once('.')?;
    Some((parse_member(base)?, LaneNo(lane.parse().ok()?)))
}
