//! A private authorization server on a port of loopback: oidc-provider, which others wrote.
//! `scripts/tools.sh` installs it.

use std::process::Stdio;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::redis::free_port;
use super::{eventually, root, tool};

/// An authorization server with one client.
pub struct Issuer {
    port: u16,
    said: Arc<Mutex<Vec<String>>>,
    _running: Child,
}

impl Issuer {
    /// Starts one whose client identifies itself in that way (`client_secret_basic` or
    /// `client_secret_post`), and whose tokens last so many seconds.
    ///
    /// # Panics
    ///
    /// When node or oidc-provider is not installed.
    pub async fn start(client: &str, secret: &str, way: &str, life: u32) -> Self {
        let own = root().join(".tools/bin/node");
        let node = if own.exists() { own } else { "node".into() };
        let port = free_port();
        let mut running = Command::new(node)
            .arg(root().join("tests/issuer/server.mjs"))
            .arg(tool("node_modules/oidc-provider"))
            .args([&port.to_string(), client, secret, way, &life.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("node can be started: scripts/tools.sh installs it");
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let (log, output) = (Arc::clone(&said), running.stdout.take().expect("it is piped"));
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                log.lock().unwrap().push(line);
            }
        });
        let issuer = Self { port, said, _running: running };
        eventually("the authorization server listens", || async {
            let lines = issuer.lines("listening");
            if lines.is_empty() { Err(issuer.said.lock().unwrap().clone()) } else { Ok(()) }
        })
        .await;
        issuer
    }

    /// Where it grants tokens.
    pub fn token_url(&self) -> String {
        format!("http://127.0.0.1:{}/token", self.port)
    }

    /// The tokens that it has granted, each with its scope.
    pub fn tokens(&self) -> Vec<(String, String)> {
        let split = |line: String| {
            let (token, scope) = line.split_once(' ').expect("token and scope");
            (token.to_owned(), scope.to_owned())
        };
        self.lines("token ").into_iter().map(split).collect()
    }

    /// How often it has refused to.
    pub fn refusals(&self) -> usize {
        self.lines("refused ").len()
    }

    fn lines(&self, kind: &str) -> Vec<String> {
        let said = self.said.lock().unwrap();
        said.iter().filter_map(|line| line.strip_prefix(kind)).map(str::to_owned).collect()
    }
}
