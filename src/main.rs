//! Pregón: sends signed webhooks for a platform.

mod api_keys;
mod audit;
mod client;
mod contract;
mod control;
mod dataplane;
mod demo;
mod files;
mod health;
mod init;
mod keys;
mod logging;
mod measured;
mod planes;
mod random;
mod receiver;
mod serving;
mod settings;
mod standalone;
mod token;
mod waiting;

use std::pin::pin;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pregon_rpc::server::Listen;
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
    /// Sets up a Redis, once, for control planes and nodes; one that is set up is left as it is.
    Init(Box<settings::InitArgs>),
    /// Runs a control plane on a Redis: the management API. Any number of them may run.
    Control(Box<settings::ControlArgs>),
    /// Runs a node on a Redis: accepts events and delivers them. Any number of them may run.
    Dataplane(Box<settings::DataplaneArgs>),
    /// Shows the main job: sample events leave as signed POSTs and are verified on arrival.
    Demo(demo::DemoArgs),
    // What it says of itself stands at its arguments.
    Receiver(receiver::ReceiverArgs),
    // So do these.
    Contract(contract::ContractArgs),
    Token(token::TokenArgs),
    Health(health::HealthArgs),
    Keys(keys::command::KeysArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(wrong) = logging::start(&cli.log) {
        return refuse(&wrong);
    }
    files::raise();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&[format!("cannot start: {error}")]),
    };
    let ran = runtime.block_on(run(cli.command));
    // A read that hangs in the system must not keep the process from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    ran.unwrap_or_else(|wrong| refuse(&wrong))
}

/// Runs a command to its end, which may have a status of its own; what was wrong, line by line.
async fn run(command: Command) -> Result<ExitCode, Vec<String>> {
    let ran = match command {
        Command::Standalone(args) => standalone(read(args.read())?).await,
        Command::Init(args) => init::run(read(args.read())?).await,
        Command::Control(args) => control(read(args.read())?).await,
        Command::Dataplane(args) => dataplane(read(args.read())?).await,
        Command::Demo(args) => args.run().await,
        Command::Receiver(args) => args.run().await,
        Command::Token(args) => args.run(),
        Command::Contract(args) => return args.run(),
        Command::Keys(args) => args.run().await,
        Command::Health(args) => return Ok(args.run().await),
    };
    ran.map(|()| ExitCode::SUCCESS).map_err(|error| vec![format!("{error:#}")])
}

fn read<T>(settings: Result<T, Vec<settings::WrongSetting>>) -> Result<T, Vec<String>> {
    settings.map_err(|wrong| wrong.iter().map(ToString::to_string).collect())
}

/// Serves until it is told to go.
async fn standalone(settings: settings::Settings) -> anyhow::Result<()> {
    let guarded = settings.listen.clone();
    let mut end = pin!(interrupted());
    let start = Box::pin(standalone::Standalone::start(settings));
    let Some(standalone) = started(start, end.as_mut()).await? else { return Ok(()) };
    tokio::select! {
        () = until_interrupted(standalone.addr(), &guarded, end) => {}
        // What is in memory cannot be settled any more; the next start finds everything that was
        // acknowledged.
        () = standalone.broken() => anyhow::bail!("the store's writer is gone"),
    }
    standalone.stop().await?;
    tracing::info!("down");
    Ok(())
}

/// Serves the management API until it is told to go.
async fn control(settings: settings::ControlSettings) -> anyhow::Result<()> {
    let guarded = settings.listen.clone();
    let mut end = pin!(interrupted());
    let start = Box::pin(control::ControlPlane::start(settings));
    let Some(control) = started(start, end.as_mut()).await? else { return Ok(()) };
    until_interrupted(control.addr(), &guarded, end).await;
    control.stop().await?;
    tracing::info!("down");
    Ok(())
}

/// Accepts events and delivers them until it is told to go.
async fn dataplane(settings: settings::DataplaneSettings) -> anyhow::Result<()> {
    let guarded = settings.listen.clone();
    let mut end = pin!(interrupted());
    let start = Box::pin(dataplane::DataplaneNode::start(settings));
    let Some(node) = started(start, end.as_mut()).await? else { return Ok(()) };
    until_interrupted(node.addr(), &guarded, end).await;
    node.stop().await?;
    tracing::info!("down");
    Ok(())
}

/// What a start leads to; none where the signal to go comes before, as it may while the start waits for
/// its master keys.
async fn started<T>(
    start: impl Future<Output = anyhow::Result<T>>,
    end: impl Future<Output = ()>,
) -> anyhow::Result<Option<T>> {
    tokio::select! {
        started = start => started.map(Some),
        () = end => {
            tracing::info!("down before it was up");
            Ok(None)
        }
    }
}

/// Says where it listens, and waits for the signal to go.
async fn until_interrupted(
    addr: std::net::SocketAddr,
    guarded: &Listen,
    end: impl Future<Output = ()>,
) {
    tracing::info!(%addr, "listening on {addr}");
    say_guards(guarded);
    end.await;
    tracing::info!("going down");
}

/// Says what keeps strangers from the port.
fn say_guards(listen: &Listen) {
    if listen.tokens.is_none() && !listen.keys {
        tracing::info!("callers are not authenticated: only this machine can reach the port");
    }
    if listen.tls.is_none() && !listen.is_loopback() {
        tracing::warn!("gRPC is served in clear: TLS must end before the port");
    }
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
