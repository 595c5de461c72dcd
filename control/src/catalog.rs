//! Documents of the configuration, read as what they are.

use pregon_core::error::{Reason, Refusal};
use pregon_core::model::{
    ApiKey, Callback, ContractDocument, EventType, Resource, ResourceName, Secret, Subscription,
    Tenant,
};
use pregon_store::config::Document;

/// A resource as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored<T> {
    /// The resource.
    pub value: T,
    /// The revision that wrote it last; 0 for one that is not stored.
    pub revision: i64,
    /// Bytes of its document.
    pub size: usize,
}

impl<T> Stored<T> {
    /// One that is not stored yet.
    pub(crate) fn new(value: T) -> Self {
        Self { value, revision: 0, size: 0 }
    }
}

/// A kind of resource that is stored as one document.
pub(crate) trait Kind: Sized + Send {
    /// Its word.
    const WORD: &'static str;
    /// Collections that those of its names run through that begin with a prefix.
    fn collections(prefix: &str) -> &'static str;

    /// Takes it out of a document's contents.
    fn pick(resource: Resource) -> Option<Self>;

    /// Makes it what a document holds.
    fn wrap(self) -> Resource;
}

macro_rules! kinds {
    ($($kind:ident as $variant:ident: $word:literal, $collections:expr;)*) => {$(
        impl Kind for $kind {
            const WORD: &'static str = $word;

            fn collections(prefix: &str) -> &'static str {
                let collections: fn(&str) -> &'static str = $collections;
                collections(prefix)
            }

            #[allow(clippy::wildcard_enum_match_arm)] // only one variant is this kind
            fn pick(resource: Resource) -> Option<Self> {
                match resource {
                    Resource::$variant(value) => Some(value),
                    _ => None,
                }
            }

            fn wrap(self) -> Resource {
                Resource::$variant(self)
            }
        }
    )*};
}

kinds! {
    Tenant as Tenant: "tenant", |_| "tenants";
    EventType as EventType: "event type", |_| "eventTypes";
    ContractDocument as Contract: "contract", |_| "contracts";
    Subscription as Subscription: "subscription", |_| "tenants/subscriptions";
    Callback as Callback: "callback", |_| "tenants/callbacks";
    Secret as Secret: "secret", secrets;
    ApiKey as ApiKey: "API key", |_| "apiKeys";
}

/// Secrets lie below two kinds of resources; a prefix says which of them.
fn secrets(prefix: &str) -> &'static str {
    match prefix.split('/').nth(2) {
        Some("callbacks") => CALLBACK_SECRETS,
        Some(_) | None => SUBSCRIPTION_SECRETS,
    }
}

/// Collections of the secrets of subscriptions.
pub(crate) const SUBSCRIPTION_SECRETS: &str = "tenants/subscriptions/secrets";
/// Collections of the secrets of callbacks.
pub(crate) const CALLBACK_SECRETS: &str = "tenants/callbacks/secrets";

/// Decodes a document of a known kind.
pub(crate) fn read<T: Kind>(document: &Document) -> Result<Stored<T>, Refusal> {
    let unreadable = |reason: &str| {
        tracing::error!(name = document.name, reason, "a stored document cannot be read");
        Refusal::new(Reason::Internal, format!("{} cannot be read from the store", document.name))
    };
    let name = ResourceName::parse(&document.name).ok_or_else(|| unreadable("unknown kind"))?;
    let resource =
        Resource::decode(&name, &document.bytes).map_err(|bad| unreadable(&bad.reason))?;
    let value = T::pick(resource).ok_or_else(|| unreadable("another kind"))?;
    Ok(Stored { value, revision: document.revision, size: document.bytes.len() })
}
