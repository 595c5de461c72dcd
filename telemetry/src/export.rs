//! The tasks that export: one a signal, one export at a time.
//!
//! Faults and reactions, as the OTLP specification has them: a collector that cannot be reached or
//! asks for patience gets the same batch again, with growing pauses, until the batch's time is up;
//! then the batch is dropped and counted, and the next is tried. One that refuses loses the batch
//! at once. That a collector went away and that it came back is logged, once each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

use crate::pipe::{Loss, Outlet, Signal, Tally};
use crate::settings::Queue;
use client::Client;

mod client;

pub(crate) use client::{ClientError, connect};

/// The first pause before a batch is tried again.
const PAUSE: Duration = Duration::from_millis(500);
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

    /// Sends an encoded request of `count` things, and counts what became of them.
    async fn export(&self, message: Vec<u8>, count: usize, going: &CancellationToken) {
        let message = Bytes::from(message);
        let until = Instant::now() + self.limit;
        let mut pause = PAUSE;
        let refused = loop {
            let status = match self.client.send(message.clone()).await {
                Ok(answer) => return self.took(&answer, count),
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
        self.tally.lose(reason(&refused), count);
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
        | Code::DataLoss
        | Code::ResourceExhausted => true,
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

/// Exports what comes out of a pipe until the process goes; then what is left, within `last`.
pub(crate) async fn run<T>(
    exporter: Exporter,
    mut outlet: Outlet<T>,
    queue: Queue,
    encode: impl Fn(Vec<T>) -> Vec<u8>,
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
        let count = batch.len();
        tokio::select! {
            () = exporter.export(encode(batch), count, &going) => {}
            () = &mut gone => {
                outlet.tally().lose(Loss::Shutdown, count);
                outlet.discard();
                return;
            }
        }
    }
    outlet.close();
    let rest = async {
        loop {
            let batch = outlet.batch(queue.batch, Duration::ZERO).await;
            if batch.is_empty() {
                return;
            }
            let count = batch.len();
            exporter.export(encode(batch), count, &going).await;
        }
    };
    tokio::select! {
        () = rest => {}
        () = &mut gone => outlet.discard(),
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
            exporter.export(message, 1, &going).await;
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
