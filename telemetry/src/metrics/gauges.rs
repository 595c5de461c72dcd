//! What is measured now and then.

use std::time::Duration;

use super::{Metrics, label};

/// Classes of age that the store counts by.
const AGES: usize = 6;
/// The words for them.
const AGE_WORDS: [&str; AGES] = ["1m", "10m", "1h", "6h", "1d", "older"];

#[allow(clippy::cast_precision_loss)] // counts and revisions far below 2^53, or good enough
fn float(number: impl TryInto<i64>) -> f64 {
    number.try_into().unwrap_or(i64::MAX) as f64
}

impl Metrics {
    /// How busy a node is.
    pub fn node(&self, in_flight: usize, claimed: usize) {
        self.node_in_flight.record(float(in_flight), &[]);
        self.node_claimed.record(float(claimed), &[]);
    }

    /// Lanes with work in a node: all, and of these those that receivers asked to leave alone, those
    /// whose subscription is paused, those whose breaker is open, those whose breaker recovers, and
    /// those that wait for a rate.
    pub fn lanes(&self, all: usize, [closed, paused, broken, recovering, rated]: [usize; 5]) {
        let open = all.saturating_sub(closed + paused + broken + recovering + rated);
        for (state, count) in [
            ("OPEN", open),
            ("CLOSED", closed),
            ("PAUSED", paused),
            ("BREAKER_OPEN", broken),
            ("RECOVERING", recovering),
            ("RATE_LIMITED", rated),
        ] {
            self.lanes.record(float(count), &[label("state", state)]);
        }
    }

    /// A delivery that was due is attempted this much later.
    pub fn began_after(&self, lag: Duration) {
        self.schedule_lag.record(lag.as_secs_f64(), &[]);
    }

    /// Connections to receivers: all, and those of them that are idle.
    pub fn connections(&self, open: usize, idle: usize) {
        for (state, count) in [("USED", open.saturating_sub(idle)), ("IDLE", idle)] {
            self.egress_connections.record(float(count), &[label("state", state)]);
        }
    }

    /// A write got this revision.
    pub fn wrote(&self, revision: i64) {
        self.configuration_revision.record(float(revision), &[]);
    }

    /// What configuration a process has, and how long it has been behind.
    pub fn configuration(&self, revision: i64, lag: Duration) {
        self.configuration_revision.record(float(revision), &[]);
        self.configuration_lag.record(lag.as_secs_f64(), &[]);
    }

    /// What waits in the store.
    pub fn backlog(&self, events: u64, deliveries: &[u64; AGES], oldest: Duration) {
        self.backlog_events.record(float(events), &[]);
        self.backlog_oldest_age.record(oldest.as_secs_f64(), &[]);
        for (age, count) in AGE_WORDS.iter().zip(deliveries) {
            self.backlog_deliveries.record(float(*count), &[label("age", age)]);
        }
    }
}
