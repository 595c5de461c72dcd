//! How values of the vocabulary are written down, in every engine.
//!
//! Numbers of states and reasons are part of what is stored: they are never given anew.

use bytes::Bytes;
use pregon_core::clock::Timestamp;
use pregon_core::event::{Environment, Event, NewEvent};
use pregon_core::id::{EventId, EventTypeId, Position, TenantId};
use pregon_core::outcome::{DeliveryState, EndReason, PendingReason};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// First byte of an event's head: how the rest is written.
const HEAD_FORMAT: u8 = 1;

/// Number of a delivery that waits or is attempted.
pub(crate) const PENDING: i64 = 0;
/// Number of a delivery that was acknowledged.
pub(crate) const SUCCEEDED: i64 = 1;
/// Number of a delivery that was given up.
pub(crate) const FAILED: i64 = 2;
/// Number of a delivery that was called off.
pub(crate) const CANCELLED: i64 = 3;

/// A state's number.
pub(crate) fn state_code(state: DeliveryState) -> i64 {
    match state {
        DeliveryState::Pending => PENDING,
        DeliveryState::Succeeded => SUCCEEDED,
        DeliveryState::Failed => FAILED,
        DeliveryState::Cancelled => CANCELLED,
    }
}

/// The state of a number.
pub(crate) fn state_of(code: i64) -> Option<DeliveryState> {
    DeliveryState::ALL.iter().copied().find(|state| state_code(*state) == code)
}

/// A pending reason's number.
pub(crate) fn pending_code(reason: PendingReason) -> i64 {
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

/// The pending reason of a number.
pub(crate) fn pending_of(code: i64) -> Option<PendingReason> {
    PendingReason::ALL.iter().copied().find(|reason| pending_code(*reason) == code)
}

/// An end reason's number.
pub(crate) fn end_code(reason: EndReason) -> i64 {
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

/// The end reason of a number.
pub(crate) fn end_of(code: i64) -> Option<EndReason> {
    EndReason::ALL.iter().copied().find(|reason| end_code(*reason) == code)
}

/// What is stored of an event beside its number, accept time, tenant and data.
#[derive(Deserialize)]
pub(crate) struct Head {
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
pub(crate) fn head_of(event: &NewEvent) -> Result<Vec<u8>, postcard::Error> {
    let head = HeadRef {
        id: event.id.as_ref(),
        version: event.version,
        event_type: &event.event_type,
        environment: event.environment,
        occur_time: event.occur_time,
        min_revision: event.min_revision,
        traceparent: event.traceparent.as_deref(),
    };
    postcard::to_extend(&head, vec![HEAD_FORMAT])
}

/// Reads a head; none: it cannot be read.
pub(crate) fn read_head(bytes: &[u8]) -> Option<Head> {
    let (format, rest) = bytes.split_first()?;
    if *format != HEAD_FORMAT {
        return None;
    }
    postcard::from_bytes(rest).ok()
}

/// Puts an event together from what is stored of it.
pub(crate) fn event(position: Position, tenant: TenantId, head: Head, data: Bytes) -> Event {
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
pub(crate) fn content_digest(event: &NewEvent) -> [u8; 16] {
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
    fn every_word_comes_back_from_its_number() {
        for state in DeliveryState::ALL {
            assert_eq!(state_of(state_code(*state)), Some(*state));
        }
        for reason in PendingReason::ALL {
            assert_eq!(pending_of(pending_code(*reason)), Some(*reason));
        }
        for reason in EndReason::ALL {
            assert_eq!(end_of(end_code(*reason)), Some(*reason));
        }
        assert_eq!((state_of(9), pending_of(9), end_of(0)), (None, None, None));
    }
}
