//! Keys, and what they make of bytes.
//!
//! One HMAC secret signs with any HMAC algorithm, whichever its contract asks for. What an
//! algorithm needs of a key (for HMAC two hashed blocks, for Ed25519 the expanded seed) is prepared
//! when it is first used and shared by all clones, so an attempt only copies the state, and a key
//! holds no state that nobody asks for. A key of RSA or ECDSA is likewise read once, from its PKCS#8.
//! The key's own bytes are wiped when the last clone goes; the prepared states, from which an HMAC
//! key cannot be read, are freed without being wiped.

use std::fmt;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::signature::Ed25519KeyPair;
use hmac::{Hmac, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use crate::clock::Timestamp;
use crate::error::{Rule, Wrong, words};
use crate::id::SecretId;
use crate::model::SecretAlgorithm;
use crate::secret::{ED25519_SEED_LEN, SecretBytes, pair_public};
use pair::{Pairs, Recipe};
use signer::State;

mod pair;
mod signer;

pub use signer::{SignatureBytes, Signer, Unsigned};

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
        /// RSA with the padding of PKCS#1 v1.5 and SHA-256: as many bytes as the key.
        RsaSha256 = "rsa_sha256",
        /// RSA with the padding of PSS, SHA-256 and a salt of 32 bytes: as many bytes as the key,
        /// others each time.
        RsaPssSha256 = "rsa_pss_sha256",
        /// ECDSA on P-256 with SHA-256, other bytes each time.
        EcdsaP256 = "ecdsa_p256",
        /// ECDSA on P-521 with SHA-512, other bytes each time.
        EcdsaP521 = "ecdsa_p521",
        /// ECDSA on secp256k1 with SHA-256, other bytes each time.
        EcdsaSecp256k1 = "ecdsa_secp256k1",
    }
}

impl SignatureAlgorithm {
    /// The kind of key that it is made with.
    pub fn kind(self) -> SecretAlgorithm {
        match self {
            SignatureAlgorithm::HmacSha1
            | SignatureAlgorithm::HmacSha256
            | SignatureAlgorithm::HmacSha512
            | SignatureAlgorithm::Md5
            | SignatureAlgorithm::Sha1
            | SignatureAlgorithm::Sha256
            | SignatureAlgorithm::Sha512 => SecretAlgorithm::Hmac,
            SignatureAlgorithm::Ed25519 => SecretAlgorithm::Ed25519,
            SignatureAlgorithm::RsaSha256 | SignatureAlgorithm::RsaPssSha256 => {
                SecretAlgorithm::Rsa
            }
            SignatureAlgorithm::EcdsaP256 => SecretAlgorithm::EcdsaP256,
            SignatureAlgorithm::EcdsaP521 => SecretAlgorithm::EcdsaP521,
            SignatureAlgorithm::EcdsaSecp256k1 => SecretAlgorithm::EcdsaSecp256k1,
        }
    }

    /// Whether it is a hash of a payload that holds the key.
    pub(in crate::contract) fn is_digest(self) -> bool {
        match self {
            SignatureAlgorithm::Md5
            | SignatureAlgorithm::Sha1
            | SignatureAlgorithm::Sha256
            | SignatureAlgorithm::Sha512 => true,
            SignatureAlgorithm::HmacSha1
            | SignatureAlgorithm::HmacSha256
            | SignatureAlgorithm::HmacSha512
            | SignatureAlgorithm::Ed25519
            | SignatureAlgorithm::RsaSha256
            | SignatureAlgorithm::RsaPssSha256
            | SignatureAlgorithm::EcdsaP256
            | SignatureAlgorithm::EcdsaP521
            | SignatureAlgorithm::EcdsaSecp256k1 => false,
        }
    }

    /// Whether it is ECDSA, which has two forms; see [`EcdsaForm`].
    pub fn is_ecdsa(self) -> bool {
        match self {
            SignatureAlgorithm::EcdsaP256
            | SignatureAlgorithm::EcdsaP521
            | SignatureAlgorithm::EcdsaSecp256k1 => true,
            SignatureAlgorithm::HmacSha1
            | SignatureAlgorithm::HmacSha256
            | SignatureAlgorithm::HmacSha512
            | SignatureAlgorithm::Ed25519
            | SignatureAlgorithm::Md5
            | SignatureAlgorithm::Sha1
            | SignatureAlgorithm::Sha256
            | SignatureAlgorithm::Sha512
            | SignatureAlgorithm::RsaSha256
            | SignatureAlgorithm::RsaPssSha256 => false,
        }
    }

