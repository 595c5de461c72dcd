//! The receiver of a benchmark: takes POSTs, counts them, and says how long they took.
//!
//! It does as little as a receiver can, so that what is measured is the sender: one thread, no
//! parsing but for the stamp, counters instead of records. A path `/r/{n}` is a route with counts
//! of its own, so that one sink can play many subscribers. Duplicates are found by the number in
//! the stamp. What belongs to another phase of the run is counted apart and otherwise ignored, so
//! that a late retry of one measurement cannot spoil the next.
//!
//! It can also be as receivers are: slow, down for a while, unwilling at first, on several hosts,
//! behind TLS. What it refuses is counted apart, so that an event has arrived only once a request
//! with it was answered with a status that acknowledges.

mod delay;
mod serve;
mod tally;
#[cfg(test)]
mod tests;
mod tls;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use hyper::StatusCode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;

use crate::stamp::Stamp;
use delay::Delay;
use tls::Tls;

pub use tally::{SinkReport, Tally};

/// Hosts at most: the last byte of their addresses counts them.
const MAX_HOSTS: i64 = 250;

/// Ports that are tried until one is free on every host.
const PORT_TRIES: u32 = 10;

/// Counts the requests that it receives, and measures how long their events took.
///
/// GET /stats answers with the counts as JSON, POST /reset?phase=N forgets them and expects phase
/// N, POST /answer?status=N answers with that status from now on, any other POST is counted: under
/// route n for the path /r/{n}, else under route 0.
#[derive(Clone, Debug, Args)]
pub struct SinkArgs {
    /// Address to listen on; loopback only. With port 0 the first line of stdout says which port.
    #[arg(long, default_value = "127.0.0.1:0", value_parser = crate::loopback)]
    pub listen: SocketAddr,
    /// Wait this long before each answer, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=600_000))]
    pub delay: u64,
    /// Never answer: hold each request until the sender gives up.
    #[arg(long)]
    pub hang: bool,
    /// The status to answer with at first.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
    pub status: u16,
    /// Answer the first request with each N-th event with 500: those whose numbers N divides.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub refuse_every: Option<u64>,
    /// Listen on so many loopback addresses, one after the other, with the same port.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=MAX_HOSTS))]
    pub hosts: u8,
    /// Take https as well, with a certificate made now, and write to this file whom to trust.
    #[arg(long, value_name = "FILE")]
    pub tls_ca_file: Option<PathBuf>,
    /// Routes with counts of their own.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub routes: u16,
    /// Find duplicates among events numbered below this; a bit of memory each, for each route.
    #[arg(long, default_value_t = 4_000_000, value_parser = clap::value_parser!(u64).range(..=1_000_000_000))]
    pub unique: u64,
    /// The phase of the run to expect at first.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=crate::stamp::MAX_PHASE))]
    pub phase: u64,
    /// Open connections at most; more wait to be accepted.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u16).range(1..))]
    pub connections: u16,
    /// End when stdin closes, so that the sink cannot outlive whoever started it.
    #[arg(long)]
    pub until_stdin_closes: bool,
}

/// How the sink answers a request.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Not before this much time has passed.
    pub delay: Duration,
    /// Not at all.
    pub hang: bool,
    /// With 500 when it is the first with an event whose number this divides.
    pub refuse_every: Option<u64>,
}

/// A receiver: how it answers, and what it has counted.
#[derive(Debug)]
pub struct Sink {
    /// What it has counted.
    pub tally: Tally,
    /// How it answers.
    pub manner: Manner,
    delay: Option<Delay>,
    /// With which status, unless its manner says otherwise.
    status: AtomicU16,
}

impl Sink {
    /// One that has counted nothing.
    pub fn new(tally: Tally, manner: Manner, status: StatusCode) -> Self {
        let delay = Delay::start(manner.delay);
        Self { tally, manner, delay, status: AtomicU16::new(status.as_u16()) }
    }

