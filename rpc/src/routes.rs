//! Services by their names: which of them a call is for.
//!
//! A path is `/package.Service/Method`, so one look by the service's name is all there is to
//! routing. Nothing is laid around a service here: what every call passes is the
//! [`call`](crate::call) layer.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;

/// What a service makes of a request.
pub(crate) type Answer = BoxFuture<Response<Body>, Infallible>;

/// A service, as the routes have it: shared, and always ready.
type Served = Arc<dyn Fn(Request<Body>) -> Answer + Send + Sync>;

/// All services of a server. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Routes(Arc<HashMap<&'static str, Served>>);

impl Routes {
    /// Adds a service; one of the same name gives way to it.
    pub(crate) fn add_service<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future = Answer>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
    {
        // Services that are made of a description keep no count of calls: they are always ready.
        let served = move |request| service.clone().call(request);
        Arc::make_mut(&mut self.0).insert(S::NAME, Arc::new(served));
        self
    }

    /// The service that a path names.
    fn of(&self, path: &str) -> Option<&Served> {
        let (service, _) = path.strip_prefix('/')?.split_once('/')?;
        self.0.get(service)
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Service<Request<Body>> for Routes {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        match self.of(request.uri().path()) {
            Some(served) => served(request),
            // The layer has refused what is not served here; this is for who asks past it.
            None => Box::pin(std::future::ready(Ok(Status::unimplemented("").into_http()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic_health::pb::health_server::HealthServer;

    use super::*;

    async fn code(routes: &mut Routes, path: &str) -> Option<String> {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let answer = routes.call(request).await.unwrap();
        let code = answer.headers().get(Status::GRPC_STATUS)?;
        Some(code.to_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn a_path_leads_to_its_service() {
        let (_, health) = tonic_health::server::health_reporter();
        let _: &HealthServer<_> = &health;
        let mut routes = Routes::default().add_service(health);
        // What has no message is answered by the service itself.
        assert_ne!(code(&mut routes, "/grpc.health.v1.Health/Check").await.as_deref(), Some("12"));
        for path in ["/grpc.health.v1.Health", "/grpc.health.v1/Check", "/x/Check", "/"] {
            assert_eq!(code(&mut routes, path).await.as_deref(), Some("12"), "{path}");
        }
    }
}
