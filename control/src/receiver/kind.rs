//! What the two kinds of receivers share, field by field, and what each has of its own.

use std::collections::HashMap;
use std::fmt::Display;

use pregon_core::clock::Timestamp;
use pregon_core::contract::Contract;
use pregon_core::error::{Refusal, Rule, Violations, Wrong};
use pregon_core::event::Environment;
use pregon_core::id::{
    CallbackId, CallbackName, ContractId, LaneNo, PoolName, SignerName, SubscriptionId,
    SubscriptionName, TenantId,
};
use pregon_core::model::{
    Auth, Callback, Common, OwnHeaders, StateChange, Subscription, TenantLimits, Trust,
};
use pregon_proto::v1;
use pregon_rpc::caller::Caller;

use super::endpoint::{Endpoint, Identity, shown_auth};
use super::headers::shown_headers;
use crate::catalog::{Kind, Stored};
use crate::commit::{Answer, Plan};
use crate::family::Children;
use crate::mask::Mask;
use crate::{etag, map};

/// The fields that a receiver of either kind is stored with, to be changed.
pub(crate) struct Parts<'a> {
    pub common: &'a mut Common,
    pub url: &'a mut String,
    pub environment: &'a mut Environment,
    pub contract: &'a mut ContractId,
    pub headers: &'a mut OwnHeaders,
    pub auth: &'a mut Auth,
    pub trust: &'a mut Trust,
    pub max_concurrency: &'a mut u32,
    pub state_change: &'a mut Option<StateChange>,
}

/// The fields that a request gives of a receiver of either kind, as they came.
pub(crate) struct Given<'a> {
    pub name: &'a str,
    pub display_name: &'a str,
    pub labels: &'a HashMap<String, String>,
    pub etag: &'a str,
    pub url: &'a str,
    pub environment: i32,
    pub contract: &'a str,
    pub headers: &'a [v1::Header],
    pub auth: Option<&'a v1::Auth>,
    pub max_concurrency: i32,
}

/// A stored receiver, by the fields that both kinds have.
pub(crate) trait Shared: Kind + Clone + Sync {
    /// How the API says it.
    type Wire: Send + Sync;
    /// Its resource name.
    type Name: Clone + Display + Into<SignerName> + Send + Sync;

    /// Parses a resource name.
    fn parse_name(name: &str) -> Result<Self::Name, Wrong>;
    /// The resource name of a new one, whose id is parsed.
    fn new_name(tenant: Option<TenantId>, id: &str, wrong: &mut Violations) -> Option<Self::Name>;
    /// The tenant of a name.
    fn tenant(name: &Self::Name) -> &TenantId;

    /// Its resource name.
    fn name(&self) -> Self::Name;
    /// What every resource has.
    fn common(&self) -> &Common;
    /// Its environment.
    fn environment(&self) -> Environment;
    /// Its contract.
    fn contract(&self) -> &ContractId;
    /// What its contract has a say in.
    fn endpoint(&self) -> Endpoint<'_>;
    /// All fields of both kinds, to be changed.
    fn parts(&mut self) -> Parts<'_>;

    /// What a request gives of those fields.
    fn given(wire: &Self::Wire) -> Given<'_>;
    /// How the API shows them; the kind's own are left empty.
    fn show_shared(stored: &Stored<Self>, secrets_live: u32) -> Self::Wire;
}

