//! Page sizes and page tokens.
//!
//! A token is this server's own note on where a list goes on. It is authenticated, so that a
//! position is never a way to name what the caller may not see, and bound to the request that it
//! continues: the same method and the same fields, whatever the page size. It is not encrypted: a
//! position holds names and ids that the caller was given anyway.
//!
//! Form: base64url without padding of `issued (8 bytes, seconds) | position | tag (16 bytes)`,
//! with `tag = HMAC-SHA256(key, version | issued | length of scope | scope | position)` cut to 16
//! bytes.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use pregon_core::clock::Timestamp;
use pregon_core::error::{Rule, Wrong};
use pregon_core::limits;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Enters every tag: a token of another layout is refused.
const VERSION: u8 = 1;
/// HMAC-SHA256 cut to 128 bits (RFC 2104 section 5 allows half of the output).
const TAG_LEN: usize = 16;
/// Seconds since the epoch, big-endian.
const ISSUED_LEN: usize = 8;
/// Longer tokens are not ours: a position is a resource name or a stream position.
const TOKEN_LEN: usize = 2048;
/// The same for tokens of streams, whose position may have three numbers for each partition.
const RESUME_LEN: usize = 64 * 1024;
/// Separates this use of the master key from all others.
const PURPOSE: &[u8] = b"pregon page tokens 1";

type HmacSha256 = Hmac<Sha256>;

/// A key of 32 bytes.
type Key = Zeroizing<[u8; 32]>;

/// The keys that authenticate page tokens: the first makes them, any lets them in. Servers that share
/// them continue each other's lists. Clones share what they hold, which may change while they are in
/// use.
#[derive(Clone)]
pub struct PageKey(Arc<RwLock<Arc<[Key]>>>);

impl PageKey {
    /// A key of 32 random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Arc::new(RwLock::new(Arc::new([Zeroizing::new(bytes)]))))
    }

    /// The keys that all servers with these master keys have in common; the first makes tokens. Of
    /// no master keys: one that lets nothing in which others made.
    pub fn derive<M: AsRef<[u8]>>(masters: &[M]) -> Self {
        let key = Self(Arc::new(RwLock::new(Arc::new([]))));
        key.change(masters);
        key
    }

    /// From now on the keys are those of these master keys.
    pub fn change<M: AsRef<[u8]>>(&self, masters: &[M]) {
        let of = |master: &M| {
            let mut mac = keyed(master.as_ref());
            mac.update(PURPOSE);
            Zeroizing::new(mac.finalize().into_bytes().into())
        };
        let keys = masters.iter().map(of).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    fn keys(&self) -> Arc<[Key]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A token that continues the list of this scope (see [`scope`]) at this position.
    pub fn seal(&self, scope: &[u8], position: &str, now: Timestamp) -> String {
        let issued = now.seconds().to_be_bytes();
        let mut token = Vec::with_capacity(ISSUED_LEN + position.len() + TAG_LEN);
        token.extend_from_slice(&issued);
        token.extend_from_slice(position.as_bytes());
        // Where there is no key, nobody lets the token in.
        let tag = self.keys().first().map(|key| mac(key, scope, issued, position.as_bytes()).tag());
        token.extend_from_slice(&tag.unwrap_or_default());
        URL_SAFE_NO_PAD.encode(token)
    }

    /// The position that a token holds; `None` for the empty token, which begins the list.
    ///
    /// Whatever is wrong with a token, the answer is the same: start again without one.
    pub fn open(&self, scope: &[u8], token: &str, now: Timestamp) -> Result<Option<String>, Wrong> {
        if token.is_empty() {
            return Ok(None);
        }
        self.position(scope, token, now).map(Some).ok_or_else(|| {
            let hours = limits::PAGE_TOKEN_KEPT.as_secs() / 3600;
            Wrong::new(
                Rule::PageTokenInvalid,
                format!(
                    "must be empty, or the next_page_token of an answer to this same request \
                     that is less than {hours} h old"
                ),
            )
        })
    }

    /// The position that a stream's token holds; `None` for the empty one, which begins at the
    /// present.
    ///
    /// # Errors
    ///
    /// Tells a token that was ours and is too old from one that is none.
    pub fn resume(
        &self,
        scope: &[u8],
        token: &str,
        now: Timestamp,
    ) -> Result<Option<String>, Resume> {
        if token.is_empty() {
            return Ok(None);
        }
        let wrong = || {
            let text = "must be empty, or the resume_token of a message that answered this same \
                        request";
            Resume::Wrong(Wrong::new(Rule::PageTokenInvalid, text))
        };
        let (issued, position) = self.read(scope, token, RESUME_LEN).ok_or_else(wrong)?;
        if now.since(issued) >= limits::PAGE_TOKEN_KEPT {
            return Err(Resume::Expired);
        }
        Ok(Some(position))
    }

    fn position(&self, scope: &[u8], token: &str, now: Timestamp) -> Option<String> {
        let (issued, position) = self.read(scope, token, TOKEN_LEN)?;
        (now.since(issued) < limits::PAGE_TOKEN_KEPT).then_some(position)
    }

    /// When a token was issued and what it holds, if it is ours and of this scope.
    fn read(&self, scope: &[u8], token: &str, most: usize) -> Option<(Timestamp, String)> {
        if token.len() > most {
            return None;
        }
        let token = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (issued, rest) = token.split_first_chunk::<ISSUED_LEN>()?;
        let (position, tag) = rest.split_last_chunk::<TAG_LEN>()?;
        let ours = |key: &Key| mac(key, scope, *issued, position).verify(tag);
        if !self.keys().iter().any(ours) {
            return None;
        }
        let issued = Timestamp::from_millis(i64::from_be_bytes(*issued).checked_mul(1000)?);
        Some((issued, String::from_utf8(position.to_vec()).ok()?))
    }
}

