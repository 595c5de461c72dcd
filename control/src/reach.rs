//! Which tenants a request is about, held against its caller before its handler runs.
//!
//! A credential may be for some tenants only. Every request message says here which resources it
//! names, all of them, and `service!` asks about each; a message that does not say so is none that
//! a service can be made of. The answer is given before anything is looked up, so it tells nothing
//! of what exists. Requests about no tenant in particular are for the layer to deny, by its table
//! ([`pregon_rpc::access`]).
//!
//! A credential may be for one environment only. Every request message says how it tells
//! environments apart; what does not is refused to such a credential.

use pregon_core::error::Refusal;
use pregon_core::event::Environment;
use pregon_core::model::{Callback, Subscription};
use pregon_proto::v1;
use pregon_rpc::caller::Caller;

use crate::{Control, map};

/// What a request is about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reach<'a> {
    /// No tenant in particular: the layer has decided.
    NoTenant,
    /// The resources of these names, each a tenant or below one.
    Names(Vec<&'a str>),
    /// A tenant that is to be made, by its id.
    NewTenant(&'a str),
}

/// How a request tells environments apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Apart {
    /// It does not.
    Not,
    /// It makes something of this environment, as the wire says it: LIVE where it is not specified.
    Makes(i32),
    /// It lists those of this environment; where it is not specified, its handler leaves out what
    /// the caller may not see.
    Lists(i32),
    /// What its names stand for belongs to one, or to none.
    ByNames,
}

/// A request message that says what it is about.
pub(crate) trait Reaches {
    /// The names in it.
    fn reach(&self) -> Reach<'_>;

    /// How it tells environments apart.
    fn apart(&self) -> Apart;
}

/// Whether the caller may ask this.
pub(crate) fn check(caller: &Caller, request: &impl Reaches) -> Result<(), Refusal> {
    if !caller.is_bound() {
        return Ok(());
    }
    match request.reach() {
        Reach::NoTenant => Ok(()),
        Reach::Names(names) => names.into_iter().try_for_each(|name| caller.may_touch_named(name)),
        Reach::NewTenant(id) => caller.may_touch_named(&format!("tenants/{id}")),
    }
}

/// Whether the caller may ask this, as far as environments go.
///
/// # Errors
///
/// ENVIRONMENT_DENIED; what the store answers.
pub(crate) async fn check_environment(
    control: &Control,
    caller: &Caller,
    request: &impl Reaches,
) -> Result<(), Refusal> {
    if caller.environment().is_none() {
        return Ok(());
    }
    match request.apart() {
        Apart::Not => caller.may_use(None),
        Apart::Makes(given) => caller.may_use(environment(given).or(Some(Environment::Live))),
        Apart::Lists(given) => environment(given).map_or(Ok(()), |it| caller.may_use(Some(it))),
        Apart::ByNames => {
            let Reach::Names(names) = request.reach() else { return Ok(()) };
            let names = names.into_iter().map(str::to_owned).collect::<Vec<_>>();
            for name in names {
                if let Some(found) = control.environment_of(&name).await? {
                    caller.may_use(Some(found))?;
                }
            }
            Ok(())
        }
    }
}

fn environment(given: i32) -> Option<Environment> {
    v1::Environment::try_from(given).ok().and_then(map::from_environment)
}

impl Control {
    /// The environment of what a name stands for; none where there is no such thing, or where it
    /// belongs to both.
    async fn environment_of(&self, name: &str) -> Result<Option<Environment>, Refusal> {
        let parts: Vec<&str> = name.split('/').collect();
        let (Some(kind), Some(owner)) = (parts.get(2), parts.get(..4)) else { return Ok(None) };
        let owner = owner.join("/");
        match *kind {
            "subscriptions" => {
                let found = self.find::<Subscription>(&owner).await?;
                Ok(found.map(|it| it.value.environment))
            }
            "callbacks" => {
                let found = self.find::<Callback>(&owner).await?;
                Ok(found.map(|it| it.value.environment))
            }
            "events" | "deliveries" => self.environment_of_event(&owner).await,
            _ => Ok(None),
        }
    }
}

/// Requests with one name, in this field, and how they tell environments apart.
macro_rules! named {
    ($($field:ident, $apart:expr, $($request:ident)+;)*) => {$($(
        impl Reaches for v1::$request {
            fn reach(&self) -> Reach<'_> {
                Reach::Names(vec![&self.$field])
            }

            fn apart(&self) -> Apart {
                let apart: fn(&Self) -> Apart = $apart;
                apart(self)
            }
        }
    )+)*};
}

/// Updates, whose resource has the name.
macro_rules! updates {
    ($($request:ident: $resource:ident, $apart:ident;)*) => {$(
        impl Reaches for v1::$request {
            fn reach(&self) -> Reach<'_> {
                Reach::Names(vec![self.$resource.as_ref().map_or("", |it| it.name.as_str())])
            }

            fn apart(&self) -> Apart {
                Apart::$apart
            }
        }
    )*};
}

/// Requests about no tenant.
macro_rules! of_no_tenant {
    ($($apart:ident: $($request:ident)+;)*) => {$($(
        impl Reaches for v1::$request {
            fn reach(&self) -> Reach<'_> {
                Reach::NoTenant
            }

            fn apart(&self) -> Apart {
                Apart::$apart
            }
        }
    )+)*};
}

