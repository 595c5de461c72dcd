//! One measurement: of the ceiling, or of one scenario.

use std::time::Duration;

use hyper::StatusCode;
use serde::Serialize;
use tokio::time::sleep;

use super::bench::Bench;
use super::child::{self, Part};
use super::deployment::Deployment;
use super::outcome::{Outcome, Seen};
use super::scenario::{Answers, Scenario, Size};
use super::setup::{self, Server};
use super::sink_client;
use super::usage::{Cpu, Usage, per};
use crate::clock::Moment;
use crate::direct::DirectReport;
use crate::histogram::Summary;
use crate::load::{LoadReport, Mode};
use crate::sink;

/// Connections of the ceiling, and as many requests at once.
const CEILING_CONNECTIONS: u16 = 64;
/// A flat-out scenario stops publishing after this long, whatever is left.
const FLAT_OUT_SECONDS: f64 = 120.0;
/// How old a subscription is that has had no event before the measurement.
const COLD_AGE: Duration = Duration::from_secs(1);
/// How long a receiver stays down once all is published: long enough that a server which attempts
/// what it can has attempted everything once, and short beside the life of a delivery.
const OUTAGE: Duration = Duration::from_secs(5);
/// Connections that a sink of a scenario's own takes: more than a node has in flight at most.
const SINK_CONNECTIONS: &str = "16384";
/// Routes of such a sink: as many as the table's scenarios need.
const SINK_ROUTES: &str = "64";

/// How much longer than its own limit a load may take: it tries again for a minute.
const LOAD_GRACE: Duration = Duration::from_secs(90);

