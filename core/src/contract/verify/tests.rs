use proptest::prelude::*;

use super::*;
use crate::contract::document::tests::spec;
use crate::contract::tests::{Around, event};
use crate::contract::{
    CheckInput, ContractSpec, Signed, SigningKey, SigningKeys, builtins, render, render_check,
    sign, sign_check, standard_webhooks,
};
use crate::event::Event;
use crate::id::{CallbackId, EventTypeId, SecretId, TenantId};
use crate::model::SecretAlgorithm;
use crate::secret::key_public;
use crate::url::EndpointUrl;

mod pairs;

/// Where the requests of these tests go.
const URL: &str = "https://example.com/hook?a=1";
/// When the requests of these tests are made, in seconds.
const SENT: i64 = 1_614_265_330;

/// Both halves of a key whose bytes are all the same.
fn pair(algorithm: SecretAlgorithm, byte: u8) -> (SigningKey, VerifyingKey) {
    let secret = SecretBytes::new(vec![byte; 32]);
    let id = SecretId::parse(&format!("k{byte}")).unwrap();
    let public = key_public(algorithm, &secret).unwrap();
    let trusted = public.map_or(VerifyingKey::Hmac(secret.clone()), VerifyingKey::Public);
    (SigningKey::new(id, algorithm, &secret, Timestamp::MIN, None).unwrap(), trusted)
}

fn hmac(byte: u8) -> (SigningKey, VerifyingKey) {
    pair(SecretAlgorithm::Hmac, byte)
}

fn sent(contract: &Contract, event: &Event, keys: &[&SigningKey]) -> Signed {
    let around = Around::at(SENT);
    let input = around.input(event);
    let keys = SigningKeys::new(keys.iter().map(|key| (*key).clone()).collect());
    sign(contract, &render(contract, &input).unwrap(), &input, &keys).unwrap()
}

fn at(contract: &Contract, keys: &[VerifyingKey], signed: &Signed, seconds: i64) -> Verification {
    let headers: Vec<_> =
        signed.headers.iter().map(|line| (&*line.name, line.value.as_ref())).collect();
    let url = signed.url.as_deref().unwrap_or(URL);
    let request = Received { url, headers: &headers, body: &signed.body };
    verify(contract, keys, &request, Timestamp::from_millis(seconds * 1000))
}

fn check(contract: &Contract, keys: &[VerifyingKey], signed: &Signed) -> Overall {
    at(contract, keys, signed, SENT).overall
}

fn change(signed: &Signed, name: &str, change: impl Fn(&str) -> String) -> Signed {
    let mut changed = signed.clone();
    let line = changed.headers.iter_mut().find(|line| *line.name == *name).unwrap();
    line.value = change(std::str::from_utf8(&line.value).unwrap()).into();
    changed
}

fn flipped(text: &Bytes, index: usize, bit: u8) -> Bytes {
    let mut text = text.to_vec();
    text[index] ^= 1 << (bit % 8);
    text.into()
}

/// A contract like `standard_webhooks`, with these signatures.
fn signing(signatures: &str) -> Contract {
    signing_with(
        r#"{ id: "${event.unique_id}", at: "${attempt.time.rfc3339(3)}", data: "${event.data}" }"#,
        signatures,
    )
}

fn signing_with(body: &str, signatures: &str) -> Contract {
    let document = format!("contract: mine\nbody: {body}\nsignatures:\n  - {signatures}\n");
    let ContractSpec { signatures, body, .. } = spec(&format!("{document}{EXAMPLE}"));
    Contract::new(ContractSpec { signatures, body, ..spec(&format!("contract: mine\n{EXAMPLE}")) })
        .unwrap()
}

const EXAMPLE: &str = "examples:\n  - event: { id: e, type: a, data: '{}' }\n    time: 2026-01-01T00:00:00Z\n    attempt: 1\n";

