//! A private `redis-server` on a port of loopback, in a directory of its own. `PREGON_TEST_REDIS`
//! names another program for it.
//!
//! A shell stands guard: it starts and ends the server as it is told on its standard input, which
//! this process holds. When that closes it kills the server and removes the directory, so nothing
//! is left behind however the tests end.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::eventually;

/// Each word is answered by a line: the id of what was started, or that it is done.
const GUARD: &str = "directory=$1; shift; server=; while read -r word; do case $word in \
                     start) \"$@\" >>\"$directory/log\" 2>&1 & server=$!; \
                     echo $server;; \
                     TERM|KILL) kill -$word $server; wait $server; echo done;; \
                     *) kill -$word $server; echo done;; esac; done; \
                     kill -KILL $server; wait $server; rm -rf \"$directory\"";

/// Below the ports that the system gives to callers, so that a server that is away for a moment
/// finds its port free.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// How long a server may take to say one line.
const ANSWER: Duration = Duration::from_secs(5);

/// What it keeps on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing.
    Nothing,
    /// An append-only file, written to disk each second.
    EverySecond,
    /// The same, of a server that says when; what is acknowledged waits for it.
    Confirmed,
    /// An append-only file, on disk before each answer.
    Always,
}

/// A Redis that can say when its disk has a write, as `scripts/tools.sh` fetches it.
const CONFIRMING: &str = "redis-server-8";

/// Whether there is such a Redis; a story without it says that it is skipped.
pub fn confirms() -> bool {
    let version = std::process::Command::new(CONFIRMING).arg("--version").output();
    let there = version.is_ok_and(|it| it.status.success());
    if !there {
        eprintln!("SKIPPED: {CONFIRMING} is not in the PATH; scripts/tools.sh fetches it");
    }
    there
}

/// A Redis, running or not.
#[derive(Debug)]
pub struct Redis {
    // Its end is the server's.
    guard: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
    _shell: Child,
    directory: PathBuf,
    port: u16,
}

impl Redis {
    /// Starts one.
    pub async fn start(keep: Keep) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory").keep();
        let port = free_port();
        let text = directory.display().to_string();
        let mut command = Command::new("sh");
        let program = match keep {
            Keep::Confirmed => CONFIRMING.to_owned(),
            Keep::Nothing | Keep::EverySecond | Keep::Always => {
                std::env::var("PREGON_TEST_REDIS").unwrap_or_else(|_| "redis-server".to_owned())
            }
        };
        command.args(["-c", GUARD, "guard", &text, &program, "--dir", &text]);
        command.args(["--port", &port.to_string()]);
        command.args(["--bind", "127.0.0.1", "--save", "", "--maxmemory-policy", "noeviction"]);
        command.args(match keep {
            Keep::Nothing => &["--appendonly", "no"][..],
            Keep::EverySecond | Keep::Confirmed => {
                &["--appendonly", "yes", "--appendfsync", "everysec"]
            }
            Keep::Always => &["--appendonly", "yes", "--appendfsync", "always"],
        });
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut shell = command.spawn().expect("sh starts");
        let guard = shell.stdin.take().expect("stdin is piped");
        let said = BufReader::new(shell.stdout.take().expect("stdout is piped")).lines();
        let mut redis = Self { guard, said, _shell: shell, directory, port };
        redis.start_again().await;
        redis
    }

    /// The URL of its first database.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Where its files are.
    pub fn directory(&self) -> &std::path::Path {
        &self.directory
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it on the same port, from what it has kept.
    pub async fn start_again(&mut self) {
        let id = format!("process_id:{}\r\n", self.tell("start").await);
        // By its process, because another test's server could have been given the port.
        eventually("redis-server answers", || async {
            let info = self.run("INFO server").await.unwrap_or_default();
            let log = || std::fs::read_to_string(self.directory.join("log"));
            if info.contains(&id) { Ok(()) } else { Err((info, log())) }
        })
        .await;
        eventually("redis-server has read what it kept", || async {
            match self.run("PING").await {
                Ok(answer) if answer.starts_with("+PONG") => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }

    /// Asks it to end, and waits until it has: what it keeps is on disk.
    pub async fn stop(&mut self) {
        self.tell("TERM").await;
    }

    /// Stops it where it is, or lets it go on: its connections stay, and nothing is answered.
    pub async fn signal(&mut self, name: &str) {
        self.tell(name).await;
    }

    /// Ends it with SIGKILL.
    pub async fn kill(&mut self) {
        self.tell("KILL").await;
    }

    /// Forgets everything, as a mistaken hand would make it.
    pub async fn flush(&self) {
        assert_eq!(self.run("FLUSHALL").await.expect("it runs"), "+OK\r\n");
    }

    /// Runs a command without blanks in its words; the answer's first part as it came.
    pub async fn run(&self, command: &str) -> std::io::Result<String> {
        let ask = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
            stream.write_all(format!("{command}\r\n").as_bytes()).await?;
            let mut answer = vec![0; 4096];
            let len = stream.read(&mut answer).await?;
            Ok(String::from_utf8_lossy(&answer[..len]).into_owned())
        };
        timeout(ANSWER, ask).await?
    }

    async fn tell(&mut self, word: &str) -> String {
        self.guard.write_all(format!("{word}\n").as_bytes()).await.expect("the guard stands");
        let said = timeout(super::poll::BOUND, self.said.next_line()).await;
        let said = said.unwrap_or_else(|_| panic!("{word}: redis-server does not end"));
        said.expect("the guard's pipe is open").expect("the guard stands")
    }
}

/// A port that nobody listens on, and that no other test of this process is given.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let len = PORTS.end - PORTS.start;
    let first = u16::try_from(std::process::id() * 37 % u32::from(len)).expect("below len");
    for _ in 0..len {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % len;
        let port = PORTS.start + (first + step) % len;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port of {PORTS:?} is free");
}
