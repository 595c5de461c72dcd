//! `pregon receiver`, the command.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use http::StatusCode;
use pregon_core::clock::SystemClock;
use pregon_core::contract::{Contract, builtins};
use zeroize::Zeroizing;

use super::behaviour::{Ending, Script, parse_status};
use super::tls::Tls;
use super::verify::{Contracts, Secret};
use super::{Receiver, ReceiverOptions};

/// A document is no longer than this: what the control plane takes.
const DOCUMENT_LEN: u64 = 64 * 1024;

/// Receives webhooks: verifies, prints, and answers well or badly
///
/// Takes any request, verifies it under a contract, prints it as it came, and answers as it is told:
/// at once, late, wrongly or not at all.
///
/// The first line printed is `listening on http://ADDRESS`; then comes each request with its
/// verdict, its contract, headers and body. Verdicts: VERIFIED (signed just now with one of the
/// secrets), STALE (rightly signed, but more than five minutes ago), WRONG_SIGNATURE, UNSIGNED,
/// UNCHECKED (signed, but no --secret of the kind was given), UNVERIFIABLE (signed over something
/// that the request does not tell), or `unsigned (the contract signs nothing)`, which is
/// SIGNS_NOTHING in JSON. The verdict does not change the answer.
///
/// A path can say how its requests are answered, whatever the options say, so that one receiver can
/// play many parts:
///
///   /status/CODE             that status
///   /delay/MS                the answer comes that much later
///   /hang                    no answer
///   /drip                    200, then a body that comes byte by byte and does not end
///   /close                   the connection is closed without an answer
///   /retry-after/S/CODE      that status with Retry-After
///   /fail-first/N            503 to the first N requests of each delivery: each webhook-id, or
///                            x-delivery-id or ce-id where there is none
///   /callback/ANSWER         200 with that word as body, for trying CheckService: true, false, …;
///                            error is answered with 500
///   /contract/NAME           verified under that contract, built in or given with --contract
///
/// They can follow each other, as in /contract/tusfacturas/delay/200/status/500; whatever follows
/// them is free.
#[derive(Clone, Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct ReceiverArgs {
    /// Where to listen. Port 0 is any free one; loopback unless you say otherwise.
    #[arg(
        long,
        env = "PREGON_RECEIVER_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:9000"
    )]
    listen: String,

    /// Serve https, with a certificate made anew, and write its authority's certificate to this file:
    /// what a sender has to trust. For contracts that allow https only.
    #[arg(long, env = "PREGON_RECEIVER_TLS_CA_FILE", value_name = "FILE")]
    tls_ca_file: Option<PathBuf>,

    /// The contract to verify under: the name of a built-in one, or a file with a document. Given
    /// several times, the first is for paths that name none, and secrets may be of any of them.
    #[arg(
        long,
        env = "PREGON_RECEIVER_CONTRACT",
        value_name = "NAME|FILE",
        value_delimiter = '\n',
        default_value = "standard_webhooks"
    )]
    contract: Vec<String>,

    /// A secret to verify with, in the contract's form (whsec_… for Standard Webhooks), or a public
    /// key where it signs with key pairs, as PEM or as the base64 of its DER (whpk_… for Ed25519);
    /// give it several times to trust several, as while one is rotated. In the environment, one on
    /// each line, PEM on as many as it has.
    #[arg(
        long,
        env = "PREGON_RECEIVER_SECRET",
        value_name = "SECRET",
        value_delimiter = '\n',
        hide_env_values = true
    )]
    secret: Vec<String>,

    /// Statuses to answer with, one request after the other; the last one stays, as in 500,500,200.
    #[arg(long, env = "PREGON_RECEIVER_ANSWER", value_name = "STATUS,…", default_value = "200")]
    answer: String,

    /// How long to wait before each answer, as in 2s or 250ms.
    #[arg(long, env = "PREGON_RECEIVER_DELAY", value_name = "TIME", default_value = "0s")]
    delay: String,

    /// Never answer (for ten minutes, then the connection is closed).
    #[arg(long, env = "PREGON_RECEIVER_HANG")]
    hang: bool,

    /// Close the connection instead of answering.
    #[arg(long, env = "PREGON_RECEIVER_CLOSE")]
    close: bool,

    /// The body of each answer.
    #[arg(long, env = "PREGON_RECEIVER_BODY", value_name = "TEXT", default_value = "")]
    body: String,

    /// Answers other than 2xx carry this Retry-After.
    #[arg(long, env = "PREGON_RECEIVER_RETRY_AFTER", value_name = "SECONDS")]
    retry_after: Option<String>,

    /// Requests that it bears in each second: more are answered with 503 at once.
    #[arg(long, env = "PREGON_RECEIVER_PER_SECOND", value_name = "NUMBER")]
    per_second: Option<String>,

    /// Connections at once; more wait to be accepted. Each may hold a body of up to a MiB.
    #[arg(
        long,
        env = "PREGON_RECEIVER_CONNECTIONS",
        value_name = "NUMBER",
        default_value = "1024"
    )]
    connections: String,

    /// Print one line of JSON for each request, for programs.
    #[arg(long, env = "PREGON_RECEIVER_JSON")]
    json: bool,
}

