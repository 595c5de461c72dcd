//! Every metric that Pregón has, in one table.
//!
//! The table is the golden file `tests/golden/metrics.txt` in code: name, kind, unit, labels, help.
//! Units are UCUM's, and in the names only where Prometheus puts them. Labels are words of closed
//! vocabularies: never a tenant, a URL or an id, so the number of series is bounded by the code.
//!
//! Counters of events and deliveries are fed from what the store took (by the data plane), so they
//! agree with its books. A repeat after a crash counts again only where it happened again.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter};
use pregon_core::error::Reason;
use pregon_core::event::Environment;
use pregon_core::outcome::{AttemptOutcome, DeliveryState, EndReason, ErrorClass};
use pregon_core::words;

mod gauges;
mod observed;
#[cfg(test)]
mod tests;

pub(crate) use observed::observe;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name; Prometheus writes it with underscores, its unit and, if it is a counter, `_total`.
    pub name: &'static str,
    /// `counter`, `histogram` or `gauge`.
    pub kind: &'static str,
    /// Its unit: `s`, `By`, or what is counted in braces.
    pub unit: &'static str,
    /// The keys of its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

/// Bounds of latencies, in seconds: from a quarter of a millisecond, where fast receivers are, to
/// the longest timeouts; then to the hours and days that retries take.
const SECONDS: [f64; 18] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
    60.0, 600.0, 7_200.0, 86_400.0,
];
/// Bounds of sizes of batches.
const SIZES: [f64; 9] = [0.0, 1.0, 4.0, 16.0, 64.0, 128.0, 256.0, 512.0, 1_024.0];

