//! The one layer that every call passes, outside of its handler.
//!
//! In order: its caller is authenticated and held against the method's access
//! ([`auth`](crate::auth)), and what is not let through, or is another server's, reaches no
//! handler; the call is counted, and shed when its caller has too many under way, or all have; its
//! deadline is fixed; room is taken for its answer ([`unsent`](crate::unsent)); the handler runs,
//! and a panic in it is this call's INTERNAL and nobody else's; what the transport could not decode
//! is the caller's fault and said so; the answer gets the revision; a failure is logged by method,
//! caller and code; every call is counted and timed, and has its span where its trace is recorded
//! ([`observation`]). Nothing here looks at a message.

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use http::{HeaderMap, HeaderValue, Request, Response};
use pregon_core::error::{Reason, Refusal};
use pregon_telemetry::Telemetry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::arriving::{Arriving, Kept};
use crate::audit::{Origin, Refusals, may_refuse};
use crate::auth::{Guard, Lapse};
use crate::caller::ANONYMOUS;
use crate::health::{self, Health};
use crate::method::{Kind, Methods};
use crate::revision::{self, Revision};
use crate::server::conn::{Peer, UnderWay};
use crate::server::limits::Limits;
use crate::share::{Share, Shares};
use crate::status::status;
use crate::unsent::{Room, Rooms, Size, Taking};
use body::{StreamBody, Whole};
use observation::Observation;
use unreadable::unreadable;

mod body;
mod observation;
mod unreadable;

pub use observation::{current_trace, within, word};

/// Probes are answered however busy the server is: an orchestrator would take a server that sheds
/// load for a dead one.
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// A method that no descriptor has: the caller's own word for it stays out of the log.
const UNKNOWN: &str = "unknown";

/// When a caller of a process that is not ready should come back.
const NOT_READY_WAIT: Duration = Duration::from_secs(1);
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
    shares: Shares,
    rooms: Rooms,
    arriving: Room,
    telemetry: Telemetry,
    refusals: Option<Refusals>,
    here: Here,
}

/// What a server serves, and where its callers find the rest of the API.
#[derive(Debug)]
pub(crate) struct Here {
    /// The services, by full name.
    pub(crate) services: Vec<&'static str>,
    /// Who serves the others, as in `call a control plane`.
    pub(crate) elsewhere: &'static str,
    /// What the process waits for before it serves the API; none: it serves.
    pub(crate) waiting: Option<&'static str>,
    /// Why it is not ready.
    pub(crate) health: Health,
}

impl Here {
    /// Why a method of the API is not served yet. It says nothing of the caller, who cannot be known
    /// yet: API keys lie in the store.
    fn waits(&self, path: Option<&str>) -> Option<Refusal> {
        let (waiting, path) = self.waiting.zip(path)?;
        let (service, _) = path.trim_start_matches('/').split_once('/')?;
        let refused = Refusal::new(Reason::NotReady, waiting).retry_after(NOT_READY_WAIT);
        (!self.services.contains(&service)).then_some(refused)
    }

    /// Why a method (none: one that does not exist) is not served here.
    fn lacks(&self, path: Option<&str>) -> Option<Refusal> {
        let Some(path) = path else {
            return Some(Refusal::new(Reason::MethodUnknown, "the API has no such method"));
        };
        let (service, _) = path.trim_start_matches('/').split_once('/')?;
        if self.services.contains(&service) {
            return None;
        }
        let text = format!("{service} is not served here: {}", self.elsewhere);
        Some(Refusal::new(Reason::NotServedHere, text))
    }
}

impl CallLayer {
    /// A layer for these methods that keeps the limits, for callers that the guard lets through.
    pub(crate) fn new(
        methods: Methods,
        guard: Guard,
        revision: Revision,
        limits: &Limits,
        (telemetry, refusals): (Telemetry, Option<Refusals>),
        here: Here,
    ) -> Self {
        let (calls_max, unsent, arriving) = (limits.calls, limits.unsent, limits.arriving);
        Self(Arc::new(Shared {
            methods,
            guard,
            revision,
            calls: Arc::new(Semaphore::new(calls_max)),
            calls_max,
            shares: Shares::new(calls_max, unsent, arriving),
            rooms: Rooms::new(unsent),
            arriving: Room::new(arriving),
            telemetry,
            refusals,
            here,
        }))
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
        let let_in = call.admit(&mut request);
        if let Err(refused) = let_in.and_then(|()| call.count()) {
            return Box::pin(std::future::ready(Ok(call.refuse(refused))));
        }
        if let Some((_, at)) = call.deadline {
            request.extensions_mut().insert(Deadline(at));
        }
        let (trace, peer) = (call.observation.trace(), call.peer.clone());
        Box::pin(async move {
            let kind = call.kind;
            let mut taking = call.taking();
            let (request, kept) = call.arriving(request);
            let handler = observation::within(trace, async move {
                taking.reserve().await;
                let response = match inner.call(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                };
                drop(kept);
                if kind == Kind::Stream {
                    return Ok(response);
                }
                let (head, body) = response.into_parts();
                let whole = Whole::of(body).await?;
                taking.settle(whole.len()).await;
                Ok(Response::from_parts(head, held(whole, taking, peer.as_ref())))
            });
            let answer = {
                let handler = CatchPanic(pin!(handler));
                match call.deadline {
                    None => handler.await,
                    Some((time, at)) => match timeout_at(at, handler).await {
                        Ok(answer) => answer,
                        Err(_) => Ok(Err(out_of_time(time))),
                    },
                }
            };
            match answer {
                Ok(Ok(response)) => Ok(call.answer(response)),
                Ok(Err(status)) => Ok(call.refuse(status)),
                Err(Panicked) => Ok(call.refuse(call.panicked())),
            }
        })
    }
}

