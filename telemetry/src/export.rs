//! The tasks that export: one a signal, one export at a time.
//!
//! Faults and reactions, as the OTLP specification has them: a collector that cannot be reached or
//! asks for patience gets the same batch again, with growing pauses, until the batch's time is up;
//! then the batch is dropped and counted, and the next is tried. One that refuses loses the batch
//! at once.
//!
//! RESOURCE_EXHAUSTED has two meanings. With a time to wait it asks for patience. Without one the
//! request is too large: a repeat would fail the same way, so it is halved, a few times at most,
//! and then lost.
//!
//! That a collector went away and that it came back is logged, once each.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use prost::Message;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::envelope::{Envelope, Items};
use crate::pipe::{Loss, Outlet, Signal, Tally};
use crate::settings::Queue;
use client::Client;

mod client;
#[cfg(test)]
mod tests;

pub(crate) use client::{ClientError, connect};

/// The first pause before a batch is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// How often a request may be halved: to an eighth, some 400 KiB. Who refuses that refuses all.
const HALVED_MAX: u32 = 3;
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Sends batches of one signal.
#[derive(Clone, Debug)]
pub(crate) struct Exporter {
    signal: Signal,
    client: Client,
    /// How long a batch is tried.
    limit: Duration,
    tally: Arc<Tally>,
    /// The last export failed; so that only changes are logged.
    failing: Arc<AtomicBool>,
}

impl Exporter {
    pub(crate) fn new(signal: Signal, client: Client, limit: Duration, tally: Arc<Tally>) -> Self {
        Self { signal, client, limit, tally, failing: Arc::default() }
    }

    /// When whatever is begun now has to be over.
    fn deadline(&self) -> Instant {
        Instant::now() + self.limit
    }

    /// Sends an encoded request of `count` things until then, and counts what became of them,
    /// unless it could be sent in halves.
    async fn export(
        &self,
        message: Vec<u8>,
        count: usize,
        until: Instant,
        going: &CancellationToken,
        halves: bool,
    ) -> Sent {
        let message = Bytes::from(message);
        let mut pause = PAUSE;
        let refused = loop {
            let status = match self.client.send(message.clone()).await {
                Ok(answer) => {
                    self.took(&answer, count);
                    return Sent::Over;
                }
                Err(status) => status,
            };
            let again = retryable(&status) && Instant::now() + pause < until;
            if !again || going.is_cancelled() {
                break status;
            }
            self.told_failure(&status);
            tokio::select! {
                () = sleep(pause) => {}
                () = going.cancelled() => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        };
        self.told_failure(&refused);
        if halves && count > 1 && is_too_large(&refused) {
            return Sent::TooLarge;
        }
        self.tally.lose(reason(&refused), count);
        Sent::Over
    }

    fn took(&self, answer: &ExportLogsServiceResponse, count: usize) {
        if self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!(signal = self.signal.word(), "the collector takes telemetry again");
        }
        // All three signals say it in the same two fields.
        let partial = answer.partial_success.as_ref();
        let rejected =
            partial.map_or(0, |it| usize::try_from(it.rejected_log_records).unwrap_or(0));
        let rejected = rejected.min(count);
        if rejected > 0 {
            self.tally.lose(Loss::Refused, rejected);
        }
        self.tally.export(count - rejected);
    }

    fn told_failure(&self, status: &Status) {
        if !self.failing.swap(true, Ordering::Relaxed) {
            let (signal, code) = (self.signal.word(), status.code());
            tracing::warn!(signal, ?code, why = %why(status), "the collector takes no telemetry");
        }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// It is counted.
    Over,
    /// It may fit in halves.
    TooLarge,
}

/// Whether a request is refused for its size, which is what RESOURCE_EXHAUSTED without a time to
/// wait says.
fn is_too_large(status: &Status) -> bool {
    status.code() == Code::ResourceExhausted && !asks_for_patience(status)
}

/// Whether a status says when to come back: it has a `google.rpc.RetryInfo` among its details.
fn asks_for_patience(status: &Status) -> bool {
    const RETRY_INFO: &[u8] = b"type.googleapis.com/google.rpc.RetryInfo";
    status.details().windows(RETRY_INFO.len()).any(|part| part == RETRY_INFO)
}

/// What a status says, cut short: it comes from outside.
fn why(status: &Status) -> String {
    status.message().chars().filter(|c| !c.is_control()).take(200).collect()
}

/// What the specification lets an exporter try again.
fn retryable(status: &Status) -> bool {
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::ResourceExhausted => asks_for_patience(status),
        Code::Ok
        | Code::Unknown
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Unimplemented
        | Code::Internal
        | Code::Unauthenticated => false,
    }
}

