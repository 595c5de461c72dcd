use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use pregon_core::attempt::{End, Timing};
use pregon_core::clock::Timestamp;
use pregon_core::event::Environment;
use pregon_core::id::{
    ContractId, DeliveryKey, EventId, EventName, EventTypeId, LaneNo, NodeId, Position, SecretId,
    TenantId,
};
use pregon_core::model::{ActorKind, AuditActor, AuditEntry, AuditOutcome};
use pregon_core::outcome::{DeliveryState, EndReason, ErrorClass};
use pregon_core::trace::{SpanId, TraceContext, TraceId};
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::envelope::Envelope;
use crate::otlp;

/// An attempt of which as little as possible is known.
fn least() -> Kept {
    let position = Position { ms: 1_800_000_000_000, partition: 0, n: 1 };
    let tenant = TenantId::parse("acme").unwrap();
    let id = EventId::parse_given("e1").unwrap();
    let record = AttemptRecord {
        key: DeliveryKey { position, lane: LaneNo(7), replay: None },
        kind: RecordKind::Ended,
        number: 1,
        tenant: tenant.clone(),
        event_type: EventTypeId::parse("order.captured").unwrap(),
        environment: Environment::Live,
        node: NodeId::parse("n1").unwrap(),
        start: Timestamp::from_millis(1_800_000_000_123),
        timing: Timing::default(),
        outcome: None,
        end: None,
        error_class: None,
        reason: String::new(),
        status: 0,
        url: Arc::default(),
        remote: None,
        next_attempt: None,
        configuration_revision: 0,
        contract: ContractId::standard_webhooks(),
        contract_revision: 0,
        secrets: Vec::new(),
        response: None,
        late: false,
        resent: false,
        headers: Default::default(),
    };
    let event = EventName { tenant, id, version: 0 };
    let trace = TraceContext {
        trace: TraceId::from_bits(0x1234),
        span: SpanId::from_bits(0x56),
        sampled: false,
        state: None,
    };
    Kept { record, event, subscription: None, trace }
}

/// What the library reads of a request with these.
fn read(batch: Vec<Kept>, value_len: usize) -> Vec<LogRecord> {
    read_all(batch.into_iter().map(|kept| Told::Attempt(Box::new(kept))), value_len)
}

fn read_all(batch: impl Iterator<Item = Told>, value_len: usize) -> Vec<LogRecord> {
    let resource = Resource {
        attributes: otlp::pairs(&[("service.name".to_owned(), "pregon".to_owned())]),
        ..Resource::default()
    };
    let scope = otlp::scope();
    let envelope = Envelope { resource: resource.encode_to_vec(), scope: scope.encode_to_vec() };
    let (mut items, mut encode) = (Items::default(), encoder(value_len));
    batch.for_each(|told| encode(told, &mut items));
    let bytes = envelope.request(&items, 0..items.len());
    let request = ExportLogsServiceRequest::decode(&bytes[..]).unwrap();
    // Field by field, in order, nothing unknown: else there would be fewer bytes.
    assert_eq!(request.encoded_len(), bytes.len());
    let [all] = &request.resource_logs[..] else { panic!("{request:?}") };
    assert_eq!(all.resource, Some(resource));
    let [logs] = &all.scope_logs[..] else { panic!("{all:?}") };
    assert_eq!(logs.scope, Some(scope));
    logs.log_records.clone()
}

fn attribute<'a>(record: &'a LogRecord, key: &str) -> Option<&'a Any> {
    let pair = record.attributes.iter().find(|pair| pair.key == key)?;
    pair.value.as_ref()?.value.as_ref()
}

fn text(text: &str) -> Any {
    Any::StringValue(text.to_owned())
}

#[test]
fn an_entry_of_the_audit_log_is_read_back() {
    let actor =
        AuditActor { kind: ActorKind::ApiKey, id: "apiKeys/k".into(), display_name: "ci".into() };
    let entry = AuditEntry {
        time: Timestamp::from_millis(1_790_000_000_000),
        actor,
        peer: "[::1]:443".into(),
        method: "pregon.v1.TenantService/GetTenant".into(),
        resource: "tenants/acme".into(),
        tenants: vec![TenantId::parse("acme").unwrap()],
        outcome: AuditOutcome::Refused,
        code: "PERMISSION_DENIED".into(),
        reason: "ROLE_MISSING".into(),
        request_id: String::new(),
        trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
        changes: Vec::new(),
        changes_omitted: 0,
        suppressed: 7,
    };
    let (id, resources) = ("0".repeat(32), Vec::new());
    let told = Told::Audit(Box::new(Audited { id, revision: 0, entry, resources }));
    let [record] = &read_all(std::iter::once(told), 4096)[..] else { panic!("one record") };
    assert_eq!(record.event_name, "pregon.audit");
    assert_eq!(
        (record.severity_text.as_str(), record.time_unix_nano),
        ("WARN", 1_790_000_000_000_000_000)
    );
    assert_eq!(record.trace_id[..2], [0x4b, 0xf9]);
    for (key, value) in [
        ("pregon.actor", text("apiKeys/k")),
        ("pregon.actor.kind", text("API_KEY")),
        ("pregon.audit.outcome", text("REFUSED")),
        ("network.peer.address", text("::1")),
        ("network.peer.port", Any::IntValue(443)),
        ("rpc.method", text("pregon.v1.TenantService/GetTenant")),
        ("error.type", text("ROLE_MISSING")),
        ("pregon.audit.suppressed", Any::IntValue(7)),
    ] {
        assert_eq!(attribute(record, key), Some(&value), "{key}");
    }
    for key in ["pregon.request_id", "pregon.configuration.revision", "pregon.resources"] {
        assert_eq!(attribute(record, key), None, "{key}");
    }
}

