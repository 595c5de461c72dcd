//! Watching: what happens on every node is seen while it happens, in order, and nothing is missed.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::load::{Publisher, order};
use crate::harness::planes::{Plan, Planes};
use crate::harness::shop::{Shop, subscription};
use crate::harness::watcher::Watcher;
use crate::harness::{Answer, Receiver, World, eventually};
use crate::on_both;
use crate::strangers::{Token, guarded};

on_both!(
    every_outcome_is_watched,
    a_watch_that_was_cut_goes_on_and_misses_nothing,
    a_slow_watcher_holds_nobody_up,
    configuration_is_watched_with_who_wrote_it,
    watches_of_nothing_are_refused,
);

const DELIVERIES: &str = "DeliveryService/WatchDeliveries";
const CONFIGURATION: &str = "NodeService/WatchConfiguration";

/// What was seen of a subscription, in order: states of deliveries and outcomes of attempts, with
/// the reasons beside them.
fn seen_of(messages: &[Value], id: &str, deliveries: &[Value]) -> Vec<String> {
    let own: BTreeSet<_> = deliveries
        .iter()
        .filter(|it| it["subscription"] == subscription(id).as_str())
        .map(|it| it["name"].as_str().unwrap().to_owned())
        .collect();
    let word = |value: &Value, prefix: &str| {
        value.as_str().unwrap().strip_prefix(prefix).unwrap().to_owned()
    };
    let told = |message: &Value| {
        if let Some(it) = message.get("delivery") {
            own.contains(it["name"].as_str()?).then_some(())?;
            let reasons = word(&it["pendingReason"], "PENDING_REASON_")
                + &word(&it["endReason"], "END_REASON_");
            let reasons = reasons.replace("UNSPECIFIED", "");
            Some(format!("{} {reasons}", word(&it["state"], "DELIVERY_STATE_")).trim().to_owned())
        } else {
            let it = message.get("attempt")?;
            let (delivery, number) = it["name"].as_str()?.split_once("/attempts/")?;
            own.contains(delivery).then_some(())?;
            Some(format!("attempt {number} {}", word(&it["outcome"], "ATTEMPT_OUTCOME_")))
        }
    };
    messages.iter().filter_map(told).collect()
}

async fn every_outcome_is_watched<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::start(|request| match request.path() {
        "/flaky" if first(request) => Answer::Status(500),
        "/stubborn" => Answer::Status(503),
        "/gone" => Answer::Status(410),
        _ => Answer::Status(204),
    })
    .await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    for id in ["fine", "flaky", "stubborn", "gone"] {
        shop.subscribe(id, &receiver, &format!("/{id}")).await;
    }
    shop.served().await;
    let request = json!({"parent": "tenants/acme", "include_attempts": true});
    let watcher = Watcher::start(&shop.grpc, DELIVERIES, request).await;
    let ends = json!({"parent": "tenants/-", "states": ["DELIVERY_STATE_CANCELLED"]});
    let ends = Watcher::start(&shop.grpc, DELIVERIES, ends).await;
    let own = json!({"parent": "tenants/acme", "subscription": subscription("fine")});
    let own = Watcher::start(&shop.grpc, DELIVERIES, own).await;
    shop.publish("e1", "{}").await;

    let waiting = shop.delivery("e1", "stubborn", "PENDING").await;
    eventually("it waits for its second attempt", || async {
        let found = shop.delivery("e1", "stubborn", "PENDING").await;
        let waits = found["pendingReason"] == "PENDING_REASON_RETRY_SCHEDULED";
        if waits { Ok(()) } else { Err(found) }
    })
    .await;
    let cancel = json!({"name": waiting["name"]});
    shop.grpc.ok("DeliveryService/CancelDelivery", cancel).await;
    shop.settled().await;

    let all = shop.deliveries(json!({})).await;
    let count = |messages: &[Value]| {
        ["fine", "flaky", "stubborn", "gone"]
            .iter()
            .map(|id| seen_of(messages, id, &all).len())
            .sum::<usize>()
    };
    let messages = watcher.until("everything is seen", |messages| count(messages) >= 11).await;
    let seen = |id: &str| seen_of(&messages, id, &all);
    assert_eq!(seen("fine"), ["attempt 1 SUCCEEDED", "SUCCEEDED"]);
    assert_eq!(
        seen("flaky"),
        ["attempt 1 RETRY", "PENDING RETRY_SCHEDULED", "attempt 2 SUCCEEDED", "SUCCEEDED"]
    );
    assert_eq!(seen("gone"), ["attempt 1 FAILED", "FAILED REFUSED"]);
    assert_eq!(
        seen("stubborn"),
        ["attempt 1 RETRY", "PENDING RETRY_SCHEDULED", "CANCELLED BY_CALLER"]
    );
    // Shown as elsewhere, and each can be asked for by its name.
    let shown = messages.iter().filter_map(|it| it.get("delivery"));
    let fine = shown.filter(|it| it["subscription"] == subscription("fine").as_str());
    assert_eq!(fine.collect::<Vec<_>>(), [&shop.delivery("e1", "fine", "SUCCEEDED").await]);

    let ended = ends.until("the cancel is seen", |messages| messages.len() >= 2).await;
    assert_eq!(seen_of(&ended, "stubborn", &all), ["CANCELLED BY_CALLER"]);
    assert_eq!(ended.iter().filter(|it| it.get("delivery").is_some()).count(), 1);
    let own = own.until("its own is seen", |messages| messages.len() >= 2).await;
    let states: Vec<_> = own.iter().filter_map(|it| it.get("delivery")).collect();
    assert_eq!(states.len(), 1);
    assert_eq!(states[0]["subscription"], subscription("fine"));
}

