//! The processes of a run: started, waited for, ended; never anybody else's.

use std::ffi::OsString;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// A part that does not say where it listens within this time will not.
const START_TIME: Duration = Duration::from_secs(10);
/// How often a part's output is looked at while it starts.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A part that has not ended this long after it was told to is killed. Longer than the server's
/// own limit for attempts in flight.
const STOP_TIME: Duration = Duration::from_secs(45);

/// A process that listens. It is killed when this is dropped.
#[derive(Debug)]
pub struct Part {
    /// What it is called in messages.
    name: String,
    /// Its process id.
    pub pid: u32,
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
}

impl Part {
    /// Starts a sink.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn sink(directory: &Path, name: &str, args: &[&str]) -> anyhow::Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("sink").args(args).arg("--until-stdin-closes").stdin(Stdio::piped());
        command.stdout(File::create(&log)?);
        Self::start(command, name, &log, |text| address_after(text, "\"listening\":\"")).await
    }

    /// Starts a server that logs into a directory.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn server(
        pregon: &Path,
        directory: &Path,
        name: &str,
        args: &[String],
        environment: &[(&str, String)],
    ) -> anyhow::Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let mut command = plain(pregon);
        command.envs(environment.iter().map(|(key, value)| (key, value)));
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        Self::start(command, name, &log, |text| address_after(text, "listening on ")).await
    }

    /// Starts a collector that logs into a directory and was told to listen at `address`.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn collector(
        otelcol: &Path,
        directory: &Path,
        address: SocketAddr,
        args: &[String],
    ) -> anyhow::Result<Self> {
        let log = directory.join("collector.log");
        let mut command = Command::new(otelcol);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let ready = |text: &str| text.contains("Everything is ready").then_some(address);
        Self::start(command, "otelcol", &log, ready).await
    }

    /// Starts a Redis that logs into a directory and was told to listen at `address`.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn redis(
        redis_server: &Path,
        directory: &Path,
        address: SocketAddr,
        args: &[String],
    ) -> anyhow::Result<Self> {
        let log = directory.join("redis.log");
        let mut command = Command::new(redis_server);
        command.args(args).stdin(Stdio::null()).stdout(File::create(&log)?).stderr(Stdio::null());
        let ready = |text: &str| text.contains("Ready to accept connections").then_some(address);
        Self::start(command, "redis-server", &log, ready).await
    }

    async fn start(
        mut command: Command,
        name: &str,
        log: &Path,
        ready: impl Fn(&str) -> Option<SocketAddr>,
    ) -> anyhow::Result<Self> {
        let mut child = command
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.as_std().get_program()))?;
        let pid = child.id().with_context(|| format!("{name} ended at once"))?;
        let address = timeout(START_TIME, listening(&mut child, log, ready)).await;
        let Ok(Some(address)) = address else {
            bail!("{name} did not start; the end of what it said:\n{}", tail(log));
        };
        Ok(Self { name: name.to_owned(), pid, address, child })
    }

    /// Asks the process to end and waits until it has.
    ///
    /// # Errors
    /// When it does not end in time, or ends badly.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        // A sink ends when its stdin closes, a server at SIGTERM.
        if self.child.stdin.take().is_none()
            && let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw)
        {
            kill_process(pid, Signal::TERM).with_context(|| format!("{} is gone", self.name))?;
        }
        let Ok(ended) = timeout(STOP_TIME, self.child.wait()).await else {
            self.child.kill().await?;
            bail!("{} did not end within {STOP_TIME:?}", self.name);
        };
        let status = ended?;
        if !status.success() {
            bail!("{} ended with {status}", self.name);
        }
        Ok(())
    }
}

/// Waits until the output says where the process listens; nothing when it ends instead.
async fn listening(
    child: &mut Child,
    log: &Path,
    ready: impl Fn(&str) -> Option<SocketAddr>,
) -> Option<SocketAddr> {
    loop {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let address = ready(&text);
        if address.is_some() {
            return address;
        }
        if child.try_wait().ok()?.is_some() {
            return None;
        }
        sleep(LOOK_EVERY).await;
    }
}

/// The address that follows `before` in an output.
fn address_after(text: &str, before: &str) -> Option<SocketAddr> {
    let (_, rest) = text.split_once(before)?;
    // The rest of the line has been written too once it is ended.
    let line = rest.split_once('\n')?.0;
    let end = line.find(|c: char| !matches!(c, '0'..='9' | '.' | ':'));
    line[..end.unwrap_or(line.len())].parse().ok()
}

/// A server's binary with nothing from the environment: what is measured is what was said here.
fn plain(pregon: &Path) -> Command {
    let mut command = Command::new(pregon);
    let settings = std::env::vars_os().map(|(name, _)| name);
    let ours = |name: &OsString| {
        [&b"PREGON_"[..], b"OTEL_"].iter().any(|it| name.as_encoded_bytes().starts_with(it))
    };
    for name in settings.filter(ours) {
        command.env_remove(name);
    }
    command.kill_on_drop(true);
    command
}

/// Runs a server's binary to its end.
///
/// # Errors
/// When it fails, with what it said, or does not end.
pub async fn once(pregon: &Path, args: &[String]) -> anyhow::Result<()> {
    let mut command = plain(pregon);
    command.args(args).stdin(Stdio::null());
    let Ok(output) = timeout(START_TIME, command.output()).await else {
        bail!("`pregon {}` did not end within {START_TIME:?}", args.join(" "));
    };
    let output = output?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`pregon {}` ended with {}:\n{said}", args.join(" "), output.status);
    }
    Ok(())
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// Runs another part of this program to its end, and reads the report that it prints.
///
/// # Errors
/// When it fails or does not end within `limit`.
pub async fn report<T: DeserializeOwned>(args: &[String], limit: Duration) -> anyhow::Result<T> {
    let exe: PathBuf = std::env::current_exe()?;
    let mut command = Command::new(exe);
    command.args(args).kill_on_drop(true).stdin(Stdio::null()).stderr(Stdio::inherit());
    let Ok(output) = timeout(limit, command.output()).await else {
        bail!("`{}` did not end within {limit:?}", args.join(" "));
    };
    let output = output?;
    if !output.status.success() {
        bail!("`{}` ended with {}", args.join(" "), output.status);
    }
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("`{}` printed no report", args.join(" ")))
}
