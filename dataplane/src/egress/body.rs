//! The bounded read of a body that somebody else sends.
//!
//! A receiver is a stranger: its body may be of any length, or have no end. Nothing here holds
//! more than the kept part; the rest is counted and dropped as it comes.

use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use hyper::body::Body;

/// How the read came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// The body's own end.
    Complete,
    /// There was more than may be read: whoever sends this is not worth a connection.
    TooLong,
    /// It broke off.
    Failed,
}

/// What was read.
#[derive(Debug)]
pub struct BodyRead {
    /// The first bytes.
    pub kept: Bytes,
    /// There was more than is kept, or it broke off.
    pub truncated: bool,
    /// How it ended.
    pub end: BodyEnd,
}

/// Reads up to `limit` bytes of a body and keeps the first `keep` of them. A body in one piece,
/// as nearly all are, is not copied. The time limit is the caller's.
pub async fn read_body<B>(mut body: Pin<&mut B>, limit: usize, keep: usize) -> BodyRead
where
    B: Body<Data = Bytes>,
{
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    let mut seen = 0usize;
    let end = loop {
        if body.is_end_stream() {
            break BodyEnd::Complete;
        }
        let frame = match std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            None => break BodyEnd::Complete,
            Some(Err(_)) => break BodyEnd::Failed,
            Some(Ok(frame)) => frame,
        };
        let Ok(mut data) = frame.into_data() else { continue }; // trailers: nobody asked
        let room = keep.saturating_sub(seen);
        seen = seen.saturating_add(data.len());
        if seen > limit {
            data.truncate(room);
            append(&mut first, &mut more, data);
            break BodyEnd::TooLong;
        }
        data.truncate(room);
        append(&mut first, &mut more, data);
    };
    let kept = if more.is_empty() { first } else { more.freeze() };
    BodyRead { truncated: seen > kept.len() || end == BodyEnd::Failed, kept, end }
}

fn append(first: &mut Bytes, more: &mut BytesMut, data: Bytes) {
    if data.is_empty() {
        return;
    }
    if first.is_empty() && more.is_empty() {
        *first = data;
        return;
    }
    if more.is_empty() {
        more.extend_from_slice(first);
    }
    more.extend_from_slice(&data);
}
