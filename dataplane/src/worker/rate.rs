//! How fast attempts may start: rates of lanes, of the hosts that they send to, and of tenants.
//!
//! A rate is kept over all nodes. The store hands out its slots, each once ([`pregon_store::rate`]);
//! a node asks for some ahead of their time, and an attempt uses one of each rate that its lane is
//! under. So an attempt costs no call, and no more goes out than the rates allow, on one node or on
//! many. What is not used in time lapses ([`bucket`]).
//!
//! Who asks for how much: what waits here for the rate, and as much as was used since the last time.
//! A rate that nobody uses is not asked for. A lane that was idle has its first delivery wait for
//! one call.
//!
//! Who goes first: lanes under one rate take turns, one attempt each. A lane waits at the first of
//! its rates that has no slot for it, and whoever comes while others wait goes behind them. A lane
//! in turn that cannot use it (no free slot of its own, or another rate holds it) lets the next one
//! have it.
//!
//! What a lane that waits costs: a place in a row. It is looked at when a slot's time has come, not
//! before.
//!
//! Test sends wait for nobody, and count: a slot for each is left unused afterwards. A request with
//! many events is one attempt.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use pregon_core::id::LaneNo;
use pregon_core::rate::{HostRates, Rate};
use pregon_store::rate::{ASKS_MAX, RateAsk, RateKey, RateLease};
use tokio::time::Instant;

use super::lane::{Means, Pass};
use crate::snapshot::Lane;

mod bucket;

use bucket::Bucket;

/// How soon a rate is asked for again at the earliest.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// Time between two looks at all rates that may have something to ask for.
const LOOK_APART: Duration = Duration::from_millis(2);
/// How soon a rate that has enough is looked at again while lanes wait for it.
const LOOK_AGAIN: Duration = Duration::from_millis(30);

/// The rates of all lanes with work here.
#[derive(Debug, Default)]
pub(super) struct Rates {
    hosts: Arc<HostRates>,
    /// By which rates a lane is held; an empty list: by none. Filled when a lane is first met.
    lanes: HashMap<LaneNo, Arc<[usize]>>,
    places: HashMap<RateKey, usize>,
    /// None: nobody is under it any more, and its place is free.
    buckets: Vec<Option<Bucket>>,
    free: Vec<usize>,
    /// When a bucket in which lanes wait has a slot.
    wakes: BTreeSet<(Instant, usize)>,
    /// Buckets that may have something to ask for.
    hungry: BTreeSet<usize>,
    /// When they are looked at next; none: nothing is to be asked for.
    look: Option<Instant>,
    /// Lanes that wait.
    waiting: HashSet<LaneNo>,
    /// The lane whose turn it is.
    turn: Option<LaneNo>,
    /// Where the last ask ended: with more than one ask holds, they take turns.
    last: usize,
    asking: bool,
}

impl Rates {
    /// With what the deployment says of hosts.
    pub(super) fn new(hosts: Arc<HostRates>) -> Self {
        Self { hosts, ..Self::default() }
    }

    /// Whether a lane is under any rate. All that the others pay.
    pub(super) fn limits(&self, lane: &Lane) -> bool {
        lane.rate.is_some() || lane.tenant_rate.is_some() || !self.hosts.is_empty()
    }

    /// What rates allow a lane now.
    pub(super) fn pass(&mut self, lane: &Lane, now: Instant) -> Pass {
        if !self.limits(lane) {
            return Pass::default();
        }
        let places = self.places_of(lane);
        let (mut pass, mut slowest) = (Pass::default(), f64::INFINITY);
        for place in places.iter() {
            let Some(bucket) = self.buckets[*place].as_mut() else { continue };
            let share = bucket.rate.per_second() / f64::from(bucket.lanes.max(1));
            if share < slowest {
                (slowest, pass.rate, pass.sharers) = (share, Some(bucket.rate), bucket.lanes);
            }
            let in_turn = bucket.row.is_empty() || self.turn == Some(lane.lane);
            pass.held |= !(in_turn && bucket.has_slot(now));
        }
        pass
    }

    /// What the node has left, with what rates allow the lane.
    pub(super) fn means(&mut self, means: Means, lane: Option<&Arc<Lane>>, now: Instant) -> Means {
        match lane {
            Some(lane) if self.limits(lane) => Means { pass: self.pass(lane, now), ..means },
            Some(_) | None => means,
        }
    }

