//! The one layer that every call passes, outside of its handler.
//!
//! In order: the call is counted, and shed when too many are under way; its caller is
//! authenticated and held against the method's access ([`auth`](crate::auth)), and what is not let
//! through reaches no handler; its deadline is fixed; the handler runs, and a panic in it is this
//! call's INTERNAL and nobody else's; what the transport could not decode is the caller's fault and
//! said so; the answer gets the revision; a failure is logged by method, caller and code; every call
//! is counted and timed, and has its span where its trace is recorded ([`told`]). Nothing here looks
//! at a message.

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Frame, SizeHint};
use pregon_core::error::{Reason, Refusal, Rule, Violation};
use pregon_telemetry::Telemetry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::auth::{Guard, Lapse};
use crate::caller::ANONYMOUS;
use crate::method::{Kind, Methods};
use crate::revision::{self, Revision};
use crate::status::status;
use told::Told;

mod told;

pub use told::{current_trace, within};

/// Probes are answered however busy the server is: an orchestrator would take a server that sheds
/// load for a dead one.
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// A method that no descriptor has: the caller's own word for it stays out of the log.
const UNKNOWN: &str = "unknown";

/// When a caller that was shed should come back.
const SHED_WAIT: Duration = Duration::from_secs(1);

/// The moment at which a call is answered for its handler. A handler that waits can look at it and
/// give a better answer before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline of a request; `None` within streams.
    pub fn of<T>(request: &tonic::Request<T>) -> Option<Instant> {
        request.extensions().get::<Deadline>().map(|deadline| deadline.0)
    }
}

/// Makes the layer around a server's routes.
#[derive(Clone, Debug)]
pub(crate) struct CallLayer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    methods: Methods,
    guard: Guard,
    revision: Revision,
    calls: Arc<Semaphore>,
    calls_max: usize,
    telemetry: Telemetry,
}

impl CallLayer {
    /// A layer for these methods that lets `calls_max` calls be under way at once, of callers that
    /// the guard lets through.
    pub(crate) fn new(
        methods: Methods,
        guard: Guard,
        revision: Revision,
        calls_max: usize,
        telemetry: Telemetry,
    ) -> Self {
        let calls = Arc::new(Semaphore::new(calls_max));
        Self(Arc::new(Shared { methods, guard, revision, calls, calls_max, telemetry }))
    }
}

impl<S> Layer<S> for CallLayer {
    type Service = CallService<S>;

    fn layer(&self, inner: S) -> CallService<S> {
        CallService { inner, shared: Arc::clone(&self.0) }
    }
}

/// See [`CallLayer`].
#[derive(Clone, Debug)]
pub(crate) struct CallService<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Service<Request<Body>> for CallService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The service that was polled ready is the one to call; its clone is not ready yet.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let mut call = Call::begin(&self.shared, &request);
        if let Err(refused) = call.count().and_then(|()| call.admit(&mut request)) {
            return Box::pin(std::future::ready(Ok(call.refuse(refused))));
        }
        if let Some((_, at)) = call.deadline {
            request.extensions_mut().insert(Deadline(at));
        }
        let trace = call.told.trace();
        Box::pin(async move {
            let handler = told::within(trace, async move { inner.call(request).await });
            let handler = CatchPanic(Box::pin(handler));
            let answer = match call.deadline {
                None => handler.await,
                Some((time, at)) => match timeout_at(at, handler).await {
                    Ok(answer) => answer,
                    Err(_) => return Ok(call.refuse(out_of_time(time))),
                },
            };
            match answer {
                Ok(response) => Ok(call.answer(response?)),
                Err(Panicked) => Ok(call.refuse(call.panicked())),
            }
        })
    }
}

/// One call: what is to be said about it at its end.
struct Call {
    shared: Arc<Shared>,
    path: Option<Arc<str>>,
    kind: Kind,
    actor: Option<Arc<str>>,
    lapse: Option<Lapse>,
    deadline: Option<(Duration, Instant)>,
    permit: Option<OwnedSemaphorePermit>,
    told: Told,
}

impl Call {
    fn begin(shared: &Arc<Shared>, request: &Request<Body>) -> Self {
        let started = Instant::now();
        let method = shared.methods.get(request.uri().path());
        let kind = method.map_or(Kind::Unary, |(_, kind)| *kind);
        let path = method.map(|(path, _)| Arc::clone(path));
        Self {
            told: Told::begin(&shared.telemetry, path.as_ref(), request.headers(), started),
            path,
            kind,
            actor: None,
            lapse: None,
            deadline: kind.time(request.headers()).map(|time| (time, started + time)),
            permit: None,
            shared: Arc::clone(shared),
        }
    }

    fn method(&self) -> &str {
        self.path.as_deref().unwrap_or(UNKNOWN)
    }

    fn count(&mut self) -> Result<(), Status> {
        if self.method() == HEALTH_CHECK {
            return Ok(());
        }
        match Arc::clone(&self.shared.calls).try_acquire_owned() {
            Ok(permit) => {
                self.permit = Some(permit);
                Ok(())
            }
            Err(_) => Err(status(
                Refusal::new(
                    Reason::LoadShed,
                    format!("the server has {} calls under way", self.shared.calls_max),
                )
                .retry_after(SHED_WAIT),
            )),
        }
    }

