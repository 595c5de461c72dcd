//! Signing: from a rendered request to what goes out, one signature for every key that is active.
//!
//! What is signed is the body as it is sent, but for a signature that the body itself is to hold; it
//! is fed to the MAC from where it lies. During a rotation two keys are active and both sign, the
//! newest first, so that a receiver with either secret is content; a member of the body has room
//! for the newest only.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use super::accessor::Accessor;
use super::append::appended;
use super::contract::Contract;
use super::error::RenderError;
use super::render::{HeaderLine, Rendered, checked, header};
use super::setting::Gzip;
use super::signature::{SignaturePlace, SigningKey, SigningKeys};
use super::text::TextTemplate;
use super::value::{Value, Written};
use super::{gzip, query};
use crate::clock::Timestamp;
use crate::contract::subject::{CheckInput, RenderInput, Subject, View};
use crate::expr::{KeyView, SecretView};
use crate::id::SecretId;

/// What is shown in the place of a secret.
const HIDDEN: SecretView<'_> = SecretView { key: b"[redacted]", is_text: true };

/// A request as it goes out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signed {
    /// The bytes that are sent.
    pub body: Bytes,
    /// The same before it was compressed; none where it is not.
    pub plain: Option<Bytes>,
    /// Where it goes, with the contract's parameters; none: the URL as it was given.
    pub url: Option<Box<str>>,
    /// Every header of the contract: `content-type`, `user-agent`, its `headers` and signatures in
    /// their order.
    pub headers: Vec<HeaderLine>,
    /// The keys that signed, in the order they first did.
    pub keys: Vec<SecretId>,
}

/// One signature and what it was made over, for previews.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeSignature {
    /// Its name in the contract.
    pub name: Box<str>,
    /// The key.
    pub key: SecretId,
    /// The bytes that were signed; for the secret, where it stands there, `[redacted]`.
    pub payload: Bytes,
    /// The signature as text.
    pub value: String,
}

/// Signs a rendered delivery with every key that is active at the attempt's time.
///
/// # Errors
///
/// Why it cannot be sent so.
pub fn sign(
    contract: &Contract,
    rendered: &Rendered,
    input: &RenderInput<'_>,
    keys: &SigningKeys,
) -> Result<Signed, RenderError> {
    let subject = Subject::Delivery(input);
    finish(contract, rendered, subject, &contract.headers, keys, Signing::Right)
}

/// The same for a question to a callback.
///
/// # Errors
///
/// Why it cannot be asked so.
pub fn sign_check(
    contract: &Contract,
    rendered: &Rendered,
    input: &CheckInput<'_>,
    keys: &SigningKeys,
) -> Result<Signed, RenderError> {
    let subject = Subject::Check(input);
    finish(contract, rendered, subject, &contract.callback.headers, keys, Signing::Right)
}

/// Every signature of a delivery, with the exact bytes that are signed.
///
/// # Errors
///
/// Why they cannot be made.
pub fn signatures(
    contract: &Contract,
    rendered: &Rendered,
    input: &RenderInput<'_>,
    keys: &SigningKeys,
) -> Result<Vec<MadeSignature>, RenderError> {
    let subject = Subject::Delivery(input);
    let extended = contract.extended(subject, &rendered.body)?;
    let url = extended.as_deref().unwrap_or(subject.url());
    let view = View { url, ..View::of(subject, &rendered.body) };
    let mut made = Vec::new();
    for signature in &contract.signatures {
        for (number, key) in (1..).zip(signature.keys(keys, input.attempt_time)) {
            let Some(signer) = signature.signer(key) else { continue };
            let key_view = contract.key_view(key, number);
            let view = View { key: Some(&key_view), ..view };
            // Nobody is shown the secret, though it is signed.
            let hidden = KeyView { secret: key_view.secret.map(|_| HIDDEN), ..key_view };
            let shown = View { key: Some(&hidden), ..view };
            let shown = if signature.payload.bares_secret() { shown } else { view };
            let mut payload = Vec::new();
            signature.payload.write(&shown, &mut payload)?;
            made.push(MadeSignature {
                name: signature.name.clone(),
                key: key.id().clone(),
                payload: payload.into(),
                value: signature.value(signer, &view, &mut Vec::new())?,
            });
        }
    }
    Ok(made)
}

impl Contract {
    /// What expressions see of a key; `number` counts from 1 in the order of signing.
    fn key_view<'a>(&self, key: &'a SigningKey, number: u32) -> KeyView<'a> {
        let is_text = self.secret.form.is_text();
        let secret = key.shared().map(|key| SecretView { key, is_text });
        KeyView { id: key.id().as_str(), number, secret }
    }

    /// What challenges see of the newest key that both sides have.
    pub(super) fn newest_key<'a>(
        &self,
        keys: &'a SigningKeys,
        now: Timestamp,
    ) -> Option<KeyView<'a>> {
        let mut shared = keys.live_at(now).filter(|key| key.shared().is_some());
        shared.next().map(|key| self.key_view(key, 1))
    }
}

