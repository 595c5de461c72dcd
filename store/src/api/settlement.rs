//! What nodes settle: where events and deliveries go, and the attempts behind it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use pregon_core::attempt::AttemptRecord;
use pregon_core::clock::Timestamp;
use pregon_core::id::{DeliveryKey, LaneNo, Position, TenantId};
use pregon_core::outcome::{EndReason, PendingReason};

use crate::batch::{LaneClose, Token};

/// What settles in one step: results of many batches, their log, and lanes that close by them.
#[derive(Clone, Debug, Default)]
pub struct Settlement {
    /// Results, by batch.
    pub batches: Vec<BatchSettle>,
    /// The attempts behind them; they are logged even where the lease is gone, as late ones.
    pub attempts: Vec<(Token, Arc<AttemptRecord>)>,
    /// Lanes that receivers asked to leave alone for a while.
    pub close: Vec<LaneClose>,
}

impl Settlement {
    /// Events and deliveries that move by themselves.
    pub fn items(&self) -> usize {
        self.batches.iter().map(|batch| batch.events.len() + batch.deliveries.len()).sum()
    }

    /// Cuts a settlement that the store does not take in two, to find out what it does not take: the
    /// first half of the items with the lanes to close, and the others, each with their attempts.
    /// None for a single item.
    pub fn halve(&self) -> Option<(Settlement, Settlement)> {
        let mut left = self.items() / 2;
        if left == 0 {
            return None;
        }
        let mut first = Settlement { close: self.close.clone(), ..Settlement::default() };
        let mut second = Settlement::default();
        for batch in &self.batches {
            let events = batch.events.len().min(left);
            left -= events;
            let deliveries = batch.deliveries.len().min(left);
            left -= deliveries;
            let part = |events: &[EventSettle], deliveries: &[DeliverySettle]| BatchSettle {
                token: batch.token,
                events: events.to_vec(),
                deliveries: deliveries.to_vec(),
            };
            for (half, part) in [
                (&mut first, part(&batch.events[..events], &batch.deliveries[..deliveries])),
                (&mut second, part(&batch.events[events..], &batch.deliveries[deliveries..])),
            ] {
                if !part.events.is_empty() || !part.deliveries.is_empty() {
                    half.batches.push(part);
                }
            }
        }
        let of_first: HashSet<(Token, Position)> =
            first.batches.iter().flat_map(BatchSettle::places).collect();
        for (token, record) in &self.attempts {
            let half = match of_first.contains(&(*token, record.key.position)) {
                true => &mut first,
                false => &mut second,
            };
            half.attempts.push((*token, record.clone()));
        }
        Some((first, second))
    }
}

/// Results of one batch. Items that are not named stay open.
#[derive(Clone, Debug)]
pub struct BatchSettle {
    /// Which batch.
    pub token: Token,
    /// Events that need the batch no more.
    pub events: Vec<EventSettle>,
    /// Deliveries of the batch that moved.
    pub deliveries: Vec<DeliverySettle>,
}

impl BatchSettle {
    /// The events that it speaks of, each with the batch.
    fn places(&self) -> impl Iterator<Item = (Token, Position)> + '_ {
        let events = self.events.iter().map(|event| event.position);
        let all = events.chain(self.deliveries.iter().map(|delivery| delivery.key.position));
        all.map(|position| (self.token, position))
    }

    /// Every delivery that it moves, those of its events included.
    pub fn moved(&self) -> impl Iterator<Item = &DeliverySettle> {
        let of_events = self.events.iter().flat_map(|event| match &event.outcome {
            EventOutcome::Matched(deliveries) | EventOutcome::FannedOut { deliveries, .. } => {
                deliveries.as_slice()
            }
            EventOutcome::Unmatched
            | EventOutcome::Postponed(_)
            | EventOutcome::Scheduled(_)
            | EventOutcome::SetAside => &[],
        });
        of_events.chain(&self.deliveries)
    }
}

/// What became of an event.
#[derive(Clone, Debug)]
pub struct EventSettle {
    /// Which.
    pub position: Position,
    /// For whom it was published.
    pub tenant: TenantId,
    /// What became of it.
    pub outcome: EventOutcome,
    /// Subscriptions whose filter had no answer for it. They are counted by the settle that says
    /// that the event is matched: never by one that puts it off, nor twice.
    pub filter_errors: Vec<FilterError>,
}

impl EventSettle {
    /// Of an event that no filter failed on, or of which that is not said yet.
    pub fn new(position: Position, tenant: TenantId, outcome: EventOutcome) -> Self {
        Self { position, tenant, outcome, filter_errors: Vec::new() }
    }

