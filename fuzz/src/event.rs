//! Events: JSON as it is taken in, ids, types and attributes, and what contracts send of them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use pregon_core::contract::verify::{Overall, Received, VerifyingKey, verify};
use pregon_core::contract::{Contract, Trial, Tried, builtins};
use pregon_core::error::Violations;
use pregon_core::event::{Attributes, Environment, NewEvent, parse_attributes};
use pregon_core::id::{EventId, EventTypeId, TenantId};
use pregon_core::json::{self, Node};
use pregon_core::limits;
use pregon_rpc::object;
use prost_types::value::Kind;
use serde_json::Value;

use crate::first_line;

/// The key of Standard Webhooks that signs here.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Contracts that come with Pregón, and of the first the key that verifies.
static CONTRACTS: LazyLock<Vec<Arc<Contract>>> =
    LazyLock::new(|| builtins().iter().map(|it| Arc::clone(&it.contract)).collect());

/// Three lines and JSON: an id, a type, attributes (`key=value`, a tab between two), and data.
///
/// - What is taken as JSON is JSON to another parser, compact and canonical forms are fixed points with
///   the same meaning, and members are found where that parser finds them.
/// - Ids, types and attributes are taken within their bounds only, and as they are.
/// - CloudEvents and Standard Webhooks carry the data byte for byte, headers can be sent, and what was
///   signed verifies.
pub fn event(data: &[u8]) {
    let (id, rest) = first_line(data);
    let (event_type, rest) = first_line(rest);
    let (attributes, text) = first_line(rest);
    let is_json = is_json(text);
    let Some(attributes) = attributes_of(attributes) else { return };
    let (Ok(id), Ok(event_type)) = (std::str::from_utf8(id), std::str::from_utf8(event_type))
    else {
        return;
    };
    let (id, event_type) = (EventId::parse_given(id).ok(), EventTypeId::parse(event_type).ok());
    for (taken, most) in [
        (id.as_ref().map(EventId::as_str), limits::EVENT_ID_LEN),
        (event_type.as_ref().map(EventTypeId::as_str), limits::EVENT_TYPE_LEN),
    ] {
        assert!(taken.is_none_or(|text| (1..=most).contains(&text.len())));
    }
    let (Some(event_type), true) = (event_type, is_json) else { return };
    sent(&NewEvent {
        tenant: TenantId::parse("acme").expect("a tenant's id"),
        id,
        version: 0,
        event_type,
        environment: Environment::Live,
        occur_time: None,
        since: None,
        min_revision: 0,
        trace: None,
        terms: None,
        attributes,
        data: Bytes::copy_from_slice(text),
    });
}

fn is_json(text: &[u8]) -> bool {
    let other = serde_json::from_slice::<Value>(text);
    if json::check(text, limits::JSON_DEPTH).is_err() {
        return false;
    }
    let other = other.expect("what is taken is JSON to another parser");
    assert_eq!(json::check(text, 0).is_err(), other.is_object() || other.is_array());
    for (form, made) in [
        ("compact", json::compact as fn(&[u8]) -> Vec<u8>),
        ("stringify", json::stringify),
        ("rfc8785", json::rfc8785),
    ] {
        let written = made(text);
        assert_eq!(json::check(&written, limits::JSON_DEPTH), Ok(()), "{form} is taken");
        assert_eq!(made(&written), written, "{form} is a fixed point");
        let read: Value = serde_json::from_slice(&written).expect("a form is JSON");
        assert_eq!(doubles(read), doubles(other.clone()), "{form} says the same");
    }
    assert_eq!(json::rfc8785(&json::stringify(text)), json::rfc8785(text));
    members(Node::of(text), &other);
    if let Some(object) = structure(&other) {
        let written = object::render(&object).expect("numbers are finite");
        assert_eq!(json::check(&written, limits::JSON_DEPTH), Ok(()));
        let read: Value = serde_json::from_slice(&written).expect("an object is JSON");
        assert_eq!(doubles(read), doubles(other));
    }
    true
}

/// The value with all numbers as doubles, which is what canonical forms keep of them; -0 is 0.
fn doubles(value: Value) -> Value {
    match value {
        Value::Number(number) => {
            let double = number.as_f64().unwrap_or(f64::NAN) + 0.0;
            serde_json::Number::from_f64(double).map_or(Value::Null, Value::Number)
        }
        Value::Array(list) => Value::Array(list.into_iter().map(doubles).collect()),
        Value::Object(all) => all.into_iter().map(|(name, it)| (name, doubles(it))).collect(),
        other @ (Value::Null | Value::Bool(_) | Value::String(_)) => other,
    }
}

