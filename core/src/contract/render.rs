//! From a contract and an event to the request, but for its signatures.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::Contract;
use super::accessor::View;
use crate::clock::Timestamp;
use crate::event::Event;
use crate::header::is_value;
use crate::id::{DeliveryKey, SubscriptionId};
use crate::url::EndpointUrl;

/// Everything that a request is made of, besides the contract and its keys.
#[derive(Clone, Copy, Debug)]
pub struct RenderInput<'a> {
    /// What happened.
    pub event: &'a Event,
    /// Which delivery of it. Receivers see the original's id, also on a replay.
    pub delivery: DeliveryKey,
    /// To whom.
    pub subscription: &'a SubscriptionId,
    /// Where to.
    pub url: &'a EndpointUrl,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// When the attempt begins. Taken at the send: receivers refuse signatures that are older than
    /// some minutes.
    pub attempt_time: Timestamp,
    /// The deployment's `user-agent`, for contracts that name none.
    pub user_agent: &'a str,
}

/// A header as it goes out: name in lower case, value of visible ASCII, spaces and tabs.
#[derive(Clone, PartialEq, Eq)]
pub struct HeaderLine {
    /// The name.
    pub name: Arc<str>,
    /// The value.
    pub value: Bytes,
}

impl fmt::Debug for HeaderLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.value.escape_ascii())
    }
}

/// A request, but for its signatures. Cloning copies nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The bytes that are sent, and so signed.
    pub body: Bytes,
    /// `content-type`, `user-agent`, then the contract's headers in their order.
    pub headers: Vec<HeaderLine>,
}

/// Why a request could not be made; the delivery fails as RENDER_FAILED.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The contract requires a signature, and no key is active at the attempt's time.
    #[error("no active secret")]
    NoActiveSecret,
    /// A header's value came out as something that cannot be a header's value.
    #[error("header {name} cannot hold its value")]
    HeaderValue {
        /// The header.
        name: Arc<str>,
    },
}

/// Renders body and headers: everything that does not depend on the subscription's keys.
///
/// The result may be shared as far as [`Contract::sharing`] says: by every subscription of the
/// contract that sends this event in an attempt of the same number and time, unless a template
/// speaks of the subscription or the delivery.
pub fn render(contract: &Contract, input: &RenderInput<'_>) -> Result<Rendered, RenderError> {
    let mut view = View { input, body: &[], signature: "" };
    let body = contract.body.render(&view);
    view.body = &body;
    let names = &contract.names;
    let mut headers = Vec::with_capacity(2 + contract.headers.len());
    headers.push(HeaderLine {
        name: names.content_type.clone(),
        value: contract.content_type.clone(),
    });
    let agent = match &contract.user_agent {
        Some(own) => own.clone(),
        None => Bytes::copy_from_slice(input.user_agent.as_bytes()),
    };
    headers.push(checked(&names.user_agent, agent)?);
    for (name, template) in &contract.headers {
        let mut value = Vec::with_capacity(64);
        template.write(&view, &mut value);
        headers.push(checked(name, value.into())?);
    }
    Ok(Rendered { body, headers })
}

pub(super) fn checked(name: &Arc<str>, value: Bytes) -> Result<HeaderLine, RenderError> {
    match is_value(&value) {
        true => Ok(HeaderLine { name: name.clone(), value }),
        false => Err(RenderError::HeaderValue { name: name.clone() }),
    }
}
