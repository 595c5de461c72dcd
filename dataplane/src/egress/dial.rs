//! What comes of a connect, in words.

use std::io;

use pregon_core::outcome::ErrorClass;
use tokio::net::TcpStream;

use super::fault::Fault;

/// A connection, fit for requests; or what went wrong with it.
pub(super) fn connect(made: io::Result<TcpStream>) -> Result<TcpStream, Fault> {
    let connect = |why| Fault::new(ErrorClass::Connect, why);
    match made {
        Err(error) if is_local(&error) => Err(local()),
        Err(error) => Err(connect(connect_words(error.kind()))),
        // A request is written in one piece, so waiting to fill a packet only costs time.
        Ok(tcp) => match tcp.set_nodelay(true) {
            Ok(()) => Ok(tcp),
            Err(_) => Err(connect("the connection broke at once")),
        },
    }
}

#[allow(clippy::wildcard_enum_match_arm)] // a foreign vocabulary, open at its end
pub(super) fn connect_words(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset => "connection reset",
        io::ErrorKind::HostUnreachable => "host unreachable",
        io::ErrorKind::NetworkUnreachable => "network unreachable",
        io::ErrorKind::TimedOut => "the connection was not answered in time",
        io::ErrorKind::PermissionDenied => "the machine's firewall forbids the connection",
        _ => "the connection failed",
    }
}

/// The fault of a node that has run out of something.
pub(super) fn local() -> Fault {
    Fault::new(ErrorClass::Local, "the node is out of descriptors, ports or memory")
}

/// Whether an error is the node's own: it says nothing about the receiver.
pub(super) fn is_local(error: &io::Error) -> bool {
    // Numbers as on Linux; the first two are the same on every Unix.
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE | ENOBUFS))
        || matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_node_runs_out_of_is_its_own_fault() {
        let error = io::Error::from_raw_os_error;
        const EADDRNOTAVAIL: i32 = 99;
        const ECONNREFUSED: i32 = 111;
        for number in [23, 24, 105, EADDRNOTAVAIL] {
            assert!(is_local(&error(number)), "{number}");
        }
        assert!(!is_local(&error(ECONNREFUSED)));
    }
}
