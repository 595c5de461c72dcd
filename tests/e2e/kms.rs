//! Master keys that a KMS has wrapped: a real Vault opens them. The key file holds no key; a process that
//! starts while the KMS does not open them is not ready and says what to do; one that runs goes on.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::harness::process::Process;
use crate::harness::shop::Shop;
use crate::harness::vault::{self, Vault};
use crate::harness::{Receiver, World, eventually, poll};
use crate::on_both;

on_both!(a_kms_opens_the_keys);

/// The token of processes, and that of the operator.
const TOKEN: &str = "token";
const OPERATOR: &str = "operator";

/// Runs `pregon keys` with a KMS.
async fn keys(what: &[&str], settings: &[String; 4]) -> (bool, String) {
    let settings = settings.each_ref().map(String::as_str);
    let (status, said) = Process::run(&[&["keys"], what, &settings].concat(), &[]).await;
    (status.success(), said)
}

/// What a process says of its readiness to whoever may know why.
async fn health(addr: SocketAddr) -> String {
    let (_, said) = Process::run(&["health", &addr.to_string()], &[]).await;
    said
}

/// Waits until all say that they are not ready, for this reason, and live.
async fn all_wait(addrs: &[SocketAddr], why: &str) {
    for addr in addrs {
        eventually(&format!("{addr} says {why:?}"), || async {
            let said = health(*addr).await;
            let lives = said.lines().any(|line| line == "liveness   SERVING");
            let told = said.contains("keys: key 1 of ") && said.contains(why);
            if lives && told { Ok(()) } else { Err(said) }
        })
        .await;
    }
}

async fn all_ready(addrs: &[SocketAddr]) {
    for addr in addrs {
        eventually(&format!("{addr} is ready"), || async {
            let said = health(*addr).await;
            let ready = said.lines().any(|line| line == "readiness  SERVING");
            if ready { Ok(()) } else { Err(said) }
        })
        .await;
    }
}

fn everywhere<W: World>(pregon: &W) -> Vec<SocketAddr> {
    let mut all = pregon.events();
    all.push(pregon.management());
    all.dedup();
    all
}

fn write(file: &Path, text: &str) {
    let new = file.with_extension("edited");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, file).unwrap();
}

