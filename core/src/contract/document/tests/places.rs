//! Where signatures and parameters may stand, and in which bodies: what is sent, and what the other
//! side makes of it.

use bytes::Bytes;
use data_encoding::HEXLOWER;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use super::accepted::read;
use crate::clock::Timestamp;
use crate::contract::tests::{Around, event, lines};
use crate::contract::verify::{Overall, Received, VerifyingKey, verify};
use crate::contract::{Contract, Signed, SigningKey, SigningKeys, redacted_url, render, sign};
use crate::id::SecretId;
use crate::model::SecretAlgorithm;
use crate::secret::SecretBytes;

/// When attempts are made here, in seconds.
const NOW: i64 = 1_700_000_000;
/// Where they go.
const URL: &str = "https://example.com/hook?a=1";

pub(super) fn keys() -> SigningKeys {
    let key = |id: &str, from: i64| {
        let (id, bytes) = (SecretId::parse(id).unwrap(), SecretBytes::new(id.as_bytes().to_vec()));
        let from = Timestamp::from_millis(from);
        SigningKey::new(id, SecretAlgorithm::Hmac, &bytes, from, None).unwrap()
    };
    SigningKeys::new(vec![key("old", 0), key("new", 1)])
}

pub(super) fn sent(contract: &Contract, data: &str) -> Signed {
    let (event, around) = (event("e", data), Around::at(NOW));
    let input = around.input(&event);
    sign(contract, &render(contract, &input).unwrap(), &input, &keys()).unwrap()
}

pub(super) fn mac(key: &str, message: impl AsRef<[u8]>) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(message.as_ref());
    HEXLOWER.encode(&mac.finalize().into_bytes())
}

/// Headers of a request, but for `content-type` and `user-agent`.
pub(super) fn headers(signed: &Signed) -> Vec<(&str, &str)> {
    lines(&signed.headers).split_off(2)
}

/// What a receiver with this secret makes of a request.
fn judged(contract: &Contract, secret: &str, signed: &Signed) -> Overall {
    let headers: Vec<_> =
        signed.headers.iter().map(|line| (&*line.name, line.value.as_ref())).collect();
    let url = signed.url.as_deref().unwrap_or(URL);
    let trusted = [VerifyingKey::Hmac(SecretBytes::new(secret.as_bytes().to_vec()))];
    let request = Received { url, headers: &headers, body: &signed.body };
    verify(contract, &trusted, &request, Timestamp::from_millis(NOW * 1000)).overall
}

/// Both keys are accepted, or the newest alone; a stranger's is not, nor a changed body.
pub(super) fn holds(contract: &Contract, signed: &Signed, both: bool) {
    assert_eq!(judged(contract, "new", signed), Overall::Verified);
    let old = if both { Overall::Verified } else { Overall::Wrong };
    assert_eq!(judged(contract, "old", signed), old);
    assert_eq!(judged(contract, "stranger", signed), Overall::Wrong);
    let mut body = signed.body.to_vec();
    let middle = body.len() / 2;
    body[middle] ^= 1;
    let changed = Signed { body: body.into(), ..signed.clone() };
    assert_ne!(judged(contract, "new", &changed), Overall::Verified);
}

#[test]
fn keys_may_stand_oldest_first() {
    let contract = read(
        "signatures: [{ algorithm: hmac_sha256, header: x-s, order: oldest_first, each: \"${key.number}=${signature}\" }]",
    );
    let signed = sent(&contract, "[1]");
    let value = format!("1={},2={}", mac("old", "[1]"), mac("new", "[1]"));
    assert_eq!(headers(&signed), [("x-s", &*value)]);
    assert_eq!(signed.keys, ["old", "new"].map(|id| SecretId::parse(id).unwrap()));
}

