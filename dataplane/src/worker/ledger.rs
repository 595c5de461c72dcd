//! Results on their way into the store.
//!
//! Results are gathered over all batches of a partition and settled together: the store's cost is
//! in the call, not in the item. One settle is under way at a time; while it is, the next gathers.
//! A batch is forgotten here only when the store has taken its last result, so that its lease is
//! kept up until then.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use pregon_core::attempt::AttemptRecord;
use pregon_core::id::LaneNo;
use pregon_store::batch::{LaneClose, Token};
use pregon_store::settlement::{
    BatchSettle, DeliverySettle, EventOutcome, EventSettle, Settlement,
};
use tokio::time::Instant;

/// Results that one settle carries at most. While one is under way the next gathers, so this is
/// what a group of the store's writer can take in of one node.
pub(super) const SETTLE_MAX: usize = 1024;
/// Filters without an answer that weigh what a delivery weighs.
const ERRORS_FOR_ONE: usize = 4;
/// Results after which a settle goes out without waiting for company.
const SETTLE_FULL: usize = 256;
/// Results that may wait here before nothing new is claimed: the store is behind.
pub(super) const LEDGER_MAX: usize = 8 * SETTLE_MAX;
/// How long the first result waits for company.
pub(super) const SETTLE_DELAY: Duration = Duration::from_millis(5);

/// What moved.
#[derive(Debug)]
enum Moved {
    Event(EventSettle),
    Delivery(DeliverySettle),
}

#[derive(Debug)]
struct Entry {
    token: Token,
    moved: Moved,
    records: Vec<Arc<AttemptRecord>>,
}

/// Results that are not settled yet.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: VecDeque<Entry>,
    /// How many of them are of which batch.
    batches: HashMap<Token, usize>,
    close: Vec<LaneClose>,
    oldest: Option<Instant>,
}

impl Ledger {
    /// An event needs its batch no more; `records` are its attempts.
    pub(super) fn event(
        &mut self,
        token: Token,
        event: EventSettle,
        records: Vec<Arc<AttemptRecord>>,
        now: Instant,
    ) {
        self.push(Entry { token, moved: Moved::Event(event), records }, now);
    }

    /// A delivery of a batch moved; `records` are its attempts.
    pub(super) fn delivery(
        &mut self,
        token: Token,
        delivery: DeliverySettle,
        records: Vec<Arc<AttemptRecord>>,
        now: Instant,
    ) {
        self.push(Entry { token, moved: Moved::Delivery(delivery), records }, now);
    }

    /// Whether results of this batch wait here.
    pub(super) fn names(&self, token: Token) -> bool {
        self.batches.contains_key(&token)
    }

    /// A lane that was to be closed stays open: an operator's word came after it.
    pub(super) fn not_closed(&mut self, lane: LaneNo) {
        self.close.retain(|it| it.lane != lane);
    }

    /// A receiver asked to be left alone.
    pub(super) fn close(&mut self, lane: LaneClose, now: Instant) {
        if self.close.len() < SETTLE_MAX {
            self.close.push(lane);
        }
        self.oldest.get_or_insert(now);
    }

    /// Whether there is nothing to settle.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.close.is_empty()
    }

    /// Results that wait here.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// When the next settle should go out; none while there is nothing to settle.
    pub(super) fn due(&self) -> Option<Instant> {
        let oldest = self.oldest?;
        Some(if self.entries.len() >= SETTLE_FULL { oldest } else { oldest + SETTLE_DELAY })
    }

    /// Takes the next settlement out, the oldest results first.
    pub(super) fn settlement(&mut self, now: Instant) -> Settlement {
        let mut settlement =
            Settlement { close: std::mem::take(&mut self.close), ..Settlement::default() };
        let mut places: HashMap<Token, usize> = HashMap::new();
        let mut weight = 0;
        while let Some(entry) = self.entries.front() {
            let more = entry.weight();
            if weight > 0 && weight + more > SETTLE_MAX {
                break;
            }
            weight += more;
            let Some(entry) = self.entries.pop_front() else { break };
            self.forget_one(entry.token);
            let place = *places.entry(entry.token).or_insert_with(|| {
                settlement.batches.push(BatchSettle {
                    token: entry.token,
                    events: Vec::new(),
                    deliveries: Vec::new(),
                });
                settlement.batches.len() - 1
            });
            let batch = &mut settlement.batches[place];
            match entry.moved {
                Moved::Event(event) => batch.events.push(event),
                Moved::Delivery(delivery) => batch.deliveries.push(delivery),
            }
            settlement
                .attempts
                .extend(entry.records.into_iter().map(|record| (entry.token, record)));
        }
        self.oldest = (!self.entries.is_empty()).then_some(now);
        settlement
    }

    fn push(&mut self, entry: Entry, now: Instant) {
        self.oldest.get_or_insert(now);
        *self.batches.entry(entry.token).or_default() += 1;
        self.entries.push_back(entry);
    }

    fn forget_one(&mut self, token: Token) {
        if let Some(count) = self.batches.get_mut(&token) {
            *count -= 1;
            if *count == 0 {
                self.batches.remove(&token);
            }
        }
    }
}

impl Entry {
    /// How much of a settle it takes: its deliveries, a share for filters without an answer, and
    /// itself at least.
    fn weight(&self) -> usize {
        match &self.moved {
            Moved::Delivery(_) => 1,
            Moved::Event(event) => {
                let deliveries = match &event.outcome {
                    EventOutcome::Matched(deliveries)
                    | EventOutcome::FannedOut { deliveries, .. } => deliveries.len(),
                    EventOutcome::Unmatched
                    | EventOutcome::Postponed(_)
                    | EventOutcome::Scheduled(_)
                    | EventOutcome::SetAside => 0,
                };
                (deliveries + event.unanswered() / ERRORS_FOR_ONE).max(1)
            }
        }
    }
}
