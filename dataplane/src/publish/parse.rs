//! From the wire to an event that may be stored: every wrong field at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pregon_core::clock::Timestamp;
use pregon_core::error::{Reason, Refusal, Rule, Violations, Wrong};
use pregon_core::event::{self, Environment, NewEvent, Terms};
use pregon_core::id::{EventId, EventTypeId, SubscriptionId, SubscriptionName, TenantId};
use pregon_core::schema::Schema;
use pregon_core::trace::TraceContext;
use pregon_core::{json, limits};
use pregon_proto::v1;
use pregon_proto::v1::event::Data;
use pregon_rpc::caller::Caller;
use pregon_rpc::time::{parse_duration_within, parse_timestamp};
use pregon_rpc::{audit, object};

use crate::snapshot::Snapshot;

const JSON: &str = "event.json";
const OBJECT: &str = "event.object";

/// A request whose fields are all well formed, of a caller who may publish for its tenant.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) event: NewEvent,
    /// The field that its data came in.
    pub(super) data_field: &'static str,
    pub(super) validate_only: bool,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin<'a> {
    /// Who calls.
    pub(super) caller: &'a Caller,
    /// The trace that the call belongs to.
    pub(super) trace: Option<&'a TraceContext>,
    /// Where refusals of events are noted.
    pub(super) told: &'a audit::Origin,
    /// The call has many events, and each refusal is one of its own.
    pub(super) many: bool,
}

impl Origin<'_> {
    /// An event of this tenant is refused. Where the call has no other, its end tells of that.
    pub(super) fn note(&self, refusal: &Refusal, tenant: &str) {
        match self.many {
            true => self.told.refused(refusal, tenant),
            false => self.told.about(tenant),
        }
    }
}

