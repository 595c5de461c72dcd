//! Lanes as a whole, and one delivery at a time: close, open, end, cancel, replay, try at once.

use pregon_core::attempt::End;
use pregon_core::id::{DeliveryKey, LaneNo};
use pregon_core::outcome::{DeliveryState, EndReason};

use crate::StoreError;
use crate::batch::LaneClose;
use crate::codec::stored;
use crate::operate::{Cancelled, END_STEP, Forwarded, LaneEnd, Replay, Replayed, STEP_MAX};
use crate::redis::engine::Engine;
use crate::redis::engine::args::Args;
use crate::redis::engine::fault::{Result, bad};
use crate::redis::engine::steps::STEPS;
use crate::redis::layout::delivery;
use crate::redis::log::attempts;

/// Members of a lane that one step looks at for deliveries that are to end.
const LOOK: usize = 1000;
/// Runs that one step ends: 1.5 ms of Redis.
const RUNS: usize = 128;
/// The script's answer for a replay that it had no time for.
const NOT_LOOKED_AT: i64 = -3;

/// Closes lanes; closing longer wins.
pub(in crate::redis) async fn close(engine: &Engine, lanes: &[LaneClose]) -> Result<()> {
    for lanes in lanes.chunks(STEP_MAX) {
        let close: Vec<i64> = lanes
            .iter()
            .flat_map(|close| {
                let wait = i64::try_from(close.wait.as_millis()).unwrap_or(i64::MAX >> 11);
                [lane_arg(close.lane), wait, stored::pending_code(close.reason)]
            })
            .collect();
        in_all(engine, &close, &[]).await?;
    }
    Ok(())
}

/// Opens lanes and lets them be looked at now.
pub(in crate::redis) async fn open(engine: &Engine, lanes: &[LaneNo]) -> Result<()> {
    for lanes in lanes.chunks(STEP_MAX) {
        let open: Vec<i64> = lanes.iter().map(|lane| lane_arg(*lane)).collect();
        in_all(engine, &[], &open).await?;
    }
    Ok(())
}

fn lane_arg(lane: LaneNo) -> i64 {
    i64::try_from(lane.0).unwrap_or(i64::MAX)
}

/// A lane may have deliveries in any partition.
async fn in_all(engine: &Engine, close: &[i64], open: &[i64]) -> Result<()> {
    let calls = engine.partitions.iter().map(|partition| async move {
        let args = Args::default().table(&close)?.table(&open)?;
        engine.step::<bool>(partition, &STEPS.lanes, args).await
    });
    futures::future::try_join_all(calls).await.map(|_| ())
}

/// Ends waiting deliveries of a lane; answers how many.
pub(in crate::redis) async fn end(engine: &Engine, end: &LaneEnd) -> Result<usize> {
    if let other @ (DeliveryState::Pending | DeliveryState::Succeeded) = end.state {
        return Err(bad("an end of a lane", other));
    }
    let limit = end.limit.min(END_STEP);
    let (mut all, mut records) = (0, 0);
    for partition in &engine.partitions {
        let mut passed_over = 0;
        while all < limit && records < STEP_MAX {
            let args = Args::default()
                .text(end.lane.0)
                .text(delivery::letter(end.state))
                .text(stored::end_code(end.reason))
                .text(end.before.map_or(0, pregon_core::clock::Timestamp::millis))
                .text(limit - all)
                .text(passed_over)
                .text(LOOK)
                .text((limit - all).min(STEP_MAX - records))
                .text(RUNS);
            let (of_runs, of_records, stay, last): (usize, usize, usize, bool) =
                engine.step(partition, &STEPS.end_lane, args).await?;
            all += of_runs + of_records;
            records += of_records;
            passed_over += stay;
            if last {
                break;
            }
        }
    }
    Ok(all)
}

