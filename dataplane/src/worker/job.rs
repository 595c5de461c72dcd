//! One attempt to be made, and how it came out.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pregon_core::attempt::AttemptRecord;
use pregon_core::clock::Timestamp;
use pregon_core::contract::{Contract, Rendered};
use pregon_core::event::Event;
use pregon_core::id::DeliveryKey;
use pregon_core::outcome::{Decision, ErrorClass};
use pregon_store::batch::Token;
use tokio::time::Instant;

use super::lane::{Pace, Waits};
use crate::snapshot::Lane;

/// Where a result belongs: an item of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// The batch.
    pub(super) token: Token,
    /// The item within it.
    pub(super) item: usize,
}

/// An attempt to be made.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) place: Place,
    pub(super) key: DeliveryKey,
    pub(super) lane: Arc<Lane>,
    pub(super) event: Arc<Event>,
    /// Number of the attempt, from 1.
    pub(super) number: u32,
    /// When the delivery was created.
    pub(super) create_time: Timestamp,
    /// When it was due, where it came out of its lane in the store.
    pub(super) due: Option<Timestamp>,
    /// The configuration it is made under.
    pub(super) revision: i64,
    /// Between 0 and 1: the jitter of the retry, should there be one.
    pub(super) chance: f64,
    /// What deliveries of one event have in common.
    pub(super) share: Option<Arc<Share>>,
    /// It is under suspicion, and goes out by itself.
    pub(super) alone: bool,
    /// What goes out with it in one request.
    pub(super) company: Vec<Job>,
}

impl Waits for Job {
    fn bytes(&self) -> usize {
        self.event.size()
    }

    fn group(&self) -> u64 {
        let own = (1 << 63) | self.key.position.n;
        if self.alone { own } else { u64::from(self.number) }
    }
}

impl Job {
    /// Bytes that it holds while it is attempted: the events, and a body of each.
    pub(super) fn held(&self) -> usize {
        std::iter::once(self).chain(&self.company).map(|job| 2 * job.bytes()).sum()
    }
}

/// A rendered request that deliveries of one event share, where contract and moment are the same.
#[derive(Debug, Default)]
pub(super) struct Share(Mutex<Option<Shared>>);

#[derive(Debug)]
struct Shared {
    time: Timestamp,
    contract: Arc<Contract>,
    rendered: Arc<Rendered>,
}

impl Share {
    /// What was rendered for this contract in this second, if it was, and for which moment.
    pub(super) fn get(
        &self,
        contract: &Arc<Contract>,
        now: Timestamp,
    ) -> Option<(Timestamp, Arc<Rendered>)> {
        let kept = self.0.lock().ok()?;
        let shared = kept.as_ref()?;
        let fits =
            Arc::ptr_eq(&shared.contract, contract) && shared.time.seconds() == now.seconds();
        fits.then(|| (shared.time, Arc::clone(&shared.rendered)))
    }

    /// Leaves what was rendered to others.
    pub(super) fn put(&self, contract: &Arc<Contract>, time: Timestamp, rendered: &Arc<Rendered>) {
        if let Ok(mut kept) = self.0.lock() {
            let (contract, rendered) = (Arc::clone(contract), Arc::clone(rendered));
            *kept = Some(Shared { time, contract, rendered });
        }
    }
}

/// How an attempt came out.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) job: Job,
    /// When it began, on the monotonic clock.
    pub(super) started: Instant,
    /// When it ended, on the wall clock.
    pub(super) ended: Timestamp,
    pub(super) decision: Decision,
    pub(super) pace: Pace,
    /// For the log; outcome, end and next attempt are filled in when it is settled.
    pub(super) record: Arc<AttemptRecord>,
    /// How long rendering and signing took, in microseconds; 0 where nobody asks.
    pub(super) render: u32,
    /// When it ended, on the monotonic clock.
    pub(super) ended_at: Instant,
    /// How it came out for what went with it, and for what could not be rendered.
    pub(super) company: Vec<Also>,
    /// What found no room in the request.
    pub(super) left: Vec<Job>,
}

/// How an attempt came out for a delivery that went with another.
#[derive(Debug)]
pub(super) struct Also {
    pub(super) job: Job,
    pub(super) decision: Decision,
    pub(super) record: Arc<AttemptRecord>,
}

impl Report {
    /// Bytes that the attempt held: see [`Job::held`].
    pub(super) fn held(&self) -> usize {
        let company = self.company.iter().map(|also| &also.job).chain(&self.left);
        std::iter::once(&self.job).chain(company).map(Job::held).sum()
    }

    /// What the receiver took: from the first byte of the request to the head of the answer; where
    /// there was none, the whole attempt. None where no request was made, or none that reached it for
    /// a fault on this side.
    pub(super) fn receiver_took(&self) -> Option<Duration> {
        if self.record.error_class.is_some_and(ErrorClass::is_ours) {
            return None;
        }
        let timing = &self.record.timing;
        let micros = if timing.first_byte > 0 { timing.first_byte } else { timing.total };
        (micros > 0).then(|| Duration::from_micros(micros.into()))
    }
}
