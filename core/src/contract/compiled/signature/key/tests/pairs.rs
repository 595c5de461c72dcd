//! RSA and ECDSA.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P256K1_SHA256_ASN1,
    ECDSA_P256K1_SHA256_FIXED, ECDSA_P521_SHA512_ASN1, ECDSA_P521_SHA512_FIXED,
    RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, VerificationAlgorithm,
};
use data_encoding::BASE64URL_NOPAD;

use super::*;
use crate::secret::{Curve, PairKind, pair_public};

/// RFC 7515, appendix A.2: the key, what is signed, and the signature.
const RS256_KEY: &str = include_str!("../../../../../../testdata/keys/rfc7515-a2.pem");
const RS256_TEXT: &[u8] =
    b"eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0\
      dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
const RS256_SIGNATURE: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAu\
    HIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6\
    xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1\
    phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

#[test]
fn the_vector_of_rs256() {
    let secret = pair_parse(PairKind::Rsa, RS256_KEY).unwrap();
    let key = key(SecretAlgorithm::Rsa, secret.expose());
    let made = signed(&key, RsaSha256, &[&RS256_TEXT[..20], &RS256_TEXT[20..]]);
    assert_eq!(BASE64URL_NOPAD.encode(made.as_ref()), RS256_SIGNATURE);
    assert_eq!(signed(&key, RsaSha256, &[RS256_TEXT]), made);
}

#[test]
fn the_other_side_accepts_every_algorithm_in_both_forms() {
    let both: [(_, &dyn VerificationAlgorithm, &dyn VerificationAlgorithm, _); 5] = [
        (RsaSha256, &RSA_PKCS1_2048_8192_SHA256, &RSA_PKCS1_2048_8192_SHA256, 256),
        (RsaPssSha256, &RSA_PSS_2048_8192_SHA256, &RSA_PSS_2048_8192_SHA256, 256),
        (EcdsaP256, &ECDSA_P256_SHA256_ASN1, &ECDSA_P256_SHA256_FIXED, 64),
        (EcdsaP521, &ECDSA_P521_SHA512_ASN1, &ECDSA_P521_SHA512_FIXED, 132),
        (EcdsaSecp256k1, &ECDSA_P256K1_SHA256_ASN1, &ECDSA_P256K1_SHA256_FIXED, 64),
    ];
    for (algorithm, der, raw, length) in both {
        let secret = made(algorithm.kind());
        let public = pair_public(algorithm.kind().pair().unwrap(), &secret).unwrap().der();
        let key = key(algorithm.kind(), secret.expose());
        for (form, by) in [(EcdsaForm::Der, der), (EcdsaForm::Raw, raw)] {
            let sign = |text: &[u8]| {
                let mut signer = key.signer(algorithm, form).unwrap();
                let (front, back) = text.split_at(text.len() / 2);
                signer.update(front);
                signer.update(back);
                signer.finish().unwrap()
            };
            let public = UnparsedPublicKey::new(by, &public);
            // So often that a number with leading zeros is among them.
            for round in 0..300_u32 {
                let text = round.to_be_bytes();
                let made = sign(&text);
                assert!(public.verify(&text, made.as_ref()).is_ok(), "{algorithm} {round}");
                assert!(public.verify(b"another", made.as_ref()).is_err());
                if form == EcdsaForm::Raw || !algorithm.is_ecdsa() {
                    assert_eq!(made.as_ref().len(), length);
                }
                if !algorithm.is_ecdsa() && round == 5 {
                    break;
                }
            }
            assert_eq!(sign(b"text") != sign(b"text"), algorithm.is_random(), "{algorithm}");
        }
    }
}

#[test]
fn only_pkcs8_of_the_kind_makes_a_key() {
    for (kind, bytes) in [
        (SecretAlgorithm::Rsa, vec![1; 32]),
        (SecretAlgorithm::EcdsaP256, Vec::new()),
        (SecretAlgorithm::EcdsaP521, made(SecretAlgorithm::EcdsaP256).expose().to_vec()),
    ] {
        let id = SecretId::parse("k").unwrap();
        let made = SigningKey::new(id, kind, &SecretBytes::new(bytes), Timestamp::MIN, None);
        assert_eq!(made.unwrap_err().rule, Rule::OutOfRange);
    }
}

#[test]
fn a_key_that_the_library_does_not_take_signs_nothing() {
    let secret = pair_parse(PairKind::Rsa, RS256_KEY).unwrap();
    let mut bytes = secret.expose().to_vec();
    bytes[100] ^= 1; // within the modulus: the structure is whole
    let key = key(SecretAlgorithm::Rsa, &bytes);
    let signer = key.signer(RsaSha256, EcdsaForm::Der).unwrap();
    assert_eq!(signer.finish(), Err(Unsigned));
    let other = pair_generate(PairKind::Ec(Curve::P256)).unwrap();
    assert_eq!(pair_public(PairKind::Rsa, &other).unwrap_err().rule, Rule::OutOfRange);
}
