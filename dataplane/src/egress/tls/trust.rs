//! Which certificates are believed.

use std::sync::Arc;

use pregon_core::tls::Pin;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};

/// rustls's own verifier, which besides believes a receiver that presents one of the deployment's
/// own certificates. The usual self-signed certificate says of itself that it is an authority, and
/// an authority may not speak for a receiver; but whoever lists it means that receiver.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) web: Arc<WebPkiServerVerifier>,
    pub(super) own: Vec<CertificateDer<'static>>,
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
pub(super) fn is_authority(why: &rustls::Error) -> bool {
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

/// Believes a receiver that presents one of a few certificates and has its key: whatever it says, and
/// whoever signed it. That key is all that whoever pinned it asks for; so neither names nor times
/// count, and who must no longer be believed is taken out of the list.
#[derive(Debug)]
pub(super) struct Pinned {
    pub(super) pins: Vec<Pin>,
    /// Who is asked about other certificates; none: they are refused.
    pub(super) beside: Option<Arc<Verifier>>,
    pub(super) provider: Arc<CryptoProvider>,
}

/// The receiver presented a certificate that is not among those pinned.
#[derive(Debug, thiserror::Error)]
#[error("the certificate with SHA-256 {0} is not pinned")]
pub(super) struct NotPinned(pub(super) Pin);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        presented: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pin = Pin::of(presented);
        match &self.beside {
            _ if self.pins.contains(&pin) => Ok(ServerCertVerified::assertion()),
            Some(beside) => beside.verify_server_cert(presented, between, name, ocsp, now),
            None => Err(CertificateError::Other(OtherError(Arc::new(NotPinned(pin)))).into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let all = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, all)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let all = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, all)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
