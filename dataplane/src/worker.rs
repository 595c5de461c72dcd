//! The delivery workers of a node: claim, attempt, settle.
//!
//! [`dispatch`] decides, this loop awaits. One task owns the machine; attempts run as tasks of
//! their own and report back over a bounded channel; store calls are futures of the loop, one of a
//! kind at a time. A node without work sleeps until the store rings, or until the next due moment
//! that a claim named.
//!
//! Faults and reactions: the store does not answer: attempts under way go on, their results wait
//! here and are settled when it answers again, and nothing new starts from a lease that could not
//! be extended. A lease was lost: its results are logged as late and move nothing. The process is
//! asked to go: no new claims, attempts under way finish up to a limit, results are settled, the
//! rest is given back at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use pregon_core::clock::SharedClock;
use pregon_core::id::NodeId;
use pregon_core::rate::HostRates;
use pregon_store::{ConfigStore, Operate, Rates, TestSends, Work};
use pregon_telemetry::Telemetry;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::egress::Egress;
use crate::snapshot::Configuration;

mod announce;
mod attempt;
mod attempts;
mod breaker;
mod calls;
mod counted;
mod disable;
mod dispatch;
mod gates;
mod gathering;
mod job;
mod lane;
mod lanes;
mod ledger;
mod lifecycle;
mod matcher;
mod rate;
mod record;
mod runners;
pub(crate) mod scrub;
mod test_send;
mod traced;

pub use dispatch::WorkerLimits;

use attempts::Attempts;
use calls::Calls;
use dispatch::Dispatcher;
use gates::Gates;
use matcher::Matcher;
use traced::Traced;

/// How long a claim lasts unless it is extended: longer than any attempt may take.
pub const LEASE: Duration = Duration::from_secs(20);
/// How long an idle node sleeps at most; shorter than a lease, so that a lease born after its last
/// look cannot lapse unseen.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// How soon a store call is repeated that failed.
const RETRY_STORE: Duration = Duration::from_millis(200);
/// A ring of the store leads to a look at the lanes at most this often; a busy store rings with
/// every publish.
const RING_DUE: Duration = Duration::from_millis(20);
/// The same of a look for test sends: whoever asked for one waits for its answer, and a tenth of a
/// second of that is not felt.
const RING_TESTS: Duration = Duration::from_millis(100);
/// How often a node that is full and so does not listen looks for test sends.
const DEAF_TESTS: Duration = Duration::from_millis(500);
/// How often lanes are counted by their state, which walks all that have work.
const CENSUS: Duration = Duration::from_secs(1);
/// The same of a look for batches that were given back, which is seldom what a ring is for.
const RING_OVER: Duration = Duration::from_secs(1);

/// What the workers need.
pub struct WorkerOptions {
    /// This node.
    pub node: NodeId,
    /// Events and deliveries, as nodes claim and settle them.
    pub work: Arc<dyn Work>,
    /// What configuration asks to be ended, closed or opened.
    pub operate: Arc<dyn Operate>,
    /// Test sends.
    pub tests: Arc<dyn TestSends>,
    /// Rates that nodes keep together.
    pub rates: Arc<dyn Rates>,
    /// How fast hosts may be sent to.
    pub hosts: Arc<HostRates>,
    /// Configuration; written only to note that a subscription's receiver is gone, or only fails.
    pub config: Arc<dyn ConfigStore>,
    /// The node's configuration.
    pub configuration: Configuration,
    /// The way out.
    pub egress: Egress,
    /// Wall-clock time.
    pub clock: SharedClock,
    /// Bounds of this node.
    pub limits: WorkerLimits,
    /// How long a claim lasts.
    pub lease: Duration,
    /// How long attempts under way may take to finish when the node goes down; none: a second more
    /// than the longest attempt that a served contract allows.
    pub drain_limit: Option<Duration>,
    /// `User-Agent` of requests whose contract names none.
    pub user_agent: Bytes,
    /// Decides the jitter of retries.
    pub seed: u64,
    /// Where what happens is reported.
    pub telemetry: Telemetry,
}

