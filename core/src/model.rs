//! Configuration as the control plane writes it and the data plane reads it.
//!
//! Each resource is stored as one JSON document under its resource name. Unknown members are
//! kept out of the way of older readers (`serde` ignores them); a document that does not parse is
//! refused loudly by its reader and the last good one stays.
//!
//! A stored document is already valid: the control plane parsed it before it was committed. What
//! is compiled from it (patterns, filters, schemas, contracts) is compiled by the reader, once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::error::words;
use crate::event::Environment;
use crate::id::{
    CallbackId, CallbackName, ContractId, EventTypeId, LaneNo, PoolName, SecretId, SecretName,
    SignerName, SubscriptionId, SubscriptionName, TenantId,
};
use crate::rate::Rate;
use crate::url::EgressRules;

mod api_key;
mod audit;
mod auth;
mod headers;
mod resource;
mod tenant_limits;
mod verification;

pub use api_key::{ApiKey, ApiKeyLimits, ApiKeySecret, ApiKeyState};
pub use audit::{ActorKind, AuditActor, AuditChange, AuditEntry, AuditOutcome};
pub use auth::{Auth, Oauth2Style, Trust};
pub use headers::{HeaderText, OwnHeaders};
pub use resource::{BadDocument, Resource, ResourceName};
pub use tenant_limits::TenantLimits;
pub use verification::{APART, Asked, KEPT, Turn, Verification, VerificationState};

/// What every resource carries besides its own fields. Revision and update time are the store's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Common {
    /// One line for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub display_name: String,
    /// Classification by the platform.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it was last written.
    pub update_time: Timestamp,
}

/// A customer of the platform: `tenants/{t}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Common fields.
    #[serde(flatten)]
    pub common: Common,
    /// Publishes are refused and deliveries wait.
    #[serde(default)]
    pub suspended: bool,
    /// What it may use.
    pub limits: TenantLimits,
    /// The egress pool of its subscriptions that name none; none: their contracts'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<PoolName>,
    /// Whom its requests may go to, of those whom the deployment allows.
    #[serde(default, skip_serializing_if = "EgressRules::is_empty")]
    pub egress_rules: EgressRules,
    /// There was a tenant of the same id, which was deleted: all that was accepted before this moment
    /// of the store's was that one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// A kind of event: `eventTypes/{type}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventType {
    /// Its name.
    pub id: EventTypeId,
    /// Common fields.
    #[serde(flatten)]
    pub common: Common,
    /// What it means, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// JSON Schema (draft 2020-12) that data must pass; empty: anything goes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub json_schema: String,
    /// An example of its data, as JSON text; empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub example: String,
    /// Publishers should move on.
    #[serde(default)]
    pub deprecated: bool,
    /// Paths into the data that are shown redacted, as `pregon_core::redact::SensitivePath` reads them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sensitive_paths: Vec<String>,
}

/// A wire contract of the platform's own: `contracts/{c}`. Built-in ones are no documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContractDocument {
    /// Its id; the document says the same.
    pub id: ContractId,
    /// Common fields.
    #[serde(flatten)]
    pub common: Common,
    /// The whole contract: `Contract::read` accepted it.
    pub document: String,
    /// The document as it was given, where that extends another contract and `document` is what they
    /// are together; empty: `document`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// The revision that wrote the document, if the resource has been changed since without it; 0:
    /// the resource's own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub document_revision: i64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde asks
fn is_zero(revision: &i64) -> bool {
    *revision == 0
}

impl ContractDocument {
    /// The document as it was given.
    pub fn source(&self) -> &str {
        if self.source.is_empty() { &self.document } else { &self.source }
    }

    /// The revision that wrote the document, of a resource of this revision.
    pub fn written_at(&self, revision: i64) -> i64 {
        if self.document_revision == 0 { revision } else { self.document_revision }
    }
}

words! {
    /// What a subscription does at present.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    SubscriptionState {
        /// Waits for the platform's approval: matches nothing; deliveries wait.
        PendingApproval = "PENDING_APPROVAL",
        /// Waits for its receiver to pass the contract's verification: matches nothing; deliveries
        /// wait.
        PendingVerification = "PENDING_VERIFICATION",
        /// Matches and delivers.
        Active = "ACTIVE",
        /// Matches; deliveries wait.
        Paused = "PAUSED",
        /// Matches nothing; what waited was cancelled.
        Disabled = "DISABLED",
        /// Refused by the platform: matches nothing; deliveries wait.
        Rejected = "REJECTED",
    }
}

