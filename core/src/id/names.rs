//! Resource names of more than one segment.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{CallbackId, DeliveryKey, EventId, SecretId, SubscriptionId, TenantId};
use crate::error::{Rule, Wrong};

/// Splits a name of one pair, such as `tenants/acme`.
pub(super) fn single<'a>(
    name: &'a str,
    collection: &str,
    form: &'static str,
) -> Result<&'a str, Wrong> {
    pairs(name, [collection], form).map(|[id]| id)
}

/// Splits a name into the ids of its collections.
fn pairs<'a, const N: usize>(
    name: &'a str,
    collections: [&str; N],
    form: &'static str,
) -> Result<[&'a str; N], Wrong> {
    if name.is_empty() {
        return Err(Wrong::new(Rule::Required, format!("must be a name of the form {form}")));
    }
    let malformed = || Wrong::new(Rule::Malformed, format!("must have the form {form}"));
    let mut ids = [""; N];
    let mut parts = name.split('/');
    for (id, collection) in ids.iter_mut().zip(collections) {
        if parts.next() != Some(collection) {
            return Err(malformed());
        }
        *id = parts.next().ok_or_else(malformed)?;
    }
    match parts.next() {
        None => Ok(ids),
        Some(_) => Err(malformed()),
    }
}

/// `tenants/{t}/subscriptions/{s}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SubscriptionName {
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// Its id within the tenant.
    pub subscription: SubscriptionId,
}

impl SubscriptionName {
    /// Parses the resource name.
    pub fn parse(name: &str) -> Result<Self, Wrong> {
        let [tenant, subscription] = pairs(
            name,
            ["tenants", "subscriptions"],
            "tenants/{tenant}/subscriptions/{subscription}",
        )?;
        Ok(Self {
            tenant: TenantId::parse(tenant)?,
            subscription: SubscriptionId::parse(subscription)?,
        })
    }
}

impl fmt::Display for SubscriptionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tenants/{}/subscriptions/{}", self.tenant, self.subscription)
    }
}

/// `tenants/{t}/callbacks/{c}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallbackName {
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// Its id within the tenant.
    pub callback: CallbackId,
}

impl CallbackName {
    /// Parses the resource name.
    pub fn parse(name: &str) -> Result<Self, Wrong> {
        let [tenant, callback] =
            pairs(name, ["tenants", "callbacks"], "tenants/{tenant}/callbacks/{callback}")?;
        Ok(Self { tenant: TenantId::parse(tenant)?, callback: CallbackId::parse(callback)? })
    }
}

impl fmt::Display for CallbackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tenants/{}/callbacks/{}", self.tenant, self.callback)
    }
}

/// Who signs with a secret: a subscription or a callback.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SignerName {
    /// `tenants/{t}/subscriptions/{s}`
    Subscription(SubscriptionName),
    /// `tenants/{t}/callbacks/{c}`
    Callback(CallbackName),
}

impl SignerName {
    /// Parses the resource name.
    pub fn parse(name: &str) -> Result<Self, Wrong> {
        match name.split('/').nth(2) {
            Some("callbacks") => CallbackName::parse(name).map(Self::Callback),
            Some(_) | None => SubscriptionName::parse(name).map(Self::Subscription),
        }
    }

    /// The tenant it belongs to.
    pub fn tenant(&self) -> &TenantId {
        match self {
            Self::Subscription(name) => &name.tenant,
            Self::Callback(name) => &name.tenant,
        }
    }
}

impl fmt::Display for SignerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subscription(name) => name.fmt(f),
            Self::Callback(name) => name.fmt(f),
        }
    }
}

impl From<SubscriptionName> for SignerName {
    fn from(name: SubscriptionName) -> Self {
        Self::Subscription(name)
    }
}

impl From<CallbackName> for SignerName {
    fn from(name: CallbackName) -> Self {
        Self::Callback(name)
    }
}

/// `tenants/{t}/subscriptions/{s}/secrets/{k}`, or the same below a callback.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SecretName {
    /// Who signs with it.
    pub signer: SignerName,
    /// Its id within the subscription or callback.
    pub secret: SecretId,
}

impl SecretName {
    const FORM: &'static str = "tenants/{tenant}/subscriptions/{subscription}/secrets/{secret} \
                                or tenants/{tenant}/callbacks/{callback}/secrets/{secret}";

