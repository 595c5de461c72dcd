//! Following the log: two streams of attempts and one of ends for each partition, in their order.
//!
//! Entries have dense numbers, and the partition's marks say the latest of each stream. A reader
//! takes the marks first, all at one moment, and then reads no further than they say: so what it
//! reads of three streams is one history, which it puts in order by the moments of the entries. A
//! number that is missing tells a watcher that it came too late.
//!
//! Nobody is told of new entries. Watchers look at the marks, and all of a process share one look.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use pregon_core::clock::Timestamp;
use pregon_core::event::Event;
use pregon_core::id::{DeliveryKey, PartitionNo};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::StoreError;
use crate::log::DeliveryRecord;
use crate::redis::engine::bodies;
use crate::redis::engine::fault::{Result, bad};
use crate::redis::engine::partition::Partition;
use crate::redis::engine::value;
use crate::redis::engine::{self, Engine};
use crate::redis::handle::Handle;
use crate::redis::layout::chunk::Stream;
use crate::redis::layout::delivery::{self, Record};
use crate::redis::layout::ends::{Ends, EndsOfRun};
use crate::redis::layout::keys::Key;
use crate::redis::layout::stream::Row;
use crate::redis::log::{attempts, rewritten};
use crate::watch::{
    Content, DeliveryWatch, EVENTS_AT_ONCE, Entry, LOOK, Move, Place, STREAMS, STRETCH, Seen,
    Stretch, Wanted, WatchQuery, wanted,
};

/// The streams, in the order in which entries of one moment happened: who lost a lease is told
/// before the next attempt, and an end after the attempts that it overrules.
const ORDER: [(usize, Key); STREAMS] = [(1, Key::TroubleLog), (0, Key::Log), (2, Key::Ends)];

impl Engine {
    /// Where the log ends, as seen a moment ago at most.
    async fn watched_tip(&self) -> Result<Place> {
        // Held during the look: whoever asks meanwhile takes its answer.
        let mut known = self.tip.0.lock().await;
        if let Some((at, place)) = &*known
            && at.elapsed() < LOOK / 2
        {
            return Ok(place.clone());
        }
        let place = look(self).await?;
        *known = Some((Instant::now(), place.clone()));
        Ok(place)
    }
}

/// The marks of all partitions.
async fn look(engine: &Engine) -> Result<Place> {
    let mut pipeline = redis::pipe();
    for partition in &engine.partitions {
        pipeline.cmd("HMGET").arg(partition.keys.key(Key::Marks)).arg(&["epoch", "lk", "ek", "dk"]);
    }
    let mut epochs = Sha256::new();
    let mut partitions = Vec::with_capacity(engine.partitions.len());
    for answer in engine.main.pipeline(&pipeline).await? {
        let [epoch, marks @ ..] = value::exactly::<4>(value::array(answer)?)?;
        epochs.update(engine::life(&value::bytes(epoch)?.unwrap_or_default()));
        epochs.update([0]);
        let mut numbers = [0; STREAMS];
        for (number, mark) in numbers.iter_mut().zip(marks) {
            *number = value::mark(mark)?;
        }
        partitions.push(numbers);
    }
    let epochs = epochs.finalize();
    let epoch = u64::from_be_bytes(epochs.first_chunk().copied().unwrap_or_default());
    Ok(Place { epoch, partitions })
}

/// Entries of a stream, each with its number.
type Entries = Vec<(u64, Entry)>;

async fn read_on(
    engine: &Engine,
    partition: &Partition,
    query: &WatchQuery,
    from: &Place,
    to: &Place,
) -> Result<Stretch> {
    let i = usize::from(partition.no);
    let (Some(own), Some(last)) = (from.partitions.get(i), to.partitions.get(i)) else {
        return Ok(Stretch::Gap);
    };
    if from.epoch != to.epoch || own.iter().zip(last).any(|(own, last)| own > last) {
        return Ok(Stretch::Gap);
    }
    let mut pipeline = redis::pipe();
    for (stream, key) in ORDER {
        // An id without its second part is the first of its number where a range begins, and the
        // last of its number where it ends.
        pipeline.cmd("XRANGE").arg(partition.keys.key(key));
        pipeline.arg(own[stream] + 1).arg(last[stream]).arg("COUNT").arg(STRETCH);
    }
    let mut streams = Vec::with_capacity(STREAMS);
    for ((stream, key), answer) in ORDER.into_iter().zip(engine.main.pipeline(&pipeline).await?) {
        let lacks = own[stream] < last[stream];
        // An empty range may be written the wrong way round, which Redis answers with nothing.
        let mut rows = if lacks { Row::read_all(answer)? } else { Vec::new() };
        let log = Stream::ALL.into_iter().find(|stream| stream.key() == key);
        if lacks && let Some(log) = log {
            let read = own[stream]..last[stream];
            rows = rewritten::fill_up(engine, partition, log, rows, read, STRETCH).await?;
        }
        let entries = rows.iter().map(|row| read(row, key)).collect::<Result<Entries>>()?;
        let dense = entries.iter().zip(own[stream] + 1..).all(|((k, _), wanted)| *k == wanted);
        if !dense || (lacks && entries.is_empty()) {
            return Ok(Stretch::Gap);
        }
        let rest = entries.last().is_some_and(|(k, _)| *k < last[stream]);
        streams.push((stream, entries, rest));
    }
    let (entries, reached) = merge(streams, *own);
    let seen = named(engine, partition, wanted(query, entries)).await?;
    let mut place = from.clone();
    place.partitions[i] = reached;
    Ok(Stretch::Read { seen, place })
}

