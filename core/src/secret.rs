//! Signing keys: bytes that cannot be printed, and the text forms they travel in.
//!
//! [`SecretBytes`] has no `Display` and no `Serialize`, its `Debug` is redacted, it compares in
//! constant time and is wiped when dropped. Text becomes key bytes, and back, by a contract's
//! [`SecretForm`]; nothing here ever repeats the text it was given.

use std::fmt;
use std::ops::RangeInclusive;

use data_encoding::{BASE64, BASE64_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::{Rule, Wrong};

mod ed25519;
mod material;
mod pair;
mod pem;
mod public;

pub use ed25519::{
    ED25519_PUBLIC_LEN, ED25519_SEED_LEN, ed25519_generate, ed25519_parse, ed25519_public,
    ed25519_public_parse, ed25519_public_text,
};
pub use material::{key_generate, key_parse, key_public};
pub use pair::{
    PairKind, pair_base64, pair_generate, pair_parse, pair_parse_any, pair_pem, pair_public,
};
pub use public::{Curve, KEY_TEXT_LEN, PublicKey, RSA_BITS};

/// What a contract may allow as a key's length, in bytes.
pub const KEY_BYTES: RangeInclusive<usize> = 1..=256;
/// Longest prefix of a secret's text: room for one like `whsec_`.
pub const PREFIX_LEN: usize = 32;

/// Secret bytes: wiped on drop, never printed, compared in constant time.
#[derive(Clone)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes the bytes over. A growing `Vec` leaves copies behind: give one of the right size.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for whoever signs, seals or reveals.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The first 16 hex characters of the bytes' SHA-256: tells secrets apart without showing them.
    pub fn fingerprint(&self) -> String {
        HEXLOWER.encode(&Sha256::digest(self.expose())[..8])
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(redacted)")
    }
}

impl PartialEq for SecretBytes {
    fn eq(&self, other: &Self) -> bool {
        self.expose().ct_eq(other.expose()).into()
    }
}

impl Eq for SecretBytes {}

/// How text stands for key bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretEncoding {
    /// The key is the text itself, as UTF-8.
    Text,
    /// Two hexadecimal digits a byte; written in lower case, read in either.
    Hex,
    /// The standard alphabet; written with padding, read with or without.
    Base64,
}

/// A contract's `secret`: how a secret looks as text. One that exists keeps its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretForm {
    encoding: SecretEncoding,
    prefix: Box<str>,
    bytes: RangeInclusive<usize>,
    generate: usize,
}

impl SecretForm {
    /// A form: `prefix` stands before every secret of it, `bytes` bounds the key's length, and
    /// `generate` random bytes make a new one (as text: their lower-case hex).
    pub fn new(
        encoding: SecretEncoding,
        prefix: &str,
        bytes: RangeInclusive<usize>,
        generate: usize,
    ) -> Result<Self, Wrong> {
        let wrong = |text: &str| Err(Wrong::new(Rule::ContractInvalid, text));
        if prefix.len() > PREFIX_LEN || !prefix.bytes().all(|b| b.is_ascii_graphic()) {
            return wrong("secret.prefix must be up to 32 visible ASCII characters");
        }
        if bytes.is_empty()
            || !KEY_BYTES.contains(bytes.start())
            || !KEY_BYTES.contains(bytes.end())
        {
            return wrong("secret.bytes must be a range within 1 to 256");
        }
        let form = Self { encoding, prefix: prefix.into(), bytes, generate };
        match generate.checked_mul(form.text_factor()) {
            Some(length) if form.bytes.contains(&length) => Ok(form),
            Some(_) | None => wrong("secret.generate must make a key within secret.bytes"),
        }
    }

