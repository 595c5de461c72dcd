//! Signatures: recipes as data, keys prepared once, one signature for every key that is active.
//!
//! What is signed is the body as it is sent, fed to the MAC from where it lies. What a key needs is
//! prepared once, so an attempt only copies its state. During a rotation two keys are active and both sign, the newest first, so that a
//! receiver with either secret is content.

use std::sync::Arc;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};

use super::Contract;
use super::accessor::{Accessor, View};
use super::render::{HeaderLine, RenderError, RenderInput, Rendered, checked};
use super::template::{TextPiece, TextTemplate};
use crate::clock::Timestamp;
use crate::id::SecretId;

mod key;

pub use key::{SignatureAlgorithm, SignatureBytes, Signer, SigningKey};

/// One entry of a contract's `signatures`.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// The signatures of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signed {
    /// One line a header, in the order of the contract's `signatures`.
    pub headers: Vec<HeaderLine>,
    /// The keys that signed, in the order they first did.
    pub keys: Vec<SecretId>,
}

/// Signs a rendered request with every key that is active at the attempt's time.
pub fn sign(
    contract: &Contract,
    rendered: &Rendered,
    input: &RenderInput<'_>,
    keys: &SigningKeys,
) -> Result<Signed, RenderError> {
    let (mut lines, mut signed) = (Lines::default(), Signed::default());
    let mut scratch = Vec::with_capacity(128);
    for signature in &contract.signatures {
        let view = View { input, body: &rendered.body, signature: "" };
        let most = match signature.keys {
            KeyChoice::All => usize::MAX,
            KeyChoice::Newest => 1,
        };
        let fitting = keys
            .live_at(input.attempt_time)
            .filter_map(|key| Some((key, key.signer(signature.algorithm)?)));
        for (key, signer) in fitting.take(most) {
            let bytes = authenticate(signer, &signature.payload, &view, &mut scratch);
            let text = signature.encoding.encode(bytes.as_ref());
            lines.add(&signature.place, &View { signature: &text, ..view });
            if !signed.keys.contains(key.id()) {
                signed.keys.push(key.id().clone());
            }
        }
    }
    if contract.secret.required && signed.keys.is_empty() {
        return Err(RenderError::NoActiveSecret);
    }
    for (name, value) in lines.0 {
        signed.headers.push(checked(name, value.into())?);
    }
    Ok(signed)
}

/// Feeds the payload piece by piece; the body goes in from where it lies.
fn authenticate(
    mut signer: Signer<'_>,
    payload: &TextTemplate,
    view: &View<'_>,
    scratch: &mut Vec<u8>,
) -> SignatureBytes {
    scratch.clear();
    for piece in payload.pieces() {
        if let TextPiece::Value(Accessor::RequestBody) = piece {
            signer.update(scratch);
            scratch.clear();
            signer.update(view.body);
        } else {
            piece.write(view, scratch);
        }
    }
    signer.update(scratch);
    signer.finish()
}

/// Header lines under construction; few, so that a walk finds one.
#[derive(Default)]
struct Lines<'a>(Vec<(&'a Arc<str>, Vec<u8>)>);

impl<'a> Lines<'a> {
    fn add(&mut self, place: &'a SignaturePlace, view: &View<'_>) {
        let SignaturePlace::Header { name, each, prefix, separator } = place;
        let value = match self.0.iter().position(|(other, _)| *other == name) {
            Some(at) => {
                let value = &mut self.0[at].1;
                value.extend_from_slice(separator.as_bytes());
                value
            }
            None => {
                let mut value = Vec::with_capacity(128);
                prefix.write(view, &mut value);
                let at = self.0.len();
                self.0.push((name, value));
                &mut self.0[at].1
            }
        };
        each.write(view, value);
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
