//! A stream that goes on while the story does: grpcurl, and what it has printed so far.

use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::grpcurl::{Grpcurl, Refused};
use super::{eventually, poll};

/// A stream under way; its end is grpcurl's.
#[derive(Debug)]
pub struct Watcher {
    child: Child,
    method: String,
    printed: Arc<Mutex<Vec<u8>>>,
}

impl Watcher {
    /// Begins a stream, and waits for its first message: from then on it misses nothing.
    pub async fn start(grpc: &Grpcurl, method: &str, request: Value) -> Self {
        let watcher = Self::begin(grpc, method, request).await;
        watcher.until("it has begun", |messages| !messages.is_empty()).await;
        watcher
    }

    /// Begins a stream.
    pub async fn begin(grpc: &Grpcurl, method: &str, request: Value) -> Self {
        let mut command = Command::new(super::tool("bin/grpcurl"));
        command.args(grpc.flags()).args(["-format-error", "-emit-defaults", "-d", "@"]);
        command.args([grpc.addr(), &format!("pregon.v1.{method}")]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().expect("grpcurl starts");
        let mut input = child.stdin.take().expect("stdin is piped");
        input.write_all(request.to_string().as_bytes()).await.expect("grpcurl reads");
        drop(input);
        let mut output = child.stdout.take().expect("stdout is piped");
        let printed: Arc<Mutex<Vec<u8>>> = Arc::default();
        let into = Arc::clone(&printed);
        tokio::spawn(async move {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(length @ 1..) = output.read(&mut buffer).await {
                into.lock().expect("no reader panics").extend_from_slice(&buffer[..length]);
            }
        });
        Self { child, method: method.to_owned(), printed }
    }

    /// All whole messages so far.
    pub fn messages(&self) -> Vec<Value> {
        let printed = self.printed.lock().expect("no reader panics").clone();
        let messages = serde_json::Deserializer::from_slice(&printed).into_iter::<Value>();
        messages.map_while(Result::ok).collect()
    }

    /// What it has printed, as text.
    pub fn text(&self) -> String {
        let printed = self.printed.lock().expect("no reader panics");
        String::from_utf8_lossy(&printed).into_owned()
    }

    /// Waits until the messages so far are what is waited for, and gives them.
    pub async fn until(&self, what: &str, good: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        eventually(&format!("{}: {what}", self.method), || async {
            let messages = self.messages();
            if good(&messages) { Ok(messages) } else { Err(messages) }
        })
        .await
    }

    /// Stops grpcurl where it is, as a reader that hangs, or lets it go on.
    pub async fn signal(&self, name: &str) {
        let id = self.child.id().expect("it still runs");
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status().await;
        assert!(sent.expect("sh runs").success(), "kill -{name} {id}");
    }

    /// Cuts it off; what it had seen.
    pub async fn cut(mut self) -> Vec<Value> {
        self.child.kill().await.expect("grpcurl is ours to kill");
        self.messages()
    }

    /// Waits until the server ends it, and gives the reason.
    pub async fn refused(mut self) -> Refused {
        let ended = tokio::time::timeout(poll::BOUND, self.child.wait()).await;
        let status = ended.expect("the stream ends").expect("a child can be waited for");
        assert!(!status.success(), "{} ended well: {}", self.method, self.text());
        let mut said = String::new();
        let mut stderr = self.child.stderr.take().expect("stderr is piped");
        stderr.read_to_string(&mut said).await.expect("grpcurl prints UTF-8");
        Refused::read(&self.method, &said)
    }
}
