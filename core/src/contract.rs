//! The wire contract as data: what a receiver sees, what counts as its acknowledgement, and when
//! an attempt is repeated.
//!
//! A contract is a document ([`Contract::read`], [`document`]); it states a [`ContractSpec`], which
//! becomes a [`Contract`] once, when all of it is checked and its templates are compiled. From then
//! on everything is a pure function over it:
//!
//! - [`render()`] makes body and headers, shared by subscriptions as far as [`Contract::sharing`];
//! - [`sign()`] adds the signatures of one subscription's keys over exactly those bytes;
//! - [`Contract::judge`] says what an answer means, and [`crate::outcome::decide`] plans the next
//!   attempt;
//! - [`render_check`] and [`sign_check`] do the same for a question to a callback, whose answer
//!   [`Verdict::allows`] reads;
//! - [`verify`](verify::verify) is the other side: what a receiver makes of a request.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::error::{Wrong, words};
use crate::expr::Site;
use crate::header::is_value;
use crate::id::{ContractId, EventTypeId};
use crate::model::Auth;
use crate::outcome::{Answer, Judged};
use crate::pattern::Pattern;
use crate::redact::SensitivePath;
use crate::secret::{SecretEncoding, SecretForm};
use crate::url::UrlRules;
use std::fmt;

pub mod accessor;
mod body;
pub mod builtin;
pub mod callback;
mod check;
pub mod condition;
pub mod document;
pub mod render;
pub mod retry;
pub mod sign;
mod subject;
pub mod template;
mod text;
mod value;
pub mod verdict;
pub mod verify;

pub use accessor::Sharing;
pub use builtin::{BuiltIn, builtins, standard_webhooks};
pub use callback::{CallbackRule, CallbackSpec};
pub use condition::Condition;
pub use document::DocumentFault;
pub use render::{HeaderLine, RenderError, Rendered, render, render_check, render_redacted};
pub use retry::Retry;
pub use sign::{
    MadeSignature, Signature, SignatureAlgorithm, SignatureBytes, Signed, Signer, SigningKey,
    SigningKeys, sign, sign_check, signatures,
};
pub use subject::{CheckInput, RenderInput};
pub use template::Template;
pub use text::TextTemplate;
pub use verdict::Verdict;

use body::BodyTemplate;
use subject::Subject;

/// Attempt timeouts that a contract may list.
pub const TIMEOUTS: RangeInclusive<usize> = 1..=32;
/// What an attempt's timeout may be: below a second fails on a far network, above half a minute
/// ties up a slot.
pub const TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);
/// An attempt's timeout where the contract names none.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(15);
/// Headers and signatures a contract may set: as many as a subscription.
pub const HEADERS: usize = 20;
/// The way out of the network where a contract names none.
pub const EGRESS_DEFAULT: &str = "default";

/// What kind of text the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFormat {
    /// JSON.
    Json,
    /// `application/x-www-form-urlencoded`, of a flat object of scalars.
    Form,
}

/// In which form the body is sent and signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canonical {
    /// As it was rendered.
    Verbatim,
    /// What `JSON.stringify(JSON.parse(text))` gives in ECMAScript.
    JsonStringify,
    /// The JSON Canonicalization Scheme of RFC 8785.
    Rfc8785,
}

words! {
    /// A way for Pregón to identify itself to a receiver, beside signatures; as documents name it.
    AuthKind {
        /// Not at all.
        None = "none",
        /// A bearer token.
        Bearer = "bearer",
        /// HTTP Basic authentication.
        Basic = "basic",
        /// A key in a header.
        ApiKey = "api_key",
    }
}

impl Auth {
    /// Which kind it is.
    pub fn kind(&self) -> AuthKind {
        match self {
            Auth::None => AuthKind::None,
            Auth::Bearer { .. } => AuthKind::Bearer,
            Auth::Basic { .. } => AuthKind::Basic,
            Auth::ApiKey { .. } => AuthKind::ApiKey,
        }
    }
}

/// An event type that a contract brings along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractType {
    /// Its name.
    pub id: EventTypeId,
    /// What it tells.
    pub description: String,
    /// JSON Schema of its data, as JSON text; empty: anything goes.
    pub schema: String,
    /// An example of its data, as JSON text; empty: none.
    pub example: String,
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
    /// What it is for.
    pub description: String,
    /// The types it carries; an event of another type does not match a subscription under it.
    pub event_types: Vec<Pattern>,
    /// Event types that it brings along.
    pub types: Vec<ContractType>,
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
    /// Ways of identification that a subscription may choose; none: all.
    pub auth: Option<Vec<AuthKind>>,
    /// The way out of the network.
    pub egress: Box<str>,
    /// Whether a subscription waits for the platform's approval.
    pub approval: bool,
    /// Values that are shown redacted.
    pub sensitive: Vec<SensitivePath>,
    /// Questions to callbacks.
    pub callback: CallbackSpec,
}

impl ContractSpec {
    /// A contract that says nothing but its id: event data as JSON, unsigned, 2xx acknowledges.
    pub fn new(id: ContractId) -> Result<Self, Wrong> {
        Ok(Self {
            id,
            description: String::new(),
            event_types: vec![Pattern::every()],
            types: Vec::new(),
            body: Template::text("${event.data}", Site::Template)?,
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
            refuse: Condition::never(),
            disable: Condition::never(),
            timeouts: vec![TIMEOUT_DEFAULT],
            retry: Retry::standard(),
            url: None,
            auth: None,
            egress: EGRESS_DEFAULT.into(),
            approval: false,
            sensitive: Vec::new(),
            callback: CallbackSpec::new()?,
        })
    }
}

