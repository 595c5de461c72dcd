//! A person asks for erasure: what was published of them is nowhere, and the books still balance.

use std::path::Path;

use data_encoding::{BASE64, HEXLOWER};
use serde_json::{Value, json};

use crate::harness::planes::{Plan, Planes};
use crate::harness::redis::Keep;
use crate::harness::shop::Shop;
use crate::harness::{Answer, Receiver, Request, Standalone, World, eventually};
use crate::on_both;

on_both!(a_person_is_erased_and_the_books_balance);

/// Stands in the data, in an attribute, in what the receiver got, and in what it answered.
const CANARY: &str = "c4n4ry-of-jane-7c31e9";

/// A contract that gives up after the second attempt, a second after the first.
const TWICE: &str = r#"
contract: twice
body: { type: "${event.type}", data: "${event.data}" }
headers: { webhook-id: "${event.unique_id}" }
retry: { delays: [1s], retry_after: ignore }
examples:
  - event: { type: order.captured, data: '{}' }
    expect: { body: '{"type":"order.captured","data":{}}' }
"#;

/// Refuses what comes to `/bad`, and says what it got.
async fn receiver() -> Receiver {
    Receiver::start(|request: &Request| match request.path() {
        "/bad" => Answer::Body(404, format!("not you: {}", request.text())),
        _ => Answer::Status(204),
    })
    .await
}

async fn publish(shop: &Shop, id: &str, data: &str, who: &str) -> Value {
    let mut request = shop.request(id, data);
    request["event"]["attributes"] = json!({"who": who});
    shop.grpc.ok("EventService/Publish", request).await
}

/// Publishes events of two people, by turns, and waits until all of them ended.
async fn ended(shop: &Shop) {
    for n in 0..20 {
        let who = if n % 4 == 1 { CANARY } else { "somebody-else" };
        let data = json!({"customer": {"email": who}, "n": n}).to_string();
        publish(shop, &format!("e{n}"), &data, who).await;
    }
    let bad = shop.delivery("e1", "bad", "FAILED").await;
    let attempts = shop.attempts(&bad).await;
    assert!(
        json!(attempts[1]["response"]).to_string().contains(CANARY),
        "it is there: {attempts:?}"
    );
    shop.settled().await;
}

fn name(id: &str) -> String {
    format!("tenants/acme/events/{id}")
}

/// Erases one event and then, by value, all others of the person.
async fn erase(shop: &Shop) {
    let one = json!({"name": name("e1"), "reason": "request 4711"});
    shop.grpc.ok("DeliveryService/EraseEvent", one).await;
    let all = json!({"parent": "tenants/acme", "reason": "request 4711",
        "data_path": "event.data.customer.email", "value": CANARY});
    let (messages, end) = shop.grpc.stream("DeliveryService/EraseEvents", &all).await;
    end.unwrap();
    let sums = messages.last().unwrap();
    assert_eq!((&sums["seen"], &sums["erased"]), (&json!("20"), &json!("4")), "{sums}");
}

async fn two_subscriptions(shop: &mut Shop, receiver: &Receiver) {
    shop.subscribe("good", receiver, "/good").await;
    let request = json!({"contract_id": "twice", "contract": {"document": TWICE}});
    shop.write("ContractService/CreateContract", request).await;
    let bad = json!({"url": receiver.url("/bad"), "contract": "contracts/twice",
        "event_types": ["order.*"]});
    shop.subscribe_with("bad", bad).await;
    shop.served().await;
}

