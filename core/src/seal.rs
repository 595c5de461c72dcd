//! Secrets at rest: sealed under a master key, bound to the place they belong to.
//!
//! An envelope is one byte of version (1), 8 bytes that name the master key, 24 bytes of nonce,
//! and the ciphertext with its 16-byte tag (XChaCha20-Poly1305). Everything before the ciphertext
//! and the caller's associated data are authenticated with it. The associated data are the name of
//! the resource and the field in it, so an envelope that is moved to another record or to another
//! header does not open. The nonce is random, given by the caller: at 192 bits chance does not
//! repeat it.
//!
//! A ring holds one current key, which seals, and others, which only open: so the master key can
//! change while everything sealed before still opens. The current key is the first that was given,
//! unless another is named ([`KeyRing::sealing_under`]).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce};
use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::error::{Rule, Wrong};
use crate::secret::SecretBytes;

mod given;
mod held;

pub use given::{GivenKey, GivenKeys, WRAPPED_LEN, WrappedKey};
pub use held::Held;

/// Bytes of a nonce, to be filled with random ones for every seal.
pub const NONCE_LEN: usize = 24;
/// Master keys in a ring, at most: a rotation needs two.
pub const KEYS: usize = 16;

const VERSION: u8 = 1;
const KEY_LEN: usize = 32;
const ID_LEN: usize = 8;
const TAG_LEN: usize = 16;
const HEADER_LEN: usize = 1 + ID_LEN + NONCE_LEN;

/// What a master key is called: the start of a hash of it. Not secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId([u8; ID_LEN]);

impl FromStr for KeyId {
    type Err = Wrong;

    /// Reads the 16 hex digits that [`fmt::Display`] writes.
    fn from_str(text: &str) -> Result<Self, Wrong> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok();
        let id = bytes.and_then(|bytes| bytes.try_into().ok()).map(Self);
        id.ok_or_else(|| Wrong::new(Rule::Malformed, "must be 16 hex digits in lower case"))
    }
}

impl TryFrom<String> for KeyId {
    type Error = Wrong;

    fn try_from(text: String) -> Result<Self, Wrong> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// Why an envelope does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Too short for an envelope.
    #[error("a sealed secret is cut short")]
    Truncated,
    /// Not base64, as documents hold it.
    #[error("a sealed secret is not base64")]
    NotBase64,
    /// Made by a later release, or not an envelope.
    #[error("a sealed secret has version {0}, known is 1")]
    UnknownVersion(u8),
    /// Its master key is not in the ring.
    #[error("a sealed secret needs master key {0}, which is not among those given")]
    UnknownKey(KeyId),
    /// Changed, or moved from the place it was sealed for.
    #[error("a sealed secret was changed or belongs elsewhere")]
    Refused,
}

/// Master keys in the order of their file, one of which is current. Clones share the keys.
#[derive(Clone)]
pub struct KeyRing {
    keys: Vec<Arc<MasterKey>>,
    /// The place of the key that seals.
    sealing: usize,
}

struct MasterKey {
    id: KeyId,
    /// Wipes its key on drop.
    cipher: XChaCha20Poly1305,
    /// Whether a KMS has wrapped it where it is kept.
    wrapped: bool,
}

/// A new master key as text: `random` fills a buffer with random bytes.
pub fn new_key(random: &mut dyn FnMut(&mut [u8])) -> Zeroizing<String> {
    let mut key = Zeroizing::new([0u8; KEY_LEN]);
    random(&mut *key);
    Zeroizing::new(HEXLOWER.encode(&*key))
}

fn derived(master: &MasterKey, purpose: &str) -> Zeroizing<[u8; KEY_LEN]> {
    let hash = Sha256::digest(purpose.as_bytes());
    let nonce = XNonce::from_slice(&hash[..NONCE_LEN]);
    let mut key = Zeroizing::new([0; KEY_LEN]);
    // It fails for texts of 256 GiB and above.
    let _ = master.cipher.encrypt_in_place_detached(nonce, b"", &mut *key);
    key
}

