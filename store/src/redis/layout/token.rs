//! What names processes, their batches and their calls, and what a call was answered.

use bytes::Bytes;
use pregon_core::id::PartitionNo;

use super::{Stored, number};
use crate::batch::Token;
use crate::redis::engine::fault::Result;

/// Partitions at most: an assigned id has 12 bits for them.
pub(in crate::redis) const PARTITIONS_MAX: PartitionNo = 4096;
/// Bits of a token's sequence that name its partition.
const PARTITION_BITS: u32 = 12;
const _: () = assert!(1 << PARTITION_BITS == PARTITIONS_MAX as u32);

/// A token of a partition; `number` is unique within the process.
pub fn make(incarnation: u64, partition: PartitionNo, number: u64) -> Token {
    Token { incarnation, sequence: number << PARTITION_BITS | u64::from(partition) }
}

/// What lies between the sequences of two tokens in a row.
pub const STEP: u64 = 1 << PARTITION_BITS;

/// The partition that a token is of.
pub fn partition(token: Token) -> PartitionNo {
    PartitionNo::try_from(token.sequence % (1 << PARTITION_BITS)).unwrap_or(0)
}

/// A process: in tokens, in names of its calls, and where it keeps history within its bounds.
pub fn process(incarnation: u64) -> String {
    format!("{incarnation:x}")
}

/// A batch's token, as it stands in keys.
pub fn print(token: Token) -> String {
    format!("{:x}.{}", token.incarnation, token.sequence)
}

/// From a key.
pub fn parse(text: &str) -> Option<Token> {
    let (incarnation, sequence) = text.split_once('.')?;
    Some(Token {
        incarnation: u64::from_str_radix(incarnation, 16).ok()?,
        sequence: sequence.parse().ok()?,
    })
}

/// Under which the answer to a process's last call of a kind is kept.
pub fn call(incarnation: u64, kind: char) -> String {
    format!("{incarnation:x}:{kind}")
}

/// What a process's last call of a kind was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    pub sequence: u64,
    pub ms: i64,
    pub answer: Bytes,
}

impl Stored for Answered {
    const WHAT: &'static str = "what a call was answered";

    fn encode(&self) -> Result<Vec<u8>> {
        let mut stored = format!("{} {} ", self.sequence, self.ms).into_bytes();
        stored.extend(&self.answer);
        Ok(stored)
    }

    fn decode(stored: &Bytes) -> Option<Self> {
        let mut spaces = stored.iter().enumerate().filter(|(_, byte)| **byte == b' ');
        let (first, second) = (spaces.next()?.0, spaces.next()?.0);
        Some(Self {
            sequence: number(&stored[..first])?,
            ms: number(&stored[first + 1..second])?,
            answer: stored.slice(second + 1..),
        })
    }
}
