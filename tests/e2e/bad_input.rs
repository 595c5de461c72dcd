//! What a publisher can get wrong: for each row the code, the reason, the field, the rule, and what
//! the description has to say. Nothing of it is stored.

use pregon_proto::v1::event_service_client::EventServiceClient;
use serde_json::{Value, json};
use tonic_types::StatusExt;

use crate::harness::shop::{Shop, TYPE};
use crate::harness::{Grpcurl, Receiver, World};
use crate::on_both;

on_both!(
    each_wrong_event_is_refused_by_name,
    all_wrong_fields_are_said_at_once,
    what_is_not_there_is_not_found,
    an_id_belongs_to_its_content,
    data_as_an_object_is_a_convenience,
    a_batch_answers_for_each_of_its_own,
    a_stream_acknowledges_by_sequence,
    text_that_is_not_utf_8_is_refused,
);

/// A row: the fields to put over a good event, the wrong field, its rule, and a part of the
/// description.
type Row = (Value, &'static str, &'static str, &'static str);

/// One more than an event may have.
fn many_attributes() -> Value {
    (0..17).map(|i| (format!("k{i}"), Value::from("v"))).collect()
}

fn event_rows() -> Vec<Row> {
    let json_of = |text: &str| json!({ "json": text });
    let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    vec![
        (json!({"type": ""}), "event.type", "REQUIRED", ""),
        (json!({"type": "order..captured"}), "event.type", "MALFORMED", ""),
        (json!({"type": "a".repeat(129)}), "event.type", "MALFORMED", "128"),
        (json!({"id": "o1.captured"}), "event.id", "MALFORMED", ""),
        (json!({"id": "e".repeat(129)}), "event.id", "MALFORMED", "128"),
        (json!({"id": "{e}"}), "event.id", "MALFORMED", ""),
        (json!({"version": -1}), "event.version", "OUT_OF_RANGE", "negative"),
        (json!({"attributes": {"": "b"}}), "event.attributes[\"\"]", "MALFORMED", "1 to 32"),
        (
            json!({"attributes": {"A-b": "b"}}),
            "event.attributes[\"A-b\"]",
            "MALFORMED",
            "a-z 0-9 _",
        ),
        (
            json!({"attributes": {"a": "b".repeat(257)}}),
            "event.attributes[\"a\"]",
            "TOO_LONG",
            "256",
        ),
        (json!({"attributes": many_attributes()}), "event.attributes", "TOO_MANY", "16"),
        (json!({"ordering_key": "k"}), "event.ordering_key", "UNSUPPORTED", ""),
        (
            json!({"deliver_time": "2130-01-01T00:00:00Z"}),
            "event.deliver_time",
            "OUT_OF_RANGE",
            "30",
        ),
        (json!({"deliver_within": "0.5s"}), "event.deliver_within", "OUT_OF_RANGE", "1 s"),
        (
            json!({"subscriptions": ["tenants/acme/subscriptions/nobodys"]}),
            "event.subscriptions",
            "OUT_OF_RANGE",
            "does not exist",
        ),
        (
            json!({"subscriptions": ["tenants/globex/subscriptions/erp"]}),
            "event.subscriptions[0]",
            "OUT_OF_RANGE",
            "of tenants/acme",
        ),
        (json!({"subscriptions": vec!["x"; 17]}), "event.subscriptions", "TOO_MANY", "16"),
        (json_of(""), "event.json", "EVENT_JSON_INVALID", "byte 0"),
        (json_of("{"), "event.json", "EVENT_JSON_INVALID", "byte 1"),
        (json_of(r#"{"a":1,}"#), "event.json", "EVENT_JSON_INVALID", "byte 7"),
        (json_of("{'a':1}"), "event.json", "EVENT_JSON_INVALID", "byte 1"),
        (json_of("01"), "event.json", "EVENT_JSON_INVALID", "byte"),
        (json_of("+1"), "event.json", "EVENT_JSON_INVALID", "byte 0"),
        (json_of("1."), "event.json", "EVENT_JSON_INVALID", "byte"),
        (json_of("tru"), "event.json", "EVENT_JSON_INVALID", "byte"),
        (json_of(r#"{"a":1,"b":2,"\u0061":3}"#), "event.json", "EVENT_JSON_INVALID", "duplicate"),
        (json_of(r#"["\ud800"]"#), "event.json", "EVENT_JSON_INVALID", "surrogate"),
        (json_of(r#"["\udc00\ud800"]"#), "event.json", "EVENT_JSON_INVALID", "surrogate"),
        (json_of("[1e400]"), "event.json", "EVENT_JSON_INVALID", "byte 1"),
        (json_of("[-1e999]"), "event.json", "EVENT_JSON_INVALID", "byte 1"),
        (json_of("NaN"), "event.json", "EVENT_JSON_INVALID", "NaN"),
        (json_of("[-Infinity]"), "event.json", "EVENT_JSON_INVALID", "byte"),
        (json_of("{} {}"), "event.json", "EVENT_JSON_INVALID", "byte 3"),
        (json_of("{}\u{0}"), "event.json", "EVENT_JSON_INVALID", "byte 2"),
        (json_of("[\"\u{0}\"]"), "event.json", "EVENT_JSON_INVALID", "byte 2"),
        (json_of("[\"\u{1f}\"]"), "event.json", "EVENT_JSON_INVALID", "byte 2"),
        (json_of("\u{feff}{}"), "event.json", "EVENT_JSON_INVALID", "byte 0"),
        (json_of(r#"["\x"]"#), "event.json", "EVENT_JSON_INVALID", "byte"),
        (json_of(&deep(65)), "event.json", "EVENT_JSON_INVALID", "byte 64"),
        (
            json_of(r#"{"id":"o1","amount":"much"}"#),
            "event.json",
            "EVENT_SCHEMA_MISMATCH",
            "/amount",
        ),
        (json_of(r#"{"id":"o1"}"#), "event.json", "EVENT_SCHEMA_MISMATCH", "required"),
        (
            json_of(&format!(r#"{{"amount":1,"pad":"{}"}}"#, "x".repeat(262_144))),
            "event.json",
            "EVENT_TOO_LARGE",
            "262144",
        ),
    ]
}

/// A shop whose orders have a schema, and nobody who receives.
async fn strict_shop(pregon: &impl World) -> Shop {
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let schema =
        r#"{"type":"object","required":["amount"],"properties":{"amount":{"type":"number"}}}"#;
    let event_type = json!({"name": format!("eventTypes/{TYPE}"), "json_schema": schema});
    shop.write("EventTypeService/UpdateEventType", json!({"event_type": event_type})).await;
    shop
}

async fn each_wrong_event_is_refused_by_name<W: World>() {
    let pregon = W::in_memory().await;
    let shop = strict_shop(&pregon).await;
    for (fields, field, rule, said) in event_rows() {
        let mut request = shop.request("o1", r#"{"amount":1}"#);
        for (name, value) in fields.as_object().unwrap() {
            request["event"][name] = value.clone();
        }
        let refused = shop.grpc.refused("EventService/Publish", request).await;
        let row = format!("{field} {rule} {said:?}: {refused}");
        assert_eq!(refused.code, "INVALID_ARGUMENT", "{row}");
        assert_eq!(refused.reason(), "FIELDS_INVALID", "{row}");
        assert_eq!(refused.violations(), [(field.to_owned(), rule.to_owned())], "{row}");
        let text = refused.description(field);
        assert!(text.contains(said), "{row}");
    }
    let large = shop.request("o1", &format!("\"{}\"", "x".repeat(262_143)));
    let refused = shop.grpc.refused("EventService/Publish", large).await;
    let text = refused.description("event.json");
    assert!(text.contains("262145") && text.contains("262144"), "both sizes: {text}");
    assert_eq!(shop.grpc.report("tenants/acme").await["events"]["accepted"], "0");
}

async fn all_wrong_fields_are_said_at_once<W: World>() {
    let pregon = W::in_memory().await;
    let shop = strict_shop(&pregon).await;
    let request = json!({
        "tenant": "tenant/acme",
        "min_revision": "-1",
        "event": {"id": "a b", "version": -2, "type": "x..y", "ordering_key": "k", "json": "{"},
    });
    let refused = shop.grpc.refused("EventService/Publish", request).await;
    let mut fields: Vec<_> = refused.violations().into_iter().map(|(field, _)| field).collect();
    fields.sort();
    let expected = [
        "event.id",
        "event.json",
        "event.ordering_key",
        "event.type",
        "event.version",
        "min_revision",
        "tenant",
    ];
    assert_eq!(fields, expected);
    let refused = shop.grpc.refused("EventService/Publish", json!({})).await;
    let fields: Vec<_> = refused.violations().into_iter().map(|(field, _)| field).collect();
    assert_eq!(fields, ["tenant", "event"]);
}

async fn what_is_not_there_is_not_found<W: World>() {
    let pregon = W::in_memory().await;
    let shop = strict_shop(&pregon).await;
    let good = shop.request("o1", r#"{"amount":1}"#);
    let mut stranger = good.clone();
    stranger["tenant"] = json!("tenants/nobody");
    let mut unknown = good.clone();
    unknown["event"]["type"] = json!("order.unknown");
    for (request, name) in [(stranger, "tenants/nobody"), (unknown, "eventTypes/order.unknown")] {
        let refused = shop.grpc.refused("EventService/Publish", request).await;
        assert_eq!((refused.code, refused.reason()), ("NOT_FOUND", "RESOURCE_NOT_FOUND"));
        assert_eq!(refused.detail("ResourceInfo").unwrap()["resourceName"], name);
    }
}

async fn an_id_belongs_to_its_content<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    let first = shop.publish("o1", r#"{"amount":1}"#).await;
    assert_eq!(first["duplicate"], false);
    let again = shop.publish("o1", r#"{"amount":1}"#).await;
    assert_eq!((&again["duplicate"], &again["acceptTime"]), (&json!(true), &first["acceptTime"]));
    let request = shop.request("o1", r#"{"amount":1.0}"#);
    let refused = shop.grpc.refused("EventService/Publish", request).await;
    assert_eq!((refused.code, refused.reason()), ("ALREADY_EXISTS", "EVENT_ID_REUSED"));

    // Another version is another event, of the same id.
    let mut request = shop.request("o1", r#"{"amount":1.0}"#);
    request["event"]["version"] = json!(2);
    let answer = shop.grpc.ok("EventService/Publish", request).await;
    assert_eq!(answer["event"], "tenants/acme/events/o1@2");
    let received = receiver.expect("/hook", 2).await;
    let mut ids: Vec<_> = received.iter().map(|request| request.header("webhook-id")).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["o1", "o1-v2"]);
    // Checked, not stored.
    let mut request = shop.request("o3", "{}");
    request["validate_only"] = json!(true);
    let answer = shop.grpc.ok("EventService/Publish", request).await;
    assert_eq!(answer["durability"], "DURABILITY_UNSPECIFIED");
    assert_eq!(shop.settled().await["events"]["accepted"], "2");
}

async fn data_as_an_object_is_a_convenience<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    let event = json!({"id": "o1", "type": TYPE, "object": {"b": [1, null], "a": {"x": 1.5}}});
    let request = json!({"tenant": "tenants/acme", "min_revision": shop.revision, "event": event});
    shop.grpc.ok("EventService/Publish", request).await;
    let received = receiver.expect("/hook", 1).await.remove(0);
    let data = r#""data":{"a":{"x":1.5},"b":[1,null]}}"#;
    assert!(received.text().ends_with(data), "{}", received.text());
    let name = json!({"name": "tenants/acme/events/o1"});
    let stored = shop.grpc.ok("DeliveryService/GetEvent", name).await;
    assert_eq!(stored["event"]["json"], r#"{"a":{"x":1.5},"b":[1,null]}"#);
}

async fn a_batch_answers_for_each_of_its_own<W: World>() {
    let pregon = W::in_memory().await;
    let shop = Shop::open(pregon.grpcurl()).await;
    let requests: Vec<_> = [("b1", "{}"), ("b2", "{"), ("b1", "{}"), ("b1", "[]")]
        .into_iter()
        .map(|(id, data)| shop.request(id, data))
        .collect();
    let answer = shop.grpc.ok("EventService/PublishBatch", json!({"requests": requests})).await;
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results[0]["result"]["duplicate"], false);
    assert_eq!(results[1]["status"]["code"], 3);
    assert_eq!(results[2]["result"]["duplicate"], true);
    assert_eq!(results[3]["status"]["code"], 6);
    for (count, rule) in [(0, "REQUIRED"), (1001, "TOO_MANY")] {
        let requests = vec![shop.request("", "1"); count];
        let request = json!({"requests": requests});
        let refused = shop.grpc.refused("EventService/PublishBatch", request).await;
        assert_eq!(refused.violations(), [("requests".to_owned(), rule.to_owned())]);
    }
    assert_eq!(shop.grpc.report("tenants/acme").await["events"]["accepted"], "1");
}

async fn a_stream_acknowledges_by_sequence<W: World>() {
    let pregon = W::in_memory().await;
    let shop = Shop::open(pregon.grpcurl()).await;
    let messages: Vec<_> = [(1, "s1", "{}"), (5, "s2", "{"), (6, "s3", "3")]
        .into_iter()
        .map(|(sequence, id, data)| {
            json!({"sequence": sequence, "request": shop.request(id, data)}).to_string()
        })
        .collect();
    let method = "pregon.v1.EventService/PublishStream";
    let node = Grpcurl::new(pregon.events()[0]);
    let output = node.run(&["-emit-defaults", "-d", "@"], &[method], &messages.join("\n")).await;
    assert!(output.status.success(), "{output:?}");
    let answers = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>();
    let acks: Vec<Value> =
        answers.flat_map(|answer| answer.unwrap()["acks"].as_array().unwrap().clone()).collect();
    let sequences: Vec<_> = acks.iter().map(|ack| ack["sequence"].as_str().unwrap()).collect();
    assert_eq!(sequences, ["1", "5", "6"]);
    assert_eq!(acks[0]["result"]["id"], "s1");
    assert_eq!(acks[1]["status"]["code"], 3);
    assert_eq!(acks[2]["result"]["id"], "s3");
}

/// A message that no client library makes: event data that is not UTF-8.
async fn text_that_is_not_utf_8_is_refused<W: World>() {
    let pregon = W::in_memory().await;
    let shop = Shop::open(pregon.grpcurl()).await;
    let request = crate::harness::load::order("o1".into(), "\"\u{e9}\"".into());
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", pregon.events()[0]))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let status = crate::harness::raw::publish(channel.clone(), &request, |bytes| {
        // The two bytes of é become one that cannot stand alone.
        let at = bytes.windows(2).position(|pair| pair == [0xc3, 0xa9]).unwrap();
        bytes[at] = b'x';
    })
    .await
    .unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
    // The connection is as good as before.
    let mut client = EventServiceClient::new(channel);
    client.publish(request).await.unwrap();
    assert_eq!(shop.grpc.report("tenants/acme").await["events"]["accepted"], "1");
    assert!(status.get_details_error_info().is_some(), "{status:?}");
}
