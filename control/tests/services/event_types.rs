//! EventTypeService.

use pregon_proto::v1;
use pregon_proto::v1::event_type_service_server::EventTypeService as _;
use tonic::Code;

use crate::world::{World, ask, assert_refused, assert_wrong, mask};

const SCHEMA: &str = r#"{"type":"object","required":["id"],"properties":{"id":{"type":"string"}}}"#;

fn create(kind: v1::EventType) -> v1::CreateEventTypeRequest {
    v1::CreateEventTypeRequest {
        event_type_id: "order.captured".into(),
        event_type: Some(kind),
        ..Default::default()
    }
}

fn update(kind: v1::EventType, paths: &[&str]) -> v1::UpdateEventTypeRequest {
    let kind = v1::EventType { name: "eventTypes/order.captured".into(), ..kind };
    let update_mask = mask(paths).filter(|mask| !mask.paths.is_empty());
    v1::UpdateEventTypeRequest { event_type: Some(kind), update_mask, ..Default::default() }
}

#[tokio::test]
async fn a_type_lives_and_goes() {
    let world = World::new();
    let kind = v1::EventType {
        description: "An order's payment was captured.".into(),
        json_schema: SCHEMA.into(),
        example: "{\"id\":\"o1\"}".into(),
        ..Default::default()
    };
    let made = ask!(world.event_types, create_event_type, create(kind)).unwrap();
    let kind = made.event_type.unwrap();
    assert_eq!(kind.name, "eventTypes/order.captured");
    assert_eq!((kind.json_schema.as_str(), kind.deprecated), (SCHEMA, Some(false)));
    let request = update(v1::EventType { deprecated: Some(true), ..Default::default() }, &[]);
    let now = ask!(world.event_types, update_event_type, request).unwrap();
    assert!(now.revision > made.revision);
    let now = now.event_type.unwrap();
    assert_eq!((now.deprecated, now.example.as_str()), (Some(true), "{\"id\":\"o1\"}"));
    let list = ask!(world.event_types, list_event_types, v1::ListEventTypesRequest::default());
    assert_eq!(list.unwrap().event_types, std::slice::from_ref(&now));
    let delete = v1::DeleteEventTypeRequest { name: now.name.clone(), ..Default::default() };
    ask!(world.event_types, delete_event_type, delete.clone()).unwrap();
    let get = v1::GetEventTypeRequest { name: now.name };
    let answer = ask!(world.event_types, get_event_type, get);
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    let answer = ask!(world.event_types, delete_event_type, delete);
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn schema_and_example_are_checked_together() {
    let world = World::new();
    let kind = |schema: &str, example: &str| v1::EventType {
        json_schema: schema.into(),
        example: example.into(),
        ..Default::default()
    };
    let dup = "{\"a\":1,\"a\":2}";
    let cases = [
        (
            "{\"type\":5}",
            "{\"id\":",
            vec![("example", "EVENT_JSON_INVALID"), ("json_schema", "SCHEMA_INVALID")],
        ),
        ("", dup, vec![("example", "EVENT_JSON_INVALID")]),
        ("{\"$ref\":\"https://example.com/x\"}", "", vec![("json_schema", "SCHEMA_INVALID")]),
        (SCHEMA, "{\"id\":5}", vec![("example", "EVENT_SCHEMA_MISMATCH")]),
    ];
    for (schema, example, wrong) in cases {
        let answer = ask!(world.event_types, create_event_type, create(kind(schema, example)));
        let wrong: Vec<_> =
            wrong.iter().map(|(field, rule)| (format!("event_type.{field}"), *rule)).collect();
        let wrong: Vec<_> = wrong.iter().map(|(field, rule)| (field.as_str(), *rule)).collect();
        assert_wrong(answer, &wrong);
    }
    ask!(world.event_types, create_event_type, create(kind(SCHEMA, "{\"id\":\"1\"}"))).unwrap();
    let narrower = kind("{\"type\":\"array\"}", "");
    let answer = ask!(world.event_types, update_event_type, update(narrower.clone(), &[]));
    assert_wrong(answer, &[("event_type.example", "EVENT_SCHEMA_MISMATCH")]);
    let both = update(narrower, &["json_schema", "example"]);
    ask!(world.event_types, update_event_type, both).unwrap();
}

#[tokio::test]
async fn every_wrong_field_is_reported() {
    let world = World::new();
    let kind = v1::EventType {
        description: "x".repeat(4097),
        json_schema: " ".repeat(64 * 1024 + 1),
        example: format!("\"{}\"", "x".repeat(256 * 1024)),
        sensitive_paths: vec!["event.data.a.".into()],
        ..Default::default()
    };
    let mut request = create(kind);
    request.event_type_id = "order.*".into();
    let wrong = [
        ("event_type.description", "TOO_LONG"),
        ("event_type.example", "EVENT_TOO_LARGE"),
        ("event_type.json_schema", "TOO_LONG"),
        ("event_type.sensitive_paths[0]", "MALFORMED"),
        ("event_type_id", "MALFORMED"),
    ];
    assert_wrong(ask!(world.event_types, create_event_type, request), &wrong);
}

#[tokio::test]
async fn a_page_ends_where_a_client_would_refuse_more() {
    let world = World::new();
    for index in 0..80 {
        let mut request = create(v1::EventType {
            example: format!("\"{}\"", "x".repeat(100_000)),
            ..Default::default()
        });
        request.event_type_id = format!("big.{index:02}");
        ask!(world.event_types, create_event_type, request).unwrap();
    }
    let (mut seen, mut token) = (0, String::new());
    loop {
        let request = v1::ListEventTypesRequest { page_size: 1000, page_token: token };
        let page = ask!(world.event_types, list_event_types, request).unwrap();
        let size = prost::Message::encoded_len(&page);
        assert!(size < 4 * 1024 * 1024, "{size}");
        seen += page.event_types.len();
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, 80);
}
