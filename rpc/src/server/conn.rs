//! One accepted connection: a place among the connections, a time within which the peer must begin
//! to speak, and a way to end it from outside.
//!
//! tonic hands each connection to a task of its own and lets go of it; so what must end a
//! connection has to be within its I/O. So is the TLS handshake: it goes on as the connection's
//! task reads and writes, and a peer that fails in it or takes its time costs nobody else anything.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// How long a peer may take to open HTTP/2, its TLS handshake included. From then on, keepalive pings find out a dead one;
/// before, nothing would, and silent connections could hold all places.
pub(super) const HELLO_TIME: Duration = Duration::from_secs(10);

/// The client's preface (RFC 9113 section 3.4) and the head of the SETTINGS frame that follows.
const HELLO_LEN: usize = 24 + 9;

/// A connection within bounds.
pub(super) struct Conn {
    io: Io,
    info: TcpConnectInfo,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    hello: Option<Hello>,
    _place: OwnedSemaphorePermit,
}

/// How a connection comes to speak TLS: one of the turns that handshakes have.
pub(super) struct Opening {
    pub(super) acceptor: TlsAcceptor,
    pub(super) turn: OwnedSemaphorePermit,
}

enum Io {
    Plain(TcpStream),
    Handshake {
        accept: Box<Accept<TcpStream>>,
        _turn: OwnedSemaphorePermit,
    },
    Tls(Box<TlsStream<TcpStream>>),
    /// The handshake failed.
    Closed,
}

struct Hello {
    missing: usize,
    timer: Pin<Box<Sleep>>,
}

impl Conn {
    /// A connection in its place; it begins with a handshake if it has an opening.
    pub(super) fn new(
        tcp: TcpStream,
        opening: Option<Opening>,
        place: OwnedSemaphorePermit,
        cut: &CancellationToken,
    ) -> Self {
        let info = tcp.connect_info();
        let io = match opening {
            None => Io::Plain(tcp),
            Some(Opening { acceptor, turn }) => {
                Io::Handshake { accept: Box::new(acceptor.accept(tcp)), _turn: turn }
            }
        };
        Self {
            io,
            info,
            // A token of its own: connections do not wake through one shared lock.
            cut: Box::pin(cut.child_token().cancelled_owned()),
            hello: Some(Hello { missing: HELLO_LEN, timer: Box::pin(sleep(HELLO_TIME)) }),
            _place: place,
        }
    }

    /// Goes on with the handshake, if it is not over yet; then there are bytes to exchange.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Io::Handshake { accept, .. } = &mut self.io else { return Poll::Ready(Ok(())) };
        let ended = match Pin::new(accept).poll(cx) {
            Poll::Ready(Ok(tls)) => {
                self.io = Io::Tls(Box::new(tls));
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Err(error)) => error,
            Poll::Pending => ready!(self.poll_end(cx)),
        };
        tracing::debug!(peer = ?self.info.remote_addr(), error = %ended, "a TLS handshake failed");
        self.io = Io::Closed;
        Poll::Ready(Err(ended))
    }

    /// Whether the connection has to end although the peer neither spoke nor left.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(io::Error::new(io::ErrorKind::ConnectionAborted, "cut"));
        }
        if let Some(hello) = &mut self.hello
            && hello.timer.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the peer said nothing"));
        }
        Poll::Pending
    }

    fn heard(&mut self, bytes: usize) {
        if let Some(hello) = &mut self.hello {
            hello.missing = hello.missing.saturating_sub(bytes);
            if hello.missing == 0 {
                self.hello = None;
            }
        }
    }
}

impl Connected for Conn {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.info.clone()
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_open(cx))?;
        let before = buf.filled().len();
        let read = match &mut this.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Io::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
            Io::Handshake { .. } | Io::Closed => return Poll::Ready(Err(closed())),
        };
        // Bytes first: the ends are asked for only when there is nothing to do.
        match read {
            Poll::Ready(read) => {
                this.heard(buf.filled().len() - before);
                Poll::Ready(read)
            }
            Poll::Pending => this.poll_end(cx).map(Err),
        }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?;
        match &mut self.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Io::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
            Io::Handshake { .. } | Io::Closed => Poll::Ready(Err(closed())),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?;
        match &mut self.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Io::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
            Io::Handshake { .. } | Io::Closed => Poll::Ready(Err(closed())),
        }
    }

    /// Both kinds take many slices; asked once, when a handshake may not be over.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?;
        match &mut self.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Io::Tls(tls) => Pin::new(tls).poll_flush(cx),
            Io::Handshake { .. } | Io::Closed => Poll::Ready(Err(closed())),
        }
    }

    /// Who is in a handshake is not waited for.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Io::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
            Io::Handshake { .. } | Io::Closed => Poll::Ready(Ok(())),
        }
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the handshake failed")
}
