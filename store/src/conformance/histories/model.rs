//! What must hold: every event and delivery in one place, as plain maps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pregon_core::clock::Timestamp;
use pregon_core::event::Event;
use pregon_core::id::{DeliveryKey, Position};
use pregon_core::outcome::DeliveryState;

use crate::batch::{Batch, HeldDelivery, Token};
use crate::log::Books;
use crate::settlement::Transition;
use crate::work::SUSPECT_AT;

/// A moment that lies between two looks at the store's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) earliest: Timestamp,
    pub(super) latest: Timestamp,
}

impl Moment {
    pub(super) fn plus(self, wait: Duration) -> Self {
        Self { earliest: self.earliest.plus(wait), latest: self.latest.plus(wait) }
    }

    /// The same, or a certain moment if that is later.
    pub(super) fn at_least(self, time: Timestamp) -> Self {
        Self { earliest: self.earliest.max(time), latest: self.latest.max(time) }
    }

    /// Whether it may have come by `at`.
    pub(super) fn may_have_come(self, at: Moment) -> bool {
        self.earliest <= at.latest
    }

    /// Whether it must have come by `at`.
    pub(super) fn must_have_come(self, at: Moment) -> bool {
        self.latest <= at.earliest
    }
}

/// Where an event is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    New,
    Postponed(Moment),
    Held(Token),
    Matched,
    Unmatched,
}

/// Where a delivery is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Lane(Moment),
    Held(Token),
    Ended(DeliveryState),
}

#[derive(Debug)]
pub(super) struct ModelEvent {
    pub(super) stage: Stage,
    /// What it was last put off for is its time.
    pub(super) ripe: bool,
    /// The last lane that a fan-out reached.
    pub(super) cursor: Option<u64>,
    /// The event as it was handed out; none before the first take.
    pub(super) event: Option<Arc<Event>>,
}

#[derive(Debug)]
pub(super) struct ModelDelivery {
    pub(super) place: Place,
    pub(super) attempts: u32,
    /// Somebody cancelled it in flight.
    pub(super) cancelled: bool,
}

#[derive(Debug)]
pub(super) struct ModelBatch {
    /// How many batches there were before it: tokens are random, histories are not.
    born: usize,
    pub(super) takes: u32,
    lapses: Moment,
    /// Given back: it may be taken over at once, and that counts no take.
    released: bool,
    /// It is of an earlier life: its token may be dead already.
    restarted: bool,
}

/// Everything that one history made.
#[derive(Default)]
pub(super) struct Model {
    pub(super) events: BTreeMap<Position, ModelEvent>,
    pub(super) deliveries: BTreeMap<DeliveryKey, ModelDelivery>,
    pub(super) batches: BTreeMap<Token, ModelBatch>,
    /// Batches whose token is dead, as they were.
    pub(super) dead: Vec<Batch>,
    /// Until when lanes are closed.
    pub(super) closed: BTreeMap<u64, Moment>,
    /// Events by the ids they were given.
    pub(super) ids: BTreeMap<String, Position>,
}

impl Model {
    /// The books of this history alone.
    pub(super) fn books(&self) -> Books {
        let mut books = Books::default();
        for event in self.events.values() {
            books.accepted += 1;
            match event.stage {
                Stage::New | Stage::Postponed(_) | Stage::Held(_) => {
                    books.waiting += 1;
                    books.scheduled += u64::from(event.ripe);
                }
                Stage::Matched => books.matched += 1,
                Stage::Unmatched => books.unmatched += 1,
            }
        }
        for delivery in self.deliveries.values() {
            books.created += 1;
            match delivery.place {
                Place::Lane(_) | Place::Held(_) | Place::Ended(DeliveryState::Pending) => {
                    books.pending += 1
                }
                Place::Ended(DeliveryState::Succeeded) => books.succeeded += 1,
                Place::Ended(DeliveryState::Failed) => books.failed += 1,
                Place::Ended(DeliveryState::Cancelled) => books.cancelled += 1,
            }
        }
        books
    }

    /// What is still open of a batch.
    pub(super) fn open(&self, token: Token) -> (Vec<Position>, Vec<DeliveryKey>) {
        let held = |stage: &Stage| matches!(stage, Stage::Held(by) if *by == token);
        let events = self.events.iter().filter(|(_, event)| held(&event.stage));
        let kept = |place: &Place| matches!(place, Place::Held(by) if *by == token);
        let deliveries = self.deliveries.iter().filter(|(_, delivery)| kept(&delivery.place));
        (events.map(|(at, _)| *at).collect(), deliveries.map(|(key, _)| *key).collect())
    }

