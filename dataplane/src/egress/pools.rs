//! Egress pools: the ways out of the network.
//!
//! Whatever the way, names are resolved and addresses judged here, and a proxy is told an address
//! and never a name. What goes wrong with a pool is a fault of its own class, EGRESS, for which no
//! receiver is charged.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use pregon_core::clock::SharedClock;
use pregon_core::id::PoolName;
use pregon_core::outcome::ErrorClass;
use rustls::sign::CertifiedKey;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::EgressError;
use super::dial::{self, connect_words, is_local};
use super::fault::Fault;
use super::proxy::{self, Asked, ProxyOptions};
use super::tls::{Base, Identity, Terms};

/// A pool, as it is set up.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// Its name.
    pub name: PoolName,
    /// How its requests leave.
    pub via: Via,
    /// The certificate that receivers are shown who ask for one.
    pub identity: Option<Identity>,
}

/// How requests leave.
#[derive(Clone, Debug, Default)]
pub enum Via {
    /// As the system routes.
    #[default]
    Direct,
    /// From these addresses of the machine; a family without one is not sent to.
    Source {
        /// For IPv4.
        v4: Option<Ipv4Addr>,
        /// For IPv6.
        v6: Option<Ipv6Addr>,
    },
    /// Through a proxy.
    Proxy(ProxyOptions),
}

/// Addresses of a proxy that are tried: more are no help within the time of a connect.
const PROXY_ADDRESSES: usize = 4;

/// What a connection by a proxy is opened with.
#[derive(Clone, Copy)]
pub(super) struct Proxied<'a> {
    /// The proxy's addresses; none where the pool has no proxy.
    pub addresses: &'a [SocketAddr],
    /// The time for the whole of it.
    pub within: Duration,
    /// Set once the proxy waits for the receiver.
    pub asked: &'a Asked,
}

/// A pool at work.
pub(super) struct Way {
    pub name: PoolName,
    pub via: Via,
    /// The certificate that receivers are shown who ask for one, and have none of their own.
    identity: Option<Arc<CertifiedKey>>,
    tls: TlsConnector,
    base: Arc<Base>,
}

/// All pools of the node.
pub(super) struct Ways(HashMap<PoolName, Way>);

impl Ways {
    /// These pools, and `default` where it is not among them.
    pub fn new(
        pools: Vec<PoolOptions>,
        extra_roots: Option<&[u8]>,
        clock: &SharedClock,
    ) -> Result<Self, EgressError> {
        let name = PoolName::default_pool();
        let usual = PoolOptions { name, via: Via::Direct, identity: None };
        let base = Arc::new(Base::new(extra_roots, clock)?);
        let mut ways = HashMap::new();
        for PoolOptions { name, via, identity } in std::iter::once(usual).chain(pools) {
            let bad = |why: EgressError| match why {
                EgressError::Tls { why } => EgressError::Pool { pool: name.clone(), why },
                other @ (EgressError::ExtraRoot { .. }
                | EgressError::NoExtraRoot { .. }
                | EgressError::Pool { .. }) => other,
            };
            let identity = identity.map(|own| base.identity(&own)).transpose().map_err(bad)?;
            let tls = base.connector(identity.clone())?;
            ways.insert(name.clone(), Way { name, via, identity, tls, base: Arc::clone(&base) });
        }
        Ok(Self(ways))
    }

    /// The pool of that name.
    pub fn get(&self, name: &PoolName) -> Result<&Way, Fault> {
        let none = || Fault::new(ErrorClass::Egress, format!("the node has no egress pool {name}"));
        self.0.get(name).ok_or_else(none)
    }
}

impl Way {
    /// A fault of this pool.
    pub fn fault(&self, why: impl fmt::Display) -> Fault {
        Fault::new(ErrorClass::Egress, Cow::Owned(format!("egress pool {}: {why}", self.name)))
    }

    /// How TLS is spoken with a receiver of these terms.
    pub fn tls(&self, terms: Option<&Terms>) -> Result<TlsConnector, Fault> {
        let Some(terms) = terms else { return Ok(self.tls.clone()) };
        let made = terms.connector(&self.base, &self.name, self.identity.as_ref());
        // They were read when they were written, and again by whoever made the target.
        made.map_err(|why| Fault::new(ErrorClass::Local, why.to_string()))
    }

    /// Drops the addresses that it cannot send to.
    pub fn reached(&self, addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, Fault> {
        let Via::Source { v4, v6 } = &self.via else { return Ok(addresses) };
        let has = |ip: &IpAddr| if ip.is_ipv4() { v4.is_some() } else { v6.is_some() };
        let left: Vec<_> = addresses.into_iter().filter(has).collect();
        match left.is_empty() {
            true => Err(self.fault("it has no source address of the receiver's family")),
            false => Ok(left),
        }
    }

    /// Opens a connection to a receiver's address, by the pool's proxy if there is one.
    pub async fn dial(&self, remote: SocketAddr, by: Proxied<'_>) -> Result<TcpStream, Fault> {
        match &self.via {
            Via::Direct => dial::connect(TcpStream::connect(remote).await),
            Via::Source { v4, v6 } => {
                let source = match remote {
                    SocketAddr::V4(_) => v4.map(IpAddr::V4),
                    SocketAddr::V6(_) => v6.map(IpAddr::V6),
                };
                let source = source.ok_or_else(|| self.fault("no source address"))?;
                let socket = self.bound(source)?;
                dial::connect(socket.connect(remote).await)
            }
            Via::Proxy(options) => {
                let tcp = self.to_proxy(by).await?;
                proxy::through(options, tcp, remote, by.asked).await.map_err(
                    |refused| match refused {
                        proxy::Refused::Receiver(why) => Fault::new(ErrorClass::Connect, why),
                        proxy::Refused::Proxy(why) => self.fault(why),
                    },
                )
            }
        }
    }

    fn bound(&self, source: IpAddr) -> Result<TcpSocket, Fault> {
        let bound = match source {
            IpAddr::V4(_) => TcpSocket::new_v4(),
            IpAddr::V6(_) => TcpSocket::new_v6(),
        };
        let bound = bound.and_then(|socket| {
            socket.bind(SocketAddr::new(source, 0))?;
            Ok(socket)
        });
        bound.map_err(|error| match error.kind() == io::ErrorKind::AddrNotAvailable {
            true => self.fault(format_args!("the machine does not have the address {source}")),
            false if is_local(&error) => dial::local(),
            false => self.fault(format_args!("no socket from {source}: {error}")),
        })
    }

    /// A connection to the proxy: to the first of its addresses that answers. One that is silent
    /// has its part of half the time, so that the next ones and the request have theirs.
    async fn to_proxy(&self, by: Proxied<'_>) -> Result<TcpStream, Fault> {
        let mut fault = self.fault("the proxy has no address");
        let addresses = by.addresses.get(..PROXY_ADDRESSES).unwrap_or(by.addresses);
        let parts = u32::try_from(addresses.len() * 2).unwrap_or(u32::MAX).max(1);
        for address in addresses {
            let made = timeout(by.within / parts, TcpStream::connect(address)).await;
            match made.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(tcp) => return dial::connect(Ok(tcp)).map_err(|it| self.fault(it.detail)),
                Err(error) if is_local(&error) => return Err(dial::local()),
                Err(error) => {
                    fault = self.fault(format_args!("its proxy: {}", connect_words(error.kind())));
                }
            }
        }
        Err(fault)
    }
}
