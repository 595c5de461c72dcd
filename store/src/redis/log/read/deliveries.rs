//! Deliveries: what their records say, what the log tells, and lists of them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use pregon_core::attempt::AttemptRecord;
use pregon_core::clock::Timestamp;
use pregon_core::event::Event;
use pregon_core::id::{DeliveryKey, LaneNo, NodeId, Position, ReplayTag};
use pregon_core::outcome::{DeliveryState, EndReason, PendingReason};
use redis::Value;

use super::event_at;
use super::recorded::{InRun, Recorded, Records, recorded};
use super::structure::{Holders, holders};
use super::walk::{Place, SCAN, STRIDE, Walk, among};
use crate::codec::stored;
use crate::log::{DeliveryQuery, DeliveryRecord, Page, REPLAYS_NAMED};
use crate::redis::engine::Engine;
use crate::redis::engine::fault::{Result, bad};
use crate::redis::engine::partition::Partition;
use crate::redis::engine::value;
use crate::redis::layout::delivery::{self, Held, Shut};
use crate::redis::layout::keys::Key;
use crate::redis::log::attempts::{self, Log};

/// Deliveries that wait in their lanes, each with until when and why its lane is closed.
type Waiting = HashMap<DeliveryKey, Option<Shut>>;

/// Those that have not ended, each with where it stands if a bit tells of it.
fn pending(records: &[(DeliveryKey, &Recorded)]) -> Vec<(DeliveryKey, Option<InRun>)> {
    let pending = records.iter().filter(|(_, it)| !it.record.state.is_end());
    pending.map(|(key, recorded)| (*key, recorded.in_run)).collect()
}

/// One delivery.
pub(in crate::redis) async fn delivery(
    engine: &Engine,
    key: DeliveryKey,
) -> Result<Option<DeliveryRecord>> {
    if key.lane == LaneNo::EVENTS {
        return Ok(None);
    }
    let Ok(partition) = engine.partition(key.position.partition) else { return Ok(None) };
    let Some(event) = event_at(engine, key.position).await? else { return Ok(None) };
    let mut look = Look::new(engine, partition, Some(key.lane));
    let records = recorded(engine, partition, &[key.position], look.lane).await?;
    let own = records.get(&key.position.n).into_iter().flatten();
    let own = own.into_iter().find(|(place, _)| *place == (key.lane, key.replay));
    let known = match own {
        Some((_, recorded)) => {
            let waiting = look.in_lanes(&pending(&[(key, recorded)])).await?;
            Some(look.known(key, recorded, &waiting).await?)
        }
        None => {
            let records = attempts::of_delivery(engine, partition, key).await?;
            Known::from_log(key, &records.iter().collect::<Vec<_>>())
        }
    };
    let known = known.map(|mut known| {
        known.name_replays(records.get(&key.position.n));
        known
    });
    Ok(known.map(|known| known.record(&event)))
}

/// Deliveries, newest event first.
pub(in crate::redis) async fn deliveries(
    engine: &Engine,
    query: &DeliveryQuery,
    from: Option<&str>,
    limit: usize,
) -> Result<Page<DeliveryRecord>> {
    let mut list = List {
        engine,
        query,
        limit: limit.max(1),
        place: Place::of(from, engine).await?,
        looks: engine.partitions.iter().map(|it| Look::new(engine, it, query.lane)).collect(),
        page: Page { items: Vec::new(), next: None },
    };
    match query.event {
        Some(position) => list.one_event(position).await?,
        None => list.walk().await?,
    }
    Ok(list.page)
}

/// A page in the making.
struct List<'a> {
    engine: &'a Engine,
    query: &'a DeliveryQuery,
    limit: usize,
    place: Place,
    looks: Vec<Look<'a>>,
    page: Page<DeliveryRecord>,
}

