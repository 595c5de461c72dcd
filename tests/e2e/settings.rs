//! Settings: how they are explained, refused, and logged.

use std::time::Duration;

use serde_json::Value;

use crate::harness::process::Process;
use crate::harness::shop::Shop;
use crate::harness::{Receiver, Standalone};

#[tokio::test]
async fn help_names_the_environment_variable_of_every_setting() {
    for command in ["standalone", "init", "control", "dataplane", "receiver", "demo", "health"] {
        let (status, help) = Process::run(&[command, "--help"], &[]).await;
        assert!(status.success(), "{help}");
        let flags: Vec<_> = help
            .lines()
            .map(str::trim_start)
            .filter(|line| line.starts_with("--") || line.starts_with("-"))
            // These ask for something, they set nothing.
            .filter(|line| !["--help", "--version", "--exit"].iter().any(|it| line.contains(it)))
            .collect();
        assert!(!flags.is_empty(), "{help}");
        // Lines break anywhere.
        let variables =
            help.split_whitespace().collect::<Vec<_>>().join(" ").matches("[env: PREGON_").count();
        assert!(
            variables >= flags.len(),
            "{command}: {} flags, {variables} variables:\n{help}",
            flags.len()
        );
    }
    let (_, help) = Process::run(&["standalone", "--help"], &[]).await;
    for setting in [
        "LISTEN",
        "TLS_CERT_FILE",
        "TLS_KEY_FILE",
        "TLS_CLIENT_CA_FILE",
        "TOKENS_FILE",
        "ALLOW_PLAINTEXT",
        "DATA_DIR",
        "ALLOW_EGRESS",
        "ALLOW_HTTP",
        "LEASE",
        "DRAIN_LIMIT",
        "MAX_EVENT_BYTES",
    ] {
        assert!(help.contains(&format!("PREGON_{setting}")), "{setting}:\n{help}");
    }
    let everywhere = ["REDIS_URL", "REDIS_USER", "REDIS_PASSWORD_FILE", "DURABILITY"];
    let both = ["LISTEN", "TOKENS_FILE", "MASTER_KEY_FILE", "ALLOW_EGRESS"];
    for (command, own) in [
        ("init", &["PARTITIONS"][..]),
        ("control", &both),
        ("dataplane", &[&both[..], &["NODE_ID", "LEASE", "DRAIN_LIMIT", "HISTORY_AGE"]].concat()),
    ] {
        let (_, help) = Process::run(&[command, "--help"], &[]).await;
        for setting in everywhere.iter().chain(own) {
            let named = help.contains(&format!("PREGON_{setting}"));
            assert!(named, "{command} {setting}:\n{help}");
        }
    }
}

