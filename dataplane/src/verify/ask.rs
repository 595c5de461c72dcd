//! One asking: the requests of a contract's `verification`, in order, until one fails.

use std::time::Duration;

use http::Method;
use pregon_core::clock::Timestamp;
use pregon_core::contract::{
    Answer, ChallengeInput, ChallengeMethod, VerificationRule, answers_challenge, challenge,
};
use pregon_core::id::LaneNo;
use pregon_core::limits;
use pregon_core::model::{Asked, KEPT};
use pregon_core::outcome::ErrorClass;
use pregon_core::retry_after;
use pregon_core::secret::SecretBytes;
use tokio::time::Instant;

use super::Verifier;
use super::told::{Refused, Told};
use super::turn::Taken;
use crate::egress::{Asks, OutboundRequest, Resend, Response};
use crate::snapshot::Lane;
use crate::worker::scrub;
use crate::{oauth, outbound};

/// How long the node may take to serve the revision that took the turn.
const SERVED_WITHIN: Duration = Duration::from_secs(5);

/// Why a step failed.
#[derive(Default)]
struct Failed {
    reason: String,
    class: Option<ErrorClass>,
    status: Option<u16>,
    retry_after: Option<Duration>,
    excerpt: String,
}

impl Failed {
    fn local(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), class: Some(ErrorClass::Local), ..Self::default() }
    }
}

/// Asks a receiver whose turn was taken, and reports how it went.
pub(super) async fn ask(of: &Verifier, no: LaneNo, taken: &Taken) -> Told {
    let begun = Instant::now();
    let snapshot = of.configuration.wait_for(taken.revision, SERVED_WITHIN).await.ok();
    // A tenant whose document cannot be read has no rules here: nothing goes out then.
    let gaps = snapshot.as_ref().map(|snapshot| snapshot.gaps()).filter(|gaps| gaps.stop());
    let lane = snapshot.as_ref().and_then(|snapshot| snapshot.lane(no));
    let lane = lane.filter(|lane| {
        lane.url.as_str() == taken.subscription.url
            && *lane.contract.id() == taken.subscription.contract
    });
    let rule = lane.and_then(|lane| lane.contract.verification());
    let (step, made) = match (gaps, lane, rule) {
        (Some(gaps), ..) => (0, Err(Failed::local(gaps.stop_text()))),
        (None, None, _) => (0, Err(Failed::local("the node does not serve the subscription"))),
        (None, Some(_), None) => (0, Ok(0)), // the contract asks for nothing any more
        (None, Some(lane), Some(rule)) => steps(of, lane, rule, taken).await,
    };
    let ended = of.clock.now();
    let mut asked = Asked { time: ended, node: of.node.name(), ..Asked::default() };
    let told = match made {
        Ok(status) => {
            asked.status = status;
            Told::Passed { asked, repeat: rule.and_then(VerificationRule::repeat) }
        }
        Err(failed) => {
            let Failed { reason, class, status, retry_after, excerpt } = failed;
            asked.step = step;
            asked.status = status.unwrap_or(0);
            asked.class = class.map(|class| class.word().to_owned()).unwrap_or_default();
            let steps = rule.map_or(1, VerificationRule::steps);
            asked.reason = match step {
                0 => cut(&reason),
                step => cut(&format!("step {step} of {steps}: {reason}")),
            };
            asked.excerpt = excerpt;
            let refused = Refused { ended, took: begun.elapsed(), class, status, retry_after };
            Told::Failed { asked, refused, rule: rule.cloned() }
        }
    };
    report(of, taken, &told);
    told
}

fn report(of: &Verifier, taken: &Taken, told: &Told) {
    let (passed, asked) = match told {
        Told::NotAsked => return,
        Told::Passed { asked, .. } => (true, asked),
        Told::Failed { asked, .. } => (false, asked),
    };
    let class = ErrorClass::ALL.iter().find(|class| class.word() == asked.class).copied();
    of.telemetry.metrics().verified(passed, class);
    tracing::info!(
        subscription = %taken.subscription.name(),
        verification = taken.id,
        passed,
        step = asked.step,
        status = asked.status,
        error_class = class.map(ErrorClass::word),
        reason = asked.reason,
        "asked for its verification"
    );
}

