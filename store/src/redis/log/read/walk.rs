//! Walking events, newest first, over all partitions; and the place where a page of them ends.

use std::collections::{BTreeSet, VecDeque};

use pregon_core::clock::Timestamp;
use pregon_core::id::{LaneNo, ReplayTag};
use pregon_core::outcome::DeliveryState;

use super::structure::{batches, owners};
use crate::log::DeliveryQuery;
use crate::redis::engine::Engine;
use crate::redis::engine::bodies;
use crate::redis::engine::fault::{Result, bad};
use crate::redis::engine::partition::Partition;
use crate::redis::engine::value;
use crate::redis::layout::delivery;
use crate::redis::layout::entry::{self, Found};
use crate::redis::layout::keys::Key;
use crate::redis::layout::stream::Id;
use crate::redis::log::attempts::texts;
use crate::redis::work::runs::{self, Ended, Piece};
use crate::run::RUN;

/// Events that one page looks at, whatever it finds.
pub(super) const SCAN: usize = 2000;
/// Events that are looked at together.
pub(super) const STRIDE: usize = 250;
/// Events that the first steps of all partitions read, with their bodies, before their size is
/// known; one of each at least.
const STEP_FIRST: usize = 8;
/// Events of one partition that one step reads at most: should they be large after many small ones,
/// they are no more than that.
const STEP_MOST: usize = 64;
/// Bytes of bodies that the steps of all partitions are to have, judged by what was read before.
const STEP_BYTES: usize = 1 << 20;
/// Spared events that a list can show, of one partition: their numbers are sorted here.
const SPARED: usize = 100_000;
/// Places that one step of a bisection looks at: a million events take five steps.
const PROBES: u64 = 16;

/// Where a page ends: in each partition, what comes next is below this number; and of one event,
/// the deliveries below this lane and tag come first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub below: Vec<u64>,
    pub within: Option<(usize, u64, LaneNo, Option<ReplayTag>)>,
}

impl Place {
    /// Where a list begins: with what is there now, so that what comes later is in no later page.
    async fn start(engine: &Engine) -> Result<Self> {
        let mut pipeline = redis::pipe();
        for partition in &engine.partitions {
            pipeline.cmd("HGET").arg(partition.keys.key(Key::Marks)).arg("last");
        }
        let mut below = Vec::with_capacity(engine.partitions.len());
        for answer in engine.main.pipeline(&pipeline).await? {
            below.push(value::mark(answer)? + 1);
        }
        Ok(Self { below, within: None })
    }

    /// Where a page begins.
    pub async fn of(text: Option<&str>, engine: &Engine) -> Result<Self> {
        match text {
            None => Self::start(engine).await,
            Some(text) => Self::parse(text, engine.partitions.len()),
        }
    }

    fn parse(text: &str, partitions: usize) -> Result<Self> {
        Self::read(text)
            .filter(|place| place.below.len() == partitions)
            .ok_or_else(|| bad("page place", text))
    }

    fn read(text: &str) -> Option<Self> {
        let (numbers, within) = match text.split_once('/') {
            None => (text, None),
            Some((numbers, within)) => (numbers, Some(within)),
        };
        let below = numbers.split('.').map(|n| n.parse().ok()).collect::<Option<Vec<u64>>>()?;
        let within = match within {
            None => None,
            Some(within) => {
                let mut parts = within.splitn(3, '.');
                let partition = parts.next()?.parse().ok()?;
                let n = parts.next()?.parse().ok()?;
                let (lane, tag) = delivery::parse_field(parts.next()?)?;
                Some((partition, n, lane, tag))
            }
        };
        Some(Self { below, within })
    }

    pub fn print(&self) -> String {
        let numbers: Vec<String> = self.below.iter().map(u64::to_string).collect();
        let mut text = numbers.join(".");
        if let Some((partition, n, lane, replay)) = self.within {
            text.push_str(&format!("/{partition}.{n}.{}", delivery::field_of(lane, replay)));
        }
        text
    }
}

