//! Spans and records of attempts as OTLP has them.

use std::fmt::Display;

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, SeverityNumber};
use opentelemetry_proto::tonic::trace::v1::{self as wire, span::Link, span::SpanKind, status};
use pregon_core::attempt::{AttemptRecord, RecordKind};
use pregon_core::outcome::AttemptOutcome;
use pregon_core::trace::TraceContext;

use crate::attempt::Kept;
use crate::span::{Kind, Span, Value};

/// Nanoseconds of a millisecond.
const MILLI: u64 = 1_000_000;

/// Who tells: this crate's release stands for all of them.
pub(crate) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "pregon".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

/// A span; texts longer than `value_len` bytes are cut.
pub(crate) fn span(span: Span, value_len: usize) -> wire::Span {
    let Span { context, parent, kind, name, start, end, attributes, links, error } = span;
    wire::Span {
        trace_id: context.trace.bytes().to_vec(),
        span_id: context.span.bytes().to_vec(),
        trace_state: context.state.as_deref().unwrap_or_default().to_owned(),
        parent_span_id: parent.map(|it| it.bytes().to_vec()).unwrap_or_default(),
        flags: u32::from(context.sampled),
        name: name.into_owned(),
        kind: kind_of(kind).into(),
        start_time_unix_nano: start,
        end_time_unix_nano: end,
        attributes: attributes
            .into_iter()
            .map(|(key, value)| pair(key, any(value, value_len)))
            .collect(),
        links: links.iter().map(link).collect(),
        status: error.map(|message| wire::Status {
            message: cut(message, value_len),
            code: status::StatusCode::Error.into(),
        }),
        ..wire::Span::default()
    }
}

fn kind_of(kind: Kind) -> SpanKind {
    match kind {
        Kind::Internal => SpanKind::Internal,
        Kind::Server => SpanKind::Server,
        Kind::Client => SpanKind::Client,
        Kind::Producer => SpanKind::Producer,
        Kind::Consumer => SpanKind::Consumer,
    }
}

fn link(context: &TraceContext) -> Link {
    Link {
        trace_id: context.trace.bytes().to_vec(),
        span_id: context.span.bytes().to_vec(),
        trace_state: context.state.as_deref().unwrap_or_default().to_owned(),
        flags: u32::from(context.sampled),
        ..Link::default()
    }
}

/// A record of an attempt, or of an end without one.
pub(crate) fn record(kept: Kept, value_len: usize) -> LogRecord {
    let Kept { record, event, subscription, trace } = kept;
    let time = u64::try_from(record.start.millis()).unwrap_or(0) * MILLI;
    let took = u64::from(record.timing.total) * 1_000;
    let mut attributes = Vec::with_capacity(28);
    let mut add = |key: &'static str, value: Any| attributes.push(pair(key, value));
    add(
        "pregon.delivery.name",
        text(format!("{}/deliveries/{}", record.tenant.name(), record.key)),
    );
    add("pregon.event.name", text(event));
    add("pregon.event.type", text(record.event_type.as_str()));
    add("pregon.environment", text(record.environment.word()));
    if let Some(subscription) = subscription {
        add("pregon.subscription.name", text(subscription.to_string()));
    }
    add("pregon.attempt.kind", text(record.kind.word()));
    add("pregon.attempt.number", Any::IntValue(record.number.into()));
    if let Some(outcome) = record.outcome {
        add("pregon.attempt.outcome", text(outcome.word()));
    }
    if let Some(class) = record.error_class {
        add("error.type", text(class.word()));
    }
    if !record.reason.is_empty() {
        add("pregon.attempt.reason", text(cut(record.reason.clone(), value_len)));
    }
    if record.status != 0 {
        add("http.response.status_code", Any::IntValue(record.status.into()));
    }
    if !record.url.is_empty() {
        add("url.full", text(cut(shown_url(&record.url).to_owned(), value_len)));
    }
    if let Some(remote) = record.remote {
        add("network.peer.address", text(remote.ip()));
        add("network.peer.port", Any::IntValue(remote.port().into()));
    }
    for (key, micros) in timings(&record) {
        add(key, Any::DoubleValue(f64::from(micros) / 1e6));
    }
    if let Some(next) = record.next_attempt {
        add("pregon.next_attempt.time", text(next));
    }
    if let Some(end) = record.end {
        add("pregon.delivery.state", text(end.state.word()));
        if let Some(reason) = end.reason {
            add("pregon.delivery.end_reason", text(reason.word()));
        }
    }
    add("pregon.node", text(record.node.as_str()));
    add("pregon.configuration.revision", Any::IntValue(record.configuration_revision));
    add("pregon.contract", text(record.contract.as_str()));
    add("pregon.contract.revision", Any::IntValue(record.contract_revision));
    if !record.secrets.is_empty() {
        let ids = record.secrets.iter().map(|id| AnyValue { value: Some(text(id.as_str())) });
        add("pregon.secrets", Any::ArrayValue(ArrayValue { values: ids.collect() }));
    }
    let (severity, word) = severity(&record);
    LogRecord {
        time_unix_nano: time,
        observed_time_unix_nano: time + took,
        severity_number: severity.into(),
        severity_text: word.to_owned(),
        event_name: "pregon.attempt".to_owned(),
        attributes,
        flags: u32::from(trace.sampled),
        trace_id: trace.trace.bytes().to_vec(),
        span_id: trace.span.bytes().to_vec(),
        ..LogRecord::default()
    }
}