/// A name that has to be there, and some that need not.
fn names<'a>(first: &'a str, others: &[&'a str]) -> Reach<'a> {
    let others = others.iter().copied().filter(|name| !name.is_empty());
    Reach::Names(std::iter::once(first).chain(others).collect())
}

named! {
    name, |_| Apart::ByNames,
        GetTenantRequest
        GetSubscriptionRequest DeleteSubscriptionRequest PauseSubscriptionRequest
        ResumeSubscriptionRequest OpenLaneRequest DisableSubscriptionRequest
        ApproveSubscriptionRequest RejectSubscriptionRequest VerifySubscriptionRequest
        TestSubscriptionRequest
        GetCallbackRequest DeleteCallbackRequest PauseCallbackRequest ResumeCallbackRequest
        GetSecretRequest DeleteSecretRequest RevokeSecretRequest RevealSecretRequest
        GetSubscriptionHealthRequest ExplainEventRequest
        GetEventRequest GetDeliveryRequest GetAttemptRequest
        ReplayDeliveryRequest CancelDeliveryRequest CancelEventRequest EraseEventRequest;
    name, |_| Apart::Not, DeleteTenantRequest;
    tenant, |_| Apart::ByNames, CreatePortalTokenRequest;
    subscription, |_| Apart::ByNames, DeliverMissingRequest;
    parent, |_| Apart::ByNames,
        CreateSecretRequest ListSecretsRequest RotateSecretRequest GetJwksRequest
        ListAttemptsRequest;
    parent, |it| Apart::Makes(it.subscription.as_ref().map_or(0, |it| it.environment)),
        CreateSubscriptionRequest;
    parent, |it| Apart::Makes(it.callback.as_ref().map_or(0, |it| it.environment)),
        CreateCallbackRequest;
    parent, |it| Apart::Lists(it.environment),
        ListSubscriptionsRequest ListCallbacksRequest ListEventsRequest;
    parent, |_| Apart::Not, GetReconciliationReportRequest EraseEventsRequest;
}

updates! {
    UpdateTenantRequest: tenant, Not;
    UpdateSubscriptionRequest: subscription, ByNames;
    UpdateCallbackRequest: callback, ByNames;
}

// Whose tenants and environment a key may be for is held against the caller where it is known.
of_no_tenant! {
    ByNames:
        CreateApiKeyRequest GetApiKeyRequest ListApiKeysRequest RotateApiKeyRequest
        RevokeApiKeyRequest
        ListTenantsRequest GetEventTypeRequest ListEventTypesRequest
        GetContractRequest ListContractsRequest
        WaitForRevisionRequest ListEgressAddressesRequest;
    Not:
        CreateEventTypeRequest UpdateEventTypeRequest DeleteEventTypeRequest
        ImportEventTypesRequest
        CreateContractRequest UpdateContractRequest DeleteContractRequest
        GetNodeRequest ListNodesRequest WatchConfigurationRequest
        ListMasterKeysRequest ResealDocumentsRequest;
}

impl Reaches for v1::ListAuditEntriesRequest {
    /// Without a tenant, its handler leaves out what the caller may not see.
    fn reach(&self) -> Reach<'_> {
        match self.tenant.as_str() {
            "" => Reach::NoTenant,
            tenant => Reach::Names(vec![tenant]),
        }
    }

    fn apart(&self) -> Apart {
        Apart::Not
    }
}

impl Reaches for v1::ListDeliveriesRequest {
    fn reach(&self) -> Reach<'_> {
        names(&self.parent, &[&self.event, &self.subscription])
    }

    fn apart(&self) -> Apart {
        Apart::Lists(0)
    }
}

impl Reaches for v1::WatchDeliveriesRequest {
    fn reach(&self) -> Reach<'_> {
        names(&self.parent, &[&self.subscription])
    }

    fn apart(&self) -> Apart {
        Apart::Lists(0)
    }
}

impl Reaches for v1::ReplayDeliveriesRequest {
    fn reach(&self) -> Reach<'_> {
        names(&self.parent, &[&self.subscription])
    }

    fn apart(&self) -> Apart {
        // One lane has one environment.
        if self.subscription.is_empty() { Apart::Not } else { Apart::ByNames }
    }
}

impl Reaches for v1::RetryNowRequest {
    fn reach(&self) -> Reach<'_> {
        names(&self.parent, &[&self.delivery, &self.subscription])
    }

    fn apart(&self) -> Apart {
        // One lane has one environment.
        let named = !self.delivery.is_empty() || !self.subscription.is_empty();
        if named { Apart::ByNames } else { Apart::Not }
    }
}

impl Reaches for v1::PreviewDeliveryRequest {
    fn reach(&self) -> Reach<'_> {
        match &self.source {
            Some(v1::preview_delivery_request::Source::StoredEvent(event)) => {
                names(&self.name, &[event])
            }
            Some(v1::preview_delivery_request::Source::Event(_)) | None => names(&self.name, &[]),
        }
    }

    fn apart(&self) -> Apart {
        Apart::ByNames
    }
}

impl Reach<'_> {
    /// The first name in it, where there is one.
    pub(crate) fn first(&self) -> Option<String> {
        match self {
            Reach::NoTenant => None,
            Reach::Names(names) => names.first().map(|name| (*name).to_owned()),
            Reach::NewTenant(id) => Some(format!("tenants/{id}")),
        }
    }
}

impl Reaches for v1::CreateTenantRequest {
    fn reach(&self) -> Reach<'_> {
        Reach::NewTenant(&self.tenant_id)
    }

    fn apart(&self) -> Apart {
        Apart::Not
    }
}