impl SubscriptionState {
    /// Whether events match a subscription in this state.
    pub fn matches(self) -> bool {
        match self {
            SubscriptionState::Active | SubscriptionState::Paused => true,
            SubscriptionState::PendingApproval
            | SubscriptionState::PendingVerification
            | SubscriptionState::Disabled
            | SubscriptionState::Rejected => false,
        }
    }

    /// Whether deliveries wait in this state.
    pub fn holds(self) -> bool {
        match self {
            SubscriptionState::Paused
            | SubscriptionState::PendingApproval
            | SubscriptionState::PendingVerification
            | SubscriptionState::Rejected => true,
            SubscriptionState::Active | SubscriptionState::Disabled => false,
        }
    }

    /// Whether a receiver is asked for its verification in this state, and may be.
    pub fn is_asked(self) -> bool {
        match self {
            SubscriptionState::PendingVerification
            | SubscriptionState::Active
            | SubscriptionState::Paused => true,
            SubscriptionState::PendingApproval
            | SubscriptionState::Disabled
            | SubscriptionState::Rejected => false,
        }
    }
}

/// Who moved a subscription or a callback to its state, when and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateChange {
    /// When.
    pub time: Timestamp,
    /// Who: an API key's id, `anonymous` where callers are not authenticated, or `nodes/{n}`.
    pub actor: String,
    /// Why, as given.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// A tenant's receiver and what it wants: `tenants/{t}/subscriptions/{s}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// Its id within the tenant.
    pub id: SubscriptionId,
    /// Common fields.
    #[serde(flatten)]
    pub common: Common,
    /// Its lane: given at creation, never used again.
    pub lane: LaneNo,
    /// Where attempts go; equals its WHATWG form.
    pub url: String,
    /// Which events it may see; for good.
    pub environment: Environment,
    /// Patterns of the event types it wants.
    pub event_types: Vec<String>,
    /// CEL condition on the event; empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub filter: String,
    /// The wire contract its receiver speaks.
    pub contract: ContractId,
    /// Headers sent with every attempt, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: OwnHeaders,
    /// How Pregón identifies itself to the receiver.
    #[serde(default, skip_serializing_if = "Auth::is_none")]
    pub auth: Auth,
    /// How the receiver identifies itself.
    #[serde(default, skip_serializing_if = "Trust::is_public")]
    pub trust: Trust,
    /// Paths into the data that are shown redacted, as `pregon_core::redact::SensitivePath` reads them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sensitive_paths: Vec<String>,
    /// The egress pool that its attempts leave by; none: its tenant's or its contract's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<PoolName>,
    /// What it says in place of its contract, as [`Overrides`](crate::contract::Overrides) reads it;
    /// empty: nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub overrides: String,
    /// Attempts in flight at most, of one node.
    pub max_concurrency: u32,
    /// How fast attempts may start, over all nodes; none: no limit of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<Rate>,
    /// When an operator last opened its lane, whatever the receiver had asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened: Option<Timestamp>,
    /// Deliveries that may wait; 0: what the tenant's limit says.
    #[serde(default)]
    pub max_pending: u32,
    /// What it does at present.
    pub state: SubscriptionState,
    /// Why it is in that state; empty while nobody moved it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub state_reason: String,
    /// Who moved it there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_change: Option<StateChange>,
    /// How it stands with the verification of its receiver; none: its contract asks for none, or
    /// asked for none when the URL was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Box<Verification>>,
    /// What nodes noted of a receiver that only fails; see [`Self::failing`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<Box<Failing>>,
}

impl Subscription {
    /// Since when its receiver only fails, as far as nodes noted that of the receiver that it has,
    /// in the state that it is in: whoever resumes it, or gives it another URL, begins anew.
    pub fn failing(&self) -> Option<&Failing> {
        let failing = self.failing.as_deref()?;
        let moved = self.state_change.as_ref().is_some_and(|change| change.time > failing.since);
        (!moved && failing.url == self.url).then_some(failing)
    }

    /// When a node is to ask its receiver; none: it is left alone.
    pub fn asked_at(&self) -> Option<Timestamp> {
        self.verification.as_deref().filter(|_| self.state.is_asked()).and_then(Verification::due)
    }

    /// The resource name.
    pub fn name(&self) -> SubscriptionName {
        SubscriptionName { tenant: self.tenant.clone(), subscription: self.id.clone() }
    }
}

/// A receiver of which nodes see nothing but failures. One acknowledgement ends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// When the first attempt of the row ended, as far as nodes know.
    pub since: Timestamp,
    /// When its subscription is disabled if that goes on, as whoever noted it is set up.
    pub until: Timestamp,
    /// When it was told that it is about to be disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warned: Option<Timestamp>,
    /// Where the attempts went.
    pub url: String,
}

