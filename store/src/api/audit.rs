//! The audit log: who called for what, and what came of it.
//!
//! An entry is bytes under an id that begins with its time, so entries lie in the order of their
//! times. The entry of a write travels with its commit ([`Commit::audit`]) and is there if and only
//! if the commit is. Other entries are recorded by themselves; one of an id that is there takes its
//! place, so that an entry made before a step can be completed after it.
//!
//! Entries are bounded apart by who calls: nobody crowds out what was done by calls that are refused,
//! nor a tenant's people what was done by those who are held to no tenant.
//!
//! [`Commit::audit`]: crate::config::Commit::audit

use std::fmt::{self, Write as _};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pregon_core::clock::Timestamp;

use crate::StoreError;

/// How long entries are kept when nothing else is set: a quarter of a year.
pub const KEPT: Duration = Duration::from_secs(90 * 24 * 3600);
/// Entries of calls that were let in, at most, and as many of callers who are held to tenants: a
/// write each two minutes for as long as [`KEPT`] is.
pub const CALLS: u64 = 65_536;
/// Bytes of them: a kibibyte each, or of a Redis of a gibibyte a sixteenth.
pub const CALLS_BYTES: u64 = 64 << 20;
/// Entries of calls that were refused, at most.
pub const REFUSALS: u64 = 32_768;
/// Bytes of them: they show no resource, so half a kibibyte each.
pub const REFUSALS_BYTES: u64 = 16 << 20;
/// Entries that one trimming step looks at: a millisecond or two.
pub(crate) const TRIMMED: usize = 200;

/// Names an entry: 12 hexadecimal digits of its time in ms, 8 of its place among those of a process,
/// and 12 of chance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuditId(String);

impl AuditId {
    /// The id of an entry of this time; `sequence` puts it in order among those of its process and its
    /// time, and `random` tells it from those of others.
    pub fn new(time: Timestamp, sequence: u32, random: [u8; 6]) -> Self {
        let mut id = first(time);
        for byte in sequence.to_be_bytes().into_iter().chain(random) {
            let _ = write!(id, "{byte:02x}"); // into a String it cannot fail
        }
        Self(id)
    }

    /// Reads an id; none where a text is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == 32 && text.bytes().all(digit)).then(|| Self(text.to_owned()))
    }

    /// The id as a text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AuditId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is not above any id of this time, and above all of earlier ones.
pub(crate) fn first(time: Timestamp) -> String {
    /// What 12 digits hold.
    const LAST: u64 = (1 << 48) - 1;
    let ms = u64::try_from(time.millis()).unwrap_or(0).min(LAST);
    format!("{ms:012x}")
}

/// Which entries an entry is bounded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuditClass {
    /// Of a call that was let in, by a caller who is held to no tenant.
    Call,
    /// Of a call that was let in, by a caller who is held to some tenants.
    Bound,
    /// Of a call that was refused.
    Refusal,
}

impl AuditClass {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Call, Self::Bound, Self::Refusal];
}

/// What becomes of entries while the store is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// They are refused, as all that takes room is.
    Refused,
    /// They are written: of a step that makes room, and of how one ended. Trimming bounds them.
    Written,
}

/// An entry to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAudit {
    /// Its id.
    pub id: AuditId,
    /// What it is bounded with.
    pub class: AuditClass,
    /// What it says.
    pub bytes: Bytes,
}

/// An entry as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its id.
    pub id: AuditId,
    /// The revision of the commit that it came with; 0: it came by itself.
    pub revision: i64,
    /// What it says.
    pub bytes: Bytes,
}

/// Which entries to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRange {
    /// Not those of before this time.
    pub since: Timestamp,
    /// Only those of before this time.
    pub until: Timestamp,
    /// Only those before this one; none: from the latest.
    pub before: Option<AuditId>,
    /// Entries at most.
    pub limit: usize,
}

impl AuditRange {
    /// The lowest id wanted, and the one that all are below.
    pub(crate) fn ids(&self) -> (String, String) {
        let until = first(self.until);
        let below = match &self.before {
            Some(before) if *before.as_str() < *until => before.as_str().to_owned(),
            Some(_) | None => until,
        };
        (first(self.since), below)
    }
}

/// How much of one class is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditBound {
    /// Entries.
    pub entries: u64,
    /// Bytes.
    pub bytes: u64,
}

/// How much of the audit log is kept; what is older, or too much, goes from the oldest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditKept {
    /// Age.
    pub age: Duration,
    /// Of calls that were let in, by callers who are held to no tenant.
    pub calls: AuditBound,
    /// The same by callers who are held to some tenants.
    pub bound: AuditBound,
    /// Of calls that were refused.
    pub refusals: AuditBound,
}

impl Default for AuditKept {
    fn default() -> Self {
        Self {
            age: KEPT,
            calls: AuditBound { entries: CALLS, bytes: CALLS_BYTES },
            bound: AuditBound { entries: CALLS, bytes: CALLS_BYTES },
            refusals: AuditBound { entries: REFUSALS, bytes: REFUSALS_BYTES },
        }
    }
}

impl AuditKept {
    /// The bound of a class.
    pub(crate) fn of(&self, class: AuditClass) -> AuditBound {
        match class {
            AuditClass::Call => self.calls,
            AuditClass::Bound => self.bound,
            AuditClass::Refusal => self.refusals,
        }
    }
}

/// The audit log, beside what commits write into it.
#[async_trait]
pub trait AuditLog: Send + Sync {
    /// Writes entries, each in the place of one of its id if that is there. Durable when it returns.
    async fn record(&self, entries: &[NewAudit], full: WhenFull) -> Result<(), StoreError>;

    /// Entries of a range, the latest first. Fewer than its limit: there are no more.
    async fn entries(&self, range: AuditRange) -> Result<Vec<AuditRecord>, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_the_order_of_their_times() {
        let at = |ms| AuditId::new(Timestamp::from_millis(ms), 7, [0xff; 6]);
        let of = |sequence| AuditId::new(Timestamp::from_millis(9), sequence, [0; 6]);
        assert!(of(7) < at(9) && at(9) < of(8) && of(0xffff) < of(0x1_0000));
        assert!(at(-5) < at(1) && at(9) < at(10) && at(0xffff) < at(0x1_0000));
        assert!(first(Timestamp::from_millis(10)).as_str() > at(9).as_str());
        assert!(first(Timestamp::from_millis(10)).as_str() <= at(10).as_str());
        assert!(first(Timestamp::MAX).len() == 12);
        assert_eq!(AuditId::parse(at(7).as_str()), Some(at(7)));
        for bad in ["", "0", &"A".repeat(32), &"0".repeat(33)] {
            assert_eq!(AuditId::parse(bad), None, "{bad}");
        }
    }
}
