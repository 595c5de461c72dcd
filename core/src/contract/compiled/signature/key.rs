//! Keys, and what they make of bytes.
//!
//! One HMAC secret signs with any HMAC algorithm, whichever its contract asks for. What an
//! algorithm needs of a key (for HMAC two hashed blocks, for Ed25519 the expanded seed) is prepared
//! when it is first used and shared by all clones, so an attempt only copies the state, and a key
//! holds no state that nobody asks for. The key's own bytes are wiped when the last clone goes; the
//! prepared states, from which an HMAC key cannot be read, are freed without being wiped.

use std::fmt;
use std::sync::{Arc, OnceLock};

use hmac::{Hmac, Mac};
use md5::Md5;
use ring::signature::Ed25519KeyPair;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use crate::clock::Timestamp;
use crate::error::{Rule, Wrong, words};
use crate::id::SecretId;
use crate::model::SecretAlgorithm;
use crate::secret::{ED25519_SEED_LEN, SecretBytes};

/// Longest signature in bytes: HMAC-SHA512 and Ed25519 have 64.
const SIGNATURE_LEN: usize = 64;

words! {
    /// How a signature is made, by its name in a contract.
    SignatureAlgorithm {
        /// HMAC with SHA-1, for receivers that know no better: 20 bytes.
        HmacSha1 = "hmac_sha1",
        /// HMAC with SHA-256: 32 bytes.
        HmacSha256 = "hmac_sha256",
        /// HMAC with SHA-512: 64 bytes.
        HmacSha512 = "hmac_sha512",
        /// Ed25519 of RFC 8032, which is deterministic: 64 bytes.
        Ed25519 = "ed25519",
        /// MD5 of a payload that holds the key: 16 bytes.
        Md5 = "md5",
        /// SHA-1 of the same: 20 bytes.
        Sha1 = "sha1",
        /// SHA-256 of the same: 32 bytes.
        Sha256 = "sha256",
        /// SHA-512 of the same: 64 bytes.
        Sha512 = "sha512",
    }
}

/// A key ready to sign. Clones share what has been prepared.
#[derive(Clone)]
pub struct SigningKey {
    id: SecretId,
    state: Arc<KeyState>,
    activate_time: Timestamp,
    expire_time: Option<Timestamp>,
    /// It was made to sign from the start.
    already: bool,
}

/// A key and what has been prepared of it.
enum KeyState {
    Hmac {
        key: SecretBytes,
        sha1: Prepared<Hmac<Sha1>>,
        sha256: Prepared<Hmac<Sha256>>,
        sha512: Prepared<Hmac<Sha512>>,
    },
    Ed25519 {
        seed: SecretBytes,
        pair: OnceLock<Option<Box<Ed25519KeyPair>>>,
    },
}

type Prepared<M> = OnceLock<Option<Box<M>>>;

/// The state of a MAC that has taken in its key and nothing else. HMAC takes keys of any length, so
/// there always is one.
fn prepared<'a, M: Mac + hmac::digest::KeyInit>(
    prepared: &'a Prepared<M>,
    key: &SecretBytes,
) -> Option<&'a M> {
    let made = || <M as Mac>::new_from_slice(key.expose()).ok().map(Box::new);
    prepared.get_or_init(made).as_deref()
}

impl SigningKey {
    /// A key that signs from `activate_time` on and, if so given, before `expire_time`. For
    /// Ed25519 it is the seed.
    ///
    /// # Errors
    ///
    /// [`Rule::OutOfRange`] for an Ed25519 seed that is not 32 bytes.
    pub fn new(
        id: SecretId,
        algorithm: SecretAlgorithm,
        key: &SecretBytes,
        activate_time: Timestamp,
        expire_time: Option<Timestamp>,
    ) -> Result<Self, Wrong> {
        let key = key.clone();
        let state = match algorithm {
            SecretAlgorithm::Hmac => KeyState::Hmac {
                key,
                sha1: OnceLock::new(),
                sha256: OnceLock::new(),
                sha512: OnceLock::new(),
            },
            SecretAlgorithm::Ed25519 if key.expose().len() == ED25519_SEED_LEN => {
                KeyState::Ed25519 { seed: key, pair: OnceLock::new() }
            }
            SecretAlgorithm::Ed25519 => {
                return Err(Wrong::new(Rule::OutOfRange, "an Ed25519 seed must be 32 bytes"));
            }
        };
        Ok(Self { id, state: Arc::new(state), activate_time, expire_time, already: false })
    }

    /// The same key, which signs from now on: its activate time only says which key is newer. For a
    /// key that was made to sign at once, by somebody whose clock may be ahead of this one.
    pub fn active_already(self) -> Self {
        Self { already: true, ..self }
    }

    /// The key's own bytes, the seed for Ed25519: for whoever takes them out of a text.
    pub fn expose(&self) -> &[u8] {
        match &*self.state {
            KeyState::Hmac { key, .. } => key.expose(),
            KeyState::Ed25519 { seed, .. } => seed.expose(),
        }
    }

    /// The key's own bytes, where both sides have it.
    pub(in crate::contract) fn shared(&self) -> Option<&[u8]> {
        match &*self.state {
            KeyState::Hmac { key, .. } => Some(key.expose()),
            KeyState::Ed25519 { .. } => None,
        }
    }

