//! Streams: the ids of their entries, and the entries as rows.

use std::fmt;

use bytes::Bytes;
use pregon_core::clock::Timestamp;
use pregon_core::id::{PartitionNo, Position};
use redis::Value;

use super::{Stored, number};
use crate::redis::engine::fault::{Result, bad};
use crate::redis::engine::value;

/// The id of an entry: a dense number, and when it was written in ms. In the change log it is a
/// revision and a nonce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Id {
    pub n: u64,
    pub ms: u64,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.n, self.ms)
    }
}

impl Id {
    /// Reads one.
    pub fn parse(id: &[u8]) -> Option<Self> {
        let at = id.iter().position(|byte| *byte == b'-')?;
        Some(Self { n: number(&id[..at])?, ms: number(&id[at + 1..])? })
    }

    /// The place of the event that it stands for.
    pub fn position(self, partition: PartitionNo) -> Position {
        Position { ms: self.ms, partition, n: self.n }
    }
}

impl Stored for Id {
    const WHAT: &'static str = "an id of a stream";

    fn encode(&self) -> Result<Vec<u8>> {
        Ok(self.to_string().into())
    }

    fn decode(stored: &Bytes) -> Option<Self> {
        Self::parse(stored)
    }
}

/// An entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub id: Id,
    /// Names and values in turn.
    pub fields: Vec<Value>,
}

impl Row {
    /// Reads one of what `XRANGE` answers.
    pub fn read(row: Value) -> Result<Self> {
        match row {
            Value::Array(parts) => match <[Value; 2]>::try_from(parts) {
                Ok([Value::BulkString(id), Value::Array(fields)]) => {
                    let id = Id::parse(&id).ok_or_else(|| bad(Id::WHAT, id))?;
                    Ok(Self { id, fields })
                }
                other => Err(bad("a row of a stream", other)),
            },
            other => Err(bad("a row of a stream", other)),
        }
    }

    /// Reads all that `XRANGE` answers.
    pub fn read_all(rows: Value) -> Result<Vec<Self>> {
        value::array(rows)?.into_iter().map(Self::read).collect()
    }

    /// When it was written.
    pub fn moment(&self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.id.ms).unwrap_or(i64::MAX))
    }

    /// A field's value; none: it has no such field.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let named = |pair: &&[Value; 2]| matches!(&pair[0], Value::BulkString(it) if it == name);
        match self.fields.as_chunks::<2>().0.iter().find(named) {
            Some([_, Value::BulkString(value)]) => Some(value),
            _ => None,
        }
    }

    /// Reads a field's value; none: it has no such field.
    pub fn stored<T: Stored>(&self, name: &[u8]) -> Result<Option<T>> {
        let read = |found| T::decode(&Bytes::copy_from_slice(found));
        let found = self.get(name);
        found.map(|found| read(found).ok_or_else(|| bad(T::WHAT, self.id))).transpose()
    }
}

/// A row that lies beside its stream: its id, and its fields.
impl Stored for Row {
    const WHAT: &'static str = "a chunk that was written anew";

    fn encode(&self) -> Result<Vec<u8>> {
        let bytes = |value: &Value| match value {
            Value::BulkString(bytes) => Ok(bytes.clone()),
            other => Err(bad("a field of a stream", other)),
        };
        let fields = self.fields.iter().map(bytes).collect::<Result<Vec<_>>>()?;
        Ok(postcard::to_stdvec(&(self.id.to_string(), fields))?)
    }

    fn decode(stored: &Bytes) -> Option<Self> {
        let (id, fields): (String, Vec<Vec<u8>>) = postcard::from_bytes(stored).ok()?;
        let fields = fields.into_iter().map(Value::BulkString).collect();
        Some(Self { id: Id::parse(id.as_bytes())?, fields })
    }
}
