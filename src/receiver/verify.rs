//! Requests judged by the contract that they come under.
//!
//! [`pregon_core::contract::verify`] has the rules; here are what a receiver knows, namely contracts
//! by name and secrets as text, and the verdict in one word. A secret is tried under every contract
//! whose form it has, so that one receiver can be trusted with those of many subscriptions.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use pregon_core::clock::Timestamp;
use pregon_core::contract::verify::{
    Finding, Obstacle, Overall, Received, Verification, VerifyingKey, verify,
};
use pregon_core::contract::{Contract, builtins, standard_webhooks};
use serde::Serialize;
use zeroize::Zeroizing;

/// Headers that tell one delivery from another, the best first.
const IDS: [&str; 3] = ["webhook-id", "x-delivery-id", "ce-id"];

/// What verification says about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Verdict {
    /// Signed with a trusted secret, just now as far as the request says when.
    Verified,
    /// Signed, but not by a trusted secret, or not this request.
    WrongSignature,
    /// Without a signature, although the contract has some.
    Unsigned,
    /// Rightly signed, but more than five minutes from now.
    Stale,
    /// Signed, but no secret of the kind was given to verify it with.
    Unchecked,
    /// Signed over something that the request does not tell.
    Unverifiable,
    /// The contract signs nothing.
    SignsNothing,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Verified => "VERIFIED",
            Verdict::WrongSignature => "WRONG_SIGNATURE",
            Verdict::Unsigned => "UNSIGNED",
            Verdict::Stale => "STALE",
            Verdict::Unchecked => "UNCHECKED",
            Verdict::Unverifiable => "UNVERIFIABLE",
            Verdict::SignsNothing => "unsigned (the contract signs nothing)",
        })
    }
}

/// What is said about a request under a contract.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The contract.
    pub contract: Arc<Contract>,
    /// The whole, in one word.
    pub verdict: Verdict,
    /// Each of the contract's signatures.
    pub signatures: Vec<(Box<str>, Finding)>,
}

