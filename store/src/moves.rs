//! The rules of a settle: what becomes of a delivery, and of an event, whichever engine keeps them.
//!
//! A settlement says where a delivery is to go ([`Transition`]). [`Move::of`] decides what that comes
//! to: its state, when it is due, why, and what is kept of it ([`Kept`]). An engine carries a move
//! out in one atomic step, behind the fence of the batch's token. Three things only that step knows,
//! and each has its rule here:
//! - **A cancel that came during the attempt** left a mark. The step drops it with every move but
//!   [`Kept::Batch`], and takes [`Move::if_marked`] instead: everything but a success is cancelled.
//! - **Whether the move was made before.** A repeat finds nothing in the batch, and moves no counter.
//! - **Whether a run has room.** [`Kept::Run`] becomes [`Kept::Lane`] where the lane's run was begun
//!   at another time.
//!
//! Counters follow from a move: `created` counts with the first trace that a delivery gets, or with
//! its success where it leaves none, and an end counts in the step that makes it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use pregon_core::attempt::AttemptRecord;
use pregon_core::clock::Timestamp;
use pregon_core::id::{DeliveryKey, LaneNo};
use pregon_core::outcome::{DeliveryState, EndReason, PendingReason};

use crate::batch::Token;
use crate::settlement::{DeliverySettle, EventOutcome, Transition};

/// What is kept of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// A record, if it has one, or nothing: the settlement logs the attempt that ended it.
    Log,
    /// A bit of its lane's run: it waits, and nothing is known of it but that.
    Run,
    /// A record, in its lane.
    Lane,
    /// A record, in the batch that holds it.
    Batch,
    /// A record of its end.
    End,
}

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    /// Its state.
    pub state: DeliveryState,
    /// What it waits for; of an end nothing is known by it.
    pub pending: PendingReason,
    /// When it is due, from now.
    pub due: Duration,
    /// Why it ended; none for a success, and for what is pending.
    pub reason: Option<EndReason>,
    /// What is kept of it.
    pub kept: Kept,
    /// No attempt of the settlement tells of its end: whoever watches is told by itself.
    pub unlogged: bool,
}

impl Move {
    /// What a settlement makes of a delivery.
    pub fn of(delivery: &DeliverySettle, logged: &Logged) -> Self {
        let waits = |pending, due| Move {
            state: DeliveryState::Pending,
            pending,
            due,
            reason: None,
            kept: Kept::Lane,
            unlogged: false,
        };
        let ends = |state, reason| Move {
            state,
            reason,
            kept: Kept::End,
            ..waits(PendingReason::Queued, Duration::ZERO)
        };
        match delivery.to {
            Transition::Succeeded => Move {
                kept: if logged.tells_of(&delivery.key) { Kept::Log } else { Kept::End },
                ..ends(DeliveryState::Succeeded, None)
            },
            Transition::Failed(reason) => ends(DeliveryState::Failed, Some(reason)),
            Transition::Cancelled(reason) => ends(DeliveryState::Cancelled, Some(reason)),
            Transition::Retry(wait) => waits(PendingReason::RetryScheduled, wait),
            Transition::Later(wait, reason) => waits(reason, wait),
            Transition::Waiting(reason) => Move {
                kept: if is_untouched(delivery) { Kept::Run } else { Kept::Lane },
                ..waits(reason, Duration::ZERO)
            },
            Transition::Held => {
                Move { kept: Kept::Batch, ..waits(PendingReason::InFlight, Duration::ZERO) }
            }
        }
    }

    /// The same where it was cancelled during the attempt.
    pub fn if_marked(self, reason: EndReason) -> Self {
        if self.state == DeliveryState::Succeeded {
            return self;
        }
        Move {
            state: DeliveryState::Cancelled,
            pending: PendingReason::Queued,
            due: Duration::ZERO,
            reason: Some(reason),
            kept: Kept::End,
            unlogged: true,
        }
    }

    /// Whether it leaves a batch that held it.
    pub fn leaves(&self) -> bool {
        self.kept != Kept::Batch
    }
}

/// Whether nothing is known of a delivery but its event and its lane.
pub(crate) fn is_untouched(delivery: &DeliverySettle) -> bool {
    delivery.attempts == 0 && delivery.key.replay.is_none() && delivery.key.lane != LaneNo::EVENTS
}

/// Deliveries whose success an attempt of the same settlement tells of.
#[derive(Debug, Default)]
pub(crate) struct Logged(HashSet<DeliveryKey>);

impl Logged {
    /// What attempts tell of. What a late one says was not settled.
    pub fn by(attempts: &[(Token, Arc<AttemptRecord>)]) -> Self {
        let succeeded = |record: &AttemptRecord| {
            !record.late && record.end.is_some_and(|end| end.state == DeliveryState::Succeeded)
        };
        let records = attempts.iter().map(|(_, record)| record);
        Self(records.filter(|record| succeeded(record)).map(|record| record.key).collect())
    }

    /// Whether one of them ended this delivery.
    pub fn tells_of(&self, key: &DeliveryKey) -> bool {
        self.0.contains(key)
    }
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug)]
pub(crate) enum EventMove<'a> {
    /// Nobody wants it. `known`: whose it is, as the settlement says; else only its body says.
    Unmatched {
        /// Whether the settlement knows its tenant for sure.
        known: bool,
    },
    /// It has these deliveries, one at least.
    Matched(&'a [DeliverySettle]),
    /// A step of a large fan-out: its deliveries, the last lane considered, and whether that is all.
    Step(&'a [DeliverySettle], LaneNo, bool),
    /// Into lane 0, due after this long.
    PutOff(Duration),
    /// Into lane 0, due at this moment: until then its time has not come.
    Schedule(Timestamp),
}

impl<'a> EventMove<'a> {
    /// What an outcome comes to.
    pub fn of(outcome: &'a EventOutcome) -> Self {
        match outcome {
            EventOutcome::Unmatched => EventMove::Unmatched { known: true },
            EventOutcome::SetAside => EventMove::Unmatched { known: false },
            EventOutcome::Matched(deliveries) if deliveries.is_empty() => {
                EventMove::Unmatched { known: true }
            }
            EventOutcome::Matched(deliveries) => EventMove::Matched(deliveries),
            EventOutcome::FannedOut { deliveries, cursor, done } => {
                EventMove::Step(deliveries, *cursor, *done)
            }
            EventOutcome::Postponed(wait) => EventMove::PutOff(*wait),
            EventOutcome::Scheduled(at) => EventMove::Schedule(*at),
        }
    }

    /// Its deliveries.
    pub fn deliveries(self) -> &'a [DeliverySettle] {
        match self {
            EventMove::Matched(deliveries) | EventMove::Step(deliveries, ..) => deliveries,
            EventMove::Unmatched { .. } | EventMove::PutOff(_) | EventMove::Schedule(_) => &[],
        }
    }
}

#[cfg(test)]
mod tests;
