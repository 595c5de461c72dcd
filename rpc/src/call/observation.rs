//! What is reported of a call: its metrics, its line in the log, its span.
//!
//! Whatever becomes of a call, it is reported once: one that is dropped before it has an answer was
//! cancelled by its client. Probes and reflection have no spans, whoever asks: they would be most
//! of what there is to see.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use pregon_core::trace::{SpanId, TraceContext};
use pregon_telemetry::metrics::CallLabels;
use pregon_telemetry::{Kind, Span, Telemetry};
use tokio::time::Instant;
use tonic::Code;

use crate::caller::ANONYMOUS;

/// What the paths of our own methods begin with.
const OURS: &str = "/pregon.";
/// A method that no descriptor has, in the words of the semantic conventions.
const OTHER: &str = "_OTHER";
/// The caller's span, and what vendors add to it.
static PARENT: HeaderName = HeaderName::from_static("traceparent");
static STATE: HeaderName = HeaderName::from_static("tracestate");

tokio::task_local! {
    /// The trace of the call that the present task answers.
    static TRACE: Option<TraceContext>;
}

/// The trace of the call that the present task answers, if it has one.
pub fn current_trace() -> Option<TraceContext> {
    TRACE.try_with(Clone::clone).ok().flatten()
}

/// Runs a handler within its call's trace.
pub async fn within<F: Future>(trace: Option<TraceContext>, handler: F) -> F::Output {
    TRACE.scope(trace, handler).await
}

/// What is known of a call while it is under way.
pub(super) struct Observation {
    telemetry: Telemetry,
    path: Option<Arc<str>>,
    started: Instant,
    trace: Option<TraceContext>,
    parent: Option<SpanId>,
    ended: bool,
}

impl Observation {
    pub(super) fn begin(
        telemetry: &Telemetry,
        path: Option<&Arc<str>>,
        headers: &HeaderMap,
        started: Instant,
    ) -> Self {
        let ours = path.filter(|path| path.starts_with(OURS));
        let caller = ours.and_then(|_| caller(headers));
        let parent = caller.as_ref().map(|caller| caller.span);
        Self {
            telemetry: telemetry.clone(),
            path: path.map(Arc::clone),
            started,
            trace: ours.and_then(|_| telemetry.enter(caller)),
            parent,
            ended: false,
        }
    }

    /// Where what the call does belongs.
    pub(super) fn trace(&self) -> Option<TraceContext> {
        self.trace.clone()
    }

    fn method(&self) -> &str {
        self.path.as_deref().map_or(OTHER, |path| path.trim_start_matches('/'))
    }

    /// The call is over; only the first time counts.
    pub(super) fn end(&mut self, code: Code, actor: &str) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let (took, word) = (self.started.elapsed(), word(code));
        let labels = CallLabels { method: self.path.as_ref(), status: word };
        self.telemetry.metrics().call(labels, took);
        if code != Code::Ok {
            tracing::debug!(
                method = self.method(),
                actor,
                code = word,
                elapsed_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                trace_id = self.trace.as_ref().map(|it| tracing::field::display(it.trace)),
                "a call failed"
            );
        }
        let Some(trace) = self.trace.clone().filter(|trace| trace.sampled) else { return };
        let time = (self.telemetry.at(self.started), self.telemetry.now());
        let mut span = Span::new(trace, self.parent, Kind::Server, self.method().to_owned(), time)
            .with("rpc.system.name", "grpc")
            .with("rpc.method", self.method().to_owned())
            .with("rpc.response.status_code", word)
            .with("pregon.actor", actor.to_owned());
        if is_fault(code) {
            span.error = Some(String::new());
        }
        self.telemetry.span(span);
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        self.end(Code::Cancelled, ANONYMOUS);
    }
}

/// The caller's trace context, where it is well formed.
fn caller(headers: &HeaderMap) -> Option<TraceContext> {
    let parent = headers.get(&PARENT)?.to_str().ok()?;
    let state = headers.get(&STATE).and_then(|value| value.to_str().ok());
    TraceContext::parse(parent, state)
}

/// Whether a server is to blame, by the semantic conventions for RPC.
fn is_fault(code: Code) -> bool {
    match code {
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unauthenticated => false,
    }
}

/// A code as gRPC writes it.
pub fn word(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
