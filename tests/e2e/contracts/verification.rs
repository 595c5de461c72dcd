//! Endpoint verification: no event goes to a receiver that has not passed what its contract asks.
//!
//! Under the contract of these stories a receiver gives the challenge of a GET back; what it does
//! with it is told by its path. Deliveries are POSTs, so that the two are told apart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::{get, subscribe};
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::shop::{Shop, subscription};
use crate::harness::{Request, Standalone, World, eventually};
use crate::on_both;

on_both!(
    a_receiver_that_answers_is_delivered_to_and_not_before,
    what_goes_wrong_is_told_until_the_schedule_ends,
    another_url_is_verified_before_what_waits_goes_there,
    an_asking_survives_those_who_ask,
    asked_on_demand_and_moved_only_where_it_has_passed,
    a_receiver_is_asked_again_as_often_as_its_contract_says,
    approval_comes_first,
);

/// Three askings, a second apart.
const ECHO: &str = r#"
contract: echo
verification:
  steps:
    - { query: { challenge: "${challenge.text}" }, expect: response.status == 200 && response.body == challenge.text }
  retry: { delays: [1s, 1s] }
timeouts: [2s]
retry: { delays: [1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s] }
examples: [{ event: { type: order.captured, data: "{}" } }]
"#;

/// The same with three seconds between askings, for who looks at what is told in between.
fn slowly() -> String {
    ECHO.replace("delays: [1s, 1s] }\ntimeouts", "delays: [3s, 3s, 3s] }\ntimeouts")
}

/// What a receiver is told in the middle of a story.
#[derive(Clone, Default)]
struct Willing(Arc<AtomicBool>);

impl Willing {
    fn set(&self, willing: bool) {
        self.0.store(willing, Ordering::SeqCst);
    }

