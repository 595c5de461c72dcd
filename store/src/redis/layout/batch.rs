//! The fields of a batch.

use std::fmt;

use bytes::Bytes;
use pregon_core::id::LaneNo;

use super::delivery::Held;
use super::{Stored, text};
use crate::redis::engine::fault::Result;
use crate::redis::work::runs;

/// What a field tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The node that has it.
    Node,
    /// How often it was taken.
    Takes,
    /// The first number of its range; 0: it has none.
    First,
    /// The last number of its range.
    Last,
    /// The first number of the range that it was taken with.
    Origin,
    /// How many items are open.
    Open,
    /// An event of it was fanned out in part.
    Partly,
    /// It has pieces of runs.
    Pieces,
    /// It was given back: the next take of it does not count.
    Released,
    /// An event of its range that is done with, by its distance from the first.
    Done(u64),
    /// A delivery, or an event that was put off, and its tenant.
    Held(Held),
    /// A piece of the run that begins with this number, of a lane.
    Piece(u64, LaneNo),
}

/// Fields that have a letter.
const LETTERS: [(&str, Field); 9] = [
    ("@", Field::Node),
    ("k", Field::Takes),
    ("f", Field::First),
    ("l", Field::Last),
    ("o", Field::Origin),
    ("n", Field::Open),
    ("c", Field::Partly),
    ("p", Field::Pieces),
    ("R", Field::Released),
];

impl Field {
    /// Reads a field's name; none: it is something else.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some((_, field)) = LETTERS.iter().find(|(letter, _)| *letter == name) {
            return Some(*field);
        }
        if let Some((base, lane)) = runs::parse_piece(name) {
            return Some(Field::Piece(base, lane));
        }
        let done = || Some(Field::Done(name.parse().ok()?));
        Held::parse(name).map(Field::Held).or_else(done)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::Done(offset) => offset.fmt(f),
            Field::Held(held) => held.fmt(f),
            Field::Piece(base, lane) => f.write_str(&runs::piece(*base, *lane)),
            Field::Node
            | Field::Takes
            | Field::First
            | Field::Last
            | Field::Origin
            | Field::Open
            | Field::Partly
            | Field::Pieces
            | Field::Released => {
                let named = LETTERS.iter().find(|(_, field)| field == self);
                f.write_str(named.map_or("", |(letter, _)| letter))
            }
        }
    }
}

impl Stored for Field {
    const WHAT: &'static str = "a field of a batch";

    fn encode(&self) -> Result<Vec<u8>> {
        Ok(self.to_string().into())
    }

    fn decode(stored: &Bytes) -> Option<Self> {
        Self::parse(text(stored)?)
    }
}
