//! PreviewDelivery: what would be sent, by the same functions that nodes send by.
//!
//! Nothing is stored and nothing leaves. Whoever may see this may reveal the keys as well, so
//! signatures are shown; credentials are not, for they are the receiver's.

use std::time::Duration;

use pregon_core::attempt::MASKED;
use pregon_core::clock::Timestamp;
use pregon_core::contract::Failure;
use pregon_core::contract::{
    Contract, RenderInput, SigningKey, SigningKeys, render, sign, signatures,
};
use pregon_core::error::{Reason, Refusal, Rule, Violations};
use pregon_core::event::Event;
use pregon_core::expr::{Labelled, Scope, SubscriptionView, Verdict};
use pregon_core::id::{DeliveryKey, EventId, EventName, SubscriptionName};
use pregon_core::model::{Secret, Subscription, Tenant};
use pregon_core::url::EndpointUrl;
use pregon_proto::v1;
use pregon_proto::v1::preview_delivery_request::Source;
use pregon_rpc::time;

use super::kind::contract_of;
use crate::filters::Filters;
use crate::given::Given;
use crate::receiver::{Identity, shown_headers};
use crate::secrets::is_live;
use crate::{Control, parse};

/// The highest number that an attempt can have.
const ATTEMPTS: i32 = 100;
/// Secrets that one call to the store lists.
const CHUNK: usize = 1000;

/// Which event is to be shown.
enum Shown {
    Given(Given),
    Stored(EventName),
}

/// A request for a preview, parsed.
struct Wanted {
    name: SubscriptionName,
    event: Shown,
    attempt: u32,
    time: Option<Timestamp>,
}

impl Wanted {
    fn parse(request: &v1::PreviewDeliveryRequest, data_limit: usize) -> Result<Self, Refusal> {
        let mut wrong = Violations::new();
        let name = wrong.check("name", SubscriptionName::parse(&request.name));
        let event = match &request.source {
            Some(Source::Event(given)) => {
                Given::parse(given, data_limit, &mut wrong).map(Shown::Given)
            }
            Some(Source::StoredEvent(name)) => {
                wrong.check("stored_event", EventName::parse(name)).map(Shown::Stored)
            }
            None => {
                wrong.add("event", Rule::Required, "event or stored_event must be set");
                None
            }
        };
        let attempt = match request.attempt {
            0 => Ok(1),
            given => parse::within(given, 1, ATTEMPTS),
        };
        let attempt = wrong.check("attempt", attempt).and_then(|n| u32::try_from(n).ok());
        let time = parse::moment("time", request.time.as_ref(), &mut wrong);
        let parsed = name.zip(event).zip(attempt);
        let ((name, event), attempt) = parse::done(wrong, parsed)?;
        Ok(Self { name, event, attempt, time })
    }
}

impl Control {
    pub(crate) async fn preview_delivery(
        &self,
        request: v1::PreviewDeliveryRequest,
    ) -> Result<v1::PreviewDeliveryResponse, Refusal> {
        let Wanted { name, event, attempt, time } = Wanted::parse(&request, self.event_data_limit)?;
        let subscription = self.fetch::<Subscription>(&name.to_string()).await?.value;
        let tenant = self.fetch::<Tenant>(&name.tenant.name()).await?.value;
        let contract = self.contract(&subscription.contract).await?;
        let contract = contract_of(&subscription, &contract);
        // What is matched, and what is shown of it.
        let (event, shown) = match event {
            Shown::Stored(event) => {
                if event.tenant != name.tenant {
                    return Err(Refusal::not_found("event", event.to_string()));
                }
                let name = event;
                let (event, _) = self.event(&name).await?;
                if event.erased.is_some() {
                    let text = format!("{name} was erased");
                    return Err(Refusal::new(Reason::StateConflict, text).about("event", name));
                }
                let shown = self.redacted(event.clone()).await?;
                (event, shown)
            }
            Shown::Given(given) => {
                self.type_of(&given).await?;
                let now = self.clock.now();
                let id = EventId::assigned(crate::given::nowhere(now));
                let event = given.event(&name.tenant, None, id, now);
                (event.clone(), event)
            }
        };
        let url = EndpointUrl::parse_stored(&subscription.url)
            .map_err(|wrong| Refusal::new(Reason::Internal, wrong.description))?;
        let position = event.position;
        let input = RenderInput {
            event: &shown,
            tenant_labels: &tenant.common.labels,
            delivery: DeliveryKey { position, lane: subscription.lane, replay: None },
            create_time: event.accept_time(),
            test: false,
            subscription: &subscription.id,
            subscription_labels: &subscription.common.labels,
            url: &url,
            attempt,
            attempt_time: time.unwrap_or_else(|| self.clock.now()),
            user_agent: &self.user_agent,
        };
        let keys = self.signing_keys(&name).await?;
        let match_steps = steps(&self.filters, &subscription, &tenant, &event, &contract);
        let matches = match_steps.iter().all(|step| step.passed);
        let planned = planned(&contract);
        let mut answer = v1::PreviewDeliveryResponse {
            matches,
            match_steps,
            method: "POST".to_owned(),
            url: subscription.url.clone(),
            planned,
            ..Default::default()
        };
        if let Err(error) = show(&contract, &input, &keys, &subscription, &mut answer) {
            answer.render_error = error.to_string();
        }
        Ok(answer)
    }