impl List<'_> {
    async fn one_event(&mut self, position: Position) -> Result<()> {
        let i = usize::from(position.partition);
        if i >= self.looks.len() || self.place.below[i] <= position.n {
            return Ok(());
        }
        if let Some(event) = event_at(self.engine, position).await? {
            let head = Event { data: Default::default(), ..event };
            self.add_events(vec![(i, head)]).await?;
        }
        Ok(())
    }

    async fn walk(&mut self) -> Result<()> {
        // An event that a page ended within is looked at again.
        let mut below = self.place.below.clone();
        if let Some((i, n, ..)) = self.place.within
            && let Some(below) = below.get_mut(i)
        {
            *below = n + 1;
        }
        let among = among(self.engine, self.query).await?;
        let times = (self.query.from, self.query.to);
        let mut walk = Walk::new(self.engine, &below, times, among).await?;
        loop {
            let mut some = Vec::new();
            while some.len() < STRIDE {
                let Some((i, found)) = walk.next().await? else { break };
                // A list names its events; their data may be a thousand times as much.
                if let Some(event) = found.event() {
                    some.push((i, Event { data: Default::default(), ..event }));
                }
            }
            let last = some.len() < STRIDE;
            if self.add_events(some).await? || last {
                return Ok(());
            }
            if walk.looked_at >= SCAN {
                self.page.next = Some(self.place.print());
                return Ok(());
            }
        }
    }

    /// Adds what is wanted of some events, newest first; says whether the page is full.
    async fn add_events(&mut self, events: Vec<(usize, Event)>) -> Result<bool> {
        let mut known = HashMap::new();
        for i in 0..self.looks.len() {
            let own: Vec<&Event> = events
                .iter()
                .filter(|(at, event)| *at == i && self.suits_event(event))
                .map(|(_, event)| event)
                .collect();
            if !own.is_empty() {
                let found = self.looks[i].of_events(&own).await?;
                known.extend(found.into_iter().map(|(n, known)| ((i, n), known)));
            }
        }
        for (i, event) in &events {
            let n = event.position.n;
            let within = self.place.within.filter(|(at, number, ..)| (*at, *number) == (*i, n));
            for known in known.remove(&(*i, n)).unwrap_or_default() {
                let place = (known.lane, known.replay);
                let seen = within.is_some_and(|(_, _, lane, tag)| place >= (lane, tag));
                if seen || !self.suits(&known) {
                    continue;
                }
                self.page.items.push(known.record(event));
                if self.page.items.len() >= self.limit {
                    self.place.within = Some((*i, n, place.0, place.1));
                    self.page.next = Some(self.place.print());
                    return Ok(true);
                }
            }
            self.place.within = None;
            self.place.below[*i] = n;
        }
        Ok(false)
    }

    fn suits_event(&self, event: &Event) -> bool {
        let query = self.query;
        query.event_type.as_ref().is_none_or(|wanted| *wanted == event.event_type)
            && query.tenant.as_ref().is_none_or(|tenant| *tenant == event.tenant)
            && query.from.is_none_or(|from| event.accept_time() >= from)
            && query.to.is_none_or(|to| event.accept_time() < to)
    }

    fn suits(&self, known: &Known) -> bool {
        let query = self.query;
        query.state.is_none_or(|state| state == known.state)
            && query.lane.is_none_or(|lane| lane == known.lane)
            && query.end_reason.is_none_or(|reason| Some(reason) == known.end_reason)
    }
}

/// What is known of a delivery but its event.
#[derive(Clone, Debug)]
struct Known {
    lane: LaneNo,
    replay: Option<ReplayTag>,
    state: DeliveryState,
    pending_reason: Option<PendingReason>,
    end_reason: Option<EndReason>,
    attempts: u32,
    next_attempt: Option<Timestamp>,
    create_time: Timestamp,
    end_time: Option<Timestamp>,
    node: Option<NodeId>,
    replays: Vec<ReplayTag>,
}

