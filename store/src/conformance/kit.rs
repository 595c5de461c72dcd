//! Short ways to say what cases are made of: events, claims, results.
//!
//! [`Results`] writes settlements as a node would: what moves, and the attempts behind it, which
//! an engine may need to know what became of a delivery that has no record.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pregon_core::attempt::{AttemptRecord, End, RecordKind, ResponseHead, Timing};
use pregon_core::clock::Timestamp;
use pregon_core::event::{Environment, Event, NewEvent};
use pregon_core::id::{
    ContractId, DeliveryKey, EventId, EventTypeId, LaneNo, NodeId, Position, ReplayTag, TenantId,
};
use pregon_core::outcome::{AttemptOutcome, DeliveryState, EndReason, ErrorClass, PendingReason};

use crate::batch::{Batch, HeldDelivery, LaneClose, OpenEvent, Token};
use crate::settlement::{
    BatchSettle, DeliverySettle, EventOutcome, EventSettle, FilterError, Settlement, Transition,
};
use crate::work::{Claim, DueRequest};

/// The lease of every claim, unless a case is about leases.
pub(super) const LEASE: Duration = Duration::from_secs(20);
/// A minute, for waits that are long against a test and short against a day.
pub(super) const MINUTE: Duration = Duration::from_secs(60);
/// An hour.
pub(super) const HOUR: Duration = Duration::from_secs(3600);
/// Longer than any id or request is remembered, even by an engine that keeps two windows of a day.
pub(super) const PAST_MEMORY: Duration = Duration::from_secs(49 * 3600);
/// The tenants that events are published for. Their books must add up to the books of all.
pub(super) const TENANTS: [&str; 2] = ["acme", "globex"];

/// Into its lane, due at once.
pub(super) const WAITING: Transition = Transition::Waiting(PendingReason::Queued);
/// Why a delivery waits whose subscription is paused.
pub(super) const PAUSED: PendingReason = PendingReason::Paused;
/// Given up, with the schedule used up.
pub(super) const EXHAUSTED: Transition = Transition::Failed(EndReason::AttemptsExhausted);
/// Tried again after a minute.
pub(super) const RETRY: Transition = Transition::Retry(MINUTE);

pub(super) fn tenant(id: &str) -> TenantId {
    TenantId::parse(id).expect("a tenant's id")
}

pub(super) fn node(id: &str) -> NodeId {
    NodeId::parse(id).expect("a node's id")
}

pub(super) fn event_type(name: &str) -> EventTypeId {
    EventTypeId::parse(name).expect("an event type's name")
}

pub(super) fn claim(id: &str) -> Claim {
    Claim { node: node(id), lease: LEASE }
}

pub(super) fn lane(number: u64) -> LaneNo {
    LaneNo(number)
}

pub(super) fn tag(number: u8) -> ReplayTag {
    ReplayTag::from_bits([0, 0, 0, 0, number])
}

/// The delivery that a publish made.
pub(super) fn key(position: Position, number: u64) -> DeliveryKey {
    DeliveryKey { position, lane: lane(number), replay: None }
}