/// An event that the contract carries; its data is an object where members are spliced in.
fn fitting(contract: &Contract, data: &str) -> Event {
    let carried = match contract.id().as_str() {
        "tusfacturas" => ("facturacion.emitido", format!(r#"{{"external_reference":{data}}}"#)),
        "crypto_onramp" => ("crypto_delivered", format!(r#"{{"orderId":{data},"9":{data}}}"#)),
        "mercadopago_wallet_connect" => ("agreement.status.updated", data.to_owned()),
        "operator" => ("payment.voided", data.to_owned()),
        _ => ("order.captured", data.to_owned()),
    };
    let event_type = EventTypeId::parse(carried.0).unwrap();
    assert!(contract.carries(&event_type));
    Event { event_type, version: 2, ..event("evt_1", &carried.1) }
}

#[test]
fn every_built_in_contract_is_verified_as_it_is_signed() {
    for built_in in builtins() {
        let contract = &built_in.contract;
        let (key, trusted) = hmac(7);
        let signed = sent(contract, &fitting(contract, "\"ñ\""), &[&key]);
        let expected = match contract.id().as_str() {
            "standard_webhooks" | "crypto_onramp" => Overall::Verified,
            _ => Overall::SignsNothing,
        };
        assert_eq!(check(contract, &[trusted], &signed), expected, "{contract:?}");
    }
}

#[test]
fn a_request_is_stale_after_five_minutes_either_way() {
    let (contract, (key, trusted)) = (standard_webhooks(), hmac(1));
    let signed = sent(&contract, &event("e", "{}"), &[&key]);
    for (seconds, overall) in [
        (SENT + 300, Overall::Verified),
        (SENT - 300, Overall::Verified),
        (SENT + 301, Overall::Stale),
        (SENT - 301, Overall::Stale),
    ] {
        assert_eq!(
            at(&contract, std::slice::from_ref(&trusted), &signed, seconds).overall,
            overall
        );
    }
}

#[test]
fn one_of_several_trusted_keys_and_of_several_signatures_is_enough() {
    let contract = standard_webhooks();
    let ((a, trusts_a), (b, trusts_b), (_, trusts_c)) = (hmac(1), hmac(2), hmac(3));
    let both = sent(&contract, &event("e", "{}"), &[&a, &b]);
    for keys in [vec![trusts_a.clone()], vec![trusts_b.clone()], vec![trusts_c.clone(), trusts_a]] {
        assert_eq!(check(&contract, &keys, &both), Overall::Verified);
    }
    assert_eq!(check(&contract, &[trusts_c], &both), Overall::Wrong);
    // Of another version, and broken ones, are passed over.
    let among = change(&both, "webhook-signature", |value| format!("v9,x v1,!! junk {value} v1,"));
    assert_eq!(check(&contract, &[trusts_b], &among), Overall::Verified);
}

#[test]
fn each_signature_is_judged_by_keys_of_its_kind() {
    let contract = standard_webhooks();
    let (hmac, ed25519) = (hmac(1), pair(SecretAlgorithm::Ed25519, 2));
    let (_, stranger) = pair(SecretAlgorithm::Ed25519, 3);
    let both = sent(&contract, &event("e", "{}"), &[&hmac.0, &ed25519.0]);
    let of = |keys: &[&VerifyingKey], signed: &Signed| {
        let keys: Vec<_> = keys.iter().map(|key| (*key).clone()).collect();
        let found = at(&contract, &keys, signed, SENT);
        let [(_, v1), (_, v1a)] = <[_; 2]>::try_from(found.signatures).unwrap();
        (v1, v1a, found.overall)
    };
    let no_key = Finding::Unverifiable(Obstacle::NoKey);
    let (good, wrong, missing) = (Finding::Verified, Finding::Wrong, Finding::Missing);
    let verified = Overall::Verified;
    assert_eq!(of(&[&hmac.1, &ed25519.1], &both), (good.clone(), good.clone(), verified));
    assert_eq!(of(&[&hmac.1], &both), (good.clone(), no_key.clone(), verified));
    assert_eq!(of(&[&ed25519.1], &both), (no_key.clone(), good.clone(), verified));
    assert_eq!(of(&[&hmac.1, &stranger], &both), (good.clone(), wrong, Overall::Wrong));
    assert_eq!(of(&[], &both), (no_key.clone(), no_key, Overall::Unverifiable));
    let alone = sent(&contract, &event("e", "{}"), &[&ed25519.0]);
    assert_eq!(of(&[&hmac.1, &ed25519.1], &alone), (missing.clone(), good, verified));
    let mut without = both;
    without.headers.retain(|line| *line.name != *"webhook-signature");
    assert_eq!(of(&[&hmac.1], &without), (missing.clone(), missing, Overall::Missing));
}

#[test]
fn whatever_differs_from_what_was_signed_is_wrong() {
    let (contract, (key, trusted)) = (standard_webhooks(), hmac(1));
    let signed = sent(&contract, &event("e", "{}"), &[&key]);
    let is_wrong = |signed: &Signed| {
        assert_eq!(check(&contract, std::slice::from_ref(&trusted), signed), Overall::Wrong);
    };
    for index in 0..signed.body.len() {
        is_wrong(&Signed { body: flipped(&signed.body, index, 0), ..signed.clone() });
    }
    is_wrong(&change(&signed, "webhook-id", |id| format!("{id}x")));
    is_wrong(&change(&signed, "webhook-timestamp", |_| (SENT + 1).to_string()));
    is_wrong(&change(&signed, "webhook-signature", |value| value.to_lowercase()));
    is_wrong(&change(&signed, "webhook-signature", |value| value[..20].to_owned()));
    is_wrong(&change(&signed, "webhook-signature", |_| "v1,".to_owned()));
    is_wrong(&change(&signed, "webhook-signature", |value| value.trim_end_matches('=').to_owned()));
}

#[test]
fn what_the_request_does_not_tell_is_named() {
    let (contract, (key, trusted)) = (standard_webhooks(), hmac(1));
    let mut signed = sent(&contract, &event("e", "{}"), &[&key]);
    signed.headers.retain(|line| *line.name != *"webhook-id");
    let found = at(&contract, std::slice::from_ref(&trusted), &signed, SENT);
    let unknown = Obstacle::Unknown("event.unique_id".into());
    assert_eq!(found.signatures[0].1, Finding::Unverifiable(unknown));
    assert_eq!(found.overall, Overall::Unverifiable);

    // A time that is no time makes a wrong payload.
    let yesterday =
        change(&sent(&contract, &event("e", "{}"), &[&key]), "webhook-timestamp", |_| {
            "yesterday".to_owned()
        });
    assert_ne!(check(&contract, std::slice::from_ref(&trusted), &yesterday), Overall::Verified);

    let contract = signing(
        r#"{ algorithm: hmac_sha256, header: x-sign, payload: "${subscription.url}|${request.body}" }"#,
    );
    let signed = sent(&contract, &event("e", "{}"), &[&key]);
    let found = at(&contract, &[trusted], &signed, SENT);
    let unknown = Obstacle::Unknown("subscription.url".into());
    assert_eq!(unknown.to_string(), "the request does not tell subscription.url");
    assert_eq!(found.signatures[0].1, Finding::Unverifiable(unknown));
}

#[test]
fn signatures_are_found_in_headers_of_every_style() {
    for signature in [
        r#"{ algorithm: hmac_sha256, header: x-hub-signature-256, each: "sha256=${signature}" }"#,
        r#"{ algorithm: hmac_sha1, header: x-sign }"#,
        r#"{ algorithm: hmac_sha512, header: x-sign, encoding: base64url, separator: " " }"#,
        r#"{ algorithm: hmac_sha256, header: x-sign, prefix: "t=${int(attempt.time)},", each: "v1=${signature}", payload: "${int(attempt.time)}.${request.body}" }"#,
        r#"{ algorithm: hmac_sha256, header: x-sign, each: "t=${int(attempt.time)},v1=${signature}", payload: "${int(attempt.time)}.${request.body}", separator: ", " }"#,
        r#"{ algorithm: hmac_sha256, header: x-sign, encoding: base64, prefix: "n=${attempt.number};", each: "${signature}", separator: ";", payload: "${attempt.number}:${request.body}" }"#,
        r#"{ algorithm: hmac_sha256, header: x-sign, payload: "POST ${event.id} ${attempt.time.rfc3339(3)} ${hex(sha256(request.body))}" }"#,
        r#"{ algorithm: hmac_sha256, body: signature }"#,
        r#"{ algorithm: hmac_sha256, encoding: base64, body: data.sig, payload: "${event.unique_id}${request.body}" }"#,
    ] {
        let contract = if signature.contains("event.id") {
            let body = r#"{ id: "evt-${event.id}", at: "${attempt.time.rfc3339(3)}" }"#;
            signing_with(body, signature)
        } else {
            signing(signature)
        };
        let ((a, trusts_a), (b, trusts_b), (_, stranger)) = (hmac(1), hmac(2), hmac(3));
        let signed = sent(&contract, &event("e", r#"{"a":1}"#), &[&a, &b]);
        let is = |keys: &[VerifyingKey], signed: &Signed| check(&contract, keys, signed);
        assert_eq!(is(std::slice::from_ref(&trusts_b), &signed), Overall::Verified, "{signature}");
        let expected =
            if signature.contains("body: ") { Overall::Wrong } else { Overall::Verified };
        assert_eq!(is(&[trusts_a], &signed), expected, "{signature}");
        assert_eq!(is(&[stranger], &signed), Overall::Wrong, "{signature}");
        let mut changed = signed.body.to_vec();
        let at = changed.iter().position(|byte| *byte == b':').unwrap() + 2;
        changed[at] ^= 1;
        let changed = Signed { body: changed.into(), ..signed };
        assert_ne!(is(&[trusts_b], &changed), Overall::Verified, "{signature}");
    }
}

#[test]
fn a_signature_in_the_body_is_the_last_member_of_the_canonical_form() {
    let contract = &builtins()
        .iter()
        .find(|it| it.contract.id().as_str() == "crypto_onramp")
        .unwrap()
        .contract;
    let (key, trusted) = hmac(1);
    let signed = sent(contract, &fitting(contract, "1"), &[&key]);
    let of = |body: String| {
        let signed = Signed { body: body.into(), ..signed.clone() };
        check(contract, std::slice::from_ref(&trusted), &signed)
    };
    let text = std::str::from_utf8(&signed.body).unwrap();
    assert_eq!(of(text.to_owned()), Overall::Verified);
    let (rest, signature) = text.split_once(r#","signature""#).unwrap();
    assert_eq!(of(format!("{rest}}}")), Overall::Missing);
    assert_eq!(of(text.replace(',', ", ")), Overall::Wrong);
    assert_eq!(of(text.replace(r#""9":1"#, r#""9":1.0"#)), Overall::Wrong);
    assert_eq!(of(text.to_uppercase().replace("SIGNATURE", "signature")), Overall::Wrong);
    let moved = format!(r#"{{"signature"{},{}"#, signature.trim_end_matches('}'), &rest[1..]);
    assert_eq!(of(format!("{moved}}}")), Overall::Wrong);
    assert_eq!(of(text[..text.len() - 1].to_owned()), Overall::Wrong);
    assert_eq!(of("[]".to_owned()), Overall::Missing);
    assert_eq!(of(String::new()), Overall::Missing);
    assert_eq!(of(format!(r#"{rest},"signature":null}}"#)), Overall::Wrong);
}

#[test]
fn questions_to_callbacks_are_verified_too() {
    let (url, tenant) =
        (EndpointUrl::parse_stored("https://a.example/").unwrap(), TenantId::parse("t"));
    let (labels, data) = (Default::default(), Bytes::from_static(br#"{"email":"a@b"}"#));
    let input = CheckInput {
        id: "chk_1",
        time: Timestamp::from_millis(SENT * 1000),
        data: &data,
        tenant: &tenant.unwrap(),
        tenant_labels: &labels,
        callback: &CallbackId::parse("c").unwrap(),
        callback_labels: &labels,
        url: &url,
        user_agent: &Bytes::from_static(b"x"),
    };
    for built_in in builtins() {
        let (contract, (key, trusted)) = (&built_in.contract, hmac(1));
        let rendered = render_check(contract, &input).unwrap();
        let keys = SigningKeys::new(vec![key]);
        let signed = sign_check(contract, &rendered, &input, &keys).unwrap();
        let expected = match contract.signatures.is_empty() {
            true => Overall::SignsNothing,
            false => Overall::Verified,
        };
        assert_eq!(check(contract, &[trusted], &signed), expected, "{contract:?}");
    }
}

#[test]
fn keys_are_read_in_the_contracts_form() {
    let parse = |name: &str, text: &str| {
        let found = builtins().iter().find(|it| it.contract.id().as_str() == name).unwrap();
        VerifyingKey::parse(&found.contract, text)
    };
    let public = "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    assert!(matches!(parse("standard_webhooks", public), Ok(VerifyingKey::Public(_))));
    // Where nothing is signed with Ed25519, it is text like any other.
    assert!(matches!(parse("crypto_onramp", public), Ok(VerifyingKey::Hmac(_))));
    let secret = parse("standard_webhooks", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    assert_eq!(format!("{secret:?}"), "Hmac(SecretBytes(redacted))");
    for wrong in ["hunter2", "whsec_AAAA", "whpk_AAAA"] {
        let said = parse("standard_webhooks", wrong).unwrap_err().description;
        assert!(!said.contains(wrong), "{said}");
    }
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(|f| format!("{f:?}")),
        any::<String>().prop_map(|s| serde_json::to_string(&s).unwrap()),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|v| format!("[{}]", v.join(" , "))),
            prop::collection::btree_map(any::<String>(), inner, 0..4).prop_map(|members| {
                let name = |name: &String| serde_json::to_string(name).unwrap();
                let member = |(key, value): (&String, &String)| format!("{} : {value}", name(key));
                format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_data_is_verified_and_any_changed_bit_is_not(data in json(), at: prop::sample::Index, bit in 0u8..8) {
        for built_in in builtins() {
            let contract = &built_in.contract;
            let (key, trusted) = hmac(1);
            let event = fitting(contract, &data);
            let signed = sent(contract, &event, &[&key]);
            let keys = [trusted];
            if contract.signatures.is_empty() {
                prop_assert_eq!(check(contract, &keys, &signed), Overall::SignsNothing);
                continue;
            }
            prop_assert_eq!(check(contract, &keys, &signed), Overall::Verified);
            let body = flipped(&signed.body, at.index(signed.body.len()), bit);
            let changed = check(contract, &keys, &Signed { body, ..signed });
            prop_assert!(matches!(changed, Overall::Wrong | Overall::Missing), "{:?}", changed);
        }
    }

    #[test]
    fn no_request_panics(signature in ".{0,60}", body in any::<Vec<u8>>(), end in "[,; .=v1a]{0,20}") {
        let body = Bytes::from(body);
        let headers = ["webhook-signature", "webhook-id", "x-sign"];
        let value = format!("{signature}{end}");
        let headers = headers.map(|name| (name, value.as_bytes()));
        let request = Received { url: URL, headers: &headers, body: &body };
        let (_, trusted) = hmac(1);
        for built_in in builtins() {
            let found = verify(&built_in.contract, std::slice::from_ref(&trusted), &request, Timestamp::MIN);
            prop_assert!(found.overall != Overall::Verified);
        }
    }
}
