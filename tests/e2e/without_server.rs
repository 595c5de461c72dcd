//! Contracts on the spot: no server, no network, the binary alone.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use data_encoding::HEXLOWER;
use hmac::{Hmac, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::harness::root;

const MINE: &str = r#"contract: mine
body: { kind: "${event.type}", data: "${event.data}" }
secret: { required: true }
signatures:
  - { name: v1, algorithm: hmac_sha256, payload: "${int(attempt.time)}.${request.body}", header: X-Signature, prefix: "t=${int(attempt.time)},", each: "v1=${signature}" }
examples:
  - event: { type: order.paid, data: '{"id":"o1"}' }
    expect: { body: '{"kind":"order.paid","data":{"id":"o1"}}' }
"#;
const EVENT: &str = r#"{"type": "order.paid", "data": {"id":"o7", "total":1.00}}"#;

/// How the binary ended: its status, its output, and its errors.
async fn run(args: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pregon"));
    command.arg("contract").args(args).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let ended = child.wait_with_output();
    let ended = tokio::time::timeout(crate::harness::poll::BOUND, ended).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (ended.status.code(), text(ended.stdout), text(ended.stderr))
}

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path: PathBuf = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_document_is_checked_and_its_faults_stand_where_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let good = write(dir.path(), "good.yaml", MINE);
    let wrong = MINE.replace("event.type", "event.kind").replace("\"o1\"}}'", "\"o2\"}}'");
    let bad = write(dir.path(), "bad.yaml", &format!("{wrong}colour: red\n"));
    let (status, said, errors) = run(&["check", &good, &bad, "-"], MINE).await;
    assert_eq!((status, errors.as_str()), (Some(1), ""), "{said}");
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[0], format!("{good}: ok, 1 example holds"));
    assert!(lines[1].starts_with(&format!("{bad}:2:15: body.kind: expression: ")), "{said}");
    assert!(lines[2].starts_with(&format!("{bad}:9:1: unknown key \"colour\"")), "{said}");
    assert_eq!(lines[3..], ["<stdin>: ok, 1 example holds"]);
    // What is wrong with an example is told where it is expected, with the byte.
    let other = MINE.replace("\"o1\"}}'", "\"o2\"}}'");
    let (status, said, _) = run(&["check", "-"], &other).await;
    assert_eq!(status, Some(1));
    assert!(said.starts_with("<stdin>:8:21: examples[0].expect.body: differs "), "{said}");
    // Every contract that comes with the program is one that the command takes.
    let built_in = root().join("contracts/standard_webhooks.yaml");
    let (status, said, _) = run(&["check", built_in.to_str().unwrap()], "").await;
    assert!(status == Some(0) && said.contains("ok, "), "{said}");
}

#[tokio::test]
async fn a_request_is_shown_as_it_would_be_sent() {
    let dir = tempfile::tempdir().unwrap();
    let (file, event) = (write(dir.path(), "c.yaml", MINE), write(dir.path(), "e.json", EVENT));
    let secret = write(dir.path(), "secret", "correct horse battery\n");
    let time = ["--time", "2026-03-01T12:00:05Z", "--secret-file", &secret];
    let args = [&["render", &file, "--event", &event][..], &time].concat();
    let (status, said, errors) = run(&args, "").await;
    assert_eq!((status, errors.as_str()), (Some(0), ""));
    let body = r#"{"kind":"order.paid","data":{"id":"o7", "total":1.00}}"#;
    let mut mac = Hmac::<Sha256>::new_from_slice(b"correct horse battery").unwrap();
    mac.update(format!("1772366405.{body}").as_bytes());
    let value = HEXLOWER.encode(&mac.finalize().into_bytes());
    let expected = format!(
        "POST https://example.com/hook\ncontent-type: application/json\n\
         user-agent: Pregon/{}\nX-Signature: t=1772366405,v1={value}\n\n{body}\n\n\
         signature v1 of key example, over:\n1772366405.{body}\n",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(said, expected);
    // The same for programs, the document from standard input.
    let args = [&["render", "-", "--event", &event, "--json"][..], &time].concat();
    let (status, said, _) = run(&args, MINE).await;
    let shown: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((status, shown["body"].as_str()), (Some(0), Some(body)));
    assert_eq!(shown["signatures"][0]["value"], value.as_str());
    assert_eq!(shown["signatures"][0]["payload"], format!("1772366405.{body}"));
    assert!(!said.contains("correct horse"));

    // Faults of both files, each at its place.
    let typo = EVENT.replace("\"type\"", "\"typ\"");
    let bad =
        MINE.replace("kind:", "colour: [], kind:").replace("secret: {", "secret: { colour: 1,");
    let bad = write(dir.path(), "bad.yaml", &bad);
    let (status, said, errors) = run(&["render", &bad, "--event", "-"], &typo).await;
    assert_eq!((status, said.as_str()), (Some(1), ""));
    for fault in [
        format!("{bad}:3:11: secret: unknown key \"colour\""),
        "<stdin>:1:3: unknown member \"typ\"".to_owned(),
        "<stdin>:1:1: type is missing".to_owned(),
    ] {
        assert!(errors.lines().any(|line| line.starts_with(&fault)), "{fault}:\n{errors}");
    }
    let (status, said, errors) =
        run(&["render", &file, "--event", &event, "--attempt=0"], "").await;
    assert_eq!((status, said.as_str()), (Some(1), ""));
    assert_eq!(errors, "error: --attempt must be a number from 1 to 100\n");
}
