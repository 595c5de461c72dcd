//! A private tinyproxy on a port of loopback, in a directory of its own: an HTTP proxy that others
//! wrote. `scripts/tools.sh` installs it.

use std::process::Stdio;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::eventually;
use super::redis::free_port;

/// The program, as Debian packages it.
const PROGRAM: &str = "tinyproxy";

/// A proxy that wants a user and a password.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    dir: TempDir,
    running: Option<Child>,
}

impl Proxy {
    /// Who may ask it.
    pub const USER: &'static str = "pregon";
    /// The user's password.
    pub const PASSWORD: &'static str = "s3cret";

    /// Starts one.
    ///
    /// # Panics
    ///
    /// When tinyproxy is not installed.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let port = free_port();
        let (user, password) = (Self::USER, Self::PASSWORD);
        let log = dir.path().join("log");
        let settings = format!(
            "Port {port}\nListen 127.0.0.1\nTimeout 600\nAllow 127.0.0.1\nMaxClients 100\n\
             BasicAuth {user} {password}\nLogLevel Connect\nLogFile \"{}\"\n",
            log.display()
        );
        std::fs::write(dir.path().join("conf"), settings).expect("a file can be written");
        let mut proxy = Self { port, dir, running: None };
        proxy.start_again().await;
        proxy
    }

    /// Starts it on the same port.
    pub async fn start_again(&mut self) {
        let child = Command::new(PROGRAM)
            .args(["-d", "-c"])
            .arg(self.dir.path().join("conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("{PROGRAM} cannot be started ({error}): scripts/tools.sh installs it")
        });
        self.running = Some(child);
        eventually("the proxy listens", || async {
            TcpStream::connect(("127.0.0.1", self.port)).await.map(drop)
        })
        .await;
    }

    /// Ends it and its connections.
    pub async fn stop(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.kill().await.expect("the proxy ends");
        }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}