/// Whether a signature is to fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signing {
    /// It does.
    Right,
    /// It is one of the same form over other bytes.
    Wrong,
}

/// What a signature that must not fit is made over, in front of its payload.
const AMISS: &[u8] = b"not this: ";

pub(super) fn finish(
    contract: &Contract,
    rendered: &Rendered,
    subject: Subject<'_>,
    templates: &[(Arc<str>, TextTemplate)],
    keys: &SigningKeys,
    signing: Signing,
) -> Result<Signed, RenderError> {
    let extended = contract.extended(subject, &rendered.body)?;
    let url = extended.as_deref().unwrap_or(subject.url());
    let unsigned = View { url, ..View::of(subject, &rendered.body) };
    let (mut lines, mut used) = (Lines::default(), Vec::new());
    let (mut body, mut signed_url) = (rendered.body.clone(), None);
    let mut scratch = Vec::with_capacity(128);
    for signature in &contract.signatures {
        for (number, key) in (1..).zip(signature.keys(keys, subject.time())) {
            let Some(mut signer) = signature.signer(key) else { continue };
            match signing {
                Signing::Right => {}
                Signing::Wrong => signer.update(AMISS),
            }
            let key_view = contract.key_view(key, number);
            let view = View { key: Some(&key_view), ..unsigned };
            let value = signature.value(signer, &view, &mut scratch)?;
            let view = View { signature: &value, ..view };
            match &signature.place {
                SignaturePlace::Header { .. } => lines.add(&signature.place, number, &view)?,
                SignaturePlace::Body { path, each } => {
                    let text = written(each, &view)?;
                    body = appended(&body, contract.body_format, path, &text)?;
                }
                SignaturePlace::Query { name, each } => {
                    let text = written(each, &view)?;
                    query::add(signed_url.get_or_insert_with(|| url.to_owned()), name, &text);
                }
            }
            if !used.contains(key.id()) {
                used.push(key.id().clone());
            }
        }
    }
    if contract.secret.required && used.is_empty() {
        return Err(RenderError::NoActiveSecret);
    }
    let url = signed_url.or(extended);
    if let Some(url) = &url {
        query::bounded(url, subject.url().len())?;
    }
    let mut plain = rendered.plain.clone();
    if contract.gzip == Some(Gzip::AfterSigning) {
        let compressed = gzip::compress(&body);
        plain = Some(std::mem::replace(&mut body, compressed));
    }
    let mut headers = Vec::with_capacity(rendered.headers.len() + lines.0.len());
    headers.extend_from_slice(&rendered.headers);
    let signed = View { url: url.as_deref().unwrap_or(subject.url()), ..View::of(subject, &body) };
    for (name, template) in templates.iter().filter(|(_, template)| contract.is_late(template)) {
        headers.extend(header(name, template, &signed)?);
    }
    for (name, value) in lines.0 {
        headers.push(checked(name, value.into())?);
    }
    Ok(Signed { body, plain, url: url.map(String::into_boxed_str), headers, keys: used })
}

/// What is written of a signature in the body or the URL.
fn written<'a>(each: &TextTemplate, view: &View<'a>) -> Result<Cow<'a, str>, RenderError> {
    if let Some(Value::Accessor(Accessor::Signature)) = each.single() {
        return Ok(Cow::Borrowed(view.signature));
    }
    let mut text = Vec::with_capacity(view.signature.len());
    match each.write(view, &mut text)? {
        Written::Whole | Written::Absent => {}
    }
    Ok(Cow::Owned(match String::from_utf8(text) {
        Ok(text) => text,
        Err(wrong) => String::from_utf8_lossy(wrong.as_bytes()).into_owned(),
    }))
}

/// Header lines under construction; few, so that a walk finds one.
#[derive(Default)]
struct Lines<'a>(Vec<(&'a Arc<str>, Vec<u8>)>);

impl<'a> Lines<'a> {
    /// Adds the signature of the key with this number.
    fn add(
        &mut self,
        place: &'a SignaturePlace,
        number: u32,
        view: &View<'_>,
    ) -> Result<(), RenderError> {
        let SignaturePlace::Header { header, each, prefix, separator } = place else {
            return Ok(());
        };
        let Some(name) = header.of_key(number) else { return Ok(()) };
        let value = match self.0.iter().position(|(other, _)| other.eq_ignore_ascii_case(name)) {
            Some(at) => {
                let value = &mut self.0[at].1;
                value.extend_from_slice(separator.as_bytes());
                value
            }
            None => {
                let mut value = Vec::with_capacity(128);
                prefix.write(view, &mut value)?;
                let at = self.0.len();
                self.0.push((name, value));
                &mut self.0[at].1
            }
        };
        match each.write(view, value)? {
            Written::Whole | Written::Absent => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
