//! Libraries of Python as judges of what was received: the official one of Standard Webhooks, and
//! `cryptography` for key pairs.

use std::process::Stdio;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::Request;

/// Asks for each request whether its signature is good under a secret: nothing, or what is wrong.
pub async fn verify(requests: &[(&Request, &str)]) -> Vec<Result<(), String>> {
    let line = |(request, secret): &(&Request, &str)| {
        json!({
            "secret": secret,
            "headers": request.headers,
            "body": STANDARD.encode(&request.body),
        })
    };
    judge("verify.py", &requests.iter().map(line).collect::<Vec<_>>()).await
}

/// Gives a script of `tests/verify` one line for each case: nothing, or what is wrong, for each.
pub async fn judge(script: &str, cases: &[Value]) -> Vec<Result<(), String>> {
    let input: String = cases.iter().map(|case| format!("{case}\n")).collect();
    let script = super::root().join("tests/verify").join(script);
    let mut command = Command::new(super::tool("python/bin/python"));
    command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().expect("python starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // Written beside the reading, so that neither pipe can fill up and stop both.
    let feed = tokio::spawn(async move { stdin.write_all(input.as_bytes()).await });
    let output = child.wait_with_output().await.expect("python ends");
    assert!(output.status.success(), "the verifier failed; its error is above");
    feed.await.expect("the writer does not panic").expect("python reads all of it");
    let verdicts: Vec<_> =
        output.stdout.split(|&byte| byte == b'\n').filter(|l| !l.is_empty()).map(verdict).collect();
    assert_eq!(verdicts.len(), cases.len());
    verdicts
}

/// Fails the test unless every request is good under its secret.
pub async fn assert_good(requests: &[(&Request, &str)]) {
    for (verdict, (request, _)) in verify(requests).await.into_iter().zip(requests) {
        if let Err(wrong) = verdict {
            panic!("{wrong}: {:?} {}", request.headers, request.text());
        }
    }
}

fn verdict(line: &[u8]) -> Result<(), String> {
    let verdict: Value = serde_json::from_slice(line).expect("the verifier writes JSON");
    match verdict["error"].as_str() {
        None => Ok(()),
        Some(wrong) => Err(wrong.to_owned()),
    }
}
