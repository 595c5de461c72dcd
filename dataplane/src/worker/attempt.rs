//! One attempt, from rendering to the decision about it.
//!
//! Rendering and signing happen here, at the send: a body may hold the attempt's number, and a
//! signature its time. Deliveries of one event under one contract share the rendered bytes where
//! they start within the same second; what a key adds to them is made for each. A test send is an
//! attempt like any other; only what becomes of its result differs.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http::Method;
use pregon_core::attempt::{AttemptRecord, RecordKind, ResponseHead, ShownHeaders, Timing};
use pregon_core::clock::{SharedClock, Timestamp};
use pregon_core::contract::{self, RenderError, RenderInput, Rendered, Sharing};
use pregon_core::event::Event;
use pregon_core::id::{DeliveryKey, NodeId, SecretId};
use pregon_core::limits;
use pregon_core::outcome::{Answer, Decision, EndReason, Judged, Outcome, Reply, Timings, decide};
use pregon_core::retry_after;
use pregon_core::secret::SecretBytes;
use pregon_telemetry::Telemetry;
use tokio::time::Instant;

use super::WorkerOptions;
use super::job::Share;
use super::lane::Pace;
use super::scrub;
use crate::egress::{
    Asks, Cut, Egress, Exchange, Fault, OutboundRequest, Resend, Response, micros,
};
use crate::snapshot::{Configuration, Lane};
use crate::{oauth, outbound};

/// What every attempt needs.
pub(super) struct Context {
    pub(super) node: NodeId,
    egress: Egress,
    pub(super) clock: SharedClock,
    user_agent: Bytes,
    configuration: Configuration,
    pub(super) telemetry: Telemetry,
}

/// An attempt, whoever asks for it.
pub(super) struct Shot<'a> {
    pub(super) key: DeliveryKey,
    pub(super) lane: &'a Lane,
    pub(super) event: &'a Event,
    /// Its number, from 1.
    pub(super) number: u32,
    /// When the delivery was created.
    pub(super) create_time: Timestamp,
    /// The configuration it is made under.
    pub(super) revision: i64,
    /// What deliveries of the event have in common.
    pub(super) share: Option<&'a Share>,
    /// How long it may take.
    pub(super) timeout: Duration,
    /// Between 0 and 1: the jitter of the retry, should there be one.
    pub(super) chance: f64,
    /// Whether it is a test send: what is answered is kept whatever it says.
    pub(super) test: bool,
}

/// How an attempt came out.
pub(super) struct Fired {
    pub(super) decision: Decision,
    pub(super) pace: Pace,
    pub(super) ended: Timestamp,
    pub(super) record: Arc<AttemptRecord>,
    /// What was sent; none where no request could be made.
    pub(super) request: Option<OutboundRequest>,
    /// How long rendering and signing took, in microseconds; 0 where nobody asks.
    pub(super) render: u32,
    /// When it ended, for spans.
    pub(super) ended_at: Instant,
}

impl Context {
    pub(super) fn new(options: &WorkerOptions) -> Self {
        Self {
            node: options.node.clone(),
            egress: options.egress.clone(),
            clock: Arc::clone(&options.clock),
            user_agent: options.user_agent.clone(),
            configuration: options.configuration.clone(),
            telemetry: options.telemetry.clone(),
        }
    }
}

/// Makes an attempt. A panic on the way is caught and fails the delivery, not the node.
pub(super) async fn fire(context: &Context, shot: &Shot<'_>) -> Fired {
    let start = context.clock.now();
    let mut sent = Sent { time: start, keys: Vec::new(), request: None, render: 0 };
    let made = AssertUnwindSafe(exchange(context, shot, &mut sent)).catch_unwind().await;
    let made = made.unwrap_or_else(|_| Err(Unmade::Never("the attempt panicked".to_owned())));
    let (ended, ended_at) = (context.clock.now(), Instant::now());
    let Sent { time, keys, request, render } = sent;
    let record = record(context, shot, time, keys);
    match made {
        Ok((exchange, judged)) => {
            let events = [shot.event];
            let times = (ended, ended_at);
            let fired = conclude(context, shot, &events, times, record, exchange, judged);
            Fired { request, render, ..fired }
        }
        Err(unmade) => {
            let (decision, record) = unmade.written(shot, record, ended);
            Fired { decision, pace: Pace::Other, ended, record, request: None, render, ended_at }
        }
    }
}

/// Why there is no request.
#[derive(Clone)]
enum Unmade {
    /// The event and the contract do not go together: it will not be made later either.
    Never(String),
    /// Something of ours is lacking that may come.
    NotYet(String),
    /// The event's time is over.
    Late(Timestamp),
}

impl From<RenderError> for Unmade {
    fn from(error: RenderError) -> Self {
        let reason = error.to_string();
        match error {
            RenderError::NoActiveSecret | RenderError::Unsigned { .. } => Unmade::NotYet(reason),
            RenderError::HeaderValue { .. }
            | RenderError::Value { .. }
            | RenderError::NameTwice { .. }
            | RenderError::NoPlace { .. }
            | RenderError::QueryTooLong
            | RenderError::TooLarge
            | RenderError::NoList
            | RenderError::Form(_) => Unmade::Never(reason),
        }
    }
}

