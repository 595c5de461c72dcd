//! What is known of operations of one kind on a partition.

use std::collections::VecDeque;
use std::hash::RandomState;

use crate::batch::Token;
use crate::redis::engine::args::Args;

/// What is known of one kind's operations on a partition.
#[derive(Default)]
pub(in crate::redis) struct Operations {
    pub sequence: u64,
    /// The latest one, if its answer is not known.
    pub open: Option<Open>,
    /// Claims whose contents could not be read, with their answers.
    pub found: VecDeque<(Token, Vec<u8>)>,
    /// Parts of settlements that ran, by what they said, and the leases that they found lost.
    pub answered: VecDeque<(u64, Vec<String>)>,
    /// Names what a part said.
    pub names: RandomState,
}

impl Operations {
    /// Whether the next claim has what an earlier one leased, or may have.
    pub fn owe(&self) -> bool {
        self.open.is_some() || !self.found.is_empty()
    }
}

/// An operation as it was sent.
#[derive(Clone)]
pub(in crate::redis) struct Open {
    pub token: Token,
    pub args: Args,
}