fn severity(record: &AttemptRecord) -> (SeverityNumber, &'static str) {
    match (record.kind, record.outcome) {
        (RecordKind::Attempt, Some(AttemptOutcome::Succeeded)) => (SeverityNumber::Info, "INFO"),
        (RecordKind::Attempt, Some(AttemptOutcome::Failed)) => (SeverityNumber::Error, "ERROR"),
        (RecordKind::Attempt, Some(AttemptOutcome::Retry) | None)
        | (RecordKind::Lost | RecordKind::Ended, _) => (SeverityNumber::Warn, "WARN"),
    }
}

/// The stages that happened, by the names under which their lengths in seconds leave.
fn timings(record: &AttemptRecord) -> impl Iterator<Item = (&'static str, u32)> {
    let timing = record.timing;
    [
        ("pregon.attempt.dns", timing.dns),
        ("pregon.attempt.connect", timing.connect),
        ("pregon.attempt.tls", timing.tls),
        ("pregon.attempt.first_byte", timing.first_byte),
        ("pregon.attempt.total", timing.total),
    ]
    .into_iter()
    .filter(|(_, micros)| *micros > 0)
}

/// A URL without its query, which may hold what identifies people, or a credential.
pub(crate) fn shown_url(url: &str) -> &str {
    url.split_once('?').map_or(url, |(shown, _)| shown)
}

fn pair(key: &str, value: Any) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// Attributes of the resource.
pub(crate) fn pairs(of: &[(String, String)]) -> Vec<KeyValue> {
    of.iter().map(|(key, value)| pair(key, text(value))).collect()
}

fn text(value: impl Display) -> Any {
    Any::StringValue(value.to_string())
}

fn any(value: Value, value_len: usize) -> Any {
    match value {
        Value::Text(text) => Any::StringValue(cut(text.into_owned(), value_len)),
        Value::Int(number) => Any::IntValue(number),
        Value::Float(number) => Any::DoubleValue(number),
        Value::Bool(yes) => Any::BoolValue(yes),
    }
}

/// The first `len` bytes, no character cut in two.
fn cut(mut text: String, len: usize) -> String {
    if text.len() > len {
        text.truncate(text.floor_char_boundary(len));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("añb".to_owned(), 2), "a");
        assert_eq!(cut("añb".to_owned(), 3), "añ");
        assert_eq!(shown_url("https://a.test/x?token=1#"), "https://a.test/x");
    }
}
