//! What a document states, key by key.

use std::sync::Arc;
use std::time::Duration;

use crate::contract::compiled::{
    AuthKind, Batch, BodyFormat, CallbackSpec, Canonical, Condition, ContractType, EGRESS_DEFAULT,
    Gzip, Overridable, Parameter, Retry, SecretRule, Signature, TIMEOUT_DEFAULT, Template,
    TextTemplate, VerificationSpec,
};
use crate::error::Wrong;
use crate::expr::Site;
use crate::id::ContractId;
use crate::pattern::Pattern;
use crate::redact::SensitivePath;
use crate::secret::{SecretEncoding, SecretForm};
use crate::url::UrlRules;

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
    pub content_type: Option<TextTemplate>,
    /// `user-agent`; none: the deployment's.
    pub user_agent: Option<TextTemplate>,
    /// Whether and when the body is compressed.
    pub gzip: Option<Gzip>,
    /// How events of one subscription go out together; none: each by itself.
    pub batch: Option<Batch>,
    /// Parameters that are added to the URL, in order.
    pub query: Vec<Parameter>,
    /// Headers in order; names as they are written.
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
    /// What a subscription may say anew.
    pub overridable: Vec<Overridable>,
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
    /// What a subscription's receiver has to answer before events go to it.
    pub verification: Option<VerificationSpec>,
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
            gzip: None,
            batch: None,
            query: Vec::new(),
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
            overridable: Vec::new(),
            url: None,
            auth: None,
            egress: EGRESS_DEFAULT.into(),
            approval: false,
            sensitive: Vec::new(),
            callback: CallbackSpec::new()?,
            verification: None,
        })
    }
}