/// All steps; the status of the last answer, or the step that failed, from 1, and why.
async fn steps(
    of: &Verifier,
    lane: &Lane,
    rule: &VerificationRule,
    taken: &Taken,
) -> (u32, Result<u16, Failed>) {
    let mut random = Ok(());
    let text = rule.challenge().text(&mut |bytes| {
        if random.is_ok() {
            random = getrandom::fill(bytes);
        }
        if random.is_err() {
            // What fits every alphabet: it is not used.
            bytes.fill(1);
        }
    });
    if let Err(error) = random {
        return (0, Err(Failed::local(format!("the system gives no random bits: {error}"))));
    }
    let input = ChallengeInput {
        id: &taken.id,
        time: of.clock.now(),
        text: &text,
        tenant: &lane.name.tenant,
        tenant_labels: &lane.tenant_labels,
        subscription: &lane.name.subscription,
        subscription_labels: &lane.labels,
        environment: lane.environment,
        url: &lane.url,
        user_agent: &of.user_agent,
    };
    let mut status = 0;
    for (number, step) in (1..).zip(0..rule.steps()) {
        match one(of, lane, step, &input).await {
            Ok(answered) => status = answered,
            Err(failed) => return (number, Err(failed)),
        }
    }
    (0, Ok(status))
}

/// One step; the status that it was answered with.
async fn one(
    of: &Verifier,
    lane: &Lane,
    step: usize,
    input: &ChallengeInput<'_>,
) -> Result<u16, Failed> {
    let contract = &lane.contract;
    let unmade = |reason: String| Failed { reason, ..Failed::default() };
    let made = challenge(contract, step, input, &lane.keys).map_err(|it| unmade(it.to_string()))?;
    let headers = outbound::headers(&made.headers, None, lane.headers.lines());
    let request = OutboundRequest {
        method: match made.method {
            ChallengeMethod::Get => Method::GET,
            ChallengeMethod::Post => Method::POST,
            ChallengeMethod::Head => Method::HEAD,
            ChallengeMethod::Options => Method::OPTIONS,
        },
        uri: None,
        target: lane.target.at(&made.url),
        headers: headers.map_err(|it| unmade(it.to_string()))?,
        spelled: outbound::spelled(&made.headers, lane.headers.spelled()),
        body: made.body,
        keep: limits::RESPONSE_READ,
        asks: Asks::Whole,
        resend: Resend::IfUnsent,
    };
    let client = lane.client.as_ref();
    let exchange = oauth::send(&of.egress, client, &request, contract.timeout(1)).await;
    let response = exchange.result.map_err(|fault| Failed {
        reason: fault.detail.into_owned(),
        class: Some(fault.class),
        ..Failed::default()
    })?;
    let status = response.status.as_u16();
    let lines = response.header_lines();
    let answer = Answer { status, headers: &lines, body: &response.body };
    answers_challenge(contract, step, input, &lane.keys, &answer).map_err(|reason| Failed {
        reason: format!("answered {status}: {reason}"),
        class: None,
        status: Some(status),
        retry_after: asked_for(&response, of.clock.now()),
        excerpt: excerpt(lane, &exchange.lent, response),
    })?;
    Ok(status)
}

fn asked_for(response: &Response, now: Timestamp) -> Option<Duration> {
    response.retry_after().and_then(|value| retry_after::parse(value, now))
}

/// The beginning of a body, without what a receiver may have echoed of credentials and keys.
fn excerpt(lane: &Lane, lent: &[SecretBytes], response: Response) -> String {
    let kept = response.into_head(limits::RESPONSE_KEPT);
    let clean = scrub::clean(lane, lent, [], kept);
    cut(&String::from_utf8_lossy(&clean.body))
}

fn cut(text: &str) -> String {
    text.chars().take(KEPT).collect()
}
