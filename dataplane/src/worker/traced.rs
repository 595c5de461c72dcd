//! What is reported of a batch: how much it holds, and for events whose trace is recorded the span
//! of working on it, with the steps of claiming, matching and settling.
//!
//! The span of working on an event begins with the claim that brought it and ends with the
//! settlement that the store took. Its id follows from the batch and the event, so that attempts
//! can belong to it before it is over, and nobody carries it around. Beside the machine, one entry
//! is kept for each event or delivery under way whose trace is recorded; what is under lease bounds
//! them.

use std::collections::HashMap;

use pregon_core::event::Event;
use pregon_core::id::{LaneNo, Position};
use pregon_core::trace::{SpanId, TraceContext};
use pregon_store::batch::{Batch, Token};
use pregon_store::settlement::{Settled, Settlement};
use pregon_telemetry::metrics::ClaimKind;
use pregon_telemetry::{Kind, Span, Telemetry};
use tokio::time::Instant;

use super::counted;

/// Tells the steps of working on an event apart.
const CLAIM: u64 = 11;
const MATCH: u64 = 12;
const SETTLE: u64 = 13;

/// What is worked on: an event of a batch, or a delivery of it.
type Item = (Token, Position, Option<LaneNo>);

/// Work under way whose trace is recorded.
pub(super) struct Traced {
    telemetry: Telemetry,
    open: HashMap<Item, Span>,
}

/// The span that attempts of this batch belong to, if the event's trace is recorded.
pub(super) fn parent(telemetry: &Telemetry, event: &Event, token: Token) -> Option<SpanId> {
    telemetry.recorded(event).map(|trace| place(trace, token, event.position).span)
}

/// Tells that an event was matched.
pub(super) fn matched(
    telemetry: &Telemetry,
    event: &Event,
    token: Token,
    begun: Instant,
    count: usize,
) {
    let Some(trace) = telemetry.recorded(event) else { return };
    let context = place(trace, token, event.position);
    let time = (telemetry.at(begun), telemetry.now());
    let step = context.at(context.span.derive(MATCH));
    let span = Span::new(step, Some(context.span), Kind::Internal, "match", time);
    telemetry.span(span.with("pregon.matched", count));
}

/// Where working on an event of a batch stands in its trace.
fn place(trace: &TraceContext, token: Token, position: Position) -> TraceContext {
    trace.at(trace.span.derive(token.incarnation).derive(token.sequence).derive(position.n))
}

impl Traced {
    pub(super) fn new(telemetry: Telemetry) -> Self {
        Self { telemetry, open: HashMap::new() }
    }

    /// A claim that was asked for at `asked` brought a batch.
    pub(super) fn claimed(&mut self, batch: &Batch, kind: ClaimKind, asked: Instant) {
        self.telemetry.metrics().claimed(kind, batch.len());
        for open in &batch.events {
            self.begin(batch, &open.event, None, asked);
        }
        for held in &batch.deliveries {
            self.begin(batch, &held.event, Some(held.key.lane), asked);
        }
    }

    fn begin(&mut self, batch: &Batch, event: &Event, lane: Option<LaneNo>, asked: Instant) {
        let Some(trace) = self.telemetry.recorded(event) else { return };
        let context = place(trace, batch.token, event.position);
        let begun = (self.telemetry.at(asked), self.telemetry.now());
        let name = format!("process {}", event.event_type);
        let mut span = Span::new(context, Some(trace.span), Kind::Consumer, name, begun)
            .with("messaging.system", "pregon")
            .with("messaging.operation.name", "process")
            .with("messaging.operation.type", "process")
            .with("messaging.destination.name", event.event_type.to_string())
            .with("messaging.message.id", event.name().to_string())
            .with("messaging.batch.message_count", batch.len())
            .with("pregon.batch", batch.token.to_string())
            .with("pregon.batch.takes", batch.takes);
        span.links.push(trace.clone());
        self.telemetry.span(span.step(CLAIM, "claim", begun));
        self.open.insert((batch.token, event.position, lane), span);
    }

    /// The store took a settlement that was handed to it at `asked`.
    pub(super) fn settled(&mut self, settlement: &Settlement, settled: &Settled, asked: Instant) {
        counted::settled(self.telemetry.metrics(), settlement, settled);
        self.forget(&settled.lost);
        if self.open.is_empty() {
            return;
        }
        let time = (self.telemetry.at(asked), self.telemetry.now());
        for batch in &settlement.batches {
            let token = batch.token;
            for event in &batch.events {
                self.end((token, event.position, None), time);
            }
            for delivery in &batch.deliveries {
                let key = delivery.key;
                self.end((token, key.position, Some(key.lane)), time);
            }
        }
    }

    fn end(&mut self, item: Item, time: (u64, u64)) {
        if let Some(mut span) = self.open.remove(&item) {
            span.end = time.1.max(span.start);
            self.telemetry.span(span.step(SETTLE, "settle", time));
            self.telemetry.span(span);
        }
    }

    /// Leases were lost: what they held is reported by whoever has it now.
    pub(super) fn forget(&mut self, lost: &[Token]) {
        if !lost.is_empty() {
            self.open.retain(|(token, _, _), _| !lost.contains(token));
        }
    }
}
