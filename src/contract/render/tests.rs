use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Parser;
use serde_json::{Value, json};

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: RenderArgs,
}

const EVENT: &str = r#"{"type":"a","data":{"n": 1.0},"id":"e1","time":"2026-01-01T00:00:00Z"}"#;
const SIGNED: &str = "contract: mine\n\
    url: { schemes: [https], query: { t: \"${event.type}\" } }\n\
    headers: { X-Who: \"${subscription.labels.who} of ${tenant.labels.who}\" }\n\
    secret: { required: true }\n\
    signatures:\n  - { algorithm: sha256, payload: \"${attempt.number}|${int(attempt.time)}|${secret}|${request.url}|${request.body}\", header: X-Signed }\n\
    examples:\n  - event: { type: b, data: '{}' }\n    labels: { tenant: { who: x }, subscription: { who: y } }\n";

/// A trial of a contract with arguments, or what is wrong with them.
fn tried(contract: &str, args: &[&str]) -> Result<pregon_core::contract::Tried, Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let (file, event) = (dir.path().join("c.yaml"), dir.path().join("e.json"));
    std::fs::write(&file, contract).unwrap();
    std::fs::write(&event, EVENT).unwrap();
    let (file, event) = (file.to_str().unwrap(), event.to_str().unwrap());
    let args = Cli::try_parse_from([&["render", file, "--event", event], args].concat());
    let args = args.unwrap().args;
    let (contract, _) = source::contract(&args.file, None).unwrap();
    let trial = args.around(&contract, args.event().unwrap())?;
    trial.make(&contract).map_err(|error| vec![error.to_string()])
}

#[test]
fn the_arguments_are_what_is_around_the_event() {
    let args = [
        "--secret=hunter2-hunter2",
        "--url=https://10.0.0.1/in?q=1",
        "--attempt=3",
        "--time=2026-01-01T00:00:07Z",
        "--label=who=shop=1",
        "--tenant-label=who=acme",
    ];
    let made = tried(SIGNED, &args).unwrap();
    assert_eq!(&*made.url, "https://10.0.0.1/in?q=1&t=a");
    let text = String::from_utf8(shown::plain(&made)).unwrap();
    let value = &made.signatures[0].value;
    let expected = format!(
        "POST https://10.0.0.1/in?q=1&t=a\n\
         content-type: application/json\n\
         user-agent: Pregon/{}\n\
         X-Who: shop=1 of acme\n\
         X-Signed: {value}\n\
         \n\
         {{\"n\": 1.0}}\n\
         \n\
         signature x-signed of key example, over:\n\
         3|1767225607|[redacted]|https://10.0.0.1/in?q=1&t=a|{{\"n\": 1.0}}\n",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(text, expected);
    // SHA-256 of the same with the secret in its place, by Python's hashlib.
    assert_eq!(value, "8c7cba08e71d2683ef40eacb91a0fa1516a66f1264a51d7138df3866a7ca48ca");
    let shown: Value = serde_json::from_slice(&shown::json(&made)).unwrap();
    assert_eq!(shown["method"], "POST");
    assert_eq!(shown["headers"][2], json!({"name": "X-Who", "value": "shop=1 of acme"}));
    assert_eq!(shown["body"], r#"{"n": 1.0}"#);
    assert_eq!(shown["signatures"][0]["value"], *value);
    assert!(!shown.to_string().contains("hunter2") && !text.contains("hunter2"));
}

#[test]
fn a_compressed_body_is_shown_as_it_was_and_kept_as_it_is_sent() {
    let contract = "contract: mine\ngzip: after_signing\n\
        examples:\n  - event: { type: b, data: '{}' }\n";
    let made = tried(contract, &[]).unwrap();
    let text = String::from_utf8(shown::plain(&made)).unwrap();
    assert!(text.contains("content-encoding: gzip\n\n(before gzip, which makes "), "{text}");
    assert!(text.ends_with("bytes of it)\n{\"n\": 1.0}\n"), "{text}");
    let shown: Value = serde_json::from_slice(&shown::json(&made)).unwrap();
    assert_eq!(shown["body_before_gzip"], r#"{"n": 1.0}"#);
    let sent = BASE64.decode(shown["body_base64"].as_str().unwrap()).unwrap();
    assert_eq!(sent, made.signed.body);
}

#[test]
fn every_wrong_argument_is_named_at_once() {
    let long = format!("--label={}=v", "k".repeat(64));
    let args = [
        "--url=http://example.com/",
        "--attempt=0",
        "--time=noon",
        "--label=who",
        &long,
        "--tenant-label=a=1",
        "--tenant-label=a=2",
        "--secret-file=/nowhere/at/all",
    ];
    let said = tried(SIGNED, &args).unwrap_err();
    assert_eq!(
        said,
        [
            "--attempt must be a number from 1 to 100",
            "--time must be a time such as 2022-10-26T22:36:41.600Z",
            "--url must be https: the contract allows no other scheme",
            "--secret-file /nowhere/at/all: cannot be read: No such file or directory (os error 2)",
            "--label must be KEY=VALUE",
            "--label must have a key of 1 to 63 characters",
            "--tenant-label \"a\" is given twice",
        ]
    );
    let said = tried(SIGNED, &["--url=https://example.com/?t=1"]).unwrap_err();
    assert_eq!(said, ["--url has parameter \"t\" already, which the contract adds"]);
}

#[test]
fn what_would_not_be_sent_says_why() {
    // The labels that a header speaks of are not there.
    let said = tried(SIGNED, &[]).unwrap_err();
    assert!(said.len() == 1 && said[0].contains("subscription.labels.who"), "{said:?}");
    let hex = SIGNED.replace("true }", "true, form: hex }").replace("${secret}", "${hex(secret)}");
    let said = tried(&hex, &["--secret=hunter2", "--label=who=a", "--tenant-label=who=b"]);
    let said = said.unwrap_err().join("");
    assert!(said.starts_with("secret: must be") && !said.contains("hunter2"), "{said}");
    let typed = format!("event_types: [b]\n{SIGNED}");
    let said = tried(&typed, &["--label=who=a", "--tenant-label=who=b"]).unwrap_err();
    assert_eq!(said, ["the contract does not carry events of this type"]);
}