/// Events of all partitions, newest first: a merge of one walk down each.
pub(super) struct Walk<'a> {
    engine: &'a Engine,
    /// Numbers below this are too old.
    low: Vec<u64>,
    /// What comes next in each partition, newest first; refilled in strides.
    ready: Vec<VecDeque<Found>>,
    /// The number below which each partition is to be read on; none: nothing is left.
    next: Vec<Option<u64>>,
    /// Numbers of spared events that are still to be read, ascending.
    saved: Vec<Vec<u64>>,
    pub looked_at: usize,
    /// Events that the next step reads.
    step: usize,
    among: Among,
}

/// Which events a walk looks at.
pub(super) enum Among {
    /// All.
    All,
    /// Those with a failed delivery of one of these lanes.
    Failed(Vec<LaneNo>),
    /// These, by partition, highest first.
    Numbers(Vec<Vec<u64>>),
}

impl<'a> Walk<'a> {
    pub async fn new(
        engine: &'a Engine,
        below: &[u64],
        (from, to): (Option<Timestamp>, Option<Timestamp>),
        among: Among,
    ) -> Result<Self> {
        let (ready, next) = (Vec::new(), Vec::new());
        let saved = vec![Vec::new(); engine.partitions.len()];
        let (low, step) = (Vec::new(), (STEP_FIRST / engine.partitions.len().max(1)).max(1));
        let mut walk = Self { engine, low, ready, next, saved, looked_at: 0, step, among };
        for (partition, below) in engine.partitions.iter().zip(below) {
            let low = match from {
                None => 0,
                Some(from) => first_since(engine, partition, from).await?,
            };
            let high = match to {
                None => *below,
                Some(to) => (*below).min(first_since(engine, partition, to).await?),
            };
            walk.low.push(low);
            walk.ready.push(VecDeque::new());
            walk.next.push((high > low.max(1)).then_some(high));
        }
        Ok(walk)
    }

    /// The next event, and its partition's place in the list.
    pub async fn next(&mut self) -> Result<Option<(usize, Found)>> {
        for i in 0..self.ready.len() {
            if self.ready[i].is_empty() && self.next[i].is_some() {
                self.read_on(i).await?;
            }
            if self.ready[i].is_empty() && self.next[i].is_none() {
                self.read_saved(i).await?;
            }
        }
        let front = |i: &usize| self.ready[*i].front().map(|found| (found.position().ms, *i));
        let newest = (0..self.ready.len()).filter(|i| front(i).is_some()).max_by_key(front);
        let Some(newest) = newest else { return Ok(None) };
        self.looked_at += 1;
        Ok(self.ready[newest].pop_front().map(|found| (newest, found)))
    }

    async fn read_on(&mut self, i: usize) -> Result<()> {
        let Some(below) = self.next[i] else { return Ok(()) };
        let step = self.step;
        let partition = &self.engine.partitions[i];
        let numbers = match &self.among {
            Among::All => None,
            Among::Failed(lanes) => {
                Some(failed_below(self.engine, partition, lanes, (self.low[i], below), step).await?)
            }
            Among::Numbers(all) => {
                let own = all[i].iter().filter(|n| **n < below && **n >= self.low[i]);
                Some(own.copied().take(step).collect())
            }
        };
        if let Some(numbers) = numbers {
            self.next[i] = numbers.last().copied().filter(|_| numbers.len() == step);
            let found = bodies::read_some(self.engine, partition, numbers).await?;
            self.has_read(i, found.into_values().rev());
            return Ok(());
        }
        let (found, last, full) = self.stretch(i, below, step).await?;
        self.next[i] = last.filter(|n| full && *n > self.low[i].max(1));
        self.has_read(i, found);
        if self.next[i].is_none() {
            self.saved[i] = self.spared(i, last.unwrap_or(below)).await?;
        }
        Ok(())
    }

