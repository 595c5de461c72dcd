//! One measurement: of the ceiling, or of one scenario.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::child::{self, Part};
use super::deployment::{Deployment, Used};
use super::redis::{Info, RedisCost};
use super::scenario::{Scenario, Size};
use super::setup::{Books, Server};
use super::{RunArgs, sink_client};
use crate::clock::Moment;
use crate::direct::DirectReport;
use crate::histogram::Summary;
use crate::load::{LoadReport, Mode};
use crate::proc;
use crate::sink::SinkReport;

/// Connections of the ceiling, and as many requests at once.
const CEILING_CONNECTIONS: u16 = 64;
/// A flat-out scenario stops publishing after this long, whatever is left.
const FLAT_OUT_SECONDS: f64 = 120.0;
/// How much longer than its own limit a load may take: it tries again for a minute.
const LOAD_GRACE: Duration = Duration::from_secs(90);

/// What is the same for all scenarios of a run, and the directory of this one.
#[derive(Clone, Copy, Debug)]
pub struct Bench<'a> {
    /// The server's binary.
    pub pregon: &'a Path,
    /// What was asked for.
    pub args: &'a RunArgs,
    /// How much of it is measured.
    pub size: &'a Size,
    /// Where the server has its store and log.
    pub directory: &'a Path,
}

/// The load generator straight against the sink.
#[derive(Clone, Debug, Serialize)]
pub struct Ceiling {
    /// Requests per second.
    pub per_second: f64,
    /// From request to answer.
    pub latency: Summary,
    /// Seconds of CPU per 1,000 requests.
    pub cpu: Cpu,
    /// Share of the machine's CPU that others took meanwhile.
    pub others: f64,
}

/// Seconds of CPU per 1,000 deliveries, by process.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Cpu {
    /// The load generator.
    pub load: f64,
    /// The server, or control plane and nodes; none in the ceiling.
    pub server: f64,
    /// Redis, if there is one.
    pub redis: f64,
    /// The sink.
    pub sink: f64,
}

/// What one scenario came to.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Key of the scenario.
    pub scenario: &'static str,
    /// Which of the rounds this is, from 0.
    pub round: u32,
    /// Deliveries that every acknowledged event should have led to.
    pub expected: u64,
    /// Different deliveries that the sink received.
    pub delivered: u64,
    /// Of these, per second from the start of the load to the last receipt.
    pub per_second: f64,
    /// The mean of the ceiling before and after, in requests per second.
    pub ceiling: f64,
    /// `per_second` as a share of it.
    pub ratio: f64,
    /// CPU from the start of the load until everything was settled.
    pub cpu: Cpu,
    /// Share of the machine's CPU that others took meanwhile.
    pub others: f64,
    /// Growth of the store's directory, in bytes per event.
    pub stored_per_event: f64,
    /// Bytes that the server, or Redis, caused to be written to storage, per event.
    pub written_per_event: f64,
    /// Most memory that the server, or control plane and nodes, held, in bytes.
    pub peak_memory: u64,
    /// What Redis spent on each event, if there is one.
    pub redis: Option<RedisCost>,
    /// How publishing went.
    pub load: LoadReport,
    /// What the sink counted.
    pub sink: SinkReport,
    /// Requests that the receiver which never answers was sent.
    pub hanging: Option<u64>,
    /// The server's own books.
    pub books: Books,
    /// Whatever did not add up.
    pub faults: Vec<String>,
}

/// What processes and machine have used at one moment.
struct Usage {
    at: Moment,
    sink: Duration,
    machine: Duration,
    own: Duration,
    deployment: Used,
    redis: Option<Info>,
}

impl Usage {
    async fn now(deployment: Option<&Deployment>, sink: &Part) -> anyhow::Result<Self> {
        let redis = match deployment.and_then(|deployment| deployment.redis.as_ref()) {
            Some(redis) => Some(redis.info().await?),
            None => None,
        };
        Ok(Self {
            at: Moment::now(),
            sink: proc::cpu(sink.pid)?,
            machine: proc::machine_cpu()?,
            own: proc::own_cpu()?,
            deployment: deployment.map(Deployment::used).transpose()?.unwrap_or_default(),
            redis,
        })
    }

