//! Who calls: what the [`auth`](crate::auth) layer found out, for handlers.
//!
//! The layer puts a [`Caller`] into every request that it lets through. It has checked the role; it
//! cannot check tenants, for it does not look into messages. So whoever parses a tenant's name asks
//! [`Caller::may_touch`] before anything is looked up: the answer says nothing of what exists.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use pregon_core::clock::Timestamp;
use pregon_core::error::{Reason, Refusal};
use pregon_core::event::Environment;
use pregon_core::id::{ApiKeyId, EventTypeId, TenantId};
use pregon_core::model::{ActorKind, ApiKeyLimits, AuditActor};
use pregon_core::pattern::Pattern;

use crate::hash::{Hash, hex};
use crate::portal::{Grant, Maker};
use crate::rate::Rate;

/// Who callers are where nobody is authenticated.
pub const ANONYMOUS: &str = "anonymous";

/// What a caller is trusted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Everything of the control plane.
    Admin,
    /// Tenants, the catalogue, and all that a tenant manager may.
    Operator,
    /// Subscriptions, their secrets and deliveries, and all that a viewer may.
    TenantManager,
    /// Publishing, and nothing else: no other role includes it, nor does it include another.
    Publisher,
    /// Reading what holds no key.
    Viewer,
    /// Reading what is configured and how it goes, but no event and nothing that was sent.
    Auditor,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 6] = [
        Role::Admin,
        Role::Operator,
        Role::TenantManager,
        Role::Publisher,
        Role::Viewer,
        Role::Auditor,
    ];

    /// The word for it in the tokens file.
    pub fn word(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Operator => "operator",
            Role::TenantManager => "tenant_manager",
            Role::Publisher => "publisher",
            Role::Viewer => "viewer",
            Role::Auditor => "auditor",
        }
    }

    /// The role of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }

    /// Whether this role may do what `needed` may: admin ⊃ operator ⊃ tenant manager ⊃ viewer ⊃
    /// auditor; publisher stands alone.
    pub fn covers(self, needed: Role) -> bool {
        match (self.rank(), needed.rank()) {
            (Some(ours), Some(needed)) => ours >= needed,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// The place in the line of roles that include each other.
    fn rank(self) -> Option<u8> {
        match self {
            Role::Admin => Some(4),
            Role::Operator => Some(3),
            Role::TenantManager => Some(2),
            Role::Viewer => Some(1),
            Role::Auditor => Some(0),
            Role::Publisher => None,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Whoever made a call, as far as a handler needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller(Arc<Inner>, Option<Timestamp>, Option<Hash>);

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    actor: Arc<str>,
    share: Arc<str>,
    role: Option<Role>,
    /// None: all of them.
    tenants: Option<BTreeSet<TenantId>>,
    /// None: both.
    environment: Option<Environment>,
    /// What an API key says besides.
    key: Option<KeyUse>,
    /// It came with a portal token of the tenant that was created then.
    portal: Option<Timestamp>,
}

/// What a caller with an API key is held to, in this process.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KeyUse {
    /// One line for people; may be empty.
    pub(crate) display_name: Arc<str>,
    /// The only event types; empty: all.
    pub(crate) event_types: Vec<Pattern>,
    pub(crate) limits: ApiKeyLimits,
    /// Goes from one version of the key to the next.
    pub(crate) rates: Arc<Rates>,
}

/// What an API key used of its limits.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    calls: Rate,
    events: Rate,
    bytes: Rate,
}

impl PartialEq for Rates {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Rates {}

impl Inner {
    /// One whom nothing is known of but its name and that of its share.
    fn of(actor: Arc<str>, share: Arc<str>) -> Self {
        Self { actor, share, role: None, tenants: None, environment: None, key: None, portal: None }
    }
}

impl Caller {
    /// A caller with a credential; `tenants` are those that it may touch, all if `None`.
    pub fn new(actor: &str, role: Role, tenants: Option<BTreeSet<TenantId>>) -> Self {
        let actor: Arc<str> = actor.into();
        let share = Arc::clone(&actor);
        Self::made(Inner { role: Some(role), tenants, ..Inner::of(actor, share) })
    }

    /// A caller with an API key, with the name of its share; empty: its own.
    pub(crate) fn with_key(
        (actor, share): (&str, &str),
        role: Role,
        tenants: Option<BTreeSet<TenantId>>,
        environment: Option<Environment>,
        key: KeyUse,
    ) -> Self {
        let actor: Arc<str> = actor.into();
        let share = if share.is_empty() { Arc::clone(&actor) } else { share.into() };
        let (role, key) = (Some(role), Some(key));
        Self::made(Inner { role, tenants, environment, key, ..Inner::of(actor, share) })
    }

    /// A caller with a portal token, who is held to what its maker is held to.
    pub fn with_portal(grant: &Grant, role: Role, maker: Option<&Caller>) -> Self {
        let portal = format!("{}/portal", grant.tenant.name());
        let actor = match grant.user.as_str() {
            "" => portal.as_str().into(),
            user => format!("{portal}/{user}").into(),
        };
        let share = match maker.filter(|maker| !maker.makes_for_others()) {
            Some(maker) => Arc::clone(maker.share()),
            None => portal.into(),
        };
        let key = maker.and_then(|maker| maker.0.key.as_ref()).map(|key| KeyUse {
            display_name: "".into(),
            event_types: Vec::new(),
            limits: key.limits,
            rates: Arc::clone(&key.rates),
        });
        let tenants = Some(BTreeSet::from([grant.tenant.clone()]));
        Self::made(Inner {
            actor,
            share,
            role: Some(role),
            tenants,
            environment: maker.and_then(Caller::environment),
            key,
            portal: Some(grant.since),
        })
    }

    fn made(inner: Inner) -> Self {
        Self(Arc::new(inner), None, None)
    }

    /// Whether it came with a portal token.
    pub fn is_portal(&self) -> bool {
        self.0.portal.is_some()
    }

    /// The tenant that its portal token is for, and when that was created.
    pub fn portal(&self) -> Option<(&TenantId, Timestamp)> {
        Some((self.0.tenants.as_ref()?.first()?, self.0.portal?))
    }

    /// Whether what it makes is for others, not for itself: its share is its own.
    pub fn makes_for_others(&self) -> bool {
        !self.is_bound() && self.role().is_none_or(|role| role.covers(Role::Operator))
    }

    /// Whether it could have a portal token made: of a role that its own includes, for a tenant of
    /// its own.
    pub(crate) fn may_lend(&self, grant: &Grant) -> bool {
        let covers = |own: Role| {
            own.covers(Role::TenantManager)
                && Role::parse(&grant.role).is_some_and(|role| own.covers(role))
        };
        self.role().is_some_and(covers) && self.may_touch(&grant.tenant).is_ok()
    }

    /// Whom a portal token that it has made depends on.
    pub fn maker(&self) -> Maker {
        let key = ApiKeyId::parse_name(&self.0.actor).ok().filter(|_| self.0.key.is_some());
        match (key, self.2.as_ref().map(hex)) {
            (Some(id), Some(secret)) => Maker::Key { id, secret },
            (None, Some(token)) => Maker::Token(token),
            (_, None) => Maker::Anyone,
        }
    }

    /// The same caller, whose credential has this SHA-256.
    #[must_use]
    pub(crate) fn by(self, hash: Hash) -> Self {
        Self(self.0, self.1, Some(hash))
    }

    /// What its API key used of its limits.
    pub(crate) fn rates(&self) -> Option<&Arc<Rates>> {
        self.0.key.as_ref().map(|key| &key.rates)
    }

    /// Whoever calls where nobody is authenticated: may do everything.
    pub fn anyone() -> Self {
        static ANYONE: LazyLock<Caller> = LazyLock::new(|| Caller::unknown(None));
        ANYONE.clone()
    }

    /// Whoever calls a method that is open to strangers: touches no tenant.
    pub fn stranger() -> Self {
        Self::unknown(Some(BTreeSet::new()))
    }

    fn unknown(tenants: Option<BTreeSet<TenantId>>) -> Self {
        let actor: Arc<str> = ANONYMOUS.into();
        let share = Arc::clone(&actor);
        Self::made(Inner { tenants, ..Inner::of(actor, share) })
    }

    /// The same caller with a credential that is valid until then; none: without end.
    #[must_use]
    pub fn until(self, end: Option<Timestamp>) -> Self {
        Self(self.0, end, self.2)
    }

    /// When its credential stops being valid; none: never.
    pub fn end(&self) -> Option<Timestamp> {
        self.1
    }

    /// What its API key may use; without one, there are no limits.
    pub fn limits(&self) -> ApiKeyLimits {
        self.0.key.as_ref().map(|key| key.limits).unwrap_or_default()
    }

    /// The caller of a request.
    ///
    /// # Errors
    ///
    /// INTERNAL where the request did not come through the layer: then nobody knows what its caller
    /// may do, and nothing is done.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, Refusal> {
        request.extensions().get::<Self>().cloned().ok_or_else(|| {
            Refusal::new(Reason::Internal, "the call came past the layer that knows its caller")
        })
    }

    /// The name that the change log and the log know the caller by.
    pub fn actor(&self) -> &Arc<str> {
        &self.0.actor
    }

    /// Who called, for the audit log.
    pub fn audited(&self) -> AuditActor {
        let (kind, display_name) = match (&self.0.key, self.0.role) {
            (Some(key), _) => (ActorKind::ApiKey, key.display_name.to_string()),
            (None, Some(_)) => (ActorKind::Token, String::new()),
            (None, None) => (ActorKind::None, String::new()),
        };
        let kind = if self.is_portal() { ActorKind::Portal } else { kind };
        AuditActor { kind, id: self.0.actor.to_string(), display_name }
    }

    /// Whether the caller has the right to read payloads: it is shown the values of stored events that
    /// are called sensitive. A tenant manager has it, who can have events sent to a URL of its own;
    /// a viewer, an auditor and a publisher have not. Where nobody is authenticated, whoever calls
    /// may do everything.
    pub fn reads_payloads(&self) -> bool {
        match self.0.role {
            Some(role) => role.covers(Role::TenantManager),
            None => !self.is_bound(),
        }
    }

    /// The tenants that it may touch; none: all.
    pub fn tenants(&self) -> Option<&BTreeSet<TenantId>> {
        self.0.tenants.as_ref()
    }

    /// The name under which it uses what callers share out. API keys that a caller makes for itself
    /// have the caller's, so that more keys are no larger share.
    pub fn share(&self) -> &Arc<str> {
        &self.0.share
    }

    /// The role; none where nobody is authenticated.
    pub fn role(&self) -> Option<Role> {
        self.0.role
    }

    /// Whether the caller may touch some tenants only.
    pub fn is_bound(&self) -> bool {
        self.0.tenants.is_some()
    }

    /// Whether the caller may touch a tenant.
    ///
    /// # Errors
    ///
    /// TENANT_DENIED, whether or not the tenant exists.
    pub fn may_touch(&self, tenant: &TenantId) -> Result<(), Refusal> {
        self.touches(tenant.as_str())
    }

    /// Whether the caller may touch what a resource name names: `tenants/acme` or anything below.
    /// What is not such a name, `tenants/-` included, is nothing that a bound caller may touch.
    ///
    /// # Errors
    ///
    /// TENANT_DENIED, whether or not the resource exists.
    pub fn may_touch_named(&self, name: &str) -> Result<(), Refusal> {
        let below = name.strip_prefix("tenants/").unwrap_or_default();
        self.touches(below.split('/').next().unwrap_or_default())
    }

    /// The only environment that it reaches; none: both.
    pub fn environment(&self) -> Option<Environment> {
        self.0.environment
    }

    /// Whether the caller may touch what belongs to an environment (none: to both).
    ///
    /// # Errors
    ///
    /// ENVIRONMENT_DENIED.
    pub fn may_use(&self, environment: Option<Environment>) -> Result<(), Refusal> {
        match self.0.environment {
            None => Ok(()),
            Some(own) if environment == Some(own) => Ok(()),
            Some(own) => {
                let text = format!("the credential is for {own} only, and the call is not");
                Err(Refusal::new(Reason::EnvironmentDenied, text))
            }
        }
    }

    /// Whether the caller reaches as far as a credential for these tenants (none: all).
    pub fn reaches(&self, tenants: Option<&BTreeSet<TenantId>>) -> bool {
        match (&self.0.tenants, tenants) {
            (None, _) => true,
            (Some(own), Some(tenants)) => tenants.is_subset(own),
            (Some(_), None) => false,
        }
    }

    /// Whether the caller may publish events of a type.
    ///
    /// # Errors
    ///
    /// EVENT_TYPE_DENIED where its API key is for others only.
    pub fn may_publish(&self, event_type: &EventTypeId) -> Result<(), Refusal> {
        let Some(key) = &self.0.key else { return Ok(()) };
        let types = &key.event_types;
        if types.is_empty() || types.iter().any(|pattern| pattern.matches(event_type)) {
            return Ok(());
        }
        let text = format!("event_types of {} do not include {event_type}", self.0.actor);
        Err(Refusal::new(Reason::EventTypeDenied, text))
    }

    /// Counts a call against the limits of the caller's API key.
    ///
    /// # Errors
    ///
    /// RATE_LIMITED, with the name of the limit and when there is room again.
    pub(crate) fn count_call(&self) -> Result<(), Refusal> {
        let Some(key) = &self.0.key else { return Ok(()) };
        let limit = key.limits.calls_per_second;
        let taken = key.rates.calls.take(limit, 1);
        taken.map_err(|wait| self.limited("calls_per_second", limit, wait))
    }

    /// Counts an event, with data of so many bytes, against the limits of the caller's API key. What
    /// goes beyond a limit of bytes is paid off before the next event.
    ///
    /// # Errors
    ///
    /// RATE_LIMITED, with the name of the limit and when there is room again.
    pub fn count_event(&self, bytes: usize) -> Result<(), Refusal> {
        let Some(key) = &self.0.key else { return Ok(()) };
        let limits = key.limits;
        let taken = key.rates.events.take(limits.events_per_second, 1);
        taken.map_err(|wait| self.limited("events_per_second", limits.events_per_second, wait))?;
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let taken = key.rates.bytes.take(limits.bytes_per_second, bytes);
        taken.map_err(|wait| self.limited("bytes_per_second", limits.bytes_per_second, wait))
    }

    fn limited(&self, limit: &str, is: u32, wait: Duration) -> Refusal {
        let text = format!("limits.{limit} of {} is {is}, in each process", self.0.actor);
        Refusal::new(Reason::RateLimited, text).retry_after(wait)
    }

    fn touches(&self, tenant: &str) -> Result<(), Refusal> {
        match &self.0.tenants {
            None => Ok(()),
            Some(tenants) if tenants.contains(tenant) => Ok(()),
            Some(_) => Err(tenant_denied()),
        }
    }
}

/// The refusal of a call about other tenants than the caller's.
pub(crate) fn tenant_denied() -> Refusal {
    let text = "the credential is for some tenants only, and the call is not about one of them";
    Refusal::new(Reason::TenantDenied, text)
}

#[cfg(test)]
mod tests;
