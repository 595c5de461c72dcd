//! What only this engine has, and short walks through the rest of it (the conformance suite goes
//! the long ones).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pregon_core::attempt::{AttemptRecord, End, RecordKind, Timing};
use pregon_core::clock::{ManualClock, SharedClock, Timestamp};
use pregon_core::event::{Environment, NewEvent};
use pregon_core::id::{
    ContractId, DeliveryKey, EventId, EventTypeId, LaneNo, NodeId, Position, TenantId,
};
use pregon_core::outcome::{AttemptOutcome, DeliveryState};

use super::{Embedded, EmbeddedOptions, History, Location, OpenError, open};
use crate::batch::{Batch, Token};
use crate::intake::Published;
use crate::settlement::{
    BatchSettle, DeliverySettle, EventOutcome, EventSettle, Settled, Settlement, Transition,
};
use crate::work::{Claim, Due, DueRequest};
use crate::{Store, StoreError};

mod board;
mod durable;
mod flow;
mod full;
mod standing;
mod trim;

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const LEASE: Duration = Duration::from_secs(20);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A store under a clock that stands still.
struct Bench {
    clock: Arc<ManualClock>,
    embedded: Embedded,
    store: Store,
}

impl Bench {
    fn memory() -> Self {
        Self::with(Location::Memory, |_| {})
    }

    fn open(path: &std::path::Path) -> Result<Self, OpenError> {
        Self::at(Location::Directory(path.to_owned()), ManualClock::at(START), |_| {})
    }

    fn with(location: Location, change: impl FnOnce(&mut EmbeddedOptions)) -> Self {
        let clock = ManualClock::at(START);
        Self::at(location, clock, change).unwrap()
    }

    fn at(
        location: Location,
        clock: Arc<ManualClock>,
        change: impl FnOnce(&mut EmbeddedOptions),
    ) -> Result<Self, OpenError> {
        let shared: SharedClock = clock.clone();
        let mut options = EmbeddedOptions::new(location, shared);
        options.reserve = 1024 * 1024;
        change(&mut options);
        let embedded = open(options)?;
        Ok(Self { clock, store: embedded.store(), embedded })
    }

    async fn publish(&self, count: usize) -> Vec<Position> {
        let events = (0..count).map(|i| event("acme", None, &format!("{{\"i\":{i}}}"))).collect();
        places(&self.store.intake.publish(events).await.unwrap())
    }

    async fn take(&self, want: usize) -> Option<Batch> {
        self.store.work.take(0, &claim("n1"), want, usize::MAX).await.unwrap()
    }

    async fn due(&self) -> Due {
        self.due_of(100).await
    }

    async fn due_of(&self, want: usize) -> Due {
        let request = DueRequest { want, default_slots: 100, ..DueRequest::default() };
        self.store.work.due(0, &claim("n1"), request).await.unwrap()
    }

    async fn take_over(&self) -> Vec<Batch> {
        self.store.work.take_over(0, &claim("n2"), 10, 10).await.unwrap().0
    }

    async fn settle(&self, settlement: Settlement) -> Settled {
        self.store.work.settle(settlement).await.unwrap()
    }

    /// Settles events of a batch so that each has one delivery, to lane 1.
    async fn match_all(&self, batch: &Batch, to: Transition) -> Settled {
        let events = batch.events.iter().map(|open| {
            let attempts = u32::from(!matches!(to, Transition::Waiting(_)));
            let move_to = move_to(open.event.position, 1, attempts, to);
            event_settle(open.event.position, EventOutcome::Matched(vec![move_to]))
        });
        let events = events.collect();
        let mut settlement = settlement(batch.token, events, Vec::new());
        if to == Transition::Succeeded {
            settlement.attempts = batch
                .events
                .iter()
                .map(|open| (batch.token, success(open.event.position, 1).into()))
                .collect();
        }
        self.settle(settlement).await
    }

    /// The books balance and the audit finds nothing.
    async fn check(&self) {
        let books = self.store.log.books(None).await.unwrap();
        assert!(books.balance(), "{books:?}");
        assert_eq!(self.store.log.audit().await.unwrap(), []);
    }
}

fn claim(node: &str) -> Claim {
    Claim { node: NodeId::parse(node).unwrap(), lease: LEASE }
}

fn tenant() -> TenantId {
    TenantId::parse("acme").unwrap()
}

fn event(tenant: &str, id: Option<&str>, data: &str) -> NewEvent {
    NewEvent {
        tenant: TenantId::parse(tenant).unwrap(),
        id: id.map(|id| EventId::parse(id).unwrap()),
        version: 0,
        event_type: EventTypeId::parse("order.captured").unwrap(),
        environment: Environment::Live,
        occur_time: None,
        since: None,
        min_revision: 0,
        trace: None,
        terms: None,
        attributes: Default::default(),
        data: Bytes::copy_from_slice(data.as_bytes()),
    }
}

fn place(published: &Published) -> Position {
    match published {
        Published::Accepted { position, .. } => *position,
        Published::IdReused => panic!("the id was used before"),
    }
}

fn places(published: &[Published]) -> Vec<Position> {
    published.iter().map(place).collect()
}

fn key(position: Position, lane: u64) -> DeliveryKey {
    DeliveryKey { position, lane: LaneNo(lane), replay: None }
}

fn move_to(position: Position, lane: u64, attempts: u32, to: Transition) -> DeliverySettle {
    let key = key(position, lane);
    DeliverySettle { key, tenant: tenant(), attempts, age: Duration::ZERO, to }
}

fn event_settle(position: Position, outcome: EventOutcome) -> EventSettle {
    EventSettle::new(position, tenant(), outcome)
}

fn settlement(
    token: Token,
    events: Vec<EventSettle>,
    deliveries: Vec<DeliverySettle>,
) -> Settlement {
    let batches = vec![BatchSettle { token, events, deliveries }];
    Settlement { batches, ..Settlement::default() }
}

fn success(position: Position, lane: u64) -> AttemptRecord {
    AttemptRecord {
        key: key(position, lane),
        kind: RecordKind::Attempt,
        number: 1,
        tenant: tenant(),
        event_type: EventTypeId::parse("order.captured").unwrap(),
        environment: Environment::Live,
        node: NodeId::parse("n1").unwrap(),
        start: START,
        timing: Timing { total: 5000, ..Timing::default() },
        outcome: Some(AttemptOutcome::Succeeded),
        end: Some(End { state: DeliveryState::Succeeded, reason: None }),
        error_class: None,
        reason: String::new(),
        status: 200,
        url: Arc::from("https://example.com/hook"),
        remote: None,
        next_attempt: None,
        configuration_revision: 1,
        contract: ContractId::parse("standard").unwrap(),
        contract_revision: 0,
        secrets: Vec::new(),
        response: None,
        late: false,
        resent: false,
        headers: Default::default(),
    }
}
