//! All lanes of a node, with what they have in common summed up: a turn of the loop costs what
//! changed, however many lanes there are.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use pregon_core::id::LaneNo;
use tokio::time::Instant;

use super::job::Job;
use super::lane::{LaneFlow, Means, Pass};
use crate::snapshot::Lane;

/// Deliveries that may wait in memory, over all lanes.
pub(super) const WAITING_MAX: usize = 32_768;
/// Bytes of their events. An event that waits in several lanes counts once for each.
const WAITING_BYTES: usize = 32 * 1024 * 1024;
/// How long a delivery may wait in memory while three quarters of that are not used up.
const HOLD: Duration = Duration::from_secs(10);

/// The lanes.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    flows: HashMap<LaneNo, Known>,
    /// Lanes in which something waits in memory.
    queued: BTreeSet<LaneNo>,
    /// Lanes of which something is taken to wait in the store and to be due.
    stored: BTreeSet<LaneNo>,
    sum: Share,
}

#[derive(Debug)]
struct Known {
    flow: LaneFlow<Job>,
    /// Its share of the sums.
    share: Share,
}

#[derive(Clone, Copy, Debug, Default)]
struct Share {
    waiting: usize,
    bytes: usize,
    ahead: usize,
}

impl Lanes {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = (LaneNo, &LaneFlow<Job>)> {
        self.flows.iter().map(|(no, known)| (*no, &known.flow))
    }

    /// One of them.
    pub(super) fn get(&self, no: LaneNo) -> Option<&LaneFlow<Job>> {
        self.flows.get(&no).map(|known| &known.flow)
    }

    /// Changes a lane, which is made when it is first met.
    pub(super) fn change<R>(
        &mut self,
        lane: &Lane,
        now: Instant,
        change: impl FnOnce(&mut LaneFlow<Job>) -> R,
    ) -> R {
        let Self { flows, queued, stored, sum } = self;
        let known = flows.entry(lane.lane).or_insert_with(|| {
            let mut flow = LaneFlow::new(lane.max_concurrency, now);
            flow.set_batch(lane.contract.batch());
            Known { flow, share: Share::default() }
        });
        let result = change(&mut known.flow);
        known.count(lane.lane, now, sum, queued, stored);
        result
    }

    /// Changes a lane, if it was met.
    pub(super) fn change_known<R>(
        &mut self,
        no: LaneNo,
        now: Instant,
        change: impl FnOnce(&mut LaneFlow<Job>) -> R,
    ) -> Option<R> {
        let Self { flows, queued, stored, sum } = self;
        let known = flows.get_mut(&no)?;
        let result = change(&mut known.flow);
        known.count(no, now, sum, queued, stored);
        Some(result)
    }

    /// Forgets lanes that have been idle for so long.
    pub(super) fn forget(&mut self, now: Instant, idle: Duration) {
        self.flows.retain(|_, known| {
            let flow = &known.flow;
            !(flow.is_idle(now) && now >= flow.last_progress() + idle)
        });
    }

    /// Lanes in which something waits in memory.
    pub(super) fn queued(&self) -> impl ExactSizeIterator<Item = LaneNo> + '_ {
        self.queued.iter().copied()
    }

    /// Lanes of which something is taken to wait in the store and to be due.
    pub(super) fn stored(&self) -> impl Iterator<Item = (LaneNo, &LaneFlow<Job>)> {
        self.stored.iter().filter_map(|no| Some((*no, self.get(*no)?)))
    }

    /// Deliveries that wait for this node, not for their receivers.
    pub(super) fn ahead(&self) -> usize {
        self.sum.ahead
    }

    /// How long a delivery may wait in memory now: [`HOLD`] until three quarters of the bounds are
    /// used up, then less and less, and no time at the bounds.
    pub(super) fn means(&self, tight: bool, full: bool) -> Means {
        let used = |is: usize, most: usize| is.saturating_mul(1000) / most;
        let used = used(self.sum.waiting, WAITING_MAX).max(used(self.sum.bytes, WAITING_BYTES));
        let left = u32::try_from(1000_usize.saturating_sub(used)).unwrap_or(0);
        let patience = HOLD.min(HOLD * left / 250);
        Means { tight, full, patience, pass: Pass::default() }
    }
}

impl Known {
    fn count(
        &mut self,
        no: LaneNo,
        now: Instant,
        sum: &mut Share,
        queued: &mut BTreeSet<LaneNo>,
        stored: &mut BTreeSet<LaneNo>,
    ) {
        let flow = &self.flow;
        let (waiting, bytes) = (flow.waiting(), flow.waiting_bytes());
        let share = Share { waiting, bytes, ahead: flow.ahead(now) };
        let before = std::mem::replace(&mut self.share, share);
        if (share.waiting > 0) != (before.waiting > 0) {
            set(queued, no, share.waiting > 0);
        }
        let has = flow.stored().len() > 0;
        if has != stored.contains(&no) {
            set(stored, no, has);
        }
        sum.waiting = sum.waiting + share.waiting - before.waiting;
        sum.bytes = sum.bytes + share.bytes - before.bytes;
        sum.ahead = sum.ahead + share.ahead - before.ahead;
    }
}

fn set(lanes: &mut BTreeSet<LaneNo>, no: LaneNo, is_in: bool) {
    if is_in {
        lanes.insert(no);
    } else {
        lanes.remove(&no);
    }
}