    /// The keys that a subscription's requests are signed with, whether now or later.
    async fn signing_keys(&self, name: &SubscriptionName) -> Result<SigningKeys, Refusal> {
        let (now, prefix) = (self.clock.now(), format!("{name}/secrets/"));
        let secrets = self.list::<Secret>(&prefix, "", CHUNK).await?;
        let mut keys = Vec::new();
        for secret in secrets.iter().map(|it| &it.value).filter(|it| is_live(it, now)) {
            let (from, to) = (secret.activate_time, secret.expire_time);
            let key = self.open(secret)?;
            let key = SigningKey::new(secret.id.clone(), secret.algorithm, &key, from, to);
            keys.push(key.map_err(|wrong| Refusal::new(Reason::Internal, wrong.description))?);
        }
        Ok(SigningKeys::new(keys))
    }
}

/// Every check of matching, in order.
pub(crate) fn steps(
    filters: &Filters,
    subscription: &Subscription,
    tenant: &Tenant,
    event: &Event,
    contract: &Contract,
) -> Vec<v1::MatchStep> {
    let step = |check: &str, passed: bool, detail: String| v1::MatchStep {
        check: check.to_owned(),
        passed,
        detail,
    };
    let (kind, state) = (&event.event_type, subscription.state);
    let same = event.environment == subscription.environment;
    let pattern = pattern(subscription, event);
    let patterns = match pattern {
        Some(pattern) => format!("{kind} matches {pattern}"),
        None => format!("{kind} matches none of the patterns"),
    };
    let (carries, id) = (contract.carries(kind), contract.id().name());
    let (wanted, filter) = filtered(filters, subscription, tenant, event);
    let mut steps = vec![
        step("state", state.matches(), format!("the subscription is {state}")),
        step(
            "environment",
            same,
            format!(
                "the event is {}, the subscription {}",
                event.environment, subscription.environment
            ),
        ),
        step("event_types", pattern.is_some(), patterns),
        step(
            "contract",
            carries,
            format!("{id} {} {kind}", if carries { "carries" } else { "does not carry" }),
        ),
        step("filter", wanted, filter),
    ];
    if !event.is_for_all() {
        let chosen = event.is_for(&subscription.id);
        let verb = if chosen { "names" } else { "does not name" };
        steps.insert(0, step(CHOSEN, chosen, format!("the event {verb} it")));
    }
    steps
}

/// The check of whether an event is for this subscription, where its publisher chose some.
const CHOSEN: &str = "subscriptions";

/// The first check that refuses an event; the filter, which costs most, is asked last.
pub(crate) fn refused_by(
    filters: &Filters,
    subscription: &Subscription,
    tenant: &Tenant,
    event: &Event,
    contract: &Contract,
) -> Option<&'static str> {
    if !event.is_for(&subscription.id) {
        Some(CHOSEN)
    } else if !subscription.state.matches() {
        Some("state")
    } else if event.environment != subscription.environment {
        Some("environment")
    } else if pattern(subscription, event).is_none() {
        Some("event_types")
    } else if !contract.carries(&event.event_type) {
        Some("contract")
    } else {
        (!filtered(filters, subscription, tenant, event).0).then_some("filter")
    }
}

/// The first of a subscription's patterns that an event's type matches.
fn pattern<'a>(subscription: &'a Subscription, event: &Event) -> Option<&'a String> {
    subscription.event_types.iter().find(|text| {
        let pattern = pregon_core::pattern::Pattern::parse(text);
        pattern.is_ok_and(|pattern| pattern.matches(&event.event_type))
    })
}

