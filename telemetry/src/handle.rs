//! What everybody holds who has something to tell.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use pregon_core::clock::{SharedClock, SystemClock};
use pregon_core::trace::{SpanId, TraceContext, TraceId};
use tokio::time::Instant;

use crate::metrics::{Metrics, observe};
use crate::pipe::{Pipe, Tallies};
use crate::record::{RecordPipe, Told};
use crate::sampler::Sampler;
use crate::settings::AttemptRecords;
use crate::span::Span;

/// Telemetry of one process; cheap to clone. To tell something never waits and never fails.
#[derive(Clone)]
pub struct Telemetry(Arc<Inner>);

/// What a handle is made of.
pub(crate) struct Parts {
    pub(crate) clock: SharedClock,
    /// Makes ids that no other process makes.
    pub(crate) seed: u64,
    pub(crate) propagate: bool,
    pub(crate) spans: Option<(Pipe<Span>, Sampler)>,
    pub(crate) records: Option<(RecordPipe, AttemptRecords)>,
    pub(crate) tallies: Arc<Tallies>,
    pub(crate) meters: SdkMeterProvider,
}

struct Inner {
    clock: SharedClock,
    ids: AtomicU64,
    propagate: bool,
    spans: Option<(Pipe<Span>, Sampler)>,
    records: Option<(RecordPipe, AttemptRecords)>,
    metrics: Metrics,
    /// Ends with the handle: its instruments would tell nobody any more.
    _meters: SdkMeterProvider,
}

impl Telemetry {
    /// Nothing leaves. Contexts still pass through.
    pub fn off() -> Self {
        Self::new(Parts {
            clock: Arc::new(SystemClock),
            seed: 0,
            propagate: true,
            spans: None,
            records: None,
            tallies: Arc::default(),
            meters: SdkMeterProvider::builder().build(),
        })
    }

    pub(crate) fn new(parts: Parts) -> Self {
        let meter = parts.meters.meter("pregon");
        observe(&meter, &parts.tallies);
        Self(Arc::new(Inner {
            clock: parts.clock,
            ids: AtomicU64::new(parts.seed),
            propagate: parts.propagate,
            spans: parts.spans.filter(|(_, sampler)| !sampler.is_off()),
            records: parts.records,
            metrics: Metrics::new(&meter),
            _meters: parts.meters,
        }))
    }

    /// Every metric.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Whether spans leave.
    pub(crate) fn traces(&self) -> bool {
        self.0.spans.is_some()
    }

    /// Whether spans of this trace leave.
    pub fn recording(&self, trace: &TraceContext) -> bool {
        trace.sampled && self.traces()
    }

    /// Whether contexts are given to receivers.
    pub(crate) fn propagates(&self) -> bool {
        self.0.propagate
    }

    /// Where records of attempts go, and which.
    pub(crate) fn logs(&self) -> Option<(&Pipe<Told>, AttemptRecords)> {
        self.0.records.as_ref().map(|(pipe, which)| (&**pipe, *which))
    }

    /// The place of a call that came with this context, or with none: where what it does belongs.
    /// None: the call came without a trace, and the one that it would begin is not recorded.
    pub fn enter(&self, caller: Option<TraceContext>) -> Option<TraceContext> {
        let caller = caller.filter(|_| self.0.propagate);
        let Some((_, sampler)) = &self.0.spans else { return caller };
        let trace = caller.as_ref().map_or_else(|| self.trace_id(), |caller| caller.trace);
        let sampled = sampler.decide(trace, caller.as_ref());
        match caller {
            Some(caller) if sampled => {
                Some(TraceContext { span: self.span_id(), sampled, ..caller })
            }
            // Nothing is told of the call: its caller's span stays the last that there is.
            Some(caller) => Some(TraceContext { sampled, ..caller }),
            None => {
                sampled.then(|| TraceContext { trace, span: self.span_id(), sampled, state: None })
            }
        }
    }

    /// The id of a span that nobody else has.
    pub fn span_id(&self) -> SpanId {
        SpanId::from_bits(self.bits())
    }

    fn trace_id(&self) -> TraceId {
        TraceId::from_bits((u128::from(self.bits()) << 64) | u128::from(self.bits()))
    }

    /// 64 bits of a sequence that repeats after 2^64 (splitmix64).
    fn bits(&self) -> u64 {
        let step = self.0.ids.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        SpanId::from_bits(step.max(1)).derive(0).number()
    }

    /// Tells of a span, if spans leave. Whether its trace is recorded, the caller knows.
    pub fn span(&self, span: Span) {
        if let Some((pipe, _)) = &self.0.spans {
            pipe.push(span);
        }
    }

    /// The present moment in nanoseconds since the Unix epoch.
    pub fn now(&self) -> u64 {
        self.0.clock.nanos()
    }

    /// A moment in nanoseconds since the Unix epoch.
    pub fn at(&self, moment: Instant) -> u64 {
        let ago = u64::try_from(moment.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.now().saturating_sub(ago)
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").field("traces", &self.traces()).finish_non_exhaustive()
    }
}
