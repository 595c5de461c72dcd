//! Configuration changes: what they mean for lanes with work here or in the store.

use std::collections::VecDeque;
use std::sync::Arc;

use pregon_core::clock::Timestamp;
use pregon_core::id::LaneNo;
use pregon_core::model::SubscriptionState;
use pregon_core::outcome::{DeliveryState, EndReason, PendingReason};
use pregon_store::batch::LaneClose;
use pregon_store::settlement::Transition;
use tokio::time::Instant;

use super::{Dispatcher, Effect, PAUSE_PROBE};
use crate::snapshot::{Lane, LaneChange, Snapshot};
use crate::worker::job::Job;
use crate::worker::lane::LaneFlow;

impl Dispatcher {
    /// Serves another snapshot from now on.
    pub(in crate::worker) fn on_snapshot(
        &mut self,
        snapshot: &Arc<Snapshot>,
        now: Instant,
        wall: Timestamp,
    ) {
        let before = std::mem::replace(&mut self.snapshot, Arc::clone(snapshot));
        for change in snapshot.lane_changes(&before) {
            match change {
                LaneChange::Added(_) => {}
                LaneChange::Removed(lane) => {
                    self.rates.change(lane.lane);
                    let reason = match snapshot.tenant(&lane.name.tenant) {
                        Some(_) => EndReason::SubscriptionDeleted,
                        None => EndReason::TenantDeleted,
                    };
                    self.call_off(lane.lane, reason, now, wall);
                }
                LaneChange::Changed { before, after } => self.on_lane(&before, &after, now, wall),
            }
        }
    }

    fn on_lane(&mut self, before: &Lane, after: &Arc<Lane>, now: Instant, wall: Timestamp) {
        self.lanes.change_known(after.lane, now, |flow| {
            flow.set_cap(after.max_concurrency);
            flow.set_batch(after.contract.batch());
        });
        self.rates.change(after.lane);
        if after.state == SubscriptionState::Disabled {
            if before.state != SubscriptionState::Disabled {
                self.call_off(after.lane, EndReason::SubscriptionDisabled, now, wall);
            }
        } else if after.holds() && !before.holds() {
            for job in self.waiting_of(after.lane, now) {
                self.put_back(&job, PendingReason::Paused, now);
            }
            self.effects.push(Effect::CloseLane(LaneClose {
                lane: after.lane,
                wait: PAUSE_PROBE,
                reason: PendingReason::Paused,
            }));
        } else if !after.holds()
            && (before.holds()
                || before.state == SubscriptionState::Disabled
                || before.url.as_str() != after.url.as_str()
                || before.opened != after.opened)
        {
            // An operator's word is later than the receiver's, and a new URL is another receiver.
            self.lanes.change_known(after.lane, now, |flow| flow.open(now));
            self.ledger.not_closed(after.lane);
            // One that was paused before it was disabled is still closed in the store. Opening it
            // rings, so that what waits in it is looked at.
            self.effects.push(Effect::OpenLane(after.lane));
        }
        // What waited for a rate may go sooner, or has to wait at another one.
        self.start_queued(after.lane, now);
    }

    /// Ends what waits of a lane, here and in the store; what is in flight ends with its attempt.
    fn call_off(&mut self, lane: LaneNo, reason: EndReason, now: Instant, wall: Timestamp) {
        for job in self.waiting_of(lane, now) {
            let to = Transition::Cancelled(reason);
            let record = self.end_record(job.key, &job.event, job.number, to, wall);
            let moved = self.moved(job.key, &job.event, job.number - 1, to);
            self.on_moved(job.place, moved, vec![record], now);
        }
        if reason == EndReason::SubscriptionDisabled {
            self.end_lane_so_far(lane, reason);
        } else {
            self.end_lane(lane, DeliveryState::Cancelled, reason);
        }
    }

    fn waiting_of(&mut self, lane: LaneNo, now: Instant) -> VecDeque<Job> {
        self.lanes.change_known(lane, now, LaneFlow::take_queue).unwrap_or_default()
    }
}
