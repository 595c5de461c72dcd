//! The real grpcurl, by reflection: it knows no proto file.
//!
//! Where the planes are apart, management goes to control and events go to the nodes by turns.

use std::fmt;
use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// No call of ours takes longer; a wait may take its own 60 s.
const LIMIT: Duration = Duration::from_secs(90);

/// grpcurl to one Pregón.
#[derive(Clone, Debug)]
pub struct Grpcurl {
    addr: String,
    /// Where events go; empty: to the same address.
    events: Vec<String>,
    turn: Arc<AtomicUsize>,
    flags: Vec<String>,
}

/// A refusal as grpcurl shows it.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Name of the gRPC code, such as `INVALID_ARGUMENT`.
    pub code: &'static str,
    /// The status message.
    pub message: String,
    /// The details by type, such as `google.rpc.ErrorInfo`.
    details: Vec<Value>,
}

impl Grpcurl {
    /// grpcurl to this address, in clear.
    pub fn new(addr: SocketAddr) -> Self {
        Self::at(addr.to_string(), vec!["-plaintext".into()])
    }

    /// The same, which sends events to these.
    pub fn publishing_to(mut self, nodes: &[SocketAddr]) -> Self {
        self.events = nodes.iter().map(SocketAddr::to_string).collect();
        self
    }

    /// grpcurl to this port of `localhost` over TLS, with these flags about certificates.
    pub fn over_tls(addr: SocketAddr, flags: &[&str]) -> Self {
        let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        Self::at(format!("localhost:{}", addr.port()), flags)
    }

    fn at(addr: String, flags: Vec<String>) -> Self {
        Self { addr, events: Vec::new(), turn: Arc::default(), flags }
    }

    /// The same with a token, for reflection too.
    pub fn with_token(&self, token: &str) -> Self {
        self.with_header("authorization", &format!("Bearer {token}"))
    }

    /// The same, which sends this header with every call.
    pub fn with_header(&self, name: &str, value: &str) -> Self {
        let mut it = self.clone();
        it.flags.extend(["-H".into(), format!("{name}: {value}")]);
        it
    }

    /// Where management goes.
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// What every call is run with.
    pub fn flags(&self) -> &[String] {
        &self.flags
    }

    /// Runs grpcurl with arguments before and after the address.
    pub async fn run(&self, before: &[&str], after: &[&str], stdin: &str) -> Output {
        self.run_at(&self.addr, before, after, stdin).await
    }

    async fn run_at(&self, addr: &str, before: &[&str], after: &[&str], stdin: &str) -> Output {
        let mut command = Command::new(super::tool("bin/grpcurl"));
        command.args(&self.flags).args(before).arg(addr).args(after);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().expect("grpcurl starts");
        let mut input = child.stdin.take().expect("stdin is piped");
        let stdin = stdin.to_owned();
        let feed = tokio::spawn(async move {
            // grpcurl may refuse without reading all of it.
            let _ = input.write_all(stdin.as_bytes()).await;
        });
        let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
        feed.abort();
        output.unwrap_or_else(|_| panic!("grpcurl {after:?} took longer than {LIMIT:?}")).unwrap()
    }

