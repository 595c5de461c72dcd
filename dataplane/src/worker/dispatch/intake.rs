//! Batches in: matching events, admitting deliveries.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use pregon_core::attempt::AttemptRecord;
use pregon_core::clock::Timestamp;
use pregon_core::event::Event;
use pregon_core::id::{DeliveryKey, LaneNo, NodeId, PartitionNo, TenantId};
use pregon_core::model::SubscriptionState;
use pregon_core::outcome::{DeliveryState, EndReason, PendingReason};
use pregon_store::batch::{Batch, HeldDelivery, LaneClose, OpenEvent, Token};
use pregon_store::operate::{END_STEP, LaneEnd};
use pregon_store::settlement::{DeliverySettle, EventOutcome, EventSettle, Transition};
use pregon_store::work::{FAN_OUT_DIRECT, FAN_OUT_STEP, HELD_BACK_AT};
use rand::Rng;
use tokio::time::Instant;

use super::records::Ends;
use super::{Dispatcher, Effect, Item, OPENING, PAUSE_PROBE, REVISION_PROBE, SUSPECT_HOLD, Work};
use crate::snapshot::{Lane, Matched};
use crate::worker::job::{Job, Place, Share};
use crate::worker::lane::{Admission, LaneFlow, Means};
use crate::worker::traced;

/// Where a delivery goes that node after node went down with.
const HELD_BACK: Transition = Transition::Later(SUSPECT_HOLD, PendingReason::Suspect);

/// The moment at which a batch is worked on, and what is known of its earlier life.
#[derive(Clone, Copy)]
pub(super) struct Intake<'a> {
    pub(super) now: Instant,
    pub(super) wall: Timestamp,
    /// Node after node went down with it as the only suspect in hand: nothing of it is attempted.
    pub(super) held_back: bool,
    /// Who had it before and may have sent some of it.
    pub(super) lost_by: Option<&'a NodeId>,
}

impl Dispatcher {
    /// Takes in a batch that was asked for at `asked` and came `now`.
    pub(in crate::worker) fn on_batch(
        &mut self,
        batch: Batch,
        (asked, now): (Instant, Instant),
        wall: Timestamp,
    ) {
        let token = batch.token;
        self.claimed += batch.len();
        self.close_lanes(&batch.closed, asked, now);
        self.work.insert(token, Work::new(&batch, now, self.lease));
        // To be held back, an event is matched. Where that is what kills, it waits unmatched.
        let unmatched = batch.takes > HELD_BACK_AT;
        let lost_by = batch.previous.as_ref().filter(|_| batch.takes > 1);
        let held_back = batch.takes >= HELD_BACK_AT && batch.len() == 1;
        let intake = Intake { now, wall, held_back, lost_by };

        let mut items = Vec::with_capacity(batch.events.len() + batch.deliveries.len());
        for open in batch.events {
            let place = Place { token, item: items.len() };
            items.push(match unmatched {
                true => self.hold_unmatched(token, &open.event, now),
                false => self.on_event(place, &open, intake),
            });
        }
        for held in batch.deliveries {
            let place = Place { token, item: items.len() };
            self.on_held(place, &held, intake);
            items.push(Item::Apart);
        }
        for position in batch.spoiled {
            // For whom it was published only the store knows; it does not look at this.
            let Ok(tenant) = TenantId::parse("unknown") else { continue };
            tracing::error!(%position, "an event cannot be decoded and is set aside");
            let event = EventSettle::new(position, tenant, EventOutcome::SetAside);
            self.settle_event(token, event, Vec::new(), now);
        }
        if let Some(work) = self.work.get_mut(&token) {
            work.items = items;
        }
    }

    /// An event whose matching is what nodes seem to die over waits as it is.
    fn hold_unmatched(&mut self, token: Token, event: &Event, now: Instant) -> Item {
        tracing::error!(
            event = %event.name(),
            "node after node went down with this event in hand; it waits unmatched"
        );
        let put_off = settle_of(event, EventOutcome::Postponed(SUSPECT_HOLD));
        self.event_done(token, put_off, Vec::new(), now)
    }

    /// Leaves receivers alone that asked another node for it, as the store knew at `asked`. An
    /// operator's word gets [`OPENING`] to reach the store.
    fn close_lanes(&mut self, closed: &[LaneClose], asked: Instant, now: Instant) {
        let asked = asked.checked_sub(OPENING).unwrap_or(asked);
        for close in closed {
            let Some(lane) = self.snapshot.lane(close.lane).cloned() else { continue };
            if close.reason == PendingReason::BreakerOpen {
                self.on_foreign_breaker(&lane, close.wait, asked, now);
            } else if close.reason == PendingReason::RateLimited {
                self.lanes.change(&lane, now, |flow| flow.close(now + close.wait, asked));
            }
        }
    }

