//! Documents that are accepted: what each key does to the request.

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256, Sha512};

use crate::clock::Timestamp;
use crate::contract::tests::{Around, event, lines};
use crate::contract::{
    AuthKind, CheckInput, Contract, RenderError, SigningKey, SigningKeys, render, render_check,
    sign, sign_check, signatures,
};
use crate::event::Event;
use crate::id::{CallbackId, SecretId, TenantId};
use crate::model::SecretAlgorithm;
use crate::outcome::Answer;
use crate::secret::{SecretBytes, ed25519_public};
use crate::url::{EndpointUrl, Scheme};
use bytes::Bytes;
use std::collections::BTreeMap;

const EXAMPLES: &str =
    "examples: [{ event: { type: a, data: '{\"n\":1,\"s\":\"x\",\"id\":1}' } }]\n";
/// 2023-11-14T22:13:20Z, when attempts are made here.
const NOW: i64 = 1_700_000_000;

pub(super) fn read(keys: &str) -> Contract {
    let document = format!("contract: c\n{keys}\n{EXAMPLES}");
    Contract::read(&document, 7).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn key(id: &str, algorithm: SecretAlgorithm, bytes: &[u8], from: i64) -> SigningKey {
    let from = Timestamp::from_millis(from);
    let bytes = SecretBytes::new(bytes.to_vec());
    SigningKey::new(SecretId::parse(id).unwrap(), algorithm, &bytes, from, None).unwrap()
}

fn hmac_keys() -> SigningKeys {
    SigningKeys::new(vec![
        key("old", SecretAlgorithm::Hmac, b"old", 0),
        key("new", SecretAlgorithm::Hmac, b"new", 1),
    ])
}

/// Body and headers, but for `content-type` and `user-agent`.
fn sent(contract: &Contract, event: &Event, keys: &SigningKeys) -> (String, Vec<(String, String)>) {
    let around = Around::at(NOW);
    let input = around.input(event);
    let signed = sign(contract, &render(contract, &input).unwrap(), &input, keys).unwrap();
    let lines = lines(&signed.headers);
    let headers = lines.iter().skip(2);
    let headers = headers.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    (String::from_utf8(signed.body.to_vec()).unwrap(), headers)
}

fn body(keys: &str, data: &str) -> String {
    sent(&read(keys), &event("e", data), &SigningKeys::default()).0
}

/// The one header that is sent.
fn header(keys: &str, data: &str, with: &SigningKeys) -> (String, String) {
    let (_, headers) = sent(&read(keys), &event("e", data), with);
    let [header] = &headers[..] else { panic!("{headers:?}") };
    header.clone()
}

fn sha256_mac(key: &[u8], message: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(message.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

#[test]
fn the_least_document_has_every_default() {
    let contract = read("");
    assert_eq!((contract.id().as_str(), contract.revision()), ("c", 7));
    assert!(contract.traceparent() && !contract.approval() && !contract.secret().required);
    assert!(contract.url().is_none() && contract.sensitive().is_empty());
    assert_eq!((contract.egress(), contract.description()), ("default", ""));
    assert!(AuthKind::ALL.iter().all(|kind| contract.allows_auth(*kind)));
    assert_eq!(sent(&contract, &event("e", "[1.0 ]"), &hmac_keys()), ("[1.0 ]".into(), vec![]));
}

#[test]
fn rules_are_those_of_the_document() {
    let contract = read(
        "description: what it is for\ntraceparent: false\nprovisioning: approval\negress: fixed\n\
         auth: [bearer, api_key]\nurl: { schemes: [https], ports: [443, 8443] }\n\
         sensitive: [event.data.user, check.data.email]\nsecret: { form: hex, prefix: k_, bytes: [16, 32], generate: 16 }",
    );
    assert_eq!((contract.description(), contract.egress()), ("what it is for", "fixed"));
    assert!(!contract.traceparent() && contract.approval());
    let auth = AuthKind::ALL.iter().map(|kind| contract.allows_auth(*kind)).collect::<Vec<_>>();
    assert_eq!(auth, [false, true, false, true, false, false]);
    let url = contract.url().unwrap();
    assert_eq!(
        (&url.schemes[..], &url.ports[..]),
        (&[Scheme::Https][..], &[443..=443, 8443..=8443][..])
    );
    let paths: Vec<_> = contract.sensitive().iter().map(|path| path.as_str()).collect();
    assert_eq!(paths, ["event.data.user", "check.data.email"]);
    let form = &contract.secret().form;
    assert_eq!(form.parse("k_000102030405060708090a0b0c0d0e0f").unwrap().expose()[15], 15);
    assert!(form.parse("000102030405060708090a0b0c0d0e0f").is_err());
}

#[test]
fn forms_are_flat_and_urlencoded() {
    let keys = "body_format: form\nbody: { id: \"${event.id}\", n: \"${event.data.n}\", s: \"${event.data.s}\", ok: true, x: \"${event.data.?x}\" }";
    assert_eq!(
        body(keys, r#"{"n":1.50,"s":"a b&ñ=~*"}"#),
        "id=e&n=1.50&s=a+b%26%C3%B1%3D%7E*&ok=true"
    );
    let contract = read(keys);
    let (event, around) = (event("e", r#"{"n":{},"s":""}"#), Around::at(NOW));
    let rendered = render(&contract, &around.input(&event));
    assert!(matches!(rendered, Err(RenderError::Form(_))), "{rendered:?}");
}

#[test]
fn canonical_forms_are_those_of_the_bytes_sent() {
    let data = r#"{"b": 1.0, "10": "\u00e9\/", "a": 1E30, "9": -0}"#;
    assert_eq!(body("", data), data);
    let stringified = r#"{"9":0,"10":"é/","b":1,"a":1e+30}"#;
    assert_eq!(body("canonical: json_stringify", data), stringified);
    assert_eq!(body("canonical: rfc8785", data), r#"{"10":"é/","9":0,"a":1e+30,"b":1}"#);
    let keys =
        "canonical: rfc8785\nsignatures: [{ algorithm: hmac_sha256, header: x-s, keys: newest }]";
    let mac = sha256_mac(b"new", r#"{"10":"é/","9":0,"a":1e+30,"b":1}"#);
    assert_eq!(header(keys, data, &hmac_keys()).1, HEXLOWER.encode(&mac));
}

#[test]
fn templates_keep_their_order_types_and_bytes() {
    let keys = "body:\n  \"10\": ${event.data.n}\n  s: ${event.data.s}\n  mixed: n=${event.data.n} $${x}\n  list: [1.00, null, \"2\", \"${event.data.?x}\", \"${event.attributes.?x}\"]\n  \"...\": ${event.data.o}\n  json: ${json(event.data.o)}\n  cond: \"${event.data.n > 1 ? event.data.o : event.data.s}\"";
    let keys = keys.replace("event.data.o", "event.data.?o.orValue(event.data)");
    let expected = r#"{"10":2.50,"s":"\u0061","mixed":"n=2.5 ${x}","list":[1.00,null,"2"],"k":[1, 2],"json":"{\"k\":[1, 2]}","cond":{"k":[1, 2]}}"#;
    let document = format!(
        "contract: c\n{keys}\nexamples: [{{ event: {{ type: a, data: '{{\"n\":1,\"s\":\"x\",\"o\":{{}}}}' }} }}]\n"
    );
    let contract = Contract::read(&document, 0).unwrap();
    let data = r#"{"n":2.50,"s":"\u0061","o":{"k":[1, 2]}}"#;
    assert_eq!(sent(&contract, &event("e", data), &SigningKeys::default()).0, expected);
}

#[test]
fn a_header_may_be_absent() {
    let keys =
        "headers: { X-Subject: \"${event.attributes.?subject}\", x-always: \"${event.type}\" }";
    let always = ("x-always".to_owned(), "order.captured".to_owned());
    assert_eq!(header(keys, "1", &SigningKeys::default()), always);
    let mut event = event("e", "1");
    event.attributes.insert("subject".into(), "orders/1".into());
    let (_, headers) = sent(&read(keys), &event, &SigningKeys::default());
    assert_eq!(headers, [("X-Subject".to_owned(), "orders/1".to_owned()), always]);
}

#[test]
fn a_digest_is_of_the_final_body() {
    let keys = "signatures: [{ algorithm: hmac_sha256, body: sig }]\nheaders:\n  digest: sha-256=${base64(sha256(request.body))}\n  content-digest: \"sha-256=:${base64(sha256(request.body))}:\"";
    let (body, headers) = sent(&read(keys), &event("e", r#"{"s":"ñ"}"#), &hmac_keys());
    let mac = HEXLOWER.encode(&sha256_mac(b"new", r#"{"s":"ñ"}"#));
    assert_eq!(body, format!(r#"{{"s":"ñ","sig":"{mac}"}}"#));
    let digest = BASE64.encode(&Sha256::digest(body.as_bytes()));
    let expected = [
        ("digest", format!("sha-256={digest}")),
        ("content-digest", format!("sha-256=:{digest}:")),
    ];
    assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value)));
}

#[test]
fn two_signatures_in_one_header() {
    let keys = "signatures:\n  - { name: a, algorithm: hmac_sha256, header: X-Sign, prefix: \"t=${int(attempt.time)};\", each: \"v1=${signature}\", separator: \";\" }\n  - { name: b, algorithm: hmac_sha512, encoding: base64url, payload: \"${event.id}|${request.body}\", header: x-sign, prefix: \"t=${int(attempt.time)};\", each: \"v2=${signature}\", separator: \";\", keys: newest }";
    let (name, value) = header(keys, "1", &hmac_keys());
    let [new, old] = [b"new", b"old"].map(|key| HEXLOWER.encode(&sha256_mac(key, "1")));
    let mut mac = Hmac::<Sha512>::new_from_slice(b"new").unwrap();
    mac.update(b"e|1");
    let other = BASE64URL_NOPAD.encode(&mac.finalize().into_bytes());
    assert_eq!((&*name, value), ("X-Sign", format!("t={NOW};v1={new};v1={old};v2={other}")));
}

#[test]
fn ed25519_signs_with_its_own_kind_of_key() {
    let keys = "signatures: [{ algorithm: ed25519, encoding: base64, header: x-s }]";
    let pair = key("p", SecretAlgorithm::Ed25519, &[7; 32], 0);
    let with = SigningKeys::new(vec![pair, key("h", SecretAlgorithm::Hmac, b"h", 0)]);
    let (_, value) = header(keys, r#"{"a":1}"#, &with);
    let public = ed25519_public(&SecretBytes::new(vec![7; 32])).unwrap();
    let public =
        aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, public);
    let signature = BASE64.decode(value.as_bytes()).unwrap();
    assert!(public.verify(br#"{"a":1}"#, &signature).is_ok());
    assert!(public.verify(br#"{"a":2}"#, &signature).is_err());
}

#[test]
fn a_signature_may_stand_in_a_nested_object() {
    let keys = "body: { meta: { id: \"${event.id}\", deep: {} }, data: \"${event.data}\" }\nsignatures: [{ algorithm: hmac_sha1, body: meta.deep.mac }]";
    let (body, _) = sent(&read(keys), &event("e", "[1]"), &hmac_keys());
    let unsigned = r#"{"meta":{"id":"e","deep":{}},"data":[1]}"#;
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(b"new").unwrap();
    mac.update(unsigned.as_bytes());
    let mac = HEXLOWER.encode(&mac.finalize().into_bytes());
    assert_eq!(body, unsigned.replace("{}", &format!(r#"{{"mac":"{mac}"}}"#)));
    let (body, headers) = sent(&read(keys), &event("e", "[1]"), &SigningKeys::default());
    assert_eq!((body, headers), (unsigned.to_owned(), vec![]));
}

#[test]
fn a_callback_asks_with_headers_and_judges_by_its_verdict() {
    let contract = read(
        "signatures: [{ algorithm: hmac_sha256, header: x-s, keys: newest }]\n\
         callback:\n  body: { who: \"${check.data.email}\", tier: \"${tenant.labels.tier}\" }\n  headers: { X-Check: \"${check.id}\", x-none: \"${check.data.?none}\" }\n  verdict: response.status == 200 && response.json.allowed == check.data.want",
    );
    let labels = BTreeMap::from([("tier".to_owned(), "gold".to_owned())]);
    let (tenant, callback) = (TenantId::parse("acme").unwrap(), CallbackId::parse("kyc").unwrap());
    let url = EndpointUrl::parse_stored("https://example.com/ask").unwrap();
    let data = Bytes::from_static(br#"{"email":"a@b.c","want":"yes"}"#);
    let input = CheckInput {
        id: "chk_1",
        time: Timestamp::from_millis(NOW * 1000),
        data: &data,
        tenant: &tenant,
        tenant_labels: &labels,
        callback: &callback,
        callback_labels: &labels,
        url: &url,
        user_agent: &Bytes::from_static(b"Pregon/0.1"),
    };
    let rendered = render_check(&contract, &input).unwrap();
    let signed = sign_check(&contract, &rendered, &input, &hmac_keys()).unwrap();
    let question = r#"{"who":"a@b.c","tier":"gold"}"#;
    assert_eq!(signed.body, question);
    let mac = HEXLOWER.encode(&sha256_mac(b"new", question));
    let expected = [("X-Check", "chk_1"), ("x-s", &*mac)];
    assert_eq!(lines(&signed.headers)[2..], expected);

    let verdict = contract.callback().unwrap().verdict();
    let allows = |status, body: &'static str| {
        let body = Bytes::from_static(body.as_bytes());
        verdict.allows(&Answer { status, headers: &[], body: &body }, &input).map(|(it, _)| it)
    };
    assert_eq!(allows(200, r#"{"allowed":"yes"}"#), Ok(true));
    assert_eq!(allows(200, r#"{"allowed":"no"}"#), Ok(false));
    assert_eq!(allows(201, r#"{"allowed":"yes"}"#), Ok(false));
    assert!(allows(200, "true").is_err());
}

#[test]
fn a_signature_over_what_only_events_have_rules_callbacks_out() {
    let over = |payload: &str| {
        let keys = format!(
            "signatures: [{{ algorithm: hmac_sha256, header: x-s, payload: \"{payload}\" }}]"
        );
        read(&keys).callback().is_some()
    };
    assert!(over("${event.id}.${int(attempt.time)}.${request.body}"));
    assert!(!over("${event.type}.${request.body}"));
    assert!(!over("${delivery.id}.${request.body}"));
}

#[test]
fn the_secret_may_be_signed_and_hashed_and_is_not_shown() {
    let keys = r#"signatures:
  - { algorithm: hmac_sha256, payload: "${secret}:${request.body}", header: x-a, each: "${key.id}-${key.number} ${base64(signature.upperAscii())} ${hex(md5(secret))}" }"#;
    let contract = read(keys);
    let (_, headers) = sent(&contract, &event("e", "1"), &hmac_keys());
    let one = |id: &str, number: u32| {
        let mac = HEXLOWER.encode(&sha256_mac(id.as_bytes(), &format!("{id}:1"))).to_uppercase();
        let hashed = HEXLOWER.encode(&<md5::Md5 as md5::Digest>::digest(id.as_bytes()));
        format!("{id}-{number} {} {hashed}", BASE64.encode(mac.as_bytes()))
    };
    assert_eq!(headers, [("x-a".to_owned(), format!("{},{}", one("new", 1), one("old", 2)))]);

    let (event, around) = (event("e", "1"), Around::at(NOW));
    let input = around.input(&event);
    let rendered = render(&contract, &input).unwrap();
    let made = signatures(&contract, &rendered, &input, &hmac_keys()).unwrap();
    assert!(made.iter().all(|made| made.payload == "[redacted]:1"), "{made:?}");
}
