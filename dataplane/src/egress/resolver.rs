//! The system's resolver, asked without a thread: the names of the hosts file, and the name servers
//! of `resolv.conf` or of a setting.
//!
//! The C library's resolver blocks a thread for as long as a name server is silent, so whoever
//! owns enough silent names holds all threads. Here a lookup is a future: to drop it ends it. Both
//! files are read again when they change. `nsswitch.conf` is not read: first the hosts file, then
//! the name servers, as nearly everywhere.
//!
//! Names are absolute. A search list would make `receiver.example` mean
//! `receiver.example.apps.internal` wherever the outer name is not known, and so let whoever
//! chooses a URL choose a name within the platform's own network.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use futures::future::{BoxFuture, Either, select};
use futures::stream::FuturesUnordered;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// What a name resolves to.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its addresses, in the order of preference.
    pub addresses: Vec<IpAddr>,
    /// How long they hold.
    pub ttl: Duration,
}

/// Why a name resolves to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// There is no such name. `ttl`: how long that holds, where the answer says so.
    #[error("the name does not exist")]
    NoName {
        /// How long.
        ttl: Option<Duration>,
    },
    /// There is such a name, without an address. `ttl` as before.
    #[error("the name has no address")]
    NoAddress {
        /// How long.
        ttl: Option<Duration>,
    },
    /// The name server said that it cannot tell (SERVFAIL and the like).
    #[error("the name server answered that it failed")]
    ServerFailed,
    /// The name server does not tell us (REFUSED).
    #[error("the name server refused to answer")]
    ServerRefused,
    /// No name server answered in time.
    #[error("no answer from the name server in time")]
    TimedOut,
    /// No name server can be reached, or what came is no answer.
    #[error("the name servers cannot be asked")]
    Unasked,
}

impl LookupError {
    /// Whether the name has no address; otherwise nobody knows.
    pub fn is_gone(self) -> bool {
        match self {
            LookupError::NoName { .. } | LookupError::NoAddress { .. } => true,
            LookupError::ServerFailed
            | LookupError::ServerRefused
            | LookupError::TimedOut
            | LookupError::Unasked => false,
        }
    }

    /// Of two name servers' reasons, the one that says more: that it answered at all goes before
    /// that it did not.
    fn or(self, other: Self) -> Self {
        let says = |why: &Self| match why {
            LookupError::NoName { .. } | LookupError::NoAddress { .. } => 4,
            LookupError::ServerFailed => 3,
            LookupError::ServerRefused => 2,
            LookupError::TimedOut => 1,
            LookupError::Unasked => 0,
        };
        if says(&other) > says(&self) { other } else { self }
    }
}

/// Where addresses of names come from. Time limit, sharing and caching are done by the caller.
pub trait Resolver: Send + Sync + 'static {
    /// What a name resolves to, or why to nothing. The future is dropped when its time is up.
    fn lookup(&self, host: Arc<str>) -> BoxFuture<'static, Result<Found, LookupError>>;
}

/// After this a name server is asked once more: an answer takes milliseconds, a lost packet none.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Once one family of addresses is there, how long the other is waited for. Some name servers
/// answer questions of one kind only.
const OTHER_FAMILY: Duration = Duration::from_millis(300);
/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long what the hosts file says holds: until the files are looked at again.
const HOSTS_HOLD: Duration = LOOK_EVERY;
/// Name servers that are asked: as many as the C library uses.
pub const NAME_SERVERS: usize = 3;
/// Sockets of one lookup at most: two families of addresses, three sends over sockets of their own,
/// to every name server.
pub const SOCKETS_PER_LOOKUP: usize = 2 * 3 * NAME_SERVERS;
/// Beyond this a file is not one that the system would use.
const FILE_LEN: u64 = 4 * 1024 * 1024;

/// The system's resolver.
#[derive(Clone, Debug)]
pub struct SystemResolver {
    files: Arc<Files>,
    loaded: Arc<Mutex<Option<Loaded>>>,
}

#[derive(Debug)]
struct Files {
    resolv_conf: PathBuf,
    hosts: PathBuf,
    /// Where the name servers of `resolv_conf` listen.
    port: u16,
    /// Those that are asked instead; empty: those of `resolv_conf`.
    servers: Vec<SocketAddr>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self::asking(Vec::new())
    }
}

