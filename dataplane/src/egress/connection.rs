//! One HTTP/1.1 connection, driven by whoever sends over it.
//!
//! hyper's connection is a future that must be polled while a request is under way. The usual way
//! is a task per connection; every request then costs two task switches and, on several threads,
//! often a wake-up of another core. Here the request's own future polls the connection: it is the
//! only one who waits for it, since HTTP/1.1 carries one request at a time. An idle connection is
//! polled by nobody; the pool looks at it when it takes it out and when it sweeps.

use std::fmt;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use pregon_core::limits;
use tokio::task::coop::unconstrained;
use tokio::time::Instant;

use super::wire::{Meter, Stream, Wire};

// hyper's own limit, for which it has room on the stack; another would have to be configured.
const _: () = assert!(limits::RESPONSE_HEADERS == 100);

/// A place among the connections that may be open at once; given back when dropped.
#[derive(Debug)]
pub(super) struct OpenSlot(Arc<AtomicUsize>);

impl OpenSlot {
    /// Takes a place, unless `most` are taken.
    pub fn take(open: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        open.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < most).then_some(n + 1))
            .is_ok()
            .then(|| Self(Arc::clone(open)))
    }
}

impl Drop for OpenSlot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

type Driver = http1::Connection<TokioIo<Wire>, Full<Bytes>>;

/// Under what a connection was opened: where that has changed, it is not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Under {
    /// Which policy of the deployment.
    pub generation: u64,
    /// Which telling of the tenant.
    pub tenant: u64,
}

/// An open connection.
pub(super) struct Connection {
    /// None once hyper is done with it. It must be dropped then, not kept: its end cancels a
    /// request that was handed over and never picked up.
    driver: Option<Driver>,
    sender: http1::SendRequest<Full<Bytes>>,
    meter: Arc<Meter>,
    /// The address that it was opened to.
    pub remote: SocketAddr,
    /// When it was opened.
    pub born: Instant,
    /// When it was put into the pool last.
    pub idle_since: Instant,
    /// Under what it was opened.
    pub under: Under,
    _slot: OpenSlot,
}

impl Connection {
    /// Puts HTTP/1.1 on a stream. Crooked header lines are taken as HTTP clients commonly take
    /// them: a space before the colon and a folded line are read, a line that is none is left out.
    pub async fn open(
        stream: Stream,
        meter: Arc<Meter>,
        remote: SocketAddr,
        under: Under,
        slot: OpenSlot,
    ) -> Result<Box<Self>, hyper::Error> {
        let wire = Wire::new(stream, Arc::clone(&meter));
        let (sender, driver) = http1::Builder::new()
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .ignore_invalid_headers_in_responses(true)
            .max_buf_size(limits::RESPONSE_HEADERS_LEN)
            .max_header_size(limits::RESPONSE_HEADERS_LEN)
            .handshake(TokioIo::new(wire))
            .await?;
        let now = Instant::now();
        Ok(Box::new(Self {
            driver: Some(driver),
            sender,
            meter,
            remote,
            born: now,
            idle_since: now,
            under,
            _slot: slot,
        }))
    }

    /// What was seen of the exchange under way.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Sends one request and waits for the response's head. `spelled` are the names of headers that
    /// go out with capitals.
    pub async fn send(
        &mut self,
        message: Request<Full<Bytes>>,
        spelled: &[Arc<str>],
    ) -> Result<Response<Incoming>, hyper::Error> {
        self.meter.reset(spelled);
        let answer = self.sender.send_request(message);
        drive(&mut self.driver, answer).await
    }

    /// Waits for something that only this connection can bring about, such as the end of the
    /// response's body.
    pub async fn drive<F: Future>(&mut self, what: F) -> F::Output {
        drive(&mut self.driver, what).await
    }

    /// Whether the exchange is over and left the connection fit for another.
    pub fn is_reusable(&mut self) -> bool {
        self.driver.is_some() && (self.sender.is_ready() || self.is_alive())
    }

    /// Whether it can carry a request now: the receiver has neither closed it nor sent anything
    /// that nobody asked for. Looks at the socket, and does not wait. That also unhooks the task
    /// that drove it last, which would else be kept in memory for its sake.
    pub fn is_alive(&mut self) -> bool {
        let mut look = pin!(unconstrained(std::future::poll_fn(|cx| {
            poll_driver(&mut self.driver, cx);
            Poll::Ready(self.driver.is_some() && self.sender.is_ready())
        })));
        look.as_mut().poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(true)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("remote", &self.remote).finish_non_exhaustive()
    }
}

fn poll_driver(driver: &mut Option<Driver>, cx: &mut Context<'_>) {
    let Some(connection) = driver else { return };
    if Pin::new(connection).poll(cx).is_ready() {
        *driver = None; // an error has reached the request that it concerns
    }
}

/// Polls the connection and what waits for it, together. What waits is polled before, since it may
/// want something of the connection, and after, since the connection's progress may be the very
/// thing. It needs no waker of its own: it moves when the connection does. With one, each step
/// would wake the task that is about to look at it anyway. For the same reason it has no part in
/// tokio's budget, whose end is told to a waker; the connection's reads and writes have.
async fn drive<F: Future>(driver: &mut Option<Driver>, what: F) -> F::Output {
    let mut what = pin!(unconstrained(what));
    std::future::poll_fn(move |cx| {
        let mut unheard = Context::from_waker(Waker::noop());
        if let Poll::Ready(done) = what.as_mut().poll(&mut unheard) {
            return Poll::Ready(done);
        }
        poll_driver(driver, cx);
        what.as_mut().poll(&mut unheard)
    })
    .await
}