macro_rules! shared {
    ($($kind:ident: $id:ident, $name:ident.$part:ident, $change:ident;)*) => {$(
        impl Shared for $kind {
            type Wire = v1::$kind;
            type Name = $name;

            fn parse_name(name: &str) -> Result<$name, Wrong> {
                $name::parse(name)
            }

            fn new_name(
                tenant: Option<TenantId>,
                id: &str,
                wrong: &mut Violations,
            ) -> Option<$name> {
                let id = wrong.check(format!("{}_id", Self::WORD), $id::parse(id));
                Some($name { tenant: tenant?, $part: id? })
            }

            fn tenant(name: &$name) -> &TenantId {
                &name.tenant
            }

            fn name(&self) -> $name {
                $kind::name(self)
            }

            fn common(&self) -> &Common {
                &self.common
            }

            fn environment(&self) -> Environment {
                self.environment
            }

            fn contract(&self) -> &ContractId {
                &self.contract
            }

            fn endpoint(&self) -> Endpoint<'_> {
                let identity = Some(Identity::of(&self.auth, &self.trust));
                let headers = self.headers.iter().map(|(name, _)| name.as_str()).collect();
                Endpoint { url: Some(&self.url), headers: Some(headers), identity }
            }

            fn parts(&mut self) -> Parts<'_> {
                Parts {
                    common: &mut self.common,
                    url: &mut self.url,
                    environment: &mut self.environment,
                    contract: &mut self.contract,
                    headers: &mut self.headers,
                    auth: &mut self.auth,
                    trust: &mut self.trust,
                    max_concurrency: &mut self.max_concurrency,
                    state_change: &mut self.state_change,
                }
            }

            fn given(wire: &v1::$kind) -> Given<'_> {
                Given {
                    name: &wire.name,
                    display_name: &wire.display_name,
                    labels: &wire.labels,
                    etag: &wire.etag,
                    url: &wire.url,
                    environment: wire.environment,
                    contract: &wire.contract,
                    headers: &wire.headers,
                    auth: wire.auth.as_ref(),
                    max_concurrency: wire.max_concurrency,
                }
            }

            fn show_shared(stored: &Stored<Self>, secrets_live: u32) -> v1::$kind {
                let it = &stored.value;
                v1::$kind {
                    name: it.name().to_string(),
                    display_name: it.common.display_name.clone(),
                    labels: map::labels(&it.common.labels),
                    create_time: map::moment(it.common.create_time),
                    update_time: map::moment(it.common.update_time),
                    revision: stored.revision,
                    etag: etag::of(stored.revision),
                    url: it.url.clone(),
                    environment: map::environment(it.environment).into(),
                    contract: it.contract.name(),
                    headers: shown_headers(&it.headers),
                    auth: shown_auth(&it.auth, &it.trust),
                    max_concurrency: map::small(it.max_concurrency),
                    state_change: it.state_change.as_ref().map(|change| v1::$change {
                        time: map::moment(change.time),
                        actor: change.actor.clone(),
                        note: change.note.clone(),
                    }),
                    secrets_live: map::small(secrets_live),
                    ..Default::default()
                }
            }
        }
    )*};
}

shared! {
    Subscription: SubscriptionId, SubscriptionName.subscription, SubscriptionStateChange;
    Callback: CallbackId, CallbackName.callback, CallbackStateChange;
}

/// A move of a receiver's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// It is left alone until it is resumed.
    Pause,
    /// It goes on.
    Resume,
    /// It goes on although it asked to be left alone.
    Open,
    /// It is left alone, and what waits for it ends.
    Disable,
    /// An operator lets it in.
    Approve,
    /// An operator does not let it in.
    Reject,
}

