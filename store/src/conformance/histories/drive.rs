//! Does random things to the engine and the model alike.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use pregon_core::clock::Timestamp;
use pregon_core::event::NewEvent;
use pregon_core::id::{DeliveryKey, LaneNo, PartitionNo};
use pregon_core::outcome::{DeliveryState, EndReason, PendingReason};

use super::super::Rig;
use super::super::kit::{LEASE, TENANTS, claim, close, event, given, lane, tenant};
use super::chance::Chance;
use super::model::{Model, ModelDelivery, ModelEvent, Moment, Place, Stage};
use crate::batch::Batch;
use crate::intake::Published;
use crate::log::{Books, DeliveryQuery};
use crate::operate::{Cancelled, LaneEnd};
use crate::settlement::Transition;
use crate::work::DueRequest;

mod once_more;
mod settle;

/// Lanes that events match directly; fan-outs reach lanes above.
const LANES: usize = 6;
/// Ids that publishers give in one history.
const IDS: usize = 30;

/// One history under way. Prints how to repeat it when a promise is broken.
#[derive(Default)]
pub(super) struct Driver {
    seed: u64,
    steps: Vec<String>,
    /// The books before this history.
    base: Option<Books>,
    /// When it began.
    start: Timestamp,
    pub(super) model: Model,
}

impl Drop for Driver {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { seed, steps, .. } = self;
            eprintln!("steps of seed {seed}:\n  {}", steps.join("\n  "));
            eprintln!("again: PREGON_SEED={seed} cargo test -p pregon-store random_histories");
        }
    }
}

impl Driver {
    pub(super) fn begin(&mut self, seed: u64) {
        self.seed = seed;
        self.base = None;
        self.steps.clear();
        self.model = Model::default();
    }

    fn note(&mut self, step: String) {
        self.steps.push(step);
    }

    /// One random thing, and a look at the books after it.
    pub(super) async fn step(&mut self, rig: &mut Rig, chance: &mut Chance) {
        if self.base.is_none() {
            self.base = Some(rig.books().await);
            self.start = rig.now().await;
        }
        match chance.below(42) {
            0..=5 => self.publish(rig, chance).await,
            6..=10 => self.take(rig, chance).await,
            11..=16 => self.due(rig, chance).await,
            17..=26 => self.settle(rig, chance).await,
            27..=29 => self.advance(rig, chance).await,
            30..=31 => self.take_over(rig, chance).await,
            32 => self.extend(rig, chance).await,
            33 => self.release(rig, chance).await,
            34..=35 => self.cancel(rig, chance).await,
            36 => self.replay(rig, chance).await,
            37 => self.end_lane(rig, chance).await,
            38 => self.close_or_open(rig, chance).await,
            39 => self.fill(rig, chance).await,
            40 => self.bring_forward(rig, chance).await,
            _ => self.restart(rig, chance).await,
        }
        self.compare_books(rig).await;
    }

    async fn compare_books(&self, rig: &Rig) {
        let (now, base, own) =
            (rig.books().await, self.base.unwrap_or_default(), self.model.books());
        let expected = Books {
            accepted: base.accepted + own.accepted,
            matched: base.matched + own.matched,
            unmatched: base.unmatched + own.unmatched,
            waiting: base.waiting + own.waiting,
            created: base.created + own.created,
            succeeded: base.succeeded + own.succeeded,
            failed: base.failed + own.failed,
            cancelled: base.cancelled + own.cancelled,
            pending: base.pending + own.pending,
            called_off: base.called_off + own.called_off,
            scheduled: base.scheduled + own.scheduled,
        };
        assert_eq!(now, expected, "the books, and what must be in them");
        rig.check().await;
    }

