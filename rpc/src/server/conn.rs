//! One accepted connection: a place among the connections, a time within which the peer must begin
//! to speak, and a way to end it from outside.
//!
//! tonic hands each connection to a task of its own and lets go of it; so what must end a
//! connection has to be within its I/O.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// How long a peer may take to open HTTP/2. From then on, keepalive pings find out a dead one;
/// before, nothing would, and silent connections could hold all places.
pub(super) const HELLO_TIME: Duration = Duration::from_secs(10);

/// The client's preface (RFC 9113 section 3.4) and the head of the SETTINGS frame that follows.
const HELLO_LEN: usize = 24 + 9;

/// A TCP connection within bounds.
pub(super) struct Conn {
    tcp: TcpStream,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    hello: Option<Hello>,
    _place: OwnedSemaphorePermit,
}

struct Hello {
    missing: usize,
    timer: Pin<Box<Sleep>>,
}

impl Conn {
    pub(super) fn new(
        tcp: TcpStream,
        place: OwnedSemaphorePermit,
        cut: &CancellationToken,
    ) -> Self {
        Self {
            tcp,
            // A token of its own: connections do not wake through one shared lock.
            cut: Box::pin(cut.child_token().cancelled_owned()),
            hello: Some(Hello { missing: HELLO_LEN, timer: Box::pin(sleep(HELLO_TIME)) }),
            _place: place,
        }
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
        self.tcp.connect_info()
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        // Bytes first: the ends are asked for only when there is nothing to do.
        match Pin::new(&mut this.tcp).poll_read(cx, buf) {
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