    /// Share of the machine's CPU that nobody of ours took since `before`, when the load took
    /// `load`.
    fn others_since(&self, before: &Usage, load: Duration) -> anyhow::Result<f64> {
        let (now, then) = (&self.deployment, &before.deployment);
        let ours = (now.server - then.server) + (now.redis - then.redis);
        let ours = ours + (self.sink - before.sink) + (self.own - before.own) + load;
        let others = (self.machine - before.machine).saturating_sub(ours);
        let cores = std::thread::available_parallelism()?.get();
        let whole = self.at.since(before.at).as_secs_f64() * cores as f64;
        Ok((others.as_secs_f64() / whole).min(1.0))
    }
}

/// Measures the ceiling.
///
/// # Errors
/// When the sink is gone.
pub async fn ceiling(sink: &Part, size: &Size, phase: u64) -> anyhow::Result<Ceiling> {
    sink_client::reset(sink.address, phase).await?;
    let before = Usage::now(None, sink).await?;
    let args = ["direct", "--target", &sink.address.to_string()].map(str::to_owned);
    let mut args = Vec::from(args);
    let mut option = |name: &str, value: String| args.extend([format!("--{name}"), value]);
    option("connections", CEILING_CONNECTIONS.to_string());
    option("seconds", size.ceiling_seconds.to_string());
    option("size", size.data.to_string());
    option("phase", phase.to_string());
    let limit = Duration::from_secs_f64(size.ceiling_seconds) + LOAD_GRACE;
    let direct: DirectReport = child::report(&args, limit).await?;
    let after = Usage::now(None, sink).await?;
    let per_1000 = |cpu: f64| per(cpu * 1000.0, direct.requests);
    Ok(Ceiling {
        per_second: direct.requests_per_second,
        latency: direct.latency,
        cpu: Cpu {
            load: per_1000(direct.cpu_seconds),
            server: 0.0,
            redis: 0.0,
            sink: per_1000((after.sink - before.sink).as_secs_f64()),
        },
        others: after.others_since(&before, Duration::from_secs_f64(direct.cpu_seconds))?,
    })
}

/// Measures one scenario, as the phases `phase` and `phase + 1`.
///
/// # Errors
/// When a part does not start, or ends before its time.
pub async fn scenario(
    bench: &Bench<'_>,
    scenario: &Scenario,
    sink: &Part,
    phase: u64,
) -> anyhow::Result<Outcome> {
    let deployment = Deployment::start(bench, scenario.store, scenario.telemetry, &[]).await?;
    let api = Server::connect(deployment.api).await?;
    api.create_tenant().await?;
    let urls = (0..scenario.fan_out).map(|route| format!("http://{}/r/{route}", sink.address));
    api.subscribe(&urls.collect::<Vec<_>>()).await?;
    let warm_up = warm_up(bench, scenario, &deployment, sink, phase).await?;
    api.books(false, async || Ok(())).await?;
    let hanging = match scenario.hanging {
        true => {
            let hanging = Part::sink(bench.directory, "hanging", &["--hang"]).await?;
            api.subscribe(&[format!("http://{}/r/0", hanging.address)]).await?;
            sink_client::reset(hanging.address, phase + 1).await?;
            Some(hanging)
        }
        false => None,
    };

    sink_client::reset(sink.address, phase + 1).await?;
    let before = Usage::now(Some(&deployment), sink).await?;
    let (args, limit) = load_args(bench, scenario, &deployment, phase + 1);
    let load: LoadReport = child::report(&args, limit).await?;
    let expected = load.acked * scenario.fan_out;
    let received = sink_client::arrived(sink.address, expected).await?;
    let look = async || Usage::now(Some(&deployment), sink).await;
    let (books, after) = api.books(scenario.hanging, look).await?;

    let mut outcome = Outcome::new(scenario, &before, &after, load, received, books)?;
    outcome.peak_memory = deployment.peak_memory()?;
    outcome.check(warm_up, scenario);
    outcome.faults.extend(deployment.stop().await);
    if let Some(hanging) = hanging {
        outcome.hanging = Some(sink_client::stats(hanging.address).await?.received);
        hanging.stop().await?;
    }
    Ok(outcome)
}

/// Publishes some events in batches and waits until they are delivered: connections are open then,
/// and lanes have grown. Returns how many were acknowledged.
async fn warm_up(
    bench: &Bench<'_>,
    scenario: &Scenario,
    deployment: &Deployment,
    sink: &Part,
    phase: u64,
) -> anyhow::Result<u64> {
    sink_client::reset(sink.address, phase).await?;
    let gentle = Scenario { mode: Mode::Batch, concurrency: 1, rate: None, ..scenario.clone() };
    let size = Size { events: bench.size.warm_up, ..*bench.size };
    let (args, limit) = load_args(&Bench { size: &size, ..*bench }, &gentle, deployment, phase);
    let load: LoadReport = child::report(&args, limit).await?;
    sink_client::arrived(sink.address, load.acked * scenario.fan_out).await?;
    Ok(load.acked)
}