fn reason(status: &Status) -> Loss {
    match status.code() {
        Code::DeadlineExceeded => Loss::Timeout,
        Code::Unavailable | Code::Cancelled => Loss::Unavailable,
        Code::Ok
        | Code::Unknown
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => Loss::Refused,
    }
}

/// How things of one signal become requests, and where those go.
pub(crate) struct Exports<E> {
    pub(crate) exporter: Exporter,
    pub(crate) envelope: Envelope,
    /// Encodes one thing.
    pub(crate) encode: E,
}

impl<E> Exports<E> {
    /// Sends a batch, in as many requests as its bytes want. `left` is how many things are not
    /// counted yet.
    async fn send<T>(&mut self, batch: Vec<T>, going: &CancellationToken, left: &AtomicUsize)
    where
        E: FnMut(T, &mut Items),
    {
        let mut items = Items::default();
        batch.into_iter().for_each(|it| (self.encode)(it, &mut items));
        let until = self.exporter.deadline();
        let mut parts: VecDeque<_> = items.parts().into_iter().map(|part| (part, 0)).collect();
        while let Some((part, halved)) = parts.pop_front() {
            let count = part.len();
            let request = self.envelope.request(&items, part.clone());
            let halves = halved < HALVED_MAX;
            match self.exporter.export(request, count, until, going, halves).await {
                Sent::Over => drop(left.fetch_sub(count, Ordering::Relaxed)),
                Sent::TooLarge => {
                    let middle = part.start + count / 2;
                    parts.push_front((middle..part.end, halved + 1));
                    parts.push_front((part.start..middle, halved + 1));
                }
            }
        }
    }
}

/// Exports what comes out of a pipe until the process goes; then what is left, within `last`.
pub(crate) async fn run<T, E: FnMut(T, &mut Items)>(
    mut exports: Exports<E>,
    mut outlet: Outlet<T>,
    queue: Queue,
    going: CancellationToken,
    last: Duration,
) {
    // A collector that hangs may have an export under way when the process goes: it counts, too.
    let gone = async {
        going.cancelled().await;
        sleep(last).await;
    };
    tokio::pin!(gone);
    loop {
        let batch = tokio::select! {
            batch = outlet.batch(queue.batch, queue.delay) => batch,
            () = going.cancelled() => break,
        };
        if batch.is_empty() {
            return;
        }
        let left = AtomicUsize::new(batch.len());
        tokio::select! {
            () = exports.send(batch, &going, &left) => {}
            () = &mut gone => {
                outlet.tally().lose(Loss::Shutdown, left.load(Ordering::Relaxed));
                outlet.discard();
                return;
            }
        }
    }
    outlet.close();
    let left = AtomicUsize::new(0);
    let rest = async {
        loop {
            let batch = outlet.batch(queue.batch, Duration::ZERO).await;
            if batch.is_empty() {
                return;
            }
            left.store(batch.len(), Ordering::Relaxed);
            exports.send(batch, &going, &left).await;
        }
    };
    tokio::select! {
        () = rest => {}
        () = &mut gone => {
            outlet.tally().lose(Loss::Shutdown, left.load(Ordering::Relaxed));
            outlet.discard();
        }
    }
    debug_assert_eq!(outlet.tally().queued(), 0);
}

/// Exports metrics for the reader of the SDK, which runs on a thread of its own: the export is
/// made by the runtime, and the thread waits for it.
#[derive(Debug)]
pub(crate) struct MetricsOut {
    exporter: Exporter,
    delta: bool,
    runtime: Handle,
    going: CancellationToken,
}

impl MetricsOut {
    pub(crate) fn new(exporter: Exporter, delta: bool, going: CancellationToken) -> Self {
        Self { exporter, delta, runtime: Handle::current(), going }
    }
}

impl PushMetricExporter for MetricsOut {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let message = ExportMetricsServiceRequest::from(metrics).encode_to_vec();
        let (done, ended) = oneshot::channel();
        let (exporter, going) = (self.exporter.clone(), self.going.clone());
        self.runtime.spawn(async move {
            exporter.export(message, 1, exporter.deadline(), &going, false).await;
            let _ = done.send(()); // whoever waited may be gone
        });
        ended.await.map_err(|_| OTelSdkError::AlreadyShutdown)
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        if self.delta { Temporality::Delta } else { Temporality::Cumulative }
    }
}
