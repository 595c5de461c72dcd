//! Signatures: recipes as data, keys prepared once, one signature for every key that is active.
//!
//! What is signed is the body as it is sent, fed to the MAC from where it lies. A key's HMAC state
//! (its two padded blocks, hashed) is prepared when the key is read, so an attempt only copies the
//! state. During a rotation two keys are active and both sign, the newest first, so that a
//! receiver with either secret is content.

use std::fmt;
use std::sync::Arc;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::Contract;
use super::accessor::{Accessor, View};
use super::render::{HeaderLine, RenderError, RenderInput, Rendered, checked};
use super::template::{TextPiece, TextTemplate};
use crate::clock::Timestamp;
use crate::error::{Rule, Wrong};
use crate::id::SecretId;
use crate::model::SecretAlgorithm;
use crate::secret::SecretBytes;

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

/// How a signature is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureAlgorithm {
    /// `hmac_sha256`
    HmacSha256,
    /// `ed25519`. No key of this kind can be made yet, so nothing is signed with it.
    Ed25519,
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

/// A key ready to sign.
#[derive(Clone)]
pub struct SigningKey {
    id: SecretId,
    state: KeyState,
    activate_time: Timestamp,
    expire_time: Option<Timestamp>,
}

/// A prepared key. The state allows signing, but the key cannot be read from it.
#[derive(Clone)]
enum KeyState {
    HmacSha256(Hmac<Sha256>),
}

impl SigningKey {
    /// Prepares a key that signs from `activate_time` on and, if so given, before `expire_time`.
    pub fn new(
        id: SecretId,
        algorithm: SecretAlgorithm,
        key: &SecretBytes,
        activate_time: Timestamp,
        expire_time: Option<Timestamp>,
    ) -> Result<Self, Wrong> {
        let state = match algorithm {
            SecretAlgorithm::Hmac => {
                let state = Hmac::new_from_slice(key.expose())
                    .map_err(|_| Wrong::new(Rule::OutOfRange, "is not a key for HMAC"))?;
                KeyState::HmacSha256(state)
            }
            SecretAlgorithm::Ed25519 => {
                let text = "keys of ED25519 are not supported yet";
                return Err(Wrong::new(Rule::Unsupported, text));
            }
        };
        Ok(Self { id, state, activate_time, expire_time })
    }

    /// Which secret it is.
    pub fn id(&self) -> &SecretId {
        &self.id
    }

    /// Whether it signs at this moment.
    pub fn live_at(&self, now: Timestamp) -> bool {
        self.activate_time <= now && self.expire_time.is_none_or(|end| now < end)
    }

    fn mac(&self, algorithm: SignatureAlgorithm) -> Option<&Hmac<Sha256>> {
        match (algorithm, &self.state) {
            (SignatureAlgorithm::HmacSha256, KeyState::HmacSha256(state)) => Some(state),
            (SignatureAlgorithm::Ed25519, KeyState::HmacSha256(_)) => None,
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

/// A subscription's keys, newest first. Clones share one allocation.
#[derive(Clone, Debug, Default)]
pub struct SigningKeys(Arc<[SigningKey]>);

impl SigningKeys {
    /// Keys in any order. The newest is the one with the latest activate time; of two that became
    /// active at once, the one with the greater id.
    pub fn new(mut keys: Vec<SigningKey>) -> Self {
        keys.sort_by(|a, b| (b.activate_time, &b.id).cmp(&(a.activate_time, &a.id)));
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
            .filter_map(|key| Some((key, key.mac(signature.algorithm)?)));
        for (key, mac) in fitting.take(most) {
            let bytes = authenticate(mac.clone(), &signature.payload, &view, &mut scratch);
            let text = signature.encoding.encode(&bytes);
            lines.add(&signature.place, &View { signature: &text, ..view });
            if !signed.keys.contains(&key.id) {
                signed.keys.push(key.id.clone());
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
    mut mac: Hmac<Sha256>,
    payload: &TextTemplate,
    view: &View<'_>,
    scratch: &mut Vec<u8>,
) -> [u8; 32] {
    scratch.clear();
    for piece in payload.pieces() {
        if let TextPiece::Value(Accessor::RequestBody) = piece {
            mac.update(scratch);
            scratch.clear();
            mac.update(view.body);
        } else {
            piece.write(view, scratch);
        }
    }
    mac.update(scratch);
    mac.finalize().into_bytes().into()
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
