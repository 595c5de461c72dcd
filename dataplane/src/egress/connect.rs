//! A new connection: resolve, judge, connect, handshake.
//!
//! The address that was judged is the one connected to (I7): a name is turned into addresses
//! once, the forbidden ones are dropped from that answer, and the rest is dialled as it stands.
//! The same answer says whether a connection that is kept still leads to the receiver.
//! There is no second lookup anywhere below, nor a proxy that would make one. Literal addresses
//! take the same way.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use pregon_core::outcome::ErrorClass;
use pregon_core::url::Scheme;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::connection::{Connection, OpenSlot};
use super::exchange::{Progress, Stage, micros};
use super::fault::Fault;
use super::names::Unresolved;
use super::target::{Host, PoolKey};
use super::wire::{Counted, Meter, Stream};
use super::{Inner, Policy, tls};

/// Addresses of one answer that are tried, one after the other.
const ADDRESSES_TRIED: usize = 4;

impl Inner {
    /// What is known of the receiver's addresses. Whether they may be connected to is not asked
    /// here: the policy may have changed by the time that somebody connects.
    pub(super) async fn resolve(
        &self,
        key: &PoolKey,
        progress: &mut Progress,
    ) -> Result<Known, Fault> {
        let name = match &key.host {
            Host::Address(address) => return Ok(Known::Address(*address)),
            Host::Name(name) => name,
        };
        let answer = match self.names.known(name) {
            Some(answer) => answer,
            None => {
                progress.stage = Stage::Resolve;
                let begin = Instant::now();
                let answer = self.names.get(&key.tenant, name).await;
                progress.timing.dns = micros(begin.elapsed());
                answer
            }
        };
        match answer {
            Ok(addresses) => Ok(Known::Answer(addresses)),
            Err(why) if why.gone => Err(dns(why)),
            Err(why) => Ok(Known::Nothing(why)),
        }
    }

    /// Opens a connection to one of the addresses; with TLS if there is a name to be verified.
    pub(super) async fn connect(
        &self,
        key: &PoolKey,
        found: &[IpAddr],
        server_name: Option<&ServerName<'static>>,
        progress: &mut Progress,
    ) -> Result<Box<Connection>, Fault> {
        let (policy, generation) = self.policy();
        policy.scheme(key.scheme)?;
        let addresses = policy.permitted(found)?;
        let slot = self.slot()?;
        let (tcp, remote) = match self.dial(&addresses, key.port, progress).await {
            Ok(connected) => connected,
            Err(fault) => {
                if let Host::Name(name) = &key.host {
                    self.names.forget(name);
                }
                return Err(fault);
            }
        };
        let meter = Arc::new(Meter::default());
        let tcp = Counted::new(tcp, Arc::clone(&meter));
        let stream = match server_name {
            None => Stream::Plain(tcp),
            Some(name) => self.handshake(name.clone(), tcp, &meter, progress).await?,
        };
        Connection::open(stream, meter, remote, generation, slot)
            .await
            .map_err(|_| Fault::new(ErrorClass::Protocol, "the connection could not be used"))
    }

    /// A place among the open connections; an idle connection makes room if it must.
    fn slot(&self) -> Result<OpenSlot, Fault> {
        let most = self.limits.open;
        OpenSlot::take(&self.open, most)
            .or_else(|| self.pool.evict().then(|| OpenSlot::take(&self.open, most)).flatten())
            .ok_or_else(|| Fault::new(ErrorClass::Local, "too many connections are open"))
    }

    /// Connects to the first address that answers. All tries share one limit: each gets an equal
    /// part of what is left, so that a dead first address does not use up the second's time.
    async fn dial(
        &self,
        addresses: &[IpAddr],
        port: u16,
        progress: &mut Progress,
    ) -> Result<(TcpStream, SocketAddr), Fault> {
        progress.stage = Stage::Connect;
        let begin = Instant::now();
        let mut fault = Fault::new(ErrorClass::Connect, "no address to connect to");
        for (tried, address) in addresses.iter().enumerate() {
            let remote = SocketAddr::new(*address, port);
            progress.remote = Some(remote);
            let left = self.limits.connect.saturating_sub(begin.elapsed());
            let share = left / u32::try_from(addresses.len() - tried).unwrap_or(1);
            let dialled = dial_one(remote, share).await;
            progress.timing.connect = micros(begin.elapsed());
            match dialled {
                Ok(tcp) => return Ok((tcp, remote)),
                Err(why) if why.class == ErrorClass::Local => return Err(why),
                Err(why) => fault = why,
            }
        }
        Err(fault)
    }

