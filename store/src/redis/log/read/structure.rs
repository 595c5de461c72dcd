//! The structure as it lies in Redis: batches, lanes' owners, and hashes as pairs.

use std::collections::HashMap;

use bytes::Bytes;
use pregon_core::id::{LaneNo, NodeId, TenantId};
use redis::Value;

use crate::redis::engine::Engine;
use crate::redis::engine::fault::{Result, bad};
use crate::redis::engine::partition::Partition;
use crate::redis::engine::value;
use crate::redis::layout;
use crate::redis::layout::batch::Field;
use crate::redis::layout::delivery::Held;
use crate::redis::layout::keys::Key;
use crate::redis::layout::token;
use crate::redis::log::attempts::texts;
use crate::redis::work::runs::Piece;
use crate::run;

/// Names and values in turn, whichever way Redis sends a hash.
pub(super) fn pairs(value: Value) -> Result<Vec<(String, String)>> {
    let pairs = byte_pairs(value)?.into_iter();
    Ok(pairs.map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned())).collect())
}

/// The same where values are no texts.
pub(in crate::redis) fn byte_pairs(value: Value) -> Result<Vec<(String, Bytes)>> {
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
        pairs.push((String::from_utf8_lossy(&name?).into_owned(), Bytes::from(value?)));
    }
    Ok(pairs)
}

/// Who holds what.
#[derive(Default)]
pub(super) struct Holders {
    named: HashMap<Held, NodeId>,
    pieces: Vec<(u64, LaneNo, Piece, NodeId)>,
}

impl Holders {
    /// The node that has a delivery with a record.
    pub fn of(&self, held: &Held) -> Option<NodeId> {
        self.named.get(held).cloned()
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
        let Ok(node) = NodeId::parse(&leased.node) else { continue };
        all.named.extend(leased.held.into_iter().map(|(held, _)| (held, node.clone())));
        let pieces = leased.pieces.into_iter();
        all.pieces.extend(pieces.map(|(base, lane, piece)| (base, lane, piece, node.clone())));
    }
    Ok(all)
}

/// A batch.
#[derive(Default)]
pub(in crate::redis) struct Leased {
    pub token: String,
    pub node: String,
    /// Its range; 0: none.
    pub first: u64,
    pub last: u64,
    /// How many items it counts as open.
    pub open: u64,
    /// How many events of its range are done with.
    pub done: u64,
    /// Deliveries that it holds, and events that were put off, with their tenants.
    pub held: Vec<(Held, String)>,
    pub pieces: Vec<(u64, LaneNo, Piece)>,
}

impl Leased {
    fn add(&mut self, name: &str, stored: &Bytes) -> Result<()> {
        let number = || layout::number(stored).ok_or_else(|| bad("a batch", name));
        let text = || String::from_utf8_lossy(stored).into_owned();
        match Field::parse(name) {
            Some(Field::Node) => self.node = text(),
            Some(Field::First) => self.first = number()?,
            Some(Field::Last) => self.last = number()?,
            Some(Field::Open) => self.open = number()?,
            Some(Field::Done(_)) => self.done += 1,
            Some(Field::Held(held)) => self.held.push((held, text())),
            Some(Field::Piece(base, lane)) => {
                self.pieces.push((base, lane, value::decoded(stored)?));
            }
            Some(Field::Takes | Field::Origin | Field::Partly | Field::Pieces)
            | Some(Field::Released)
            | None => {}
        }
        Ok(())
    }
}

/// All batches there are.
pub(in crate::redis) async fn batches(
    engine: &Engine,
    partition: &Partition,
) -> Result<Vec<Leased>> {
    let mut cmd = redis::cmd("ZRANGE");
    cmd.arg(partition.keys.key(Key::Leases)).arg(0).arg(-1);
    let tokens = texts(engine.main.query(&cmd).await?)?;
    let mut pipeline = redis::pipe();
    for token in &tokens {
        let token = token::parse(token).ok_or_else(|| bad("a token", token))?;
        pipeline.cmd("HGETALL").arg(partition.keys.key(Key::Batch(token)));
    }
    let answers = engine.main.pipeline(&pipeline).await?;
    let leased = |(token, answer)| {
        let mut leased = Leased { token, ..Leased::default() };
        for (name, stored) in byte_pairs(answer)? {
            leased.add(&name, &stored)?;
        }
        Ok(leased)
    };
    tokens.into_iter().zip(answers).map(leased).collect()
}

/// The tenant of a lane in a partition; none: nothing of it ever waited there.
pub(in crate::redis) async fn owners(
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
