//! `pregon receiver`, the command.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use http::StatusCode;
use pregon_core::clock::SystemClock;

use super::behaviour::{Ending, Script, parse_status};
use super::verify::Secret;
use super::{Receiver, ReceiverOptions};

/// Receives webhooks: verifies, prints, and answers well or badly
///
/// Takes any request, verifies its Standard Webhooks signature, prints it as it came, and answers as
/// it is told: at once, late, wrongly or not at all.
///
/// The first line printed is `listening on http://ADDRESS`; then comes each request with its
/// verdict: VERIFIED (signed just now with one of the secrets), STALE (rightly signed, but more than
/// five minutes ago), WRONG_SIGNATURE, UNSIGNED, or UNCHECKED (signed, but no --secret was given).
/// The verdict does not change the answer.
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
///   /fail-first/N            503 to the first N requests of each webhook-id
///
/// They can follow each other, as in /delay/200/status/500; whatever follows them is free.
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

    /// A secret (whsec_…) to verify with; give it several times to trust several, as while one is
    /// rotated. In the environment, separated by spaces.
    #[arg(
        long,
        env = "PREGON_RECEIVER_SECRET",
        value_name = "SECRET",
        value_delimiter = ' ',
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
        let mut receiver = Receiver::start(options, Arc::new(SystemClock))
            .await
            .with_context(|| format!("cannot listen on {listen}"))?;
        print(&format!("listening on http://{}\n", receiver.addr()))?;
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

    /// What the settings say, or everything that is wrong with them.
    fn options(&self) -> Result<ReceiverOptions, Vec<String>> {
        let mut wrong = Vec::new();
        let mut note = |mistake: String| wrong.push(mistake);

        let listen = self.listen.parse::<SocketAddr>().unwrap_or_else(|_| {
            note("--listen must be an IP address and a port, as in 127.0.0.1:9000".into());
            SocketAddr::from(([127, 0, 0, 1], 0))
        });
        let secrets = self
            .secret
            .iter()
            .filter(|secret| !secret.is_empty())
            .filter_map(|secret| {
                Secret::parse(secret).map_err(|e| note(format!("--secret: {e}"))).ok()
            })
            .collect();
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
        let connections = match self.connections.parse() {
            Ok(connections @ 1..=65_536) => connections,
            Ok(_) | Err(_) => {
                note("--connections must be a number from 1 to 65536".into());
                1
            }
        };
        let script = Script { answers, delay, ending, body: self.body.clone(), retry_after };
        if wrong.is_empty() {
            Ok(ReceiverOptions { listen, secrets, script, connections })
        } else {
            Err(wrong)
        }
    }
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
            "--secret=whsec_AAAA",
            "--secret=whsec_BBBB",
            "--answer=500, 503,200",
            "--delay=250ms",
            "--close",
            "--body=no",
            "--retry-after=5",
        ])
        .unwrap();
        assert_eq!((given.listen.port(), given.secrets.len()), (0, 2));
        let codes: Vec<_> = given.script.answers.iter().map(StatusCode::as_u16).collect();
        assert_eq!(codes, [500, 503, 200]);
        assert_eq!(given.script.delay, Duration::from_millis(250));
        assert_eq!(given.script.ending, Ending::Close);
        assert_eq!((given.script.body.as_str(), given.script.retry_after), ("no", Some(5)));
        assert_eq!(options(&[]).unwrap().listen.to_string(), "127.0.0.1:9000");
    }

    #[test]
    fn every_wrong_setting_is_named_at_once() {
        let wrong = options(&[
            "--listen=here",
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
