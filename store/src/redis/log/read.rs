//! Reading events and deliveries.
//!
//! There is no index of deliveries. A list walks events, newest first, a bounded number of them a
//! page; of each it puts together what its record says and what the log tells. Where only pending
//! or failed ones of a few lanes are asked for, lanes and the failed are walked instead. The place
//! of a page is where each partition stands, so that pages neither lose nor repeat.

use pregon_core::clock::Timestamp;
use pregon_core::event::Event;
use pregon_core::id::{EventName, LaneNo, NodeId, Position};
use redis::{Pipeline, Value};

use crate::codec::stored::SCHEDULED;
use crate::log::{EventQuery, EventStage, Most, Page};
use crate::redis::engine::Engine;
use crate::redis::engine::args::Args;
use crate::redis::engine::bodies;
use crate::redis::engine::fault::{Fault, Result, bad};
use crate::redis::engine::partition::Partition;
use crate::redis::engine::steps::STEPS;
use crate::redis::engine::value;
use crate::redis::layout::delivery::{self, Record};
use crate::redis::layout::entry::{Found, IdHash};
use crate::redis::layout::keys::Key;
use crate::redis::layout::stream::Id;
use crate::redis::log::attempts::texts;

mod deliveries;
mod recorded;
mod structure;
mod walk;

pub(in crate::redis) use deliveries::{deliveries, delivery};
pub(in crate::redis) use structure::{Leased, batches, byte_pairs, owners};
pub(in crate::redis) use walk::first_since;
use walk::{Among, Place, SCAN, STRIDE, Walk};

/// Bytes of events that are held while it is asked whether nobody wanted them.
const TOGETHER_BYTES: usize = 1 << 20;

/// The place of an event.
pub(in crate::redis) async fn find(engine: &Engine, name: &EventName) -> Result<Option<Position>> {
    let position = match name.id.position() {
        Some(position) if name.version == 0 => position,
        Some(_) => return Ok(None), // an assigned id has no versions
        None => {
            let hash = IdHash::of(&name.tenant, name.id.as_str(), name.version);
            let partition = &engine.partitions[hash.partition(engine.partitions.len())];
            let mut args = Args::default();
            args.push_bytes(hash.field.to_vec());
            args.push_text(hash.bucket);
            let id: String = engine.step(partition, &STEPS.find, args).await?;
            match Id::parse(id.as_bytes()) {
                Some(id) => id.position(partition.no),
                None => return Ok(None),
            }
        }
    };
    let Some(event) = event_at(engine, position).await? else { return Ok(None) };
    Ok((event.tenant == name.tenant).then_some(position))
}

/// An event by its place; none: not there, or no longer kept.
pub(in crate::redis) async fn event_at(
    engine: &Engine,
    position: Position,
) -> Result<Option<Event>> {
    let Ok(partition) = engine.partition(position.partition) else { return Ok(None) };
    let mut found = bodies::read_some(engine, partition, [position.n]).await?;
    match found.remove(&position.n) {
        Some(found) if found.position() != position => Ok(None),
        Some(Found::Event(event)) => Ok(Some(*event)),
        Some(Found::Spoiled(position)) => Err(bad("event", position.to_string())),
        None => Ok(None),
    }
}

/// Where events stand.
async fn stages(
    engine: &Engine,
    partition: &Partition,
    numbers: &[u64],
) -> Result<Vec<EventStage>> {
    let mut args = Args::default();
    numbers.iter().for_each(|n| args.push_text(*n));
    let stages: Vec<String> = engine.step(partition, &STEPS.stage, args).await?;
    let stage = |text: String| match text.as_str() {
        "" => Ok(EventStage::Waiting),
        "." => Ok(EventStage::Matched),
        ">" => Ok(EventStage::Scheduled),
        "!" => Ok(EventStage::Cancelled),
        node => NodeId::parse(node).map(EventStage::Claimed).map_err(|_| bad("a node", node)),
    };
    stages.into_iter().map(stage).collect()
}

/// An event and where it stands.
pub(in crate::redis) async fn event(
    engine: &Engine,
    position: Position,
) -> Result<Option<(Event, EventStage)>> {
    let Some(event) = event_at(engine, position).await? else { return Ok(None) };
    let Ok(partition) = engine.partition(position.partition) else { return Ok(None) };
    let stage = stages(engine, partition, &[position.n]).await?.pop();
    Ok(stage.map(|stage| (event, stage)))
}