    /// The key that a text stands for. What is wrong is said without the text.
    pub fn parse(&self, text: &str) -> Result<SecretBytes, Wrong> {
        if text.is_empty() {
            return Err(Wrong::new(Rule::Required, format!("must be {self}")));
        }
        let malformed = || Wrong::new(Rule::Malformed, format!("must be {self}"));
        let body = text.strip_prefix(&*self.prefix).ok_or_else(malformed)?;
        // No encoding needs more than two characters a byte, padding apart.
        if body.len() > 2 * *KEY_BYTES.end() + 2 {
            return Err(Wrong::new(Rule::TooLong, format!("must be {self}")));
        }
        let key = match self.encoding {
            SecretEncoding::Text => Some(SecretBytes::new(body.as_bytes().to_vec())),
            SecretEncoding::Hex => decode(&HEXLOWER_PERMISSIVE, body),
            SecretEncoding::Base64 => decode_base64(body),
        };
        let key = key.ok_or_else(malformed)?;
        if self.bytes.contains(&key.expose().len()) {
            Ok(key)
        } else {
            Err(Wrong::new(Rule::OutOfRange, format!("must be {self}")))
        }
    }

    /// A key as text of this form; none when the form is text and the key is not UTF-8 (it was
    /// made under another contract).
    pub fn format(&self, key: &SecretBytes) -> Option<Zeroizing<String>> {
        let room = self.prefix.len() + 2 * key.expose().len() + 4;
        let mut text = Zeroizing::new(String::with_capacity(room));
        text.push_str(&self.prefix);
        match self.encoding {
            SecretEncoding::Text => text.push_str(std::str::from_utf8(key.expose()).ok()?),
            SecretEncoding::Hex => HEXLOWER.encode_append(key.expose(), &mut text),
            SecretEncoding::Base64 => BASE64.encode_append(key.expose(), &mut text),
        }
        Some(text)
    }

    /// A new key; `random` fills a buffer with random bytes.
    pub fn generate(&self, random: &mut dyn FnMut(&mut [u8])) -> SecretBytes {
        let mut bytes = SecretBytes::new(vec![0; self.generate]);
        random(&mut bytes.0);
        match self.encoding {
            SecretEncoding::Text => {
                let mut text = SecretBytes::new(vec![0; 2 * self.generate]);
                HEXLOWER.encode_mut(bytes.expose(), &mut text.0);
                text
            }
            SecretEncoding::Hex | SecretEncoding::Base64 => bytes,
        }
    }

    /// Whether a key is its text: its UTF-8 bytes.
    pub fn is_text(&self) -> bool {
        self.encoding == SecretEncoding::Text
    }

    fn text_factor(&self) -> usize {
        match self.encoding {
            SecretEncoding::Text => 2,
            SecretEncoding::Hex | SecretEncoding::Base64 => 1,
        }
    }
}

impl fmt::Display for SecretForm {
    /// The form in words, as in `whsec_ and 24 to 64 bytes as base64`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.prefix.is_empty() {
            write!(f, "{} and ", self.prefix)?;
        }
        let form = match self.encoding {
            SecretEncoding::Text => "UTF-8 text",
            SecretEncoding::Hex => "hexadecimal digits",
            SecretEncoding::Base64 => "base64",
        };
        write!(f, "{} to {} bytes as {form}", self.bytes.start(), self.bytes.end())
    }
}

/// Decodes into memory that is wiped, on failure too.
pub(crate) fn decode(encoding: &data_encoding::Encoding, text: &str) -> Option<SecretBytes> {
    let length = encoding.decode_len(text.len()).ok()?;
    let mut key = SecretBytes::new(vec![0; length]);
    let written = encoding.decode_mut(text.as_bytes(), &mut key.0).ok()?;
    key.0.truncate(written);
    Some(key)
}

/// Base64 in the standard alphabet, with its padding or without any.
pub(crate) fn decode_base64(text: &str) -> Option<SecretBytes> {
    if text.ends_with('=') { decode(&BASE64, text) } else { decode(&BASE64_NOPAD, text) }
}

#[cfg(test)]
mod tests;