words! {
    /// What a secret signs with.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    SecretAlgorithm {
        /// A key that sender and receiver share.
        Hmac = "HMAC",
        /// A key pair whose private half never leaves.
        Ed25519 = "ED25519",
        /// An RSA key pair of 2048, 3072 or 4096 bits.
        Rsa = "RSA",
        /// An ECDSA key pair on P-256.
        EcdsaP256 = "ECDSA_P256",
        /// An ECDSA key pair on P-521.
        EcdsaP521 = "ECDSA_P521",
        /// An ECDSA key pair on secp256k1.
        EcdsaSecp256k1 = "ECDSA_SECP256K1",
    }
}

words! {
    /// Where a secret stands in its life, at a moment.
    SecretState {
        /// Signs from its activate time on.
        Scheduled = "SCHEDULED",
        /// Signs.
        Active = "ACTIVE",
        /// Its expire time has passed.
        Expired = "EXPIRED",
        /// Taken out of use by the platform.
        Revoked = "REVOKED",
    }
}

words! {
    /// Whether a callback is asked.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    CallbackState {
        /// It is.
        Active = "ACTIVE",
        /// It is not: every check is refused.
        Paused = "PAUSED",
    }
}

words! {
    /// What a callback answers when its receiver does not.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    FailurePolicy {
        /// Denied.
        Deny = "DENY",
        /// Allowed.
        Allow = "ALLOW",
    }
}

/// A tenant's URL that is asked before something is done: `tenants/{t}/callbacks/{c}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Callback {
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// Its id within the tenant.
    pub id: CallbackId,
    /// Common fields.
    #[serde(flatten)]
    pub common: Common,
    /// Where questions go; equals its WHATWG form.
    pub url: String,
    /// Which environment it belongs to; for good.
    pub environment: Environment,
    /// The contract whose `callback` section it follows.
    pub contract: ContractId,
    /// Headers sent with every question, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: OwnHeaders,
    /// How Pregón identifies itself to the receiver.
    #[serde(default, skip_serializing_if = "Auth::is_none")]
    pub auth: Auth,
    /// How the receiver identifies itself.
    #[serde(default, skip_serializing_if = "Trust::is_public")]
    pub trust: Trust,
    /// CEL verdict over a 2xx answer; empty: the contract's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub verdict: String,
    /// How long the answer may take, in milliseconds: 100 to 10,000.
    pub timeout_ms: u32,
    /// What is answered when the receiver does not.
    pub on_error: FailurePolicy,
    /// For how long an ALLOWED answer is remembered, in milliseconds: up to an hour; 0: not.
    #[serde(default)]
    pub cache_ttl_ms: u32,
    /// Questions in flight at most, of one node.
    pub max_concurrency: u32,
    /// Whether it is asked.
    pub state: CallbackState,
    /// Who moved it there; none while nobody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_change: Option<StateChange>,
}

impl Callback {
    /// The resource name.
    pub fn name(&self) -> CallbackName {
        CallbackName { tenant: self.tenant.clone(), callback: self.id.clone() }
    }
}

/// A signing key: `tenants/{t}/subscriptions/{s}/secrets/{k}`, or the same below a callback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// Who signs with it. (Called `subscription` by releases that knew no other.)
    #[serde(alias = "subscription")]
    pub signer: SignerName,
    /// Its id within the subscription or callback.
    pub id: SecretId,
    /// Common fields.
    #[serde(flatten)]
    pub common: Common,
    /// What it signs with.
    pub algorithm: SecretAlgorithm,
    /// The key, sealed under the master key with [`Secret::binding`] as associated data; base64.
    pub sealed: String,
    /// First 16 hex digits of the key's SHA-256, to recognise it by.
    pub fingerprint: String,
    /// It signs from here on.
    pub activate_time: Timestamp,
    /// It signs up to here, exclusively; none: until further notice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_time: Option<Timestamp>,
    /// When the platform took it out of use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoke_time: Option<Timestamp>,
}

impl Secret {
    /// The resource name.
    pub fn name(&self) -> SecretName {
        SecretName { signer: self.signer.clone(), secret: self.id.clone() }
    }

    /// What the sealed key is bound to: it opens under this name and no other.
    pub fn binding(&self) -> String {
        self.name().to_string()
    }

    /// Where it stands in its life at `now`.
    pub fn state(&self, now: Timestamp) -> SecretState {
        if self.revoke_time.is_some() {
            SecretState::Revoked
        } else if self.expire_time.is_some_and(|end| end <= now) {
            SecretState::Expired
        } else if self.activate_time > now {
            SecretState::Scheduled
        } else {
            SecretState::Active
        }
    }
}

#[cfg(test)]
mod tests;
