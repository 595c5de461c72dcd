//! A private Vault on a port of loopback, in memory: the server that others wrote, with its transit
//! engine. `scripts/tools.sh` builds it.

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::process::Process;
use super::redis::free_port;
use super::tool;

/// What processes may do with the transit key, and what operators may.
const PROCESS: &str = r#"path "transit/decrypt/pregon" { capabilities = ["update"] }"#;
const OPERATOR: &str = r#"path "transit/encrypt/pregon" { capabilities = ["update"] }
path "transit/rewrap/pregon" { capabilities = ["update"] }"#;

/// Whether there is one; a story without it says that it is skipped.
pub fn is_there() -> bool {
    let there = super::root().join(".tools/bin/vault-transit").exists();
    if !there {
        eprintln!("SKIPPED: there is no Vault; scripts/tools.sh says why");
    }
    there
}

/// A server that is set up and unsealed, whose transit engine has a key `pregon`.
pub struct Vault {
    port: u16,
    root: String,
    unseal: String,
    dir: TempDir,
    _running: Process,
}

impl Vault {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// When it is not installed.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let port = free_port();
        let (root, unseal) = (String::new(), String::new());
        let mut vault = Self { port, root, unseal, dir, _running: launch(port).await };
        let shares = json!({"secret_shares": 1, "secret_threshold": 1});
        let made = vault.ok("PUT", "sys/init", &shares).await;
        vault.root = made["root_token"].as_str().expect("a token").to_owned();
        vault.unseal = made["keys_base64"][0].as_str().expect("a key").to_owned();
        vault.unseal().await;
        vault.ok("POST", "sys/mounts/transit", &json!({"type": "transit"})).await;
        vault.ok("POST", "transit/keys/pregon", &json!({})).await;
        let both = format!("{PROCESS}\n{OPERATOR}");
        for (name, policy) in [("pregon", PROCESS), ("operator", &*both), ("neither", OPERATOR)] {
            let path = format!("sys/policies/acl/{name}");
            vault.ok("PUT", &path, &json!({"policy": policy})).await;
        }
        vault
    }

    /// Opens it after its start, or after it was sealed.
    pub async fn unseal(&self) {
        let opened = self.ok("PUT", "sys/unseal", &json!({"key": self.unseal})).await;
        assert_eq!(opened["sealed"], false, "{opened}");
    }

    /// Seals it: it answers, and does nothing.
    pub async fn seal(&self) {
        self.ok("PUT", "sys/seal", &json!({})).await;
    }

    /// Its transit key gets a new version.
    pub async fn rotate(&self) {
        self.ok("POST", "transit/keys/pregon/rotate", &json!({})).await;
    }

    /// What was wrapped under older versions is not opened any more.
    pub async fn retire_below(&self, version: u32) {
        let config = json!({"min_decryption_version": version});
        self.ok("POST", "transit/keys/pregon/config", &config).await;
    }

    /// A token with one of the policies `pregon`, `operator` and `neither`, and a file that it is in.
    pub async fn token(&self, policy: &str, file: &str) -> String {
        let wanted = json!({"policies": [policy]});
        let made = self.ok("POST", "auth/token/create", &wanted).await;
        let token = made["auth"]["client_token"].as_str().expect("a token").to_owned();
        self.put(file, &token);
        token
    }

    /// Takes a token back.
    pub async fn revoke(&self, token: &str) {
        self.ok("POST", "auth/token/revoke", &json!({"token": token})).await;
    }

    /// Puts a token into a file.
    pub fn put(&self, file: &str, token: &str) {
        std::fs::write(self.dir.path().join(file), token).expect("a file can be written");
    }

    /// The settings of who uses it with the token of a file.
    pub fn settings(&self, file: &str) -> [String; 4] {
        let file = self.dir.path().join(file).display().to_string();
        let address = format!("http://127.0.0.1:{}", self.port);
        ["--kms-address".into(), address, "--kms-token-file".into(), file]
    }

    /// Calls it as root, and must be answered well.
    async fn ok(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        // HTTP/1.0: the answer ends with the connection, and comes in one piece.
        let request = format!(
            "{method} /v1/{path} HTTP/1.0\r\nX-Vault-Token: {}\r\nContent-Length: {}\r\n\r\n{body}",
            self.root,
            body.len()
        );
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.expect("it listens");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
        let status = head.split(' ').nth(1).unwrap_or_default();
        assert!(status.starts_with('2'), "{method} {path}: {answer}");
        serde_json::from_str(body).unwrap_or_default()
    }
}

async fn launch(port: u16) -> Process {
    let program = Command::new(tool("bin/vault-transit"));
    let mut process = Process::tool(program, &["-listen", &format!("127.0.0.1:{port}")]);
    process.line_with("listening on ").await;
    process
}
