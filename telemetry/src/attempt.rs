//! An attempt as telemetry sees it: its metrics, its span with its stages, its log record.

use pregon_core::attempt::{AttemptRecord, RecordKind};
use pregon_core::event::Event;
use pregon_core::id::{DeliveryKey, SubscriptionName};
use pregon_core::outcome::AttemptOutcome;
use pregon_core::trace::{SpanId, TraceContext};

use crate::handle::Telemetry;
use crate::metrics::label;
use crate::otlp::shown_url;
use crate::record::{Kept, Told};
use crate::settings::AttemptRecords;
use crate::span::{Kind, Span};

/// Nanoseconds of a microsecond.
const MICRO: u64 = 1_000;

/// An attempt that ended, or a delivery's end without one.
#[derive(Clone, Copy, Debug)]
pub struct AttemptSeen<'a> {
    /// What the log of the store keeps of it.
    pub record: &'a AttemptRecord,
    /// The event.
    pub event: &'a Event,
    /// The subscription; none: it is gone.
    pub subscription: Option<&'a SubscriptionName>,
    /// The span that the attempt belongs to; none: the event's.
    pub parent: Option<SpanId>,
    /// How long rendering and signing took, in microseconds.
    pub render: u32,
    /// When it ended, in nanoseconds since the Unix epoch.
    pub ended: u64,
}

/// The trace that an event belongs to: its publisher's, or one of its own.
pub(crate) fn trace_of(event: &Event) -> TraceContext {
    event.trace.clone().unwrap_or_else(|| TraceContext::of_event(event.position))
}

impl Telemetry {
    /// Where what follows from an event belongs, if its trace is recorded.
    pub fn recorded<'a>(&self, event: &'a Event) -> Option<&'a TraceContext> {
        event.trace.as_ref().filter(|trace| self.recording(trace))
    }

    /// The context that goes out with an attempt; none where there is nothing to connect.
    pub fn outgoing(&self, event: &Event, key: DeliveryKey, number: u32) -> Option<TraceContext> {
        let connects = event.trace.is_some() || self.traces();
        let goes = connects && self.propagates();
        goes.then(|| trace_of(event).at(SpanId::of_attempt(key, number)))
    }

    /// Tells of a test send, which counts as no attempt and leaves no record.
    pub fn test_send(&self, seen: AttemptSeen<'_>) {
        let outcome = seen.record.outcome.map_or("NONE", AttemptOutcome::word);
        self.metrics().test_sends.add(1, &[label("outcome", outcome)]);
        if self.recorded(seen.event).is_some() {
            self.trace_attempt(&seen);
        }
    }

    /// Tells of an attempt.
    pub fn attempt(&self, seen: AttemptSeen<'_>) {
        if seen.record.kind == RecordKind::Attempt {
            self.count(&seen);
            let failed = seen.record.outcome != Some(AttemptOutcome::Succeeded);
            if self.traces() && (failed || self.recorded(seen.event).is_some()) {
                self.trace_attempt(&seen);
            }
        }
        if let Some((pipe, which)) = self.logs() {
            let usual = seen.record.outcome == Some(AttemptOutcome::Succeeded);
            if which == AttemptRecords::All || !usual || self.recorded(seen.event).is_some() {
                pipe.push_with(|| {
                    Told::Attempt(Box::new(Kept {
                        record: seen.record.without_response(),
                        event: seen.event.name(),
                        subscription: seen.subscription.cloned(),
                        trace: trace_of(seen.event)
                            .at(SpanId::of_attempt(seen.record.key, seen.record.number)),
                    }))
                });
            }
        }
    }

    fn count(&self, seen: &AttemptSeen<'_>) {
        let (metrics, record) = (self.metrics(), seen.record);
        let outcome = record.outcome.map_or("NONE", AttemptOutcome::word);
        let took = f64::from(record.timing.total) / 1e6;
        metrics.attempt_duration.record(took, &[label("outcome", outcome)]);
        // A replay's event is old; its latency says nothing of the way of new ones.
        if record.key.replay.is_some() {
            return;
        }
        let ripe = u64::try_from(seen.event.ripe_time().millis()).unwrap_or(0) * 1_000_000;
        let ended = seconds(seen.ended.saturating_sub(ripe));
        if record.number == 1 {
            metrics.first_attempt_latency.record((ended - took).max(0.0), &[]);
        }
        if record.outcome == Some(AttemptOutcome::Succeeded) {
            metrics.delivery_latency.record(ended, &[]);
        }
    }

    /// The span of the exchange, and those of its stages.
    fn trace_attempt(&self, seen: &AttemptSeen<'_>) {
        let record = seen.record;
        let trace = trace_of(seen.event);
        let context = trace.at(SpanId::of_attempt(record.key, record.number));
        let took = (u64::from(record.timing.total) + u64::from(seen.render)) * MICRO;
        let start = seen.ended.saturating_sub(took);
        // A failure of a trace of its own stands alone: nobody told of a span above it.
        let parent = seen.parent.or(seen.event.trace.as_ref().map(|it| it.span));
        let name = "POST";
        let mut span = Span::new(context, parent, Kind::Client, name, (start, seen.ended))
            .with("http.request.method", "POST")
            .with("url.full", shown_url(&record.url).to_owned())
            .with("pregon.tenant", record.tenant.to_string())
            .with("pregon.delivery.name", delivery_name(record))
            .with("pregon.event.type", record.event_type.to_string())
            .with("pregon.attempt.number", record.number)
            .with("pregon.contract", record.contract.to_string());
        if record.number > 1 {
            span = span.with("http.request.resend_count", record.number - 1);
            span.links.push(trace.at(SpanId::of_attempt(record.key, record.number - 1)));
        }
        if let Some(subscription) = seen.subscription {
            span = span.with("pregon.subscription.name", subscription.to_string());
        }
        if record.status != 0 {
            span = span.with("http.response.status_code", record.status);
        }
        if let Some(remote) = record.remote {
            span = span
                .with("network.peer.address", remote.ip().to_string())
                .with("network.peer.port", remote.port());
        }
        if let Some(outcome) = record.outcome {
            span = span.with("pregon.attempt.outcome", outcome.word());
        }
        if let Some(class) = record.error_class {
            span = span.with("error.type", class.word());
        }
        if let Some(next) = record.next_attempt {
            span = span.with("pregon.next_attempt.time", next.to_string());
        }
        if record.outcome != Some(AttemptOutcome::Succeeded) {
            span.error = Some(record.reason.clone());
        }
        for step in stages(&span, seen) {
            self.span(step);
        }
        self.span(span);
    }
}

/// What an attempt went through, one after the other; stages that did not happen are left out.
fn stages(span: &Span, seen: &AttemptSeen<'_>) -> Vec<Span> {
    let timing = seen.record.timing;
    let mut at = span.start;
    let lengths = [
        ("render", seen.render),
        ("dns", timing.dns),
        ("connect", timing.connect),
        ("tls", timing.tls),
        ("first byte", timing.first_byte),
    ];
    let mut steps = Vec::new();
    for (which, (name, micros)) in lengths.into_iter().enumerate().filter(|(_, it)| it.1 > 0) {
        let end = (at + u64::from(micros) * MICRO).min(span.end);
        steps.push(span.step(which as u64 + 1, name, (at, end)));
        at = end;
    }
    steps
}

fn delivery_name(record: &AttemptRecord) -> String {
    format!("{}/deliveries/{}", record.tenant.name(), record.key)
}

#[allow(clippy::cast_precision_loss)] // microseconds matter, nanoseconds do not
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
