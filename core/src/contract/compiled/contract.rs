//! A contract, checked and compiled: what it says, and how it judges an answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::accessor::Sharing;
use super::batch::Batch;
use super::body::BodyTemplate;
use super::callback::CallbackRule;
use super::condition::Condition;
use super::error::RenderError;
use super::query::{self, Parameter};
use super::retry::Retry;
use super::setting::{
    AuthKind, BodyFormat, Canonical, ContractType, Gzip, Overridable, SecretRule, TIMEOUT_DEFAULT,
};
use super::signature::{Signature, SignatureAlgorithm, SignaturePlace, header_names};
use super::template::Template;
use super::text::TextTemplate;
use super::verification::VerificationRule;
use crate::contract::subject::{Answer, RenderInput, Subject, View};
use crate::error::Wrong;
use crate::id::{ContractId, EventTypeId};
use crate::jwk::RsaUse;
use crate::model::SecretAlgorithm;
use crate::pattern::Pattern;
use crate::pool::Pools;
use crate::redact::SensitivePath;
use crate::url::UrlRules;

/// A contract, checked and compiled.
#[derive(Clone)]
pub struct Contract {
    pub(in crate::contract) id: ContractId,
    pub(in crate::contract) revision: i64,
    pub(in crate::contract) description: String,
    pub(in crate::contract) event_types: Vec<Pattern>,
    pub(in crate::contract) types: Vec<ContractType>,
    pub(in crate::contract) shape: Template,
    pub(in crate::contract) body: BodyTemplate,
    pub(in crate::contract) body_format: BodyFormat,
    pub(in crate::contract) canonical: Canonical,
    pub(in crate::contract) content_type: Fixed,
    pub(in crate::contract) user_agent: Option<Fixed>,
    pub(in crate::contract) gzip: Option<Gzip>,
    pub(in crate::contract) batch: Option<Batch>,
    pub(in crate::contract) query: Vec<Parameter>,
    pub(in crate::contract) headers: Vec<(Arc<str>, TextTemplate)>,
    pub(in crate::contract) traceparent: bool,
    pub(in crate::contract) secret: SecretRule,
    pub(in crate::contract) signatures: Vec<Signature>,
    pub(in crate::contract) acknowledge: Condition,
    pub(in crate::contract) refuse: Condition,
    pub(in crate::contract) disable: Condition,
    pub(in crate::contract) timeouts: Vec<Duration>,
    pub(in crate::contract) retry: Retry,
    pub(in crate::contract) overridable: Vec<Overridable>,
    pub(in crate::contract) url: Option<UrlRules>,
    pub(in crate::contract) auth: Option<Vec<AuthKind>>,
    pub(in crate::contract) egress: Box<str>,
    pub(in crate::contract) approval: bool,
    pub(in crate::contract) sensitive: Vec<SensitivePath>,
    pub(in crate::contract) callback: CallbackRule,
    pub(in crate::contract) verification: Option<VerificationRule>,
    pub(in crate::contract) sharing: Sharing,
    pub(in crate::contract) names: Names,
}

impl fmt::Debug for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Contract({}, revision {})", self.id, self.revision)
    }
}

/// A header's value that most contracts write out.
#[derive(Clone, Debug)]
pub(in crate::contract) enum Fixed {
    /// The same for every request.
    Same(Bytes),
    /// Made for each.
    Made(TextTemplate),
}

impl Fixed {
    /// What may share the value.
    pub(in crate::contract) fn sharing(&self) -> Sharing {
        match self {
            Fixed::Same(_) => Sharing::Event,
            Fixed::Made(template) => template.sharing(),
        }
    }
}

/// Header names that requests have, allocated once.
#[derive(Clone, Debug)]
pub(in crate::contract) struct Names {
    pub(in crate::contract) content_type: Arc<str>,
    pub(in crate::contract) user_agent: Arc<str>,
    pub(in crate::contract) content_encoding: Arc<str>,
}

