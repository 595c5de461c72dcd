//! Trust: which certificates are believed, and how their failure is named.
//!
//! TLS 1.2 and later, names always verified, no switch to skip it: a receiver with a certificate
//! of its own is reached by adding its authority to the roots.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use pregon_core::clock::SharedClock;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::EgressError;

/// TLS sessions remembered for resumption, over all receivers; a few kilobytes each.
const SESSIONS: usize = 1024;

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

/// The connector: the web's roots and the deployment's own, in PEM.
pub(super) fn connector(
    extra_roots: &[u8],
    clock: SharedClock,
) -> Result<TlsConnector, EgressError> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    for (index, found) in CertificateDer::pem_slice_iter(extra_roots).enumerate() {
        let bad = |why: &dyn fmt::Display| EgressError::ExtraRoot { index, why: why.to_string() };
        let root = found.map_err(|why| bad(&why))?;
        roots.add(root).map_err(|why| bad(&why))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(Time(clock)))
        .with_safe_default_protocol_versions()
        .map_err(|why| EgressError::Tls { why: why.to_string() })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(TlsConnector::from(Arc::new(config)))
}

/// What is wrong with the TLS below an I/O error, in a few fixed words; none if it is not TLS.
pub(super) fn detail(error: &io::Error) -> Option<&'static str> {
    let mut cause: &(dyn Error + 'static) = error.get_ref()?;
    loop {
        if let Some(error) = cause.downcast_ref::<rustls::Error>() {
            return Some(words(error));
        }
        cause = match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => inner,
            None => cause.source()?,
        };
    }
}

#[allow(clippy::wildcard_enum_match_arm)] // a foreign vocabulary, open at its end
fn words(error: &rustls::Error) -> &'static str {
    use rustls::Error as E;
    match error {
        E::InvalidCertificate(why) => certificate_words(why),
        E::NoCertificatesPresented => "the receiver presents no certificate",
        E::AlertReceived(_) => "the receiver refused the TLS handshake",
        E::PeerIncompatible(_) => "the receiver speaks no TLS that is acceptable (1.2 or later)",
        E::NoApplicationProtocol => "the receiver does not speak HTTP/1.1",
        E::InvalidMessage(_) => "the receiver does not speak TLS on this port",
        _ => "the TLS handshake failed",
    }
}

#[allow(clippy::wildcard_enum_match_arm)] // a foreign vocabulary, open at its end
fn certificate_words(error: &CertificateError) -> &'static str {
    use CertificateError as E;
    match error {
        E::Expired | E::ExpiredContext { .. } => "the certificate has expired",
        E::NotValidYet | E::NotValidYetContext { .. } => "the certificate is not valid yet",
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            "the certificate is for another name"
        }
        E::UnknownIssuer => "the certificate's issuer is unknown",
        E::Revoked => "the certificate is revoked",
        E::BadSignature => "the certificate's signature is wrong",
        E::BadEncoding => "the certificate cannot be read",
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => "the certificate is not for servers",
        _ => "the certificate is not acceptable",
    }
}
