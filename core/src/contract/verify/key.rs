//! Keys and signatures, as bytes.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P256K1_SHA256_ASN1,
    ECDSA_P256K1_SHA256_FIXED, ECDSA_P521_SHA512_ASN1, ECDSA_P521_SHA512_FIXED, ED25519,
    RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;

use super::VerifyingKey;
use crate::contract::compiled::{EcdsaForm, Signature, SignatureAlgorithm, SignatureEncoding};
use crate::secret::PublicKey;

impl VerifyingKey {
    /// Whether a signature over these bytes was made with this key (its other half). HMACs are
    /// compared in constant time.
    pub(super) fn fits(&self, signature: &Signature, payload: &[u8], made: &[u8]) -> bool {
        let public = |by: &'static dyn VerificationAlgorithm| match self {
            VerifyingKey::Hmac(_) => false,
            VerifyingKey::Public(PublicKey::Ed25519(key)) => {
                UnparsedPublicKey::new(by, key).verify(payload, made).is_ok()
            }
            VerifyingKey::Public(key @ (PublicKey::Rsa { .. } | PublicKey::Ec { .. })) => {
                UnparsedPublicKey::new(by, key.der()).verify(payload, made).is_ok()
            }
        };
        let shared = |fits: fn(&[u8], &[u8], &[u8]) -> bool| match self {
            VerifyingKey::Hmac(key) => fits(key.expose(), payload, made),
            VerifyingKey::Public(_) => false,
        };
        if !self.is_for(signature.algorithm) {
            return false;
        }
        match (signature.algorithm, signature.form) {
            (SignatureAlgorithm::HmacSha1, _) => shared(hmac_fits::<Hmac<Sha1>>),
            (SignatureAlgorithm::HmacSha256, _) => shared(hmac_fits::<Hmac<Sha256>>),
            (SignatureAlgorithm::HmacSha512, _) => shared(hmac_fits::<Hmac<Sha512>>),
            (SignatureAlgorithm::Ed25519, _) => public(&ED25519),
            (SignatureAlgorithm::RsaSha256, _) => public(&RSA_PKCS1_2048_8192_SHA256),
            (SignatureAlgorithm::RsaPssSha256, _) => public(&RSA_PSS_2048_8192_SHA256),
            (SignatureAlgorithm::EcdsaP256, EcdsaForm::Der) => public(&ECDSA_P256_SHA256_ASN1),
            (SignatureAlgorithm::EcdsaP256, EcdsaForm::Raw) => public(&ECDSA_P256_SHA256_FIXED),
            (SignatureAlgorithm::EcdsaP521, EcdsaForm::Der) => public(&ECDSA_P521_SHA512_ASN1),
            (SignatureAlgorithm::EcdsaP521, EcdsaForm::Raw) => public(&ECDSA_P521_SHA512_FIXED),
            (SignatureAlgorithm::EcdsaSecp256k1, EcdsaForm::Der) => {
                public(&ECDSA_P256K1_SHA256_ASN1)
            }
            (SignatureAlgorithm::EcdsaSecp256k1, EcdsaForm::Raw) => {
                public(&ECDSA_P256K1_SHA256_FIXED)
            }
            (SignatureAlgorithm::Md5, _) => hash_fits::<Md5>(payload, made),
            (SignatureAlgorithm::Sha1, _) => hash_fits::<Sha1>(payload, made),
            (SignatureAlgorithm::Sha256, _) => hash_fits::<Sha256>(payload, made),
            (SignatureAlgorithm::Sha512, _) => hash_fits::<Sha512>(payload, made),
        }
    }
}

/// Of a payload that holds the key.
fn hash_fits<D: Digest>(payload: &[u8], signature: &[u8]) -> bool {
    D::digest(payload).as_slice().ct_eq(signature).into()
}

fn hmac_fits<M: Mac + KeyInit>(key: &[u8], payload: &[u8], signature: &[u8]) -> bool {
    let Ok(mut mac) = <M as Mac>::new_from_slice(key) else { return false };
    mac.update(payload);
    mac.verify_slice(signature).is_ok()
}

impl SignatureEncoding {
    /// The bytes that a text stands for, if it is written exactly as the contract says: hexadecimal
    /// in lower case, base64 with padding, base64url without.
    pub(super) fn decode_strictly(self, text: &str) -> Option<Vec<u8>> {
        let encoding = match self {
            SignatureEncoding::Hex => HEXLOWER,
            SignatureEncoding::Base64 => BASE64,
            SignatureEncoding::Base64Url => BASE64URL_NOPAD,
        };
        encoding.decode(text.as_bytes()).ok()
    }

    /// Whether a character may stand in a signature's text.
    pub(super) fn has(self, c: char) -> bool {
        match self {
            SignatureEncoding::Hex => c.is_ascii_hexdigit(),
            SignatureEncoding::Base64 => c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '='),
            SignatureEncoding::Base64Url => c.is_ascii_alphanumeric() || matches!(c, '-' | '_'),
        }
    }
}
