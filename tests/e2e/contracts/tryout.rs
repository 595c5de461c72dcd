//! Trying a subscription out: a test send by a node, and a preview without one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{import, subscribe};
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::shop::{Shop, TYPE, subscription};
use crate::harness::verifier::assert_good;
use crate::harness::{Request, World};
use crate::on_both;

on_both!(a_test_send_tells_its_whole_story, a_preview_is_what_is_sent);

async fn a_test_send_tells_its_whole_story<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::start(|request: &Request| match request.path() {
        "/angry" => Answer::Body(500, "no se pudo".into()),
        _ => Answer::Body(201, "recibido".into()),
    })
    .await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    import(&mut shop, "preauth").await;
    // Neither the pattern nor the filter nor the pause keeps a test back.
    let fields = json!({"event_types": ["nothing.like.it"], "filter": "false"});
    let url = receiver.url("/hook");
    subscribe(&mut shop, "erp", "standard_webhooks", &url, fields).await;
    shop.turn("Pause", "erp").await;
    let test = json!({"name": subscription("erp"), "event_type": "eventTypes/order.liveness.fail"});
    let answer = shop.grpc.ok("SubscriptionService/TestSubscription", test).await;
    let attempt = &answer["attempt"];
    assert_eq!(attempt["outcome"], "ATTEMPT_OUTCOME_SUCCEEDED", "{answer}");
    assert_eq!(attempt["response"]["status"], 201);
    assert_eq!(attempt["response"]["body"], "recibido");
    assert!(attempt["timing"]["total"].is_string() && attempt["node"].is_string());
    assert_eq!(answer["delivery"]["test"], true);
    assert_eq!(answer["delivery"]["state"], "DELIVERY_STATE_SUCCEEDED");
    assert!(!answer["eventType"]["description"].as_str().unwrap().is_empty());
    let received = receiver.requests("/hook").remove(0);
    assert_eq!(attempt["request"]["body"], received.text());
    assert_eq!(attempt["request"]["url"], receiver.url("/hook"));
    assert_good(&[(&received, &shop.secret("erp").await)]).await;

    // One attempt, no retry; and what the receiver said.
    let url = receiver.url("/angry");
    subscribe(&mut shop, "angry", "standard_webhooks", &url, json!({})).await;
    let event = json!({"type": TYPE, "json": r#"{"amount":1.0}"#});
    let test = json!({"name": subscription("angry"), "event": event});
    let answer = shop.grpc.ok("SubscriptionService/TestSubscription", test).await;
    assert_eq!(answer["attempt"]["outcome"], "ATTEMPT_OUTCOME_FAILED", "{answer}");
    assert_eq!(answer["attempt"]["response"]["body"], "no se pudo");
    assert_eq!(answer["delivery"]["state"], "DELIVERY_STATE_FAILED");
    assert!(receiver.requests("/angry")[0].text().contains(r#""data":{"amount":1.0}"#));

    // It is in no count and in no list.
    let report = shop.settled().await;
    assert_eq!(
        (&report["events"]["accepted"], &report["deliveries"]["created"]),
        (&json!("0"), &json!("0"))
    );
    assert_eq!(shop.deliveries(json!({})).await, Vec::<Value>::new());
    assert_eq!(receiver.requests("/angry").len(), 1);

    for (fields, code, reason) in [
        (json!({"event_type": "eventTypes/nothing"}), "NOT_FOUND", "RESOURCE_NOT_FOUND"),
        (json!({"event_type": format!("eventTypes/{TYPE}")}), "INVALID_ARGUMENT", "FIELDS_INVALID"),
        (json!({"event": {"type": TYPE, "json": "{"}}), "INVALID_ARGUMENT", "FIELDS_INVALID"),
        (json!({}), "INVALID_ARGUMENT", "FIELDS_INVALID"),
    ] {
        let mut request = fields;
        request["name"] = json!(subscription("erp"));
        let refused = shop.grpc.refused("SubscriptionService/TestSubscription", request).await;
        assert_eq!((refused.code, refused.reason()), (code, reason), "{refused}");
    }
}

async fn a_preview_is_what_is_sent<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::start(|_| Answer::Status(200)).await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    import(&mut shop, "tusfacturas").await;
    let url = receiver.url("/erp?cuit=20");
    let fields = json!({"event_types": ["facturacion.*"], "filter": "event.data.external_reference == \"17032\""});
    subscribe(&mut shop, "erp", "tusfacturas", &url, fields).await;
    let event = json!({
        "id": "xxxxx", "type": "facturacion.encolado", "json": r#"{"external_reference":"17032"}"#,
        "occur_time": "2022-03-18T18:58:11Z",
    });
    let preview = |attempt: u32, event: &Value| json!({"name": subscription("erp"), "event": event, "attempt": attempt});
    let method = "SubscriptionService/PreviewDelivery";
    let answer = shop.grpc.ok(method, preview(3, &event)).await;
    assert_eq!(answer["matches"], true, "{answer}");
    assert_eq!((&answer["method"], &answer["url"]), (&json!("POST"), &json!(url)));
    let body = r#"{"creado":"18/03/2022 15:58:11","evento":"encolado","recurso":"facturacion","external_reference":"17032","intento":3,"msg":[],"hook_id":"xxxxx"}"#;
    assert_eq!(answer["bodyText"], body);
    assert_eq!(STANDARD.decode(answer["body"].as_str().unwrap()).unwrap(), body.as_bytes());
    let planned = answer["planned"].as_array().unwrap();
    let offsets: Vec<_> = planned.iter().map(|it| it["offset"].as_str().unwrap()).collect();
    assert_eq!(offsets, ["0s", "300s", "2100s", "12900s", "34500s", "77700s"]);
    let timeouts: Vec<_> = planned.iter().map(|it| it["timeout"].as_str().unwrap()).collect();
    assert_eq!(timeouts, ["20s", "5s", "5s", "5s", "5s", "5s"]);

    // Nothing was sent or stored; what is sent then is what was shown.
    assert_eq!(receiver.requests("/erp").len(), 0);
    super::publish(&shop, event.clone()).await;
    let sent = receiver.expect("/erp", 1).await.remove(0);
    let first = shop.grpc.ok(method, preview(1, &event)).await;
    assert_eq!(first["bodyText"], sent.text());
    shop.settled().await;
    let stored = json!({"name": subscription("erp"), "stored_event": "tenants/acme/events/xxxxx"});
    assert_eq!(shop.grpc.ok(method, stored).await["bodyText"], sent.text());

    // Why another one would not be sent.
    let other = json!({"type": "facturacion.encolado", "json": r#"{"external_reference":"1"}"#});
    let answer = shop.grpc.ok(method, preview(1, &other)).await;
    assert_eq!(answer["matches"], false);
    let steps = answer["matchSteps"].as_array().unwrap();
    let failed: Vec<_> =
        steps.iter().filter(|step| step["passed"] == false).map(|step| &step["check"]).collect();
    assert_eq!(failed, ["filter"]);

    // What is signed, of a contract that signs.
    let url = receiver.url("/signed");
    subscribe(&mut shop, "signed", "standard_webhooks", &url, json!({})).await;
    let request = json!({
        "name": subscription("signed"), "event": {"id": "e1", "type": TYPE, "json": "{}"},
    });
    let answer = shop.grpc.ok(method, request).await;
    let signature = &answer["signatures"][0];
    let payload = STANDARD.decode(signature["signedPayload"].as_str().unwrap()).unwrap();
    let payload = String::from_utf8(payload).unwrap();
    let body = answer["bodyText"].as_str().unwrap();
    let (start, signed_body) = payload.split_at(payload.len() - body.len());
    assert!(start.starts_with("e1.") && start.ends_with('.') && signed_body == body, "{payload}");
    let header = answer["headers"].as_array().unwrap().iter();
    let header = header.clone().find(|header| header["name"] == "webhook-signature").unwrap();
    assert_eq!(header["value"], format!("v1,{}", signature["value"].as_str().unwrap()));

    // Before its first secret signs, there is no request to show, and that is said.
    let early = json!({
        "name": subscription("signed"), "event": {"id": "e1", "type": TYPE, "json": "{}"},
        "time": "2023-11-14T22:13:20Z",
    });
    let answer = shop.grpc.ok(method, early).await;
    assert_eq!(answer["renderError"], "no active secret");
}
