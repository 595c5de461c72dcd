//! Erasing what a tenant left: events with their data, deliveries, and attempts with the answers of
//! receivers.
//!
//! A pass walks all of a partition's events and then its whole log, in bounded steps, whose places
//! the caller keeps. An event that is not matched yet, or has a pending delivery, stays and is
//! counted: the next pass finds it. Attempts of several tenants lie in chunks together: a chunk
//! that tells of the tenant is written anew without it, and keeps its number and its place in time.
//! Whoever walks it again finds the same, so that a step may be repeated and a pass begun anew.
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
