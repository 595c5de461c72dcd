//! Reading deliveries.
//!
//! A delivery that is or was in trouble has a row, or is a bit of a run; one that went well at once
//! is told of by the log alone. Lists of what is pending, failed or cancelled therefore walk rows
//! and runs by their indexes; lists of anything else walk the events and put all together. Either way a
//! page looks at a bounded number of them, newest event first, and its place is the last
//! delivery looked at.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use pregon_core::attempt::AttemptRecord;
use pregon_core::clock::Timestamp;
use pregon_core::event::Event;
use pregon_core::id::{DeliveryKey, LaneNo, NodeId, ReplayTag};
use pregon_core::outcome::{DeliveryState, EndReason, PendingReason};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::embedded::engine::codec::{self, PENDING, int, uint};
use crate::embedded::engine::fault::Result;
use crate::embedded::engine::rows::{self, Heads};
use crate::embedded::log::attempts::Log;
use crate::embedded::log::events::{self, SCAN};
use crate::embedded::work::runs;
use crate::log::{DeliveryQuery, DeliveryRecord, Page, REPLAYS_NAMED};

mod in_runs;

use in_runs::{Owner, RunOf, Walk};

macro_rules! delivery_columns {
    ($rest:literal) => {
        delivery_columns!("", $rest)
    };
    ($index:literal, $rest:literal) => {
        concat!(
            "SELECT d.n, d.lane, d.replay, d.state, d.attempts, d.due, d.create_ms, d.end_ms,
               d.pending, d.reason, d.batch, batch.node, lane.shut_until, lane.why
             FROM delivery d ",
            $index,
            " LEFT JOIN batch ON batch.b = d.batch LEFT JOIN lane ON lane.lane = d.lane ",
            $rest
        )
    };
}

/// Where a page ends: what comes next is below it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    n: i64,
    lane: i64,
    tag: String,
}

impl Place {
    fn parse(text: Option<&str>) -> Result<Place> {
        let Some(text) = text else {
            return Ok(Place { n: i64::MAX, lane: -1, tag: String::new() });
        };
        let mut parts = text.splitn(3, '.');
        let mut number = || parts.next().and_then(|part| part.parse().ok());
        let (Some(n), Some(lane)) = (number(), number()) else {
            return Err(codec::bad("page place", text));
        };
        Ok(Place { n, lane, tag: parts.next().unwrap_or("").to_owned() })
    }

    fn print(&self) -> String {
        format!("{}.{}.{}", self.n, self.lane, self.tag)
    }
}

/// What is known of a delivery but its event.
struct Known {
    lane: i64,
    tag: String,
    n: i64,
    state: DeliveryState,
    pending_reason: Option<PendingReason>,
    end_reason: Option<EndReason>,
    attempts: u32,
    next_attempt: Option<Timestamp>,
    create_time: Timestamp,
    end_time: Option<Timestamp>,
    node: Option<NodeId>,
    /// Its create time is when its run began.
    in_run: bool,
}

impl Known {
    /// From a row of `delivery_columns`.
    fn read(row: &Row<'_>, now: i64) -> Result<Known> {
        let state: i64 = row.get(3)?;
        let due: i64 = row.get(5)?;
        let held = row.get::<_, Option<i64>>(10)?.is_some();
        let pending = state == PENDING;
        let shut = row.get::<_, Option<i64>>(12)?.is_some_and(|until| until > now);
        let lane: i64 = row.get(1)?;
        let pending_reason = match (pending, held) {
            (false, _) => None,
            _ if lane == 0 => None, // an event, which is no delivery
            (true, true) => Some(PendingReason::InFlight),
            // It would be handed out, were its lane not closed.
            (true, false) if shut && due <= now => Some(codec::pending_of(row.get(13)?)?),
            (true, false) => Some(codec::pending_of(row.get(8)?)?),
        };
        let node: Option<String> = row.get(11)?;
        let reason: Option<i64> = row.get(9)?;
        Ok(Known {
            n: row.get(0)?,
            lane,
            tag: row.get(2)?,
            state: codec::state_of(state)?,
            pending_reason,
            end_reason: reason.map(codec::end_of).transpose()?,
            attempts: codec::uint32(row.get(4)?),
            next_attempt: (pending && !held).then(|| Timestamp::from_millis(due)),
            create_time: Timestamp::from_millis(row.get(6)?),
            end_time: row.get::<_, Option<i64>>(7)?.map(Timestamp::from_millis),
            node: node.filter(|_| pending).and_then(|node| NodeId::parse(&node).ok()),
            in_run: false,
        })
    }

