//! The bodies of answers: whole ones, which are counted until they are taken, and streams.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};

use super::Call;
use super::unreadable::unreadable;
use crate::server::conn::Peer;
use crate::status::status;
use crate::unsent::Waiting;

/// Answers from this size on are copied to just as many bytes as they have.
const COPIED: usize = 64 * 1024;

/// What a handler answered, encoded.
#[derive(Debug, Default)]
pub(super) struct Whole {
    pub(super) data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Whole {
    /// All of a body.
    pub(super) async fn of(mut body: Body) -> Result<Self, Status> {
        let mut whole = Self::default();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            match frame?.into_data() {
                Ok(more) => whole.add(more),
                Err(frame) => whole.trailers = frame.into_trailers().ok(),
            }
        }
        // What it was encoded into may be twice as large, and what waits is counted as it is.
        whole.data = whole.data.map(|data| match data.len() {
            ..COPIED => data,
            _ => Bytes::copy_from_slice(&data),
        });
        Ok(whole)
    }

    /// One message is one frame; more than that are joined.
    fn add(&mut self, more: Bytes) {
        self.data = Some(match self.data.take() {
            None => more,
            Some(data) => {
                let mut joined = BytesMut::with_capacity(data.len() + more.len());
                joined.extend_from_slice(&data);
                joined.extend_from_slice(&more);
                joined.freeze()
            }
        });
    }

    /// Bytes of it that wait to be taken.
    pub(super) fn len(&self) -> usize {
        self.data.as_ref().map_or(0, Bytes::len)
    }
}

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let data = self.data.take().map(Frame::data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }
}

fn as_trailers(status: Status) -> HeaderMap {
    let mut headers = status.into_http::<()>().into_parts().0.headers;
    headers.remove(http::header::CONTENT_TYPE);
    headers
}

/// A stream's answer: the call is under way until it ends.
pub(super) struct StreamBody {
    inner: Body,
    call: Call,
    state: State,
    /// The transport has not asked for more since the last frame: it does when the peer has taken
    /// that, so that a reader who has stalled is found although nothing is asked of the handler.
    owed: Option<Waiting>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Ended,
}

impl StreamBody {
    /// The answer of a call whose handler has begun it.
    pub(super) fn new(inner: Body, call: Call) -> Self {
        let owed = call.peer.as_ref().map(Peer::wait);
        Self { inner, call, state: State::Open, owed }
    }

    /// Ends the stream in its handler's place.
    fn end(&mut self, status: Status) -> Frame<Bytes> {
        self.state = State::Ended;
        self.call.end_as(&status);
        Frame::trailers(as_trailers(status))
    }

    /// Passes a frame on; the last one says how the call ended.
    fn pass(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        self.owed = self.call.peer.as_ref().map(Peer::wait);
        match frame.into_trailers() {
            Err(data) => data,
            Ok(trailers) => {
                let trailers = unreadable(&trailers).map_or(trailers, as_trailers);
                self.call.end_by(&trailers);
                Frame::trailers(trailers)
            }
        }
    }
}

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.owed = None;
        if self.state == State::Ended {
            return Poll::Ready(None);
        }
        if let Some(lapse) = &mut self.call.lapse
            && let Poll::Ready(lapsed) = lapse.as_mut().poll(cx)
        {
            return Poll::Ready(Some(Ok(self.end(status(lapsed)))));
        }
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut self.inner).poll_frame(cx)));
        let Ok(polled) = polled else {
            let status = self.call.panicked();
            return Poll::Ready(Some(Ok(self.end(status))));
        };
        match polled {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(self.pass(frame)))),
            Poll::Ready(None) => {
                self.state = State::Ended;
                self.call.end(Code::Ok);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(status))) => Poll::Ready(Some(Err(status))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