    /// Parses the resource name.
    pub fn parse(name: &str) -> Result<Self, Wrong> {
        if name.split('/').nth(2) == Some("callbacks") {
            let collections = ["tenants", "callbacks", "secrets"];
            let [tenant, callback, secret] = pairs(name, collections, Self::FORM)?;
            let (tenant, callback) = (TenantId::parse(tenant)?, CallbackId::parse(callback)?);
            let signer = CallbackName { tenant, callback }.into();
            return Ok(Self { signer, secret: SecretId::parse(secret)? });
        }
        let collections = ["tenants", "subscriptions", "secrets"];
        let [tenant, subscription, secret] = pairs(name, collections, Self::FORM)?;
        let (tenant, subscription) =
            (TenantId::parse(tenant)?, SubscriptionId::parse(subscription)?);
        let signer = SubscriptionName { tenant, subscription }.into();
        Ok(Self { signer, secret: SecretId::parse(secret)? })
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/secrets/{}", self.signer, self.secret)
    }
}

/// `tenants/{t}/events/{id}`, or `…/events/{id}@{version}` for a version other than 0.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventName {
    /// The tenant it was published for.
    pub tenant: TenantId,
    /// Its id, given or assigned.
    pub id: EventId,
    /// Its version; 0 when the publisher counts none.
    pub version: u32,
}

impl EventName {
    const FORM: &'static str = "tenants/{tenant}/events/{event} or …/events/{event}@{version}";

    /// Parses the resource name.
    pub fn parse(name: &str) -> Result<Self, Wrong> {
        let [tenant, event] = pairs(name, ["tenants", "events"], Self::FORM)?;
        let malformed =
            || Wrong::new(Rule::Malformed, format!("must have the form {}", Self::FORM));
        let (id, version) = match event.split_once('@') {
            None => (event, 0),
            Some((id, version)) => {
                let number: u32 = version.parse().map_err(|_| malformed())?;
                if number == 0 || number > i32::MAX as u32 || number.to_string() != version {
                    return Err(malformed());
                }
                (id, number)
            }
        };
        Ok(Self { tenant: TenantId::parse(tenant)?, id: EventId::parse(id)?, version })
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tenants/{}/events/{}", self.tenant, self.id)?;
        if self.version > 0 { write!(f, "@{}", self.version) } else { Ok(()) }
    }
}

/// `tenants/{t}/deliveries/{d}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryName {
    /// The tenant of its event.
    pub tenant: TenantId,
    /// Which event to which lane, and which replay of it.
    pub delivery: DeliveryKey,
}

impl DeliveryName {
    /// Parses the resource name.
    pub fn parse(name: &str) -> Result<Self, Wrong> {
        let [tenant, delivery] =
            pairs(name, ["tenants", "deliveries"], "tenants/{tenant}/deliveries/{delivery}")?;
        Ok(Self { tenant: TenantId::parse(tenant)?, delivery: delivery.parse()? })
    }
}

impl fmt::Display for DeliveryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tenants/{}/deliveries/{}", self.tenant, self.delivery)
    }
}

/// `tenants/{t}/deliveries/{d}/attempts/{n}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptName {
    /// The delivery it belongs to.
    pub delivery: DeliveryName,
    /// Its number, from 1.
    pub number: u32,
}

impl AttemptName {
    /// Parses the resource name.
    pub fn parse(name: &str) -> Result<Self, Wrong> {
        const FORM: &str = "tenants/{tenant}/deliveries/{delivery}/attempts/{number}";
        let [tenant, delivery, number] = pairs(name, ["tenants", "deliveries", "attempts"], FORM)?;
        let number = number
            .parse()
            .ok()
            .filter(|parsed: &u32| *parsed > 0 && parsed.to_string() == number)
            .ok_or_else(|| Wrong::new(Rule::Malformed, format!("must have the form {FORM}")))?;
        let delivery =
            DeliveryName { tenant: TenantId::parse(tenant)?, delivery: delivery.parse()? };
        Ok(Self { delivery, number })
    }
}

impl fmt::Display for AttemptName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/attempts/{}", self.delivery, self.number)
    }
}
