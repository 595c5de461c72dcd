//! Trust: which certificates are believed, and how their failure is named.
//!
//! TLS 1.2 and later, names and times always verified, no switch to skip it: a receiver with a
//! certificate of its own is reached by adding its authority, or the certificate itself where it is
//! self-signed, to the roots.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use pregon_core::clock::SharedClock;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

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

/// The connector: the web's roots and the deployment's own, in PEM; and our own certificate.
pub(super) fn connector(
    extra_roots: Option<&[u8]>,
    clock: &SharedClock,
    identity: Option<&Identity>,
) -> Result<TlsConnector, EgressError> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let own = extra_roots.map(certificates).transpose()?.unwrap_or_default();
    for (index, root) in own.iter().enumerate() {
        let bad = |why: rustls::Error| EgressError::ExtraRoot { index, why: why.to_string() };
        roots.add(root.clone()).map_err(bad)?;
    }
    let failed = |why: &dyn fmt::Display| EgressError::Tls { why: why.to_string() };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let web = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = Arc::new(Verifier { web: web.build().map_err(|why| failed(&why))?, own });
    let config = ClientConfig::builder_with_details(provider, Arc::new(Time(Arc::clone(clock))))
        .with_safe_default_protocol_versions()
        .map_err(|why| failed(&why))?
        .dangerous() // a verifier of our own, that asks rustls's
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some(Identity { certificate, key }) => {
            let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>();
            let chain: Vec<_> = chain.map_err(|why| failed(&why))?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|why| failed(&why))?;
            config.with_client_auth_cert(chain, key).map_err(|why| failed(&why))?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The certificates of a PEM file, one at least.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, EgressError> {
    let mut found = Vec::new();
    for (index, read) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let bad = |why: rustls::pki_types::pem::Error| why.to_string();
        found.push(read.map_err(|why| EgressError::ExtraRoot { index, why: bad(why) })?);
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let holds = |text: &[u8]| pem.windows(text.len()).any(|window| window == text);
    let what = if pem.trim_ascii().is_empty() {
        "it is empty"
    } else if pem.first() == Some(&0x30) {
        "it is DER; `openssl x509 -inform der` makes PEM of it"
    } else if holds(b"PRIVATE KEY-----") {
        "it holds a private key; give the certificate, and keep the key where it is"
    } else {
        "`-----BEGIN CERTIFICATE-----` is not in it"
    };
    Err(EgressError::NoExtraRoot { what })
}

/// rustls's own verifier, which besides believes a receiver that presents one of the deployment's
/// own certificates. The usual self-signed certificate says of itself that it is an authority, and
/// an authority may not speak for a receiver; but whoever lists it means that receiver.
#[derive(Debug)]
struct Verifier {
    web: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
}

impl Verifier {
    /// Whether a certificate is listed and is refused for nothing but being an authority. Its
    /// time of validity is judged before that, its name here.
    fn is_own(
        &self,
        presented: &CertificateDer<'_>,
        name: &ServerName<'_>,
        why: &rustls::Error,
    ) -> Result<bool, rustls::Error> {
        if !is_authority(why) || !self.own.iter().any(|own| own == presented) {
            return Ok(false);
        }
        verify_server_name(&ParsedCertificate::try_from(presented)?, name)?;
        Ok(true)
    }
}

/// Whether a certificate was refused because it is an authority's.
fn is_authority(why: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = why else {
        return false;
    };
    matches!(other.0.downcast_ref::<webpki::Error>(), Some(webpki::Error::CaUsedAsEndEntity))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        presented: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.web.verify_server_cert(presented, between, name, ocsp, now) {
            Err(why) if self.is_own(presented, name, &why)? => Ok(ServerCertVerified::assertion()),
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.web.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.web.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.web.supported_verify_schemes()
    }
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
        error if is_authority(error) => {
            "the receiver presents an authority's certificate as its own; --egress-ca-file with \
             just that certificate permits it"
        }
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