/// A kind of receiver: what it has of its own. What only one kind has, the other is without.
pub(crate) trait Receiver: Shared {
    /// What an id begins with that is assigned.
    const ID_PREFIX: &'static str;
    /// The collection below a tenant that it lies in.
    const COLLECTION: &'static str;
    /// Collections that the names of its secrets run through.
    const SECRETS: &'static str;
    /// Whether what goes to it goes by a lane of its own.
    const LANE: bool = false;
    /// Its own fields that only the server sets.
    const OUTPUT_ONLY: &'static [&'static str] = &[];

    /// What a request says of its own fields: the chosen ones, parsed.
    type Own: Default + Send + Sync;
    /// What it does at present.
    type State: Copy + PartialEq + Display + Send + Sync;

    /// Its own fields that can be set at any time, with whether the request has set them.
    fn own_fields(given: &Self::Wire) -> Vec<(&'static str, bool)>;
    /// Parses its own fields.
    fn parse_own(given: &Self::Wire, mask: &Mask, wrong: &mut Violations) -> Self::Own;
    /// Changes its own fields.
    fn put_own(&mut self, own: &Self::Own);
    /// Shows its own fields.
    fn show_own(&self, wire: &mut Self::Wire);

    /// One that nothing was said of yet.
    fn blank(name: &Self::Name, contract: &Contract, lane: LaneNo, now: Timestamp) -> Self;
    /// Whether a creation says that it is paused from the start; notes what state it cannot have.
    fn created_paused(given: &Self::Wire, wrong: &mut Violations) -> Option<bool>;

    /// Pauses one that is being created, as nobody has done later.
    ///
    /// # Errors
    ///
    /// Where it would wait for something else under its contract: `state` is out of range.
    fn pause_from_the_start(&mut self, contract: &Contract, now: Timestamp) -> Result<(), Refusal> {
        match self.target(Move::Pause) {
            Some(paused) => {
                self.put_state(paused, "", now);
                Ok(())
            }
            None => {
                let what = if contract.approval() { "approval" } else { "verification" };
                let text = format!("{} asks for {what} first", contract.id().name());
                Err(Refusal::field(format!("{}.state", Self::WORD), Rule::OutOfRange, text))
            }
        }
    }

    /// How many of its kind there are among a tenant's children.
    fn count(children: &mut Children) -> &mut u32;
    /// How many of its kind a tenant may have.
    fn most(limits: &TenantLimits) -> u32;

    /// Adds to the plan that brings it into being what it has beside its document and its key.
    fn claim(&self, plan: Plan) -> Plan {
        plan
    }

    /// Why a contract is none for its kind; none: it is one.
    fn unfit(_contract: &Contract) -> Option<&'static str> {
        None
    }

    /// Notes what else of its kind does not go with its contract.
    fn check_own(&self, _contract: &Contract, _wrong: &mut Violations) {}

    /// The egress pool that a request names; none: it names none.
    fn pool_of(_own: &Self::Own) -> Option<&PoolName> {
        None
    }

    /// The egress pool that it names; none: it names none.
    fn pool(&self) -> Option<&PoolName> {
        None
    }

    /// Patterns of the event types that it wants.
    fn patterns(&self) -> &[String] {
        &[]
    }

    /// What it does at present.
    fn state(&self) -> Self::State;
    /// The state that a move leads to; none where it may not be made.
    fn target(&self, to: Move) -> Option<Self::State>;
    /// Puts it into a state, for a reason.
    fn put_state(&mut self, state: Self::State, reason: &str, now: Timestamp);

    /// Notes that its lane is opened now; only what has one can be.
    fn open(&mut self, _now: Timestamp) {}

    /// Why it is in that state.
    fn state_reason(&self) -> &str {
        ""
    }

    /// Moves it to the state in which an update leaves it. `before` is how it was.
    fn on_update(&mut self, _before: &Self, _under: &Contract, _caller: &Caller, _now: Timestamp) {}
}

/// A receiver as the API shows it; `secrets_live` is counted elsewhere.
pub(crate) fn to_wire<R: Receiver>(stored: &Stored<R>, secrets_live: u32) -> R::Wire {
    let mut wire = R::show_shared(stored, secrets_live);
    stored.value.show_own(&mut wire);
    wire
}

/// An answer to a write, which shows the receiver as it then is.
pub(crate) trait Shows<R: Receiver>: Answer {
    /// The answer; a kind that is never hinted at has no place for hints.
    fn of(shown: R::Wire, hints: Vec<String>) -> Self;
    /// Takes the receiver's name out.
    fn clear_name(&mut self);
}
