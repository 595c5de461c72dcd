//! Events that a caller gives to be shown or tried: as Publish would take them.

use bytes::Bytes;
use pregon_core::clock::Timestamp;
use pregon_core::error::{Refusal, Rule, Violations, Wrong};
use pregon_core::event::{self, Attributes, Environment, Event};
use pregon_core::id::{EventId, EventTypeId, Position, TenantId};
use pregon_core::model::EventType;
use pregon_core::schema::Schema;
use pregon_core::{json, limits};
use pregon_proto::v1;
use pregon_proto::v1::event::Data;
use pregon_rpc::{object, time};

use crate::Control;
use crate::catalog::Stored;
use crate::parse;

/// A given event, parsed, but not yet held against its type.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    id: Option<EventId>,
    version: u32,
    /// What happened.
    pub event_type: EventTypeId,
    environment: Option<Environment>,
    occur_time: Option<Timestamp>,
    attributes: Attributes,
    data: Bytes,
    /// The field that the data came in.
    field: &'static str,
}

impl Given {
    /// Parses `event`; data may have so many bytes.
    pub(crate) fn parse(
        given: &v1::Event,
        data_limit: usize,
        wrong: &mut Violations,
    ) -> Option<Self> {
        parse::unsupported("event.ordering_key", !given.ordering_key.is_empty(), wrong);
        for (field, set) in [
            ("event.deliver_time", given.deliver_time.is_some()),
            ("event.deliver_within", given.deliver_within.is_some()),
            ("event.subscriptions", !given.subscriptions.is_empty()),
        ] {
            if set {
                let text = "is of no use here, for nothing is scheduled or matched: leave it out";
                wrong.add(field, Rule::Unsupported, text);
            }
        }
        let id = match given.id.as_str() {
            "" => Some(None),
            id => wrong.check("event.id", EventId::parse_given(id)).map(Some),
        };
        let version = u32::try_from(given.version)
            .map_err(|_| Wrong::new(Rule::OutOfRange, "must not be negative"));
        let version = wrong.check("event.version", version);
        let event_type = wrong.check("event.type", EventTypeId::parse(&given.r#type));
        let environment = parse::environment("event.environment", given.environment, wrong);
        let occur_time = given.occur_time.as_ref().map(time::parse_timestamp).transpose();
        let occur_time = wrong.check("event.occur_time", occur_time);
        let attributes =
            event::parse_attributes("event.attributes", given.attributes.clone(), wrong);
        let (field, data) = match &given.data {
            Some(Data::Json(text)) => ("event.json", Ok(text.clone().into_bytes())),
            Some(Data::Object(it)) => {
                let text = object::render(it);
                let text = text.map_err(|reason| Wrong::new(Rule::EventJsonInvalid, reason));
                ("event.object", text)
            }
            None => {
                let text = "json or object must be set";
                ("event.json", Err(Wrong::new(Rule::Required, text)))
            }
        };
        let data = data.and_then(|text| checked(text, data_limit));
        let data = wrong.check(field, data);
        Some(Self {
            id: id?,
            version: version?,
            event_type: event_type?,
            environment,
            occur_time: occur_time?,
            attributes,
            data: data?,
            field,
        })
    }

    /// The example of an event type.
    pub(crate) fn example(kind: &EventType) -> Self {
        Self {
            id: None,
            version: 0,
            event_type: kind.id.clone(),
            environment: None,
            occur_time: None,
            attributes: Attributes::new(),
            data: Bytes::copy_from_slice(kind.example.as_bytes()),
            field: "event_type",
        }
    }

    /// The event that it is for a tenant, now. It has a place where no stored event lies.
    pub(crate) fn event(
        self,
        tenant: &TenantId,
        environment: Option<Environment>,
        id: EventId,
        now: Timestamp,
    ) -> Event {
        Event {
            position: nowhere(now),
            tenant: tenant.clone(),
            id: self.id.unwrap_or(id),
            version: self.version,
            event_type: self.event_type,
            environment: environment.or(self.environment).unwrap_or(Environment::Live),
            given_occur_time: self.occur_time,
            erased: None,
            min_revision: 0,
            trace: None,
            terms: None,
            attributes: self.attributes,
            data: self.data,
        }
    }
}

/// The place of what is not stored.
pub(crate) fn nowhere(now: Timestamp) -> Position {
    let ms = u64::try_from(now.millis()).unwrap_or(0);
    Position { ms, partition: 0, n: 0 }
}

fn checked(text: Vec<u8>, data_limit: usize) -> Result<Bytes, Wrong> {
    if text.len() > data_limit {
        let text = format!("is {} bytes, may be {data_limit} at most", text.len());
        return Err(Wrong::new(Rule::EventTooLarge, text));
    }
    json::check(&text, limits::JSON_DEPTH)
        .map_err(|error| Wrong::new(Rule::EventJsonInvalid, error.to_string()))?;
    Ok(text.into())
}

impl Control {
    /// The type of a given event, which its data satisfies.
    pub(crate) async fn type_of(&self, given: &Given) -> Result<Stored<EventType>, Refusal> {
        let kind = self.fetch::<EventType>(&given.event_type.name()).await?;
        if !kind.value.json_schema.is_empty() {
            let schema = Schema::compile(&kind.value.json_schema)
                .map_err(|wrong| Refusal::field(given.field, wrong.rule, wrong.description))?;
            schema.validate(&given.data).map_err(|mismatch| {
                Refusal::field(given.field, Rule::EventSchemaMismatch, mismatch.to_string())
            })?;
        }
        Ok(kind)
    }
}