    /// Lets the call through to its handler, which learns who calls.
    fn admit(&mut self, request: &mut Request<Body>) -> Result<(), Status> {
        let guard = &self.shared.guard;
        let admitted = guard.admit(self.path.as_deref(), request.headers_mut()).map_err(status)?;
        self.actor = Some(Arc::clone(admitted.caller.actor()));
        if self.kind == Kind::Stream {
            self.lapse = guard.lapse(&admitted);
        }
        request.extensions_mut().insert(admitted.caller);
        Ok(())
    }

    fn panicked(&self) -> Status {
        tracing::error!(method = self.method(), "a handler panicked");
        status(Refusal::new(Reason::Internal, "a fault of the server; its log has more"))
    }

    /// Answers in the handler's place.
    fn refuse(&mut self, status: Status) -> Response<Body> {
        self.end(status.code());
        let mut response = status.into_http();
        self.add_revision(response.headers_mut());
        response
    }

    /// Passes the handler's answer on.
    fn answer(mut self, mut response: Response<Body>) -> Response<Body> {
        if let Some(refused) = undecodable(response.headers()) {
            return self.refuse(refused);
        }
        let failed = code(response.headers());
        if let Some(code) = failed {
            self.end(code);
        }
        self.add_revision(response.headers_mut());
        match self.kind {
            Kind::Unary | Kind::Wait => {
                if failed.is_none() {
                    self.end(Code::Ok);
                }
                response
            }
            Kind::Stream => response
                .map(|inner| Body::new(StreamBody { inner, call: self, state: State::Open })),
        }
    }

    fn add_revision(&self, headers: &mut HeaderMap) {
        if let Some(revision) = self.shared.revision.get() {
            headers.insert(revision::HEADER, HeaderValue::from(revision));
        }
    }

    /// The call is over; only the first time counts.
    fn end(&mut self, code: Code) {
        let actor = self.actor.as_deref().unwrap_or(ANONYMOUS);
        self.told.end(code, actor);
    }
}

/// How a call ended, if these headers or trailers say it.
fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get(Status::GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()))
}

fn out_of_time(time: Duration) -> Status {
    Status::deadline_exceeded(format!(
        "no answer within {} ms; what has committed stays committed: repeat with the same id or \
         request_id",
        time.as_millis()
    ))
}

/// What to say of a request whose bytes are no message, if that is what these headers or trailers
/// say. The transport calls it INTERNAL, as if the fault were ours; it is the only one who answers
/// that without details.
fn undecodable(headers: &HeaderMap) -> Option<Status> {
    let said = Status::from_header_map(headers)?;
    if said.code() != Code::Internal || !said.details().is_empty() {
        return None;
    }
    let text = format!("the request cannot be decoded: {}", said.message());
    let mut refusal = Refusal::new(Reason::FieldsInvalid, text.clone());
    // Of no field in particular: the message as a whole.
    let whole = Violation { field: String::new(), rule: Rule::Malformed, description: text };
    refusal.violations.push(whole);
    Some(status(refusal))
}

fn as_trailers(status: Status) -> HeaderMap {
    let mut headers = status.into_http::<()>().into_parts().0.headers;
    headers.remove(http::header::CONTENT_TYPE);
    headers
}

/// A handler that panicked.
struct Panicked;

/// Turns a panic in a future into its output. The future is not polled again after one.
struct CatchPanic<F>(Pin<Box<F>>);

impl<F: Future> Future for CatchPanic<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    }
}

/// A stream's answer: the call is under way until it ends.
struct StreamBody {
    inner: Body,
    call: Call,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Ended,
}

impl StreamBody {
    /// Ends the stream in its handler's place.
    fn end(&mut self, status: Status) -> Frame<Bytes> {
        self.state = State::Ended;
        self.call.end(status.code());
        Frame::trailers(as_trailers(status))
    }

    /// Passes a frame on; the last one says how the call ended.
    fn pass(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match frame.into_trailers() {
            Err(data) => data,
            Ok(trailers) => {
                let trailers = undecodable(&trailers).map_or(trailers, as_trailers);
                if let Some(code) = code(&trailers) {
                    self.call.end(code);
                }
                Frame::trailers(trailers)
            }
        }
    }
}

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.state == State::Ended {
            return Poll::Ready(None);
        }
        if let Some(lapse) = &mut self.call.lapse
            && let Poll::Ready(lapsed) = lapse.as_mut().poll(cx)
        {
            return Poll::Ready(Some(Ok(self.end(status(lapsed)))));
        }
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut self.inner).poll_frame(cx)));
        let Ok(polled) = polled else {
            let status = self.call.panicked();
            return Poll::Ready(Some(Ok(self.end(status))));
        };
        match polled {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(self.pass(frame)))),
            Poll::Ready(None) => {
                self.state = State::Ended;
                self.call.end(Code::Ok);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(status))) => Poll::Ready(Some(Err(status))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_transport_is_spoken_for() {
        let headers = |status: Status| status.into_http::<()>().into_parts().0.headers;
        let theirs = headers(Status::internal("failed to decode: not UTF-8"));
        let refused = undecodable(&theirs).unwrap();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().ends_with("failed to decode: not UTF-8"));
        assert!(!refused.details().is_empty());

        let ours = headers(status(Refusal::new(Reason::Internal, "a fault of the server")));
        assert!(undecodable(&ours).is_none());
        assert!(undecodable(&headers(Status::not_found("nothing"))).is_none());
        assert!(undecodable(&HeaderMap::new()).is_none());
    }
}
