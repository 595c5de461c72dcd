//! `pregon health`: asks a process how it is.
//!
//! It asks what any probe asks, `grpc.health.v1.Health/Check`, and needs no reflection and no token
//! for it. With a token that may read what belongs to all tenants it is told why a process is not
//! ready, too.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use pregon_rpc::health::{LIVENESS, NOT_READY, READINESS};
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use zeroize::Zeroizing;

/// Status of the command where something does not serve.
const NOT_SERVING: u8 = 1;
/// Status of the command where nobody answers.
const NOT_REACHED: u8 = 2;
/// How long the process may take to answer: it asks nobody else for it.
const TIME: Duration = Duration::from_secs(5);
/// A token is a short line.
const TOKEN_LEN: u64 = 4096;

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
            let mut client = self.client()?;
            for what in self.asked()? {
                let said = self.ask(&mut client, what).await?;
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

    fn client(&self) -> anyhow::Result<HealthClient<Channel>> {
        let url = match self.address.contains("://") {
            true => self.address.clone(),
            false => format!("http://{}", self.address),
        };
        let endpoint = Endpoint::from_shared(url.clone()).context("ADDRESS")?;
        let mut endpoint = endpoint.connect_timeout(TIME).timeout(TIME);
        if url.starts_with("https:") {
            endpoint = endpoint.tls_config(self.tls()?).context("TLS")?;
        }
        Ok(HealthClient::new(endpoint.connect_lazy()))
    }

    fn tls(&self) -> anyhow::Result<ClientTlsConfig> {
        let mut tls = match &self.ca_file {
            None => ClientTlsConfig::new().with_webpki_roots(),
            Some(path) => {
                let authority = Certificate::from_pem(file("--ca-file", path)?.as_slice());
                ClientTlsConfig::new().ca_certificate(authority)
            }
        };
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name);
        }
        if let (Some(cert), Some(key)) = (&self.cert_file, &self.key_file) {
            let (cert, key) = (file("--cert-file", cert)?, file("--key-file", key)?);
            tls = tls.identity(Identity::from_pem(cert.as_slice(), key.as_slice()));
        }
        Ok(tls)
    }

    async fn ask(&self, client: &mut HealthClient<Channel>, what: &str) -> anyhow::Result<Said> {
        let mut request = Request::new(HealthCheckRequest { service: what.to_owned() });
        if let Some(path) = &self.token_file {
            request.metadata_mut().insert("authorization", bearer(path)?);
        }
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

/// A status and what lies under it: the cause of a refused connection stands there.
fn told(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
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

fn bearer(path: &Path) -> anyhow::Result<AsciiMetadataValue> {
    let flag = || format!("--token-file {}", path.display());
    let size = std::fs::metadata(path).with_context(flag)?.len();
    let text = match size {
        0..=TOKEN_LEN => Zeroizing::new(std::fs::read_to_string(path).with_context(flag)?),
        _ => bail!("{}: must have {TOKEN_LEN} bytes at most", flag()),
    };
    let value = Zeroizing::new(format!("Bearer {}", text.trim()));
    let mut value: AsciiMetadataValue =
        value.parse().map_err(|_| anyhow::anyhow!("{}: must hold one line of text", flag()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn file(flag: &str, path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let read = std::fs::read(path).map(Zeroizing::new);
    read.with_context(|| format!("{flag} {}", path.display()))
}
