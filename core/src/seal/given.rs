//! Master keys as a key file gives them: in clear, or wrapped by a key-management service (KMS).
//!
//! A wrapped key is text that its KMS alone can open, so the file may lie where others read it. Whoever
//! opens it asks the KMS; here it is told from a key in clear, and made a key of the ring once it is
//! open. What is wrong is said by a key's place, never by its text.

use std::fmt;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};

use super::{KEY_LEN, KEYS, KeyRing};
use crate::error::{Rule, Wrong};
use crate::secret::{SecretBytes, decode, decode_base64};

/// Characters of a wrapped key: an RSA key of 4096 bits makes 690 of 32 bytes, AES-GCM 89.
pub const WRAPPED_LEN: usize = 1024;

/// What each wrapped key begins with, before the version of the key that wrapped it.
const PREFIX: &str = "vault:v";

/// A key that a KMS has wrapped: `vault:v1:…`, as the transit engine of Vault and OpenBao writes it.
#[derive(Clone, PartialEq, Eq)]
pub struct WrappedKey {
    text: Box<str>,
    version: u32,
}

impl WrappedKey {
    /// Reads one; none: it is no wrapped key.
    pub fn parse(text: &str) -> Option<Self> {
        let (version, ciphertext) = text.strip_prefix(PREFIX)?.split_once(':')?;
        let version = version.parse().ok().filter(|version| *version > 0)?;
        let long = text.len() > WRAPPED_LEN || ciphertext.is_empty();
        if long || BASE64.decode(ciphertext.as_bytes()).is_err() {
            return None;
        }
        Some(Self { text: text.into(), version })
    }

    /// What the KMS opens.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The version of the key that wrapped it, from 1.
    pub fn version(&self) -> u32 {
        self.version
    }
}

impl fmt::Debug for WrappedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}:…", self.version)
    }
}

/// A key of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GivenKey {
    /// As it is: 32 bytes.
    Clear(SecretBytes),
    /// To be opened.
    Wrapped(WrappedKey),
}

/// The keys of a file in its order: one at least, [`KEYS`] at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenKeys(Vec<GivenKey>);

impl GivenKeys {
    /// Reads keys separated by commas or white space: 32 bytes in hex or base64, or wrapped ones.
    ///
    /// # Errors
    ///
    /// There is none, there are too many, or one is not a key.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let mut keys = Vec::new();
        let words = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|w| !w.is_empty());
        for (index, word) in words.enumerate() {
            if index == KEYS {
                return Err(Wrong::new(Rule::TooMany, format!("must be {KEYS} keys at most")));
            }
            let key = match word.starts_with(PREFIX) {
                true => WrappedKey::parse(word).map(GivenKey::Wrapped).ok_or("a whole vault:v1:…"),
                false => key_of_word(word).map(GivenKey::Clear).ok_or("32 bytes, hex or base64"),
            };
            keys.push(key.map_err(|rule| {
                let place = index + 1;
                Wrong::new(Rule::Malformed, format!("key {place} must be {rule}"))
            })?);
        }
        if keys.is_empty() {
            return Err(Wrong::new(Rule::Required, "must be at least one key of 32 bytes"));
        }
        let given = Self(keys);
        // Keys in clear are held against each other now; the others once they are open.
        if given.wrapped().next().is_none() {
            given.ring(&[])?;
        }
        Ok(given)
    }

    /// All keys.
    pub fn keys(&self) -> &[GivenKey] {
        &self.0
    }

    /// Those that are to be opened, each with its place, from 1.
    pub fn wrapped(&self) -> impl Iterator<Item = (usize, &WrappedKey)> {
        self.0.iter().enumerate().filter_map(|(index, key)| match key {
            GivenKey::Wrapped(wrapped) => Some((index + 1, wrapped)),
            GivenKey::Clear(_) => None,
        })
    }

    /// The ring of these keys; `opened` are the wrapped ones, opened, in their order.
    ///
    /// # Errors
    ///
    /// One is given twice, is not 32 bytes, or is not open.
    pub fn ring(&self, opened: &[SecretBytes]) -> Result<KeyRing, Wrong> {
        let mut opened = opened.iter();
        let mut keys = Vec::with_capacity(self.0.len());
        for (index, given) in self.0.iter().enumerate() {
            let wrong = |rule: &str| {
                let place = index + 1;
                Wrong::new(Rule::Malformed, format!("key {place} {rule}"))
            };
            keys.push(match given {
                GivenKey::Clear(key) => (key.clone(), false),
                GivenKey::Wrapped(_) => {
                    let bytes = opened.next().ok_or_else(|| {
                        wrong("is wrapped by a KMS: name the one that opens it with --kms-address")
                    })?;
                    (key_of_bytes(bytes).ok_or_else(|| wrong("opens to what is no key"))?, true)
                }
            });
        }
        KeyRing::of(&keys)
    }
}

