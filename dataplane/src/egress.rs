//! The one way out: every HTTP request that Pregón makes leaves through [`Egress::send`].
//!
//! Receivers are strangers, and some are hostile. What holds for every request, whoever asks:
//!
//! - **The address judged is the address connected to** (I7). Names are resolved here, forbidden
//!   addresses dropped from the answer, the rest dialled. No proxy setting of the environment is
//!   read, and a redirect is an answer like any other: it is reported, never followed.
//! - **A receiver that moves is followed** as soon as its name's answer has run out, within half a
//!   minute at most: a connection to an address that the name no longer has is not used again.
//! - **A tenant's silent names hold its own places only**: see [`EgressLimits::lookups`].
//! - **Nothing is waited for without end.** The caller's timeout covers everything from the
//!   lookup to the body's last byte; lookup, connect and handshake have limits of their own below
//!   it, so that the failure is named after its stage.
//! - **Nothing is held or read without bound.** Heads, interim responses, bodies, the framing around
//!   them, connections in use and idle, names and lookups: see [`EgressLimits`], `wire` and
//!   `pregon_core::limits`. A body longer than is read costs the receiver its connection, not the
//!   attempt.
//! - **The status decides**, once its line is there: the receiver has spoken. A body that breaks
//!   off is marked truncated. Where the caller asks for the status alone ([`Asks::Status`]), so is
//!   a head that cannot be read and a body that does not end in time. Where it asks for the whole
//!   answer, these are faults.
//! - **At most one instant repeat**, and only where the receiver cannot have answered: over a
//!   connection that had been idle, with no byte of a response received. Receivers close idle
//!   connections whenever they like, and the request that crosses the close is not at fault. It
//!   counts as one attempt and bears the same ids. A request that must not arrive twice
//!   ([`Resend::IfUnsent`]) is repeated only where no byte of it left. The exchange says so.
//! - **Faults carry a class and a few fixed words**, never a URL's query, a header or a body.

use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use imbl::HashMap;
use pregon_core::clock::SharedClock;
use pregon_core::id::{PoolName, TenantId};
use pregon_core::limits;
use pregon_core::outcome::ErrorClass;
use tokio::time::{Instant, sleep};

mod body;
mod connect;
mod connection;
mod deadline;
mod dial;
mod exchange;
mod fault;
mod interim;
mod names;
mod own;
mod policy;
mod pool;
mod pools;
mod proxy;
mod race;
mod resolver;
mod spelled;
mod target;
mod tenants;
#[cfg(test)]
mod tests;
mod tls;
mod wire;

pub use body::{BodyEnd, BodyRead, read_body};
pub use exchange::{Asks, Cut, Exchange, OutboundRequest, Resend, Response};
pub use fault::Fault;
pub use own::Own;
pub use policy::EgressPolicy;
pub use pools::{PoolOptions, Via};
pub use proxy::{Login, ProxyKind, ProxyOptions};
pub use resolver::{
    Found, LookupError, NAME_SERVERS, Resolver, SOCKETS_PER_LOOKUP, SystemResolver,
};
pub use target::{PoolChoice, Target};
pub use tenants::TenantEgress;
pub use tls::{Identity, Terms};

use connection::Connection;
use deadline::Deadline;
pub(crate) use exchange::micros;
use exchange::{Progress, Stage};
use names::{NameLimits, Names};
use own::Ours;
use pool::{Pool, PoolLimits};
use pools::Ways;
use race::Winners;
use target::{Plan, PoolKey};
use tenants::Tenants;
use wire::Meter;

