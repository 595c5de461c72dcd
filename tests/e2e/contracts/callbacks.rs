//! Asking before acting: the authentication callback of contract 5, and what its answers mean.

use serde_json::{Value, json};

use crate::harness::receiver::{Answer, Receiver};
use crate::harness::shop::Shop;
use crate::harness::{Request, World};
use crate::on_both;

on_both!(
    the_callback_of_the_on_ramp,
    what_answers_mean,
    an_answer_is_remembered_as_long_as_it_may,
    callbacks_come_and_go,
);

/// Creates a callback with these fields.
async fn create(shop: &mut Shop, id: &str, url: &str, mut fields: Value) -> Value {
    fields["url"] = json!(url);
    let request = json!({"parent": "tenants/acme", "callback_id": id, "callback": fields});
    shop.write("CallbackService/CreateCallback", request).await
}

/// Asks one.
async fn check(shop: &Shop, id: &str, data: &str) -> Value {
    let request = json!({
        "callback": format!("tenants/acme/callbacks/{id}"), "json": data,
        "min_revision": shop.revision,
    });
    shop.grpc.ok("CheckService/Check", request).await
}

async fn the_callback_of_the_on_ramp<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::start(|request: &Request| {
        let known = request.text() == r#"{"email":"known@example.com"}"#;
        Answer::Body(200, known.to_string())
    })
    .await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let fields = json!({
        "contract": "contracts/crypto_onramp", "auth": {"bearer": {"token": "a.jwt.token"}},
    });
    create(&mut shop, "login", &receiver.url("/users"), fields).await;
    let answer = check(&shop, "login", r#"{"email":"known@example.com","ip":"203.0.113.9"}"#).await;
    assert_eq!(
        (&answer["allowed"], &answer["cause"]),
        (&json!(true), &json!("CHECK_CAUSE_VERDICT"))
    );
    assert_eq!(answer["responseStatus"], 200);
    let request = receiver.requests("/users").remove(0);
    // The contract asks with the address alone, whatever else the caller knows.
    assert_eq!(request.text(), r#"{"email":"known@example.com"}"#);
    assert_eq!(request.header("authorization"), "Bearer a.jwt.token");
    assert_eq!(request.header("content-type"), "application/json");
    let answer = check(&shop, "login", r#"{"email":"stranger@example.com"}"#).await;
    assert_eq!(answer["allowed"], false);
    assert!(!pregon.output().contains("example.com"), "what is asked about is in the log");

    // Of data that the contract can make no question of, nothing is decided.
    let request = json!({"callback": "tenants/acme/callbacks/login", "json": "{}"});
    let refused = shop.grpc.refused("CheckService/Check", request).await;
    assert_eq!((refused.code, refused.reason()), ("INVALID_ARGUMENT", "FIELDS_INVALID"));
    assert!(refused.description("json").contains("check.data.email"), "{refused}");
}

async fn what_answers_mean<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::start(|request: &Request| {
        let status = request.path().trim_start_matches("/answer/").parse().unwrap();
        let asked: Value = serde_json::from_slice(&request.body).unwrap();
        Answer::Body(status, asked["say"].as_str().unwrap().to_owned())
    })
    .await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    for status in [200, 204, 302, 401, 404, 408, 429, 500] {
        for policy in ["deny", "allow"] {
            let url = receiver.url(&format!("/answer/{status}"));
            let policy_word = format!("FAILURE_POLICY_{}", policy.to_uppercase());
            let fields = json!({"on_error": policy_word});
            create(&mut shop, &format!("{policy}-{status}"), &url, fields).await;
        }
    }
    let (verdict, status, failure) =
        ("CHECK_CAUSE_VERDICT", "CHECK_CAUSE_STATUS", "CHECK_CAUSE_FAILURE_POLICY");
    for (code, says, allowed, cause) in [
        (200, "true", true, verdict),
        (200, "\"true\"", true, verdict),
        (200, "1", true, verdict),
        (200, "\"1\"", true, verdict),
        (200, "yes", true, verdict),
        (200, "si", true, verdict),
        (200, "sí", true, verdict),
        (200, r#"{"allowed": true}"#, true, verdict),
        (200, "", false, verdict),
        (204, "", false, verdict),
        (200, "false", false, verdict),
        (200, "0", false, verdict),
        (200, "null", false, verdict),
        (200, "\"false\"", false, verdict),
        (200, "2", false, verdict),
        (200, "[true]", false, verdict),
        (200, "<html>true</html>", false, verdict),
        (302, "true", false, status),
        (401, "true", false, status),
        (404, "true", false, status),
    ] {
        for policy in ["deny", "allow"] {
            let data = json!({ "say": says }).to_string();
            let answer = check(&shop, &format!("{policy}-{code}"), &data).await;
            assert_eq!(
                (&answer["allowed"], &answer["cause"]),
                (&json!(allowed), &json!(cause)),
                "{code} {says:?}: {answer}"
            );
        }
    }
    // What is no answer is decided by the failure policy, which denies unless it was chosen.
    for code in [408, 429, 500] {
        for (policy, allowed) in [("deny", false), ("allow", true)] {
            let data = json!({"say": "true"}).to_string();
            let answer = check(&shop, &format!("{policy}-{code}"), &data).await;
            assert_eq!(
                (&answer["allowed"], &answer["cause"]),
                (&json!(allowed), &json!(failure)),
                "{answer}"
            );
        }
    }
    let nobody = "http://127.0.0.1:9/";
    create(&mut shop, "nobody", nobody, json!({})).await;
    let answer = check(&shop, "nobody", "{}").await;
    assert_eq!(
        (&answer["allowed"], &answer["errorClass"]),
        (&json!(false), &json!("ERROR_CLASS_CONNECT"))
    );
    let silent = Receiver::start(|_| Answer::Never).await;
    create(&mut shop, "silent", &silent.url("/"), json!({"timeout": "0.2s"})).await;
    let answer = check(&shop, "silent", "{}").await;
    assert_eq!(
        (&answer["allowed"], &answer["errorClass"]),
        (&json!(false), &json!("ERROR_CLASS_TIMEOUT"))
    );
    assert_eq!(silent.requests("/").len(), 1, "asked once");

    // A verdict of the tenant's own.
    let fields =
        json!({"verdict": "response.status == 200 && response.json.say == check.data.want"});
    let echo = Receiver::start(|_| Answer::Body(200, r#"{"say":"go"}"#.into())).await;
    create(&mut shop, "own", &echo.url("/"), fields).await;
    assert_eq!(check(&shop, "own", r#"{"want":"go"}"#).await["allowed"], true);
    assert_eq!(check(&shop, "own", r#"{"want":"stop"}"#).await["allowed"], false);
}

async fn an_answer_is_remembered_as_long_as_it_may<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::start(|request: &Request| {
        Answer::Body(200, (request.text() != "\"no\"").to_string())
    })
    .await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    create(&mut shop, "kept", &receiver.url("/"), json!({"cache_ttl": "3600s"})).await;
    // Each node remembers for itself: after one question to each, nobody asks again.
    for _ in 0..3 * W::NODES {
        assert_eq!(check(&shop, "kept", "\"yes\"").await["allowed"], true);
    }
    assert!(receiver.requests("/").len() <= W::NODES);
    let asked = receiver.requests("/").len();
    // What is denied is asked again each time, and so is what is not to be answered from memory.
    for _ in 0..2 {
        assert_eq!(check(&shop, "kept", "\"no\"").await["allowed"], false);
    }
    let mut request = json!({"callback": "tenants/acme/callbacks/kept", "json": "\"yes\""});
    request["bypass_cache"] = json!(true);
    let answer = shop.grpc.ok("CheckService/Check", request).await;
    assert_eq!(answer["cause"], "CHECK_CAUSE_VERDICT");
    assert_eq!(receiver.requests("/").len(), asked + 3);
}

async fn callbacks_come_and_go<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::start(|_| Answer::Body(200, "true".into())).await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let ask = json!({"callback": "tenants/acme/callbacks/door", "json": "{}"});
    let refused = shop.grpc.refused("CheckService/Check", ask.clone()).await;
    assert_eq!((refused.code, refused.reason()), ("NOT_FOUND", "RESOURCE_NOT_FOUND"));

    let made = create(&mut shop, "door", &receiver.url("/"), json!({})).await;
    assert_eq!(made["callback"]["onError"], "FAILURE_POLICY_DENY");
    assert_eq!(made["callback"]["contract"], "contracts/standard_webhooks");
    assert_eq!(made["callback"]["secretsLive"], 1);
    assert_eq!(check(&shop, "door", "{}").await["allowed"], true);
    // Under Standard Webhooks a question is signed like a delivery.
    let request = receiver.requests("/").remove(0);
    for header in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        assert!(!request.header(header).is_empty(), "{header}");
    }

    let name = json!({"name": "tenants/acme/callbacks/door"});
    shop.write("CallbackService/PauseCallback", name.clone()).await;
    let paused = json!({"callback": "tenants/acme/callbacks/door", "json": "{}", "min_revision": shop.revision});
    let refused = shop.grpc.refused("CheckService/Check", paused).await;
    assert_eq!((refused.code, refused.reason()), ("FAILED_PRECONDITION", "STATE_CONFLICT"));
    shop.write("CallbackService/ResumeCallback", name.clone()).await;
    assert_eq!(check(&shop, "door", "{}").await["allowed"], true);
    shop.write("CallbackService/DeleteCallback", name.clone()).await;
    shop.served().await;
    let refused = shop.grpc.refused("CheckService/Check", ask).await;
    assert_eq!(refused.code, "NOT_FOUND");
    let refused = shop.grpc.refused("CallbackService/GetCallback", name).await;
    assert_eq!(refused.code, "NOT_FOUND");
}