/// The key that the KMS has opened: 32 bytes, or the text of a key file's line, as `vault write` wraps it.
fn key_of_bytes(bytes: &SecretBytes) -> Option<SecretBytes> {
    match bytes.expose().len() {
        KEY_LEN => Some(bytes.clone()),
        _ => key_of_word(std::str::from_utf8(bytes.expose()).ok()?.trim_ascii()),
    }
}

/// A key in clear. 64 characters are 32 bytes of hex; base64 of 32 bytes has 43, or 44 with its padding.
fn key_of_word(word: &str) -> Option<SecretBytes> {
    let key = match word.len() {
        64 => decode(&HEXLOWER_PERMISSIVE, word),
        43 | 44 => decode_base64(word)
            .or_else(|| decode(&BASE64URL_NOPAD, word.strip_suffix('=').unwrap_or(word))),
        _ => None,
    };
    key.filter(|key| key.expose().len() == KEY_LEN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WRAPPED: &str = "vault:v2:AAECAwQFBgcICQoLDA0ODw==";

    fn bytes(byte: u8) -> SecretBytes {
        SecretBytes::new(vec![byte; KEY_LEN])
    }

    #[test]
    fn wrapped_keys_stand_among_clear_ones_and_keep_their_places() {
        let text = format!("{}\n{WRAPPED} , {}\n", "11".repeat(32), "22".repeat(32));
        let given = GivenKeys::parse(&text).unwrap();
        let wrapped: Vec<_> = given.wrapped().map(|(place, it)| (place, it.version())).collect();
        assert_eq!(wrapped, [(2, 2)]);
        let ring = given.ring(&[bytes(0x33)]).unwrap();
        let clear = |byte: &str| KeyRing::parse(&byte.repeat(32)).unwrap().current();
        assert_eq!(ring.ids(), [clear("11"), clear("33"), clear("22")]);
        assert_eq!(ring.wrapped().collect::<Vec<_>>(), [clear("33")]);
        // As a line of a key file, which is what people wrap.
        let line = SecretBytes::new(format!("{}\n", "33".repeat(32)).into_bytes());
        assert_eq!(given.ring(&[line]).unwrap().ids(), ring.ids());
        assert!(!format!("{given:?}").contains("AAEC"), "{given:?}");
    }

    #[test]
    fn what_does_not_open_to_another_key_is_refused_by_its_place() {
        let given = GivenKeys::parse(&format!("{} {WRAPPED}", "11".repeat(32))).unwrap();
        for (opened, said) in [
            (vec![], "key 2 is wrapped by a KMS"),
            (vec![bytes(0x11)], "key 2 is given twice"),
            (vec![SecretBytes::new(vec![7; 31])], "key 2 opens to what is no key"),
        ] {
            let wrong = given.ring(&opened).unwrap_err();
            assert!(wrong.description.starts_with(said), "{wrong:?}");
        }
        let twice = GivenKeys::parse(&format!("{0} {0}", "11".repeat(32)));
        assert!(twice.is_err(), "keys in clear are held against each other at once");
    }

    #[test]
    fn what_is_not_a_whole_wrapped_key_is_refused() {
        let long = format!("vault:v1:{}", "A".repeat(WRAPPED_LEN));
        for bad in ["vault:v1:", "vault:v0:AAAA", "vault:v:AAAA", "vault:v1:A", "vault:v1", &long] {
            let wrong = GivenKeys::parse(bad).unwrap_err();
            assert_eq!(
                (wrong.rule, wrong.description.contains("vault:v1:…")),
                (Rule::Malformed, true)
            );
        }
        assert_eq!(WrappedKey::parse("vault:v1:AAAA").unwrap().as_str(), "vault:v1:AAAA");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(vault:v[0-9]{0,12}:)?[A-Za-z0-9+/=é:]{0,70}") {
            if let Ok(given) = GivenKeys::parse(&text) {
                prop_assert!(given.wrapped().all(|(_, it)| text.contains(it.as_str())));
            }
        }
    }
}
