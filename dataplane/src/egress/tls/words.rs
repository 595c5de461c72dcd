//! What is wrong with a TLS connection, in words: one sentence for each thing that somebody can do
//! about it. `docs/operations.md` has them all.

use std::borrow::Cow;
use std::error::Error;
use std::io;

use pregon_core::words;
use rustls::{AlertDescription, CertificateError, InvalidMessage, PeerIncompatible};

use super::trust::NotPinned;

words! {
    /// Why a TLS connection did not come about: what is wrong, and what to do.
    TlsFailure {
        /// The chain leads to no root that counts.
        UnknownIssuer = "the certificate's issuer is unknown: have the receiver send its whole chain, or put its root into auth.ca_pem or --egress-ca-file",
        /// Another name.
        Name = "the certificate is for another name: use a name in the url that it has, or have the receiver get one for this name",
        /// Too late.
        Expired = "the certificate has expired: have the receiver renew it",
        /// Too early.
        NotValidYet = "the certificate is not valid yet: check the clocks of the receiver and of this node",
        /// Taken back.
        Revoked = "the certificate is revoked: have the receiver replace it",
        /// The usual self-signed one.
        Authority = "the receiver presents an authority's certificate as its own: pin it in auth.pinned_sha256, or put just that certificate into auth.ca_pem or --egress-ca-file",
        /// A signature, of a certificate or of the handshake.
        Signature = "a signature does not fit the certificate: have the receiver install certificate, chain and key that belong together, and check that no older root of the same name is listed",
        /// A weak signature, or an odd one.
        Algorithm = "the certificate is signed in a way that is not accepted, such as SHA-1 or a short key: have the receiver replace it",
        /// Not X.509, or an old version.
        Encoding = "the certificate cannot be read: have the receiver install one of X.509 version 3",
        /// Extended key usage.
        Purpose = "the certificate is not for servers: have the receiver get one with serverAuth in its extended key usage",
        /// Who issued it had no right to.
        Chain = "the certificate's chain breaks its own rules: have the receiver install the chain that its authority gave it",
        /// Anything else about a certificate.
        Certificate = "the certificate is not acceptable: have the receiver replace it",
        /// None at all.
        NoCertificate = "the receiver presents no certificate: have it install one",
        /// It wants ours.
        CertificateRequired = "the receiver wants a client certificate: give it one in auth.mtls or by an egress pool",
        /// It does not want this one.
        OursRefused = "the receiver does not accept our client certificate, or wants one: ask its owner which, and set auth.mtls",
        /// Its root is not known there.
        OursUnknown = "the receiver does not know the authority of our client certificate: put the whole chain into auth.mtls, or have the receiver add the authority",
        /// It is too old.
        OursExpired = "the receiver says that our client certificate has expired: renew it in auth.mtls",
        /// It was taken back.
        OursRevoked = "the receiver says that our client certificate is revoked: replace it in auth.mtls",
        /// Its key cannot sign as the receiver wants.
        OursKey = "the receiver takes no signature that our client certificate's key can make: use an ECDSA P-256 or RSA certificate in auth.mtls",
        /// Old TLS.
        Version = "the receiver speaks neither TLS 1.2 nor 1.3: have it allow one of them",
        /// Nothing in common.
        Cipher = "the receiver has no cipher or key exchange in common with us, or wants a client certificate: have it allow TLS 1.3 or ECDHE with AES-GCM, or set auth.mtls",
        /// ALPN.
        Http = "the receiver does not speak HTTP/1.1: have it allow http/1.1 in ALPN",
        /// SNI.
        HostUnknown = "the receiver does not know the url's host name: check the name, or have the receiver set it up",
        /// Another alert.
        Refused = "the receiver refused the TLS handshake: its log says why",
        /// HTTP in clear, SSH, anything.
        NotTls = "the receiver does not speak TLS on this port: check the url's scheme and port",
        /// It closed the connection.
        Closed = "the receiver closed the connection in the TLS handshake: check the url's port, and the receiver's log",
        /// It is silent.
        Slow = "the TLS handshake took too long: check the url's port, and the receiver's load",
        /// It talks on and on.
        Endless = "the TLS handshake has no end: the receiver is broken",
        /// It breaks the protocol.
        Misbehaved = "the receiver breaks the rules of TLS: have it updated, or look for what changes its bytes on the way",
        /// Something of ours.
        Ours = "TLS failed on this node: check its clock and its memory",
    }
}

