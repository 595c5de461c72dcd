//! Standard Webhooks 1.0 signatures, as a receiver verifies them.
//!
//! `webhook-signature` holds one or more `v1,<base64>` (others, as `v1a,…`, are passed over), each
//! HMAC-SHA256 over `{webhook-id}.{webhook-timestamp}.{body}`. One that fits one trusted secret is
//! enough: that is how secrets rotate.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, Mac};
use http::HeaderMap;
use pregon_core::clock::Timestamp;
use serde::Serialize;
use sha2::Sha256;
use zeroize::Zeroizing;

/// How far a timestamp may be from now, either way: what the reference libraries use.
pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);

const ID: &str = "webhook-id";
const TIMESTAMP: &str = "webhook-timestamp";
const SIGNATURE: &str = "webhook-signature";

const PREFIX: &str = "whsec_";

/// The standard alphabet; padding as it comes.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What verification says about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Verdict {
    /// Signed with a trusted secret, just now.
    Verified,
    /// Signed, but not by a trusted secret, or not this id, timestamp and body.
    WrongSignature,
    /// No `webhook-signature`.
    Unsigned,
    /// Rightly signed, but the timestamp is more than five minutes from now.
    Stale,
    /// Signed, but no secret was given to verify it with.
    Unchecked,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Verified => "VERIFIED",
            Verdict::WrongSignature => "WRONG_SIGNATURE",
            Verdict::Unsigned => "UNSIGNED",
            Verdict::Stale => "STALE",
            Verdict::Unchecked => "UNCHECKED",
        })
    }
}

/// A secret to verify with.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Reads `whsec_` and base64. The error does not repeat the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("a secret must be {PREFIX} and base64");
        let key = text.strip_prefix(PREFIX).filter(|key| !key.is_empty()).ok_or_else(wrong)?;
        let key = BASE64.decode(key).map_err(|_| wrong())?;
        Ok(Self(Zeroizing::new(key)))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Verifies a request against every trusted secret.
pub fn verify(secrets: &[Secret], headers: &HeaderMap, body: &[u8], now: Timestamp) -> Verdict {
    if !headers.contains_key(SIGNATURE) {
        return Verdict::Unsigned;
    }
    if secrets.is_empty() {
        return Verdict::Unchecked;
    }
    let Some((id, timestamp)) = header(headers, ID).zip(header(headers, TIMESTAMP)) else {
        return Verdict::WrongSignature;
    };
    let signed = signatures(headers).any(|signature| {
        secrets.iter().any(|secret| fits(secret, id, timestamp, body, &signature))
    });
    let sent = timestamp.parse::<i64>().ok().and_then(|seconds| seconds.checked_mul(1000));
    match sent.map(Timestamp::from_millis) {
        Some(sent) if signed => {
            if now.since(sent).max(sent.since(now)) <= TOLERANCE {
                Verdict::Verified
            } else {
                Verdict::Stale
            }
        }
        Some(_) | None => Verdict::WrongSignature,
    }
}

/// The id of a request, if it has one that is text.
pub fn webhook_id(headers: &HeaderMap) -> Option<&str> {
    header(headers, ID)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Every v1 signature of every header line, decoded.
fn signatures(headers: &HeaderMap) -> impl Iterator<Item = Vec<u8>> {
    headers
        .get_all(SIGNATURE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(' '))
        .filter_map(|one| one.strip_prefix("v1,"))
        .filter_map(|one| BASE64.decode(one).ok())
}

/// Compares in constant time.
fn fits(secret: &Secret, id: &str, timestamp: &str, body: &[u8], signature: &[u8]) -> bool {
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret.0).expect("HMAC takes keys of any length");
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    mac.verify_slice(signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of the specification's reference libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID_VALUE: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNED: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const SENT: i64 = 1_614_265_330;

    fn headers(id: &str, timestamp: &str, signature: &str) -> HeaderMap {
        let pair = |name: &'static str, value: &str| {
            (http::HeaderName::from_static(name), value.parse().unwrap())
        };
        HeaderMap::from_iter([pair(ID, id), pair(TIMESTAMP, timestamp), pair(SIGNATURE, signature)])
    }

    fn example(signature: &str) -> HeaderMap {
        headers(ID_VALUE, &SENT.to_string(), signature)
    }

    fn at(headers: &HeaderMap, body: &[u8], seconds: i64) -> Verdict {
        let other = Secret::parse("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap();
        let secrets = [other, Secret::parse(SECRET).unwrap()];
        verify(&secrets, headers, body, Timestamp::from_millis(seconds * 1000))
    }

    #[test]
    fn the_reference_example_is_verified() {
        assert_eq!(at(&example(SIGNED), BODY, SENT), Verdict::Verified);
    }

    #[test]
    fn one_right_signature_among_others_is_enough() {
        let several = format!("v1a,AAAA v1,AAAA v1,!! v2,{SIGNED} {SIGNED}");
        assert_eq!(at(&example(&several), BODY, SENT), Verdict::Verified);
        let mut lines = example("v1,AAAA");
        lines.append(SIGNATURE, SIGNED.parse().unwrap());
        assert_eq!(at(&lines, BODY, SENT), Verdict::Verified);
    }

    #[test]
    fn whatever_differs_from_what_was_signed_is_wrong() {
        let timestamp = SENT.to_string();
        for (headers, body) in [
            (example(SIGNED), b"{}".as_slice()),
            (headers("msg_other", &timestamp, SIGNED), BODY),
            (headers(ID_VALUE, &(SENT + 1).to_string(), SIGNED), BODY),
            (headers(ID_VALUE, "yesterday", SIGNED), BODY),
            (example("v1,"), BODY),
            (example("v1a,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="), BODY),
            (example(&SIGNED[..20]), BODY),
        ] {
            assert_eq!(at(&headers, body, SENT), Verdict::WrongSignature, "{headers:?}");
        }
        let mut without = example(SIGNED);
        without.remove(TIMESTAMP);
        assert_eq!(at(&without, BODY, SENT), Verdict::WrongSignature);
    }

    #[test]
    fn five_minutes_either_way_are_still_now() {
        let request = example(SIGNED);
        for (seconds, verdict) in [
            (SENT + 300, Verdict::Verified),
            (SENT - 300, Verdict::Verified),
            (SENT + 301, Verdict::Stale),
            (SENT - 301, Verdict::Stale),
        ] {
            assert_eq!(at(&request, BODY, seconds), verdict);
        }
        assert_eq!(at(&request, b"{}", SENT + 301), Verdict::WrongSignature);
    }

    #[test]
    fn without_a_signature_or_a_secret_there_is_nothing_to_verify() {
        let now = Timestamp::from_millis(SENT * 1000);
        assert_eq!(at(&HeaderMap::new(), BODY, SENT), Verdict::Unsigned);
        assert_eq!(verify(&[], &example(SIGNED), BODY, now), Verdict::Unchecked);
    }

    #[test]
    fn secrets_are_read_and_never_shown() {
        assert_eq!(format!("{:?}", Secret::parse(SECRET).unwrap()), "Secret(…)");
        assert!(Secret::parse("whsec_AAAAAA==").is_ok() && Secret::parse("whsec_AAAAAA").is_ok());
        for wrong in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_{secret}"] {
            let said = Secret::parse(wrong).unwrap_err();
            assert!(!said.contains("{secret}"), "{said}");
        }
    }
}
