//! Signatures: recipes as data, keys prepared once, one signature for every key that is active.
//!
//! What is signed is the body as it is sent, but for a signature that the body itself is to hold; it
//! is fed to the MAC from where it lies. What a key needs is prepared once, so an attempt only
//! copies its state. During a rotation two keys are active and both sign, the newest first, so that
//! a receiver with either secret is content; a member of the body has room for the newest only.

use std::sync::Arc;

use bytes::Bytes;
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};

use super::Contract;
use super::accessor::Accessor;
use super::render::{HeaderLine, RenderError, Rendered, checked, header, shown};
use super::subject::{CheckInput, RenderInput, Subject, View};
use super::text::{TextPiece, TextTemplate};
use super::value::{Value, Written};
use crate::clock::Timestamp;
use crate::id::SecretId;
use crate::json::{self, Node, Step};

mod key;

pub use key::{SignatureAlgorithm, SignatureBytes, Signer, SigningKey};

/// One entry of a contract's `signatures`.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    /// What it is called in previews and refusals, as in `v1`.
    pub name: Box<str>,
    /// How it is made, and from keys of which kind.
    pub algorithm: SignatureAlgorithm,
    /// What is signed.
    pub payload: TextTemplate,
    /// How its bytes become text.
    pub encoding: SignatureEncoding,
    /// Which of the active keys sign.
    pub keys: KeyChoice,
    /// Where it goes.
    pub place: SignaturePlace,
}

/// How a signature's bytes become text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureEncoding {
    /// Lower-case hexadecimal.
    Hex,
    /// The standard alphabet with padding.
    Base64,
    /// The URL-safe alphabet without padding.
    Base64Url,
}

/// Which of the active keys sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChoice {
    /// Every one, newest first.
    All,
    /// The newest.
    Newest,
}

/// Where a signature goes.
#[derive(Clone, Debug, PartialEq)]
pub enum SignaturePlace {
    /// Into a header. Entries with the same header follow each other in order.
    Header {
        /// The header's name, in lower case.
        name: Arc<str>,
        /// What is written for each key, around `${signature}`.
        each: TextTemplate,
        /// What stands once in front.
        prefix: TextTemplate,
        /// What stands between two.
        separator: Box<str>,
    },
    /// Into the body, as the last member of an object in it: the path of its name. Of the newest
    /// key, whatever [`Signature::keys`] says.
    Body(Box<[Box<str>]>),
}

impl Signature {
    /// Whether it has room for one key's value only.
    pub(super) fn is_of_newest(&self) -> bool {
        self.keys == KeyChoice::Newest || matches!(self.place, SignaturePlace::Body(_))
    }

    /// Whether a callback's question has all that it speaks of.
    pub(super) fn fits_check(&self) -> bool {
        self.payload.fits_check()
            && match &self.place {
                SignaturePlace::Header { each, prefix, .. } => {
                    each.fits_check() && prefix.fits_check()
                }
                SignaturePlace::Body(_) => true,
            }
    }
}

impl SignatureAlgorithm {
    /// Whether it is made with a key that both sides have.
    pub fn is_hmac(self) -> bool {
        match self {
            SignatureAlgorithm::HmacSha1
            | SignatureAlgorithm::HmacSha256
            | SignatureAlgorithm::HmacSha512 => true,
            SignatureAlgorithm::Ed25519 => false,
        }
    }
}

/// A subscription's keys, newest first. Clones share one allocation.
#[derive(Clone, Debug, Default)]
pub struct SigningKeys(Arc<[SigningKey]>);

impl SigningKeys {
    /// Keys in any order. The newest is the one with the latest activate time; of two that became
    /// active at once, the one with the greater id.
    pub fn new(mut keys: Vec<SigningKey>) -> Self {
        keys.sort_by(|a, b| (b.activate_time(), b.id()).cmp(&(a.activate_time(), a.id())));
        Self(keys.into())
    }

    /// All keys, newest first, whether they sign at present or not.
    pub fn iter(&self) -> std::slice::Iter<'_, SigningKey> {
        self.0.iter()
    }

    /// The keys that sign at this moment, newest first.
    pub fn live_at(&self, now: Timestamp) -> impl Iterator<Item = &SigningKey> {
        self.0.iter().filter(move |key| key.live_at(now))
    }
}

