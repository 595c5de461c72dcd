//! What a case is handed: a fresh engine, and short ways to do what nodes do.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use pregon_core::clock::Timestamp;
use pregon_core::event::NewEvent;
use pregon_core::id::{DeliveryKey, PartitionNo, Position};
use pregon_core::outcome::{DeliveryState, EndReason};

use super::Engine;
use super::kit::{self, Results, TENANTS, WAITING, claim, everything, tenant};
use crate::Store;
use crate::batch::{Batch, HeldDelivery, Token};
use crate::intake::Published;
use crate::log::{Books, DeliveryQuery, DeliveryRecord, Page};
use crate::operate::STEP_MAX;
use crate::settlement::{Settled, Settlement, Transition};
use crate::work::{BATCH_MAX, Due, DueRequest};

/// The longest that anything may take in real time before a case gives up on it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Times that a case asks for due work before it gives up on coming to an end.
const ROUNDS: usize = 10_000;
/// Deliveries of the large lane, unless the suite is told otherwise.
const LARGE: usize = 10_000;

/// An engine under test.
pub struct Rig {
    engine: Box<dyn Engine>,
    large: usize,
    /// Its handles.
    pub store: Store,
}

impl Rig {
    /// Around a fresh, empty engine.
    pub fn new(engine: impl Engine + 'static) -> Self {
        let store = engine.store();
        Self { engine: Box::new(engine), large: LARGE, store }
    }

    /// Sets how many deliveries the case of a large lane is about.
    pub fn large(mut self, deliveries: usize) -> Self {
        self.large = deliveries;
        self
    }

    /// What must hold after every case: the books balance, for all and for each tenant, the backlog
    /// agrees with them, and the audit finds nothing.
    pub async fn finish(self) {
        self.check().await;
    }

    pub(super) fn large_lane(&self) -> usize {
        self.large
    }

    pub(super) async fn check(&self) {
        let all = self.books().await;
        assert!(all.balance(), "the books do not balance: {all:?}");
        let mut sum = Books::default();
        for id in TENANTS {
            let books = self.tenant_books(id).await;
            assert!(books.balance(), "the books of {id} do not balance: {books:?}");
            sum += books;
        }
        assert_eq!(sum, all, "the tenants' books do not add up to the books of all");
        let backlog = self.store.backlog.backlog().await.expect("the backlog");
        assert_eq!(
            (backlog.events, backlog.pending()),
            (all.waiting - all.scheduled, all.pending),
            "the backlog is not what the books have: {backlog:?}"
        );
        assert_eq!(backlog.oldest.is_some(), all.pending > 0, "{backlog:?}");
        let orphans = self.store.log.audit().await.expect("an audit");
        assert!(orphans.is_empty(), "{orphans:?}");
    }

    // ---- time and processes

    pub(super) async fn advance(&self, by: Duration) {
        self.engine.advance(by).await;
    }

    /// Past the end of every lease that is not extended.
    pub(super) async fn lapse(&self) {
        self.advance(kit::LEASE + Duration::from_secs(1)).await;
    }

    /// All that is stored, value by value.
    pub(super) async fn everything(&self) -> Vec<Vec<u8>> {
        self.engine.everything().await
    }

    /// The store's present time.
    pub(super) async fn now(&self) -> Timestamp {
        self.store.nodes.nodes().await.expect("the nodes").1
    }

    /// A restart. False: the engine keeps nothing, and the case has nothing to show.
    pub(super) async fn reopen(&mut self) -> bool {
        let kept = self.engine.reopen().await;
        self.store = self.engine.store();
        kept
    }

    /// A restart after which the leases of the earlier life are free.
    pub(super) async fn reopen_and_lapse(&mut self) -> bool {
        let kept = self.reopen().await;
        if kept && !self.engine.restart_frees_leases() {
            self.lapse().await;
        }
        kept
    }

    pub(super) async fn second(&self) -> Option<Store> {
        self.engine.second().await
    }

    pub(super) fn partitions(&self) -> std::ops::Range<PartitionNo> {
        0..self.store.work.partitions()
    }

    // ---- publish

    pub(super) async fn publish(&self, events: Vec<NewEvent>) -> Vec<Published> {
        self.store.intake.publish(events).await.expect("a publish")
    }

    /// Publishes events that must all be new.
    pub(super) async fn accept(&self, events: Vec<NewEvent>) -> Vec<Position> {
        let new = |published| match published {
            Published::Accepted { position, duplicate: false } => position,
            other @ (Published::Accepted { .. } | Published::IdReused) => {
                panic!("a new event was {other:?}")
            }
        };
        self.publish(events).await.into_iter().map(new).collect()
    }

