//! Spans, and what else is not written often, as OTLP has them: in the library's messages.

use std::fmt::Display;

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::trace::v1::{self as wire, span::Link, span::SpanKind, status};
use pregon_core::trace::TraceContext;

use crate::span::{Kind, Span, Value};

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
    text.truncate(cut_at(&text, len));
    text
}

/// Where a text of more than `len` bytes is cut.
pub(crate) fn cut_at(text: &str, len: usize) -> usize {
    text.floor_char_boundary(len)
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