impl SystemResolver {
    /// Asks these name servers instead of the system's; empty: the system's. The first
    /// [`NAME_SERVERS`] of them count. The hosts file comes first all the same.
    pub fn asking(servers: Vec<SocketAddr>) -> Self {
        Self::of("/etc/resolv.conf".into(), "/etc/hosts".into(), 53, servers)
    }

    /// Reads other files than the system's, and asks another port.
    pub(super) fn of(
        resolv_conf: PathBuf,
        hosts: PathBuf,
        port: u16,
        servers: Vec<SocketAddr>,
    ) -> Self {
        let files = Files { resolv_conf, hosts, port, servers };
        Self { files: Arc::new(files), loaded: Arc::default() }
    }

    /// What the files say now.
    async fn system(&self) -> io::Result<Arc<System>> {
        let mut loaded = self.loaded.lock().await;
        if let Some(loaded) = loaded.as_ref().filter(|it| it.looked.elapsed() < LOOK_EVERY) {
            return Ok(Arc::clone(&loaded.system));
        }
        let seen = self.files.seen().await;
        let system = match loaded.as_ref().filter(|loaded| loaded.seen == seen) {
            Some(loaded) => Arc::clone(&loaded.system),
            None => Arc::new(self.files.read().await?),
        };
        let looked = Instant::now();
        *loaded = Some(Loaded { looked, seen, system: Arc::clone(&system) });
        Ok(system)
    }
}

impl Resolver for SystemResolver {
    fn lookup(&self, host: Arc<str>) -> BoxFuture<'static, Result<Found, LookupError>> {
        let this = self.clone();
        Box::pin(async move {
            let name = Name::from_ascii(&host).map_err(|_| LookupError::NoName { ttl: None })?;
            let system = this.system().await.map_err(|error| {
                tracing::error!(%error, "names cannot be resolved");
                LookupError::Unasked
            })?;
            match system.in_hosts(&name) {
                Some(addresses) => Ok(Found { addresses, ttl: HOSTS_HOLD }),
                None => system.ask(&name).await,
            }
        })
    }
}

/// What a file looks like from outside: when it was changed, and its length.
type Seen = Option<(SystemTime, u64)>;

#[derive(Debug)]
struct Loaded {
    looked: Instant,
    seen: [Seen; 2],
    system: Arc<System>,
}

impl Files {
    async fn seen(&self) -> [Seen; 2] {
        let one = async |path: &Path| {
            let meta = tokio::fs::metadata(path).await.ok()?;
            Some((meta.modified().ok()?, meta.len()))
        };
        [one(&self.resolv_conf).await, one(&self.hosts).await]
    }

    /// A file that is not there says nothing: the name server is this machine then.
    async fn read(&self) -> io::Result<System> {
        let conf = contents(&self.resolv_conf).await;
        let (conf, wrong) = resolv_conf::Config::parse_with_errors(&conf);
        for wrong in wrong {
            tracing::warn!(file = %self.resolv_conf.display(), %wrong, "a line is not understood");
        }
        let mut hosts = Hosts::default();
        if let Err(error) = hosts.read_hosts_conf(contents(&self.hosts).await.as_slice()) {
            tracing::warn!(file = %self.hosts.display(), %error, "names of this machine not read");
        }
        let servers = match self.servers.is_empty() {
            true => conf
                .get_nameservers_or_local()
                .into_iter()
                .map(IpAddr::from)
                .map(|ip| SocketAddr::new(ip, self.port))
                .collect(),
            false => self.servers.clone(),
        };
        let asked = servers.into_iter().take(NAME_SERVERS);
        let resolvers: Result<_, _> = asked.map(|server| resolver(&conf, server)).collect();
        Ok(System { resolvers: resolvers.map_err(io::Error::other)?, hosts })
    }
}

async fn contents(path: &Path) -> Vec<u8> {
    match tokio::fs::metadata(path).await {
        Ok(meta) if meta.len() <= FILE_LEN => tokio::fs::read(path).await.unwrap_or_default(),
        Ok(_) | Err(_) => Vec::new(),
    }
}

/// Asks one name server as the configuration says, at our pace and without its search list. One
/// alone: of several, the library takes whatever comes first, also that a server has failed.
fn resolver(conf: &resolv_conf::Config, server: SocketAddr) -> Result<TokioResolver, NetError> {
    let mut connections = vec![ConnectionConfig::tcp()];
    if !conf.use_vc {
        connections.insert(0, ConnectionConfig::udp());
    }
    for connection in &mut connections {
        connection.port = server.port();
    }
    let server = NameServerConfig::new(server.ip(), true, connections);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.edns0 = conf.edns0;
    options.timeout = ASK_AGAIN;
    options.attempts = 1; // once more, that is
    options.cache_size = 0; // the caller keeps answers
    options.use_hosts_file = ResolveHosts::Never; // it is looked at before
    builder.build()
}