/// A request as it goes out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signed {
    /// The bytes that are sent.
    pub body: Bytes,
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
    /// The bytes that were signed.
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
    finish(contract, rendered, Subject::Delivery(input), &contract.headers, keys)
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
    finish(contract, rendered, Subject::Check(input), &contract.callback.headers, keys)
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
    let view = View::of(Subject::Delivery(input), &rendered.body);
    let mut made = Vec::new();
    for signature in &contract.signatures {
        for (key, signer) in signature.signers(keys, input.attempt_time) {
            let mut payload = Vec::new();
            signature.payload.write(&view, &mut payload)?;
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

fn finish(
    contract: &Contract,
    rendered: &Rendered,
    subject: Subject<'_>,
    templates: &[(Arc<str>, TextTemplate)],
    keys: &SigningKeys,
) -> Result<Signed, RenderError> {
    let unsigned = View::of(subject, &rendered.body);
    let (mut lines, mut used) = (Lines::default(), Vec::new());
    let mut body = rendered.body.clone();
    let mut scratch = Vec::with_capacity(128);
    for signature in &contract.signatures {
        for (key, signer) in signature.signers(keys, subject.time()) {
            let value = signature.value(signer, &unsigned, &mut scratch)?;
            match &signature.place {
                SignaturePlace::Header { .. } => {
                    lines.add(&signature.place, &View { signature: &value, ..unsigned })?;
                }
                SignaturePlace::Body(path) => body = appended(&body, path, &value)?,
            }
            if !used.contains(key.id()) {
                used.push(key.id().clone());
            }
        }
    }
    if contract.secret.required && used.is_empty() {
        return Err(RenderError::NoActiveSecret);
    }
    let mut headers = Vec::with_capacity(rendered.headers.len() + lines.0.len());
    headers.extend_from_slice(&rendered.headers);
    let signed = View::of(subject, &body);
    for (name, template) in templates.iter().filter(|(_, template)| template.speaks_of_body()) {
        headers.extend(header(name, template, &signed)?);
    }
    for (name, value) in lines.0 {
        headers.push(checked(name, value.into())?);
    }
    Ok(Signed { body, headers, keys: used })
}

impl Signature {
    /// The keys that sign, newest first, each with a signature begun.
    fn signers<'a>(
        &self,
        keys: &'a SigningKeys,
        now: Timestamp,
    ) -> impl Iterator<Item = (&'a SigningKey, Signer<'a>)> {
        let most = if self.is_of_newest() { 1 } else { usize::MAX };
        let algorithm = self.algorithm;
        let fitting = keys.live_at(now).filter_map(move |key| Some((key, key.signer(algorithm)?)));
        fitting.take(most)
    }

    /// Signs: the payload goes in piece by piece, the body from where it lies.
    fn value(
        &self,
        mut signer: Signer<'_>,
        view: &View<'_>,
        scratch: &mut Vec<u8>,
    ) -> Result<String, RenderError> {
        scratch.clear();
        for piece in self.payload.pieces() {
            if let TextPiece::Value(Value::Accessor(Accessor::RequestBody)) = piece {
                signer.update(scratch);
                scratch.clear();
                signer.update(view.body);
            } else {
                piece.write(view, scratch)?;
            }
        }
        signer.update(scratch);
        Ok(self.encoding.encode(signer.finish().as_ref()))
    }
}

/// The body with one more member at the end of an object in it.
fn appended(body: &Bytes, path: &[Box<str>], value: &str) -> Result<Bytes, RenderError> {
    let name = path.last().map_or("", |name| &**name);
    let no_place = || RenderError::NoPlace { name: shown(name) };
    let outer = path.split_last().map_or(&[][..], |(_, outer)| outer);
    let steps: Vec<Step> = outer.iter().map(|name| Step::Member(name.clone())).collect();
    let object = Node::of(body).follow(&steps).ok_or_else(no_place)?;
    if object.kind() != json::Kind::Object {
        return Err(no_place());
    }
    if object.member(name).is_some() {
        return Err(RenderError::NameTwice { name: shown(name) });
    }
    // The closing brace is the last byte of the object, which lies within the body.
    let end = body.slice_ref(object.source());
    let close = end.as_ptr() as usize - body.as_ptr() as usize + end.len() - 1;
    let mut out = Vec::with_capacity(body.len() + name.len() + value.len() + 8);
    out.extend_from_slice(&body[..close]);
    if object.members().next().is_some() {
        out.push(b',');
    }
    json::write_string(&mut out, name);
    out.push(b':');
    json::write_string(&mut out, value);
    out.extend_from_slice(&body[close..]);
    Ok(out.into())
}

/// Header lines under construction; few, so that a walk finds one.
#[derive(Default)]
struct Lines<'a>(Vec<(&'a Arc<str>, Vec<u8>)>);

impl<'a> Lines<'a> {
    fn add(&mut self, place: &'a SignaturePlace, view: &View<'_>) -> Result<(), RenderError> {
        let SignaturePlace::Header { name, each, prefix, separator } = place else { return Ok(()) };
        let value = match self.0.iter().position(|(other, _)| *other == name) {
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

impl SignatureEncoding {
    fn encode(self, bytes: &[u8]) -> String {
        match self {
            SignatureEncoding::Hex => HEXLOWER.encode(bytes),
            SignatureEncoding::Base64 => BASE64.encode(bytes),
            SignatureEncoding::Base64Url => BASE64URL_NOPAD.encode(bytes),
        }
    }
}

#[cfg(test)]
mod tests;
