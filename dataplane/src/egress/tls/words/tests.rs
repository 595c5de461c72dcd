use std::sync::Arc;

use rustls::{AlertDescription as A, CertificateError as C, Error as E, OtherError};
use rustls::{InvalidMessage as M, PeerIncompatible as P, PeerMisbehaved};

use super::*;

/// An error as it comes out of a connection.
fn told(error: E) -> String {
    let nested = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
    detail(&nested).expect("it is of TLS").into_owned()
}

fn by_judge(error: webpki::Error) -> E {
    E::InvalidCertificate(C::Other(OtherError(Arc::new(error))))
}

#[test]
#[allow(deprecated)] // one that rustls may still give
fn each_failure_has_its_sentence() {
    use TlsFailure as F;
    let of = |why| E::InvalidCertificate(why);
    let oid = || vec![0x2a];
    let time = || rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(1));
    let name = || rustls::pki_types::ServerName::try_from("receiver.test").unwrap();
    let purpose = || rustls::ExtendedKeyPurpose::ServerAuth;
    for (error, failure) in [
        (of(C::UnknownIssuer), F::UnknownIssuer),
        (of(C::NotValidForName), F::Name),
        (of(C::NotValidForNameContext { expected: name(), presented: Vec::new() }), F::Name),
        (of(C::Expired), F::Expired),
        (of(C::ExpiredContext { time: time(), not_after: time() }), F::Expired),
        (of(C::NotValidYet), F::NotValidYet),
        (of(C::NotValidYetContext { time: time(), not_before: time() }), F::NotValidYet),
        (of(C::Revoked), F::Revoked),
        (of(C::BadSignature), F::Signature),
        (of(C::UnsupportedSignatureAlgorithm), F::Algorithm),
        (
            of(C::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id: oid(),
                supported_algorithms: Vec::new(),
            }),
            F::Algorithm,
        ),
        (
            of(C::UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id: oid(),
                public_key_algorithm_id: oid(),
            }),
            F::Algorithm,
        ),
        (of(C::BadEncoding), F::Encoding),
        (of(C::InvalidPurpose), F::Purpose),
        (of(C::InvalidPurposeContext { required: purpose(), presented: Vec::new() }), F::Purpose),
        (of(C::UnhandledCriticalExtension), F::Certificate),
        (of(C::UnknownRevocationStatus), F::Certificate),
        (of(C::ExpiredRevocationList), F::Certificate),
        (of(C::InvalidOcspResponse), F::Certificate),
        (of(C::ApplicationVerificationFailure), F::Certificate),
        (of(C::Other(OtherError(Arc::new(io::Error::other("x"))))), F::Certificate),
        (by_judge(webpki::Error::CaUsedAsEndEntity), F::Authority),
        (by_judge(webpki::Error::UnsupportedCertVersion), F::Encoding),
        (by_judge(webpki::Error::EndEntityUsedAsCa), F::Chain),
        (by_judge(webpki::Error::NameConstraintViolation), F::Chain),
        (by_judge(webpki::Error::PathLenConstraintViolated), F::Chain),
        (by_judge(webpki::Error::MaximumPathDepthExceeded), F::Chain),
        (by_judge(webpki::Error::MaximumPathBuildCallsExceeded), F::Chain),
        (by_judge(webpki::Error::MaximumSignatureChecksExceeded), F::Chain),
        (by_judge(webpki::Error::MaximumNameConstraintComparisonsExceeded), F::Chain),
        (by_judge(webpki::Error::MalformedExtensions), F::Certificate),
        (E::NoCertificatesPresented, F::NoCertificate),
        (E::AlertReceived(A::CertificateRequired), F::CertificateRequired),
        (E::AlertReceived(A::NoCertificate), F::CertificateRequired),
        (E::AlertReceived(A::BadCertificate), F::OursRefused),
        (E::AlertReceived(A::UnsupportedCertificate), F::OursRefused),
        (E::AlertReceived(A::CertificateUnknown), F::OursRefused),
        (E::AlertReceived(A::CertificateUnobtainable), F::OursRefused),
        (E::AlertReceived(A::AccessDenied), F::OursRefused),
        (E::AlertReceived(A::DecryptError), F::OursRefused),
        (E::AlertReceived(A::UnknownCA), F::OursUnknown),
        (E::AlertReceived(A::CertificateExpired), F::OursExpired),
        (E::AlertReceived(A::CertificateRevoked), F::OursRevoked),
        (E::AlertReceived(A::ProtocolVersion), F::Version),
        (E::AlertReceived(A::InappropriateFallback), F::Version),
        (E::AlertReceived(A::HandshakeFailure), F::Cipher),
        (E::AlertReceived(A::InsufficientSecurity), F::Cipher),
        (E::AlertReceived(A::NoApplicationProtocol), F::Http),
        (E::AlertReceived(A::UnrecognisedName), F::HostUnknown),
        (E::AlertReceived(A::InternalError), F::Refused),
        (E::AlertReceived(A::Unknown(200)), F::Refused),
        (E::PeerIncompatible(P::ServerDoesNotSupportTls12Or13), F::Version),
        (E::PeerIncompatible(P::ServerTlsVersionIsDisabledByOurConfig), F::Version),
        (E::PeerIncompatible(P::Tls12NotOffered), F::Version),
        (E::PeerIncompatible(P::Tls12NotOfferedOrEnabled), F::Version),
        (E::PeerIncompatible(P::NoCipherSuitesInCommon), F::Cipher),
        (E::PeerIncompatible(P::NoEcPointFormatsInCommon), F::Cipher),
        (E::PeerIncompatible(P::NoKxGroupsInCommon), F::Cipher),
        (E::PeerIncompatible(P::NoSignatureSchemesInCommon), F::Cipher),
        (E::PeerIncompatible(P::NoCertificateRequestSignatureSchemesInCommon), F::OursKey),
        (E::PeerIncompatible(P::ExtendedMasterSecretExtensionRequired), F::Misbehaved),
        (E::NoApplicationProtocol, F::Http),
        (E::InvalidMessage(M::InvalidContentType), F::NotTls),
        (E::InvalidMessage(M::UnknownProtocolVersion), F::NotTls),
        (E::InvalidMessage(M::MessageTooLarge), F::NotTls),
        (E::InvalidMessage(M::MissingKeyExchange), F::Misbehaved),
        (
            E::InappropriateMessage {
                expect_types: Vec::new(),
                got_type: rustls::ContentType::Alert,
            },
            F::Misbehaved,
        ),
        (
            E::InappropriateHandshakeMessage {
                expect_types: Vec::new(),
                got_type: rustls::HandshakeType::Finished,
            },
            F::Misbehaved,
        ),
        (E::PeerMisbehaved(PeerMisbehaved::TooManyEmptyFragments), F::Misbehaved),
        (E::PeerSentOversizedRecord, F::Misbehaved),
        (E::DecryptError, F::Misbehaved),
        (E::UnsupportedNameType, F::Ours),
        (E::EncryptError, F::Ours),
        (E::General("x".to_owned()), F::Ours),
        (E::FailedToGetCurrentTime, F::Ours),
        (E::FailedToGetRandomBytes, F::Ours),
        (E::HandshakeNotComplete, F::Ours),
        (E::BadMaxFragmentSize, F::Ours),
        (E::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch), F::Ours),
        (E::Other(OtherError(Arc::new(io::Error::other("x")))), F::Ours),
    ] {
        let text = format!("{error:?}");
        assert_eq!(told(error), failure.word(), "{text}");
    }
    let pin = pregon_core::tls::Pin::of(b"x");
    let error = of(C::Other(OtherError(Arc::new(NotPinned(pin)))));
    assert!(told(error).ends_with(&format!("auth.pinned_sha256: {pin}")));
    assert!(detail(&io::Error::from(io::ErrorKind::ConnectionReset)).is_none());
    assert!(detail(&io::Error::other("x")).is_none());
}

#[test]
fn the_documents_have_every_sentence() {
    let document = include_str!("../../../../../docs/operations.md");
    for failure in TlsFailure::ALL {
        let (what, todo) = failure.word().split_once(": ").expect("what is wrong, and what to do");
        let line = format!("| {what} | {todo} |");
        assert!(document.contains(&line), "docs/operations.md does not have: {line}");
    }
}
