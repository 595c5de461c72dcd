//! What a request is made of, besides the contract and its keys.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::event::{Environment, Event};
use crate::id::{CallbackId, DeliveryKey, SubscriptionId, TenantId};
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
    pub user_agent: &'a Bytes,
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
    pub user_agent: &'a Bytes,
}

/// Everything that a challenge to a subscription's receiver is made of, besides the contract and its
/// keys.
#[derive(Clone, Copy, Debug)]
pub struct ChallengeInput<'a> {
    /// Names the asking: of all its steps, and of no other.
    pub id: &'a str,
    /// When it is asked.
    pub time: Timestamp,
    /// What the receiver is to answer with.
    pub text: &'a str,
    /// Whose subscription it is.
    pub tenant: &'a TenantId,
    /// Labels of that tenant.
    pub tenant_labels: &'a BTreeMap<String, String>,
    /// Which subscription.
    pub subscription: &'a SubscriptionId,
    /// The subscription's labels.
    pub subscription_labels: &'a BTreeMap<String, String>,
    /// The subscription's environment.
    pub environment: Environment,
    /// The subscription's URL.
    pub url: &'a EndpointUrl,
    /// The deployment's `user-agent`, for contracts that name none.
    pub user_agent: &'a Bytes,
}
