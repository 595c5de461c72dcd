//! Certificates of our own, for receivers that ask for one: read from PEM.

use std::time::Duration;

use pkcs8::der::asn1::{GeneralizedTime, UtcTime};
use pkcs8::der::{AnyRef, Decode as _, SliceReader, Tag, Tagged as _};
use rustls::InconsistentKeys;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::shown;
use crate::clock::Timestamp;
use crate::error::{Rule, Wrong};

/// Certificates of a chain: the client's own and those between it and its root.
pub const CHAIN: usize = 8;

/// What tells an encrypted key: PKCS#8, and the older form (RFC 1421, section 4.6.1.1).
const ENCRYPTED: [&[u8]; 2] = [b"ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];

/// A chain of certificates: the client's own first.
#[derive(Clone, Debug)]
pub struct Chain {
    certificates: Vec<CertificateDer<'static>>,
    not_after: Timestamp,
}

impl Chain {
    /// Reads 1 to [`CHAIN`] certificates in PEM, of [`super::PEM_LEN`] bytes at most.
    ///
    /// # Errors
    ///
    /// TOO_LONG, TOO_MANY, or MALFORMED where one is no certificate.
    pub fn parse(pem: &str) -> Result<Self, Wrong> {
        let certificates = shown(pem, CHAIN)?;
        let not_after = certificates.first().and_then(|own| not_after(own)).ok_or_else(|| {
            Wrong::new(Rule::Malformed, "the first certificate is not one of X.509")
        })?;
        if let Some(index) = certificates.iter().position(|it| self::not_after(it).is_none()) {
            let text = format!("certificate {index} (counted from 0) is not one of X.509");
            return Err(Wrong::new(Rule::Malformed, text));
        }
        Ok(Self { certificates, not_after })
    }

    /// The client's own certificate and those behind it.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// Until when the client's own certificate is valid.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The chain with its key: what a client identifies itself with. The key is PEM: PKCS#8, PKCS#1
    /// or SEC 1, not encrypted.
    ///
    /// # Errors
    ///
    /// MALFORMED where it is no such key, or fits another certificate.
    pub fn with_key(&self, pem: &[u8]) -> Result<CertifiedKey, Wrong> {
        let malformed = |text: &'static str| Wrong::new(Rule::Malformed, text);
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
            malformed(match ENCRYPTED.iter().any(|mark| holds(pem, mark)) {
                true => "is encrypted; `openssl pkey` writes it in clear",
                false => "must be a private key in PEM: PKCS#8, PKCS#1 or SEC 1",
            })
        })?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let made = CertifiedKey::from_der(self.certificates.clone(), key, &provider);
        made.map_err(|why| malformed(unfit(&why)))
    }
}

#[allow(clippy::wildcard_enum_match_arm)] // a foreign vocabulary, open at its end
fn unfit(why: &rustls::Error) -> &'static str {
    use rustls::Error as E;
    match why {
        E::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            "does not fit the first certificate of certificate_pem"
        }
        E::InvalidCertificate(_) => {
            "cannot be held against certificate_pem, whose first certificate is not one of X.509 \
             version 3"
        }
        _ => "must be RSA of 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, or Ed25519",
    }
}

fn holds(pem: &[u8], text: &[u8]) -> bool {
    pem.windows(text.len()).any(|window| window == text)
}

/// `notAfter` of a certificate (RFC 5280, section 4.1); none where it is not one.
fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let all = AnyRef::from_der(certificate).ok()?;
    let signed = AnyRef::decode(&mut SliceReader::new(all.value()).ok()?).ok()?;
    let mut fields = SliceReader::new(signed.value()).ok()?;
    let mut next = || AnyRef::decode(&mut fields).ok();
    // The version is left out where it is 1. Then serial, algorithm, issuer and validity.
    let serial = match next()? {
        version if version.tag().is_context_specific() => next()?,
        serial => serial,
    };
    let (_, _, validity) = (next()?, next()?, next()?);
    if serial.tag() != Tag::Integer || validity.tag() != Tag::Sequence {
        return None;
    }
    let mut times = SliceReader::new(validity.value()).ok()?;
    let _begin = AnyRef::decode(&mut times).ok()?;
    let end = AnyRef::decode(&mut times).ok()?;
    let end: Duration = match end.decode_as::<UtcTime>() {
        Ok(time) => time.to_unix_duration(),
        Err(_) => end.decode_as::<GeneralizedTime>().ok()?.to_unix_duration(),
    };
    i64::try_from(end.as_millis()).ok().map(Timestamp::from_millis)
}

#[cfg(test)]
mod tests;
