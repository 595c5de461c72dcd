//! What a template may speak of: the simple paths and accessors of contract documents, compiled to
//! an enum. Each is a lookup without an expression engine.

use std::fmt::Display;
use std::io::Write;

use super::render::RenderInput;
use crate::clock::Timestamp;

/// A value that a template names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accessor {
    /// `event.id`
    EventId,
    /// `event.version`
    EventVersion,
    /// `event.unique_id`: the id, with `-v{version}` behind it above version 0.
    EventUniqueId,
    /// `event.type`
    EventType,
    /// `event.time`, when it happened.
    EventTime(TimeForm),
    /// `event.accept_time`
    EventAcceptTime(TimeForm),
    /// `event.environment`
    EventEnvironment,
    /// `event.tenant` and `tenant.id`
    EventTenant,
    /// `event.data`: the publisher's JSON text, spliced as it stands.
    EventData,
    /// `subscription.id`
    SubscriptionId,
    /// `subscription.url` and `request.url`
    SubscriptionUrl,
    /// `delivery.id`: of the delivery that the publish made, over retries and replays alike.
    DeliveryId,
    /// `delivery.replay`
    DeliveryReplay,
    /// `attempt.number`, from 1.
    AttemptNumber,
    /// `attempt.time`, when the attempt began.
    AttemptTime(TimeForm),
    /// `request.method`
    RequestMethod,
    /// `request.body`: the bytes sent; only in a signature's payload.
    RequestBody,
    /// `signature`: the encoded signature; only in a signature's `each`.
    Signature,
}

/// How a time is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeForm {
    /// `….rfc3339(digits)`: UTC with `Z` and exactly so many fractional digits, 0 to 3.
    Rfc3339(u8),
    /// `int(…)`: whole seconds since the Unix epoch.
    Seconds,
}

/// What kind of value an accessor gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text: a JSON string.
    Text,
    /// An integer or a boolean: in JSON as it is written.
    Scalar,
    /// JSON text, which cannot be mixed into a string.
    Json,
    /// The request's body.
    Body,
}

/// How far a rendered value holds: what may share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sharing {
    /// Every attempt of every delivery of the event.
    Event,
    /// Every delivery of the event whose attempt has the same number and time.
    Attempt,
    /// One subscription's attempt.
    Subscription,
}

/// Everything that an accessor can look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub input: &'a RenderInput<'a>,
    /// The rendered body; empty while it is being rendered.
    pub body: &'a [u8],
    /// The encoded signature; empty outside `each`.
    pub signature: &'a str,
}

impl Accessor {
    /// Reads an expression that is a simple path or accessor; none for any other.
    pub fn parse(expression: &str) -> Option<Self> {
        if let Some((path, form)) = TimeForm::parse(expression) {
            return match path {
                "event.time" => Some(Accessor::EventTime(form)),
                "event.accept_time" => Some(Accessor::EventAcceptTime(form)),
                "attempt.time" => Some(Accessor::AttemptTime(form)),
                _ => None,
            };
        }
        Some(match expression.trim() {
            "event.id" => Accessor::EventId,
            "event.version" => Accessor::EventVersion,
            "event.unique_id" => Accessor::EventUniqueId,
            "event.type" => Accessor::EventType,
            "event.environment" => Accessor::EventEnvironment,
            "event.tenant" | "tenant.id" => Accessor::EventTenant,
            "event.data" => Accessor::EventData,
            "subscription.id" => Accessor::SubscriptionId,
            "subscription.url" | "request.url" => Accessor::SubscriptionUrl,
            "delivery.id" => Accessor::DeliveryId,
            "delivery.replay" => Accessor::DeliveryReplay,
            "attempt.number" => Accessor::AttemptNumber,
            "request.method" => Accessor::RequestMethod,
            "request.body" => Accessor::RequestBody,
            "signature" => Accessor::Signature,
            _ => return None,
        })
    }