/// What the workers have to do just now.
#[derive(Debug, Default)]
pub struct Load {
    in_flight: AtomicUsize,
    claimed: AtomicUsize,
    lanes: AtomicUsize,
    closed: AtomicUsize,
    paused: AtomicUsize,
    broken: AtomicUsize,
    recovering: AtomicUsize,
    rated: AtomicUsize,
    turns: AtomicU64,
}

impl Load {
    /// Attempts in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Events and deliveries under lease.
    pub fn claimed(&self) -> usize {
        self.claimed.load(Ordering::Relaxed)
    }

    /// Turns that the loop has taken: it takes one every [`IDLE_MAX`] at least, whatever the store
    /// does. None before the first snapshot.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Lanes with work in memory.
    pub fn lanes(&self) -> usize {
        self.lanes.load(Ordering::Relaxed)
    }

    /// Those of them that their receivers asked to leave alone; at most a second old.
    pub fn closed(&self) -> usize {
        self.closed.load(Ordering::Relaxed)
    }

    /// Those of them whose breaker is open; at most a second old.
    pub fn broken(&self) -> usize {
        self.broken.load(Ordering::Relaxed)
    }

    /// Those of them whose breaker lets attempts out at a rate; at most a second old.
    pub fn recovering(&self) -> usize {
        self.recovering.load(Ordering::Relaxed)
    }

    /// Those of them whose subscription is paused; at most a second old.
    pub fn paused(&self) -> usize {
        self.paused.load(Ordering::Relaxed)
    }

    /// Those of them that wait for a rate.
    pub fn rated(&self) -> usize {
        self.rated.load(Ordering::Relaxed)
    }
}

/// The running workers.
pub struct Workers {
    load: Arc<Load>,
    drain: CancellationToken,
    task: JoinHandle<()>,
}

impl Workers {
    /// Starts them; they claim once the first snapshot is there.
    pub fn start(options: WorkerOptions) -> Self {
        let load = Arc::new(Load::default());
        let drain = CancellationToken::new();
        let task = tokio::spawn(run(options, Arc::clone(&load), drain.clone()));
        Self { load, drain, task }
    }

    /// What they have to do just now.
    pub fn load(&self) -> Arc<Load> {
        Arc::clone(&self.load)
    }

    /// Lets attempts under way finish, settles them, gives the rest back. Returns when that is
    /// done, within the drain limit and a few seconds.
    pub async fn drain(self) {
        self.drain.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the delivery workers ended badly");
        }
    }
}

async fn run(options: WorkerOptions, load: Arc<Load>, drain: CancellationToken) {
    let mut snapshots = options.configuration.watch();
    let first = tokio::select! {
        first = options.configuration.ready() => first,
        () = drain.cancelled() => return,
    };
    snapshots.mark_changed();
    let (matcher, matched) = Matcher::start();
    let (reports, inbox) = mpsc::channel(options.limits.max_in_flight.max(1));
    let driver = Driver {
        machine: Dispatcher::new(
            options.node.clone(),
            options.lease,
            options.limits,
            first,
            options.seed,
            options.telemetry.clone(),
        )
        .under(Arc::clone(&options.hosts)),
        traced: Traced::new(options.telemetry.clone()),
        calls: Calls::new(&options),
        attempts: Attempts::new(&options, reports),
        gates: Gates::start(Arc::clone(&options.operate)),
        matcher,
        options,
        load,
        census: Instant::now(),
    };
    driver.run((inbox, matched), snapshots, drain).await;
}

struct Driver {
    options: WorkerOptions,
    machine: Dispatcher,
    calls: Calls,
    attempts: Attempts,
    gates: Gates,
    matcher: Matcher,
    traced: Traced,
    load: Arc<Load>,
    /// When lanes are to be counted next.
    census: Instant,
}