/// What a contract makes of an answer; see [`Contract::judge`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// The delivery ends as SUCCEEDED.
    pub acknowledged: bool,
    /// It ends as FAILED at once.
    pub refused: bool,
    /// And the subscription is disabled.
    pub disable: bool,
}

impl Contract {
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

    /// How events of one subscription go out together; none: each by itself.
    pub fn batch(&self) -> Option<&Batch> {
        self.batch.as_ref()
    }

    /// How far one [`Rendered`](super::Rendered) holds.
    pub fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// Names of the parameters it adds to the URL of a delivery, which that may not have already.
    pub fn query_names(&self) -> impl Iterator<Item = &str> {
        let signed = self.signatures.iter().filter_map(|signature| match &signature.place {
            SignaturePlace::Query { name, .. } => Some(&**name),
            SignaturePlace::Header { .. } | SignaturePlace::Body { .. } => None,
        });
        self.query.iter().map(|(name, _)| &**name).chain(signed)
    }

    /// The URL of a delivery with the contract's parameters, but for signatures; none where it has
    /// none. A question to a callback goes to the URL as it is.
    pub(super) fn extended(
        &self,
        subject: Subject<'_>,
        body: &Bytes,
    ) -> Result<Option<String>, RenderError> {
        match subject {
            Subject::Delivery(_) if !self.query.is_empty() => {
                let mut url = subject.url().to_owned();
                query::extend(&mut url, &self.query, &View::of(subject, body))?;
                Ok(Some(url))
            }
            Subject::Delivery(_) | Subject::Check(_) | Subject::Challenge(_) => Ok(None),
        }
    }

    /// Whether a header is made when the body and the URL are as they are sent.
    pub(in crate::contract) fn is_late(&self, template: &TextTemplate) -> bool {
        template.speaks_of_body()
            || (template.speaks_of_url() && self.query_names().next().is_some())
    }

    /// Names of the headers it sets, which a subscription or callback may not: as it writes them, to
    /// be compared without regard to case.
    pub fn header_names(&self) -> Vec<&str> {
        let asked = self.callback.headers.iter().map(|(name, _)| &**name);
        let challenged = self.verification.iter().flat_map(VerificationRule::header_names);
        header_names(&self.headers, &self.signatures).chain(asked).chain(challenged).collect()
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
        self.uses(SecretAlgorithm::Hmac)
    }

    /// Whether some signature is made with keys of a kind.
    pub fn uses(&self, kind: SecretAlgorithm) -> bool {
        self.signatures.iter().any(|signature| signature.algorithm.kind() == kind)
    }

    /// The kinds of keys that its signatures are made with, in their order.
    pub fn kinds(&self) -> impl Iterator<Item = SecretAlgorithm> {
        SecretAlgorithm::ALL.iter().copied().filter(|kind| self.uses(*kind))
    }

    /// How RSA keys sign under it; none where in both ways, or not at all.
    pub fn rsa_use(&self) -> Option<RsaUse> {
        let has = |wanted| self.signatures.iter().any(|it| it.algorithm == wanted);
        let pkcs1 = has(SignatureAlgorithm::RsaSha256);
        match has(SignatureAlgorithm::RsaPssSha256) {
            true if pkcs1 => None,
            true => Some(RsaUse::Pss),
            false => pkcs1.then_some(RsaUse::Pkcs1),
        }
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

    /// Whether requests leave by a pool that there is.
    ///
    /// # Errors
    ///
    /// There is no such pool.
    pub fn check_egress(&self, pools: &Pools) -> Result<(), Wrong> {
        let named = |wrong: Wrong| Wrong::new(wrong.rule, format!("egress: {}", wrong.description));
        pools.check(&self.egress).map_err(named)
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

    /// What a subscription's receiver has to answer before events go to it; none: nothing.
    pub fn verification(&self) -> Option<&VerificationRule> {
        self.verification.as_ref()
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

    /// What a subscription may say anew.
    pub fn overridable(&self) -> &[Overridable] {
        &self.overridable
    }

    /// Which URLs a subscription may have; none: as the deployment allows.
    pub fn url(&self) -> Option<&UrlRules> {
        self.url.as_ref()
    }
}
