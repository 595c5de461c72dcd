//! Strangers stay out, and friends do what they may: TLS, tokens, roles and tenants.

mod environments;
pub(crate) mod methods;
mod tls;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::process::Process;
use crate::harness::{Grpcurl, World, eventually};
use crate::on_both;

on_both!(tokens_come_and_go_without_a_restart, a_change_of_state_is_under_the_callers_name);

/// A token as `pregon token` made it.
pub(crate) struct Token {
    pub(crate) token: String,
    line: String,
}

impl Token {
    /// Makes one with these arguments.
    pub(crate) async fn new(args: &[&str]) -> Self {
        let (status, output) = Process::run(&[&["token"], args].concat(), &[]).await;
        assert!(status.success(), "{output}");
        let [token, line] = output.lines().collect::<Vec<_>>()[..] else { panic!("{output}") };
        Self { token: token.to_owned(), line: line.to_owned() }
    }

    /// One for a role, over all tenants.
    pub(crate) async fn of(role: &str) -> Self {
        Self::new(&["--name", role, "--role", role]).await
    }
}

/// Writes a tokens file, in one step.
pub(crate) fn write_tokens(dir: &Path, tokens: &[&Token]) -> PathBuf {
    let lines: Vec<_> = tokens.iter().map(|token| token.line.as_str()).collect();
    let (file, new) = (dir.join("tokens"), dir.join("tokens.new"));
    std::fs::write(&new, lines.join("\n")).unwrap();
    std::fs::rename(new, &file).unwrap();
    file
}

/// A Pregón on loopback, in clear, that knows these tokens.
pub(crate) async fn guarded<W: World>(tokens: &[&Token]) -> (W, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (W::guarded(&write_tokens(dir.path(), tokens)).await, dir)
}

async fn list_tenants(grpc: &Grpcurl) -> Result<Value, String> {
    let answer = grpc.call("TenantService/ListTenants", json!({})).await;
    answer.map_err(|refused| refused.to_string())
}

async fn tokens_come_and_go_without_a_restart<W: World>() {
    let (old, new, viewer) =
        (Token::of("operator").await, Token::of("operator").await, Token::of("viewer").await);
    let (pregon, dir) = guarded::<W>(&[&old, &viewer]).await;
    let plain = pregon.grpcurl();
    let [with_old, with_new, with_viewer] =
        [&old, &new, &viewer].map(|token| plain.with_token(&token.token));
    list_tenants(&with_old).await.unwrap();
    // Reflection wants a token too, so a stranger does not learn what is served.
    let listed = plain.run(&[], &["list"], "").await;
    assert!(!listed.status.success());
    assert!(String::from_utf8_lossy(&listed.stderr).contains("Unauthenticated"), "{listed:?}");
    assert!(with_viewer.text(&["list"]).await.contains("pregon.v1.TenantService"));

    // Both are valid for a while, then the old one is taken away.
    write_tokens(dir.path(), &[&old, &new, &viewer]);
    eventually("the new token is known", || list_tenants(&with_new)).await;
    list_tenants(&with_old).await.unwrap();
    write_tokens(dir.path(), &[&new, &viewer]);
    let refused = eventually("the old token is refused", || async {
        match list_tenants(&with_old).await {
            Ok(_) => Err("let in"),
            Err(refused) => Ok(refused),
        }
    })
    .await;
    assert!(refused.starts_with("UNAUTHENTICATED") && refused.contains("not known"), "{refused}");
    // A file that cannot be read as one is refused loudly, and changes nothing.
    std::fs::write(dir.path().join("tokens"), "name=x role=boss sha256=1\n").unwrap();
    eventually("the bad file is named", || async {
        match pregon.output() {
            output if output.contains("line 1: role must be one of admin") => Ok(()),
            output => Err(output),
        }
    })
    .await;
    list_tenants(&with_new).await.unwrap();

    let output = pregon.output();
    for token in [&old, &new, &viewer] {
        assert!(!output.contains(&token.token), "a token is in the log: {output}");
    }
}

#[tokio::test]
async fn a_tokens_file_with_faults_is_refused_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    std::fs::write(&file, "# nobody\n\nname=a role=viewer\nname=b sha256=pregon_abc\n").unwrap();
    let path = file.display().to_string();
    let args = ["standalone", "--in-memory", "--listen", "127.0.0.1:0", "--tokens-file", &path];
    let (status, output) = Process::run(&args, &[]).await;
    assert!(!status.success());
    for part in [&path, "line 3: sha256 must be set", "line 4:", "role must be set"] {
        assert!(output.contains(part), "{part}: {output}");
    }
    assert!(!output.contains("pregon_abc"), "{output}");
}

async fn a_change_of_state_is_under_the_callers_name<W: World>() {
    let operator = Token::of("operator").await;
    let manager = ["--name", "erp-team", "--role", "tenant_manager", "--tenants", "acme"];
    let manager = Token::new(&manager).await;
    let (pregon, _dir) = guarded::<W>(&[&operator, &manager]).await;
    let [operator, manager] =
        [&operator, &manager].map(|token| pregon.grpcurl().with_token(&token.token));
    operator.ok("TenantService/CreateTenant", json!({"tenant_id": "acme", "tenant": {}})).await;
    let subscription = json!({"url": "http://127.0.0.1:9/hook", "event_types": ["*"]});
    let create = json!({
        "parent": "tenants/acme", "subscription_id": "erp", "subscription": subscription,
    });
    manager.ok("SubscriptionService/CreateSubscription", create).await;
    let name = json!({"name": "tenants/acme/subscriptions/erp"});
    let paused = manager.ok("SubscriptionService/PauseSubscription", name).await;
    assert_eq!(paused["subscription"]["stateChange"]["actor"], "erp-team");
}
