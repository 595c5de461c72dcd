//! Settle: results, their log and their counters, one step for each partition.
//!
//! A step is bounded: what is more goes in several, a batch at a time. What makes most of them
//! cheap is said ahead: a batch whose events all went nowhere, or to nothing but successes that the
//! log tells of, is told as sums, and vanishes without a look at its items.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use pregon_core::attempt::AttemptRecord;
use pregon_core::id::{DeliveryKey, LaneNo};
use pregon_core::outcome::{DeliveryState, EndReason};
use serde::{Serialize, Serializer};

use super::engine::{Args, Engine, Partition};
use super::fault::Result;
use super::{entry, token};
use crate::packed::{self, Kind as ChunkKind, Packed};
use crate::queue::{
    BatchSettle, DeliverySettle, EventOutcome, EventSettle, LaneClose, Settled, Settlement, Token,
    Transition,
};
use crate::stored;

/// Results in one step, with those that cost most counted as several: 1.5 ms of Redis.
const STEP_COST: usize = 256;
/// What a delivery that moves by itself costs, where an event in a sum costs 1.
const MOVE_COST: usize = 2;
/// Filters without an answer that cost what an event in a sum costs.
const ERRORS_FOR_ONE: usize = 4;

/// Records results.
pub(super) async fn settle(engine: &Engine, settlement: Settlement) -> Result<Settled> {
    let mut parts: BTreeMap<u16, Part> = BTreeMap::new();
    for batch in settlement.batches {
        parts.entry(token::partition(batch.token)).or_default().batches.push(batch);
    }
    for (token, record) in settlement.attempts {
        parts.entry(token::partition(token)).or_default().attempts.push((token, record));
    }
    let mut settled = Settled::default();
    let close = |close: &mut Vec<LaneClose>| close.clone_from(&settlement.close);
    if !settlement.close.is_empty() {
        // A lane may have deliveries in any partition.
        for partition in &engine.partitions {
            close(&mut parts.entry(partition.no).or_default().close);
        }
    }
    let calls = parts.into_iter().map(|(no, part)| async move {
        match engine.partition(no) {
            Ok(partition) => part.settle(engine, partition).await.map(|done| (no, done)),
            // Of another life with more partitions: nobody holds it.
            Err(_) => {
                let lost = part.batches.iter().map(|batch| batch.token).collect();
                Ok((no, Done { lost, ..Done::default() }))
            }
        }
    });
    // All or nothing: whoever is told of a failure repeats all of it, as it is.
    let done = futures::future::join_all(calls).await.into_iter().collect::<Result<Vec<_>>>()?;
    for (no, done) in done {
        if let Ok(partition) = engine.partition(no) {
            engine.settled(partition, &done.names).await;
        }
        for token in done.lost {
            if !settled.lost.contains(&token) {
                settled.lost.push(token);
            }
        }
    }
    Ok(settled)
}

/// Logs attempts that belong to no result.
pub(super) async fn note(
    engine: &Engine,
    partition: &Partition,
    attempts: Vec<(Token, Arc<AttemptRecord>)>,
) -> Result<()> {
    let part = Part { attempts, ..Part::default() };
    let done = part.settle(engine, partition).await?;
    engine.settled(partition, &done.names).await;
    Ok(())
}

/// Fails deliveries that a batch holds.
pub(super) async fn give_up(
    engine: &Engine,
    partition: &Partition,
    token: Token,
    deliveries: &[(DeliveryKey, u32)],
    reason: EndReason,
) -> Result<()> {
    let items: Vec<Wish> = deliveries
        .iter()
        .map(|(key, attempts)| Wish {
            field: entry::field(key),
            letter: 'F',
            attempts: *attempts,
            by: stored::end_code(reason),
            told: false,
            n: key.position.n,
            wait: 0,
            age: 0,
        })
        .collect();
    let step = Step {
        batches: vec![(head(token, 0), (Vec::new(), items, Vec::new()))],
        ..Step::default()
    };
    let (_, name) = step.run(engine, partition).await?;
    engine.settled(partition, &[name]).await;
    Ok(())
}

