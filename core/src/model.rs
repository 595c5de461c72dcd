//! Configuration as the control plane writes it and the data plane reads it.
//!
//! Each resource is stored as one JSON document under its resource name. Unknown members are
//! kept out of the way of older readers (`serde` ignores them); a document that does not parse is
//! refused loudly by its reader and the last good one stays.
//!
//! A stored document is already valid: the control plane parsed it before it was committed. What
//! is compiled from it (patterns, filters, schemas, contracts) is compiled by the reader, once.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::error::words;
use crate::event::Environment;
use crate::id::{
    ContractId, EventTypeId, LaneNo, SecretId, SecretName, SubscriptionId, SubscriptionName,
    TenantId,
};
use crate::limits;

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
}

/// What a tenant may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantLimits {
    /// Subscriptions it may have.
    pub max_subscriptions: u32,
    /// Events a second it may publish; 0: no limit.
    #[serde(default)]
    pub publish_per_second: u32,
    /// Deliveries that may wait in one of its lanes.
    pub max_pending: u32,
}

impl Default for TenantLimits {
    fn default() -> Self {
        Self {
            max_subscriptions: limits::SUBSCRIPTIONS_DEFAULT,
            publish_per_second: 0,
            max_pending: limits::PENDING_DEFAULT,
        }
    }
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
}

words! {
    /// What a subscription does at present.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    SubscriptionState {
        /// Waits for the platform's approval: matches nothing.
        PendingApproval = "PENDING_APPROVAL",
        /// Matches and delivers.
        Active = "ACTIVE",
        /// Matches; deliveries wait.
        Paused = "PAUSED",
        /// Matches nothing; what waited was cancelled.
        Disabled = "DISABLED",
        /// Refused by the platform: matches nothing.
        Rejected = "REJECTED",
    }
}

impl SubscriptionState {
    /// Whether events match a subscription in this state.
    pub fn matches(self) -> bool {
        match self {
            SubscriptionState::Active | SubscriptionState::Paused => true,
            SubscriptionState::PendingApproval
            | SubscriptionState::Disabled
            | SubscriptionState::Rejected => false,
        }
    }
}

/// Who moved a subscription to its state, when and why.
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
    pub headers: Vec<(String, String)>,
    /// Attempts in flight at most, of one node.
    pub max_concurrency: u32,
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
}

impl Subscription {
    /// The resource name.
    pub fn name(&self) -> SubscriptionName {
        SubscriptionName { tenant: self.tenant.clone(), subscription: self.id.clone() }
    }
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

/// A signing key: `tenants/{t}/subscriptions/{s}/secrets/{k}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// The subscription that signs with it.
    pub subscription: SubscriptionName,
    /// Its id within the subscription.
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
        SecretName { subscription: self.subscription.clone(), secret: self.id.clone() }
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

/// A document of the configuration, by the kind that its name shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `tenants/{t}`
    Tenant(Tenant),
    /// `eventTypes/{type}`
    EventType(EventType),
    /// `tenants/{t}/subscriptions/{s}`
    Subscription(Subscription),
    /// `tenants/{t}/subscriptions/{s}/secrets/{k}`
    Secret(Secret),
}

/// A stored document that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("document {name} cannot be read: {reason}")]
pub struct BadDocument {
    /// The document's name.
    pub name: String,
    /// What is wrong with it; never its contents.
    pub reason: String,
}

/// The kind of resource that a name speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResourceName {
    /// `tenants/{t}`
    Tenant(TenantId),
    /// `eventTypes/{type}`
    EventType(EventTypeId),
    /// `tenants/{t}/subscriptions/{s}`
    Subscription(SubscriptionName),
    /// `tenants/{t}/subscriptions/{s}/secrets/{k}`
    Secret(SecretName),
}

