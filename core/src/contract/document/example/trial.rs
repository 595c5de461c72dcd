//! A contract tried with an event, without a store: what would be sent, and what was signed.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

use bytes::Bytes;

use super::keys::keys;
use crate::clock::Timestamp;
use crate::contract::compiled::{
    Contract, MadeSignature, RenderError, Signed, render, sign, signatures,
};
use crate::contract::subject::RenderInput;
use crate::error::Wrong;
use crate::event::{Event, NewEvent};
use crate::id::{DeliveryKey, EventId, LaneNo, Position, SecretId, SubscriptionId};
use crate::url::EndpointUrl;

/// When an event happens that does not say when: 2023-11-14T22:13:20Z.
const WHEN: Timestamp = Timestamp::from_millis(1_700_000_000_000);
/// Where it goes.
const URL: &str = "https://example.com/hook";
/// The id of the key, where none is given, and of the subscription.
const EXAMPLE: &str = "example";

/// What a contract is tried with: an event, and what is around it.
pub struct Trial {
    /// What happened.
    pub event: Event,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// When the attempt begins.
    pub time: Timestamp,
    /// The secret's text: in the contract's form, `whsk_…` for Ed25519, PEM for RSA and ECDSA. None:
    /// a fixed key of each kind that the contract uses where it requires one, else no key.
    pub secret: Option<Zeroizing<String>>,
    /// The id of the key.
    pub secret_id: SecretId,
    /// Where to.
    pub url: EndpointUrl,
    /// The tenant's labels.
    pub tenant_labels: BTreeMap<String, String>,
    /// The subscription's labels.
    pub subscription_labels: BTreeMap<String, String>,
    /// The deployment's `user-agent`, for contracts that name none.
    pub user_agent: Bytes,
}

impl fmt::Debug for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trial({})", self.event.event_type)
    }
}

/// What would be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The request.
    pub signed: Signed,
    /// Where it goes, with the contract's parameters and signatures.
    pub url: Box<str>,
    /// Its signatures, with what they were made over.
    pub signatures: Vec<MadeSignature>,
}

/// Why nothing can be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrialError {
    /// The event's type is none of the contract's.
    #[error("the contract does not carry events of this type")]
    NotCarried,
    /// The secret is not one that the contract takes.
    #[error("secret: {}", .0.description)]
    Secret(Wrong),
    /// The request cannot be made.
    #[error(transparent)]
    Render(#[from] RenderError),
}

impl Trial {
    /// Whose an event is that names no tenant.
    pub const TENANT: &str = "acme";

    /// The first attempt of an event, which begins when that happened, at `https://example.com/hook`
    /// and without labels. An event without a time happens at 2023-11-14T22:13:20Z; one without an id
    /// is assigned one.
    ///
    /// # Errors
    ///
    /// None that a caller can bring about.
    pub fn of(event: NewEvent) -> Result<Self, Wrong> {
        let time = event.occur_time.unwrap_or(WHEN);
        let ms = u64::try_from(time.millis()).unwrap_or(0);
        let position = Position { ms, partition: 0, n: 1 };
        let event = Event {
            position,
            tenant: event.tenant,
            id: event.id.unwrap_or_else(|| EventId::assigned(position)),
            version: event.version,
            event_type: event.event_type,
            environment: event.environment,
            given_occur_time: Some(time),
            erased: None,
            min_revision: 0,
            trace: None,
            terms: event.terms,
            attributes: event.attributes,
            data: event.data,
        };
        Ok(Self {
            event,
            attempt: 1,
            time,
            secret: None,
            secret_id: SecretId::parse(EXAMPLE)?,
            url: EndpointUrl::parse_stored(URL)?,
            tenant_labels: BTreeMap::new(),
            subscription_labels: BTreeMap::new(),
            user_agent: Bytes::from_static(b"Pregon"),
        })
    }

    /// Renders and signs, exactly as an attempt does.
    ///
    /// # Errors
    ///
    /// Why it cannot be sent so.
    pub fn make(&self, contract: &Contract) -> Result<Tried, TrialError> {
        if !contract.carries(&self.event.event_type) {
            return Err(TrialError::NotCarried);
        }
        let secret = self.secret.as_ref().map(|text| text.as_str());
        let keys = keys(contract, &self.secret_id, secret).map_err(TrialError::Secret)?;
        let subscription = SubscriptionId::parse(EXAMPLE).map_err(TrialError::Secret)?;
        let input = RenderInput {
            event: &self.event,
            tenant_labels: &self.tenant_labels,
            delivery: DeliveryKey { position: self.event.position, lane: LaneNo(1), replay: None },
            create_time: self.event.accept_time(),
            test: false,
            subscription: &subscription,
            subscription_labels: &self.subscription_labels,
            url: &self.url,
            attempt: self.attempt,
            attempt_time: self.time,
            user_agent: &self.user_agent,
        };
        let rendered = render(contract, &input)?;
        let signed = sign(contract, &rendered, &input, &keys)?;
        let signatures = signatures(contract, &rendered, &input, &keys)?;
        let url = signed.url.clone().unwrap_or_else(|| self.url.as_str().into());
        Ok(Tried { signed, url, signatures })
    }
}
