//! Which subscriptions want an event, and which filters cannot say.
//!
//! A filter that has no answer for an event counts as one that does not want it, and is reported:
//! who looks after the subscription learns of it by a count, and by the reason of the last one.
//! Reasons hold no event data. They are cut, and an event's take [`REASONS`] bytes together at
//! most: where more of its filters have no answer, each for a reason of its own, the rest is reported as
//! [`OTHER`].

use std::collections::BTreeMap;
use std::sync::Arc;

use pregon_core::event::Event;
use pregon_core::filter::Verdict;
use pregon_core::id::LaneNo;
use pregon_store::settlement::{FILTER_REASON_MAX, FilterError};

use super::lane::Lane;
use super::tenant::TenantEntry;

/// Bytes of reasons that are reported of one event: some hundred subscriptions, each with its own.
const REASONS: usize = 16 * 1024;
/// What is reported of a filter whose reason finds no room.
const OTHER: &str = "one of many reasons; ExplainEvent tells it";

/// What matching an event found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matched {
    /// Lanes of the subscriptions that want it, in ascending order.
    pub lanes: Vec<Arc<Lane>>,
    /// Filters that had no answer, which counts as no.
    pub filter_errors: Vec<FilterError>,
}

/// An event of a tenant that is being matched, lane by lane.
#[derive(Debug)]
pub struct Matching {
    tenant: Arc<TenantEntry>,
    /// Places of lanes that are still to be looked at, the next one last.
    places: Vec<usize>,
    found: Vec<Arc<Lane>>,
    unanswered: Unanswered,
}

/// Filters that had no answer, by why.
#[derive(Debug, Default)]
struct Unanswered {
    reasons: BTreeMap<Arc<str>, Vec<LaneNo>>,
    /// Of the reasons.
    bytes: usize,
}

impl Matching {
    /// Nothing looked at yet.
    pub(super) fn of(tenant: Arc<TenantEntry>, event: &Event) -> Self {
        let mut places = tenant.candidates(event);
        if event.terms.is_some() {
            places.retain(|place| event.is_for(&tenant.lanes()[*place].name.subscription));
        }
        places.reverse();
        Self { tenant, places, found: Vec::new(), unanswered: Unanswered::default() }
    }

    /// Looks at lanes until all are done or `enough` says so, which is asked after each; whether all
    /// are done. `event` is the one that this was begun with.
    pub fn step(&mut self, event: &Event, mut enough: impl FnMut() -> bool) -> bool {
        while let Some(place) = self.places.pop() {
            let lane = &self.tenant.lanes()[place];
            match lane.wants(event) {
                Verdict::True => self.found.push(Arc::clone(lane)),
                Verdict::False => {}
                Verdict::Unevaluable(reason) => self.unanswered.add(lane.lane, &reason),
            }
            if enough() {
                break;
            }
        }
        self.places.is_empty()
    }

    /// What was found, once all is done.
    pub fn found(self) -> Matched {
        let error = |(reason, lanes)| FilterError { reason, lanes };
        let filter_errors = self.unanswered.reasons.into_iter().map(error).collect();
        Matched { lanes: self.found, filter_errors }
    }
}

impl Unanswered {
    fn add(&mut self, lane: LaneNo, reason: &str) {
        let reason = &reason[..reason.floor_char_boundary(FILTER_REASON_MAX)];
        let reason = match self.reasons.contains_key(reason) {
            false if self.bytes + reason.len() > REASONS => OTHER,
            known => {
                self.bytes += if known { 0 } else { reason.len() };
                reason
            }
        };
        match self.reasons.get_mut(reason) {
            Some(lanes) => lanes.push(lane),
            None => drop(self.reasons.insert(reason.into(), vec![lane])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_an_event_are_few_bytes() {
        let mut unanswered = Unanswered::default();
        for n in 0..10_000 {
            let reason = format!("event.data.{}.{n} is absent", "é".repeat(60));
            unanswered.add(LaneNo(n), &reason);
        }
        unanswered.add(LaneNo(0), &"é".repeat(1000));
        let bytes: usize = unanswered.reasons.keys().map(|reason| reason.len()).sum();
        assert!(bytes <= REASONS + OTHER.len(), "{bytes}");
        assert!(unanswered.reasons.len() > 50, "{}", unanswered.reasons.len());
        assert_eq!(unanswered.reasons.values().map(Vec::len).sum::<usize>(), 10_001);
        assert!(unanswered.reasons[OTHER].len() > 9_000);
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let mut unanswered = Unanswered::default();
        unanswered.add(LaneNo(1), &format!("x{}", "é".repeat(1000)));
        let (reason, _) = unanswered.reasons.first_key_value().unwrap();
        assert_eq!(reason.len(), FILTER_REASON_MAX - 1);
    }
}
