//! Settling by chance: some items of some batches, dead ones among them, all in one step.

use std::collections::BTreeSet;
use std::time::Duration;

use pregon_core::clock::Timestamp;
use pregon_core::event::Event;
use pregon_core::id::{DeliveryKey, Position};

use super::super::super::Rig;
use super::super::super::kit::{Results, TENANTS, WAITING, key, together};
use super::super::chance::Chance;
use super::super::model::{Moment, Stage};
use super::{Driver, LANES, any_transition};
use crate::batch::{Batch, OpenEvent, Token};
use crate::settlement::{EventOutcome, Transition};

/// The first lane that fan-outs of an event reach, and the last. A lane is a subscription's, and so
/// a tenant's.
fn fanned(event: &Event) -> (u64, u64) {
    if side(event) == 0 { (11, 20) } else { (21, 30) }
}

/// Which of the tenants an event is of.
fn side(event: &Event) -> usize {
    usize::from(event.tenant.as_str() != TENANTS[0])
}

/// A lane that an event may match directly.
pub(super) fn own_lane(event: &Event, chance: &mut Chance) -> u64 {
    u64::try_from(1 + 2 * chance.below(LANES / 2) + side(event)).unwrap_or(1)
}

/// What is done to the model once the engine has done it.
enum Move {
    Event(Position, Token, Outcome),
    Delivery(DeliveryKey, Token, Transition),
    Close(u64, Duration),
}

/// Where an event goes.
enum Outcome {
    Unmatched,
    SetAside,
    Matched(Vec<(u64, Transition)>),
    Fanned { to: u64, done: bool },
    Postponed(Duration),
    Scheduled(Timestamp),
}

impl Driver {
    pub(super) async fn settle(&mut self, rig: &Rig, chance: &mut Chance) {
        let (mut step, mut moves, mut touched) = (Vec::new(), Vec::new(), Vec::new());
        let now = rig.now().await;
        for token in self.some_live(chance) {
            let (results, batch) = self.some_of(token, now, chance, &mut moves);
            step.push(results);
            touched.push(batch);
        }
        let mut lost = Vec::new();
        if chance.once_in(4)
            && let Some(dead) = chance.pick(&self.model.dead)
        {
            step.push(Results::all("zombie", dead, &[(1, any_transition(chance))]));
            lost.push(dead.token);
        }
        let shown: Vec<_> = moves.iter().map(Move::shown).collect();
        self.note(format!("settle {}; dead {lost:?}", shown.join(", ")));
        let before = rig.now().await;
        let settled = rig.settle_as_is(together(step)).await;
        let at = Moment { earliest: before, latest: rig.now().await };
        assert_eq!(settled.lost, lost);
        for one in moves {
            self.apply(one, at);
        }
        self.model.finish_batches(touched);
    }

    /// Up to three batches whose tokens are good.
    fn some_live(&self, chance: &mut Chance) -> Vec<Token> {
        let mut live = self.model.live();
        let count = live.len().min(1 + chance.below(3));
        (0..count).map(|_| live.swap_remove(chance.below(live.len()))).collect()
    }

    /// Results of some open items of a batch, and the batch as it was.
    fn some_of(
        &self,
        token: Token,
        now: Timestamp,
        chance: &mut Chance,
        moves: &mut Vec<Move>,
    ) -> (Results, Batch) {
        let mut results = Results::by_token("n0", token);
        let (events, deliveries) = self.model.open(token);
        let batch = self.as_batch(token, &events, &deliveries);
        for open in batch.events.iter().filter(|_| !chance.once_in(3)).collect::<Vec<_>>() {
            let outcome = self.outcome(open, now, chance);
            results = outcome.of(results, open);
            moves.push(Move::Event(open.event.position, token, outcome));
        }
        for held in &batch.deliveries {
            if !chance.once_in(3) {
                let to = any_transition(chance);
                results = results.delivery(held, to);
                moves.push(Move::Delivery(held.key, token, to));
            }
        }
        if chance.once_in(8) {
            let (lane, wait) = (Self::any_lane(chance).0, Duration::from_secs(15));
            results = results.close(lane, wait);
            moves.push(Move::Close(lane, wait));
        }
        (results, batch)
    }

    /// What is open of a batch, as its node would have it.
    fn as_batch(&self, token: Token, events: &[Position], deliveries: &[DeliveryKey]) -> Batch {
        let open = |position: &Position| {
            let event = &self.model.events[position];
            let cursor = event.cursor.map(super::lane);
            OpenEvent {
                event: event.event.clone().expect("an event that was taken"),
                cursor,
                ripe: event.ripe,
            }
        };
        Batch {
            token,
            partition: 0,
            takes: self.model.batches[&token].takes,
            previous: None,
            events: events.iter().map(open).collect(),
            deliveries: deliveries.iter().map(|key| self.model.held(*key)).collect(),
            spoiled: Vec::new(),
            closed: Vec::new(),
        }
    }