/// An event without an id.
pub(super) fn event() -> NewEvent {
    NewEvent {
        tenant: tenant("acme"),
        id: None,
        version: 0,
        event_type: event_type("order.captured"),
        environment: Environment::Live,
        occur_time: None,
        since: None,
        min_revision: 0,
        trace: None,
        terms: None,
        attributes: Default::default(),
        data: Bytes::from_static(br#"{"order":"A-1","total":12.50}"#),
    }
}

/// An event with an id.
pub(super) fn given(id: &str) -> NewEvent {
    NewEvent { id: Some(EventId::parse_given(id).expect("an event's id")), ..event() }
}

/// Events without ids, told apart by their data.
pub(super) fn events(count: usize) -> Vec<NewEvent> {
    (0..count)
        .map(|i| NewEvent { data: Bytes::from(format!("{{\"i\":{i}}}")), ..event() })
        .collect()
}

/// Wants everything that is due, whatever the lane.
pub(super) fn everything() -> DueRequest {
    DueRequest { want: 200, default_slots: 200, ..DueRequest::default() }
}

pub(super) fn close(number: u64, wait: Duration) -> LaneClose {
    LaneClose { lane: lane(number), wait, reason: PendingReason::RateLimited }
}

/// What a node settles of one batch.
pub(super) struct Results {
    node: NodeId,
    token: Token,
    age: Duration,
    batch: BatchSettle,
    attempts: Vec<(Token, AttemptRecord)>,
    close: Vec<LaneClose>,
}

impl Results {
    /// Nothing yet, of this batch, by this node.
    pub(super) fn of(by: &str, batch: &Batch) -> Self {
        Self::by_token(by, batch.token)
    }

    /// Nothing yet, of the batch with this name.
    pub(super) fn by_token(by: &str, token: Token) -> Self {
        Self {
            node: node(by),
            token,
            age: Duration::ZERO,
            batch: BatchSettle { token, events: Vec::new(), deliveries: Vec::new() },
            attempts: Vec::new(),
            close: Vec::new(),
        }
    }

    /// All events of the batch go to these lanes, and so there; its deliveries all go the way of
    /// the first.
    pub(super) fn all(by: &str, batch: &Batch, to: &[(u64, Transition)]) -> Self {
        let mut results = Self::of(by, batch);
        for open in &batch.events {
            results = results.matched(open, to);
        }
        for held in &batch.deliveries {
            results = results.delivery(held, to[0].1);
        }
        results
    }

    /// From here on, events were matched that long ago.
    pub(super) fn matched_ago(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }

    /// Nobody wants this event.
    pub(super) fn unmatched(self, open: &OpenEvent) -> Self {
        self.event(&open.event, EventOutcome::Unmatched)
    }

    /// This event goes to these lanes.
    pub(super) fn matched(mut self, open: &OpenEvent, to: &[(u64, Transition)]) -> Self {
        let deliveries = to
            .iter()
            .map(|(number, to)| self.moved(&open.event, key(open.event.position, *number), 0, *to))
            .collect();
        self.event(&open.event, EventOutcome::Matched(deliveries))
    }

    /// One step of a large fan-out, to all lanes of a range.
    pub(super) fn fanned_out(
        mut self,
        open: &OpenEvent,
        lanes: RangeInclusive<u64>,
        done: bool,
    ) -> Self {
        let cursor = lane(*lanes.end());
        let deliveries = lanes
            .map(|number| self.moved(&open.event, key(open.event.position, number), 0, WAITING))
            .collect();
        self.event(&open.event, EventOutcome::FannedOut { deliveries, cursor, done })
    }

    /// This event is to be matched later.
    pub(super) fn postponed(self, open: &OpenEvent, wait: Duration) -> Self {
        self.event(&open.event, EventOutcome::Postponed(wait))
    }

    /// This event went that way.
    pub(super) fn event(mut self, event: &Event, outcome: EventOutcome) -> Self {
        let (position, tenant) = (event.position, event.tenant.clone());
        self.batch.events.push(EventSettle::new(position, tenant, outcome));
        self
    }

    /// What the receiver answered to the attempt that was named last, if there was one; of a success, its
    /// reason.
    pub(super) fn answered(mut self, text: &str) -> Self {
        if let Some((_, last)) = self.attempts.last_mut() {
            match &mut last.response {
                Some(response) => response.body = text.into(),
                None => last.reason = text.to_owned(),
            }
        }
        self
    }

    /// These filters had no answer for the event that was named last.
    pub(super) fn unanswered(mut self, reason: &str, lanes: &[u64]) -> Self {
        let lanes = lanes.iter().map(|number| lane(*number)).collect();
        let last = self.batch.events.last_mut().expect("an event");
        last.filter_errors.push(FilterError { reason: reason.into(), lanes });
        self
    }

    /// This delivery of the batch goes there.
    pub(super) fn delivery(mut self, held: &HeldDelivery, to: Transition) -> Self {
        let moved = self.moved(&held.event, held.key, held.attempts, to);
        self.batch.deliveries.push(moved);
        self
    }

    /// And this lane closes.
    pub(super) fn close(mut self, number: u64, wait: Duration) -> Self {
        self.close.push(close(number, wait));
        self
    }

    /// The settlement.
    pub(super) fn settlement(self) -> Settlement {
        let attempts = self.attempts.into_iter().map(|(token, record)| (token, Arc::new(record)));
        let attempts = attempts.collect();
        Settlement { batches: vec![self.batch], attempts, close: self.close }
    }

    fn moved(
        &mut self,
        event: &Event,
        key: DeliveryKey,
        before: u32,
        to: Transition,
    ) -> DeliverySettle {
        let tried = kind_of(to) == Some(RecordKind::Attempt);
        let attempts = before + u32::from(tried);
        if let Some(record) = attempt(&self.node, event, key, before + 1, to) {
            self.attempts.push((self.token, record));
        }
        let tenant = event.tenant.clone();
        DeliverySettle { key, tenant, attempts, age: self.age, to }
    }
}

/// Several results in one settlement.
pub(super) fn together(results: Vec<Results>) -> Settlement {
    let mut all = Settlement::default();
    for one in results.into_iter().map(Results::settlement) {
        all.batches.extend(one.batches);
        all.attempts.extend(one.attempts);
        all.close.extend(one.close);
    }
    all
}

/// The record that a move leaves in the log, if it leaves one.
fn kind_of(to: Transition) -> Option<RecordKind> {
    match to {
        Transition::Succeeded | Transition::Retry(_) => Some(RecordKind::Attempt),
        Transition::Failed(reason) => match reason {
            EndReason::AttemptsExhausted | EndReason::Refused | EndReason::RenderFailed => {
                Some(RecordKind::Attempt)
            }
            EndReason::Expired
            | EndReason::Poison
            | EndReason::ByCaller
            | EndReason::SubscriptionDisabled
            | EndReason::SubscriptionDeleted
            | EndReason::TenantDeleted
            | EndReason::Erased => Some(RecordKind::Ended),
        },
        Transition::Cancelled(_) => Some(RecordKind::Ended),
        Transition::Waiting(_) | Transition::Later(..) | Transition::Held => None,
    }
}

/// What a node logs when it makes attempt `number` of a delivery and that leads there.
pub(super) fn attempt(
    by: &NodeId,
    event: &Event,
    key: DeliveryKey,
    number: u32,
    to: Transition,
) -> Option<AttemptRecord> {
    let kind = kind_of(to)?;
    let tried = kind == RecordKind::Attempt;
    let start = event.accept_time().plus(Duration::from_secs(u64::from(number)));
    let (outcome, end, status) = match to {
        Transition::Succeeded => (
            AttemptOutcome::Succeeded,
            Some(End { state: DeliveryState::Succeeded, reason: None }),
            200,
        ),
        Transition::Failed(reason) => (
            AttemptOutcome::Failed,
            Some(End { state: DeliveryState::Failed, reason: Some(reason) }),
            500,
        ),
        Transition::Cancelled(reason) => (
            AttemptOutcome::Failed,
            Some(End { state: DeliveryState::Cancelled, reason: Some(reason) }),
            0,
        ),
        Transition::Retry(_)
        | Transition::Waiting(_)
        | Transition::Later(..)
        | Transition::Held => (AttemptOutcome::Retry, None, 503),
    };
    let refused = tried && status != 200;
    Some(AttemptRecord {
        key,
        kind,
        number,
        tenant: event.tenant.clone(),
        event_type: event.event_type.clone(),
        environment: event.environment,
        node: by.clone(),
        start,
        timing: Timing { dns: 0, connect: 120, tls: 0, first_byte: 900, total: 1_100 },
        outcome: tried.then_some(outcome),
        end,
        error_class: refused.then_some(ErrorClass::Status),
        reason: if refused { format!("status {status}") } else { String::new() },
        status: if tried { status } else { 0 },
        url: Arc::from("https://receiver.example/hook"),
        remote: tried.then(|| ([203, 0, 113, 7], 443).into()),
        next_attempt: match to {
            Transition::Retry(wait) => Some(start.plus(wait)),
            Transition::Succeeded
            | Transition::Failed(_)
            | Transition::Cancelled(_)
            | Transition::Waiting(_)
            | Transition::Later(..)
            | Transition::Held => None,
        },
        configuration_revision: 7,
        contract: ContractId::parse("standard_webhooks").expect("a contract's id"),
        contract_revision: 0,
        secrets: Vec::new(),
        response: refused.then(|| ResponseHead {
            headers: vec![("retry-after".into(), "1".into())],
            body: b"not now".to_vec(),
            truncated: false,
        }),
        late: false,
        resent: false,
        headers: Default::default(),
    })
}

/// A moment as milliseconds of an event's position.
pub(super) fn accept_ms(time: Timestamp) -> u64 {
    u64::try_from(time.millis()).unwrap_or(0)
}