/// What came of it.
#[derive(Default)]
struct Done {
    lost: Vec<Token>,
    /// Of its steps.
    names: Vec<u64>,
}

/// What of a settlement is one partition's.
#[derive(Default)]
struct Part {
    batches: Vec<BatchSettle>,
    attempts: Vec<(Token, Arc<AttemptRecord>)>,
    close: Vec<LaneClose>,
}

impl Part {
    async fn settle(self, engine: &Engine, partition: &Partition) -> Result<Done> {
        let succeeded = |record: &AttemptRecord| {
            !record.late && record.end.is_some_and(|end| end.state == DeliveryState::Succeeded)
        };
        let told: HashSet<DeliveryKey> = self
            .attempts
            .iter()
            .filter(|(_, record)| succeeded(record))
            .map(|(_, record)| record.key)
            .collect();
        let mut steps = Steps::default();
        for batch in &self.batches {
            steps.add(batch, &told);
        }
        let mut steps = steps.done;
        let attempts = self.attempts;
        if steps.is_empty() {
            steps.push(Step::default());
        }
        // The log goes with the first step: whether a batch was lost shows before it vanishes.
        steps[0].chunks = packed::pack(&attempts)?;
        steps[0].close = self.close;
        let mut done = Done::default();
        for step in steps {
            let (lost, name) = step.run(engine, partition).await?;
            done.lost.extend(lost);
            done.names.push(name);
        }
        Ok(done)
    }
}

/// Divides results into bounded steps.
#[derive(Default)]
struct Steps {
    done: Vec<Step>,
}

impl Steps {
    fn add(&mut self, batch: &BatchSettle, told: &HashSet<DeliveryKey>) {
        let (mut events, mut deliveries) =
            (batch.events.iter().peekable(), batch.deliveries.iter());
        let cost = batch.events.len() + MOVE_COST * batch.deliveries.len();
        if self.last().cost > 0 && cost <= STEP_COST && self.last().cost + cost > STEP_COST {
            self.done.push(Step::default()); // whole, it may vanish without a look at its items
        }
        loop {
            let room = STEP_COST.saturating_sub(self.last().cost);
            let mut items = Items::default();
            while items.cost < room || (items.cost == 0 && room == STEP_COST) {
                if let Some(event) = events.next() {
                    items.event(event, told);
                } else if let Some(delivery) = deliveries.next() {
                    items.delivery(delivery);
                } else {
                    break;
                }
            }
            let empty = items.cost == 0;
            let finished = events.peek().is_none() && deliveries.len() == 0;
            if !empty || finished {
                let last = self.last();
                last.cost += items.cost.max(1);
                last.batches.push(items.done(batch.token));
            }
            if finished {
                return;
            }
            self.done.push(Step::default());
        }
    }

    fn last(&mut self) -> &mut Step {
        if self.done.is_empty() {
            self.done.push(Step::default());
        }
        let last = self.done.len() - 1;
        &mut self.done[last]
    }
}

/// One call.
#[derive(Default)]
struct Step {
    cost: usize,
    batches: Vec<(Head, Told)>,
    chunks: Vec<Packed>,
    close: Vec<LaneClose>,
}

impl Step {
    /// Answers with the batches whose lease was gone, and with its name.
    async fn run(self, engine: &Engine, partition: &Partition) -> Result<(Vec<Token>, u64)> {
        let close: Vec<u64> = self
            .close
            .iter()
            .flat_map(|close| {
                let wait = u64::try_from(close.wait.as_millis()).unwrap_or(u64::MAX);
                let why = u64::try_from(stored::pending_code(close.reason)).unwrap_or(0);
                [close.lane.0, wait, why]
            })
            .collect();
        let mut args = Args::default().table(&close)?.text(self.batches.len());
        for (head, items) in &self.batches {
            args.push_table(head)?;
            args.push_table(items)?;
        }
        for chunk in self.chunks {
            args.push_text(match chunk.kind {
                ChunkKind::Smooth => 'l',
                ChunkKind::Trouble => 'e',
            });
            args.push_text(chunk.max_n);
            args.push_table(&runs(&chunk))?;
            args.push_bytes(chunk.data);
        }
        let (lost, name) = engine.settle(partition, args).await?;
        Ok((lost.iter().filter_map(|token| token::parse(token)).collect(), name))
    }
}

