//! A document's `examples`: golden vectors inside the contract, rendered whenever it is read.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::fault::{SCHEMA, noted, optional, parsed, reason};
use crate::clock::Timestamp;
use crate::contract::compiled::{Contract, SignaturePlace, render, sign, signatures};
use crate::contract::subject::RenderInput;
use crate::error::{Rule, Violations, Wrong};
use crate::event::{Attributes, Environment, Event, parse_attributes};
use crate::id::{
    DeliveryKey, EventId, EventTypeId, LaneNo, Position, SecretId, SubscriptionId, TenantId,
};
use crate::json;
use crate::limits;
use crate::schema::Schema;
use crate::url::EndpointUrl;
use crate::yaml::{At, Map, Member, Reader};
use keys::keys;

mod keys;

/// When examples happen that do not say when: 2023-11-14T22:13:20Z.
const WHEN: Timestamp = Timestamp::from_millis(1_700_000_000_000);
/// Where they go.
const URL: &str = "https://example.com/hook";

/// The id of the key where none is given.
const KEY: &str = "example";

/// Why what holds a signature of ECDSA or PSS is not compared.
const DIFFERS: &str = "holds a signature that differs each time; expect what is signed, in signed";

/// One example, read.
#[derive(Debug)]
pub(super) struct Example {
    event: Event,
    attempt: u32,
    time: Timestamp,
    secret: Option<String>,
    url: EndpointUrl,
    tenant_labels: BTreeMap<String, String>,
    subscription_labels: BTreeMap<String, String>,
    secret_id: SecretId,
}

/// Reads one; what it expects is compared later.
pub(super) fn read<'a>(reader: &mut Reader, at: &At<'a>) -> Option<Example> {
    let known = ["event", "labels", "attempt", "time", "secret", "secret_id", "url", "expect"];
    let map = reader.map(at, &known)?;
    let event = reader.check(map.required("event")).cloned();
    let event = event.and_then(|at| read_event(reader, &at));
    let attempt = optional(reader, &map, "attempt", |reader, at| {
        reader.check(at.integer(1..=100)).and_then(|number| u32::try_from(number).ok())
    });
    let time = optional(reader, &map, "time", moment);
    let secret =
        optional(reader, &map, "secret", |reader, at| reader.check(at.text()).map(str::to_owned));
    let url =
        optional(reader, &map, "url", |reader, at| parsed(reader, at, EndpointUrl::parse_stored));
    let labels = optional(reader, &map, "labels", labels);
    let secret_id =
        optional(reader, &map, "secret_id", |reader, at| parsed(reader, at, SecretId::parse));
    let event = event?;
    let (tenant_labels, subscription_labels) = labels?.unwrap_or_default();
    let url = url?.or_else(|| EndpointUrl::parse_stored(URL).ok());
    Some(Example {
        attempt: attempt?.unwrap_or(1),
        time: time?.unwrap_or_else(|| event.occur_time()),
        event,
        secret: secret?,
        url: url?,
        tenant_labels,
        subscription_labels,
        secret_id: secret_id?.or_else(|| SecretId::parse(KEY).ok())?,
    })
}

/// Labels by name.
type Labels = BTreeMap<String, String>;

/// Labels of the tenant and of the subscription.
fn labels(reader: &mut Reader, at: &At<'_>) -> Option<(Labels, Labels)> {
    let map = reader.map(at, &["tenant", "subscription"])?;
    let mut of = |key| {
        optional(reader, &map, key, |reader, at| {
            let members = reader.check(at.members())?;
            if members.len() > limits::LABELS {
                reader.add(at.fault(format_args!("at most {} labels", limits::LABELS)));
            }
            let pair = |member: &Member<'_>| {
                let text = reader.check(member.value.text())?;
                Some((member.key.text.clone(), text.to_owned()))
            };
            members.iter().map(pair).collect::<Option<Labels>>()
        })
    };
    Some((of("tenant")?.unwrap_or_default(), of("subscription")?.unwrap_or_default()))
}

