//! What is reported of a write: a span, and who wrote, for those who follow. Its line in the log is
//! that of its entry in the audit log.

use std::fmt::Write as _;

use pregon_core::clock::Timestamp;
use pregon_core::model::ResourceName;
use pregon_core::trace::TraceContext;
use pregon_rpc::call::current_trace;
use pregon_store::author::Author;
use pregon_store::config::Commit;
use pregon_telemetry::{Kind, Span, Telemetry};
use tokio::time::Instant;

use crate::service;

/// Resource names that a line of the log tells; a commit may touch many.
const NAMES: usize = 5;

/// A write under way.
pub(super) struct Writing {
    telemetry: Telemetry,
    actor: String,
    resources: Vec<String>,
    more: usize,
    begun: Instant,
    /// The call's place in its trace, and the write's own, where the trace is recorded.
    trace: Option<(TraceContext, TraceContext)>,
}

impl Writing {
    pub(super) fn begin(telemetry: &Telemetry, commit: &Commit) -> Self {
        let call = current_trace().filter(|call| telemetry.recording(call));
        // What is kept beside resources has names that callers never see.
        let names = commit.write.iter().map(|(name, _)| name);
        let mut names = names.filter(|name| ResourceName::parse(name).is_some()).cloned();
        Self {
            telemetry: telemetry.clone(),
            actor: service::actor(),
            resources: names.by_ref().take(NAMES).collect(),
            more: names.count(),
            begun: Instant::now(),
            trace: call.map(|call| (call.at(telemetry.span_id()), call)),
        }
    }

    /// Travels with the commit: whoever follows the configuration learns who wrote, and in which
    /// trace it arrives.
    pub(super) fn author(&self, now: Timestamp) -> Author {
        let trace = self.trace.as_ref().map(|(own, _)| own.to_text());
        Author { actor: self.actor.clone(), time: now, trace }
    }

    /// It has this revision.
    pub(super) fn end(self, revision: i64) {
        let mut resources = self.resources.join(" ");
        if self.more > 0 {
            let _ = write!(resources, " and {} more", self.more); // into a String it cannot fail
        }
        self.telemetry.metrics().wrote(revision);
        let Some((own, call)) = self.trace else { return };
        let time = (self.telemetry.at(self.begun), self.telemetry.now());
        let span = Span::new(own, Some(call.span), Kind::Producer, "write configuration", time)
            .with("pregon.configuration.revision", revision)
            .with("pregon.actor", self.actor)
            .with("pregon.resources", resources);
        self.telemetry.span(span);
    }
}
