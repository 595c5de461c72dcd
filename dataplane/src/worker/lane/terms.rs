//! What a lane is told, and what it says.

use std::time::Duration;

use pregon_core::outcome::PendingReason;
use pregon_core::rate::Rate;

/// What waits in a lane.
pub(in crate::worker) trait Waits {
    /// Bytes of its event.
    fn bytes(&self) -> usize;
    /// What may go out with it is of the same: the number of its attempt, or its own where it goes
    /// by itself.
    fn group(&self) -> u64;
}

/// What the node has left.
#[derive(Clone, Copy, Debug)]
pub(in crate::worker) struct Means {
    /// It is short of slots.
    pub(in crate::worker) tight: bool,
    /// It has none left.
    pub(in crate::worker) full: bool,
    /// How long a delivery may wait in memory for a slot, at its receiver's pace.
    pub(in crate::worker) patience: Duration,
    /// What rates allow the lane that is asked.
    pub(in crate::worker) pass: Pass,
}

/// What rates allow a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::worker) struct Pass {
    /// No attempt may start now.
    pub(in crate::worker) held: bool,
    /// Attempts a second, by its share of the slowest; none: any number.
    pub(in crate::worker) rate: Option<Rate>,
    /// Lanes with work here that share it.
    pub(in crate::worker) sharers: u32,
}

impl Pass {
    /// Attempts that may start within a time; one at least.
    pub(in crate::worker) fn within(self, time: Duration) -> usize {
        let Some(rate) = self.rate else { return usize::MAX };
        let sharers = usize::try_from(self.sharers).unwrap_or(usize::MAX).max(1);
        rate.within(time).div_ceil(sharers).max(1)
    }
}

/// How an attempt went, as far as the lane's pace is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::worker) enum Pace {
    /// The receiver answered as it should.
    Good,
    /// The receiver did not answer in time.
    Timeout,
    /// Anything else: says nothing about how much the receiver bears.
    Other,
}

/// What to do with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::worker) enum Admission {
    /// Attempt it now.
    Start,
    /// Keep it in memory.
    Queue,
    /// Back into the lane in the store.
    PutBack(PendingReason),
}