    fn outcome(&self, open: &OpenEvent, now: Timestamp, chance: &mut Chance) -> Outcome {
        let (first, last) = fanned(&open.event);
        let fan_out = |from: u64, chance: &mut Chance| {
            let to = last.min(from + u64::try_from(chance.below(4)).unwrap_or(0));
            Outcome::Fanned { to, done: to == last || chance.once_in(4) }
        };
        let choice = chance.below(12);
        if let Some(cursor) = open.cursor
            && choice != 2
        {
            return fan_out(cursor.0 + 1, chance);
        }
        match choice {
            0 if chance.once_in(2) => Outcome::SetAside,
            0 => Outcome::Unmatched,
            1 => fan_out(first, chance),
            2 => {
                let seconds = u64::try_from(chance.below(30)).unwrap_or(0);
                let ahead = Duration::from_secs(seconds);
                match seconds.is_multiple_of(2) {
                    true => Outcome::Postponed(ahead),
                    false => Outcome::Scheduled(now.plus(ahead)),
                }
            }
            _ => {
                let lanes: BTreeSet<u64> =
                    (0..=chance.below(3)).map(|_| own_lane(&open.event, chance)).collect();
                let to = lanes.into_iter().map(|number| {
                    let held = chance.once_in(5);
                    (number, if held { Transition::Held } else { any_transition(chance) })
                });
                Outcome::Matched(to.collect())
            }
        }
    }

    fn apply(&mut self, one: Move, at: Moment) {
        match one {
            Move::Delivery(key, token, to) => self.model.moved(key, to, token, at),
            Move::Close(lane, wait) => self.closes(lane, at.plus(wait)),
            Move::Event(position, token, outcome) => {
                let event = self.model.events.get_mut(&position).expect("a published event");
                let mut to = Vec::new();
                match outcome {
                    Outcome::Unmatched | Outcome::SetAside => event.stage = Stage::Unmatched,
                    Outcome::Postponed(wait) => {
                        (event.stage, event.ripe) = (Stage::Postponed(at.plus(wait)), false);
                    }
                    Outcome::Scheduled(time) => {
                        (event.stage, event.ripe) = (Stage::Postponed(at.at_least(time)), true);
                    }
                    Outcome::Matched(lanes) => {
                        event.stage = Stage::Matched;
                        to = lanes;
                    }
                    Outcome::Fanned { to: last, done } => {
                        let taken = event.event.as_ref().expect("an event that was taken");
                        let first = event.cursor.map_or(fanned(taken).0, |cursor| cursor + 1);
                        event.cursor = Some(last);
                        if done {
                            event.stage = Stage::Matched;
                        }
                        to = (first..=last).map(|number| (number, WAITING)).collect();
                    }
                }
                for (number, to) in to {
                    self.model.moved(key(position, number), to, token, at);
                }
            }
        }
    }

    /// Has all succeed that is held under a good token.
    pub(super) async fn succeed_all(&mut self, rig: &Rig) {
        let tokens: Vec<_> = self.model.batches.keys().copied().collect();
        for token in tokens {
            let (events, deliveries) = self.model.open(token);
            let batch = self.as_batch(token, &events, &deliveries);
            let (mut results, mut moves) = (Results::by_token("end", token), Vec::new());
            for open in &batch.events {
                let done = |cursor: u64| Outcome::Fanned { to: cursor + 1, done: true };
                let outcome = match open.cursor {
                    Some(cursor) => done(cursor.0),
                    None => Outcome::Matched(vec![(1, Transition::Succeeded)]),
                };
                results = outcome.of(results, open);
                moves.push(Move::Event(open.event.position, token, outcome));
            }
            for held in &batch.deliveries {
                results = results.delivery(held, Transition::Succeeded);
                moves.push(Move::Delivery(held.key, token, Transition::Succeeded));
            }
            let before = rig.now().await;
            rig.settle(results).await;
            let at = Moment { earliest: before, latest: rig.now().await };
            for one in moves {
                self.apply(one, at);
            }
            self.model.finish_batches(vec![batch]);
        }
    }
}

impl Outcome {
    /// Adds it to the results of a batch.
    fn of(&self, results: Results, open: &OpenEvent) -> Results {
        match self {
            Outcome::SetAside => results.event(&open.event, EventOutcome::SetAside),
            Outcome::Unmatched => results.unmatched(open),
            Outcome::Matched(to) => results.matched(open, to),
            Outcome::Postponed(wait) => results.postponed(open, *wait),
            Outcome::Scheduled(time) => results.event(&open.event, EventOutcome::Scheduled(*time)),
            Outcome::Fanned { to, done } => {
                let first = open.cursor.map_or(fanned(&open.event).0, |cursor| cursor.0 + 1);
                results.fanned_out(open, first..=*to, *done)
            }
        }
    }
}

impl Move {
    /// For the list of steps.
    fn shown(&self) -> String {
        match self {
            Move::Close(lane, wait) => format!("close {lane} for {wait:?}"),
            Move::Delivery(key, _, to) => format!("{}-{} {to:?}", key.position.n, key.lane),
            Move::Event(position, _, outcome) => match outcome {
                Outcome::Unmatched => format!("{} unmatched", position.n),
                Outcome::SetAside => format!("{} set aside", position.n),
                Outcome::Matched(to) => format!("{} {to:?}", position.n),
                Outcome::Postponed(wait) => format!("{} postponed {wait:?}", position.n),
                Outcome::Scheduled(time) => format!("{} scheduled at {time}", position.n),
                Outcome::Fanned { to, done } => format!("{} to lane {to} {done}", position.n),
            },
        }
    }
}
