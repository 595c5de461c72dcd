//! Settle: results, their log and their counters, one step for each partition.
//!
//! A step is bounded: what is more goes in several, a batch at a time. What makes most of them
//! cheap is said ahead: events that went nowhere, or to nothing but successes that the log tells of
//! and deliveries that wait without an attempt, are told as sums and as bits of runs, without a
//! look at each of them. So are successes that the log tells of, and what goes back, of what a
//! batch holds of runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use pregon_core::attempt::AttemptRecord;
use pregon_core::id::DeliveryKey;
use pregon_core::outcome::EndReason;

use crate::batch::{LaneClose, Token};
use crate::codec::packed::{self, Kind as ChunkKind, Packed};
use crate::codec::stored;
use crate::moves::Logged;
use crate::redis::engine::Engine;
use crate::redis::engine::args::Args;
use crate::redis::engine::fault::Result;
use crate::redis::engine::partition::Partition;
use crate::redis::layout::chunk::Stream;
use crate::redis::layout::token;
use crate::settlement::{BatchSettle, Settled, Settlement};

mod items;

use items::{Items, MoveArg, Said};

/// What one step costs at most: 1.7 ms of Redis. A filter without an answer costs 1.
const STEP_COST: usize = 1100;
/// What an event costs, should it be looked at by itself.
const EVENT_COST: usize = 3;
/// What a delivery costs that goes into a run.
const RUN_COST: usize = 1;
/// What a run costs that something is added to.
const PIECE_COST: usize = 3;
/// What a delivery costs that goes the way of others of its run, should it have a record.
const SET_COST: usize = 4;
/// What a delivery costs that moves by itself.
const MOVE_COST: usize = 9;

/// Records results.
pub(in crate::redis) async fn settle(engine: &Engine, settlement: Settlement) -> Result<Settled> {
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
pub(in crate::redis) async fn note(
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
pub(in crate::redis) async fn give_up(
    engine: &Engine,
    partition: &Partition,
    token: Token,
    deliveries: &[(DeliveryKey, u32)],
    reason: EndReason,
) -> Result<()> {
    let failed = deliveries.iter().map(|(key, attempts)| MoveArg::failed(key, *attempts, reason));
    let step = Step { batches: vec![Said::moves(token, failed.collect())], ..Step::default() };
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
        let logged = Logged::by(&self.attempts);
        let mut steps = Steps::default();
        for batch in &self.batches {
            steps.add(batch, &logged);
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
    fn add(&mut self, batch: &BatchSettle, logged: &Logged) {
        let mut events = batch.events.iter().peekable();
        let mut deliveries = batch.deliveries.iter().peekable();
        let moved = batch.deliveries.iter().map(|it| items::move_cost(it, logged)).sum::<usize>();
        let cost = moved + batch.events.iter().map(|it| items::cost(it, logged)).sum::<usize>();
        if self.last().cost > 0 && cost <= STEP_COST && self.last().cost + cost > STEP_COST {
            self.done.push(Step::default()); // whole, it may vanish without a look at its items
        }
        loop {
            let room = STEP_COST.saturating_sub(self.last().cost);
            let (mut items, mut again) = (Items::default(), false);
            while items.cost < room || (items.cost == 0 && room == STEP_COST) {
                if let Some(event) = events.next() {
                    items.event(event, logged);
                } else if let Some(delivery) = deliveries.next_if(|it| !items.has(&it.key)) {
                    items.delivery(delivery, logged);
                } else {
                    again = deliveries.peek().is_some(); // of one that has moved already
                    break;
                }
            }
            let empty = items.cost == 0;
            let finished = events.peek().is_none() && deliveries.peek().is_none();
            if !empty || finished {
                let last = self.last();
                last.cost += items.cost.max(1);
                last.batches.push(items.done(batch.token));
            }
            if finished {
                return;
            }
            if !again {
                self.done.push(Step::default());
            }
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
    batches: Vec<Said>,
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
        for said in &self.batches {
            args.push_table(&said.head)?;
            args.push_table(&said.simple)?;
            match &said.rest {
                Some(rest) => args.push_table(rest)?,
                None => args.push_bytes(Vec::new()),
            }
        }
        for chunk in self.chunks {
            args.push_text(match chunk.kind {
                ChunkKind::Smooth => Stream::Smooth.letter(),
                ChunkKind::Trouble => Stream::Trouble.letter(),
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