impl Unmade {
    /// What becomes of a delivery of that age.
    fn decision(&self, age: Duration) -> Decision {
        match self {
            Unmade::Never(_) => Decision::given_up(EndReason::RenderFailed),
            Unmade::NotYet(_) => Decision::held(age),
            Unmade::Late(_) => Decision::expired(),
        }
    }

    /// Refuses an attempt that would begin after its event's time.
    fn check_time(shot: &Shot<'_>, start: Timestamp) -> Result<(), Self> {
        match shot.event.expire_time() {
            Some(end) if end <= start => Err(Unmade::Late(end)),
            Some(_) | None => Ok(()),
        }
    }

    /// What becomes of a delivery for which no request was made, and what the log will say.
    fn written(
        self,
        shot: &Shot<'_>,
        record: AttemptRecord,
        ended: Timestamp,
    ) -> (Decision, Arc<AttemptRecord>) {
        let decision = self.decision(ended.since(shot.create_time));
        let reason = match self {
            Unmade::Never(reason) | Unmade::NotYet(reason) => reason,
            Unmade::Late(end) => {
                let reason = format!("the event was to be delivered until {end}");
                let kind = RecordKind::Ended;
                return (decision, Arc::new(AttemptRecord { kind, reason, ..record }));
            }
        };
        tracing::warn!(delivery = %shot.key, %reason, "a request could not be made");
        let error_class = decision.error_class;
        (decision, Arc::new(AttemptRecord { reason, error_class, ..record }))
    }
}

/// What an attempt was made with.
struct Sent {
    time: Timestamp,
    keys: Vec<SecretId>,
    request: Option<OutboundRequest>,
    render: u32,
}

async fn exchange(
    context: &Context,
    shot: &Shot<'_>,
    sent: &mut Sent,
) -> Result<(Exchange, Judged), Unmade> {
    Unmade::check_time(shot, sent.time)?;
    let timed = context.telemetry.recorded(shot.event).map(|_| Instant::now());
    prepare(context, shot, sent)?;
    sent.render = timed.map_or(0, |begun| micros(begun.elapsed()));
    let Some(request) = &sent.request else {
        return Err(Unmade::Never("no request was made".to_owned()));
    };
    let client = shot.lane.client.as_ref();
    let exchange = oauth::send(&context.egress, client, request, shot.timeout).await;
    let judged = match &exchange.result {
        Ok(response) => judge(context, shot, sent.time, response),
        Err(_) => Judged::default(),
    };
    Ok((exchange, judged))
}

/// What templates and conditions see of an attempt.
fn input<'a>(context: &'a Context, shot: &Shot<'a>, attempt_time: Timestamp) -> RenderInput<'a> {
    RenderInput {
        event: shot.event,
        tenant_labels: &shot.lane.tenant_labels,
        delivery: shot.key,
        create_time: shot.create_time,
        test: shot.test,
        subscription: &shot.lane.name.subscription,
        subscription_labels: &shot.lane.labels,
        url: &shot.lane.url,
        attempt: shot.number,
        attempt_time,
        user_agent: &context.user_agent,
    }
}

/// Renders and signs.
fn prepare(context: &Context, shot: &Shot<'_>, sent: &mut Sent) -> Result<(), RenderError> {
    let (contract, now) = (&shot.lane.contract, sent.time);
    let share = shot.share.filter(|_| contract.sharing() < Sharing::Subscription);
    let (time, rendered) = match share.and_then(|share| share.get(contract, now)) {
        Some(shared) => shared,
        None => {
            let rendered = Arc::new(contract::render(contract, &input(context, shot, now))?);
            if let Some(share) = share {
                share.put(contract, now, &rendered);
            }
            (now, rendered)
        }
    };
    sent.time = time;
    finish(context, shot, &rendered, sent)
}

/// Signs what was rendered for the moment that `sent` names, and makes the request.
fn finish(
    context: &Context,
    shot: &Shot<'_>,
    rendered: &Rendered,
    sent: &mut Sent,
) -> Result<(), RenderError> {
    let (lane, contract) = (shot.lane, &shot.lane.contract);
    let signed = contract::sign(contract, rendered, &input(context, shot, sent.time), &lane.keys)?;
    let trace = match contract.traceparent() {
        true => context.telemetry.outgoing(shot.event, shot.key, shot.number),
        false => None,
    };
    sent.request = Some(OutboundRequest {
        method: Method::POST,
        target: lane.target.clone(),
        uri: outbound::uri(&lane.url, signed.url.as_deref())?,
        headers: outbound::headers(&signed.headers, trace.as_ref(), lane.headers.lines())?,
        spelled: outbound::spelled(&signed.headers, lane.headers.spelled()),
        body: signed.body,
        keep: match shot.test || contract.reads_answer() {
            true => limits::RESPONSE_READ,
            false => limits::RESPONSE_KEPT,
        },
        asks: match contract.reads_answer() {
            true => Asks::Whole,
            false => Asks::Status,
        },
        resend: Resend::IfUnheard,
    });
    sent.keys = signed.keys;
    Ok(())
}

