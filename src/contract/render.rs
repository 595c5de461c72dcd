//! `pregon contract render`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use bytes::Bytes;
use clap::Args;
use pregon_core::contract::{Contract, Trial};
use pregon_core::limits;
use pregon_core::url::{AddressPolicy, EndpointUrl, UrlPolicy};
use zeroize::Zeroizing;

use super::check::unwritten;
use super::fault::Fault;
use super::{event, shown, source};

/// The deployment's `user-agent` where its settings name none.
const USER_AGENT: &str = concat!("Pregon/", env!("CARGO_PKG_VERSION"));
/// A secret is no longer than this, in bytes: PEM of the largest key, with room.
const SECRET_LEN: usize = 16 * 1024;
/// Attempts that a delivery can have.
const ATTEMPTS: u32 = 100;

/// Shows the request that a contract makes of an event, and what is signed; nothing is sent
///
/// Prints method and URL, the contract's headers in their order, the body, and the signed bytes of
/// each signature, in which the secret is [redacted]. Headers of HTTP itself, of tracing and of a
/// subscription are not the contract's, and not shown.
///
/// The event is a JSON object: type and data, and if you like id, version, time, environment (LIVE or
/// TEST), tenant and attributes. Its data are taken byte for byte.
#[derive(Args, Clone)]
pub struct RenderArgs {
    /// The contract, of at most 64 KiB; - is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The contract that it extends, if that is neither built in, nor of the catalogue, nor in
    /// NAME.yaml beside it.
    #[arg(long, value_name = "FILE")]
    extends: Option<PathBuf>,

    /// The event; - is standard input.
    #[arg(long, value_name = "FILE")]
    event: PathBuf,

    /// The signing secret: in the contract's form, whsk_… for Ed25519, PEM for RSA and ECDSA.
    ///
    /// If not given, a fixed key signs where the contract requires one, and nothing is signed else.
    /// Other users of the machine can see it: --secret-file is for one that is in use.
    #[arg(long, value_name = "TEXT", conflicts_with = "secret_file")]
    secret: Option<Zeroizing<String>>,

    /// The same, in a file of at most 16 KiB; a line break at its end does not count.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,

    /// The subscription's URL; https://example.com/hook if not given.
    #[arg(long, value_name = "URL")]
    url: Option<String>,

    /// The attempt's number, 1 to 100.
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    attempt: String,

    /// When the attempt begins, as in 2027-01-31T00:00:00Z; when the event happens if not given.
    #[arg(long, value_name = "TIME")]
    time: Option<String>,

    /// A label of the subscription. Can be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,

    /// A label of the tenant. Can be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    tenant_label: Vec<String>,

    /// Print one object of JSON, for programs.
    #[arg(long)]
    json: bool,
}

impl std::fmt::Debug for RenderArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RenderArgs({}, {})", self.file.display(), self.event.display())
    }
}

impl RenderArgs {
    /// Renders and prints; status 1 where contract or event are refused.
    ///
    /// # Errors
    ///
    /// What is wrong with the arguments, why nothing would be sent, or why it cannot be printed.
    pub fn run(self) -> Result<ExitCode, Vec<String>> {
        let ends = [Some(&self.file), Some(&self.event), self.secret_file.as_ref()];
        if ends.into_iter().flatten().filter(|file| source::is_stdin(file)).count() > 1 {
            return Err(vec!["- is standard input, and can be given once".to_owned()]);
        }
        let (contract, trial) =
            match (source::contract(&self.file, self.extends.as_deref()), self.event()) {
                (Ok((contract, _)), Ok(trial)) => (contract, trial),
                (contract, event) => {
                    let faults = [contract.err(), event.err()].into_iter().flatten().flatten();
                    faults.for_each(|fault| eprintln!("{fault}"));
                    return Ok(ExitCode::FAILURE);
                }
            };
        let trial = self.around(&contract, trial)?;
        let tried = trial.make(&contract).map_err(|error| vec![error.to_string()])?;
        let signs = contract.kinds().next().is_some();
        if trial.secret.is_none() && signs {
            let note = match tried.signatures.is_empty() {
                true => "not signed: the contract requires no secret, and none is given",
                false => "signed with the fixed key of examples: no secret is given",
            };
            eprintln!("note: {note}");
        }
        let text = if self.json { shown::json(&tried) } else { shown::plain(&tried) };
        let mut out = io::stdout().lock();
        let written = out.write_all(&text).and_then(|()| out.flush());
        written.map_err(|error| vec![unwritten(&error)])?;
        Ok(ExitCode::SUCCESS)
    }

