//! Entries of the audit log as log records.

use std::net::SocketAddr;

use opentelemetry_proto::tonic::logs::v1::SeverityNumber;
use pregon_core::model::{AuditEntry, AuditOutcome};
use pregon_core::trace::TraceId;

use super::{MILLI, Writer};

/// An entry, as its record tells of it: its changes are left out.
#[derive(Debug)]
pub(crate) struct Audited {
    pub(crate) id: String,
    /// Of its commit; 0: it came with none.
    pub(crate) revision: i64,
    pub(crate) entry: AuditEntry,
    /// The names of what changed.
    pub(crate) resources: Vec<String>,
}

/// How much an outcome matters to whoever watches.
fn severity(outcome: AuditOutcome) -> (SeverityNumber, &'static str) {
    match outcome {
        AuditOutcome::Done => (SeverityNumber::Info, "INFO"),
        AuditOutcome::Unknown
        | AuditOutcome::Failed
        | AuditOutcome::Refused
        | AuditOutcome::Other => (SeverityNumber::Warn, "WARN"),
    }
}

/// The trace that an entry names.
fn trace(text: &str) -> Option<TraceId> {
    let bits = u128::from_str_radix(text, 16).ok()?;
    (text.len() == 32).then(|| TraceId::from_bits(bits))
}

impl Writer {
    /// Writes the record of an entry.
    pub(super) fn audited(&mut self, audited: &Audited) {
        let Audited { id, revision, entry, resources } = audited;
        let time = u64::try_from(entry.time.millis()).unwrap_or(0) * MILLI;
        let (severity, word) = severity(entry.outcome);
        self.fixed64(1, time);
        self.number(2, severity as u64);
        self.field(3, word.as_bytes());
        self.text("pregon.audit.id", id);
        self.text("pregon.actor", &entry.actor.id);
        self.text("pregon.actor.kind", entry.actor.kind.word());
        self.text("pregon.audit.outcome", entry.outcome.word());
        for (key, text) in [
            ("pregon.actor.display_name", &entry.actor.display_name),
            ("rpc.method", &entry.method),
            ("pregon.resource", &entry.resource),
            ("rpc.response.status_code", &entry.code),
            ("error.type", &entry.reason),
            ("pregon.request_id", &entry.request_id),
        ] {
            if !text.is_empty() {
                self.text(key, text);
            }
        }
        if let Ok(peer) = entry.peer.parse::<SocketAddr>() {
            self.shown("network.peer.address", peer.ip());
            self.integer("network.peer.port", peer.port().into());
        }
        if !entry.tenants.is_empty() {
            self.list("pregon.tenants", entry.tenants.iter().map(|tenant| tenant.as_str()));
        }
        if !resources.is_empty() {
            self.list("pregon.resources", resources.iter().map(String::as_str));
        }
        if *revision > 0 {
            self.integer("pregon.configuration.revision", *revision);
        }
        if entry.suppressed > 0 {
            let suppressed = i64::try_from(entry.suppressed).unwrap_or(i64::MAX);
            self.integer("pregon.audit.suppressed", suppressed);
        }
        if let Some(trace) = trace(&entry.trace_id) {
            self.field(9, &trace.bytes());
        }
        self.fixed64(11, time);
        self.field(12, b"pregon.audit");
    }
}