    fn on_event(&mut self, place: Place, open: &OpenEvent, intake: Intake<'_>) -> Item {
        let event = &open.event;
        if event.min_revision > self.snapshot.revision() {
            let put_off = settle_of(event, EventOutcome::Postponed(REVISION_PROBE));
            return self.event_done(place.token, put_off, Vec::new(), intake.now);
        }
        // Whether its time has come only the store's clock says.
        if let (Some(at), false) = (event.scheduled(), open.ripe) {
            let later = settle_of(event, EventOutcome::Scheduled(at));
            return self.event_done(place.token, later, Vec::new(), intake.now);
        }
        if !self.snapshot.matches_quickly(&event.tenant) {
            return self.match_elsewhere(place, open, intake);
        }
        let snapshot = Arc::clone(&self.snapshot);
        let timed = self.telemetry.recorded(event).map(|_| Instant::now());
        let matched = catch_unwind(AssertUnwindSafe(|| snapshot.matching(event)));
        if let Some(begun) = timed {
            let count = matched.as_ref().map_or(0, |matched| matched.lanes.len());
            traced::matched(&self.telemetry, event, place.token, begun, count);
        }
        self.on_lanes(place, open, matched.ok(), intake)
    }

    /// An event was matched; none: matching it panicked.
    pub(super) fn on_lanes(
        &mut self,
        place: Place,
        open: &OpenEvent,
        matched: Option<Matched>,
        intake: Intake<'_>,
    ) -> Item {
        let event = &open.event;
        let Some(mut matched) = matched else {
            tracing::error!(event = %event.name(), "matching an event panicked; it is set aside");
            let aside = settle_of(event, EventOutcome::SetAside);
            return self.event_done(place.token, aside, Vec::new(), intake.now);
        };
        if let Some(cursor) = open.cursor {
            matched.lanes.retain(|lane| lane.lane > cursor);
        }
        if matched.lanes.len() > FAN_OUT_DIRECT || open.cursor.is_some() {
            return self.fan_out(place.token, open, matched, intake.now);
        }
        if matched.lanes.is_empty() {
            let nobody = settle_of(event, EventOutcome::Unmatched);
            let nobody = EventSettle { filter_errors: matched.filter_errors, ..nobody };
            return self.event_done(place.token, nobody, Vec::new(), intake.now);
        }
        self.attempt_directly(place, event, matched, intake)
    }

    /// Attempts the deliveries of an event from memory, as far as lanes allow.
    fn attempt_directly(
        &mut self,
        place: Place,
        event: &Arc<Event>,
        matched: Matched,
        intake: Intake<'_>,
    ) -> Item {
        let Matched { lanes, filter_errors } = matched;
        let share = (lanes.len() > 1).then(|| Arc::new(Share::default()));
        let mut done = Vec::with_capacity(lanes.len());
        let mut records = Vec::new();
        let (mut open, mut touched) = (Vec::new(), None);
        self.note_fan_out(lanes.len());
        for lane in &lanes {
            let key = DeliveryKey { position: event.position, lane: lane.lane, replay: None };
            if let Some(node) = intake.lost_by {
                let record = self.lost_record(key, event, lane, 1, node, intake.wall);
                self.tell_end(&record, event, Some(lane));
                records.push(record);
            }
            if intake.held_back {
                tell_held_back(&key, event);
                done.push(self.moved(key, event, 0, HELD_BACK));
                continue;
            }
            let job = self.job(place, key, lane, event, (1, event.ripe_time()), share.clone());
            match self.admit_new(job, intake.now) {
                Admission::PutBack(reason) => {
                    done.push(self.moved(key, event, 0, Transition::Waiting(reason)));
                    touched = Some(intake.now);
                    continue;
                }
                Admission::Start => touched = Some(intake.now),
                Admission::Queue => {}
            }
            open.push(Arc::clone(lane));
        }
        if open.is_empty() {
            let matched = settle_of(event, EventOutcome::Matched(done));
            let matched = EventSettle { filter_errors, ..matched };
            return self.event_done(place.token, matched, records, intake.now);
        }
        Item::Event { event: Arc::clone(event), done, records, open, touched, filter_errors }
    }

    /// Starts or queues a new delivery, or says why it goes into its lane in the store.
    fn admit_new(&mut self, job: Job, now: Instant) -> Admission {
        if job.lane.holds() {
            return Admission::PutBack(PendingReason::Paused);
        }
        if self.draining {
            return Admission::PutBack(PendingReason::Queued);
        }
        self.admit(job, |flow, means, partition| flow.admit(now, means, partition), now)
    }