    /// Tokens by which a node may still do what it wants, oldest first.
    pub(super) fn live(&self) -> Vec<Token> {
        let good = |batch: &ModelBatch| !batch.released && !batch.restarted;
        let mut live: Vec<_> = self.batches.iter().filter(|(_, batch)| good(batch)).collect();
        live.sort_by_key(|(_, batch)| batch.born);
        live.into_iter().map(|(token, _)| *token).collect()
    }

    /// A delivery of a batch as its node has it.
    pub(super) fn held(&self, key: DeliveryKey) -> HeldDelivery {
        let event = self.events[&key.position].event.clone().expect("an event that was taken");
        let (attempts, create_time) = (self.deliveries[&key].attempts, event.accept_time());
        HeldDelivery { key, event, attempts, create_time, due: None }
    }

    /// A batch that was free events until now.
    pub(super) fn taken(&mut self, batch: &Batch, lapses: Moment) {
        assert!(batch.deliveries.is_empty() && batch.spoiled.is_empty());
        assert_eq!((batch.takes, &batch.previous), (1, &None));
        for open in &batch.events {
            let position = open.event.position;
            let event = self.events.get_mut(&position).expect("a published event");
            let stage = event.stage;
            assert!(matches!(stage, Stage::New), "{position} was taken while {stage:?}");
            assert_eq!((open.cursor, open.ripe), (None, false));
            event.stage = Stage::Held(batch.token);
            event.event = Some(open.event.clone());
        }
        self.lease(batch, lapses);
    }

    /// A batch of what was due.
    pub(super) fn handed_out(&mut self, batch: &Batch, at: Moment, lapses: Moment, slots: u32) {
        assert_eq!((batch.takes, &batch.previous), (1, &None));
        for open in &batch.events {
            let position = open.event.position;
            let event = self.events.get_mut(&position).expect("a published event");
            let stage = event.stage;
            let due = matches!(stage, Stage::Postponed(due) if due.may_have_come(at));
            assert!(due, "{position} was handed out while {stage:?}, at {at:?}");
            assert_eq!((open.cursor.map(|lane| lane.0), open.ripe), (event.cursor, event.ripe));
            event.stage = Stage::Held(batch.token);
        }
        let mut lanes: BTreeMap<u64, usize> = BTreeMap::new();
        for held in &batch.deliveries {
            let key = held.key;
            let delivery = self.deliveries.get_mut(&key).expect("a created delivery");
            let place = delivery.place;
            let due = matches!(place, Place::Lane(due) if due.may_have_come(at));
            assert!(due, "{key} was handed out while {place:?}, at {at:?}");
            assert_eq!(held.attempts, delivery.attempts, "attempts of {key}");
            assert_eq!(held.event.position, key.position);
            let closed = self.closed.get(&key.lane.0);
            let open = closed.is_none_or(|until| until.may_have_come(at));
            assert!(open, "{key} came out of a lane closed until {closed:?}, at {at:?}");
            delivery.place = Place::Held(batch.token);
            *lanes.entry(key.lane.0).or_default() += 1;
        }
        let most = usize::try_from(slots).unwrap_or(usize::MAX);
        assert!(lanes.values().all(|count| *count <= most), "{lanes:?} of {most}");
        self.lease(batch, lapses);
    }

    /// A batch, or a part of one, whose old lease ran out.
    pub(super) fn taken_over(&mut self, batch: &Batch, at: Moment, lapses: Moment) {
        let old = self.owner(batch);
        let before = &self.batches[&old];
        let lapsed = before.released || before.restarted || before.lapses.may_have_come(at);
        assert!(lapsed, "{old} was taken over, but its lease runs: {before:?}, at {at:?}");
        let takes = batch.takes - before.takes;
        let expected =
            if before.restarted { takes <= 1 } else { takes == u32::from(!before.released) };
        assert!(expected, "taken {} times after {before:?}", batch.takes);
        let (events, deliveries) = self.open(old);
        let whole = events.len() + deliveries.len();
        let suspect = batch.takes >= SUSPECT_AT;
        let expected = if suspect { whole.div_ceil(2) } else { whole };
        assert_eq!(batch.len(), expected, "of {whole} items: {batch:?}");
        for open in &batch.events {
            let event = self.events.get_mut(&open.event.position).expect("a published event");
            assert_eq!((open.cursor.map(|lane| lane.0), open.ripe), (event.cursor, event.ripe));
            event.stage = Stage::Held(batch.token);
        }
        for held in &batch.deliveries {
            let delivery = self.deliveries.get_mut(&held.key).expect("a created delivery");
            assert_eq!(held.attempts, delivery.attempts, "attempts of {}", held.key);
            delivery.place = Place::Held(batch.token);
        }
        self.lease(batch, lapses);
        let left = self.open(old);
        if left.0.is_empty() && left.1.is_empty() {
            self.batches.remove(&old);
            self.dead.push(Batch { token: old, ..batch.clone() });
        } else if let Some(half) = self.batches.get_mut(&old) {
            // The other half has a token that nobody knows, and can be taken at once.
            (half.takes, half.released) = (batch.takes, true);
        }
    }

