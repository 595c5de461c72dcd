//! Results of one batch as the script is told of them: what simple events come to, and the rest one
//! by one.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use pregon_core::id::{DeliveryKey, LaneNo};
use pregon_core::outcome::{DeliveryState, EndReason};
use serde::{Serialize, Serializer};

use super::{EVENT_COST, MOVE_COST, PIECE_COST, RUN_COST, SET_COST};
use crate::batch::Token;
use crate::codec::stored;
use crate::moves::{EventMove, Kept, Logged, Move};
use crate::redis::layout::{delivery, token};
use crate::redis::work::runs;
use crate::run::{self, Bits};
use crate::settlement::{DeliverySettle, EventSettle};

/// What one step is told of a batch.
pub(super) struct Said {
    /// Ahead of its items.
    pub head: Head,
    /// Simple events, one by one.
    pub simple: Simple,
    /// What is to be looked at in any case.
    pub rest: Option<Rest>,
}

/// The batch's name, how many simple events there are, and what they come to: sums by tenant,
/// events that nobody wanted, filters that had no answer (the last reason, and lanes with how many
/// events), what waits, and their numbers.
type Head = (String, usize, Vec<Val>, Vec<u64>, Vec<Reason>, Vec<Val>, Vec<u64>);

/// Events, and filters that had no answer for one, by its place in the list: reasons, each with its
/// lanes.
type Simple = (Vec<Val>, Vec<(usize, Vec<Reason>)>);

/// Events, deliveries that the batch holds, filters that had no answer, and sets of deliveries.
type Rest = (Vec<Val>, Vec<MoveArg>, Vec<(usize, Vec<Reason>)>, Vec<Val>);

/// Why filters had no answer, and numbers of their lanes.
type Reason = (String, Vec<u64>);

impl Said {
    /// Moves of deliveries that a batch holds, and nothing else.
    pub fn moves(token: Token, deliveries: Vec<MoveArg>) -> Self {
        Self {
            head: (token::print(token), 0, vec![], vec![], vec![], vec![], vec![]),
            simple: (vec![], vec![]),
            rest: Some((vec![], deliveries, vec![], vec![])),
        }
    }
}

/// Events, and the filters that had no answer for them.
#[derive(Default)]
struct Events {
    items: Vec<Val>,
    unanswered: Vec<(usize, Vec<Reason>)>,
}

/// Deliveries of a lane and run that wait.
struct Waiting {
    why: i64,
    tenant: String,
    /// For how long they have existed, in ms: the least, and the greatest.
    age: (u64, u64),
    /// When their events were accepted: the first, and the last.
    ms: (u64, u64),
    bits: Bits,
}

/// Results of one batch in one step.
#[derive(Default)]
pub(super) struct Items {
    pub cost: usize,
    numbers: HashSet<u64>,
    /// Lanes and runs that something is added to.
    runs: HashSet<(u64, u64)>,
    simple: Events,
    simple_numbers: BTreeSet<u64>,
    unmatched: Vec<u64>,
    sums: BTreeMap<String, [u64; 4]>,
    waiting: BTreeMap<(u64, u64), Waiting>,
    /// Filters without an answer for simple events, by lane.
    by_lane: BTreeMap<u64, (u64, Arc<str>)>,
    complex: Events,
    keys: HashSet<DeliveryKey>,
    deliveries: Vec<MoveArg>,
    /// Deliveries of a lane and run that go one way, and why.
    sets: BTreeMap<(char, u64, u64), (i64, Bits)>,
}

/// What an event costs, but for its runs.
pub(super) fn cost(event: &EventSettle, logged: &Logged) -> usize {
    let one = |delivery: &DeliverySettle| match Move::of(delivery, logged).kept {
        Kept::Run => RUN_COST,
        Kept::Log => 0,
        Kept::Lane | Kept::Batch | Kept::End => MOVE_COST,
    };
    let deliveries = EventMove::of(&event.outcome).deliveries();
    EVENT_COST + event.unanswered() + deliveries.iter().map(one).sum::<usize>()
}