struct System {
    /// One for each name server.
    resolvers: Vec<TokioResolver>,
    hosts: Hosts,
}

impl std::fmt::Debug for System {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("System").finish_non_exhaustive()
    }
}

impl System {
    /// What the hosts file says; none if it does not know the name. As with the C library, a name
    /// that is there with addresses of one family only is not asked for the other.
    fn in_hosts(&self, name: &Name) -> Option<Vec<IpAddr>> {
        let family = |kind| self.hosts.lookup_static_host(&Query::query(name.clone(), kind));
        let found = [RecordType::A, RecordType::AAAA].into_iter().filter_map(family);
        let records = found.flat_map(|lookup| lookup.answers().to_vec());
        let addresses: Vec<_> = records.filter_map(|record| record.data.ip_addr()).collect();
        Some(addresses).filter(|addresses| !addresses.is_empty())
    }

    /// Asks for both families at once.
    async fn ask(&self, name: &Name) -> Result<Found, LookupError> {
        let mut name = name.clone();
        name.set_fqdn(true);
        let four = std::pin::pin!(self.family(&name, RecordType::A));
        let six = std::pin::pin!(self.family(&name, RecordType::AAAA));
        let (four, six) = match select(four, six).await {
            Either::Left((Ok(four), six)) => (Ok(four), other(six).await),
            Either::Left((four, six)) => (four, six.await),
            Either::Right((Ok(six), four)) => (other(four).await, Ok(six)),
            Either::Right((six, four)) => (four.await, six),
        };
        match (four, six) {
            (Ok(mut both), Ok(six)) => {
                both.addresses.extend(six.addresses);
                both.ttl = both.ttl.min(six.ttl);
                Ok(both)
            }
            (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one),
            // That there is no address of one family says nothing about the other.
            (Err(four), Err(six)) if four.is_gone() => Err(six),
            (Err(four), Err(_)) => Err(four),
        }
    }

    /// The addresses of one family, one at least. All name servers are asked at once, for one that
    /// is down must not cost the lookup. The first counts that tells, be it that there is none;
    /// where none tells, what says most of why is told.
    async fn family(&self, name: &Name, kind: RecordType) -> Result<Found, LookupError> {
        let asked = self.resolvers.iter().map(|server| of_one(server, name, kind));
        let mut asked: FuturesUnordered<_> = asked.collect();
        let mut failed = LookupError::Unasked;
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(found) => return Ok(found),
                Err(why) if why.is_gone() => return Err(why),
                Err(why) => failed = failed.or(why),
            }
        }
        Err(failed)
    }
}

/// What one name server says of a family of addresses.
async fn of_one(
    server: &TokioResolver,
    name: &Name,
    kind: RecordType,
) -> Result<Found, LookupError> {
    let lookup = server.lookup(name.clone(), kind).await.map_err(|it| unfound(&it))?;
    // Of a chain of aliases the shortest-lived link decides.
    let ttl = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or_default();
    let addresses: Vec<_> =
        lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
    match addresses.is_empty() {
        true => Err(LookupError::NoAddress { ttl: None }),
        false => Ok(Found { addresses, ttl: Duration::from_secs(ttl.into()) }),
    }
}

/// The second family's answer, for which little time is left.
async fn other(
    family: impl Future<Output = Result<Found, LookupError>>,
) -> Result<Found, LookupError> {
    timeout(OTHER_FAMILY, family).await.unwrap_or(Err(LookupError::TimedOut))
}

/// What an error of the library's means.
#[allow(clippy::wildcard_enum_match_arm)] // foreign vocabularies, open at their end
fn unfound(error: &NetError) -> LookupError {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            let ttl = none.negative_ttl.map(|ttl| Duration::from_secs(ttl.into()));
            match none.response_code {
                ResponseCode::NXDomain => LookupError::NoName { ttl },
                ResponseCode::NoError => LookupError::NoAddress { ttl },
                ResponseCode::Refused => LookupError::ServerRefused,
                _ => LookupError::ServerFailed,
            }
        }
        NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused)) => LookupError::ServerRefused,
        NetError::Dns(_) => LookupError::ServerFailed,
        NetError::Timeout => LookupError::TimedOut,
        _ => LookupError::Unasked,
    }
}
