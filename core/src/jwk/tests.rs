use serde_json::{Value, json};

use super::*;
use crate::secret::ED25519_PUBLIC_LEN;

/// RFC 8037, appendices A.1 and A.2.
const PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

fn ed25519(id: &str, key: [u8; ED25519_PUBLIC_LEN]) -> PublishedKey {
    PublishedKey { id: id.to_owned(), key: PublicKey::Ed25519(key), rsa: None }
}

fn public() -> [u8; ED25519_PUBLIC_LEN] {
    BASE64URL_NOPAD.decode(PUBLIC.as_bytes()).unwrap().try_into().unwrap()
}

fn read(key: &PublishedKey) -> Value {
    serde_json::from_str(&jwk(key)).unwrap()
}

#[test]
fn the_key_of_rfc_8037() {
    let expected = json!({
        "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": "a\"b\\", "x": PUBLIC,
    });
    assert_eq!(read(&ed25519("a\"b\\", public())), expected);
}

/// RFC 7515, appendices A.3 and A.4.
#[test]
fn the_keys_of_rfc_7515() {
    let p256 = [
        "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    ];
    let p521 = [
        "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
        "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2",
    ];
    for (curve, name, alg, [x, y]) in
        [(Curve::P256, "P-256", "ES256", p256), (Curve::P521, "P-521", "ES512", p521)]
    {
        let bytes = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).unwrap();
        let point = [vec![4], bytes(x), bytes(y)].concat().into();
        let key = PublicKey::Ec { curve, point };
        let key = PublishedKey { id: "k".to_owned(), key, rsa: None };
        let expected = json!({
            "kty": "EC", "crv": name, "use": "sig", "alg": alg, "kid": "k", "x": x, "y": y,
        });
        assert_eq!(read(&key), expected);
    }
}

#[test]
fn rsa_keys_say_how_they_sign_where_it_is_one_way() {
    for (rsa, alg) in [
        (Some(RsaUse::Pkcs1), json!("RS256")),
        (Some(RsaUse::Pss), json!("PS256")),
        (None, json!(null)),
    ] {
        let (modulus, exponent) = (vec![0xff; 256].into(), vec![1, 0, 1].into());
        let key = PublicKey::Rsa { modulus, exponent };
        let made = read(&PublishedKey { id: "k".to_owned(), key, rsa });
        assert_eq!((&made["alg"], &made["e"]), (&alg, &json!("AQAB")));
        assert_eq!(made["n"].as_str().unwrap().len(), 342);
    }
}

#[test]
fn sets_keep_their_order() {
    assert_eq!(jwks(&[]), r#"{"keys":[]}"#);
    let (a, b) = (ed25519("a", public()), ed25519("b", [0; 32]));
    let set = jwks(&[b.clone(), a.clone()]);
    assert_eq!(set, format!(r#"{{"keys":[{},{}]}}"#, jwk(&b), jwk(&a)));
    assert!(serde_json::from_str::<Value>(&set).is_ok());
}