impl Judgement {
    /// The signatures one by one, as in `v1 verified, v1a missing`; empty where there are none.
    pub fn details(&self) -> String {
        let one = |(name, finding): &(Box<str>, Finding)| match finding {
            Finding::Verified => format!("{name} verified"),
            Finding::Wrong => format!("{name} wrong"),
            Finding::Missing => format!("{name} missing"),
            Finding::Unverifiable(obstacle) => format!("{name} not verified: {obstacle}"),
        };
        self.signatures.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// A secret to verify with, as text: which key it is depends on the contract.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The contracts that a receiver knows: those it was given, and those that are built in.
#[derive(Clone, Debug)]
pub struct Contracts {
    given: Vec<Arc<Contract>>,
    default: Arc<Contract>,
}

impl Default for Contracts {
    /// Standard Webhooks, where a path does not name another built-in one.
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Contracts {
    /// The first one that is given is for every path that names none. A path can name the others,
    /// which go before built-in ones of the same name.
    pub fn new(given: Vec<Arc<Contract>>) -> Self {
        let default = given.first().cloned().unwrap_or_else(standard_webhooks);
        Self { given, default }
    }

    /// The one of paths that name none.
    pub fn usual(&self) -> &Arc<Contract> {
        &self.default
    }

    /// The contract of this name, or the one of paths that name none.
    pub fn get(&self, name: Option<&str>) -> Option<&Arc<Contract>> {
        let Some(name) = name else { return Some(&self.default) };
        let built_in = builtins().iter().map(|built_in| &built_in.contract);
        self.given.iter().chain(built_in).find(|contract| contract.id().as_str() == name)
    }

    /// Whether a secret has the form of one that was given (or of the default); else which form it
    /// ought to have, said without the text.
    pub fn check(&self, secret: &Secret) -> Result<(), String> {
        let mut reasons = Vec::new();
        for contract in self.given.iter().chain(self.given.is_empty().then_some(&self.default)) {
            match VerifyingKey::parse(contract, &secret.0) {
                Ok(_) => return Ok(()),
                Err(wrong) => reasons.push(format!("under {} it {wrong}", contract.id())),
            }
        }
        Err(reasons.join("; "))
    }
}

/// Verifies a request under a contract with every secret of its form. `url` is what was asked for.
pub fn judge(
    contract: &Arc<Contract>,
    secrets: &[Secret],
    url: &str,
    headers: &HeaderMap,
    body: &Bytes,
    now: Timestamp,
) -> Judgement {
    let keys: Vec<_> =
        secrets.iter().filter_map(|secret| VerifyingKey::parse(contract, &secret.0).ok()).collect();
    let lines: Vec<_> =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let found = verify(contract, &keys, &Received { url, headers: &lines, body }, now);
    let verdict = verdict(&found);
    Judgement { contract: Arc::clone(contract), verdict, signatures: found.signatures }
}

fn verdict(found: &Verification) -> Verdict {
    let unknown = |(_, finding): &(Box<str>, Finding)| {
        matches!(finding, Finding::Unverifiable(Obstacle::Unknown(_)))
    };
    match found.overall {
        Overall::Verified => Verdict::Verified,
        Overall::Stale => Verdict::Stale,
        Overall::Wrong => Verdict::WrongSignature,
        Overall::Missing => Verdict::Unsigned,
        Overall::Unverifiable if found.signatures.iter().any(unknown) => Verdict::Unverifiable,
        Overall::Unverifiable => Verdict::Unchecked,
        Overall::SignsNothing => Verdict::SignsNothing,
    }
}

/// What tells a request's delivery from others, if a header does: its `webhook-id`, or what stands
/// for it under other contracts.
pub fn delivery_id(headers: &HeaderMap) -> Option<&str> {
    IDS.iter().find_map(|name| headers.get(*name)?.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of Standard Webhooks in its contract.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &str = r#"{"type":"test.sent","timestamp":"2021-02-25T15:02:09.120Z","data":{"test": 2432232314}}"#;
    const SENT: i64 = 1_614_265_330;

    fn headers() -> HeaderMap {
        let pair = |name: &'static str, value: &str| {
            (http::HeaderName::from_static(name), value.parse().unwrap())
        };
        HeaderMap::from_iter([
            pair("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            pair("webhook-timestamp", &SENT.to_string()),
            pair("webhook-signature", "v1,qVbfpVGJNZLG9oF/epZpOPiHDNXg6A9jshcaialJBds="),
        ])
    }

    fn at(secrets: &[&str], headers: &HeaderMap, body: &'static str, seconds: i64) -> Judgement {
        let secrets: Vec<_> = secrets.iter().map(|text| Secret::new(text)).collect();
        let now = Timestamp::from_millis(seconds * 1000);
        let contracts = Contracts::default();
        judge(
            contracts.get(None).unwrap(),
            &secrets,
            "http://127.0.0.1:3000/",
            headers,
            &Bytes::from_static(body.as_bytes()),
            now,
        )
    }

    #[test]
    fn the_reference_example_is_verified_and_nothing_else() {
        let verdict = |secrets: &[&str], headers: &HeaderMap, body, seconds| {
            at(secrets, headers, body, seconds).verdict
        };
        let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let good = headers();
        assert_eq!(verdict(&[other, "text", SECRET], &good, BODY, SENT), Verdict::Verified);
        assert_eq!(verdict(&[SECRET], &good, BODY, SENT + 301), Verdict::Stale);
        assert_eq!(verdict(&[SECRET], &good, "{}", SENT), Verdict::WrongSignature);
        assert_eq!(verdict(&[other], &good, BODY, SENT), Verdict::WrongSignature);
        assert_eq!(verdict(&["text"], &good, BODY, SENT), Verdict::Unchecked);
        assert_eq!(verdict(&[SECRET], &HeaderMap::new(), BODY, SENT), Verdict::Unsigned);
        let mut nameless = headers();
        nameless.remove("webhook-id");
        assert_eq!(verdict(&[SECRET], &nameless, BODY, SENT), Verdict::Unverifiable);
        assert_eq!(
            at(&[SECRET], &nameless, BODY, SENT).details(),
            "v1 not verified: the request does not tell event.unique_id, v1a missing"
        );
    }

    #[test]
    fn contracts_are_found_by_name() {
        let contracts = Contracts::default();
        let name = |name| contracts.get(name).map(|contract| contract.id().to_string());
        assert_eq!(name(None).as_deref(), Some("standard_webhooks"));
        assert_eq!(name(Some("tusfacturas")).as_deref(), Some("tusfacturas"));
        assert_eq!(name(Some("other")), None);
        let onramp = Arc::clone(contracts.get(Some("crypto_onramp")).unwrap());
        let given = Contracts::new(vec![onramp]);
        assert_eq!(given.get(None).unwrap().id().as_str(), "crypto_onramp");
    }

    #[test]
    fn secrets_are_held_against_the_contracts_that_are_given_and_never_shown() {
        let contracts = Contracts::default();
        assert_eq!(format!("{:?}", Secret::new(SECRET)), "Secret(…)");
        assert!(contracts.check(&Secret::new(SECRET)).is_ok());
        for wrong in ["whsec_AAAA", "hunter2", "whpk_hunter2"] {
            let said = contracts.check(&Secret::new(wrong)).unwrap_err();
            assert!(said.contains("standard_webhooks") && !said.contains(wrong), "{said}");
        }
        let onramp = Arc::clone(contracts.get(Some("crypto_onramp")).unwrap());
        assert!(Contracts::new(vec![onramp]).check(&Secret::new("hunter2")).is_ok());
    }

    #[test]
    fn deliveries_are_told_apart_by_the_headers_that_contracts_have() {
        let mut headers = HeaderMap::new();
        assert_eq!(delivery_id(&headers), None);
        headers.insert("ce-id", "c".parse().unwrap());
        headers.insert("x-delivery-id", "d".parse().unwrap());
        assert_eq!(delivery_id(&headers), Some("d"));
        headers.insert("webhook-id", "w".parse().unwrap());
        assert_eq!(delivery_id(&headers), Some("w"));
    }
}