#[test]
fn each_key_may_have_a_header() {
    let contract = read(
        "signatures: [{ algorithm: hmac_sha256, header: \"X-DocuSign-Signature-${key.number}\" }]",
    );
    let signed = sent(&contract, "[1, 2]");
    let (new, old) = (mac("new", "[1, 2]"), mac("old", "[1, 2]"));
    let expected = [("X-DocuSign-Signature-1", &*new), ("X-DocuSign-Signature-2", &*old)];
    assert_eq!(headers(&signed), expected);
    assert!(contract.header_names().contains(&"X-DocuSign-Signature-10"));
    holds(&contract, &signed, true);
}

#[test]
fn a_signature_may_stand_below_a_list() {
    let contract = read(
        "body: { items: [{ item: { id: \"${event.id}\", more: { eventCode: a } } }] }\nsignatures:\n  - { algorithm: hmac_sha256, payload: \"${event.id}\", body: \"items[0].item.more.hmacSignature\" }",
    );
    let signed = sent(&contract, "1");
    let mac = mac("new", "e");
    let expected = format!(
        r#"{{"items":[{{"item":{{"id":"e","more":{{"eventCode":"a","hmacSignature":"{mac}"}}}}}}]}}"#
    );
    assert_eq!(signed.body, expected);
    assert_eq!(judged(&contract, "new", &signed), Overall::Verified);
    assert_eq!(judged(&contract, "old", &signed), Overall::Wrong);
}

