//! Records of attempts, and of entries of the audit log, as OTLP log records, written straight into
//! the bytes that leave.
//!
//! Where every attempt leaves a record, this is the dearest part of telemetry: with the messages of
//! the library a record takes some sixty allocations, here it takes none of its own. The layout is
//! that of `opentelemetry/proto/logs/v1/logs.proto`; the tests read it back with the library's
//! messages, which everything else is encoded by.

use std::fmt::{Display, Write};
use std::sync::Arc;

use opentelemetry_proto::tonic::logs::v1::SeverityNumber;
use pregon_core::attempt::{AttemptRecord, RecordKind};
use pregon_core::id::{EventName, SubscriptionName};
use pregon_core::outcome::AttemptOutcome;
use pregon_core::trace::TraceContext;

use crate::envelope::Items;
use crate::otlp::{cut_at, shown_url};
use crate::pipe::Pipe;

mod audited;
#[cfg(test)]
mod tests;

pub(crate) use audited::Audited;

/// Nanoseconds of a millisecond.
const MILLI: u64 = 1_000_000;
/// Bytes of a usual record.
const USUAL: usize = 1_024;

/// What waits to become a log record.
#[derive(Debug)]
pub(crate) enum Told {
    /// An attempt.
    Attempt(Box<Kept>),
    /// An entry of the audit log.
    Audit(Box<Audited>),
}

/// An attempt, as its record tells of it.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) record: AttemptRecord,
    pub(crate) event: EventName,
    pub(crate) subscription: Option<SubscriptionName>,
    pub(crate) trace: TraceContext,
}

/// What records are kept in until they leave.
pub(crate) type RecordPipe = Arc<Pipe<Told>>;

/// Encodes records, one at a time; texts longer than `value_len` bytes are cut.
pub(crate) fn encoder(value_len: usize) -> impl FnMut(Told, &mut Items) {
    let mut one = Writer::new(USUAL, value_len);
    move |told, items| {
        one.bytes.clear();
        match &told {
            Told::Attempt(kept) => one.record(kept),
            Told::Audit(audited) => one.audited(audited),
        }
        items.push(&one.bytes);
    }
}

/// Bytes of a field of so many bytes, its head included.
fn field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

fn varint_len(number: u64) -> usize {
    let bits = (64 - number.leading_zeros()).max(1) as usize;
    bits.div_ceil(7)
}

/// Writes fields of protobuf messages, one behind the other. All tags are below 16, so that a key is
/// one byte.
struct Writer {
    bytes: Vec<u8>,
    value_len: usize,
    /// For what is no text yet.
    text: String,
}