    async fn publish(&mut self, rig: &Rig, chance: &mut Chance) {
        let (mut new, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..=chance.below(6) {
            if chance.once_in(2) {
                let tenant = tenant(TENANTS[chance.below(2)]);
                new.push(NewEvent { tenant, ..event() });
                expected.push(None);
                continue;
            }
            let (seed, number) = (self.seed, chance.below(IDS));
            let id = format!("s{seed}-{number}");
            let reused = chance.once_in(6) && self.model.ids.contains_key(&id);
            let data = if reused { "{}".into() } else { format!("{{\"i\":{number}}}") };
            let tenant = tenant(TENANTS[number % 2]);
            new.push(NewEvent { tenant, data: Bytes::from(data), ..given(&id) });
            expected.push(Some((id, reused)));
        }
        self.note(format!("publish {expected:?}"));
        for (answer, expected) in rig.publish(new).await.into_iter().zip(expected) {
            let known = expected.as_ref().and_then(|(id, _)| self.model.ids.get(id)).copied();
            match answer {
                Published::Accepted { position, duplicate } => {
                    assert!(!expected.as_ref().is_some_and(|(_, reused)| *reused), "{expected:?}");
                    assert_eq!(duplicate.then_some(position), known, "{expected:?}");
                    self.model.ids.extend(expected.map(|(id, _)| (id, position)));
                    if !duplicate {
                        let new = ModelEvent {
                            stage: Stage::New,
                            ripe: false,
                            cursor: None,
                            event: None,
                        };
                        let old = self.model.events.insert(position, new);
                        assert!(old.is_none(), "{position} was given twice");
                    }
                }
                Published::IdReused => {
                    assert!(expected.as_ref().is_some_and(|(_, reused)| *reused), "{expected:?}");
                }
            }
        }
    }

    /// A partition and a node, by chance.
    fn who(rig: &Rig, chance: &mut Chance) -> (PartitionNo, String) {
        let partition = chance.below(usize::from(rig.store.work.partitions()));
        (u16::try_from(partition).unwrap_or(0), format!("n{}", chance.below(4)))
    }

    async fn take(&mut self, rig: &Rig, chance: &mut Chance) {
        let (partition, by) = Self::who(rig, chance);
        let want = 1 + chance.below(8);
        let before = rig.now().await;
        let batch = rig.take_in(partition, &by, want).await;
        let at = Moment { earliest: before, latest: rig.now().await };
        self.note(format!("take {want} by {by}: {}", shown(batch.as_ref())));
        if let Some(batch) = batch {
            assert!(batch.len() <= want);
            self.model.taken(&batch, at.plus(LEASE));
        }
    }

    async fn due(&mut self, rig: &Rig, chance: &mut Chance) {
        let (partition, by) = Self::who(rig, chance);
        let (want, slots) = (1 + chance.below(20), chance.below(12));
        let default_slots = u32::try_from(slots).unwrap_or(0);
        let request = DueRequest { want, default_slots, ..DueRequest::default() };
        let before = rig.now().await;
        let due = rig.store.work.due(partition, &claim(&by), request).await.expect("due work");
        let at = Moment { earliest: before, latest: rig.now().await };
        self.note(format!("due {want} by {by}, {slots} slots: {}", shown(due.batch.as_ref())));
        if let Some(batch) = due.batch {
            assert!(batch.len() <= want);
            self.model.handed_out(&batch, at, at.plus(LEASE), default_slots);
        }
    }

    async fn advance(&mut self, rig: &Rig, chance: &mut Chance) {
        let seconds = [1, 1, 9, 25][chance.below(4)];
        self.note(format!("{seconds} s go by"));
        rig.advance(Duration::from_secs(seconds)).await;
    }

    /// Takes over all that lapsed, in calls of random size.
    async fn take_over(&mut self, rig: &Rig, chance: &mut Chance) {
        let by = format!("n{}", chance.below(4));
        let began = rig.now().await;
        for partition in rig.partitions() {
            loop {
                let limit = 1 + chance.below(4);
                let before = rig.now().await;
                let taken = rig.store.work.take_over(partition, &claim(&by), limit, limit).await;
                let (batches, _) = taken.expect("a takeover");
                let at = Moment { earliest: before, latest: rig.now().await };
                let all: Vec<_> = batches.iter().map(|batch| shown(Some(batch))).collect();
                self.note(format!("take over {limit} by {by}: {}", all.join(" ")));
                if batches.is_empty() {
                    break;
                }
                let lapsed: BTreeSet<_> =
                    batches.iter().map(|batch| self.model.owner(batch)).collect();
                assert!(lapsed.len() <= limit, "however many items are singled out of them");
                for batch in batches {
                    self.model.taken_over(&batch, at, at.plus(LEASE));
                }
            }
        }
        self.model.nothing_lapsed(Moment { earliest: began, latest: began });
    }

    async fn extend(&mut self, rig: &Rig, chance: &mut Chance) {
        let mut live = self.model.live();
        live.retain(|_| chance.once_in(2));
        let (mut tokens, mut gone) = (live.clone(), Vec::new());
        if let Some(dead) = chance.pick(&self.model.dead) {
            tokens.push(dead.token);
            gone.push(dead.token);
        }
        self.note(format!("extend {live:?}, and the dead {gone:?}"));
        let before = rig.now().await;
        assert_eq!(rig.extend(&tokens).await, gone);
        let at = Moment { earliest: before, latest: rig.now().await };
        for token in live {
            self.model.extended(token, at.plus(LEASE));
        }
    }

    async fn release(&mut self, rig: &Rig, chance: &mut Chance) {
        let live = self.model.live();
        let Some(token) = chance.pick(&live).copied() else { return };
        self.note(format!("release {token}"));
        rig.store.work.release(&[token]).await.expect("a release");
        self.model.released(token);
    }

    fn any_delivery(&self, chance: &mut Chance) -> Option<DeliveryKey> {
        let keys: Vec<_> = self.model.deliveries.keys().copied().collect();
        chance.pick(&keys).copied()
    }

    /// A delivery that a node attempts just now.
    fn any_held(&self, chance: &mut Chance) -> Option<DeliveryKey> {
        let held = |delivery: &ModelDelivery| matches!(delivery.place, Place::Held(_));
        let all = self.model.deliveries.iter().filter(|(_, delivery)| held(delivery));
        let keys: Vec<_> = all.map(|(key, _)| *key).collect();
        chance.pick(&keys).copied()
    }

    async fn cancel(&mut self, rig: &Rig, chance: &mut Chance) {
        let chosen =
            if chance.once_in(2) { self.any_held(chance) } else { self.any_delivery(chance) };
        let Some(key) = chosen else { return };
        self.note(format!("cancel {key}"));
        let answer = rig.store.operate.cancel(key, EndReason::ByCaller).await.expect("a cancel");
        let delivery = self.model.deliveries.get_mut(&key).expect("a delivery");
        let expected = match delivery.place {
            Place::Lane(_) => {
                delivery.place = Place::Ended(DeliveryState::Cancelled);
                Cancelled::Done
            }
            Place::Held(_) => {
                delivery.cancelled = true;
                Cancelled::InFlight
            }
            Place::Ended(state) => Cancelled::Ended(state),
        };
        assert_eq!(answer, expected, "a cancel of {key}");
    }

    fn any_lane(chance: &mut Chance) -> LaneNo {
        lane(u64::try_from(1 + chance.below(LANES)).unwrap_or(1))
    }

    async fn end_lane(&mut self, rig: &Rig, chance: &mut Chance) {
        let (lane, limit) = (Self::any_lane(chance), 1 + chance.below(5));
        let failed = (DeliveryState::Failed, EndReason::Expired);
        let cancelled = (DeliveryState::Cancelled, EndReason::SubscriptionDeleted);
        let (state, reason) = if chance.once_in(2) { failed } else { cancelled };
        let end = LaneEnd { lane, state, reason, before: None, limit };
        let ended = rig.store.operate.end_lane(end).await.expect("a step");
        self.note(format!("end {limit} of lane {lane} as {state}: {ended}"));
        let waits = |(key, delivery): &(&DeliveryKey, &ModelDelivery)| {
            key.lane == lane && matches!(delivery.place, Place::Lane(_))
        };
        let waiting: Vec<_> = self.model.deliveries.iter().filter(waits).map(|(k, _)| *k).collect();
        assert!(ended <= limit && ended <= waiting.len(), "{ended} of {}", waiting.len());
        assert_eq!(ended == 0, waiting.is_empty(), "zero means that none is left");
        let mut found = 0;
        for key in waiting {
            let now = rig.delivery(key).await.state;
            if now != DeliveryState::Pending {
                assert_eq!(now, state);
                self.model.deliveries.get_mut(&key).expect("a delivery").place = Place::Ended(now);
                found += 1;
            }
        }
        assert_eq!(found, ended, "deliveries that ended, and what the step said");
    }

    async fn close_or_open(&mut self, rig: &Rig, chance: &mut Chance) {
        let lane = Self::any_lane(chance);
        if chance.once_in(2) {
            self.note(format!("open lane {lane}"));
            rig.store.operate.open_lanes(&[lane]).await.expect("to open");
            self.model.closed.remove(&lane.0);
            return;
        }
        let wait = Duration::from_secs(u64::try_from(1 + chance.below(42)).unwrap_or(1));
        self.note(format!("close lane {lane} for {wait:?}"));
        let before = rig.now().await;
        rig.store.operate.close_lanes(&[close(lane.0, wait)]).await.expect("to close");
        let at = Moment { earliest: before, latest: rig.now().await };
        self.closes(lane.0, at.plus(wait));
    }

    /// A lane is closed at least until then.
    fn closes(&mut self, lane: u64, until: Moment) {
        let closed = self.model.closed.entry(lane).or_insert(until);
        closed.earliest = closed.earliest.max(until.earliest);
        closed.latest = closed.latest.max(until.latest);
    }

    async fn restart(&mut self, rig: &mut Rig, chance: &mut Chance) {
        if chance.once_in(2) {
            self.note("restart".into());
            if rig.reopen_and_lapse().await {
                self.model.restarted();
            }
        }
    }

    /// Has everything succeed that has not ended yet, and compares what is told of it.
    pub(super) async fn bring_to_an_end(&mut self, rig: &Rig) {
        self.note("to the end".into());
        for number in 1..=LANES {
            let lane = lane(u64::try_from(number).unwrap_or(1));
            rig.store.operate.open_lanes(&[lane]).await.expect("to open");
        }
        self.model.closed.clear();
        let mut chance = Chance::of(self.seed);
        for _ in 0..50 {
            rig.advance(Duration::from_secs(60)).await;
            self.take_over(rig, &mut chance).await;
            for _ in 0..4 {
                for partition in rig.partitions() {
                    self.claim_all(rig, partition).await;
                }
                self.succeed_all(rig).await;
            }
            if self.model.is_over() {
                break;
            }
        }
        assert!(self.model.is_over(), "something never came to its end: {:?}", self.model.books());
        self.compare_books(rig).await;
        for (key, delivery) in &self.model.deliveries {
            let state = rig.delivery(*key).await.state;
            assert!(matches!(delivery.place, Place::Ended(end) if end == state), "{key}: {state}");
        }
        let query = DeliveryQuery { from: Some(self.start), ..DeliveryQuery::default() };
        let mut listed: Vec<_> =
            rig.list(&query, 100).await.into_iter().map(|record| record.key).collect();
        listed.sort();
        let all: Vec<_> = self.model.deliveries.keys().copied().collect();
        assert_eq!(listed, all, "what is listed, and what there is");
    }

    async fn claim_all(&mut self, rig: &Rig, partition: PartitionNo) {
        let before = rig.now().await;
        let batch = rig.take_in(partition, "end", 256).await;
        let by = claim("end");
        let request = DueRequest { want: 100, default_slots: 100, ..DueRequest::default() };
        let due = rig.store.work.due(partition, &by, request).await.expect("due work");
        let at = Moment { earliest: before, latest: rig.now().await };
        if let Some(batch) = batch {
            self.model.taken(&batch, at.plus(LEASE));
        }
        if let Some(batch) = due.batch {
            self.model.handed_out(&batch, at, at.plus(LEASE), 100);
        }
    }
}

/// A batch, for the list of steps.
fn shown(batch: Option<&Batch>) -> String {
    let Some(batch) = batch else { return "nothing".into() };
    let events = batch.events.iter().map(|open| open.event.position.n.to_string());
    let deliveries = batch.deliveries.iter().map(|held| {
        let replay = held.key.replay.map_or(String::new(), |tag| format!("-r{tag}"));
        format!("{}-{}{replay}", held.key.position.n, held.key.lane)
    });
    let items: Vec<_> = events.chain(deliveries).collect();
    format!("{} ×{} [{}]", batch.token, batch.takes, items.join(" "))
}

/// Where a random attempt leads.
fn any_transition(chance: &mut Chance) -> Transition {
    match chance.below(10) {
        0..=2 => Transition::Succeeded,
        3 => Transition::Failed(EndReason::AttemptsExhausted),
        4 => Transition::Cancelled(EndReason::SubscriptionDeleted),
        5..=7 => {
            Transition::Retry(Duration::from_secs(u64::try_from(chance.below(30)).unwrap_or(0)))
        }
        _ => Transition::Waiting(PendingReason::LaneFull),
    }
}
