//! Which tenants a request is about, held against its caller before its handler runs.
//!
//! A credential may be for some tenants only. Every request message says here which resources it
//! names, all of them, and `service!` asks about each; a message that does not say so is none that
//! a service can be made of. The answer is given before anything is looked up, so it tells nothing
//! of what exists. Requests about no tenant in particular are for the layer to deny, by its table
//! ([`pregon_rpc::access`]).

use pregon_core::error::Refusal;
use pregon_proto::v1;
use pregon_rpc::caller::Caller;

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

/// A request message that says what it is about.
pub(crate) trait Reaches {
    /// The names in it.
    fn reach(&self) -> Reach<'_>;
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

/// Requests with one name, in this field.
macro_rules! named {
    ($($field:ident: $($request:ident)+;)*) => {$($(
        impl Reaches for v1::$request {
            fn reach(&self) -> Reach<'_> {
                Reach::Names(vec![&self.$field])
            }
        }
    )+)*};
}

/// Updates, whose resource has the name.
macro_rules! updates {
    ($($request:ident: $resource:ident;)*) => {$(
        impl Reaches for v1::$request {
            fn reach(&self) -> Reach<'_> {
                Reach::Names(vec![self.$resource.as_ref().map_or("", |it| it.name.as_str())])
            }
        }
    )*};
}

/// Requests about no tenant.
macro_rules! of_no_tenant {
    ($($request:ident)+) => {$(
        impl Reaches for v1::$request {
            fn reach(&self) -> Reach<'_> {
                Reach::NoTenant
            }
        }
    )+};
}

/// A name that has to be there, and some that need not.
fn names<'a>(first: &'a str, others: &[&'a str]) -> Reach<'a> {
    let others = others.iter().copied().filter(|name| !name.is_empty());
    Reach::Names(std::iter::once(first).chain(others).collect())
}

named! {
    name:
        GetTenantRequest DeleteTenantRequest
        GetSubscriptionRequest DeleteSubscriptionRequest PauseSubscriptionRequest
        ResumeSubscriptionRequest DisableSubscriptionRequest
        ApproveSubscriptionRequest RejectSubscriptionRequest VerifySubscriptionRequest
        TestSubscriptionRequest
        GetCallbackRequest DeleteCallbackRequest PauseCallbackRequest ResumeCallbackRequest
        GetSecretRequest DeleteSecretRequest RevokeSecretRequest RevealSecretRequest
        GetSubscriptionHealthRequest ExplainEventRequest
        GetEventRequest GetDeliveryRequest GetAttemptRequest
        ReplayDeliveryRequest CancelDeliveryRequest;
    tenant: CreatePortalTokenRequest;
    parent:
        CreateSubscriptionRequest ListSubscriptionsRequest
        CreateSecretRequest ListSecretsRequest RotateSecretRequest GetJwksRequest
        CreateCallbackRequest ListCallbacksRequest
        ListEventsRequest ListAttemptsRequest GetReconciliationReportRequest;
}

updates! {
    UpdateTenantRequest: tenant;
    UpdateSubscriptionRequest: subscription;
    UpdateCallbackRequest: callback;
}

// Whose tenants a key may be for is held against the caller where it is known.
of_no_tenant! {
    CreateApiKeyRequest GetApiKeyRequest ListApiKeysRequest RotateApiKeyRequest
    RevokeApiKeyRequest
    ListTenantsRequest
    CreateEventTypeRequest GetEventTypeRequest ListEventTypesRequest UpdateEventTypeRequest
    DeleteEventTypeRequest ImportEventTypesRequest
    CreateContractRequest GetContractRequest ListContractsRequest UpdateContractRequest
    DeleteContractRequest
    GetNodeRequest ListNodesRequest WaitForRevisionRequest WatchConfigurationRequest
    ListEgressAddressesRequest
}

impl Reaches for v1::ListAuditEntriesRequest {
    /// Without a tenant, its handler leaves out what the caller may not see.
    fn reach(&self) -> Reach<'_> {
        match self.tenant.as_str() {
            "" => Reach::NoTenant,
            tenant => Reach::Names(vec![tenant]),
        }
    }
}

impl Reaches for v1::ListDeliveriesRequest {
    fn reach(&self) -> Reach<'_> {
        names(&self.parent, &[&self.event, &self.subscription])
    }
}

impl Reaches for v1::WatchDeliveriesRequest {
    fn reach(&self) -> Reach<'_> {
        names(&self.parent, &[&self.subscription])
    }
}

impl Reaches for v1::ReplayDeliveriesRequest {
    fn reach(&self) -> Reach<'_> {
        names(&self.parent, &[&self.subscription])
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
}
