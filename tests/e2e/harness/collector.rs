//! The OpenTelemetry Collector as a user runs it, on ports of loopback: what reaches it is read back.
//!
//! It takes OTLP over gRPC, in clear or in TLS, from everybody or from who has a token, and writes what it took as lines
//! of JSON, one file for each signal; metrics it also serves as a Prometheus page. Stories wait for what they want to see
//! with the bound of all conditions. It can be killed, stopped where it is and started again on the same ports, so that
//! a story sees what becomes of telemetry meanwhile. `scripts/tools.sh` installs it.

pub mod otlp;
pub mod tree;

use std::net::SocketAddr;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use self::otlp::{LogRecord, Point, Span};
use self::tree::Tree;
use super::process::Process;
use super::redis::free_port;
use super::tls::Authority;
use super::{eventually, tool};

/// What it says when its receivers listen.
const READY: &str = "Everything is ready";

/// Bytes of a Prometheus page that are read at most: far more than all metrics of several processes.
const PAGE_MAX: u64 = 8 << 20;

/// What a story wants of its collector.
#[derive(Clone, Copy, Default)]
pub struct Wish<'a> {
    /// TLS, with a certificate of this authority.
    pub tls: Option<&'a Authority>,
    /// Only who sends `authorization: Bearer` with this token is let in.
    pub token: Option<&'a str>,
}

/// A collector, running or not.
#[derive(Debug)]
pub struct Collector {
    process: Process,
    otlp: SocketAddr,
    prometheus: SocketAddr,
    tls: Option<[String; 2]>,
    token: Option<String>,
    // How often it was started: each start has files of its own, because a killed writer leaves half a line.
    starts: u32,
    // Last, so that its files go after it.
    dir: TempDir,
}

impl Collector {
    /// Starts one that takes whatever comes, in clear.
    pub async fn start() -> Self {
        Self::wished(Wish::default()).await
    }

    /// Starts one as it is wished for.
    pub async fn wished(wish: Wish<'_>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let tls = wish.tls.map(|authority| authority.write_pair(dir.path(), "collector"));
        let [otlp, prometheus] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let token = wish.token.map(str::to_owned);
        let starts = 1;
        write_config(dir.path(), starts, otlp, prometheus, tls.as_ref(), token.as_deref());
        let process = launch(dir.path(), starts).await;
        Self { process, otlp, prometheus, tls, token, starts, dir }
    }

    /// Starts one with the configuration of deploy/telemetry, which sends traces and logs on to another.
    pub async fn deployed(backend: &Self) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let [otlp, prometheus] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let mut command = Command::new(tool("bin/otelcol"));
        command.env("OTLP_LISTEN", otlp.to_string());
        command.env("PROMETHEUS_LISTEN", prometheus.to_string());
        command.env("BACKEND_ENDPOINT", backend.otlp.to_string());
        command.env("BACKEND_INSECURE", if backend.tls.is_some() { "false" } else { "true" });
        let config = super::root().join("deploy/telemetry/collector.yaml").display().to_string();
        let mut process = Process::tool(command, &["--config", &config]);
        process.line_with(READY).await;
        Self { process, otlp, prometheus, tls: None, token: None, starts: 0, dir }
    }

    /// The URL that it takes OTLP over gRPC at.
    pub fn endpoint(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.otlp)
    }

    /// Cuts it off with SIGKILL. What it had taken and not written is gone.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Stops it where it is, as a machine that hangs: its connections stay open and nothing is answered.
    pub async fn stop(&self) {
        self.process.stop().await;
    }

    /// Lets it go on after [`Self::stop`].
    pub async fn go_on(&self) {
        self.process.signal("CONT").await;
    }

    /// Starts it again on the same ports, after [`Self::kill`]. What it wrote before is still read.
    pub async fn start_again(&mut self) {
        self.starts += 1;
        let (tls, token) = (self.tls.as_ref(), self.token.as_deref());
        write_config(self.dir.path(), self.starts, self.otlp, self.prometheus, tls, token);
        self.process = launch(self.dir.path(), self.starts).await;
    }

    /// What it has said since it was last started.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Everything that it wrote so far, of all signals, as it stands in its files.
    pub fn files(&self) -> String {
        ["traces", "metrics", "logs"].map(|signal| self.written(signal)).concat()
    }

    /// The spans it has written so far.
    pub fn spans(&self) -> Vec<Span> {
        otlp::spans(&self.written("traces"))
    }

    /// The log records it has written so far, but for entries of the audit log.
    pub fn logs(&self) -> Vec<LogRecord> {
        self.records(false)
    }

    /// The entries of the audit log that it has written so far.
    pub fn audit(&self) -> Vec<LogRecord> {
        self.records(true)
    }

    fn records(&self, of_audit: bool) -> Vec<LogRecord> {
        let mut all = otlp::logs(&self.written("logs"));
        all.retain(|record| (record.event_name == "pregon.audit") == of_audit);
        all
    }

    /// The metric points it has written so far, in their order: the latest of a series is the last.
    pub fn points(&self) -> Vec<Point> {
        otlp::points(&self.written("metrics"))
    }

    /// Waits until the spans are as wanted; gives what was looked for.
    pub async fn spans_with<T>(&self, what: &str, look: impl Fn(&[Span]) -> Option<T>) -> T {
        eventually(what, || async {
            let spans = self.spans();
            look(&spans).ok_or_else(|| Shown(tree::print(&Tree::all(&spans), &[])))
        })
        .await
    }

    /// Waits for a whole trace as wanted.
    pub async fn trace(&self, what: &str, wanted: impl Fn(&Tree) -> bool) -> Tree {
        self.spans_with(what, |spans| Tree::all(spans).into_iter().find(&wanted)).await
    }

    /// Waits until the log records are as wanted; gives what was looked for.
    pub async fn logs_with<T>(&self, what: &str, look: impl Fn(&[LogRecord]) -> Option<T>) -> T {
        eventually(what, || async {
            let logs = self.logs();
            look(&logs).ok_or(logs)
        })
        .await
    }

    /// Waits until the metric points are as wanted; gives what was looked for.
    pub async fn points_with<T>(&self, what: &str, look: impl Fn(&[Point]) -> Option<T>) -> T {
        eventually(what, || async {
            let points = self.points();
            look(&points).ok_or(points)
        })
        .await
    }

    /// The page that Prometheus would scrape.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn page(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.prometheus).await?;
        // Version 1.0, so that the answer ends with the connection and has no chunks.
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.take(PAGE_MAX).read_to_string(&mut answer).await?;
        let (_, page) = answer.split_once("\r\n\r\n").unwrap_or_default();
        Ok(page.to_owned())
    }

    /// Waits for a line of that page as wanted, and gives it. Comments are not lines.
    pub async fn page_line(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        eventually(what, || async {
            let page = self.page().await.map_err(|error| Shown(error.to_string()))?;
            let mut lines = page.lines().filter(|line| !line.starts_with('#'));
            let found = lines.find(|line| wanted(line)).map(str::to_owned);
            found.ok_or(Shown(page))
        })
        .await
    }

    /// What all starts have written of a signal. Only whole lines: the last may still be on its way.
    fn written(&self, signal: &str) -> String {
        let mut all = String::new();
        for start in 1..=self.starts {
            let path = self.dir.path().join(format!("{signal}-{start}.jsonl"));
            let bytes = std::fs::read(path).unwrap_or_default();
            let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            all.push_str(std::str::from_utf8(&bytes[..whole]).expect("the collector writes UTF-8"));
        }
        all
    }
}

