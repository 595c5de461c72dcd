//! A store whose calls are timed and whose errors are counted.
//!
//! Every trait of the store is wrapped, method by method, so that no caller can forget it. Calls
//! that are made for waiting ([`Work::wait`], [`ConfigStore::changes`], `send_test`) are not
//! timed: their length says what happened elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pregon_core::attempt::AttemptRecord;
use pregon_core::clock::Timestamp;
use pregon_core::event::{Erasure, Event, NewEvent};
use pregon_core::id::{DeliveryKey, EventName, LaneNo, NodeId, PartitionNo, Position, TenantId};
use pregon_core::outcome::{EndReason, PendingReason};
use pregon_store::audit::{AuditRange, AuditRecord, NewAudit, WhenFull};
use pregon_store::backlog::BacklogReport;
use pregon_store::batch::{Batch, LaneClose, Token};
use pregon_store::config::{Changes, Commit, Committed, Document, Head, ListRange};
use pregon_store::erase::{Erase, ErasePlace, Erased, EventErased, Stripped};
use pregon_store::intake::{Durability, Published};
use pregon_store::lane_log::{LaneAttempts, LaneReport};
use pregon_store::log::{
    Books, DeliveryQuery, DeliveryRecord, EventQuery, EventStage, Most, Orphan, Page,
};
use pregon_store::node::NodeStatus;
use pregon_store::operate::{
    Cancelled, EventCancelled, Filled, Former, Forwarded, LaneEnd, Missing, Replay, Replayed,
};
use pregon_store::rate::{RateAsk, RateLease};
use pregon_store::settlement::{Settled, Settlement};
use pregon_store::test_send::{TakenTest, TestSend, Tested, Ticket};
use pregon_store::watch::{Place, Stretch, WatchQuery};
use pregon_store::work::{Claim, Due, DueRequest};
use pregon_store::{
    AuditLog, Backlog, ConfigStore, DeliveryLog, DeliveryWatch, Intake, LaneLog, NodeRegistry,
    Operate, Rates, Store, StoreError, TestSends, Work,
};
use pregon_telemetry::Telemetry;
use tokio::time::Instant;

/// The same store, whose calls are told of.
pub fn measured(store: Store, telemetry: &Telemetry) -> Store {
    let told = || telemetry.clone();
    Store {
        config: Arc::new(Measured(store.config, told())),
        audit: Arc::new(Measured(store.audit, told())),
        intake: Arc::new(Measured(store.intake, told())),
        work: Arc::new(Measured(store.work, told())),
        operate: Arc::new(Measured(store.operate, told())),
        log: Arc::new(Measured(store.log, told())),
        backlog: Arc::new(Measured(store.backlog, told())),
        lanes: Arc::new(Measured(store.lanes, told())),
        nodes: Arc::new(Measured(store.nodes, told())),
        tests: Arc::new(Measured(store.tests, told())),
        rates: Arc::new(Measured(store.rates, told())),
        watch: Arc::new(Measured(store.watch, told())),
    }
}

/// Until when, and why, lanes are closed.
type Closed = HashMap<LaneNo, (Timestamp, PendingReason)>;

struct Measured<T: ?Sized>(Arc<T>, Telemetry);

impl<T: ?Sized> Measured<T> {
    /// Counts new deliveries.
    fn made(&self, deliveries: usize) {
        if deliveries > 0 {
            self.1.metrics().deliveries_created.add(deliveries as u64, &[]);
        }
    }

    /// A call that takes as long as the store takes.
    async fn timed<R>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<R, StoreError>>,
    ) -> Result<R, StoreError> {
        let begun = Instant::now();
        let result = call.await;
        self.1.metrics().store_call(operation, begun.elapsed());
        self.counted(operation, result)
    }

    fn counted<R>(
        &self,
        operation: &'static str,
        result: Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        if let Err(error) = &result {
            self.1.metrics().store_error(operation, word(error));
        }
        result
    }
}

fn word(error: &StoreError) -> &'static str {
    match error {
        StoreError::Unavailable(_) => "UNAVAILABLE",
        StoreError::Full(_) => "FULL",
        StoreError::Closed => "CLOSED",
        StoreError::Emptied(_) => "EMPTIED",
        StoreError::Corrupt(_) => "CORRUPT",
    }
}

/// A trait whose methods pass through: timed ones under the name they have, then others.
macro_rules! measured {
    (
        $trait:ident { $($name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)+ }
        $($rest:tt)*
    ) => {
        #[async_trait]
        impl $trait for Measured<dyn $trait> {
            $(
                async fn $name(&self, $($arg: $type),*) -> Result<$answer, StoreError> {
                    self.timed(stringify!($name), self.0.$name($($arg),*)).await
                }
            )+
            $($rest)*
        }
    };
}

measured! {
    ConfigStore {
        commit(commit: Commit) -> Committed;
        recall(id: [u8; 16], digest: [u8; 16]) -> Option<Committed>;
        get(names: &[String]) -> Vec<Option<Document>>;
        list(range: ListRange) -> Vec<Document>;
        head() -> Head;
        head_if_writable() -> Head;
        head_at(revision: i64) -> Option<Head>;
        documents(after: &str, limit: usize) -> Vec<Document>;
        next_lane() -> LaneNo;
    }

    async fn changes(
        &self,
        known: Head,
        limit: usize,
        wait: Duration,
    ) -> Result<Changes, StoreError> {
        self.counted("changes", self.0.changes(known, limit, wait).await)
    }
}