/// Cancels one delivery.
pub(in crate::redis) async fn cancel(
    engine: &Engine,
    key: DeliveryKey,
    reason: EndReason,
) -> std::result::Result<Cancelled, StoreError> {
    let Ok(partition) = engine.partition(key.position.partition) else {
        return Ok(Cancelled::Unknown);
    };
    let args = Args::default()
        .text(key.position.n)
        .text(key.position.ms)
        .text(delivery::field(&key))
        .text(stored::end_code(reason));
    let answer: char = engine.step(partition, &STEPS.cancel, args).await?;
    Ok(match answer {
        'U' => Cancelled::Unknown,
        'I' => Cancelled::InFlight,
        'D' => Cancelled::Done,
        'L' => {
            let end = attempts::end_of(engine, partition, key).await?;
            end.map_or(Cancelled::Unknown, |End { state, .. }| Cancelled::Ended(state))
        }
        other => {
            let state = delivery::state_of(other).filter(|state| state.is_end());
            Cancelled::Ended(state.ok_or_else(|| bad("a cancel's answer", other))?)
        }
    })
}

/// Makes new deliveries of old ones; answers in order.
pub(in crate::redis) async fn replay(engine: &Engine, replays: &[Replay]) -> Result<Vec<Replayed>> {
    let mut answers = vec![Replayed::EventGone; replays.len()];
    for partition in &engine.partitions {
        let mut open: Vec<(usize, &Replay)> = replays
            .iter()
            .enumerate()
            .filter(|(_, replay)| replay.key.position.partition == partition.no)
            .collect();
        while !open.is_empty() {
            let now: Vec<(usize, &Replay)> = open.drain(..open.len().min(STEP_MAX)).collect();
            let mut args = Args::default();
            for (_, replay) in &now {
                args.push_text(replay.key.position.n);
                args.push_text(replay.key.position.ms);
                args.push_text(delivery::field(&new_key(replay)));
                let old = replay.where_needed.then(|| delivery::field(&replay.key));
                args.push_text(old.unwrap_or_default());
            }
            let made: Vec<i64> = engine.step(partition, &STEPS.replay, args).await?;
            if made.len() != now.len() || made.first() == Some(&NOT_LOOKED_AT) {
                return Err(bad("a replay's answers", made.len()));
            }
            for ((i, replay), made) in now.into_iter().zip(made) {
                answers[i] = match made {
                    1 => Replayed::Created(new_key(replay)),
                    0 => Replayed::Existed(new_key(replay)),
                    -2 => Replayed::Needless,
                    NOT_LOOKED_AT => {
                        open.push((i, replay));
                        continue;
                    }
                    _ => Replayed::EventGone,
                };
            }
        }
    }
    Ok(answers)
}

/// The delivery that a replay makes.
fn new_key(replay: &Replay) -> DeliveryKey {
    DeliveryKey { replay: Some(replay.tag), ..replay.key }
}

/// Makes waiting deliveries due now; answers in order.
pub(in crate::redis) async fn bring_forward(
    engine: &Engine,
    keys: &[DeliveryKey],
) -> Result<Vec<Forwarded>> {
    let mut answers = vec![Forwarded::NotPending; keys.len()];
    for partition in &engine.partitions {
        let own: Vec<(usize, &DeliveryKey)> = keys
            .iter()
            .enumerate()
            .filter(|(_, key)| key.position.partition == partition.no)
            .collect();
        for some in own.chunks(STEP_MAX) {
            let mut args = Args::default();
            for (_, key) in some {
                args.push_text(key.position.n);
                args.push_text(key.position.ms);
                args.push_text(delivery::field(key));
            }
            let said: Vec<char> = engine.step(partition, &STEPS.forward, args).await?;
            if said.len() != some.len() {
                return Err(bad("answers of a forward", said.len()));
            }
            for ((i, _), said) in some.iter().zip(said) {
                answers[*i] = match said {
                    'D' => Forwarded::Done,
                    'W' => Forwarded::Due,
                    'I' => Forwarded::InFlight,
                    'H' => Forwarded::HeldBack,
                    'N' => Forwarded::NotPending,
                    other => return Err(bad("an answer of a forward", other)),
                };
            }
        }
    }
    Ok(answers)
}
