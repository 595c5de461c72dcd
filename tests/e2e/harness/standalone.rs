//! `pregon standalone`, which may receive on loopback over http.

use std::net::SocketAddr;
use std::process::ExitStatus;
use std::time::Duration;

use tempfile::TempDir;

use super::Grpcurl;
use super::process::Process;
use super::telling::Env;

/// A whole Pregón in one process.
#[derive(Debug)]
pub struct Standalone {
    process: Process,
    addr: SocketAddr,
    args: Vec<String>,
    env: Env,
    dir: Option<TempDir>,
}

impl Standalone {
    /// Starts one without a directory.
    pub async fn in_memory() -> Self {
        Self::start(&["--in-memory"], None).await
    }

    /// Starts one in a directory of its own.
    pub async fn on_disk(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self::start(args, Some(dir)).await
    }

    /// Starts one with these settings beside those that every story needs.
    pub async fn start(args: &[&str], dir: Option<TempDir>) -> Self {
        let usual = ["standalone", "--listen", "127.0.0.1:0", "--allow-http"];
        let loopback = ["--allow-egress", "127.0.0.0/8"];
        Self::exactly(&[&usual[..], &loopback, args].concat(), dir).await
    }

    /// Starts one with these settings, and these variables in its environment.
    pub async fn telling(args: &[&str], dir: Option<TempDir>, env: &Env) -> Self {
        let usual = ["standalone", "--listen", "127.0.0.1:0", "--allow-http"];
        let loopback = ["--allow-egress", "127.0.0.0/8"];
        Self::within(&[&usual[..], &loopback, args].concat(), dir, env.clone()).await
    }

    /// Starts one with exactly these arguments, and its directory.
    pub async fn exactly(args: &[&str], dir: Option<TempDir>) -> Self {
        Self::within(args, dir, Env::default()).await
    }

    async fn within(args: &[&str], dir: Option<TempDir>, env: Env) -> Self {
        let mut args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        if let Some(dir) = &dir {
            args.push("--data-dir".into());
            args.push(dir.path().display().to_string());
        }
        let (process, addr) = launch(&args, &env, None).await;
        Self { process, addr, args, env, dir }
    }

    /// Where it serves gRPC.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// grpcurl to it.
    pub fn grpcurl(&self) -> Grpcurl {
        Grpcurl::new(self.addr)
    }

    /// Its directory's path.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.as_ref().expect("it was started on disk").path()
    }

    /// What it has said.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Memory of it that is resident, in bytes.
    pub fn resident(&self) -> u64 {
        self.process.resident()
    }

    /// Cuts it off with SIGKILL.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Asks it to end.
    pub async fn terminate(&self) {
        self.process.terminate().await;
    }

    /// Waits for its end.
    pub async fn exit(&mut self, bound: Duration) -> ExitStatus {
        self.process.exit(bound).await
    }

    /// Starts it again in the same directory, on another port.
    pub async fn start_again(&mut self) {
        (self.process, self.addr) = launch(&self.args, &self.env, None).await;
    }

    /// Starts it again so that none of its files can grow beyond this many KiB.
    pub async fn start_again_confined(&mut self, kib: u64) {
        (self.process, self.addr) = launch(&self.args, &self.env, Some(kib)).await;
    }
}

async fn launch(args: &[String], env: &Env, kib: Option<u64>) -> (Process, SocketAddr) {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut process = match kib {
        None => Process::pregon(&args, &env.pairs()),
        Some(kib) => Process::confined(kib, &args),
    };
    let addr = process.address().await;
    (process, addr)
}
