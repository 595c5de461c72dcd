//! Deliveries that events lack: looked for, then made.
//!
//! No script can read the log, so this goes in three steps:
//!
//! 1. A script says which deliveries have neither a record nor a bit of a run, of events that are
//!    matched.
//! 2. Of these the log is read. What was a success without a record before step 1 is found here;
//!    what was not there in step 1 has not become one since, for nothing makes a delivery of a
//!    matched event that leaves no record.
//! 3. The script makes the rest, where there is still neither record nor bit.

use pregon_core::attempt::AttemptRecord;
use pregon_core::id::DeliveryKey;

use crate::codec::records;
use crate::operate::{Filled, Missing, STEP_MAX};
use crate::redis::engine::Engine;
use crate::redis::engine::args::Args;
use crate::redis::engine::fault::{Result, bad};
use crate::redis::engine::partition::Partition;
use crate::redis::engine::steps::STEPS;
use crate::redis::log::attempts::Log;

/// Makes what is missing; answers in order.
pub(super) async fn fill(engine: &Engine, missing: &[Missing], make: bool) -> Result<Vec<Filled>> {
    let mut answers = vec![Filled::EventGone; missing.len()];
    for partition in &engine.partitions {
        let own = missing.iter().copied().enumerate();
        let own: Vec<(usize, Missing)> =
            own.filter(|(_, it)| it.position.partition == partition.no).collect();
        for some in own.chunks(STEP_MAX) {
            fill_some(engine, partition, some, make, &mut answers).await?;
        }
    }
    Ok(answers)
}

async fn fill_some(
    engine: &Engine,
    partition: &Partition,
    some: &[(usize, Missing)],
    make: bool,
    answers: &mut [Filled],
) -> Result<()> {
    let mut open = Vec::new();
    for (one, answer) in some.iter().zip(step(engine, partition, some, false).await?) {
        answers[one.0] = answer;
        if matches!(answer, Filled::Created(_)) {
            open.push(*one);
        }
    }
    let mut numbers: Vec<u64> = open.iter().map(|(_, it)| it.position.n).collect();
    numbers.dedup();
    if numbers.is_empty() {
        return Ok(());
    }
    let told = Log::new(engine, partition).of_events(&numbers).await?;
    open.retain(|(i, it)| {
        let known = told.get(&it.position.n).is_some_and(|told| tells_of(told, it));
        if known {
            answers[*i] = Filled::Existed;
        }
        !known
    });
    if make && !open.is_empty() {
        for ((i, _), answer) in open.iter().zip(step(engine, partition, &open, true).await?) {
            answers[*i] = answer;
        }
    }
    Ok(())
}

/// Whether the log tells how a delivery of the event to the lane ended.
fn tells_of(told: &[AttemptRecord], missing: &Missing) -> bool {
    let of_lane =
        |it: &&AttemptRecord| it.key.position == missing.position && it.key.lane == missing.lane;
    let own: Vec<AttemptRecord> = told.iter().filter(of_lane).cloned().collect();
    records::end(&own).is_some()
}

async fn step(
    engine: &Engine,
    partition: &Partition,
    some: &[(usize, Missing)],
    make: bool,
) -> Result<Vec<Filled>> {
    let mut args = Args::default().text(if make { "1" } else { "" });
    for (_, missing) in some {
        args.push_text(missing.position.n);
        args.push_text(missing.position.ms);
        args.push_text(missing.lane.0);
    }
    // A look passes where the store is full, too.
    let script = if make { &STEPS.fill } else { &STEPS.look_for_gaps };
    let said: Vec<i64> = engine.step(partition, script, args).await?;
    if said.len() != some.len() {
        return Err(bad("answers of a fill", said.len()));
    }
    let answer = |((_, missing), said): (&(usize, Missing), i64)| match said {
        1 => {
            let Missing { position, lane } = *missing;
            Ok(Filled::Created(DeliveryKey { position, lane, replay: None }))
        }
        0 => Ok(Filled::Existed),
        -1 => Ok(Filled::EventGone),
        -2 => Ok(Filled::NotMatched),
        other => Err(bad("an answer of a fill", other)),
    };
    some.iter().zip(said).map(answer).collect()
}
