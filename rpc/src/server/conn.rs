//! One accepted connection: a place among the connections, a time within which the peer must begin
//! to speak, room for answers that it has not taken yet and a time within which it must take them,
//! and a way to end it from outside.
//!
//! tonic hands each connection to a task of its own and lets go of it; so what must end a
//! connection has to be within its I/O. So is the TLS handshake: it goes on as the connection's
//! task reads and writes, and a peer that fails in it or takes its time costs nobody else anything.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use super::places::Place;
use crate::unsent::{Answers, Room, TURN, Waiting};

/// How long a peer may take to open HTTP/2, its TLS handshake included. From then on, keepalive
/// pings find out a dead one; before, nothing would.
pub(super) const HELLO_TIME: Duration = Duration::from_secs(10);

/// The client's preface (RFC 9113 section 3.4) and the head of the SETTINGS frame that follows.
const HELLO_LEN: usize = 24 + 9;

/// Probes at once on one connection: they are answered at once, whatever else goes on.
const PROBES: usize = 8;

/// A connection within bounds.
pub(super) struct Conn {
    io: Io,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    hello: Option<Hello>,
    turn: Pin<Box<Sleep>>,
    gathering: Gathering,
    place: Arc<Place>,
    peer: Peer,
}

/// What calls share that come by one connection. It travels with each of them.
#[derive(Clone, Debug)]
pub(crate) struct Peer(Arc<State>);

#[derive(Debug)]
struct State {
    /// Where it comes from, as far as the system says.
    addr: Option<SocketAddr>,
    /// Gone with the connection, whoever still holds a call of it.
    place: Weak<Place>,
    known: AtomicBool,
    room: Room,
    arriving: Room,
    answers: Arc<Answers>,
    probes: Arc<Semaphore>,
    /// Calls without an answer.
    calls: AtomicUsize,
}

/// A call without an answer, as its connection counts it.
#[derive(Debug)]
pub(crate) struct UnderWay(Peer);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Peer {
    fn new(
        addr: Option<SocketAddr>,
        place: &Arc<Place>,
        (unsent, arriving): (usize, usize),
    ) -> Self {
        Self(Arc::new(State {
            addr,
            place: Arc::downgrade(place),
            known: AtomicBool::new(false),
            room: Room::new(unsent),
            arriving: Room::new(arriving),
            answers: Arc::default(),
            probes: Arc::new(Semaphore::new(PROBES)),
            calls: AtomicUsize::new(0),
        }))
    }

    /// The other end.
    pub(crate) fn addr(&self) -> Option<SocketAddr> {
        self.0.addr
    }

    /// A call on the connection has shown a valid credential of this name, which may have one part
    /// in so many of all connections.
    pub(crate) fn know(&self, actor: &Arc<str>, part: usize) {
        if !self.0.known.load(Ordering::Relaxed)
            && let Some(place) = self.0.place.upgrade()
            && place.know(actor, part)
        {
            self.0.known.store(true, Ordering::Relaxed);
        }
    }

    /// One more call on this connection.
    pub(crate) fn begin(&self) -> UnderWay {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        UnderWay(self.clone())
    }

    /// Whether calls on this connection have no answer yet.
    fn is_busy(&self) -> bool {
        self.0.calls.load(Ordering::Relaxed) > 0
    }

    /// One more probe on this connection; none where it has as many as it may.
    pub(crate) fn probe(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.probes).try_acquire_owned().ok()
    }

    /// Room for answers that the connection's peer has not taken yet.
    pub(crate) fn room(&self) -> &Room {
        &self.0.room
    }

    /// Room for messages that the connection's peer has begun.
    pub(crate) fn arriving(&self) -> &Room {
        &self.0.arriving
    }

    /// An answer is there for the peer to take.
    pub(crate) fn wait(&self) -> Waiting {
        self.0.answers.wait()
    }
}

enum Io {
    Plain(TcpStream),
    Handshake(Box<Accept<TcpStream>>),
    Tls(Box<TlsStream<TcpStream>>),
    /// The handshake failed.
    Closed,
}

/// Whether what is to be written has waited for company.
#[derive(Debug, Default)]
struct Gathering {
    done: bool,
}

