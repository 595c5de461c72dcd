//! The accept loop: it never ends, and it never holds more connections than it may.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Sleep, sleep};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;

use super::conn::Conn;

/// How long to leave a listener alone that cannot accept, as when there are no file descriptors
/// left (EMFILE): asking again at once would spin, and giving up would end the server.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepted connections, for tonic.
pub(super) struct Incoming {
    tcp: TcpListener,
    places: Arc<Semaphore>,
    full: bool,
    cut: CancellationToken,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    pub(super) fn new(tcp: TcpListener, places: Arc<Semaphore>, cut: CancellationToken) -> Self {
        Self { tcp, places, full: false, cut, pause: None }
    }

    /// Gives an accepted connection a place, or closes it at once: its peer learns now that it has
    /// to go elsewhere, and those who have a place keep it.
    fn place(&mut self, tcp: TcpStream) -> Option<Conn> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            if !self.full {
                tracing::warn!("all places for connections are taken; new ones are closed");
            }
            self.full = true;
            return None;
        };
        self.full = false;
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was refused");
        }
        Some(Conn::new(tcp, place, &self.cut))
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
                Ok((tcp, _)) => {
                    if let Some(conn) = self.place(tcp) {
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
