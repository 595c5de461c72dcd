//! CheckService: asking a tenant's callback before something is done.
//!
//! A check is one question and one decision. The wire is parsed, every wrong field at once; the
//! callback is found, as the store had it at the call at the latest; an answer that is remembered
//! decides at once; else the receiver is asked once, within the callback's timeout and the caller's
//! deadline, and what comes back is read by the truth table of [`read`]. Nothing is ever repeated:
//! what cannot be asked or is not answered properly, the callback's `on_error` decides.
//!
//! A denial is an answer. An error of the call means that nothing was decided: the callback does
//! not exist or is paused, its tenant is suspended, too many questions are in flight, or the data
//! is not what the contract can make a question of. Whoever goes away takes his question along:
//! the connection is closed, the place given back.

mod cache;
mod find;
mod parse;
mod read;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use pregon_core::clock::SharedClock;
use pregon_core::contract::{CheckInput, RenderError, render_check, sign_check};
use pregon_core::error::{Reason, Refusal, Rule};
use pregon_core::limits;
use pregon_core::outcome::ErrorClass;
use pregon_core::trace::{SpanId, TraceContext};
use pregon_proto::v1;
use pregon_proto::v1::check_service_server::{CheckService, CheckServiceServer};
use pregon_rpc::audit;
use pregon_rpc::call::{Deadline, current_trace};
use pregon_rpc::caller::Caller;
use pregon_rpc::status::status;
use pregon_telemetry::{Kind, Span, Telemetry};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::egress::{Asks, Egress, Exchange, OutboundRequest, Resend};
use crate::snapshot::{CallbackEntry, Configuration};
use crate::{oauth, outbound};
use cache::{Cache, Key};
use find::Found;
use parse::Question;
use read::{Cause, Decision};

/// What of the caller's time is kept for the way back: an answer that comes after its deadline is
/// worth nothing.
const WAY_BACK: Duration = Duration::from_millis(50);
/// With less time than this no receiver is asked: few would answer, and all would be bothered.
const LEAST: Duration = Duration::from_millis(10);
/// When to come back to a callback that has as many questions in flight as it may have.
const SHED_WAIT: Duration = Duration::from_millis(100);
/// When to try a node again that is going down: elsewhere, at once.
const DRAINING_WAIT: Duration = Duration::from_millis(100);

/// What checks work with.
pub struct CheckOptions {
    /// What the node serves.
    pub configuration: Configuration,
    /// The way out.
    pub egress: Egress,
    /// The wall clock: keys sign by it.
    pub clock: SharedClock,
    /// `User-Agent` of questions whose contract names none.
    pub user_agent: Bytes,
    /// Cancelled when the node goes down: nothing more is asked, what is under way is finished.
    pub draining: CancellationToken,
    /// Makes the checks' ids.
    pub seed: u64,
    /// Where decisions are reported.
    pub telemetry: Telemetry,
}

/// CheckService over the node's configuration and its way out. Clones share everything.
#[derive(Clone)]
pub struct CheckServiceImpl(Arc<Inner>);

struct Inner {
    configuration: Configuration,
    egress: Egress,
    clock: SharedClock,
    user_agent: Bytes,
    draining: CancellationToken,
    cache: Cache,
    ids: Mutex<StdRng>,
    telemetry: Telemetry,
}

impl CheckServiceImpl {
    /// The service.
    pub fn new(options: CheckOptions) -> Self {
        Self(Arc::new(Inner {
            configuration: options.configuration,
            egress: options.egress,
            clock: options.clock,
            user_agent: options.user_agent,
            draining: options.draining,
            cache: Cache::default(),
            ids: Mutex::new(StdRng::seed_from_u64(options.seed)),
            telemetry: options.telemetry,
        }))
    }

    /// The service, to be added to a server.
    pub fn service(self) -> CheckServiceServer<Self> {
        CheckServiceServer::new(self).max_decoding_message_size(limits::MESSAGE_LEN)
    }
}

impl fmt::Debug for CheckServiceImpl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckServiceImpl").finish_non_exhaustive()
    }
}