    /// Whether the same key makes other bytes of the same text each time.
    pub fn is_random(self) -> bool {
        self.is_ecdsa() || self == SignatureAlgorithm::RsaPssSha256
    }
}

/// How the two numbers of an ECDSA signature stand; of no meaning elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EcdsaForm {
    /// As DER of ECDSA-Sig-Value (RFC 3279, section 2.2.3).
    #[default]
    Der,
    /// One after the other, each as long as the curve's order: JSON Web Signatures want that (RFC
    /// 7518, section 3.4).
    Raw,
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
    Pair(Pairs),
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
    /// Ed25519 it is the seed, for RSA and ECDSA the key as PKCS#8.
    ///
    /// # Errors
    ///
    /// [`Rule::OutOfRange`] for an Ed25519 seed that is not 32 bytes, and for what is not PKCS#8 of
    /// the kind.
    pub fn new(
        id: SecretId,
        algorithm: SecretAlgorithm,
        key: &SecretBytes,
        activate_time: Timestamp,
        expire_time: Option<Timestamp>,
    ) -> Result<Self, Wrong> {
        let key = key.clone();
        let state = match algorithm {
            SecretAlgorithm::Rsa
            | SecretAlgorithm::EcdsaP256
            | SecretAlgorithm::EcdsaP521
            | SecretAlgorithm::EcdsaSecp256k1 => {
                if let Some(kind) = algorithm.pair() {
                    pair_public(kind, &key)?;
                }
                KeyState::Pair(Pairs::new(algorithm, key))
            }
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

    /// The key's own bytes, the seed for Ed25519, PKCS#8 for RSA and ECDSA: for whoever takes them
    /// out of a text.
    pub fn expose(&self) -> &[u8] {
        match &*self.state {
            KeyState::Hmac { key, .. } => key.expose(),
            KeyState::Ed25519 { seed, .. } => seed.expose(),
            KeyState::Pair(pairs) => pairs.expose(),
        }
    }

    /// The key's own bytes, where both sides have it.
    pub(in crate::contract) fn shared(&self) -> Option<&[u8]> {
        match &*self.state {
            KeyState::Hmac { key, .. } => Some(key.expose()),
            KeyState::Ed25519 { .. } | KeyState::Pair(_) => None,
        }
    }

    /// What kind of key it is.
    pub(super) fn kind(&self) -> SecretAlgorithm {
        match &*self.state {
            KeyState::Hmac { .. } => SecretAlgorithm::Hmac,
            KeyState::Ed25519 { .. } => SecretAlgorithm::Ed25519,
            KeyState::Pair(pairs) => pairs.kind(),
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

    /// Begins a signature; none when the key is not of the algorithm's kind. `form` is for ECDSA.
    pub fn signer(&self, algorithm: SignatureAlgorithm, form: EcdsaForm) -> Option<Signer<'_>> {
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
            (KeyState::Pair(pairs), algorithm) => {
                let recipe = Recipe::of(algorithm, form)?;
                if algorithm.kind() != pairs.kind() {
                    return None;
                }
                State::Pair { pair: pairs.get(recipe), digest: recipe.digest() }
            }
            (
                KeyState::Hmac { .. } | KeyState::Ed25519 { .. },
                SignatureAlgorithm::HmacSha1
                | SignatureAlgorithm::HmacSha256
                | SignatureAlgorithm::HmacSha512
                | SignatureAlgorithm::Md5
                | SignatureAlgorithm::Sha1
                | SignatureAlgorithm::Sha256
                | SignatureAlgorithm::Sha512
                | SignatureAlgorithm::Ed25519
                | SignatureAlgorithm::RsaSha256
                | SignatureAlgorithm::RsaPssSha256
                | SignatureAlgorithm::EcdsaP256
                | SignatureAlgorithm::EcdsaP521
                | SignatureAlgorithm::EcdsaSecp256k1,
            ) => return None,
        };
        Some(Signer::new(state))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

#[cfg(test)]
mod tests;
