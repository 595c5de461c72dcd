//! Benchmarks of Pregón: `pregon-bench run` is the one command, the others are its parts.
//!
//! `sink` receives and measures, `load` publishes, `direct` sends straight to the sink, `run`
//! starts all of them around a server and prints a table. Every part is a process of its own, so
//! that the CPU of each can be read from the kernel; they speak JSON to each other. All loads are
//! bounded in count and time, and nothing but loopback is ever connected to.

mod clock;
mod direct;
mod histogram;
mod load;
mod proc;
mod run;
mod sink;
mod stamp;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Longest time that any load may be told to last, in seconds.
const MAX_SECONDS: f64 = 3600.0;

/// Load generator, sink and benchmarks of Pregón.
#[derive(Debug, Parser)]
#[command(name = "pregon-bench", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Sink(sink::SinkArgs),
    Load(load::LoadArgs),
    Direct(direct::DirectArgs),
}

/// One thread for every part: with more, a part would take the cores that the server needs, and
/// its own cost per event would grow.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let ran = match Cli::parse().command {
        Command::Run(args) => Box::pin(run::run(args)).await,
        Command::Sink(args) => sink::run(args).await.map(|()| true),
        Command::Load(args) => load::run(args).await.map(|()| true),
        Command::Direct(args) => direct::run(args).await.map(|()| true),
    };
    match ran {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Parses an address, which has to be of this machine.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "not ADDR:PORT".to_owned())?;
    match address.ip().is_loopback() {
        true => Ok(address),
        false => Err("benchmarks speak to loopback addresses only".to_owned()),
    }
}

/// Parses how long a load lasts, in seconds.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match (0.0..=MAX_SECONDS).contains(&seconds) {
        true => Ok(seconds),
        false => Err(format!("must be from 0 to {MAX_SECONDS}")),
    }
}

/// How many per second, if there were `count` within `time`.
fn per_second(count: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}
