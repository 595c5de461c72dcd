//! The receiver of a benchmark: takes POSTs, counts them, and says how long they took.
//!
//! It does as little as a receiver can, so that what is measured is the sender: one thread, no
//! parsing but for the stamp, counters instead of records. A path `/r/{n}` is a route with counts
//! of its own, so that one sink can play many subscribers. Duplicates are found by the number in
//! the stamp. What belongs to another phase of the run is counted apart and otherwise ignored, so
//! that a late retry of one measurement cannot spoil the next.

mod serve;
mod tally;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::net::TcpListener;

pub use tally::{SinkReport, Tally};

/// Counts the requests that it receives, and measures how long their events took.
///
/// GET /stats answers with the counts as JSON, POST /reset?phase=N forgets them and expects phase
/// N, any other POST is counted: under route n for the path /r/{n}, else under route 0.
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
    /// The status to answer with.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
    pub status: u16,
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

/// How the sink answers a request that it has counted.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Not before this much time has passed.
    pub delay: Duration,
    /// Not at all.
    pub hang: bool,
    /// With this status.
    pub status: hyper::StatusCode,
}

/// Runs a sink until it is told to end, then prints its counts.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn run(args: SinkArgs) -> anyhow::Result<()> {
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    say(&serde_json::json!({ "listening": listener.local_addr()? }))?;
    let tally = Tally::new(args.routes, args.unique, args.phase);
    let manner = Manner {
        delay: Duration::from_millis(args.delay),
        hang: args.hang,
        status: hyper::StatusCode::from_u16(args.status)?,
    };
    tokio::select! {
        () = serve::accept(listener, tally.clone(), manner, args.connections) => {}
        () = stdin_closed(), if args.until_stdin_closes => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    say(&serde_json::to_value(tally.report())?)
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