    /// Of an event's delivery in a run.
    fn in_run(db: &Connection, of: &RunOf, n: i64, now: i64) -> Result<Known> {
        let RunOf { run, shut } = of;
        let pending = run.state == PENDING;
        let (waits, leased) = (run.waits(n), pending && !run.waits(n));
        let began = Timestamp::from_millis(run.began);
        let pending_reason = match shut {
            _ if !pending => None,
            _ if leased => Some(PendingReason::InFlight),
            Some((until, why)) if *until > now && run.began <= now => {
                Some(codec::pending_of(*why)?)
            }
            Some(_) | None => Some(codec::pending_of(run.pending)?),
        };
        let node = if leased { runs::node(db, n, run.lane)? } else { None };
        Ok(Known {
            n,
            lane: run.lane,
            tag: String::new(),
            state: codec::state_of(run.state)?,
            pending_reason,
            end_reason: if pending { None } else { Some(codec::end_of(run.reason)?) },
            attempts: 0,
            next_attempt: waits.then_some(began),
            create_time: began,
            end_time: (!pending).then_some(Timestamp::from_millis(run.end_ms)),
            node: node.and_then(|node| NodeId::parse(&node).ok()),
            in_run: true,
        })
    }

    /// From the log of a delivery without a row; none: it has not ended.
    fn from_log(records: &[&AttemptRecord]) -> Option<Known> {
        let first = records.first()?;
        let last = records.iter().rev().find(|record| !record.late && record.end.is_some())?;
        let end = last.end?;
        let took = std::time::Duration::from_micros(u64::from(last.timing.total));
        Some(Known {
            n: int(first.key.position.n),
            lane: codec::lane(first.key.lane),
            tag: codec::tag(&first.key).to_owned(),
            state: end.state,
            pending_reason: None,
            end_reason: end.reason,
            attempts: last.number,
            next_attempt: None,
            create_time: first.start,
            end_time: Some(last.start.plus(took)),
            node: None,
            in_run: false,
        })
    }

    fn place(&self) -> Place {
        Place { n: self.n, lane: self.lane, tag: self.tag.clone() }
    }

    /// Whether a query wants it, as far as that can be told without its event.
    fn suits(&self, query: &DeliveryQuery) -> bool {
        self.lane != 0
            && query.state.is_none_or(|state| state == self.state)
            && query.lane.is_none_or(|lane| codec::lane(lane) == self.lane)
            && query.end_reason.is_none_or(|reason| Some(reason) == self.end_reason)
    }

    fn record(self, db: &Connection, event: &Event) -> Result<DeliveryRecord> {
        let replay = match self.tag.as_str() {
            "" => None,
            tag => Some(read_tag(tag)?),
        };
        let replays = match replay {
            Some(_) => Vec::new(),
            None => replays(db, self.n, self.lane)?,
        };
        let key = DeliveryKey { position: event.position, lane: LaneNo(uint(self.lane)), replay };
        let made = |time: Timestamp| {
            if self.in_run { time.max(event.accept_time()) } else { time }
        };
        Ok(DeliveryRecord {
            key,
            event: event.clone(),
            state: self.state,
            pending_reason: self.pending_reason,
            end_reason: self.end_reason,
            attempts: self.attempts,
            next_attempt: self.next_attempt.map(made),
            create_time: made(self.create_time),
            end_time: self.end_time,
            node: self.node,
            replays,
        })
    }
}

fn read_tag(tag: &str) -> Result<ReplayTag> {
    tag.parse().map_err(|_| codec::bad("replay tag", tag))
}

/// The replays of an event to a lane, the latest first.
fn replays(db: &Connection, n: i64, lane: i64) -> Result<Vec<ReplayTag>> {
    let mut select = db.prepare_cached(
        "SELECT replay FROM delivery WHERE n = ?1 AND lane = ?2 AND replay <> ''
         ORDER BY create_ms DESC, replay LIMIT ?3",
    )?;
    let most = codec::len(REPLAYS_NAMED);
    let tags = select.query_map([n, lane, most], |row| row.get::<_, String>(0))?;
    tags.map(|tag| read_tag(&tag?)).collect()
}

