//! Public keys: what receivers hold, and the text forms it travels in.
//!
//! A key is a SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7), as PEM (RFC 7468) or as the base64
//! of its DER. Ed25519 keys have the form of Standard Webhooks besides, `whpk_` and base64.

use data_encoding::BASE64;
use pkcs8::der::asn1::{BitStringRef, Null, ObjectIdentifier, UintRef};
use pkcs8::der::{AnyRef, Decode, Encode};
use pkcs8::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};
use rustls_pki_types::pem::SectionKind;

use super::decode_base64;
use super::ed25519::ED25519_PUBLIC_LEN;
use super::pem;
use crate::error::{Rule, Wrong};

/// Bits that an RSA key may have.
pub const RSA_BITS: [usize; 3] = [2048, 3072, 4096];
/// Longest text of a key: the private half of the largest RSA key has 3.3 KiB as PEM.
pub const KEY_TEXT_LEN: usize = 8192;

/// What a public key must be, in words.
const FORM: &str = "must be a public key (SubjectPublicKeyInfo) as PEM or as the base64 of its DER";

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// Kinds of keys that are known by name only, to say what a refused one is.
const OTHERS: [(ObjectIdentifier, &str); 7] = [
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10"), "an RSA key for PSS only"),
    (ObjectIdentifier::new_unwrap("1.3.101.110"), "an X25519 key"),
    (ObjectIdentifier::new_unwrap("1.3.101.113"), "an Ed448 key"),
    (ObjectIdentifier::new_unwrap("1.2.840.10040.4.1"), "a DSA key"),
    (ObjectIdentifier::new_unwrap("1.3.132.0.33"), "a P-224 key"),
    (ObjectIdentifier::new_unwrap("1.3.132.0.34"), "a P-384 key"),
    (ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.1"), "a P-192 key"),
];

/// An elliptic curve of ECDSA keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// P-256 of FIPS 186, secp256r1.
    P256,
    /// P-521 of FIPS 186, secp521r1.
    P521,
    /// secp256k1 of SEC 2.
    Secp256k1,
}

impl Curve {
    /// All of them.
    pub const ALL: [Curve; 3] = [Curve::P256, Curve::P521, Curve::Secp256k1];

    /// Its name in JSON Web Keys (RFC 7518, RFC 8812).
    pub fn name(self) -> &'static str {
        match self {
            Curve::P256 => "P-256",
            Curve::P521 => "P-521",
            Curve::Secp256k1 => "secp256k1",
        }
    }

    /// Bytes of a coordinate.
    pub fn coordinate_len(self) -> usize {
        match self {
            Curve::P256 | Curve::Secp256k1 => 32,
            Curve::P521 => 66,
        }
    }

    fn oid(self) -> ObjectIdentifier {
        match self {
            Curve::P256 => ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7"),
            Curve::P521 => ObjectIdentifier::new_unwrap("1.3.132.0.35"),
            Curve::Secp256k1 => ObjectIdentifier::new_unwrap("1.3.132.0.10"),
        }
    }
}

/// What kind of key a structure says it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ed25519,
    Rsa,
    Ec(Curve),
    Other(&'static str),
}

impl Kind {
    pub(super) fn of(oid: ObjectIdentifier, parameters: Option<ObjectIdentifier>) -> Self {
        let other = |oid| OTHERS.iter().find(|(known, _)| *known == oid).map(|(_, name)| *name);
        match (oid, parameters) {
            (RSA, _) => Kind::Rsa,
            (ED25519, _) => Kind::Ed25519,
            (EC, Some(curve)) => Self::of_curve(curve),
            (EC, None) => Kind::Other("a key of a curve without a name"),
            (oid, _) => Kind::Other(other(oid).unwrap_or("a key of another kind")),
        }
    }

    /// The kind of a key on a curve.
    pub(super) fn of_curve(oid: ObjectIdentifier) -> Self {
        match Curve::ALL.into_iter().find(|curve| curve.oid() == oid) {
            Some(curve) => Kind::Ec(curve),
            None => {
                let other = OTHERS.iter().find(|(known, _)| *known == oid);
                Kind::Other(other.map_or("a key of another curve", |(_, name)| name))
            }
        }
    }

    /// The kind in words.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Ed25519 => "an Ed25519 key",
            Kind::Rsa => "an RSA key",
            Kind::Ec(Curve::P256) => "a P-256 key",
            Kind::Ec(Curve::P521) => "a P-521 key",
            Kind::Ec(Curve::Secp256k1) => "a secp256k1 key",
            Kind::Other(name) => name,
        }
    }
}

/// The half of a key pair that receivers hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// Of Ed25519.
    Ed25519([u8; ED25519_PUBLIC_LEN]),
    /// Of RSA: its modulus and exponent, big-endian, without leading zeros.
    Rsa {
        /// The modulus.
        modulus: Box<[u8]>,
        /// The public exponent.
        exponent: Box<[u8]>,
    },
    /// Of ECDSA.
    Ec {
        /// Its curve.
        curve: Curve,
        /// The uncompressed point (SEC 1, section 2.3.3): 4, then both coordinates.
        point: Box<[u8]>,
    },
}

