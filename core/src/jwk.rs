//! Public keys as JSON Web Keys (RFC 7517; RFC 7518 for RSA and ECDSA, RFC 8037 for Ed25519, RFC 8812
//! for secp256k1), for receivers that fetch them.

use data_encoding::BASE64URL_NOPAD;

use crate::json::write_string;
use crate::secret::{Curve, PublicKey};

/// A public key to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedKey {
    /// Tells it from others.
    pub id: String,
    /// The key.
    pub key: PublicKey,
    /// How an RSA key signs; none: in both ways, or it is no RSA key.
    pub rsa: Option<RsaUse>,
}

/// How an RSA key signs, always with SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RsaUse {
    /// With the padding of PKCS#1 v1.5.
    Pkcs1,
    /// With the padding of PSS.
    Pss,
}

/// A public key as a JSON Web Key.
pub fn jwk(it: &PublishedKey) -> String {
    let mut name = Vec::new();
    write_string(&mut name, &it.id);
    let kid = String::from_utf8_lossy(&name);
    let text = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
    match &it.key {
        PublicKey::Ed25519(key) => {
            let x = text(key);
            format!(
                r#"{{"kty":"OKP","crv":"Ed25519","use":"sig","alg":"EdDSA","kid":{kid},"x":"{x}"}}"#
            )
        }
        PublicKey::Rsa { modulus, exponent } => {
            let (n, e) = (text(modulus), text(exponent));
            let alg = match it.rsa {
                Some(RsaUse::Pkcs1) => r#""alg":"RS256","#,
                Some(RsaUse::Pss) => r#""alg":"PS256","#,
                None => "",
            };
            format!(r#"{{"kty":"RSA","use":"sig",{alg}"kid":{kid},"n":"{n}","e":"{e}"}}"#)
        }
        PublicKey::Ec { curve, point } => {
            let coordinates = point.get(1..).unwrap_or_default();
            let (x, y) = coordinates
                .split_at_checked(curve.coordinate_len())
                .map_or_else(Default::default, |(x, y)| (text(x), text(y)));
            let (crv, alg) = (curve.name(), algorithm(*curve));
            format!(
                r#"{{"kty":"EC","crv":"{crv}","use":"sig","alg":"{alg}","kid":{kid},"x":"{x}","y":"{y}"}}"#
            )
        }
    }
}

/// The algorithm of JSON Web Signatures that a curve's keys sign with.
fn algorithm(curve: Curve) -> &'static str {
    match curve {
        Curve::P256 => "ES256",
        Curve::P521 => "ES512",
        Curve::Secp256k1 => "ES256K",
    }
}

/// Public keys as a JSON Web Key Set, in the order given.
pub fn jwks(keys: &[PublishedKey]) -> String {
    let keys: Vec<_> = keys.iter().map(jwk).collect();
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

#[cfg(test)]
mod tests;
