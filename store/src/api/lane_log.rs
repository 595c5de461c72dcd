//! One subscription's lane, for who asks how it is: what waits in it, and how it went lately.
//!
//! The log has no index by lane: an entry in one for each lane of each settlement would cost the
//! path that every success takes. So recent attempts are found by reading the log backwards from
//! now, at most [`SCAN_RECORDS`] of all lanes' records and [`SCAN_CHUNKS`] chunks, and the answer
//! says how far back that reached. On a store with little traffic that is the whole window; on one
//! with ten thousand attempts a second, the last seconds.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use pregon_core::attempt::AttemptRecord;
use pregon_core::clock::Timestamp;
use pregon_core::id::{DeliveryKey, LaneNo, PartitionNo};
use pregon_core::outcome::PendingReason;

use crate::StoreError;
use crate::batch::TRIAL;

/// Records of all lanes that one look at the log unpacks at most: some 30 ms of work.
pub const SCAN_RECORDS: usize = 20_000;
/// Chunks that one look reads at most: where traffic is light, each holds few records.
pub const SCAN_CHUNKS: usize = 2_000;

/// A lane as it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneReport {
    /// Pending deliveries in the lane.
    pub waiting: u64,
    /// Pending deliveries that nodes hold: they are being attempted, or are about to be. Those of
    /// an event's first second are in its node's memory alone and in no count.
    pub held: u64,
    /// When the first of those that wait is due.
    pub next_due: Option<Timestamp>,
    /// When the oldest event with a waiting delivery was accepted. On Redis, of the 500 that are due
    /// first and the 500 that are due last.
    pub oldest: Option<Timestamp>,
    /// It hands nothing out before this, and why.
    pub closed: Option<(Timestamp, PendingReason)>,
    /// A breaker had it closed until less than [`TRIAL`](crate::batch::TRIAL) ago.
    pub on_trial: bool,
    /// Events that its filter had no answer for.
    pub unanswered: Unanswered,
}

/// Events for which a subscription's filter had no answer, since it was created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unanswered {
    /// How many.
    pub count: u64,
    /// When the last one was settled; none: there was none.
    pub last: Option<Timestamp>,
    /// Why there was no answer for the last one.
    pub reason: String,
}

impl Unanswered {
    /// Adds what another partition has counted.
    fn add(&mut self, other: &Unanswered) {
        self.count += other.count;
        if other.last > self.last {
            self.last = other.last;
            self.reason.clone_from(&other.reason);
        }
    }
}

/// What a lane's receiver was asked lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneAttempts {
    /// Records of the lane, newest first; what was recorded twice is here once.
    pub records: Vec<AttemptRecord>,
    /// Everything recorded at or after this was looked at.
    pub since: Timestamp,
}

/// Lanes, for who asks how they are.
#[async_trait]
pub trait LaneLog: Send + Sync {
    /// A lane as it stands, in all partitions.
    async fn lane(&self, lane: LaneNo) -> Result<LaneReport, StoreError>;

    /// Until when, and why, lanes of a partition hand nothing out; those that do are left out.
    async fn closed(
        &self,
        partition: PartitionNo,
        lanes: &[LaneNo],
    ) -> Result<HashMap<LaneNo, (Timestamp, PendingReason)>, StoreError>;

    /// What is logged of a lane since a moment, `limit` records at most.
    async fn lane_attempts(
        &self,
        lane: LaneNo,
        since: Timestamp,
        limit: usize,
    ) -> Result<LaneAttempts, StoreError>;
}

impl LaneReport {
    /// Adds what another partition has of the lane.
    pub(crate) fn add(&mut self, other: &LaneReport) {
        let earliest = |a: Option<_>, b: Option<_>| a.into_iter().chain(b).min();
        self.waiting += other.waiting;
        self.held += other.held;
        self.next_due = earliest(self.next_due, other.next_due);
        self.oldest = earliest(self.oldest, other.oldest);
        // Partitions close by themselves: where one is open, something goes out.
        self.closed = self.closed.max(other.closed);
        self.on_trial |= other.on_trial;
        self.unanswered.add(&other.unanswered);
    }

    /// Fills in until when, and why, the lane is or was closed, at the moment `now`.
    pub(crate) fn was_closed(&mut self, shut: Option<(Timestamp, PendingReason)>, now: Timestamp) {
        self.closed = shut.filter(|(until, _)| *until > now);
        self.on_trial = shut.is_some_and(|(until, why)| {
            until <= now && why == PendingReason::BreakerOpen && now.since(until) < TRIAL
        });
    }
}

/// Puts together what parts of the log told: all of it since the latest moment that a part did not
/// reach behind.
pub(crate) fn together(
    mut records: Vec<(Timestamp, AttemptRecord)>,
    mut since: Timestamp,
    limit: usize,
) -> LaneAttempts {
    records.retain(|(logged, _)| *logged >= since);
    records.sort_by_key(|(logged, it)| Reverse((*logged, it.start, it.number, it.key)));
    if let Some((last, _)) = records.get(limit.max(1)) {
        // What was logged together stays together.
        since = since.max(last.plus(std::time::Duration::from_millis(1)));
    }
    records.truncate(limit.max(1));
    let mut seen = HashSet::new();
    let identity = |it: &AttemptRecord| -> (DeliveryKey, u32, Timestamp, String) {
        (it.key, it.number, it.start, it.node.to_string())
    };
    let mut records: Vec<_> = records.into_iter().map(|(_, record)| record).collect();
    records.retain(|record| seen.insert(identity(record)));
    records.sort_by_key(|it| Reverse((it.start, it.number, it.key)));
    LaneAttempts { records, since }
}
