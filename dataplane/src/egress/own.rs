//! What belongs to Pregón itself: never a receiver, whatever networks are open.
//!
//! Where a deployment opens its own network, or loopback in a trial, a tenant's URL must still not
//! reach the API of the process that sends, the Redis that everything lies in, nor the KMS that opens
//! its keys. What else listens on this machine was not put there for tenants either: its own addresses
//! are closed, public ones too, unless the deployment opens their network.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// How long it is believed which addresses a name of ours has.
const BELIEVED: Duration = Duration::from_secs(30);
/// How long a lookup of a name of ours may take.
const LOOKUP: Duration = Duration::from_secs(2);
/// A port for a question to which none matters: "discard" (RFC 863).
const DISCARD: u16 = 9;

/// What belongs to Pregón itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Where this process listens. The unspecified address stands for all of the machine's.
    pub listeners: Vec<SocketAddr>,
    /// Hosts and ports that it depends on: its Redis, its KMS. A host is a name or an address.
    pub hosts: Vec<(String, u16)>,
}

/// Whose an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Ours,
    /// This machine's, which the deployment does not open.
    Machine,
    Others,
    /// A name of ours could not be looked up, or the system does not say what is this machine's.
    Unknown,
}

/// The addresses of a name, and until when they are believed.
type Known = (Arc<[IpAddr]>, Instant);

/// The same, with what is known of the names.
pub(super) struct Ours {
    own: Own,
    /// By name.
    known: Mutex<HashMap<String, Known>>,
}

impl Ours {
    pub fn new(own: Own) -> Self {
        Self { own, known: Mutex::default() }
    }

    /// Whose the address is. `forms` are all that it stands for; `opened`: the deployment opens a
    /// network that it is in.
    pub async fn judge(&self, forms: &[IpAddr], port: u16, opened: bool) -> Whose {
        // Asked of the system each time: that takes microseconds, beside a connect and a handshake.
        let local = match is_any_local(forms) {
            Ok(local) => local,
            Err(error) => {
                tracing::warn!(%error, "the system does not say which addresses are its own");
                return Whose::Unknown;
            }
        };
        // Whoever connects to the unspecified address gets to what listens on loopback.
        let any = forms.iter().any(|ip| ip.is_unspecified());
        let listens = |own: &SocketAddr| {
            let at = own.ip().to_canonical();
            own.port() == port && (any || at.is_unspecified() && local || forms.contains(&at))
        };
        if self.own.listeners.iter().any(listens) {
            return Whose::Ours;
        }
        for (host, _) in self.own.hosts.iter().filter(|(_, of)| *of == port) {
            match self.addresses(host).await {
                Err(error) => {
                    tracing::warn!(host, %error, "a host of ours is not to be found");
                    return Whose::Unknown;
                }
                Ok(own) if own.iter().any(|own| forms.contains(own)) => return Whose::Ours,
                // Loopback is all of one machine.
                Ok(own) if local => match is_any_local(&own) {
                    Ok(true) => return Whose::Ours,
                    Ok(false) => {}
                    Err(_) => return Whose::Unknown,
                },
                Ok(_) => {}
            }
        }
        match local && !opened {
            true => Whose::Machine,
            false => Whose::Others,
        }
    }

    /// The addresses of a host of ours, as the system resolves it: its operator named it, and the
    /// store's client finds it in the same way.
    async fn addresses(&self, host: &str) -> io::Result<Arc<[IpAddr]>> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(Arc::new([ip.to_canonical()]));
        }
        let mut known = self.known.lock().await;
        if let Some((addresses, until)) = known.get(host)
            && Instant::now() < *until
        {
            return Ok(Arc::clone(addresses));
        }
        let found = timeout(LOOKUP, tokio::net::lookup_host((host, 0))).await;
        let found = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let found: Arc<[IpAddr]> = match found {
            Ok(found) => found.map(|it| it.ip().to_canonical()).collect(),
            // What it had last: or all receivers at its port would stand still with a name server.
            Err(error) => match known.get(host) {
                Some((last, _)) => Arc::clone(last),
                None => return Err(error),
            },
        };
        known.insert(host.to_owned(), (Arc::clone(&found), Instant::now() + BELIEVED));
        Ok(found)
    }
}

/// Whether one of the addresses is this machine's.
fn is_any_local(forms: &[IpAddr]) -> io::Result<bool> {
    forms.iter().try_fold(false, |local, ip| Ok(local || is_local(*ip)?))
}

/// Whether an address is one of this machine's: only then can a socket have it. An error: nobody
/// knows. That it is not there is the one answer that says no.
fn is_local(ip: IpAddr) -> io::Result<bool> {
    if ip.is_loopback() || ip.is_unspecified() {
        return Ok(true);
    }
    match UdpSocket::bind((ip, 0)) {
        Ok(_) => is_routed_here(ip),
        Err(error) => not_here(error),
    }
}

