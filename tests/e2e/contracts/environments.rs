//! LIVE and TEST side by side, under the contract that has a URL for each.

use serde_json::json;

use super::{Secured, import, publish, story, subscribe};
use crate::harness::receiver::Answer;

#[tokio::test]
async fn nothing_crosses_between_live_and_test() {
    let mut world = Secured::open(|request| match request.path() {
        "/moved" => Answer::With(301, "location", "/elsewhere".into()),
        "/down" => Answer::Status(503),
        "/denied" => Answer::Status(403),
        _ => Answer::Status(201),
    })
    .await;
    import(&mut world.shop, "mercadopago_wallet_connect").await;
    let contract = "mercadopago_wallet_connect";
    let target = "/mp?cliente=(vendedor)&x=%20a+b";
    for (id, environment, target) in [
        ("live", "ENVIRONMENT_LIVE", target),
        ("sandbox", "ENVIRONMENT_TEST", "/mp-test?cliente=2"),
    ] {
        let url = world.receiver.url(target);
        let environment = json!({"environment": environment});
        subscribe(&mut world.shop, id, contract, &url, environment).await;
    }
    // Plain http is not for this contract, whatever the deployment allows.
    let plain = json!({
        "parent": "tenants/acme",
        "subscription": {
            "url": "http://127.0.0.1:9/", "event_types": ["*"],
            "contract": "contracts/mercadopago_wallet_connect",
        },
    });
    let refused = world.shop.grpc.refused("SubscriptionService/CreateSubscription", plain).await;
    let wrong = ("subscription.url".to_owned(), "URL_REFUSED".to_owned());
    assert_eq!(refused.violations(), [wrong]);

    let data = r#"{"id":"22ae6c1235ed497f945f755fcaba3c6c","status":"cancelled"}"#;
    let event = |id: &str, version: u32, environment: &str| {
        json!({
            "id": id, "version": version, "type": "agreement.status.updated",
            "environment": environment, "json": data,
        })
    };
    publish(&world.shop, event("one", 0, "ENVIRONMENT_LIVE")).await;
    // The same pair is one event; another version of the id is another event with the same id.
    let again = publish(&world.shop, event("one", 0, "ENVIRONMENT_LIVE")).await;
    assert_eq!(again["duplicate"], true);
    publish(&world.shop, event("one", 1, "ENVIRONMENT_LIVE")).await;
    publish(&world.shop, event("two", 0, "ENVIRONMENT_TEST")).await;
    let report = world.shop.settled().await;
    assert_eq!(report["deliveries"]["succeeded"], "3");
    let live = world.receiver.requests("/mp");
    assert!(live.iter().all(|request| request.target == target), "{live:?}");
    let mut versions: Vec<_> =
        live.iter().map(|request| member(request.text(), "version")).collect();
    versions.sort_by_key(ToString::to_string);
    assert_eq!(versions, [json!(0), json!(1)]);
    assert!(live.iter().all(|request| member(request.text(), "id") == json!("one")));
    let test = world.receiver.requests("/mp-test");
    assert_eq!((test.len(), member(test[0].text(), "id")), (1, json!("two")));

    // Every other answer is tried again, after about a minute the first time.
    for (path, id) in [("/moved", "moved"), ("/down", "down"), ("/denied", "denied")] {
        let url = world.receiver.url(path);
        let pattern = json!({"event_types": ["agreement.payment_method.updated"]});
        subscribe(&mut world.shop, id, contract, &url, pattern).await;
    }
    let event = json!({"id": "three", "type": "agreement.payment_method.updated", "json": r#"{"id":"22ae6c1235ed497f945f755fcaba3c6c"}"#});
    publish(&world.shop, event).await;
    for id in ["moved", "down", "denied"] {
        let (_, attempts) = retried(&world, id).await;
        let first = &attempts[0];
        assert_eq!(first["outcome"], "ATTEMPT_OUTCOME_RETRY", "{first}");
        let at = |field: &str| time(first[field].as_str().unwrap());
        let wait = at("nextAttemptTime") - at("startTime");
        assert!((54_000..=68_000).contains(&wait), "{id}: {wait} ms");
    }
}

async fn retried(world: &Secured, id: &str) -> (serde_json::Value, Vec<serde_json::Value>) {
    crate::harness::eventually("the first attempt is recorded", || async {
        let (delivery, attempts) = story(&world.shop, "three", id, "PENDING").await;
        if attempts.is_empty() { Err(delivery) } else { Ok((delivery, attempts)) }
    })
    .await
}

fn member(body: &str, name: &str) -> serde_json::Value {
    serde_json::from_str::<serde_json::Value>(body).unwrap()[name].clone()
}

/// Milliseconds of a time in an answer.
fn time(text: &str) -> i64 {
    pregon_core::clock::Timestamp::parse(text).unwrap().millis()
}
