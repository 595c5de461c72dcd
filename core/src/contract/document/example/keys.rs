//! The keys that sign examples.
//!
//! Those of the files beside this one are published with the program: they are for examples only.

use crate::clock::Timestamp;
use crate::contract::compiled::{Contract, SigningKey, SigningKeys};
use crate::error::Wrong;
use crate::id::SecretId;
use crate::model::SecretAlgorithm;
use crate::secret::{SecretBytes, ed25519_parse, key_parse, pair_parse_any};

/// The key that signs examples that name none, as key bytes: as many as any form wants.
const KEY: &[u8; 32] = b"0123456789abcdef0123456789abcdef";
/// How the text of an Ed25519 secret begins.
const ED25519: &str = "whsk_";
/// How PEM begins.
const PEM: &str = "-----BEGIN ";

/// The keys of an example: the one it names; else, where the contract requires one, one of each kind
/// that it uses.
pub(super) fn keys(
    contract: &Contract,
    id: &SecretId,
    secret: Option<&str>,
) -> Result<SigningKeys, Wrong> {
    let form = &contract.secret().form;
    let key = |algorithm, key: &SecretBytes| {
        SigningKey::new(id.clone(), algorithm, key, Timestamp::from_millis(0), None)
    };
    let made = match secret {
        Some(text) if text.starts_with(ED25519) => {
            vec![key(SecretAlgorithm::Ed25519, &ed25519_parse(text)?)?]
        }
        Some(text) if text.starts_with(PEM) => {
            let (kind, secret) = pair_parse_any(text)?;
            vec![key(kind.algorithm(), &secret)?]
        }
        Some(text) => vec![key(SecretAlgorithm::Hmac, &form.parse(text)?)?],
        None if !contract.secret().required => Vec::new(),
        None => {
            let used = SecretAlgorithm::ALL.iter().filter(|kind| contract.uses(**kind));
            let fixed = |kind: &SecretAlgorithm| match fixed(*kind) {
                Some(pem) => key(*kind, &key_parse(*kind, form, pem)?),
                None => key(*kind, &SecretBytes::new(KEY.to_vec())),
            };
            used.map(fixed).collect::<Result<_, _>>()?
        }
    };
    Ok(SigningKeys::new(made))
}

/// The key pair of a kind that signs examples that name none; none where [`KEY`] does.
fn fixed(kind: SecretAlgorithm) -> Option<&'static str> {
    match kind {
        SecretAlgorithm::Hmac | SecretAlgorithm::Ed25519 => None,
        SecretAlgorithm::Rsa => Some(include_str!("rsa.pem")),
        SecretAlgorithm::EcdsaP256 => Some(include_str!("p256.pem")),
        SecretAlgorithm::EcdsaP521 => Some(include_str!("p521.pem")),
        SecretAlgorithm::EcdsaSecp256k1 => Some(include_str!("secp256k1.pem")),
    }
}
