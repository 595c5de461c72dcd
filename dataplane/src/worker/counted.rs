//! What became of events and deliveries, counted from what the store took.
//!
//! A settlement carries up to a thousand results. They are summed up here first, so that a metric
//! costs something once a settlement and not once a result.

use std::collections::BTreeMap;

use pregon_core::attempt::RecordKind;
use pregon_core::outcome::{AttemptOutcome, EndReason, ErrorClass};
use pregon_store::settlement::{DeliverySettle, EventOutcome, Settled, Settlement, Transition};
use pregon_telemetry::metrics::Metrics;

#[derive(Debug, Default)]
struct Sums {
    matched: u64,
    unmatched: u64,
    created: u64,
    succeeded: u64,
    retried: u64,
    filter_errors: u64,
    ended: [u64; EndReason::ALL.len()],
    results: u64,
}

/// A settlement was taken by the store; of batches whose lease was gone nothing moved.
pub(super) fn settled(metrics: &Metrics, settlement: &Settlement, settled: &Settled) {
    let mut sums = Sums::default();
    for batch in settlement.batches.iter().filter(|it| !settled.lost.contains(&it.token)) {
        for event in &batch.events {
            sums.event(&event.outcome);
            sums.filter_errors += event.unanswered() as u64;
        }
        for delivery in &batch.deliveries {
            sums.moved(delivery.to);
        }
    }
    if !settled.lost.is_empty() {
        let late = settlement
            .attempts
            .iter()
            .filter(|(token, record)| record.outcome.is_some() && settled.lost.contains(token));
        metrics.attempts_late.add(late.count() as u64, &[]);
    }
    sums.add_to(metrics);
    attempted(metrics, settlement);
}

/// Attempts are counted whether or not their delivery moved: they were made.
fn attempted(metrics: &Metrics, settlement: &Settlement) {
    let mut sums: BTreeMap<(Option<AttemptOutcome>, Option<ErrorClass>), u64> = BTreeMap::new();
    let records = settlement.attempts.iter().map(|(_, record)| record);
    for record in records.filter(|record| record.kind == RecordKind::Attempt) {
        *sums.entry((record.outcome, record.error_class)).or_default() += 1;
    }
    for ((outcome, class), count) in sums {
        metrics.attempted(outcome, class, count);
    }
}

impl Sums {
    fn event(&mut self, outcome: &EventOutcome) {
        match outcome {
            EventOutcome::Matched(deliveries) => {
                self.matched += 1;
                self.create(deliveries);
            }
            EventOutcome::FannedOut { deliveries, done, .. } => {
                self.matched += u64::from(*done);
                self.create(deliveries);
            }
            EventOutcome::Unmatched | EventOutcome::SetAside => {
                self.unmatched += 1;
                self.results += 1;
            }
            EventOutcome::Postponed(_) | EventOutcome::Scheduled(_) => self.results += 1,
        }
    }

    fn create(&mut self, deliveries: &[DeliverySettle]) {
        self.created += deliveries.len() as u64;
        for delivery in deliveries {
            self.moved(delivery.to);
        }
    }

    fn moved(&mut self, to: Transition) {
        self.results += 1;
        match to {
            Transition::Succeeded => self.succeeded += 1,
            Transition::Failed(reason) | Transition::Cancelled(reason) => {
                self.ended[reason as usize] += 1;
            }
            Transition::Retry(_) => self.retried += 1,
            Transition::Waiting(_) | Transition::Later(..) | Transition::Held => {}
        }
    }

    fn add_to(&self, metrics: &Metrics) {
        for (counter, sum) in [
            (&metrics.events_matched, self.matched),
            (&metrics.events_unmatched, self.unmatched),
            (&metrics.deliveries_created, self.created),
            (&metrics.deliveries_succeeded, self.succeeded),
            (&metrics.deliveries_retried, self.retried),
            (&metrics.filter_errors, self.filter_errors),
        ] {
            if sum > 0 {
                counter.add(sum, &[]);
            }
        }
        for (reason, sum) in EndReason::ALL.iter().zip(self.ended).filter(|(_, sum)| *sum > 0) {
            metrics.ended(*reason, sum);
        }
        metrics.settled(self.results);
    }
}