    /// Publishes one event that must be new.
    pub(super) async fn accept_one(&self, event: NewEvent) -> Position {
        self.accept(vec![event]).await[0]
    }

    // ---- claims

    pub(super) async fn take_in(
        &self,
        partition: PartitionNo,
        by: &str,
        want: usize,
    ) -> Option<Batch> {
        let taken = self.store.work.take(partition, &claim(by), want, usize::MAX).await;
        taken.expect("a take")
    }

    pub(super) async fn take_up_to(&self, by: &str, want: usize) -> Option<Batch> {
        for partition in self.partitions() {
            let batch = self.take_in(partition, by, want).await;
            if batch.is_some() {
                return batch;
            }
        }
        None
    }

    /// The next new events; there must be some.
    pub(super) async fn take(&self, by: &str) -> Batch {
        self.take_up_to(by, BATCH_MAX).await.expect("events to take")
    }

    /// All new events.
    pub(super) async fn take_all(&self, by: &str) -> Vec<Batch> {
        let mut batches = Vec::new();
        while let Some(batch) = self.take_up_to(by, BATCH_MAX).await {
            batches.push(batch);
        }
        batches
    }

    /// Publishes one event and takes it.
    pub(super) async fn take_new(&self, by: &str) -> Batch {
        self.accept_one(kit::event()).await;
        self.take(by).await
    }

    /// Asks each partition once for what is due.
    pub(super) async fn ask(&self, by: &str, request: &DueRequest) -> Vec<Due> {
        let mut answers = Vec::new();
        for partition in self.partitions() {
            let due = self.store.work.due(partition, &claim(by), request.clone()).await;
            answers.push(due.expect("what is due"));
        }
        answers
    }

    /// All that is due, as batches. Lanes may want a moment between turns; they are given it.
    pub(super) async fn due(&self, by: &str) -> Vec<Batch> {
        self.due_of(by, &everything()).await
    }

    pub(super) async fn due_of(&self, by: &str, request: &DueRequest) -> Vec<Batch> {
        const MOMENT: Duration = Duration::from_millis(20);
        let mut batches = Vec::new();
        for _ in 0..ROUNDS {
            let answers = self.ask(by, request).await;
            let again = answers.iter().any(|due| due.batch.is_some());
            let soon = answers.iter().any(|due| due.next.is_some_and(|next| next <= MOMENT));
            batches.extend(answers.into_iter().filter_map(|due| due.batch));
            if soon {
                self.advance(MOMENT).await;
            } else if !again {
                return batches;
            }
        }
        panic!("something is due without end")
    }

    /// The deliveries of all that is due.
    pub(super) async fn due_keys(&self, by: &str) -> BTreeSet<DeliveryKey> {
        keys(&self.due(by).await)
    }

    /// All batches whose lease ran out.
    pub(super) async fn take_over(&self, by: &str) -> Vec<Batch> {
        let mut all = Vec::new();
        for partition in self.partitions() {
            loop {
                let taken = self.store.work.take_over(partition, &claim(by), 64, 64).await;
                let (batches, _) = taken.expect("a takeover");
                if batches.is_empty() {
                    break;
                }
                all.extend(batches);
            }
        }
        all
    }

    /// When the next lease runs out, seen by a takeover that must find nothing.
    pub(super) async fn next_lapse(&self, by: &str) -> Option<Duration> {
        let mut first: Option<Duration> = None;
        for partition in self.partitions() {
            let taken = self.store.work.take_over(partition, &claim(by), 64, 64).await;
            let (batches, next) = taken.expect("a takeover");
            assert!(batches.is_empty(), "nothing had lapsed: {batches:?}");
            first = first.into_iter().chain(next).min();
        }
        first
    }

    pub(super) async fn extend(&self, tokens: &[Token]) -> Vec<Token> {
        self.store.work.extend(tokens, kit::LEASE).await.expect("an extension")
    }

    // ---- settle

    pub(super) async fn settle_as_is(&self, settlement: Settlement) -> Settled {
        self.store.work.settle(settlement).await.expect("a settle")
    }

    /// Settles what must still be held.
    pub(super) async fn settle(&self, results: Results) {
        let settled = self.settle_as_is(results.settlement()).await;
        assert_eq!(settled.lost, [], "no lease was lost");
    }

    /// Settles what must be lost.
    pub(super) async fn settle_in_vain(&self, results: Results) {
        let settlement = results.settlement();
        let token = settlement.batches[0].token;
        assert_eq!(self.settle_as_is(settlement).await.lost, [token], "the lease was lost");
    }

