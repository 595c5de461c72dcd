//! Reading replies: what is not as asked for is a fault, never a guess.

use std::fmt;

use bytes::Bytes;
use redis::{RedisError, Value};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::redis::engine::fault::{Fault, Result, bad};
use crate::redis::layout::{self, Stored};

/// A reply of several.
pub(in crate::redis) fn array(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(items) => Ok(items),
        Value::Nil => Ok(Vec::new()),
        Value::ServerError(error) => Err(Fault::from(RedisError::from(error))),
        other => Err(bad("not an array:", other)),
    }
}

/// A string, or none.
pub(in crate::redis) fn bytes(value: Value) -> Result<Option<Bytes>> {
    match value {
        Value::BulkString(bytes) => Ok(Some(Bytes::from(bytes))),
        Value::Nil => Ok(None),
        Value::ServerError(error) => Err(Fault::from(RedisError::from(error))),
        other => Err(bad("not a string:", other)),
    }
}

/// A text that must be there.
pub(in crate::redis) fn text(value: Value) -> Result<String> {
    let bytes = match value {
        Value::SimpleString(text) => return Ok(text),
        Value::VerbatimString { text, .. } => return Ok(text),
        other => bytes(other)?.ok_or_else(|| bad("not a text:", "nothing"))?,
    };
    String::from_utf8(bytes.into()).map_err(|error| bad("not a text:", error))
}

/// A number written out, or none.
pub(in crate::redis) fn number<T: std::str::FromStr>(value: Value) -> Result<Option<T>> {
    let Some(bytes) = bytes(value)? else { return Ok(None) };
    layout::number(&bytes).map(Some).ok_or_else(|| bad("not a number:", bytes))
}

/// A mark of a partition: 0 where it was never set.
pub(in crate::redis) fn mark(value: Value) -> Result<u64> {
    Ok(number(value)?.unwrap_or(0))
}

/// A value of the table, or none.
pub(in crate::redis) fn stored<T: Stored>(value: Value) -> Result<Option<T>> {
    let Some(bytes) = bytes(value)? else { return Ok(None) };
    decoded(&bytes).map(Some)
}

/// The same of bytes that are there.
pub(in crate::redis) fn decoded<T: Stored>(bytes: &Bytes) -> Result<T> {
    T::decode(bytes).ok_or_else(|| bad(T::WHAT, bytes))
}

/// How many, as commands that count say it.
pub(in crate::redis) fn count(value: Value) -> Result<i64> {
    match value {
        Value::Int(count) => Ok(count),
        Value::ServerError(error) => Err(Fault::from(RedisError::from(error))),
        other => Err(bad("not a count:", other)),
    }
}

/// A reply of so many.
pub(in crate::redis) fn exactly<const N: usize>(values: Vec<Value>) -> Result<[Value; N]> {
    values.try_into().map_err(|values: Vec<Value>| bad("so many replies:", values.len()))
}

/// The server's time, in ms, as `TIME` tells it.
pub(in crate::redis) fn time(value: Value) -> Result<i64> {
    let [seconds, micros] = exactly(array(value)?)?;
    match (number::<i64>(seconds)?, number::<i64>(micros)?) {
        (Some(seconds), Some(micros)) => Ok(seconds * 1000 + micros / 1000),
        none => Err(bad("a time of", none)),
    }
}

/// Bytes in a script's answer, where Lua knows strings only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::redis) struct Blob(pub Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = Blob;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> std::result::Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }

            fn visit_str<E: Error>(self, text: &str) -> std::result::Result<Blob, E> {
                Ok(Blob(text.as_bytes().to_vec()))
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}
