//! What the log keeps of an attempt.
//!
//! A record holds what differs from attempt to attempt, and what cannot be told later: the headers
//! that the subscription added. The contract's headers and the body are not in it: they are
//! rendered again from the event, the contract's revision and the attempt's number and time, which
//! are.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::error::words;
use crate::event::Environment;
use crate::id::{ContractId, DeliveryKey, EventTypeId, NodeId, SecretId, TenantId};
use crate::outcome::{AttemptOutcome, DeliveryState, EndReason, ErrorClass};

words! {
    /// What a record of the log tells of.
    #[derive(Serialize, Deserialize)]
    RecordKind {
        /// An HTTP exchange that came to an end.
        Attempt = "ATTEMPT",
        /// A lease ran out: the attempt may have been sent, and nobody saw its end.
        Lost = "LOST",
        /// The delivery ended without an attempt.
        Ended = "ENDED",
    }
}

/// How long the stages of an attempt took, in microseconds; zero where a stage did not happen,
/// as with a connection that was open already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// Name resolution.
    pub dns: u32,
    /// TCP connect.
    pub connect: u32,
    /// TLS handshake.
    pub tls: u32,
    /// From the request's first byte out to the response head in.
    pub first_byte: u32,
    /// The whole attempt.
    pub total: u32,
}

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The end state; never `PENDING`.
    pub state: DeliveryState,
    /// Why, where the state alone does not say.
    pub reason: Option<EndReason>,
}

/// What of a response is kept; only of those that did not acknowledge or could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseHead {
    /// Headers as received, names in lower case; values that are no UTF-8 with U+FFFD.
    pub headers: Vec<(String, String)>,
    /// First bytes of the body, up to [`crate::limits::RESPONSE_KEPT`].
    pub body: Vec<u8>,
    /// The body was longer than what is kept, or the response could not be read to its end.
    pub truncated: bool,
}

/// One attempt of a delivery, or its end without one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// The delivery.
    pub key: DeliveryKey,
    /// What this record tells of.
    pub kind: RecordKind,
    /// Number of the attempt, from 1; the number it would have had for an end without one.
    pub number: u32,
    /// For whom the event was published.
    pub tenant: TenantId,
    /// The event's type.
    pub event_type: EventTypeId,
    /// The event's environment.
    pub environment: Environment,
    /// The node that made it.
    pub node: NodeId,
    /// When it began, by the node's clock.
    pub start: Timestamp,
    /// How long its stages took.
    pub timing: Timing,
    /// How it came out; none for records that are no attempts.
    pub outcome: Option<AttemptOutcome>,
    /// How the delivery ended with it; none while it goes on.
    pub end: Option<End>,
    /// Where it failed.
    pub error_class: Option<ErrorClass>,
    /// A few words about the failure; empty for a success. Never event data, never a secret.
    pub reason: String,
    /// HTTP status; 0 without a response.
    pub status: u16,
    /// The URL it went to.
    pub url: Arc<str>,
    /// The address it connected to.
    pub remote: Option<SocketAddr>,
    /// When the next attempt is due.
    pub next_attempt: Option<Timestamp>,
    /// The configuration that the node served.
    pub configuration_revision: i64,
    /// The contract it was rendered by.
    pub contract: ContractId,
    /// The contract's revision; 0 for a built-in one.
    pub contract_revision: i64,
    /// The keys that signed it, newest first.
    pub secrets: Vec<SecretId>,
    /// What is kept of the response.
    pub response: Option<ResponseHead>,
    /// The batch's lease was gone when this was recorded: somebody else may have sent it too.
    pub late: bool,
    /// The request went out twice: over a connection that its receiver closed, and at once again
    /// over a new one. The receiver may have seen both.
    #[serde(default)]
    pub resent: bool,
    /// The headers that the subscription added, as they may be shown.
    #[serde(default)]
    pub headers: ShownHeaders,
}

/// Headers as they may be shown: names as they went out, credentials masked. Records of a
/// subscription share them.
pub type ShownHeaders = Arc<[(Box<str>, Box<str>)]>;

/// What stands in the place of a header's value that is not shown.
pub const MASKED: &str = "[masked]";

impl AttemptRecord {
    /// The same without what its event may have left in it: the answer, and the headers that went
    /// with it. That there was an attempt, when and how it came out stays.
    pub fn stripped(&self) -> Self {
        Self { headers: ShownHeaders::default(), ..self.without_response() }
    }

    /// Whether it has nothing that [`stripped`](Self::stripped) takes away.
    pub fn is_stripped(&self) -> bool {
        self.response.is_none() && self.headers.is_empty()
    }

    /// The same without what is kept of the response, which is most of it and is not copied.
    pub fn without_response(&self) -> Self {
        Self {
            key: self.key,
            kind: self.kind,
            number: self.number,
            tenant: self.tenant.clone(),
            event_type: self.event_type.clone(),
            environment: self.environment,
            node: self.node.clone(),
            start: self.start,
            timing: self.timing,
            outcome: self.outcome,
            end: self.end,
            error_class: self.error_class,
            reason: self.reason.clone(),
            status: self.status,
            url: self.url.clone(),
            remote: self.remote,
            next_attempt: self.next_attempt,
            configuration_revision: self.configuration_revision,
            contract: self.contract.clone(),
            contract_revision: self.contract_revision,
            secrets: self.secrets.clone(),
            response: None,
            late: self.late,
            resent: self.resent,
            headers: Arc::clone(&self.headers),
        }
    }
}
