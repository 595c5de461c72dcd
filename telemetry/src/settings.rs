//! Settings: the standard `OTEL_*` variables, read once at the start.
//!
//! | variable | default | why |
//! |---|---|---|
//! | `OTEL_SDK_DISABLED` | `false` | switches everything off |
//! | `OTEL_{TRACES,METRICS,LOGS}_EXPORTER` | `otlp` where an endpoint is set, else `none` | a machine without a collector has nothing to set |
//! | `OTEL_EXPORTER_OTLP_ENDPOINT` | `http://localhost:4317` | the port of OTLP over gRPC |
//! | `OTEL_EXPORTER_OTLP_PROTOCOL` | `grpc` | the only one spoken |
//! | `OTEL_EXPORTER_OTLP_{HEADERS,TIMEOUT,COMPRESSION,INSECURE}` | none, 10000 ms, none, `false` | the specification's |
//! | `OTEL_EXPORTER_OTLP_{CERTIFICATE,CLIENT_CERTIFICATE,CLIENT_KEY}` | none | PEM files; without the first the web's authorities are trusted |
//! | each of the seven with `_TRACES_`, `_METRICS_`, `_LOGS_` behind `OTLP` | the common one | one signal may go elsewhere |
//! | `OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG` | `parentbased_always_on`, 1.0 | the specification's; busy deployments want `parentbased_traceidratio`, 0.01 |
//! | `OTEL_BSP_*`, `OTEL_BLRP_*` | see [`Queue`] | queues are larger than the specification's, which a node fills in 50 ms |
//! | `OTEL_METRIC_EXPORT_INTERVAL`, `_TIMEOUT` | 60000, 30000 ms | the specification's |
//! | `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE` | `cumulative` | the specification's |
//! | `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | `pregon` | the specification's |
//! | `OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT` | 1024 | a URL may have 8 KiB |
//! | `OTEL_PROPAGATORS` | `tracecontext` | `none` switches it off; baggage is not read |
//!
//! One variable is ours: `PREGON_OTEL_ATTEMPTS`, see [`AttemptRecords`].
//!
//! Variables may be set for a whole cluster, so a word that other programs know and this one does
//! not is no mistake: it is [`Ignored`], with a warning. What cannot be read at all is said, all of
//! it at once, and the process does not start.

use std::path::PathBuf;
use std::time::Duration;

use crate::sampler::Sampler;

mod read;
#[cfg(test)]
mod tests;

pub use crate::sampler::Sampler as TraceSampler;
use read::Reader;

/// Where a signal goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// `http://` or `https://`, host and port.
    pub endpoint: String,
    /// Sent with every export; may be credentials.
    pub headers: Vec<(String, String)>,
    /// How long one export may take.
    pub timeout: Duration,
    /// Whether exports are compressed.
    pub gzip: bool,
    /// Authorities trusted instead of the web's.
    pub certificate: Option<PathBuf>,
    /// What the exporter shows of itself: certificate and key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// How a signal waits for its export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Things that wait at most; one more is dropped. 16,384: a second of a node's successes, some
    /// 10 MiB.
    pub len: usize,
    /// Things that leave at once at most. 2,048: some 1 MiB; more bytes than a collector takes
    /// leave in several requests.
    pub batch: usize,
    /// How long the first waits for company. 1 s.
    pub delay: Duration,
    /// How long a batch is tried altogether, repeats included. 30 s.
    pub timeout: Duration,
}

impl Default for Queue {
    fn default() -> Self {
        let (delay, timeout) = (Duration::from_secs(1), Duration::from_secs(30));
        Self { len: 16_384, batch: 2_048, delay, timeout }
    }
}

/// Which attempts leave as log records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttemptRecords {
    /// `all`: for those who keep years of history outside of Pregón.
    #[default]
    All,
    /// `sampled`: those of recorded traces, and every one that did not succeed.
    Sampled,
}

/// Settings of spans.
#[derive(Clone, Debug, PartialEq)]
pub struct Traces {
    /// Where they go.
    pub target: Target,
    /// How they wait.
    pub queue: Queue,
    /// Which are recorded.
    pub sampler: Sampler,
}

/// Settings of metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// Where they go.
    pub target: Target,
    /// How often.
    pub interval: Duration,
    /// How long an export may take, collecting included.
    pub timeout: Duration,
    /// Whether sums are those since the last export, and not since the start.
    pub delta: bool,
}

/// Settings of records of attempts.
#[derive(Clone, Debug, PartialEq)]
pub struct Logs {
    /// Where they go.
    pub target: Target,
    /// How they wait.
    pub queue: Queue,
    /// Which leave.
    pub attempts: AttemptRecords,
}

/// A word of a standard variable that is not known here, and is warned of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// The variable.
    pub variable: String,
    /// The word, cut short.
    pub value: String,
    /// What happens instead.
    pub instead: &'static str,
}

/// All settings. The default is: nothing leaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Spans; none: not exported.
    pub traces: Option<Traces>,
    /// Metrics; none: not exported.
    pub metrics: Option<Metrics>,
    /// Records of attempts; none: not exported.
    pub logs: Option<Logs>,
    /// What else is to be said of this process, `service.name` included where it was given.
    pub resource: Vec<(String, String)>,
    /// Bytes of a text that are kept.
    pub value_len: usize,
    /// Whether trace contexts are taken from callers and given to receivers.
    pub propagate: bool,
    /// What was set and is not heeded.
    pub ignored: Vec<Ignored>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            traces: None,
            metrics: None,
            logs: None,
            resource: Vec::new(),
            value_len: 1_024,
            propagate: true,
            ignored: Vec::new(),
        }
    }
}

impl Settings {
    /// Reads them from the environment, which `get` looks into.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, as `VARIABLE: rule`.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<String>> {
        let mut reader = Reader::new(&get);
        let mut settings = Self::read_all(&mut reader);
        settings.ignored = reader.ignored;
        if reader.wrong.is_empty() { Ok(settings) } else { Err(reader.wrong) }
    }

    fn read_all(reader: &mut Reader<'_>) -> Self {
        let mut settings = Self::default();
        if reader.flag("OTEL_SDK_DISABLED") {
            return settings;
        }
        settings.resource = reader.pairs("OTEL_RESOURCE_ATTRIBUTES");
        if let Some(name) = reader.text("OTEL_SERVICE_NAME") {
            settings.resource.retain(|(key, _)| key != "service.name");
            settings.resource.push(("service.name".to_owned(), name));
        }
        if let Some(len) = reader.number("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", 16, 65_536) {
            settings.value_len = len;
        }
        settings.propagate = reader.propagate();
        let sampler = reader.sampler();
        settings.traces = reader.target("TRACES").map(|target| Traces {
            target,
            queue: reader.queue("OTEL_BSP"),
            sampler,
        });
        settings.metrics = reader.target("METRICS").map(|target| reader.metrics(target));
        settings.logs = reader.target("LOGS").map(|target| Logs {
            target,
            queue: reader.queue("OTEL_BLRP"),
            attempts: reader.attempts(),
        });
        settings
    }
}
