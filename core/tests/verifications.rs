//! The challenges of well-known senders, written as contracts (`verifications/`), each before a
//! receiver that answers as the sender's documentation wants it, and before one that does not.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::path::Path;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER};
use hmac::{Hmac, Mac};
use pregon_core::clock::Timestamp;
use pregon_core::contract::{
    Answer, ChallengeInput, ChallengeMethod, ChallengeRequest, Contract, SigningKey, SigningKeys,
    answers_challenge, challenge,
};
use pregon_core::event::Environment;
use pregon_core::id::{SecretId, SubscriptionId, TenantId};
use pregon_core::model::SecretAlgorithm;
use pregon_core::secret::{SecretBytes, ed25519_public};
use pregon_core::url::EndpointUrl;
use serde_json::Value;
use sha2::Sha256;

/// The key that the subscription and its receiver share, and the seed of its key pair.
const KEY: &[u8; 32] = b"0123456789abcdef0123456789abcdef";
const TEXT: &str = "123456789";
const TIME: &str = "1700000000";

/// What a receiver answers: status, a header, body.
type Reply = (u16, Option<(&'static str, String)>, String);

fn contract(sender: &str) -> Contract {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verifications");
    let document = std::fs::read_to_string(file.join(format!("{sender}.yaml"))).unwrap();
    Contract::read(&document, 1).unwrap_or_else(|faults| panic!("{sender}: {faults:#?}"))
}

fn keys() -> SigningKeys {
    let key = |id: &str, algorithm| {
        let (id, from) = (SecretId::parse(id).unwrap(), Timestamp::from_millis(0));
        SigningKey::new(id, algorithm, &SecretBytes::new(KEY.to_vec()), from, None).unwrap()
    };
    SigningKeys::new(vec![key("h", SecretAlgorithm::Hmac), key("e", SecretAlgorithm::Ed25519)])
}

/// Asks all steps of a sender's contract; the requests, and how it came out.
fn ask(
    sender: &str,
    mut receiver: impl FnMut(&ChallengeRequest) -> Reply,
) -> (Vec<ChallengeRequest>, Result<(), String>) {
    let (contract, keys) = (contract(sender), keys());
    let labels: BTreeMap<_, _> =
        ["token", "verify_token"].map(|key| (key.to_owned(), "t 1".to_owned())).into();
    let (tenant, subscription) =
        (TenantId::parse("acme").unwrap(), SubscriptionId::parse("erp").unwrap());
    let url = EndpointUrl::parse_stored("https://r.example/hook?a=1").unwrap();
    let input = ChallengeInput {
        id: "ver_1",
        time: Timestamp::from_millis(1_700_000_000_250),
        text: TEXT,
        tenant: &tenant,
        tenant_labels: &labels,
        subscription: &subscription,
        subscription_labels: &labels,
        environment: Environment::Live,
        url: &url,
        user_agent: &Bytes::from_static(b"Pregon"),
    };
    let mut requests = Vec::new();
    for step in 0..contract.verification().unwrap().steps() {
        let request = challenge(&contract, step, &input, &keys).unwrap();
        let (status, header, body) = receiver(&request);
        requests.push(request);
        let headers: Vec<_> = header.into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
        let answer = Answer { status, headers: &headers, body: &Bytes::from(body) };
        let answered = answers_challenge(&contract, step, &input, &keys, &answer);
        if answered.is_err() {
            return (requests, answered);
        }
    }
    (requests, Ok(()))
}

/// A receiver that answers right passes; the requests that it saw.
#[track_caller]
fn passes(sender: &str, receiver: impl FnMut(&ChallengeRequest) -> Reply) -> Vec<ChallengeRequest> {
    let (requests, told) = ask(sender, receiver);
    assert_eq!(told, Ok(()), "{sender}: {requests:#?}");
    for wrong in
        [(200, String::new()), (200, "other".into()), (200, "{}".into()), (500, TEXT.into())]
    {
        let (_, told) = ask(sender, |_| (wrong.0, None, wrong.1.clone()));
        let proves_little = sender == "trello" && wrong.0 == 200;
        assert_eq!(told.is_ok(), proves_little, "{sender}: {wrong:?}");
    }
    requests
}

fn header<'a>(request: &'a ChallengeRequest, name: &str) -> &'a str {
    let found = request.headers.iter().find(|line| *line.name == *name);
    found.map_or("", |line| std::str::from_utf8(&line.value).unwrap())
}