    /// What kind of value it gives.
    pub fn kind(self) -> Kind {
        match self {
            Accessor::EventId
            | Accessor::EventUniqueId
            | Accessor::EventType
            | Accessor::EventEnvironment
            | Accessor::EventTenant
            | Accessor::SubscriptionId
            | Accessor::SubscriptionUrl
            | Accessor::DeliveryId
            | Accessor::RequestMethod
            | Accessor::Signature => Kind::Text,
            Accessor::EventTime(form)
            | Accessor::EventAcceptTime(form)
            | Accessor::AttemptTime(form) => match form {
                TimeForm::Rfc3339(_) => Kind::Text,
                TimeForm::Seconds => Kind::Scalar,
            },
            Accessor::EventVersion | Accessor::DeliveryReplay | Accessor::AttemptNumber => {
                Kind::Scalar
            }
            Accessor::EventData => Kind::Json,
            Accessor::RequestBody => Kind::Body,
        }
    }

    /// What may share the value.
    pub fn sharing(self) -> Sharing {
        match self {
            Accessor::EventId
            | Accessor::EventVersion
            | Accessor::EventUniqueId
            | Accessor::EventType
            | Accessor::EventTime(_)
            | Accessor::EventAcceptTime(_)
            | Accessor::EventEnvironment
            | Accessor::EventTenant
            | Accessor::EventData
            | Accessor::RequestMethod => Sharing::Event,
            Accessor::AttemptNumber | Accessor::AttemptTime(_) => Sharing::Attempt,
            // The body is as shared as what it is made of, which is counted there.
            Accessor::RequestBody => Sharing::Event,
            Accessor::SubscriptionId
            | Accessor::SubscriptionUrl
            | Accessor::DeliveryId
            | Accessor::DeliveryReplay
            | Accessor::Signature => Sharing::Subscription,
        }
    }

    /// Appends the value: text as it is, numbers in decimal, JSON and the body as their bytes.
    pub(super) fn write(self, view: &View<'_>, out: &mut Vec<u8>) {
        let (input, event) = (view.input, view.input.event);
        match self {
            Accessor::EventId => out.extend_from_slice(event.id.as_str().as_bytes()),
            Accessor::EventVersion => put(out, event.version),
            Accessor::EventUniqueId => {
                out.extend_from_slice(event.id.as_str().as_bytes());
                if event.version > 0 {
                    put(out, format_args!("-v{}", event.version));
                }
            }
            Accessor::EventType => out.extend_from_slice(event.event_type.as_str().as_bytes()),
            Accessor::EventTime(form) => form.write(event.occur_time(), out),
            Accessor::EventAcceptTime(form) => form.write(event.accept_time(), out),
            Accessor::EventEnvironment => {
                out.extend_from_slice(event.environment.word().as_bytes());
            }
            Accessor::EventTenant => out.extend_from_slice(event.tenant.as_str().as_bytes()),
            Accessor::EventData => out.extend_from_slice(&event.data),
            Accessor::SubscriptionId => {
                out.extend_from_slice(input.subscription.as_str().as_bytes());
            }
            Accessor::SubscriptionUrl => out.extend_from_slice(input.url.as_str().as_bytes()),
            Accessor::DeliveryId => put(out, input.delivery.original()),
            Accessor::DeliveryReplay => put(out, input.delivery.replay.is_some()),
            Accessor::AttemptNumber => put(out, input.attempt),
            Accessor::AttemptTime(form) => form.write(input.attempt_time, out),
            Accessor::RequestMethod => out.extend_from_slice(b"POST"),
            Accessor::RequestBody => out.extend_from_slice(view.body),
            Accessor::Signature => out.extend_from_slice(view.signature.as_bytes()),
        }
    }
}

impl TimeForm {
    /// Splits `path.rfc3339(n)` and `int(path)`; none for any other expression.
    fn parse(expression: &str) -> Option<(&str, Self)> {
        let inner = expression.trim().strip_suffix(')')?;
        if let Some(path) = inner.strip_prefix("int(") {
            return Some((path.trim(), TimeForm::Seconds));
        }
        let (path, digits) = inner.split_once(".rfc3339(")?;
        let digits = digits.trim().parse().ok().filter(|digits| *digits <= 3)?;
        Some((path, TimeForm::Rfc3339(digits)))
    }

    fn write(self, time: Timestamp, out: &mut Vec<u8>) {
        match self {
            TimeForm::Rfc3339(digits) => out.extend_from_slice(time.rfc3339(digits).as_bytes()),
            TimeForm::Seconds => put(out, time.seconds()),
        }
    }
}

fn put(out: &mut Vec<u8>, value: impl Display) {
    // Writing to memory cannot fail.
    let _ = write!(out, "{value}");
}
