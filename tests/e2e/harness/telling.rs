//! What switches telemetry on, and a caller who has a trace of its own.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use pregon_core::clock::{Clock, SystemClock};
use tonic::transport::Endpoint;

use super::{Collector, Grpcurl};

/// Variables of a process's environment.
#[derive(Clone, Debug, Default)]
pub struct Env(Vec<(String, String)>);

impl Env {
    /// What sends everything to a collector, soon enough for tests.
    pub fn to(collector: &Collector) -> Self {
        Self::default()
            .with("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint())
            .with("OTEL_METRIC_EXPORT_INTERVAL", "1000")
            .with("OTEL_BSP_SCHEDULE_DELAY", "200")
            .with("OTEL_BLRP_SCHEDULE_DELAY", "200")
    }

    /// With one more; the last of a name counts.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }

    /// As processes are given it.
    pub fn pairs(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
}

/// Somebody who calls Pregón within a span of their own.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The trace, in hex.
    pub trace_id: String,
    /// The span, in hex.
    pub span_id: String,
    sampled: bool,
}

impl Caller {
    /// A caller whose ids are made of this number, which is not 0, and whose trace is recorded.
    pub fn new(number: u8) -> Self {
        let (trace_id, span_id) =
            (format!("{number:02x}").repeat(16), format!("{number:02x}").repeat(8));
        Self { trace_id, span_id, sampled: true }
    }

    /// One whose trace nobody records.
    pub fn unsampled(number: u8) -> Self {
        Self { sampled: false, ..Self::new(number) }
    }

    /// What it sends.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-0{}", self.trace_id, self.span_id, u8::from(self.sampled))
    }

    /// grpcurl that calls in its name.
    pub fn through(&self, grpc: &Grpcurl) -> Grpcurl {
        grpc.with_header("traceparent", &self.traceparent())
    }

    /// Tells a collector of its own span, which ends now, as the client's own exporter would.
    pub async fn tell(&self, collector: &Collector, name: &str, began: u64) {
        let bytes = |hex: &str| {
            let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
            (0..hex.len()).step_by(2).map(digit).collect::<Vec<u8>>()
        };
        let span = Span {
            trace_id: bytes(&self.trace_id),
            span_id: bytes(&self.span_id),
            name: name.into(),
            kind: 3,
            start_time_unix_nano: began,
            end_time_unix_nano: now(),
            ..Span::default()
        };
        let value = Some(any_value::Value::StringValue("shop".into()));
        let service = KeyValue {
            key: "service.name".into(),
            value: Some(AnyValue { value }),
            ..KeyValue::default()
        };
        let resource = Resource { attributes: vec![service], ..Resource::default() };
        let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
        let of =
            ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() };
        let endpoint = Endpoint::from_shared(collector.endpoint()).expect("a URL");
        let channel = endpoint.connect().await.expect("it listens");
        let mut client = TraceServiceClient::new(channel);
        let request = ExportTraceServiceRequest { resource_spans: vec![of] };
        client.export(request).await.expect("it takes a span");
    }
}

/// The present moment in nanoseconds since 1970.
pub fn now() -> u64 {
    u64::try_from(SystemClock.now().millis()).expect("it is after 1970") * 1_000_000
}
