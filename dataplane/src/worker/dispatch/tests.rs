use bytes::Bytes;
use pregon_core::attempt::RecordKind;
use pregon_core::clock::{SystemClock, Timestamp};
use pregon_core::event::{Environment, Event};
use pregon_core::id::{ContractId, DeliveryKey, EventId, EventTypeId, Position, TenantId};
use pregon_core::model::{Resource, Subscription, SubscriptionState};
use pregon_core::outcome::{
    Decision, DeliveryState, EndReason, ErrorClass, Outcome, PendingReason,
};
use pregon_store::batch::{Batch, HeldDelivery, OpenEvent, Token};
use pregon_store::settlement::{BatchSettle, EventOutcome, Settlement, Transition};
use pregon_store::work::FAN_OUT_STEP;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::snapshot::{Configuration, Follower, FollowerOptions};
use crate::testing::{FakeConfig, held, secret, subscription, tenant};
use crate::worker::job::Report;
use crate::worker::lane::Pace;

const WALL: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// A machine over a configuration that tests can change.
struct Rig {
    store: Arc<FakeConfig>,
    configuration: Configuration,
    machine: Dispatcher,
    now: Instant,
    next: u64,
    /// What the last settlement made due, by partition.
    due: HashMap<PartitionNo, Duration>,
    /// Events that are to be matched off the loop.
    questions: Vec<Question>,
    _stop: tokio_util::sync::DropGuard,
}

impl Rig {
    /// One tenant `t` with subscriptions on lanes 1 to `lanes`, each wanting everything.
    async fn new(lanes: u64) -> Self {
        Self::with(lanes, WorkerLimits::default()).await
    }

