//! The simple paths and accessors of contract documents, compiled to an enum: each is a lookup
//! without an expression engine. Every other expression goes through [`crate::expr`].

use std::fmt::{self, Display};
use std::io::Write;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::contract::subject::{ChallengeInput, CheckInput, RenderInput, Subject, View};
use crate::error::Wrong;
use crate::expr::Site;
use crate::time_pattern::{TimePattern, Zone};

/// A value that a template names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accessor {
    /// `event.id`; of a callback's question, the check's id.
    EventId,
    /// `event.version`
    EventVersion,
    /// `event.unique_id`: the id, with `-v{version}` behind it above version 0; of a callback's
    /// question, the check's id.
    EventUniqueId,
    /// `event.type`
    EventType,
    /// `event.time`, when it happened; of a callback's question, when it is asked.
    EventTime(TimeForm),
    /// `event.accept_time`
    EventAcceptTime(TimeForm),
    /// `event.environment`
    EventEnvironment,
    /// `event.tenant` and `tenant.id`
    TenantId,
    /// `event.data`: the publisher's JSON text, spliced as it stands.
    EventData,
    /// `subscription.id`
    SubscriptionId,
    /// `subscription.url`; of a callback's question, the callback's.
    SubscriptionUrl,
    /// `request.url`: as it is sent, with the contract's parameters.
    RequestUrl,
    /// `delivery.id`: of the delivery that the publish made, over retries and replays alike.
    DeliveryId,
    /// `delivery.replay`
    DeliveryReplay,
    /// `delivery.test`
    DeliveryTest,
    /// `attempt.number`, from 1.
    AttemptNumber,
    /// `attempt.time`, when the attempt began; of a callback's question, when it is asked.
    AttemptTime(TimeForm),
    /// `request.method`
    RequestMethod,
    /// `request.body`: the bytes sent; in signatures and headers.
    RequestBody,
    /// `signature`: the encoded signature; only in a signature's `each`.
    Signature,
    /// `check.id`
    CheckId,
    /// `check.time`
    CheckTime(TimeForm),
    /// `check.data`: the JSON text that the callback is asked about.
    CheckData,
    /// `callback.id`
    CallbackId,
}

/// How a time is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeForm {
    /// `….rfc3339(digits)`: UTC with `Z` and exactly so many fractional digits, 0 to 3.
    Rfc3339(u8),
    /// `int(…)`: whole seconds since the Unix epoch.
    Seconds,
    /// `….unixMillis()`: milliseconds since the Unix epoch.
    Millis,
    /// `….format(pattern, zone)`.
    Pattern(Arc<(TimePattern, Zone)>),
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

impl Accessor {
    /// Reads an expression that is a simple path or accessor of its site; none for any other.
    ///
    /// # Errors
    ///
    /// A wrong pattern or zone of `format`.
    pub(in crate::contract) fn parse(expression: &str, site: Site) -> Result<Option<Self>, Wrong> {
        let (path, form) = match TimeForm::split(expression.trim())? {
            Some((path, form)) => (path, Some(form)),
            None => (expression.trim(), None),
        };
        Ok(match site {
            Site::CheckTemplate => Self::of_check(path, form),
            // They are seldom asked: the engine is quick enough.
            Site::Challenge | Site::ChallengeAnswer => None,
            Site::Template | Site::Filter | Site::Answer | Site::Verdict => {
                Self::of_event(path, form)
            }
        })
    }

    fn of_event(path: &str, form: Option<TimeForm>) -> Option<Self> {
        Some(match (path, form) {
            ("event.time", Some(form)) => Accessor::EventTime(form),
            ("event.accept_time", Some(form)) => Accessor::EventAcceptTime(form),
            ("attempt.time", Some(form)) => Accessor::AttemptTime(form),
            (_, Some(_)) => return None,
            ("event.id", None) => Accessor::EventId,
            ("event.version", None) => Accessor::EventVersion,
            ("event.unique_id", None) => Accessor::EventUniqueId,
            ("event.type", None) => Accessor::EventType,
            ("event.environment" | "subscription.environment", None) => Accessor::EventEnvironment,
            ("event.tenant" | "tenant.id", None) => Accessor::TenantId,
            ("event.data", None) => Accessor::EventData,
            ("subscription.id", None) => Accessor::SubscriptionId,
            ("subscription.url", None) => Accessor::SubscriptionUrl,
            ("request.url", None) => Accessor::RequestUrl,
            ("delivery.id", None) => Accessor::DeliveryId,
            ("delivery.replay", None) => Accessor::DeliveryReplay,
            ("delivery.test", None) => Accessor::DeliveryTest,
            ("attempt.number", None) => Accessor::AttemptNumber,
            ("request.method", None) => Accessor::RequestMethod,
            ("request.body", None) => Accessor::RequestBody,
            ("signature", None) => Accessor::Signature,
            (_, None) => return None,
        })
    }

