use std::collections::HashMap;

use super::*;

fn read(variables: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
    let known: HashMap<&str, &str> = variables.iter().copied().collect();
    Settings::read(|name| known.get(name).map(|value| (*value).to_owned()))
}

#[test]
fn nothing_leaves_unless_an_endpoint_or_exporter_is_set() {
    assert_eq!(read(&[]).unwrap(), Settings::default());
    let one = read(&[("OTEL_LOGS_EXPORTER", "otlp")]).unwrap();
    assert!(one.traces.is_none() && one.metrics.is_none());
    assert_eq!(one.logs.unwrap().target.endpoint, "http://localhost:4317");

    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");
    let all = read(&[endpoint]).unwrap();
    assert!(all.traces.is_some() && all.metrics.is_some() && all.logs.is_some());
    let two = read(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]).unwrap();
    assert!(two.traces.is_none() && two.metrics.is_some());
    let off = read(&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")]).unwrap();
    assert_eq!(off, Settings::default());
}

#[test]
fn a_signal_may_go_elsewhere() {
    let settings = read(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20abc, x-scope = a=b"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "ca.pem"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "archive:1"),
        ("OTEL_EXPORTER_OTLP_LOGS_INSECURE", "true"),
        ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "x=1"),
        ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "250"),
        ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_LOGS_CLIENT_CERTIFICATE", "c.pem"),
        ("OTEL_EXPORTER_OTLP_LOGS_CLIENT_KEY", "k.pem"),
        ("PREGON_OTEL_ATTEMPTS", "sampled"),
    ])
    .unwrap();
    let (traces, logs) = (settings.traces.unwrap(), settings.logs.unwrap());
    assert_eq!(traces.target.endpoint, "https://collector:4317");
    let header = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let wanted = [header("authorization", "Bearer abc"), header("x-scope", "a=b")];
    assert_eq!(traces.target.headers, wanted);
    assert_eq!(traces.target.certificate.as_deref(), Some("ca.pem".as_ref()));
    assert!(!traces.target.gzip && traces.target.client.is_none());
    assert_eq!(logs.target.endpoint, "http://archive:1");
    assert_eq!(logs.target.headers, [header("x", "1")]);
    assert_eq!(logs.target.timeout, Duration::from_millis(250));
    assert!(logs.target.gzip);
    assert_eq!(logs.target.client, Some(("c.pem".into(), "k.pem".into())));
    assert_eq!(logs.attempts, AttemptRecords::Sampled);
}

#[test]
fn samplers_and_queues_are_those_of_the_specification() {
    let with = |sampler, arg| {
        let settings = read(&[
            ("OTEL_TRACES_EXPORTER", "otlp"),
            ("OTEL_TRACES_SAMPLER", sampler),
            ("OTEL_TRACES_SAMPLER_ARG", arg),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
            ("OTEL_BSP_SCHEDULE_DELAY", "5000"),
        ]);
        settings.unwrap().traces.unwrap()
    };
    let traces = with("parentbased_traceidratio", "0.01");
    assert_eq!(traces.sampler, Sampler { parent_based: true, ratio: 0.01 });
    assert_eq!((traces.queue.len, traces.queue.batch), (100, 100));
    assert_eq!(traces.queue.delay, Duration::from_secs(5));
    assert_eq!(with("traceidratio", "").sampler, Sampler { parent_based: false, ratio: 1.0 });
    assert_eq!(with("always_off", "").sampler, Sampler { parent_based: false, ratio: 0.0 });
    assert_eq!(with("", "").sampler, Sampler::default());
}

#[test]
fn the_service_is_named_and_described() {
    let settings = read(&[
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,deployment.environment.name=prod%2Ceu"),
        ("OTEL_SERVICE_NAME", "webhooks"),
        ("OTEL_PROPAGATORS", "none"),
    ])
    .unwrap();
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let wanted = [pair("deployment.environment.name", "prod,eu"), pair("service.name", "webhooks")];
    assert_eq!(settings.resource, wanted);
    assert!(!settings.propagate);
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let wrong = read(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://x"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "secret-without-a-value"),
        ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "k.pem"),
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "perhaps"),
        ("OTEL_METRICS_EXPORTER", "none"),
        ("OTEL_LOGS_EXPORTER", "none"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
    ])
    .unwrap_err();
    assert_eq!(
        wrong,
        [
            "OTEL_TRACES_SAMPLER_ARG: must be a number from 0 to 1",
            "OTEL_EXPORTER_OTLP_INSECURE: must be true or false",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS: must be key=value pairs between commas, \
             percent-encoded",
            "OTEL_EXPORTER_OTLP_ENDPOINT: must be an http or https URL, or host:port",
            "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY: needs OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE \
             beside it",
            "OTEL_BSP_MAX_QUEUE_SIZE: must be a whole number from 1 to 1000000",
        ]
    );
}

#[test]
fn words_for_other_programs_are_warned_of_and_switch_only_their_signal_off() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");
    let ignored = |settings: &Settings| -> Vec<String> {
        let each = settings.ignored.iter();
        each.map(|it| format!("{}={}: {}", it.variable, it.value, it.instead)).collect()
    };
    let settings = read(&[
        endpoint,
        ("OTEL_PROPAGATORS", "tracecontext,b3"),
        ("OTEL_METRICS_EXPORTER", "prometheus"),
        ("OTEL_TRACES_EXPORTER", "console,otlp"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
    ])
    .unwrap();
    assert!(settings.propagate && settings.metrics.is_none() && settings.logs.is_some());
    assert_eq!(settings.traces.as_ref().unwrap().sampler, Sampler::default());
    assert!(!settings.logs.as_ref().unwrap().target.gzip);
    assert_eq!(
        ignored(&settings),
        [
            "OTEL_PROPAGATORS=b3: only tracecontext is spoken",
            "OTEL_TRACES_SAMPLER=jaeger_remote: parentbased_always_on samples",
            "OTEL_TRACES_EXPORTER=console: only otlp is served",
            "OTEL_EXPORTER_OTLP_COMPRESSION=zstd: exports are not compressed",
            "OTEL_METRICS_EXPORTER=prometheus: the signal is off",
        ]
    );

    let protocol = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
    let own = ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "grpc");
    let settings = read(&[endpoint, protocol, own]).unwrap();
    assert!(settings.traces.is_none() && settings.metrics.is_none() && settings.logs.is_some());
    let words = "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf: only grpc is spoken, the signal is off";
    assert_eq!(ignored(&settings), [words]);
    let off = read(&[protocol, ("OTEL_SDK_DISABLED", "true")]).unwrap();
    assert_eq!(off, Settings::default());
}