impl ReceiverArgs {
    /// Receives until interrupted.
    pub async fn run(self) -> anyhow::Result<()> {
        let options = match self.options() {
            Ok(options) => options,
            Err(mistakes) => bail!("wrong settings:\n  {}", mistakes.join("\n  ")),
        };
        let listen = options.listen;
        let options = ReceiverOptions { tls: self.tls(listen)?, ..options };
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let mut receiver = Receiver::start(options, Arc::new(SystemClock))
            .await
            .with_context(|| format!("cannot listen on {listen}"))?;
        print(&format!("listening on {scheme}://{}\n", receiver.addr()))?;
        let mut stopped = std::pin::pin!(stopped());
        loop {
            let receipt = tokio::select! {
                receipt = receiver.next() => receipt,
                stopped = &mut stopped => return stopped.context("cannot wait for signals"),
            };
            let Some(receipt) = receipt else { return Ok(()) };
            if self.json {
                print(&(receipt.to_json() + "\n"))?;
            } else {
                print(&format!("{receipt}\n"))?;
            }
        }
    }

    /// The certificate to serve with, its authority written to the file that was asked for.
    fn tls(&self, listen: SocketAddr) -> anyhow::Result<Option<Tls>> {
        let Some(file) = &self.tls_ca_file else { return Ok(None) };
        let tls = Tls::generate(listen.ip())?;
        let written = std::fs::write(file, tls.authority());
        written.with_context(|| format!("--tls-ca-file: cannot write {}", file.display()))?;
        Ok(Some(tls))
    }

