//! Master keys change while everything runs: added, put first, everything sealed anew under it, the old
//! one retired; in whatever order the files of the processes are changed. A process without a key that
//! the store needs is not ready, takes nothing, says which, and goes on by itself once it is there.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::load::{self, Load, id};
use crate::harness::planes::{FIRST_KEY, Plan, Planes};
use crate::harness::process::Process;
use crate::harness::shop::{Shop, balanced};
use crate::harness::{Answer, Receiver, Request, Standalone, World, eventually, poll};
use crate::on_both;

on_both!(multi_thread: a_key_is_replaced_under_load);

/// A key that comes later.
const NEW: &str = "77";

/// Writes a key file anew, as an editor does: another file in its place.
fn write(file: &Path, keys: &[&str]) {
    let new = file.with_extension("edited");
    std::fs::write(&new, keys.join("\n")).unwrap();
    std::fs::rename(&new, file).unwrap();
}

/// The key that is made of one byte.
fn key(byte: &str) -> String {
    byte.repeat(32)
}

/// The master keys as a control plane lists them: id, documents, and whether it seals.
async fn listed(shop: &Shop) -> Vec<Value> {
    let answer = shop.grpc.ok("MasterKeyService/ListMasterKeys", json!({})).await;
    answer["masterKeys"].as_array().unwrap().clone()
}

/// Waits until the keys are as wanted, and gives them.
async fn keys_are(shop: &Shop, what: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    eventually(what, || async {
        let keys = listed(shop).await;
        if wanted(&keys) { Ok(keys) } else { Err(keys) }
    })
    .await
}

/// Waits until every process says that its file has just so many keys.
async fn all_say(shop: &Shop, count: usize) {
    eventually(&format!("all have {count} keys"), || async {
        let list = shop.grpc.ok("NodeService/ListNodes", json!({})).await;
        let all = ["nodes", "controlPlanes"].into_iter().flat_map(|field| {
            list[field]
                .as_array()
                .into_iter()
                .flatten()
                .map(|it| it["masterKeyIds"].as_array().map_or(0, Vec::len))
        });
        if all.clone().all(|keys| keys == count) { Ok(()) } else { Err(all.collect::<Vec<_>>()) }
    })
    .await;
}

/// Runs `pregon keys` at an address.
async fn keys_command(what: &str, addr: SocketAddr) -> (bool, String) {
    let (status, said) = Process::run(&["keys", what, &addr.to_string()], &[]).await;
    (status.success(), said)
}

/// What a process says of its readiness to whoever may know why.
async fn health(addr: SocketAddr) -> String {
    let (_, said) = Process::run(&["health", &addr.to_string(), "--only", "readiness"], &[]).await;
    said
}

async fn not_ready(addr: SocketAddr, id: &str) {
    eventually(&format!("{addr} says that it lacks {id}"), || async {
        let said = health(addr).await;
        let lacks = said.contains("NOT_SERVING") && said.contains("keys: ") && said.contains(id);
        if lacks { Ok(()) } else { Err(said) }
    })
    .await;
}

async fn ready(addr: SocketAddr) {
    eventually(&format!("{addr} is ready"), || async {
        let said = health(addr).await;
        if said.contains("NOT_SERVING") { Err(said) } else { Ok(()) }
    })
    .await;
}

/// A receiver that wants all that is sealed for it: a bearer token and a header.
async fn strict() -> Receiver {
    let wants = |request: &Request| {
        let known = request.header("authorization") == "Bearer hush"
            && request.header("x-shop-key") == "hush too";
        Answer::Status(if known { 204 } else { 401 })
    };
    Receiver::counting(wants).await
}

async fn subscribe(shop: &mut Shop, id: &str, receiver: &Receiver, path: &str) {
    let fields = json!({
        "url": receiver.url(path),
        "auth": {"bearer": {"token": "hush"}},
        "headers": [{"name": "x-shop-key", "value": "hush too", "credential": true}],
    });
    shop.subscribe_with(id, fields).await;
}