/// Whether the filter lets an event pass, and why.
fn filtered(
    filters: &Filters,
    subscription: &Subscription,
    tenant: &Tenant,
    event: &Event,
) -> (bool, String) {
    if subscription.filter.is_empty() {
        return (true, "there is none".to_owned());
    }
    let filter = match filters.compiled(&subscription.filter) {
        Ok(filter) => filter,
        Err(wrong) => return (false, format!("it cannot be used: {}", wrong.description)),
    };
    let scope = Scope {
        event: Some(event.into()),
        tenant: Some(Labelled { id: tenant.id.as_str(), labels: &tenant.common.labels }),
        subscription: Some(SubscriptionView {
            id: subscription.id.as_str(),
            labels: &subscription.common.labels,
            url: &subscription.url,
            environment: subscription.environment.word(),
        }),
        ..Scope::default()
    };
    match filter.holds(&scope) {
        Verdict::True => (true, "it holds".to_owned()),
        Verdict::False => (false, "it does not hold".to_owned()),
        Verdict::Unevaluable(reason) => (false, format!("it cannot be evaluated: {reason}")),
    }
}

/// Fills in the request and its signatures.
fn show(
    contract: &Contract,
    input: &RenderInput<'_>,
    keys: &SigningKeys,
    subscription: &Subscription,
    answer: &mut v1::PreviewDeliveryResponse,
) -> Result<(), pregon_core::contract::RenderError> {
    let rendered = render(contract, input)?;
    let made = signatures(contract, &rendered, input, keys)?;
    let signed = sign(contract, &rendered, input, keys)?;
    let line = |name: &str, value: &str| v1::Header {
        name: name.to_owned(),
        value: value.into(),
        ..Default::default()
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    answer.headers = signed.headers.iter().map(|it| line(&it.name, &text(&it.value))).collect();
    let auth = Identity::of(&subscription.auth, &subscription.trust).header;
    answer.headers.extend(auth.map(|name| line(name, MASKED)));
    let own = shown_headers(&subscription.headers);
    answer.headers.extend(own.iter().map(|own| line(&own.name, &own.value)));
    answer.signatures = made
        .into_iter()
        .map(|it| v1::PreviewSignature {
            name: it.name.into(),
            key_id: it.key.to_string(),
            signed_payload: it.payload.to_vec(),
            value: it.value,
        })
        .collect();
    if let Some(url) = &signed.url {
        answer.url = url.to_string();
    }
    let body = signed.plain.as_ref().unwrap_or(&signed.body);
    answer.body_text = text(body);
    answer.body = body.to_vec();
    Ok(())
}

/// When each attempt would be made if every one failed at once.
fn planned(contract: &Contract) -> Vec<v1::PlannedAttempt> {
    let planned = |send: Send| v1::PlannedAttempt {
        attempt: crate::map::small(send.attempt),
        offset: Some(time::duration(send.offset)),
        earliest: Some(time::duration(send.earliest)),
        latest: Some(time::duration(send.latest)),
        timeout: Some(time::duration(contract.timeout(send.attempt))),
    };
    sends(contract, 1, Duration::ZERO).into_iter().map(planned).collect()
}

/// An attempt of a schedule; times are from the first one listed.
pub(crate) struct Send {
    pub attempt: u32,
    pub offset: Duration,
    pub earliest: Duration,
    pub latest: Duration,
}

/// The attempts from `first` on if every one failed at once; the first of them is made at that age
/// of its delivery.
pub(crate) fn sends(contract: &Contract, first: u32, age: Duration) -> Vec<Send> {
    let (retry, mut sends) = (contract.retry(), Vec::new());
    let (mut offset, mut earliest, mut latest) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    for attempt in first..=retry.sends() {
        sends.push(Send { attempt, offset, earliest, latest });
        let (took, age) = (Duration::ZERO, age.saturating_add(offset));
        let failure = Failure { attempt, took, age, status: None, retry_after: None };
        let Some(wait) = retry.next(failure, 0.5) else { break };
        let own = retry.delay(attempt).unwrap_or(wait);
        offset = offset.saturating_add(wait);
        earliest = earliest.saturating_add(own.mul_f64(1.0 - retry.jitter()));
        latest = latest.saturating_add(own.mul_f64(1.0 + retry.jitter()));
    }
    sends
}