impl Known {
    /// Takes its replays from its event's records.
    fn name_replays(&mut self, records: Option<&Records>) {
        if self.replay.is_some() {
            return;
        }
        let of_lane = |((lane, replay), it): &((LaneNo, Option<ReplayTag>), Recorded)| {
            let made = (Reverse(it.record.create_ms), *replay);
            replay.filter(|_| *lane == self.lane).map(|replay| (made, replay))
        };
        let mut found: Vec<_> = records.into_iter().flatten().filter_map(of_lane).collect();
        found.sort_unstable_by_key(|(made, _)| *made);
        found.truncate(REPLAYS_NAMED);
        self.replays = found.into_iter().map(|(_, replay)| replay).collect();
    }

    /// From the log of a delivery without a record; none: it has not ended.
    fn from_log(key: DeliveryKey, records: &[&AttemptRecord]) -> Option<Known> {
        let first = records.first()?;
        let last = records.iter().rev().find(|record| !record.late && record.end.is_some())?;
        let end = last.end?;
        let took = Duration::from_micros(u64::from(last.timing.total));
        Some(Known {
            lane: key.lane,
            replay: key.replay,
            state: end.state,
            pending_reason: None,
            end_reason: end.reason,
            attempts: last.number,
            next_attempt: None,
            create_time: first.start,
            end_time: Some(last.start.plus(took)),
            node: None,
            replays: Vec::new(),
        })
    }

    fn record(self, event: &Event) -> DeliveryRecord {
        DeliveryRecord {
            key: DeliveryKey { position: event.position, lane: self.lane, replay: self.replay },
            event: event.clone(),
            state: self.state,
            pending_reason: self.pending_reason,
            end_reason: self.end_reason,
            attempts: self.attempts,
            next_attempt: self.next_attempt,
            create_time: self.create_time,
            end_time: self.end_time,
            node: self.node,
            replays: self.replays,
        }
    }
}

/// One call's look at a partition's deliveries.
struct Look<'a> {
    engine: &'a Engine,
    partition: &'a Partition,
    log: Log<'a>,
    /// The only lane whose runs are looked at.
    lane: Option<LaneNo>,
    /// Who holds what: filled when something is held.
    holders: Option<Holders>,
    now: Option<i64>,
}

impl<'a> Look<'a> {
    fn new(engine: &'a Engine, partition: &'a Partition, lane: Option<LaneNo>) -> Self {
        let log = Log::new(engine, partition);
        Self { engine, partition, log, lane, holders: None, now: None }
    }

    /// All deliveries of some events: what the records say, and for the rest what the log tells.
    async fn of_events(&mut self, events: &[&Event]) -> Result<HashMap<u64, Vec<Known>>> {
        let numbers: Vec<u64> = events.iter().map(|event| event.position.n).collect();
        let positions: Vec<Position> = events.iter().map(|event| event.position).collect();
        let records = recorded(self.engine, self.partition, &positions, self.lane).await?;
        let mut logged = self.log.of_events(&numbers).await?;
        let of_event = |event: &Event| {
            let position = event.position;
            let own = records.get(&position.n).into_iter().flatten();
            own.map(move |((lane, replay), record)| {
                (DeliveryKey { position, lane: *lane, replay: *replay }, record)
            })
        };
        let of_all: Vec<_> = events.iter().flat_map(|event| of_event(event)).collect();
        let waiting = self.in_lanes(&pending(&of_all)).await?;
        let mut all = HashMap::new();
        for event in events {
            let n = event.position.n;
            let mut found = BTreeMap::new();
            for (key, record) in of_event(event) {
                let known = self.known(key, record, &waiting).await?;
                found.insert((key.lane, key.replay), known);
            }
            let told = logged.remove(&n).unwrap_or_default();
            let mut by_key: BTreeMap<DeliveryKey, Vec<&AttemptRecord>> = BTreeMap::new();
            for record in told.iter().filter(|record| record.key.position == event.position) {
                by_key.entry(record.key).or_default().push(record);
            }
            for (key, mut records) in by_key {
                records.sort_by_key(|record| (record.number, record.start));
                if !found.contains_key(&(key.lane, key.replay))
                    && let Some(known) = Known::from_log(key, &records)
                {
                    found.insert((key.lane, key.replay), known);
                }
            }
            for known in found.values_mut() {
                known.name_replays(records.get(&n));
            }
            all.insert(n, found.into_values().rev().collect());
        }
        Ok(all)
    }

