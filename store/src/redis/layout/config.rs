//! Values of the configuration, and what is written as some of them are.

use bytes::Bytes;

use super::{Stored, number, packed_list, packed_text};
use crate::redis::engine::fault::{Result, bad};
use crate::redis::engine::value::Blob;

/// Between collections and name in the index; no name has it.
const BETWEEN: char = '\0';

/// Where a document stands in the index: kinds apart, by name within one.
pub fn member(collections: &str, name: &str) -> String {
    format!("{collections}{BETWEEN}{name}")
}

/// The name of the document that stands there.
pub fn parse_member(member: &str) -> Option<&str> {
    member.split_once(BETWEEN).map(|(_, name)| name)
}

/// Bytes behind a number and a colon: a document behind its revision; what a node said, in JSON,
/// behind when it was heard of; a spared event's entry behind when it was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped {
    pub stamp: i64,
    pub bytes: Bytes,
}

impl Stored for Stamped {
    const WHAT: &'static str = "bytes behind a number";

    fn encode(&self) -> Result<Vec<u8>> {
        let mut stored = format!("{}:", self.stamp).into_bytes();
        stored.extend(&self.bytes);
        Ok(stored)
    }

    fn decode(stored: &Bytes) -> Option<Self> {
        let at = stored.iter().position(|byte| *byte == b':')?;
        Some(Self { stamp: number(&stored[..at])?, bytes: stored.slice(at + 1..) })
    }
}

/// What a request id was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    pub ms: i64,
    pub revision: i64,
    pub digest: Vec<u8>,
    pub reply: Vec<u8>,
}

impl Stored for Remembered {
    const WHAT: &'static str = "a remembered request";

    fn encode(&self) -> Result<Vec<u8>> {
        let mut packed = packed_list(4)?;
        for number in [self.ms, self.revision] {
            packed.extend(rmp_serde::to_vec(&number).map_err(|error| bad(Self::WHAT, error))?);
        }
        packed_text(&mut packed, &self.digest)?;
        packed_text(&mut packed, &self.reply)?;
        Ok(packed)
    }

    fn decode(stored: &Bytes) -> Option<Self> {
        let (ms, revision, digest, reply): (i64, i64, Blob, Blob) =
            rmp_serde::from_slice(stored).ok()?;
        Some(Self { ms, revision, digest: digest.0, reply: reply.0 })
    }
}
