//! What an evaluation may look at, borrowed from whoever asks.
//!
//! None of these types prints itself: event data and bodies do not go into messages.

use crate::clock::Timestamp;
use crate::event::Event;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Everything an evaluation may look at. A part that the caller does not know is none: an expression
/// that speaks of it then has no answer.
#[derive(Clone, Copy, Default)]
pub struct Scope<'a> {
    /// `event`.
    pub event: Option<EventView<'a>>,
    /// `tenant`.
    pub tenant: Option<Labelled<'a>>,
    /// `subscription`.
    pub subscription: Option<SubscriptionView<'a>>,
    /// `delivery`.
    pub delivery: Option<DeliveryView<'a>>,
    /// `attempt`.
    pub attempt: Option<AttemptView>,
    /// `request`.
    pub request: Option<RequestView<'a>>,
    /// `response`.
    pub response: Option<ResponseView<'a>>,
    /// `check`.
    pub check: Option<CheckView<'a>>,
    /// `callback`.
    pub callback: Option<Labelled<'a>>,
    /// `key` and `secret`.
    pub key: Option<KeyView<'a>>,
    /// `signature`: the encoded signature.
    pub signature: Option<&'a str>,
    /// `challenge`.
    pub challenge: Option<ChallengeView<'a>>,
}

/// `event`.
#[derive(Clone, Copy)]
pub struct EventView<'a> {
    /// `event.id`.
    pub id: &'a str,
    /// `event.version`; with the id it makes `event.unique_id`.
    pub version: u32,
    /// `event.type`.
    pub event_type: &'a str,
    /// `event.time`: when it happened.
    pub occur_time: Timestamp,
    /// `event.accept_time`.
    pub accept_time: Timestamp,
    /// `event.environment`: the word, as in `LIVE`.
    pub environment: &'a str,
    /// `event.tenant`: the tenant's id.
    pub tenant: &'a str,
    /// `event.attributes`; none is the same as empty.
    pub attributes: Option<&'a BTreeMap<String, String>>,
    /// `event.data`: a text that has passed [`json::check`](crate::json::check).
    pub data: &'a Bytes,
}

impl<'a> From<&'a Event> for EventView<'a> {
    fn from(event: &'a Event) -> Self {
        Self {
            id: event.id.as_str(),
            version: event.version,
            event_type: event.event_type.as_str(),
            occur_time: event.occur_time(),
            accept_time: event.accept_time(),
            environment: event.environment.word(),
            tenant: event.tenant.as_str(),
            attributes: Some(&event.attributes),
            data: &event.data,
        }
    }
}

/// `tenant` or `callback`.
#[derive(Clone, Copy)]
pub struct Labelled<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
}

/// `subscription`.
#[derive(Clone, Copy)]
pub struct SubscriptionView<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// Where its attempts go.
    pub url: &'a str,
    /// Its environment: the word, as in `LIVE`.
    pub environment: &'a str,
}

/// `delivery`.
#[derive(Clone, Copy)]
pub struct DeliveryView<'a> {
    /// `delivery.id`.
    pub id: &'a str,
    /// `delivery.create_time`.
    pub create_time: Timestamp,
    /// `delivery.replay`: whether it repeats an earlier one.
    pub replay: bool,
    /// `delivery.test`: whether somebody asked for it to try the receiver.
    pub test: bool,
}

/// `attempt`.
#[derive(Clone, Copy)]
pub struct AttemptView {
    /// `attempt.number`, from 1.
    pub number: u32,
    /// `attempt.time`: when it began.
    pub time: Timestamp,
}

/// `request`.
#[derive(Clone, Copy)]
pub struct RequestView<'a> {
    /// `request.method`.
    pub method: &'a str,
    /// `request.url`.
    pub url: &'a str,
    /// `request.body`: text; an expression that speaks of another has no answer.
    pub body: &'a Bytes,
}

/// `response`.
#[derive(Clone, Copy)]
pub struct ResponseView<'a> {
    /// `response.status`.
    pub status: u16,
    /// `response.headers`: names in lower case. Values of one name are joined by `, `.
    pub headers: &'a [(String, String)],
    /// `response.body` (its first 64 KiB as text, what is not UTF-8 replaced) and `response.json`
    /// (all of it, if it is JSON).
    pub body: &'a Bytes,
}

/// `check`: a question to a callback.
#[derive(Clone, Copy)]
pub struct CheckView<'a> {
    /// `check.id`.
    pub id: &'a str,
    /// `check.time`.
    pub time: Timestamp,
    /// `check.data`: a text that has passed [`json::check`](crate::json::check).
    pub data: &'a Bytes,
}

/// `key` and `secret`: what a signature is made with.
#[derive(Clone, Copy)]
pub struct KeyView<'a> {
    /// `key.id`: the id of the secret.
    pub id: &'a str,
    /// `key.number`, from 1 in the order in which the keys sign.
    pub number: u32,
    /// `secret`: a key that both sides have; none of a pair of keys.
    pub secret: Option<SecretView<'a>>,
}

/// `secret`: its bytes, as text where the contract's secrets are text.
#[derive(Clone, Copy)]
pub struct SecretView<'a> {
    /// The key's own bytes.
    pub key: &'a [u8],
    /// Whether it is a string; else it is bytes.
    pub is_text: bool,
}

/// `challenge`: what a subscription's receiver is asked to answer.
#[derive(Clone, Copy)]
pub struct ChallengeView<'a> {
    /// `challenge.id`.
    pub id: &'a str,
    /// `challenge.time`.
    pub time: Timestamp,
    /// `challenge.text`.
    pub text: &'a str,
}