    /// What the settings say, or everything that is wrong with them.
    fn options(&self) -> Result<ReceiverOptions, Vec<String>> {
        let mut wrong = Vec::new();
        let mut note = |mistake: String| wrong.push(mistake);

        let listen = self.listen.parse::<SocketAddr>().unwrap_or_else(|_| {
            note("--listen must be an IP address and a port, as in 127.0.0.1:9000".into());
            SocketAddr::from(([127, 0, 0, 1], 0))
        });
        let contracts = self
            .contract
            .iter()
            .filter_map(|given| {
                contract(given).map_err(|e| note(format!("--contract {given}: {e}"))).ok()
            })
            .collect();
        let contracts = Contracts::new(contracts);
        let secrets: Vec<_> = whole(&self.secret).iter().map(|text| Secret::new(text)).collect();
        for wrong in secrets.iter().filter_map(|secret| contracts.check(secret).err()) {
            note(format!("--secret: {wrong}"));
        }
        let answers = parse_answers(&self.answer).unwrap_or_else(|| {
            note("--answer must be statuses from 200 to 999, separated by commas".into());
            Vec::new()
        });
        let delay = parse_time(&self.delay).unwrap_or_else(|| {
            note("--delay must be a number with ms, s or m, ten minutes at most".into());
            Duration::ZERO
        });
        let ending = match (self.hang, self.close) {
            (false, false) => Ending::Answer,
            (true, false) => Ending::Hang,
            (false, true) => Ending::Close,
            (true, true) => {
                note("--hang and --close exclude each other".into());
                Ending::Hang
            }
        };
        let retry_after = self.retry_after.as_deref().and_then(|text| {
            let seconds = text.parse().ok();
            if seconds.is_none() {
                note("--retry-after must be a number of seconds".into());
            }
            seconds
        });
        let per_second = self.per_second.as_deref().and_then(|text| {
            let most = text.parse::<u32>().ok().filter(|most| *most > 0);
            if most.is_none() {
                note("--per-second must be a number from 1 to 4294967295".into());
            }
            most
        });
        let connections = match self.connections.parse() {
            Ok(connections @ 1..=65_536) => connections,
            Ok(_) | Err(_) => {
                note("--connections must be a number from 1 to 65536".into());
                1
            }
        };
        let body = self.body.clone();
        let script = Script { answers, delay, ending, body, retry_after, per_second };
        if wrong.is_empty() {
            Ok(ReceiverOptions { listen, tls: None, contracts, secrets, script, connections })
        } else {
            Err(wrong)
        }
    }
}

/// Secrets out of their lines: PEM has several, every other secret has one.
fn whole(lines: &[String]) -> Vec<Zeroizing<String>> {
    let (mut secrets, mut open) = (Vec::<Zeroizing<String>>::new(), false);
    for line in lines.iter().filter(|line| !line.is_empty()) {
        match secrets.last_mut().filter(|_| open) {
            Some(pem) => {
                pem.push('\n');
                pem.push_str(line);
            }
            None => secrets.push(Zeroizing::new(line.clone())),
        }
        open = (open || line.starts_with("-----BEGIN ")) && !line.starts_with("-----END ");
    }
    secrets
}

/// The built-in contract of this name, or the document in this file.
fn contract(given: &str) -> Result<Arc<Contract>, String> {
    let named = builtins().iter().find(|built_in| built_in.contract.id().as_str() == given);
    if let Some(named) = named {
        return Ok(Arc::clone(&named.contract));
    }
    let neither = |error: io::Error| {
        let names: Vec<_> = builtins().iter().map(|it| it.contract.id().as_str()).collect();
        format!("neither built in ({}) nor a file: {error}", names.join(", "))
    };
    let mut document = String::new();
    let file = File::open(given).map_err(neither)?;
    file.take(DOCUMENT_LEN + 1).read_to_string(&mut document).map_err(|error| error.to_string())?;
    let read = Contract::read(&document, 0).map(Arc::new);
    read.map_err(|faults| {
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        faults.join("; ")
    })
}

fn parse_answers(text: &str) -> Option<Vec<StatusCode>> {
    text.split(',').map(|one| parse_status(one.trim())).collect()
}

/// A whole number and its unit, up to ten minutes.
fn parse_time(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (amount, unit) = text.split_at(unit);
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return None,
    };
    let time = Duration::from_millis(amount.parse::<u64>().ok()?.checked_mul(milliseconds)?);
    (time <= Duration::from_secs(600)).then_some(time)
}