async fn a_key_is_replaced_under_load<W: World>() {
    let events = load::events();
    let mut pregon = W::on_disk(&[]).await;
    let receiver = strict().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    subscribe(&mut shop, "erp", &receiver, "/hook").await;
    shop.served().await;
    let secret = shop.secret("erp").await;
    let load = Load::start(events, &pregon.target());
    load.reach(events / 10).await;

    let old = std::fs::read_to_string(&pregon.key_files()[0]).unwrap().trim().to_owned();
    let new = key(NEW);
    let before = keys_are(&shop, "the old key seals everything", |keys| {
        keys.len() == 1 && keys[0]["seals"] == true && keys[0]["documents"] == "2"
    })
    .await;
    // A file that cannot be read changes nothing.
    let files = pregon.key_files();
    write(&files[0], &[&new, "not a key"]);
    eventually("the bad file is refused", || async {
        let said = pregon.output();
        if said.contains("key 2 must be 32 bytes") { Ok(()) } else { Err(said) }
    })
    .await;
    assert_eq!(listed(&shop).await, before);

    // Added and put first at once, one file after the other.
    for file in files.iter().rev() {
        write(file, &[&new, &old]);
    }
    let keys = keys_are(&shop, "the new key seals", |keys| {
        keys.len() == 2 && keys[0]["seals"] == true && keys[0]["given"] == true
    })
    .await;
    assert_eq!(keys[1]["id"], before[0]["id"]);
    assert_eq!(keys[1]["documents"], "2", "{keys:?}");
    subscribe(&mut shop, "crm", &receiver, "/other").await;
    load.reach(events / 2).await;

    let (success, said) = keys_command("reseal", pregon.management()).await;
    assert!(success, "{said}");
    assert!(said.contains("2 of "), "{said}");
    let keys =
        keys_are(&shop, "nothing is under the old key", |keys| keys[1]["documents"] == "0").await;
    assert_eq!(keys[0]["documents"], "4");
    let (success, said) = keys_command("reseal", pregon.management()).await;
    assert!(success && said.starts_with("0 of "), "{said}");
    let audited = shop.grpc.ok(
        "AuditLogService/ListAuditEntries",
        json!({
            "method": "pregon.v1.MasterKeyService/ResealDocuments", "page_size": 10,
        }),
    );
    let audited = audited.await;
    let text = audited.to_string();
    assert!(text.contains("tenants/acme/subscriptions/erp") && !text.contains("hush"), "{text}");

    // Retired, one file after the other.
    for file in &files {
        write(file, &[&new]);
    }
    all_say(&shop, 1).await;
    keys_are(&shop, "the old key is gone", |keys| keys.len() == 1).await;
    let (success, said) = keys_command("list", pregon.management()).await;
    assert!(success && said.contains("4 documents, seals"), "{said}");
    load.done().await;
    poll::within(load::patience(events), "every event is received", || async {
        let received = receiver.distinct("/hook");
        if received == events { Ok(()) } else { Err(received) }
    })
    .await;
    let report = shop.settled().await;
    balanced(&report).unwrap();
    assert_eq!(report["events"]["accepted"], events.to_string());
    assert_eq!(report["deliveries"]["failed"], "0");
    let seen = receiver.seen("/hook");
    for n in 0..events {
        assert!(seen.get(&id(n)).is_some_and(|seen| seen.count == 1), "{}: once", id(n));
    }

    // The new key is all that a start needs.
    pregon.kill().await;
    pregon.start_again().await;
    shop.grpc = pregon.grpcurl();
    for addr in pregon.events() {
        ready(addr).await;
    }
    assert_eq!(shop.secret("erp").await, secret);
    shop.publish("afterwards", "{}").await;
    shop.delivery("afterwards", "erp", "SUCCEEDED").await;
    shop.delivery("afterwards", "crm", "SUCCEEDED").await;
}