/// A contract, checked and compiled.
#[derive(Clone)]
pub struct Contract {
    id: ContractId,
    revision: i64,
    description: String,
    event_types: Vec<Pattern>,
    types: Vec<ContractType>,
    shape: Template,
    body: BodyTemplate,
    body_format: BodyFormat,
    canonical: Canonical,
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
    auth: Option<Vec<AuthKind>>,
    egress: Box<str>,
    approval: bool,
    sensitive: Vec<SensitivePath>,
    callback: CallbackRule,
    sharing: Sharing,
    names: Names,
}

impl fmt::Debug for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Contract({}, revision {})", self.id, self.revision)
    }
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
        check::check(&spec)?;
        let content_type = spec.content_type.unwrap_or_else(|| match spec.body_format {
            BodyFormat::Json => "application/json".into(),
            BodyFormat::Form => "application/x-www-form-urlencoded".into(),
        });
        if !is_value(content_type.as_bytes()) {
            return Err(check::invalid("content_type cannot be a header's value"));
        }
        if !spec.user_agent.as_ref().is_none_or(|agent| is_value(agent.as_bytes())) {
            return Err(check::invalid("user_agent cannot be a header's value"));
        }
        let body = BodyTemplate::compile(&spec.body)?;
        // What speaks of the body is rendered with the signatures, for each subscription anew.
        let headers = spec.headers.iter().filter(|(_, template)| !template.speaks_of_body());
        let sharing = headers.map(|(_, template)| template.sharing());
        Ok(Self {
            sharing: sharing.fold(body.sharing(), Sharing::max),
            id: spec.id,
            revision: 0,
            description: spec.description,
            event_types: spec.event_types,
            types: spec.types,
            shape: spec.body,
            body,
            body_format: spec.body_format,
            canonical: spec.canonical,
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
            auth: spec.auth,
            egress: spec.egress,
            approval: spec.approval,
            sensitive: spec.sensitive,
            callback: CallbackRule::compile(spec.callback)?,
            names: Names { content_type: "content-type".into(), user_agent: "user-agent".into() },
        })
    }

    /// The contract as written by this revision of the configuration.
    #[must_use]
    pub fn with_revision(self, revision: i64) -> Self {
        Self { revision, ..self }
    }

    /// The revision of the configuration that wrote it; 0 for a built-in one.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// What it is for.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The types it carries.
    pub fn event_types(&self) -> &[Pattern] {
        &self.event_types
    }

    /// Event types that it brings along.
    pub fn types(&self) -> &[ContractType] {
        &self.types
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

    /// Names of the headers it sets, which a subscription or callback may not: in lower case.
    pub fn header_names(&self) -> Vec<&str> {
        let asked = self.callback.headers.iter().map(|(name, _)| &**name);
        check::header_names(&self.headers, &self.signatures).chain(asked).collect()
    }

    /// Whether W3C trace context goes to the receiver.
    pub fn traceparent(&self) -> bool {
        self.traceparent
    }

    /// What it asks of secrets.
    pub fn secret(&self) -> &SecretRule {
        &self.secret
    }

    /// Whether some signature is made with HMAC keys.
    pub fn uses_hmac(&self) -> bool {
        self.signatures.iter().any(|signature| signature.algorithm.is_hmac())
    }

    /// Whether some signature is made with Ed25519 keys.
    pub fn uses_ed25519(&self) -> bool {
        self.signatures.iter().any(|signature| !signature.algorithm.is_hmac())
    }

    /// Whether some signature has room for one key's value only, so that a rotation switches over
    /// at an instant.
    pub fn one_key(&self) -> bool {
        self.signatures.iter().any(Signature::is_of_newest)
    }

    /// Whether a subscription may identify us in this way.
    pub fn allows_auth(&self, kind: AuthKind) -> bool {
        self.auth.as_ref().is_none_or(|kinds| kinds.contains(&kind))
    }

    /// The way out of the network.
    pub fn egress(&self) -> &str {
        &self.egress
    }

    /// Whether a subscription waits for the platform's approval.
    pub fn approval(&self) -> bool {
        self.approval
    }

    /// Values that are shown redacted.
    pub fn sensitive(&self) -> &[SensitivePath] {
        &self.sensitive
    }

    /// Questions to callbacks; none where the signatures speak of what only an event has.
    pub fn callback(&self) -> Option<&CallbackRule> {
        let fits = self.signatures.iter().all(Signature::fits_check);
        fits.then_some(&self.callback)
    }

    /// Whether more of an answer than its status has to be seen to judge it: its headers, and its
    /// body up to [`crate::limits::RESPONSE_READ`].
    pub fn reads_answer(&self) -> bool {
        [&self.acknowledge, &self.refuse, &self.disable].into_iter().any(Condition::reads_answer)
    }

    /// What an answer to a delivery's attempt means. A condition that cannot be evaluated on it
    /// does not hold.
    pub fn judge(&self, answer: &Answer<'_>, input: &RenderInput<'_>) -> Judged {
        let subject = Subject::Delivery(input);
        if self.acknowledge.holds(subject, answer) {
            return Judged { acknowledged: true, refused: false, disable: false };
        }
        let disable = self.disable.holds(subject, answer);
        let refused = disable || self.refuse.holds(subject, answer);
        Judged { acknowledged: false, refused, disable }
    }

    /// How long attempt `attempt` (from 1) may take, from connect to the answer's last byte.
    pub fn timeout(&self, attempt: u32) -> Duration {
        let index = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
        let timeout = self.timeouts.get(index).or(self.timeouts.last());
        timeout.copied().unwrap_or(TIMEOUT_DEFAULT)
    }

    /// How long its longest attempt may take.
    pub fn longest_timeout(&self) -> Duration {
        self.timeouts.iter().max().copied().unwrap_or(TIMEOUT_DEFAULT)
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

#[cfg(test)]
mod tests;