    /// Settles batches whole: events to these lanes, deliveries the way of the first.
    pub(super) async fn settle_all(&self, by: &str, batches: &[Batch], to: &[(u64, Transition)]) {
        for batch in batches {
            self.settle(Results::all(by, batch, to)).await;
        }
    }

    /// Publishes an event, and has it matched and settled to these lanes.
    pub(super) async fn deliver(&self, event: NewEvent, to: &[(u64, Transition)]) -> Position {
        let position = self.accept_one(event).await;
        let batch = self.take("n1").await;
        self.settle(Results::all("n1", &batch, to)).await;
        position
    }

    /// Publishes so many events, all of which wait in each of these lanes, due now.
    pub(super) async fn backlog(&self, lanes: &[u64], count: usize) -> BTreeSet<DeliveryKey> {
        let positions = self.accept(kit::events(count)).await;
        let to: Vec<_> = lanes.iter().map(|number| (*number, WAITING)).collect();
        while let Some(batch) = self.take_up_to("n1", STEP_MAX / lanes.len()).await {
            self.settle(Results::all("n1", &batch, &to)).await;
        }
        positions.iter().flat_map(|at| lanes.iter().map(|l| kit::key(*at, *l))).collect()
    }

    /// One delivery of the lane, in flight.
    pub(super) async fn in_flight(&self, by: &str, number: u64) -> (Batch, HeldDelivery) {
        self.backlog(&[number], 1).await;
        let batch = self.due(by).await.pop().expect("a due delivery");
        let held = batch.deliveries[0].clone();
        (batch, held)
    }

    // ---- what happened

    pub(super) async fn books(&self) -> Books {
        self.store.log.books(None).await.expect("the books")
    }

    pub(super) async fn tenant_books(&self, id: &str) -> Books {
        self.store.log.books(Some(&tenant(id))).await.expect("the books of a tenant")
    }

    pub(super) async fn find_delivery(&self, key: DeliveryKey) -> Option<DeliveryRecord> {
        self.store.log.delivery(key).await.expect("a delivery")
    }

    /// A delivery that must be recorded.
    pub(super) async fn delivery(&self, key: DeliveryKey) -> DeliveryRecord {
        let record = self.find_delivery(key).await;
        record.unwrap_or_else(|| panic!("{key} is not recorded"))
    }

    /// How a delivery stands, or ended.
    pub(super) async fn state(&self, key: DeliveryKey) -> (DeliveryState, Option<EndReason>) {
        let record = self.delivery(key).await;
        (record.state, record.end_reason)
    }

    /// All deliveries of a query, in pages of this size, in order.
    pub(super) async fn list(&self, query: &DeliveryQuery, limit: usize) -> Vec<DeliveryRecord> {
        let (mut all, mut from) = (Vec::new(), None::<String>);
        loop {
            let page = self.store.log.deliveries(query, from.as_deref(), limit).await;
            let Page { items, next } = page.expect("a page of deliveries");
            assert!(items.len() <= limit, "a page of {} where {limit} is the limit", items.len());
            all.extend(items);
            match next {
                Some(next) => from = Some(next),
                None => return all,
            }
        }
    }
}

/// The keys of the deliveries in batches. No delivery may be in two of them.
pub(super) fn keys(batches: &[Batch]) -> BTreeSet<DeliveryKey> {
    let mut keys = BTreeSet::new();
    for held in batches.iter().flat_map(|batch| &batch.deliveries) {
        assert!(keys.insert(held.key), "{} was handed out twice", held.key);
    }
    keys
}

/// The positions of the events in batches. No event may be in two of them.
pub(super) fn positions(batches: &[Batch]) -> BTreeSet<Position> {
    let mut positions = BTreeSet::new();
    for open in batches.iter().flat_map(|batch| &batch.events) {
        let position = open.event.position;
        assert!(positions.insert(position), "{position} was handed out twice");
    }
    positions
}

/// Looks again and again until it sees what must come. Reads may be a moment behind claims, which
/// an engine may answer before they are durable: what is lost of them is claimed again.
pub(super) async fn eventually<T: PartialEq + Debug>(expected: T, look: impl AsyncFn() -> T) {
    const PAUSE: Duration = Duration::from_millis(2);
    let mut seen = look().await;
    for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
        if seen == expected {
            return;
        }
        tokio::time::sleep(PAUSE).await;
        seen = look().await;
    }
    assert_eq!(seen, expected, "and it never came");
}

/// Awaits what must come; gives up after half a minute of real time.
pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("to happen within half a minute")
}
