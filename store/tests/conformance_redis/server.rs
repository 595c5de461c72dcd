//! A private `redis-server` on a socket in a directory of its own. `PREGON_TEST_REDIS` names another
//! program for all cases; some cases want one of their own, and are skipped where it is missing.
//!
//! A shell stands guard: it waits for the end of its standard input, which this process holds, and
//! then kills the server and removes the directory. So nothing is left behind however the tests
//! end.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Databases of a server: each case of the suite has one.
pub const DATABASES: usize = 1024;
/// How long a server may take to start.
const START: Duration = Duration::from_secs(10);

const GUARD: &str = "directory=$1; shift; \"$@\" >>\"$directory/log\" 2>&1 & \
                     server=$!; cat; kill -KILL $server; wait $server; \
                     [ -e \"$directory/keep\" ] || rm -rf \"$directory\"";

/// A Redis that can say when its disk has a write, as `scripts/tools.sh` fetches it.
pub const REDIS_8: &str = "redis-server-8";
/// A Valkey, as `scripts/tools.sh` fetches it.
pub const VALKEY_9: &str = "valkey-server-9";

/// Whether a program is there; a case without it says that it is skipped.
pub fn have(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok_and(|it| it.status.success());
    if !there {
        eprintln!("SKIPPED: {program} is not in the PATH; scripts/tools.sh fetches it");
    }
    there
}

fn program() -> String {
    std::env::var("PREGON_TEST_REDIS").unwrap_or_else(|_| "redis-server".to_owned())
}

/// A running server.
pub struct Server {
    guard: Child,
    /// Whose end is the server's.
    life: Option<ChildStdin>,
    directory: PathBuf,
}

impl Server {
    /// With nothing on disk.
    pub fn start() -> Self {
        let directory = TempDir::new().expect("a directory").keep();
        Self::start_in(directory)
    }

    /// In this directory, from the snapshot that lies there if there is one.
    pub fn start_in(directory: PathBuf) -> Self {
        Self::run_in(directory, &program(), &[])
    }

    /// The one that the suite's cases share: with a file that it syncs as
    /// `PREGON_TEST_APPENDFSYNC` says, if it says so.
    pub fn shared() -> Self {
        match std::env::var("PREGON_TEST_APPENDFSYNC") {
            Ok(appendfsync) => Self::synced(&program(), &appendfsync),
            Err(_) => Self::start(),
        }
    }

    /// This program, with a file that it syncs so often.
    pub fn synced(program: &str, appendfsync: &str) -> Self {
        let directory = TempDir::new().expect("a directory").keep();
        let file = ["--appendonly", "yes", "--appendfsync", appendfsync];
        Self::run_in(directory, program, &file)
    }

    fn run_in(directory: PathBuf, program: &str, settings: &[&str]) -> Self {
        let socket = directory.join("socket");
        let _ = std::fs::remove_file(&socket);
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "guard"]).arg(&directory).arg(program);
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]);
        command.arg(&socket).arg("--dir").arg(&directory);
        command.arg("--databases").arg(DATABASES.to_string()).args(settings);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut guard = command.spawn().expect("sh");
        let life = guard.stdin.take();
        let server = Self { guard, life, directory };
        server.wait();
        server
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    /// The URL of one of its databases.
    pub fn url(&self, database: usize) -> String {
        format!("redis+unix://{}?db={database}", self.socket().display())
    }

    /// Runs one command.
    pub fn run(&self, command: &[&str]) -> redis::Value {
        let client = redis::Client::open(self.url(0)).expect("a URL");
        let mut connection = client.get_connection().expect("a connection");
        redis::cmd(command[0]).arg(&command[1..]).query(&mut connection).expect(command[0])
    }

    /// What it says of itself.
    pub fn info(&self, section: &str) -> String {
        match self.run(&["INFO", section]) {
            redis::Value::BulkString(info) => String::from_utf8(info).expect("text"),
            other => panic!("{other:?}"),
        }
    }

    /// Makes it listen on a port of loopback, too.
    pub fn listen(&self) -> u16 {
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = free.local_addr().expect("its address").port();
        drop(free);
        self.run(&["CONFIG", "SET", "port", &port.to_string()]);
        port
    }

    /// Stops it where it is, as a machine that hangs; it goes on when the answer is dropped.
    pub fn stop(&self) -> Stopped {
        let info = self.info("server");
        let id = info.lines().find_map(|line| line.strip_prefix("process_id:")).expect("its id");
        signal("STOP", id);
        Stopped { id: id.to_owned() }
    }

    /// Kills it, as `kill -9` does; its directory stays.
    pub fn kill(mut self) -> PathBuf {
        let directory = self.directory.clone();
        std::fs::write(directory.join("keep"), "").expect("to write");
        self.end();
        std::fs::remove_file(directory.join("keep")).expect("to remove");
        directory
    }

    fn end(&mut self) {
        drop(self.life.take());
        let _ = self.guard.wait();
    }

    fn wait(&self) {
        let until = Instant::now() + START;
        let client = redis::Client::open(self.url(0)).expect("a URL");
        while client.get_connection().is_err() {
            assert!(Instant::now() < until, "{}", log(&self.directory));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.life.is_some() {
            self.end();
        }
    }
}

/// A server that hangs.
pub struct Stopped {
    id: String,
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal("CONT", &self.id);
    }
}

fn signal(name: &str, id: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), id]).status().expect("kill");
    assert!(sent.success(), "kill -{name} {id}");
}

fn log(directory: &Path) -> String {
    std::fs::read_to_string(directory.join("log")).unwrap_or_default()
}
