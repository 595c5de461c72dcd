//! Runs as they are written: hash `r:<base>`, and pieces that batches hold.
//!
//! Of each lane the hash has up to three fields: `<lane>` is what waits, `h<lane>` the bits of what
//! batches hold, `e<lane>` what ended together, piece behind piece. Numbers are big-endian.

use pregon_core::id::LaneNo;

use super::fault::{Result, bad};
use crate::run::{BYTES, Bits};

/// Bytes of what waits: bits, why, when the run began.
const PIECE: usize = BYTES + 7;
/// Bytes of a piece that ended: bits, letter, why, when it ended, when its run had begun.
const ENDED: usize = BYTES + 14;

/// Bits as eight numbers, which Lua reads.
pub(super) fn words(bits: &Bits) -> [u64; 8] {
    let mut words = [0; 8];
    for (word, bytes) in words.iter_mut().zip(bits.bytes().as_chunks::<4>().0) {
        *word = u64::from(u32::from_be_bytes(*bytes));
    }
    words
}

/// A run that waits, or a piece of one that a batch holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub bits: Bits,
    /// Why it waits.
    pub why: i64,
    pub began_ms: i64,
}

impl Piece {
    /// Reads one.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let wrong = || bad("a run", bytes.len());
        let (bits, rest) = bytes.split_at_checked(BYTES).ok_or_else(wrong)?;
        if bytes.len() != PIECE {
            return Err(wrong());
        }
        Ok(Self {
            bits: Bits::read(bits).ok_or_else(wrong)?,
            why: number(&rest[..1]),
            began_ms: number(&rest[1..]),
        })
    }
}

/// Deliveries of a run that ended together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub bits: Bits,
    pub letter: char,
    /// Why they ended.
    pub why: i64,
    pub end_ms: i64,
    pub began_ms: i64,
}

impl Ended {
    /// Reads all of a field.
    pub fn read(bytes: &[u8]) -> Result<Vec<Self>> {
        let one = |piece: &[u8]| {
            let (bits, rest) = piece.split_at_checked(BYTES)?;
            (piece.len() == ENDED).then_some(())?;
            Some(Self {
                bits: Bits::read(bits)?,
                letter: char::from(rest[0]),
                why: number(&rest[1..2]),
                end_ms: number(&rest[2..8]),
                began_ms: number(&rest[8..]),
            })
        };
        let all: Option<Vec<Self>> = bytes.chunks(ENDED).map(one).collect();
        all.ok_or_else(|| bad("runs that ended", bytes.len()))
    }
}

fn number(bytes: &[u8]) -> i64 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | i64::from(*byte))
}

/// What the hash of a run's numbers says of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Waits(Piece),
    Held(Bits),
    Ended(Vec<Ended>),
}

/// Reads a field of the hash.
pub(super) fn read_field(name: &str, value: &[u8]) -> Result<(LaneNo, Said)> {
    let number = name.trim_start_matches(['h', 'e']);
    let lane = number.parse().map(LaneNo).map_err(|_| bad("a field of runs", name))?;
    let said = match name.as_bytes().first() {
        Some(b'h') => Said::Held(Bits::read(value).ok_or_else(|| bad("held bits", name))?),
        Some(b'e') => Said::Ended(Ended::read(value)?),
        _ => Said::Waits(Piece::read(value)?),
    };
    Ok((lane, said))
}

/// The fields of a lane.
pub(super) fn fields_of(lane: LaneNo) -> [String; 3] {
    [lane.0.to_string(), format!("h{}", lane.0), format!("e{}", lane.0)]
}

/// The first number of the run that a lane's member stands for; none: it is a delivery.
pub(super) fn parse_member(member: &str) -> Option<u64> {
    member.strip_prefix('r')?.parse().ok()
}

/// The first number and the lane of a piece by its field in a batch; none: it is something else.
pub(super) fn parse_piece(name: &str) -> Option<(u64, LaneNo)> {
    let (base, lane) = name.strip_prefix('r')?.split_once('.')?;
    Some((base.parse().ok()?, LaneNo(lane.parse().ok()?)))
}