fn mac(key: &Key, scope: &[u8], issued: [u8; ISSUED_LEN], position: &[u8]) -> Tagged {
    let mut mac = keyed(&**key);
    mac.update(&[VERSION]);
    mac.update(&issued);
    mac.update(&(scope.len() as u64).to_be_bytes());
    mac.update(scope);
    mac.update(position);
    Tagged(mac)
}

/// Why a stream does not go on from a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// It is not ours, or of another request.
    Wrong(Wrong),
    /// It was ours, and is too old.
    Expired,
}

impl fmt::Debug for PageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PageKey(…)")
    }
}

/// What a token is bound to: the method and the request's fields other than page size and token,
/// each as bytes, in one order.
pub fn scope<'a>(method: &'a str, fields: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in std::iter::once(method.as_bytes()).chain(fields) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// The number of items to return at most: 50 when the caller does not say, never more than 1000.
pub fn page_size(wanted: i32) -> Result<usize, Wrong> {
    let wanted =
        u32::try_from(wanted).map_err(|_| Wrong::new(Rule::OutOfRange, "must not be negative"))?;
    let size = match wanted {
        0 => limits::PAGE_DEFAULT,
        _ => wanted.min(limits::PAGE_MAX),
    };
    Ok(size as usize)
}

/// A MAC that has taken in everything.
struct Tagged(HmacSha256);

impl Tagged {
    fn tag(self) -> [u8; TAG_LEN] {
        let full: [u8; 32] = self.0.finalize().into_bytes().into();
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&full[..TAG_LEN]);
        tag
    }

    /// In constant time.
    fn verify(self, tag: &[u8; TAG_LEN]) -> bool {
        self.0.verify_truncated_left(tag).is_ok()
    }
}

