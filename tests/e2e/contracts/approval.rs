//! The operator contract: nothing before the approval, and personal data only to the receiver.

use serde_json::json;

use super::{Secured, get, import, publish, story, subscribe};
use crate::harness::receiver::Answer;
use crate::harness::shop::subscription;

/// Everything personal in the event's data; none of it may be seen but by the receiver.
const PERSONAL: [&str; 4] = ["bruce wayne", "bruce@wayne.com", "450799", "123456789"];

const DATA: &str = r#"{"result":true,"user":{"name":"bruce wayne","email":"bruce@wayne.com"},"entity":{"uid":"g","name":"wayne, inc","tax_id":"123456789"},"payment":{"id":"p","total":6705,"source":{"type":"card","number":"450799******0010","cardholder":{"name":"bruce wayne"},"transaction":{"batchno":"10","authorizationcode":"1010101010"}},"status":{"code":"200","text":"transacción aprobada"},"created":"2022-05-24t08:26:05.377z","updated":"2022-05-24t08:26:09.966z","currency":{"code":"ars"}},"customer":{"name":"bruce wayne"}}"#;

#[tokio::test]
async fn a_subscription_waits_for_approval_and_receives_nothing_before_it() {
    let mut world = Secured::open(|_| Answer::Status(200)).await;
    import(&mut world.shop, "operator").await;
    let url = world.receiver.url("/hook");
    let made = subscribe(&mut world.shop, "shop", "operator", &url, json!({})).await;
    assert_eq!(made["subscription"]["state"], "SUBSCRIPTION_STATE_PENDING_APPROVAL");
    let event = |id: &str| json!({"id": id, "type": "payment.refunded", "json": DATA});
    publish(&world.shop, event("before")).await;
    let report = world.shop.settled().await;
    assert_eq!(
        (&report["events"]["unmatched"], &report["deliveries"]["created"]),
        (&json!("1"), &json!("0"))
    );

    // Neither may it be tried out, nor moved but by the platform.
    let test = json!({"name": subscription("shop"), "event_type": "eventTypes/payment.refunded"});
    let refused = world.shop.grpc.refused("SubscriptionService/TestSubscription", test).await;
    assert_eq!((refused.code, refused.reason()), ("FAILED_PRECONDITION", "STATE_CONFLICT"));

    let reject = json!({"name": subscription("shop"), "reason": "who are you?"});
    let answer = world.shop.write("SubscriptionService/RejectSubscription", reject).await;
    assert_eq!(answer["subscription"]["state"], "SUBSCRIPTION_STATE_REJECTED");
    assert_eq!(answer["subscription"]["stateReason"], "who are you?");
    publish(&world.shop, event("rejected")).await;
    assert_eq!(world.shop.settled().await["deliveries"]["created"], "0");

    let approve = json!({"name": subscription("shop"), "note": "contract signed"});
    world.shop.write("SubscriptionService/ApproveSubscription", approve).await;
    let now = get(&world.shop, "shop").await;
    assert_eq!(now["state"], "SUBSCRIPTION_STATE_ACTIVE");
    assert_eq!(now["stateChange"]["note"], "contract signed");
    assert!(now["stateChange"]["time"].is_string() && now["stateChange"]["actor"].is_string());

    publish(&world.shop, event("after")).await;
    let (_, attempts) = story(&world.shop, "after", "shop", "SUCCEEDED").await;
    let received = world.receiver.requests("/hook");
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].text(), format!(r#"{{"type":"operator","data":{DATA}}}"#));
    assert!(!received[0].header("x-delivery-id").is_empty());

    // What is kept of the attempt shows the shape of the body, and nothing personal.
    let shown = attempts[0]["request"]["body"].as_str().unwrap();
    for personal in PERSONAL {
        assert!(!shown.contains(personal), "{personal} in {shown}");
    }
    assert!(
        shown.contains(r#""user":"[redacted]""#) && shown.contains(r#""total":6705"#),
        "{shown}"
    );
    let said = world.output();
    for personal in PERSONAL {
        assert!(!said.contains(personal), "{personal} in the log");
    }
}