#[tonic::async_trait]
impl CheckService for CheckServiceImpl {
    async fn check(
        &self,
        request: Request<v1::CheckRequest>,
    ) -> Result<Response<v1::CheckResponse>, Status> {
        let began = Instant::now();
        let caller = Caller::of(&request).map_err(status)?;
        let deadline = Deadline::of(&request);
        audit::Origin::of(&request).about(&request.get_ref().callback);
        let question = parse::parse(request.into_inner(), &caller).map_err(status)?;
        let response = self.0.check(&question, &caller, began, deadline).await;
        response.map(Response::new).map_err(status)
    }
}

impl Inner {
    async fn check(
        &self,
        question: &Question,
        caller: &Caller,
        began: Instant,
        deadline: Option<Instant>,
    ) -> Result<v1::CheckResponse, Refusal> {
        if self.draining.is_cancelled() {
            let refusal = Refusal::new(Reason::Draining, "the node is going down");
            return Err(refusal.retry_after(DRAINING_WAIT));
        }
        let found = find::find(&self.configuration, question).await?;
        caller.may_use(Some(found.callback.environment))?;
        let id = self.next_id();
        let decision = self.decide(&id, question, &found, deadline).await?;
        let duration = began.elapsed();
        let callback = &found.callback.name;
        let (allowed, cause) = (decision.allowed, decision.cause.word());
        self.telemetry.metrics().checked(allowed, cause, duration);
        tracing::info!(
            check = id,
            %callback,
            allowed = decision.allowed,
            cause = decision.cause.word(),
            status = decision.status,
            error_class = decision.class.map(ErrorClass::word),
            duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            "checked"
        );
        Ok(decision.response(id, duration))
    }

    /// An id that no other check has.
    fn next_id(&self) -> String {
        let number: u128 = self.ids.lock().unwrap_or_else(PoisonError::into_inner).random();
        format!("chk_{number:032x}")
    }

    async fn decide(
        &self,
        id: &str,
        question: &Question,
        found: &Found,
        deadline: Option<Instant>,
    ) -> Result<Decision, Refusal> {
        let callback = &*found.callback;
        let remembers = !callback.cache_ttl.is_zero();
        let key = remembers.then(|| self.cache.key(callback, &question.data));
        if let Some(key) = key
            && !question.bypass_cache
            && self.cache.allows(key, Instant::now())
        {
            return Ok(Decision::remembered());
        }
        let Some(within) = time_left(callback, deadline) else {
            let why = "the caller's deadline leaves no time to ask";
            return Ok(Decision::fallen_back(callback.on_error, ErrorClass::Timeout, why));
        };
        let Some(_place) = callback.take_place() else { return Err(shed(callback)) };
        let asked = Instant::now();
        let decision = self.ask(id, question, found, within).await?;
        if let Some(key) = key {
            self.remember(key, callback, &decision, asked);
        }
        Ok(decision)
    }

    /// Asks the receiver, once.
    async fn ask(
        &self,
        id: &str,
        question: &Question,
        found: &Found,
        within: Duration,
    ) -> Result<Decision, Refusal> {
        let callback = &*found.callback;
        let input = CheckInput {
            id,
            time: self.clock.now(),
            data: &question.data,
            tenant: &callback.name.tenant,
            tenant_labels: &found.tenant.labels,
            callback: &callback.name.callback,
            callback_labels: &callback.labels,
            url: &callback.url,
            user_agent: &self.user_agent,
        };
        let Some(rule) = callback.contract.callback() else {
            let why = "the contract's signatures speak of what only an event has";
            return Ok(Decision::fallen_back(callback.on_error, ErrorClass::Local, why));
        };
        // The question's own span: its caller's trace goes on at the receiver.
        let call = current_trace();
        let asks = call.as_ref().map(|call| match self.telemetry.recording(call) {
            true => call.at(self.telemetry.span_id()),
            false => call.clone(),
        });
        let goes = asks.as_ref().filter(|_| callback.contract.traceparent());
        let request = match request(callback, &input, goes) {
            Ok(request) => request,
            Err(error) => return unasked(callback, question, &error),
        };
        let begun = Instant::now();
        let exchange = oauth::send(&self.egress, callback.client.as_ref(), &request, within).await;
        if let (Some(call), Some(asks)) = (call.filter(|it| self.telemetry.recording(it)), asks) {
            let time = (self.telemetry.at(begun), self.telemetry.now());
            self.telemetry.span(asked(callback, asks, call.span, time, &exchange));
        }
        let verdict = callback.verdict.as_ref().unwrap_or(rule.verdict());
        Ok(read::read(exchange.result, verdict, callback.on_error, &input))
    }

