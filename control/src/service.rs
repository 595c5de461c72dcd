//! Between tonic and the handlers: messages in and out of their envelopes, refusals to statuses.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pregon_core::error::{Reason, Refusal};
use pregon_core::event::Environment;
use pregon_core::model::Tenant;
use pregon_rpc::access::{API, Who};
use pregon_rpc::audit::Origin;
use pregon_rpc::caller::{Caller, Role};
use pregon_rpc::status::status;

use crate::Control;
use crate::reach::{self, Reaches};

/// Declares a service's handle and its tonic trait. Each method is a method of
/// [`Control`](crate::Control) of the same name, from request to `Result<response, Refusal>`; one
/// with `by caller` is told who calls as well. Before it, the caller is held against the tenants
/// that the request names ([`crate::reach`]). What stands in `with` goes into the trait's impl as
/// it is; it begins with [`enter`] likewise.
macro_rules! service {
    (
        $(#[$doc:meta])* $name:ident: $service:ident {
            $($method:ident($request:ident $(by $caller:ident)?) -> $response:ident;)*
        }
        $(with { $($extra:tt)* })?
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name(std::sync::Arc<crate::Control>);

        impl $name {
            /// The service of this control plane.
            pub fn new(control: std::sync::Arc<crate::Control>) -> Self {
                Self(control)
            }
        }

        #[tonic::async_trait]
        impl $service for $name {
            $(
                async fn $method(
                    &self,
                    request: tonic::Request<pregon_proto::v1::$request>,
                ) -> Result<tonic::Response<pregon_proto::v1::$response>, tonic::Status> {
                    let method = (stringify!($service), stringify!($request));
                    let (_call, request) =
                        crate::service::enter(&self.0, request, method).await?;
                    let call = std::sync::Arc::clone(&_call);
                    let handled =
                        self.0.$method(request $(, { let $caller = &_call.caller; $caller })?);
                    let answer = crate::service::CALL.scope(call, handled).await;
                    answer.map(tonic::Response::new).map_err(pregon_rpc::status::status)
                }
            )*
            $($($extra)*)?
        }
    };
}
pub(crate) use service;

tokio::task_local! {
    /// The call that is being handled: what it does is noted as its caller's, and no handler can
    /// forget to say so.
    pub(crate) static CALL: Arc<Call>;
}

/// A call, as far as what it does is told by it.
#[derive(Debug)]
pub(crate) struct Call {
    /// Who makes it.
    pub(crate) caller: Caller,
    /// Where it came from.
    pub(crate) origin: Origin,
    /// The caller's `request_id`, once it was read.
    pub(crate) request_id: OnceLock<String>,
    service: &'static str,
    request: &'static str,
}

impl Call {
    /// Its method, as in `pregon.v1.TenantService/CreateTenant`.
    pub(crate) fn method(&self) -> String {
        let method = self.request.strip_suffix("Request").unwrap_or(self.request);
        format!("pregon.v1.{}/{method}", self.service)
    }
}

/// The call that is being handled; none where the work is no call of anybody's.
pub(crate) fn current() -> Option<Arc<Call>> {
    CALL.try_with(Arc::clone).ok()
}

/// Who makes the call that is being handled.
pub(crate) fn actor() -> String {
    CALL.try_with(|call| call.caller.actor().to_string()).unwrap_or_default()
}

/// The only environment that whoever makes it reaches; none: both.
pub(crate) fn environment() -> Option<Environment> {
    CALL.try_with(|call| call.caller.environment()).ok().flatten()
}

/// Takes a request of a service (its name, and that of the message) out of its envelope, with its
/// call, whose caller may touch what it names.
pub(crate) async fn enter<T: Reaches>(
    control: &Control,
    request: tonic::Request<T>,
    method: (&'static str, &'static str),
) -> Result<(Arc<Call>, T), tonic::Status> {
    let (call, request) = opened(request, method).map_err(status)?;
    takes(control, &call).map_err(status)?;
    standing(control, &call).await.map_err(status)?;
    reach::check_environment(control, &call.caller, &request).await.map_err(status)?;
    Ok((call, request))
}

fn opened<T: Reaches>(
    request: tonic::Request<T>,
    (service, message): (&'static str, &'static str),
) -> Result<(Arc<Call>, T), Refusal> {
    let (caller, origin) = (Caller::of(&request)?, Origin::of(&request));
    let request_id = OnceLock::new();
    let call = Call { caller, origin, request_id, service, request: message };
    let request = request.into_inner();
    if let Some(name) = request.reach().first() {
        call.origin.about(&name);
    }
    reach::check(&call.caller, &request)?;
    Ok((Arc::new(call), request))
}

/// Whether the control plane may do what a call asks for: without a master key that the store needs, or
/// one that all processes have, it only reads.
///
/// # Errors
///
/// NOT_READY, which names the keys.
fn takes(control: &Control, call: &Call) -> Result<(), Refusal> {
    let held = Arc::clone(&control.keys.borrow());
    let fault = match call.caller.is_bound() {
        // How much there is, and which processes, is nothing for a tenant.
        true => held.brief(),
        false => held.fault(),
    };
    let Some(fault) = fault else { return Ok(()) };
    let (path, wait) = (format!("/{}", call.method()), Duration::from_secs(1));
    let access = API.iter().find(|(listed, _)| *listed == path).map(|(_, access)| access.who);
    match access {
        Some(Who::Everyone | Who::Known | Who::Role(Role::Viewer | Role::Auditor)) => Ok(()),
        Some(Who::Role(Role::Admin | Role::Operator | Role::TenantManager | Role::Publisher))
        | None => Err(Refusal::new(Reason::NotReady, fault).retry_after(wait)),
    }
}

/// Whether the tenant of a caller with a portal token is still the one that it was made for.
///
/// # Errors
///
/// CREDENTIAL_REVOKED where it was deleted, whether or not there is another of its id.
pub(crate) async fn standing(control: &Control, call: &Call) -> Result<(), Refusal> {
    let Some((tenant, since)) = call.caller.portal() else { return Ok(()) };
    let found = control.find::<Tenant>(&tenant.name()).await?;
    match found.is_some_and(|it| it.value.common.create_time == since) {
        true => Ok(()),
        false => {
            let text = "the tenant that the portal token is for was deleted";
            Err(Refusal::new(Reason::CredentialRevoked, text))
        }
    }
}

/// The refusal of work that the end of the server cuts short.
pub(crate) fn draining() -> Refusal {
    let wait = Duration::from_secs(1);
    Refusal::new(Reason::Draining, "the server is going down; call again").retry_after(wait)
}