/// What is wrong with the TLS below an I/O error; none if it is not TLS.
pub(in crate::egress) fn detail(error: &io::Error) -> Option<Cow<'static, str>> {
    let mut cause: &(dyn Error + 'static) = error.get_ref()?;
    loop {
        if let Some(error) = cause.downcast_ref::<rustls::Error>() {
            return Some(match not_pinned(error) {
                Some(NotPinned(pin)) => Cow::Owned(format!(
                    "the receiver presents a certificate that is not pinned: check with its owner \
                     that it is the new one, and add it to auth.pinned_sha256: {pin}"
                )),
                None => Cow::Borrowed(failure(error).word()),
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
pub(in crate::egress) fn failure(error: &rustls::Error) -> TlsFailure {
    use rustls::Error as E;
    match error {
        E::InvalidCertificate(why) => certificate(why),
        E::NoCertificatesPresented => TlsFailure::NoCertificate,
        E::AlertReceived(alert) => alerted(*alert),
        E::PeerIncompatible(why) => incompatible(why),
        E::NoApplicationProtocol => TlsFailure::Http,
        E::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge,
        ) => TlsFailure::NotTls,
        E::InvalidMessage(_)
        | E::InappropriateMessage { .. }
        | E::InappropriateHandshakeMessage { .. }
        | E::PeerMisbehaved(_)
        | E::PeerSentOversizedRecord
        | E::DecryptError => TlsFailure::Misbehaved,
        _ => TlsFailure::Ours,
    }
}

#[allow(clippy::wildcard_enum_match_arm)] // a foreign vocabulary, open at its end
#[allow(deprecated)] // one that rustls may still give
fn certificate(error: &CertificateError) -> TlsFailure {
    use CertificateError as E;
    match error {
        E::Expired | E::ExpiredContext { .. } => TlsFailure::Expired,
        E::NotValidYet | E::NotValidYetContext { .. } => TlsFailure::NotValidYet,
        E::NotValidForName | E::NotValidForNameContext { .. } => TlsFailure::Name,
        E::UnknownIssuer => TlsFailure::UnknownIssuer,
        E::Revoked => TlsFailure::Revoked,
        E::BadSignature => TlsFailure::Signature,
        E::UnsupportedSignatureAlgorithm
        | E::UnsupportedSignatureAlgorithmContext { .. }
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => TlsFailure::Algorithm,
        E::BadEncoding => TlsFailure::Encoding,
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => TlsFailure::Purpose,
        E::Other(other) => other.0.downcast_ref().map_or(TlsFailure::Certificate, judged),
        _ => TlsFailure::Certificate,
    }
}

/// What rustls hands through of its judge's.
#[allow(clippy::wildcard_enum_match_arm)] // a foreign vocabulary, open at its end
fn judged(error: &webpki::Error) -> TlsFailure {
    use webpki::Error as E;
    match error {
        E::CaUsedAsEndEntity => TlsFailure::Authority,
        E::UnsupportedCertVersion => TlsFailure::Encoding,
        E::EndEntityUsedAsCa
        | E::NameConstraintViolation
        | E::PathLenConstraintViolated
        | E::MaximumPathDepthExceeded
        | E::MaximumPathBuildCallsExceeded
        | E::MaximumSignatureChecksExceeded
        | E::MaximumNameConstraintComparisonsExceeded => TlsFailure::Chain,
        _ => TlsFailure::Certificate,
    }
}

#[allow(clippy::wildcard_enum_match_arm)] // a foreign vocabulary, open at its end
fn alerted(alert: AlertDescription) -> TlsFailure {
    use AlertDescription as A;
    match alert {
        A::CertificateRequired | A::NoCertificate => TlsFailure::CertificateRequired,
        A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateUnknown
        | A::CertificateUnobtainable
        | A::AccessDenied
        | A::DecryptError => TlsFailure::OursRefused,
        A::UnknownCA => TlsFailure::OursUnknown,
        A::CertificateExpired => TlsFailure::OursExpired,
        A::CertificateRevoked => TlsFailure::OursRevoked,
        A::ProtocolVersion | A::InappropriateFallback => TlsFailure::Version,
        A::HandshakeFailure | A::InsufficientSecurity => TlsFailure::Cipher,
        A::NoApplicationProtocol => TlsFailure::Http,
        A::UnrecognisedName => TlsFailure::HostUnknown,
        _ => TlsFailure::Refused,
    }
}

#[allow(clippy::wildcard_enum_match_arm)] // a foreign vocabulary, open at its end
fn incompatible(error: &PeerIncompatible) -> TlsFailure {
    use PeerIncompatible as P;
    match error {
        P::ServerDoesNotSupportTls12Or13
        | P::ServerTlsVersionIsDisabledByOurConfig
        | P::Tls12NotOffered
        | P::Tls12NotOfferedOrEnabled => TlsFailure::Version,
        P::NoCipherSuitesInCommon
        | P::NoEcPointFormatsInCommon
        | P::NoKxGroupsInCommon
        | P::NoSignatureSchemesInCommon => TlsFailure::Cipher,
        P::NoCertificateRequestSignatureSchemesInCommon => TlsFailure::OursKey,
        _ => TlsFailure::Misbehaved,
    }
}

#[cfg(test)]
mod tests;
