//! What is wrong with a TLS connection, in words.

use std::borrow::Cow;
use std::error::Error;
use std::io;

use rustls::CertificateError;

use super::trust::{NotPinned, is_authority};

/// What is wrong with the TLS below an I/O error, in a few fixed words; none if it is not TLS.
pub(in crate::egress) fn detail(error: &io::Error) -> Option<Cow<'static, str>> {
    let mut cause: &(dyn Error + 'static) = error.get_ref()?;
    loop {
        if let Some(error) = cause.downcast_ref::<rustls::Error>() {
            return Some(match not_pinned(error) {
                Some(NotPinned(pin)) => Cow::Owned(format!(
                    "the receiver presents a certificate that pinned_sha256 does not have: {pin}"
                )),
                None => Cow::Borrowed(words(error)),
            });
        }
        cause = match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => inner,
            None => cause.source()?,
        };
    }
}

/// The certificate that was presented where others are pinned.
#[allow(clippy::wildcard_enum_match_arm)] // a foreign vocabulary, open at its end
fn not_pinned(error: &rustls::Error) -> Option<&NotPinned> {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => other.0.downcast_ref(),
        _ => None,
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
