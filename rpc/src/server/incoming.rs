//! The accept loop: it never ends, and it never holds more connections than it may.
//!
//! Who gets a place, and whose is taken for it, is decided in [`places`](super::places).

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Sleep, sleep};
use tokio_rustls::TlsAcceptor;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;

use super::conn::Conn;
use super::places::Places;

/// How long to leave a listener alone that cannot accept, as when there are no file descriptors
/// left (EMFILE): asking again at once would spin, and giving up would end the server.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepted connections, for tonic.
pub(super) struct Incoming {
    tcp: TcpListener,
    tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    places: Places,
    /// Bytes of answers, and of requests, that may wait on one connection.
    room: (usize, usize),
    full: bool,
    cut: CancellationToken,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    /// Connections of a port, as many at once as there are places; `tls` is what a new one speaks.
    pub(super) fn new(
        tcp: TcpListener,
        tls: Option<watch::Receiver<Arc<ServerConfig>>>,
        places: Places,
        room: (usize, usize),
        cut: CancellationToken,
    ) -> Self {
        Self { tcp, tls, places, room, full: false, cut, pause: None }
    }

    /// Gives an accepted connection a place, or closes it at once: its peer learns now that it has
    /// to go elsewhere, and those who are known keep theirs.
    fn place(&mut self, tcp: TcpStream, peer: SocketAddr) -> Option<Conn> {
        let Some(place) = self.places.enter(peer.ip(), &self.cut) else {
            if !self.full {
                tracing::warn!("all places for connections are taken; new ones are closed");
            }
            self.full = true;
            return None;
        };
        self.full = false;
        let acceptor = self.tls.as_ref().map(|tls| TlsAcceptor::from(Arc::clone(&tls.borrow())));
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was refused");
        }
        Some(Conn::new(tcp, acceptor, place, self.room))
    }
}

impl Stream for Incoming {
    type Item = io::Result<Conn>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match ready!(self.tcp.poll_accept(cx)) {
                Ok((tcp, peer)) => {
                    if let Some(conn) = self.place(tcp, peer) {
                        return Poll::Ready(Some(Ok(conn)));
                    }
                }
                Err(error) if of_one_connection(&error) => {
                    tracing::debug!(%error, "a connection ended before it was accepted");
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections; trying again");
                    self.pause = Some(Box::pin(sleep(PAUSE)));
                }
            }
        }
    }
}

/// Whether an error of `accept` is about the connection and not about the listener.
fn of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_connections_own_fault_goes_without_a_pause() {
        let emfile = 24;
        assert!(!of_one_connection(&io::Error::from_raw_os_error(emfile)));
        assert!(of_one_connection(&io::ErrorKind::ConnectionAborted.into()));
    }
}