/// The body of a whole answer, whose bytes hold their room until the transport lets go of them.
fn held(mut whole: Whole, taking: Taking, peer: Option<&Peer>) -> Body {
    whole.data = whole.data.take().map(|data| taking.hold(data, peer.map(Peer::wait)));
    Body::new(whole)
}

/// One call: what is to be said about it at its end.
struct Call {
    shared: Arc<Shared>,
    path: Option<Arc<str>>,
    kind: Kind,
    size: Size,
    /// The connection that it came by.
    peer: Option<Peer>,
    /// It counts there until it has its answer.
    _under_way: Option<UnderWay>,
    actor: Option<Arc<str>>,
    share: Option<Share>,
    lapse: Option<Lapse>,
    deadline: Option<(Duration, Instant)>,
    /// It counts among the calls under way.
    counted: Vec<OwnedSemaphorePermit>,
    /// The answer says why the server is not ready.
    detail: bool,
    origin: Origin,
    observation: Observation,
}

impl Call {
    fn begin(shared: &Arc<Shared>, request: &Request<Body>) -> Self {
        let started = Instant::now();
        let method = shared.methods.get(request.uri().path());
        let kind = method.map_or(Kind::Unary, |(_, kind)| *kind);
        let size = method.map_or(Size::Small, |(path, kind)| kind.size(path));
        let path = method.map(|(path, _)| Arc::clone(path));
        let peer = request.extensions().get::<Peer>().cloned();
        let observation =
            Observation::begin(&shared.telemetry, path.as_ref(), request.headers(), started);
        let addr = peer.as_ref().and_then(Peer::addr);
        let trace = observation.trace();
        Self {
            origin: Origin::new(shared.refusals.clone(), path.as_deref(), addr, trace),
            observation,
            path,
            kind,
            size,
            _under_way: peer.as_ref().map(Peer::begin),
            peer,
            actor: None,
            share: None,
            lapse: None,
            deadline: kind.time(request.headers()).map(|time| (time, started + time)),
            counted: Vec::new(),
            detail: false,
            shared: Arc::clone(shared),
        }
    }

    fn method(&self) -> &str {
        self.path.as_deref().unwrap_or(UNKNOWN)
    }

    /// Counts it among the calls of its caller and of all.
    fn count(&mut self) -> Result<(), Status> {
        if self.method() == HEALTH_CHECK {
            let Some(peer) = &self.peer else { return Ok(()) };
            let probe = peer.probe().ok_or_else(|| shed("the connection has too many probes"))?;
            self.counted.push(probe);
            return Ok(());
        }
        if let Some(share) = &self.share {
            let full = |most| {
                let name = &share.name;
                shed(&format!("{name} has {most} calls under way, all that one caller may"))
            };
            self.counted.push(share.call().map_err(full)?);
        }
        let all = Arc::clone(&self.shared.calls).try_acquire_owned();
        let full = || shed(&format!("the server has {} calls under way", self.shared.calls_max));
        self.counted.push(all.map_err(|_| full())?);
        Ok(())
    }

    /// What its answer takes room of. A probe's takes none: it does not wait for others.
    fn taking(&self) -> Taking {
        if self.method() == HEALTH_CHECK {
            return Taking::new(Size::Small, None, &[]);
        }
        let own = self.share.as_ref().map(|share| &share.rooms);
        let shared: Vec<_> = own.into_iter().chain([&self.shared.rooms]).collect();
        Taking::new(self.size, self.peer.as_ref().map(Peer::room), &shared)
    }

