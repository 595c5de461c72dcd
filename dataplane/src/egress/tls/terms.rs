//! What one receiver's TLS has of its own.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use pregon_core::id::PoolName;
use pregon_core::model::Trust;
use pregon_core::tls::{Pin, roots};
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use tokio_rustls::TlsConnector;

use super::{Base, EgressError};

/// By which certificates a receiver is believed.
pub(super) enum Believed {
    /// The public roots, and those of the deployment.
    Public,
    /// Those that one of these vouches for, and these themselves.
    Roots(Vec<CertificateDer<'static>>),
    /// These, and no others.
    Pinned(Vec<Pin>),
    /// As the public ones, and besides those that one of these vouches for, and these pinned ones.
    Beside(Vec<CertificateDer<'static>>, Vec<Pin>),
}

/// What a receiver's TLS has of its own: by which certificates it is believed, and which one of ours it
/// is shown. Two are equal that were made of the same; connections are pooled apart where they are not. Cheap to clone.
#[derive(Clone)]
pub struct Terms(Arc<Parts>);

struct Parts {
    /// Of all that follows.
    digest: [u8; 32],
    believed: Believed,
    /// What it is shown if it asks; none: the egress pool's.
    identity: Option<Arc<CertifiedKey>>,
    /// Connectors made so far, by egress pool.
    made: Mutex<Vec<(PoolName, TlsConnector)>>,
}

impl Terms {
    /// The terms of a stored receiver that is shown this certificate; none: it has none of its own.
    ///
    /// # Errors
    ///
    /// What cannot be read of them, in words.
    pub fn read(
        trust: &Trust,
        identity: Option<Arc<CertifiedKey>>,
    ) -> Result<Option<Self>, String> {
        if trust.is_public() && identity.is_none() {
            return Ok(None);
        }
        let mut digest = Sha256::new();
        // The key of a certificate is the one that is in it.
        let shown = identity.iter().flat_map(|own| &own.cert);
        shown.for_each(|certificate| part(&mut digest, "shown", certificate));
        let (own, pins) = listed(trust)?;
        own.iter().for_each(|root| part(&mut digest, "root", root));
        pins.iter().for_each(|pin| part(&mut digest, "pin", pin.bytes()));
        let believed = if trust.is_public() {
            Believed::Public
        } else if pins.is_empty() {
            Believed::Roots(own)
        } else {
            Believed::Pinned(pins)
        };
        Ok(Some(Self::made(digest, believed, identity)))
    }

    /// The terms of somebody whom the receiver relies on: what it is believed by counts there beside
    /// what all are believed by. None: there is nothing of the kind.
    ///
    /// # Errors
    ///
    /// What cannot be read of them, in words.
    pub fn beside(trust: &Trust) -> Result<Option<Self>, String> {
        if trust.is_public() {
            return Ok(None);
        }
        let mut digest = Sha256::new();
        let (own, pins) = listed(trust)?;
        own.iter().for_each(|root| part(&mut digest, "root beside", root));
        pins.iter().for_each(|pin| part(&mut digest, "pin beside", pin.bytes()));
        Ok(Some(Self::made(digest, Believed::Beside(own, pins), None)))
    }

    fn made(digest: Sha256, believed: Believed, identity: Option<Arc<CertifiedKey>>) -> Self {
        let digest = digest.finalize().into();
        Self(Arc::new(Parts { digest, believed, identity, made: Mutex::default() }))
    }

    /// The connector by a pool, which has this identity for receivers without one of their own.
    pub(in crate::egress) fn connector(
        &self,
        base: &Base,
        pool: &PoolName,
        identity: Option<&Arc<CertifiedKey>>,
    ) -> Result<TlsConnector, EgressError> {
        let mut made = self.0.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, connector)) = made.iter().find(|(of, _)| of == pool) {
            return Ok(connector.clone());
        }
        let identity = self.0.identity.as_ref().or(identity).cloned();
        let connector = base.connector_for(&self.0.believed, identity)?;
        made.push((pool.clone(), connector.clone())); // one for each pool at most
        Ok(connector)
    }
}

/// The roots and the pins of a receiver.
fn listed(trust: &Trust) -> Result<(Vec<CertificateDer<'static>>, Vec<Pin>), String> {
    let own = match trust.ca_pem.as_str() {
        "" => Vec::new(),
        pem => roots(pem).map_err(|wrong| format!("ca_pem: {wrong}"))?,
    };
    let pins: Result<_, _> = trust.pinned.iter().map(|pin| Pin::parse(pin)).collect();
    Ok((own, pins.map_err(|wrong| format!("pinned_sha256: {wrong}"))?))
}

/// Adds a part of the terms to their digest, so that no two lists of parts look the same.
fn part(digest: &mut Sha256, kind: &str, bytes: &[u8]) {
    digest.update(kind);
    digest.update(bytes.len().to_be_bytes());
    digest.update(bytes);
}

impl PartialEq for Terms {
    fn eq(&self, other: &Self) -> bool {
        self.0.digest == other.0.digest
    }
}

impl Eq for Terms {}

impl Hash for Terms {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.digest.hash(state);
    }
}

impl fmt::Debug for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Terms")
    }
}
