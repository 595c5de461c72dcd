//! The ten commands of the API's first page, by grpcurl that knows no proto file: what a person
//! types first, and what answers.

use serde_json::json;

use crate::harness::shop::{Shop, subscription};
use crate::harness::verifier::assert_good;
use crate::harness::{Receiver, World};
use crate::on_both;

on_both!(ten_commands);

async fn ten_commands<W: World>() {
    let pregon = W::on_disk(&[]).await;
    let g = pregon.grpcurl();
    let receiver = Receiver::friendly().await;

    // 1: a tenant.
    let request = json!({"tenant_id": "acme", "tenant": {"display_name": "Acme"}});
    let answer = g.ok("TenantService/CreateTenant", request).await;
    assert_eq!(answer["tenant"]["name"], "tenants/acme");
    assert_eq!(answer["tenant"]["displayName"], "Acme");
    assert_eq!(answer["tenant"]["revision"], answer["revision"]);

    // 2: an event type.
    let example = r#"{"id":"o1","amount":5000}"#;
    let request = json!({"event_type_id": "order.captured", "event_type": {"example": example}});
    let answer = g.ok("EventTypeService/CreateEventType", request).await;
    assert_eq!(answer["eventType"]["name"], "eventTypes/order.captured");
    assert_eq!(answer["eventType"]["example"], example);

    // 3: a subscription, which answers with a revision.
    let request = json!({
        "parent": "tenants/acme",
        "subscription_id": "erp",
        "subscription": {
            "url": receiver.url("/hook"),
            "event_types": ["order.*"],
            "filter": "event.data.amount > 100",
        },
    });
    let answer = g.ok("SubscriptionService/CreateSubscription", request).await;
    let erp = &answer["subscription"];
    assert_eq!(erp["name"], "tenants/acme/subscriptions/erp");
    assert_eq!(erp["state"], "SUBSCRIPTION_STATE_ACTIVE");
    assert_eq!(erp["contract"], "contracts/standard_webhooks");
    assert_eq!(erp["secretsLive"], 1);
    let revision = answer["revision"].as_str().unwrap().to_owned();
    let request = json!({"revision": revision, "timeout": "30s"});
    let answer = g.ok("NodeService/WaitForRevision", request).await;
    let nodes = answer["nodes"].as_array().unwrap().len();
    assert_eq!((&answer["served"], nodes), (&json!(true), W::NODES));
    assert_eq!(answer["nodes"][0]["state"], "NODE_STATE_READY");

    // 4: its secret, which only RevealSecret shows.
    let request = json!({"parent": "tenants/acme/subscriptions/erp"});
    let answer = g.ok("SecretService/ListSecrets", request).await;
    let first = answer["secrets"][0].clone();
    assert_eq!(first["material"], "");
    assert_eq!(first["state"], "SECRET_STATE_ACTIVE");
    let shown = g.ok("SecretService/RevealSecret", json!({"name": first["name"]})).await;
    let old_key = shown["material"].as_str().unwrap().to_owned();
    assert!(old_key.starts_with("whsec_"), "{old_key:?}");

    // 5: an event, matched at that revision.
    let shop = Shop { grpc: g.clone(), revision };
    let answer = shop.publish("o1-captured", example).await;
    assert_eq!(answer["event"], "tenants/acme/events/o1-captured");
    assert_eq!(answer["id"], "o1-captured");
    assert_eq!(answer["duplicate"], false);
    assert_eq!(answer["durability"], "DURABILITY_FSYNC");
    // The same again is the same event; one that the filter keeps out is no delivery.
    assert_eq!(shop.publish("o1-captured", example).await["duplicate"], true);
    shop.publish("o0-captured", r#"{"id":"o0","amount":100}"#).await;

    // 6: what became of it.
    let delivery = shop.delivery("o1-captured", "erp", "SUCCEEDED").await;
    let attempts = shop.attempts(&delivery).await;
    assert_eq!(attempts.len(), 1);
    let attempt = &attempts[0];
    assert_eq!(attempt["outcome"], "ATTEMPT_OUTCOME_SUCCEEDED");
    assert_eq!(attempt["response"]["status"], 204);
    assert_eq!(attempt["request"]["url"], receiver.url("/hook"));
    let key_id = first["name"].as_str().unwrap().rsplit('/').next().unwrap();
    assert_eq!(attempt["secrets"], json!([key_id]));
    let received = receiver.expect("/hook", 1).await.remove(0);
    assert_eq!(attempt["request"]["body"], received.text());
    assert_eq!(received.header("content-type"), "application/json");
    assert_eq!(received.header("webhook-id"), "o1-captured");
    assert!(received.text().starts_with(r#"{"type":"order.captured","timestamp":""#));
    assert!(received.text().ends_with(&format!(r#","data":{example}}}"#)), "{}", received.text());
    assert_good(&[(&received, &old_key)]).await;

    // 7: a new secret signs beside the old one.
    let request = json!({"parent": "tenants/acme/subscriptions/erp", "overlap": "3600s"});
    let answer = g.ok("SecretService/RotateSecret", request).await;
    assert_eq!(answer["previous"][0]["name"], first["name"]);
    assert!(answer["previous"][0]["expireTime"].is_string());
    let shown = g.ok("SecretService/RevealSecret", json!({"name": answer["secret"]["name"]})).await;
    let new_key = shown["material"].as_str().unwrap().to_owned();
    let shop = Shop { grpc: g.clone(), revision: answer["revision"].as_str().unwrap().into() };
    shop.publish("o2-captured", r#"{"id":"o2","amount":101}"#).await;
    let received = receiver.expect("/hook", 2).await.remove(1);
    assert_eq!(received.header("webhook-signature").split(' ').count(), 2);
    assert_good(&[(&received, &old_key), (&received, &new_key)]).await;

    // 10: replay, one and many: new deliveries of the same events.
    let request = json!({"name": delivery["name"]});
    let answer = g.ok("DeliveryService/ReplayDelivery", request).await;
    let replay = &answer["delivery"];
    assert_eq!(replay["replayOf"], delivery["name"]);
    assert_ne!(replay["name"], delivery["name"]);
    let received = receiver.expect("/hook", 3).await.remove(2);
    assert_eq!(received.header("webhook-id"), "o1-captured");
    shop.settled().await;
    let request = json!({
        "parent": "tenants/acme",
        "subscription": subscription("erp"),
        "state": "DELIVERY_STATE_SUCCEEDED",
    });
    let (messages, end) = g.stream("DeliveryService/ReplayDeliveries", &request).await;
    end.unwrap();
    let last = messages.last().unwrap();
    assert_eq!((&last["done"], &last["skipped"]), (&json!("2"), &json!("1")), "{messages:?}");
    // One of each event: the replay of the first one, not its original too.
    assert_eq!(last["cursor"], "");
    receiver.expect("/hook", 5).await;

    // And the books.
    let report = shop.settled().await;
    assert_eq!(report["events"]["accepted"], "3");
    assert_eq!(report["events"]["unmatched"], "1");
    assert_eq!(report["deliveries"]["created"], "5");
    assert_eq!(report["deliveries"]["succeeded"], "5");
    assert_eq!(receiver.requests("/hook").len(), 5, "each delivery was one request");
    for secret in [&old_key, &new_key] {
        assert!(!pregon.output().contains(&secret[6..]), "a secret is in the log");
    }
}
