//! What a load generator has counted.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use pregon_proto::v1::{Durability, PublishResponse};
use serde::{Deserialize, Serialize};

use super::LoadArgs;
use super::source::Work;
use crate::clock::Moment;
use crate::histogram::{Histogram, Summary};

/// The counts of a run, shared by its callers.
#[derive(Debug, Default)]
pub struct Tally {
    acked: AtomicU64,
    duplicates: AtomicU64,
    retries: AtomicU64,
    last: AtomicU64,
    durability: AtomicI32,
    latency: Histogram,
    late: Histogram,
    errors: Mutex<BTreeMap<String, u64>>,
}

/// How a run of the load generator went.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LoadReport {
    /// The phase that the events were stamped with.
    pub phase: u64,
    /// Events that the server acknowledged.
    pub acked: u64,
    /// Those among them that it already had, from a publish whose answer was lost.
    pub duplicates: u64,
    /// Times that an event was published again.
    pub retries: u64,
    /// Events that were given up, by the name of the last status.
    pub errors: BTreeMap<String, u64>,
    /// The durability that the server promised: `memory`, `fsync` or `replicated`.
    pub durability: String,
    /// When the run began.
    pub start: Moment,
    /// When the last acknowledgement came.
    pub end: Moment,
    /// Acknowledgements per second between the two.
    pub acks_per_second: f64,
    /// From the moment an event was due to its acknowledgement.
    pub ack_latency: Summary,
    /// From the moment an event was due to the moment it was first sent: of the generator itself.
    pub late: Summary,
    /// Seconds of CPU that the generator took.
    pub cpu_seconds: f64,
}

impl Tally {
    /// An event is about to be sent.
    pub fn sent(&self, work: &Work) {
        if work.tries == 0 {
            self.late.record(Moment::now().since(work.due));
        } else {
            self.retries.fetch_add(1, Relaxed);
        }
    }

    /// An event was acknowledged.
    pub fn acked(&self, work: &Work, answer: &PublishResponse, now: Moment) {
        self.latency.record(now.since(work.due));
        self.acked.fetch_add(1, Relaxed);
        if answer.duplicate {
            self.duplicates.fetch_add(1, Relaxed);
        }
        self.durability.store(answer.durability, Relaxed);
        self.last.fetch_max(now.0, Relaxed);
    }

    /// An event was given up.
    pub fn failed(&self, status: &tonic::Status) {
        let mut errors = self.errors.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Few different ones: a code with the message's first words names the cause.
        let text: String = status.message().chars().take(80).collect();
        *errors.entry(format!("{:?}: {text}", status.code())).or_default() += 1;
    }

    /// The counts as a report.
    pub fn report(&self, args: &LoadArgs, start: Moment, cpu: Duration) -> LoadReport {
        let acked = self.acked.load(Relaxed);
        let end = Moment(self.last.load(Relaxed)).max(start);
        let durability = match Durability::try_from(self.durability.load(Relaxed)) {
            Ok(Durability::Memory) => "memory",
            Ok(Durability::Fsync) => "fsync",
            Ok(Durability::Replicated) => "replicated",
            Ok(Durability::Unspecified) | Err(_) => "unknown",
        };
        LoadReport {
            phase: args.phase,
            acked,
            duplicates: self.duplicates.load(Relaxed),
            retries: self.retries.load(Relaxed),
            errors: self.errors.lock().map(|errors| errors.clone()).unwrap_or_default(),
            durability: durability.to_owned(),
            start,
            end,
            acks_per_second: crate::per_second(acked, end.since(start)),
            ack_latency: self.latency.summary(),
            late: self.late.summary(),
            cpu_seconds: cpu.as_secs_f64(),
        }
    }
}
