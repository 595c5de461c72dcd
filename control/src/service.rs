//! Between tonic and the handlers: messages in and out of their envelopes, refusals to statuses.

/// Declares a service's handle and its tonic trait. Each method is a method of
/// [`Control`](crate::Control) of the same name, from request to `Result<response, Refusal>`; what
/// stands in `with` goes into the trait's impl as it is.
macro_rules! service {
    (
        $(#[$doc:meta])* $name:ident: $service:ident {
            $($method:ident($request:ident) -> $response:ident;)*
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
                    let answer = self.0.$method(request.into_inner()).await;
                    answer.map(tonic::Response::new).map_err(pregon_rpc::status::status)
                }
            )*
            $($($extra)*)?
        }
    };
}
pub(crate) use service;
