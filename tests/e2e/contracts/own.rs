//! A platform's own contract: made, used, changed, and not deleted under anybody.

use std::io::Read as _;

use data_encoding::{BASE64, HEXLOWER};
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{publish, story, subscribe};
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::shop::{Shop, subscription};
use crate::harness::{Request, World};
use crate::on_both;

on_both!(
    every_form_of_a_request_arrives_and_is_shown,
    a_contract_of_ones_own_from_its_creation_to_its_end,
    a_wrong_document_is_told_all_at_once,
    built_in_contracts_are_there_to_stay,
);

const MINE: &str = r#"
contract: mine
description: "What our receivers already speak"
event_types: [order.*]
body: { kind: "${event.type}", try: "${attempt.number}", order: "${event.data}" }
headers: { x-signed-at: "${int(attempt.time)}" }
secret: { required: true, form: hex, bytes: [16, 64], generate: 32 }
signatures:
  - { algorithm: hmac_sha512, payload: "${int(attempt.time)}:${request.body}", encoding: base64, header: x-signature }
acknowledge: response.status == 200 && response.json.ok
refuse: response.status == 422
retry: { delays: [1s, 1s], retry_after: ignore }
examples:
  - event: { type: order.captured, data: '{"id":"o1"}' }
    expect: { body: '{"kind":"order.captured","try":1,"order":{"id":"o1"}}' }
"#;

async fn create(shop: &mut Shop, document: &str) -> Value {
    let request = json!({"contract_id": "mine", "contract": {"document": document}});
    shop.write("ContractService/CreateContract", request).await
}