    fn is(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// The answer that passes; deliveries are acknowledged.
fn echo(request: &Request) -> Answer {
    match request.target.split_once("challenge=") {
        Some((_, challenge)) if request.method == "GET" => Answer::Body(200, challenge.to_owned()),
        _ => Answer::Status(204),
    }
}

async fn contract(shop: &mut Shop, document: &str) {
    let id = document.split_once("contract: ").unwrap().1.lines().next().unwrap();
    let request = json!({"contract_id": id, "contract": {"document": document}});
    shop.write("ContractService/CreateContract", request).await;
}

/// Waits until a subscription's verification is in a state, and gives the subscription.
async fn verified(shop: &Shop, id: &str, state: &str) -> Value {
    let wanted = format!("VERIFICATION_STATE_{state}");
    eventually(&format!("the verification of {id} is {state}"), || async {
        let now = get(shop, id).await;
        if now["verification"]["state"] == wanted.as_str() { Ok(now) } else { Err(now) }
    })
    .await
}

async fn in_state(shop: &Shop, id: &str, state: &str) -> Value {
    let wanted = format!("SUBSCRIPTION_STATE_{state}");
    eventually(&format!("{id} is {state}"), || async {
        let now = get(shop, id).await;
        if now["state"] == wanted.as_str() { Ok(now) } else { Err(now) }
    })
    .await
}

/// The last revision that the verification of a subscription made, for publishes to wait for.
async fn served(shop: &mut Shop, subscription: &Value) {
    shop.revision = subscription["revision"].as_str().unwrap().to_owned();
    shop.served().await;
}

/// Requests of a method that came to a path.
fn of(receiver: &Receiver, path: &str, method: &str) -> Vec<Request> {
    let all = receiver.requests(path).into_iter();
    all.filter(|request| request.method == method).collect()
}

async fn verify(shop: &mut Shop, id: &str) -> Value {
    let request = json!({"name": subscription(id)});
    shop.write("SubscriptionService/VerifySubscription", request).await
}

async fn a_receiver_that_answers_is_delivered_to_and_not_before<W: World>() {
    let pregon = W::in_memory().await;
    let willing = Willing::default();
    let told = willing.clone();
    let receiver = Receiver::start(move |request: &Request| match told.is() {
        true => echo(request),
        false => Answer::Body(404, "who is there?".into()),
    })
    .await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    contract(&mut shop, &slowly()).await;
    let made = subscribe(&mut shop, "erp", "echo", &receiver.url("/hook?a=1"), json!({})).await;
    let made = &made["subscription"];
    assert_eq!(made["state"], "SUBSCRIPTION_STATE_PENDING_VERIFICATION", "{made}");
    assert_eq!(made["verification"]["state"], "VERIFICATION_STATE_PENDING", "{made}");
    shop.publish("before", "{}").await;

    // What came back is told while it goes on.
    let failed = eventually("an asking has failed", || async {
        let now = get(&shop, "erp").await;
        if now["verification"]["attempts"] == 1 { Ok(now) } else { Err(now) }
    })
    .await;
    let told = &failed["verification"];
    let reason = "step 1 of 1: answered 404: the answer is not the one expected";
    assert_eq!((&told["reason"], &failed["stateReason"]), (&json!(reason), &json!(reason)));
    assert_eq!((&told["failedStep"], &told["status"]), (&json!(1), &json!(404)));
    assert_eq!(told["excerpt"], "who is there?");
    assert!(told["node"].as_str().unwrap().starts_with("nodes/") && told["nextTime"].is_string());
    // Nor does it help to say something else of it meanwhile.
    let fields = json!({"name": subscription("erp"), "display_name": "ERP"});
    let update = json!({"subscription": fields});
    let same = shop.write("SubscriptionService/UpdateSubscription", update).await;
    assert_eq!(same["subscription"]["state"], "SUBSCRIPTION_STATE_PENDING_VERIFICATION");
    assert_ne!(same["subscription"]["verification"]["attempts"], 0, "{same}");

    willing.set(true);
    let passed = in_state(&shop, "erp", "ACTIVE").await;
    assert_eq!(passed["verification"]["state"], "VERIFICATION_STATE_PASSED", "{passed}");
    assert_eq!((&passed["stateReason"], &passed["displayName"]), (&json!(""), &json!("ERP")));
    assert!(passed["stateChange"]["actor"].as_str().unwrap().starts_with("nodes/"), "{passed}");
    served(&mut shop, &passed).await;
    shop.publish("after", "{}").await;
    shop.delivery("after", "erp", "SUCCEEDED").await;
    let report = shop.settled().await;
    assert_eq!(report["events"]["unmatched"], "1", "{report}");
    assert_eq!(of(&receiver, "/hook", "POST").len(), 1);
    // Each asking had a challenge of its own, and kept what the URL had.
    let asked = of(&receiver, "/hook", "GET");
    assert!(
        asked.len() >= 2 && asked.iter().all(|it| it.target.starts_with("/hook?a=1&challenge="))
    );
    assert_ne!(asked[0].target, asked[1].target);
    assert_eq!(receiver.most_in_flight("/hook"), 1);
}

async fn what_goes_wrong_is_told_until_the_schedule_ends<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::start(|request: &Request| match request.path() {
        "/status" => Answer::Body(500, "no se pudo".into()),
        "/echo" => Answer::Body(200, "challenge".into()),
        "/silent" => Answer::Never,
        "/redirect" => Answer::With(302, "location", "/slow".into()),
        "/slow" => match echo(request) {
            Answer::Body(status, body) => {
                Answer::BodyAfter(Duration::from_millis(500), status, body)
            }
            other @ (Answer::Status(_)
            | Answer::With(..)
            | Answer::After(_)
            | Answer::BodyAfter(..)
            | Answer::Never) => other,
        },
        _ => Answer::Body(403, format!("no: {}", request.header("authorization"))),
    })
    .await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    contract(&mut shop, ECHO).await;
    let token = json!({"auth": {"bearer": {"token": "s3cret-token"}}});
    for path in ["/status", "/echo", "/silent", "/redirect", "/slow", "/leak"] {
        let id = path.trim_start_matches('/');
        let fields = if path == "/leak" { token.clone() } else { json!({}) };
        subscribe(&mut shop, id, "echo", &receiver.url(path), fields).await;
    }
    // Slow is not wrong.
    let slow = in_state(&shop, "slow", "ACTIVE").await;
    assert_eq!(slow["verification"]["attempts"], 0, "{slow}");
    for (id, status, class, reason, excerpt) in [
        (
            "status",
            500,
            "UNSPECIFIED",
            "answered 500: the answer is not the one expected",
            "no se pudo",
        ),
        (
            "echo",
            200,
            "UNSPECIFIED",
            "answered 200: the answer is not the one expected",
            "challenge",
        ),
        ("redirect", 302, "UNSPECIFIED", "answered 302: the answer is not the one expected", ""),
        ("silent", 0, "TIMEOUT", "no response in time", ""),
        (
            "leak",
            403,
            "UNSPECIFIED",
            "answered 403: the answer is not the one expected",
            "no: [redacted]",
        ),
    ] {
        let failed = verified(&shop, id, "FAILED").await;
        let told = &failed["verification"];
        assert_eq!(failed["state"], "SUBSCRIPTION_STATE_PENDING_VERIFICATION", "{failed}");
        assert_eq!((&told["attempts"], &told["status"]), (&json!(3), &json!(status)), "{told}");
        assert_eq!(told["errorClass"], format!("ERROR_CLASS_{class}"), "{told}");
        assert_eq!(told["reason"], format!("step 1 of 1: {reason}"), "{told}");
        assert_eq!(
            (&told["excerpt"], &told["nextTime"]),
            (&json!(excerpt), &Value::Null),
            "{told}"
        );
        // One node asked at a time, as often as the schedule says and no more.
        assert_eq!(of(&receiver, &format!("/{id}"), "GET").len(), 3, "{id}");
        assert_eq!(receiver.most_in_flight(&format!("/{id}")), 1, "{id}");
    }
    served(&mut shop, &slow).await;
    shop.publish("e1", "{}").await;
    shop.delivery("e1", "slow", "SUCCEEDED").await;
    assert_eq!(shop.deliveries(json!({})).await.len(), 1, "the others want nothing");
    assert!(!pregon.output().contains("s3cret-token"));
}

async fn another_url_is_verified_before_what_waits_goes_there<W: World>() {
    let pregon = W::in_memory().await;
    let willing = Willing::default();
    let told = willing.clone();
    let receiver =
        Receiver::start(move |request: &Request| match (request.path(), &*request.method) {
            ("/old", "POST") => Answer::Status(503),
            ("/new", "GET") if !told.is() => Answer::Status(404),
            _ => echo(request),
        })
        .await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    contract(&mut shop, ECHO).await;
    subscribe(&mut shop, "erp", "echo", &receiver.url("/old"), json!({})).await;
    let passed = in_state(&shop, "erp", "ACTIVE").await;
    served(&mut shop, &passed).await;
    shop.publish("e1", "{}").await;
    receiver.expect("/old", 2).await; // the challenge, and an attempt that is refused

    let fields = json!({"name": subscription("erp"), "url": receiver.url("/new")});
    let moved =
        shop.write("SubscriptionService/UpdateSubscription", json!({"subscription": fields})).await;
    let moved = &moved["subscription"];
    assert_eq!(moved["state"], "SUBSCRIPTION_STATE_PENDING_VERIFICATION", "{moved}");
    assert_eq!(moved["stateChange"]["note"], "changed: url", "{moved}");
    let failed = verified(&shop, "erp", "FAILED").await;
    assert_eq!(of(&receiver, "/new", "POST").len(), 0, "nothing went there early");
    let waits = shop.deliveries(json!({"event": "tenants/acme/events/e1"})).await.remove(0);
    assert_eq!(waits["state"], "DELIVERY_STATE_PENDING", "{waits}");
    // What is published meanwhile is for nobody; what waited is not lost.
    served(&mut shop, &failed).await;
    shop.publish("e2", "{}").await;
    willing.set(true);
    verify(&mut shop, "erp").await;
    in_state(&shop, "erp", "ACTIVE").await;
    shop.delivery("e1", "erp", "SUCCEEDED").await;
    let report = shop.settled().await;
    assert_eq!(
        (&report["events"]["unmatched"], &report["deliveries"]["created"]),
        (&json!("1"), &json!("1"))
    );
    let seen = receiver.requests("/new");
    let last_get = seen.iter().rposition(|it| it.method == "GET").unwrap();
    let post = seen.iter().position(|it| it.method == "POST").unwrap();
    assert!(last_get < post, "the challenge was first");
}

async fn an_asking_survives_those_who_ask<W: World>() {
    let mut pregon = W::on_disk(&[]).await;
    let willing = Willing::default();
    let told = willing.clone();
    let receiver = Receiver::start(move |request: &Request| match told.is() {
        true => echo(request),
        false => Answer::Never,
    })
    .await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    contract(&mut shop, &ECHO.replace("[2s]", "[10s]")).await;
    subscribe(&mut shop, "erp", "echo", &receiver.url("/hook"), json!({})).await;
    shop.publish("before", "{}").await;
    receiver.expect("/hook", 1).await;
    pregon.kill().await;
    willing.set(true);
    pregon.start_again().await;
    shop.grpc = pregon.grpcurl();
    // Nobody else asks before the turn of the one that was killed is over.
    let passed = in_state(&shop, "erp", "ACTIVE").await;
    assert_eq!(passed["verification"]["attempts"], 0, "{passed}");
    served(&mut shop, &passed).await;
    shop.publish("after", "{}").await;
    shop.delivery("after", "erp", "SUCCEEDED").await;
    shop.settled().await;
    assert_eq!(of(&receiver, "/hook", "GET").len(), 2);
    assert_eq!(of(&receiver, "/hook", "POST").len(), 1);
}

async fn asked_on_demand_and_moved_only_where_it_has_passed<W: World>() {
    let pregon = W::in_memory().await;
    let willing = Willing::default();
    let told = willing.clone();
    let receiver = Receiver::start(move |request: &Request| match told.is() {
        true => echo(request),
        false => Answer::Status(404),
    })
    .await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    contract(&mut shop, &slowly()).await;
    subscribe(&mut shop, "erp", "echo", &receiver.url("/hook"), json!({})).await;
    subscribe(&mut shop, "plain", "standard_webhooks", &receiver.url("/plain"), json!({})).await;
    verified(&shop, "erp", "FAILED").await;
    let named = json!({"name": subscription("erp")});
    let event = json!({"type": "order.captured", "json": "{}"});
    let test = json!({"name": subscription("erp"), "event": event});
    for (method, request) in [
        ("PauseSubscription", named.clone()),
        ("ResumeSubscription", named.clone()),
        ("RejectSubscription", json!({"name": subscription("erp"), "reason": "no"})),
        ("TestSubscription", test),
        ("VerifySubscription", json!({"name": subscription("plain")})),
    ] {
        let refused = shop.grpc.refused(&format!("SubscriptionService/{method}"), request).await;
        assert_eq!(
            (refused.code, refused.reason()),
            ("FAILED_PRECONDITION", "STATE_CONFLICT"),
            "{method}"
        );
    }
    let same = shop.write("SubscriptionService/ApproveSubscription", named.clone()).await;
    assert_eq!(same["subscription"]["state"], "SUBSCRIPTION_STATE_PENDING_VERIFICATION");
    // By way of DISABLED it is asked again, and no more.
    shop.turn("Disable", "erp").await;
    let resumed = shop.turn("Resume", "erp").await;
    assert_eq!(resumed["subscription"]["state"], "SUBSCRIPTION_STATE_PENDING_VERIFICATION");
    verified(&shop, "erp", "FAILED").await;
    assert_eq!(of(&receiver, "/hook", "GET").len(), 8);

    willing.set(true);
    let asked = verify(&mut shop, "erp").await;
    assert_eq!(asked["subscription"]["verification"]["state"], "VERIFICATION_STATE_PENDING");
    in_state(&shop, "erp", "ACTIVE").await;
    // It stays so while it is asked again, until the whole round has failed.
    willing.set(false);
    let asked = verify(&mut shop, "erp").await;
    assert_eq!(asked["subscription"]["state"], "SUBSCRIPTION_STATE_ACTIVE", "{asked}");
    let tried = eventually("an asking has failed", || async {
        let now = get(&shop, "erp").await;
        if now["verification"]["attempts"] == 1 { Ok(now) } else { Err(now) }
    })
    .await;
    assert_eq!(tried["state"], "SUBSCRIPTION_STATE_ACTIVE", "{tried}");
    let failed = verified(&shop, "erp", "FAILED").await;
    assert_eq!(failed["state"], "SUBSCRIPTION_STATE_PENDING_VERIFICATION", "{failed}");
    // Another contract that asks for nothing lets it go on.
    let fields = json!({"name": subscription("erp"), "contract": "contracts/cloudevents"});
    let moved =
        shop.write("SubscriptionService/UpdateSubscription", json!({"subscription": fields})).await;
    let moved = &moved["subscription"];
    assert_eq!(
        (&moved["state"], &moved["verification"]),
        (&json!("SUBSCRIPTION_STATE_ACTIVE"), &Value::Null)
    );
}

async fn a_receiver_is_asked_again_as_often_as_its_contract_says<W: World>() {
    let pregon = W::in_memory().await;
    let willing = Willing::default();
    willing.set(true);
    let told = willing.clone();
    let receiver = Receiver::start(move |request: &Request| match told.is() {
        true => echo(request),
        false => Answer::Status(404),
    })
    .await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    contract(&mut shop, &ECHO.replace("  retry: {", "  repeat: 10s\n  retry: {")).await;
    subscribe(&mut shop, "erp", "echo", &receiver.url("/hook"), json!({})).await;
    let passed = in_state(&shop, "erp", "ACTIVE").await;
    assert!(passed["verification"]["nextTime"].is_string(), "{passed}");
    receiver.expect("/hook", 2).await;
    willing.set(false);
    let failed = in_state(&shop, "erp", "PENDING_VERIFICATION").await;
    let told = &failed["verification"];
    assert_eq!(
        (&told["state"], &told["attempts"]),
        (&json!("VERIFICATION_STATE_FAILED"), &json!(3))
    );
    assert!(told["passedTime"].is_string(), "{failed}");
    served(&mut shop, &failed).await;
    shop.publish("late", "{}").await;
    let report = shop.settled().await;
    assert_eq!(report["events"]["unmatched"], "1", "{report}");
    assert_eq!(of(&receiver, "/hook", "POST").len(), 0);
}

async fn approval_comes_first<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::start(echo).await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    contract(&mut shop, &format!("{}provisioning: approval\n", ECHO.trim_start())).await;
    let made = subscribe(&mut shop, "erp", "echo", &receiver.url("/hook"), json!({})).await;
    assert_eq!(made["subscription"]["state"], "SUBSCRIPTION_STATE_PENDING_APPROVAL");
    // Another's asking shows that there was time for this one's.
    contract(&mut shop, &ECHO.replace("contract: echo", "contract: other")).await;
    subscribe(&mut shop, "other", "other", &receiver.url("/other"), json!({})).await;
    in_state(&shop, "other", "ACTIVE").await;
    assert_eq!(receiver.requests("/hook").len(), 0);
    let approve = json!({"name": subscription("erp")});
    let approved = shop.write("SubscriptionService/ApproveSubscription", approve).await;
    assert_eq!(approved["subscription"]["state"], "SUBSCRIPTION_STATE_PENDING_VERIFICATION");
    let passed = in_state(&shop, "erp", "ACTIVE").await;
    served(&mut shop, &passed).await;
    shop.publish("e1", "{}").await;
    shop.delivery("e1", "erp", "SUCCEEDED").await;
    let methods: Vec<_> = receiver.requests("/hook").into_iter().map(|it| it.method).collect();
    assert_eq!(methods, ["GET", "POST"]);
}

