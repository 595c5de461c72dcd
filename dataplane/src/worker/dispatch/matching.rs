//! Events whose matching takes its time: they are matched off the loop, and come back as answers.
//!
//! An event waits for its answer within its batch, under the batch's lease, and holds one claim. A
//! tenant may have [`TENANT_MAX`] of them in hand, and all together half of what the node may claim.
//! What is more goes back into the store, for about as long as the thread needs for what waits before
//! it: so a tenant with costly filters holds up its own events, and not the taking of others.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pregon_core::clock::Timestamp;
use pregon_core::id::TenantId;
use pregon_store::batch::OpenEvent;
use pregon_store::settlement::EventOutcome;
use tokio::time::Instant;

use super::intake::{Intake, settle_of};
use super::{Dispatcher, Effect, Item};
use crate::worker::job::Place;
use crate::worker::matcher::{Answer, Question};
use crate::worker::traced;

/// Events of one tenant that may wait for their answers: a batch.
const TENANT_MAX: usize = 256;
/// Shortest and longest time for which an event is put off that is one too many.
const PUT_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// What matching one event is taken to need before it has shown that.
const COST_GUESS: Duration = Duration::from_millis(1);

/// What is matched off the loop.
#[derive(Debug, Default)]
pub(super) struct Queues {
    tenants: HashMap<TenantId, Queue>,
    waiting: usize,
}

#[derive(Debug)]
struct Queue {
    /// Events that wait for their answers.
    waiting: usize,
    /// Events that were put off since the last one was matched, about.
    put_off: u32,
    /// How long matching an event takes, on average.
    cost: Duration,
}

impl Queues {
    /// Lets one more event in, or says for how long it is to be put off.
    fn enter(&mut self, tenant: &TenantId, most: usize) -> Result<(), Duration> {
        let new = || Queue { waiting: 0, put_off: 0, cost: COST_GUESS };
        let queue = self.tenants.entry(tenant.clone()).or_insert_with(new);
        if queue.waiting < TENANT_MAX && self.waiting < most {
            queue.waiting += 1;
            self.waiting += 1;
            return Ok(());
        }
        queue.put_off = queue.put_off.saturating_add(1);
        let before = u32::try_from(queue.waiting).unwrap_or(u32::MAX).saturating_add(queue.put_off);
        Err(queue.cost.saturating_mul(before).clamp(PUT_OFF.0, PUT_OFF.1))
    }

    /// One was matched, and took so long. A tenant of which nothing waits is forgotten.
    fn leave(&mut self, tenant: &TenantId, took: Duration) {
        self.waiting = self.waiting.saturating_sub(1);
        let Some(queue) = self.tenants.get_mut(tenant) else { return };
        queue.waiting = queue.waiting.saturating_sub(1);
        queue.put_off = queue.put_off.saturating_sub(1);
        queue.cost = (queue.cost * 7 + took) / 8;
        if queue.waiting == 0 {
            self.tenants.remove(tenant);
        }
    }
}

impl Dispatcher {
    /// Has an event matched off the loop, or puts it off.
    pub(super) fn match_elsewhere(
        &mut self,
        place: Place,
        open: &OpenEvent,
        intake: Intake<'_>,
    ) -> Item {
        let event = &open.event;
        if let Err(wait) = self.matching.enter(&event.tenant, self.limits.max_claimed / 2) {
            let put_off = settle_of(event, EventOutcome::Postponed(wait));
            return self.event_done(place.token, put_off, Vec::new(), intake.now);
        }
        self.effects.push(Effect::Match(Question {
            place,
            event: Arc::clone(event),
            snapshot: Arc::clone(&self.snapshot),
            cursor: open.cursor,
            held_back: intake.held_back,
            lost_by: intake.lost_by.cloned(),
            asked: intake.now,
        }));
        Item::Matching
    }

    /// An event was matched off the loop. Its lanes are those of the present configuration: one that
    /// went meanwhile wants nothing any more.
    pub(in crate::worker) fn on_matched(&mut self, answer: Answer, now: Instant, wall: Timestamp) {
        let Answer { question, matched, took } = answer;
        let Question { place, event, cursor, held_back, lost_by, asked, .. } = question;
        let ripe = event.scheduled().is_some(); // else it would not be matched
        self.matching.leave(&event.tenant, took);
        let Some(work) = self.work.get(&place.token) else { return };
        if !matches!(work.items.get(place.item), Some(Item::Matching)) {
            return;
        }
        let present = |lane: &crate::snapshot::Lane| {
            let lane = self.snapshot.lane(lane.lane)?;
            lane.state.matches().then(|| Arc::clone(lane))
        };
        let matched = matched.map(|mut matched| {
            matched.lanes = matched.lanes.iter().filter_map(|lane| present(lane)).collect();
            matched
        });
        let count = matched.as_ref().map_or(0, |matched| matched.lanes.len());
        traced::matched(&self.telemetry, &event, place.token, asked, count);
        let open = OpenEvent { event, cursor, ripe };
        let intake = Intake { now, wall, held_back, lost_by: lost_by.as_ref() };
        let item = self.on_lanes(place, &open, matched, intake);
        if let Some(work) = self.work.get_mut(&place.token)
            && let Some(known) = work.items.get_mut(place.item)
        {
            *known = item;
        }
    }
}
