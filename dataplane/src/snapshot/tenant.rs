//! A tenant and its lanes.
//!
//! Most tenants have a handful of subscriptions, which are simply looked at one after the other.
//! A tenant with many gets an index, made by the first event after a change: lanes by the exact
//! types they name, and those with a wildcard, which are looked at for every event.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pregon_core::clock::Timestamp;
use pregon_core::event::Event;
use pregon_core::id::{LaneNo, TenantId};
use pregon_core::model::{Tenant, TenantLimits};
use pregon_core::pattern::PatternKind;

use super::lane::Lane;
use super::quota::Quota;
use super::rate::Rate;
use super::{Labels, labels_of};

/// Lanes up to which looking at each costs no more than looking into an index.
const SCANNED: usize = 16;

/// Lanes without filters up to which a tenant's events are matched on the spot: some ten microseconds.
const QUICK: usize = 256;

/// A tenant, as publishing and matching see it.
#[derive(Clone, Debug)]
pub struct TenantEntry {
    /// Its id.
    pub id: TenantId,
    /// The revision that wrote it last.
    pub revision: i64,
    /// Publishes are refused and deliveries wait.
    pub suspended: bool,
    /// What it may use.
    pub limits: TenantLimits,
    /// What was accepted before this was another tenant's of the same name.
    pub since: Option<Timestamp>,
    /// Its labels.
    pub labels: Labels,
    /// A tenant whose document was never usable still has its lanes.
    exists: bool,
    /// Ascending by number.
    lanes: Vec<Arc<Lane>>,
    index: OnceLock<Arc<Index>>,
    /// None of the lanes has a filter.
    plain: OnceLock<bool>,
    rate: Arc<Rate>,
    quota: Arc<Quota>,
}

/// Places in the tenant's list of lanes, ascending.
#[derive(Clone, Debug, Default)]
struct Index {
    exact: HashMap<Box<str>, Vec<usize>>,
    wild: Vec<usize>,
}

impl TenantEntry {
    /// The lanes of a tenant that has no document.
    pub(super) fn unknown(id: TenantId) -> Self {
        Self {
            id,
            revision: 0,
            suspended: false,
            limits: TenantLimits::default(),
            since: None,
            labels: Labels::default(),
            exists: false,
            lanes: Vec::new(),
            index: OnceLock::new(),
            plain: OnceLock::new(),
            rate: Arc::default(),
            quota: Arc::default(),
        }
    }

    /// Its subscriptions' lanes, in ascending order.
    pub fn lanes(&self) -> &[Arc<Lane>] {
        &self.lanes
    }

    /// Takes one event's share of the rate at which the tenant may publish; else the time until
    /// there is one.
    pub fn take_share(&self, now: Timestamp) -> Result<(), Duration> {
        self.rate.take(self.limits.publish_per_second, now)
    }

    /// Takes one event's place among what the tenant may have outstanding, which `outstanding` asks
    /// the store for where that is not known; false: there is none.
    pub async fn take_place<E>(&self, outstanding: impl Future<Output = Result<u64, E>>) -> bool {
        self.quota.take(self.limits.max_pending, outstanding).await
    }

    /// Whether there is a document of it.
    pub(super) fn exists(&self) -> bool {
        self.exists
    }

    /// Takes over a document; answers with the lanes that it changed.
    pub(super) fn set_document(&mut self, tenant: Tenant, revision: i64) -> Vec<Arc<Lane>> {
        self.exists = true;
        self.revision = revision;
        self.suspended = tenant.suspended;
        self.limits = tenant.limits;
        self.since = tenant.since;
        self.set_labels(labels_of(&tenant.common));
        self.pass_on()
    }

    /// Takes over another entry's document; answers with the lanes that it changed.
    pub(super) fn copy_document(&mut self, other: &TenantEntry) -> Vec<Arc<Lane>> {
        self.exists = true;
        self.revision = other.revision;
        self.suspended = other.suspended;
        self.limits = other.limits.clone();
        self.since = other.since;
        self.set_labels(Arc::clone(&other.labels));
        self.rate = Arc::clone(&other.rate);
        self.pass_on()
    }