/// What a delivery costs that the batch holds.
pub(super) fn move_cost(delivery: &DeliverySettle, logged: &Logged) -> usize {
    set_of(delivery, &Move::of(delivery, logged)).map_or(MOVE_COST, |_| SET_COST)
}

/// The way that a delivery goes with others, and why; none: it moves by itself.
fn set_of(delivery: &DeliverySettle, to: &Move) -> Option<(char, i64)> {
    let first = delivery.attempts == 1 && delivery.key.replay.is_none();
    match to.kept {
        Kept::Run => Some(('W', stored::pending_code(to.pending))),
        Kept::Log => first.then_some(('G', 0)),
        Kept::Lane | Kept::Batch | Kept::End => None,
    }
}

impl Items {
    pub fn event(&mut self, event: &EventSettle, logged: &Logged) {
        let first = self.numbers.insert(event.position.n);
        let to = EventMove::of(&event.outcome);
        let simple = first && self.is_simple(event, to, logged);
        self.cost += cost(event, logged);
        for delivery in to.deliveries() {
            let of_run = Move::of(delivery, logged).kept == Kept::Run;
            if of_run && self.runs.insert(place(delivery)) {
                self.cost += PIECE_COST;
            }
        }
        let item = item(event, to, logged);
        if simple {
            self.add_simple(event, to, logged);
        }
        let events = if simple { &mut self.simple } else { &mut self.complex };
        events.items.push(item);
        let lanes = |lanes: &[LaneNo]| lanes.iter().map(|lane| lane.0).collect();
        let errors: Vec<Reason> = event
            .counted_errors()
            .iter()
            .map(|error| (error.reason.to_string(), lanes(&error.lanes)))
            .collect();
        if !errors.is_empty() {
            events.unanswered.push((events.items.len(), errors));
        }
    }

    /// Whether an event leaves nothing but sums and bits.
    fn is_simple(&self, event: &EventSettle, to: EventMove<'_>, logged: &Logged) -> bool {
        let one_tenant = |delivery: &DeliverySettle| {
            let known = self.waiting.get(&place(delivery));
            known.is_none_or(|it| it.tenant == event.tenant.as_str())
        };
        match to {
            EventMove::Unmatched { known } => known,
            EventMove::Matched(to) => {
                to.iter().all(|delivery| match Move::of(delivery, logged).kept {
                    Kept::Run => one_tenant(delivery),
                    Kept::Log => true,
                    Kept::Lane | Kept::Batch | Kept::End => false,
                })
            }
            EventMove::Step(..) | EventMove::PutOff(_) | EventMove::Schedule(_) => false,
        }
    }

    fn add_simple(&mut self, event: &EventSettle, to: EventMove<'_>, logged: &Logged) {
        let n = event.position.n;
        self.simple_numbers.insert(n);
        let mut of_log = 0;
        for delivery in to.deliveries() {
            let to = Move::of(delivery, logged);
            match to.kept {
                Kept::Run => self.wait(delivery, stored::pending_code(to.pending)),
                Kept::Log | Kept::Lane | Kept::Batch | Kept::End => of_log += 1,
            }
        }
        let sums = self.sums.entry(event.tenant.as_str().to_owned()).or_default();
        if to.deliveries().is_empty() {
            sums[1] += 1;
            self.unmatched.push(n);
        } else {
            sums[0] += 1;
            sums[2] += of_log;
            sums[3] += of_log;
        }
        for error in event.counted_errors() {
            for lane in &error.lanes {
                let (count, last) =
                    self.by_lane.entry(lane.0).or_insert_with(|| (0, error.reason.clone()));
                *count += 1;
                last.clone_from(&error.reason);
            }
        }
    }