impl PublicKey {
    /// The key that a text stands for: PEM, or the base64 of DER.
    ///
    /// # Errors
    ///
    /// [`Rule::Required`] for no text, [`Rule::TooLong`], [`Rule::Malformed`] for what is neither,
    /// and [`Rule::OutOfRange`] for a key of another kind, curve or size, which is named.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        if text.is_empty() {
            return Err(Wrong::new(Rule::Required, FORM));
        }
        if text.len() > KEY_TEXT_LEN {
            return Err(Wrong::new(Rule::TooLong, FORM));
        }
        let malformed = || Wrong::new(Rule::Malformed, FORM);
        match pem::is_pem(text) {
            true => match pem::read(text) {
                Some((SectionKind::PublicKey, der)) => Self::from_der(der.expose()),
                Some(_) | None => Err(malformed()),
            },
            false => Self::from_der(decode_base64(text).ok_or_else(malformed)?.expose()),
        }
    }

    /// The key of a SubjectPublicKeyInfo.
    fn from_der(der: &[u8]) -> Result<Self, Wrong> {
        let malformed = || Wrong::new(Rule::Malformed, FORM);
        let info = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| malformed())?;
        let key = info.subject_public_key.as_bytes().ok_or_else(malformed)?;
        match Kind::of(info.algorithm.oid, info.algorithm.parameters_oid().ok()) {
            Kind::Ed25519 => key.try_into().map(PublicKey::Ed25519).map_err(|_| malformed()),
            Kind::Rsa => {
                let key = pkcs1::RsaPublicKeyRef::from_der(key).map_err(|_| malformed())?;
                Self::rsa(key.modulus, key.public_exponent)
            }
            Kind::Ec(curve) => Self::ec(curve, key).ok_or_else(malformed),
            Kind::Other(name) => {
                let text = format!("is {name}; must be of RSA, P-256, P-521, secp256k1 or Ed25519");
                Err(Wrong::new(Rule::OutOfRange, text))
            }
        }
    }

    /// An RSA key of a size that is allowed.
    pub(super) fn rsa(modulus: UintRef<'_>, exponent: UintRef<'_>) -> Result<Self, Wrong> {
        let (modulus, exponent) = (modulus.as_bytes(), exponent.as_bytes());
        let unused = modulus.first().map_or(0, |first| first.leading_zeros() as usize);
        let bits = 8 * modulus.len() - unused;
        if !RSA_BITS.contains(&bits) {
            let text = format!("is an RSA key of {bits} bits; must be of 2048, 3072 or 4096");
            return Err(Wrong::new(Rule::OutOfRange, text));
        }
        Ok(PublicKey::Rsa { modulus: modulus.into(), exponent: exponent.into() })
    }

    /// A key on a curve; none where it is no uncompressed point.
    pub(super) fn ec(curve: Curve, point: &[u8]) -> Option<Self> {
        let whole = point.len() == 1 + 2 * curve.coordinate_len() && point.first() == Some(&4);
        whole.then(|| PublicKey::Ec { curve, point: point.into() })
    }

    /// What it is in words, as in `an RSA key`.
    pub fn name(&self) -> &'static str {
        match self {
            PublicKey::Ed25519(_) => Kind::Ed25519.name(),
            PublicKey::Rsa { .. } => Kind::Rsa.name(),
            PublicKey::Ec { curve, .. } => Kind::Ec(*curve).name(),
        }
    }

    /// The key as DER of a SubjectPublicKeyInfo.
    pub fn der(&self) -> Vec<u8> {
        let made = match self {
            PublicKey::Ed25519(key) => info(ED25519, None, key),
            PublicKey::Rsa { .. } => {
                self.pkcs1().and_then(|key| info(RSA, Some(AnyRef::from(Null)), &key))
            }
            PublicKey::Ec { curve, point } => {
                let oid = curve.oid();
                info(EC, Some(AnyRef::from(&oid)), point)
            }
        };
        // DER has room for gigabytes, and this is less than a kilobyte.
        made.unwrap_or_default()
    }

    /// An RSA key as the RSAPublicKey of RFC 8017, appendix A.1.1.
    fn pkcs1(&self) -> pkcs8::der::Result<Vec<u8>> {
        let (modulus, exponent) = match self {
            PublicKey::Rsa { modulus, exponent } => (&**modulus, &**exponent),
            PublicKey::Ed25519(_) | PublicKey::Ec { .. } => (&[][..], &[][..]),
        };
        let (modulus, public_exponent) = (UintRef::new(modulus)?, UintRef::new(exponent)?);
        pkcs1::RsaPublicKeyRef { modulus, public_exponent }.to_der()
    }

    /// The key as the base64 of [`PublicKey::der`].
    pub fn base64(&self) -> String {
        BASE64.encode(&self.der())
    }

    /// The key as PEM, `PUBLIC KEY`.
    pub fn pem(&self) -> String {
        pem::write("PUBLIC KEY", &self.der()).to_string()
    }
}

fn info(
    oid: ObjectIdentifier,
    parameters: Option<AnyRef<'_>>,
    key: &[u8],
) -> pkcs8::der::Result<Vec<u8>> {
    let algorithm = AlgorithmIdentifierRef { oid, parameters };
    let subject_public_key = BitStringRef::from_bytes(key)?;
    SubjectPublicKeyInfoRef { algorithm, subject_public_key }.to_der()
}

#[cfg(test)]
mod tests;
