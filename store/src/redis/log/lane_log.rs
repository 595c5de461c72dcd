//! A lane as it stands in all partitions, and their logs read backwards for it.

use std::collections::HashMap;

use async_trait::async_trait;
use pregon_core::attempt::AttemptRecord;
use pregon_core::clock::Timestamp;
use pregon_core::id::{LaneNo, PartitionNo};
use pregon_core::outcome::PendingReason;
use redis::Value;

use crate::StoreError;
use crate::codec::stored;
use crate::lane_log::{
    LaneAttempts, LaneLog, LaneReport, SCAN_CHUNKS, SCAN_RECORDS, Unanswered, together,
};
use crate::redis::engine::Engine;
use crate::redis::engine::fault::{Result, bad};
use crate::redis::engine::partition::Partition;
use crate::redis::engine::{bodies, value};
use crate::redis::handle::Handle;
use crate::redis::layout::chunk::Stream;
use crate::redis::layout::delivery::{self, FilterErrors, Shut};
use crate::redis::layout::entry::Found;
use crate::redis::layout::keys::Key;
use crate::redis::layout::stream::Row;
use crate::redis::log::attempts::{self, texts};
use crate::redis::log::{read, rewritten};
use crate::redis::work::runs::{self, Piece};

/// Members at either end of a lane that are looked at for the oldest: 1,000 of them cost 1 ms.
const ENDS: i64 = 500;
/// Chunks that are read together.
const STRIDE: usize = 32;

async fn report(
    engine: &Engine,
    partition: &Partition,
    lane: LaneNo,
    now: Timestamp,
) -> Result<LaneReport> {
    let keys = &partition.keys;
    let key = keys.key(Key::Lane(lane));
    let mut pipeline = redis::pipe();
    pipeline.cmd("ZCARD").arg(&key);
    pipeline.cmd("ZRANGE").arg(&key).arg(0).arg(0).arg("WITHSCORES");
    pipeline.cmd("ZRANGE").arg(&key).arg(0).arg(ENDS - 1);
    pipeline.cmd("ZRANGE").arg(&key).arg(-ENDS).arg(-1);
    pipeline.cmd("HGET").arg(keys.key(Key::Shut)).arg(lane.0);
    pipeline.cmd("HGET").arg(keys.key(Key::FilterErrors)).arg(lane.0);
    pipeline.cmd("HGET").arg(keys.key(Key::InRuns)).arg(lane.0);
    let answers = engine.main.pipeline(&pipeline).await?;
    let [waiting, first, head, tail, shut, errors, in_runs] =
        <[Value; 7]>::try_from(answers).map_err(|answers| bad("a lane", answers))?;
    let waiting = match waiting.extract_error()? {
        Value::Int(count) => u64::try_from(count).unwrap_or(0),
        other => return Err(bad("a lane's size", other)),
    };
    let in_runs: u64 = value::number(in_runs)?.unwrap_or(0);
    let due = texts(first)?.get(1).and_then(|due| due.parse::<f64>().ok());
    let members: Vec<String> = texts(head)?.into_iter().chain(texts(tail)?).collect();
    let of_member = members.iter().filter_map(|name| delivery::parse_member(name));
    let oldest = of_member.map(|(n, _)| n).min();
    let first_run = members.iter().filter_map(|name| runs::parse_member(name)).min();
    let of_run = match first_run {
        Some(base) => {
            let mut cmd = redis::cmd("HGET");
            cmd.arg(keys.key(Key::Runs(base))).arg(lane.0);
            let piece: Option<Piece> = value::stored(engine.main.query(&cmd).await?)?;
            piece.and_then(|piece| piece.bits.numbers(base).next())
        }
        None => None,
    };
    let oldest = match oldest.into_iter().chain(of_run).min() {
        Some(n) => bodies::read_some(engine, partition, [n]).await?.remove(&n),
        None => None,
    };
    let mut held = 0;
    for leased in read::batches(engine, partition).await? {
        held += leased.held.iter().filter(|(held, _)| held.lane == lane).count() as u64;
        let pieces = leased.pieces.iter().filter(|(_, it, _)| *it == lane);
        held += pieces.map(|(_, _, piece)| u64::from(piece.bits.count())).sum::<u64>();
    }
    let mut report = LaneReport {
        waiting: waiting + in_runs,
        held,
        #[allow(clippy::cast_possible_truncation, reason = "milliseconds, far below 2⁵³")]
        next_due: due.map(|due| Timestamp::from_millis(due as i64)),
        oldest: oldest.map(|found: Found| {
            Timestamp::from_millis(i64::try_from(found.position().ms).unwrap_or(i64::MAX))
        }),
        unanswered: unanswered(errors)?,
        ..LaneReport::default()
    };
    report.was_closed(closed(shut)?, now);
    Ok(report)
}

