//! Settings of telemetry that are wrong: all are told, and nothing starts. Those for other programs
//! are told, too, and hinder nothing.

use crate::harness::process::Process;
use crate::harness::{Env, Standalone};

const WRONG: [(&str, &str); 6] = [
    ("OTEL_EXPORTER_OTLP_HEADERS", "canary"),
    ("OTEL_EXPORTER_OTLP_LOGS_INSECURE", "perhaps"),
    ("OTEL_BSP_MAX_QUEUE_SIZE", "none"),
    ("OTEL_BLRP_SCHEDULE_DELAY", "-1"),
    ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "1"),
    ("PREGON_OTEL_ATTEMPTS", "some"),
];

#[tokio::test]
async fn all_wrong_settings_are_told_and_nothing_starts() {
    let mut env = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")];
    env.extend(WRONG);
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key").display().to_string();
    std::fs::write(&key, "42".repeat(32)).unwrap();
    let redis = ["--redis-url", "redis://127.0.0.1:1", "--master-key-file", &key];
    let own = ["--in-memory"];
    for (command, args) in [("standalone", &own[..]), ("control", &redis), ("dataplane", &redis)] {
        let args = [&[command, "--listen", "127.0.0.1:0"], args].concat();
        let (status, said) = Process::run(&args, &env).await;
        assert!(!status.success(), "{command}: {said}");
        for (name, _) in WRONG {
            assert!(said.contains(name), "{command} does not tell of {name}:\n{said}");
        }
        assert!(!said.contains("canary"), "headers may be credentials:\n{said}");
        assert!(!said.contains("listening on"), "{command}: {said}");
    }
}

#[tokio::test]
async fn words_for_other_programs_are_warned_of_and_the_process_starts() {
    let words = [
        ("OTEL_PROPAGATORS", "tracecontext,b3", "b3"),
        ("OTEL_METRICS_EXPORTER", "prometheus", "prometheus"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "http/protobuf"),
    ];
    let mut env = Env::default().with("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317");
    for (name, value, _) in words {
        env = env.with(name, value);
    }
    let pregon = Standalone::telling(&["--in-memory"], None, &env).await;
    assert_eq!(pregon.grpcurl().health().await, "SERVING");
    let said = pregon.output();
    for (name, _, word) in words {
        let told = |line: &str| line.contains(name) && line.contains(word) && line.contains("WARN");
        assert!(said.lines().any(told), "{name} is not told of:\n{said}");
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_told() {
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:4317"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem"),
    ];
    let args = ["standalone", "--listen", "127.0.0.1:0", "--in-memory"];
    let (status, said) = Process::run(&args, &env).await;
    assert!(!status.success() && said.contains("/nowhere/ca.pem"), "{said}");
}

#[tokio::test]
async fn one_variable_switches_all_of_it_off() {
    let mut env = Env::default().with("OTEL_SDK_DISABLED", "true");
    for (name, value) in WRONG {
        env = env.with(name, value);
    }
    let pregon = Standalone::telling(&["--in-memory"], None, &env).await;
    assert_eq!(pregon.grpcurl().health().await, "SERVING");
}
