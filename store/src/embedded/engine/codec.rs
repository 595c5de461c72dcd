//! How values of the vocabulary are written into columns, and read back.

use pregon_core::id::{DeliveryKey, LaneNo, Position, ReplayTag};
use pregon_core::outcome::{DeliveryState, EndReason, PendingReason};

use crate::codec::stored;
pub(in crate::embedded) use crate::codec::stored::{
    CANCELLED, FAILED, PENDING, SCHEDULED, SUCCEEDED, content_digest, end_code, event, head_of,
    pending_code, read_head, state_code,
};
use crate::embedded::engine::fault::{Fault, Result};

/// The only partition there is.
pub(in crate::embedded) const PARTITION: u16 = 0;

/// A number as SQLite has it; what does not fit saturates, and then names nothing that exists.
pub(in crate::embedded) fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A length as SQLite has it.
pub(in crate::embedded) fn len(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A stored number, which is never negative.
pub(in crate::embedded) fn uint(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// A stored count that callers know as `u32`.
pub(in crate::embedded) fn uint32(n: i64) -> u32 {
    u32::try_from(n).unwrap_or(if n < 0 { 0 } else { u32::MAX })
}

/// A lane's column.
pub(in crate::embedded) fn lane(lane: LaneNo) -> i64 {
    int(lane.0)
}

/// A replay's column: its tag, empty for the delivery that the publish made.
pub(in crate::embedded) fn tag(key: &DeliveryKey) -> &str {
    key.replay.as_ref().map_or("", ReplayTag::as_str)
}

/// A delivery's key from its columns.
pub(in crate::embedded) fn key(n: i64, ms: i64, lane: i64, tag: &str) -> Result<DeliveryKey> {
    let replay = match tag {
        "" => None,
        tag => Some(tag.parse().map_err(|_| bad("replay tag", tag))?),
    };
    Ok(DeliveryKey { position: position(n, ms), lane: LaneNo(uint(lane)), replay })
}

/// A position from its columns.
pub(in crate::embedded) fn position(n: i64, ms: i64) -> Position {
    Position { ms: uint(ms), partition: PARTITION, n: uint(n) }
}

/// Something stored that makes no sense.
pub(in crate::embedded) fn bad(what: &str, found: impl std::fmt::Debug) -> Fault {
    Fault::Corrupt(format!("{what} {found:?}"))
}

/// The state of a column value.
pub(in crate::embedded) fn state_of(code: i64) -> Result<DeliveryState> {
    stored::state_of(code).ok_or_else(|| bad("delivery state", code))
}

/// The pending reason of a column value.
pub(in crate::embedded) fn pending_of(code: i64) -> Result<PendingReason> {
    stored::pending_of(code).ok_or_else(|| bad("pending reason", code))
}

/// The end reason of a column value.
pub(in crate::embedded) fn end_of(code: i64) -> Result<EndReason> {
    stored::end_of(code).ok_or_else(|| bad("end reason", code))
}
