//! `pregon token`: makes a token for a caller.
//!
//! The token is shown once and kept nowhere; the tokens file gets its hash. So both can be handed to
//! whoever needs them: the first line to the caller, the second to the file.

use std::io::{IsTerminal, Write};

use anyhow::bail;
use clap::Args;
use pregon_core::clock::{Clock, SystemClock};
use pregon_rpc::tokens::Grant;

/// Makes a token for a caller: prints the token, and below it the line for the tokens file.
#[derive(Args, Clone, Debug)]
pub struct TokenArgs {
    /// Who will use it; appears in the log. A name may have several tokens.
    #[arg(long, value_name = "NAME")]
    name: String,

    /// What it is good for: admin, operator, tenant_manager, publisher, viewer or auditor.
    ///
    /// Each of admin, operator, tenant_manager, viewer and auditor includes those behind it;
    /// publisher stands alone.
    #[arg(long, value_name = "ROLE")]
    role: String,

    /// Ids of the only tenants that it may touch, as in acme,globex; all tenants if not given.
    #[arg(long, value_name = "TENANTS")]
    tenants: Option<String>,

    /// When it stops being valid, a time ahead as in 2027-01-31T00:00:00Z; never if not given.
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
}

impl TokenArgs {
    /// Makes and prints one.
    pub fn run(self) -> anyhow::Result<()> {
        let Self { name, role, tenants, expires } = self;
        let grant = Grant { name, role, tenants, expires };
        let ahead = grant.check_ahead(SystemClock.now());
        let made = match (grant.issue(crate::random::fill), ahead) {
            (Ok(made), Ok(())) => made,
            (Ok(_), Err(rule)) => bail!(rule),
            (Err(wrong), ahead) => {
                let all: Vec<_> = wrong.into_iter().chain(ahead.err()).collect();
                bail!("{}", all.join("; "))
            }
        };
        let mut out = std::io::stdout();
        if out.is_terminal() {
            eprintln!("The token, shown this once, and the line for the file of --tokens-file:");
        }
        writeln!(out, "{}\n{}", made.token.as_str(), made.line)?;
        Ok(())
    }
}
