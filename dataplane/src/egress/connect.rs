//! A new connection: resolve, judge, connect, handshake.
//!
//! The address that was judged is the one connected to (I7): a name is turned into addresses
//! once, the forbidden ones are dropped from that answer, and the rest is dialled as it stands.
//! The same answer says whether a connection that is kept still leads to the receiver.
//! There is no second lookup anywhere below, and a proxy is told an address. Literal addresses take
//! the same way.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use pregon_core::outcome::ErrorClass;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::Inner;
use super::connection::{Connection, OpenSlot, Under};
use super::exchange::{Progress, Stage, micros};
use super::fault::Fault;
use super::names::Unresolved;
use super::own::Whose;
use super::policy::denied;
use super::pools::{Proxied, Via, Way};
use super::proxy::Asked;
use super::race::{race, told};
use super::target::{Host, PoolKey};
use super::tenants::Told;
use super::tls::{TlsFailure, detail};
use super::wire::{Counted, Meter, Stream};

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
                let answer = self.names.get(Some(&key.tenant), name).await;
                progress.timing.dns = micros(begin.elapsed());
                answer
            }
        };
        match answer {
            Ok(addresses) => Ok(Known::Answer(addresses)),
            Err(why) if why.is_gone() => Err(dns(why)),
            Err(why) => Ok(Known::Nothing(why)),
        }
    }

    /// Opens a connection to one of the addresses; with TLS if there is a name to be verified.
    pub(super) async fn connect(
        &self,
        key: &PoolKey,
        found: &[IpAddr],
        server_name: Option<&ServerName<'static>>,
        (way, told): (&Way, &Told),
        progress: &mut Progress,
    ) -> Result<Box<Connection>, Fault> {
        let (policy, generation) = self.policy();
        policy.scheme(key.scheme)?;
        let allowed = policy.permitted(&told.says.rules, &key.host, key.port, found)?;
        let mut addresses = Vec::with_capacity(allowed.len());
        let mut closed = None;
        for address in allowed {
            let opened = policy.addresses.opens(address, key.port);
            let why =
                match self.ours.judge(&policy.addresses.forms(address), key.port, opened).await {
                    Whose::Others => {
                        addresses.push(address);
                        continue;
                    }
                    Whose::Ours => denied("an address of Pregón's own"),
                    Whose::Machine => denied("an address of the node's own machine"),
                    Whose::Unknown => {
                        let why = "whether the address is one of Pregón's own cannot be told";
                        Fault::new(ErrorClass::Local, why)
                    }
                };
            // What is known goes before what is not.
            if closed.as_ref().is_none_or(|it: &Fault| it.class == ErrorClass::Local) {
                closed = Some(why);
            }
        }
        if addresses.is_empty()
            && let Some(closed) = closed
        {
            return Err(closed);
        }
        let mut addresses = way.reached(addresses)?;
        if let Host::Name(name) = &key.host {
            self.winners.prefer(name, key.port, &mut addresses);
        }
        let dialled = self.dial(&addresses, key, way, progress).await;
        if let Host::Name(name) = &key.host {
            match &dialled {
                Ok((_, remote, _)) => self.winners.won(name, key.port, remote.ip()),
                Err(_) => {
                    self.winners.forget(name, key.port);
                    self.names.forget(name);
                }
            }
        }
        let (tcp, remote, slot) = dialled?;
        let meter = Arc::new(Meter::default());
        let tcp = Counted::new(tcp, Arc::clone(&meter));
        let stream = match server_name {
            None => Stream::Plain(tcp),
            Some(name) => {
                let tls = way.tls(key.terms.as_ref())?;
                self.handshake(&tls, name.clone(), tcp, &meter, progress).await?
            }
        };
        let under = Under { generation, tenant: told.version };
        Connection::open(stream, meter, remote, under, slot)
            .await
            .map_err(|_| Fault::new(ErrorClass::Protocol, "the connection could not be used"))
    }

    /// A place among the open connections. Where it is `needed` an idle connection makes room; a
    /// second address beside the first is not worth one.
    fn slot(&self, needed: bool) -> Result<OpenSlot, Fault> {
        let take = || OpenSlot::take(&self.open, self.limits.open);
        take()
            .or_else(|| (needed && self.pool.evict()).then(take).flatten())
            .ok_or_else(|| Fault::new(ErrorClass::Local, "too many connections are open"))
    }

    /// Connects to the first address that answers, within one limit for all of them.
    async fn dial(
        &self,
        addresses: &[IpAddr],
        key: &PoolKey,
        way: &Way,
        progress: &mut Progress,
    ) -> Result<(TcpStream, SocketAddr, OpenSlot), Fault> {
        progress.stage = match &way.via {
            Via::Proxy(_) => Stage::Proxy,
            Via::Direct | Via::Source { .. } => Stage::Connect,
        };
        let begin = Instant::now();
        let remotes: Vec<_> = addresses.iter().map(|ip| SocketAddr::new(*ip, key.port)).collect();
        let (asked, remotes_tried) = (Asked::default(), Vec::with_capacity(remotes.len()));
        let mut tried = Tried { of: progress, remotes: remotes_tried, asked: &asked, begin };
        let racing = async {
            let proxy = self.proxy(way).await?;
            let by = Proxied { addresses: &proxy, within: self.limits.connect, asked: &asked };
            let dial = |remote| way.dial(remote, by);
            race(&remotes, |needed| self.slot(needed), dial, &mut tried.remotes).await
        };
        let won = timeout(self.limits.connect, racing).await;
        let unanswered = |why| Err(Fault::new(ErrorClass::Connect, why));
        let won = won.unwrap_or_else(|_| match &way.via {
            Via::Proxy(_) if asked.is_set() => {
                unanswered("the proxy had no answer from the receiver in time")
            }
            Via::Proxy(_) => Err(way.fault("its proxy did not open the connection in time")),
            Via::Direct | Via::Source { .. } => {
                unanswered("the connection was not answered in time")
            }
        });
        if let (Via::Proxy(options), Err(fault)) = (&way.via, &won)
            && fault.class == ErrorClass::Egress
        {
            self.names.forget(&options.host);
        }
        let won = won.map_err(|fault| match (&key.host, fault.class) {
            (Host::Name(_), ErrorClass::Connect | ErrorClass::Egress) => {
                told(fault, &tried.remotes)
            }
            (Host::Name(_) | Host::Address(_), _) => fault,
        });
        if let Ok((_, remote, _)) = &won {
            tried.remotes.push(*remote);
        }
        won
    }

    /// The proxy's addresses. Its operator named it: they are not judged.
    async fn proxy(&self, way: &Way) -> Result<Vec<SocketAddr>, Fault> {
        let Via::Proxy(options) = &way.via else { return Ok(Vec::new()) };
        let at = |ip: IpAddr| SocketAddr::new(ip, options.port);
        if let Ok(ip) = options.host.parse::<IpAddr>() {
            return Ok(vec![at(ip)]);
        }
        match self.names.get(None, &Arc::from(options.host.as_str())).await {
            Ok(found) => Ok(found.iter().copied().map(at).collect()),
            Err(why) => Err(way.fault(format_args!("its proxy {}: {why}", options.host))),
        }
    }

    async fn handshake(
        &self,
        tls: &TlsConnector,
        name: ServerName<'static>,
        tcp: Counted,
        meter: &Meter,
        progress: &mut Progress,
    ) -> Result<Stream, Fault> {
        progress.stage = Stage::Handshake;
        let begin = Instant::now();
        let shake = tls.connect(name, tcp);
        let done = timeout(self.limits.tls, shake).await;
        progress.timing.tls = micros(begin.elapsed());
        match done {
            Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
            Ok(Err(_)) if meter.flooded() => {
                Err(Fault::new(ErrorClass::Tls, TlsFailure::Endless.word()))
            }
            Ok(Err(error)) => {
                let why = detail(&error);
                let why = why.unwrap_or_else(|| TlsFailure::Closed.word().into());
                Err(Fault::new(ErrorClass::Tls, why))
            }
            Err(_) => Err(Fault::new(ErrorClass::Tls, TlsFailure::Slow.word())),
        }
    }
}

/// Which addresses are tried, and since when: noted for the attempt also when its time runs out in
/// between.
struct Tried<'a> {
    of: &'a mut Progress,
    remotes: Vec<SocketAddr>,
    asked: &'a Asked,
    begin: Instant,
}

impl Drop for Tried<'_> {
    fn drop(&mut self) {
        self.of.remote = self.remotes.last().copied().or(self.of.remote);
        self.of.timing.connect = micros(self.begin.elapsed());
        if self.asked.is_set() {
            self.of.stage = Stage::Connect; // the proxy has done its part: it waits for the receiver
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
    let class = match why {
        Unresolved::Lookup(_) | Unresolved::Queued | Unresolved::Failed => ErrorClass::Dns,
        // It is the node that lacks a place: the name was not asked for.
        Unresolved::Crowded => ErrorClass::Local,
    };
    Fault::new(class, why.to_string())
}
