//! The load generator: publishes events over gRPC, flat out or at a fixed rate.
//!
//! Flat out is a closed loop: so many callers, each waits for its answer. A fixed rate is an open
//! loop: every event has the moment at which it is due, a thread of its own wakes up for it, and
//! both the latency of the acknowledgement and the one that the sink measures count from that
//! moment. An answer that is late delays later sends, but no longer hides how late they are.
//!
//! With given ids, what was refused for now or cut off is published again under the same id, as
//! API.md section 5 asks of publishers; with assigned ids only what was certainly not stored.

mod call;
mod report;
mod source;
mod stream;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use pregon_proto::v1::event_service_client::EventServiceClient;
use pregon_proto::v1::{Event, PublishRequest, event};
use tonic::transport::{Channel, Endpoint};

use crate::clock::Moment;
use crate::proc;
use crate::stamp::{self, DataMaker};
pub use report::LoadReport;
use report::Tally;
use source::{Source, Work};

/// The tenant of all events, unless told otherwise.
pub const TENANT: &str = "tenants/bench";
/// A call that has no answer after this long counts as cut off.
const CALL_TIME: Duration = Duration::from_secs(10);
/// How long after the last event is due repeats may still be tried.
const GRACE: Duration = Duration::from_secs(60);
/// A message of requests holds at most this many bytes of data, well under the server's 4 MiB.
const BATCH_BYTES: u64 = 3 * 1024 * 1024;

/// Publishes generated events and prints how that went, as JSON.
#[derive(Clone, Debug, Args)]
pub struct LoadArgs {
    /// Where EventService is; loopback only. With several nodes the connections go round them.
    #[arg(long, value_name = "ADDR:PORT", value_parser = crate::loopback, required = true, value_delimiter = ',')]
    pub target: Vec<std::net::SocketAddr>,
    /// Resource name of the tenant.
    #[arg(long, default_value = TENANT)]
    pub tenant: String,
    /// Go round so many tenants, whose names are --tenant with -0, -1 and so on after it.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub tenants: u16,
    /// Type of the events.
    #[arg(long, value_name = "TYPE", default_value = "bench.event")]
    pub event_type: String,
    /// By which RPC.
    #[arg(long, value_enum, default_value_t = Mode::Batch)]
    pub mode: Mode,
    /// Callers at once; in stream mode, streams.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub concurrency: u16,
    /// Connections that the callers share.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub connections: u16,
    /// Events per call in batch mode.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub batch: u64,
    /// Unacknowledged events per stream in stream mode.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub window: u64,
    /// Events to publish at most.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub events: u64,
    /// Seconds to publish for at most.
    #[arg(long, default_value_t = 60.0, value_parser = crate::seconds)]
    pub seconds: f64,
    /// Events per second; flat out when absent.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: Option<u32>,
    /// Bytes of data of each event.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(stamp::MIN_SIZE as i64..=256 * 1024))]
    pub size: u32,
    /// Whether events carry ids of their own.
    #[arg(long, value_enum, default_value_t = Ids::Given)]
    pub ids: Ids,
    /// What given ids begin with; the number of the event follows.
    #[arg(long, default_value = "bench-")]
    pub id_prefix: String,
    /// Number of the first event.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=stamp::MAX_SEQUENCE / 2))]
    pub first: u64,
    /// The phase of the run that the events belong to.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=stamp::MAX_PHASE))]
    pub phase: u64,
    /// Times that an event is published again before it counts as an error.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(..=1000))]
    pub retries: u32,
}

/// The RPC that events are published by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Publish: one event a call.
    Unary,
    /// PublishBatch.
    Batch,
    /// PublishStream.
    Stream,
}

/// Who names the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Ids {
    /// The publisher, so that a publish can be repeated.
    Given,
    /// The server.
    Assigned,
}

/// One run of the generator, shared by its callers.
struct Load {
    args: LoadArgs,
    tenants: Vec<String>,
    maker: DataMaker,
    source: Source,
    tally: Tally,
    /// Nothing is tried again after this.
    give_up: Moment,
}