/// Puts the entries of streams in order, up to where one of them was cut short; answers with what
/// was reached of each.
fn merge(
    streams: Vec<(usize, Entries, bool)>,
    from: [u64; STREAMS],
) -> (Vec<Entry>, [u64; STREAMS]) {
    // What comes after the last entry of a stream that was cut short may come after one not read.
    let cuts = streams.iter().filter(|(.., rest)| *rest);
    let until = cuts.filter_map(|(_, entries, _)| entries.last().map(|(_, it)| it.ms)).min();
    let mut reached = from;
    let mut merged = Vec::new();
    for (stream, entries, _) in streams {
        for (k, entry) in entries {
            if until.is_some_and(|until| entry.ms > until) {
                break;
            }
            reached[stream] = k;
            merged.push(entry);
        }
    }
    merged.sort_by_key(|entry| entry.ms); // stable: streams keep their order within a moment
    (merged, reached)
}

fn read(row: &Row, key: Key) -> Result<(u64, Entry)> {
    let content = if key != Key::Ends {
        Content::Attempts(attempts::unpack(row)?)
    } else if let Some(of_run) = row.stored::<EndsOfRun>(b"r")? {
        Content::Ends(of_run.each())
    } else {
        let ends: Option<Ends> = row.stored(b"d")?;
        Content::Ends(ends.ok_or_else(|| bad("ends", row.id))?.0)
    };
    Ok((row.id.n, Entry { ms: row.moment().millis(), content }))
}

/// What is wanted, with the events that name it. What lost its event is no longer there.
async fn named(engine: &Engine, partition: &Partition, wanted: Vec<Wanted>) -> Result<Vec<Seen>> {
    let mut seen = Vec::with_capacity(wanted.len());
    let mut wanted = wanted.into_iter().peekable();
    while wanted.peek().is_some() {
        let some: Vec<Wanted> = wanted.by_ref().take(EVENTS_AT_ONCE).collect();
        let moves = || {
            some.iter().filter_map(|one| match one {
                Wanted::Attempt(_) => None,
                Wanted::Moved(moved) => Some(&**moved),
            })
        };
        let bodies = bodies::read_some(engine, partition, moves().map(|it| it.n)).await?;
        let heads: HashMap<u64, Event> = bodies
            .into_iter()
            .filter_map(|(n, found)| Some((n, found.event()?)))
            .map(|(n, event)| (n, Event { data: Default::default(), ..event }))
            .collect();
        let mut created = created(engine, partition, moves()).await?.into_iter();
        for one in some {
            match one {
                Wanted::Attempt(record) => seen.push(Seen::Attempt(record)),
                Wanted::Moved(moved) => {
                    let created = created.next().flatten();
                    seen.extend(shown(*moved, &heads, created).map(Seen::Delivery));
                }
            }
        }
    }
    Ok(seen)
}

fn shown(
    mut moved: Move,
    heads: &HashMap<u64, Event>,
    created: Option<Timestamp>,
) -> Option<Box<DeliveryRecord>> {
    let event = heads.get(&moved.n)?;
    // What ended of a run says when that began.
    moved.create_time = moved.create_time.map(|time| time.max(event.accept_time()));
    Some(Box::new(moved.record(event, created)))
}

/// When deliveries were made, as far as they have records.
async fn created(
    engine: &Engine,
    partition: &Partition,
    moves: impl Iterator<Item = &Move>,
) -> Result<Vec<Option<Timestamp>>> {
    let mut pipeline = redis::pipe();
    for moved in moves {
        let position = pregon_core::id::Position { ms: 0, partition: partition.no, n: moved.n };
        let key = DeliveryKey { position, lane: moved.lane, replay: moved.replay };
        pipeline
            .cmd("HGET")
            .arg(partition.keys.key(Key::Record(moved.n)))
            .arg(delivery::field(&key));
    }
    let answers = engine.main.pipeline(&pipeline).await?;
    let created = |answer| {
        let record: Option<Record> = value::stored(answer)?;
        Ok(record.map(|record| Timestamp::from_millis(record.create_ms)))
    };
    answers.into_iter().map(created).collect()
}

#[async_trait]
impl DeliveryWatch for Handle {
    async fn tip(&self) -> std::result::Result<Place, StoreError> {
        Ok(look(&self.engine).await?)
    }

    async fn read_on(
        &self,
        query: &WatchQuery,
        from: &Place,
        to: &Place,
        partition: PartitionNo,
    ) -> std::result::Result<Stretch, StoreError> {
        let partition = self.engine.partition(partition)?;
        Ok(read_on(&self.engine, partition, query, from, to).await?)
    }

    async fn wait_past(&self, place: &Place, at_most: Duration) {
        let until = Instant::now() + at_most;
        loop {
            tokio::time::sleep_until(until.min(Instant::now() + LOOK)).await;
            // A store that does not answer is the next read's to report.
            let moved = self.engine.watched_tip().await.map_or(true, |tip| tip != *place);
            if moved || Instant::now() >= until {
                return;
            }
        }
    }
}
