//! Reading events by their numbers: plain reads beside the scripts, which never carry a body.

use std::collections::BTreeMap;

use crate::redis::engine::Engine;
use crate::redis::engine::fault::Result;
use crate::redis::engine::partition::Partition;
use crate::redis::engine::value;
use crate::redis::layout::Stored;
use crate::redis::layout::config::Stamped;
use crate::redis::layout::entry::{self, Found};
use crate::redis::layout::keys::Key;
use pregon_core::id::Position;

/// Events by number, as they were read.
pub(in crate::redis) type Bodies = BTreeMap<u64, Found>;

/// Where a partition's cursor stands.
pub(in crate::redis) async fn read_cursor(engine: &Engine, partition: &Partition) -> Result<u64> {
    let mut cmd = redis::cmd("HGET");
    cmd.arg(partition.keys.key(Key::Marks)).arg("cur");
    let cur = value::mark(engine.main.query(&cmd).await?)?;
    partition.guessed(cur);
    Ok(cur)
}

/// Events above a number.
pub(in crate::redis) async fn read_ahead(
    engine: &Engine,
    partition: &Partition,
    cur: u64,
    count: usize,
) -> Result<Vec<Found>> {
    let mut cmd = redis::cmd("XRANGE");
    cmd.arg(partition.keys.key(Key::Events)).arg(cur + 1).arg("+").arg("COUNT").arg(count);
    entry::decode_range(partition.no, engine.main.query(&cmd).await?)
}

/// Events of a range of numbers.
pub(in crate::redis) async fn read_range(
    engine: &Engine,
    partition: &Partition,
    first: u64,
    last: u64,
) -> Result<Bodies> {
    let mut cmd = redis::cmd("XRANGE");
    cmd.arg(partition.keys.key(Key::Events)).arg(first).arg(last);
    let found = entry::decode_range(partition.no, engine.main.query(&cmd).await?)?;
    Ok(found.into_iter().map(|found| (found.position().n, found)).collect())
}

/// Events by their numbers, wherever they lie: in the stream, or saved from its trimming.
pub(in crate::redis) async fn read_some(
    engine: &Engine,
    partition: &Partition,
    numbers: impl IntoIterator<Item = u64>,
) -> Result<Bodies> {
    let mut numbers: Vec<u64> = numbers.into_iter().collect();
    numbers.sort_unstable();
    numbers.dedup();
    let mut bodies = Bodies::new();
    if numbers.is_empty() {
        return Ok(bodies);
    }
    let mut pipeline = redis::pipe();
    for stretch in numbers.chunk_by(|n, next| n + 1 == *next) {
        let (first, last) = (stretch[0], stretch[stretch.len() - 1]);
        pipeline.cmd("XRANGE").arg(partition.keys.key(Key::Events)).arg(first).arg(last);
    }
    for answer in engine.main.pipeline(&pipeline).await? {
        let found = entry::decode_range(partition.no, answer.extract_error()?)?;
        bodies.extend(found.into_iter().map(|found| (found.position().n, found)));
    }
    numbers.retain(|n| !bodies.contains_key(n));
    bodies.extend(read_saved(engine, partition, &numbers).await?);
    Ok(bodies)
}

async fn read_saved(
    engine: &Engine,
    partition: &Partition,
    numbers: &[u64],
) -> Result<Vec<(u64, Found)>> {
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    let mut cmd = redis::cmd("MGET");
    for n in numbers {
        cmd.arg(partition.keys.key(Key::Body(*n)));
    }
    let values = value::array(engine.main.query(&cmd).await?)?;
    let mut found = Vec::new();
    for (n, value) in numbers.iter().zip(values) {
        let saved = value::bytes(value)?.and_then(|saved| Stamped::decode(&saved));
        let Some(Stamped { stamp, bytes }) = saved else { continue };
        if let Ok(ms) = u64::try_from(stamp) {
            let position = Position { ms, partition: partition.no, n: *n };
            found.push((*n, entry::decode(position, &bytes)));
        }
    }
    Ok(found)
}