    /// Filters that had no answer, where this says that the event is matched.
    pub fn counted_errors(&self) -> &[FilterError] {
        if self.outcome.is_last() { &self.filter_errors } else { &[] }
    }

    /// How many filters those are.
    pub fn unanswered(&self) -> usize {
        self.counted_errors().iter().map(|error| error.lanes.len()).sum()
    }
}

/// Filters that had no answer for an event, for the same reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    /// Why, in words that hold no event data; cut after [`FILTER_REASON_MAX`] bytes.
    pub reason: Arc<str>,
    /// The subscriptions' lanes: as many as a tenant may have, at most.
    pub lanes: Vec<LaneNo>,
}

/// Bytes of a reason for which a filter had no answer: a path that it names, and what is wrong with it.
pub const FILTER_REASON_MAX: usize = 256;

/// Where matching an event led.
#[derive(Clone, Debug)]
pub enum EventOutcome {
    /// Nobody wants it.
    Unmatched,
    /// It has these deliveries and no others; their keys have no replay tag.
    Matched(Vec<DeliverySettle>),
    /// One step of a large fan-out: these deliveries, in ascending order of lanes, go into their
    /// lanes. The event stays open until the step that says it is done.
    FannedOut {
        /// The step's deliveries.
        deliveries: Vec<DeliverySettle>,
        /// The last lane considered.
        cursor: LaneNo,
        /// All lanes were considered.
        done: bool,
    },
    /// It cannot be matched yet; look again after this long.
    Postponed(Duration),
    /// It is not to be matched before this moment, by the store's clock. Until then it can be called
    /// off ([`Operate::cancel_event`]).
    ///
    /// [`Operate::cancel_event`]: crate::operate::Operate::cancel_event
    Scheduled(Timestamp),
    /// It cannot be decoded or matched at all: counted as unmatched, kept, and named in the log
    /// of the node.
    SetAside,
}

impl EventOutcome {
    /// Whether it says that the event is matched, to the last lane.
    fn is_last(&self) -> bool {
        match self {
            EventOutcome::Unmatched | EventOutcome::Matched(_) | EventOutcome::SetAside => true,
            EventOutcome::FannedOut { done, .. } => *done,
            EventOutcome::Postponed(_) | EventOutcome::Scheduled(_) => false,
        }
    }
}

/// Where a delivery goes.
#[derive(Clone, Debug)]
pub struct DeliverySettle {
    /// Which.
    pub key: DeliveryKey,
    /// For whom its event was published.
    pub tenant: TenantId,
    /// Attempts counted so far, this one included.
    pub attempts: u32,
    /// For how long it has existed already, when this makes its record: since its event was matched.
    pub age: Duration,
    /// Where it goes.
    pub to: Transition,
}

/// The moves of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// Acknowledged.
    Succeeded,
    /// Given up.
    Failed(EndReason),
    /// Called off.
    Cancelled(EndReason),
    /// Tried again after this long.
    Retry(Duration),
    /// Back into its lane without an attempt, due as soon as the lane has room.
    Waiting(PendingReason),
    /// Back into its lane without an attempt, due after this long, however many wait there.
    Later(Duration, PendingReason),
    /// Still being attempted: gets a record of its own, in the same batch under the same lease.
    Held,
}

/// What a settle found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Batches whose lease was gone: nothing of them moved.
    pub lost: Vec<Token>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settlement(items: u64) -> Settlement {
        let token = |n| Token { incarnation: 1, sequence: n % 3 };
        let position = |n| Position { ms: 1, partition: 0, n };
        let mut settlement = Settlement::default();
        for batch in 0..3 {
            let numbers = (0..items).filter(|n| n % 3 == batch);
            let tenant = TenantId::parse("t").unwrap();
            let unmatched = EventOutcome::Unmatched;
            let events =
                numbers.map(|n| EventSettle::new(position(n), tenant.clone(), unmatched.clone()));
            let events = events.collect();
            let part = BatchSettle { token: token(batch), events, deliveries: Vec::new() };
            settlement.batches.push(part);
        }
        settlement
    }

    /// Every item is in one half, and halving on comes to single items.
    #[test]
    fn halves_hold_every_item_once() {
        let mut pieces = vec![settlement(10)];
        let mut single = Vec::new();
        while let Some(piece) = pieces.pop() {
            match piece.halve() {
                Some((a, b)) => {
                    assert_eq!(a.items() + b.items(), piece.items());
                    assert!(a.items() > 0 && b.items() > 0);
                    pieces.extend([a, b]);
                }
                None => single.push(piece),
            }
        }
        let mut numbers: Vec<_> = single
            .iter()
            .flat_map(|piece| &piece.batches)
            .flat_map(|batch| batch.events.iter().map(|event| event.position.n))
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..10).collect::<Vec<_>>());
    }
}