    fn of_check(path: &str, form: Option<TimeForm>) -> Option<Self> {
        Some(match (path, form) {
            ("check.time", Some(form)) => Accessor::CheckTime(form),
            (_, Some(_)) => return None,
            ("check.id", None) => Accessor::CheckId,
            ("check.data", None) => Accessor::CheckData,
            ("tenant.id", None) => Accessor::TenantId,
            ("callback.id", None) => Accessor::CallbackId,
            (_, None) => return None,
        })
    }

    /// What kind of value it gives.
    pub fn kind(&self) -> Kind {
        match self {
            Accessor::EventId
            | Accessor::EventUniqueId
            | Accessor::EventType
            | Accessor::EventEnvironment
            | Accessor::TenantId
            | Accessor::SubscriptionId
            | Accessor::SubscriptionUrl
            | Accessor::RequestUrl
            | Accessor::DeliveryId
            | Accessor::RequestMethod
            | Accessor::CheckId
            | Accessor::CallbackId
            | Accessor::Signature => Kind::Text,
            Accessor::EventTime(form)
            | Accessor::EventAcceptTime(form)
            | Accessor::CheckTime(form)
            | Accessor::AttemptTime(form) => match form {
                TimeForm::Rfc3339(_) | TimeForm::Pattern(_) => Kind::Text,
                TimeForm::Seconds | TimeForm::Millis => Kind::Scalar,
            },
            Accessor::EventVersion
            | Accessor::DeliveryReplay
            | Accessor::DeliveryTest
            | Accessor::AttemptNumber => Kind::Scalar,
            Accessor::EventData | Accessor::CheckData => Kind::Json,
            Accessor::RequestBody => Kind::Body,
        }
    }

    /// What may share the value.
    pub fn sharing(&self) -> Sharing {
        match self {
            Accessor::EventId
            | Accessor::EventVersion
            | Accessor::EventUniqueId
            | Accessor::EventType
            | Accessor::EventTime(_)
            | Accessor::EventAcceptTime(_)
            | Accessor::EventEnvironment
            | Accessor::TenantId
            | Accessor::EventData
            | Accessor::RequestMethod => Sharing::Event,
            Accessor::AttemptNumber | Accessor::AttemptTime(_) => Sharing::Attempt,
            // The body is as shared as what it is made of, which is counted there.
            Accessor::RequestBody => Sharing::Event,
            Accessor::SubscriptionId
            | Accessor::SubscriptionUrl
            | Accessor::RequestUrl
            | Accessor::DeliveryId
            | Accessor::DeliveryReplay
            | Accessor::DeliveryTest
            | Accessor::Signature
            | Accessor::CheckId
            | Accessor::CheckTime(_)
            | Accessor::CheckData
            | Accessor::CallbackId => Sharing::Subscription,
        }
    }

    /// Whether a callback's question has it, so that its signatures may speak of it.
    pub(super) fn fits_check(&self) -> bool {
        match self {
            Accessor::EventId
            | Accessor::EventUniqueId
            | Accessor::EventTime(_)
            | Accessor::AttemptNumber
            | Accessor::AttemptTime(_)
            | Accessor::TenantId
            | Accessor::SubscriptionUrl
            | Accessor::RequestUrl
            | Accessor::RequestMethod
            | Accessor::RequestBody
            | Accessor::Signature
            | Accessor::CheckId
            | Accessor::CheckTime(_)
            | Accessor::CheckData
            | Accessor::CallbackId => true,
            Accessor::EventVersion
            | Accessor::EventType
            | Accessor::EventAcceptTime(_)
            | Accessor::EventEnvironment
            | Accessor::EventData
            | Accessor::SubscriptionId
            | Accessor::DeliveryId
            | Accessor::DeliveryReplay
            | Accessor::DeliveryTest => false,
        }
    }

