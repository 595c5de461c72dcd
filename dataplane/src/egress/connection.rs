//! One HTTP/1.1 connection, driven by whoever sends over it.
//!
//! hyper's connection is a future that must be polled while a request is under way. The usual way
//! is a task per connection; every request then costs two task switches and, on several threads,
//! often a wake-up of another core. Here the request's own future polls the connection: it is the
//! only one who waits for it, since HTTP/1.1 carries one request at a time. An idle connection is
//! polled by nobody; the pool looks at it when it takes it out and when it sweeps.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use pregon_core::limits;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop::unconstrained;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use super::interim::InterimCount;

/// Interim responses (1xx) that a receiver may send before its answer: nobody needs more, and
/// each costs a parse.
const INTERIM_RESPONSES: usize = 8;

// More lines than hyper's own limit, which is on the stack, would have to be configured there.
const _: () = assert!(limits::RESPONSE_HEADERS <= 100);

/// The byte stream below HTTP.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What the stream saw of the exchange under way; shared with whoever drives the connection.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// A byte of a response came. From then on a repeat is no longer without consequence.
    heard: AtomicBool,
    /// A byte of the request left.
    sent: AtomicBool,
    /// More interim responses came than a receiver may send.
    flooded: AtomicBool,
}

impl Meter {
    pub fn heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    pub fn sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }

    /// Another exchange begins.
    fn reset(&self) {
        self.heard.store(false, Ordering::Relaxed);
        self.sent.store(false, Ordering::Relaxed);
    }

    /// Notes what a write came to. What TLS took to encrypt counts as gone.
    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(count)) if count > 0) {
            self.sent.store(true, Ordering::Relaxed);
        }
        written
    }

    pub fn flooded(&self) -> bool {
        self.flooded.load(Ordering::Relaxed)
    }
}

/// The stream, metered.
struct Wire {
    stream: Stream,
    meter: Arc<Meter>,
    interim: InterimCount,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Stream::Tls(tls) => Pin::new(tls.as_mut()).poll_read(cx, buf),
        };
        let new = &buf.filled()[before..];
        if new.is_empty() {
            return read;
        }
        if !self.meter.heard() {
            self.meter.heard.store(true, Ordering::Relaxed);
            self.interim = InterimCount::default();
        }
        if self.interim.add(new) > INTERIM_RESPONSES {
            self.meter.flooded.store(true, Ordering::Relaxed);
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Stream::Tls(tls) => Pin::new(tls.as_mut()).poll_write(cx, buf),
        };
        self.meter.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Stream::Tls(tls) => Pin::new(tls.as_mut()).poll_write_vectored(cx, bufs),
        };
        self.meter.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(tcp) => tcp.is_write_vectored(),
            Stream::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(cx),
        }
    }
}

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
    /// The policy under which it was opened.
    pub generation: u64,
    _slot: OpenSlot,
}

impl Connection {
    /// Puts HTTP/1.1 on a stream.
    pub async fn open(
        stream: Stream,
        remote: SocketAddr,
        generation: u64,
        slot: OpenSlot,
    ) -> Result<Box<Self>, hyper::Error> {
        let meter = Arc::new(Meter::default());
        let wire = Wire { stream, meter: Arc::clone(&meter), interim: InterimCount::default() };
        let (sender, driver) = http1::Builder::new()
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
            generation,
            _slot: slot,
        }))
    }

    /// What was seen of the exchange under way.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Sends one request and waits for the response's head.
    pub async fn send(
        &mut self,
        message: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        self.meter.reset();
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
