//! Private keys of RSA and ECDSA: what is sealed is the key as DER of PKCS#8 (RFC 5958, version 1).
//!
//! As text it is PEM, or the base64 of that DER. PEM of the older forms, `RSA PRIVATE KEY` (PKCS#1)
//! and `EC PRIVATE KEY` (SEC 1), is read too. Whatever form it comes in, it is written anew by the
//! library that checked it, with its public half. The public half is then read from the structure,
//! without arithmetic.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256K1_SHA256_ASN1_SIGNING,
    ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
};
use data_encoding::BASE64;
use pkcs8::PrivateKeyInfoRef;
use pkcs8::der::Decode;
use rustls_pki_types::pem::SectionKind;
use sec1::{EcParameters, EcPrivateKey};
use zeroize::Zeroizing;

use super::public::{Curve, KEY_TEXT_LEN, Kind, PublicKey};
use super::{SecretBytes, decode_base64, pem};
use crate::error::{Rule, Wrong};

/// What a private key must be, in words.
const FORM: &str = "must be a private key as PEM (PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY) \
                    or as the base64 of its PKCS#8 DER";

/// A kind of key pairs that are kept as PKCS#8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairKind {
    /// RSA, of 2048, 3072 or 4096 bits.
    Rsa,
    /// ECDSA on a curve.
    Ec(Curve),
}

impl PairKind {
    /// The kind in words.
    pub fn name(self) -> &'static str {
        self.kind().name()
    }

    fn kind(self) -> Kind {
        match self {
            PairKind::Rsa => Kind::Rsa,
            PairKind::Ec(curve) => Kind::Ec(curve),
        }
    }
}

/// A structure that a private key came in.
struct Given {
    der: SecretBytes,
    form: Form,
}

enum Form {
    Pkcs8,
    Pkcs1,
    Sec1,
}

impl Given {
    fn parse(text: &str) -> Result<Self, Wrong> {
        if text.is_empty() {
            return Err(Wrong::new(Rule::Required, FORM));
        }
        if text.len() > KEY_TEXT_LEN {
            return Err(Wrong::new(Rule::TooLong, FORM));
        }
        Self::read(text).ok_or_else(|| Wrong::new(Rule::Malformed, FORM))
    }

    fn read(text: &str) -> Option<Self> {
        if !pem::is_pem(text) {
            return decode_base64(text).map(|der| Self { der, form: Form::Pkcs8 });
        }
        let (section, der) = pem::read(text)?;
        // Whatever other sections there are hold no private key.
        let form = [
            (SectionKind::PrivateKey, Form::Pkcs8),
            (SectionKind::RsaPrivateKey, Form::Pkcs1),
            (SectionKind::EcPrivateKey, Form::Sec1),
        ];
        let form = form.into_iter().find(|(known, _)| *known == section)?.1;
        Some(Self { der, form })
    }

    /// The kind of key that it holds; for RSA with its public half, whose size is checked.
    fn kind(&self) -> Result<Kind, Wrong> {
        let malformed = |_| Wrong::new(Rule::Malformed, FORM);
        let der = self.der.expose();
        match self.form {
            Form::Pkcs8 => {
                let info = PrivateKeyInfoRef::from_der(der).map_err(malformed)?;
                let kind = Kind::of(info.algorithm.oid, info.algorithm.parameters_oid().ok());
                if kind == Kind::Rsa {
                    rsa_public(info.private_key.as_bytes())?;
                }
                Ok(kind)
            }
            Form::Pkcs1 => rsa_public(der).map(|_| Kind::Rsa),
            Form::Sec1 => match EcPrivateKey::from_der(der).map_err(malformed)?.parameters {
                Some(EcParameters::NamedCurve(oid)) => Ok(Kind::of_curve(oid)),
                None => Ok(Kind::Other("a key of a curve without a name")),
            },
        }
    }

    /// The key as PKCS#8, written by the library, which has checked it.
    fn normal(&self, kind: PairKind) -> Result<SecretBytes, Wrong> {
        let read = || {
            let der = self.der.expose();
            match (kind, &self.form) {
                (PairKind::Rsa, Form::Pkcs8) => {
                    rsa_pkcs8(&rsa::KeyPair::from_pkcs8(der).ok()?).ok()
                }
                (PairKind::Rsa, Form::Pkcs1) => rsa_pkcs8(&rsa::KeyPair::from_der(der).ok()?).ok(),
                (PairKind::Rsa, Form::Sec1) | (PairKind::Ec(_), Form::Pkcs1) => None,
                (PairKind::Ec(curve), Form::Pkcs8 | Form::Sec1) => {
                    let pair = EcdsaKeyPair::from_private_key_der(signing(curve), der).ok()?;
                    ec_pkcs8(&pair).ok()
                }
            }
        };
        let text = || format!("is {} whose numbers do not fit", kind.name());
        read().ok_or_else(|| Wrong::new(Rule::OutOfRange, text()))
    }
}