/// Parses a request. A caller who may not touch its tenant, or not publish its type, is told that and
/// nothing else. Only where fields are wrong, the data is checked against its type's schema as
/// `snapshot` has it, so that the answer is complete; else that is for whoever admits the event.
pub(super) fn parse(
    request: v1::PublishRequest,
    from: Origin<'_>,
    max_event_bytes: usize,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Result<Parsed, Refusal> {
    let mut wrong = Violations::new();
    let about = |refusal: &Refusal| from.note(refusal, &request.tenant);
    from.caller.may_touch_named(&request.tenant).inspect_err(about)?;
    let tenant = wrong.check("tenant", TenantId::parse_name(&request.tenant));
    if request.min_revision < 0 {
        wrong.add("min_revision", Rule::OutOfRange, "must not be negative");
    }
    let Some(event) = request.event else {
        wrong.add("event", Rule::Required, "must be set");
        return Err(refusal(wrong));
    };
    refuse_unsupported(&event, &mut wrong);
    let id = match event.id.as_str() {
        "" => None,
        id => wrong.check("event.id", EventId::parse_given(id)),
    };
    let version = u32::try_from(event.version)
        .map_err(|_| Wrong::new(Rule::OutOfRange, "must not be negative"));
    let version = wrong.check("event.version", version);
    let event_type = wrong.check("event.type", EventTypeId::parse(&event.r#type));
    if let Some(event_type) = &event_type {
        from.caller.may_publish(event_type).inspect_err(about)?;
    }
    let environment = wrong.check("event.environment", parse_environment(event.environment));
    if environment.is_some() {
        from.caller.may_use(environment).inspect_err(about)?;
    }
    let occur_time = event.occur_time.as_ref().map(parse_timestamp).transpose();
    let occur_time = wrong.check("event.occur_time", occur_time).flatten();
    let terms = terms(&event, tenant.as_ref(), now, &mut wrong);
    let attributes = event::parse_attributes("event.attributes", event.attributes, &mut wrong);
    let (data_field, data) = match event.data {
        Some(Data::Json(text)) => (JSON, parse_json(text.into(), max_event_bytes)),
        Some(Data::Object(object)) => {
            let text = object::render(&object)
                .map_err(|reason| Wrong::new(Rule::EventJsonInvalid, reason));
            (OBJECT, text.and_then(|text| parse_json(text.into(), max_event_bytes)))
        }
        None => (JSON, Err(Wrong::new(Rule::Required, "json or object must be set"))),
    };
    let data = wrong.check(data_field, data);

    if !wrong.is_empty() {
        let schema = event_type.as_ref().and_then(|id| snapshot.event_type(id)?.schema.as_ref());
        if let (Some(schema), Some(data)) = (schema, &data) {
            wrong.check(data_field, check_schema(schema, data));
        }
        return Err(refusal(wrong));
    }
    let (Some(tenant), Some(version), Some(event_type), Some(environment), Some(data)) =
        (tenant, version, event_type, environment, data)
    else {
        return Err(refusal(wrong)); // each of them was noted above
    };
    if !request.validate_only {
        from.caller.count_event(data.len()).inspect_err(about)?;
    }
    let min_revision = request.min_revision;
    let trace = from.trace.cloned();
    let event = NewEvent {
        tenant,
        id,
        version,
        event_type,
        environment,
        occur_time,
        since: None,
        min_revision,
        trace,
        terms,
        attributes,
        data,
    };
    Ok(Parsed { event, data_field, validate_only: request.validate_only })
}

/// Data against its type's schema.
pub(super) fn check_schema(schema: &Schema, data: &[u8]) -> Result<(), Wrong> {
    schema
        .validate(data)
        .map_err(|mismatch| Wrong::new(Rule::EventSchemaMismatch, mismatch.to_string()))
}

/// How an event is to be delivered; none: nothing is said of that.
fn terms(
    event: &v1::Event,
    tenant: Option<&TenantId>,
    now: Timestamp,
    wrong: &mut Violations,
) -> Option<Arc<Terms>> {
    let time = event.deliver_time.as_ref().map(|time| deliver_time(time, now)).transpose();
    let within = event.deliver_within.as_ref().map(deliver_within).transpose();
    let terms = Terms {
        deliver_time: wrong.check("event.deliver_time", time).flatten(),
        deliver_within: wrong.check("event.deliver_within", within).flatten(),
        subscriptions: subscriptions(&event.subscriptions, tenant, wrong),
    };
    (!terms.is_empty()).then(|| Arc::new(terms))
}

fn deliver_time(time: &prost_types::Timestamp, now: Timestamp) -> Result<Timestamp, Wrong> {
    let time = parse_timestamp(time)?;
    if time > now.plus(limits::DELIVER_AHEAD) {
        let days = limits::DELIVER_AHEAD.as_secs() / (24 * 3600);
        return Err(Wrong::new(Rule::OutOfRange, format!("must be {days} days ahead at most")));
    }
    Ok(time)
}

fn deliver_within(within: &prost_types::Duration) -> Result<Duration, Wrong> {
    let within = parse_duration_within(within, limits::DELIVER_WITHIN)?;
    Ok(Duration::from_millis(u64::try_from(within.as_millis()).unwrap_or(u64::MAX)))
}

/// The subscriptions that an event is for, in ascending order, each once.
fn subscriptions(
    given: &[String],
    tenant: Option<&TenantId>,
    wrong: &mut Violations,
) -> Vec<SubscriptionId> {
    const FIELD: &str = "event.subscriptions";
    if given.len() > limits::EVENT_SUBSCRIPTIONS {
        let text = format!("must be {} at most", limits::EVENT_SUBSCRIPTIONS);
        wrong.add(FIELD, Rule::TooMany, text);
        return Vec::new();
    }
    let one = |text: &String| {
        let name = SubscriptionName::parse(text)?;
        match tenant {
            Some(tenant) if name.tenant != *tenant => {
                let text = format!("must be a subscription of {}", tenant.name());
                Err(Wrong::new(Rule::OutOfRange, text))
            }
            Some(_) | None => Ok(name.subscription),
        }
    };
    let parsed: BTreeSet<SubscriptionId> = given
        .iter()
        .enumerate()
        .filter_map(|(i, text)| wrong.check(format!("{FIELD}[{i}]"), one(text)))
        .collect();
    parsed.into_iter().collect()
}

fn refuse_unsupported(event: &v1::Event, wrong: &mut Violations) {
    if !event.ordering_key.is_empty() {
        wrong.add("event.ordering_key", Rule::Unsupported, "is not supported yet: leave it out");
    }
}

fn parse_environment(wire: i32) -> Result<Environment, Wrong> {
    match v1::Environment::try_from(wire) {
        Ok(v1::Environment::Unspecified | v1::Environment::Live) => Ok(Environment::Live),
        Ok(v1::Environment::Test) => Ok(Environment::Test),
        Err(_) => Err(Wrong::new(Rule::Malformed, "must be LIVE or TEST")),
    }
}

/// Takes the text over as it is: no byte of it is copied.
fn parse_json(text: Bytes, max_event_bytes: usize) -> Result<Bytes, Wrong> {
    if text.len() > max_event_bytes {
        let size = text.len();
        let text = format!("is {size} bytes, may be {max_event_bytes} at most (--max-event-bytes)");
        return Err(Wrong::new(Rule::EventTooLarge, text));
    }
    match json::check(&text, limits::JSON_DEPTH) {
        Ok(()) => Ok(text),
        Err(error) => Err(Wrong::new(Rule::EventJsonInvalid, error.to_string())),
    }
}

fn refusal(wrong: Violations) -> Refusal {
    match wrong.finish() {
        Err(refusal) => refusal,
        Ok(()) => Refusal::new(Reason::Internal, "a field was lost on the way"),
    }
}