    /// Appends the value: text as it is, numbers in decimal, JSON and the body as their bytes. What
    /// the subject does not have writes nothing: contracts are checked for that when they are read.
    pub(super) fn write(&self, view: &View<'_>, out: &mut Vec<u8>) {
        match (self, view.subject) {
            (Accessor::RequestMethod, subject) => {
                out.extend_from_slice(subject.method().as_bytes());
            }
            (Accessor::RequestUrl, _) => out.extend_from_slice(view.url.as_bytes()),
            (Accessor::RequestBody, _) => out.extend_from_slice(view.body),
            (Accessor::Signature, _) => out.extend_from_slice(view.signature.as_bytes()),
            (accessor, Subject::Delivery(input)) => accessor.write_delivery(input, out),
            (accessor, Subject::Check(input)) => accessor.write_check(input, out),
            (accessor, Subject::Challenge(it)) => accessor.write_challenge(it.input, out),
        }
    }

    fn write_delivery(&self, input: &RenderInput<'_>, out: &mut Vec<u8>) {
        let event = input.event;
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
            Accessor::TenantId => out.extend_from_slice(event.tenant.as_str().as_bytes()),
            Accessor::EventData => out.extend_from_slice(&event.data),
            Accessor::SubscriptionId => {
                out.extend_from_slice(input.subscription.as_str().as_bytes());
            }
            Accessor::SubscriptionUrl => out.extend_from_slice(input.url.as_str().as_bytes()),
            Accessor::DeliveryId => put(out, input.delivery.original()),
            Accessor::DeliveryReplay => put(out, input.delivery.replay.is_some()),
            Accessor::DeliveryTest => put(out, input.test),
            Accessor::AttemptNumber => put(out, input.attempt),
            Accessor::AttemptTime(form) => form.write(input.attempt_time, out),
            Accessor::RequestMethod
            | Accessor::RequestUrl
            | Accessor::RequestBody
            | Accessor::Signature
            | Accessor::CheckId
            | Accessor::CheckTime(_)
            | Accessor::CheckData
            | Accessor::CallbackId => {}
        }
    }

    fn write_check(&self, input: &CheckInput<'_>, out: &mut Vec<u8>) {
        match self {
            Accessor::EventId | Accessor::EventUniqueId | Accessor::CheckId => {
                out.extend_from_slice(input.id.as_bytes());
            }
            Accessor::EventTime(form) | Accessor::AttemptTime(form) | Accessor::CheckTime(form) => {
                form.write(input.time, out)
            }
            Accessor::AttemptNumber => out.push(b'1'),
            Accessor::TenantId => out.extend_from_slice(input.tenant.as_str().as_bytes()),
            Accessor::SubscriptionUrl => out.extend_from_slice(input.url.as_str().as_bytes()),
            Accessor::CheckData => out.extend_from_slice(input.data),
            Accessor::CallbackId => out.extend_from_slice(input.callback.as_str().as_bytes()),
            Accessor::EventVersion
            | Accessor::EventType
            | Accessor::EventAcceptTime(_)
            | Accessor::EventEnvironment
            | Accessor::EventData
            | Accessor::SubscriptionId
            | Accessor::DeliveryId
            | Accessor::DeliveryReplay
            | Accessor::DeliveryTest
            | Accessor::RequestMethod
            | Accessor::RequestUrl
            | Accessor::RequestBody
            | Accessor::Signature => {}
        }
    }
}

impl Accessor {
    /// Of a challenge, what signatures may speak of ([`Accessor::fits_check`]).
    fn write_challenge(&self, input: &ChallengeInput<'_>, out: &mut Vec<u8>) {
        match self {
            Accessor::EventId | Accessor::EventUniqueId | Accessor::CheckId => {
                out.extend_from_slice(input.id.as_bytes());
            }
            Accessor::EventTime(form) | Accessor::AttemptTime(form) | Accessor::CheckTime(form) => {
                form.write(input.time, out)
            }
            Accessor::AttemptNumber => out.push(b'1'),
            Accessor::TenantId => out.extend_from_slice(input.tenant.as_str().as_bytes()),
            Accessor::SubscriptionUrl => out.extend_from_slice(input.url.as_str().as_bytes()),
            Accessor::SubscriptionId => {
                out.extend_from_slice(input.subscription.as_str().as_bytes());
            }
            Accessor::EventEnvironment => {
                out.extend_from_slice(input.environment.word().as_bytes());
            }
            Accessor::EventVersion
            | Accessor::EventType
            | Accessor::EventAcceptTime(_)
            | Accessor::EventData
            | Accessor::DeliveryId
            | Accessor::DeliveryReplay
            | Accessor::DeliveryTest
            | Accessor::CheckData
            | Accessor::CallbackId
            | Accessor::RequestUrl
            | Accessor::RequestMethod
            | Accessor::RequestBody
            | Accessor::Signature => {}
        }
    }
}