    async fn handshake(
        &self,
        name: ServerName<'static>,
        tcp: Counted,
        meter: &Meter,
        progress: &mut Progress,
    ) -> Result<Stream, Fault> {
        progress.stage = Stage::Handshake;
        let begin = Instant::now();
        let shake = self.tls.connect(name, tcp);
        let done = timeout(self.limits.tls, shake).await;
        progress.timing.tls = micros(begin.elapsed());
        match done {
            Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
            Ok(Err(_)) if meter.flooded() => {
                Err(Fault::new(ErrorClass::Tls, "the handshake has no end"))
            }
            Ok(Err(error)) => {
                let why = tls::detail(&error);
                let why = why.unwrap_or("the receiver closed the connection in the handshake");
                Err(Fault::new(ErrorClass::Tls, why))
            }
            Err(_) => Err(Fault::new(ErrorClass::Tls, "the handshake took too long")),
        }
    }
}

/// What is known of a receiver's addresses.
pub(super) enum Known {
    /// The URL names the address.
    Address(IpAddr),
    /// The name server's answer, which still holds.
    Answer(Arc<[IpAddr]>),
    /// Nobody knows; nothing says that the receiver has moved, either.
    Nothing(Unresolved),
}

impl Known {
    /// Whether a connection to that address still leads to the receiver, as far as is known.
    pub(super) fn has(&self, remote: IpAddr) -> bool {
        match self {
            Known::Address(_) | Known::Nothing(_) => true,
            Known::Answer(addresses) => addresses.contains(&remote),
        }
    }

    /// The addresses to be judged and connected to.
    pub(super) fn addresses(&self) -> Result<&[IpAddr], Fault> {
        match self {
            Known::Address(address) => Ok(std::slice::from_ref(address)),
            Known::Answer(addresses) => Ok(addresses),
            Known::Nothing(why) => Err(dns(*why)),
        }
    }
}

fn dns(why: Unresolved) -> Fault {
    Fault::new(ErrorClass::Dns, why.why)
}

impl Policy {
    /// Whether the scheme is allowed at all.
    pub(super) fn scheme(&self, scheme: Scheme) -> Result<(), Fault> {
        match scheme {
            Scheme::Http if !self.allow_http => {
                Err(Fault::new(ErrorClass::Denied, "http without TLS is not allowed"))
            }
            Scheme::Http | Scheme::Https => Ok(()),
        }
    }

    /// What the policy leaves of an answer: families in turn, so that a machine without IPv6
    /// reaches the IPv4 address before the tries are used up.
    fn permitted(&self, found: &[IpAddr]) -> Result<Vec<IpAddr>, Fault> {
        let mut denied = "none";
        let mut allowed = Vec::with_capacity(found.len());
        for address in found {
            // A mapped address is judged and dialled as the IPv4 address that it stands for.
            match self.addresses.permits(*address) {
                Ok(()) => allowed.push(address.to_canonical()),
                Err(class) => denied = class,
            }
        }
        let Some(first) = allowed.first().copied() else {
            let detail = format!("not a public address ({denied})");
            return Err(Fault::new(ErrorClass::Denied, detail));
        };
        let (same, other): (Vec<_>, Vec<_>) =
            allowed.into_iter().partition(|address| address.is_ipv4() == first.is_ipv4());
        let longest = same.len().max(other.len());
        let turn = |i: usize| same.get(i).into_iter().chain(other.get(i)).copied();
        Ok((0..longest).flat_map(turn).take(ADDRESSES_TRIED).collect())
    }
}

async fn dial_one(remote: SocketAddr, limit: Duration) -> Result<TcpStream, Fault> {
    let connect = |why| Fault::new(ErrorClass::Connect, why);
    match timeout(limit, TcpStream::connect(remote)).await {
        Err(_) => Err(connect("the connection was not answered in time")),
        Ok(Err(error)) if is_local(&error) => Err(local()),
        Ok(Err(error)) => Err(connect(connect_words(error.kind()))),
        // A request is written in one piece, so waiting to fill a packet only costs time.
        Ok(Ok(tcp)) => match tcp.set_nodelay(true) {
            Ok(()) => Ok(tcp),
            Err(_) => Err(connect("the connection broke at once")),
        },
    }
}

#[allow(clippy::wildcard_enum_match_arm)] // a foreign vocabulary, open at its end
fn connect_words(kind: io::ErrorKind) -> &'static str {
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

    #[test]
    fn families_take_turns_and_forbidden_addresses_are_dropped() {
        let policy = Policy { addresses: Default::default(), allow_http: false };
        let found: Vec<IpAddr> =
            "2a00::1 2a00::2 10.0.0.1 2a00::3 2a00::4 8.8.8.8 ::1 ::ffff:9.9.9.9"
                .split(' ')
                .map(|address| address.parse().unwrap())
                .collect();
        let left: Vec<_> =
            policy.permitted(&found).unwrap().iter().map(IpAddr::to_string).collect();
        assert_eq!(left, ["2a00::1", "8.8.8.8", "2a00::2", "9.9.9.9"]);
    }
}