/// The files are changed in the worst order that there is: nobody ever meets a key that it lacks,
/// but who was given no key that the store needs.
#[tokio::test]
async fn no_order_of_the_files_is_wrong() {
    let mut planes = Planes::start(Plan::default()).await;
    let receiver = strict().await;
    let mut shop = Shop::open(planes.grpcurl()).await;
    subscribe(&mut shop, "erp", &receiver, "/hook").await;
    shop.served().await;
    let (old, new) = (key(FIRST_KEY), key(NEW));
    let before = listed(&shop).await[0]["id"].as_str().unwrap().to_owned();

    // The control plane is given the new key alone: it goes on under the old one, and stops nobody.
    write(&planes.control.key_file(), &[&new]);
    let keys = keys_are(&shop, "the new key is known", |keys| keys.len() == 2).await;
    assert_eq!((&keys[0]["given"], &keys[0]["seals"]), (&json!(true), &json!(false)));
    assert_eq!((keys[1]["id"].as_str(), &keys[1]["seals"]), (Some(&*before), &json!(true)));
    subscribe(&mut shop, "ops", &receiver, "/ops").await;
    shop.served().await;
    let refused = shop.grpc.refused("MasterKeyService/ResealDocuments", json!({})).await;
    assert_eq!(refused.code, "FAILED_PRECONDITION");
    assert!(refused.message.contains("nodes/n0, nodes/n1"), "{}", refused.message);

    // Two of three have the new key first. The third lacks it: it does not seal.
    for file in [planes.control.key_file(), planes.nodes[0].key_file()] {
        write(&file, &[&new, &old]);
    }
    let keys = keys_are(&shop, "the new key is known", |keys| {
        keys.len() == 2 && keys[0]["lacking"] == json!(["nodes/n1"])
    })
    .await;
    let after = keys[0]["id"].as_str().unwrap().to_owned();
    assert_eq!((&keys[0]["seals"], &keys[1]["seals"]), (&json!(false), &json!(true)));
    subscribe(&mut shop, "crm", &receiver, "/other").await;
    shop.served().await;
    let refused = shop.grpc.refused("MasterKeyService/ResealDocuments", json!({})).await;
    assert_eq!(refused.code, "FAILED_PRECONDITION");
    assert!(refused.message.contains("nodes/n1"), "{}", refused.message);

    // A second control plane that was given the new key only: not ready, and it writes nothing.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    std::fs::write(&file, &new).unwrap();
    let second = planes.another_control(&file).await;
    not_ready(second.addr(), &before).await;
    let its = crate::harness::Grpcurl::new(second.addr());
    let tenant = json!({"tenant_id": "other", "tenant": {}});
    let refused = its.refused("TenantService/CreateTenant", tenant.clone()).await;
    assert_eq!((refused.code, refused.reason()), ("UNAVAILABLE", "NOT_READY"));
    assert!(refused.message.contains(&before), "{}", refused.message);
    its.ok("TenantService/GetTenant", json!({"name": "tenants/acme"})).await;

    // The third has it now: it seals, and after sealing anew the second goes on by itself.
    write(&planes.nodes[1].key_file(), &[&new, &old]);
    keys_are(&shop, "the new key seals", |keys| keys[0]["seals"] == true).await;
    let (success, said) = keys_command("reseal", planes.control.addr()).await;
    assert!(success, "{said}");
    ready(second.addr()).await;
    its.ok("TenantService/CreateTenant", tenant).await;

    // Somebody takes the new key out of a node's file: it stays in memory, and is said.
    write(&planes.nodes[1].key_file(), &[&old]);
    eventually("the slip is said", || async {
        let said = planes.nodes[1].output();
        let told = said.contains("was taken out of the file") && said.contains(&after);
        if told { Ok(()) } else { Err(said) }
    })
    .await;
    ready(planes.nodes[1].addr()).await;
    // Its next start has no such key: it takes nothing, and says which it lacks.
    planes.nodes[1].kill().await;
    planes.nodes[1].start_again().await;
    not_ready(planes.nodes[1].addr(), &after).await;
    let lame = crate::harness::Grpcurl::new(planes.nodes[1].addr());
    let refused = lame.refused("EventService/Publish", shop.request("e0", "{}")).await;
    assert_eq!((refused.code, refused.reason()), ("UNAVAILABLE", "NOT_READY"));
    assert!(refused.message.contains(&after), "{}", refused.message);
    let list = shop.grpc.ok("NodeService/ListNodes", json!({})).await;
    let states: Vec<_> = list["nodes"].as_array().unwrap().iter().map(|it| &it["state"]).collect();
    assert!(states.contains(&&json!("NODE_STATE_NOT_READY")), "{states:?}");
    assert!(states.contains(&&json!("NODE_STATE_READY")), "{states:?}");
    // It pulls nobody back to the key that it has.
    let keys = keys_are(&shop, "it is there and lacks the key", |keys| {
        keys[0]["lacking"].as_array().is_some_and(|who| who.len() == 1)
    })
    .await;
    assert_eq!((keys[0]["id"].as_str(), &keys[0]["seals"]), (Some(&*after), &json!(true)));
    // What the other takes it delivers alone, to each of the three.
    let other = crate::harness::Grpcurl::new(planes.nodes[0].addr());
    for n in 0..20 {
        other.ok("EventService/Publish", shop.request(&id(n), "{}")).await;
    }
    for path in ["/hook", "/other", "/ops"] {
        eventually(&format!("all are delivered to {path}"), || async {
            let received = receiver.distinct(path);
            if received == 20 { Ok(()) } else { Err(received) }
        })
        .await;
    }
    write(&planes.nodes[1].key_file(), &[&new, &old]);
    ready(planes.nodes[1].addr()).await;
    lame.ok("EventService/Publish", shop.request("e20", "{}")).await;
    shop.settled().await;
}

