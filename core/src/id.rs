//! Names and ids, parsed once.
//!
//! An id that exists is well formed: it came through `parse` and needs no second look. Resource
//! names (`tenants/acme/subscriptions/erp`) are written and read here and nowhere else.
//!
//! Two ids carry structure. An event's [`Position`] is where it lies in the queue (accept time,
//! partition, number); an assigned event id is its position in 20 characters behind `pg_`. A
//! [`DeliveryKey`] is position, lane and, for a replay, a tag; so a delivery's id can be derived
//! and nothing has to be stored to find it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Rule, Wrong};
use crate::limits;

mod names;
mod position;

pub use names::{
    AttemptName, CallbackName, DeliveryName, EventName, SecretName, SignerName, SubscriptionName,
};
pub use position::{DeliveryKey, LaneNo, PartitionNo, Position, ReplayTag};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// What an id of this kind looks like, in words.
            pub const RULE: &'static str = $rule;

            /// Parses, or says which rule was broken.
            pub fn parse(text: &str) -> Result<Self, Wrong> {
                if text.is_empty() {
                    return Err(Wrong::new(Rule::Required, concat!("must be ", $rule)));
                }
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(Wrong::new(Rule::Malformed, concat!("must be ", $rule)))
                }
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = Wrong;
            fn from_str(text: &str) -> Result<Self, Wrong> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Wrong;
            fn try_from(text: String) -> Result<Self, Wrong> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

fn plain(text: &str) -> bool {
    text.len() <= limits::ID_LEN
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn key_id(text: &str) -> bool {
    text.len() <= 32 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn event_type(text: &str) -> bool {
    text.len() <= limits::EVENT_TYPE_LEN
        && text.split(['.', '-']).all(|segment| {
            !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        })
}

fn event_id(text: &str) -> bool {
    text.len() <= limits::EVENT_ID_LEN
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'-'))
}

id!(
    /// A tenant's id.
    TenantId, "1 to 64 of A-Z a-z 0-9 _ -", plain
);
id!(
    /// A subscription's id, within its tenant.
    SubscriptionId, "1 to 64 of A-Z a-z 0-9 _ -", plain
);
id!(
    /// A callback's id, within its tenant.
    CallbackId, "1 to 64 of A-Z a-z 0-9 _ -", plain
);
id!(
    /// A secret's id, within the subscription or callback that signs with it.
    SecretId, "1 to 64 of A-Z a-z 0-9 _ -", plain
);
id!(
    /// A contract's id.
    ContractId, "1 to 64 of A-Z a-z 0-9 _ -", plain
);
id!(
    /// An API key's id: the part of the key that is no secret.
    ApiKeyId, "1 to 32 of a-z 0-9", key_id
);
id!(
    /// An egress pool: a way out of the network.
    PoolName, "1 to 64 of A-Z a-z 0-9 _ -", plain
);
id!(
    /// A data-plane process.
    NodeId, "1 to 64 of A-Z a-z 0-9 _ -", plain
);
id!(
    /// The name of an event type, such as `order.captured`.
    EventTypeId,
    "words of A-Z a-z 0-9 _ joined by . or -, 128 characters at most", event_type
);
id!(
    /// An event's id, within its tenant: given by the publisher, or assigned.
    EventId, "1 to 128 of A-Z a-z 0-9 _ : -", event_id
);

impl TenantId {
    /// The resource name, `tenants/{t}`.
    pub fn name(&self) -> String {
        format!("tenants/{self}")
    }

    /// Parses the resource name `tenants/{t}`.
    pub fn parse_name(name: &str) -> Result<Self, Wrong> {
        names::single(name, "tenants", "tenants/{tenant}").and_then(Self::parse)
    }
}

impl EventTypeId {
    /// The resource name, `eventTypes/{type}`.
    pub fn name(&self) -> String {
        format!("eventTypes/{self}")
    }

    /// Parses the resource name `eventTypes/{type}`.
    pub fn parse_name(name: &str) -> Result<Self, Wrong> {
        names::single(name, "eventTypes", "eventTypes/{event_type}").and_then(Self::parse)
    }
}

impl ApiKeyId {
    /// The resource name, `apiKeys/{k}`.
    pub fn name(&self) -> String {
        format!("apiKeys/{self}")
    }

    /// Parses the resource name `apiKeys/{k}`.
    pub fn parse_name(name: &str) -> Result<Self, Wrong> {
        names::single(name, "apiKeys", "apiKeys/{api_key}").and_then(Self::parse)
    }
}

impl ContractId {
    /// The default contract's id.
    pub fn standard_webhooks() -> Self {
        Self("standard_webhooks".into())
    }

    /// The resource name, `contracts/{c}`.
    pub fn name(&self) -> String {
        format!("contracts/{self}")
    }

    /// Parses the resource name `contracts/{c}`. One of the catalogue is told what it is for.
    pub fn parse_name(name: &str) -> Result<Self, Wrong> {
        if name.starts_with("catalog/") {
            let text = "must be contracts/{contract}; of the catalogue, create a contract first: \
                        CreateContract with from";
            return Err(Wrong::new(Rule::Malformed, text));
        }
        names::single(name, "contracts", "contracts/{contract}").and_then(Self::parse)
    }
}

impl PoolName {
    /// The pool that there is without being set up.
    pub const DEFAULT: &'static str = "default";

    /// [`PoolName::DEFAULT`].
    pub fn default_pool() -> Self {
        Self(Self::DEFAULT.into())
    }
}

impl NodeId {
    /// The resource name, `nodes/{n}`.
    pub fn name(&self) -> String {
        format!("nodes/{self}")
    }

    /// Parses the resource name `nodes/{n}`.
    pub fn parse_name(name: &str) -> Result<Self, Wrong> {
        names::single(name, "nodes", "nodes/{node}").and_then(Self::parse)
    }
}

impl EventId {
    /// What every assigned id begins with.
    pub const ASSIGNED_PREFIX: &'static str = "pg_";

    /// The id that the store assigns to the event at `position`.
    pub fn assigned(position: Position) -> Self {
        Self(format!("{}{position}", Self::ASSIGNED_PREFIX).into())
    }

    /// Parses an id that a publisher gives: any event id but one that looks assigned.
    pub fn parse_given(text: &str) -> Result<Self, Wrong> {
        let id = Self::parse(text)?;
        match id.position() {
            Some(_) => Err(Wrong::new(
                Rule::Malformed,
                "looks like an assigned id (pg_ and 20 characters); give another or none",
            )),
            None => Ok(id),
        }
    }

    /// The position that an assigned id names; none for a given one.
    pub fn position(&self) -> Option<Position> {
        self.0.strip_prefix(Self::ASSIGNED_PREFIX).and_then(|text| text.parse().ok())
    }
}

#[cfg(test)]
mod tests;