    /// Text that `list` or `describe` prints.
    pub async fn text(&self, args: &[&str]) -> String {
        let output = self.run(&[], args, "").await;
        assert!(output.status.success(), "grpcurl {args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("grpcurl prints UTF-8")
    }

    /// Calls a method of `pregon.v1`, such as `TenantService/GetTenant`; all messages it answers
    /// with, and how it ended.
    pub async fn stream(&self, method: &str, request: &Value) -> (Vec<Value>, Result<(), Refused>) {
        let of_nodes = ["EventService/", "CheckService/"].iter().any(|it| method.starts_with(it));
        let addr = if of_nodes { self.next_node() } else { &self.addr };
        let method = format!("pregon.v1.{method}");
        let before = ["-format-error", "-emit-defaults", "-d", "@"];
        let output = self.run_at(addr, &before, &[&method], &request.to_string()).await;
        let messages = serde_json::Deserializer::from_slice(&output.stdout)
            .into_iter()
            .collect::<Result<Vec<Value>, _>>()
            .unwrap_or_else(|error| panic!("{method}: {error}: {output:?}"));
        let end = if output.status.success() {
            Ok(())
        } else {
            Err(Refused::read(&method, &String::from_utf8_lossy(&output.stderr)))
        };
        (messages, end)
    }

    fn next_node(&self) -> &str {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.events.get(turn % self.events.len().max(1)).unwrap_or(&self.addr)
    }

    /// Calls a unary method.
    pub async fn call(&self, method: &str, request: Value) -> Result<Value, Refused> {
        let (mut messages, end) = self.stream(method, &request).await;
        end?;
        assert_eq!(messages.len(), 1, "{method} answers once");
        Ok(messages.remove(0))
    }

    /// Calls a unary method of a process that may be killed meanwhile: whatever is no answer is an
    /// error.
    pub async fn call_unread(&self, method: &str, request: &Value) -> Result<(), String> {
        let method = format!("pregon.v1.{method}");
        let output = self.run(&["-d", "@"], &[&method], &request.to_string()).await;
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Calls a method that must not refuse.
    pub async fn ok(&self, method: &str, request: Value) -> Value {
        let shown = request.to_string();
        let answer = self.call(method, request).await;
        answer.unwrap_or_else(|refused| panic!("{method} {shown}: {refused}"))
    }

    /// Calls a method that must refuse.
    pub async fn refused(&self, method: &str, request: Value) -> Refused {
        let shown: String = request.to_string().chars().take(500).collect();
        match self.call(method, request).await {
            Ok(answer) => panic!("{method} {shown} was not refused but answered {answer}"),
            Err(refused) => refused,
        }
    }

    /// What the server says of its health, such as `SERVING`.
    pub async fn health(&self) -> String {
        self.health_of("").await
    }

    /// What it says of one name.
    pub async fn health_of(&self, service: &str) -> String {
        let request = json!({ "service": service }).to_string();
        let output = self.run(&["-d", "@"], &["grpc.health.v1.Health/Check"], &request).await;
        let answer: Result<Value, _> = serde_json::from_slice(&output.stdout);
        let answer = answer.unwrap_or_else(|error| panic!("{error}: {output:?}"));
        answer["status"].as_str().expect("health has a status").to_owned()
    }

    /// The counts of one tenant, or of `tenants/-`.
    pub async fn report(&self, tenant: &str) -> Value {
        self.ok("DeliveryService/GetReconciliationReport", json!({ "parent": tenant })).await
    }
}

impl Refused {
    /// Reads what grpcurl prints of a call that failed.
    pub fn read(method: &str, stderr: &str) -> Self {
        let status: Value = serde_json::from_str(stderr)
            .unwrap_or_else(|_| panic!("{method} failed, but not with a status: {stderr}"));
        let code = status["code"].as_i64().expect("a status has a code");
        let details = status["details"].as_array().cloned().unwrap_or_default();
        let message = status["message"].as_str().unwrap_or_default().to_owned();
        Self { code: code_name(code), message, details }
    }

    /// The detail of one type of `google.rpc`.
    pub fn detail(&self, name: &str) -> Option<&Value> {
        let name = format!("type.googleapis.com/google.rpc.{name}");
        self.details.iter().find(|detail| detail["@type"] == name)
    }

    /// The stable reason, of domain `pregon`.
    pub fn reason(&self) -> &str {
        let info = self.detail("ErrorInfo").unwrap_or_else(|| panic!("no ErrorInfo: {self:?}"));
        assert_eq!(info["domain"], "pregon");
        info["reason"].as_str().expect("an ErrorInfo has a reason")
    }

    /// Every wrong field with the rule that it broke.
    pub fn violations(&self) -> Vec<(String, String)> {
        let Some(request) = self.detail("BadRequest") else { return Vec::new() };
        let list = request["fieldViolations"].as_array().expect("a BadRequest has violations");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        list.iter().map(|one| (text(&one["field"]), text(&one["reason"]))).collect()
    }

    /// What is said about a wrong field.
    pub fn description(&self, field: &str) -> String {
        let list = self.detail("BadRequest").and_then(|request| {
            request["fieldViolations"].as_array()?.iter().find(|one| one["field"] == field)
        });
        let one = list.unwrap_or_else(|| panic!("{field} is not among the wrong ones: {self}"));
        one["description"].as_str().unwrap_or_default().to_owned()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let details: Vec<_> = self.details.iter().map(Value::to_string).collect();
        write!(f, "{}: {}; {}", self.code, self.message, details.join(" "))
    }
}

fn code_name(code: i64) -> &'static str {
    match code {
        1 => "CANCELLED",
        2 => "UNKNOWN",
        3 => "INVALID_ARGUMENT",
        4 => "DEADLINE_EXCEEDED",
        5 => "NOT_FOUND",
        6 => "ALREADY_EXISTS",
        7 => "PERMISSION_DENIED",
        8 => "RESOURCE_EXHAUSTED",
        9 => "FAILED_PRECONDITION",
        10 => "ABORTED",
        11 => "OUT_OF_RANGE",
        12 => "UNIMPLEMENTED",
        13 => "INTERNAL",
        14 => "UNAVAILABLE",
        15 => "DATA_LOSS",
        16 => "UNAUTHENTICATED",
        _ => panic!("{code} is no gRPC code"),
    }
}