/// Whether a request is the first with its id.
fn first(request: &crate::harness::Request) -> bool {
    use std::sync::Mutex;
    static SEEN: Mutex<BTreeSet<(String, String)>> = Mutex::new(BTreeSet::new());
    // By host too: stories run side by side, each with a receiver of its own.
    let key = (request.header("host").to_owned(), request.header("webhook-id").to_owned());
    SEEN.lock().unwrap().insert(key)
}

/// Deliveries that a watch has shown as acknowledged.
fn succeeded(messages: &[Value]) -> BTreeSet<String> {
    let shown = messages.iter().filter_map(|it| it.get("delivery"));
    let ended = shown.filter(|it| it["state"] == "DELIVERY_STATE_SUCCEEDED");
    ended.map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

fn orders(range: std::ops::Range<usize>) -> Vec<pregon_proto::v1::PublishRequest> {
    range.map(|n| order(format!("e{n}"), format!("{n}"))).collect()
}

/// Publishes so many orders, as many at once as a batch may have.
async fn publish_all(publisher: &mut Publisher, events: usize) {
    for start in (0..events).step_by(500) {
        publisher.publish(orders(start..events.min(start + 500))).await;
    }
}

async fn a_watch_that_was_cut_goes_on_and_misses_nothing<W: World>() {
    const EVENTS: usize = 120;
    let pregon = W::in_memory().await;
    let receiver = Receiver::counting(|_| Answer::Status(204)).await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    shop.served().await;
    let mut request = json!({"parent": "tenants/acme"});
    let watcher = Watcher::start(&shop.grpc, DELIVERIES, request.clone()).await;
    let mut publisher = Publisher::new(pregon.target());
    publisher.publish(orders(0..EVENTS / 2)).await;
    watcher.until("something is seen", |messages| succeeded(messages).len() > 5).await;
    let before = watcher.cut().await;
    publisher.publish(orders(EVENTS / 2..EVENTS)).await;
    shop.settled().await;

    request["resume_token"] = before.last().unwrap()["resumeToken"].clone();
    let watcher = Watcher::start(&shop.grpc, DELIVERIES, request.clone()).await;
    let all: BTreeSet<_> = shop.deliveries(json!({})).await.iter().map(name).collect();
    assert_eq!(all.len(), EVENTS);
    let seen = |messages: &[Value]| &succeeded(&before) | &succeeded(messages);
    watcher.until("the rest is seen", |messages| seen(messages) == all).await;

    // A token is good for the request that it came with, and for no other.
    request["include_attempts"] = json!(true);
    let other = Watcher::begin(&shop.grpc, DELIVERIES, request).await.refused().await;
    assert_eq!((other.code, other.reason()), ("INVALID_ARGUMENT", "FIELDS_INVALID"));
}

fn name(delivery: &Value) -> String {
    delivery["name"].as_str().unwrap().to_owned()
}

async fn a_slow_watcher_holds_nobody_up<W: World>() {
    const EVENTS: usize = 3000;
    let pregon = W::in_memory().await;
    let receiver = Receiver::counting(|_| Answer::Status(204)).await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    shop.served().await;
    let request = json!({"parent": "tenants/acme", "include_attempts": true});
    let watcher = Watcher::start(&shop.grpc, DELIVERIES, request).await;
    watcher.signal("STOP").await;
    publish_all(&mut Publisher::new(pregon.target()), EVENTS).await;
    let report = shop.settled().await;
    assert_eq!(report["deliveries"]["succeeded"], EVENTS.to_string());
    let known = succeeded(&watcher.messages()).len();
    assert_eq!(known, 0, "it does not read");
    watcher.signal("CONT").await;
    watcher.until("it catches up", |messages| succeeded(messages).len() == EVENTS).await;
}

async fn configuration_is_watched_with_who_wrote_it<W: World>() {
    let (operator, other, viewer) = (
        Token::new(&["--name", "deploy-robot", "--role", "operator"]).await,
        Token::new(&["--name", "someone", "--role", "tenant_manager"]).await,
        Token::of("viewer").await,
    );
    let (pregon, _dir) = guarded::<W>(&[&operator, &other, &viewer]).await;
    let grpc = pregon.grpcurl();
    let [robot, someone, viewer] =
        [&operator, &other, &viewer].map(|token| grpc.with_token(&token.token));
    let watcher = Watcher::start(&viewer, CONFIGURATION, json!({})).await;
    let kinds = json!({"kinds": ["RESOURCE_KIND_TENANT"]});
    let tenants = Watcher::start(&viewer, CONFIGURATION, kinds).await;

    let mut shop = Shop::open(robot).await;
    let auth = json!({"bearer": {"token": "the-receivers-own-credential"}});
    let fields = json!({"url": "http://127.0.0.1:9/hook", "auth": auth});
    shop.subscribe_with("erp", fields).await;
    let material = shop.secret("erp").await;
    let mut by_other = Shop { grpc: someone, revision: String::new() };
    by_other.turn("Pause", "erp").await;
    let delete = json!({"name": subscription("erp")});
    by_other.write("SubscriptionService/DeleteSubscription", delete).await;

    let last = by_other.revision.clone();
    // The subscription and its secret go by one write: two messages of one revision.
    let done = |messages: &[Value]| {
        let ended = messages.iter().filter(|it| it["revision"] == last.as_str());
        ended.filter(|it| it["deleted"] == true).count() == 2
    };
    let messages = watcher.until("the delete is seen", done).await;
    let of = |kind: &str| -> Vec<_> {
        let kind = format!("RESOURCE_KIND_{kind}");
        messages.iter().filter(|it| it["kind"] == kind.as_str()).collect()
    };
    let (tenant, erp, secret) = (of("TENANT"), of("SUBSCRIPTION"), of("SECRET"));
    assert_eq!(tenant[0]["name"], "tenants/acme");
    assert_eq!(
        (&tenant[0]["actor"], &tenant[0]["deleted"]),
        (&json!("deploy-robot"), &json!(false))
    );
    assert!(tenant[0]["time"].is_string());
    assert_eq!(of("EVENT_TYPE")[0]["eventType"]["name"], "eventTypes/order.captured");
    let states: Vec<_> = erp.iter().map(|it| it["subscription"]["state"].clone()).collect();
    assert_eq!(
        states,
        [json!("SUBSCRIPTION_STATE_ACTIVE"), json!("SUBSCRIPTION_STATE_PAUSED"), Value::Null]
    );
    let actors: Vec<_> = erp.iter().map(|it| it["actor"].clone()).collect();
    assert_eq!(actors, ["deploy-robot", "someone", "someone"]);
    assert_eq!(erp[2]["deleted"], true);
    assert_eq!(erp[0]["subscription"]["auth"]["bearer"]["configured"], true);
    assert_eq!(
        (&secret[0]["secret"]["material"], &secret[1]["deleted"]),
        (&json!(""), &json!(true))
    );
    let text = watcher.text();
    assert!(!text.contains(&material) && !text.contains("the-receivers-own"), "{text}");
    let revisions: Vec<i64> =
        messages.iter().map(|it| it["revision"].as_str().unwrap().parse().unwrap()).collect();
    assert!(revisions.is_sorted(), "{revisions:?}");

    // After a revision, what came later comes again, and nothing else.
    let after = json!({"after_revision": erp[1]["revision"]});
    let resumed = Watcher::start(&viewer, CONFIGURATION, after).await;
    let messages = resumed.until("the delete is seen again", done).await;
    assert!(messages.iter().skip(1).all(|it| it["deleted"] == true), "{messages:?}");
    let tenants = tenants.until("the tenant is seen", |messages| messages.len() >= 2).await;
    let names: Vec<_> = tenants.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["", "tenants/acme"], "a heartbeat, and the one tenant");
}