/// Serves http receivers, but none on loopback.
const CLOSED: [&str; 5] = ["standalone", "--listen", "127.0.0.1:0", "--allow-http", "--in-memory"];

#[tokio::test]
async fn a_name_that_leads_inside_is_not_asked() {
    let pregon = Standalone::exactly(&CLOSED, None).await;
    let receiver = Receiver::start(echo).await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    contract(&mut shop, ECHO).await;
    let url = receiver.url("/hook").replace("127.0.0.1", "localhost");
    subscribe(&mut shop, "inside", "echo", &url, json!({})).await;
    let failed = verified(&shop, "inside", "FAILED").await;
    let told = &failed["verification"];
    assert_eq!(told["errorClass"], "ERROR_CLASS_DENIED", "{told}");
    assert_eq!(failed["state"], "SUBSCRIPTION_STATE_PENDING_VERIFICATION", "{failed}");
    assert_eq!(receiver.requests("/hook").len(), 0);
}

#[tokio::test]
async fn a_parameter_that_the_url_has_already_is_refused() {
    let pregon = Standalone::in_memory().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    contract(&mut shop, ECHO).await;
    let fields = json!({"url": "http://127.0.0.1/hook?challenge=1", "event_types": ["*"], "contract": "contracts/echo"});
    let request = json!({"parent": "tenants/acme", "subscription": fields});
    let refused = shop.grpc.refused("SubscriptionService/CreateSubscription", request).await;
    let expected = [("subscription.url".to_owned(), "URL_REFUSED".to_owned())];
    assert_eq!(refused.violations(), expected);
    let said = refused.description("subscription.url");
    assert_eq!(said, "has the query parameter challenge, which the contract's verification adds");
}