    /// A request of the lane goes out: a slot of each rate is used. Where there is none, since it goes
    /// without asking, the next one is left unused.
    pub(super) fn spend(&mut self, lane: &Lane, now: Instant) {
        if !self.limits(lane) {
            return;
        }
        for place in self.places_of(lane).iter() {
            let Some(bucket) = self.buckets[*place].as_mut() else { continue };
            bucket.take(now);
            self.need(*place);
            self.wake(*place, now);
        }
    }

    /// The lane has something that may not start yet: it waits at the first rate that holds it.
    pub(super) fn wait(&mut self, lane: &Lane, now: Instant) {
        if !self.limits(lane) || self.waiting.contains(&lane.lane) {
            return;
        }
        let places = self.places_of(lane);
        // In its turn the rate that it waited at does not hold it, whoever else waits there.
        let in_turn = self.turn == Some(lane.lane);
        let holds = |place: &&usize| {
            let bucket = self.buckets[**place].as_mut();
            bucket.is_some_and(|it| !((in_turn || it.row.is_empty()) && it.has_slot(now)))
        };
        let Some(place) = places.iter().find(holds).or(places.first()).copied() else { return };
        if let Some(bucket) = self.buckets[place].as_mut() {
            bucket.row.push_back(lane.lane);
            self.waiting.insert(lane.lane);
            self.need(place);
            self.wake(place, now);
        }
    }

    /// The next lane whose turn it is: a slot is there for it. Until [`Self::end_turn`] it goes
    /// before those that wait.
    pub(super) fn next_turn(&mut self, now: Instant) -> Option<LaneNo> {
        while let Some((at, place)) = self.wakes.first().copied().filter(|(at, _)| *at <= now) {
            self.wakes.remove(&(at, place));
            let Some(bucket) = self.buckets[place].as_mut() else { continue };
            bucket.wake = None;
            let lane = if bucket.has_slot(now) { bucket.row.pop_front() } else { None };
            self.wake(place, now);
            if let Some(lane) = lane {
                self.waiting.remove(&lane);
                self.turn = Some(lane);
                return Some(lane);
            }
        }
        None
    }

    /// The turn is over.
    pub(super) fn end_turn(&mut self) {
        self.turn = None;
    }

    /// When somebody's turn comes; none: nobody waits, or all wait for the store.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// How many lanes wait for a rate.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// What to ask the store for now; nothing while a call is under way. `waits`: how many attempts
    /// of a lane wait.
    pub(super) fn asks(&mut self, now: Instant, waits: impl Fn(LaneNo) -> usize) -> Vec<RateAsk> {
        if self.asking || self.look.is_none_or(|look| now < look) {
            return Vec::new();
        }
        let mut asks = Vec::new();
        let behind = self.hungry.range(self.last + 1..).chain(self.hungry.range(..=self.last));
        for place in behind.copied().collect::<Vec<_>>() {
            let Some(bucket) = self.buckets[place].as_mut() else {
                self.hungry.remove(&place);
                continue;
            };
            if bucket.ask_at > now {
                continue;
            }
            let want = bucket.want(now, &waits);
            if want == 0 {
                if bucket.row.is_empty() {
                    self.hungry.remove(&place);
                } else {
                    bucket.ask_at = now + LOOK_AGAIN;
                }
                continue;
            }
            asks.push(RateAsk { key: bucket.key.clone(), rate: bucket.rate, want });
            self.last = place;
            if asks.len() == ASKS_MAX {
                break;
            }
        }
        self.asking = !asks.is_empty();
        self.look_after(now + LOOK_APART);
        asks
    }

    /// When there may be something to ask for.
    pub(super) fn next_ask(&self) -> Option<Instant> {
        self.look.filter(|_| !self.asking)
    }

    /// A bucket may have something to ask for.
    fn need(&mut self, place: usize) {
        if self.hungry.insert(place)
            && let Some(bucket) = &self.buckets[place]
        {
            let at = bucket.ask_at;
            self.look = Some(self.look.map_or(at, |look| look.min(at)));
        }
    }

    /// Sets when hungry buckets are looked at next: when the first may be asked for, and not before.
    fn look_after(&mut self, not_before: Instant) {
        let asks_at = |place: &usize| Some(self.buckets[*place].as_ref()?.ask_at);
        let first = self.hungry.iter().filter_map(asks_at).min();
        self.look = first.map(|at| at.max(not_before));
    }

