//! The harness's own collector: what is sent to it by the protocol's own messages is read back, over faults too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics,
    Sum, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::harness::collector::Wish;
use crate::harness::collector::otlp::{self, Kind, Measure, text};
use crate::harness::collector::tree;
use crate::harness::tls::Authority;
use crate::harness::{Collector, golden};

/// Temporality of what counts up from the start.
const CUMULATIVE: i32 = 2;

/// When everything in these stories begins; any moment does, but metrics must be of today to be on the page.
fn now() -> u64 {
    use pregon_core::clock::{Clock, SystemClock};
    u64::try_from(SystemClock.now().millis()).unwrap() * 1_000_000
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(any_value::Value::StringValue(value.into()));
    KeyValue { key: key.into(), value: Some(AnyValue { value }), ..KeyValue::default() }
}

fn resource() -> Option<Resource> {
    let attributes = vec![
        attribute("service.name", "pregon"),
        attribute("service.instance.id", "n0"),
        attribute("pregon.plane", "dataplane"),
    ];
    Some(Resource { attributes, ..Resource::default() })
}

fn span(id: u8, parent: &[u8], name: &str) -> Span {
    let start = now();
    Span {
        trace_id: vec![7; 16],
        span_id: vec![id; 8],
        parent_span_id: parent.to_vec(),
        name: name.into(),
        kind: 3,
        start_time_unix_nano: start,
        end_time_unix_nano: start + 2_000_000,
        attributes: vec![attribute("error.type", "TIMEOUT")],
        ..Span::default()
    }
}

fn spans(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let of = ResourceSpans { resource: resource(), scope_spans, ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![of] }
}

fn log() -> ExportLogsServiceRequest {
    let body = Some(AnyValue { value: Some(any_value::Value::StringValue("gave up".into())) });
    let record = LogRecord {
        time_unix_nano: now(),
        severity_text: "WARN".into(),
        body,
        trace_id: vec![7; 16],
        span_id: vec![2; 8],
        ..LogRecord::default()
    };
    let scope_logs = vec![ScopeLogs { log_records: vec![record], ..ScopeLogs::default() }];
    let of = ResourceLogs { resource: resource(), scope_logs, ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![of] }
}

/// A metric of the list with one point, which has a word for each label.
fn metric(metric: &golden::Metric) -> Metric {
    let attributes = metric.labels.iter().map(|label| attribute(label, "WORD")).collect();
    let (start_time_unix_nano, time_unix_nano) = (now(), now());
    let number = |attributes| NumberDataPoint {
        attributes,
        start_time_unix_nano,
        time_unix_nano,
        value: Some(number_data_point::Value::AsInt(3)),
        ..NumberDataPoint::default()
    };
    let data = match metric.kind {
        golden::Kind::Gauge => metric::Data::Gauge(Gauge { data_points: vec![number(attributes)] }),
        golden::Kind::Counter => metric::Data::Sum(Sum {
            data_points: vec![number(attributes)],
            aggregation_temporality: CUMULATIVE,
            is_monotonic: true,
        }),
        golden::Kind::Histogram => {
            let point = HistogramDataPoint {
                attributes,
                start_time_unix_nano,
                time_unix_nano,
                count: 3,
                sum: Some(1.5),
                bucket_counts: vec![2, 1],
                explicit_bounds: vec![1.0],
                ..HistogramDataPoint::default()
            };
            let data_points = vec![point];
            metric::Data::Histogram(Histogram { data_points, aggregation_temporality: CUMULATIVE })
        }
    };
    let (name, unit) = (metric.name.clone(), metric.unit.clone());
    Metric { name, unit, data: Some(data), ..Metric::default() }
}

fn metrics(metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    let of = ResourceMetrics { resource: resource(), scope_metrics, ..ResourceMetrics::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![of] }
}

async fn channel(collector: &Collector) -> Channel {
    Endpoint::from_shared(collector.endpoint()).unwrap().connect().await.unwrap()
}

