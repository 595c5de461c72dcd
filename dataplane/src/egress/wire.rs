//! The bytes below HTTP, metered.
//!
//! A receiver may send without end in places that no parser gives back: chunk sizes, trailers, TLS
//! records that carry nothing. So bytes are counted where they leave the socket, below TLS, and
//! beyond a bound reading ends with an error.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use pregon_core::limits;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::interim::InterimCount;
use super::spelled::SpelledHead;

/// Interim responses (1xx) that a receiver may send before its answer: nobody needs more, and
/// each costs a parse.
const INTERIM_RESPONSES: usize = 8;

/// Bytes that are read for one exchange, or for one handshake, framing and TLS included. 512 KiB:
/// the answer's head and the part of its body that is read fit in several times over.
const READ: usize = 512 * 1024;
const _: () = assert!(READ >= 4 * (limits::RESPONSE_HEADERS_LEN + limits::RESPONSE_READ));

/// What was seen of the exchange under way; shared by the layers that see it.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// A byte of a response came. From then on a repeat is no longer without consequence.
    heard: AtomicBool,
    /// A byte of the request left.
    sent: AtomicBool,
    /// The status of the answer, once its line is there; 0 before.
    status: AtomicU16,
    /// More came than a receiver may send.
    flooded: AtomicBool,
    /// Bytes that came, below TLS.
    came: AtomicUsize,
    /// Names of headers of the request that is to go out, as they are to be written.
    spelled: Mutex<Vec<Arc<str>>>,
    /// Whether there are any.
    spells: AtomicBool,
}

impl Meter {
    pub fn heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    pub fn sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }

    pub fn flooded(&self) -> bool {
        self.flooded.load(Ordering::Relaxed)
    }

    /// The status of the answer, once its line is there, whatever follows.
    pub fn status(&self) -> Option<u16> {
        Some(self.status.load(Ordering::Relaxed)).filter(|status| *status > 0)
    }

    /// Another exchange begins, with these names of headers that go out with capitals.
    pub fn reset(&self, spelled: &[Arc<str>]) {
        if !spelled.is_empty() {
            *self.spelled.lock().unwrap_or_else(PoisonError::into_inner) = spelled.to_vec();
            self.spells.store(true, Ordering::Relaxed);
        }
        self.heard.store(false, Ordering::Relaxed);
        self.sent.store(false, Ordering::Relaxed);
        self.status.store(0, Ordering::Relaxed);
        self.came.store(0, Ordering::Relaxed);
    }

    /// The names of the request that begins to go out; once.
    fn take_spelled(&self) -> Option<Vec<Arc<str>>> {
        if !self.spells.load(Ordering::Relaxed) {
            return None;
        }
        self.spells.store(false, Ordering::Relaxed);
        let mut spelled = self.spelled.lock().unwrap_or_else(PoisonError::into_inner);
        Some(std::mem::take(&mut *spelled))
    }

    /// Notes what a write came to. What TLS took to encrypt counts as gone.
    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(count)) if count > 0) {
            self.sent.store(true, Ordering::Relaxed);
        }
        written
    }

    fn flood(&self) -> Poll<io::Result<()>> {
        self.flooded.store(true, Ordering::Relaxed);
        Poll::Ready(Err(io::ErrorKind::InvalidData.into()))
    }
}

/// A socket whose incoming bytes are counted.
pub(super) struct Counted {
    tcp: TcpStream,
    meter: Arc<Meter>,
}

impl Counted {
    pub fn new(tcp: TcpStream, meter: Arc<Meter>) -> Self {
        Self { tcp, meter }
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.tcp).poll_read(cx, buf);
        let new = buf.filled().len() - before;
        match self.meter.came.fetch_add(new, Ordering::Relaxed) + new > READ {
            true => self.meter.flood(),
            false => read,
        }
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// The byte stream below HTTP.
pub(super) enum Stream {
    Plain(Counted),
    Tls(Box<TlsStream<Counted>>),
}

impl Stream {
    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Stream::Tls(tls) => Pin::new(tls.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Stream::Tls(tls) => Pin::new(tls.as_mut()).poll_write_vectored(cx, bufs),
        }
    }
}

/// The stream, with what it carries looked at.
pub(super) struct Wire {
    stream: Stream,
    meter: Arc<Meter>,
    interim: InterimCount,
    /// What is left of a head whose names have capitals.
    spelled: Option<SpelledHead>,
}

impl Wire {
    pub fn new(stream: Stream, meter: Arc<Meter>) -> Self {
        Self { stream, meter, interim: InterimCount::default(), spelled: None }
    }

    /// The head that begins here, if its names have capitals, or what is left of one.
    fn spelled(&mut self, bytes: &[u8]) -> Option<&mut SpelledHead> {
        if let Some(names) = self.meter.take_spelled() {
            self.spelled = SpelledHead::new(bytes, &names);
        }
        self.spelled.as_mut()
    }

    /// Writes a head with its own names, and what follows it.
    fn poll_spelled(
        &mut self,
        cx: &mut Context<'_>,
        head: &[u8],
        rest: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Some(spelled) = &mut self.spelled else { return Poll::Ready(Ok(0)) };
        let own = spelled.left(head.len());
        let mut parts = vec![io::IoSlice::new(own)];
        if own.len() == spelled.remaining() {
            parts.push(io::IoSlice::new(&head[own.len()..]));
            parts.extend(rest.iter().map(|part| io::IoSlice::new(part)));
        }
        let written = ready!(self.stream.poll_write_vectored(cx, &parts))?;
        if spelled.advance(written) {
            self.spelled = None;
        }
        Poll::Ready(Ok(written))
    }
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
            return self.meter.flood();
        }
        if let Some(status) = self.interim.status() {
            self.meter.status.store(status, Ordering::Relaxed);
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
        let written = match self.spelled(buf) {
            Some(_) => self.poll_spelled(cx, buf, &[]),
            None => self.stream.poll_write(cx, buf),
        };
        self.meter.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let (head, rest) =
            bufs.split_first().map_or((&[][..], &[][..]), |(head, rest)| (&**head, rest));
        let written = match self.spelled(head) {
            Some(_) => self.poll_spelled(cx, head, rest),
            None => self.stream.poll_write_vectored(cx, bufs),
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
