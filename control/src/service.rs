//! Between tonic and the handlers: messages in and out of their envelopes, refusals to statuses.

use std::sync::Arc;
use std::time::Duration;

use pregon_core::error::{Reason, Refusal};
use pregon_rpc::caller::Caller;

use crate::reach::{self, Reaches};

/// Declares a service's handle and its tonic trait. Each method is a method of
/// [`Control`](crate::Control) of the same name, from request to `Result<response, Refusal>`; one
/// with `by caller` is told who calls as well. Before it, the caller is held against the tenants
/// that the request names ([`crate::reach`]). What stands in `with` goes into the trait's impl as
/// it is; it begins with [`opened`] likewise.
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
                    let opened = crate::service::opened(request);
                    let (_caller, request) = opened.map_err(pregon_rpc::status::status)?;
                    let actor = std::sync::Arc::clone(_caller.actor());
                    let call =
                        self.0.$method(request $(, { let $caller = &_caller; $caller })?);
                    let answer = crate::service::ACTOR.scope(actor, call).await;
                    answer.map(tonic::Response::new).map_err(pregon_rpc::status::status)
                }
            )*
            $($($extra)*)?
        }
    };
}
pub(crate) use service;

tokio::task_local! {
    /// Who makes the call that is being handled: what it commits is noted as the caller's, and no
    /// handler can forget to say so.
    pub(crate) static ACTOR: Arc<str>;
}

/// Who makes the call that is being handled.
pub(crate) fn actor() -> String {
    ACTOR.try_with(ToString::to_string).unwrap_or_default()
}

/// Takes a request out of its envelope, with its caller, who may touch what it names.
pub(crate) fn opened<T: Reaches>(request: tonic::Request<T>) -> Result<(Caller, T), Refusal> {
    let caller = Caller::of(&request)?;
    let request = request.into_inner();
    reach::check(&caller, &request)?;
    Ok((caller, request))
}

/// The refusal of work that the end of the server cuts short.
pub(crate) fn draining() -> Refusal {
    let wait = Duration::from_secs(1);
    Refusal::new(Reason::Draining, "the server is going down; call again").retry_after(wait)
}