    /// Which secret it is.
    pub fn id(&self) -> &SecretId {
        &self.id
    }

    /// When it begins to sign.
    pub(super) fn activate_time(&self) -> Timestamp {
        self.activate_time
    }

    /// Whether it signs at this moment.
    pub fn live_at(&self, now: Timestamp) -> bool {
        (self.already || self.activate_time <= now) && self.expire_time.is_none_or(|end| now < end)
    }

    /// Begins a signature; none when the key is not of the algorithm's kind.
    pub fn signer(&self, algorithm: SignatureAlgorithm) -> Option<Signer<'_>> {
        let state = match (&*self.state, algorithm) {
            (KeyState::Hmac { key, sha1, .. }, SignatureAlgorithm::HmacSha1) => {
                State::HmacSha1(prepared(sha1, key)?.clone())
            }
            (KeyState::Hmac { key, sha256, .. }, SignatureAlgorithm::HmacSha256) => {
                State::HmacSha256(prepared(sha256, key)?.clone())
            }
            (KeyState::Hmac { key, sha512, .. }, SignatureAlgorithm::HmacSha512) => {
                State::HmacSha512(prepared(sha512, key)?.clone())
            }
            (KeyState::Ed25519 { seed, pair }, SignatureAlgorithm::Ed25519) => {
                let made = || Ed25519KeyPair::from_seed_unchecked(seed.expose()).ok().map(Box::new);
                let pair = pair.get_or_init(made).as_deref()?;
                State::Ed25519 { pair, message: Vec::new() }
            }
            (KeyState::Hmac { .. }, SignatureAlgorithm::Md5) => State::Md5(Md5::new()),
            (KeyState::Hmac { .. }, SignatureAlgorithm::Sha1) => State::Sha1(Sha1::new()),
            (KeyState::Hmac { .. }, SignatureAlgorithm::Sha256) => State::Sha256(Sha256::new()),
            (KeyState::Hmac { .. }, SignatureAlgorithm::Sha512) => State::Sha512(Sha512::new()),
            (KeyState::Hmac { .. }, SignatureAlgorithm::Ed25519)
            | (
                KeyState::Ed25519 { .. },
                SignatureAlgorithm::HmacSha1
                | SignatureAlgorithm::HmacSha256
                | SignatureAlgorithm::HmacSha512
                | SignatureAlgorithm::Md5
                | SignatureAlgorithm::Sha1
                | SignatureAlgorithm::Sha256
                | SignatureAlgorithm::Sha512,
            ) => return None,
        };
        Some(Signer(state))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

/// A signature in the making; see [`SigningKey::signer`].
pub struct Signer<'a>(State<'a>);

enum State<'a> {
    HmacSha1(Hmac<Sha1>),
    HmacSha256(Hmac<Sha256>),
    HmacSha512(Hmac<Sha512>),
    Md5(Md5),
    Sha1(Sha1),
    Sha256(Sha256),
    Sha512(Sha512),
    /// Ed25519 reads its message twice, so the pieces are collected.
    Ed25519 {
        pair: &'a Ed25519KeyPair,
        message: Vec<u8>,
    },
}

impl Signer<'_> {
    /// Adds the next piece of what is signed. HMAC reads it from where it lies; Ed25519 copies.
    pub fn update(&mut self, piece: &[u8]) {
        match &mut self.0 {
            State::HmacSha1(mac) => mac.update(piece),
            State::HmacSha256(mac) => mac.update(piece),
            State::HmacSha512(mac) => mac.update(piece),
            State::Md5(hash) => Digest::update(hash, piece),
            State::Sha1(hash) => Digest::update(hash, piece),
            State::Sha256(hash) => Digest::update(hash, piece),
            State::Sha512(hash) => Digest::update(hash, piece),
            State::Ed25519 { message, .. } => message.extend_from_slice(piece),
        }
    }

    /// The signature of all pieces, one after the other.
    pub fn finish(self) -> SignatureBytes {
        match self.0 {
            State::HmacSha1(mac) => SignatureBytes::new(&mac.finalize().into_bytes()),
            State::HmacSha256(mac) => SignatureBytes::new(&mac.finalize().into_bytes()),
            State::HmacSha512(mac) => SignatureBytes::new(&mac.finalize().into_bytes()),
            State::Md5(hash) => SignatureBytes::new(&hash.finalize()),
            State::Sha1(hash) => SignatureBytes::new(&hash.finalize()),
            State::Sha256(hash) => SignatureBytes::new(&hash.finalize()),
            State::Sha512(hash) => SignatureBytes::new(&hash.finalize()),
            State::Ed25519 { pair, message } => SignatureBytes::new(pair.sign(&message).as_ref()),
        }
    }
}

impl fmt::Debug for Signer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(redacted)")
    }
}

/// The bytes of one signature: 16, 20, 32 or 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignatureBytes {
    bytes: [u8; SIGNATURE_LEN],
    length: usize,
}

impl SignatureBytes {
    fn new(signature: &[u8]) -> Self {
        let mut bytes = [0; SIGNATURE_LEN];
        bytes.iter_mut().zip(signature).for_each(|(slot, byte)| *slot = *byte);
        Self { bytes, length: signature.len().min(SIGNATURE_LEN) }
    }
}

impl AsRef<[u8]> for SignatureBytes {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&self.bytes)
    }
}

#[cfg(test)]
mod tests;
