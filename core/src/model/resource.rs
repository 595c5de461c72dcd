//! Documents by the kind of resource that their names show.

use std::fmt;

use super::{ApiKey, Callback, ContractDocument, EventType, Secret, Subscription, Tenant};
use crate::id::{
    ApiKeyId, CallbackName, ContractId, EventTypeId, SecretName, SubscriptionName, TenantId,
};

mod sealed;

/// A document of the configuration, by the kind that its name shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `tenants/{t}`
    Tenant(Tenant),
    /// `eventTypes/{type}`
    EventType(EventType),
    /// `tenants/{t}/subscriptions/{s}`
    Subscription(Subscription),
    /// `contracts/{c}`
    Contract(ContractDocument),
    /// `tenants/{t}/callbacks/{c}`
    Callback(Callback),
    /// `tenants/{t}/subscriptions/{s}/secrets/{k}`, or the same below a callback
    Secret(Secret),
    /// `apiKeys/{k}`
    ApiKey(ApiKey),
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
    /// `contracts/{c}`
    Contract(ContractId),
    /// `tenants/{t}/callbacks/{c}`
    Callback(CallbackName),
    /// `tenants/{t}/subscriptions/{s}/secrets/{k}`, or the same below a callback
    Secret(SecretName),
    /// `apiKeys/{k}`
    ApiKey(ApiKeyId),
}

impl ResourceName {
    /// Reads a document's name; none where this release knows no such kind.
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('/');
        match (name.split('/').count(), parts.next(), parts.nth(1)) {
            (2, Some("tenants"), _) => TenantId::parse_name(name).ok().map(Self::Tenant),
            (2, Some("eventTypes"), _) => EventTypeId::parse_name(name).ok().map(Self::EventType),
            (2, Some("contracts"), _) => ContractId::parse_name(name).ok().map(Self::Contract),
            (2, Some("apiKeys"), _) => ApiKeyId::parse_name(name).ok().map(Self::ApiKey),
            (4, _, Some("callbacks")) => CallbackName::parse(name).ok().map(Self::Callback),
            (4, ..) => SubscriptionName::parse(name).ok().map(Self::Subscription),
            (6, ..) => SecretName::parse(name).ok().map(Self::Secret),
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
            Self::Contract(id) => f.write_str(&id.name()),
            Self::Callback(name) => name.fmt(f),
            Self::Secret(name) => name.fmt(f),
            Self::ApiKey(id) => f.write_str(&id.name()),
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
        let read = match name {
            ResourceName::Tenant(_) => serde_json::from_slice(bytes).map(Self::Tenant),
            ResourceName::EventType(_) => serde_json::from_slice(bytes).map(Self::EventType),
            ResourceName::Subscription(_) => serde_json::from_slice(bytes).map(Self::Subscription),
            ResourceName::Contract(_) => serde_json::from_slice(bytes).map(Self::Contract),
            ResourceName::Callback(_) => serde_json::from_slice(bytes).map(Self::Callback),
            ResourceName::Secret(_) => serde_json::from_slice(bytes).map(Self::Secret),
            ResourceName::ApiKey(_) => serde_json::from_slice(bytes).map(Self::ApiKey),
        };
        read.map_err(bad)
    }

    /// The name it is stored under.
    pub fn name(&self) -> ResourceName {
        match self {
            Self::Tenant(tenant) => ResourceName::Tenant(tenant.id.clone()),
            Self::EventType(kind) => ResourceName::EventType(kind.id.clone()),
            Self::Subscription(subscription) => ResourceName::Subscription(subscription.name()),
            Self::Contract(contract) => ResourceName::Contract(contract.id.clone()),
            Self::Callback(callback) => ResourceName::Callback(callback.name()),
            Self::Secret(secret) => ResourceName::Secret(secret.name()),
            Self::ApiKey(key) => ResourceName::ApiKey(key.id.clone()),
        }
    }

    /// The document to store.
    pub fn encode(&self) -> Vec<u8> {
        let written = match self {
            Self::Tenant(tenant) => serde_json::to_vec(tenant),
            Self::EventType(kind) => serde_json::to_vec(kind),
            Self::Subscription(subscription) => serde_json::to_vec(subscription),
            Self::Contract(contract) => serde_json::to_vec(contract),
            Self::Callback(callback) => serde_json::to_vec(callback),
            Self::Secret(secret) => serde_json::to_vec(secret),
            Self::ApiKey(key) => serde_json::to_vec(key),
        };
        // Strings, numbers and string-keyed maps: none of them can fail to be written.
        written.unwrap_or_default()
    }
}