impl Gathering {
    /// Has the connection's task step back once, behind all tasks that are ready, where more answers
    /// may come: those that are made just now leave in one write. Nothing waits for one that is not
    /// being made.
    fn poll(&mut self, more: bool, cx: &mut Context<'_>) -> Poll<()> {
        if self.done || !more {
            return Poll::Ready(());
        }
        self.done = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

struct Hello {
    missing: usize,
    timer: Pin<Box<Sleep>>,
}

impl Conn {
    /// A connection in its place; it begins with a handshake if there is who accepts one. `room` is
    /// how many bytes of answers may wait for its peer, and of requests for their end.
    pub(super) fn new(
        tcp: TcpStream,
        acceptor: Option<TlsAcceptor>,
        place: Place,
        room: (usize, usize),
    ) -> Self {
        let addr = tcp.peer_addr().ok();
        let io = match acceptor {
            None => Io::Plain(tcp),
            Some(acceptor) => Io::Handshake(Box::new(acceptor.accept(tcp))),
        };
        let place = Arc::new(place);
        Self {
            io,
            // A token of its own: connections do not wake through one shared lock.
            cut: Box::pin(place.end().clone().cancelled_owned()),
            hello: Some(Hello { missing: HELLO_LEN, timer: Box::pin(sleep(HELLO_TIME)) }),
            turn: Box::pin(sleep(TURN)),
            gathering: Gathering::default(),
            peer: Peer::new(addr, &place, room),
            place,
        }
    }

    /// Goes on with the handshake, if it is not over yet; then there are bytes to exchange.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Io::Handshake(accept) = &mut self.io else { return Poll::Ready(Ok(())) };
        let ended = match Pin::new(accept).poll(cx) {
            Poll::Ready(Ok(tls)) => {
                self.io = Io::Tls(Box::new(tls));
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Err(error)) => error,
            Poll::Pending => ready!(self.poll_end(cx)),
        };
        tracing::debug!(peer = %self.place.peer(), error = %ended, "a TLS handshake failed");
        self.io = Io::Closed;
        Poll::Ready(Err(ended))
    }

    /// Whether the connection has to end although the peer did nothing, or because of that.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(io::Error::new(io::ErrorKind::ConnectionAborted, "cut"));
        }
        if let Some(hello) = &mut self.hello
            && hello.timer.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the peer said nothing"));
        }
        while self.turn.as_mut().poll(cx).is_ready() {
            if self.peer.0.answers.turn() {
                let error = io::Error::new(io::ErrorKind::TimedOut, "the peer takes no answer");
                return Poll::Ready(error);
            }
            self.turn.as_mut().reset(Instant::now() + TURN);
        }
        Poll::Pending
    }

    fn poll_gathered(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.gathering.poll(self.peer.is_busy(), cx)
    }

    fn heard(&mut self, bytes: usize) {
        if let Some(hello) = &mut self.hello {
            hello.missing = hello.missing.saturating_sub(bytes);
            if hello.missing == 0 {
                self.hello = None;
                self.place.spoke();
            }
        }
    }
}

impl Connected for Conn {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
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
            Io::Handshake(_) | Io::Closed => return Poll::Ready(Err(closed())),
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
        ready!(self.poll_gathered(cx));
        match &mut self.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Io::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
            Io::Handshake(_) | Io::Closed => Poll::Ready(Err(closed())),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?;
        ready!(self.poll_gathered(cx));
        match &mut self.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Io::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
            Io::Handshake(_) | Io::Closed => Poll::Ready(Err(closed())),
        }
    }

    /// Both kinds take many slices; asked once, when a handshake may not be over.
    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Asked for when all is written: what comes next gathers anew.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?;
        self.gathering = Gathering::default();
        match &mut self.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Io::Tls(tls) => Pin::new(tls).poll_flush(cx),
            Io::Handshake(_) | Io::Closed => Poll::Ready(Err(closed())),
        }
    }

    /// Who is in a handshake is not waited for.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Io::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
            Io::Handshake(_) | Io::Closed => Poll::Ready(Ok(())),
        }
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the handshake failed")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::task::{Wake, Waker};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_write_steps_back_once_where_more_may_come() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let mut gathering = Gathering::default();
        assert!(gathering.poll(false, &mut cx).is_ready(), "nobody else is there");
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        assert!(gathering.poll(true, &mut cx).is_pending());
        assert_eq!(woken.0.load(Ordering::Relaxed), 1, "it is asked again in any case");
        assert!(gathering.poll(true, &mut cx).is_ready());
        assert!(gathering.poll(true, &mut cx).is_ready(), "until all is written");
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    }
}
