//! Following what happens to deliveries, as it happens and across processes.
//!
//! Who watches reads the attempts' log from where it stood. The log tells of every attempt, of
//! attempts that were lost with their lease, and of ends that nodes brought about without one. Ends
//! that come from elsewhere (a cancel, a lane that is ended, a lane with no room) are told in *end*
//! entries beside it, of which each partition keeps [`ENDS_KEPT`]. So whatever ends a delivery is
//! seen. What is not logged is not seen: a delivery that was made and merely waits shows with its
//! first attempt or its end.
//!
//! A [`Place`] says where a watcher stands, for each partition. Entries of one delivery lie in one
//! partition and are told in their order. An entry is one settlement's attempts, up to 256 of them;
//! nobody counts or keeps anything for watchers, so that they cost nothing while there are none.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use pregon_core::attempt::{AttemptRecord, End, RecordKind};
use pregon_core::clock::Timestamp;
use pregon_core::event::Environment;
use pregon_core::event::Event;
use pregon_core::id::{DeliveryKey, LaneNo, PartitionNo, ReplayTag, TenantId};
use pregon_core::outcome::{AttemptOutcome, DeliveryState, ErrorClass, PendingReason};

use crate::StoreError;
use crate::log::DeliveryRecord;

/// End entries that a partition keeps: of 200 deliveries each they make 20 MB at most.
pub const ENDS_KEPT: usize = 2000;
/// Entries that one read looks at, at most: of 256 attempts each, with what is kept of their
/// responses, some MB while they are read.
pub const STRETCH: usize = 16;
/// Events that are read at once to name deliveries; each is let go of but for its head.
pub(crate) const EVENTS_AT_ONCE: usize = 16;
/// How often an engine without a bell of its own looks whether there is more to read.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

/// Streams of entries in a partition: smooth attempts, trouble, ends.
pub(crate) const STREAMS: usize = 3;

/// Where a watcher stands: behind which entry of each stream of each partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Names the store's life: a place in another is none in this one.
    pub(crate) epoch: u64,
    pub(crate) partitions: Vec<[u64; STREAMS]>,
}

impl Place {
    /// Partitions in it, numbered from 0.
    pub fn partitions(&self) -> PartitionNo {
        PartitionNo::try_from(self.partitions.len()).unwrap_or(PartitionNo::MAX)
    }

    /// Entries between this place and a later one; none: it is no place of the same history.
    pub fn behind(&self, tip: &Place) -> Option<u64> {
        if self.epoch != tip.epoch || self.partitions.len() != tip.partitions.len() {
            return None;
        }
        let pairs = self.partitions.iter().flatten().zip(tip.partitions.iter().flatten());
        pairs.map(|(own, last)| last.checked_sub(*own)).sum()
    }

    /// Whether a partition has entries between this place and a later one.
    pub fn lags_in(&self, partition: PartitionNo, tip: &Place) -> bool {
        let i = usize::from(partition);
        self.partitions.get(i) != tip.partitions.get(i)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.epoch)?;
        for [smooth, trouble, ends] in &self.partitions {
            write!(f, ",{smooth:x}.{trouble:x}.{ends:x}")?;
        }
        Ok(())
    }
}

/// A text that is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a place in the log")]
pub struct NoPlace;

impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let number = |text: &str| u64::from_str_radix(text, 16).map_err(|_| NoPlace);
        let mut parts = text.split(',');
        let epoch = number(parts.next().ok_or(NoPlace)?)?;
        let partition = |text: &str| {
            let numbers = text.split('.').map(number).collect::<Result<Vec<_>, _>>()?;
            numbers.try_into().map_err(|_| NoPlace)
        };
        Ok(Self { epoch, partitions: parts.map(partition).collect::<Result<_, _>>()? })
    }
}

/// What a watcher wants to see.
#[derive(Clone, Debug, Default)]
pub struct WatchQuery {
    /// Only this tenant's; none: all.
    pub tenant: Option<TenantId>,
    /// Only of this lane.
    pub lane: Option<LaneNo>,
    /// Only what led into one of these states; empty: everything.
    pub states: Vec<DeliveryState>,
    /// Attempts as well as the deliveries that they moved.
    pub attempts: bool,
}