measured! {
    AuditLog {
        record(entries: &[NewAudit], full: WhenFull) -> ();
        entries(range: AuditRange) -> Vec<AuditRecord>;
    }
}

measured! {
    Intake {
        publish(events: Vec<NewEvent>) -> Vec<Published>;
        outstanding(tenant: &TenantId) -> u64;
    }

    fn durability(&self) -> Durability {
        self.0.durability()
    }

    fn answers_within(&self) -> Duration {
        self.0.answers_within()
    }
}

measured! {
    Work {
        take(partition: PartitionNo, claim: &Claim, want: usize, bytes: usize) -> Option<Batch>;
        due(partition: PartitionNo, claim: &Claim, request: DueRequest) -> Due;
        take_over(partition: PartitionNo, claim: &Claim, limit: usize, suspects: usize)
            -> (Vec<Batch>, Option<Duration>);
        extend(tokens: &[Token], lease: Duration) -> Vec<Token>;
        settle(settlement: Settlement) -> Settled;
        release(tokens: &[Token]) -> ();
    }

    fn partitions(&self) -> PartitionNo {
        self.0.partitions()
    }

    async fn wait(&self, at_most: Duration) {
        self.0.wait(at_most).await;
    }
}

measured! {
    Operate {
        end_lane(end: LaneEnd) -> usize;
        close_lanes(lanes: &[LaneClose]) -> ();
        open_lanes(lanes: &[LaneNo]) -> ();
        supersede(tenant: &TenantId) -> Former;
        cancel_event(position: Position) -> EventCancelled;
        erase(erase: &Erase, from: ErasePlace) -> Erased;
        erase_event(position: Position, erasure: &Erasure) -> EventErased;
        strip_attempts(position: Position, from: u64) -> Stripped;
        bring_forward(keys: &[DeliveryKey]) -> Vec<Forwarded>;
        now() -> Timestamp;
    }

    /// What waits is cancelled by whoever calls; what is under way is counted where it is settled.
    async fn cancel(&self, key: DeliveryKey, reason: EndReason) -> Result<Cancelled, StoreError> {
        let cancelled = self.timed("cancel", self.0.cancel(key, reason)).await?;
        if cancelled == Cancelled::Done {
            self.1.metrics().ended(reason, 1);
        }
        Ok(cancelled)
    }

    /// New deliveries that no settlement made.
    async fn replay(&self, replays: &[Replay]) -> Result<Vec<Replayed>, StoreError> {
        let replayed = self.timed("replay", self.0.replay(replays)).await?;
        let made = replayed.iter().filter(|it| matches!(it, Replayed::Created(_))).count();
        self.made(made);
        Ok(replayed)
    }

    /// As replays are.
    async fn fill(&self, missing: &[Missing], make: bool) -> Result<Vec<Filled>, StoreError> {
        let filled = self.timed("fill", self.0.fill(missing, make)).await?;
        if make {
            self.made(filled.iter().filter(|it| matches!(it, Filled::Created(_))).count());
        }
        Ok(filled)
    }
}

measured! {
    DeliveryLog {
        find(name: &EventName) -> Option<Position>;
        event(position: Position) -> Option<(Event, EventStage)>;
        events(query: &EventQuery, from: Option<&str>, most: Most) -> Page<Event>;
        delivery(key: DeliveryKey) -> Option<DeliveryRecord>;
        deliveries(query: &DeliveryQuery, from: Option<&str>, limit: usize) -> Page<DeliveryRecord>;
        attempts(key: DeliveryKey) -> Vec<AttemptRecord>;
        event_attempts(position: Position) -> BTreeMap<DeliveryKey, Vec<AttemptRecord>>;
        books(tenant: Option<&TenantId>) -> Books;
        audit() -> Vec<Orphan>;
    }
}

measured! {
    Backlog {
        backlog() -> BacklogReport;
    }
}

measured! {
    Rates {
        lease_rates(asks: &[RateAsk]) -> Vec<RateLease>;
    }
}

measured! {
    NodeRegistry {
        announce(status: NodeStatus) -> ();
        leave(id: &NodeId) -> ();
        nodes() -> (Vec<NodeStatus>, Timestamp);
    }
}

measured! {
    LaneLog {
        lane(lane: LaneNo) -> LaneReport;
        closed(partition: PartitionNo, lanes: &[LaneNo]) -> Closed;
        lane_attempts(lane: LaneNo, since: Timestamp, limit: usize) -> LaneAttempts;
    }
}

measured! {
    DeliveryWatch {
        tip() -> Place;
        read_on(query: &WatchQuery, from: &Place, to: &Place, partition: PartitionNo) -> Stretch;
    }

    async fn wait_past(&self, place: &Place, at_most: Duration) {
        self.0.wait_past(place, at_most).await;
    }
}

measured! {
    TestSends {
        take_tests(node: &NodeId, want: usize) -> Vec<TakenTest>;
        settle_test(ticket: &Ticket, result: Bytes) -> ();
    }

    async fn send_test(
        &self,
        test: TestSend,
        take_within: Duration,
        within: Duration,
    ) -> Result<Tested, StoreError> {
        self.counted("send_test", self.0.send_test(test, take_within, within).await)
    }
}
