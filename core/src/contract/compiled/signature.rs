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
    pub(in crate::contract) fn fits_check(&self) -> bool {
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

/// Names of the headers that templates and signatures go into.
pub(in crate::contract) fn header_names<'a>(
    headers: &'a [(Arc<str>, TextTemplate)],
    signatures: &'a [Signature],
) -> impl Iterator<Item = &'a str> {
    let own = headers.iter().map(|(name, _)| &**name);
    own.chain(signatures.iter().filter_map(|signature| match &signature.place {
        SignaturePlace::Header { name, .. } => Some(&**name),
        SignaturePlace::Body(_) => None,
    }))
}

impl Signature {
    /// The keys that sign, newest first, each with a signature begun.
    pub(super) fn signers<'a>(
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
        Ok(self.encoding.encode(signer.finish().as_ref()))
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
