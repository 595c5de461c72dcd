//! What a request is about: a delivery of an event, or a question to a callback.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::event::Event;
use crate::expr::{
    AttemptView, CheckView, DeliveryView, Expression, Labelled, RequestView, ResponseView, Root,
    Scope, SubscriptionView,
};
use crate::id::{CallbackId, DeliveryKey, SubscriptionId, TenantId};
use crate::outcome::Answer;
use crate::url::EndpointUrl;

/// Everything that a delivery's request is made of, besides the contract and its keys.
#[derive(Clone, Copy, Debug)]
pub struct RenderInput<'a> {
    /// What happened.
    pub event: &'a Event,
    /// Labels of the tenant that it happened for.
    pub tenant_labels: &'a BTreeMap<String, String>,
    /// Which delivery of it. Receivers see the original's id, also on a replay.
    pub delivery: DeliveryKey,
    /// When the delivery was created.
    pub create_time: Timestamp,
    /// Whether it is a test send.
    pub test: bool,
    /// To whom.
    pub subscription: &'a SubscriptionId,
    /// The subscription's labels.
    pub subscription_labels: &'a BTreeMap<String, String>,
    /// Where to.
    pub url: &'a EndpointUrl,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// When the attempt begins. Taken at the send: receivers refuse signatures that are older than
    /// some minutes.
    pub attempt_time: Timestamp,
    /// The deployment's `user-agent`, for contracts that name none.
    pub user_agent: &'a str,
}

/// Everything that a question to a callback is made of, besides the contract and its keys.
#[derive(Clone, Copy, Debug)]
pub struct CheckInput<'a> {
    /// The check's id.
    pub id: &'a str,
    /// When it is asked.
    pub time: Timestamp,
    /// What it is about: a text that has passed [`crate::json::check`].
    pub data: &'a Bytes,
    /// Whose callback it is.
    pub tenant: &'a TenantId,
    /// Labels of that tenant.
    pub tenant_labels: &'a BTreeMap<String, String>,
    /// Which callback.
    pub callback: &'a CallbackId,
    /// The callback's labels.
    pub callback_labels: &'a BTreeMap<String, String>,
    /// Where to.
    pub url: &'a EndpointUrl,
    /// The deployment's `user-agent`, for contracts that name none.
    pub user_agent: &'a str,
}

/// What a request is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject<'a> {
    /// A delivery of an event.
    Delivery(&'a RenderInput<'a>),
    /// A question to a callback.
    Check(&'a CheckInput<'a>),
}

impl<'a> Subject<'a> {
    /// The deployment's `user-agent`.
    pub(super) fn user_agent(self) -> &'a str {
        match self {
            Subject::Delivery(input) => input.user_agent,
            Subject::Check(input) => input.user_agent,
        }
    }

    /// When the request is made: which keys sign depends on it.
    pub(super) fn time(self) -> Timestamp {
        match self {
            Subject::Delivery(input) => input.attempt_time,
            Subject::Check(input) => input.time,
        }
    }

    /// The JSON text that it is about.
    pub(super) fn data(self) -> &'a Bytes {
        match self {
            Subject::Delivery(input) => &input.event.data,
            Subject::Check(input) => input.data,
        }
    }

    fn url(self) -> &'a str {
        match self {
            Subject::Delivery(input) => input.url.as_str(),
            Subject::Check(input) => input.url.as_str(),
        }
    }
}

/// Everything that a value of a template can look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub subject: Subject<'a>,
    /// The body; empty while it is being rendered.
    pub body: &'a Bytes,
    /// The encoded signature; empty outside `each`.
    pub signature: &'a str,
}

/// No body yet.
static NO_BODY: Bytes = Bytes::new();

impl<'a> View<'a> {
    /// Before there is a body.
    pub(super) fn bodiless(subject: Subject<'a>) -> Self {
        Self { subject, body: &NO_BODY, signature: "" }
    }

    /// With the body that is sent.
    pub(super) fn of(subject: Subject<'a>, body: &'a Bytes) -> Self {
        Self { subject, body, signature: "" }
    }

    /// Evaluates an expression over what it may speak of.
    pub(super) fn with_scope<T>(
        &self,
        expression: &Expression,
        evaluate: impl FnOnce(&Scope<'_>) -> T,
    ) -> T {
        let request =
            Some(RequestView { method: "POST", url: self.subject.url(), body: self.body });
        with_scope(self.subject, expression, |scope| evaluate(&Scope { request, ..*scope }))
    }
}

/// Evaluates an expression over a subject and a receiver's answer.
pub(super) fn with_answer<T>(
    subject: Subject<'_>,
    answer: &Answer<'_>,
    expression: &Expression,
    evaluate: impl FnOnce(&Scope<'_>) -> T,
) -> T {
    let Answer { status, headers, body } = *answer;
    let response = Some(ResponseView { status, headers, body });
    with_scope(subject, expression, |scope| evaluate(&Scope { response, ..*scope }))
}

fn with_scope<T>(
    subject: Subject<'_>,
    expression: &Expression,
    evaluate: impl FnOnce(&Scope<'_>) -> T,
) -> T {
    match subject {
        Subject::Delivery(input) => {
            let id = match expression.speaks_of(Root::Delivery) {
                true => input.delivery.original().to_string(),
                false => String::new(),
            };
            evaluate(&delivery_scope(input, &id))
        }
        Subject::Check(input) => evaluate(&Scope {
            check: Some(CheckView { id: input.id, time: input.time, data: input.data }),
            tenant: Some(Labelled { id: input.tenant.as_str(), labels: input.tenant_labels }),
            callback: Some(Labelled { id: input.callback.as_str(), labels: input.callback_labels }),
            ..Scope::default()
        }),
    }
}

fn delivery_scope<'a>(input: &RenderInput<'a>, delivery_id: &'a str) -> Scope<'a> {
    let event = input.event;
    Scope {
        event: Some(event.into()),
        tenant: Some(Labelled { id: event.tenant.as_str(), labels: input.tenant_labels }),
        subscription: Some(SubscriptionView {
            id: input.subscription.as_str(),
            labels: input.subscription_labels,
            url: input.url.as_str(),
            environment: event.environment.word(),
        }),
        delivery: Some(DeliveryView {
            id: delivery_id,
            create_time: input.create_time,
            replay: input.delivery.replay.is_some(),
            test: input.test,
        }),
        attempt: Some(AttemptView { number: input.attempt, time: input.attempt_time }),
        ..Scope::default()
    }
}
