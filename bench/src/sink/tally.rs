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
    refused: AtomicU64,
    refused_events: AtomicU64,
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
    /// The events that came and were acknowledged.
    seen: Bits,
    /// The events that were refused.
    refused: Bits,
}

/// One bit for each event number.
#[derive(Debug)]
struct Bits(Vec<AtomicU64>);

/// What a sink counted since it started or was reset.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SinkReport {
    /// Requests with events of the expected phase that were acknowledged, or never answered.
    pub received: u64,
    /// Those among them that had come before.
    pub repeats: u64,
    /// Requests with events of the expected phase that were refused.
    #[serde(default)]
    pub refused: u64,
    /// Different events in these; counted apart on each route.
    #[serde(default)]
    pub refused_events: u64,
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
    /// Requests with events of the expected phase that were acknowledged, or never answered.
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
            seen: Bits::new(words),
            refused: Bits::new(words),
        };
        Self(Arc::new(Counts {
            phase: AtomicU64::new(phase),
            stale: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            refused_events: AtomicU64::new(0),
            unstamped: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            first: AtomicU64::new(0),
            last: AtomicU64::new(0),
            routes: (0..routes).map(|_| route()).collect(),
        }))
    }

    /// Counts one request, which is acknowledged or refused.
    pub fn count(&self, route: usize, stamp: Option<Stamp>, bytes: u64, now: Moment, good: bool) {
        let counts = &*self.0;
        counts.bytes.fetch_add(bytes, Relaxed);
        let Some(stamp) = stamp else {
            counts.unstamped.fetch_add(1, Relaxed);
            return;
        };
        let Some(route) = counts.expected(route, stamp) else {
            counts.stale.fetch_add(1, Relaxed);
            return;
        };
        if !good {
            counts.refused.fetch_add(1, Relaxed);
            if route.refused.mark(stamp.sequence).unwrap_or(false) {
                counts.refused_events.fetch_add(1, Relaxed);
            }
            return;
        }
        let _ = counts.first.compare_exchange(0, now.0, Relaxed, Relaxed);
        counts.last.fetch_max(now.0, Relaxed);
        // What is beyond memory may be new.
        if route.seen.mark(stamp.sequence).unwrap_or(true) {
            route.latency.record(stamp.age(now));
        } else {
            route.repeats.fetch_add(1, Relaxed);
        }
        route.received.fetch_add(1, Relaxed);
    }

    /// Whether this event was never refused on this route, as far as anybody can tell.
    pub fn never_refused(&self, route: usize, stamp: Stamp) -> bool {
        let route = self.0.expected(route, stamp);
        route.and_then(|route| route.refused.has(stamp.sequence)).is_some_and(|refused| !refused)
    }

    /// Forgets everything, and expects events of another phase from now on.
    pub fn reset(&self, phase: u64) {
        let counts = &*self.0;
        counts.phase.store(phase, Relaxed);
        let requests = [&counts.stale, &counts.refused, &counts.refused_events, &counts.unstamped];
        for counter in requests.into_iter().chain([&counts.bytes, &counts.first, &counts.last]) {
            counter.store(0, Relaxed);
        }
        for route in &counts.routes {
            route.received.store(0, Relaxed);
            route.repeats.store(0, Relaxed);
            route.latency.clear();
            route.seen.clear();
            route.refused.clear();
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
            refused: counts.refused.load(Relaxed),
            refused_events: counts.refused_events.load(Relaxed),
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

impl Counts {
    /// The route of an event of the phase that is expected.
    fn expected(&self, route: usize, stamp: Stamp) -> Option<&Route> {
        let route = self.routes.get(route).or(self.routes.first());
        route.filter(|_| stamp.phase == self.phase.load(Relaxed))
    }
}

impl Bits {
    fn new(words: usize) -> Self {
        Self((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    /// Sets the bit of an event; whether it was not set before, unless nobody can tell.
    fn mark(&self, sequence: u64) -> Option<bool> {
        let word = self.0.get(usize::try_from(sequence / 64).ok()?)?;
        let bit = 1 << (sequence % 64);
        Some(word.fetch_or(bit, Relaxed) & bit == 0)
    }

    /// Whether the bit of an event is set, unless nobody can tell.
    fn has(&self, sequence: u64) -> Option<bool> {
        let word = self.0.get(usize::try_from(sequence / 64).ok()?)?;
        Some(word.load(Relaxed) & (1 << (sequence % 64)) != 0)
    }

    fn clear(&self) {
        for word in &self.0 {
            if word.load(Relaxed) != 0 {
                word.store(0, Relaxed);
            }
        }
    }
}
