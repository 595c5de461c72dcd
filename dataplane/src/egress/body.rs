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

/// What was read of a body, up to now. Whoever gives up on the rest still has it.
#[derive(Debug)]
pub struct BodyRead {
    most: usize,
    first: Bytes,
    more: BytesMut,
    seen: usize,
}

impl BodyRead {
    /// Nothing yet; the first `most` bytes are kept.
    pub fn new(most: usize) -> Self {
        Self { most, first: Bytes::new(), more: BytesMut::new(), seen: 0 }
    }

    /// There was more than is kept.
    pub fn is_longer(&self) -> bool {
        self.seen > self.most
    }

    /// The first bytes.
    pub fn into_kept(self) -> Bytes {
        if self.more.is_empty() { self.first } else { self.more.freeze() }
    }

    fn add(&mut self, mut data: Bytes) {
        let room = self.most.saturating_sub(self.seen);
        self.seen = self.seen.saturating_add(data.len());
        data.truncate(room);
        if data.is_empty() {
            return;
        }
        if self.first.is_empty() && self.more.is_empty() {
            self.first = data;
            return;
        }
        if self.more.is_empty() {
            self.more.extend_from_slice(&self.first);
        }
        self.more.extend_from_slice(&data);
    }
}

/// Reads up to `limit` bytes of a body. A body in one piece, as nearly all are, is not copied. The
/// time limit is the caller's.
pub async fn read_body<B>(mut body: Pin<&mut B>, limit: usize, read: &mut BodyRead) -> BodyEnd
where
    B: Body<Data = Bytes>,
{
    loop {
        if body.is_end_stream() {
            return BodyEnd::Complete;
        }
        let frame = match std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            None => return BodyEnd::Complete,
            Some(Err(_)) => return BodyEnd::Failed,
            Some(Ok(frame)) => frame,
        };
        let Ok(data) = frame.into_data() else { continue }; // trailers: nobody asked
        read.add(data);
        if read.seen > limit {
            return BodyEnd::TooLong;
        }
    }
}