#[test]
fn the_least_and_the_most_of_a_record_are_read_back() {
    let mut most = least();
    most.record = AttemptRecord {
        kind: RecordKind::Attempt,
        number: 3,
        timing: Timing { dns: 1, connect: 2, tls: 3, first_byte: 4_000, total: 1_500_000 },
        outcome: Some(AttemptOutcome::Failed),
        end: Some(End { state: DeliveryState::Failed, reason: Some(EndReason::AttemptsExhausted) }),
        error_class: Some(ErrorClass::Status),
        reason: "answered 500".to_owned(),
        status: 500,
        url: "https://a.test/x?token=1".into(),
        remote: Some("[::1]:443".parse().unwrap()),
        next_attempt: Some(Timestamp::from_millis(1_800_000_001_000)),
        configuration_revision: -1,
        contract_revision: i64::MAX,
        secrets: ["key_a", "key_b"].map(|id| SecretId::parse(id).unwrap()).to_vec(),
        resent: true,
        ..most.record
    };
    most.trace.sampled = true;
    let records = read(vec![least(), most, least()], 1_024);
    assert_eq!(records.len(), 3);
    assert_eq!(records[0], records[2]);

    let (little, much) = (&records[0], &records[1]);
    assert_eq!((little.severity_text.as_str(), much.severity_text.as_str()), ("WARN", "ERROR"));
    assert_eq!(much.severity_number(), SeverityNumber::Error);
    assert_eq!((little.flags, much.flags), (0, 1));
    assert_eq!(much.time_unix_nano, 1_800_000_000_123_000_000);
    assert_eq!(much.observed_time_unix_nano, 1_800_000_001_623_000_000);
    assert_eq!(much.event_name, "pregon.attempt");
    assert_eq!((much.trace_id[14..].to_vec(), much.span_id[7]), (vec![0x12, 0x34], 0x56));
    for (key, value) in [
        ("pregon.event.name", text("tenants/acme/events/e1")),
        ("pregon.attempt.number", Any::IntValue(3)),
        ("pregon.attempt.resent", Any::BoolValue(true)),
        ("pregon.attempt.outcome", text("FAILED")),
        ("error.type", text("STATUS")),
        ("http.response.status_code", Any::IntValue(500)),
        ("url.full", text("https://a.test/x")),
        ("network.peer.address", text("::1")),
        ("pregon.attempt.total", Any::DoubleValue(1.5)),
        ("pregon.delivery.end_reason", text("ATTEMPTS_EXHAUSTED")),
        ("pregon.configuration.revision", Any::IntValue(-1)),
        ("pregon.contract.revision", Any::IntValue(i64::MAX)),
    ] {
        assert_eq!(attribute(much, key), Some(&value), "{key}");
    }
    let ids = ["key_a", "key_b"].map(|id| AnyValue { value: Some(text(id)) });
    let ids = Any::ArrayValue(ArrayValue { values: ids.to_vec() });
    assert_eq!(attribute(much, "pregon.secrets"), Some(&ids));
    for key in [
        "pregon.attempt.resent",
        "pregon.secrets",
        "url.full",
        "pregon.attempt.total",
        "error.type",
    ] {
        assert_eq!(attribute(little, key), None, "{key}");
    }
}

proptest! {
    #[test]
    fn any_lengths_are_read_back(
        reason in ".{0,300}", url in "[a-zé]{0,400}", revision: i64, count in 0usize..20,
        len in 16usize..400,
    ) {
        let mut kept = least();
        kept.record.reason = reason.clone();
        kept.record.url = url.as_str().into();
        kept.record.configuration_revision = revision;
        let batch: Vec<Kept> = std::iter::repeat_with(|| Kept {
            record: kept.record.clone(),
            event: kept.event.clone(),
            subscription: None,
            trace: kept.trace.clone(),
        })
        .take(count)
        .collect();
        for record in read(batch, len) {
            let shown = |key: &str| match attribute(&record, key) {
                Some(Any::StringValue(text)) => text.clone(),
                _ => String::new(),
            };
            let (told, at) = (shown("pregon.attempt.reason"), shown("url.full"));
            prop_assert!(reason.starts_with(&told) && told.len() <= len);
            prop_assert!(told.len() + 3 >= reason.len().min(len));
            prop_assert!(url.starts_with(&at));
            let number = attribute(&record, "pregon.configuration.revision").cloned();
            prop_assert_eq!(number, Some(Any::IntValue(revision)));
        }
    }
}
