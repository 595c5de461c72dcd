//! One attempt, from rendering to the decision about it.
//!
//! Rendering and signing happen here, at the send: a body may hold the attempt's number, and a
//! signature its time. Deliveries of one event under one contract share the rendered bytes where
//! they start within the same second.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use http::{HeaderName, HeaderValue};
use pregon_core::attempt::{AttemptRecord, RecordKind, Timing};
use pregon_core::clock::{SharedClock, Timestamp};
use pregon_core::contract::{self, HeaderLine, RenderError, RenderInput, Rendered, Sharing};
use pregon_core::id::{NodeId, SecretId};
use pregon_core::limits;
use pregon_core::outcome::{Decision, EndReason, Outcome, Reply, Timings, decide};
use pregon_core::retry_after;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::WorkerOptions;
use super::job::{Job, Report};
use super::lane::Pace;
use crate::egress::{Egress, Exchange, OutboundRequest};

/// What every attempt needs.
#[derive(Clone)]
struct Context {
    node: NodeId,
    egress: Egress,
    clock: SharedClock,
    user_agent: Arc<str>,
}

/// Makes attempts, each as a task of its own.
pub(super) struct Attempts {
    context: Arc<Context>,
    reports: mpsc::Sender<Report>,
}

impl Attempts {
    pub(super) fn new(options: &WorkerOptions, reports: mpsc::Sender<Report>) -> Self {
        let context = Context {
            node: options.node.clone(),
            egress: options.egress.clone(),
            clock: Arc::clone(&options.clock),
            user_agent: options.user_agent.as_str().into(),
        };
        Self { context: Arc::new(context), reports }
    }

    /// Makes an attempt; its report comes over the channel, whatever happens.
    pub(super) fn start(&self, job: Job) {
        let (context, reports) = (Arc::clone(&self.context), self.reports.clone());
        tokio::spawn(async move {
            let report = make(&context, job).await;
            // The loop is gone only when the process goes; the lease runs out then.
            let _ = reports.send(report).await;
        });
    }
}

/// Makes an attempt. A panic on the way is caught and fails the delivery, not the node.
async fn make(context: &Context, job: Job) -> Report {
    let (started, start) = (Instant::now(), context.clock.now());
    let made = AssertUnwindSafe(exchange(context, &job, start)).catch_unwind().await;
    let (outcome, time, keys) = match made {
        Ok(Made { outcome, time, keys }) => (outcome, time, keys),
        Err(_) => (Err("the attempt panicked".to_owned()), start, Vec::new()),
    };
    let ended = context.clock.now();
    let record = record(context, &job, time, keys);
    match outcome {
        Ok(exchange) => judge(job, started, ended, record, exchange),
        Err(reason) => {
            tracing::warn!(delivery = %job.key, %reason, "a request could not be made");
            Report {
                job,
                started,
                ended,
                decision: unmade(),
                pace: Pace::Other,
                record: AttemptRecord { reason, ..record },
            }
        }
    }
}

/// What an attempt led to, and what it was made with.
struct Made {
    outcome: Result<Exchange, String>,
    time: Timestamp,
    keys: Vec<SecretId>,
}

async fn exchange(context: &Context, job: &Job, now: Timestamp) -> Made {
    let (time, request, keys) = match request(context, job, now) {
        Ok(request) => request,
        Err(error) => {
            return Made { outcome: Err(error.to_string()), time: now, keys: Vec::new() };
        }
    };
    let timeout = job.lane.contract.timeout(job.number);
    let exchange = context.egress.send(&request, timeout).await;
    Made { outcome: Ok(exchange), time, keys }
}