/// Runs the load and prints its report.
///
/// # Errors
/// When the server cannot be reached at the start.
pub async fn run(args: LoadArgs) -> anyhow::Result<()> {
    let report = publish(args).await?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

/// Publishes as told and says how that went.
///
/// # Errors
/// When the server cannot be reached at the start.
pub async fn publish(args: LoadArgs) -> anyhow::Result<LoadReport> {
    let per_call = if args.mode == Mode::Batch { args.batch } else { 1 };
    ensure!(
        per_call * u64::from(args.size) <= BATCH_BYTES,
        "--batch {} of --size {} is more than {BATCH_BYTES} bytes a call",
        args.batch,
        args.size
    );
    let clients = connect(&args).await?;
    let before = proc::own_cpu()?;
    let start = Moment::now();
    let until = start.plus(Duration::from_secs_f64(args.seconds));
    let load = Arc::new(Load {
        maker: DataMaker::new(args.phase, args.size as usize),
        source: Source::start(&args, start, until),
        tally: Tally::default(),
        give_up: until.plus(GRACE),
        tenants: tenants(&args.tenant, args.tenants),
        args,
    });
    let mut callers = tokio::task::JoinSet::new();
    for client in clients {
        let load = load.clone();
        callers.spawn(async move {
            match load.args.mode {
                Mode::Unary => call::unary(&load, client).await,
                Mode::Batch => call::batch(&load, client).await,
                Mode::Stream => stream::run(&load, client).await,
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.context("a caller died")?;
    }
    Ok(load.tally.report(&load.args, start, proc::own_cpu()? - before))
}

/// One client for each caller, over as many connections as asked for, one to each target at least.
async fn connect(args: &LoadArgs) -> anyhow::Result<Vec<EventServiceClient<Channel>>> {
    let mut channels = Vec::new();
    let connections = usize::from(args.connections.min(args.concurrency)).max(args.target.len());
    for target in args.target.iter().cycle().take(connections) {
        let endpoint = Endpoint::from_shared(format!("http://{target}"))?
            .connect_timeout(CALL_TIME)
            .tcp_nodelay(true);
        let channel = endpoint.connect().await;
        channels.push(channel.with_context(|| format!("cannot reach {target}"))?);
    }
    let shared = channels.iter().cycle().take(args.concurrency.into());
    Ok(shared.cloned().map(EventServiceClient::new).collect())
}

/// The names of so many tenants: the given one, or with numbers after it.
pub fn tenants(name: &str, count: u16) -> Vec<String> {
    match count {
        1 => vec![name.to_owned()],
        count => (0..count).map(|number| format!("{name}-{number}")).collect(),
    }
}

impl Load {
    /// Whose event that is: neighbours are of different tenants.
    fn tenant(&self, sequence: u64) -> &str {
        let round = sequence % (self.tenants.len().max(1) as u64);
        let tenant = usize::try_from(round).ok().and_then(|round| self.tenants.get(round));
        tenant.map_or("", String::as_str)
    }

    fn request(&self, work: &Work) -> PublishRequest {
        let mut json = String::new();
        self.maker.write(work.sequence, work.due, &mut json);
        let id = match self.args.ids {
            Ids::Given => format!("{}{:010}", self.args.id_prefix, work.sequence),
            Ids::Assigned => String::new(),
        };
        PublishRequest {
            tenant: self.tenant(work.sequence).to_owned(),
            event: Some(Event {
                id,
                r#type: self.args.event_type.clone(),
                data: Some(event::Data::Json(json)),
                ..Event::default()
            }),
            ..PublishRequest::default()
        }
    }

    /// Whether an event that was answered with `status` is to be published once more.
    fn again(&self, work: &Work, status: &tonic::Status) -> bool {
        use tonic::Code::{
            Aborted, AlreadyExists, Cancelled, DataLoss, DeadlineExceeded, FailedPrecondition,
            Internal, InvalidArgument, NotFound, Ok, OutOfRange, PermissionDenied,
            ResourceExhausted, Unauthenticated, Unavailable, Unimplemented, Unknown,
        };
        // A status made on this side has the fault of the connection as its source.
        let cut = std::error::Error::source(status).is_some();
        let may = match status.code() {
            ResourceExhausted => true,
            Unavailable | DeadlineExceeded => self.args.ids == Ids::Given,
            Cancelled | Unknown | Internal => cut && self.args.ids == Ids::Given,
            Ok | InvalidArgument | NotFound | AlreadyExists | PermissionDenied
            | FailedPrecondition | Aborted | OutOfRange | Unimplemented | DataLoss
            | Unauthenticated => false,
        };
        may && work.tries < self.args.retries && Moment::now() < self.give_up
    }
}

/// How long to wait before an event is published for the `tries`-th time again.
fn pause(tries: u32) -> Duration {
    Duration::from_millis(10)
        .saturating_mul(1 << tries.clamp(1, 8) >> 1)
        .min(Duration::from_secs(1))
}