/// Text that is printed as it is where a condition is given up.
struct Shown(String);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\n{}", self.0)
    }
}

async fn launch(dir: &Path, start: u32) -> Process {
    let config = config_file(dir, start);
    let mut process = Process::tool(Command::new(tool("bin/otelcol")), &["--config", &config]);
    process.line_with(READY).await;
    process
}

fn config_file(dir: &Path, start: u32) -> String {
    dir.join(format!("config-{start}.yaml")).display().to_string()
}

/// Writes the configuration of one start: JSON, which is YAML.
fn write_config(
    dir: &Path,
    start: u32,
    otlp: SocketAddr,
    prometheus: SocketAddr,
    tls: Option<&[String; 2]>,
    token: Option<&str>,
) {
    let mut grpc = json!({"endpoint": otlp.to_string()});
    let mut extensions = json!({});
    if let Some([cert, key]) = tls {
        grpc["tls"] = json!({"cert_file": cert, "key_file": key});
    }
    if let Some(token) = token {
        grpc["auth"] = json!({"authenticator": "bearertokenauth"});
        extensions["bearertokenauth"] = json!({"scheme": "Bearer", "token": token});
    }
    let guards: Vec<_> = extensions.as_object().expect("just made").keys().cloned().collect();
    // No batches: each request is written as it came, and soon.
    let file = |signal: &str| {
        let path = dir.join(format!("{signal}-{start}.jsonl")).display().to_string();
        json!({"path": path, "flush_interval": "20ms"})
    };
    let pipe = |out: &[&str]| json!({"receivers": ["otlp"], "exporters": out});
    let config = json!({
        "extensions": extensions,
        "receivers": {"otlp": {"protocols": {"grpc": grpc}}},
        "exporters": {
            "file/traces": file("traces"),
            "file/logs": file("logs"),
            "file/metrics": file("metrics"),
            // As deploy/telemetry/collector.yaml has it.
            "prometheus": {
                "endpoint": prometheus.to_string(),
                "without_scope_info": true,
                "resource_constant_labels": {"included": ["pregon.plane"]},
            },
        },
        "service": {
            "extensions": guards,
            // It counts itself on a fixed port otherwise.
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {
                "traces": pipe(&["file/traces"]),
                "logs": pipe(&["file/logs"]),
                "metrics": pipe(&["file/metrics", "prometheus"]),
            },
        },
    });
    std::fs::write(config_file(dir, start), config.to_string()).expect("a file can be written");
}
