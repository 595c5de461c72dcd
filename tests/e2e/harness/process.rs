//! A child process: its output is kept, and it ends with the test at the latest.

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use super::poll;

/// Lines of output that are kept: enough for any story; the rest is read and dropped.
const LINES_KEPT: usize = 20_000;

/// A running `pregon`, or a tool.
#[derive(Debug)]
pub struct Process {
    child: Child,
    line: String,
    output: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts the binary. No setting comes from the environment but those given.
    pub fn pregon(args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::start(Command::new(env!("CARGO_BIN_EXE_pregon")), args, env)
    }

    /// Starts the binary so that no file it writes can grow beyond this many KiB: writes beyond
    /// fail, as they do on a full disk.
    pub fn confined(kib: u64, args: &[&str]) -> Self {
        let mut command = Command::new("sh");
        // In blocks of 512 bytes; the signal that goes with it must not end the process.
        let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", 2 * kib);
        command.args(["-c", &script, env!("CARGO_BIN_EXE_pregon")]);
        Self::start(command, args, &[])
    }

    /// Starts the binary so that it may open so many files.
    pub fn with_files(files: u64, args: &[&str]) -> Self {
        let mut command = Command::new("sh");
        let script = format!("ulimit -n {files}; exec \"$0\" \"$@\"");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_pregon")]);
        Self::start(command, args, &[])
    }

    /// Starts a program that `scripts/tools.sh` installs.
    pub fn tool(program: Command, args: &[&str]) -> Self {
        Self::start(program, args, &[])
    }

    fn start(mut command: Command, args: &[&str], env: &[(&str, &str)]) -> Self {
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if ["PREGON_", "OTEL_"].iter().any(|ours| name.starts_with(ours)) {
                command.env_remove(&*name);
            }
        }
        command.args(args).envs(env.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().expect("the binary starts");
        let output = Arc::default();
        follow(child.stdout.take().expect("stdout is piped"), Arc::clone(&output));
        follow(child.stderr.take().expect("stderr is piped"), Arc::clone(&output));
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        Self { child, line: format!("{program} {}", args.join(" ")), output }
    }

    /// Runs the binary to its end, within the bound of all conditions.
    pub async fn run(args: &[&str], env: &[(&str, &str)]) -> (ExitStatus, String) {
        let mut process = Self::pregon(args, env);
        let status = process.exit(poll::BOUND).await;
        (status, process.output())
    }

    /// Everything it has printed, on both streams.
    pub fn output(&self) -> String {
        self.output.lock().expect("no reader panics").join("\n")
    }

    /// Waits for a line with this text.
    pub async fn line_with(&mut self, text: &str) -> String {
        let deadline = tokio::time::Instant::now() + poll::BOUND;
        loop {
            let found = self.lines().into_iter().find(|line| line.contains(text));
            if let Some(line) = found {
                return line;
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                // What it said last may still be on its way through the pipes.
                tokio::time::sleep(Duration::from_millis(100)).await;
                panic!("{} ended with {status} and said:\n{}", self.line, self.output());
            }
            if tokio::time::Instant::now() > deadline {
                panic!("{} did not say {text:?}, but:\n{}", self.line, self.output());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The address in its first line that says `listening on`.
    pub async fn address(&mut self) -> std::net::SocketAddr {
        let line = self.line_with("listening on ").await;
        let (_, rest) = line.split_once("listening on ").expect("just found");
        let rest = rest.trim_start_matches("http://");
        let address: String =
            rest.chars().take_while(|c| c.is_ascii_hexdigit() || ".:[]".contains(*c)).collect();
        address.parse().unwrap_or_else(|_| panic!("no address in {line:?}"))
    }

    /// The power is cut: SIGKILL, and the process is gone.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("the process is ours to kill");
    }

    /// Asks it to end.
    pub async fn terminate(&self) {
        self.signal("TERM").await;
    }

    /// Sends it a signal by name.
    pub async fn signal(&self, name: &str) {
        let id = self.child.id().expect("it still runs");
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status().await;
        assert!(sent.expect("sh runs").success(), "kill -{name} {id}");
    }

    /// Stops it, and returns when none of its threads runs any more: a signal takes its time.
    pub async fn stop(&self) {
        self.signal("STOP").await;
        let id = self.child.id().expect("it still runs");
        super::eventually("all of its threads are stopped", || async {
            let threads = std::fs::read_dir(format!("/proc/{id}/task")).expect("it is Linux");
            let mut states = threads.filter_map(|thread| {
                let stat = std::fs::read_to_string(thread.ok()?.path().join("stat")).ok()?;
                stat.rsplit(") ").next()?.chars().next()
            });
            match states.find(|state| *state != 'T') {
                None => Ok(()),
                Some(state) => Err(state),
            }
        })
        .await;
    }

    /// Memory of it that is resident, in bytes.
    pub fn resident(&self) -> u64 {
        let id = self.child.id().expect("it still runs");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("it is Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
        let kib = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of KiB");
        kib * 1024
    }

    /// Waits for its end.
    pub async fn exit(&mut self, bound: Duration) -> ExitStatus {
        let Ok(status) = tokio::time::timeout(bound, self.child.wait()).await else {
            panic!("{} did not end within {bound:?}; it said:\n{}", self.line, self.output());
        };
        // What it said last is still on its way through the pipes.
        tokio::time::sleep(Duration::from_millis(100)).await;
        status.expect("a child can be waited for")
    }

    /// The lines it has printed so far.
    pub fn lines(&self) -> Vec<String> {
        self.output.lock().expect("no reader panics").clone()
    }
}

/// Reads a stream to its end, so that the process never waits for its reader.
fn follow(stream: impl AsyncRead + Unpin + Send + 'static, output: Arc<Mutex<Vec<String>>>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut output = output.lock().expect("no reader panics");
            if output.len() < LINES_KEPT {
                output.push(line);
            }
        }
    });
}
