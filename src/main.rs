//! Pregón: sends signed webhooks for a platform.

mod receiver;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Sends signed webhooks for a platform: gRPC in, any wire contract out, every event accounted for.
#[derive(Debug, Parser)]
#[command(name = "pregon", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Receiver(receiver::ReceiverArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    let ran = match Cli::parse().command {
        Command::Receiver(args) => args.run().await,
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
