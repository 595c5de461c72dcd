//! Keys made and sealed, and how they are shown.
//!
//! An RSA key is a search for primes, some 100 ms of a core. It is made beside the threads that
//! answer calls, and few at a time, so that whoever makes many keys holds up nobody else.

use std::sync::Arc;

use pregon_core::clock::Timestamp;
use pregon_core::model::Common;
use pregon_core::secret::{
    PublicKey, SecretBytes, ed25519_public_text, key_generate, key_public, pair_generate,
};

use super::draft::{Draft, own_algorithm};
use super::{
    Contract, Control, Reason, Refusal, Secret, SecretAlgorithm, SecretId, SecretName, SignerName,
    Stored, etag, v1,
};
use crate::map;

impl Control {
    /// A secret under this name, its key generated if there is none, sealed.
    pub(super) async fn new_secret(
        &self,
        name: &SecretName,
        draft: &Draft,
        contract: &Contract,
    ) -> Result<Secret, Refusal> {
        let generated;
        let key = match &draft.key {
            Some(key) => key,
            None => {
                generated = self.new_key(draft.algorithm, contract).await?;
                &generated
            }
        };
        let now = self.clock.now();
        let mut secret = Secret {
            signer: name.signer.clone(),
            id: name.secret.clone(),
            common: Common { create_time: now, update_time: now, ..Common::default() },
            algorithm: draft.algorithm,
            sealed: String::new(),
            fingerprint: key.fingerprint(),
            activate_time: draft.activate,
            expire_time: draft.expire,
            revoke_time: None,
        };
        secret.sealed = self.seal(key, &secret.binding());
        Ok(secret)
    }

    /// A new key of a kind.
    async fn new_key(
        &self,
        algorithm: SecretAlgorithm,
        contract: &Contract,
    ) -> Result<SecretBytes, Refusal> {
        let failed = |why: &dyn std::fmt::Display| {
            tracing::error!(%algorithm, %why, "a key was not made");
            Refusal::new(Reason::Internal, format!("no key of {algorithm} could be made"))
        };
        let slow = match algorithm {
            SecretAlgorithm::Rsa => algorithm.pair(),
            SecretAlgorithm::Hmac
            | SecretAlgorithm::Ed25519
            | SecretAlgorithm::EcdsaP256
            | SecretAlgorithm::EcdsaP521
            | SecretAlgorithm::EcdsaSecp256k1 => None,
        };
        let Some(kind) = slow else {
            let mut random = self.random;
            let made = key_generate(algorithm, &contract.secret().form, &mut random);
            return made.map_err(|wrong| failed(&wrong));
        };
        let turn = Arc::clone(&self.making.0).acquire_owned().await;
        let turn = turn.map_err(|closed| failed(&closed))?;
        // A caller that goes away leaves the work behind: the turn ends with it.
        let making = tokio::task::spawn_blocking(move || {
            let made = pair_generate(kind);
            drop(turn);
            made
        });
        let made = making.await.map_err(|error| failed(&error))?;
        made.map_err(|error| failed(&error))
    }

    /// The secrets that a creation brings, sealed for whoever is going to sign with them.
    pub(crate) async fn new_secrets(
        &self,
        of: &SignerName,
        drafts: &[(Option<SecretId>, Draft)],
        contract: &Contract,
    ) -> Result<Vec<Secret>, Refusal> {
        let mut made = Vec::new();
        for (id, draft) in drafts {
            let id = match id {
                Some(id) => id.clone(),
                None => self.new_secret_id()?,
            };
            let name = SecretName { signer: of.clone(), secret: id };
            made.push(self.new_secret(&name, draft, contract).await?);
        }
        Ok(made)
    }

    /// The first key of a subscription or a callback under a contract.
    pub(crate) async fn first_secret(
        &self,
        of: &SignerName,
        contract: &Contract,
    ) -> Result<Secret, Refusal> {
        let (algorithm, activate) = (own_algorithm(contract), self.clock.now());
        let draft = Draft { algorithm, key: None, activate, expire: None };
        let name = SecretName { signer: of.clone(), secret: self.new_secret_id()? };
        self.new_secret(&name, &draft, contract).await
    }

    /// An id for a secret that has none.
    pub(super) fn new_secret_id(&self) -> Result<SecretId, Refusal> {
        SecretId::parse(&self.assign("key_"))
            .map_err(|wrong| Refusal::new(Reason::Internal, wrong.description))
    }

    /// A secret as the API shows it: without its material, with its public key if it has one.
    pub(crate) fn shown_secret(&self, stored: &Stored<Secret>, now: Timestamp) -> v1::Secret {
        let it = &stored.value;
        // One that does not open is logged as such, and shown without.
        let key = it.algorithm.has_public_key().then(|| self.open(it).ok()).flatten();
        let public = key.and_then(|key| key_public(it.algorithm, &key).ok().flatten());
        v1::Secret {
            public_key: match &public {
                Some(PublicKey::Ed25519(key)) => ed25519_public_text(key),
                Some(PublicKey::Rsa { .. } | PublicKey::Ec { .. }) | None => String::new(),
            },
            public_key_pem: public.as_ref().map(PublicKey::pem).unwrap_or_default(),
            public_key_der: public.as_ref().map(PublicKey::base64).unwrap_or_default(),
            ..to_wire(stored, now)
        }
    }
}

/// A secret as the API shows it, but for public halves.
pub(crate) fn to_wire(stored: &Stored<Secret>, now: Timestamp) -> v1::Secret {
    let it = &stored.value;
    v1::Secret {
        name: it.name().to_string(),
        create_time: map::moment(it.common.create_time),
        update_time: map::moment(it.common.update_time),
        revision: stored.revision,
        etag: etag::of(stored.revision),
        algorithm: map::secret_algorithm(it.algorithm).into(),
        activate_time: map::moment(it.activate_time),
        expire_time: it.expire_time.and_then(map::moment),
        state: map::secret_state(it.state(now)).into(),
        fingerprint: it.fingerprint.clone(),
        ..Default::default()
    }
}
