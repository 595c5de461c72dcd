//! The wire contract as data: what a receiver sees, what counts as its acknowledgement, and when
//! an attempt is repeated.
//!
//! A contract is stated as a [`ContractSpec`] (by this crate for the built-in ones, by a document
//! for others) and becomes a [`Contract`] once, when all of it is checked and its templates are
//! compiled. From then on everything is a pure function over it:
//!
//! - [`render()`] makes body and headers, shared by subscriptions as far as [`Contract::sharing`];
//! - [`sign()`] adds the signatures of one subscription's keys over exactly those bytes;
//! - [`crate::outcome::decide`] judges the answer and plans the next attempt.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::error::{Rule, Wrong};
use crate::header::{is_name, is_reserved, is_value};
use crate::id::{ContractId, EventTypeId};
use crate::pattern::Pattern;
use crate::secret::{SecretEncoding, SecretForm};
use crate::url::UrlRules;

pub mod accessor;
pub mod builtin;
pub mod condition;
pub mod render;
pub mod retry;
pub mod sign;
pub mod template;

pub use accessor::Sharing;
pub use builtin::standard_webhooks;
pub use condition::Condition;
pub use render::{HeaderLine, RenderError, RenderInput, Rendered, render};
pub use retry::Retry;
pub use sign::{
    Signature, SignatureAlgorithm, SignatureBytes, Signed, Signer, SigningKey, SigningKeys, sign,
};
pub use template::{Template, TextTemplate};

use template::{BodyTemplate, Place};

/// Attempt timeouts that a contract may list.
pub const TIMEOUTS: RangeInclusive<usize> = 1..=32;
/// What an attempt's timeout may be: below a second fails on a far network, above half a minute
/// ties up a slot.
pub const TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);
/// An attempt's timeout where the contract names none.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(15);
/// Headers and signatures a contract may set: as many as a subscription.
pub const HEADERS: usize = 20;

/// What kind of text the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFormat {
    /// JSON.
    Json,
}

/// In which form the body is sent and signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canonical {
    /// As it was rendered.
    Verbatim,
}

/// What a contract asks of a subscription's secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRule {
    /// Whether a request may not go out unsigned.
    pub required: bool,
    /// How a secret looks as text.
    pub form: SecretForm,
}

/// A contract as it is stated, key by key.
#[derive(Clone, Debug, PartialEq)]
pub struct ContractSpec {
    /// Its id.
    pub id: ContractId,
    /// The types it carries; an event of another type does not match a subscription under it.
    pub event_types: Vec<Pattern>,
    /// What is sent.
    pub body: Template,
    /// What kind of text that is.
    pub body_format: BodyFormat,
    /// In which form it is sent and signed.
    pub canonical: Canonical,
    /// `content-type`; none: by the body's format.
    pub content_type: Option<Box<str>>,
    /// `user-agent`; none: the deployment's.
    pub user_agent: Option<Box<str>>,
    /// Headers in order; names in lower case.
    pub headers: Vec<(Arc<str>, TextTemplate)>,
    /// Whether W3C trace context goes to the receiver.
    pub traceparent: bool,
    /// What is asked of secrets.
    pub secret: SecretRule,
    /// Signatures in order.
    pub signatures: Vec<Signature>,
    /// Which answers end the delivery as SUCCEEDED.
    pub acknowledge: Condition,
    /// Which others end it as FAILED at once.
    pub refuse: Condition,
    /// Which others do the same and disable the subscription.
    pub disable: Condition,
    /// From connect to the last byte of the answer's body, by attempt; the last repeats.
    pub timeouts: Vec<Duration>,
    /// When a failed attempt is repeated.
    pub retry: Retry,
    /// Which URLs a subscription may have; none: as the deployment allows.
    pub url: Option<UrlRules>,
}

impl ContractSpec {
    /// A contract that says nothing but its id: event data as JSON, unsigned, 2xx acknowledges.
    pub fn new(id: ContractId) -> Result<Self, Wrong> {
        Ok(Self {
            id,
            event_types: vec![Pattern::every()],
            body: Template::text("${event.data}")?,
            body_format: BodyFormat::Json,
            canonical: Canonical::Verbatim,
            content_type: None,
            user_agent: None,
            headers: Vec::new(),
            traceparent: true,
            secret: SecretRule {
                required: false,
                form: SecretForm::new(SecretEncoding::Text, "", 1..=256, 32)?,
            },
            signatures: Vec::new(),
            acknowledge: Condition::success(),
            refuse: Condition::Never,
            disable: Condition::Never,
            timeouts: vec![TIMEOUT_DEFAULT],
            retry: Retry::standard(),
            url: None,
        })
    }
}

/// A contract, checked and compiled.
#[derive(Clone, Debug)]
pub struct Contract {
    id: ContractId,
    event_types: Vec<Pattern>,
    body: BodyTemplate,
    content_type: Bytes,
    user_agent: Option<Bytes>,
    headers: Vec<(Arc<str>, TextTemplate)>,
    traceparent: bool,
    secret: SecretRule,
    signatures: Vec<Signature>,
    acknowledge: Condition,
    refuse: Condition,
    disable: Condition,
    timeouts: Vec<Duration>,
    retry: Retry,
    url: Option<UrlRules>,
    sharing: Sharing,
    names: Names,
}

/// Header names that every request has, allocated once.
#[derive(Clone, Debug)]
struct Names {
    content_type: Arc<str>,
    user_agent: Arc<str>,
}