/// Prints and flushes, so that whoever reads the pipe has it now.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Returns when the process is asked to end.
async fn stopped() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminated.recv() => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: ReceiverArgs,
    }

    fn options(args: &[&str]) -> Result<ReceiverOptions, Vec<String>> {
        Cli::try_parse_from([&["receiver"], args].concat()).unwrap().args.options()
    }

    #[test]
    fn settings_become_options() {
        let given = options(&[
            "--listen=127.0.0.1:0",
            "--contract=crypto_onramp",
            "--contract=standard_webhooks",
            "--secret=any text",
            "--secret=whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "--answer=500, 503,200",
            "--delay=250ms",
            "--close",
            "--body=no",
            "--retry-after=5",
            "--per-second=20",
        ])
        .unwrap();
        assert_eq!((given.listen.port(), given.secrets.len()), (0, 2));
        assert_eq!(given.contracts.usual().id().as_str(), "crypto_onramp");
        let codes: Vec<_> = given.script.answers.iter().map(StatusCode::as_u16).collect();
        assert_eq!(codes, [500, 503, 200]);
        assert_eq!(given.script.delay, Duration::from_millis(250));
        assert_eq!(given.script.ending, Ending::Close);
        assert_eq!((given.script.body.as_str(), given.script.retry_after), ("no", Some(5)));
        assert_eq!(given.script.per_second, Some(20));
        let usual = options(&[]).unwrap();
        assert_eq!(usual.listen.to_string(), "127.0.0.1:9000");
        assert_eq!(usual.contracts.usual().id().as_str(), "standard_webhooks");
    }

    #[test]
    fn a_public_key_may_be_pem_of_many_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pairs.yaml");
        let document = "contract: pairs\nsignatures: [{ algorithm: ecdsa_p256, header: x-s }]\n\
                        examples:\n  - event: { id: e, type: a, data: '{}' }\n";
        std::fs::write(&path, document).unwrap();
        let contract = format!("--contract={}", path.display());
        let pem = include_str!("../../core/testdata/keys/p256-public.pem");
        let two = format!("--secret={pem}{pem}");
        let base64: String = pem.lines().filter(|line| !line.starts_with("---")).collect();
        let third = format!("--secret={base64}");
        let given = options(&[&contract, &two, &third]).unwrap();
        assert_eq!(given.secrets.len(), 3);
        let other = include_str!("../../core/testdata/keys/p384-public.pem");
        let said = options(&[&contract, &format!("--secret={other}")]).unwrap_err();
        assert!(said.len() == 1 && said[0].contains("is a P-384 key"), "{said:?}");
    }

    #[test]
    fn a_contract_may_be_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let good = "contract: mine\nexamples:\n  - event: { id: e, type: a, data: '{}' }\n    time: 2026-01-01T00:00:00Z\n    attempt: 1\n";
        let read = contract(&file("good.yaml", good)).unwrap();
        assert_eq!(read.id().as_str(), "mine");
        let said = contract(&file("bad.yaml", &good.replace("attempt", "attempts"))).unwrap_err();
        assert!(said.contains("attempts"), "{said}");
        let said = contract(&file("long.yaml", &"# \n".repeat(30_000))).unwrap_err();
        assert!(!said.is_empty());
        let said = contract("standard_webhook").unwrap_err();
        assert!(said.contains("standard_webhooks, tusfacturas) nor a file"), "{said}");
    }

    #[test]
    fn every_wrong_setting_is_named_at_once() {
        let wrong = options(&[
            "--listen=here",
            "--contract=nowhere",
            "--secret=hunter2",
            "--answer=200,OK",
            "--delay=2",
            "--hang",
            "--close",
            "--retry-after=soon",
            "--connections=0",
        ])
        .unwrap_err();
        let named: Vec<_> =
            wrong.iter().map(|mistake| mistake.split([' ', ':']).next().unwrap()).collect();
        assert_eq!(
            named,
            [
                "--listen",
                "--contract",
                "--secret",
                "--answer",
                "--delay",
                "--hang",
                "--retry-after",
                "--connections"
            ]
        );
        assert!(!wrong.concat().contains("hunter2"));
    }

    #[test]
    fn times_carry_their_unit() {
        for (text, time) in [
            ("0s", Some(Duration::ZERO)),
            ("2s", Some(Duration::from_secs(2))),
            ("10m", Some(Duration::from_secs(600))),
            ("601s", None),
            ("2", None),
            ("s", None),
            ("-1s", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(parse_time(text), time, "{text}");
        }
    }
}