/// What a watcher sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// An attempt, or the end of its lease.
    Attempt(Box<AttemptRecord>),
    /// Where a delivery came to stand; its event has no data.
    Delivery(Box<DeliveryRecord>),
}

impl Seen {
    /// The environment of its event.
    pub fn environment(&self) -> Environment {
        match self {
            Seen::Attempt(record) => record.environment,
            Seen::Delivery(record) => record.event.environment,
        }
    }

    /// The delivery that it is about.
    pub fn key(&self) -> DeliveryKey {
        match self {
            Seen::Attempt(record) => record.key,
            Seen::Delivery(record) => record.key,
        }
    }
}

/// What one read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stretch {
    /// What was wanted, in order, and the place behind all that was looked at.
    Read {
        /// What was wanted; may be empty.
        seen: Vec<Seen>,
        /// Where to go on.
        place: Place,
    },
    /// The log does not reach back that far, or the place is in another history.
    Gap,
}

/// Following what happens to deliveries.
#[async_trait]
pub trait DeliveryWatch: Send + Sync {
    /// Where the log ends now.
    async fn tip(&self) -> Result<Place, StoreError>;

    /// Reads on in one partition: from `from` towards `to`, [`STRETCH`] entries at most. `to` is a
    /// tip that was read after `from`.
    async fn read_on(
        &self,
        query: &WatchQuery,
        from: &Place,
        to: &Place,
        partition: PartitionNo,
    ) -> Result<Stretch, StoreError>;

    /// Returns when there may be something behind a place, or after `at_most`.
    async fn wait_past(&self, place: &Place, at_most: Duration);
}

/// An end that no attempt tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub n: u64,
    pub lane: LaneNo,
    pub replay: Option<ReplayTag>,
    pub tenant: TenantId,
    pub end: End,
    pub attempts: u32,
    pub create_ms: i64,
}

/// An entry as an engine read it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// When it was written.
    pub ms: i64,
    pub content: Content,
}

/// What it tells.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Attempts(Vec<AttemptRecord>),
    Ends(Vec<Ended>),
}

/// A wanted thing whose event is still to be read.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    Attempt(Box<AttemptRecord>),
    Moved(Box<Move>),
}

/// Where a delivery came to stand.
#[derive(Clone, Debug)]
pub(crate) struct Move {
    pub n: u64,
    pub lane: LaneNo,
    pub replay: Option<ReplayTag>,
    pub state: DeliveryState,
    pub end: Option<End>,
    pub attempts: u32,
    pub next_attempt: Option<Timestamp>,
    /// None: as its record says, else the attempt's start.
    pub create_time: Option<Timestamp>,
    pub at: Timestamp,
    pub started: Timestamp,
}

impl Move {
    /// The delivery, once its event is known. `recorded` is when its record says that it was made.
    pub fn record(self, event: &Event, recorded: Option<Timestamp>) -> DeliveryRecord {
        let pending = self.state == DeliveryState::Pending;
        DeliveryRecord {
            key: DeliveryKey { position: event.position, lane: self.lane, replay: self.replay },
            event: event.clone(),
            state: self.state,
            pending_reason: pending.then_some(PendingReason::RetryScheduled),
            end_reason: self.end.and_then(|end| end.reason),
            attempts: self.attempts,
            next_attempt: self.next_attempt,
            create_time: self
                .create_time
                .map(|time| time.max(event.accept_time())) // of a run: when that began
                .or(recorded)
                .unwrap_or(self.started),
            end_time: (!pending).then_some(self.at),
            node: None,
            replays: Vec::new(),
        }
    }
}