    /// The store answered what was asked at `asked`.
    pub(super) fn on_leases(
        &mut self,
        asks: &[RateAsk],
        leases: &[RateLease],
        (asked, now): (Instant, Instant),
    ) {
        self.asking = false;
        for (ask, lease) in asks.iter().zip(leases) {
            let Some(place) = self.places.get(&ask.key).copied() else { continue };
            let Some(bucket) = self.buckets[place].as_mut() else { continue };
            bucket.ask_at = now + lease.again.max(ASK_AGAIN);
            bucket.lease(ask.rate, *lease, (asked, now));
            self.wake(place, now);
        }
        self.look_after(now);
    }

    /// The store did not answer: it is asked again after so long.
    pub(super) fn not_leased(&mut self, asks: &[RateAsk], again: Instant) {
        self.asking = false;
        for ask in asks {
            let place = self.places.get(&ask.key);
            if let Some(bucket) = place.and_then(|place| self.buckets[*place].as_mut()) {
                bucket.ask_at = again;
            }
        }
        self.look_after(again);
    }

    /// The configuration of a lane changed.
    pub(super) fn change(&mut self, no: LaneNo) {
        self.leave(no);
    }

    /// Forgets lanes that have nothing here.
    pub(super) fn keep(&mut self, has: impl Fn(LaneNo) -> bool) {
        let gone = self.lanes.keys().copied().filter(|no| !has(*no)).collect::<Vec<_>>();
        gone.into_iter().for_each(|no| self.leave(no));
    }

    fn leave(&mut self, no: LaneNo) {
        let Some(places) = self.lanes.remove(&no) else { return };
        let waited = self.waiting.remove(&no);
        for place in places.iter() {
            let Some(bucket) = self.buckets[*place].as_mut() else { continue };
            bucket.lanes = bucket.lanes.saturating_sub(1);
            if waited {
                bucket.row.retain(|lane| *lane != no);
            }
            if bucket.lanes == 0 {
                if let Some(at) = bucket.wake {
                    self.wakes.remove(&(at, *place));
                }
                self.places.remove(&bucket.key);
                self.hungry.remove(place);
                self.buckets[*place] = None;
                self.free.push(*place);
            }
        }
    }

    /// The rates that a lane is under, its own first.
    fn places_of(&mut self, lane: &Lane) -> Arc<[usize]> {
        if let Some(known) = self.lanes.get(&lane.lane) {
            return Arc::clone(known);
        }
        let own = lane.rate.map(|rate| (RateKey::Lane(lane.lane), rate));
        let tenant = lane.tenant_rate.map(|rate| (RateKey::Tenant(lane.name.tenant.clone()), rate));
        let (host, port) = (lane.url.host(), lane.url.port());
        let host = self.hosts.of(host, port).map(|rate| (RateKey::host(host, port), rate));
        let all = [own, host, tenant].into_iter().flatten();
        let places: Arc<[usize]> = all.map(|(key, rate)| self.join(key, rate)).collect();
        self.lanes.insert(lane.lane, Arc::clone(&places));
        places
    }

    fn join(&mut self, key: RateKey, rate: Rate) -> usize {
        let place = match self.places.get(&key) {
            Some(place) => *place,
            None => {
                let bucket = Some(Bucket::new(key.clone(), rate));
                let place = self.free.pop().unwrap_or(self.buckets.len());
                match self.buckets.get_mut(place) {
                    Some(free) => *free = bucket,
                    None => self.buckets.push(bucket),
                }
                self.places.insert(key, place);
                place
            }
        };
        if let Some(bucket) = self.buckets[place].as_mut() {
            bucket.lanes += 1;
            bucket.rate = rate;
        }
        place
    }

    /// Sets when the bucket is looked at: when somebody waits and a slot is there.
    fn wake(&mut self, place: usize, now: Instant) {
        let Some(bucket) = self.buckets[place].as_mut() else { return };
        let waits = !bucket.row.is_empty();
        let at = if waits { bucket.next_slot(now) } else { None };
        if at == bucket.wake {
            return;
        }
        if let Some(before) = std::mem::replace(&mut bucket.wake, at) {
            self.wakes.remove(&(before, place));
        }
        if let Some(at) = at {
            self.wakes.insert((at, place));
        }
    }
}

/// Lanes that wait, in turn.
type Row = VecDeque<LaneNo>;