/// What the contract makes of an answer. Of most contracts the status is all that is looked at.
fn judge(context: &Context, shot: &Shot<'_>, time: Timestamp, response: &Response) -> Judged {
    let (status, contract) = (response.status.as_u16(), &shot.lane.contract);
    let headers = if contract.reads_answer() { response.header_lines() } else { Vec::new() };
    let body: &Bytes = &response.body;
    contract.judge(&Answer { status, headers: &headers, body }, &input(context, shot, time))
}

/// What the log will say, before it is known how the attempt came out.
fn record(
    context: &Context,
    shot: &Shot<'_>,
    start: Timestamp,
    secrets: Vec<SecretId>,
) -> AttemptRecord {
    AttemptRecord {
        key: shot.key,
        kind: RecordKind::Attempt,
        number: shot.number,
        tenant: shot.event.tenant.clone(),
        event_type: shot.event.event_type.clone(),
        environment: shot.event.environment,
        node: context.node.clone(),
        start,
        timing: Timing::default(),
        outcome: None,
        end: None,
        error_class: None,
        reason: String::new(),
        status: 0,
        url: Arc::clone(shot.lane.url.shared()),
        remote: None,
        next_attempt: None,
        configuration_revision: shot.revision,
        contract: shot.lane.contract.id().clone(),
        contract_revision: shot.lane.contract.revision(),
        secrets,
        response: None,
        late: false,
        resent: false,
        headers: Arc::clone(shot.lane.headers.kept()),
    }
}

/// What the exchange means for a delivery.
fn decision(shot: &Shot<'_>, ended: Timestamp, exchange: &Exchange, judged: Judged) -> Decision {
    let reply = match &exchange.result {
        Ok(response) => Reply::Response {
            status: response.status.as_u16(),
            judged,
            retry_after: response.retry_after().and_then(|value| retry_after::parse(value, ended)),
        },
        Err(Fault { class, detail, again }) => {
            Reply::Fault { class: *class, detail: detail.clone(), again: *again }
        }
    };
    let timings = Timings {
        took: Duration::from_micros(u64::from(exchange.timing.total)),
        age: ended.since(shot.create_time),
    };
    let decision = decide(&shot.lane.contract, shot.number, &reply, timings, shot.chance);
    let pause = exchange.result.as_ref().ok().and_then(|response| response.pause(ended));
    let pause = pause.and_then(|wait| shot.lane.contract.retry().paused(wait));
    Decision { slow_lane: decision.slow_lane.max(pause), ..decision }
}

/// Decides about the exchange and writes it down; `events`: all that were sent.
fn conclude(
    context: &Context,
    shot: &Shot<'_>,
    events: &[&Event],
    (ended, ended_at): (Timestamp, Instant),
    mut record: AttemptRecord,
    exchange: Exchange,
    judged: Judged,
) -> Fired {
    record.timing = exchange.timing;
    record.remote = exchange.remote;
    record.resent = exchange.resent;
    if shot.lane.client.is_some() && exchange.lent.is_empty() {
        record.headers = ShownHeaders::default(); // without a token nothing was sent
    }
    let decision = decision(shot, ended, &exchange, judged);
    record.error_class = decision.error_class;
    let acknowledged = decision.outcome == Outcome::Succeeded;
    let cut = exchange.result.as_ref().ok().and_then(|response| response.cut);
    match exchange.result {
        Ok(response) => {
            record.status = response.status.as_u16();
            if !acknowledged {
                record.reason = format!("answered {}", record.status);
            }
            if shot.test || !acknowledged || cut.is_some() {
                let most = if shot.test { limits::RESPONSE_READ } else { limits::RESPONSE_KEPT };
                let kept = response.into_head(most);
                record.response = Some(clean(context, shot.lane, events, &exchange.lent, kept));
            }
        }
        Err(fault) => record.reason = fault.detail.into_owned(),
    }
    let pace = match (acknowledged, decision.timeout) {
        (true, _) if cut.is_none() => Pace::Good,
        (false, timeout) if timeout || cut == Some(Cut::Time) => Pace::Timeout,
        (true | false, _) => Pace::Other,
    };
    let record = Arc::new(record);
    Fired { decision, pace, ended, record, request: None, render: 0, ended_at }
}

/// An answer as it may be kept.
fn clean(
    context: &Context,
    lane: &Lane,
    events: &[&Event],
    lent: &[SecretBytes],
    kept: ResponseHead,
) -> ResponseHead {
    let snapshot = context.configuration.current();
    let kind = |event: &Event| snapshot.as_ref().and_then(|it| it.event_type(&event.event_type));
    let sent = events.iter().map(|event| (&event.data, kind(event).map(|kind| &**kind)));
    scrub::clean(lane, lent, sent, kept)
}

mod together;

pub(super) use together::{Together, fire_together};

#[cfg(test)]
mod tests;
