//! Certificates as callers write them: roots, pins, and our own with their keys.
//!
//! What is read here at the write is read again by whoever connects, so that nothing is stored that
//! no connection could be made with.

use std::fmt;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest, Sha256};

use crate::error::{Rule, Wrong};

mod client;

pub use client::{CHAIN, Chain};

/// Roots that a receiver may have of its own: room for an authority's old and new ones, and for
/// several of them.
pub const ROOTS: usize = 16;
/// Bytes of certificates in PEM: 16 of 2 KiB, as roots with large RSA keys have.
pub const PEM_LEN: usize = 32 * 1024;
/// Certificates that a receiver may be known by: this one and the next, at two sites.
pub const PINS: usize = 4;

/// Why a file or a text holds no certificates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemFault {
    /// One of them is none.
    #[error("certificate {index} (counted from 0): {why}")]
    Bad {
        /// Which one, from 0.
        index: usize,
        /// What is wrong with it.
        why: String,
    },
    /// There is none.
    #[error("holds no certificate in PEM: {what}")]
    Missing {
        /// What is there, and what to do about it.
        what: &'static str,
    },
}

/// The certificates of a PEM text, one at least. What stands between them is passed over.
///
/// # Errors
///
/// There is none, or one that is not PEM.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemFault> {
    let mut found = Vec::new();
    for (index, read) in CertificateDer::pem_slice_iter(pem).enumerate() {
        found.push(read.map_err(|why| PemFault::Bad { index, why: why.to_string() })?);
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let holds = |text: &[u8]| pem.windows(text.len()).any(|window| window == text);
    let what = if pem.trim_ascii().is_empty() {
        "it is empty"
    } else if pem.first() == Some(&0x30) {
        "it is DER; `openssl x509 -inform der` makes PEM of it"
    } else if holds(KEY) {
        "it holds a private key; give the certificate, and keep the key where it is"
    } else {
        "`-----BEGIN CERTIFICATE-----` is not in it"
    };
    Err(PemFault::Missing { what })
}

/// What every private key in PEM has in its first line.
const KEY: &[u8] = b"PRIVATE KEY-----";

/// Certificates that a caller gives to be kept in clear: so many at most, and no private key among
/// them.
pub(crate) fn shown(pem: &str, most: usize) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let malformed = |text: String| Wrong::new(Rule::Malformed, text);
    if pem.len() > PEM_LEN {
        return Err(Wrong::new(Rule::TooLong, format!("must be {PEM_LEN} bytes at most")));
    }
    if pem.as_bytes().windows(KEY.len()).any(|window| window == KEY) {
        let text = "holds a private key, and is shown to whoever may read it: give certificates";
        return Err(malformed(text.to_owned()));
    }
    let found = certificates(pem.as_bytes()).map_err(|why| malformed(why.to_string()))?;
    if found.len() > most {
        let text = format!("must be {most} certificates at most, are {}", found.len());
        return Err(Wrong::new(Rule::TooMany, text));
    }
    Ok(found)
}

/// Roots of a receiver's own: 1 to [`ROOTS`] certificates in PEM, of [`PEM_LEN`] bytes at most. Each
/// is an authority's, or the receiver's own where it has signed that itself.
///
/// # Errors
///
/// TOO_LONG, TOO_MANY, or MALFORMED where one cannot be a root.
pub fn roots(pem: &str) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let found = shown(pem, ROOTS)?;
    for (index, root) in found.iter().enumerate() {
        webpki::anchor_from_trusted_cert(root).map_err(|why| {
            let why = PemFault::Bad { index, why: format!("cannot be a root: {why:?}") };
            Wrong::new(Rule::Malformed, why.to_string())
        })?;
    }
    Ok(found)
}

/// A certificate, by the SHA-256 of its DER.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pin([u8; 32]);

impl Pin {
    /// Reads 64 hexadecimal digits in either case, with or without colons between pairs, as
    /// `openssl x509 -noout -fingerprint -sha256` prints them behind the `=`.
    ///
    /// # Errors
    ///
    /// MALFORMED.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let malformed = || {
            let text = "must be the SHA-256 of a certificate: 64 hexadecimal digits, as `openssl \
                        x509 -noout -fingerprint -sha256` prints them behind the `=`";
            Wrong::new(Rule::Malformed, text)
        };
        let pairs = text.split(':').all(|pair| pair.len() == 2);
        let digits = if pairs { text.replace(':', "") } else { text.to_owned() };
        let read = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).map_err(|_| malformed())?;
        read.try_into().map(Self).map_err(|_| malformed())
    }

    /// That of a certificate.
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Pin {
    /// 64 hexadecimal digits in lower case.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

#[cfg(test)]
mod tests;
