//! Telemetry of a process, from its settings.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_proto::tonic::resource::v1::Resource as WireResource;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use pregon_core::clock::SharedClock;
use prost::Message;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::envelope::{Envelope, Items};
use crate::export::{self, ClientError, Exporter, Exports, MetricsOut};
use crate::handle::{Parts, Telemetry};
use crate::metrics::label;
use crate::otlp;
use crate::pipe::{Pipe, Signal, Tallies, pipe};
use crate::record::{self, RecordPipe};
use crate::sampler::Sampler;
use crate::settings::{AttemptRecords, Settings};
use crate::span::Span;

/// How long what is left may take to leave when the process goes.
const LAST: Duration = Duration::from_secs(3);

/// Who tells.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `control`, `dataplane` or `standalone`.
    pub plane: &'static str,
    /// The process: a node's name, or something else that is unique.
    pub instance: String,
    /// The release.
    pub version: &'static str,
    /// Random: makes ids that no other process makes.
    pub seed: u64,
}

/// Why telemetry cannot be started.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StartError(#[from] ClientError);

/// The tasks behind a handle.
#[derive(Debug)]
pub struct Running {
    going: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    meters: SdkMeterProvider,
}

/// Starts what the settings ask for, on the present runtime.
///
/// # Errors
///
/// An endpoint, a header or a file that cannot be used. That a collector cannot be reached is no
/// error: it may come.
pub fn start(
    settings: &Settings,
    identity: &Identity,
    clock: SharedClock,
) -> Result<(Telemetry, Running), StartError> {
    for ignored in &settings.ignored {
        let (variable, value) = (ignored.variable.as_str(), ignored.value.as_str());
        tracing::warn!(variable, value, "not supported, so ignored: {}", ignored.instead);
    }
    let resource = resource(settings, identity);
    let (going, tallies) = (CancellationToken::new(), Arc::new(Tallies::default()));
    let mut starter = Starter { settings, resource, going, tallies, tasks: Vec::new() };
    let (spans, records) = (starter.traces()?, starter.logs()?);
    let meters = starter.metrics()?;
    let Starter { going, tallies, tasks, .. } = starter;
    let telemetry = Telemetry::new(Parts {
        clock,
        seed: identity.seed,
        propagate: settings.propagate,
        spans,
        records,
        tallies,
        meters: meters.clone(),
    });
    let version = [label("version", identity.version)];
    telemetry.metrics().build_info.record(1.0, &version);
    Ok((telemetry, Running { going, tasks, meters }))
}

impl Running {
    /// Exports what is left, for a few seconds at most.
    pub async fn stop(self) {
        let meters = self.meters;
        let last = tokio::task::spawn_blocking(move || {
            if let Err(error) = meters.shutdown_with_timeout(LAST) {
                tracing::debug!(%error, "the last metrics did not leave");
            }
        });
        self.going.cancel();
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of telemetry ended badly");
            }
        }
        let _ = tokio::time::timeout(LAST, last).await;
    }
}

/// What is said of the process with everything that it tells.
fn resource(settings: &Settings, identity: &Identity) -> Vec<(String, String)> {
    let own = [
        ("service.name", "pregon"),
        ("service.version", identity.version),
        ("service.instance.id", identity.instance.as_str()),
        ("pregon.plane", identity.plane),
    ];
    let given = &settings.resource;
    let own = own.into_iter().filter(|(key, _)| !given.iter().any(|(known, _)| known == key));
    own.map(|(key, value)| (key.to_owned(), value.to_owned())).chain(given.clone()).collect()
}

struct Starter<'a> {
    settings: &'a Settings,
    resource: Vec<(String, String)>,
    going: CancellationToken,
    tallies: Arc<Tallies>,
    tasks: Vec<JoinHandle<()>>,
}

impl Starter<'_> {
    fn envelope(&self) -> Envelope {
        let attributes = otlp::pairs(&self.resource);
        let resource = WireResource { attributes, ..WireResource::default() };
        Envelope { resource: resource.encode_to_vec(), scope: otlp::scope().encode_to_vec() }
    }

    fn traces(&mut self) -> Result<Option<(Pipe<Span>, Sampler)>, StartError> {
        let Some(traces) = &self.settings.traces else { return Ok(None) };
        let tally = Arc::clone(&self.tallies.traces);
        let client = export::connect(Signal::Traces, &traces.target)?;
        let (limit, queue) = (traces.queue.timeout, traces.queue);
        let exporter = Exporter::new(Signal::Traces, client, limit, Arc::clone(&tally));
        let (pipe, outlet) = pipe(queue.len, tally);
        let (envelope, len) = (self.envelope(), self.settings.value_len);
        let encode = move |span: Span, items: &mut Items| {
            items.push(&otlp::span(span, len).encode_to_vec());
        };
        let exports = Exports { exporter, envelope, encode };
        let going = self.going.clone();
        self.tasks.push(tokio::spawn(export::run(exports, outlet, queue, going, LAST)));
        Ok(Some((pipe, traces.sampler)))
    }

    fn logs(&mut self) -> Result<Option<(RecordPipe, AttemptRecords)>, StartError> {
        let Some(logs) = &self.settings.logs else { return Ok(None) };
        let tally = Arc::clone(&self.tallies.logs);
        let client = export::connect(Signal::Logs, &logs.target)?;
        let (limit, queue) = (logs.queue.timeout, logs.queue);
        let exporter = Exporter::new(Signal::Logs, client, limit, Arc::clone(&tally));
        let (pipe, outlet) = pipe(queue.len, tally);
        let encode = record::encoder(self.settings.value_len);
        let exports = Exports { exporter, envelope: self.envelope(), encode };
        let going = self.going.clone();
        self.tasks.push(tokio::spawn(export::run(exports, outlet, queue, going, LAST)));
        Ok(Some((Arc::new(pipe), logs.attempts)))
    }

    fn metrics(&mut self) -> Result<SdkMeterProvider, StartError> {
        let pairs =
            self.resource.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
        let resource = Resource::builder_empty().with_attributes(pairs).build();
        let provider = SdkMeterProvider::builder().with_resource(resource);
        let Some(metrics) = &self.settings.metrics else { return Ok(provider.build()) };
        let client = export::connect(Signal::Metrics, &metrics.target)?;
        let tally = Arc::clone(&self.tallies.metrics);
        let exporter = Exporter::new(Signal::Metrics, client, metrics.timeout, tally);
        let out = MetricsOut::new(exporter, metrics.delta, self.going.clone());
        let reader = PeriodicReader::builder(out).with_interval(metrics.interval).build();
        Ok(provider.with_reader(reader).build())
    }
}