/// Until when a lane is closed, and why.
fn closed(value: Value) -> Result<Option<(Timestamp, PendingReason)>> {
    let Some(Shut { till_ms, why }) = value::stored(value)? else { return Ok(None) };
    let why = stored::pending_of(why).ok_or_else(|| bad("pending reason", why))?;
    Ok(Some((Timestamp::from_millis(till_ms), why)))
}

/// How often a lane's filter had no answer.
fn unanswered(value: Value) -> Result<Unanswered> {
    let found = value::stored(value)?.map(|FilterErrors { count, last_ms, reason }| Unanswered {
        count,
        last: Some(Timestamp::from_millis(last_ms)),
        reason,
    });
    Ok(found.unwrap_or_default())
}

async fn closed_lanes(
    engine: &Engine,
    partition: &Partition,
    lanes: &[LaneNo],
) -> Result<HashMap<LaneNo, (Timestamp, PendingReason)>> {
    let mut pipeline = redis::pipe();
    for lane in lanes {
        pipeline.cmd("HGET").arg(partition.keys.key(Key::Shut)).arg(lane.0);
    }
    let (answers, now) = (engine.main.pipeline(&pipeline).await?, engine.now().await?);
    let mut all = HashMap::new();
    for (lane, answer) in lanes.iter().zip(answers) {
        let found = closed(answer)?;
        all.extend(found.filter(|(until, _)| *until > now).map(|found| (*lane, found)));
    }
    Ok(all)
}

/// Bounds of one stream's share of a look.
struct Share {
    since: Timestamp,
    records: usize,
    chunks: usize,
}

/// One stream's records of a lane, newest first, and how far back it was read.
async fn of_stream(
    engine: &Engine,
    partition: &Partition,
    stream: Stream,
    lane: LaneNo,
    share: &Share,
) -> Result<(Vec<(Timestamp, AttemptRecord)>, Timestamp)> {
    let (mut found, mut seen, mut chunks) = (Vec::new(), 0, 0);
    let mut below = "+".to_owned();
    let mut anew = rewritten::Down::begin(engine, partition, stream, share.chunks).await?;
    loop {
        let mut cmd = redis::cmd("XREVRANGE");
        cmd.arg(partition.keys.key(stream.key())).arg(&below).arg("-").arg("COUNT").arg(STRIDE);
        let rows = Row::read_all(engine.main.query(&cmd).await?)?;
        let last = rows.len() < STRIDE;
        for row in anew.fill(rows, last).await? {
            let (logged, records) = (row.moment(), attempts::unpack(&row)?);
            if logged < share.since {
                return Ok((found, share.since));
            }
            (seen, chunks) = (seen + records.len(), chunks + 1);
            let own = records.into_iter().filter(|record| record.key.lane == lane);
            found.extend(own.map(|record| (logged, record)));
            if seen >= share.records || chunks >= share.chunks {
                return Ok((found, logged));
            }
            below = format!("({}", row.id);
        }
        if last {
            return Ok((found, share.since));
        }
    }
}

async fn attempts(
    engine: &Engine,
    lane: LaneNo,
    since: Timestamp,
    limit: usize,
) -> Result<LaneAttempts> {
    // Successes and trouble have a stream each.
    let streams = engine.partitions.len().max(1) * 2;
    let share =
        Share { since, records: SCAN_RECORDS / streams, chunks: (SCAN_CHUNKS / streams).max(1) };
    let (mut all, mut reached) = (Vec::new(), since);
    for partition in &engine.partitions {
        for stream in Stream::ALL {
            let (found, back) = of_stream(engine, partition, stream, lane, &share).await?;
            all.extend(found);
            reached = reached.max(back);
        }
    }
    Ok(together(all, reached, limit))
}

#[async_trait]
impl LaneLog for Handle {
    async fn lane(&self, lane: LaneNo) -> std::result::Result<LaneReport, StoreError> {
        let now = self.engine.now().await?;
        let mut sum = LaneReport::default();
        for partition in &self.engine.partitions {
            sum.add(&report(&self.engine, partition, lane, now).await?);
        }
        Ok(sum)
    }

    async fn closed(
        &self,
        partition: PartitionNo,
        lanes: &[LaneNo],
    ) -> std::result::Result<HashMap<LaneNo, (Timestamp, PendingReason)>, StoreError> {
        let Ok(partition) = self.engine.partition(partition) else { return Ok(HashMap::new()) };
        Ok(closed_lanes(&self.engine, partition, lanes).await?)
    }

    async fn lane_attempts(
        &self,
        lane: LaneNo,
        since: Timestamp,
        limit: usize,
    ) -> std::result::Result<LaneAttempts, StoreError> {
        Ok(attempts(&self.engine, lane, since, limit).await?)
    }
}