/// Bounds of egress. The defaults suit a node; tests shorten them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EgressLimits {
    /// A lookup, and the wait for a place to make it. 2 s: a working name server answers in
    /// milliseconds, after one lost packet in 1 s.
    pub lookup: Duration,
    /// How long an answer is used at most, however long it says that it holds. 30 s: a receiver
    /// that moves is followed within this.
    pub name_known: Duration,
    /// How long it is believed at most that a name does not exist or has no address, however long
    /// the answer says so. 5 s: whoever is about to set up a name does not wait for it long.
    pub name_missing: Duration,
    /// How long a failed lookup stands. 3 s: nobody waits for a name server that was mended.
    pub name_failed: Duration,
    /// Names kept. 4,096, a few hundred bytes each.
    pub names: usize,
    /// Lookups under way. 256, of [`SOCKETS_PER_LOOKUP`] sockets at most each.
    pub lookups: usize,
    /// Those of one tenant. 32: with a name server that answers in 20 ms 1,600 names a second.
    /// More wait for a place. What a tenant's silent names hold are its own places.
    pub lookups_per_tenant: usize,
    /// Connect, over all addresses that are tried. 5 s: room for two lost packets.
    pub connect: Duration,
    /// TLS handshake. 5 s.
    pub tls: Duration,
    /// Connections to one receiver of one tenant that are kept while they are idle. 64, as many as
    /// are in flight by default.
    pub idle_per_receiver: usize,
    /// Of all receivers. 1,024, some 20 KiB each with TLS.
    pub idle_total: usize,
    /// Idle connections to one receiver of one tenant at any moment. 512: what is more than is kept
    /// goes after some seconds, so that a burst to several subscriptions of one receiver does not
    /// open a connection for each request.
    pub burst_per_receiver: usize,
    /// Of all receivers. 4,096, as many as are in flight at most.
    pub burst_total: usize,
    /// How long a connection may have been idle for a request that must not be sent twice. 2 s:
    /// below the shortest time after which common servers close idle connections, so that such a
    /// request does not cross the close.
    pub idle_once: Duration,
    /// How long a connection stays idle. 30 s: common servers close at 60 or 75 s, and to close
    /// first avoids sending into a closing connection.
    pub idle_timeout: Duration,
    /// How long a connection is used at all. 5 min: then the certificate is judged again.
    pub max_age: Duration,
    /// Connections open at once, idle or not. 8,192: below the usual descriptor limits, with some
    /// left for the store and the API.
    pub open: usize,
}

impl Default for EgressLimits {
    fn default() -> Self {
        Self {
            lookup: Duration::from_secs(2),
            name_known: Duration::from_secs(30),
            name_missing: Duration::from_secs(5),
            name_failed: Duration::from_secs(3),
            names: 4096,
            lookups: 256,
            lookups_per_tenant: 32,
            connect: Duration::from_secs(5),
            tls: Duration::from_secs(5),
            idle_per_receiver: 64,
            idle_total: 1024,
            burst_per_receiver: 512,
            burst_total: 4096,
            idle_once: Duration::from_secs(2),
            idle_timeout: Duration::from_secs(30),
            max_age: Duration::from_secs(300),
            open: 8192,
        }
    }
}

/// What egress is built from.
pub struct EgressOptions {
    /// What may leave.
    pub policy: EgressPolicy,
    /// What belongs to Pregón itself, and is never sent to.
    pub own: Own,
    /// The pools that are set up; `default` leaves as the system routes where it is not among them.
    pub pools: Vec<PoolOptions>,
    /// Who turns names into addresses.
    pub resolver: Arc<dyn Resolver>,
    /// Certificates trusted besides the web's authorities, as PEM: authorities, and certificates
    /// that receivers have signed themselves.
    pub extra_roots: Option<Vec<u8>>,
    /// By whose time certificates are judged.
    pub clock: SharedClock,
    /// Bounds.
    pub limits: EgressLimits,
}

/// Why egress cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// One of the extra roots is no certificate.
    #[error("extra root certificate {index} (counted from 0): {why}")]
    ExtraRoot {
        /// Which one.
        index: usize,
        /// What is wrong with it.
        why: String,
    },
    /// There is no certificate among the extra roots.
    #[error("holds no certificate in PEM: {what}")]
    NoExtraRoot {
        /// What is there, and what to do about it.
        what: &'static str,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {why}")]
    Tls {
        /// Why not.
        why: String,
    },
    /// An egress pool's own certificate cannot be used.
    #[error("egress pool {pool}: client certificate: {why}")]
    Pool {
        /// Which one.
        pool: PoolName,
        /// Why not.
        why: String,
    },
}

struct Inner {
    policy: RwLock<Arc<EgressPolicy>>,
    tenants: Tenants,
    ours: Ours,
    names: Arc<Names>,
    winners: Winners,
    ways: Ways,
    pool: Arc<Pool>,
    limits: EgressLimits,
    open: Arc<AtomicUsize>,
}

/// The way out; cheap to clone.
#[derive(Clone)]
pub struct Egress(Arc<Inner>);

