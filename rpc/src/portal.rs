//! Portal tokens: short-lived credentials for a tenant's own people, made by a call and kept nowhere.
//!
//! A token says itself what it is good for, authenticated with a key that the processes of a
//! deployment derive from their master keys. It is good while the credential that had it made could
//! still have it made: a secret that is rotated away, or a key that is revoked, takes its portal
//! tokens with it. And while the tenant is the same: one made anew under its id is another.
//!
//! Form: `pgt_`, then base64url without padding of `grant (JSON) | tag (32 bytes)` with
//! `tag = HMAC-SHA256(key, grant)`.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use pregon_core::clock::Timestamp;
use pregon_core::id::{ApiKeyId, TenantId};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::page::keyed;

/// What every token begins with, so that people and secret scanners know one when they see it.
pub const PREFIX: &str = "pgt_";

/// HMAC-SHA256.
const TAG_LEN: usize = 32;
/// Longer ones are not ours: a grant has two ids and a name. In characters.
const TOKEN_LEN: usize = 1024;
/// Longest name of a user, in bytes.
pub const USER_LEN: usize = 64;

/// What a token is good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Whose portal it is.
    pub tenant: TenantId,
    /// When that tenant was created.
    pub since: Timestamp,
    /// The word of the role, as [`Role`](crate::caller::Role) knows it.
    pub role: String,
    /// Who uses it, by the platform's own name for them; empty: nobody said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// When it stops being valid.
    pub end: Timestamp,
    /// Who had it made.
    pub maker: Maker,
}

/// Who had a token made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Maker {
    /// Somebody where nobody is authenticated; such a token is good nowhere else.
    Anyone,
    /// A line of the tokens file: the token's SHA-256 in hex.
    Token(String),
    /// A secret of an API key.
    Key {
        /// The key.
        id: ApiKeyId,
        /// The secret's SHA-256 in hex.
        secret: String,
    },
}

/// A key of 32 bytes.
type Key = Zeroizing<[u8; 32]>;

/// Keys that authenticate tokens: the first makes them, any lets them in. Clones share what they hold,
/// which may change while they are in use.
#[derive(Clone, Default)]
pub struct PortalKeys(Arc<RwLock<Arc<Vec<Key>>>>);

impl fmt::Debug for PortalKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PortalKeys(…)")
    }
}

impl PortalKeys {
    /// Keys of 32 bytes; the first makes tokens.
    pub fn new(keys: Vec<Zeroizing<[u8; 32]>>) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(keys))))
    }

    /// From now on the keys are these.
    pub fn change(&self, keys: Vec<Zeroizing<[u8; 32]>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    fn keys(&self) -> Arc<Vec<Key>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a token; none without a key.
    pub fn seal(&self, grant: &Grant) -> Option<Zeroizing<String>> {
        let mut bytes = Zeroizing::new(serde_json::to_vec(grant).ok()?);
        let tag = mac(self.keys().first()?, &bytes).finalize().into_bytes();
        bytes.extend_from_slice(&tag);
        Some(Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&*bytes))))
    }

    /// What a token is good for, if it is ours.
    pub(crate) fn open(&self, token: &str) -> Option<Grant> {
        let text = token.strip_prefix(PREFIX).filter(|_| token.len() <= TOKEN_LEN)?;
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).ok()?);
        let (grant, tag) = bytes.split_last_chunk::<TAG_LEN>()?;
        let ours = self.keys().iter().any(|key| mac(key, grant).verify_slice(tag).is_ok());
        ours.then(|| serde_json::from_slice(grant).ok())?
    }
}

fn mac(key: &[u8; 32], grant: &[u8]) -> Hmac<Sha256> {
    let mut mac = keyed(key);
    mac.update(grant);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(seeds: &[u8]) -> PortalKeys {
        PortalKeys::new(seeds.iter().map(|seed| Zeroizing::new([*seed; 32])).collect())
    }

    fn grant() -> Grant {
        Grant {
            tenant: TenantId::parse(&"t".repeat(64)).unwrap(),
            since: Timestamp::from_millis(1_600_000_000_123),
            role: "viewer".to_owned(),
            user: "u".repeat(USER_LEN),
            end: Timestamp::from_millis(1_700_000_000_123),
            maker: Maker::Key {
                id: ApiKeyId::parse(&"k".repeat(32)).unwrap(),
                secret: "5f".repeat(32),
            },
        }
    }

    #[test]
    fn a_token_comes_back_as_it_was_made_under_any_key_that_is_known() {
        let token = keys(&[1]).seal(&grant()).unwrap();
        assert!(token.starts_with(PREFIX) && token.len() <= TOKEN_LEN);
        for seeds in [&[1][..], &[2, 1]] {
            assert_eq!(keys(seeds).open(&token), Some(grant()));
        }
        assert_eq!(keys(&[2]).open(&token), None);
        assert_eq!(keys(&[]).open(&token), None);
        assert!(keys(&[]).seal(&grant()).is_none());
    }

    #[test]
    fn keys_change_while_they_are_in_use() {
        let (shared, fresh) = (keys(&[1]), || Zeroizing::new([2; 32]));
        let clone = shared.clone();
        let token = clone.seal(&grant()).unwrap();
        shared.change(vec![fresh(), Zeroizing::new([1; 32])]);
        assert_eq!(clone.open(&token), Some(grant()));
        assert_eq!(keys(&[2]).open(&clone.seal(&grant()).unwrap()), Some(grant()));
        shared.change(vec![fresh()]);
        assert_eq!(clone.open(&token), None);
    }

    #[test]
    fn a_token_with_any_other_byte_is_none() {
        let token = keys(&[1]).seal(&grant()).unwrap();
        for at in 0..token.len() {
            let mut other = token.to_string().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            assert_eq!(keys(&[1]).open(&other), None, "{at}");
        }
        assert_eq!(keys(&[1]).open(&format!("{PREFIX}{}", "A".repeat(TOKEN_LEN))), None);
        assert_eq!(keys(&[1]).open(PREFIX), None);
    }
}