fn query(request: &ChallengeRequest, name: &str) -> String {
    let url = url::Url::parse(request.url.as_str()).unwrap();
    assert!(url.query_pairs().any(|pair| pair == ("a".into(), "1".into())), "what was there");
    let found = url.query_pairs().find(|(other, _)| other == name);
    found.map(|(_, value)| value.into_owned()).unwrap_or_default()
}

fn json(request: &ChallengeRequest) -> Value {
    assert_eq!(header(request, "content-type"), "application/json");
    serde_json::from_slice(&request.body).unwrap()
}

fn mac(text: impl AsRef<[u8]>) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY).unwrap();
    mac.update(text.as_ref());
    mac.finalize().into_bytes().to_vec()
}

fn text(request: &ChallengeRequest) -> &str {
    std::str::from_utf8(&request.body).unwrap()
}

#[test]
fn echoes_in_the_query_as_text() {
    let meta = passes("meta", |it| {
        assert_eq!(
            (query(it, "hub.mode"), query(it, "hub.verify_token")),
            ("subscribe".into(), "t 1".into())
        );
        (200, None, query(it, "hub.challenge").parse::<u32>().unwrap().to_string())
    });
    assert_eq!(
        meta[0].url.as_str(),
        "https://r.example/hook?a=1&hub.mode=subscribe&hub.challenge=123456789&hub.verify_token=t%201"
    );
    assert_eq!((meta[0].method, meta[0].body.len()), (ChallengeMethod::Get, 0));
    assert_eq!(header(&meta[0], "content-type"), "");
    passes("dropbox", |it| (200, None, query(it, "challenge")));
    let plain = ("content-type", "text/plain; charset=utf-8".to_owned());
    let graph =
        passes("microsoft_graph", |it| (200, Some(plain.clone()), query(it, "validationToken")));
    assert_eq!((graph[0].method, graph[0].body.len()), (ChallengeMethod::Post, 0));
    let html = ("content-type", "text/html".to_owned());
    let (_, told) =
        ask("microsoft_graph", |it| (200, Some(html.clone()), query(it, "validationToken")));
    assert_eq!(told.unwrap_err(), "the answer is not the one expected");
}

#[test]
fn echoes_in_the_body_as_text_or_json() {
    for form in ["{}", "challenge={}", "{\"challenge\":\"{}\"}"] {
        passes("slack", |it| {
            let asked = json(it);
            assert_eq!(
                (&asked["type"], &asked["token"]),
                (&"url_verification".into(), &"t 1".into())
            );
            let signed = format!("v0:{TIME}:{}", text(it));
            assert_eq!(header(it, "x-slack-request-timestamp"), TIME);
            assert_eq!(
                header(it, "x-slack-signature"),
                format!("v0={}", HEXLOWER.encode(&mac(signed)))
            );
            (200, None, form.replace("{}", asked["challenge"].as_str().unwrap()).replace("{}", ""))
        });
    }
    passes("twitch", |it| {
        let of = |name| header(it, name);
        let id = of("twitch-eventsub-message-id");
        let signed = format!("{id}{}{}", of("twitch-eventsub-message-timestamp"), text(it));
        let sign = format!("sha256={}", HEXLOWER.encode(&mac(signed)));
        assert_eq!(of("twitch-eventsub-message-signature"), sign);
        assert_eq!(of("twitch-eventsub-message-type"), "webhook_callback_verification");
        (200, None, json(it)["challenge"].as_str().unwrap().to_owned())
    });
    passes("event_grid", |it| {
        assert_eq!(header(it, "aeg-event-type"), "SubscriptionValidation");
        let code = json(it)[0]["data"]["validationCode"].clone();
        (200, None, serde_json::json!({ "validationResponse": code }).to_string())
    });
    passes("okta", |it| {
        let asked = header(it, "x-okta-verification-challenge");
        (200, None, serde_json::json!({ "verification": asked }).to_string())
    });
}