fn load_args(
    bench: &Bench<'_>,
    scenario: &Scenario,
    deployment: &Deployment,
    phase: u64,
) -> (Vec<String>, Duration) {
    let seconds = match scenario.rate {
        Some(_) => bench.size.seconds,
        None => FLAT_OUT_SECONDS,
    };
    let mut args = vec!["load".to_owned()];
    let mut option = |name: &str, value: String| args.extend([format!("--{name}"), value]);
    let targets: Vec<String> = deployment.targets.iter().map(ToString::to_string).collect();
    option("target", targets.join(","));
    option("ids", scenario.ids.word().to_owned());
    option("mode", scenario.mode.word().to_owned());
    option("concurrency", scenario.concurrency.to_string());
    option("connections", scenario.connections.to_string());
    option("seconds", seconds.to_string());
    option("size", bench.size.data.to_string());
    option("phase", phase.to_string());
    option("id-prefix", format!("p{phase}-"));
    match scenario.rate {
        Some(rate) => option("rate", rate.to_string()),
        None => option("events", (bench.size.events / scenario.fan_out).max(1).to_string()),
    }
    (args, Duration::from_secs_f64(seconds) + LOAD_GRACE)
}

impl Outcome {
    fn new(
        scenario: &Scenario,
        before: &Usage,
        after: &Usage,
        load: LoadReport,
        sink: SinkReport,
        books: Books,
    ) -> anyhow::Result<Self> {
        let delivered = sink.unique();
        let per_1000 = |cpu: f64| per(cpu * 1000.0, delivered);
        let per_event = |bytes: u64| per(bytes as f64, load.acked);
        let (used, then) = (&after.deployment, &before.deployment);
        let redis = before.redis.as_ref().zip(after.redis.as_ref());
        let load_cpu = Duration::from_secs_f64(load.cpu_seconds);
        Ok(Self {
            scenario: scenario.key,
            round: 0,
            expected: load.acked * scenario.fan_out,
            delivered,
            per_second: crate::per_second(delivered, sink.last.since(load.start)),
            ceiling: 0.0,
            ratio: 0.0,
            cpu: Cpu {
                load: per_1000(load.cpu_seconds),
                server: per_1000((used.server - then.server).as_secs_f64()),
                redis: per_1000((used.redis - then.redis).as_secs_f64()),
                sink: per_1000((after.sink - before.sink).as_secs_f64()),
            },
            others: after.others_since(before, load_cpu)?,
            stored_per_event: per_event(used.stored.saturating_sub(then.stored)),
            written_per_event: per_event(used.written.saturating_sub(then.written)),
            peak_memory: 0,
            redis: redis.map(|(before, after)| RedisCost::between(before, after, load.acked)),
            load,
            sink,
            hanging: None,
            books,
            faults: Vec::new(),
        })
    }

    /// Says which round this was, and what the ceiling was meanwhile.
    pub fn set_ceiling(&mut self, round: u32, ceiling: f64) {
        self.round = round;
        self.ceiling = ceiling;
        self.ratio = if ceiling > 0.0 { self.per_second / ceiling } else { 0.0 };
    }

    /// Whatever did not go as it should.
    fn check(&mut self, warm_up: u64, scenario: &Scenario) {
        let mut faults =
            self.books.faults(warm_up + self.load.acked, scenario.fan_out, scenario.hanging);
        if self.delivered != self.expected {
            faults.push(format!("{} of {} deliveries arrived", self.delivered, self.expected));
        }
        if self.load.acked == 0 {
            faults.push("nothing was acknowledged".to_owned());
        }
        for (error, count) in &self.load.errors {
            faults.push(format!("{count} events not published: {error}"));
        }
        self.faults = faults;
    }

    /// The outcome in a line.
    pub fn line(&self) -> String {
        format!(
            "{:.0} deliveries/s, {:.1} % of {:.0}; received p50 {:.1} ms, p99 {:.1} ms; \
             server {:.3} CPU s per 1,000; others took {:.0} %{}",
            self.per_second,
            self.ratio * 100.0,
            self.ceiling,
            self.sink.latency.p50_us / 1000.0,
            self.sink.latency.p99_us / 1000.0,
            self.cpu.server,
            self.others * 100.0,
            if self.faults.is_empty() { "" } else { "; FAULTY" },
        )
    }
}

fn per(amount: f64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { amount / count as f64 }
}