macro_rules! metrics {
    ($(
        $(#[$doc:meta])*
        $field:ident: $kind:ident $name:literal $unit:literal [$($label:literal),*] $help:literal;
    )+) => {
        /// Every metric. Cheap to feed, whether anybody exports them or not.
        #[derive(Debug)]
        pub struct Metrics { $( #[doc = $help] pub $field: metrics!(@type $kind), )+ }

        impl Metrics {
            /// Registers them all with a meter.
            pub(crate) fn new(meter: &Meter) -> Self {
                Self { $( $field: metrics!(@make $kind, meter, $name, $unit, $help), )+ }
            }
        }

        /// Those that are fed from the code; see [`catalogue`].
        const FED: &[Entry] = &[$( Entry {
            name: $name,
            kind: metrics!(@kind $kind),
            unit: $unit,
            labels: &[$($label),*],
            help: $help,
        }, )+];
    };
    (@type counter) => { Counter<u64> };
    (@type seconds) => { Histogram<f64> };
    (@type sizes) => { Histogram<f64> };
    (@type gauge) => { Gauge<f64> };
    (@kind counter) => { "counter" };
    (@kind seconds) => { "histogram" };
    (@kind sizes) => { "histogram" };
    (@kind gauge) => { "gauge" };
    (@make counter, $meter:ident, $name:literal, $unit:literal, $help:literal) => {
        $meter.u64_counter($name).with_unit($unit).with_description($help).build()
    };
    (@make gauge, $meter:ident, $name:literal, $unit:literal, $help:literal) => {
        $meter.f64_gauge($name).with_unit($unit).with_description($help).build()
    };
    (@make seconds, $meter:ident, $name:literal, $unit:literal, $help:literal) => {
        metrics!(@histogram SECONDS, $meter, $name, $unit, $help)
    };
    (@make sizes, $meter:ident, $name:literal, $unit:literal, $help:literal) => {
        metrics!(@histogram SIZES, $meter, $name, $unit, $help)
    };
    (@histogram $bounds:ident, $meter:ident, $name:literal, $unit:literal, $help:literal) => {
        $meter
            .f64_histogram($name)
            .with_unit($unit)
            .with_description($help)
            .with_boundaries($bounds.to_vec())
            .build()
    };
}

metrics! {
    attempt_duration: seconds "pregon.attempt.duration" "s" ["outcome"]
        "How long an attempt took, from its lookup to the body's last byte.";
    attempts: counter "pregon.attempts" "{attempt}" ["outcome", "error_class"]
        "Attempts that ended.";
    attempts_late: counter "pregon.attempts.late" "{attempt}" []
        "Attempts whose lease was gone when they ended: another node repeats them.";
    backlog_deliveries: gauge "pregon.backlog.deliveries" "{delivery}" ["age"]
        "Deliveries pending in the store, by the age of their event.";
    backlog_events: gauge "pregon.backlog.events" "{event}" []
        "Events accepted and not matched yet.";
    backlog_oldest_age: gauge "pregon.backlog.oldest.age" "s" []
        "Age of the oldest event that still has work to do.";
    breaker_changes: counter "pregon.breaker.changes" "{change}" ["state"]
        "Changes of subscriptions' breakers, by what they changed to.";
    build_info: gauge "pregon.build.info" "{build}" ["version"]
        "Always 1; says which release runs.";
    check_duration: seconds "pregon.check.duration" "s" []
        "How long asking a callback took, its answer included.";
    checks: counter "pregon.checks" "{check}" ["decision", "why"]
        "Callbacks asked, by what was decided and why.";
    claim_size: sizes "pregon.claim.size" "{item}" ["kind"]
        "Events or deliveries that one claim leased.";
    documents_refused: counter "pregon.configuration.documents.refused" "{document}" []
        "Configuration documents that this node could not use.";
    configuration_lag: gauge "pregon.configuration.lag" "s" []
        "How long this node has been serving less than the latest revision.";
    configuration_revision: gauge "pregon.configuration.revision" "{revision}" []
        "The revision that this process serves or last wrote.";
    deliveries_cancelled: counter "pregon.deliveries.cancelled" "{delivery}" ["reason"]
        "Deliveries called off.";
    deliveries_created: counter "pregon.deliveries.created" "{delivery}" []
        "Deliveries made of events.";
    deliveries_failed: counter "pregon.deliveries.failed" "{delivery}" ["reason"]
        "Deliveries given up.";
    deliveries_retried: counter "pregon.deliveries.retried" "{delivery}" []
        "Times that a delivery was put off to be tried again.";
    deliveries_succeeded: counter "pregon.deliveries.succeeded" "{delivery}" []
        "Deliveries acknowledged.";
    first_attempt_latency: seconds "pregon.delivery.first_attempt.latency" "s" []
        "From accepting an event, or its `deliver_time` where that is later, to the beginning of a delivery's first attempt.";
    delivery_latency: seconds "pregon.delivery.latency" "s" []
        "From accepting an event, or its `deliver_time` where that is later, to the acknowledgement of a delivery.";
    egress_connections: gauge "pregon.egress.connections" "{connection}" ["state"]
        "Connections to receivers.";
    egress_denied: counter "pregon.egress.denied" "{attempt}" []
        "Attempts that the egress policy refused.";
    events_accepted: counter "pregon.events.accepted" "{event}" ["environment"]
        "Events accepted.";
    events_duplicates: counter "pregon.events.duplicates" "{event}" []
        "Publishes of an event that had been accepted before.";
    events_matched: counter "pregon.events.matched" "{event}" []
        "Events that at least one subscription wanted.";
    events_refused: counter "pregon.events.refused" "{event}" ["reason"]
        "Events refused at publish.";
    events_unmatched: counter "pregon.events.unmatched" "{event}" []
        "Events that no subscription wanted.";
    filter_errors: counter "pregon.filter.errors" "{error}" []
        "Filters that had no answer for an event, which counts as no.";
    lanes: gauge "pregon.lanes" "{lane}" ["state"]
        "Lanes with work in this node, by state.";
    leases_lost: counter "pregon.leases.lost" "{lease}" []
        "Leases that this node lost.";
    leases_taken_over: counter "pregon.leases.taken_over" "{lease}" []
        "Leases of others that ran out and that this node took over.";
    node_claimed: gauge "pregon.node.claimed" "{item}" []
        "Events and deliveries under this node's leases.";
    node_in_flight: gauge "pregon.node.in_flight" "{attempt}" []
        "Attempts under way.";
    schedule_lag: seconds "pregon.schedule.lag" "s" []
        "How long after its due moment an attempt began.";
    settle_size: sizes "pregon.settle.size" "{item}" []
        "Results that one settlement carried.";
    store_call_duration: seconds "pregon.store.call.duration" "s" ["operation"]
        "How long a call of the store took.";
    store_errors: counter "pregon.store.errors" "{call}" ["operation", "error"]
        "Calls of the store that failed.";
    subscriptions_disabled: counter "pregon.subscriptions.disabled" "{subscription}" []
        "Subscriptions that nodes disabled: their receivers are gone, or only failed.";
    subscriptions_warned: counter "pregon.subscriptions.warned" "{subscription}" []
        "Subscriptions that are about to be disabled, since their receivers only fail.";
    test_sends: counter "pregon.test_sends" "{attempt}" ["outcome"]
        "Test sends made.";
    verifications: counter "pregon.verifications" "{verification}" ["outcome", "error_class"]
        "Receivers asked for their verification.";
    rpc_duration: seconds "rpc.server.call.duration" "s" ["rpc.method", "rpc.response.status_code"]
        "How long calls of the API took.";
}

/// All metrics, by name.
pub fn catalogue() -> Vec<Entry> {
    let mut all = [FED, observed::READ].concat();
    all.sort_by_key(|entry| entry.name);
    all
}

/// A label.
pub(crate) fn label(key: &'static str, word: &'static str) -> KeyValue {
    KeyValue::new(key, word)
}

words! {
    /// How a batch came to a node.
    ClaimKind {
        /// New events.
        Take = "TAKE",
        /// Due deliveries.
        Due = "DUE",
        /// A lease of another node's that ran out.
        TakeOver = "TAKE_OVER",
    }
}

words! {
    /// What a breaker changed to.
    BreakerChange {
        /// Nothing goes out but probes.
        Opened = "OPENED",
        /// Attempts go out at a rate.
        Recovering = "RECOVERING",
        /// Nothing is limited.
        Closed = "CLOSED",
    }
}

/// What a call of the API is counted under.
#[derive(Clone, Copy, Debug)]
pub struct CallLabels<'a> {
    /// The path of a method that a descriptor has; none: of no such method.
    pub method: Option<&'a Arc<str>>,
    /// How it ended, in gRPC's words.
    pub status: &'static str,
}

impl Metrics {
    /// A settlement was taken.
    pub fn settled(&self, results: u64) {
        #[allow(clippy::cast_precision_loss)] // some thousand at most
        self.settle_size.record(results as f64, &[]);
    }

    /// Attempts ended like this.
    pub fn attempted(
        &self,
        outcome: Option<AttemptOutcome>,
        class: Option<ErrorClass>,
        count: u64,
    ) {
        let outcome = label("outcome", outcome.map_or("NONE", AttemptOutcome::word));
        let labels = [outcome, label("error_class", class.map_or("NONE", ErrorClass::word))];
        self.attempts.add(count, &labels);
        if class == Some(ErrorClass::Denied) {
            self.egress_denied.add(count, &[]);
        }
    }

    /// Deliveries ended without success.
    pub fn ended(&self, reason: EndReason, count: u64) {
        let counter = match reason.state() {
            DeliveryState::Cancelled => &self.deliveries_cancelled,
            DeliveryState::Failed | DeliveryState::Pending | DeliveryState::Succeeded => {
                &self.deliveries_failed
            }
        };
        counter.add(count, &[label("reason", reason.word())]);
    }

    /// A call of the store took this long.
    pub fn store_call(&self, operation: &'static str, took: Duration) {
        self.store_call_duration.record(took.as_secs_f64(), &[label("operation", operation)]);
    }

    /// A call of the store failed.
    pub fn store_error(&self, operation: &'static str, error: &'static str) {
        self.store_errors.add(1, &[label("operation", operation), label("error", error)]);
    }

    /// A claim brought a batch.
    pub fn claimed(&self, kind: ClaimKind, items: usize) {
        #[allow(clippy::cast_precision_loss)] // some hundred at most
        self.claim_size.record(items as f64, &[label("kind", kind.word())]);
        if kind == ClaimKind::TakeOver {
            self.leases_taken_over.add(1, &[]);
        }
    }

    /// An event was accepted.
    pub fn accepted(&self, environment: Environment) {
        self.events_accepted.add(1, &[label("environment", environment.word())]);
    }

    /// An event was refused at publish.
    pub fn refused(&self, reason: Reason) {
        self.events_refused.add(1, &[label("reason", reason.word())]);
    }

    /// A subscription's breaker changed.
    pub fn breaker(&self, to: BreakerChange) {
        self.breaker_changes.add(1, &[label("state", to.word())]);
    }

    /// A callback was asked, or what it had said was remembered.
    pub fn checked(&self, allowed: bool, why: &'static str, took: Duration) {
        let decision = if allowed { "ALLOWED" } else { "DENIED" };
        self.checks.add(1, &[label("decision", decision), label("why", why)]);
        self.check_duration.record(took.as_secs_f64(), &[]);
    }

    /// A receiver was asked for its verification.
    pub fn verified(&self, passed: bool, class: Option<ErrorClass>) {
        let outcome = label("outcome", if passed { "PASSED" } else { "FAILED" });
        let labels = [outcome, label("error_class", class.map_or("NONE", ErrorClass::word))];
        self.verifications.add(1, &labels);
    }

    /// A call of the API ended.
    pub fn call(&self, labels: CallLabels<'_>, took: Duration) {
        let method = match labels.method {
            Some(path) => KeyValue::new("rpc.method", path.trim_start_matches('/').to_owned()),
            None => label("rpc.method", "_OTHER"),
        };
        let labels = [method, label("rpc.response.status_code", labels.status)];
        self.rpc_duration.record(took.as_secs_f64(), &labels);
    }
}