async fn watches_of_nothing_are_refused<W: World>() {
    let pregon = W::in_memory().await;
    let shop = Shop::open(pregon.grpcurl()).await;
    let acme = "tenants/acme";
    for (method, request, code, reason) in [
        (DELIVERIES, json!({"parent": "tenants/nobody"}), "NOT_FOUND", "RESOURCE_NOT_FOUND"),
        (
            DELIVERIES,
            json!({"parent": acme, "subscription": subscription("nothing")}),
            "NOT_FOUND",
            "RESOURCE_NOT_FOUND",
        ),
        (
            DELIVERIES,
            json!({"parent": acme, "resume_token": "AAAA"}),
            "INVALID_ARGUMENT",
            "FIELDS_INVALID",
        ),
        (
            DELIVERIES,
            json!({"parent": acme, "states": ["DELIVERY_STATE_UNSPECIFIED"]}),
            "INVALID_ARGUMENT",
            "FIELDS_INVALID",
        ),
        (CONFIGURATION, json!({"after_revision": -1}), "INVALID_ARGUMENT", "FIELDS_INVALID"),
        (
            CONFIGURATION,
            json!({"after_revision": i64::MAX.to_string()}),
            "FAILED_PRECONDITION",
            "REVISION_UNKNOWN",
        ),
        (CONFIGURATION, json!({"after_revision": 1}), "OUT_OF_RANGE", "RESUME_TOKEN_EXPIRED"),
    ] {
        if W::NODES == 1 && request["after_revision"] == 1 {
            continue; // the embedded store counts from 1, and still has it
        }
        let refused = Watcher::begin(&shop.grpc, method, request.clone()).await.refused().await;
        assert_eq!((refused.code, refused.reason()), (code, reason), "{request}: {refused}");
    }
}

