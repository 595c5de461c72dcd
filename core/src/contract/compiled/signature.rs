//! A signature as a recipe, and the keys that it is made with.
//!
//! What a key needs is prepared once, so an attempt only copies its state.

use std::sync::Arc;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};

use super::accessor::Accessor;
use super::error::RenderError;
use super::text::{TextPiece, TextTemplate};
use super::value::Value;
use crate::clock::Timestamp;
use crate::contract::subject::View;
use crate::json::Step;
use crate::limits;

mod key;

pub use key::{EcdsaForm, SignatureAlgorithm, SignatureBytes, Signer, SigningKey, Unsigned};

/// One entry of a contract's `signatures`.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    /// What it is called in previews and refusals, as in `v1`.
    pub name: Box<str>,
    /// How it is made, and from keys of which kind.
    pub algorithm: SignatureAlgorithm,
    /// How a signature of ECDSA stands as bytes.
    pub form: EcdsaForm,
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
    /// Every one, oldest first.
    OldestFirst,
    /// The newest.
    Newest,
}

/// Where a signature goes.
#[derive(Clone, Debug, PartialEq)]
pub enum SignaturePlace {
    /// Into a header. Entries with the same header follow each other in order.
    Header {
        /// The header, or one for each key.
        header: SignatureHeader,
        /// What is written for each key, around `${signature}`.
        each: TextTemplate,
        /// What stands once in front.
        prefix: TextTemplate,
        /// What stands between two.
        separator: Box<str>,
    },
    /// Into the body, of the newest key, whatever [`Signature::keys`] says.
    Body {
        /// Of JSON, the path of its name: the last member of an object. Of a form, its name: the
        /// last field.
        path: Box<[Step]>,
        /// What is written, around `${signature}`.
        each: TextTemplate,
    },
    /// Into the URL, as its last parameter, of the newest key.
    Query {
        /// The parameter's name, not yet percent-encoded.
        name: Box<str>,
        /// What is written, around `${signature}`.
        each: TextTemplate,
    },
}

/// The header of a signature: one, or one for each key with the key's number at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureHeader {
    /// One name; or one for each of the keys that may be active at once.
    names: Box<[Arc<str>]>,
    numbered: bool,
}

impl SignatureHeader {
    /// The header of this name, as it is written.
    pub fn named(name: Arc<str>) -> Self {
        Self { names: [name].into(), numbered: false }
    }

    /// A header for each key: the name with the key's number behind it, from 1.
    pub fn numbered(name: &str) -> Self {
        let names = (1..=limits::LIVE_SECRETS).map(|number| format!("{name}{number}").into());
        Self { names: names.collect(), numbered: true }
    }

    /// The name of every one.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.iter()
    }

    /// Whether each key has a header of its own.
    pub fn is_numbered(&self) -> bool {
        self.numbered
    }

    /// The header of the key with this number; none beyond those that may be active at once.
    pub(super) fn of_key(&self, number: u32) -> Option<&Arc<str>> {
        match self.numbered {
            true => self.names.get(usize::try_from(number).ok()?.checked_sub(1)?),
            false => self.names.first(),
        }
    }

    /// Whether both are the same header: names are compared without regard to case.
    pub fn is(&self, other: &Self) -> bool {
        self.names().any(|name| other.has(name))
    }

    /// Whether this is the name of one of them.
    pub fn has(&self, name: &str) -> bool {
        self.names().any(|own| own.eq_ignore_ascii_case(name))
    }
}

impl Signature {
    /// Whether it has room for one key's value only.
    pub(super) fn is_of_newest(&self) -> bool {
        match self.place {
            SignaturePlace::Header { .. } => self.keys == KeyChoice::Newest,
            SignaturePlace::Body { .. } | SignaturePlace::Query { .. } => true,
        }
    }

    /// Whether a callback's question has all that it speaks of.
    pub(in crate::contract) fn fits_check(&self) -> bool {
        self.payload.fits_check()
            && match &self.place {
                SignaturePlace::Header { each, prefix, .. } => {
                    each.fits_check() && prefix.fits_check()
                }
                SignaturePlace::Body { each, .. } | SignaturePlace::Query { each, .. } => {
                    each.fits_check()
                }
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
    pub fn live_at(&self, now: Timestamp) -> impl DoubleEndedIterator<Item = &SigningKey> {
        self.0.iter().filter(move |key| key.live_at(now))
    }
}

/// Names of the headers that templates and signatures go into.
pub(in crate::contract) fn header_names<'a>(
    headers: &'a [(Arc<str>, TextTemplate)],
    signatures: &'a [Signature],
) -> impl Iterator<Item = &'a str> {
    let own = headers.iter().map(|(name, _)| &**name);
    let headers = signatures.iter().filter_map(|signature| match &signature.place {
        SignaturePlace::Header { header, .. } => Some(header),
        SignaturePlace::Body { .. } | SignaturePlace::Query { .. } => None,
    });
    own.chain(headers.flat_map(SignatureHeader::names).map(|name| &**name))
}

impl Signature {
    /// The keys that sign, in the order that the contract wants.
    pub(super) fn keys<'a>(
        &self,
        keys: &'a SigningKeys,
        now: Timestamp,
    ) -> impl Iterator<Item = &'a SigningKey> {
        let most = if self.is_of_newest() { 1 } else { usize::MAX };
        let kind = self.algorithm.kind();
        let (newest, oldest) = match self.keys {
            KeyChoice::All | KeyChoice::Newest => (Some(keys.live_at(now)), None),
            KeyChoice::OldestFirst => (None, Some(keys.live_at(now).rev())),
        };
        let keys = newest.into_iter().flatten().chain(oldest.into_iter().flatten());
        keys.filter(move |key| key.kind() == kind).take(most)
    }

    /// Begins a signature with a key; none when it is not of the algorithm's kind.
    pub(super) fn signer<'a>(&self, key: &'a SigningKey) -> Option<Signer<'a>> {
        key.signer(self.algorithm, self.form)
    }

    /// Signs: the payload goes in piece by piece, the body from where it lies.
    pub(super) fn value(
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
        let made = signer.finish().map_err(|Unsigned| RenderError::unsigned(&self.name))?;
        Ok(self.encoding.encode(made.as_ref()))
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