impl fmt::Display for Accessor {
    /// As a document names it; of a pattern, only that there is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Accessor::EventId => "event.id",
            Accessor::EventVersion => "event.version",
            Accessor::EventUniqueId => "event.unique_id",
            Accessor::EventType => "event.type",
            Accessor::EventTime(form) => return form.show("event.time", f),
            Accessor::EventAcceptTime(form) => return form.show("event.accept_time", f),
            Accessor::EventEnvironment => "event.environment",
            Accessor::TenantId => "tenant.id",
            Accessor::EventData => "event.data",
            Accessor::SubscriptionId => "subscription.id",
            Accessor::SubscriptionUrl => "subscription.url",
            Accessor::RequestUrl => "request.url",
            Accessor::DeliveryId => "delivery.id",
            Accessor::DeliveryReplay => "delivery.replay",
            Accessor::DeliveryTest => "delivery.test",
            Accessor::AttemptNumber => "attempt.number",
            Accessor::AttemptTime(form) => return form.show("attempt.time", f),
            Accessor::RequestMethod => "request.method",
            Accessor::RequestBody => "request.body",
            Accessor::Signature => "signature",
            Accessor::CheckId => "check.id",
            Accessor::CheckTime(form) => return form.show("check.time", f),
            Accessor::CheckData => "check.data",
            Accessor::CallbackId => "callback.id",
        };
        f.write_str(name)
    }
}

impl TimeForm {
    fn show(&self, path: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TimeForm::Rfc3339(digits) => write!(f, "{path}.rfc3339({digits})"),
            TimeForm::Seconds => write!(f, "int({path})"),
            TimeForm::Millis => write!(f, "{path}.unixMillis()"),
            TimeForm::Pattern(_) => write!(f, "{path}.format(…)"),
        }
    }

    /// Splits `path.rfc3339(n)`, `int(path)`, `path.unixMillis()` and `path.format("pattern", "zone")`; none for any
    /// other expression.
    fn split(expression: &str) -> Result<Option<(&str, Self)>, Wrong> {
        let Some(inner) = expression.strip_suffix(')') else { return Ok(None) };
        if let Some(path) = inner.strip_prefix("int(") {
            return Ok(Some((path.trim(), TimeForm::Seconds)));
        }
        if let Some(path) = inner.strip_suffix(".unixMillis(") {
            return Ok(Some((path, TimeForm::Millis)));
        }
        if let Some((path, digits)) = inner.split_once(".rfc3339(") {
            let digits = digits.trim().parse().ok().filter(|digits| *digits <= 3);
            return Ok(digits.map(|digits| (path, TimeForm::Rfc3339(digits))));
        }
        let Some((path, arguments)) = inner.split_once(".format(") else { return Ok(None) };
        // Two literals in double quotes are read here; any other argument is for the engine.
        let Ok([pattern, zone]) = serde_json::from_str::<[String; 2]>(&format!("[{arguments}]"))
        else {
            return Ok(None);
        };
        let form = (TimePattern::parse(&pattern)?, Zone::parse(&zone)?);
        Ok(Some((path, TimeForm::Pattern(Arc::new(form)))))
    }

    fn write(&self, time: Timestamp, out: &mut Vec<u8>) {
        match self {
            TimeForm::Rfc3339(digits) => out.extend_from_slice(time.rfc3339(*digits).as_bytes()),
            TimeForm::Seconds => put(out, time.seconds()),
            TimeForm::Millis => put(out, time.millis()),
            TimeForm::Pattern(form) => form.0.write(time, &form.1, out),
        }
    }
}

fn put(out: &mut Vec<u8>, value: impl Display) {
    // Writing to memory cannot fail.
    let _ = write!(out, "{value}");
}
