//! Keys of RSA and ECDSA, prepared for one way of signing each.

use std::sync::OnceLock;

use aws_lc_rs::digest::{self, Digest, SHA256, SHA512};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING,
    ECDSA_P256K1_SHA256_ASN1_SIGNING, ECDSA_P256K1_SHA256_FIXED_SIGNING,
    ECDSA_P521_SHA512_ASN1_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding,
};

use super::{EcdsaForm, SignatureAlgorithm};
use crate::model::SecretAlgorithm;
use crate::secret::SecretBytes;

/// One way of signing with a pair.
#[derive(Clone, Copy)]
pub(super) enum Recipe {
    RsaPkcs1,
    RsaPss,
    Ecdsa { by: &'static EcdsaSigningAlgorithm, form: EcdsaForm, hash: &'static digest::Algorithm },
}

impl Recipe {
    /// How an algorithm signs; none where it is none of pairs.
    pub(super) fn of(algorithm: SignatureAlgorithm, form: EcdsaForm) -> Option<Self> {
        let ecdsa = |der, raw, hash| {
            let by = match form {
                EcdsaForm::Der => der,
                EcdsaForm::Raw => raw,
            };
            Some(Recipe::Ecdsa { by, form, hash })
        };
        match algorithm {
            SignatureAlgorithm::HmacSha1
            | SignatureAlgorithm::HmacSha256
            | SignatureAlgorithm::HmacSha512
            | SignatureAlgorithm::Md5
            | SignatureAlgorithm::Sha1
            | SignatureAlgorithm::Sha256
            | SignatureAlgorithm::Sha512
            | SignatureAlgorithm::Ed25519 => None,
            SignatureAlgorithm::RsaSha256 => Some(Recipe::RsaPkcs1),
            SignatureAlgorithm::RsaPssSha256 => Some(Recipe::RsaPss),
            SignatureAlgorithm::EcdsaP256 => {
                ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P256_SHA256_FIXED_SIGNING, &SHA256)
            }
            SignatureAlgorithm::EcdsaP521 => {
                ecdsa(&ECDSA_P521_SHA512_ASN1_SIGNING, &ECDSA_P521_SHA512_FIXED_SIGNING, &SHA512)
            }
            SignatureAlgorithm::EcdsaSecp256k1 => ecdsa(
                &ECDSA_P256K1_SHA256_ASN1_SIGNING,
                &ECDSA_P256K1_SHA256_FIXED_SIGNING,
                &SHA256,
            ),
        }
    }

    /// The digest that is signed, begun.
    pub(super) fn digest(self) -> digest::Context {
        digest::Context::new(match self {
            Recipe::RsaPkcs1 | Recipe::RsaPss => &SHA256,
            Recipe::Ecdsa { hash, .. } => hash,
        })
    }
}

/// A key as PKCS#8, and what has been prepared of it.
pub(super) struct Pairs {
    kind: SecretAlgorithm,
    key: SecretBytes,
    /// By its way of signing: the first of RSA and ECDSA, the second way of each.
    prepared: [OnceLock<Option<Box<Pair>>>; 2],
}

impl Pairs {
    pub(super) fn new(kind: SecretAlgorithm, key: SecretBytes) -> Self {
        Self { kind, key, prepared: [OnceLock::new(), OnceLock::new()] }
    }

    pub(super) fn kind(&self) -> SecretAlgorithm {
        self.kind
    }

    pub(super) fn expose(&self) -> &[u8] {
        self.key.expose()
    }

    /// The pair for one way of signing, read once; none where the library does not take the key.
    pub(super) fn get(&self, recipe: Recipe) -> Option<&Pair> {
        let [first, second] = &self.prepared;
        let slot = match recipe {
            Recipe::RsaPkcs1 | Recipe::Ecdsa { form: EcdsaForm::Der, .. } => first,
            Recipe::RsaPss | Recipe::Ecdsa { form: EcdsaForm::Raw, .. } => second,
        };
        slot.get_or_init(|| Pair::read(recipe, self.key.expose()).map(Box::new)).as_deref()
    }
}

/// A key pair as the library holds it, for one way of signing.
pub(super) enum Pair {
    Rsa { pair: rsa::KeyPair, padding: &'static dyn RsaEncoding },
    Ecdsa(EcdsaKeyPair),
}

impl Pair {
    fn read(recipe: Recipe, key: &[u8]) -> Option<Self> {
        let rsa = |padding| {
            let pair = rsa::KeyPair::from_pkcs8(key).ok()?;
            Some(Pair::Rsa { pair, padding })
        };
        match recipe {
            Recipe::RsaPkcs1 => rsa(&RSA_PKCS1_SHA256),
            Recipe::RsaPss => rsa(&RSA_PSS_SHA256),
            Recipe::Ecdsa { by, .. } => EcdsaKeyPair::from_pkcs8(by, key).ok().map(Pair::Ecdsa),
        }
    }

    /// The signature of a digest; none where the library fails.
    pub(super) fn sign(&self, digest: &Digest) -> Option<Box<[u8]>> {
        match self {
            Pair::Rsa { pair, padding } => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign_digest(*padding, digest, &mut signature).ok()?;
                Some(signature.into())
            }
            Pair::Ecdsa(pair) => pair.sign_digest(digest).ok().map(|made| made.as_ref().into()),
        }
    }
}
