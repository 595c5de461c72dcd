//! Reading events by their numbers: plain reads beside the scripts, which never carry a body.

use std::collections::BTreeMap;

use pregon_core::id::Position;
use redis::Value;

use super::engine::{Engine, Partition};
use super::entry::{self, Found};
use super::fault::{Result, bad};
use super::keys::Key;

/// Events by number, as they were read.
pub(super) type Bodies = BTreeMap<u64, Found>;

/// Where a partition's cursor stands.
pub(super) async fn read_cursor(engine: &Engine, partition: &Partition) -> Result<u64> {
    let mut cmd = redis::cmd("HGET");
    cmd.arg(partition.keys.key(Key::Marks)).arg("cur");
    let cur = match engine.main.query(&cmd).await? {
        Value::Nil => 0,
        Value::BulkString(text) => {
            let text = String::from_utf8_lossy(&text).into_owned();
            text.parse().map_err(|_| bad("a cursor", text))?
        }
        other => return Err(bad("a cursor", other)),
    };
    partition.guessed(cur);
    Ok(cur)
}

/// Events above a number.
pub(super) async fn read_ahead(
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
pub(super) async fn read_range(
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
pub(super) async fn read_some(
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
    let answer = engine.main.query(&cmd).await?;
    let Value::Array(values) = answer else { return Err(bad("saved events", answer)) };
    let mut found = Vec::new();
    for (n, value) in numbers.iter().zip(values) {
        let Value::BulkString(saved) = value else { continue };
        let colon = saved.iter().position(|byte| *byte == b':');
        let ms = colon.and_then(|at| std::str::from_utf8(&saved[..at]).ok()?.parse().ok());
        if let (Some(at), Some(ms)) = (colon, ms) {
            let position = Position { ms, partition: partition.no, n: *n };
            found.push((*n, entry::decode(position, saved[at + 1..].to_vec())));
        }
    }
    Ok(found)
}