    /// Remembers that it is allowed, and forgets it when it is not any more. A receiver that does
    /// not answer has not changed its mind.
    fn remember(&self, key: Key, callback: &CallbackEntry, decision: &Decision, asked: Instant) {
        match decision.cause {
            Cause::Verdict if decision.allowed => {
                self.cache.put(key, (asked, Instant::now()), callback.cache_ttl);
            }
            Cause::Verdict | Cause::Status => self.cache.remove(key, asked),
            Cause::Cache | Cause::FailurePolicy => {}
        }
    }
}

/// How long the receiver may take; none where there is no point in asking.
fn time_left(callback: &CallbackEntry, deadline: Option<Instant>) -> Option<Duration> {
    let left = deadline.map_or(Duration::MAX, |deadline| {
        deadline.saturating_duration_since(Instant::now()).saturating_sub(WAY_BACK)
    });
    (left >= LEAST).then(|| left.min(callback.timeout))
}

fn request(
    callback: &CallbackEntry,
    input: &CheckInput<'_>,
    trace: Option<&TraceContext>,
) -> Result<OutboundRequest, RenderError> {
    let contract = &callback.contract;
    let rendered = render_check(contract, input)?;
    let signed = sign_check(contract, &rendered, input, &callback.keys)?;
    Ok(OutboundRequest {
        method: Method::POST,
        target: callback.target.clone(),
        uri: outbound::uri(&callback.url, signed.url.as_deref())?,
        headers: outbound::headers(&signed.headers, trace, callback.headers.lines())?,
        spelled: outbound::spelled(&signed.headers, callback.headers.spelled()),
        body: signed.body,
        keep: limits::RESPONSE_READ,
        asks: Asks::Whole,
        resend: Resend::IfUnsent,
    })
}

/// The span of a question.
fn asked(
    callback: &CallbackEntry,
    context: TraceContext,
    parent: SpanId,
    time: (u64, u64),
    exchange: &Exchange,
) -> Span {
    let span = Span::new(context, Some(parent), Kind::Client, "POST", time)
        .with("http.request.method", "POST")
        .with("pregon.callback.name", callback.name.to_string());
    match &exchange.result {
        Ok(response) => span.with("http.response.status_code", response.status.as_u16()),
        Err(fault) => {
            let mut span = span.with("error.type", fault.class.word());
            span.error = Some(fault.detail.to_string());
            span
        }
    }
}

/// What becomes of a question that cannot be made. Where the data is at fault, so is the caller,
/// and nothing is decided; where the configuration is, the receiver cannot be asked.
fn unasked(
    callback: &CallbackEntry,
    question: &Question,
    error: &RenderError,
) -> Result<Decision, Refusal> {
    match error {
        RenderError::Value { .. }
        | RenderError::HeaderValue { .. }
        | RenderError::NameTwice { .. }
        | RenderError::QueryTooLong
        | RenderError::TooLarge
        | RenderError::NoList
        | RenderError::Form(_) => {
            let contract = callback.contract.id().name();
            let text = format!("{contract} cannot make a question of it: {error}");
            Err(Refusal::field(question.field, Rule::Malformed, text))
        }
        RenderError::NoActiveSecret
        | RenderError::Unsigned { .. }
        | RenderError::NoPlace { .. } => {
            Ok(Decision::fallen_back(callback.on_error, ErrorClass::Local, &error.to_string()))
        }
    }
}

fn shed(callback: &CallbackEntry) -> Refusal {
    let (name, most) = (&callback.name, callback.max_concurrency);
    let text = format!("{name} has {most} questions in flight, which is its max_concurrency");
    Refusal::new(Reason::LoadShed, text).retry_after(SHED_WAIT)
}
