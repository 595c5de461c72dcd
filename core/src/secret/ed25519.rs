//! Ed25519 key material: what is sealed is the 32-byte seed, from which everything else follows.
//!
//! As text it has the form of Standard Webhooks: `whsk_` and the base64 of seed and public key (or
//! of the seed alone) for the half that signs, `whpk_` and the base64 of the public key for the
//! half that receivers hold.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use data_encoding::BASE64;

use super::{SecretBytes, decode_base64};
use crate::error::{Rule, Wrong};

/// Bytes of a seed.
pub const ED25519_SEED_LEN: usize = 32;
/// Bytes of a public key.
pub const ED25519_PUBLIC_LEN: usize = 32;

/// In front of a private key.
const PRIVATE_PREFIX: &str = "whsk_";
/// In front of a public key.
const PUBLIC_PREFIX: &str = "whpk_";
/// What a private key must be, in words.
const FORM: &str = "must be whsk_ and the base64 of 64 bytes (seed and public key) or 32 (seed)";
/// Base64 characters of 64 bytes, with padding.
const TEXT_LEN: usize = 88;

/// The seed that a text stands for. What is wrong is said without the text.
///
/// # Errors
///
/// [`Rule::Required`] for no text, [`Rule::TooLong`], [`Rule::Malformed`] for another prefix or
/// what is not base64, [`Rule::OutOfRange`] for another number of bytes, and [`Rule::Malformed`]
/// for a public key that is not the seed's.
pub fn ed25519_parse(text: &str) -> Result<SecretBytes, Wrong> {
    if text.is_empty() {
        return Err(Wrong::new(Rule::Required, FORM));
    }
    let malformed = || Wrong::new(Rule::Malformed, FORM);
    let body = text.strip_prefix(PRIVATE_PREFIX).ok_or_else(malformed)?;
    if body.len() > TEXT_LEN {
        return Err(Wrong::new(Rule::TooLong, FORM));
    }
    let material = decode_base64(body).ok_or_else(malformed)?;
    let Some((seed, public)) = material.expose().split_at_checked(ED25519_SEED_LEN) else {
        return Err(Wrong::new(Rule::OutOfRange, FORM));
    };
    match public.len() {
        0 => {}
        ED25519_PUBLIC_LEN => {
            if Ed25519KeyPair::from_seed_and_public_key(seed, public).is_err() {
                let text = "the public key after the seed is not the seed's";
                return Err(Wrong::new(Rule::Malformed, text));
            }
        }
        _ => return Err(Wrong::new(Rule::OutOfRange, FORM)),
    }
    Ok(SecretBytes::new(seed.to_vec()))
}

/// A new seed; `random` fills a buffer with random bytes.
pub fn ed25519_generate(random: &mut dyn FnMut(&mut [u8])) -> SecretBytes {
    let mut seed = SecretBytes::new(vec![0; ED25519_SEED_LEN]);
    random(&mut seed.0);
    seed
}

/// The public key of a seed.
///
/// # Errors
///
/// [`Rule::OutOfRange`] for a seed that is not 32 bytes.
pub fn ed25519_public(seed: &SecretBytes) -> Result<[u8; ED25519_PUBLIC_LEN], Wrong> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose()).ok();
    let public = pair.and_then(|pair| pair.public_key().as_ref().try_into().ok());
    public.ok_or_else(|| Wrong::new(Rule::OutOfRange, "an Ed25519 seed must be 32 bytes"))
}

/// A public key as receivers are given it: `whpk_` and its base64.
pub fn ed25519_public_text(public: &[u8; ED25519_PUBLIC_LEN]) -> String {
    format!("{PUBLIC_PREFIX}{}", BASE64.encode(public))
}

/// What a public key must be, in words.
const PUBLIC_FORM: &str = "must be whpk_ and the base64 of 32 bytes (a public key)";

