//! What fuzz targets read of stored bytes, and what is written of it again.

use std::sync::Arc;

use bytes::Bytes;
use pregon_core::id::{Position, TenantId};

use crate::batch::Token;
use crate::codec::test_reply::TestReply;
use crate::codec::{packed, stored};
use crate::redis;

/// Every kind of value that [`written_again`] knows: first those of both engines, then those of Redis.
pub const KINDS: &[&str] = &[
    "head",
    "chunk",
    "test reply",
    "entry",
    "test send",
    "change",
    "row",
    "record",
    "shut",
    "errors",
    "answered",
    "stamped",
    "remembered",
    "id",
    "held",
    "member",
    "bits",
    "piece",
    "ended",
    "piece name",
    "use",
    "leads",
    "late",
    "ends",
    "ends of a run",
];

/// What is written of a value that was read; none: it is no such value, or of no such kind.
pub fn written_again(kind: &str, stored: &[u8]) -> Option<Vec<u8>> {
    match kind {
        "head" => {
            let head = stored::read_head(stored)?;
            let tenant = TenantId::parse("acme").ok()?;
            let position = Position { ms: 0, partition: 0, n: 1 };
            let event = stored::event(position, tenant, head, Bytes::new());
            stored::head_of(&stored::as_new(&event)).ok()
        }
        "chunk" => {
            let records = packed::unpack(stored, []).ok()?;
            let token = Token { incarnation: 0, sequence: 0 };
            let records: Vec<_> =
                records.into_iter().map(|record| (token, Arc::new(record))).collect();
            let chunks = packed::pack(&records).ok()?;
            // As many as fit into one; of a chunk with more, the first ones.
            chunks.into_iter().next().map(|chunk| chunk.data)
        }
        "test reply" => TestReply::decode(stored).map(|reply| reply.encode()),
        kind => redis::written_again(kind, stored),
    }
}
