//! What the structure says of an event's deliveries: records, and bits of runs.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use pregon_core::id::{LaneNo, Position, ReplayTag};
use pregon_core::outcome::DeliveryState;
use redis::Value;

use super::structure::byte_pairs;
use crate::redis::engine::Engine;
use crate::redis::engine::fault::{Result, bad};
use crate::redis::engine::partition::Partition;
use crate::redis::engine::value;
use crate::redis::layout::delivery::{self, Record};
use crate::redis::layout::keys::Key;
use crate::redis::work::runs::{self, Said};
use crate::run;

/// Where a delivery stands that is told of by a bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InRun {
    /// In a run that waits.
    Waits,
    /// In a piece that a batch holds, which says when its run began.
    Held,
    /// Among those that ended together.
    Ended,
}

/// What is said of a delivery.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub record: Record,
    /// None: it has the record.
    pub in_run: Option<InRun>,
}

/// An event's deliveries by lane and tag.
pub(super) type Records = Vec<((LaneNo, Option<ReplayTag>), Recorded)>;

/// What is said of some events, by number; of one lane alone, where one is named.
pub(super) async fn recorded(
    engine: &Engine,
    partition: &Partition,
    events: &[Position],
    lane: Option<LaneNo>,
) -> Result<HashMap<u64, Records>> {
    let bases: BTreeSet<u64> = events.iter().map(|at| run::base(at.n)).collect();
    let mut pipeline = redis::pipe();
    for at in events {
        pipeline.cmd("HGETALL").arg(partition.keys.key(Key::Record(at.n)));
    }
    for base in &bases {
        let key = partition.keys.key(Key::Runs(*base));
        match lane {
            Some(lane) => pipeline.cmd("HMGET").arg(key).arg(&runs::fields_of(lane)),
            None => pipeline.cmd("HGETALL").arg(key),
        };
    }
    let mut answers = engine.main.pipeline(&pipeline).await?.into_iter();
    let mut all: HashMap<u64, Records> = HashMap::new();
    for (at, answer) in events.iter().zip(answers.by_ref()) {
        for (field, stored) in byte_pairs(answer)? {
            if field == delivery::CURSOR || field == delivery::EVENT {
                continue; // the event itself
            }
            let place = delivery::parse_field(&field).ok_or_else(|| bad("a field", &field))?;
            let record = value::decoded(&stored)?;
            all.entry(at.n).or_default().push((place, Recorded { record, in_run: None }));
        }
    }
    for (base, answer) in bases.into_iter().zip(answers) {
        let own: Vec<Position> =
            events.iter().copied().filter(|at| run::base(at.n) == base).collect();
        for (name, value) in fields(answer, lane)? {
            let (lane, said) = runs::read_field(&name, &value)?;
            for at in &own {
                if let Some(recorded) = of_event(*at, &said) {
                    all.entry(at.n).or_default().push(((lane, None), recorded));
                }
            }
        }
    }
    Ok(all)
}

/// The fields of a hash of runs: all of them, or those of a lane in their order.
fn fields(answer: Value, lane: Option<LaneNo>) -> Result<Vec<(String, Bytes)>> {
    let Some(lane) = lane else { return byte_pairs(answer) };
    let Value::Array(values) = answer.extract_error()? else { return Ok(Vec::new()) };
    let named = runs::fields_of(lane).into_iter().zip(values);
    let found = named.filter_map(|(name, value)| match value {
        Value::BulkString(bytes) => Some((name, Bytes::from(bytes))),
        _ => None,
    });
    Ok(found.collect())
}

/// What a field says of an event's delivery; none: nothing.
fn of_event(at: Position, said: &Said) -> Option<Recorded> {
    let accepted = i64::try_from(at.ms).unwrap_or(i64::MAX);
    let recorded = |state, began, at_ms: Option<i64>, code, in_run| {
        let create_ms = run::created(began, accepted);
        let at_ms = at_ms.unwrap_or(create_ms);
        let record = Record { state, attempts: 0, create_ms, at_ms, code };
        Some(Recorded { record, in_run: Some(in_run) })
    };
    match said {
        Said::Waits(piece) if piece.bits.contains(at.n) => {
            recorded(DeliveryState::Pending, piece.began_ms, None, piece.why, InRun::Waits)
        }
        Said::Held(bits) if bits.contains(at.n) => {
            recorded(DeliveryState::Pending, 0, None, 0, InRun::Held)
        }
        Said::Ended(pieces) => {
            let piece = pieces.iter().find(|piece| piece.bits.contains(at.n))?;
            let (began, ended) = (piece.began_ms, Some(piece.end_ms));
            recorded(piece.state, began, ended, piece.why, InRun::Ended)
        }
        Said::Waits(_) | Said::Held(_) => None,
    }
}