#[test]
fn hashes_of_the_challenge() {
    passes("zoom", |it| {
        let asked = json(it);
        let signed = format!("v0:{TIME}:{}", text(it));
        assert_eq!(header(it, "x-zm-signature"), format!("v0={}", HEXLOWER.encode(&mac(signed))));
        assert_eq!(asked["event_ts"], 1_700_000_000_250_i64);
        let plain = asked["payload"]["plainToken"].as_str().unwrap();
        let hashed = HEXLOWER.encode(&mac(plain));
        let answer = serde_json::json!({ "plainToken": plain, "encryptedToken": hashed });
        (200, None, answer.to_string())
    });
    let crc = |key: &str| BASE64.encode(&mac(key));
    passes("x", |it| {
        let token = crc(&query(it, "crc_token"));
        (200, None, format!("{{\"response_token\":\"sha256={token}\"}}"))
    });
    let (_, told) =
        ask("x", |_| (200, None, format!("{{\"response_token\":\"sha256={}\"}}", crc("other"))));
    assert!(told.is_err());
    assert_eq!(contract("x").verification().unwrap().repeat().unwrap().as_secs(), 86_400);
}

#[test]
fn a_status_and_headers() {
    let trello = passes("trello", |_| (200, None, String::new()));
    assert_eq!(
        (trello[0].method, trello[0].url.as_str()),
        (ChallengeMethod::Head, "https://r.example/hook?a=1")
    );
    let asana = passes("asana", |it| {
        (204, Some(("x-hook-secret", header(it, "x-hook-secret").to_owned())), String::new())
    });
    assert_eq!(header(&asana[0], "x-hook-secret").as_bytes(), KEY);
    let (_, told) = ask("asana", |_| (200, Some(("x-hook-secret", "x".into())), String::new()));
    assert_eq!(told.unwrap_err(), "the answer is not the one expected");
    for (origin, passed) in [("*", true), ("events.example.com", true), ("other.example", false)] {
        let (asked, told) = ask("cloudevents", |it| {
            assert_eq!(header(it, "webhook-request-origin"), "events.example.com");
            (200, Some(("webhook-allowed-origin", origin.to_owned())), String::new())
        });
        assert_eq!((asked[0].method, told.is_ok()), (ChallengeMethod::Options, passed), "{origin}");
    }
}

#[test]
fn right_and_wrong_signatures() {
    let seed = SecretBytes::new(KEY.to_vec());
    let public = ed25519_public(&seed).unwrap();
    let key = UnparsedPublicKey::new(&ED25519, public.as_ref().to_vec());
    let pinged = passes("discord", |it| {
        let signed = format!("{}{}", header(it, "x-signature-timestamp"), text(it));
        let signature = HEXLOWER.decode(header(it, "x-signature-ed25519").as_bytes()).unwrap();
        match key.verify(signed.as_bytes(), &signature) {
            Ok(()) => (200, None, "{\"type\":1}".into()),
            Err(_) => (401, None, "invalid request signature".into()),
        }
    });
    assert_eq!(pinged[0].body, pinged[1].body);
    let intent =
        passes_xero(|it| match header(it, "x-xero-signature") == BASE64.encode(&mac(&it.body)) {
            true => 200,
            false => 401,
        });
    assert_eq!(intent, Ok(()));
    // Who does not look at signatures shows no intent, nor does who refuses all.
    assert!(passes_xero(|_| 200).is_err());
    assert!(passes_xero(|_| 401).is_err());
}

fn passes_xero(mut status: impl FnMut(&ChallengeRequest) -> u16) -> Result<(), String> {
    ask("xero", |it| (status(it), None, String::new())).1
}