    /// Answers with another status from now on.
    pub fn turn_to(&self, status: StatusCode) {
        self.status.store(status.as_u16(), Relaxed);
    }

    /// What to answer a request with this stamp.
    pub fn status(&self, route: usize, stamp: Option<Stamp>) -> StatusCode {
        let chosen = |stamp: Stamp| {
            self.manner.refuse_every.is_some_and(|every| stamp.sequence.is_multiple_of(every))
                && self.tally.never_refused(route, stamp)
        };
        match stamp {
            Some(stamp) if chosen(stamp) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::from_u16(self.status.load(Relaxed)).unwrap_or_default(),
        }
    }
}

/// Runs a sink until it is told to end, then prints its counts.
///
/// # Errors
/// When an address cannot be listened on, or a certificate not be made.
pub async fn run(args: SinkArgs) -> anyhow::Result<()> {
    open_files()?;
    let tls =
        args.tls_ca_file.as_deref().map(|file| Tls::make(file, &hosts(&args)?)).transpose()?;
    let listeners = listen(&args).await?;
    let tally = Tally::new(args.routes, args.unique, args.phase);
    let manner = Manner {
        delay: Duration::from_millis(args.delay),
        hang: args.hang,
        refuse_every: args.refuse_every,
    };
    let sink = Arc::new(Sink::new(tally, manner, StatusCode::from_u16(args.status)?));
    say(&serde_json::json!({ "listening": listeners[0].local_addr()? }))?;
    let mut hosts = tokio::task::JoinSet::new();
    for listener in listeners {
        hosts.spawn(serve::accept(listener, sink.clone(), tls.clone(), args.connections));
    }
    tokio::select! {
        _ = hosts.join_next() => {}
        () = stdin_closed(), if args.until_stdin_closes => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    say(&serde_json::to_value(sink.tally.report())?)
}

/// The addresses that are listened on.
fn hosts(args: &SinkArgs) -> anyhow::Result<Vec<IpAddr>> {
    (0..args.hosts).map(|host| self::host(args.listen.ip(), host)).collect()
}

/// The address so many after the first.
///
/// # Errors
/// When there is none on the loopback interface: it has one of IPv6.
pub fn host(first: IpAddr, number: u8) -> anyhow::Result<IpAddr> {
    match first {
        first if number == 0 => Ok(first),
        IpAddr::V4(first) => {
            let address = Ipv4Addr::from_bits(first.to_bits().saturating_add(number.into()));
            ensure!(address.is_loopback(), "{address} is not of this machine");
            Ok(address.into())
        }
        IpAddr::V6(_) => bail!("--hosts needs an IPv4 address to begin with"),
    }
}

/// Listens on every host, all with the port of the first.
async fn listen(args: &SinkArgs) -> anyhow::Result<Vec<TcpListener>> {
    let hosts = hosts(args)?;
    // A port that is free on the first host may be taken on another: then another one is.
    let tries = if args.listen.port() == 0 { PORT_TRIES } else { 1 };
    let mut tried = 1;
    loop {
        match listen_once(&hosts, args.listen.port()).await {
            Err(error) if tried == tries => return Err(error),
            Err(_) => tried += 1,
            Ok(listeners) => return Ok(listeners),
        }
    }
}

async fn listen_once(hosts: &[IpAddr], mut port: u16) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for host in hosts {
        let listener = TcpListener::bind((*host, port)).await;
        let listener = listener.with_context(|| format!("cannot listen on {host}:{port}"))?;
        port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Lets this process open as many files as it may: a connection is one.
fn open_files() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit { current: limit.maximum, ..limit };
    setrlimit(Resource::Nofile, most).context("cannot raise the number of open files")
}

fn say(value: &serde_json::Value) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{value}")?;
    Ok(stdout.flush()?)
}

/// Waits, on a thread of its own, for the end of stdin.
async fn stdin_closed() {
    let (closed, wait) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = closed.send(());
    });
    let _ = wait.await;
}