impl Egress {
    /// Builds it; opens nothing yet.
    pub fn new(options: EgressOptions) -> Result<Self, EgressError> {
        let EgressOptions { policy, own, pools, resolver, extra_roots, clock, limits } = options;
        let names = NameLimits {
            lookup: limits.lookup,
            known: limits.name_known,
            missing: limits.name_missing,
            failed: limits.name_failed,
            names: limits.names,
            lookups: limits.lookups,
            lookups_per_tenant: limits.lookups_per_tenant,
        };
        let pool = PoolLimits {
            per_key: limits.idle_per_receiver,
            total: limits.idle_total,
            burst_per_key: limits.burst_per_receiver,
            burst_total: limits.burst_total,
            idle: limits.idle_timeout,
            age: limits.max_age,
        };
        Ok(Self(Arc::new(Inner {
            policy: RwLock::new(Arc::new(policy)),
            tenants: Tenants::default(),
            ours: Ours::new(own),
            names: Names::new(resolver, names),
            winners: Winners::default(),
            ways: Ways::new(pools, extra_roots.as_deref(), &clock)?,
            pool: Pool::new(pool),
            limits,
            open: Arc::default(),
        })))
    }

    /// Sends one request and reads its response; `timeout` covers all of it, from the lookup to
    /// the body's last byte. To drop the future is to close the connection.
    pub async fn send(&self, request: &OutboundRequest, timeout: Duration) -> Exchange {
        let mut progress = Progress::start();
        let sleep = std::pin::pin!(sleep(timeout));
        let mut deadline = Deadline::new(sleep);
        let result = self.0.exchange(request, &mut progress, &mut deadline).await;
        progress.finish(result)
    }

    /// Replaces the policy. Idle connections are closed at once, those in use after their request.
    pub fn set_policy(&self, policy: EgressPolicy) {
        *self.0.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
        self.0.pool.clear();
    }

    /// Takes over what all tenants say of their way out. Where a tenant says something else than
    /// before, its connections are closed: idle ones at once, those in use after their request.
    pub fn set_tenants(&self, all: &HashMap<TenantId, TenantEgress>) {
        let changed = self.0.tenants.set(all);
        if !changed.is_empty() {
            self.0.pool.clear_of(&changed);
        }
    }

    /// How many connections are open, and how many of them idle.
    pub fn connections(&self) -> (usize, usize) {
        (self.0.open.load(std::sync::atomic::Ordering::Relaxed), self.0.pool.idle())
    }
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, idle) = self.connections();
        f.debug_struct("Egress").field("open", &open).field("idle", &idle).finish_non_exhaustive()
    }
}

/// A request that failed on its connection.
struct Broken {
    fault: Fault,
    /// No byte of a response came.
    unheard: bool,
    /// Nor did a byte of the request leave.
    unsent: bool,
}

impl Broken {
    /// A response came and was no good.
    fn heard(fault: Fault) -> Self {
        Self { fault, unheard: false, unsent: false }
    }

    /// Whether the request may go out again over a new connection.
    fn may_resend(&self, resend: Resend) -> bool {
        match resend {
            Resend::IfUnheard => self.unheard,
            Resend::IfUnsent => self.unsent,
        }
    }
}

impl Inner {
    /// The policy and the generation that connections opened under it belong to. The generation
    /// is read first: if the policy changes in between, the connection counts as an old one.
    fn policy(&self) -> (Arc<EgressPolicy>, u64) {
        let generation = self.pool.generation();
        (self.current_policy(), generation)
    }

    fn current_policy(&self) -> Arc<EgressPolicy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn exchange(
        &self,
        request: &OutboundRequest,
        progress: &mut Progress,
        deadline: &mut Deadline<'_>,
    ) -> Result<Response, Fault> {
        let key = request.target.key();
        let plan = request.target.plan().map_err(Clone::clone)?;
        let idle_for = match request.resend {
            Resend::IfUnheard => Duration::MAX, // the pool has its own limit
            Resend::IfUnsent => self.limits.idle_once,
        };
        let told = self.tenants.get(&key.tenant);
        let way = self.ways.get(key.choice.of(told.says.pool.as_ref()))?;
        let policy = self.current_policy();
        policy.scheme(key.scheme)?;
        policy.host(&told.says.rules, &key.host, key.port)?;
        let known = deadline.bound(self.resolve(key, progress)).await;
        let known = known.ok_or_else(|| progress.stage.timeout())??;
        let under = (idle_for, told.version);
        if let Some(idle) = self.pool.take(key, under, |remote| known.has(remote)) {
            progress.reused = true;
            progress.remote = Some(idle.remote);
            match self.over(idle, request, plan, progress, deadline).await {
                Ok(response) => return Ok(response),
                Err(broken) if broken.may_resend(request.resend) => {
                    progress.reused = false;
                    // What did not leave did not go out twice.
                    progress.resent = !broken.unsent;
                }
                Err(broken) => return Err(broken.fault),
            }
        }
        // Boxed: it is large, and rare beside requests over connections that are open already.
        let (known, name) = (known.addresses()?, plan.server_name.as_ref());
        let fresh = Box::pin(self.connect(key, known, name, (way, &told), progress));
        let fresh = deadline.bound(fresh).await.ok_or_else(|| progress.stage.timeout())??;
        self.over(fresh, request, plan, progress, deadline).await.map_err(|broken| broken.fault)
    }

