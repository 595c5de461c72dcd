//! `pregon health`: asks a process how it is.
//!
//! It asks what any probe asks, `grpc.health.v1.Health/Check`, and needs no reflection and no token
//! for it. With a token that may read what belongs to all tenants it is told why a process is not
//! ready, too.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use pregon_rpc::health::{LIVENESS, NOT_READY, READINESS};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::client::{Way, told};

/// Status of the command where something does not serve.
const NOT_SERVING: u8 = 1;
/// Status of the command where nobody answers.
const NOT_REACHED: u8 = 2;
/// How long the process may take to answer: it asks nobody else for it.
const TIME: Duration = Duration::from_secs(5);

/// Asks a process whether it lives and is ready, and why not: ends with status 0 where it serves, 1
/// where it does not, 2 where nobody answers.
#[derive(Args, Clone, Debug)]
pub struct HealthArgs {
    /// Where to ask: HOST:PORT, which is plain text, or http://… or https://….
    #[arg(env = "PREGON_HEALTH_ADDRESS", default_value = "127.0.0.1:7070", value_name = "ADDRESS")]
    address: String,

    /// Ask only for this: `liveness` or `readiness`; both if not given.
    #[arg(long, env = "PREGON_HEALTH_ONLY", value_name = "WHAT")]
    only: Option<String>,

    /// File with the token that is shown, alone on its line. The bare state needs none.
    ///
    /// The reasons are told to a token of any role but publisher that is for all tenants.
    #[arg(long, env = "PREGON_HEALTH_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// PEM file with the certificate authorities of an https:// address; the web's if not given.
    #[arg(long, env = "PREGON_HEALTH_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// Name in the certificate of an https:// address, where it is not the address's own.
    #[arg(long, env = "PREGON_HEALTH_SERVER_NAME", value_name = "NAME")]
    server_name: Option<String>,

    /// PEM file with the certificate that is shown, where callers need one.
    #[arg(long, env = "PREGON_HEALTH_CERT_FILE", value_name = "FILE", requires = "key_file")]
    cert_file: Option<PathBuf>,

    /// PEM file with the key of that certificate.
    #[arg(long, env = "PREGON_HEALTH_KEY_FILE", value_name = "FILE", requires = "cert_file")]
    key_file: Option<PathBuf>,
}

/// What was asked for, and what came back.
struct Said {
    serving: bool,
    reasons: Vec<String>,
}

impl HealthArgs {
    /// Asks, and prints what it is told.
    pub async fn run(self) -> ExitCode {
        let asked = async {
            let mut all = true;
            let way = self.way();
            let mut client = HealthClient::new(way.channel(TIME)?);
            for what in self.asked()? {
                let said = self.ask(&way, &mut client, what).await?;
                all &= said.serving;
                println!("{what:9}  {}", if said.serving { "SERVING" } else { "NOT_SERVING" });
                for reason in said.reasons {
                    println!("  {reason}");
                }
            }
            anyhow::Ok(all)
        };
        match asked.await {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(NOT_SERVING),
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::from(NOT_REACHED)
            }
        }
    }

    fn asked(&self) -> anyhow::Result<Vec<&'static str>> {
        Ok(match self.only.as_deref() {
            None => vec![LIVENESS, READINESS],
            Some(LIVENESS) => vec![LIVENESS],
            Some(READINESS) => vec![READINESS],
            Some(_) => bail!("--only: must be liveness or readiness"),
        })
    }

    /// How the process is reached.
    fn way(&self) -> Way {
        Way {
            address: self.address.clone(),
            token_file: self.token_file.clone(),
            ca_file: self.ca_file.clone(),
            server_name: self.server_name.clone(),
            cert_file: self.cert_file.clone(),
            key_file: self.key_file.clone(),
        }
    }

    async fn ask(
        &self,
        way: &Way,
        client: &mut HealthClient<Channel>,
        what: &str,
    ) -> anyhow::Result<Said> {
        let request = way.request(HealthCheckRequest { service: what.to_owned() })?;
        let answer = client.check(request).await.map_err(|status| {
            let why = told(&status);
            anyhow::anyhow!("{} does not answer: {why}", self.address)
        })?;
        let serving = answer.get_ref().status() == ServingStatus::Serving;
        let reasons = match what == READINESS && !serving {
            true => reasons(answer.metadata()),
            false => Vec::new(),
        };
        Ok(Said { serving, reasons })
    }
}

/// The reasons beside an answer. They come from outside: nothing of them steers a terminal.
fn reasons(metadata: &MetadataMap) -> Vec<String> {
    let each = metadata.get_all_bin(NOT_READY).iter();
    each.filter_map(|value| {
        let bytes = value.to_bytes().ok()?;
        Some(String::from_utf8_lossy(&bytes).chars().filter(|c| !c.is_control()).collect())
    })
    .collect()
}
