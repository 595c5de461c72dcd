//! A document's `examples`: golden vectors inside the contract, rendered whenever it is read.

use std::collections::BTreeMap;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::fault::{SCHEMA, noted, optional, parsed, reason};
use crate::clock::Timestamp;
use crate::contract::compiled::{Contract, SignaturePlace};
use crate::error::{Rule, Violations, Wrong};
use crate::event::{Attributes, Environment, NewEvent, parse_attributes};
use crate::id::{EventId, EventTypeId, SecretId, TenantId};
use crate::json;
use crate::limits;
use crate::schema::Schema;
use crate::url::EndpointUrl;
use crate::yaml::{At, Map, Member, Reader};

mod keys;
mod trial;

pub use trial::{Trial, TrialError, Tried};

/// Why what holds a signature of ECDSA or PSS is not compared.
const DIFFERS: &str = "holds a signature that differs each time; expect what is signed, in signed";

/// Reads one; what it expects is compared later.
pub(super) fn read<'a>(reader: &mut Reader, at: &At<'a>) -> Option<Trial> {
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
    let mut trial = Trial::of(event?).ok()?;
    (trial.tenant_labels, trial.subscription_labels) = labels?.unwrap_or_default();
    trial.attempt = attempt?.unwrap_or(trial.attempt);
    trial.time = time?.unwrap_or(trial.time);
    trial.secret = secret?.map(Zeroizing::new);
    trial.secret_id = secret_id?.unwrap_or(trial.secret_id);
    trial.url = url?.unwrap_or(trial.url);
    Some(trial)
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

fn read_event<'a>(reader: &mut Reader, at: &At<'a>) -> Option<NewEvent> {
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
    Some(NewEvent {
        tenant: tenant?.or_else(tenant_of_examples)?,
        id: id?,
        version: version?.unwrap_or(0),
        event_type: kind?,
        environment: environment?.unwrap_or(Environment::Live),
        occur_time: time?,
        since: None,
        min_revision: 0,
        trace: None,
        terms: None,
        attributes: pairs?.unwrap_or_default(),
        data: data?,
    })
}

/// The tenant of events that name none.
fn tenant_of_examples() -> Option<TenantId> {
    TenantId::parse(Trial::TENANT).ok()
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
/// How many there are.
pub(super) fn check(
    reader: &mut Reader,
    root: &At<'_>,
    contract: &Contract,
    examples: &[Trial],
) -> usize {
    let mut tried = examples.len();
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
            tried += 1;
        }
    }
    tried
}

/// An example of a type that brings data only.
fn of_type(kind: &EventTypeId, data: &str) -> Option<Trial> {
    let event = NewEvent {
        tenant: tenant_of_examples()?,
        id: None,
        version: 0,
        event_type: kind.clone(),
        environment: Environment::Live,
        occur_time: None,
        since: None,
        min_revision: 0,
        trace: None,
        terms: None,
        attributes: Attributes::new(),
        data: Bytes::copy_from_slice(data.as_bytes()),
    };
    Trial::of(event).ok()
}

fn check_one(reader: &mut Reader, at: &At<'_>, contract: &Contract, example: &Trial) {
    let Tried { signed, url, signatures: made } = match example.make(contract) {
        Ok(made) => made,
        Err(error) => {
            let rule = match &error {
                TrialError::NotCarried => error.to_string(),
                TrialError::Secret(wrong) => format!("secret: {}", reason(wrong)),
                TrialError::Render(error) => format!("the example cannot be rendered: {error}"),
            };
            reader.add(at.fault(rule));
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
            false => compare(reader, at, url.as_bytes()),
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
