//! From a contract and an event, or a question, to the request, but for its signatures.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::body::BodyTemplate;
use super::contract::Contract;
use super::error::{BODY_LEN, RenderError};
use super::setting::{BodyFormat, Canonical};
use super::signature::header_names;
use super::text::TextTemplate;
use super::value::Written;
use crate::contract::subject::{CheckInput, RenderInput, Subject, View};
use crate::event::Event;
use crate::form;
use crate::header::is_value;
use crate::json;
use crate::redact::{SensitivePath, SensitiveRoot, redact};

/// Largest value of a header, in bytes: what common HTTP servers take.
pub const HEADER_LEN: usize = 8 * 1024;
/// What is shown for a whole body that cannot be redacted in parts.
const REDACTED: &[u8] = b"\"[redacted]\"";

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
    /// The bytes that are signed; a signature of the body is still to be added.
    pub body: Bytes,
    /// `content-type`, `user-agent`, then the contract's headers in their order, but for those that
    /// speak of the body.
    pub(super) headers: Vec<HeaderLine>,
}

impl Rendered {
    /// The headers so far: `content-type`, `user-agent`, then the contract's in their order, but
    /// for those that [`Contract::late_headers`] names.
    pub fn headers(&self) -> &[HeaderLine] {
        &self.headers
    }
}

impl Contract {
    /// Names of the headers of a delivery that are made last: those that speak of the body, and if
    /// a key signed those that hold signatures. Each once, in lower case.
    pub fn late_headers(&self, signed: bool) -> Vec<&str> {
        let late = self.headers.iter().filter(|(_, template)| template.speaks_of_body());
        let mut names: Vec<_> = late.map(|(name, _)| &**name).collect();
        for name in header_names(&[], &self.signatures) {
            if signed && !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

/// Renders body and headers of a delivery: everything that does not depend on the subscription's
/// keys.
///
/// The result may be shared as far as [`Contract::sharing`] says: by every subscription of the
/// contract that sends this event in an attempt of the same number and time, unless a template
/// speaks of the subscription or the delivery.
pub fn render(contract: &Contract, input: &RenderInput<'_>) -> Result<Rendered, RenderError> {
    request(contract, &contract.body, &contract.headers, Subject::Delivery(input))
}

/// Renders a question to a callback.
///
/// # Errors
///
/// Why it cannot be asked; also where the contract has no rule for callbacks
/// ([`Contract::callback`]).
pub fn render_check(contract: &Contract, input: &CheckInput<'_>) -> Result<Rendered, RenderError> {
    let rule = &contract.callback;
    request(contract, &rule.body, &rule.headers, Subject::Check(input))
}

fn request(
    contract: &Contract,
    body: &BodyTemplate,
    templates: &[(Arc<str>, TextTemplate)],
    subject: Subject<'_>,
) -> Result<Rendered, RenderError> {
    let view = View::bodiless(subject);
    let body = finished(contract, body.render(&view)?)?;
    let names = &contract.names;
    let mut headers = Vec::with_capacity(2 + templates.len());
    headers.push(HeaderLine {
        name: names.content_type.clone(),
        value: contract.content_type.clone(),
    });
    let agent = match &contract.user_agent {
        Some(own) => own.clone(),
        None => Bytes::copy_from_slice(subject.user_agent().as_bytes()),
    };
    headers.push(checked(&names.user_agent, agent)?);
    for (name, template) in templates.iter().filter(|(_, template)| !template.speaks_of_body()) {
        headers.extend(header(name, template, &view)?);
    }
    Ok(Rendered { body, headers })
}

/// The header that a template makes; none where it is absent.
pub(super) fn header(
    name: &Arc<str>,
    template: &TextTemplate,
    view: &View<'_>,
) -> Result<Option<HeaderLine>, RenderError> {
    let mut value = Vec::with_capacity(64);
    match template.write(view, &mut value)? {
        Written::Whole => checked(name, value.into()).map(Some),
        Written::Absent => Ok(None),
    }
}

pub(super) fn checked(name: &Arc<str>, value: Bytes) -> Result<HeaderLine, RenderError> {
    match value.len() <= HEADER_LEN && is_value(&value) {
        true => Ok(HeaderLine { name: name.clone(), value }),
        false => Err(RenderError::HeaderValue { name: name.clone() }),
    }
}

/// The body in the form in which it is sent.
pub(super) fn finished(contract: &Contract, body: Bytes) -> Result<Bytes, RenderError> {
    let body: Bytes = match (contract.body_format, contract.canonical) {
        (BodyFormat::Form, _) => form::urlencode(&body)?.into(),
        (BodyFormat::Json, Canonical::Verbatim) => body,
        (BodyFormat::Json, Canonical::JsonStringify) => json::stringify(&body).into(),
        (BodyFormat::Json, Canonical::Rfc8785) => json::rfc8785(&body).into(),
    };
    // Numbers and escapes can come out longer than they went in.
    match body.len() <= BODY_LEN {
        true => Ok(body),
        false => Err(RenderError::TooLarge),
    }
}

/// The body as it is shown: rendered over data in which the values at the contract's and these
/// sensitive paths are `"[redacted]"`. Where that cannot be rendered, nothing is shown but that.
/// It has no signature.
pub fn render_redacted(
    contract: &Contract,
    input: &RenderInput<'_>,
    paths: &[SensitivePath],
) -> Bytes {
    let data = redact(&input.event.data, SensitiveRoot::Event, &contract.sensitive);
    let event = Event { data: redact(&data, SensitiveRoot::Event, paths), ..input.event.clone() };
    let subject = RenderInput { event: &event, ..*input };
    let view = View::bodiless(Subject::Delivery(&subject));
    let body = contract.body.render(&view).and_then(|body| finished(contract, body));
    body.unwrap_or(Bytes::from_static(REDACTED))
}