impl Writer {
    fn new(capacity: usize, value_len: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity), value_len, text: String::new() }
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push((number & 0x7f) as u8);
    }

    fn number(&mut self, tag: u8, number: u64) {
        self.bytes.push(tag << 3);
        self.varint(number);
    }

    fn fixed64(&mut self, tag: u8, bits: u64) {
        self.bytes.push(tag << 3 | 1);
        self.bytes.extend(bits.to_le_bytes());
    }

    fn fixed32(&mut self, tag: u8, bits: u32) {
        self.bytes.push(tag << 3 | 5);
        self.bytes.extend(bits.to_le_bytes());
    }

    /// The key and length of a field of so many bytes.
    fn head(&mut self, tag: u8, len: usize) {
        self.bytes.push(tag << 3 | 2);
        self.varint(len as u64);
    }

    fn field(&mut self, tag: u8, bytes: &[u8]) {
        self.head(tag, bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// The beginning of an attribute whose AnyValue has so many bytes.
    fn attribute(&mut self, key: &str, value: usize) {
        self.head(6, field_len(key.len()) + field_len(value));
        self.field(1, key.as_bytes());
        self.head(2, value);
    }

    fn text(&mut self, key: &str, text: &str) {
        let text = &text[..cut_at(text, self.value_len)];
        self.attribute(key, field_len(text.len()));
        self.field(1, text.as_bytes());
    }

    fn shown(&mut self, key: &str, value: impl Display) {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        let _ = write!(text, "{value}"); // a String takes anything
        self.text(key, &text);
        self.text = text;
    }

    fn integer(&mut self, key: &str, number: i64) {
        let number = number.cast_unsigned();
        self.attribute(key, 1 + varint_len(number));
        self.number(3, number);
    }

    /// True.
    fn flag(&mut self, key: &str) {
        self.attribute(key, 2);
        self.number(2, 1);
    }

    fn float(&mut self, key: &str, number: f64) {
        self.attribute(key, 9);
        self.fixed64(4, number.to_bits());
    }

    fn list<'a>(&mut self, key: &str, texts: impl Iterator<Item = &'a str> + Clone) {
        let all: usize = texts.clone().map(|it| field_len(field_len(it.len()))).sum();
        self.attribute(key, field_len(all));
        self.head(5, all);
        for text in texts {
            self.head(1, field_len(text.len()));
            self.field(1, text.as_bytes());
        }
    }

    fn record(&mut self, kept: &Kept) {
        let Kept { record, event, subscription, trace } = kept;
        let time = u64::try_from(record.start.millis()).unwrap_or(0) * MILLI;
        let took = u64::from(record.timing.total) * 1_000;
        let (severity, word) = severity(record);
        self.fixed64(1, time);
        self.number(2, severity as u64);
        self.field(3, word.as_bytes());
        let delivery = (record.tenant.name(), record.key);
        self.shown(
            "pregon.delivery.name",
            format_args!("{}/deliveries/{}", delivery.0, delivery.1),
        );
        self.shown("pregon.event.name", event);
        self.text("pregon.event.type", record.event_type.as_str());
        self.text("pregon.environment", record.environment.word());
        if let Some(subscription) = subscription {
            self.shown("pregon.subscription.name", subscription);
        }
        self.attempt(record);
        self.exchange(record);
        self.end(record);
        if trace.sampled {
            self.fixed32(8, 1);
        }
        self.field(9, &trace.trace.bytes());
        self.field(10, &trace.span.bytes());
        self.fixed64(11, time + took);
        self.field(12, b"pregon.attempt");
    }

    fn attempt(&mut self, record: &AttemptRecord) {
        self.text("pregon.attempt.kind", record.kind.word());
        self.integer("pregon.attempt.number", record.number.into());
        if record.resent {
            self.flag("pregon.attempt.resent");
        }
        if let Some(outcome) = record.outcome {
            self.text("pregon.attempt.outcome", outcome.word());
        }
        if let Some(class) = record.error_class {
            self.text("error.type", class.word());
        }
        if !record.reason.is_empty() {
            self.text("pregon.attempt.reason", &record.reason);
        }
        self.text("pregon.node", record.node.as_str());
        self.integer("pregon.configuration.revision", record.configuration_revision);
        self.text("pregon.contract", record.contract.as_str());
        self.integer("pregon.contract.revision", record.contract_revision);
        if !record.secrets.is_empty() {
            self.list("pregon.secrets", record.secrets.iter().map(|id| id.as_str()));
        }
    }

    fn exchange(&mut self, record: &AttemptRecord) {
        if record.status != 0 {
            self.integer("http.response.status_code", record.status.into());
        }
        if !record.url.is_empty() {
            self.text("url.full", shown_url(&record.url));
        }
        if let Some(remote) = record.remote {
            self.shown("network.peer.address", remote.ip());
            self.integer("network.peer.port", remote.port().into());
        }
        let timing = record.timing;
        for (key, micros) in [
            ("pregon.attempt.dns", timing.dns),
            ("pregon.attempt.connect", timing.connect),
            ("pregon.attempt.tls", timing.tls),
            ("pregon.attempt.first_byte", timing.first_byte),
            ("pregon.attempt.total", timing.total),
        ] {
            // Stages that did not happen are left out.
            if micros > 0 {
                self.float(key, f64::from(micros) / 1e6);
            }
        }
    }

    fn end(&mut self, record: &AttemptRecord) {
        if let Some(next) = record.next_attempt {
            self.shown("pregon.next_attempt.time", next);
        }
        if let Some(end) = record.end {
            self.text("pregon.delivery.state", end.state.word());
            if let Some(reason) = end.reason {
                self.text("pregon.delivery.end_reason", reason.word());
            }
        }
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
