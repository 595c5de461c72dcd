//! Trust: which certificates are believed, and how their failure is named.
//!
//! TLS 1.2 and later, names and times always verified, no switch to skip it: a receiver with a
//! certificate of its own is reached by adding its authority, or the certificate itself where it is
//! self-signed, to the roots; or by pinning just that certificate. What one receiver has of its own
//! is its [`Terms`].

use std::fmt;
use std::sync::Arc;

use pregon_core::clock::SharedClock;
use pregon_core::tls::{PemFault, certificates};
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::EgressError;
use trust::{Pinned, Verifier};

mod terms;
#[cfg(test)]
mod tests;
mod trust;
mod words;

use terms::Believed;
pub use terms::Terms;
pub(super) use words::{TlsFailure, detail};

/// TLS sessions remembered for resumption, over all receivers; a few kilobytes each.
const SESSIONS: usize = 1024;
/// The same of receivers with terms of their own: one or two machines each.
const SESSIONS_OF_TERMS: usize = 16;

/// Certificates are judged by the same clock as everything else.
struct Time(SharedClock);

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Time")
    }
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().seconds()).ok()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
    }
}

/// A certificate of our own, for receivers that ask who calls.
#[derive(Clone)]
pub struct Identity {
    /// The certificate and the chain to its authority, in PEM.
    pub certificate: Vec<u8>,
    /// Its key, in PEM.
    pub key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

/// Failures that are none of a receiver's.
fn failed(why: impl fmt::Display) -> EgressError {
    EgressError::Tls { why: why.to_string() }
}

/// What all connections of a node have in common.
pub(super) struct Base {
    provider: Arc<CryptoProvider>,
    clock: SharedClock,
    /// The web's authorities and those of the deployment: one copy for all receivers that are
    /// believed by nothing else.
    web: Arc<Verifier>,
}

impl Base {
    /// With the deployment's own roots, in PEM.
    pub fn new(extra_roots: Option<&[u8]>, clock: &SharedClock) -> Result<Self, EgressError> {
        let extra = extra_roots.map(certificates).transpose().map_err(|fault| match fault {
            PemFault::Bad { index, why } => EgressError::ExtraRoot { index, why },
            PemFault::Missing { what } => EgressError::NoExtraRoot { what },
        })?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let web = web(&provider, &extra.unwrap_or_default())?;
        Ok(Self { provider, clock: Arc::clone(clock), web })
    }

    /// A certificate of our own and its key, which must belong together.
    pub fn identity(&self, identity: &Identity) -> Result<Arc<CertifiedKey>, EgressError> {
        let Identity { certificate, key } = identity;
        let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>();
        let key = PrivateKeyDer::from_pem_slice(key).map_err(failed)?;
        let made = CertifiedKey::from_der(chain.map_err(failed)?, key, &self.provider);
        made.map(Arc::new).map_err(failed)
    }

    /// The usual connector, which shows that certificate of our own to who asks for one.
    pub fn connector(
        &self,
        identity: Option<Arc<CertifiedKey>>,
    ) -> Result<TlsConnector, EgressError> {
        self.make(Arc::<Verifier>::clone(&self.web), identity, SESSIONS)
    }

    /// The connector to a receiver that is believed by these certificates.
    fn connector_for(
        &self,
        believed: &Believed,
        identity: Option<Arc<CertifiedKey>>,
    ) -> Result<TlsConnector, EgressError> {
        let verifier: Arc<dyn ServerCertVerifier> = match believed {
            Believed::Public => Arc::<Verifier>::clone(&self.web),
            Believed::Roots(own) => verifier(&self.provider, RootCertStore::empty(), own)?,
            Believed::Pinned(pins) => {
                let (pins, provider) = (pins.clone(), Arc::clone(&self.provider));
                Arc::new(Pinned { pins, beside: None, provider })
            }
            Believed::Beside(own, pins) => {
                let (pins, provider) = (pins.clone(), Arc::clone(&self.provider));
                let beside = match own.as_slice() {
                    [] => Arc::clone(&self.web),
                    own => web(&provider, &[self.web.own.as_slice(), own].concat())?,
                };
                Arc::new(Pinned { pins, beside: Some(beside), provider })
            }
        };
        self.make(verifier, identity, SESSIONS_OF_TERMS)
    }

    fn make(
        &self,
        verifier: Arc<dyn ServerCertVerifier>,
        identity: Option<Arc<CertifiedKey>>,
        sessions: usize,
    ) -> Result<TlsConnector, EgressError> {
        let time = Arc::new(Time(Arc::clone(&self.clock)));
        let config = ClientConfig::builder_with_details(Arc::clone(&self.provider), time)
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .dangerous() // verifiers of our own: one asks rustls's, one knows the certificate
            .with_custom_certificate_verifier(verifier);
        let mut config = match identity {
            None => config.with_no_client_auth(),
            Some(own) => config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::in_memory_sessions(sessions);
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

/// Believes the web's authorities, and these certificates besides.
fn web(
    provider: &Arc<CryptoProvider>,
    own: &[CertificateDer<'static>],
) -> Result<Arc<Verifier>, EgressError> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    verifier(provider, roots, own)
}

fn verifier(
    provider: &Arc<CryptoProvider>,
    mut roots: RootCertStore,
    own: &[CertificateDer<'static>],
) -> Result<Arc<Verifier>, EgressError> {
    for (index, root) in own.iter().enumerate() {
        let bad = |why: rustls::Error| EgressError::ExtraRoot { index, why: why.to_string() };
        roots.add(root.clone()).map_err(bad)?;
    }
    let web = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    Ok(Arc::new(Verifier { web: web.build().map_err(failed)?, own: own.to_vec() }))
}
