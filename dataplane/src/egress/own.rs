//! What belongs to Pregón itself: never a receiver, whatever networks are open.
//!
//! Where a deployment opens its own network, or loopback in a trial, a tenant's URL must still not
//! reach the API of the process that sends, nor the Redis that everything lies in.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// How long it is believed which addresses a name of ours has.
const BELIEVED: Duration = Duration::from_secs(30);
/// How long a lookup of a name of ours may take.
const LOOKUP: Duration = Duration::from_secs(2);

/// What belongs to Pregón itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Where this process listens. The unspecified address stands for all of the machine's.
    pub listeners: Vec<SocketAddr>,
    /// Hosts and ports that it depends on: its Redis. A host is a name or an address.
    pub hosts: Vec<(String, u16)>,
}

/// Whose an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Ours,
    Others,
    /// A name of ours could not be looked up, so nobody can tell.
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

    /// Whose the address is. `forms` are all that it stands for.
    pub async fn judge(&self, forms: &[IpAddr], port: u16) -> Whose {
        let listens = |own: &SocketAddr| {
            let all = own.ip().is_unspecified();
            own.port() == port
                && forms.iter().any(|ip| (all && is_local(*ip)) || own.ip().to_canonical() == *ip)
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
                Ok(own) => {
                    let here = own.iter().any(|own| is_local(*own));
                    if here && forms.iter().any(|ip| is_local(*ip)) {
                        return Whose::Ours;
                    }
                }
            }
        }
        Whose::Others
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
        let found = found.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let found: Arc<[IpAddr]> = found.map(|it| it.ip().to_canonical()).collect();
        known.insert(host.to_owned(), (Arc::clone(&found), Instant::now() + BELIEVED));
        Ok(found)
    }
}

/// Whether an address is one of this machine's: only then can a socket have it.
fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified() || UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn whose(own: &Own, ip: &str, port: u16) -> Whose {
        Ours::new(own.clone()).judge(&[ip.parse().unwrap()], port).await
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
