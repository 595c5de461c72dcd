//! From a contract and an event, or a question, to the request, but for its signatures.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::body::BodyTemplate;
use super::contract::{Contract, Fixed};
use super::error::{BODY_LEN, RenderError};
use super::setting::{BodyFormat, Canonical, Gzip};
use super::signature::SignaturePlace;
use super::text::TextTemplate;
use super::value::Written;
use super::{gzip, query};
use crate::contract::subject::{CheckInput, RenderInput, Subject, View};
use crate::event::Event;
use crate::header::is_value;
use crate::redact::{SensitivePath, SensitiveRoot, redact};
use crate::{form, json, multipart};

/// Largest value of a header, in bytes: what common HTTP servers take.
pub const HEADER_LEN: usize = 8 * 1024;
/// What is shown for a whole body that cannot be redacted in parts.
const REDACTED: &[u8] = b"\"[redacted]\"";

/// A header as it goes out: the name as the contract writes it, the value of visible ASCII, spaces
/// and tabs.
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
    /// The same before it was compressed; none where it is not, or is only later.
    pub(super) plain: Option<Bytes>,
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
    /// so many keys signed those that hold signatures. Each once, as the contract writes it.
    pub fn late_headers(&self, keys: usize) -> Vec<&str> {
        let late = self.headers.iter().filter(|(_, template)| self.is_late(template));
        let mut names: Vec<_> = late.map(|(name, _)| &**name).collect();
        for signature in &self.signatures {
            let SignaturePlace::Header { header, .. } = &signature.place else { continue };
            for name in header.names().take(keys) {
                if !names.iter().any(|other| other.eq_ignore_ascii_case(name)) {
                    names.push(name);
                }
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
    request(contract, Some(&contract.body), &contract.headers, Subject::Delivery(input))
}

/// Renders a question to a callback.
///
/// # Errors
///
/// Why it cannot be asked; also where the contract has no rule for callbacks
/// ([`Contract::callback`]).
pub fn render_check(contract: &Contract, input: &CheckInput<'_>) -> Result<Rendered, RenderError> {
    let rule = &contract.callback;
    request(contract, Some(&rule.body), &rule.headers, Subject::Check(input))
}

/// A request, but for its signatures; without a body it has no headers that speak of one.
pub(super) fn request(
    contract: &Contract,
    body: Option<&BodyTemplate>,
    templates: &[(Arc<str>, TextTemplate)],
    subject: Subject<'_>,
) -> Result<Rendered, RenderError> {
    let body = body.map(|body| body.render(&View::bodiless(subject))).transpose()?;
    request_of(contract, body, templates, subject)
}

/// The same around a body that is rendered.
pub(super) fn request_of(
    contract: &Contract,
    body: Option<Bytes>,
    templates: &[(Arc<str>, TextTemplate)],
    subject: Subject<'_>,
) -> Result<Rendered, RenderError> {
    let view = View::bodiless(subject);
    let gzip = contract.gzip.filter(|_| body.is_some());
    let names = &contract.names;
    let mut headers = Vec::with_capacity(2 + usize::from(gzip.is_some()) + templates.len());
    let mut body = match body {
        None => Bytes::new(),
        Some(body) => {
            let Finished { body, boundary } = finished(contract, body)?;
            let mut line = contract.content_type.line(&names.content_type, &view)?;
            if let Some(boundary) = boundary {
                line.value = [&line.value[..], b"; boundary=", boundary.as_bytes()].concat().into();
            }
            headers.push(line);
            body
        }
    };
    headers.push(match &contract.user_agent {
        Some(own) => own.line(&names.user_agent, &view)?,
        None => checked(&names.user_agent, subject.user_agent().clone())?,
    });
    if gzip.is_some() {
        let (name, value) = (names.content_encoding.clone(), Bytes::from_static(b"gzip"));
        headers.push(HeaderLine { name, value });
    }
    let mut plain = None;
    if gzip == Some(Gzip::BeforeSigning) {
        let compressed = gzip::compress(&body);
        plain = Some(std::mem::replace(&mut body, compressed));
    }
    for (name, template) in templates.iter().filter(|(_, template)| !contract.is_late(template)) {
        headers.extend(header(name, template, &view)?);
    }
    Ok(Rendered { body, plain, headers })
}

impl Fixed {
    fn line(&self, name: &Arc<str>, view: &View<'_>) -> Result<HeaderLine, RenderError> {
        match self {
            // That it is a header's value was seen when the contract was read.
            Fixed::Same(value) => Ok(HeaderLine { name: name.clone(), value: value.clone() }),
            Fixed::Made(template) => {
                let mut value = Vec::with_capacity(64);
                match template.write(view, &mut value)? {
                    Written::Whole | Written::Absent => checked(name, value.into()),
                }
            }
        }
    }
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

/// A body in the form in which it is sent.
struct Finished {
    body: Bytes,
    /// What stands between the parts of a multipart body.
    boundary: Option<String>,
}

fn finished(contract: &Contract, body: Bytes) -> Result<Finished, RenderError> {
    let mut boundary = None;
    let body: Bytes = match (contract.body_format, contract.canonical) {
        (BodyFormat::Form, _) => form::urlencode(&body)?.into(),
        (BodyFormat::Multipart, _) => {
            let (parts, between) = multipart::encode(&body)?;
            boundary = Some(between);
            parts.into()
        }
        (BodyFormat::Json, Canonical::Verbatim) => body,
        (BodyFormat::Json, Canonical::JsonStringify) => json::stringify(&body).into(),
        (BodyFormat::Json, Canonical::Rfc8785) => json::rfc8785(&body).into(),
    };
    // Numbers and escapes can come out longer than they went in.
    match body.len() <= BODY_LEN {
        true => Ok(Finished { body, boundary }),
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
    body.map_or(Bytes::from_static(REDACTED), |finished| finished.body)
}

/// The URL of a delivery as it is shown: with parameters over data that is shown, which `input` has.
/// Those that speak of the body, and signatures, are `[redacted]`.
pub fn redacted_url(contract: &Contract, input: &RenderInput<'_>) -> String {
    const REDACTED: &str = "[redacted]";
    let subject = Subject::Delivery(input);
    let (mut url, view) = (subject.url().to_owned(), View::bodiless(subject));
    for (name, template) in &contract.query {
        let mut value = Vec::new();
        let made =
            if template.speaks_of_body() { None } else { template.write(&view, &mut value).ok() };
        match made {
            Some(Written::Whole) => query::add(&mut url, name, &String::from_utf8_lossy(&value)),
            Some(Written::Absent) => {}
            None => query::add(&mut url, name, REDACTED),
        }
    }
    for name in contract.query_names().skip(contract.query.len()) {
        query::add(&mut url, name, REDACTED);
    }
    url
}