/// Events, newest first.
pub(in crate::redis) async fn events(
    engine: &Engine,
    query: &EventQuery,
    from: Option<&str>,
    most: Most,
) -> Result<Page<Event>> {
    let mut place = Place::of(from, engine).await?;
    let among = match query.scheduled_only {
        true => walk::among_pending(engine, &[LaneNo::EVENTS]).await?,
        false => Among::All,
    };
    let mut walk = Walk::new(engine, &place.below, (query.from, query.to), among).await?;
    let mut page = Page { items: Vec::new(), next: None };
    let mut bytes = 0;
    // Whether nobody wanted an event, or it waits for its time, is asked for many at once.
    let asks = query.unmatched_only || query.scheduled_only;
    let together = if asks { STRIDE } else { 1 };
    loop {
        let (mut some, mut held, mut last) = (Vec::new(), 0, false);
        while some.len() < together && held < TOGETHER_BYTES {
            let Some((i, found)) = walk.next().await? else {
                last = true;
                break;
            };
            let position = found.position();
            let event = found.event().filter(|event| suits_event(query, event));
            held += event.as_ref().map_or(0, Event::size);
            some.push((i, position, event));
        }
        let mut suits: Vec<_> =
            some.iter().map(|(i, at, event)| (*i, at.n, event.is_some())).collect();
        if query.unmatched_only {
            nobody_wanted(engine, &mut suits).await?;
        }
        if query.scheduled_only {
            are_scheduled(engine, &mut suits).await?;
        }
        for ((i, position, event), (.., suits)) in some.into_iter().zip(suits) {
            place.below[i] = position.n;
            if let Some(event) = event.filter(|_| suits) {
                bytes += event.size();
                page.items.push(event);
            }
            if most.is_reached(page.items.len(), bytes) {
                page.next = Some(place.print());
                return Ok(page);
            }
        }
        if last {
            return Ok(page);
        }
        if walk.looked_at >= SCAN {
            page.next = Some(place.print());
            return Ok(page);
        }
    }
}

fn suits_event(query: &EventQuery, event: &Event) -> bool {
    query.tenant.as_ref().is_none_or(|wanted| *wanted == event.tenant)
        && query.event_type.as_ref().is_none_or(|wanted| *wanted == event.event_type)
        && query.environment.is_none_or(|wanted| wanted == event.environment)
        && query.from.is_none_or(|from| event.accept_time() >= from)
        && query.to.is_none_or(|to| event.accept_time() < to)
}

/// Of these events, by partition and number, those suit no longer that somebody wanted. Those that do
/// not suit are not asked about.
async fn nobody_wanted(engine: &Engine, events: &mut [(usize, u64, bool)]) -> Result<()> {
    let ask = |pipeline: &mut Pipeline, partition: &Partition, n: u64| {
        let page = partition.keys.key(Key::Unmatched(n / UNMATCHED_PAGE));
        pipeline.cmd("GETBIT").arg(page).arg(n % UNMATCHED_PAGE);
    };
    let answers = |answer: Value| Ok(answer.extract_error()? == Value::Int(1));
    filter(engine, events, ask, answers).await
}

/// The same for those that do not wait for their time.
async fn are_scheduled(engine: &Engine, events: &mut [(usize, u64, bool)]) -> Result<()> {
    let ask = |pipeline: &mut Pipeline, partition: &Partition, n: u64| {
        pipeline.cmd("HGET").arg(partition.keys.key(Key::Record(n))).arg(delivery::EVENT);
    };
    let answers = |answer: Value| {
        let record = value::stored::<Record>(answer)?;
        Ok(record.is_some_and(|it| !it.state.is_end() && it.code == SCHEDULED))
    };
    filter(engine, events, ask, answers).await
}

/// Asks a question of each event that suits; it suits no longer where the answer is no.
async fn filter(
    engine: &Engine,
    events: &mut [(usize, u64, bool)],
    ask: impl Fn(&mut Pipeline, &Partition, u64),
    answers: impl Fn(Value) -> Result<bool>,
) -> Result<()> {
    let mut pipeline = redis::pipe();
    for (i, n, suits) in &mut *events {
        // Partitions are numbered from 0, and the walk goes over those that there are.
        match engine.partitions.get(*i) {
            Some(partition) if *suits => ask(&mut pipeline, partition, *n),
            Some(_) | None => *suits = false,
        }
    }
    let mut given = engine.main.pipeline(&pipeline).await?.into_iter();
    for (.., suits) in events.iter_mut().filter(|(.., suits)| *suits) {
        *suits = answers(given.next().ok_or_else(|| bad("answers about events", "too few"))?)?;
    }
    Ok(())
}

/// Events whose being wanted by nobody one bitmap tells.
const UNMATCHED_PAGE: u64 = 65_536;

impl Engine {
    /// The store's present time.
    pub(in crate::redis) async fn now(&self) -> Result<Timestamp> {
        let parts = texts(self.main.query(&redis::cmd("TIME")).await?)?;
        let part = |i: usize| parts.get(i).and_then(|part| part.parse::<i64>().ok());
        match (part(0), part(1)) {
            (Some(seconds), Some(micros)) => {
                Ok(Timestamp::from_millis(seconds * 1000 + micros / 1000 + self.ahead()))
            }
            _ => Err(Fault::Corrupt(format!("Redis tells the time as {parts:?}"))),
        }
    }
}