/// What is no longer kept cannot be gone on from, and the watcher is told so.
#[tokio::test]
async fn a_token_that_is_too_old_is_told() {
    let plan = Plan { node: &["--history-events", "1000"], ..Plan::default() };
    let planes = Planes::start(plan).await;
    let receiver = Receiver::counting(|_| Answer::Status(204)).await;
    let mut shop = Shop::open(planes.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    shop.served().await;
    let mut request = json!({"parent": "tenants/acme"});
    let begun = Watcher::start(&shop.grpc, DELIVERIES, request.clone()).await.cut().await;
    publish_all(&mut Publisher::new(planes.target()), 2500).await;
    shop.settled().await;
    eventually("old history is trimmed", || async {
        let event = json!({"name": "tenants/acme/events/e0"});
        match shop.grpc.call("DeliveryService/GetEvent", event).await {
            Ok(kept) => Err(kept),
            Err(_) => Ok(()),
        }
    })
    .await;
    request["resume_token"] = begun[0]["resumeToken"].clone();
    eventually("the log behind it is trimmed", || async {
        let watcher = Watcher::begin(&shop.grpc, DELIVERIES, request.clone()).await;
        let refused = tokio::time::timeout(std::time::Duration::from_secs(3), watcher.refused());
        match refused.await {
            Ok(refused) if refused.reason() == "RESUME_TOKEN_EXPIRED" => {
                assert_eq!(refused.code, "OUT_OF_RANGE");
                assert!(refused.message.contains("list what there is"), "{refused}");
                Ok(())
            }
            Ok(refused) => Err(refused.to_string()),
            Err(_) => Err("it goes on".to_owned()),
        }
    })
    .await;
}