#[test]
fn a_signature_may_be_a_field_of_a_form_with_text_around_it() {
    let contract = read(
        "body_format: form\nbody: { bt_payload: \"${base64(json(event.data))}\" }\nsignatures:\n  - { algorithm: hmac_sha256, body: bt_signature, each: \"${key.id}|${signature}\" }",
    );
    let signed = sent(&contract, r#"{"a": "ñ"}"#);
    let unsigned = "bt_payload=eyJhIjogIsOxIn0%3D";
    let expected = format!("{unsigned}&bt_signature=new%7C{}", mac("new", unsigned));
    assert_eq!(signed.body, expected);
    holds(&contract, &signed, false);
}

#[test]
fn a_form_may_be_of_parts() {
    let contract = read(
        "body_format: multipart\nbody: { json: \"${json(event.data)}\", n: 1.50 }\nsignatures:\n  - { algorithm: hmac_sha256, header: x-s }\n  - { algorithm: hmac_sha256, payload: \"${event.id}\", body: sig }\nheaders: { x-id: \"${event.id}\" }",
    );
    let signed = sent(&contract, r#"{"a": "ñ"}"#);
    let content_type = lines(&signed.headers)[0].1;
    let boundary = content_type.strip_prefix("multipart/form-data; boundary=").unwrap();
    let part = |name: &str, value: &str| {
        let head = "Content-Disposition: form-data; name=";
        format!("--{boundary}\r\n{head}\"{name}\"\r\n\r\n{value}\r\n")
    };
    let (json, n, sig) =
        (part("json", r#"{"a": "ñ"}"#), part("n", "1.50"), part("sig", &mac("new", "e")));
    assert_eq!(signed.body, format!("{json}{n}{sig}--{boundary}--\r\n"));
    let unsigned = format!("{json}{n}--{boundary}--\r\n");
    let both = format!("{},{}", mac("new", &unsigned), mac("old", &unsigned));
    assert!(headers(&signed).contains(&("x-s", &*both)));
    assert_eq!(judged(&contract, "new", &signed), Overall::Verified);
    assert_eq!(sent(&contract, r#"{"a": "ñ"}"#), signed, "no chance");
}

#[test]
fn parameters_are_added_to_the_url_and_signed_with_it() {
    let contract = read(
        "url: { query: { data.id: \"${event.data.id}\", type: \"${event.type}\", none: \"${event.data.?none}\", bodySHA256: \"${hex(sha256(request.body))}\" } }\nsignatures:\n  - { algorithm: hmac_sha256, header: x-s, payload: \"${request.url}\" }\n  - { algorithm: hmac_sha256, query: token, payload: \"${event.type}\", each: \"v1|${signature}\" }\nheaders: { x-url: \"${request.url}\", x-own: \"${subscription.url}\" }",
    );
    let signed = sent(&contract, r#"{"id":"a b/ñ"}"#);
    let digest = HEXLOWER.encode(&Sha256::digest(r#"{"id":"a b/ñ"}"#));
    let url = format!("{URL}&data.id=a%20b%2F%C3%B1&type=order.captured&bodySHA256={digest}");
    let whole = format!("{url}&token=v1%7C{}", mac("new", "order.captured"));
    assert_eq!(signed.url.as_deref(), Some(&*whole));
    let own = headers(&signed);
    let expected = format!("{},{}", mac("new", &url), mac("old", &url));
    assert_eq!(own, [("x-own", URL), ("x-url", &*whole), ("x-s", &*expected)]);
    assert_eq!(contract.query_names().collect::<Vec<_>>().len(), 5);
    assert_eq!(judged(&contract, "new", &signed), Overall::Verified);
    assert_eq!(judged(&contract, "stranger", &signed), Overall::Wrong);
    let other = Signed { url: Some(whole.replace("a%20b", "a%20c").into()), ..signed };
    assert_eq!(judged(&contract, "new", &other), Overall::Wrong);

    let (event, around) = (event("e", r#"{"id":"x"}"#), Around::at(NOW));
    let redacted = "%5Bredacted%5D";
    let shown =
        format!("{URL}&data.id=x&type=order.captured&bodySHA256={redacted}&token={redacted}");
    assert_eq!(redacted_url(&contract, &around.input(&event)), shown);
}

#[test]
fn a_hash_with_the_secret_in_its_text_is_a_signature() {
    let contract = read(
        "body: { id: \"${event.id}\", signature: {} }\nsignatures: [{ algorithm: sha256, payload: \"${event.id}${secret}\", body: signature.checksum }, { algorithm: sha1, payload: \"${secret}${request.body}\", header: x-s, keys: newest }]",
    );
    let signed = sent(&contract, "1");
    let digest = HEXLOWER.encode(&Sha256::digest("enew"));
    assert_eq!(signed.body, format!(r#"{{"id":"e","signature":{{"checksum":"{digest}"}}}}"#));
    let unsigned = r#"new{"id":"e","signature":{}}"#;
    let sha1 = HEXLOWER.encode(&<sha1::Sha1 as Digest>::digest(unsigned));
    assert_eq!(headers(&signed), [("x-s", &*sha1)]);
    holds(&contract, &signed, false);
}

#[test]
fn a_body_may_be_compressed_before_or_after_it_is_signed() {
    for (when, over) in [("before_signing", "compressed"), ("after_signing", "plain")] {
        let contract = read(&format!(
            "gzip: {when}\nsignatures: [{{ algorithm: hmac_sha256, header: x-s, keys: newest }}]\nheaders: {{ x-digest: \"${{hex(sha256(request.body))}}\" }}"
        ));
        let data = format!("[\"{}\"]", "a".repeat(1000));
        let signed = sent(&contract, &data);
        let plain = signed.plain.clone().unwrap();
        assert_eq!(plain, data);
        assert!(signed.body.len() < 100 && signed.body.starts_with(&[0x1f, 0x8b]));
        let signed_over: Bytes = if over == "plain" { plain } else { signed.body.clone() };
        let digest = HEXLOWER.encode(&Sha256::digest(&signed.body));
        let expected = [
            ("content-encoding", "gzip"),
            ("x-digest", &*digest),
            ("x-s", &*mac("new", signed_over)),
        ];
        assert_eq!(headers(&signed), expected);
        assert_eq!(judged(&contract, "new", &signed), Overall::Verified, "{when}");
        let changed = Signed { body: Bytes::from_static(b"[]"), ..signed };
        assert_eq!(judged(&contract, "new", &changed), Overall::Wrong, "{when}");
    }
}

#[test]
fn the_fixed_headers_are_templates_too() {
    let contract = read(
        "content_type: application/vnd.${event.type}+json\nuser_agent: \"acme/${event.tenant}\"",
    );
    let signed = sent(&contract, "1");
    let expected =
        [("content-type", "application/vnd.order.captured+json"), ("user-agent", "acme/acme")];
    assert_eq!(lines(&signed.headers), expected);
}