    /// Has the job's lane decide, and does it.
    fn admit(
        &mut self,
        job: Job,
        decide: impl FnOnce(&mut LaneFlow<Job>, Means, PartitionNo) -> Admission,
        now: Instant,
    ) -> Admission {
        let lane = Arc::clone(&job.lane);
        let means = self.rates.means(self.means(), Some(&lane), now);
        let (partition, mut ripe) = (job.key.position.partition, false);
        // Once known it is looked at in the next turn; to ask is a walk of the queue.
        let known = self.ripe.contains(&lane.lane);
        let (admission, job) = self.lanes.change(&lane, now, |flow| {
            let admission = match job.alone && flow.start_alone(now, means) {
                true => Admission::Start,
                false => decide(flow, means, partition),
            };
            if admission != Admission::Queue {
                return (admission, Some(job));
            }
            flow.enqueue(job, now);
            ripe = !known && flow.is_ripe(now, means);
            (admission, None)
        });
        if ripe {
            self.ripe.insert(lane.lane);
        }
        match (admission, job) {
            (Admission::Start, Some(job)) => {
                self.rates.spend(&lane, now);
                self.start(job);
            }
            (Admission::Queue, _) if means.pass.held => self.rates.wait(&lane, now),
            (Admission::Start | Admission::Queue | Admission::PutBack(_), _) => {}
        }
        admission
    }

    /// A delivery that came out of its lane, or that was split off and taken over.
    fn on_held(&mut self, place: Place, held: &HeldDelivery, intake: Intake<'_>) {
        let (now, key, event) = (intake.now, held.key, &held.event);
        let Some(lane) = self.snapshot.lane(key.lane).cloned() else {
            let reason = self.gone(event);
            self.cancel(place.token, held, reason, intake);
            self.end_lane(key.lane, DeliveryState::Cancelled, reason);
            return;
        };
        let to = if lane.state == SubscriptionState::Disabled {
            self.end_lane_so_far(key.lane, EndReason::SubscriptionDisabled);
            Some(Transition::Cancelled(EndReason::SubscriptionDisabled))
        } else if intake.held_back {
            tell_held_back(&key, event);
            Some(HELD_BACK)
        } else if event.expire_time().is_some_and(|end| end <= intake.wall) {
            Some(Transition::Failed(EndReason::Expired))
        } else if lane.holds() {
            self.hold(&lane);
            Some(Transition::Waiting(PendingReason::Paused))
        } else if self.draining {
            Some(Transition::Waiting(PendingReason::Queued))
        } else {
            // That an earlier attempt may have been sent, the store logged when the lease was lost.
            let numbered = (held.attempts + 1, held.create_time);
            let job = self.job(place, key, &lane, event, numbered, None);
            let job = Job { due: held.due, ..job };
            let decide = |flow: &mut LaneFlow<Job>, means, partition| {
                flow.admit_stored(now, means, partition)
            };
            match self.admit(job, decide, now) {
                Admission::Start | Admission::Queue => None,
                Admission::PutBack(reason) => Some(Transition::Waiting(reason)),
            }
        };
        let Some(to) = to else { return };
        let ended =
            to.ends().then(|| self.end_record(key, event, held.attempts + 1, to, intake.wall));
        if let Some(record) = &ended {
            self.tell_end(record, event, Some(&lane));
        }
        let moved = self.moved(key, event, held.attempts, to);
        self.settle_delivery(place.token, moved, ended.into_iter().collect(), now);
    }

    /// Cancels a delivery whose subscription is gone.
    fn cancel(&mut self, token: Token, held: &HeldDelivery, reason: EndReason, intake: Intake<'_>) {
        let to = Transition::Cancelled(reason);
        let record = self.end_record(held.key, &held.event, held.attempts + 1, to, intake.wall);
        self.tell_end(&record, &held.event, None);
        let moved = self.moved(held.key, &held.event, held.attempts, to);
        self.settle_delivery(token, moved, vec![record], intake.now);
    }

    /// Puts a large fan-out into the lanes, step by step.
    fn fan_out(&mut self, token: Token, open: &OpenEvent, matched: Matched, now: Instant) -> Item {
        let event = &open.event;
        let Matched { lanes, mut filter_errors } = matched;
        let mut steps = lanes.chunks(FAN_OUT_STEP).peekable();
        if steps.peek().is_none() {
            // The step that reached the last lane was settled, but not as the last one.
            let cursor = open.cursor.unwrap_or_default();
            let outcome = EventOutcome::FannedOut { deliveries: Vec::new(), cursor, done: true };
            let last = EventSettle { filter_errors, ..settle_of(event, outcome) };
            return self.event_done(token, last, Vec::new(), now);
        }
        while let Some(step) = steps.next() {
            let deliveries = step
                .iter()
                .map(|lane| {
                    let key =
                        DeliveryKey { position: event.position, lane: lane.lane, replay: None };
                    self.moved(key, event, 0, Transition::Waiting(PendingReason::Queued))
                })
                .collect();
            let cursor = step.last().map(|lane| lane.lane).unwrap_or_default();
            let done = steps.peek().is_none();
            let mut settle = settle_of(event, EventOutcome::FannedOut { deliveries, cursor, done });
            if done {
                settle.filter_errors = std::mem::take(&mut filter_errors);
                self.settle_event(token, settle, Vec::new(), now);
            } else {
                self.ledger.event(token, settle, Vec::new(), now);
            }
        }
        Item::Apart
    }