    /// Forgets the document; answers with the lanes that it changed.
    pub(super) fn clear_document(&mut self) -> Vec<Arc<Lane>> {
        self.exists = false;
        self.suspended = false;
        self.limits = TenantLimits::default();
        self.labels = Labels::default();
        self.pass_on()
    }

    /// Takes over labels; the same ones stay where they are, for lanes share them.
    fn set_labels(&mut self, labels: Labels) {
        if self.labels != labels {
            self.labels = labels;
        }
    }

    /// Tells the lanes what the tenant says.
    fn pass_on(&mut self) -> Vec<Arc<Lane>> {
        let mut lanes = std::mem::take(&mut self.lanes);
        let mut changed = Vec::new();
        for place in &mut lanes {
            if !self.is_in(place) {
                let mut lane = Lane::clone(place);
                self.write_into(&mut lane);
                *place = Arc::new(lane);
                changed.push(Arc::clone(place));
            }
        }
        self.set_lanes(lanes);
        changed
    }

    /// Writes into a lane what it has of its tenant.
    pub(super) fn write_into(&self, lane: &mut Lane) {
        lane.tenant_suspended = self.suspended;
        lane.tenant_rate = self.attempt_rate();
        lane.tenant_labels = Arc::clone(&self.labels);
    }

    /// Whether a lane has what its tenant says.
    fn is_in(&self, lane: &Lane) -> bool {
        lane.tenant_suspended == self.suspended
            && lane.tenant_labels == self.labels
            && lane.tenant_rate == self.attempt_rate()
    }

    /// How fast attempts for it may start.
    fn attempt_rate(&self) -> Option<pregon_core::rate::Rate> {
        pregon_core::rate::Rate::whole(self.limits.attempts_per_second)
    }

    /// Adds a lane or replaces it.
    pub(super) fn put_lane(&mut self, lane: Arc<Lane>) {
        let mut lanes = std::mem::take(&mut self.lanes);
        match lanes.binary_search_by_key(&lane.lane, |lane| lane.lane) {
            Ok(place) => lanes[place] = lane,
            Err(place) => lanes.insert(place, lane),
        }
        self.set_lanes(lanes);
    }

    /// Removes a lane.
    pub(super) fn remove_lane(&mut self, lane: LaneNo) {
        let mut lanes = std::mem::take(&mut self.lanes);
        if let Ok(place) = lanes.binary_search_by_key(&lane, |lane| lane.lane) {
            lanes.remove(place);
        }
        self.set_lanes(lanes);
    }

    fn set_lanes(&mut self, lanes: Vec<Arc<Lane>>) {
        self.lanes = lanes;
        self.index = OnceLock::new();
        self.plain = OnceLock::new();
    }

    /// Whether matching an event takes microseconds: few lanes, and none of them has a filter.
    pub(super) fn is_quick(&self) -> bool {
        let plain = || self.lanes.iter().all(|lane| lane.filter.is_none());
        self.lanes.len() <= QUICK && *self.plain.get_or_init(plain)
    }

    /// Places of the lanes that may want an event, ascending.
    pub(super) fn candidates(&self, event: &Event) -> Vec<usize> {
        if self.lanes.len() <= SCANNED {
            return (0..self.lanes.len()).collect();
        }
        let index = self.index.get_or_init(|| Arc::new(Index::of(&self.lanes)));
        let exact = index.exact.get(event.event_type.as_str()).map_or(&[][..], Vec::as_slice);
        let mut places: Vec<usize> = exact.iter().chain(&index.wild).copied().collect();
        places.sort_unstable();
        places
    }
}

impl Index {
    fn of(lanes: &[Arc<Lane>]) -> Self {
        let mut index = Self::default();
        for (place, lane) in lanes.iter().enumerate() {
            let exact = |pattern| match pattern {
                PatternKind::Exactly(name) => Some(name),
                PatternKind::Every | PatternKind::Under(_) => None,
            };
            let names: Option<Vec<&str>> =
                lane.patterns.iter().map(|pattern| exact(pattern.kind())).collect();
            let Some(names) = names else {
                index.wild.push(place);
                continue;
            };
            for name in names {
                let places = index.exact.entry(name.into()).or_default();
                // A name that is given twice comes twice in a row.
                if places.last() != Some(&place) {
                    places.push(place);
                }
            }
        }
        index
    }
}
