//! Tokens of batches: which process made one, which partition it is of, and how it is written.

use pregon_core::id::PartitionNo;

use super::keys::PARTITIONS_MAX;
use crate::batch::Token;

/// Bits of a token's sequence that name its partition.
const PARTITION_BITS: u32 = 12;
const _: () = assert!(1 << PARTITION_BITS == PARTITIONS_MAX as u32);

/// A token of a partition; `number` is unique within the process.
pub(super) fn make(incarnation: u64, partition: PartitionNo, number: u64) -> Token {
    Token { incarnation, sequence: number << PARTITION_BITS | u64::from(partition) }
}

/// What lies between the sequences of two tokens in a row.
pub(super) const STEP: u64 = 1 << PARTITION_BITS;

/// The partition that a token is of.
pub(super) fn partition(token: Token) -> PartitionNo {
    PartitionNo::try_from(token.sequence % (1 << PARTITION_BITS)).unwrap_or(0)
}

/// As it stands in keys.
pub(super) fn print(token: Token) -> String {
    format!("{:x}.{}", token.incarnation, token.sequence)
}

/// From a key.
pub(super) fn parse(text: &str) -> Option<Token> {
    let (incarnation, sequence) = text.split_once('.')?;
    Some(Token {
        incarnation: u64::from_str_radix(incarnation, 16).ok()?,
        sequence: sequence.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tokens_come_back(incarnation: u64, number in 0u64..1 << 50, p in 0..PARTITIONS_MAX) {
            let token = make(incarnation, p, number);
            prop_assert_eq!(parse(&print(token)), Some(token));
            prop_assert_eq!(partition(token), p);
        }
    }
}
