//! `pregon contract`: a contract is checked and tried on the spot, without a server.
//!
//! Both commands read a document as the control plane does before it stores one (`source`). `check`
//! ends there; `render` goes on with an event (`event`) and shows the request that an attempt would
//! send (`shown`). Nothing is sent, and nothing is kept.

use std::process::ExitCode;

use clap::{Args, Subcommand};

mod check;
mod event;
mod fault;
mod render;
mod shown;
mod source;

/// Checks contracts and shows what they send, without a server
#[derive(Args, Clone, Debug)]
pub struct ContractArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    // What they say of themselves stands at their arguments.
    Check(check::CheckArgs),
    Render(Box<render::RenderArgs>),
}

impl ContractArgs {
    /// Does what was asked. The status is 1 where a document was refused.
    ///
    /// # Errors
    ///
    /// What keeps the command from its work.
    pub fn run(self) -> Result<ExitCode, Vec<String>> {
        match self.command {
            Command::Check(args) => args.run(),
            Command::Render(args) => args.run(),
        }
    }
}