    fn wait(&mut self, delivery: &DeliverySettle, why: i64) {
        let (age, position) = (millis(delivery.age), delivery.key.position);
        let waiting = self.waiting.entry(place(delivery)).or_insert_with(|| Waiting {
            why,
            tenant: delivery.tenant.as_str().to_owned(),
            age: (age, age),
            ms: (position.ms, position.ms),
            bits: Bits::default(),
        });
        waiting.why = why;
        waiting.age = (waiting.age.0.min(age), waiting.age.1.max(age));
        waiting.ms = (waiting.ms.0.min(position.ms), waiting.ms.1.max(position.ms));
        waiting.bits.insert(position.n);
    }

    /// Whether a delivery was moved already.
    pub fn has(&self, key: &DeliveryKey) -> bool {
        self.keys.contains(key)
    }

    pub fn delivery(&mut self, delivery: &DeliverySettle, logged: &Logged) {
        let to = Move::of(delivery, logged);
        self.keys.insert(delivery.key);
        self.cost += move_cost(delivery, logged);
        let (lane, base) = place(delivery);
        match set_of(delivery, &to) {
            Some((letter, why)) => {
                let set = self.sets.entry((letter, lane, base)).or_default();
                set.0 = why;
                set.1.insert(delivery.key.position.n);
            }
            None => self.deliveries.push(MoveArg::new(delivery, &to)),
        }
    }

    pub fn done(self, token: Token) -> Said {
        let named = ["m", "u", "c", "s"];
        let mut sums = Vec::new();
        for (tenant, own) in &self.sums {
            for (name, sum) in named.iter().zip(own).filter(|(_, sum)| **sum > 0) {
                let name = Val::Text((*name).to_owned());
                sums.extend([Val::Text(tenant.clone()), name, Val::Number(*sum)]);
            }
        }
        let mut by_reason: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for (lane, (count, reason)) in &self.by_lane {
            by_reason.entry(reason).or_default().extend([*lane, *count]);
        }
        let errors = by_reason.into_iter().map(|(why, lanes)| (why.to_owned(), lanes)).collect();
        let mut waiting = Vec::new();
        for ((lane, base), it) in self.waiting {
            waiting.extend([Val::Number(lane), Val::Number(base), Val::code(it.why)]);
            waiting.push(Val::Text(it.tenant));
            waiting.extend([it.age.0, it.age.1, it.ms.0, it.ms.1].map(Val::Number));
            waiting.push(Val::Number(u64::from(it.bits.count())));
            waiting.extend(runs::words(&it.bits).map(Val::Number));
        }
        let mut sets = Vec::new();
        for ((letter, lane, base), (why, bits)) in self.sets {
            sets.extend([Val::letter(letter), Val::Number(lane), Val::Number(base)]);
            sets.push(Val::code(why));
            sets.extend(runs::words(&bits).map(Val::Number));
        }
        let numbers = ranges(&self.simple_numbers);
        let simple = self.simple_numbers.len();
        let rest = (self.complex.items, self.deliveries, self.complex.unanswered, sets);
        let nothing = rest.0.is_empty() && rest.1.is_empty() && rest.3.is_empty();
        Said {
            head: (token::print(token), simple, sums, self.unmatched, errors, waiting, numbers),
            simple: (self.simple.items, self.simple.unanswered),
            rest: (!nothing).then_some(rest),
        }
    }
}

/// Numbers as ranges: the first and the last of each.
fn ranges(numbers: &BTreeSet<u64>) -> Vec<u64> {
    let mut ranges: Vec<u64> = Vec::new();
    for n in numbers {
        match ranges.last_mut() {
            Some(last) if *last + 1 == *n => *last = *n,
            _ => ranges.extend([*n, *n]),
        }
    }
    ranges
}