    /// The request with a body that is read as far as there is room for it, and that room.
    fn arriving(&self, request: Request<Body>) -> (Request<Body>, Kept) {
        let own = self.share.as_ref().map(|share| &share.arriving);
        let rooms = self.peer.as_ref().map(Peer::arriving).into_iter().chain(own);
        let rooms = rooms.chain([&self.shared.arriving]).cloned().collect();
        let (kept, stream) = (Kept::default(), self.kind == Kind::Stream);
        let body = |inner| Body::new(Arriving::new(inner, rooms, kept.clone(), stream));
        (request.map(body), kept)
    }

    /// Lets the call through to its handler, which learns who calls.
    fn admit(&mut self, request: &mut Request<Body>) -> Result<(), Status> {
        if let Some(refused) = self.shared.here.waits(self.path.as_deref()) {
            return Err(status(refused));
        }
        let guard = &self.shared.guard;
        let admitted = guard.admit(self.path.as_deref(), request.headers_mut());
        let known = admitted.as_ref().map_or_else(|it| it.caller.as_ref(), |it| Some(&it.caller));
        if let Some(caller) = known {
            self.origin.know(caller);
        }
        let admitted = admitted.map_err(|denied| status(*denied.refusal))?;
        self.actor = Some(Arc::clone(admitted.caller.actor()));
        self.detail = admitted.sees_all && self.method() == HEALTH_CHECK;
        if let Some(refused) = self.shared.here.lacks(self.path.as_deref()) {
            return Err(status(refused));
        }
        if self.kind == Kind::Stream {
            self.lapse = guard.lapse(&admitted);
        }
        self.share = self.shared.shares.of(&admitted.caller);
        if let (Some(peer), Some(share)) = (&self.peer, &self.share) {
            peer.know(&share.name, share.part);
        }
        request.extensions_mut().insert(admitted.caller);
        request.extensions_mut().insert(self.origin.clone());
        Ok(())
    }

    fn panicked(&self) -> Status {
        tracing::error!(method = self.method(), "a handler panicked");
        status(Refusal::new(Reason::Internal, "a fault of the server; its log has more"))
    }

    /// Answers in the handler's place.
    fn refuse(&mut self, status: Status) -> Response<Body> {
        self.end_as(&status);
        let mut response = status.into_http();
        self.add_revision(response.headers_mut());
        response
    }

    /// Passes the handler's answer on.
    fn answer(mut self, mut response: Response<Body>) -> Response<Body> {
        if let Some(refused) = unreadable(response.headers()) {
            return self.refuse(refused);
        }
        let failed = self.end_by(response.headers());
        self.add_revision(response.headers_mut());
        if self.detail {
            add_reasons(response.headers_mut(), &self.shared.here.health);
        }
        match self.kind {
            Kind::Unary | Kind::Wait => {
                if failed.is_none() {
                    self.end(Code::Ok);
                }
                response
            }
            Kind::Stream => response.map(|inner| Body::new(StreamBody::new(inner, self))),
        }
    }

    fn add_revision(&self, headers: &mut HeaderMap) {
        if let Some(revision) = self.shared.revision.get() {
            headers.insert(revision::HEADER, HeaderValue::from(revision));
        }
    }

    /// The call is over, if these headers or trailers say how.
    fn end_by(&mut self, headers: &HeaderMap) -> Option<Code> {
        let code = code(headers)?;
        match may_refuse(code).then(|| Status::from_header_map(headers)).flatten() {
            Some(status) => self.end_as(&status),
            None => self.end(code),
        }
        Some(code)
    }

    /// The call is over with this status.
    fn end_as(&mut self, status: &Status) {
        self.origin.ended(status);
        self.end(status.code());
    }

    /// The call is over; only the first time counts.
    fn end(&mut self, code: Code) {
        let actor = self.actor.as_deref().unwrap_or(ANONYMOUS);
        self.observation.end(code, actor);
    }
}

/// Why a server is not ready, as binary metadata: reasons may hold any text.
fn add_reasons(headers: &mut HeaderMap, health: &Health) {
    for reason in health.reasons() {
        if let Ok(value) = HeaderValue::try_from(BASE64.encode(reason)) {
            headers.append(health::NOT_READY, value);
        }
    }
}

/// How a call ended, if these headers or trailers say it.
fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get(Status::GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()))
}

fn shed(text: &str) -> Status {
    status(Refusal::new(Reason::LoadShed, text).retry_after(SHED_WAIT))
}

fn out_of_time(time: Duration) -> Status {
    Status::deadline_exceeded(format!(
        "no answer within {} ms; what has committed stays committed: repeat with the same id or \
         request_id",
        time.as_millis()
    ))
}

/// A handler that panicked.
struct Panicked;

/// Turns a panic in a future into its output. The future is not polled again after one.
struct CatchPanic<'a, F>(Pin<&'a mut F>);

impl<F: Future> Future for CatchPanic<'_, F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    }
}
