//! Chunks of the log: their names, and what stands beside their records.

use std::fmt;

use bytes::Bytes;
use redis::Value;

use super::keys::Key;
use super::stream::Row;
use super::{Stored, number, text};
use crate::redis::engine::fault::{Result, bad};

/// Records in a chunk are far fewer.
const RECORDS_MAX: usize = 1 << 16;

/// A stream of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Everything else.
    Trouble,
    /// Successes.
    Smooth,
}

impl Stream {
    /// Both.
    pub const ALL: [Stream; 2] = [Stream::Smooth, Stream::Trouble];

    /// Its key.
    pub fn key(self) -> Key {
        match self {
            Stream::Smooth => Key::Log,
            Stream::Trouble => Key::TroubleLog,
        }
    }

    /// What the names of its chunks begin with.
    pub fn letter(self) -> char {
        match self {
            Stream::Smooth => 'l',
            Stream::Trouble => 'e',
        }
    }

    /// The mark that has the number of its latest chunk.
    pub fn latest(self) -> &'static str {
        match self {
            Stream::Smooth => "lk",
            Stream::Trouble => "ek",
        }
    }
}

/// A chunk, by its stream and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Chunk {
    pub stream: Stream,
    pub k: u64,
}

impl Chunk {
    /// Reads a name.
    pub fn parse(name: &str) -> Option<Self> {
        let stream = Stream::ALL.into_iter().find(|stream| name.starts_with(stream.letter()))?;
        Some(Self { stream, k: name.get(1..)?.parse().ok()? })
    }
}

impl fmt::Display for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.stream.letter(), self.k)
    }
}

/// A chunk as `map` and `trail` name it. What is behind the point tells uses of one chunk apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    pub chunk: Chunk,
    pub part: u64,
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.chunk, self.part)
    }
}

impl Stored for Use {
    const WHAT: &'static str = "a chunk's name";

    fn encode(&self) -> Result<Vec<u8>> {
        Ok(self.to_string().into())
    }

    fn decode(stored: &Bytes) -> Option<Self> {
        let (chunk, part) = text(stored)?.split_once('.')?;
        Some(Self { chunk: Chunk::parse(chunk)?, part: part.parse().ok()? })
    }
}

/// Field `r` of a chunk: what leads to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leads {
    /// How many members it has in `map`.
    pub firsts: u64,
    /// Numbers of events, and its members in `trail`, in turn.
    pub trail: Vec<String>,
}

impl Leads {
    /// Its members in `map`.
    pub fn map(&self, chunk: Chunk) -> impl Iterator<Item = String> {
        (0..self.firsts).map(move |i| Use { chunk, part: 2 * i + 1 }.to_string())
    }

    /// Its members in `trail`.
    pub fn trail(&self) -> impl Iterator<Item = &String> {
        self.trail.as_chunks::<2>().0.iter().map(|[_, name]| name)
    }
}

impl Stored for Leads {
    const WHAT: &'static str = "what leads to a chunk";

    fn encode(&self) -> Result<Vec<u8>> {
        rmp_serde::to_vec(&(self.firsts, &self.trail)).map_err(|error| bad(Self::WHAT, error))
    }

    fn decode(stored: &Bytes) -> Option<Self> {
        let (firsts, trail) = rmp_serde::from_slice(stored).ok()?;
        (firsts <= RECORDS_MAX as u64).then_some(Self { firsts, trail })
    }
}

/// Field `l` of a chunk: starts and lengths of stretches of records that came too late, in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Late(pub Vec<usize>);

impl Late {
    /// The places of its records.
    pub fn places(&self) -> impl Iterator<Item = usize> {
        self.0.as_chunks::<2>().0.iter().flat_map(|[start, many]| *start..*start + *many)
    }
}

impl Stored for Late {
    const WHAT: &'static str = "what is late in a chunk";

    fn encode(&self) -> Result<Vec<u8>> {
        rmp_serde::to_vec(&self.0).map_err(|error| bad(Self::WHAT, error))
    }

    fn decode(stored: &Bytes) -> Option<Self> {
        let runs: Vec<usize> = rmp_serde::from_slice(stored).ok()?;
        runs.iter().all(|number| *number <= RECORDS_MAX).then_some(Self(runs))
    }
}

/// Field `m` of a chunk: the highest number of an event that it tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Highest(pub u64);

impl Stored for Highest {
    const WHAT: &'static str = "a chunk's highest number";

    fn encode(&self) -> Result<Vec<u8>> {
        Ok(self.0.to_string().into())
    }

    fn decode(stored: &Bytes) -> Option<Self> {
        number(stored).map(Self)
    }
}

/// A chunk's row with other records in field `c`. What was late is said by its records themselves.
pub fn anew(row: Row, data: &[u8]) -> Row {
    let mut fields = Vec::with_capacity(row.fields.len());
    let mut old = row.fields.into_iter();
    while let (Some(name), Some(value)) = (old.next(), old.next()) {
        match &name {
            Value::BulkString(it) if it == b"c" => {
                fields.extend([name, Value::BulkString(data.to_vec())]);
            }
            Value::BulkString(it) if it == b"l" => {}
            _ => fields.extend([name, value]),
        }
    }
    Row { id: row.id, fields }
}
