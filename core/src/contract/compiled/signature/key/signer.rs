//! A signature in the making, and what comes of it.

use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::signature::Ed25519KeyPair;
use hmac::{Hmac, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use super::pair::Pair;

/// Longest signature that is kept in place: HMAC-SHA512 and Ed25519 have 64 bytes.
const INLINE: usize = 64;

/// A signature in the making; see [`SigningKey::signer`](super::SigningKey::signer).
pub struct Signer<'a>(State<'a>);

pub(super) enum State<'a> {
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
    /// RSA and ECDSA sign a digest. No pair: the library does not take the key.
    Pair {
        pair: Option<&'a Pair>,
        digest: digest::Context,
    },
}

/// The library does not take the key, or could not sign with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsigned;

impl<'a> Signer<'a> {
    pub(super) fn new(state: State<'a>) -> Self {
        Self(state)
    }

    /// Adds the next piece of what is signed: read from where it lies; Ed25519 copies.
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
            State::Pair { digest, .. } => digest.update(piece),
        }
    }

    /// The signature of all pieces, one after the other.
    ///
    /// # Errors
    ///
    /// [`Unsigned`], of RSA and ECDSA only.
    pub fn finish(self) -> Result<SignatureBytes, Unsigned> {
        Ok(match self.0 {
            State::HmacSha1(mac) => SignatureBytes::new(&mac.finalize().into_bytes()),
            State::HmacSha256(mac) => SignatureBytes::new(&mac.finalize().into_bytes()),
            State::HmacSha512(mac) => SignatureBytes::new(&mac.finalize().into_bytes()),
            State::Md5(hash) => SignatureBytes::new(&hash.finalize()),
            State::Sha1(hash) => SignatureBytes::new(&hash.finalize()),
            State::Sha256(hash) => SignatureBytes::new(&hash.finalize()),
            State::Sha512(hash) => SignatureBytes::new(&hash.finalize()),
            State::Ed25519 { pair, message } => SignatureBytes::new(pair.sign(&message).as_ref()),
            State::Pair { pair, digest } => {
                let signed = pair.and_then(|pair| pair.sign(&digest.finish()));
                SignatureBytes(Bytes::Boxed(signed.ok_or(Unsigned)?))
            }
        })
    }
}

impl fmt::Debug for Signer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(redacted)")
    }
}

/// The bytes of one signature: 16 to 64 of HMAC, hashes and Ed25519, which need no allocation; 256 to 512 of
/// RSA, up to 139 of ECDSA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureBytes(Bytes);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Bytes {
    Inline { bytes: [u8; INLINE], length: usize },
    Boxed(Box<[u8]>),
}

impl SignatureBytes {
    fn new(signature: &[u8]) -> Self {
        let mut bytes = [0; INLINE];
        bytes.iter_mut().zip(signature).for_each(|(slot, byte)| *slot = *byte);
        Self(Bytes::Inline { bytes, length: signature.len().min(INLINE) })
    }
}

impl AsRef<[u8]> for SignatureBytes {
    fn as_ref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Inline { bytes, length } => bytes.get(..*length).unwrap_or(bytes),
            Bytes::Boxed(bytes) => bytes,
        }
    }
}