    /// The event, with nothing around it.
    fn event(&self) -> Result<Trial, Vec<Fault>> {
        let name = source::name(&self.event);
        let text = source::read(&self.event, event::FILE_LEN).map_err(|fault| vec![fault])?;
        let event = event::read(&name, &text)?;
        Trial::of(event).map_err(|wrong| vec![Fault::of(&name, wrong.description)])
    }

    /// The event with what the arguments say of the attempt, or everything that is wrong with them.
    fn around(&self, contract: &Contract, trial: Trial) -> Result<Trial, Vec<String>> {
        let mut wrong = Vec::new();
        let mut note = |mistake: String| wrong.push(mistake);
        let attempt = self.attempt.parse().ok().filter(|it| (1..=ATTEMPTS).contains(it));
        let attempt = attempt.unwrap_or_else(|| {
            note(format!("--attempt must be a number from 1 to {ATTEMPTS}"));
            1
        });
        let time = match self.time.as_deref().map(event::moment) {
            Some(Ok(time)) => time,
            Some(Err(rule)) => {
                note(format!("--time {}", rule.description));
                trial.time
            }
            None => trial.time,
        };
        let url = match self.url.as_deref().map(|text| endpoint(contract, text)) {
            Some(Ok(url)) => url,
            Some(Err(rule)) => {
                note(format!("--url {rule}"));
                trial.url
            }
            None => trial.url,
        };
        let secret = self.secret().map_err(|rule| note(format!("--secret-file {rule}"))).ok();
        let subscription_labels = labels(&self.label, |rule| note(format!("--label {rule}")));
        let tenant_labels =
            labels(&self.tenant_label, |rule| note(format!("--tenant-label {rule}")));
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let user_agent = Bytes::from_static(USER_AGENT.as_bytes());
        let secret = secret.flatten();
        Ok(Trial {
            attempt,
            time,
            url,
            secret,
            subscription_labels,
            tenant_labels,
            user_agent,
            ..trial
        })
    }

    /// The secret, from wherever it is.
    fn secret(&self) -> Result<Option<Zeroizing<String>>, String> {
        let Some(file) = &self.secret_file else { return Ok(self.secret.clone()) };
        let text = source::text(file, SECRET_LEN).map_err(|fault| fault.to_string())?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        Ok(Some(Zeroizing::new(text.strip_suffix('\r').unwrap_or(text).to_owned())))
    }
}

/// A URL that a subscription under the contract could have in some deployment.
fn endpoint(contract: &Contract, text: &str) -> Result<EndpointUrl, String> {
    let everywhere = ["0.0.0.0/0", "::/0"];
    let allow = everywhere.into_iter().filter_map(|network| network.parse().ok()).collect();
    let addresses = AddressPolicy::opening(allow);
    let open = UrlPolicy { allow_http: true, addresses, ..UrlPolicy::default() };
    let policy = contract.url().map_or_else(|| open.clone(), |rules| open.under(rules));
    let url = EndpointUrl::parse(text, &policy).map_err(|wrong| wrong.description)?;
    match contract.query_names().find(|name| url.has_parameter(name)) {
        Some(name) => Err(format!("has parameter {name:?} already, which the contract adds")),
        None => Ok(url),
    }
}

/// Labels out of `key=value`, within the bounds of labels.
fn labels(given: &[String], mut note: impl FnMut(String)) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for one in given {
        let Some((key, value)) = one.split_once('=') else {
            note("must be KEY=VALUE".to_owned());
            continue;
        };
        if key.is_empty() || key.chars().count() > limits::LABEL_KEY_LEN {
            note(format!("must have a key of 1 to {} characters", limits::LABEL_KEY_LEN));
        } else if value.chars().count() > limits::LABEL_VALUE_LEN {
            note(format!("{key:?} must have {} characters at most", limits::LABEL_VALUE_LEN));
        } else if labels.insert(key.to_owned(), value.to_owned()).is_some() {
            note(format!("{key:?} is given twice"));
        }
    }
    if labels.len() > limits::LABELS {
        note(format!("can be given {} times at most", limits::LABELS));
    }
    labels
}

#[cfg(test)]
mod tests;