async fn a_person_is_erased_and_the_books_balance<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = receiver().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    two_subscriptions(&mut shop, &receiver).await;
    ended(&shop).await;
    shop.turn("Pause", "good").await;
    shop.served().await;
    publish(&shop, "waits", &json!({"customer": {"email": CANARY}}).to_string(), CANARY).await;
    shop.delivery("waits", "good", "PENDING").await;
    shop.delivery("waits", "bad", "FAILED").await;
    let request = json!({"name": name("waits"), "reason": "request 4711"});
    let erased = shop.grpc.ok("DeliveryService/EraseEvent", request).await;
    assert_eq!(erased["event"]["erasure"]["reason"], "request 4711");
    let called_off = shop.delivery("waits", "good", "CANCELLED").await;
    assert_eq!(called_off["endReason"], "END_REASON_ERASED");

    let all = json!({"parent": "tenants/acme", "reason": "request 4711",
        "attribute": "who", "value": CANARY});
    let (messages, end) = shop.grpc.stream("DeliveryService/EraseEvents", &all).await;
    end.unwrap();
    assert_eq!(messages.last().unwrap()["erased"], "5");
    for id in ["e1", "e5", "waits"] {
        let event = shop.grpc.ok("DeliveryService/GetEvent", json!({"name": name(id)})).await;
        assert_eq!(
            (&event["event"]["json"], &event["event"]["attributes"]),
            (&Value::Null, &json!({}))
        );
        let story = shop.grpc.ok("DeliveryService/ExplainEvent", json!({"name": name(id)})).await;
        assert!(!story.to_string().contains(CANARY), "{story}");
    }
    let bad = shop.delivery("e1", "bad", "FAILED").await;
    let attempts = shop.attempts(&bad).await;
    assert_eq!((attempts.len(), &attempts[1]["response"]["status"]), (2, &json!(404)));
    assert!(!json!(attempts).to_string().contains(CANARY), "{attempts:?}");
    let replay = json!({"name": bad["name"]});
    let refused = shop.grpc.refused("DeliveryService/ReplayDelivery", replay).await;
    assert_eq!((refused.code, refused.reason()), ("FAILED_PRECONDITION", "STATE_CONFLICT"));
    let data = json!({"customer": {"email": CANARY}, "n": 1}).to_string();
    let again = publish(&shop, "e1", &data, CANARY).await;
    assert_eq!(again["duplicate"], true, "{again}");

    let report = shop.settled().await;
    assert_eq!(report["events"]["accepted"], "21");
    assert_eq!(report["deliveries"]["created"], "42");
    assert_eq!(report["deliveries"]["cancelled"], "1");
}

/// Looks for the canary in a directory's files, as it is and in the forms that programs give it.
fn search(directory: &Path) -> Vec<String> {
    let forms = [
        CANARY.to_owned(),
        HEXLOWER.encode(CANARY.as_bytes()),
        // In base64 what does not depend on where it begins.
        BASE64.encode(CANARY.as_bytes())[4..24].to_owned(),
        BASE64.encode(&CANARY.as_bytes()[1..])[4..24].to_owned(),
        BASE64.encode(&CANARY.as_bytes()[2..])[4..24].to_owned(),
    ];
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(search(&path));
            continue;
        }
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            // Redis renames and removes files while it rewrites them.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => panic!("{}: {error}", path.display()),
        };
        for form in &forms {
            if bytes.windows(form.len()).any(|it| it == form.as_bytes()) {
                found.push(format!("{form} in {}", path.display()));
            }
        }
    }
    found
}

/// As the page on operations says: `VACUUM`, by whatever speaks SQLite.
fn compact(file: &Path) {
    const SCRIPT: &str = "import sqlite3, sys\ndb = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
                          db.execute('VACUUM')\ndb.execute('PRAGMA wal_checkpoint(TRUNCATE)')\ndb.close()\n";
    let status = std::process::Command::new("python3").args(["-c", SCRIPT]).arg(file).status();
    assert!(status.unwrap().success());
}

#[tokio::test]
async fn nothing_of_a_person_is_in_the_files_of_one_process() {
    let mut pregon = Standalone::on_disk(&[]).await;
    let receiver = receiver().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    two_subscriptions(&mut shop, &receiver).await;
    ended(&shop).await;
    assert_ne!(search(pregon.dir()), Vec::<String>::new(), "it is there before");
    erase(&shop).await;
    pregon.terminate().await;
    assert!(pregon.exit(std::time::Duration::from_secs(30)).await.success());
    compact(&pregon.dir().join("pregon.db"));
    assert_eq!(search(pregon.dir()), Vec::<String>::new());
}

#[tokio::test]
async fn nothing_of_a_person_is_in_the_files_of_redis() {
    let plan = Plan { nodes: 2, keep: Keep::EverySecond, ..Plan::default() };
    let planes = Planes::start(plan).await;
    let receiver = receiver().await;
    let mut shop = Shop::open(planes.grpcurl()).await;
    two_subscriptions(&mut shop, &receiver).await;
    ended(&shop).await;
    let directory = planes.redis.directory();
    eventually("it is on disk", || async {
        if search(directory).is_empty() { Err("not yet") } else { Ok(()) }
    })
    .await;
    erase(&shop).await;
    // As the page on operations says: the append-only file is rewritten, and RDB is saved anew.
    planes.redis.run("BGREWRITEAOF").await.unwrap();
    eventually("the append-only file is rewritten", || async {
        let found = search(directory);
        if found.is_empty() { Ok(()) } else { Err(found) }
    })
    .await;
    planes.redis.run("SAVE").await.unwrap();
    assert_eq!(search(directory), Vec::<String>::new());
}