/// Records of one batch that follow each other in a chunk: the token, how many, their events.
fn runs(chunk: &Packed) -> Vec<(String, usize, Vec<u64>)> {
    let mut runs: Vec<(Token, usize, Vec<u64>)> = Vec::new();
    for (token, n) in &chunk.records {
        match runs.last_mut() {
            Some((known, count, numbers)) if known == token => {
                *count += 1;
                if numbers.last() != Some(n) {
                    numbers.push(*n);
                }
            }
            _ => runs.push((*token, 1, vec![*n])),
        }
    }
    runs.into_iter().map(|(token, count, numbers)| (token::print(token), count, numbers)).collect()
}

/// What is said of a batch item by item: of events, of deliveries that it holds, and of filters that
/// had no answer for an event, by its place in the list: reasons, each with its lanes.
type Told = (Vec<Val>, Vec<Wish>, Vec<(usize, Vec<Reason>)>);

/// Why filters had no answer, and numbers of their lanes.
type Reason = (String, Vec<u64>);

/// What is said of a batch ahead of its items: its name, different events, sums by tenant, events that
/// nobody wanted, and filters that had no answer: the last reason, and lanes with how many events.
type Head = (String, usize, Option<Vec<Val>>, Vec<u64>, Vec<Reason>);

/// Of a batch of which nothing is said ahead.
fn head(token: Token, events: usize) -> Head {
    (token::print(token), events, None, Vec::new(), Vec::new())
}

/// Results of one batch in one step.
#[derive(Default)]
struct Items {
    cost: usize,
    numbers: HashSet<u64>,
    events: Vec<Val>,
    deliveries: Vec<Wish>,
    unmatched: Vec<u64>,
    sums: BTreeMap<String, [u64; 4]>,
    /// Filters without an answer: of each event, and over all of them by lane.
    unanswered: Vec<(usize, Vec<Reason>)>,
    by_lane: BTreeMap<u64, (u64, Arc<str>)>,
    complex: bool,
}

impl Items {
    fn event(&mut self, event: &EventSettle, told: &HashSet<DeliveryKey>) {
        let n = event.position.n;
        let first = self.numbers.insert(n);
        self.complex |= !first;
        let tenant = event.tenant.as_str();
        let sums = self.sums.entry(tenant.to_owned()).or_default();
        let mut item = vec![Val::Number(n), Val::Text(tenant.to_owned())];
        let nobody = matches!(&event.outcome, EventOutcome::Matched(to) if to.is_empty());
        match &event.outcome {
            EventOutcome::Unmatched => {}
            EventOutcome::Matched(_) if nobody => {}
            EventOutcome::Matched(to) if all_told(to, told) => {
                let count = to.len() as u64;
                sums[0] += 1;
                sums[2] += count;
                sums[3] += count;
                item.extend([Val::letter('s'), Val::Number(count)]);
            }
            EventOutcome::Matched(to) => {
                self.complex = true;
                self.cost += MOVE_COST * to.len();
                item.extend([Val::letter('m'), Val::Wishes(wishes(to, told))]);
            }
            EventOutcome::FannedOut { deliveries, cursor, done } => {
                self.complex = true;
                self.cost += MOVE_COST * deliveries.len();
                let wishes = Val::Wishes(wishes(deliveries, told));
                let cursor = Val::Number(cursor.0);
                item.extend([Val::letter('f'), wishes, cursor, Val::Flag(*done)]);
            }
            EventOutcome::Postponed(wait) => {
                self.complex = true;
                let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                item.extend([Val::letter('p'), Val::Number(wait)]);
            }
            EventOutcome::SetAside => {
                self.complex = true;
                item.push(Val::letter('a'));
            }
        }
        if nobody || matches!(event.outcome, EventOutcome::Unmatched) {
            sums[1] += 1;
            self.unmatched.push(n);
            item.push(Val::letter('u'));
        }
        self.cost += 1;
        self.events.push(Val::List(item));
        self.unanswered(event);
    }

