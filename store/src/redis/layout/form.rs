//! What all values have in common: how one is written, and how texts and numbers are.

use std::str::FromStr;

use bytes::Bytes;

use rmp::encode::{write_array_len, write_str_len};

use crate::redis::engine::fault::{Fault, Result};

/// A value as it is stored.
pub(in crate::redis) trait Stored: Sized {
    /// What it is.
    const WHAT: &'static str;

    /// As it is written.
    fn encode(&self) -> Result<Vec<u8>>;

    /// Reads one; none: it is something else.
    fn decode(stored: &Bytes) -> Option<Self>;
}

/// Reads a text.
pub(in crate::redis) fn text(stored: &[u8]) -> Option<&str> {
    std::str::from_utf8(stored).ok()
}

/// Reads a number.
pub(in crate::redis) fn number<T: FromStr>(stored: &[u8]) -> Option<T> {
    text(stored)?.parse().ok()
}

/// The head of a list of so many, in MessagePack.
pub(in crate::redis) fn packed_list(many: usize) -> Result<Vec<u8>> {
    let mut packed = Vec::new();
    write_array_len(&mut packed, length(many)?).map_err(unwritten)?;
    Ok(packed)
}

/// A string of MessagePack, whatever bytes it has: what Lua packs is one.
pub(in crate::redis) fn packed_text(packed: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    write_str_len(packed, length(bytes.len())?).map_err(unwritten)?;
    packed.extend(bytes);
    Ok(())
}

fn length(many: usize) -> Result<u32> {
    u32::try_from(many).map_err(unwritten)
}

fn unwritten(error: impl std::fmt::Display) -> Fault {
    Fault::Corrupt(format!("a value cannot be written: {error}"))
}
