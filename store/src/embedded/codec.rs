//! How values of the vocabulary are written into columns, and read back.
//!
//! Numbers of states and reasons are part of the file format: they are never given anew.

use bytes::Bytes;
use pregon_core::clock::Timestamp;
use pregon_core::event::{Environment, Event, NewEvent};
use pregon_core::id::{DeliveryKey, EventId, EventTypeId, LaneNo, Position, ReplayTag, TenantId};
use pregon_core::outcome::{DeliveryState, EndReason, PendingReason};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::fault::{Fault, Result};

/// The only partition there is.
pub(super) const PARTITION: u16 = 0;
/// First byte of an event's head: how the rest is written.
const HEAD_FORMAT: u8 = 1;

/// A number as SQLite has it; what does not fit saturates, and then names nothing that exists.
pub(super) fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A length as SQLite has it.
pub(super) fn len(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A stored number, which is never negative.
pub(super) fn uint(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// A stored count that callers know as `u32`.
pub(super) fn uint32(n: i64) -> u32 {
    u32::try_from(n).unwrap_or(if n < 0 { 0 } else { u32::MAX })
}

/// A lane's column.
pub(super) fn lane(lane: LaneNo) -> i64 {
    int(lane.0)
}

/// A replay's column: its tag, empty for the delivery that the publish made.
pub(super) fn tag(key: &DeliveryKey) -> &str {
    key.replay.as_ref().map_or("", ReplayTag::as_str)
}

/// A delivery's key from its columns.
pub(super) fn key(n: i64, ms: i64, lane: i64, tag: &str) -> Result<DeliveryKey> {
    let replay = match tag {
        "" => None,
        tag => Some(tag.parse().map_err(|_| bad("replay tag", tag))?),
    };
    Ok(DeliveryKey { position: position(n, ms), lane: LaneNo(uint(lane)), replay })
}

/// A position from its columns.
pub(super) fn position(n: i64, ms: i64) -> Position {
    Position { ms: uint(ms), partition: PARTITION, n: uint(n) }
}

/// Something stored that makes no sense.
pub(super) fn bad(what: &str, found: impl std::fmt::Debug) -> Fault {
    Fault::Corrupt(format!("{what} {found:?}"))
}

/// Column value of a delivery that waits or is attempted.
pub(super) const PENDING: i64 = 0;
/// Column value of a delivery that was acknowledged.
pub(super) const SUCCEEDED: i64 = 1;
/// Column value of a delivery that was given up.
pub(super) const FAILED: i64 = 2;
/// Column value of a delivery that was called off.
pub(super) const CANCELLED: i64 = 3;

/// A state's column value.
pub(super) fn state_code(state: DeliveryState) -> i64 {
    match state {
        DeliveryState::Pending => PENDING,
        DeliveryState::Succeeded => SUCCEEDED,
        DeliveryState::Failed => FAILED,
        DeliveryState::Cancelled => CANCELLED,
    }
}

/// The state of a column value.
pub(super) fn state_of(code: i64) -> Result<DeliveryState> {
    match code {
        PENDING => Ok(DeliveryState::Pending),
        SUCCEEDED => Ok(DeliveryState::Succeeded),
        FAILED => Ok(DeliveryState::Failed),
        CANCELLED => Ok(DeliveryState::Cancelled),
        other => Err(bad("delivery state", other)),
    }
}

/// A pending reason's column value.
pub(super) fn pending_code(reason: PendingReason) -> i64 {
    match reason {
        PendingReason::Queued => 0,
        PendingReason::InFlight => 1,
        PendingReason::RetryScheduled => 2,
        PendingReason::LaneFull => 3,
        PendingReason::RateLimited => 4,
        PendingReason::Paused => 5,
        PendingReason::AwaitingRevision => 6,
    }
}

/// The pending reason of a column value.
pub(super) fn pending_of(code: i64) -> Result<PendingReason> {
    PendingReason::ALL
        .iter()
        .copied()
        .find(|reason| pending_code(*reason) == code)
        .ok_or_else(|| bad("pending reason", code))
}

/// An end reason's column value.
pub(super) fn end_code(reason: EndReason) -> i64 {
    match reason {
        EndReason::AttemptsExhausted => 1,
        EndReason::Refused => 2,
        EndReason::RenderFailed => 3,
        EndReason::Expired => 4,
        EndReason::Poison => 5,
        EndReason::ByCaller => 6,
        EndReason::SubscriptionDisabled => 7,
        EndReason::SubscriptionDeleted => 8,
        EndReason::TenantDeleted => 9,
    }
}

/// The end reason of a column value.
pub(super) fn end_of(code: i64) -> Result<EndReason> {
    EndReason::ALL
        .iter()
        .copied()
        .find(|reason| end_code(*reason) == code)
        .ok_or_else(|| bad("end reason", code))
}

/// What is stored of an event beside its number, accept time, tenant and data.
#[derive(Deserialize)]
pub(super) struct Head {
    /// The given id; none: it follows from the position.
    pub id: Option<EventId>,
    pub version: u32,
    pub event_type: EventTypeId,
    pub environment: Environment,
    pub occur_time: Option<Timestamp>,
    pub min_revision: i64,
    pub traceparent: Option<String>,
}

/// [`Head`] as it is written, without copies.
#[derive(Serialize)]
struct HeadRef<'a> {
    id: Option<&'a EventId>,
    version: u32,
    event_type: &'a EventTypeId,
    environment: Environment,
    occur_time: Option<Timestamp>,
    min_revision: i64,
    traceparent: Option<&'a str>,
}

/// The head of a new event.
pub(super) fn head_of(event: &NewEvent) -> Result<Vec<u8>> {
    let head = HeadRef {
        id: event.id.as_ref(),
        version: event.version,
        event_type: &event.event_type,
        environment: event.environment,
        occur_time: event.occur_time,
        min_revision: event.min_revision,
        traceparent: event.traceparent.as_deref(),
    };
    Ok(postcard::to_extend(&head, vec![HEAD_FORMAT])?)
}

/// Reads a head; none: it cannot be read.
pub(super) fn read_head(bytes: &[u8]) -> Option<Head> {
    let (format, rest) = bytes.split_first()?;
    if *format != HEAD_FORMAT {
        return None;
    }
    postcard::from_bytes(rest).ok()
}

/// Puts an event together from what is stored of it.
pub(super) fn event(position: Position, tenant: TenantId, head: Head, data: Bytes) -> Event {
    Event {
        position,
        tenant,
        id: head.id.unwrap_or_else(|| EventId::assigned(position)),
        version: head.version,
        event_type: head.event_type,
        environment: head.environment,
        given_occur_time: head.occur_time,
        min_revision: head.min_revision,
        traceparent: head.traceparent,
        data,
    }
}

/// What must be the same for a publish to be a repeat.
pub(super) fn content_digest(event: &NewEvent) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(event.event_type.as_str());
    hash.update([0]);
    hash.update(event.environment.word());
    hash.update([0]);
    match event.occur_time {
        None => hash.update([0]),
        Some(time) => {
            hash.update([1]);
            hash.update(time.millis().to_be_bytes());
        }
    }
    hash.update(&event.data);
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash.finalize()[..16]);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_comes_back_from_its_column() {
        for state in DeliveryState::ALL {
            assert_eq!(state_of(state_code(*state)), Ok(*state));
        }
        for reason in PendingReason::ALL {
            assert_eq!(pending_of(pending_code(*reason)), Ok(*reason));
        }
        for reason in EndReason::ALL {
            assert_eq!(end_of(end_code(*reason)), Ok(*reason));
        }
        assert!(state_of(9).is_err() && pending_of(9).is_err() && end_of(0).is_err());
    }
}