#[tokio::test]
async fn all_wrong_settings_are_reported_at_once() {
    let args = [
        "standalone",
        "--listen",
        "nowhere",
        "--allow-egress",
        "10.0.0.0/64",
        "--max-event-bytes",
        "0",
        "--durability",
        "maybe",
        "--master-key-file",
        "/nowhere/key",
    ];
    let (status, output) = Process::run(&args, &[("PREGON_LEASE", "1s")]).await;
    assert!(!status.success());
    for flag in [
        "--listen",
        "--allow-egress",
        "--max-event-bytes",
        "--durability",
        "--master-key-file",
        "--lease",
    ] {
        assert!(output.contains(flag), "{flag} is wrong, but not said:\n{output}");
    }
    assert!(!output.contains("panicked"), "{output}");
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_named_with_its_setting() {
    let args = ["standalone", "--listen", "127.0.0.1:0", "--data-dir", "/dev/null/store"];
    let (status, output) = Process::run(&args, &[]).await;
    assert!(!status.success());
    assert!(output.contains("--data-dir") && output.contains("/dev/null/store"), "{output}");
    assert_eq!(output.matches("os error").count(), 1, "the cause is told once: {output}");
}

#[tokio::test]
async fn the_environment_sets_what_flags_do_not() {
    let env = [("PREGON_MAX_EVENT_BYTES", "10"), ("PREGON_LISTEN", "127.0.0.1:0")];
    let mut process = Process::pregon(&["standalone", "--in-memory"], &env);
    let grpc = crate::harness::Grpcurl::new(process.address().await);
    let shop = Shop::open(grpc).await;
    shop.publish("e1", "\"12345678\"").await;
    let refused =
        shop.grpc.refused("EventService/Publish", shop.request("e2", "\"123456789\"")).await;
    let expected = [("event.json".to_owned(), "EVENT_TOO_LARGE".to_owned())];
    assert_eq!(refused.violations(), expected);
    let text = refused.description("event.json");
    assert!(text.contains("11") && text.contains("10"), "both sizes: {text}");
}

#[tokio::test]
async fn listening_beyond_loopback_wants_tls_and_tokens() {
    let key = ["--master-key-file", "/dev/null", "--redis-url", "redis://127.0.0.1:1"];
    for plane in ["control", "dataplane"] {
        let args = [&[plane][..], &key, &["--listen", "0.0.0.0:0"]].concat();
        let (status, output) = Process::run(&args, &[]).await;
        assert!(!status.success());
        for setting in ["--tls-cert-file", "--tokens-file", "--allow-plaintext"] {
            assert!(output.contains(setting), "{setting} is not named: {output}");
        }
        // Plain text may be allowed; that everybody may do everything may not.
        let args = [&args[..], &["--allow-plaintext"]].concat();
        let (status, output) = Process::run(&args, &[]).await;
        assert!(!status.success());
        assert!(output.contains("--tokens-file") && !output.contains("--tls-"), "{output}");
    }
    // Standalone can make a first API key, but no certificate.
    let args = ["standalone", "--in-memory", "--listen", "0.0.0.0:0"];
    let (status, output) = Process::run(&args, &[]).await;
    assert!(!status.success());
    assert!(output.contains("--tls-cert-file") && !output.contains("--tokens-file"), "{output}");
}

#[tokio::test]
async fn a_token_that_would_never_be_valid_is_not_made() {
    let args = ["token", "--name", "ci", "--role", "viewer", "--expires", "2020-01-01T00:00:00Z"];
    let (status, output) = Process::run(&args, &[]).await;
    assert!(!status.success() && output.contains("must lie ahead"), "{output}");
    assert!(!output.contains("pregon_"), "{output}");
}

#[tokio::test]
async fn logs_are_json_where_nobody_watches_and_hold_no_secret() {
    let mut pregon = Standalone::on_disk(&[]).await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let canary = "whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5";
    shop.subscribe("erp", &receiver, "/hook").await;
    let request = serde_json::json!({
        "parent": crate::harness::shop::subscription("erp"), "material": canary, "overlap": "0s",
    });
    shop.write("SecretService/RotateSecret", request).await;
    shop.publish("e1", r#"{"card":"4509-7990-canary"}"#).await;
    receiver.expect("/hook", 1).await;
    pregon.terminate().await;
    assert!(pregon.exit(Duration::from_secs(60)).await.success());
    let output = pregon.output();
    for line in output.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
    }
    // Nor what is kept beside resources, which has names that callers never see.
    assert!(!output.contains("/lanes/"), "{output}");
    for secret in [&canary[6..], "canary-canary", "4509-7990"] {
        assert!(!output.contains(secret), "{secret} is in the log:\n{output}");
    }
    // At rest it is sealed too: in clear, in base64 or in hex it is nowhere in the directory.
    let hex: String = b"canary-canary".iter().map(|byte| format!("{byte:02x}")).collect();
    for entry in std::fs::read_dir(pregon.dir()).unwrap() {
        let path = entry.unwrap().path();
        let Ok(bytes) = std::fs::read(&path) else { continue };
        for needle in [&canary[6..], "canary-canary", &hex] {
            let found = bytes.windows(needle.len()).any(|window| window == needle.as_bytes());
            assert!(!found, "a secret lies open in {}", path.display());
        }
    }
}