    /// Keeps a connection for the next request, unless its tenant has said something else since.
    fn keep(&self, key: &Arc<PoolKey>, connection: Box<Connection>) {
        self.pool.put(key, connection, || self.tenants.get(&key.tenant).version);
    }

    /// One request over one connection, which goes back into the pool if it can carry another.
    async fn over(
        &self,
        mut connection: Box<Connection>,
        request: &OutboundRequest,
        plan: &Plan,
        progress: &mut Progress,
        deadline: &mut Deadline<'_>,
    ) -> Result<Response, Broken> {
        progress.stage = Stage::Head;
        let begin = Instant::now();
        let answer = deadline.bound(connection.send(request.message(plan), &request.spelled)).await;
        progress.timing.first_byte = micros(begin.elapsed());
        let (head, body) = match answer {
            Some(Ok(answer)) => answer.into_parts(),
            unread => return headless(request.asks, connection.meter(), unread),
        };
        progress.stage = Stage::Body(head.status);
        let mut body = std::pin::pin!(body);
        let mut read = BodyRead::new(request.keep);
        let reading = read_body(body.as_mut(), limits::RESPONSE_READ, &mut read);
        let end = deadline.bound(connection.drive(reading)).await;
        if end.is_none() && request.asks == Asks::Whole {
            return Err(Broken::heard(progress.stage.timeout()));
        }
        if end == Some(BodyEnd::Complete) {
            self.keep(request.target.key(), connection);
        }
        Ok(Response {
            status: head.status,
            headers: head.headers,
            truncated: read.is_longer() || matches!(end, None | Some(BodyEnd::Failed)),
            cut: end.is_none().then_some(Cut::Time),
            body: read.into_kept(),
        })
    }
}

/// What becomes of an answer without a head that can be read: the status decides if it is there
/// and nothing else is asked for. `error`: none if the time was up.
fn headless(
    asks: Asks,
    meter: &Meter,
    error: Option<Result<http::Response<hyper::body::Incoming>, hyper::Error>>,
) -> Result<Response, Broken> {
    let status = meter.status().filter(|_| asks == Asks::Status);
    let cut = error.as_ref().map_or(Cut::Time, |_| Cut::Head);
    if let Some(bare) = status.and_then(|status| Response::bare(status, cut)) {
        return Ok(bare);
    }
    Err(match error {
        None => Broken::heard(Stage::Head.timeout()),
        Some(_) if meter.flooded() => Broken::heard(flood()),
        Some(error) => Broken {
            fault: error.err().as_ref().map_or_else(flood, fault_of),
            unheard: !meter.heard(),
            unsent: !meter.sent(),
        },
    })
}

fn flood() -> Fault {
    Fault::new(ErrorClass::Protocol, "the receiver sends without end ahead of its answer")
}

fn too_large() -> Fault {
    Fault::new(ErrorClass::Protocol, "the response's head has more than 16 KiB or 100 lines")
}

/// What an error of hyper's means.
fn fault_of(error: &hyper::Error) -> Fault {
    let protocol = |why| Fault::new(ErrorClass::Protocol, why);
    if error.is_parse_too_large() {
        return too_large();
    }
    if error.is_parse() {
        return protocol("the response is not HTTP/1.1");
    }
    let cause = std::error::Error::source(error);
    if let Some(io) = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>()) {
        if dial::is_local(io) {
            return dial::local();
        }
        if let Some(why) = tls::detail(io) {
            return Fault::new(ErrorClass::Tls, why);
        }
    }
    protocol("the connection was closed before a response")
}
