//! The structure as it lies in Redis: batches, lanes' owners, and hashes as pairs.

use std::collections::HashMap;

use pregon_core::id::{LaneNo, NodeId, TenantId};
use redis::Value;

use super::super::engine::{Engine, Partition};
use super::super::fault::{Result, bad};
use super::super::keys::Key;
use super::super::log::texts;
use super::super::runs::{self, Piece};
use crate::run;

/// Names and values in turn, whichever way Redis sends a hash.
pub(super) fn pairs(value: Value) -> Result<Vec<(String, String)>> {
    let pairs = byte_pairs(value)?.into_iter();
    Ok(pairs.map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned())).collect())
}

/// The same where values are no texts.
pub(in super::super) fn byte_pairs(value: Value) -> Result<Vec<(String, Vec<u8>)>> {
    let flat = match value.extract_error()? {
        Value::Array(flat) => flat,
        Value::Map(pairs) => pairs.into_iter().flat_map(|(name, value)| [name, value]).collect(),
        other => return Err(bad("a hash", other)),
    };
    let bytes = |value| match value {
        Value::BulkString(bytes) => Ok(bytes),
        other => Err(bad("a hash", other)),
    };
    let mut flat = flat.into_iter().map(bytes);
    let mut pairs = Vec::new();
    while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
        pairs.push((String::from_utf8_lossy(&name?).into_owned(), value?));
    }
    Ok(pairs)
}

/// Who holds what.
#[derive(Default)]
pub(super) struct Holders {
    /// By the names of deliveries and events in batches.
    named: HashMap<String, NodeId>,
    pieces: Vec<(u64, LaneNo, Piece, NodeId)>,
}

impl Holders {
    /// The node that has what a batch names so.
    pub fn of(&self, name: &str) -> Option<NodeId> {
        self.named.get(name).cloned()
    }

    /// The node that has a delivery of a run, and when that began.
    pub fn of_run(&self, n: u64, lane: LaneNo) -> Option<(NodeId, i64)> {
        let own = |it: &&(u64, LaneNo, Piece, NodeId)| {
            (it.0, it.1) == (run::base(n), lane) && it.2.bits.contains(n)
        };
        self.pieces.iter().find(own).map(|(_, _, piece, node)| (node.clone(), piece.began_ms))
    }
}

/// What open batches hold, and which node has each.
pub(super) async fn holders(engine: &Engine, partition: &Partition) -> Result<Holders> {
    let mut all = Holders::default();
    for leased in batches(engine, partition).await? {
        let node = leased.fields.iter().find(|(name, _)| name == "@");
        let Some(node) = node.and_then(|(_, node)| NodeId::parse(node).ok()) else { continue };
        for (name, _) in leased.fields {
            if name.contains('.') {
                all.named.insert(name, node.clone());
            }
        }
        let pieces = leased.pieces.into_iter();
        all.pieces.extend(pieces.map(|(base, lane, piece)| (base, lane, piece, node.clone())));
    }
    Ok(all)
}

/// A batch: its token, its fields, and the pieces of runs that it holds.
pub(in super::super) struct Leased {
    pub token: String,
    pub fields: Vec<(String, String)>,
    pub pieces: Vec<(u64, LaneNo, Piece)>,
}

/// All batches there are.
pub(in super::super) async fn batches(
    engine: &Engine,
    partition: &Partition,
) -> Result<Vec<Leased>> {
    let mut cmd = redis::cmd("ZRANGE");
    cmd.arg(partition.keys.key(Key::Leases)).arg(0).arg(-1);
    let tokens = texts(engine.main.query(&cmd).await?)?;
    let mut pipeline = redis::pipe();
    for token in &tokens {
        let token = super::super::token::parse(token).ok_or_else(|| bad("a token", token))?;
        pipeline.cmd("HGETALL").arg(partition.keys.key(Key::Batch(token)));
    }
    let answers = engine.main.pipeline(&pipeline).await?;
    let leased = |(token, answer)| {
        let mut leased = Leased { token, fields: Vec::new(), pieces: Vec::new() };
        for (name, value) in byte_pairs(answer)? {
            match runs::parse_piece(&name) {
                Some((base, lane)) => leased.pieces.push((base, lane, Piece::read(&value)?)),
                None => {
                    let value = String::from_utf8_lossy(&value).into_owned();
                    leased.fields.push((name, value));
                }
            }
        }
        Ok(leased)
    };
    tokens.into_iter().zip(answers).map(leased).collect()
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