impl Contract {
    /// Checks and compiles a contract, or says what is wrong with it.
    pub fn new(spec: ContractSpec) -> Result<Self, Wrong> {
        check_timeouts(&spec.timeouts)?;
        check_headers(&spec)?;
        for signature in &spec.signatures {
            let sign::SignaturePlace::Header { each, prefix, .. } = &signature.place;
            signature.payload.check(Place::Payload)?;
            prefix.check(Place::Header)?;
            each.check(Place::Each)?;
        }
        if spec.secret.required && spec.signatures.is_empty() {
            return Err(invalid("secret.required needs one of signatures to use it"));
        }
        // One form each: whoever adds another decides here what becomes of the body.
        let BodyFormat::Json = spec.body_format;
        let Canonical::Verbatim = spec.canonical;
        let content_type = spec.content_type.unwrap_or_else(|| "application/json".into());
        if !is_value(content_type.as_bytes()) {
            return Err(invalid("content_type cannot be a header's value"));
        }
        if !spec.user_agent.as_ref().is_none_or(|agent| is_value(agent.as_bytes())) {
            return Err(invalid("user_agent cannot be a header's value"));
        }
        let body = BodyTemplate::compile(&spec.body)?;
        let headers = spec.headers.iter().map(|(_, template)| template.sharing());
        Ok(Self {
            sharing: headers.fold(body.sharing(), Sharing::max),
            id: spec.id,
            event_types: spec.event_types,
            body,
            content_type: content_type.into_boxed_bytes().into(),
            user_agent: spec.user_agent.map(|agent| agent.into_boxed_bytes().into()),
            headers: spec.headers,
            traceparent: spec.traceparent,
            secret: spec.secret,
            signatures: spec.signatures,
            acknowledge: spec.acknowledge,
            refuse: spec.refuse,
            disable: spec.disable,
            timeouts: spec.timeouts,
            retry: spec.retry,
            url: spec.url,
            names: Names { content_type: "content-type".into(), user_agent: "user-agent".into() },
        })
    }

    /// Its id.
    pub fn id(&self) -> &ContractId {
        &self.id
    }

    /// Whether it carries events of this type.
    pub fn carries(&self, event_type: &EventTypeId) -> bool {
        self.event_types.iter().any(|pattern| pattern.matches(event_type))
    }

    /// How far one [`Rendered`] holds.
    pub fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// Names of the headers it sets, which a subscription may not: in lower case.
    pub fn header_names(&self) -> Vec<&str> {
        header_names(&self.headers, &self.signatures).collect()
    }

    /// Whether W3C trace context goes to the receiver.
    pub fn traceparent(&self) -> bool {
        self.traceparent
    }

    /// What it asks of secrets.
    pub fn secret(&self) -> &SecretRule {
        &self.secret
    }

    /// Whether an answer with this status ends the delivery as SUCCEEDED.
    pub fn acknowledges(&self, status: u16) -> bool {
        self.acknowledge.holds(status)
    }

    /// Whether an answer that does not acknowledge ends the delivery as FAILED at once.
    pub fn refuses(&self, status: u16) -> bool {
        self.refuse.holds(status) || self.disable.holds(status)
    }

    /// Whether an answer that does not acknowledge disables the subscription.
    pub fn disables(&self, status: u16) -> bool {
        self.disable.holds(status)
    }

    /// How long attempt `attempt` (from 1) may take, from connect to the answer's last byte.
    pub fn timeout(&self, attempt: u32) -> Duration {
        let index = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
        let timeout = self.timeouts.get(index).or(self.timeouts.last());
        timeout.copied().unwrap_or(TIMEOUT_DEFAULT)
    }

    /// When a failed attempt is repeated.
    pub fn retry(&self) -> &Retry {
        &self.retry
    }

    /// Which URLs a subscription may have; none: as the deployment allows.
    pub fn url(&self) -> Option<&UrlRules> {
        self.url.as_ref()
    }
}

fn header_names<'a>(
    headers: &'a [(Arc<str>, TextTemplate)],
    signatures: &'a [Signature],
) -> impl Iterator<Item = &'a str> {
    let own = headers.iter().map(|(name, _)| &**name);
    own.chain(signatures.iter().map(|signature| match &signature.place {
        sign::SignaturePlace::Header { name, .. } => &**name,
    }))
}

fn check_timeouts(timeouts: &[Duration]) -> Result<(), Wrong> {
    match TIMEOUTS.contains(&timeouts.len()) && timeouts.iter().all(|t| TIMEOUT.contains(t)) {
        true => Ok(()),
        false => Err(invalid("timeouts must be 1 to 32, each 1s to 30s")),
    }
}

fn check_headers(spec: &ContractSpec) -> Result<(), Wrong> {
    if spec.headers.len() > HEADERS || spec.signatures.len() > HEADERS {
        return Err(invalid("headers and signatures must be 20 each at most"));
    }
    for name in header_names(&spec.headers, &spec.signatures) {
        if !is_name(name) || is_reserved(name) || name.bytes().any(|b| b.is_ascii_uppercase()) {
            let text =
                format!("header {name:?} must be a lower-case name that is not the sender's");
            return Err(invalid(text));
        }
        if is_set_twice(spec, name) {
            return Err(invalid(format!("header {name} is set twice")));
        }
    }
    spec.headers.iter().try_for_each(|(_, template)| template.check(Place::Header))
}

/// Signatures may share a header with each other; nothing else may stand twice.
fn is_set_twice(spec: &ContractSpec, name: &str) -> bool {
    let headers = header_names(&spec.headers, &[]).filter(|other| *other == name).count();
    let signed = header_names(&[], &spec.signatures).any(|other| other == name);
    headers + usize::from(signed) > 1
}

fn invalid(description: impl Into<String>) -> Wrong {
    Wrong::new(Rule::ContractInvalid, description)
}

#[cfg(test)]
mod tests;