/// The load generator straight against the sink.
#[derive(Clone, Debug, Serialize)]
pub struct Ceiling {
    /// Bytes of data of each event.
    pub data: u32,
    /// Requests per second.
    pub per_second: f64,
    /// From request to answer.
    pub latency: Summary,
    /// Seconds of CPU per 1,000 requests.
    pub cpu: Cpu,
    /// Share of the machine's CPU that others took meanwhile.
    pub others: f64,
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
        data: size.data,
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

/// Measures one scenario, as the phases `phase` and `phase + 1`. `common` is the sink of those whose
/// receivers are fast and good.
///
/// # Errors
/// When a part does not start, or ends before its time.
pub async fn scenario(
    bench: &Bench<'_>,
    scenario: &Scenario,
    common: &Part,
    phase: u64,
) -> anyhow::Result<Outcome> {
    let (own, trust) = receiver(bench, scenario).await?;
    let sink = own.as_ref().unwrap_or(common);
    let trust: Vec<&str> = trust.iter().map(String::as_str).collect();
    let deployment = Deployment::start(bench, scenario.store, scenario.telemetry, &trust).await?;
    let api = Server::connect(deployment.api, scenario.tenants).await?;
    prepare(&api, scenario, sink).await?;
    let warm_up = match scenario.warm_up {
        true => warm_up(bench, scenario, &deployment, sink, phase).await?,
        false => 0,
    };
    if scenario.warm_up {
        api.books(false, async || Ok(())).await?;
    } else {
        sleep(COLD_AGE).await;
    }
    let hanging = match scenario.hanging {
        true => {
            let hanging = Part::sink(bench.directory, "hanging", &["--hang"]).await?;
            api.subscribe(setup::CONTRACT, |_| vec![format!("http://{}/r/0", hanging.address)])
                .await?;
            sink_client::reset(hanging.address, phase + 1).await?;
            Some(hanging)
        }
        false => None,
    };

    let look = async || Usage::now(Some(&deployment), sink).await;
    sink_client::reset(sink.address, phase + 1).await?;
    let down = scenario.receiver.answers == Answers::Down;
    if down {
        sink_client::turn_to(sink.address, StatusCode::SERVICE_UNAVAILABLE).await?;
    }
    let mut before = look().await?;
    let (args, limit) = load_args(bench, scenario, &deployment, phase + 1);
    let load: LoadReport = child::report(&args, limit).await?;
    let expected = load.acked * scenario.fan_out;
    let (mut start, mut waiting) = (load.start, None);
    if down {
        sleep(OUTAGE).await;
        waiting = Some(api.report().await?.waiting(scenario.fan_out));
        before = look().await?;
        start = Moment::now();
        sink_client::turn_to(sink.address, StatusCode::OK).await?;
    }
    let received = sink_client::arrived(sink.address, expected).await?;
    let (books, after) = api.books(scenario.hanging, look).await?;

    let seen = Seen { start, before, after, waiting, load, sink: received, books };
    let mut outcome = Outcome::new(scenario, seen)?;
    outcome.peak_memory = deployment.peak_memory()?;
    outcome.check(warm_up, scenario);
    outcome.faults.extend(deployment.stop().await);
    if let Some(hanging) = hanging {
        outcome.hanging = Some(sink_client::stats(hanging.address).await?.received);
        hanging.stop().await?;
    }
    if let Some(own) = own {
        own.stop().await?;
    }
    Ok(outcome)
}

/// Starts a sink for a scenario whose receivers are not what the common one is. With it what a
/// server is told so that it trusts them.
async fn receiver(
    bench: &Bench<'_>,
    scenario: &Scenario,
) -> anyhow::Result<(Option<Part>, Vec<String>)> {
    let receiver = &scenario.receiver;
    let mut args: Vec<String> = Vec::new();
    let mut option = |name: &str, value: String| args.extend([format!("--{name}"), value]);
    let mut trust = Vec::new();
    if receiver.delay_ms > 0 {
        option("delay", receiver.delay_ms.to_string());
    }
    if receiver.hosts > 1 {
        option("hosts", receiver.hosts.to_string());
    }
    match receiver.answers {
        Answers::Good => {}
        Answers::Retried => option("refuse-every", Answers::REFUSE_EVERY.to_string()),
        Answers::Down => option("status", StatusCode::OK.as_str().to_owned()),
    }
    if receiver.tls {
        let file = bench.directory.join("receivers.pem").display().to_string();
        option("tls-ca-file", file.clone());
        trust = vec!["--egress-ca-file".to_owned(), file];
    }
    if args.is_empty() {
        return Ok((None, trust));
    }
    let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
    args.extend(["--connections", SINK_CONNECTIONS, "--routes", SINK_ROUTES]);
    Ok((Some(Part::sink(bench.directory, "receiver", &args).await?), trust))
}

/// Makes tenants and subscriptions.
async fn prepare(api: &Server, scenario: &Scenario, sink: &Part) -> anyhow::Result<()> {
    api.create_tenants().await?;
    let contract = match scenario.retries() {
        true => api.create_contract().await?,
        false => setup::CONTRACT.to_owned(),
    };
    let scheme = if scenario.receiver.tls { "https" } else { "http" };
    let url = |route| {
        let host = sink::host(sink.address.ip(), scenario.host(route))?;
        Ok(format!("{scheme}://{host}:{}/r/{route}", sink.address.port()))
    };
    let routes = (0..scenario.tenants)
        .map(|tenant| (0..scenario.fan_out).map(|it| url(scenario.route(tenant, it))).collect());
    let urls: Vec<Vec<String>> = routes.collect::<anyhow::Result<_>>()?;
    api.subscribe(&contract, |tenant| urls[tenant].clone()).await?;
    Ok(())
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
    option("batch", bench.size.batch().to_string());
    if scenario.tenants > 1 {
        option("tenants", scenario.tenants.to_string());
    }
    option("phase", phase.to_string());
    option("id-prefix", format!("p{phase}-"));
    match scenario.rate {
        Some(rate) => option("rate", rate.to_string()),
        None => option("events", bench.size.events.to_string()),
    }
    (args, Duration::from_secs_f64(seconds) + LOAD_GRACE)
}