/// An event as the script looks at it by itself.
fn item(event: &EventSettle, to: EventMove<'_>, logged: &Logged) -> Val {
    let mut item = vec![Val::Number(event.position.n), Val::Text(event.tenant.as_str().to_owned())];
    let moves = |to: &[DeliverySettle]| {
        Val::Moves(to.iter().map(|it| MoveArg::new(it, &Move::of(it, logged))).collect())
    };
    let is_logged = |delivery: &DeliverySettle| Move::of(delivery, logged).kept == Kept::Log;
    match to {
        EventMove::Unmatched { known } => item.push(Val::letter(if known { 'u' } else { 'a' })),
        EventMove::Matched(to) if to.iter().all(is_logged) => {
            let lanes = to.iter().map(|delivery| Val::Number(delivery.key.lane.0));
            item.extend([Val::letter('s'), Val::List(lanes.collect())]);
        }
        EventMove::Matched(to) => item.extend([Val::letter('m'), moves(to)]),
        EventMove::Step(to, cursor, done) => {
            item.extend([Val::letter('f'), moves(to), Val::Number(cursor.0), Val::Flag(done)]);
        }
        EventMove::PutOff(wait) => item.extend([Val::letter('p'), Val::Number(millis(wait))]),
        EventMove::Schedule(at) => {
            let at = u64::try_from(at.millis()).unwrap_or(0);
            item.extend([Val::letter('d'), Val::Number(at)]);
        }
    }
    Val::List(item)
}

/// The lane and the run that a delivery would be of.
fn place(delivery: &DeliverySettle) -> (u64, u64) {
    (delivery.key.lane.0, run::base(delivery.key.position.n))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX >> 12)
}

/// Where a delivery goes, as the script reads it.
#[derive(Serialize)]
pub(super) struct MoveArg {
    field: String,
    /// What is kept of it: G nothing but the log, W a bit of a run, L a record in its lane, H one in
    /// the batch; S, F and C the record of an end.
    letter: char,
    attempts: u32,
    /// When it is due, in ms from now.
    due: u64,
    /// What it waits for, or why it ended.
    code: i64,
    n: u64,
    age: u64,
    ms: u64,
}

impl MoveArg {
    fn new(delivery: &DeliverySettle, to: &Move) -> Self {
        let letter = match (to.kept, to.state) {
            (Kept::Log, _) => 'G',
            (Kept::Run, _) => 'W',
            (Kept::Batch, _) => 'H',
            (Kept::End, DeliveryState::Succeeded) => 'S',
            (Kept::End, DeliveryState::Failed) => 'F',
            (Kept::End, DeliveryState::Cancelled) => 'C',
            (Kept::Lane, _) | (Kept::End, DeliveryState::Pending) => 'L',
        };
        let code = match to.state {
            DeliveryState::Pending => stored::pending_code(to.pending),
            DeliveryState::Succeeded | DeliveryState::Failed | DeliveryState::Cancelled => {
                to.reason.map_or(0, stored::end_code)
            }
        };
        Self {
            field: delivery::field(&delivery.key),
            letter,
            attempts: delivery.attempts,
            due: millis(to.due),
            code,
            n: delivery.key.position.n,
            age: millis(delivery.age),
            ms: delivery.key.position.ms,
        }
    }

    /// Of a delivery that fails where it is held.
    pub fn failed(key: &DeliveryKey, attempts: u32, reason: EndReason) -> Self {
        let field = delivery::field(key);
        let (code, n, ms) = (stored::end_code(reason), key.position.n, key.position.ms);
        Self { field, letter: 'F', attempts, due: 0, code, n, age: 0, ms }
    }
}

/// A value of a list that Lua reads.
pub(super) enum Val {
    Text(String),
    Number(u64),
    Flag(bool),
    List(Vec<Val>),
    Moves(Vec<MoveArg>),
}

impl Val {
    fn letter(letter: char) -> Self {
        Val::Text(letter.to_string())
    }

    fn code(code: i64) -> Self {
        Val::Number(u64::try_from(code).unwrap_or(0))
    }
}

impl Serialize for Val {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Val::Text(text) => to.serialize_str(text),
            Val::Number(number) => to.serialize_u64(*number),
            Val::Flag(flag) => to.serialize_bool(*flag),
            Val::List(list) => list.serialize(to),
            Val::Moves(moves) => moves.serialize(to),
        }
    }
}