/// A connection in TLS that believes an authority.
async fn over_tls(
    collector: &Collector,
    authority: &Authority,
) -> Result<Channel, tonic::transport::Error> {
    let url = collector.endpoint();
    let addr = url.strip_prefix("https://").expect("it was wished for in TLS").to_owned();
    let connector = TlsConnector::from(Arc::new(authority.client()));
    let connect = move |_| {
        let (connector, addr) = (connector.clone(), addr.clone());
        async move {
            let stream = TcpStream::connect(addr).await?;
            let name = ServerName::try_from("localhost").unwrap();
            connector.connect(name, stream).await.map(TokioIo::new)
        }
    };
    // TLS is the connector's: the channel need not know.
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector(tower::service_fn(connect)).await
}

#[tokio::test]
async fn what_is_sent_is_read_back() {
    let collector = Collector::start().await;
    let channel = channel(&collector).await;
    let both = spans(vec![span(2, &[1; 8], "attempt"), span(1, &[], "deliver")]);
    TraceServiceClient::new(channel.clone()).export(both).await.unwrap();
    LogsServiceClient::new(channel.clone()).export(log()).await.unwrap();
    let list = golden::metrics();
    let attempts = list.iter().find(|metric| metric.name == "pregon.attempts").unwrap();
    let sent = metrics(vec![metric(attempts)]);
    MetricsServiceClient::new(channel).export(sent).await.unwrap();

    let trace = collector.trace("a trace of two", |tree| tree.spans().len() == 2).await;
    let printed = tree::print(std::slice::from_ref(&trace), &["error.type"]);
    let expected = "trace 07070707070707070707070707070707\n\
                    deliver CLIENT pregon/dataplane 2.00 ms error.type=TIMEOUT\n\
                    └─ attempt CLIENT pregon/dataplane 2.00 ms error.type=TIMEOUT\n";
    assert_eq!(printed, expected);
    let attempt = &trace.find("attempt").unwrap().span;
    assert_eq!(attempt.kind, Kind::Client);
    assert_eq!(text(&attempt.resource, "service.instance.id"), Some("n0"));

    let log = collector.logs_with("a log record", |logs| logs.first().cloned()).await;
    assert_eq!((log.severity.as_str(), log.body.as_str()), ("WARN", Some("gave up")));
    assert_eq!(log.trace_id.as_ref(), Some(&trace.trace_id), "it belongs to that trace");
    assert_eq!(log.span_id.as_ref(), Some(&attempt.span_id));

    let wanted = |point: &&otlp::Point| point.is("pregon.attempts", &[("outcome", "WORD")]);
    let find = |points: &[otlp::Point]| points.iter().find(wanted).cloned();
    let point = collector.points_with("a point", find).await;
    assert_eq!((point.unit.as_str(), &point.measure), ("{attempt}", &Measure::Counter(3.0)));
    let counter = |line: &str| line.starts_with("pregon_attempts");
    let line = collector.page_line("the counter", counter).await;
    let expected = "pregon_attempts_total{error_class=\"WORD\",instance=\"n0\",job=\"pregon\",\
                    outcome=\"WORD\",pregon_plane=\"dataplane\"} 3";
    assert_eq!(line, expected);
}

#[tokio::test]
async fn prometheus_gets_the_names_and_labels_that_dashboards_ask_for() {
    assert_page(&Collector::start().await).await;
}

#[tokio::test]
async fn the_configuration_for_users_serves_metrics_and_sends_the_rest_on() {
    let backend = Collector::start().await;
    let collector = Collector::deployed(&backend).await;
    assert_page(&collector).await;
    let channel = channel(&collector).await;
    let one = spans(vec![span(1, &[], "deliver")]);
    TraceServiceClient::new(channel.clone()).export(one).await.unwrap();
    LogsServiceClient::new(channel).export(log()).await.unwrap();
    let trace = backend.trace("the trace", |tree| tree.find("deliver").is_some()).await;
    assert_eq!(trace.services().into_iter().collect::<Vec<_>>(), ["pregon/dataplane"]);
    backend.logs_with("the log record", |logs| logs.first().cloned()).await;
}

