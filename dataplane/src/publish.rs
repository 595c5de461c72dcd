//! EventService: how events come in.
//!
//! The way of an event: the wire is parsed, every wrong field at once (`parse`); the
//! configuration lets it in, by tenant, type, schema and rate (`admit`); it is stored together
//! with whatever else comes just then ([`Publisher`]); and only then its caller is answered. No
//! answer means that the outcome is unknown, and a repeat with the same id is safe.
//!
//! An event of a batch or stream is refused on its own, in the words that a single publish would
//! have been refused with.

mod admit;
mod batch;
mod handover;
mod parse;
mod publisher;
mod reply;
mod stream;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pregon_core::clock::SharedClock;
use pregon_core::error::{Reason, Refusal};
use pregon_core::limits;
use pregon_proto::v1;
use pregon_proto::v1::event_service_server::{EventService, EventServiceServer};
use pregon_rpc::audit;
use pregon_rpc::call::current_trace;
use pregon_rpc::caller::Caller;
use pregon_rpc::status::status;
use pregon_store::Intake;
use pregon_telemetry::Telemetry;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

pub use publisher::Publisher;

use crate::snapshot::{Configuration, Snapshot};
use admit::Admission;
use parse::Origin;
use reply::Facts;

/// When to try a node again that is going down: elsewhere, at once.
const DRAINING_WAIT: Duration = Duration::from_millis(100);
/// Answers of a stream that wait for a client that does not read: each holds many.
const STREAM_ANSWERS: usize = 4;

/// What publishing works with.
pub struct PublishOptions {
    /// What the node serves.
    pub configuration: Configuration,
    /// Where events go.
    pub intake: Arc<dyn Intake>,
    /// Counts tenants' rates.
    pub clock: SharedClock,
    /// Data of one event, at most.
    pub max_event_bytes: usize,
    /// Cancelled when the node goes down: nothing more is taken, what is under way is finished.
    pub draining: CancellationToken,
    /// Where events are reported.
    pub telemetry: Telemetry,
}

/// EventService over the store's queue. Clones share everything.
#[derive(Clone)]
pub struct EventServiceImpl(Arc<Inner>);

struct Inner {
    admission: Admission,
    publisher: Publisher,
    max_event_bytes: usize,
    draining: CancellationToken,
    telemetry: Telemetry,
}

impl EventServiceImpl {
    /// The service; starts its pipelines to the store on the present runtime.
    pub fn new(options: PublishOptions) -> Self {
        let admission = Admission {
            configuration: options.configuration,
            clock: options.clock,
            intake: Arc::clone(&options.intake),
        };
        Self(Arc::new(Inner {
            admission,
            publisher: Publisher::start(options.intake),
            max_event_bytes: options.max_event_bytes,
            draining: options.draining,
            telemetry: options.telemetry,
        }))
    }

    /// The service, to be added to a server.
    pub fn service(self) -> EventServiceServer<Self> {
        EventServiceServer::new(self).max_decoding_message_size(limits::MESSAGE_LEN)
    }

    /// For publishing from within the node.
    pub fn publisher(&self) -> &Publisher {
        &self.0.publisher
    }
}

impl fmt::Debug for EventServiceImpl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventServiceImpl").finish_non_exhaustive()
    }
}

#[tonic::async_trait]
impl EventService for EventServiceImpl {
    async fn publish(
        &self,
        request: Request<v1::PublishRequest>,
    ) -> Result<Response<v1::PublishResponse>, Status> {
        let (caller, told) = (Caller::of(&request).map_err(status)?, audit::Origin::of(&request));
        let trace = current_trace();
        let from = Origin { caller: &caller, trace: trace.as_ref(), told: &told, many: false };
        let response = self.0.publish(request.into_inner(), from).await;
        response.map(Response::new).map_err(|refusal| status(self.0.refused(refusal)))
    }

    async fn publish_batch(
        &self,
        request: Request<v1::PublishBatchRequest>,
    ) -> Result<Response<v1::PublishBatchResponse>, Status> {
        let (caller, told) = (Caller::of(&request).map_err(status)?, audit::Origin::of(&request));
        let trace = current_trace();
        let from = Origin { caller: &caller, trace: trace.as_ref(), told: &told, many: true };
        let results = batch::publish(&self.0, request.into_inner().requests, from).await;
        results.map(Response::new).map_err(status)
    }

    type PublishStreamStream = ReceiverStream<Result<v1::PublishStreamResponse, Status>>;

    async fn publish_stream(
        &self,
        request: Request<Streaming<v1::PublishStreamRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        self.0.snapshot().map_err(status)?;
        let (caller, told) = (Caller::of(&request).map_err(status)?, audit::Origin::of(&request));
        let (requests, trace) = (request.into_inner(), current_trace());
        let (answers, receiver) = mpsc::channel(STREAM_ANSWERS);
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move {
            let from = Origin { caller: &caller, trace: trace.as_ref(), told: &told, many: true };
            stream::serve(&inner, requests, from, answers).await;
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

impl Inner {
    /// What events are checked by, unless the node takes none.
    fn snapshot(&self) -> Result<Arc<Snapshot>, Refusal> {
        if self.draining.is_cancelled() {
            return Err(draining());
        }
        self.admission.snapshot()
    }

    async fn publish(
        &self,
        request: v1::PublishRequest,
        from: Origin<'_>,
    ) -> Result<v1::PublishResponse, Refusal> {
        let snapshot = self.snapshot()?;
        let mut parsed = parse::parse(
            request,
            from,
            self.max_event_bytes,
            &snapshot,
            self.admission.clock.now(),
        )?;
        let admitted = self.admission.admit(&snapshot, &mut parsed, &mut None).await;
        let note = |refusal: &Refusal| from.note(refusal, &parsed.event.tenant.name());
        let revision = admitted.inspect_err(note)?;
        let facts = Facts::of(&self.telemetry, &mut parsed.event, revision);
        if parsed.validate_only {
            return Ok(facts.validated());
        }
        let published = self.publisher.publish(parsed.event).await;
        facts.response(published, self.publisher.intake().durability())
    }

    /// Counts a refusal.
    fn refused(&self, refusal: Refusal) -> Refusal {
        self.telemetry.metrics().refused(refusal.reason);
        refusal
    }
}

fn draining() -> Refusal {
    Refusal::new(Reason::Draining, "the node is going down").retry_after(DRAINING_WAIT)
}