async fn a_contract_of_ones_own_from_its_creation_to_its_end<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::start(|request: &Request| match request.path() {
        "/twice" if request.text().contains(r#""try":1"#) => Answer::Body(200, "{}".into()),
        "/refuses" => Answer::Status(422),
        _ => Answer::Body(200, r#"{"ok":true}"#.into()),
    })
    .await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let made = create(&mut shop, MINE).await;
    let revision = made["contract"]["revision"].clone();
    assert_eq!(made["contract"]["eventTypes"], json!(["order.*"]));
    subscribe(&mut shop, "erp", "mine", &receiver.url("/hook"), json!({})).await;
    subscribe(&mut shop, "twice", "mine", &receiver.url("/twice"), json!({})).await;
    subscribe(&mut shop, "refuses", "mine", &receiver.url("/refuses"), json!({})).await;
    assert_eq!(shop.secret("erp").await.len(), 64, "hexadecimal digits of 32 bytes");

    publish(&shop, json!({"id": "e1", "type": "order.captured", "json": r#"{"id":"o1"}"#})).await;
    let (delivery, attempts) = story(&shop, "e1", "erp", "SUCCEEDED").await;
    assert_eq!(delivery["contract"], "contracts/mine");
    assert_eq!(attempts[0]["contractRevision"], revision);
    let sent = receiver.requests("/hook").remove(0);
    assert_eq!(sent.text(), r#"{"kind":"order.captured","try":1,"order":{"id":"o1"}}"#);
    assert_eq!(sent.header("x-signature").len(), 88, "base64 of 64 bytes");

    // A 200 without ok is no acknowledgement here; a 422 is a refusal.
    let (_, attempts) = story(&shop, "e1", "twice", "SUCCEEDED").await;
    assert_eq!(attempts.len(), 2);
    let (refused, attempts) = story(&shop, "e1", "refuses", "FAILED").await;
    assert_eq!((attempts.len(), &refused["endReason"]), (1, &json!("END_REASON_REFUSED")));

    // A delivery that waits goes out under what the contract now says.
    shop.turn("Pause", "erp").await;
    shop.served().await;
    publish(&shop, json!({"id": "e2", "type": "order.captured", "json": "{}"})).await;
    let changed = MINE.replace("kind:", "event:").replace(r#"{"kind""#, r#"{"event""#);
    let update = json!({"contract": {"name": "contracts/mine", "document": changed}});
    let newer = shop.write("ContractService/UpdateContract", update).await;
    assert_ne!(newer["contract"]["revision"], revision);
    shop.turn("Resume", "erp").await;
    let (_, attempts) = story(&shop, "e2", "erp", "SUCCEEDED").await;
    assert_eq!(attempts[0]["contractRevision"], newer["contract"]["revision"]);
    let sent = receiver.requests("/hook").remove(1);
    assert_eq!(sent.text(), r#"{"event":"order.captured","try":1,"order":{}}"#);

    let name = json!({"name": "contracts/mine"});
    let refused = shop.grpc.refused("ContractService/DeleteContract", name.clone()).await;
    assert_eq!((refused.code, refused.reason()), ("FAILED_PRECONDITION", "CONTRACT_IN_USE"));
    for id in ["erp", "twice", "refuses"] {
        let name = json!({"name": subscription(id)});
        shop.write("SubscriptionService/DeleteSubscription", name).await;
    }
    shop.write("ContractService/DeleteContract", name.clone()).await;
    let refused = shop.grpc.refused("ContractService/GetContract", name).await;
    assert_eq!(refused.code, "NOT_FOUND");
    let request = json!({
        "parent": "tenants/acme",
        "subscription": {
            "url": receiver.url("/x"), "event_types": ["*"], "contract": "contracts/mine",
        },
    });
    let refused = shop.grpc.refused("SubscriptionService/CreateSubscription", request).await;
    assert_eq!((refused.code, refused.reason()), ("NOT_FOUND", "RESOURCE_NOT_FOUND"));
}

/// Forms of requests that none of the built-in contracts has.
const FORMS: &str = r#"
contract: mine
body_format: multipart
body: { json: "${json(event.data)}" }
gzip: after_signing
headers: { X-Shop-Event: "${event.type}", X-Called: "${request.url}" }
url: { query: { data.id: "${event.data.id}", type: "${event.type}" } }
secret: { required: true, form: text, bytes: [16, 64], generate: 16 }
signatures:
  - { name: of, algorithm: hmac_sha256, payload: "${request.url}|${request.body}", header: "X-Shop-Sign-${key.number}" }
  - { name: hash, algorithm: sha256, payload: "${event.id}${secret}", query: sum }
sensitive: ["event.data.card"]
examples:
  - event: { type: order.captured, data: '{"id":"o1"}' }
"#;

async fn every_form_of_a_request_arrives_and_is_shown<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    create(&mut shop, FORMS).await;
    let own = json!({"headers": [{"name": "X-Own-Header", "value": "seven"}]});
    subscribe(&mut shop, "erp", "mine", &receiver.url("/hook?a=1"), own).await;
    let secret = shop.secret("erp").await;
    let data = r#"{"id": "o/1", "card": "4242"}"#;
    publish(&shop, json!({"id": "e1", "type": "order.captured", "json": data})).await;
    let (_, attempts) = story(&shop, "e1", "erp", "SUCCEEDED").await;

    let sent = receiver.expect("/hook", 1).await.remove(0);
    let base = receiver.url("/hook?a=1");
    let url = format!("{base}&data.id=o%2F1&type=order.captured");
    let sum = HEXLOWER.encode(&Sha256::digest(format!("e1{secret}")));
    let whole = format!("{url}&sum={sum}");
    assert!(whole.ends_with(&sent.target), "{}", sent.target);
    assert_eq!(sent.header("x-called"), whole);
    assert_eq!(sent.header("content-encoding"), "gzip");
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&sent.body[..]).read_to_end(&mut plain).unwrap();
    let plain = String::from_utf8(plain).unwrap();
    assert!(plain.contains(&format!("name=\"json\"\r\n\r\n{data}\r\n")), "{plain}");
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{url}|{plain}").as_bytes());
    let mac = HEXLOWER.encode(&mac.finalize().into_bytes());
    assert_eq!(sent.header("x-shop-sign-1"), mac);

    // The attempt shows it with what is sensitive, and the signatures, left out.
    let request = &attempts[0]["request"];
    assert_eq!(request["url"], format!("{url}&sum=%5Bredacted%5D"));
    assert!(!request.to_string().contains("4242"), "{request}");
    let names: Vec<_> =
        request["headers"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    let expected = [
        "content-type",
        "user-agent",
        "content-encoding",
        "X-Shop-Event",
        "X-Called",
        "X-Shop-Sign-1",
        "X-Own-Header",
    ];
    assert_eq!(names, expected);
    let preview = json!({
        "name": subscription("erp"),
        "event": {"id": "e1", "type": "order.captured", "json": data},
    });
    let preview = shop.grpc.ok("SubscriptionService/PreviewDelivery", preview).await;
    assert_eq!((&preview["url"], &preview["bodyText"]), (&json!(whole), &json!(plain)));
    let signed: Vec<_> = preview["signatures"].as_array().unwrap().iter().collect();
    assert_eq!(signed[0]["value"], mac);
    let shown = BASE64.decode(signed[1]["signedPayload"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(shown, b"e1[redacted]");
}

async fn a_wrong_document_is_told_all_at_once<W: World>() {
    let pregon = W::in_memory().await;
    let shop = Shop::open(pregon.grpcurl()).await;
    let document = "contract: mine\nbdy: {}\nheaders: { x-a: \"${event.tpe}\" }\ntimeouts: [40s]\nexamples:\n  - event: { type: a, data: '{}' }\n";
    let request =
        json!({"contract_id": "mine", "contract": {"document": document}, "validate_only": true});
    let refused = shop.grpc.refused("ContractService/CreateContract", request).await;
    let places: Vec<_> = refused
        .detail("BadRequest")
        .and_then(|it| it["fieldViolations"].as_array())
        .unwrap()
        .iter()
        .map(|it| {
            assert_eq!(it["field"], "contract.document");
            let text = it["description"].as_str().unwrap();
            (it["reason"].as_str().unwrap(), text.split(": ").next().unwrap())
        })
        .collect();
    let expected =
        [("CONTRACT_INVALID", "2:1"), ("EXPRESSION_INVALID", "3:17"), ("CONTRACT_INVALID", "4:12")];
    assert_eq!(places, expected, "{refused}");

    // A contract that fails on its own example is none.
    let wrong = MINE.replace(r#""try":1,"order""#, r#""try":2,"order""#);
    let request = json!({"contract_id": "mine", "contract": {"document": wrong}});
    let refused = shop.grpc.refused("ContractService/CreateContract", request).await;
    assert!(refused.description("contract.document").contains("differs"), "{refused}");
    let request = json!({"contract_id": "other", "contract": {"document": MINE}});
    let refused = shop.grpc.refused("ContractService/CreateContract", request).await;
    assert_eq!(refused.code, "INVALID_ARGUMENT", "{refused}");
}

async fn built_in_contracts_are_there_to_stay<W: World>() {
    let pregon = W::in_memory().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    create(&mut shop, MINE).await;
    let mut contracts = Vec::new();
    let mut request = json!({"page_size": 4});
    loop {
        let mut page = shop.grpc.ok("ContractService/ListContracts", request.clone()).await;
        contracts.append(page["contracts"].as_array_mut().unwrap());
        match page["nextPageToken"].as_str() {
            None | Some("") => break,
            Some(token) => request["page_token"] = json!(token),
        }
    }
    let names: Vec<_> = contracts.iter().map(|it| it["name"].as_str().unwrap()).collect();
    let expected = [
        "contracts/cloudevents",
        "contracts/cloudevents_binary",
        "contracts/crypto_onramp",
        "contracts/mercadopago_wallet_connect",
        "contracts/mine",
        "contracts/operator",
        "contracts/preauth",
        "contracts/standard_webhooks",
        "contracts/tusfacturas",
    ];
    assert_eq!(names, expected);
    let built_in = contracts.iter().filter(|it| it["builtIn"] == true).count();
    assert_eq!(built_in, 8);
    let name = json!({"name": "contracts/preauth"});
    let refused = shop.grpc.refused("ContractService/DeleteContract", name).await;
    assert_eq!((refused.code, refused.reason()), ("FAILED_PRECONDITION", "BUILT_IN"));

    // Its event types, once and not twice.
    let made = super::import(&mut shop, "preauth").await;
    assert_eq!(made["created"].as_array().unwrap().len(), 2, "order.captured was there: {made}");
    assert_eq!(made["eventTypes"].as_array().unwrap().len(), 3);
    let request = json!({"contract": "contracts/preauth"});
    let again = shop.grpc.ok("EventTypeService/ImportEventTypes", request).await;
    assert_eq!(again["created"], json!([]));
}