/// The public key that a text stands for: the other way around of [`ed25519_public_text`].
///
/// # Errors
///
/// [`Rule::Required`] for no text, [`Rule::TooLong`], [`Rule::Malformed`] for another prefix or
/// what is not base64, and [`Rule::OutOfRange`] for another number of bytes.
pub fn ed25519_public_parse(text: &str) -> Result<[u8; ED25519_PUBLIC_LEN], Wrong> {
    if text.is_empty() {
        return Err(Wrong::new(Rule::Required, PUBLIC_FORM));
    }
    let malformed = || Wrong::new(Rule::Malformed, PUBLIC_FORM);
    let body = text.strip_prefix(PUBLIC_PREFIX).ok_or_else(malformed)?;
    if body.len() > TEXT_LEN {
        return Err(Wrong::new(Rule::TooLong, PUBLIC_FORM));
    }
    let key = decode_base64(body).ok_or_else(malformed)?;
    key.expose().try_into().map_err(|_| Wrong::new(Rule::OutOfRange, PUBLIC_FORM))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first key pair of RFC 8032, section 7.1.
    const SEED: &str = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
    const PUBLIC: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    const BOTH: &str =
        "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg==";

    #[test]
    fn both_forms_of_a_private_key_are_read() {
        let seed = SecretBytes::new(BASE64.decode(SEED.as_bytes()).unwrap());
        for text in [SEED, BOTH, SEED.trim_end_matches('='), BOTH.trim_end_matches('=')] {
            assert_eq!(ed25519_parse(&format!("whsk_{text}")), Ok(seed.clone()));
        }
        let public = ed25519_public(&seed).unwrap();
        assert_eq!(ed25519_public_text(&public), format!("whpk_{PUBLIC}"));
    }

    #[test]
    fn public_keys_are_read_as_they_are_written() {
        let key: [u8; 32] = BASE64.decode(PUBLIC.as_bytes()).unwrap().try_into().unwrap();
        for text in [PUBLIC, PUBLIC.trim_end_matches('=')] {
            assert_eq!(ed25519_public_parse(&format!("whpk_{text}")), Ok(key));
        }
        for (text, rule) in [
            (String::new(), Rule::Required),
            (format!("whsk_{SEED}"), Rule::Malformed),
            (format!("whpk_!{PUBLIC}"), Rule::Malformed),
            (format!("whpk_{BOTH}"), Rule::OutOfRange),
            (format!("whpk_{BOTH}AAAA"), Rule::TooLong),
        ] {
            let wrong = ed25519_public_parse(&text).unwrap_err();
            assert_eq!(wrong.rule, rule, "{text:.99}");
            assert!(text.len() < 9 || !wrong.description.contains(&text[8..]));
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_text() {
        let mut other = BASE64.decode(BOTH.as_bytes()).unwrap();
        other[63] ^= 1;
        let other = format!("whsk_{}", BASE64.encode(&other));
        let bytes = |count: usize| format!("whsk_{}", BASE64.encode(&vec![7; count]));
        for (text, rule) in [
            (String::new(), Rule::Required),
            (SEED.to_owned(), Rule::Malformed),
            (format!("whsec_{SEED}"), Rule::Malformed),
            (format!("whpk_{PUBLIC}"), Rule::Malformed),
            (format!("whsk_{}!", &SEED[1..]), Rule::Malformed),
            ("whsk_".to_owned(), Rule::OutOfRange),
            (bytes(31), Rule::OutOfRange),
            (bytes(33), Rule::OutOfRange),
            (bytes(63), Rule::OutOfRange),
            (bytes(66), Rule::OutOfRange),
            (bytes(67), Rule::TooLong),
            (bytes(10_000), Rule::TooLong),
            (other, Rule::Malformed),
        ] {
            let wrong = ed25519_parse(&text).unwrap_err();
            assert_eq!(wrong.rule, rule, "{text:.99}");
            assert!(text.len() < 9 || !wrong.description.contains(&text[8..]));
        }
    }

    #[test]
    fn generated_seeds_are_random_bytes() {
        let mut counter = 0;
        let mut random = |buffer: &mut [u8]| {
            counter += 1;
            buffer.fill(counter);
        };
        assert_eq!(ed25519_generate(&mut random), SecretBytes::new(vec![1; 32]));
        assert_eq!(ed25519_generate(&mut random), SecretBytes::new(vec![2; 32]));
    }

    #[test]
    fn only_seeds_have_a_public_key() {
        for length in [0, 31, 33, 64] {
            let wrong = ed25519_public(&SecretBytes::new(vec![1; length])).unwrap_err();
            assert_eq!(wrong.rule, Rule::OutOfRange);
        }
    }
}