fn read_event<'a>(reader: &mut Reader, at: &At<'a>) -> Option<Event> {
    let known = ["id", "version", "type", "time", "environment", "tenant", "attributes", "data"];
    let map = reader.map(at, &known)?;
    let id = optional(reader, &map, "id", |reader, at| parsed(reader, at, EventId::parse));
    let version = optional(reader, &map, "version", |reader, at| {
        let most = u64::from(u32::MAX / 2);
        reader.check(at.integer(0..=most)).and_then(|number| u32::try_from(number).ok())
    });
    let kind = reader.check(map.required("type")).cloned();
    let kind = kind.and_then(|at| parsed(reader, &at, EventTypeId::parse));
    let time = optional(reader, &map, "time", moment);
    let environments = [("LIVE", Environment::Live), ("TEST", Environment::Test)];
    let environment =
        optional(reader, &map, "environment", |reader, at| reader.check(at.choice(&environments)));
    let tenant = optional(reader, &map, "tenant", |reader, at| parsed(reader, at, TenantId::parse));
    let pairs = optional(reader, &map, "attributes", attributes_of);
    let data = reader.check(map.required("data")).cloned();
    let data = data.and_then(|at| data_of(reader, &at));
    let time = time?.unwrap_or(WHEN);
    let position = Position { ms: u64::try_from(time.millis()).unwrap_or(0), partition: 0, n: 1 };
    Some(Event {
        position,
        tenant: tenant?.or_else(|| TenantId::parse("acme").ok())?,
        id: id?.unwrap_or_else(|| EventId::assigned(position)),
        version: version?.unwrap_or(0),
        event_type: kind?,
        environment: environment?.unwrap_or(Environment::Live),
        given_occur_time: Some(time),
        min_revision: 0,
        trace: None,
        attributes: pairs?.unwrap_or_default(),
        data: data?,
    })
}

fn attributes_of(reader: &mut Reader, at: &At<'_>) -> Option<Attributes> {
    let members = reader.check(at.members())?;
    let pair = |member: &Member<'_>| {
        let text = reader.check(member.value.text())?;
        Some((member.key.text.clone(), text.to_owned()))
    };
    let pairs = members.iter().map(pair).collect::<Option<_>>()?;
    let mut wrong = Violations::new();
    let attributes = parse_attributes("attributes", pairs, &mut wrong);
    if wrong.is_empty() {
        return Some(attributes);
    }
    for violation in wrong.as_slice() {
        reader.add(at.fault(format_args!("{}: {}", violation.field, violation.description)));
    }
    None
}

fn moment(reader: &mut Reader, at: &At<'_>) -> Option<Timestamp> {
    parsed(reader, at, |text| {
        Timestamp::parse(text).ok_or_else(|| {
            Wrong::new(Rule::ContractInvalid, "must be a time such as 2022-10-26T22:36:41.600Z")
        })
    })
}

fn data_of(reader: &mut Reader, at: &At<'_>) -> Option<Bytes> {
    parsed(reader, at, |text| {
        let text = text.trim();
        if text.len() > limits::EVENT_DATA_MAX {
            return Err(Wrong::new(Rule::ContractInvalid, "is too large"));
        }
        match json::check(text.as_bytes(), limits::JSON_DEPTH) {
            Ok(()) => Ok(Bytes::copy_from_slice(text.as_bytes())),
            Err(error) => {
                Err(Wrong::new(Rule::ContractInvalid, format!("must be JSON text: {error}")))
            }
        }
    })
}

/// Checks a type's schema, and its example against it.
pub(super) fn check_type(reader: &mut Reader, map: &Map<'_>, schema: &str) {
    let compiled = match map.get("schema") {
        Some(at) => noted(reader, at, Schema::compile(schema)),
        None => None,
    };
    let Some(at) = map.get("example") else { return };
    if let Some(data) = data_of(reader, at)
        && let Some(schema) = compiled
        && let Err(mismatch) = schema.validate(&data)
    {
        reader.add(at.fault(format_args!("{SCHEMA}the example does not match: {mismatch}")));
    }
}

/// Renders and signs every example and every type's example, and compares what is expected.
pub(super) fn check(reader: &mut Reader, root: &At<'_>, contract: &Contract, examples: &[Example]) {
    let places = |key: &str| {
        let members = root.members().unwrap_or_default();
        let list = members.into_iter().find(|member| member.key.text == key);
        list.and_then(|list| list.value.elements(0..=usize::MAX).ok()).unwrap_or_default()
    };
    for (example, at) in examples.iter().zip(places("examples")) {
        check_one(reader, &at, contract, example);
    }
    for (kind, at) in contract.types().iter().zip(places("types")) {
        if !kind.example.is_empty()
            && let Some(example) = of_type(&kind.id, kind.example.trim())
        {
            check_one(reader, &at, contract, &example);
        }
    }
}

/// An example of a type that brings data only.
fn of_type(kind: &EventTypeId, data: &str) -> Option<Example> {
    let ms = u64::try_from(WHEN.millis()).unwrap_or(0);
    let position = Position { ms, partition: 0, n: 1 };
    let event = Event {
        position,
        tenant: TenantId::parse("acme").ok()?,
        id: EventId::assigned(position),
        version: 0,
        event_type: kind.clone(),
        environment: Environment::Live,
        given_occur_time: Some(WHEN),
        min_revision: 0,
        trace: None,
        attributes: BTreeMap::new(),
        data: Bytes::copy_from_slice(data.as_bytes()),
    };
    let url = EndpointUrl::parse_stored(URL).ok()?;
    Some(Example {
        event,
        attempt: 1,
        time: WHEN,
        secret: None,
        url,
        tenant_labels: Labels::new(),
        subscription_labels: Labels::new(),
        secret_id: SecretId::parse(KEY).ok()?,
    })
}