impl ResourceName {
    /// Reads a document's name; none where this release knows no such kind.
    pub fn parse(name: &str) -> Option<Self> {
        match (name.split('/').count(), name.split('/').next()) {
            (2, Some("tenants")) => TenantId::parse_name(name).ok().map(Self::Tenant),
            (2, Some("eventTypes")) => EventTypeId::parse_name(name).ok().map(Self::EventType),
            (4, _) => SubscriptionName::parse(name).ok().map(Self::Subscription),
            (6, _) => SecretName::parse(name).ok().map(Self::Secret),
            _ => None,
        }
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant(id) => f.write_str(&id.name()),
            Self::EventType(id) => f.write_str(&id.name()),
            Self::Subscription(name) => name.fmt(f),
            Self::Secret(name) => name.fmt(f),
        }
    }
}

impl Resource {
    /// Reads the document stored under `name`.
    pub fn decode(name: &ResourceName, bytes: &[u8]) -> Result<Self, BadDocument> {
        let bad = |error: serde_json::Error| BadDocument {
            name: name.to_string(),
            reason: format!("line {} column {}", error.line(), error.column()),
        };
        match name {
            ResourceName::Tenant(_) => serde_json::from_slice(bytes).map(Self::Tenant).map_err(bad),
            ResourceName::EventType(_) => {
                serde_json::from_slice(bytes).map(Self::EventType).map_err(bad)
            }
            ResourceName::Subscription(_) => {
                serde_json::from_slice(bytes).map(Self::Subscription).map_err(bad)
            }
            ResourceName::Secret(_) => serde_json::from_slice(bytes).map(Self::Secret).map_err(bad),
        }
    }

    /// The name it is stored under.
    pub fn name(&self) -> ResourceName {
        match self {
            Self::Tenant(tenant) => ResourceName::Tenant(tenant.id.clone()),
            Self::EventType(kind) => ResourceName::EventType(kind.id.clone()),
            Self::Subscription(subscription) => ResourceName::Subscription(subscription.name()),
            Self::Secret(secret) => ResourceName::Secret(secret.name()),
        }
    }

    /// The document to store.
    pub fn encode(&self) -> Vec<u8> {
        let written = match self {
            Self::Tenant(tenant) => serde_json::to_vec(tenant),
            Self::EventType(kind) => serde_json::to_vec(kind),
            Self::Subscription(subscription) => serde_json::to_vec(subscription),
            Self::Secret(secret) => serde_json::to_vec(secret),
        };
        // Strings, numbers and string-keyed maps: none of them can fail to be written.
        written.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_come_back_as_they_were_written() {
        let tenant = Resource::Tenant(Tenant {
            id: TenantId::parse("acme").unwrap(),
            common: Common { display_name: "Acme".into(), ..Common::default() },
            suspended: false,
            limits: TenantLimits::default(),
        });
        let name = tenant.name();
        assert_eq!(name.to_string(), "tenants/acme");
        assert_eq!(ResourceName::parse("tenants/acme"), Some(name.clone()));
        assert_eq!(Resource::decode(&name, &tenant.encode()), Ok(tenant));
        assert!(Resource::decode(&name, b"{}").unwrap_err().to_string().contains("tenants/acme"));
        assert_eq!(ResourceName::parse("robots/r2d2"), None);
    }

    #[test]
    fn a_secret_signs_from_its_activation_up_to_its_end() {
        let at = |s: i64| Timestamp::from_millis(s * 1000);
        let mut secret = Secret {
            subscription: SubscriptionName::parse("tenants/a/subscriptions/b").unwrap(),
            id: SecretId::parse("k").unwrap(),
            common: Common::default(),
            algorithm: SecretAlgorithm::Hmac,
            sealed: String::new(),
            fingerprint: String::new(),
            activate_time: at(10),
            expire_time: Some(at(20)),
            revoke_time: None,
        };
        let states = [9, 10, 19, 20].map(|s| secret.state(at(s)));
        use SecretState::{Active, Expired, Scheduled};
        assert_eq!(states, [Scheduled, Active, Active, Expired]);
        secret.revoke_time = Some(at(11));
        assert_eq!(secret.state(at(12)), SecretState::Revoked);
    }
}