    /// What a record says, with what the structure adds: where a pending delivery is.
    async fn known(
        &mut self,
        key: DeliveryKey,
        recorded: &Recorded,
        waiting: &Waiting,
    ) -> Result<Known> {
        let record = &recorded.record;
        let state = record.state;
        let mut known = Known {
            lane: key.lane,
            replay: key.replay,
            state,
            pending_reason: None,
            end_reason: None,
            attempts: record.attempts,
            next_attempt: None,
            create_time: Timestamp::from_millis(record.create_ms),
            end_time: None,
            node: None,
            replays: Vec::new(),
        };
        if state != DeliveryState::Pending {
            known.end_time = Some(Timestamp::from_millis(record.at_ms));
            if record.code != 0 {
                let reason = stored::end_of(record.code);
                known.end_reason = Some(reason.ok_or_else(|| bad("end reason", record.code))?);
            }
            return Ok(known);
        }
        let reason = |code| stored::pending_of(code).ok_or_else(|| bad("pending reason", code));
        let Some(shut) = waiting.get(&key) else {
            known.pending_reason = Some(PendingReason::InFlight);
            let holders = self.holders().await?;
            if recorded.in_run.is_some() {
                let held = holders.of_run(key.position.n, key.lane);
                let began = held.as_ref().map_or(0, |(_, began)| *began);
                known.create_time = known.create_time.max(Timestamp::from_millis(began));
                known.node = held.map(|(node, _)| node);
            } else {
                known.node = holders.of(&Held::of(&key));
            }
            return Ok(known);
        };
        known.next_attempt = Some(Timestamp::from_millis(record.at_ms));
        let now = self.now().await?;
        known.pending_reason = Some(match shut {
            // It would be handed out, were its lane not closed.
            Some(shut) if shut.till_ms > now && record.at_ms <= now => reason(shut.why)?,
            Some(_) | None => reason(record.code)?,
        });
        Ok(known)
    }

    /// Which of these deliveries wait in their lanes: one question for all of them.
    async fn in_lanes(&self, deliveries: &[(DeliveryKey, Option<InRun>)]) -> Result<Waiting> {
        if deliveries.is_empty() {
            return Ok(Waiting::new());
        }
        let keys = &self.partition.keys;
        let mut pipeline = redis::pipe();
        for (key, in_run) in deliveries {
            if in_run.is_none() {
                pipeline
                    .cmd("ZSCORE")
                    .arg(keys.key(Key::Lane(key.lane)))
                    .arg(delivery::member(key));
            }
            pipeline.cmd("HGET").arg(keys.key(Key::Shut)).arg(key.lane.0);
        }
        let mut answers = self.engine.main.pipeline(&pipeline).await?.into_iter();
        let mut waiting = Waiting::new();
        for (key, in_run) in deliveries {
            let mut answer =
                || answers.next().ok_or_else(|| bad("answers of lanes", deliveries.len()));
            let waits = match in_run {
                Some(in_run) => *in_run == InRun::Waits,
                None => answer()?.extract_error()? != Value::Nil,
            };
            let shut = value::stored(answer()?)?;
            if waits {
                waiting.insert(*key, shut);
            }
        }
        Ok(waiting)
    }

    async fn holders(&mut self) -> Result<&Holders> {
        let known = match self.holders.take() {
            Some(known) => known,
            None => holders(self.engine, self.partition).await?,
        };
        Ok(self.holders.insert(known))
    }

    async fn now(&mut self) -> Result<i64> {
        if let Some(now) = self.now {
            return Ok(now);
        }
        let now = self.engine.now().await?.millis();
        Ok(*self.now.insert(now))
    }
}
