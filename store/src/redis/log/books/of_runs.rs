//! The audit of runs: counts equal bits, and what is written in two places is the same in both.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use pregon_core::id::LaneNo;

use super::STRIDE;
use crate::redis::engine::Engine;
use crate::redis::engine::fault::Result;
use crate::redis::engine::partition::Partition;
use crate::redis::engine::value;
use crate::redis::layout;
use crate::redis::layout::keys::Key;
use crate::redis::log::read::{self, byte_pairs};
use crate::redis::work::runs::{self, Piece, Said};
use crate::run::{self, Bits, RUN};

/// Stretches of event numbers with pending deliveries that one audit looks into.
const STRETCHES: usize = 1_000;

/// What does not fit: of what, and how.
pub(super) type Named = (String, String);

/// How many more deliveries wait in each lane than it has members.
pub(super) async fn in_runs(
    engine: &Engine,
    partition: &Partition,
) -> Result<HashMap<LaneNo, i64>> {
    let mut cmd = redis::cmd("HGETALL");
    cmd.arg(partition.keys.key(Key::InRuns));
    let found = byte_pairs(engine.main.query(&cmd).await?)?;
    let read = |(lane, count): (String, Bytes)| {
        Some((LaneNo(lane.parse().ok()?), layout::number(&count)?))
    };
    Ok(found.into_iter().filter_map(read).collect())
}

/// The runs that wait in a lane, by its members, and what does not fit; `counted` is how many more
/// deliveries it is said to have than members, where all members are known.
pub(super) async fn of_lane(
    engine: &Engine,
    partition: &Partition,
    lane: LaneNo,
    members: &[String],
    counted: Option<i64>,
) -> Result<(Vec<(u64, Bits)>, Vec<Named>)> {
    let bases: Vec<u64> = members.iter().filter_map(|name| runs::parse_member(name)).collect();
    let (mut found, mut named, mut more) = (Vec::new(), Vec::new(), 0);
    for stretch in bases.chunks(STRIDE) {
        let mut pipeline = redis::pipe();
        for base in stretch {
            pipeline.cmd("HGET").arg(partition.keys.key(Key::Runs(*base))).arg(lane.0);
        }
        for (base, answer) in stretch.iter().zip(engine.main.pipeline(&pipeline).await?) {
            let piece: Option<Piece> = value::stored(answer)?;
            let bits = piece.map(|piece| piece.bits).unwrap_or_default();
            if bits.is_empty() {
                let detail = "it waits in its lane and has no deliveries".to_owned();
                named.push((format!("{base} in lane {}", lane.0), detail));
            }
            more += i64::from(bits.count()) - 1;
            found.push((*base, bits));
        }
    }
    if let Some(counted) = counted.filter(|counted| *counted != more) {
        let detail =
            format!("runs hold {more} more than it has members, and {counted} are counted");
        named.push((format!("lane {}", lane.0), detail));
    }
    Ok((found, named))
}

/// What does not fit of what batches hold and of what waits, where counters say that something is
/// pending.
pub(super) async fn of_stretches(engine: &Engine, partition: &Partition) -> Result<Vec<Named>> {
    let mut named = Vec::new();
    let mut pieces: HashMap<(u64, LaneNo), Bits> = HashMap::new();
    for leased in read::batches(engine, partition).await? {
        for (base, lane, piece) in leased.pieces {
            let known = pieces.entry((base, lane)).or_default();
            *known = known.or(&piece.bits);
        }
    }
    let counted = counted(engine, partition).await?;
    let bases: BTreeSet<u64> =
        counted.keys().copied().chain(pieces.keys().map(|(base, _)| *base)).collect();
    let bases: Vec<u64> = bases.into_iter().take(STRETCHES).collect();
    for stretch in bases.chunks(STRIDE) {
        let mut pipeline = redis::pipe();
        for base in stretch {
            pipeline.cmd("HGETALL").arg(partition.keys.key(Key::Runs(*base)));
        }
        for (base, answer) in stretch.iter().zip(engine.main.pipeline(&pipeline).await?) {
            let (mut sum, mut waiting) = (0, Vec::new());
            for (name, value) in byte_pairs(answer)? {
                match runs::read_field(&name, &value)? {
                    (lane, Said::Waits(piece)) => {
                        sum += i64::from(piece.bits.count());
                        waiting.push(lane);
                    }
                    (lane, Said::Held(bits)) => {
                        sum += i64::from(bits.count());
                        let known = pieces.remove(&(*base, lane)).unwrap_or_default();
                        if known != bits {
                            let detail = "other deliveries are held than batches hold".to_owned();
                            named.push((format!("{base} in lane {}", lane.0), detail));
                        }
                    }
                    (_, Said::Ended(_)) => {}
                }
            }
            let count = counted.get(base).copied().unwrap_or(0);
            if sum > count {
                let detail = format!("{sum} wait or are held, and {count} are counted as pending");
                named.push((base.to_string(), detail));
            }
            let mut pipeline = redis::pipe();
            for lane in &waiting {
                let member = runs::member(*base);
                pipeline.cmd("ZSCORE").arg(partition.keys.key(Key::Lane(*lane))).arg(member);
            }
            for (lane, answer) in waiting.iter().zip(engine.main.pipeline(&pipeline).await?) {
                if answer.extract_error()? == redis::Value::Nil {
                    let detail = "it waits and is not in its lane".to_owned();
                    named.push((format!("{base} in lane {}", lane.0), detail));
                }
            }
            pieces.retain(|(of, lane), bits| {
                let stays = of != base || bits.is_empty();
                if !stays {
                    let detail = "batches hold it and it is not said to be held".to_owned();
                    named.push((format!("{base} in lane {}", lane.0), detail));
                }
                stays
            });
        }
    }
    Ok(named)
}

/// Pending deliveries by the first numbers of runs, as they are counted.
async fn counted(engine: &Engine, partition: &Partition) -> Result<BTreeMap<u64, i64>> {
    let numbers = async |key| {
        let mut cmd = redis::cmd("HGETALL");
        cmd.arg(partition.keys.key(key));
        let read = |(name, count): (String, Bytes)| {
            Some((name.parse::<u64>().ok()?, layout::number::<i64>(&count)?))
        };
        let found = byte_pairs(engine.main.query(&cmd).await?)?;
        Result::Ok(found.into_iter().filter_map(read).collect::<BTreeMap<_, _>>())
    };
    let mut all = BTreeMap::new();
    for page in numbers(Key::Pending).await?.into_keys() {
        let own = numbers(Key::PendingOf(page)).await?;
        all.extend(own.into_iter().map(|(stretch, count)| (run::base(stretch * RUN), count)));
        if all.len() >= STRETCHES {
            break;
        }
    }
    Ok(all)
}