/// One process, started with another's key file: not ready until it is given the right one, without
/// a start. And beside a store that has configuration no new key is made.
#[tokio::test]
async fn a_store_is_never_given_another_key() {
    let mut pregon = Standalone::on_disk(&[]).await;
    let receiver = strict().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    subscribe(&mut shop, "erp", &receiver, "/hook").await;
    let id = listed(&shop).await[0]["id"].as_str().unwrap().to_owned();
    let file: PathBuf = pregon.dir().join("master.key");
    let own = std::fs::read_to_string(&file).unwrap();
    pregon.terminate().await;
    pregon.exit(poll::BOUND).await;

    std::fs::write(&file, key(NEW)).unwrap();
    pregon.start_again().await;
    shop.grpc = pregon.grpcurl();
    not_ready(pregon.addr(), &id).await;
    for (method, request) in [
        ("EventService/Publish", shop.request("e1", "{}")),
        ("TenantService/CreateTenant", json!({"tenant_id": "other", "tenant": {}})),
    ] {
        let refused = shop.grpc.refused(method, request).await;
        assert_eq!((refused.code, refused.reason()), ("UNAVAILABLE", "NOT_READY"));
        assert!(refused.message.contains(&id), "{method}: {}", refused.message);
    }
    write(&file, &[&key(NEW), own.trim()]);
    ready(pregon.addr()).await;
    shop.publish("e1", "{}").await;
    shop.delivery("e1", "erp", "SUCCEEDED").await;
    pregon.terminate().await;
    pregon.exit(poll::BOUND).await;

    std::fs::remove_file(&file).unwrap();
    let dir = pregon.dir().display().to_string();
    let args = ["standalone", "--listen", "127.0.0.1:0", "--data-dir", &dir];
    let (status, said) = Process::run(&args, &[]).await;
    assert!(!status.success() && said.contains("--master-key-file"), "{said}");
    assert!(!file.exists(), "no new key");
}

#[tokio::test]
async fn a_key_is_made_for_the_file() {
    let (status, said) = Process::run(&["keys", "new"], &[]).await;
    assert!(status.success(), "{said}");
    let line = said.lines().find(|line| line.len() == 64).unwrap();
    assert!(line.bytes().all(|byte| byte.is_ascii_hexdigit()), "{said}");
}
