//! What a sink has counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::histogram::{Histogram, Summary};
use crate::stamp::Stamp;

/// The counts of a sink, shared by its connections.
#[derive(Clone, Debug)]
pub struct Tally(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    phase: AtomicU64,
    stale: AtomicU64,
    unstamped: AtomicU64,
    bytes: AtomicU64,
    first: AtomicU64,
    last: AtomicU64,
    routes: Vec<Route>,
}

/// One subscriber's share.
#[derive(Debug)]
struct Route {
    received: AtomicU64,
    repeats: AtomicU64,
    latency: Histogram,
    /// One bit for each event number, set when it came.
    seen: Vec<AtomicU64>,
}

/// What a sink counted since it started or was reset.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SinkReport {
    /// Requests with events of the expected phase.
    pub received: u64,
    /// Those among them that had come before.
    pub repeats: u64,
    /// Requests with events of another phase.
    pub stale: u64,
    /// Requests in which no stamp was found.
    pub unstamped: u64,
    /// Bytes of the bodies of all requests.
    pub bytes: u64,
    /// When the first of `received` came; 0 when none did.
    pub first: Moment,
    /// When the last of `received` came; 0 when none did.
    pub last: Moment,
    /// From the moment in the stamp to the receipt, of first receipts only.
    pub latency: Summary,
    /// The same for each route that received anything.
    pub routes: Vec<RouteReport>,
}

/// What one route of a sink counted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RouteReport {
    /// Number of the route.
    pub route: usize,
    /// Requests with events of the expected phase.
    pub received: u64,
    /// Those among them that had come before.
    pub repeats: u64,
    /// From the moment in the stamp to the receipt, of first receipts only.
    pub latency: Summary,
}

impl Tally {
    /// Nothing counted yet. Duplicates are found among event numbers below `unique`.
    pub fn new(routes: u16, unique: u64, phase: u64) -> Self {
        let words = usize::try_from(unique.div_ceil(64)).unwrap_or(0);
        let route = || Route {
            received: AtomicU64::new(0),
            repeats: AtomicU64::new(0),
            latency: Histogram::default(),
            seen: (0..words).map(|_| AtomicU64::new(0)).collect(),
        };
        Self(Arc::new(Counts {
            phase: AtomicU64::new(phase),
            stale: AtomicU64::new(0),
            unstamped: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            first: AtomicU64::new(0),
            last: AtomicU64::new(0),
            routes: (0..routes).map(|_| route()).collect(),
        }))
    }

    /// Counts one request.
    pub fn count(&self, route: usize, stamp: Option<Stamp>, bytes: u64, now: Moment) {
        let counts = &*self.0;
        counts.bytes.fetch_add(bytes, Relaxed);
        let Some(stamp) = stamp else {
            counts.unstamped.fetch_add(1, Relaxed);
            return;
        };
        let route = counts.routes.get(route).or(counts.routes.first());
        let Some(route) = route.filter(|_| stamp.phase == counts.phase.load(Relaxed)) else {
            counts.stale.fetch_add(1, Relaxed);
            return;
        };
        let _ = counts.first.compare_exchange(0, now.0, Relaxed, Relaxed);
        counts.last.fetch_max(now.0, Relaxed);
        if route.mark(stamp.sequence) {
            route.latency.record(stamp.age(now));
        } else {
            route.repeats.fetch_add(1, Relaxed);
        }
        route.received.fetch_add(1, Relaxed);
    }

    /// Forgets everything, and expects events of another phase from now on.
    pub fn reset(&self, phase: u64) {
        let counts = &*self.0;
        counts.phase.store(phase, Relaxed);
        let single = [&counts.stale, &counts.unstamped, &counts.bytes, &counts.first, &counts.last];
        for counter in single {
            counter.store(0, Relaxed);
        }
        for route in &counts.routes {
            route.received.store(0, Relaxed);
            route.repeats.store(0, Relaxed);
            route.latency.clear();
            for word in &route.seen {
                if word.load(Relaxed) != 0 {
                    word.store(0, Relaxed);
                }
            }
        }
    }

    /// What was counted.
    pub fn report(&self) -> SinkReport {
        let counts = &*self.0;
        let latency = Histogram::default();
        let mut routes = Vec::new();
        for (number, route) in counts.routes.iter().enumerate() {
            let received = route.received.load(Relaxed);
            if received > 0 {
                latency.add(&route.latency);
                routes.push(RouteReport {
                    route: number,
                    received,
                    repeats: route.repeats.load(Relaxed),
                    latency: route.latency.summary(),
                });
            }
        }
        SinkReport {
            received: routes.iter().map(|route| route.received).sum(),
            repeats: routes.iter().map(|route| route.repeats).sum(),
            stale: counts.stale.load(Relaxed),
            unstamped: counts.unstamped.load(Relaxed),
            bytes: counts.bytes.load(Relaxed),
            first: Moment(counts.first.load(Relaxed)),
            last: Moment(counts.last.load(Relaxed)),
            latency: latency.summary(),
            routes,
        }
    }
}

impl SinkReport {
    /// Different events received, of all routes together.
    pub fn unique(&self) -> u64 {
        self.received - self.repeats
    }
}

impl Route {
    /// Notes that an event came; true when it had not come before, or when nobody can tell.
    fn mark(&self, sequence: u64) -> bool {
        let word = usize::try_from(sequence / 64).ok().and_then(|word| self.seen.get(word));
        let bit = 1 << (sequence % 64);
        word.is_none_or(|word| word.fetch_or(bit, Relaxed) & bit == 0)
    }
}