    /// Events of a partition below a number, highest first; the lowest number of the stretch that they
    /// are all of; and whether there may be more. What is left of erased events lies beside the
    /// stream.
    async fn stretch(
        &self,
        i: usize,
        below: u64,
        step: usize,
    ) -> Result<(Vec<Found>, Option<u64>, bool)> {
        let (partition, low) = (&self.engine.partitions[i], self.low[i].max(1));
        let mut pipeline = redis::pipe();
        pipeline.cmd("XREVRANGE").arg(partition.keys.key(Key::Events)).arg(below - 1).arg(low);
        pipeline.arg("COUNT").arg(step);
        pipeline.cmd("ZREVRANGEBYSCORE").arg(partition.keys.key(Key::Tombstones));
        pipeline.arg(below - 1).arg(low).arg("LIMIT").arg(0).arg(step);
        let [events, tombs] = value::exactly(self.engine.main.pipeline(&pipeline).await?)?;
        let mut found = entry::decode_range(partition.no, events.extract_error()?)?;
        let mut tombs: Vec<u64> =
            texts(tombs)?.iter().filter_map(|id| Id::parse(id.as_bytes())).map(|id| id.n).collect();
        // What comes behind the last of either is in the next stretch.
        let end = |len: usize, last: Option<u64>| last.filter(|_| len == step);
        let ends = [
            end(found.len(), found.last().map(|it| it.position().n)),
            end(tombs.len(), tombs.last().copied()),
        ];
        let bottom = ends.into_iter().flatten().max();
        if !tombs.is_empty() {
            let from = bottom.unwrap_or(0);
            tombs.retain(|n| *n >= from);
            let left = bodies::read_some(self.engine, partition, tombs).await?;
            // One that left the stream between the two commands was found by both.
            found.retain(|it| {
                let n = it.position().n;
                n >= from && !left.contains_key(&n)
            });
            found.extend(left.into_values());
            found.sort_by_key(|it| std::cmp::Reverse(it.position().n));
        }
        let last = bottom.or_else(|| found.last().map(|it| it.position().n));
        Ok((found, last, bottom.is_some()))
    }