/// One delivery.
pub(in crate::embedded) fn delivery(
    db: &Connection,
    key: &DeliveryKey,
    now: i64,
) -> Result<Option<DeliveryRecord>> {
    if key.lane == LaneNo::EVENTS || !rows::is_kept(db, key.position)? {
        return Ok(None);
    }
    let n = int(key.position.n);
    let Some(event) = rows::event_at(db, n)?.and_then(rows::Found::event) else {
        return Ok(None);
    };
    let sql = delivery_columns!("WHERE d.n = ?1 AND d.lane = ?2 AND d.replay = ?3");
    let mut select = db.prepare_cached(sql)?;
    let known = select
        .query_row(params![n, codec::lane(key.lane), codec::tag(key)], |row| {
            Ok(Known::read(row, now))
        })
        .optional()?
        .transpose()?;
    let in_run = match known {
        None if key.replay.is_none() => RunOf::holding(db, n, codec::lane(key.lane))?,
        Some(_) | None => None,
    };
    let known = match (known, in_run) {
        (Some(known), _) => Some(known),
        (None, Some(run)) => Some(Known::in_run(db, &run, n, now)?),
        (None, None) => {
            let records = crate::embedded::log::attempts::of_delivery(db, key)?;
            Known::from_log(&records.iter().collect::<Vec<_>>())
        }
    };
    known.map(|known| known.record(db, &event)).transpose()
}

/// Deliveries, newest event first.
pub(in crate::embedded) fn deliveries(
    db: &Connection,
    query: &DeliveryQuery,
    from: Option<&str>,
    limit: usize,
    now: i64,
) -> Result<Page<DeliveryRecord>> {
    let tenant = match &query.tenant {
        None => None,
        Some(name) => match events::tenant(db, name.as_str())? {
            Some(t) => Some(t),
            None => return Ok(Page { items: Vec::new(), next: None }),
        },
    };
    let (low, high) = match query.event {
        None => events::numbers(db, query.from, query.to)?,
        Some(position) if rows::is_kept(db, position)? => (int(position.n), int(position.n)),
        Some(_) => return Ok(Page { items: Vec::new(), next: None }),
    };
    let below = Place::parse(from)?.min(Place { n: high + 1, lane: -1, tag: String::new() });
    let mut list = List {
        db,
        query,
        tenant,
        limit: limit.max(1),
        now,
        events: Heads::default(),
        page: Page { items: Vec::new(), next: None },
    };
    let recorded = query.state.is_some_and(|state| state != DeliveryState::Succeeded);
    if recorded && query.event.is_none() && (tenant.is_some() || query.lane.is_some()) {
        list.walk_rows(low, &below)?;
    } else {
        list.walk_events(low, &below)?;
    }
    Ok(list.page)
}

/// A page in the making.
struct List<'a> {
    db: &'a Connection,
    query: &'a DeliveryQuery,
    tenant: Option<i64>,
    limit: usize,
    now: i64,
    events: Heads,
    page: Page<DeliveryRecord>,
}

