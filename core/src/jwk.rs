//! Public keys as JSON Web Keys (RFC 7517; Ed25519 by RFC 8037), for receivers that fetch them.

use data_encoding::BASE64URL_NOPAD;

use crate::json::write_string;
use crate::secret::ED25519_PUBLIC_LEN;

/// An Ed25519 public key as a JSON Web Key; `kid` tells it from others.
pub fn jwk_ed25519(kid: &str, public: &[u8; ED25519_PUBLIC_LEN]) -> String {
    let mut name = Vec::new();
    write_string(&mut name, kid);
    let (kid, x) = (String::from_utf8_lossy(&name), BASE64URL_NOPAD.encode(public));
    format!(r#"{{"kty":"OKP","crv":"Ed25519","use":"sig","alg":"EdDSA","kid":{kid},"x":"{x}"}}"#)
}

/// Ed25519 public keys, each with its `kid`, as a JSON Web Key Set, in the order given.
pub fn jwks(keys: &[(&str, [u8; ED25519_PUBLIC_LEN])]) -> String {
    let keys: Vec<_> = keys.iter().map(|(kid, public)| jwk_ed25519(kid, public)).collect();
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// RFC 8037, appendices A.1 and A.2.
    const PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn public() -> [u8; ED25519_PUBLIC_LEN] {
        BASE64URL_NOPAD.decode(PUBLIC.as_bytes()).unwrap().try_into().unwrap()
    }

    #[test]
    fn the_key_of_rfc_8037() {
        let key: Value = serde_json::from_str(&jwk_ed25519("a\"b\\", &public())).unwrap();
        let expected = json!({
            "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": "a\"b\\", "x": PUBLIC,
        });
        assert_eq!(key, expected);
    }

    #[test]
    fn sets_keep_their_order() {
        assert_eq!(jwks(&[]), r#"{"keys":[]}"#);
        let (a, b) = (jwk_ed25519("a", &public()), jwk_ed25519("b", &[0; 32]));
        let set = jwks(&[("b", [0; 32]), ("a", public())]);
        assert_eq!(set, format!(r#"{{"keys":[{b},{a}]}}"#));
        assert!(serde_json::from_str::<Value>(&set).is_ok());
    }
}