/// Sends all metrics of the list; the page has just the series that they are said to become.
async fn assert_page(collector: &Collector) {
    let list = golden::metrics();
    let sent = metrics(list.iter().map(metric).collect());
    MetricsServiceClient::new(channel(collector).await).export(sent).await.unwrap();
    // The page has all of a request at once.
    collector.page_line("the last metric", |line| line.starts_with("rpc_server")).await;
    let page = collector.page().await.unwrap();
    let lines =
        page.lines().filter(|line| !line.starts_with('#') && !line.starts_with("target_info"));
    let on_page: BTreeMap<_, _> = lines.map(name_and_labels).collect();
    let expected: BTreeMap<_, BTreeSet<_>> = golden::series()
        .into_iter()
        .map(|(name, series)| (name, series.labels.into_iter().collect()))
        .collect();
    assert_eq!(on_page, expected);
}

/// The name of a series on the page, and its labels; their values have neither commas nor quotes.
fn name_and_labels(line: &str) -> (String, BTreeSet<String>) {
    let (name, rest) = line.split_once('{').unwrap();
    let (labels, _) = rest.split_once('}').unwrap();
    let label = |pair: &str| pair.split_once('=').unwrap().0.to_owned();
    (name.to_owned(), labels.split(',').map(label).collect())
}

#[tokio::test]
async fn it_is_killed_and_started_again_and_keeps_what_it_wrote() {
    let mut collector = Collector::start().await;
    let endpoint = collector.endpoint();
    let mut client = TraceServiceClient::new(channel(&collector).await);
    client.export(spans(vec![span(1, &[], "before")])).await.unwrap();
    collector.spans_with("the first span", |spans| (spans.len() == 1).then_some(())).await;
    collector.kill().await;
    assert!(client.export(spans(vec![span(2, &[], "meanwhile")])).await.is_err());
    collector.start_again().await;
    assert_eq!(collector.endpoint(), endpoint);
    // A new connection: the old one may still be waiting to try again.
    let mut client = TraceServiceClient::new(channel(&collector).await);
    client.export(spans(vec![span(3, &[], "after")])).await.unwrap();
    collector.spans_with("the second span", |spans| (spans.len() == 2).then_some(())).await;
    let mut names: Vec<_> = collector.spans().into_iter().map(|span| span.name).collect();
    names.sort();
    assert_eq!(names, ["after", "before"]);
}

#[tokio::test]
async fn stopped_it_answers_nothing_until_it_goes_on() {
    let collector = Collector::start().await;
    let mut client = TraceServiceClient::new(channel(&collector).await);
    collector.stop().await;
    let mut request = tonic::Request::new(spans(vec![span(1, &[], "late")]));
    // As long as a stopped process is given to show that it does not answer.
    request.set_timeout(std::time::Duration::from_millis(300));
    let refused = client.export(request).await.unwrap_err();
    assert!(matches!(refused.code(), Code::Cancelled | Code::DeadlineExceeded), "{refused}");
    collector.go_on().await;
    client.export(spans(vec![span(2, &[], "after")])).await.unwrap();
    let found = |spans: &[otlp::Span]| spans.iter().any(|span| span.name == "after");
    collector.spans_with("the span after", |spans| found(spans).then_some(())).await;
}

#[tokio::test]
async fn in_tls_it_wants_its_authority_and_its_token() {
    let authority = Authority::new();
    let wish = Wish { tls: Some(&authority), token: Some("a-token") };
    let collector = Collector::wished(wish).await;
    assert!(over_tls(&collector, &Authority::new()).await.is_err(), "another authority");
    let channel = over_tls(&collector, &authority).await.unwrap();
    let mut client = TraceServiceClient::new(channel);
    let refused = client.export(spans(vec![span(1, &[], "nobody's")])).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    let mut request = tonic::Request::new(spans(vec![span(2, &[], "known")]));
    request.metadata_mut().insert("authorization", "Bearer a-token".parse().unwrap());
    client.export(request).await.unwrap();
    collector.spans_with("the span", |spans| (spans.len() == 1).then_some(())).await;
    assert_eq!(collector.spans()[0].name, "known", "{}", collector.output());
}