/// Whether the system keeps to itself what is sent to an address. Where `ip_nonlocal_bind` is set,
/// a socket can have any address, and only this tells. Nothing is sent.
fn is_routed_here(ip: IpAddr) -> io::Result<bool> {
    let any: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((ip, DISCARD))?;
    let source = socket.local_addr()?.ip();
    Ok(source == ip || source.is_loopback())
}

fn not_here(error: io::Error) -> io::Result<bool> {
    // A machine without the family has no address of it. The number is Linux's.
    const EAFNOSUPPORT: i32 = 97;
    let none = error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(EAFNOSUPPORT);
    if none { Ok(false) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn whose(own: &Own, ip: &str, port: u16) -> Whose {
        Ours::new(own.clone()).judge(&[ip.parse().unwrap()], port, true).await
    }

    #[tokio::test]
    async fn the_unspecified_address_leads_to_a_listener_on_loopback() {
        let listeners = ["127.0.0.1:7070", "[::1]:7071", "192.0.2.1:7072"];
        let listeners = listeners.map(|it| it.parse().unwrap()).to_vec();
        let own = Own { listeners, ..Own::default() };
        for port in [7070, 7071, 7072] {
            assert_eq!(whose(&own, "0.0.0.0", port).await, Whose::Ours, "{port}");
            assert_eq!(whose(&own, "::", port).await, Whose::Ours, "{port}");
        }
        assert_eq!(whose(&own, "0.0.0.0", 7073).await, Whose::Others);
    }

    #[tokio::test]
    async fn what_is_the_machines_is_closed_unless_the_deployment_opens_it() {
        let ours = Ours::new(Own::default());
        let machine: IpAddr = "127.0.0.1".parse().unwrap();
        let other: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(ours.judge(&[machine], 443, false).await, Whose::Machine);
        assert_eq!(ours.judge(&[machine], 443, true).await, Whose::Others);
        assert_eq!(ours.judge(&[other], 443, false).await, Whose::Others);
        // The IPv4 address inside counts as well.
        let through = "64:ff9b::7f00:1".parse().unwrap();
        assert_eq!(ours.judge(&[through, machine], 443, false).await, Whose::Machine);
    }

    #[test]
    fn only_an_address_that_is_not_there_is_known_to_be_anothers() {
        let error = |number| not_here(io::Error::from_raw_os_error(number));
        const EADDRNOTAVAIL: i32 = 99;
        const EMFILE: i32 = 24;
        const EACCES: i32 = 13;
        assert!(!error(EADDRNOTAVAIL).unwrap());
        assert!(error(EMFILE).is_err() && error(EACCES).is_err());
        // A route to oneself tells as much as a socket's address.
        assert!(is_routed_here("127.0.0.2".parse().unwrap()).unwrap());
    }

    #[tokio::test]
    async fn listeners_are_ours_by_address_and_port() {
        let own = Own {
            listeners: vec!["127.0.0.1:7070".parse().unwrap(), "[::]:7071".parse().unwrap()],
            ..Own::default()
        };
        assert_eq!(whose(&own, "127.0.0.1", 7070).await, Whose::Ours);
        assert_eq!(whose(&own, "127.0.0.1", 7072).await, Whose::Others);
        assert_eq!(whose(&own, "127.0.0.2", 7070).await, Whose::Others);
        // Every address of the machine, of both families.
        for ip in ["127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::"] {
            assert_eq!(whose(&own, ip, 7071).await, Whose::Ours, "{ip}");
        }
        assert_eq!(whose(&own, "192.0.2.1", 7071).await, Whose::Others);
    }

    #[tokio::test]
    async fn hosts_are_ours_by_what_they_resolve_to() {
        let hosts = [("localhost", 6379), ("192.0.2.7", 6380), ("no-such-name.invalid", 6381)];
        let hosts = hosts.map(|(host, port)| (host.to_owned(), port)).to_vec();
        let own = Own { hosts, ..Own::default() };
        for ip in ["127.0.0.1", "127.0.0.2"] {
            assert_eq!(whose(&own, ip, 6379).await, Whose::Ours, "{ip}");
        }
        assert_eq!(whose(&own, "192.0.2.7", 6379).await, Whose::Others);
        assert_eq!(whose(&own, "192.0.2.7", 6380).await, Whose::Ours);
        assert_eq!(whose(&own, "192.0.2.8", 6380).await, Whose::Others);
        assert_eq!(whose(&own, "192.0.2.8", 6381).await, Whose::Unknown);
    }
}
