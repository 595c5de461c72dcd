//! Pregón: sends signed webhooks for a platform.

mod demo;
mod logging;
mod random;
mod receiver;
mod settings;
mod standalone;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sends signed webhooks for a platform: gRPC in, any wire contract out, every event accounted for.
#[derive(Debug, Parser)]
#[command(name = "pregon", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    log: logging::LogArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs both planes in one process on one port, on an embedded store.
    Standalone(Box<settings::StandaloneArgs>),
    /// Shows the main job: sample events leave as signed POSTs and are verified on arrival.
    Demo(demo::DemoArgs),
    // What it says of itself stands at its arguments.
    Receiver(receiver::ReceiverArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(wrong) = logging::start(&cli.log) {
        return refuse(&wrong);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&[format!("cannot start: {error}")]),
    };
    let ran = runtime.block_on(async {
        match cli.command {
            Command::Standalone(args) => match args.read() {
                Ok(settings) => standalone(settings).await,
                Err(wrong) => {
                    return refuse(&wrong.iter().map(ToString::to_string).collect::<Vec<_>>());
                }
            },
            Command::Demo(args) => args.run().await,
            Command::Receiver(args) => args.run().await,
        }
        .map_or_else(|error| refuse(&[format!("{error:#}")]), |()| ExitCode::SUCCESS)
    });
    // A read that hangs in the system must not keep the process from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    ran
}

/// Serves until it is told to go.
async fn standalone(settings: settings::Settings) -> anyhow::Result<()> {
    let loopback = settings.listen.ip().is_loopback();
    let standalone = standalone::Standalone::start(settings).await?;
    let addr = standalone.addr();
    tracing::info!(%addr, "listening on {addr}");
    if loopback {
        tracing::info!(
            "callers are not authenticated yet, so only this machine can reach the port"
        );
    } else {
        tracing::warn!("callers are not authenticated: whoever reaches {addr} can do everything");
    }
    interrupted().await;
    tracing::info!("going down");
    standalone.stop().await?;
    tracing::info!("down");
    Ok(())
}

/// Waits for SIGTERM or SIGINT.
async fn interrupted() {
    let (Ok(mut term), Ok(mut int)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("cannot listen for signals");
        return;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// Says everything that is wrong, and fails.
fn refuse(wrong: &[String]) -> ExitCode {
    for line in wrong {
        eprintln!("error: {line}");
    }
    ExitCode::FAILURE
}