impl KeyRing {
    /// Parses keys in clear, as [`GivenKeys::parse`] does; the first is the current one.
    ///
    /// # Errors
    ///
    /// What is wrong, by a key's place; one that is wrapped cannot be used here.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        GivenKeys::parse(text)?.ring(&[])
    }

    /// Of keys of 32 bytes, each with whether a KMS has it wrapped; the first is the current one.
    fn of(given: &[(SecretBytes, bool)]) -> Result<Self, Wrong> {
        let mut keys = Vec::<Arc<MasterKey>>::with_capacity(given.len());
        for (index, (bytes, wrapped)) in given.iter().enumerate() {
            let key = MasterKey::new(bytes, *wrapped).ok_or_else(|| {
                Wrong::new(Rule::Malformed, format!("key {} must be 32 bytes", index + 1))
            })?;
            if keys.iter().any(|other| other.id == key.id) {
                let text = format!("key {} is given twice", index + 1);
                return Err(Wrong::new(Rule::Malformed, text));
            }
            keys.push(Arc::new(key));
        }
        match keys.is_empty() {
            true => Err(Wrong::new(Rule::Required, "must be at least one key of 32 bytes")),
            false => Ok(Self { keys, sealing: 0 }),
        }
    }

    /// The name of the key that seals.
    pub fn current(&self) -> KeyId {
        self.sealing().id
    }

    /// The names of all keys, in the order in which they were given.
    pub fn ids(&self) -> Vec<KeyId> {
        self.keys.iter().map(|key| key.id).collect()
    }

    /// The names of those that a KMS has wrapped.
    pub fn wrapped(&self) -> impl Iterator<Item = KeyId> {
        self.keys.iter().filter(|key| key.wrapped).map(|key| key.id)
    }

    /// Whether a key is among them.
    pub fn has(&self, id: KeyId) -> bool {
        self.place(id).is_some()
    }

    /// The same keys, of which this one seals; unchanged where it is not among them.
    pub fn sealing_under(mut self, id: KeyId) -> Self {
        self.sealing = self.place(id).unwrap_or(self.sealing);
        self
    }

    /// The same keys, and behind them these of another ring.
    pub fn keeping(mut self, other: &Self, ids: &[KeyId]) -> Self {
        let kept = other.keys.iter().filter(|key| ids.contains(&key.id) && !self.has(key.id));
        let kept: Vec<_> = kept.cloned().collect();
        self.keys.extend(kept);
        self
    }

    /// Keys for another purpose, one of every master key, the current one's first: what was made
    /// while another was current is known by the others. Each is 32 bytes of its cipher's key
    /// stream, at a nonce that stands for the purpose and that no seal meets.
    pub fn derive_each(&self, purpose: &str) -> Vec<Zeroizing<[u8; KEY_LEN]>> {
        let others = self.keys.iter().filter(|key| key.id != self.current()).map(Arc::as_ref);
        std::iter::once(self.sealing()).chain(others).map(|key| derived(key, purpose)).collect()
    }

    /// Seals under the current key. `nonce` must be random and never used before; `aad` names the
    /// place.
    pub fn seal(&self, plaintext: &SecretBytes, aad: &str, nonce: [u8; NONCE_LEN]) -> Vec<u8> {
        let key = self.sealing();
        let secret = plaintext.expose();
        // Room for everything from the start: a growing buffer would leave plaintext behind.
        let mut envelope = Vec::with_capacity(HEADER_LEN + secret.len() + TAG_LEN);
        envelope.push(VERSION);
        envelope.extend_from_slice(&key.id.0);
        envelope.extend_from_slice(&nonce);
        let aad = associated(&envelope, aad);
        envelope.extend_from_slice(secret);
        let tag = key
            .cipher
            .encrypt_in_place_detached(
                XNonce::from_slice(&nonce),
                &aad,
                &mut envelope[HEADER_LEN..],
            )
            .expect("encryption fails only above 256 GiB");
        envelope.extend_from_slice(&tag);
        envelope
    }

    /// Opens an envelope that was sealed for the same place, under any key of the ring.
    pub fn open(&self, sealed: &[u8], aad: &str) -> Result<SecretBytes, SealError> {
        let id = sealed_under(sealed)?;
        let place = self.place(id).ok_or(SealError::UnknownKey(id))?;
        let key = &self.keys[place];
        let (header, rest) = sealed.split_at(HEADER_LEN);
        let (ciphertext, tag) = rest.split_at(rest.len() - TAG_LEN);
        let mut secret = Zeroizing::new(ciphertext.to_vec());
        key.cipher
            .decrypt_in_place_detached(
                XNonce::from_slice(&header[1 + ID_LEN..]),
                &associated(header, aad),
                &mut secret,
                Tag::from_slice(tag),
            )
            .map_err(|_| SealError::Refused)?;
        Ok(SecretBytes::new(std::mem::take(&mut *secret)))
    }

    /// The same of text as documents hold it, in base64.
    pub fn open_text(&self, sealed: &str, aad: &str) -> Result<SecretBytes, SealError> {
        let sealed = BASE64.decode(sealed.as_bytes()).map_err(|_| SealError::NotBase64)?;
        self.open(&sealed, aad)
    }

    fn place(&self, id: KeyId) -> Option<usize> {
        self.keys.iter().position(|key| key.id == id)
    }

    fn sealing(&self) -> &MasterKey {
        // A ring is never empty: `of`, the only way to make one, sees to that.
        &self.keys[self.sealing]
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| key.id)).finish()
    }
}

impl MasterKey {
    fn new(key: &SecretBytes, wrapped: bool) -> Option<Self> {
        let cipher = XChaCha20Poly1305::new_from_slice(key.expose()).ok()?;
        let hash = Sha256::new_with_prefix(b"pregon master key id").chain_update(key.expose());
        let id = hash.finalize().first_chunk().copied()?;
        Some(Self { id: KeyId(id), cipher, wrapped })
    }
}

/// The name of the key that an envelope is under, as documents hold it, in base64.
///
/// # Errors
///
/// What is wrong with its shape.
pub fn key_of(sealed: &str) -> Result<KeyId, SealError> {
    sealed_under(&BASE64.decode(sealed.as_bytes()).map_err(|_| SealError::NotBase64)?)
}

/// The name of the key that an envelope is under, if it has an envelope's shape.
fn sealed_under(sealed: &[u8]) -> Result<KeyId, SealError> {
    match sealed.first() {
        None => return Err(SealError::Truncated),
        Some(&VERSION) => {}
        Some(&other) => return Err(SealError::UnknownVersion(other)),
    }
    if sealed.len() < HEADER_LEN + TAG_LEN {
        return Err(SealError::Truncated);
    }
    sealed[1..].first_chunk().copied().map(KeyId).ok_or(SealError::Truncated)
}

/// What is authenticated beside the ciphertext. The header has a fixed length, so the two parts
/// cannot be mistaken for each other.
fn associated(header: &[u8], aad: &str) -> Vec<u8> {
    [header, aad.as_bytes()].concat()
}

#[cfg(test)]
mod tests;
