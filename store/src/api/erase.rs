//! Erasing what a tenant left: events with their data, deliveries, and attempts with the answers of
//! receivers.
//!
//! A pass walks all of a partition's events and then its whole log, in bounded steps, whose places
//! the caller keeps. An event that is not matched yet, or has a pending delivery, stays and is
//! counted: the next pass finds it. Attempts of several tenants lie in chunks together: a chunk
//! that tells of the tenant is written anew without it, and keeps its number and its place in time.
//! Whoever walks it again finds the same, so that a step may be repeated and a pass begun anew.
//!
//! One event is erased while its tenant goes on: what is left of it is a tombstone, with its id, type
//! and times, and why it was erased. Its deliveries' records stay, and their attempts' but for
//! answers and headers, so that the books balance. Whoever erases it first calls off what is
//! pending: while something is to be done with it yet, it stays as it is.
//!
//! Books stay as they are: they are numbers, and those of all are the sums of the tenants'.

use pregon_core::attempt::AttemptRecord;
use pregon_core::clock::Timestamp;
use pregon_core::id::TenantId;

/// Whose events, and which of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erase {
    /// The tenant.
    pub tenant: TenantId,
    /// Events accepted before this; later ones are another tenant's of the same name.
    pub before: Timestamp,
}

/// How far a pass got: what the engine makes of it. The default begins one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErasePlace {
    /// Which of its partitions.
    pub partition: u16,
    /// Which of its structures.
    pub stage: u8,
    /// Where in it.
    pub at: u64,
}

/// What a step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Events, and chunks written anew.
    pub erased: u64,
    /// Events that had to stay: something of them is to be done yet.
    pub left: u64,
    /// Where the pass goes on; none: it is at its end.
    pub next: Option<ErasePlace>,
}

impl Erase {
    /// Whether a record is of what is to be erased.
    pub(crate) fn names(&self, record: &AttemptRecord) -> bool {
        let accepted = i64::try_from(record.key.position.ms).unwrap_or(i64::MAX);
        record.tenant == self.tenant && accepted < self.before.millis()
    }
}

/// What became of the erasing of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventErased {
    /// There is no such event.
    Unknown,
    /// It is not matched yet, or a delivery of it is pending: nothing was changed.
    Open,
    /// A tombstone stands in its place, by this call or an earlier one.
    Done,
}

/// What a step of stripping attempts did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stripped {
    /// Chunks written anew.
    pub changed: u64,
    /// Chunks that somebody else changed meanwhile: strip once more.
    pub left: u64,
    /// Where it goes on, whatever was written since; none: it is at its end.
    pub next: Option<u64>,
}

/// Chunks that one step of stripping looks into.
pub(crate) const STRIP_STEP: usize = 20;