/// The public half in an RSAPrivateKey.
fn rsa_public(der: &[u8]) -> Result<PublicKey, Wrong> {
    let key = pkcs1::RsaPrivateKeyRef::from_der(der);
    let key = key.map_err(|_| Wrong::new(Rule::Malformed, FORM))?;
    PublicKey::rsa(key.modulus, key.public_exponent)
}

fn rsa_pkcs8(pair: &rsa::KeyPair) -> Result<SecretBytes, Unspecified> {
    let der: Pkcs8V1Der<'_> = pair.as_der()?;
    Ok(SecretBytes::new(der.as_ref().to_vec()))
}

fn ec_pkcs8(pair: &EcdsaKeyPair) -> Result<SecretBytes, Unspecified> {
    Ok(SecretBytes::new(pair.to_pkcs8v1()?.as_ref().to_vec()))
}

fn signing(curve: Curve) -> &'static EcdsaSigningAlgorithm {
    match curve {
        Curve::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
        Curve::P521 => &ECDSA_P521_SHA512_ASN1_SIGNING,
        Curve::Secp256k1 => &ECDSA_P256K1_SHA256_ASN1_SIGNING,
    }
}

/// The key that a text stands for, as PKCS#8. What is wrong is said without the text.
///
/// # Errors
///
/// [`Rule::Required`] for no text, [`Rule::TooLong`] for one above [`KEY_TEXT_LEN`],
/// [`Rule::Malformed`] for what is no private key, and [`Rule::OutOfRange`] for one of another kind,
/// curve or size, which is named.
pub fn pair_parse(kind: PairKind, text: &str) -> Result<SecretBytes, Wrong> {
    let given = Given::parse(text)?;
    let found = given.kind()?;
    if found != kind.kind() {
        let text = format!("is {}; must be {}", found.name(), kind.name());
        return Err(Wrong::new(Rule::OutOfRange, text));
    }
    given.normal(kind)
}

/// The same for a key of any kind that there is, which is found out.
///
/// # Errors
///
/// As [`pair_parse`].
pub fn pair_parse_any(text: &str) -> Result<(PairKind, SecretBytes), Wrong> {
    let given = Given::parse(text)?;
    let kind = match given.kind()? {
        Kind::Rsa => PairKind::Rsa,
        Kind::Ec(curve) => PairKind::Ec(curve),
        other @ (Kind::Ed25519 | Kind::Other(_)) => {
            let text = format!("is {}; must be of RSA, P-256, P-521 or secp256k1", other.name());
            return Err(Wrong::new(Rule::OutOfRange, text));
        }
    };
    given.normal(kind).map(|key| (kind, key))
}

/// A new key as PKCS#8; RSA has 2048 bits, for which primes are searched: some 100 ms of a core.
/// The random bytes are the library's own.
///
/// # Errors
///
/// [`Unspecified`], when the library fails.
pub fn pair_generate(kind: PairKind) -> Result<SecretBytes, Unspecified> {
    match kind {
        PairKind::Rsa => rsa_pkcs8(&rsa::KeyPair::generate(KeySize::Rsa2048)?),
        PairKind::Ec(curve) => ec_pkcs8(&EcdsaKeyPair::generate(signing(curve))?),
    }
}

/// The public half of a key as PKCS#8.
///
/// # Errors
///
/// [`Rule::OutOfRange`] for what is no such key of this kind with its public half.
pub fn pair_public(kind: PairKind, key: &SecretBytes) -> Result<PublicKey, Wrong> {
    let read = || {
        let info = PrivateKeyInfoRef::from_der(key.expose()).ok()?;
        let found = Kind::of(info.algorithm.oid, info.algorithm.parameters_oid().ok());
        match kind {
            PairKind::Rsa if found == Kind::Rsa => rsa_public(info.private_key.as_bytes()).ok(),
            PairKind::Ec(curve) if found == Kind::Ec(curve) => {
                let inner = EcPrivateKey::from_der(info.private_key.as_bytes()).ok()?;
                PublicKey::ec(curve, inner.public_key?)
            }
            PairKind::Rsa | PairKind::Ec(_) => None,
        }
    };
    let text = || format!("must be {} as PKCS#8", kind.name());
    read().ok_or_else(|| Wrong::new(Rule::OutOfRange, text()))
}

/// A private key as PEM, `PRIVATE KEY`.
pub fn pair_pem(key: &SecretBytes) -> Zeroizing<String> {
    pem::write("PRIVATE KEY", key.expose())
}

/// A private key as the base64 of its PKCS#8.
pub fn pair_base64(key: &SecretBytes) -> Zeroizing<String> {
    Zeroizing::new(BASE64.encode(key.expose()))
}

#[cfg(test)]
mod tests;