    /// Events that were spared from the trimming lie below all others: their numbers, ascending.
    async fn spared(&self, i: usize, below: u64) -> Result<Vec<u64>> {
        let mut cmd = redis::cmd("ZRANGE");
        cmd.arg(self.engine.partitions[i].keys.key(Key::Spared)).arg(0).arg(SPARED - 1);
        let mut numbers: Vec<u64> = texts(self.engine.main.query(&cmd).await?)?
            .iter()
            .filter_map(|n| n.parse().ok())
            .filter(|n| *n < below && *n >= self.low[i])
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Reads the next of the spared events, if some are left.
    async fn read_saved(&mut self, i: usize) -> Result<()> {
        while self.ready[i].is_empty() && !self.saved[i].is_empty() {
            let first = self.saved[i].len().saturating_sub(self.step);
            let numbers = self.saved[i].split_off(first);
            let found = bodies::read_some(self.engine, &self.engine.partitions[i], numbers).await?;
            self.has_read(i, found.into_values().rev());
        }
        Ok(())
    }

    /// Takes what a step has read, and judges by it how many the next one reads.
    fn has_read(&mut self, i: usize, found: impl IntoIterator<Item = Found>) {
        let (before, mut bytes) = (self.ready[i].len(), 0);
        self.ready[i].extend(found.into_iter().inspect(|found| bytes += found.len()));
        let read = self.ready[i].len() - before;
        if let Some(mean) = bytes.checked_div(read) {
            let room = STEP_BYTES / self.engine.partitions.len().max(1);
            self.step = (room / mean.max(1)).clamp(1, STEP_MOST);
        }
    }
}

/// Lanes that a walk of what waits or failed looks into; a tenant with more has all its events
/// walked.
const LANES: usize = 64;
/// Deliveries that such a walk sorts; where more wait, all events are walked.
const SORTED: usize = 5_000;

/// The events that a list has to look at: where it is about pending or failed deliveries of few
/// lanes, those that the lanes name.
pub(super) async fn among(engine: &Engine, query: &DeliveryQuery) -> Result<Among> {
    let pending = query.state == Some(DeliveryState::Pending);
    if !pending && query.state != Some(DeliveryState::Failed) {
        return Ok(Among::All);
    }
    let lanes = match (query.lane, &query.tenant) {
        (Some(lane), _) => vec![lane],
        (None, None) => return Ok(Among::All),
        (None, Some(tenant)) => {
            let mut lanes = BTreeSet::new();
            for partition in &engine.partitions {
                let owners = owners(engine, partition).await?;
                lanes.extend(owners.into_iter().filter(|(_, own)| own == tenant).map(|(l, _)| l));
            }
            lanes.into_iter().collect()
        }
    };
    if lanes.len() > LANES {
        return Ok(Among::All);
    }
    if !pending {
        return Ok(Among::Failed(lanes));
    }
    among_pending(engine, &lanes).await
}

/// The events of which something waits in some lanes; all where those are many.
pub(super) async fn among_pending(engine: &Engine, lanes: &[LaneNo]) -> Result<Among> {
    let (mut all, mut left) = (Vec::new(), SORTED);
    for partition in &engine.partitions {
        match pending_of(engine, partition, lanes, left).await? {
            None => return Ok(Among::All),
            Some(numbers) => {
                left = left.saturating_sub(numbers.len());
                all.push(numbers);
            }
        }
    }
    Ok(Among::Numbers(all))
}

/// Numbers of events with a failed delivery of one of some lanes, highest first.
async fn failed_below(
    engine: &Engine,
    partition: &Partition,
    lanes: &[LaneNo],
    (low, below): (u64, u64),
    most: usize,
) -> Result<Vec<u64>> {
    let mut pipeline = redis::pipe();
    for lane in lanes {
        pipeline.cmd("ZREVRANGEBYSCORE").arg(partition.keys.key(Key::Failed(*lane)));
        pipeline.arg(below - 1).arg(low).arg("LIMIT").arg(0).arg(most);
    }
    let mut numbers = Vec::new();
    for answer in engine.main.pipeline(&pipeline).await? {
        numbers.extend(numbers_in(&texts(answer)?));
    }
    for lane in lanes {
        numbers.extend(failed_in_runs(engine, partition, *lane, (low, below), most).await?);
    }
    sort_down(&mut numbers);
    numbers.truncate(most);
    Ok(numbers)
}

/// The same of deliveries that failed together. Each of their runs has at least one.
async fn failed_in_runs(
    engine: &Engine,
    partition: &Partition,
    lane: LaneNo,
    (low, below): (u64, u64),
    most: usize,
) -> Result<Vec<u64>> {
    let keys = &partition.keys;
    let mut cmd = redis::cmd("ZREVRANGEBYSCORE");
    // The first and the last of them may have none of the numbers that are asked for.
    cmd.arg(keys.key(Key::FailedRuns(lane))).arg(below - 1).arg(low.saturating_sub(RUN - 1));
    cmd.arg("LIMIT").arg(0).arg(most + 1);
    let bases = texts(engine.main.query(&cmd).await?)?;
    let bases: Vec<u64> = bases.iter().filter_map(|base| base.parse().ok()).collect();
    let mut pipeline = redis::pipe();
    let [_, _, field] = runs::fields_of(lane);
    for base in &bases {
        pipeline.cmd("HGET").arg(keys.key(Key::Runs(*base))).arg(&field);
    }
    let mut numbers = Vec::new();
    for (base, answer) in bases.iter().zip(engine.main.pipeline(&pipeline).await?) {
        let ended: Vec<Ended> = value::stored(answer)?.unwrap_or_default();
        for ended in ended.iter().filter(|ended| ended.state == DeliveryState::Failed) {
            let own = ended.bits.numbers(*base).filter(|n| (low..below).contains(n));
            numbers.extend(own);
        }
    }
    Ok(numbers)
}

/// Numbers of events with a pending delivery of one of some lanes, highest first; none: there are
/// more than `most`.
async fn pending_of(
    engine: &Engine,
    partition: &Partition,
    lanes: &[LaneNo],
    most: usize,
) -> Result<Option<Vec<u64>>> {
    let mut numbers = Vec::new();
    for lane in lanes {
        let mut cmd = redis::cmd("ZRANGE");
        cmd.arg(partition.keys.key(Key::Lane(*lane))).arg(0).arg(most);
        let members = texts(engine.main.query(&cmd).await?)?;
        numbers.extend(numbers_in(&members));
        let bases: Vec<u64> = members.iter().filter_map(|it| runs::parse_member(it)).collect();
        let mut pipeline = redis::pipe();
        for base in &bases {
            pipeline.cmd("HGET").arg(partition.keys.key(Key::Runs(*base))).arg(lane.0);
        }
        for (base, answer) in bases.iter().zip(engine.main.pipeline(&pipeline).await?) {
            if let Some(piece) = value::stored::<Piece>(answer)? {
                numbers.extend(piece.bits.numbers(*base));
            }
            if numbers.len() > most {
                return Ok(None);
            }
        }
        if numbers.len() > most {
            return Ok(None);
        }
    }
    for leased in batches(engine, partition).await? {
        let pieces = leased.pieces.iter().filter(|(_, lane, _)| lanes.contains(lane));
        numbers.extend(pieces.flat_map(|(base, _, piece)| piece.bits.numbers(*base)));
        let held = leased.held.iter().filter(|(held, _)| lanes.contains(&held.lane));
        numbers.extend(held.map(|(held, _)| held.n));
    }
    sort_down(&mut numbers);
    Ok(Some(numbers))
}

fn numbers_in(members: &[String]) -> Vec<u64> {
    members.iter().filter_map(|name| delivery::parse_member(name)).map(|(n, _)| n).collect()
}

fn sort_down(numbers: &mut Vec<u64>) {
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    numbers.dedup();
}

/// The number of the first event accepted at or after a moment, by bisection over sixteen parts at
/// a time: accept times rise with numbers.
pub(in crate::redis) async fn first_since(
    engine: &Engine,
    partition: &Partition,
    time: Timestamp,
) -> Result<u64> {
    let mut cmd = redis::cmd("HMGET");
    cmd.arg(partition.keys.key(Key::Marks)).arg("trim").arg("last");
    let [trim, last] = value::exactly(value::array(engine.main.query(&cmd).await?)?)?;
    let trim = value::mark(trim)?;
    let (mut low, mut high) = (trim + 1, value::mark(last)? + 1);
    if low == 1 && high == 1 {
        return Ok(1);
    }
    let wanted = u64::try_from(time.millis()).unwrap_or(0);
    while low < high {
        // The first place is the lowest: where nothing is older, one look is enough.
        let step = (high - low).div_ceil(PROBES);
        let places: Vec<u64> = (0..PROBES).map(|k| low + k * step).filter(|n| *n < high).collect();
        let mut pipeline = redis::pipe();
        for place in &places {
            pipeline.cmd("XRANGE").arg(partition.keys.key(Key::Events)).arg(*place).arg("+");
            pipeline.arg("COUNT").arg(1);
            pipeline.cmd("ZRANGEBYSCORE").arg(partition.keys.key(Key::Tombstones));
            pipeline.arg(*place).arg("+inf").arg("LIMIT").arg(0).arg(1);
        }
        let answers = engine.main.pipeline(&pipeline).await?;
        for (place, answer) in places.iter().zip(answers.as_chunks::<2>().0) {
            let [events, beside] = answer.clone();
            let found = entry::decode_range(partition.no, events.extract_error()?)?;
            let first = found.first().map(|it| (it.position().n, it.position().ms));
            let beside = texts(beside)?.first().and_then(|id| Id::parse(id.as_bytes()));
            match first.into_iter().chain(beside.map(|id| (id.n, id.ms))).min() {
                Some((n, ms)) if ms < wanted => low = low.max(n + 1),
                Some(_) | None => {
                    high = *place;
                    break;
                }
            }
        }
    }
    // Events that were spared are older than what is trimmed.
    Ok(if low <= trim + 1 { 0 } else { low })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back() {
        let tag = ReplayTag::from_bits([1, 2, 3, 4, 5]);
        let within = [None, Some((1, 7, LaneNo(3), None)), Some((0, 9, LaneNo(40), Some(tag)))];
        for within in within {
            let place = Place { below: vec![1 << 40, 12, 0], within };
            assert_eq!(Place::parse(&place.print(), 3), Ok(place.clone()));
            assert!(Place::parse(&place.print(), 2).is_err());
        }
        assert!(Place::parse("1.x.3", 3).is_err());
    }
}