    /// The one batch that holds all items of this one.
    pub(super) fn owner(&self, batch: &Batch) -> Token {
        let mut owners = Vec::new();
        for open in &batch.events {
            match self.events[&open.event.position].stage {
                Stage::Held(token) => owners.push(token),
                other @ (Stage::New | Stage::Postponed(_) | Stage::Matched | Stage::Unmatched) => {
                    panic!("{} was taken over while {other:?}", open.event.position)
                }
            }
        }
        for held in &batch.deliveries {
            match self.deliveries[&held.key].place {
                Place::Held(token) => owners.push(token),
                other @ (Place::Lane(_) | Place::Ended(_)) => {
                    panic!("{} was taken over while {other:?}", held.key)
                }
            }
        }
        owners.dedup();
        assert_eq!(owners.len(), 1, "one batch became another: {batch:?}");
        owners[0]
    }

    fn lease(&mut self, batch: &Batch, lapses: Moment) {
        assert!(!batch.is_empty(), "an empty batch");
        let takes = batch.takes;
        let born = self.batches.len() + self.dead.len();
        let new = ModelBatch { born, takes, lapses, released: false, restarted: false };
        let dead = self.dead.iter().any(|dead| dead.token == batch.token);
        assert!(!dead, "{} is the name of an earlier batch", batch.token);
        let old = self.batches.insert(batch.token, new);
        assert!(old.is_none(), "{} is the name of another batch", batch.token);
    }

    /// Nothing that must have lapsed by then is left.
    pub(super) fn nothing_lapsed(&self, at: Moment) {
        for (token, batch) in &self.batches {
            let lapsed = batch.released || batch.restarted || batch.lapses.must_have_come(at);
            assert!(!lapsed, "{token} was not taken over: {batch:?}, at {at:?}");
        }
    }

    pub(super) fn extended(&mut self, token: Token, lapses: Moment) {
        self.batches.get_mut(&token).expect("a batch").lapses = lapses;
    }

    pub(super) fn released(&mut self, token: Token) {
        self.batches.get_mut(&token).expect("a batch").released = true;
    }

    pub(super) fn restarted(&mut self) {
        for batch in self.batches.values_mut() {
            batch.restarted = true;
        }
    }

    /// A delivery moves, by the token that its event or itself is held under.
    pub(super) fn moved(&mut self, key: DeliveryKey, to: Transition, by: Token, at: Moment) {
        let new = ModelDelivery { place: Place::Held(by), attempts: 0, cancelled: false };
        let delivery = self.deliveries.entry(key).or_insert(new);
        match to {
            Transition::Succeeded | Transition::Failed(_) | Transition::Retry(_) => {
                delivery.attempts += 1;
            }
            Transition::Cancelled(_)
            | Transition::Waiting(_)
            | Transition::Later(..)
            | Transition::Held => {}
        }
        delivery.place = match to {
            Transition::Succeeded => Place::Ended(DeliveryState::Succeeded),
            Transition::Held => Place::Held(by),
            Transition::Failed(_)
            | Transition::Cancelled(_)
            | Transition::Retry(_)
            | Transition::Waiting(_)
            | Transition::Later(..)
                if delivery.cancelled =>
            {
                Place::Ended(DeliveryState::Cancelled)
            }
            Transition::Failed(_) => Place::Ended(DeliveryState::Failed),
            Transition::Cancelled(_) => Place::Ended(DeliveryState::Cancelled),
            Transition::Retry(wait) | Transition::Later(wait, _) => Place::Lane(at.plus(wait)),
            Transition::Waiting(_) => Place::Lane(at),
        };
    }

    /// Forgets batches of which nothing is open: their tokens are dead.
    pub(super) fn finish_batches(&mut self, settled: Vec<Batch>) {
        for batch in settled {
            let (events, deliveries) = self.open(batch.token);
            if events.is_empty() && deliveries.is_empty() {
                self.batches.remove(&batch.token);
                self.dead.push(batch);
            }
        }
    }

    /// Whether everything has come to its end.
    pub(super) fn is_over(&self) -> bool {
        let books = self.books();
        books.waiting == 0 && books.pending == 0
    }
}
