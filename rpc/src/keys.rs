//! API keys as a process knows them: made in one place, checked in another.
//!
//! A key is `pgk_`, its id, `_`, and 256 random bits in base64url. The id finds the key, and the
//! SHA-256 of the whole is compared in constant time. 256 random bits cannot be guessed, so the
//! hash needs no salt and no slowness.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pregon_core::clock::Timestamp;
use pregon_core::error::{Reason, Refusal};
use pregon_core::id::ApiKeyId;
use pregon_core::model::ApiKey;
use pregon_core::pattern::Pattern;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::caller::{Caller, KeyUse, Role};
use crate::hash::{Hash, hex};
use crate::tokens::parse_hash;

/// What every key begins with, so that people and secret scanners know one when they see it.
pub const PREFIX: &str = "pgk_";

/// Random bytes of a key.
const RANDOM_LEN: usize = 32;
/// Longer ones are not ours; they are not even hashed.
const KEY_LEN: usize = 256;

/// A secret of a key that was just made.
pub struct NewSecret {
    /// The whole key, for its user. It is kept nowhere.
    pub key: Zeroizing<String>,
    /// Its SHA-256, in hex.
    pub sha256: String,
}

impl fmt::Debug for NewSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewSecret").finish_non_exhaustive()
    }
}

/// Makes a secret for the key of an id. `random` fills a buffer with random bytes fit for keys.
pub fn new_secret(id: &ApiKeyId, random: impl FnOnce(&mut [u8])) -> NewSecret {
    let mut bytes = Zeroizing::new([0; RANDOM_LEN]);
    random(&mut *bytes);
    let key = Zeroizing::new(format!("{PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(*bytes)));
    let sha256 = hex(&Sha256::digest(key.as_bytes()).into());
    NewSecret { key, sha256 }
}

/// A key that can be used.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) caller: Caller,
    /// Each with the moment from which it is not valid.
    secrets: Vec<(Hash, Option<Timestamp>)>,
    expires: Option<Timestamp>,
    revoke_time: Option<Timestamp>,
    revoked: bool,
}

impl Key {
    /// Reads a document, or says why it is of no use. Rates go on where `before` left them.
    fn read(key: &ApiKey, before: Option<&Key>) -> Result<Self, String> {
        let role = Role::parse(&key.role).ok_or("its role is not known here")?;
        let patterns = key.event_types.iter().map(|text| Pattern::parse(text));
        let event_types = patterns
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| "an event type pattern cannot be read")?;
        let secrets = key.secrets.iter().map(|it| Ok((parse_hash(&it.sha256)?, it.expire_time)));
        let secrets = secrets.collect::<Result<Vec<_>, String>>()?;
        let rates = before.and_then(|it| it.caller.rates().cloned()).unwrap_or_default();
        let display_name = key.common.display_name.as_str().into();
        let held = KeyUse { display_name, event_types, limits: key.limits, rates };
        let caller = Caller::with_key(
            (&key.id.name(), &key.share),
            role,
            key.tenants.clone(),
            key.environment,
            held,
        );
        Ok(Self {
            caller,
            secrets,
            expires: key.expire_time,
            revoke_time: key.revoke_time,
            revoked: key.revoked,
        })
    }

    /// Until when the secret of a hash is valid; none: without end.
    pub(crate) fn check(&self, hash: &Hash, now: Timestamp) -> Result<Option<Timestamp>, Refusal> {
        // All are compared, each in constant time.
        let mut found = None;
        for (own, end) in &self.secrets {
            if bool::from(own.ct_eq(hash)) {
                found = Some(*end);
            }
        }
        let end = found.ok_or_else(unknown)?;
        let past = |end: Option<Timestamp>| end.is_some_and(|end| end <= now);
        if self.revoked || past(self.revoke_time) {
            return Err(Refusal::new(Reason::CredentialRevoked, "the credential was revoked"));
        }
        if past(self.expires) || past(end) {
            return Err(expired());
        }
        Ok([self.revoke_time, self.expires, end].into_iter().flatten().min())
    }
}

/// Whom a key stands for, valid or not, or why it is of no use.
///
/// # Errors
///
/// What cannot be read of it.
pub fn caller(key: &ApiKey) -> Result<Caller, String> {
    Key::read(key, None).map(|read| read.caller)
}

/// All keys, by id; none before they were read.
#[derive(Clone, Debug, Default)]
pub struct Keys(Option<HashMap<ApiKeyId, Arc<Key>>>);

impl Keys {
    /// The key of an id.
    ///
    /// # Errors
    ///
    /// CREDENTIAL_INVALID where there is none, NOT_READY where none were read yet.
    pub(crate) fn get(&self, id: &ApiKeyId) -> Result<&Arc<Key>, Refusal> {
        let keys = self.0.as_ref().ok_or_else(|| {
            Refusal::new(Reason::NotReady, "the server has not read the API keys yet")
        })?;
        keys.get(id).ok_or_else(unknown)
    }
}

/// The id of a key, and its hash; none where it has not the form of one.
pub(crate) fn read(key: &str) -> Option<(ApiKeyId, Hash)> {
    if key.len() > KEY_LEN {
        return None;
    }
    let (id, _) = key.strip_prefix(PREFIX)?.split_once('_')?;
    Some((ApiKeyId::parse(id).ok()?, Sha256::digest(key.as_bytes()).into()))
}

pub(crate) fn expired() -> Refusal {
    Refusal::new(Reason::CredentialExpired, "the credential's time has passed")
}

pub(crate) fn unknown() -> Refusal {
    Refusal::new(Reason::CredentialInvalid, "the credential is not known")
}

/// Where a process keeps the keys; whoever follows the store writes into it.
#[derive(Debug, Default)]
pub struct Book(watch::Sender<Arc<Keys>>);

impl Book {
    /// The keys, kept up to date.
    pub fn keys(&self) -> watch::Receiver<Arc<Keys>> {
        self.0.subscribe()
    }

    /// Puts these keys in the place of all. One that cannot be used is logged and lets nobody in.
    pub fn replace<'a>(&self, keys: impl IntoIterator<Item = &'a ApiKey>) {
        let before = Arc::clone(&self.0.borrow());
        let before = before.0.as_ref();
        let read = keys.into_iter().filter_map(|key| {
            let old = before.and_then(|keys| keys.get(&key.id));
            usable(key, old).map(|read| (key.id.clone(), read))
        });
        let keys = Some(read.collect());
        self.0.send_replace(Arc::new(Keys(keys)));
    }

    /// Takes over what became of some keys; none: it is gone, or cannot be read.
    pub fn change(&self, changes: Vec<(ApiKeyId, Option<ApiKey>)>) {
        let mut keys = Keys::clone(&self.0.borrow()).0.unwrap_or_default();
        for (id, key) in changes {
            let read = key.as_ref().and_then(|key| usable(key, keys.get(&id)));
            match read {
                Some(key) => keys.insert(id, key),
                None => keys.remove(&id),
            };
        }
        self.0.send_replace(Arc::new(Keys(Some(keys))));
    }
}

fn usable(key: &ApiKey, before: Option<&Arc<Key>>) -> Option<Arc<Key>> {
    match Key::read(key, before.map(AsRef::as_ref)) {
        Ok(read) => Some(Arc::new(read)),
        Err(reason) => {
            tracing::error!(key = %key.id, reason, "an API key cannot be used");
            None
        }
    }
}