fn members(node: Node<'_>, other: &Value) {
    match other {
        Value::Object(all) => {
            assert_eq!(node.members().count(), all.len());
            for (name, value) in all {
                members(node.member(name).expect("a member is found by its name"), value);
            }
        }
        Value::Array(list) => {
            let elements: Vec<_> = node.elements().collect();
            assert_eq!(elements.len(), list.len());
            elements.into_iter().zip(list).for_each(|(element, value)| members(element, value));
        }
        Value::String(text) => assert_eq!(node.as_str().as_deref(), Some(text.as_str())),
        Value::Bool(truth) => assert_eq!(node.as_bool(), Some(*truth)),
        Value::Number(_) => assert!(node.as_number().is_some()),
        Value::Null => assert_eq!(node.source(), b"null"),
    }
}

/// The object as protobuf has it; none of what is no object.
fn structure(value: &Value) -> Option<prost_types::Struct> {
    fn kind(value: &Value) -> prost_types::Value {
        let kind = match value {
            Value::Null => Kind::NullValue(0),
            Value::Bool(truth) => Kind::BoolValue(*truth),
            Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(0.0)),
            Value::String(text) => Kind::StringValue(text.clone()),
            Value::Array(list) => {
                Kind::ListValue(prost_types::ListValue { values: list.iter().map(kind).collect() })
            }
            Value::Object(_) => Kind::StructValue(structure(value).unwrap_or_default()),
        };
        prost_types::Value { kind: Some(kind) }
    }
    let members = value.as_object()?;
    let fields = members.iter().map(|(name, value)| (name.clone(), kind(value))).collect();
    Some(prost_types::Struct { fields })
}

/// Those that keep to the rules; none where the bytes are no text.
fn attributes_of(line: &[u8]) -> Option<Attributes> {
    let line = std::str::from_utf8(line).ok()?;
    let pairs = line.split('\t').filter_map(|pair| pair.split_once('='));
    let given: HashMap<_, _> =
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let mut wrong = Violations::new();
    let taken = parse_attributes("attributes", given.clone(), &mut wrong);
    assert!(taken.len() <= limits::ATTRIBUTES);
    assert_eq!(wrong.is_empty(), taken.len() == given.len(), "what is dropped is told");
    for (key, value) in &taken {
        assert_eq!(given.get(key), Some(value));
        assert!((1..=limits::ATTRIBUTE_KEY_LEN).contains(&key.len()));
        assert!(value.chars().count() <= limits::ATTRIBUTE_VALUE_LEN);
    }
    Some(taken)
}

fn sent(event: &NewEvent) {
    for contract in CONTRACTS.iter() {
        let mut trial = Trial::of(event.clone()).expect("an event can be tried");
        let id = contract.id().as_str();
        if id == "standard_webhooks" {
            trial.secret = Some(SECRET.to_owned().into());
        }
        let Ok(tried) = trial.make(contract) else { continue };
        sendable(&tried);
        match id {
            "cloudevents" | "standard_webhooks" => carried(&tried, event),
            "cloudevents_binary" => assert_eq!(tried.signed.body, event.data),
            _ => {}
        }
        if id == "standard_webhooks" {
            let key = VerifyingKey::parse(contract, SECRET).expect("the key");
            let headers = tried.signed.headers.iter();
            let headers: Vec<_> = headers.map(|line| (&*line.name, &line.value[..])).collect();
            let received =
                Received { url: &tried.url, headers: &headers, body: &tried.signed.body };
            let found = verify(contract, &[key], &received, trial.time);
            assert_eq!(found.overall, Overall::Verified);
        }
    }
}

/// Whether HTTP can carry the headers.
pub(crate) fn sendable(tried: &Tried) {
    for line in &tried.signed.headers {
        assert!(http::HeaderName::from_bytes(line.name.as_bytes()).is_ok(), "{line:?}");
        assert!(http::HeaderValue::from_bytes(&line.value).is_ok(), "{line:?}");
    }
}

fn carried(tried: &Tried, event: &NewEvent) {
    let body = &tried.signed.body;
    assert_eq!(json::check(body, limits::JSON_DEPTH + 1), Ok(()), "a body is JSON");
    let data = Node::of(body).member("data").expect("a body has the data");
    assert_eq!(data.source(), json_value(&event.data), "data goes out byte for byte");
    let says = |name| Node::of(body).member(name)?.as_str().map(|text| text.into_owned());
    assert_eq!(says("type").as_deref(), Some(event.event_type.as_str()));
}

/// The text without the white space around it.
fn json_value(text: &[u8]) -> &[u8] {
    Node::of(text).source()
}
