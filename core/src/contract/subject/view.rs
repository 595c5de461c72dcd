//! What a request is about, a delivery of an event or a question to a callback, and what the values
//! of a contract see of it.

use bytes::Bytes;

use super::answer::Answer;
use super::input::{ChallengeInput, CheckInput, RenderInput};
use crate::clock::Timestamp;
use crate::expr::{
    AttemptView, ChallengeView, CheckView, DeliveryView, Expression, KeyView, Labelled,
    RequestView, ResponseView, Root, Scope, SubscriptionView,
};

/// What a request is about.
#[derive(Clone, Copy)]
pub(in crate::contract) enum Subject<'a> {
    /// A delivery of an event.
    Delivery(&'a RenderInput<'a>),
    /// A question to a callback.
    Check(&'a CheckInput<'a>),
    /// A challenge to a subscription's receiver.
    Challenge(&'a Challenge<'a>),
}

/// A challenge, and the request that carries it.
#[derive(Clone, Copy)]
pub(in crate::contract) struct Challenge<'a> {
    pub input: &'a ChallengeInput<'a>,
    /// The newest key that both sides have, if there is one.
    pub key: Option<KeyView<'a>>,
    /// The request's method.
    pub method: &'static str,
    /// The request's URL: the subscription's, and what the step adds.
    pub url: &'a str,
}

impl<'a> Subject<'a> {
    /// The deployment's `user-agent`.
    pub(in crate::contract) fn user_agent(self) -> &'a Bytes {
        match self {
            Subject::Delivery(input) => input.user_agent,
            Subject::Check(input) => input.user_agent,
            Subject::Challenge(it) => it.input.user_agent,
        }
    }

    /// When the request is made: which keys sign depends on it.
    pub(in crate::contract) fn time(self) -> Timestamp {
        match self {
            Subject::Delivery(input) => input.attempt_time,
            Subject::Check(input) => input.time,
            Subject::Challenge(it) => it.input.time,
        }
    }

    /// The JSON text that it is about.
    pub(in crate::contract) fn data(self) -> &'a Bytes {
        match self {
            Subject::Delivery(input) => &input.event.data,
            Subject::Check(input) => input.data,
            Subject::Challenge(_) => &NOTHING,
        }
    }

    /// The method of the request.
    pub(in crate::contract) fn method(self) -> &'static str {
        match self {
            Subject::Delivery(_) | Subject::Check(_) => "POST",
            Subject::Challenge(it) => it.method,
        }
    }

    /// The URL of the subscription or callback.
    pub(in crate::contract) fn url(self) -> &'a str {
        match self {
            Subject::Delivery(input) => input.url.as_str(),
            Subject::Check(input) => input.url.as_str(),
            Subject::Challenge(it) => it.url,
        }
    }
}

/// Everything that a value of a template can look at.
#[derive(Clone, Copy)]
pub(in crate::contract) struct View<'a> {
    pub subject: Subject<'a>,
    /// The body; empty while it is being rendered.
    pub body: &'a Bytes,
    /// The encoded signature; empty outside `each`.
    pub signature: &'a str,
    /// The URL as far as it is known: with the contract's parameters once they are.
    pub url: &'a str,
    /// What a signature is made with; none outside of one.
    pub key: Option<&'a KeyView<'a>>,
}

/// No body yet, or no data.
static NOTHING: Bytes = Bytes::new();

impl<'a> View<'a> {
    /// Before there is a body.
    pub(in crate::contract) fn bodiless(subject: Subject<'a>) -> Self {
        Self::of(subject, &NOTHING)
    }

    /// With the body that is sent.
    pub(in crate::contract) fn of(subject: Subject<'a>, body: &'a Bytes) -> Self {
        Self { subject, body, url: subject.url(), signature: "", key: None }
    }

    /// Evaluates an expression over what it may speak of.
    pub(in crate::contract) fn with_scope<T>(
        &self,
        expression: &Expression,
        evaluate: impl FnOnce(&Scope<'_>) -> T,
    ) -> T {
        let request =
            Some(RequestView { method: self.subject.method(), url: self.url, body: self.body });
        let (key, signature) = (self.key.copied(), Some(self.signature));
        let around = Scope { request, key, signature, ..Scope::default() };
        with_scope(self.subject, expression, around, evaluate)
    }
}

/// Evaluates an expression over a subject and a receiver's answer.
pub(in crate::contract) fn with_answer<T>(
    subject: Subject<'_>,
    answer: &Answer<'_>,
    expression: &Expression,
    evaluate: impl FnOnce(&Scope<'_>) -> T,
) -> T {
    let Answer { status, headers, body } = *answer;
    let response = Some(ResponseView { status, headers, body });
    let around = Scope { response, ..Scope::default() };
    with_scope(subject, expression, around, evaluate)
}

/// Evaluates an expression over a subject and what `around` knows besides.
fn with_scope<T>(
    subject: Subject<'_>,
    expression: &Expression,
    around: Scope<'_>,
    evaluate: impl FnOnce(&Scope<'_>) -> T,
) -> T {
    match subject {
        Subject::Delivery(input) => {
            let id = match expression.speaks_of(Root::Delivery) {
                true => input.delivery.original().to_string(),
                false => String::new(),
            };
            evaluate(&delivery_scope(input, &id, around))
        }
        Subject::Check(input) => evaluate(&Scope {
            check: Some(CheckView { id: input.id, time: input.time, data: input.data }),
            tenant: Some(Labelled { id: input.tenant.as_str(), labels: input.tenant_labels }),
            callback: Some(Labelled { id: input.callback.as_str(), labels: input.callback_labels }),
            ..around
        }),
        Subject::Challenge(challenge) => evaluate(&challenge_scope(challenge, around)),
    }
}

fn delivery_scope<'a>(
    input: &RenderInput<'a>,
    delivery_id: &'a str,
    around: Scope<'a>,
) -> Scope<'a> {
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
        ..around
    }
}

fn challenge_scope<'a>(challenge: &Challenge<'a>, around: Scope<'a>) -> Scope<'a> {
    let input = challenge.input;
    Scope {
        key: around.key.or(challenge.key),
        challenge: Some(ChallengeView { id: input.id, time: input.time, text: input.text }),
        tenant: Some(Labelled { id: input.tenant.as_str(), labels: input.tenant_labels }),
        subscription: Some(SubscriptionView {
            id: input.subscription.as_str(),
            labels: input.subscription_labels,
            url: input.url.as_str(),
            environment: input.environment.word(),
        }),
        ..around
    }
}