/// Renders and signs.
fn request(
    context: &Context,
    job: &Job,
    now: Timestamp,
) -> Result<(Timestamp, OutboundRequest, Vec<SecretId>), RenderError> {
    let (lane, contract) = (&job.lane, &job.lane.contract);
    let input = |attempt_time| RenderInput {
        event: &job.event,
        delivery: job.key,
        subscription: &lane.name.subscription,
        url: &lane.url,
        attempt: job.number,
        attempt_time,
        user_agent: &context.user_agent,
    };
    let share = job.share.as_ref().filter(|_| contract.sharing() < Sharing::Subscription);
    let (time, rendered) = match share.and_then(|share| share.get(contract, now)) {
        Some(shared) => shared,
        None => {
            let rendered = Arc::new(contract::render(contract, &input(now))?);
            if let Some(share) = share {
                share.put(contract, now, &rendered);
            }
            (now, rendered)
        }
    };
    let signed = contract::sign(contract, &rendered, &input(time), &lane.keys)?;
    let headers = headers(&rendered, &signed.headers, &lane.headers)?;
    let request = OutboundRequest {
        target: lane.target.clone(),
        headers,
        body: rendered.body.clone(),
        keep: limits::RESPONSE_KEPT,
    };
    Ok((time, request, signed.keys))
}

/// The contract's headers, its signatures, then the subscription's own.
fn headers(
    rendered: &Rendered,
    signatures: &[HeaderLine],
    own: &[(HeaderName, HeaderValue)],
) -> Result<Vec<(HeaderName, HeaderValue)>, RenderError> {
    let mut headers = Vec::with_capacity(rendered.headers.len() + signatures.len() + own.len());
    for line in rendered.headers.iter().chain(signatures) {
        let unusable = || RenderError::HeaderValue { name: Arc::clone(&line.name) };
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| unusable())?;
        let value = HeaderValue::from_maybe_shared(line.value.clone()).map_err(|_| unusable())?;
        headers.push((name, value));
    }
    headers.extend(own.iter().cloned());
    Ok(headers)
}

/// What the log will say, before it is known how the attempt came out.
fn record(context: &Context, job: &Job, start: Timestamp, secrets: Vec<SecretId>) -> AttemptRecord {
    AttemptRecord {
        key: job.key,
        kind: RecordKind::Attempt,
        number: job.number,
        tenant: job.event.tenant.clone(),
        event_type: job.event.event_type.clone(),
        environment: job.event.environment,
        node: context.node.clone(),
        start,
        timing: Timing::default(),
        outcome: None,
        end: None,
        error_class: None,
        reason: String::new(),
        status: 0,
        url: Arc::clone(job.lane.url.shared()),
        remote: None,
        next_attempt: None,
        configuration_revision: job.revision,
        contract: job.lane.contract.id().clone(),
        contract_revision: 0,
        secrets,
        response: None,
        late: false,
    }
}

/// A request that cannot be made will not be made later either: the delivery fails.
fn unmade() -> Decision {
    Decision {
        outcome: Outcome::Failed { reason: EndReason::RenderFailed },
        error_class: None,
        counts: true,
        disable: false,
        slow_lane: None,
        timeout: false,
    }
}

/// Decides about the exchange and writes it down.
fn judge(
    job: Job,
    started: Instant,
    ended: Timestamp,
    mut record: AttemptRecord,
    exchange: Exchange,
) -> Report {
    record.timing = exchange.timing;
    record.remote = exchange.remote;
    let reply = match &exchange.result {
        Ok(response) => Reply::Response {
            status: response.status.as_u16(),
            retry_after: response.retry_after().and_then(|value| retry_after::parse(value, ended)),
        },
        Err(fault) => Reply::Fault { class: fault.class, detail: fault.detail.clone() },
    };
    let timings = Timings {
        took: Duration::from_micros(u64::from(exchange.timing.total)),
        age: ended.since(job.create_time),
    };
    let decision = decide(&job.lane.contract, job.number, &reply, timings, job.chance);
    record.error_class = decision.error_class;
    let acknowledged = decision.outcome == Outcome::Succeeded;
    match exchange.result {
        Ok(response) => {
            record.status = response.status.as_u16();
            if !acknowledged {
                record.reason = format!("answered {}", record.status);
                record.response = Some(response.into_head());
            }
        }
        Err(fault) => record.reason = fault.detail.into_owned(),
    }
    let pace = match (acknowledged, decision.timeout) {
        (true, _) => Pace::Good,
        (false, true) => Pace::Timeout,
        (false, false) => Pace::Other,
    };
    Report { job, started, ended, decision, pace, record }
}
