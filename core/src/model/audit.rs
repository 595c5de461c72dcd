//! Entries of the audit log: who called for what, and what came of it.
//!
//! An entry never holds a credential, a key, or data of an event. What it says of a resource is
//! what the API shows of it, where secrets are masked.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::TenantId;

/// How a caller showed who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// Not at all, or by something that is not known.
    None,
    /// By a token of the tokens file.
    Token,
    /// By an API key.
    ApiKey,
    /// By a portal token.
    Portal,
    /// A kind that this release does not know.
    #[serde(other)]
    Other,
}

impl ActorKind {
    /// The stable word, as it appears in logs.
    pub fn word(self) -> &'static str {
        match self {
            ActorKind::None => "NONE",
            ActorKind::Token => "TOKEN",
            ActorKind::ApiKey => "API_KEY",
            ActorKind::Portal => "PORTAL_TOKEN",
            ActorKind::Other => "OTHER",
        }
    }
}

/// Who called.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AuditActor {
    /// How that is known.
    pub kind: ActorKind,
    /// The name of the token, `apiKeys/{k}`, `tenants/{t}/portal/{user}`, or `anonymous`.
    pub id: String,
    /// One line for people, where the credential has one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub display_name: String,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditOutcome {
    /// It was begun, and its end is not known: the process ended, or could not write it down.
    Unknown,
    /// It was done.
    Done,
    /// It was let in, and failed.
    Failed,
    /// It was not let in.
    Refused,
    /// An outcome that this release does not know.
    #[serde(other)]
    Other,
}

impl AuditOutcome {
    /// The stable word, as it appears in logs.
    pub fn word(self) -> &'static str {
        match self {
            AuditOutcome::Unknown => "UNKNOWN",
            AuditOutcome::Done => "DONE",
            AuditOutcome::Failed => "FAILED",
            AuditOutcome::Refused => "REFUSED",
            AuditOutcome::Other => "OTHER",
        }
    }
}

/// What a call made of one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditChange {
    /// Its name.
    pub resource: String,
    /// What it was before, as JSON text of the API's message; empty: it was not there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub before: String,
    /// What it was after; empty: it was not there any more.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub after: String,
    /// Long texts in it were cut.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// One entry. Its revision is the store's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When the call was made, or when its write was decided.
    pub time: Timestamp,
    /// Who called.
    pub actor: AuditActor,
    /// The address that the call came from, with its port; empty: not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub peer: String,
    /// The method, as in `pregon.v1.TenantService/CreateTenant`; empty: the API has no such one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// The name of the resource that the call was about; empty: not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// The tenants that it concerns: of what was let in those of the resources, of what was refused
    /// those that the credential is for. Empty: none in particular.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<TenantId>,
    /// What came of it.
    pub outcome: AuditOutcome,
    /// The gRPC code that was answered, as in `PERMISSION_DENIED`; empty: not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// The reason of a refusal or failure, as in `ROLE_MISSING`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The caller's `request_id`, where it gave one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// The trace of the call, in hexadecimal, where it has one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trace_id: String,
    /// What became of resources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<AuditChange>,
    /// Resources that changed and are not among `changes`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub changes_omitted: u64,
    /// Calls refused for the same reason before this one that have no entry.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub suppressed: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl AuditEntry {
    /// What the store keeps.
    pub fn encode(&self) -> Vec<u8> {
        // Strings and numbers: none of them can fail to be written.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what the store has; none: a later release wrote it so that this one cannot read it.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_back_and_a_later_one_is_read_as_far_as_it_is_known() {
        let entry = AuditEntry {
            time: Timestamp::from_millis(7),
            actor: AuditActor {
                kind: ActorKind::ApiKey,
                id: "apiKeys/k".into(),
                display_name: "ci".into(),
            },
            peer: "192.0.2.1:9".into(),
            method: "pregon.v1.TenantService/CreateTenant".into(),
            resource: "tenants/acme".into(),
            tenants: vec![TenantId::parse("acme").unwrap()],
            outcome: AuditOutcome::Done,
            code: "OK".into(),
            reason: String::new(),
            request_id: "r".into(),
            trace_id: String::new(),
            changes: vec![AuditChange { resource: "tenants/acme".into(), ..Default::default() }],
            changes_omitted: 2,
            suppressed: 0,
        };
        assert_eq!(AuditEntry::decode(&entry.encode()), Some(entry));
        let later = br#"{"time":7,"actor":{"kind":"oidc","id":"x","y":1},"outcome":"half","z":2}"#;
        let read = AuditEntry::decode(later).unwrap();
        assert_eq!((read.actor.kind, read.outcome), (ActorKind::Other, AuditOutcome::Other));
        assert_eq!(AuditEntry::decode(b"{}"), None);
    }
}