    /// Adds the filters that had no answer for the event that was added last.
    fn unanswered(&mut self, event: &EventSettle) {
        let errors = event.counted_errors();
        if errors.is_empty() {
            return;
        }
        for error in errors {
            self.cost += error.lanes.len() / ERRORS_FOR_ONE;
            for lane in &error.lanes {
                let (count, last) =
                    self.by_lane.entry(lane.0).or_insert_with(|| (0, error.reason.clone()));
                *count += 1;
                last.clone_from(&error.reason);
            }
        }
        let lanes = |lanes: &[LaneNo]| lanes.iter().map(|lane| lane.0).collect();
        let errors = errors.iter().map(|it| (it.reason.to_string(), lanes(&it.lanes))).collect();
        self.unanswered.push((self.events.len(), errors));
    }

    fn delivery(&mut self, delivery: &DeliverySettle) {
        self.complex = true;
        self.cost += MOVE_COST;
        self.deliveries.push(Wish::new(delivery, false));
    }

    fn done(self, token: Token) -> (Head, Told) {
        let simple = (!self.complex && !self.events.is_empty()).then(|| {
            let named = ["m", "u", "c", "s"];
            let mut flat = Vec::new();
            for (tenant, sums) in &self.sums {
                for (name, sum) in named.iter().zip(sums).filter(|(_, sum)| **sum > 0) {
                    let name = Val::Text((*name).to_owned());
                    flat.extend([Val::Text(tenant.clone()), name, Val::Number(*sum)]);
                }
            }
            flat
        });
        let mut by_reason: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for (lane, (count, reason)) in &self.by_lane {
            by_reason.entry(reason).or_default().extend([*lane, *count]);
        }
        let errors = by_reason.into_iter().map(|(why, lanes)| (why.to_owned(), lanes)).collect();
        let head = (token::print(token), self.numbers.len(), simple, self.unmatched, errors);
        (head, (self.events, self.deliveries, self.unanswered))
    }
}

fn all_told(to: &[DeliverySettle], told: &HashSet<DeliveryKey>) -> bool {
    to.iter().all(|delivery| delivery.to == Transition::Succeeded && told.contains(&delivery.key))
}

fn wishes(to: &[DeliverySettle], told: &HashSet<DeliveryKey>) -> Vec<Wish> {
    to.iter().map(|delivery| Wish::new(delivery, told.contains(&delivery.key))).collect()
}

/// Where a delivery is to go, as the script reads it.
#[derive(Serialize)]
struct Wish {
    field: String,
    letter: char,
    attempts: u32,
    by: i64,
    told: bool,
    n: u64,
    wait: u64,
    age: u64,
}

impl Wish {
    fn new(delivery: &DeliverySettle, told: bool) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX >> 12);
        let mut later = 0;
        let (letter, by) = match delivery.to {
            Transition::Succeeded => ('S', 0),
            Transition::Failed(reason) => ('F', stored::end_code(reason)),
            Transition::Cancelled(reason) => ('C', stored::end_code(reason)),
            Transition::Retry(wait) => {
                ('R', i64::try_from(wait.as_millis()).unwrap_or(i64::MAX >> 11))
            }
            Transition::Waiting(reason) => ('W', stored::pending_code(reason)),
            Transition::Later(wait, reason) => {
                later = millis(wait);
                ('D', stored::pending_code(reason))
            }
            Transition::Held => ('H', 0),
        };
        Self {
            field: entry::field(&delivery.key),
            letter,
            attempts: delivery.attempts,
            by,
            told,
            n: delivery.key.position.n,
            wait: later,
            age: millis(delivery.age),
        }
    }
}

/// A value of a list that Lua reads.
enum Val {
    Text(String),
    Number(u64),
    Flag(bool),
    List(Vec<Val>),
    Wishes(Vec<Wish>),
}

impl Val {
    fn letter(letter: char) -> Self {
        Val::Text(letter.to_string())
    }
}

impl Serialize for Val {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Val::Text(text) => to.serialize_str(text),
            Val::Number(number) => to.serialize_u64(*number),
            Val::Flag(flag) => to.serialize_bool(*flag),
            Val::List(list) => list.serialize(to),
            Val::Wishes(wishes) => wishes.serialize(to),
        }
    }
}
