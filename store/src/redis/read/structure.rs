//! The structure as it lies in Redis: batches, lanes' owners, and hashes as pairs.

use std::collections::HashMap;

use pregon_core::id::{LaneNo, NodeId, TenantId};
use redis::Value;

use super::super::engine::{Engine, Partition};
use super::super::fault::{Result, bad};
use super::super::keys::Key;
use super::super::log::texts;

/// Names and values in turn, whichever way Redis sends a hash.
pub(super) fn pairs(value: Value) -> Result<Vec<(String, String)>> {
    let flat = match value.extract_error()? {
        Value::Array(flat) => flat,
        Value::Map(pairs) => pairs.into_iter().flat_map(|(name, value)| [name, value]).collect(),
        other => return Err(bad("a hash", other)),
    };
    let texts = texts(Value::Array(flat))?;
    Ok(texts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
}

/// What open batches hold, and which node has each.
pub(super) async fn holders(
    engine: &Engine,
    partition: &Partition,
) -> Result<HashMap<String, NodeId>> {
    let mut held = HashMap::new();
    for (_, fields) in batches(engine, partition).await? {
        let node = fields.iter().find(|(name, _)| name == "@");
        let Some(node) = node.and_then(|(_, node)| NodeId::parse(node).ok()) else { continue };
        for (name, _) in fields {
            if name.contains('.') {
                held.insert(name, node.clone());
            }
        }
    }
    Ok(held)
}

/// All batches there are, by token, with their fields.
pub(in super::super) async fn batches(
    engine: &Engine,
    partition: &Partition,
) -> Result<Vec<(String, Vec<(String, String)>)>> {
    let mut cmd = redis::cmd("ZRANGE");
    cmd.arg(partition.keys.key(Key::Leases)).arg(0).arg(-1);
    let tokens = texts(engine.main.query(&cmd).await?)?;
    let mut pipeline = redis::pipe();
    for token in &tokens {
        let token = super::super::token::parse(token).ok_or_else(|| bad("a token", token))?;
        pipeline.cmd("HGETALL").arg(partition.keys.key(Key::Batch(token)));
    }
    let answers = engine.main.pipeline(&pipeline).await?;
    tokens.into_iter().zip(answers).map(|(token, answer)| Ok((token, pairs(answer)?))).collect()
}

/// The tenant of a lane in a partition; none: nothing of it ever waited there.
pub(in super::super) async fn owners(
    engine: &Engine,
    partition: &Partition,
) -> Result<Vec<(LaneNo, TenantId)>> {
    let mut all = Vec::new();
    let mut cursor = "0".to_owned();
    loop {
        let mut cmd = redis::cmd("HSCAN");
        cmd.arg(partition.keys.key(Key::Owners)).arg(&cursor).arg("COUNT").arg(500);
        let answer = engine.main.query(&cmd).await?;
        let Value::Array(parts) = answer else { return Err(bad("owners", answer)) };
        let [next, found] = <[Value; 2]>::try_from(parts).map_err(|parts| bad("owners", parts))?;
        for (lane, tenant) in pairs(found)? {
            if let (Ok(lane), Ok(tenant)) = (lane.parse(), TenantId::parse(&tenant)) {
                all.push((LaneNo(lane), tenant));
            }
        }
        match next {
            Value::BulkString(next) if next != b"0" => {
                cursor = String::from_utf8_lossy(&next).into_owned();
            }
            _ => return Ok(all),
        }
    }
}