impl List<'_> {
    /// Adds a delivery if it is wanted; says whether the page is full.
    fn add(&mut self, known: Known) -> Result<bool> {
        if !known.suits(self.query) {
            return Ok(false);
        }
        let Some(event) = self.events.get(self.db, known.n)? else { return Ok(false) };
        let query = self.query;
        let wanted = query.event_type.as_ref().is_none_or(|wanted| *wanted == event.event_type)
            && query.tenant.as_ref().is_none_or(|tenant| *tenant == event.tenant)
            && query.from.is_none_or(|from| event.accept_time() >= from)
            && query.to.is_none_or(|to| event.accept_time() < to);
        if wanted {
            self.page.items.push(known.record(self.db, &event)?);
        }
        Ok(self.page.items.len() >= self.limit)
    }

    /// Walks rows of one state, of a lane or of a tenant.
    fn walk_rows(&mut self, low: i64, below: &Place) -> Result<()> {
        let state = codec::state_code(self.query.state.unwrap_or(DeliveryState::Pending));
        let (mut select, owner) = match self.query.lane {
            Some(lane) => (
                self.db.prepare_cached(delivery_columns!(
                    "INDEXED BY delivery_lane",
                    "WHERE d.lane = ?1 AND d.state = ?2 AND d.state <> 1
                       AND d.n >= ?3 AND (d.n, d.lane, d.replay) < (?4, ?5, ?6)
                     ORDER BY d.n DESC, d.replay DESC LIMIT ?7"
                ))?,
                codec::lane(lane),
            ),
            None => (
                self.db.prepare_cached(delivery_columns!(
                    "INDEXED BY delivery_tenant",
                    "WHERE d.tenant = ?1 AND d.state = ?2
                       AND d.state <> 1 AND d.n >= ?3
                       AND (d.n, d.lane, d.replay) < (?4, ?5, ?6)
                     ORDER BY d.n DESC, d.lane DESC, d.replay DESC LIMIT ?7"
                ))?,
                self.tenant.unwrap_or(0),
            ),
        };
        let mut rows =
            select.query(params![owner, state, low, below.n, below.lane, below.tag, SCAN])?;
        let of = match self.query.lane {
            Some(lane) => Owner::Lane(codec::lane(lane)),
            None => Owner::Tenant(owner),
        };
        let mut runs = Walk::new(of, state, low, below.clone());
        let mut of_row = rows.next()?.map(|row| Known::read(row, self.now)).transpose()?;
        let mut of_run = runs.next(self.db, self.now)?;
        let mut seen = 0;
        loop {
            let row = of_row.as_ref().map(Known::place);
            let known = if row > of_run.as_ref().map(Known::place) {
                let next = rows.next()?.map(|row| Known::read(row, self.now)).transpose()?;
                std::mem::replace(&mut of_row, next)
            } else {
                let next = runs.next(self.db, self.now)?;
                std::mem::replace(&mut of_run, next)
            };
            let Some(known) = known else { return Ok(()) };
            seen += 1;
            let place = known.place();
            if self.add(known)? || seen == SCAN {
                self.page.next = Some(place.print());
                return Ok(());
            }
        }
    }

    /// Walks events, and of each event its rows and what the log tells.
    fn walk_events(&mut self, low: i64, below: &Place) -> Result<()> {
        let mut select = match self.tenant {
            Some(_) => self.db.prepare_cached(
                "SELECT n FROM event WHERE tenant = ?1 AND n >= ?2 AND n <= ?3
                 ORDER BY n DESC LIMIT ?4",
            )?,
            None => self.db.prepare_cached(
                "SELECT n FROM event WHERE n >= ?2 AND n <= ?3 AND ?1 IS NULL
                 ORDER BY n DESC LIMIT ?4",
            )?,
        };
        let mut rows = select.query(params![self.tenant, low, below.n, SCAN])?;
        let mut log = Log::default();
        let mut seen = 0;
        while let Some(row) = rows.next()? {
            seen += 1;
            let n: i64 = row.get(0)?;
            for known in self.of_event(&mut log, n)? {
                let place = known.place();
                if place < *below && self.add(known)? {
                    self.page.next = Some(place.print());
                    return Ok(());
                }
            }
            if seen == SCAN {
                self.page.next = Some(Place { n, lane: -1, tag: String::new() }.print());
            }
        }
        Ok(())
    }

    /// All deliveries of an event, highest lane first.
    fn of_event(&self, log: &mut Log, n: i64) -> Result<Vec<Known>> {
        let mut found: BTreeMap<Reverse<(i64, String)>, Known> = BTreeMap::new();
        let mut select = self.db.prepare_cached(delivery_columns!("WHERE d.n = ?1"))?;
        let mut rows = select.query([n])?;
        while let Some(row) = rows.next()? {
            let known = Known::read(row, self.now)?;
            found.insert(Reverse((known.lane, known.tag.clone())), known);
        }
        for run in RunOf::of_base(self.db, n)?.iter().filter(|run| run.run.has(n)) {
            let known = Known::in_run(self.db, run, n, self.now)?;
            found.insert(Reverse((known.lane, known.tag.clone())), known);
        }
        let records = log.of_event(self.db, n)?;
        let mut told: BTreeMap<DeliveryKey, Vec<&AttemptRecord>> = BTreeMap::new();
        for record in &records {
            told.entry(record.key).or_default().push(record);
        }
        for (key, mut records) in told {
            let place = Reverse((codec::lane(key.lane), codec::tag(&key).to_owned()));
            records.sort_by_key(|record| (record.number, record.start));
            if !found.contains_key(&place)
                && let Some(known) = Known::from_log(&records)
            {
                found.insert(place, known);
            }
        }
        Ok(found.into_values().collect())
    }
}