    async fn with(lanes: u64, limits: WorkerLimits) -> Self {
        let store = Arc::new(FakeConfig::default());
        let mut resources = vec![Resource::Tenant(tenant("t"))];
        for lane in 1..=lanes {
            resources.push(Resource::Subscription(subscription("t", lane, &["*"])));
            resources.push(Resource::Secret(secret("t", lane, "k", 0)));
        }
        let revision = store.write(&resources);
        let (follower, configuration) = Follower::new(FollowerOptions {
            egress: crate::testing::receiver::egress(),
            telemetry: pregon_telemetry::Telemetry::off(),
            store: store.clone(),
            keys: held(),
            clock: Arc::new(SystemClock),
        });
        let stop = CancellationToken::new();
        tokio::spawn(follower.run(stop.clone()));
        let snapshot = configuration.wait_for(revision, Duration::from_secs(10)).await.unwrap();
        let node = NodeId::parse("n1").unwrap();
        let machine = Dispatcher::new(
            node,
            Duration::from_secs(20),
            limits,
            snapshot,
            1,
            pregon_telemetry::Telemetry::off(),
        );
        Self {
            store,
            configuration,
            machine,
            now: Instant::now(),
            next: 0,
            due: HashMap::new(),
            questions: Vec::new(),
            _stop: stop.drop_guard(),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.machine.on_tick(self.now);
    }

    async fn change(&mut self, lane: u64, change: impl FnOnce(&mut Subscription)) {
        let mut subscription = subscription("t", lane, &["*"]);
        change(&mut subscription);
        let revision = self.store.write(&[Resource::Subscription(subscription)]);
        self.serve(revision).await;
    }

    async fn delete(&mut self, lane: u64) {
        let name = format!("tenants/t/subscriptions/s{lane}");
        let revision = self.store.put(vec![(name, None)]);
        self.serve(revision).await;
    }

    async fn serve(&mut self, revision: i64) {
        let snapshot =
            self.configuration.wait_for(revision, Duration::from_secs(10)).await.unwrap();
        self.machine.on_snapshot(&snapshot, self.now, WALL);
    }

    fn event(&mut self) -> Arc<Event> {
        self.next += 1;
        let position = Position { ms: 1_700_000_000_000, partition: 0, n: self.next };
        Arc::new(Event {
            position,
            tenant: TenantId::parse("t").unwrap(),
            id: EventId::assigned(position),
            version: 0,
            event_type: EventTypeId::parse("a.b").unwrap(),
            environment: Environment::Live,
            given_occur_time: None,
            erased: None,
            min_revision: 0,
            trace: None,
            terms: None,
            attributes: Default::default(),
            data: Bytes::from_static(b"{}"),
        })
    }

    fn batch(&mut self, events: usize) -> Batch {
        let events = (0..events)
            .map(|_| OpenEvent { event: self.event(), cursor: None, ripe: false })
            .collect();
        Batch { events, ..self.empty() }
    }

    fn empty(&mut self) -> Batch {
        self.next += 1;
        Batch {
            token: Token { incarnation: 1, sequence: self.next },
            partition: 0,
            takes: 1,
            previous: None,
            events: Vec::new(),
            deliveries: Vec::new(),
            spoiled: Vec::new(),
            closed: Vec::new(),
        }
    }

    /// A delivery out of a lane, with this many attempts behind it.
    fn held(&mut self, lane: u64, attempts: u32) -> Batch {
        let event = self.event();
        let key = DeliveryKey { position: event.position, lane: LaneNo(lane), replay: None };
        let held = HeldDelivery { key, event, attempts, create_time: WALL, due: None };
        Batch { deliveries: vec![held], ..self.empty() }
    }

    /// So many deliveries of the first lane that are due.
    fn due_batch(&mut self, count: usize) -> Batch {
        let mut batch = self.empty();
        for _ in 0..count {
            batch.deliveries.append(&mut self.held(1, 1).deliveries);
        }
        batch
    }

    fn take(&mut self, batch: Batch) -> Vec<Job> {
        self.machine.on_batch(batch, (self.now, self.now), WALL);
        self.started()
    }

    fn started(&mut self) -> Vec<Job> {
        let starts = self.machine.effects().into_iter().filter_map(|effect| match effect {
            Effect::Start(job) => Some(job),
            Effect::Match(question) => {
                self.questions.push(question);
                None
            }
            Effect::EndLane(_)
            | Effect::EndLaneOlder(..)
            | Effect::CloseLane(_)
            | Effect::OpenLane(_)
            | Effect::Note(..) => None,
        });
        starts.collect()
    }

    fn report(&mut self, job: Job, outcome: Outcome) {
        let report = self.reported(job, outcome);
        self.machine.on_report(report, self.now);
    }

    fn reported(&self, job: Job, outcome: Outcome) -> Report {
        let ok = outcome == Outcome::Succeeded;
        let decision = Decision {
            outcome,
            error_class: (!ok).then_some(ErrorClass::Status),
            counts: true,
            disable: false,
            slow_lane: None,
            timeout: false,
        };
        let record =
            self.machine.end_record(job.key, &job.event, job.number, Transition::Held, WALL);
        let record = AttemptRecord { kind: RecordKind::Attempt, ..(*record).clone() };
        let record = Arc::new(record);
        let pace = if ok { Pace::Good } else { Pace::Other };
        let (started, ended_at) = (self.now, self.now);
        let (company, left) = (Vec::new(), Vec::new());
        let ended = WALL;
        Report { job, started, ended, decision, pace, record, render: 0, ended_at, company, left }
    }

    /// What is settled now; the store takes it.
    fn settle(&mut self) -> Settlement {
        let settlement = self.machine.settlement(self.now).unwrap_or_default();
        self.due = self.machine.on_settled(&settlement, &[], (self.now, WALL));
        settlement
    }
}

fn moves(batch: &BatchSettle) -> Vec<Transition> {
    let of_events = batch.events.iter().flat_map(|event| match &event.outcome {
        EventOutcome::Matched(deliveries) | EventOutcome::FannedOut { deliveries, .. } => {
            deliveries.iter().map(|delivery| delivery.to).collect()
        }
        EventOutcome::Unmatched
        | EventOutcome::Postponed(_)
        | EventOutcome::Scheduled(_)
        | EventOutcome::SetAside => Vec::new(),
    });
    of_events.chain(batch.deliveries.iter().map(|delivery| delivery.to)).collect()
}

#[tokio::test]
async fn a_batch_whose_deliveries_succeed_is_settled_whole_and_forgotten() {
    let mut rig = Rig::new(2).await;
    let batch = rig.batch(3);
    let jobs = rig.take(batch);
    assert_eq!(jobs.len(), 6);
    assert!(jobs.iter().all(|job| job.number == 1));
    for job in jobs {
        rig.report(job, Outcome::Succeeded);
    }
    let settlement = rig.settle();
    assert_eq!(settlement.batches.len(), 1);
    assert_eq!(settlement.batches[0].events.len(), 3);
    assert_eq!(moves(&settlement.batches[0]), vec![Transition::Succeeded; 6]);
    assert_eq!(settlement.attempts.len(), 6);
    assert!(rig.machine.tokens().is_empty());
    assert_eq!((rig.machine.claimed(), rig.machine.in_flight()), (0, 0));
}

#[tokio::test]
async fn an_event_that_nobody_wants_is_settled_without_an_attempt() {
    let mut rig = Rig::new(0).await;
    let batch = rig.batch(1);
    assert!(rig.take(batch).is_empty());
    assert!(matches!(rig.settle().batches[0].events[0].outcome, EventOutcome::Unmatched));
}

#[tokio::test]
async fn an_event_ahead_of_the_configuration_is_put_off() {
    let mut rig = Rig::new(1).await;
    let mut batch = rig.batch(1);
    let ahead = rig.machine.snapshot.revision() + 1;
    Arc::make_mut(&mut batch.events[0].event).min_revision = ahead;
    assert!(rig.take(batch).is_empty());
    assert!(matches!(rig.settle().batches[0].events[0].outcome, EventOutcome::Postponed(_)));
}

#[tokio::test]
async fn an_event_open_for_a_second_is_split_and_its_slow_delivery_goes_on() {
    let mut rig = Rig::new(2).await;
    let batch = rig.batch(1);
    let mut jobs = rig.take(batch);
    let slow = jobs.pop().unwrap();
    rig.report(jobs.pop().unwrap(), Outcome::Succeeded);
    assert!(rig.machine.settlement(rig.now).is_none(), "the event is still open");

    rig.pass(SPLIT_AFTER);
    let settlement = rig.settle();
    assert_eq!(moves(&settlement.batches[0]), [Transition::Succeeded, Transition::Held]);
    assert_eq!(rig.machine.tokens().len(), 1, "the lease is kept for what is in flight");

    rig.report(slow, Outcome::Retry { after: Duration::from_secs(5) });
    let settlement = rig.settle();
    assert_eq!(moves(&settlement.batches[0]), [Transition::Retry(Duration::from_secs(5))]);
    assert_eq!(settlement.batches[0].deliveries[0].attempts, 1);
    assert!(rig.machine.tokens().is_empty());
}

#[tokio::test]
async fn a_receiver_that_hangs_keeps_its_slots_and_nothing_else() {
    let mut rig = Rig::new(2).await;
    let batch = rig.batch(200);
    let jobs = rig.take(batch);
    let (hanging, healthy): (Vec<_>, Vec<_>) =
        jobs.into_iter().partition(|job| job.key.lane == LaneNo(1));
    assert_eq!(hanging.len(), 8);
    let mut answered = 0;
    let mut next = healthy;
    while !next.is_empty() {
        for job in std::mem::take(&mut next) {
            answered += 1;
            rig.report(job, Outcome::Succeeded);
        }
        next = rig.started();
    }
    assert_eq!(answered, 200, "the healthy receiver got everything");

    rig.pass(SPLIT_AFTER);
    let put_back = rig.settle_all().into_iter().filter(|to| matches!(to, Transition::Waiting(_)));
    assert_eq!(put_back.count(), 192);
    assert_eq!(rig.machine.claimed(), 8);
}

impl Rig {
    fn settle_all(&mut self) -> Vec<Transition> {
        let mut all = Vec::new();
        loop {
            let settlement = self.settle();
            if settlement.batches.is_empty() {
                return all;
            }
            all.extend(settlement.batches.iter().flat_map(moves));
        }
    }
}

#[tokio::test]
async fn a_paused_lane_waits_and_is_opened_when_it_resumes() {
    let mut rig = Rig::new(1).await;
    rig.change(1, |s| s.state = SubscriptionState::Paused).await;
    let closes = rig.machine.effects();
    assert!(matches!(&closes[..], [Effect::CloseLane(close)] if close.lane == LaneNo(1)));
    let batch = rig.batch(1);
    assert!(rig.take(batch).is_empty());
    assert_eq!(rig.settle_all(), [Transition::Waiting(PendingReason::Paused)]);
    rig.change(1, |_| {}).await;
    assert!(matches!(rig.machine.effects()[..], [Effect::OpenLane(LaneNo(1))]));
}

#[tokio::test]
async fn what_is_in_flight_when_its_subscription_goes_is_cancelled_unless_it_succeeds() {
    let mut rig = Rig::new(1).await;
    let batch = rig.batch(2);
    let mut jobs = rig.take(batch);
    rig.delete(1).await;
    let effects = rig.machine.effects();
    let [Effect::EndLane(end)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((end.state, end.reason), (DeliveryState::Cancelled, EndReason::SubscriptionDeleted));
    rig.report(jobs.pop().unwrap(), Outcome::Succeeded);
    rig.report(jobs.pop().unwrap(), Outcome::Retry { after: Duration::from_secs(5) });
    let cancelled = Transition::Cancelled(EndReason::SubscriptionDeleted);
    assert_eq!(rig.settle_all(), [Transition::Succeeded, cancelled]);
}

#[tokio::test]
async fn a_delivery_of_a_disabled_subscription_is_called_off() {
    let mut rig = Rig::new(1).await;
    rig.change(1, |s| s.state = SubscriptionState::Disabled).await;
    rig.machine.effects();
    let batch = rig.held(1, 3);
    assert!(rig.take(batch).is_empty());
    let cancelled = Transition::Cancelled(EndReason::SubscriptionDisabled);
    assert_eq!(rig.settle_all(), [cancelled]);
}

#[tokio::test]
async fn poison_is_set_aside_without_an_attempt_and_a_takeover_is_reported_in_the_log() {
    let mut rig = Rig::new(1).await;
    let cloudevents = ContractId::parse("cloudevents").unwrap();
    rig.change(1, |subscription| subscription.contract = cloudevents.clone()).await;
    let previous = Some(NodeId::parse("dead").unwrap());
    let batch = Batch { takes: 2, previous, ..rig.batch(1) };
    let jobs = rig.take(batch);
    assert_eq!(jobs.len(), 1);
    rig.report(jobs.into_iter().next().unwrap(), Outcome::Succeeded);
    let attempts = rig.settle().attempts;
    let kinds: Vec<_> = attempts.iter().map(|(_, record)| record.kind).collect();
    assert_eq!(kinds, [RecordKind::Lost, RecordKind::Attempt]);
    assert_eq!(attempts[0].1.contract, cloudevents);
}

mod batches;
mod breaking;
mod matching;
mod rates;
mod suspects;
mod terms;
mod waiting;
mod wakeups;

#[tokio::test]
async fn a_large_fan_out_goes_into_the_lanes_in_steps_and_resumes_at_its_cursor() {
    let mut rig = Rig::new(250).await;
    let batch = rig.batch(1);
    assert!(rig.take(batch).is_empty());
    let mut steps = Vec::new();
    while let Some(settlement) = rig.machine.settlement(rig.now) {
        for event in &settlement.batches[0].events {
            let EventOutcome::FannedOut { deliveries, cursor, done } = &event.outcome else {
                panic!("{event:?}")
            };
            steps.push((deliveries.len(), cursor.0, *done));
        }
    }
    assert_eq!(steps, [(FAN_OUT_STEP, 100, false), (FAN_OUT_STEP, 200, false), (50, 250, true)]);

    let mut batch = rig.batch(1);
    batch.events[0].cursor = Some(LaneNo(240));
    rig.take(batch);
    let settlement = rig.settle();
    assert_eq!(moves(&settlement.batches[0]).len(), 10);
}

#[tokio::test]
async fn nothing_new_starts_from_a_lost_lease() {
    let mut rig = Rig::new(1).await;
    let batch = rig.batch(20);
    let token = batch.token;
    let jobs = rig.take(batch);
    assert_eq!(jobs.len(), 8);
    rig.machine.lose(token);
    for job in jobs {
        rig.report(job, Outcome::Succeeded);
    }
    assert!(rig.started().is_empty());
    let settlement = rig.machine.settlement(rig.now).unwrap();
    assert_eq!(settlement.attempts.len(), 8, "what was in flight is told to the store");
    assert_eq!((rig.machine.claimed(), rig.machine.in_flight()), (0, 0));
}

#[tokio::test]
async fn a_node_holds_no_more_bytes_than_its_bounds() {
    let limits = WorkerLimits { max_in_flight_bytes: 1, ..WorkerLimits::default() };
    let mut rig = Rig::with(1, limits).await;
    let batch = rig.batch(3);
    let mut started = rig.take(batch);
    for left in (0..3).rev() {
        assert_eq!(
            (started.len(), rig.machine.room()),
            (1, 0),
            "the first that reaches it is the last"
        );
        rig.report(started.remove(0), Outcome::Succeeded);
        started = rig.started();
        assert_eq!(rig.machine.room() > 0, left == 0);
    }
    assert!(started.is_empty());
}

#[tokio::test]
async fn a_node_takes_no_more_than_its_bounds() {
    let limits = WorkerLimits { max_in_flight: 4, max_claimed: 10, ..WorkerLimits::default() };
    let mut rig = Rig::with(1, limits).await;
    assert_eq!(rig.machine.room(), 10);
    let batch = rig.batch(10);
    assert_eq!(rig.take(batch).len(), 4);
    assert_eq!(rig.machine.room(), 0);
}