async fn a_kms_opens_the_keys<W: World>() {
    if !vault::is_there() {
        return;
    }
    // By all processes that there were.
    let mut log = String::new();
    let vault = Vault::start().await;
    let token = vault.token("pregon", TOKEN).await;
    vault.token("operator", OPERATOR).await;
    let (settings, operator) = (vault.settings(TOKEN), vault.settings(OPERATOR));
    let args: Vec<_> = settings.iter().map(String::as_str).collect();
    let mut pregon = W::lasting(&args).await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    shop.served().await;
    let secret = shop.secret("erp").await;

    // Its files are wrapped while it runs: the keys are the same, and no file holds one any more.
    let files: Vec<PathBuf> = pregon.key_files();
    let clear = std::fs::read_to_string(&files[0]).unwrap().trim().to_owned();
    let (done, said) = keys(&["wrap", &files[0].display().to_string()], &settings).await;
    assert!(
        !done && said.contains("give its policy the capability `update` on transit/encrypt/pregon")
    );
    assert_eq!(std::fs::read_to_string(&files[0]).unwrap().trim(), clear, "and it is as it was");
    for file in &files {
        let (done, said) = keys(&["wrap", &file.display().to_string()], &operator).await;
        assert!(done && said.contains("1 of 1 master keys are wrapped now"), "{said}");
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.starts_with("vault:v1:") && !text.contains(&clear), "{text}");
    }
    eventually("its keys are wrapped", || async {
        let listed = shop.grpc.ok("MasterKeyService/ListMasterKeys", json!({})).await;
        let key = &listed["masterKeys"][0];
        if key["wrapped"] == true && key["seals"] == true { Ok(()) } else { Err(listed) }
    })
    .await;

    // A key that is wrapped from its birth becomes the second.
    let (done, said) = keys(&["new"], &operator).await;
    assert!(done, "{said}");
    let born = said.lines().find(|line| line.starts_with("vault:v1:")).unwrap().to_owned();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        write(file, &format!("{text}{born}\n"));
    }
    eventually("both are known, and wrapped", || async {
        let (_, said) =
            Process::run(&["keys", "list", &pregon.management().to_string()], &[]).await;
        if said.matches("wrapped by a KMS").count() == 2 { Ok(()) } else { Err(said) }
    })
    .await;

    // Its token is revoked and the KMS sealed while it runs: nobody notices, but who changes the file.
    vault.revoke(&token).await;
    vault.seal().await;
    shop.publish("e1", "{}").await;
    shop.delivery("e1", "erp", "SUCCEEDED").await;
    let both = std::fs::read_to_string(&files[0]).unwrap();
    write(&files[0], &format!("{both}vault:v1:{}\n", data_encoding::BASE64.encode(&[7; 60])));
    eventually("it is said", || async {
        let said = pregon.output();
        let told = said.contains("key 3 of ") && said.contains("unseal it");
        if told { Ok(()) } else { Err(said) }
    })
    .await;
    all_ready(&everywhere(&pregon)).await;
    write(&files[0], &both);

    // Started without it, all processes live, wait, and say why; whoever calls is asked to come again.
    pregon.kill().await;
    log += &pregon.output();
    pregon.start_again().await;
    let all = everywhere(&pregon);
    all_wait(&all, "is sealed, or not set up yet: unseal it").await;
    shop.grpc = pregon.grpcurl();
    let refused = shop.grpc.refused("EventService/Publish", shop.request("e2", "{}")).await;
    assert_eq!((refused.code, refused.reason()), ("UNAVAILABLE", "NOT_READY"));
    let refused =
        shop.grpc.refused("TenantService/GetTenant", json!({"name": "tenants/acme"})).await;
    assert_eq!((refused.code, refused.reason()), ("UNAVAILABLE", "NOT_READY"));
    vault.unseal().await;
    all_wait(&all, "does not know the token of --kms-token-file").await;
    vault.token("neither", TOKEN).await;
    all_wait(&all, "give its policy the capability `update` on transit/decrypt/pregon").await;
    // Once it is open they go on by themselves.
    vault.token("pregon", TOKEN).await;
    all_ready(&all).await;
    assert_eq!(shop.secret("erp").await, secret);
    shop.publish("e2", "{}").await;
    shop.delivery("e2", "erp", "SUCCEEDED").await;

    // The transit key is rotated, the files are rewrapped, and its old version is retired.
    vault.rotate().await;
    for file in &files {
        let (done, said) = keys(&["rewrap", &file.display().to_string()], &operator).await;
        assert!(done && said.contains("2 of 2 master keys"), "{said}");
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.lines().all(|line| line.starts_with("vault:v2:")), "{text}");
    }
    vault.retire_below(2).await;
    pregon.kill().await;
    log += &pregon.output();
    pregon.start_again().await;
    shop.grpc = pregon.grpcurl();
    all_ready(&everywhere(&pregon)).await;
    assert_eq!(shop.secret("erp").await, secret);

    // What an older version has wrapped says so.
    pregon.terminate().await;
    pregon.exit(poll::BOUND).await;
    log += &pregon.output();
    for file in &files {
        write(file, &both);
    }
    pregon.start_again().await;
    all_wait(&everywhere(&pregon), "min_decryption_version").await;
    // Asked to end while it waits, it ends well.
    pregon.terminate().await;
    assert!(pregon.exit(poll::BOUND).await.success());
    log += &pregon.output();
    for canary in [&clear, &token] {
        assert!(!log.contains(canary.as_str()), "a secret is in the log: {log}");
    }
}

/// A file with wrapped keys and no KMS is a wrong setting.
#[tokio::test]
async fn wrapped_keys_want_a_kms() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    std::fs::write(&file, format!("{}\nvault:v1:AAAA", "11".repeat(32))).unwrap();
    let file = file.display().to_string();
    let args = ["standalone", "--in-memory", "--master-key-file", &file];
    let (status, said) = Process::run(&args, &[]).await;
    assert!(!status.success() && said.contains("--kms-address: must be set: key 2 of "), "{said}");
    let args = [&args[..], &["--kms-address", "http://192.0.2.1:8200"]].concat();
    let (status, said) = Process::run(&args, &[]).await;
    assert!(!status.success() && said.contains("--kms-address: must be https://"), "{said}");
}
