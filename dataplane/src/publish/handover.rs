//! What is reported of a publish: the event counted, and the span of handing it over.
//!
//! An event whose call's trace is recorded gets a span of its own, and what follows from it belongs
//! there: in a batch of a thousand each event's story hangs together. Other events keep the trace
//! that their caller gave, if one did, and nothing is allocated for them here.

use pregon_core::error::Refusal;
use pregon_core::event::{Environment, NewEvent};
use pregon_core::id::EventTypeId;
use pregon_core::trace::{SpanId, TraceContext};
use pregon_proto::v1;
use pregon_telemetry::{Kind, Span, Telemetry};
use tokio::time::Instant;

/// An event on its way to the store.
#[derive(Debug)]
pub(super) struct Handover {
    telemetry: Telemetry,
    environment: Environment,
    handing: Option<Box<Handing>>,
}

/// An event that is handed over, of a trace that is recorded.
#[derive(Debug)]
struct Handing {
    context: TraceContext,
    parent: SpanId,
    begun: Instant,
    event_type: EventTypeId,
    bytes: usize,
}

impl Handover {
    /// An event is about to be stored. Its trace leads to its own span from here on, if it has one.
    pub(super) fn begin(telemetry: &Telemetry, event: &mut NewEvent) -> Self {
        let recorded = event.trace.take_if(|trace| telemetry.recording(trace));
        let handing = recorded.map(|call| {
            let context = call.at(telemetry.span_id());
            event.trace = Some(context.clone());
            let (event_type, bytes) = (event.event_type.clone(), event.size());
            Box::new(Handing {
                context,
                parent: call.span,
                begun: Instant::now(),
                event_type,
                bytes,
            })
        });
        Self { telemetry: telemetry.clone(), environment: event.environment, handing }
    }

    /// What the store said is known.
    pub(super) fn end(self, result: &Result<v1::PublishResponse, Refusal>) {
        match result {
            Ok(response) if response.duplicate => {
                self.telemetry.metrics().events_duplicates.add(1, &[]);
            }
            Ok(_) => self.telemetry.metrics().accepted(self.environment),
            Err(_) => {} // counted with all refusals
        }
        let Some(handing) = self.handing else { return };
        let Handing { context, parent, begun, event_type, bytes } = *handing;
        let time = (self.telemetry.at(begun), self.telemetry.now());
        let name = format!("publish {event_type}");
        let mut span = Span::new(context, Some(parent), Kind::Producer, name, time)
            .with("messaging.system", "pregon")
            .with("messaging.operation.name", "publish")
            .with("messaging.operation.type", "send")
            .with("messaging.destination.name", event_type.to_string())
            .with("messaging.message.body.size", bytes);
        match result {
            Ok(response) => {
                span = span
                    .with("messaging.message.id", response.event.clone())
                    .with("pregon.duplicate", response.duplicate);
            }
            Err(refusal) => span.error = Some(refusal.reason.word().to_owned()),
        }
        self.telemetry.span(span);
    }
}
