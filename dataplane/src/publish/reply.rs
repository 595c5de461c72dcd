//! What a publish is answered with.

use pregon_core::clock::Timestamp;
use pregon_core::error::{Reason, Refusal};
use pregon_core::event::NewEvent;
use pregon_core::id::{EventId, EventName, TenantId};
use pregon_proto::v1;
use pregon_rpc::status::status;
use pregon_rpc::time::timestamp;
use pregon_store::intake::{Durability, Published};
use pregon_telemetry::Telemetry;
use prost::Message;

use super::handover::Handover;

/// What an answer says of an event beside what the store says.
#[derive(Debug)]
pub(super) struct Facts {
    tenant: TenantId,
    id: Option<EventId>,
    version: u32,
    served_revision: i64,
    handover: Handover,
}

impl Facts {
    /// Of an event that is to be stored: from here on its trace leads to its own span.
    pub(super) fn of(telemetry: &Telemetry, event: &mut NewEvent, served_revision: i64) -> Self {
        Self {
            handover: Handover::begin(telemetry, event),
            tenant: event.tenant.clone(),
            id: event.id.clone(),
            version: event.version,
            served_revision,
        }
    }

    /// The answer to `validate_only`: nothing is assigned and nothing is stored.
    pub(super) fn validated(self) -> v1::PublishResponse {
        let version = wire_version(self.version);
        let served_revision = self.served_revision;
        let (event, id) = match self.id {
            Some(id) => (name(self.tenant, &id, self.version), id.to_string()),
            None => (String::new(), String::new()),
        };
        v1::PublishResponse { event, id, version, served_revision, ..Default::default() }
    }

    /// The answer to what the store said, or to its silence.
    pub(super) fn response(
        self,
        answer: Result<Published, Refusal>,
        durability: Durability,
    ) -> Result<v1::PublishResponse, Refusal> {
        let Self { handover, tenant, id, version, served_revision } = self;
        let names = Names { tenant, id, version, served_revision };
        let response = answer.and_then(|published| names.response(&published, durability));
        handover.end(&response);
        response
    }
}

/// What an answer is made of.
struct Names {
    tenant: TenantId,
    id: Option<EventId>,
    version: u32,
    served_revision: i64,
}

impl Names {
    fn response(
        self,
        published: &Published,
        durability: Durability,
    ) -> Result<v1::PublishResponse, Refusal> {
        match published {
            Published::Accepted { position, duplicate } => {
                let version = wire_version(self.version);
                let id = self.id.unwrap_or_else(|| EventId::assigned(*position));
                let ms = i64::try_from(position.ms).unwrap_or(i64::MAX);
                Ok(v1::PublishResponse {
                    event: name(self.tenant, &id, self.version),
                    id: id.as_str().to_owned(),
                    version,
                    duplicate: *duplicate,
                    durability: wire(durability).into(),
                    accept_time: Some(timestamp(Timestamp::from_millis(ms))),
                    served_revision: self.served_revision,
                })
            }
            Published::IdReused => {
                let name = self.id.map(|id| name(self.tenant, &id, self.version));
                let name = name.unwrap_or_default();
                let text = format!("{name} was published before with other content");
                let mut refusal = Refusal::new(Reason::EventIdReused, text);
                refusal.resource = Some(("event", name));
                Err(refusal)
            }
        }
    }
}

fn wire_version(version: u32) -> i32 {
    i32::try_from(version).unwrap_or(i32::MAX) // it came as an i32
}

/// A refusal as the status within an answer: what Publish would have answered with.
pub(super) fn wire_status(refusal: Refusal) -> tonic_types::Status {
    let status = status(refusal);
    tonic_types::Status::decode(status.details()).unwrap_or_else(|_| tonic_types::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

fn name(tenant: TenantId, id: &EventId, version: u32) -> String {
    EventName { tenant, id: id.clone(), version }.to_string()
}

fn wire(durability: Durability) -> v1::Durability {
    match durability {
        Durability::Memory => v1::Durability::Memory,
        Durability::Fsync => v1::Durability::Fsync,
        Durability::Replicated => v1::Durability::Replicated,
    }
}
