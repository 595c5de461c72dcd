//! Keys of every kind: read, made, and asked for their public half.

use super::ed25519::{ed25519_generate, ed25519_parse, ed25519_public};
use super::pair::{PairKind, pair_generate, pair_parse, pair_public};
use super::public::{Curve, PublicKey};
use super::{SecretBytes, SecretForm};
use crate::error::{Rule, Wrong};
use crate::model::SecretAlgorithm;

impl SecretAlgorithm {
    /// The kind of key pair, of those that are kept as PKCS#8.
    pub fn pair(self) -> Option<PairKind> {
        match self {
            SecretAlgorithm::Hmac | SecretAlgorithm::Ed25519 => None,
            SecretAlgorithm::Rsa => Some(PairKind::Rsa),
            SecretAlgorithm::EcdsaP256 => Some(PairKind::Ec(Curve::P256)),
            SecretAlgorithm::EcdsaP521 => Some(PairKind::Ec(Curve::P521)),
            SecretAlgorithm::EcdsaSecp256k1 => Some(PairKind::Ec(Curve::Secp256k1)),
        }
    }

    /// Whether a key has a public half, which is all that receivers need.
    pub fn has_public_key(self) -> bool {
        self != SecretAlgorithm::Hmac
    }
}

impl PairKind {
    /// The kind of secret.
    pub fn algorithm(self) -> SecretAlgorithm {
        match self {
            PairKind::Rsa => SecretAlgorithm::Rsa,
            PairKind::Ec(Curve::P256) => SecretAlgorithm::EcdsaP256,
            PairKind::Ec(Curve::P521) => SecretAlgorithm::EcdsaP521,
            PairKind::Ec(Curve::Secp256k1) => SecretAlgorithm::EcdsaSecp256k1,
        }
    }
}

impl PublicKey {
    /// What the other half signs with.
    pub fn algorithm(&self) -> SecretAlgorithm {
        match self {
            PublicKey::Ed25519(_) => SecretAlgorithm::Ed25519,
            PublicKey::Rsa { .. } => SecretAlgorithm::Rsa,
            PublicKey::Ec { curve, .. } => PairKind::Ec(*curve).algorithm(),
        }
    }
}

/// The key that a text stands for; `form` is what HMAC keys look like. What is wrong is said without
/// the text.
///
/// # Errors
///
/// As [`SecretForm::parse`], [`ed25519_parse`] and [`pair_parse`].
pub fn key_parse(
    algorithm: SecretAlgorithm,
    form: &SecretForm,
    text: &str,
) -> Result<SecretBytes, Wrong> {
    match algorithm.pair() {
        Some(kind) => pair_parse(kind, text),
        None if algorithm == SecretAlgorithm::Ed25519 => ed25519_parse(text),
        None => form.parse(text),
    }
}

/// A new key. `random` fills a buffer with random bytes; key pairs other than Ed25519 are made by
/// their library with its own. An RSA key takes some 100 ms of a core.
///
/// # Errors
///
/// [`Rule::OutOfRange`] when the library fails.
pub fn key_generate(
    algorithm: SecretAlgorithm,
    form: &SecretForm,
    random: &mut dyn FnMut(&mut [u8]),
) -> Result<SecretBytes, Wrong> {
    match algorithm.pair() {
        Some(kind) => {
            let failed = |_| Wrong::new(Rule::OutOfRange, "the library could not make a key");
            pair_generate(kind).map_err(failed)
        }
        None if algorithm == SecretAlgorithm::Ed25519 => Ok(ed25519_generate(random)),
        None => Ok(form.generate(random)),
    }
}

/// The public half of a key; none where it has none.
///
/// # Errors
///
/// [`Rule::OutOfRange`] for what is no key of this kind.
pub fn key_public(
    algorithm: SecretAlgorithm,
    key: &SecretBytes,
) -> Result<Option<PublicKey>, Wrong> {
    match algorithm.pair() {
        Some(kind) => pair_public(kind, key).map(Some),
        None if algorithm == SecretAlgorithm::Ed25519 => {
            ed25519_public(key).map(|public| Some(PublicKey::Ed25519(public)))
        }
        None => Ok(None),
    }
}