pub(crate) fn keyed(key: &[u8]) -> HmacSha256 {
    HmacSha256::new_from_slice(key).expect("HMAC takes keys of any length")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn key() -> PageKey {
        PageKey::derive(&[b"a master key"])
    }

    #[test]
    fn tokens_under_any_key_are_let_in_and_under_none_that_went() {
        let scope = scope("ListTenants", []);
        let shared = key();
        let clone = shared.clone();
        let token = shared.seal(&scope, "x", NOW);
        clone.change(&[b"another key!", b"a master key"]);
        assert_eq!(shared.open(&scope, &token, NOW).unwrap().unwrap(), "x");
        let newer = shared.seal(&scope, "x", NOW);
        assert!(key().open(&scope, &newer, NOW).is_err());
        shared.change(&[b"another key!"]);
        assert!(clone.open(&scope, &token, NOW).is_err());
        assert!(clone.open(&scope, &newer, NOW).is_ok());
        let none = PageKey::derive::<&[u8]>(&[]);
        assert!(none.open(&scope, &none.seal(&scope, "x", NOW), NOW).is_err());
    }

    #[test]
    fn a_token_holds_its_position_for_a_day() {
        let scope = scope("ListTenants", [b"".as_slice()]);
        let token = key().seal(&scope, "tenants/acme", NOW);
        let later = NOW.plus(limits::PAGE_TOKEN_KEPT).minus(Duration::from_secs(1));
        assert_eq!(key().open(&scope, &token, later).unwrap().unwrap(), "tenants/acme");
        let wrong = key().open(&scope, &token, later.plus(Duration::from_secs(1))).unwrap_err();
        assert_eq!(wrong.rule, Rule::PageTokenInvalid);
        assert_eq!(key().open(&scope, "", NOW).unwrap(), None);
    }

    #[test]
    fn an_old_resume_token_is_told_from_a_wrong_one() {
        let (own, other) = (scope("WatchDeliveries", []), scope("ListDeliveries", []));
        let place = "1,2.3.4".repeat(1000);
        let token = key().seal(&own, &place, NOW);
        assert_eq!(key().resume(&own, &token, NOW), Ok(Some(place)));
        assert_eq!(key().resume(&own, "", NOW), Ok(None));
        let later = NOW.plus(limits::PAGE_TOKEN_KEPT);
        assert_eq!(key().resume(&own, &token, later), Err(Resume::Expired));
        for (scope, token) in [(&other, &*token), (&own, &token[1..]), (&own, "x")] {
            assert!(matches!(key().resume(scope, token, later), Err(Resume::Wrong(_))));
        }
    }

    #[test]
    fn a_token_is_good_for_one_request_and_one_key() {
        let one = scope("ListSecrets", [b"tenants/a".as_slice(), b"b".as_slice()]);
        let other = scope("ListSecrets", [b"tenants/ab".as_slice(), b"".as_slice()]);
        let token = key().seal(&one, "x", NOW);
        assert!(key().open(&other, &token, NOW).is_err());
        assert!(PageKey::new([7; 32]).open(&one, &token, NOW).is_err());
        assert_ne!(scope("ListTenants", []), scope("ListNodes", []));
    }

    #[test]
    fn no_changed_token_is_taken() {
        let scope = scope("ListEvents", []);
        let token = key().seal(&scope, "position", NOW);
        for i in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[i] = if bytes[i] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(key().open(&scope, &changed, NOW).is_err(), "{i}");
            assert!(key().open(&scope, &token[..i.max(1)], NOW).is_err(), "{i}");
        }
        for text in ["ñ", "====", &"A".repeat(TOKEN_LEN + 1)] {
            assert!(key().open(&scope, text, NOW).is_err());
        }
    }

    #[test]
    fn sizes_are_defaulted_capped_and_checked() {
        assert_eq!(page_size(0), Ok(50));
        assert_eq!(page_size(1), Ok(1));
        assert_eq!(page_size(i32::MAX), Ok(1000));
        assert_eq!(page_size(-1).unwrap_err().rule, Rule::OutOfRange);
    }

    #[test]
    fn a_key_is_not_printed() {
        assert_eq!(format!("{:?}", PageKey::new([65; 32])), "PageKey(…)");
    }
}