/// What of some entries, in their order, a watcher wants.
pub(crate) fn wanted(query: &WatchQuery, entries: Vec<Entry>) -> Vec<Wanted> {
    // Where a delivery was cancelled during its attempt, the settlement wrote the attempt first and the
    // real end behind it, in the same moment: that one counts.
    let unlogged: HashSet<_> = entries.iter().flat_map(unlogged).collect();
    let mut found = Vec::new();
    for Entry { ms, content } in entries {
        match content {
            Content::Attempts(records) => {
                for record in records.into_iter().filter(|record| suits(query, record)) {
                    let moved = moved(&record)
                        .filter(|it| !unlogged.contains(&(ms, it.n, it.lane, it.replay)));
                    let state = moved.as_ref().map(|moved| moved.state);
                    if !in_states(query, state) {
                        continue;
                    }
                    if query.attempts {
                        found.push(Wanted::Attempt(Box::new(record)));
                    }
                    found.extend(moved.map(|moved| Wanted::Moved(Box::new(moved))));
                }
            }
            Content::Ends(ends) => found.extend(
                ends.into_iter()
                    .filter(|it| query.tenant.as_ref().is_none_or(|own| *own == it.tenant))
                    .filter(|it| query.lane.is_none_or(|lane| lane == it.lane))
                    .filter(|it| in_states(query, Some(it.end.state)))
                    .map(|it| Wanted::Moved(Box::new(ended(&it, ms)))),
            ),
        }
    }
    found
}

fn unlogged(entry: &Entry) -> Vec<(i64, u64, LaneNo, Option<ReplayTag>)> {
    match &entry.content {
        Content::Attempts(_) => Vec::new(),
        Content::Ends(ends) => ends.iter().map(|it| (entry.ms, it.n, it.lane, it.replay)).collect(),
    }
}

fn suits(query: &WatchQuery, record: &AttemptRecord) -> bool {
    query.tenant.as_ref().is_none_or(|tenant| *tenant == record.tenant)
        && query.lane.is_none_or(|lane| lane == record.key.lane)
}

/// What moved nothing has led into no state.
fn in_states(query: &WatchQuery, state: Option<DeliveryState>) -> bool {
    query.states.is_empty() || state.is_some_and(|state| query.states.contains(&state))
}

/// Where a record says that its delivery came to stand. What is late was not settled, and of a
/// lost attempt nobody knows.
fn moved(record: &AttemptRecord) -> Option<Move> {
    let retried = record.outcome == Some(AttemptOutcome::Retry);
    if record.late || record.kind == RecordKind::Lost || (record.end.is_none() && !retried) {
        return None;
    }
    let took = Duration::from_micros(u64::from(record.timing.total));
    let counts =
        record.kind == RecordKind::Attempt && !record.error_class.is_some_and(ErrorClass::is_ours);
    Some(Move {
        n: record.key.position.n,
        lane: record.key.lane,
        replay: record.key.replay,
        state: record.end.map_or(DeliveryState::Pending, |end| end.state),
        end: record.end,
        attempts: if counts { record.number } else { record.number.saturating_sub(1) },
        next_attempt: record.next_attempt,
        create_time: None,
        at: record.start.plus(took),
        started: record.start,
    })
}

fn ended(it: &Ended, ms: i64) -> Move {
    let at = Timestamp::from_millis(ms);
    Move {
        n: it.n,
        lane: it.lane,
        replay: it.replay,
        state: it.end.state,
        end: Some(it.end),
        attempts: it.attempts,
        next_attempt: None,
        create_time: Some(Timestamp::from_millis(it.create_ms)),
        at,
        started: at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back_from_their_text() {
        let place = Place { epoch: u64::MAX, partitions: vec![[0, 1, 2], [u64::MAX, 17, 0]] };
        assert_eq!(place.to_string().parse(), Ok(place));
        for text in ["", "x", "1,2", "1,2.3", "1,2.3.4.5", "1,2.3.", "1,,"] {
            assert_eq!(text.parse::<Place>(), Err(NoPlace), "{text}");
        }
    }

    #[test]
    fn a_place_is_behind_a_later_one_of_its_history_alone() {
        let at = |numbers: &[[u64; 3]]| Place { epoch: 1, partitions: numbers.to_vec() };
        let (place, tip) = (at(&[[1, 2, 3], [0, 0, 0]]), at(&[[1, 5, 3], [0, 7, 1]]));
        assert_eq!(place.behind(&tip), Some(11));
        assert_eq!(tip.behind(&tip), Some(0));
        assert_eq!(tip.behind(&place), None, "the store was set back");
        assert_eq!(place.behind(&at(&[[1, 2, 3]])), None, "other partitions");
        assert_eq!(place.behind(&Place { epoch: 2, ..tip.clone() }), None);
        assert!(place.lags_in(1, &tip) && !tip.lags_in(1, &tip));
    }
}