fn check_one(reader: &mut Reader, at: &At<'_>, contract: &Contract, example: &Example) {
    if !contract.carries(&example.event.event_type) {
        reader.add(at.fault("the contract does not carry events of this type"));
        return;
    }
    let keys = match keys(contract, &example.secret_id, example.secret.as_deref()) {
        Ok(keys) => keys,
        Err(wrong) => {
            reader.add(at.fault(format_args!("secret: {}", reason(&wrong))));
            return;
        }
    };
    let Ok(subscription) = SubscriptionId::parse("example") else { return };
    let input = RenderInput {
        event: &example.event,
        tenant_labels: &example.tenant_labels,
        delivery: DeliveryKey { position: example.event.position, lane: LaneNo(1), replay: None },
        create_time: example.event.accept_time(),
        test: false,
        subscription: &subscription,
        subscription_labels: &example.subscription_labels,
        url: &example.url,
        attempt: example.attempt,
        attempt_time: example.time,
        user_agent: "Pregon",
    };
    let made = render(contract, &input).and_then(|rendered| {
        let signed = sign(contract, &rendered, &input, &keys)?;
        Ok((signatures(contract, &rendered, &input, &keys)?, signed))
    });
    let (made, signed) = match made {
        Ok(made) => made,
        Err(error) => {
            reader.add(at.fault(format_args!("the example cannot be rendered: {error}")));
            return;
        }
    };
    let members = at.members().unwrap_or_default();
    let expect = members.into_iter().find(|member| member.key.text == "expect");
    let Some(expect) = expect else { return };
    let known = ["url", "body", "headers", "signed"];
    let Some(map) = reader.map(&expect.value, &known) else { return };
    if let Some(at) = map.get("url") {
        match differs(contract, |place| matches!(place, SignaturePlace::Query { .. })) {
            true => reader.add(at.fault(DIFFERS)),
            false => {
                let url = signed.url.as_deref().unwrap_or(example.url.as_str());
                compare(reader, at, url.as_bytes());
            }
        }
    }
    if let Some(at) = map.get("body") {
        match differs(contract, |place| matches!(place, SignaturePlace::Body { .. })) {
            true => reader.add(at.fault(DIFFERS)),
            // What was compressed is compared as it was.
            false => compare(reader, at, signed.plain.as_ref().unwrap_or(&signed.body)),
        }
    }
    let lines = map.get("headers").and_then(|at| reader.check(at.members())).unwrap_or_default();
    for line in lines {
        let name = &line.key.text;
        let there = |place: &SignaturePlace| match place {
            SignaturePlace::Header { header, .. } => header.has(name),
            SignaturePlace::Body { .. } | SignaturePlace::Query { .. } => false,
        };
        match signed.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)) {
            Some(_) if differs(contract, there) => reader.add(line.value.fault(DIFFERS)),
            Some(header) => compare(reader, &line.value, &header.value),
            None => reader.add(line.value.fault("the request has no such header")),
        }
    }
    let wanted = map.get("signed").and_then(|at| reader.check(at.members())).unwrap_or_default();
    for line in wanted {
        match made.iter().find(|made| *made.name == *line.key.text) {
            Some(made) => compare(reader, &line.value, &made.payload),
            None => reader.add(line.value.fault("no such signature was made")),
        }
    }
}

/// Whether a signature that differs each time stands in such a place.
fn differs(contract: &Contract, there: impl Fn(&SignaturePlace) -> bool) -> bool {
    let mut random = contract.signatures.iter().filter(|it| it.algorithm.is_random());
    random.any(|it| there(&it.place))
}

/// Notes where two texts part.
fn compare(reader: &mut Reader, at: &At<'_>, made: &[u8]) {
    let Some(expected) = reader.check(at.text()) else { return };
    // A block scalar ends with a line break of its own.
    let expected = expected.strip_suffix('\n').unwrap_or(expected).as_bytes();
    if expected == made {
        return;
    }
    let same = expected.iter().zip(made).take_while(|(a, b)| a == b).count();
    let from = same.saturating_sub(16);
    let part = |text: &[u8]| {
        let part = text.get(from..text.len().min(same + 32)).unwrap_or_default();
        String::from_utf8_lossy(part).into_owned()
    };
    reader.add(at.fault(format_args!(
        "differs from what is rendered at byte {same}: expected …{:?}, rendered …{:?}",
        part(expected),
        part(made)
    )));
}
