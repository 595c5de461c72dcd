use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use proptest::prelude::*;
use ring::signature::{ED25519, UnparsedPublicKey};

use super::SignatureAlgorithm as Of;
use super::SignatureAlgorithm::{Ed25519, HmacSha1, HmacSha256, HmacSha512};
use super::*;
use crate::secret::ed25519_public;

fn key(algorithm: SecretAlgorithm, bytes: &[u8]) -> SigningKey {
    let (id, secret) = (SecretId::parse("k").unwrap(), SecretBytes::new(bytes.to_vec()));
    SigningKey::new(id, algorithm, &secret, Timestamp::MIN, None).unwrap()
}

fn signed(key: &SigningKey, algorithm: SignatureAlgorithm, pieces: &[&[u8]]) -> SignatureBytes {
    let mut signer = key.signer(algorithm).unwrap();
    pieces.iter().for_each(|piece| signer.update(piece));
    signer.finish()
}

fn mac(algorithm: SignatureAlgorithm, bytes: &[u8], message: &[u8]) -> String {
    HEXLOWER.encode(signed(&key(SecretAlgorithm::Hmac, bytes), algorithm, &[message]).as_ref())
}

const LONG: &[u8] = b"Test Using Larger Than Block-Size Key - Hash Key First";

/// RFC 2202, section 3: test cases 1, 2, 3 and 6.
#[test]
fn the_vectors_of_hmac_sha1() {
    for (key, message, expected) in [
        (&[0x0b; 20][..], &b"Hi There"[..], "b617318655057264e28bc0b6fb378c8ef146be00"),
        (b"Jefe", b"what do ya want for nothing?", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
        (&[0xaa; 20], &[0xdd; 50], "125d7342b9ac11cd91a39af48aa17b4f63f175d3"),
        (&[0xaa; 80], LONG, "aa4ae5e15272d00e95705637ce8a3b55ed402112"),
    ] {
        assert_eq!(mac(HmacSha1, key, message), expected);
    }
}

/// RFC 4231, sections 4.2, 4.3, 4.4 and 4.7.
#[test]
fn the_vectors_of_hmac_sha2() {
    for (key, message, sha256, sha512) in [
        (
            &[0x0b; 20][..],
            &b"Hi There"[..],
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde\
             daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
        ),
        (
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554\
             9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
        ),
        (
            &[0xaa; 20],
            &[0xdd; 50],
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
            "fa73b0089d56a284efb0f0756c890be9b1b5dbdd8ee81a3655f83e33b2279d39\
             bf3e848279a722c806b485a47e67c807b946a337bee8942674278859e13292fb",
        ),
        (
            &[0xaa; 131],
            LONG,
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352\
             6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598",
        ),
    ] {
        assert_eq!(mac(HmacSha256, key, message), sha256);
        assert_eq!(mac(HmacSha512, key, message), sha512);
    }
}

/// RFC 8032, section 7.1: seed, public key, message, signature.
#[test]
fn the_vectors_of_ed25519() {
    for (seed, public, message, signature) in [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ] {
        let bytes = |hex: &str| HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).unwrap();
        let pair = key(SecretAlgorithm::Ed25519, &bytes(seed));
        assert_eq!(ed25519_public(&SecretBytes::new(bytes(seed))).unwrap().to_vec(), bytes(public));
        let made = signed(&pair, Ed25519, &[&bytes(message)]);
        assert_eq!(HEXLOWER.encode(made.as_ref()), signature);
    }
}

#[test]
fn keys_sign_with_algorithms_of_their_kind_only() {
    let (shared, pair) =
        (key(SecretAlgorithm::Hmac, &[1; 32]), key(SecretAlgorithm::Ed25519, &[1; 32]));
    for algorithm in [HmacSha1, HmacSha256, HmacSha512] {
        assert!(shared.signer(algorithm).is_some() && pair.signer(algorithm).is_none());
    }
    assert!(shared.signer(Ed25519).is_none() && pair.signer(Ed25519).is_some());
}

#[test]
fn an_ed25519_seed_is_32_bytes() {
    for length in [0, 31, 33, 64] {
        let (id, seed) = (SecretId::parse("k").unwrap(), SecretBytes::new(vec![1; length]));
        let made = SigningKey::new(id, SecretAlgorithm::Ed25519, &seed, Timestamp::MIN, None);
        assert_eq!(made.unwrap_err().rule, Rule::OutOfRange);
    }
}

#[test]
fn signatures_in_the_making_are_not_printed() {
    let key = key(SecretAlgorithm::Ed25519, &[1; 32]);
    let mut signer = key.signer(Ed25519).unwrap();
    signer.update(b"event data");
    assert_eq!(format!("{signer:?}"), "Signer(redacted)");
}

proptest! {
    #[test]
    fn pieces_sign_as_the_whole_and_every_time_alike(
        bytes in prop::array::uniform32(any::<u8>()),
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..5),
    ) {
        let whole = pieces.concat();
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        for &algorithm in SignatureAlgorithm::ALL {
            let kind = match algorithm {
                HmacSha1 | HmacSha256 | HmacSha512 => SecretAlgorithm::Hmac,
                Of::Md5 | Of::Sha1 | Of::Sha256 | Of::Sha512 => {
                    SecretAlgorithm::Hmac
                }
                Ed25519 => SecretAlgorithm::Ed25519,
            };
            let key = key(kind, &bytes);
            let made = signed(&key, algorithm, &pieces);
            prop_assert_eq!(made, signed(&key.clone(), algorithm, &[&whole]));
            if algorithm == Ed25519 {
                let public = ed25519_public(&SecretBytes::new(bytes.to_vec())).unwrap();
                let public = UnparsedPublicKey::new(&ED25519, public);
                prop_assert!(public.verify(&whole, made.as_ref()).is_ok());
            }
        }
    }

    /// Another library makes the same of keys of any length.
    #[test]
    fn hmac_agrees_with_another_library(
        bytes in prop::collection::vec(any::<u8>(), 0..=256),
        message in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        use ::hmac::{Hmac, Mac};
        let mut theirs = <Hmac<sha2::Sha256> as Mac>::new_from_slice(&bytes).unwrap();
        theirs.update(&message);
        prop_assert_eq!(mac(HmacSha256, &bytes, &message), HEXLOWER.encode(&theirs.finalize().into_bytes()));
        let mut theirs = <Hmac<sha2::Sha512> as Mac>::new_from_slice(&bytes).unwrap();
        theirs.update(&message);
        prop_assert_eq!(mac(HmacSha512, &bytes, &message), HEXLOWER.encode(&theirs.finalize().into_bytes()));
    }
}
