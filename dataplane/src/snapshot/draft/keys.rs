//! Secrets become signing keys of their subscription or callback.

use std::collections::HashMap;

use data_encoding::BASE64;
use pregon_core::contract::{SigningKey, SigningKeys};
use pregon_core::id::{SecretId, SecretName, SignerName};
use pregon_core::model::Secret;
use pregon_core::seal::KeyRing;

use super::{CallbackEntry, Draft, Lane, Placed};

/// Secrets without a signer, each with the revision that wrote it.
pub(super) type Orphans = HashMap<SignerName, Vec<(Secret, i64)>>;

impl Draft {
    pub(super) fn put_secret(&mut self, secret: Secret, revision: i64) -> Result<Placed, String> {
        let name = secret.name();
        if secret.revoke_time.is_some() {
            self.remove_key(&name);
            return Ok(Placed::Used);
        }
        let Some(keys) = self.keys(&name.signer) else {
            let orphans = self.orphans.entry(name.signer).or_default();
            orphans.retain(|(other, _)| other.id != secret.id);
            orphans.push((secret, revision));
            return Ok(Placed::Used);
        };
        let keys = with(keys, open(&secret, &self.ring)?);
        self.set_keys(&name.signer, keys);
        Ok(Placed::Used)
    }

    /// Gives a signer that came to be the secrets that were there before it.
    pub(super) fn adopt(&mut self, name: &SignerName) {
        for (secret, revision) in self.orphans.remove(name).unwrap_or_default() {
            let resource = secret.name();
            if let Err(reason) = self.put_secret(secret, revision) {
                self.refuse(resource.to_string(), revision, reason);
            }
        }
    }

    pub(super) fn remove_key(&mut self, name: &SecretName) {
        if let Some(orphans) = self.orphans.get_mut(&name.signer) {
            orphans.retain(|(secret, _)| secret.id != name.secret);
        }
        let Some(keys) = self.keys(&name.signer) else { return };
        let keys = SigningKeys::new(without(keys, &name.secret).collect());
        self.set_keys(&name.signer, keys);
    }

    /// Takes over the last good version of a key, where its signer is the same one.
    pub(super) fn keep_key(&mut self, name: &SecretName, before: &Draft) {
        if let SignerName::Subscription(signer) = &name.signer
            && before.lane(signer).map(|lane| lane.lane) != self.lane(signer).map(|lane| lane.lane)
        {
            return;
        }
        let old = before.keys(&name.signer).zip(self.keys(&name.signer));
        let Some((old, now)) = old else { return };
        if let Some(key) = old.iter().find(|key| *key.id() == name.secret) {
            let keys = with(now, key.clone());
            self.set_keys(&name.signer, keys);
        }
    }

    /// Whether a version of a key is served.
    pub(super) fn has_key(&self, name: &SecretName) -> bool {
        let keys = self.keys(&name.signer);
        keys.is_some_and(|keys| keys.iter().any(|key| *key.id() == name.secret))
    }

    fn keys(&self, signer: &SignerName) -> Option<&SigningKeys> {
        match signer {
            SignerName::Subscription(name) => self.lane(name).map(|lane| &lane.keys),
            SignerName::Callback(name) => {
                self.snapshot.callbacks.get(name).map(|callback| &callback.keys)
            }
        }
    }

    fn set_keys(&mut self, signer: &SignerName, keys: SigningKeys) {
        match signer {
            SignerName::Subscription(name) => {
                if let Some(lane) = self.lane(name) {
                    let mut lane = Lane::clone(lane);
                    lane.keys = keys;
                    self.put_lane(lane);
                }
            }
            SignerName::Callback(name) => {
                if let Some(entry) = self.snapshot.callbacks.get(name) {
                    let mut entry = CallbackEntry::clone(entry);
                    entry.keys = keys;
                    self.set_callback(entry);
                }
            }
        }
    }
}

/// Unseals a secret.
fn open(secret: &Secret, ring: &KeyRing) -> Result<SigningKey, String> {
    let sealed = BASE64.decode(secret.sealed.as_bytes()).map_err(|_| "sealed: not base64")?;
    let key = ring.open(&sealed, &secret.binding()).map_err(|error| error.to_string())?;
    let (from, to) = (secret.activate_time, secret.expire_time);
    let made = SigningKey::new(secret.id.clone(), secret.algorithm, &key, from, to);
    let made = made.map_err(|wrong| wrong.to_string())?;
    // Its document is here, so the moment has come, whatever the clocks of writer and node say.
    let at_once = from <= secret.common.create_time;
    Ok(if at_once { made.active_already() } else { made })
}

/// The keys with this one, in place of the one of its id.
fn with(keys: &SigningKeys, key: SigningKey) -> SigningKeys {
    let id = key.id().clone();
    SigningKeys::new(without(keys, &id).chain([key]).collect())
}

/// The keys but the one of this id.
fn without<'a>(keys: &'a SigningKeys, id: &'a SecretId) -> impl Iterator<Item = SigningKey> + 'a {
    keys.iter().filter(move |key| key.id() != id).cloned()
}
