//! Keys and signatures, as bytes.

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use md5::Md5;
use ring::signature::{ED25519, UnparsedPublicKey};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;

use super::VerifyingKey;
use crate::contract::compiled::{SignatureAlgorithm, SignatureEncoding};

impl VerifyingKey {
    /// Whether a signature over these bytes was made with this key (its other half). HMACs are
    /// compared in constant time.
    pub(super) fn fits(
        &self,
        algorithm: SignatureAlgorithm,
        payload: &[u8],
        signature: &[u8],
    ) -> bool {
        match (self, algorithm) {
            (VerifyingKey::Hmac(key), SignatureAlgorithm::HmacSha1) => {
                hmac_fits::<Hmac<Sha1>>(key.expose(), payload, signature)
            }
            (VerifyingKey::Hmac(key), SignatureAlgorithm::HmacSha256) => {
                hmac_fits::<Hmac<Sha256>>(key.expose(), payload, signature)
            }
            (VerifyingKey::Hmac(key), SignatureAlgorithm::HmacSha512) => {
                hmac_fits::<Hmac<Sha512>>(key.expose(), payload, signature)
            }
            (VerifyingKey::Ed25519(key), SignatureAlgorithm::Ed25519) => {
                UnparsedPublicKey::new(&ED25519, key).verify(payload, signature).is_ok()
            }
            (VerifyingKey::Hmac(_), SignatureAlgorithm::Md5) => {
                hash_fits::<Md5>(payload, signature)
            }
            (VerifyingKey::Hmac(_), SignatureAlgorithm::Sha1) => {
                hash_fits::<Sha1>(payload, signature)
            }
            (VerifyingKey::Hmac(_), SignatureAlgorithm::Sha256) => {
                hash_fits::<Sha256>(payload, signature)
            }
            (VerifyingKey::Hmac(_), SignatureAlgorithm::Sha512) => {
                hash_fits::<Sha512>(payload, signature)
            }
            (VerifyingKey::Hmac(_), SignatureAlgorithm::Ed25519)
            | (
                VerifyingKey::Ed25519(_),
                SignatureAlgorithm::HmacSha1
                | SignatureAlgorithm::HmacSha256
                | SignatureAlgorithm::HmacSha512
                | SignatureAlgorithm::Md5
                | SignatureAlgorithm::Sha1
                | SignatureAlgorithm::Sha256
                | SignatureAlgorithm::Sha512,
            ) => false,
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
