//! An entry of the audit log as telemetry sees it: its line in the log, its log record.
//!
//! Both say who called for what and what came of it. What resources were and became stays in the
//! store: an address there may hold a token, and whoever reads logs need not be one who may read
//! resources.

use pregon_core::model::AuditEntry;

use crate::handle::Telemetry;
use crate::record::{Audited, Told};

/// Resource names that are told; a write may touch many.
const NAMES: usize = 16;

impl Telemetry {
    /// Tells of an entry that was written or is about to be, of a commit of this revision (0: of none).
    pub fn audited(&self, id: &str, revision: i64, entry: &AuditEntry) {
        let changed: Vec<_> = names(entry).take(NAMES).collect();
        tracing::info!(
            target: "pregon_audit",
            id,
            actor = entry.actor.id,
            actor_kind = entry.actor.kind.word(),
            peer = entry.peer,
            method = entry.method,
            resource = entry.resource,
            resources = changed.join(" "),
            outcome = entry.outcome.word(),
            code = entry.code,
            reason = entry.reason,
            revision,
            request_id = entry.request_id,
            trace_id = entry.trace_id,
            suppressed = entry.suppressed,
            "audited"
        );
        if let Some((pipe, _)) = self.logs() {
            pipe.push_with(|| {
                let entry = AuditEntry { changes: Vec::new(), ..entry.clone() };
                let resources = changed.iter().map(|name| (*name).to_owned()).collect();
                let id = id.to_owned();
                Told::Audit(Box::new(Audited { id, revision, entry, resources }))
            });
        }
    }
}

/// The resources that changed.
fn names(entry: &AuditEntry) -> impl Iterator<Item = &str> {
    entry.changes.iter().map(|change| change.resource.as_str())
}
