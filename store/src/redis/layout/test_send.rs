//! Test sends as they wait to be taken.

use bytes::Bytes;
use pregon_core::id::{LaneNo, Position};
use pregon_core::trace::TraceContext;
use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::entry::{self, Found};
use crate::codec::stored;
use crate::redis::engine::fault::Result;
use crate::test_send::TestSend;

/// First byte of a request: how the rest is written.
const FORMAT: u8 = 1;

/// What stands before the event's entry.
#[derive(Serialize, Deserialize)]
struct Head {
    lane: LaneNo,
    position: Position,
    min_revision: i64,
    timeout_ms: u64,
    trace: Option<String>,
}

/// A request as it is written: format, head, the event's entry.
pub fn encode(test: &TestSend) -> Result<Vec<u8>> {
    let head = Head {
        lane: test.lane,
        position: test.event.position,
        min_revision: test.min_revision,
        timeout_ms: u64::try_from(test.timeout.as_millis()).unwrap_or(u64::MAX),
        trace: test.trace.as_ref().map(TraceContext::to_text),
    };
    let mut bytes = postcard::to_extend(&head, vec![FORMAT])?;
    bytes.extend(entry::encode(&stored::as_new(&test.event))?);
    Ok(bytes)
}

/// Reads one; none: it is in a form that this release does not know.
pub fn decode(bytes: &Bytes) -> Option<TestSend> {
    let (&format, rest) = bytes.split_first()?;
    if format != FORMAT {
        return None;
    }
    let (head, entry) = postcard::take_from_bytes::<Head>(rest).ok()?;
    let entry = bytes.slice(bytes.len() - entry.len()..);
    let Found::Event(event) = entry::decode(head.position, &entry) else { return None };
    Some(TestSend {
        lane: head.lane,
        event: *event,
        min_revision: head.min_revision,
        timeout: Duration::from_millis(head.timeout_ms),
        trace: head.trace.as_deref().and_then(TraceContext::from_text),
    })
}