    /// Keeps a paused lane closed in the store, and ends what waited in it for too long.
    fn hold(&mut self, lane: &Lane) {
        self.effects.push(Effect::CloseLane(LaneClose {
            lane: lane.lane,
            wait: PAUSE_PROBE,
            reason: PendingReason::Paused,
        }));
        // Not by the clock of this node, which may be wrong for a while.
        let (lane, state, reason) = (lane.lane, DeliveryState::Failed, EndReason::Expired);
        let end = LaneEnd { lane, state, reason, before: None, limit: END_STEP };
        self.once(Effect::EndLaneOlder(end, pregon_core::limits::PAUSED_KEPT));
    }

    /// Cancels what waits in a lane now; its subscription may be resumed before that is done.
    pub(super) fn end_lane_so_far(&mut self, lane: LaneNo, reason: EndReason) {
        let state = DeliveryState::Cancelled;
        let end = LaneEnd { lane, state, reason, before: None, limit: END_STEP };
        self.once(Effect::EndLaneOlder(end, Duration::ZERO));
    }

    pub(super) fn end_lane(&mut self, lane: LaneNo, state: DeliveryState, reason: EndReason) {
        let end = LaneEnd { lane, state, reason, before: None, limit: END_STEP };
        self.once(Effect::EndLane(end));
    }

    /// Asks the loop for something, unless it was asked for the same just now.
    fn once(&mut self, effect: Effect) {
        let (Effect::EndLane(end) | Effect::EndLaneOlder(end, _)) = &effect else { return };
        let asked = |known: &Effect| matches!(known, Effect::EndLane(other) | Effect::EndLaneOlder(other, _) if other == end);
        if !self.effects.iter().any(asked) {
            self.effects.push(effect);
        }
    }

    /// Why a delivery without a subscription is called off.
    pub(super) fn gone(&self, event: &Event) -> EndReason {
        match self.snapshot.tenant(&event.tenant) {
            Some(_) => EndReason::SubscriptionDeleted,
            None => EndReason::TenantDeleted,
        }
    }

    fn job(
        &mut self,
        place: Place,
        key: DeliveryKey,
        lane: &Arc<Lane>,
        event: &Arc<Event>,
        (number, create_time): (u32, Timestamp),
        share: Option<Arc<Share>>,
    ) -> Job {
        // Where each goes by itself nobody asks.
        let batches = lane.contract.batch().is_some();
        let alone = batches && self.work.get(&place.token).is_some_and(|work| work.suspect);
        Job {
            place,
            key,
            lane: Arc::clone(lane),
            event: Arc::clone(event),
            number,
            create_time,
            due: None,
            revision: self.snapshot.revision(),
            chance: self.chance.random(),
            share,
            alone,
            company: Vec::new(),
        }
    }

    /// Hands an attempt to the loop; its lane's slot is taken already.
    pub(super) fn start(&mut self, job: Job) {
        self.in_flight += 1;
        self.in_flight_bytes += job.held();
        self.effects.push(Effect::Start(job));
    }

    pub(super) fn moved(
        &self,
        key: DeliveryKey,
        event: &Event,
        attempts: u32,
        to: Transition,
    ) -> DeliverySettle {
        let tenant = event.tenant.clone();
        DeliverySettle { key, tenant, attempts, age: Duration::ZERO, to }
    }

    pub(super) fn event_done(
        &mut self,
        token: Token,
        settle: EventSettle,
        records: Vec<Arc<AttemptRecord>>,
        now: Instant,
    ) -> Item {
        self.settle_event(token, settle, records, now);
        Item::Apart
    }
}

/// The settlement of an event that no filter failed on.
pub(super) fn settle_of(event: &Event, outcome: EventOutcome) -> EventSettle {
    EventSettle::new(event.position, event.tenant.clone(), outcome)
}

/// Somebody should look at what nodes seem to die over.
fn tell_held_back(key: &DeliveryKey, event: &Event) {
    tracing::error!(
        delivery = %key,
        event = %event.name(),
        seconds = SUSPECT_HOLD.as_secs(),
        "node after node went down with this delivery in hand; it is held back"
    );
}
