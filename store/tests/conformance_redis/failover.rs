//! Another server becomes the primary, or there is none; and what is said of one that is away.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use pregon_store::StoreError;
use pregon_store::redis::{self as engine, RedisOptions};
use pregon_store::settlement::Transition;

use crate::proxy::Proxy;
use crate::queue::{events, in_order, publish, settle, store, take};
use crate::server::Server;

/// How long a condition may take to come true.
const BOUND: Duration = Duration::from_secs(20);

async fn until<T, E: std::fmt::Debug>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, E>) -> T {
    let end = Instant::now() + BOUND;
    loop {
        match ask().await {
            Ok(good) => return good,
            Err(bad) => assert!(Instant::now() < end, "not in time: {what}: {bad:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The old primary lives on as a replica and answers whoever reads; connections stand. Refused
/// writes tell, and all connections are made anew until they lead to the new primary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_became_a_replica_is_left() {
    let (old, new) = (Server::start(), Server::start());
    let proxy = Proxy::before(old.socket());
    let store = store(&RedisOptions::new(&proxy.url(0))).await;
    publish(&store, 3).await;
    store.config.head_if_writable().await.expect("it takes writes");

    let (old_port, new_port) = (old.listen().to_string(), new.listen().to_string());
    new.run(&["REPLICAOF", "127.0.0.1", &old_port]);
    until("the replica has all", async || match new.info("replication") {
        info if info.contains("master_link_status:up") => Ok(()),
        info => Err(info),
    })
    .await;
    new.run(&["REPLICAOF", "NO", "ONE"]);
    old.run(&["REPLICAOF", "127.0.0.1", &new_port]);
    store.config.head().await.expect("it answers whoever reads");
    let refused = store.config.head_if_writable().await.expect_err("it takes no writes");
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused}");
    assert!(refused.to_string().to_lowercase().contains("read only"), "{refused}");
    let refused = store.intake.publish(events(1)).await.expect_err("it takes no writes");
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused}");

    proxy.lead_to(new.socket());
    let promoted = Instant::now();
    until("it takes writes again", async || store.config.head_if_writable().await).await;
    publish(&store, 1).await;
    println!("published {:?} after the name led to the new primary", promoted.elapsed());
    let batch = take(&store).await;
    assert_eq!(batch.events.len(), 4);
    settle(&store, &batch, &[(1, Transition::Succeeded)]).await;
    in_order(&store).await;
    drop(old);
}

/// A disk that takes nothing refuses writes, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_refuses_writes_is_not_ready() {
    let server = Server::start();
    let store = store(&RedisOptions::new(&server.url(0))).await;
    server.run(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    store.config.head().await.expect("it answers whoever reads");
    let refused = store.config.head_if_writable().await.expect_err("it takes no writes");
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused}");
    server.run(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    server.run(&["CONFIG", "SET", "maxmemory", "1mb"]);
    store.config.head_if_writable().await.expect("what is short is memory");
}

async fn refused(url: &str) -> String {
    engine::open(RedisOptions::new(url)).await.map(|_| ()).expect_err("no store").to_string()
}

/// Nobody there, TLS on one side only, and a server that hangs are told apart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_a_server_is_away_is_told() {
    let server = Server::start();
    let port = server.listen();
    let said = refused(&format!("rediss://127.0.0.1:{port}/0")).await;
    assert!(said.contains("speaks no TLS"), "{said}");

    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let tls = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let _ = stream.read(&mut [0; 64]);
            // What OpenSSL answers to who does not begin with a hello: a fatal alert.
            let _ = stream.write_all(&[0x15, 3, 3, 0, 2, 2, 70]);
        }
    });
    let said = refused(&format!("redis://127.0.0.1:{tls}/0")).await;
    assert!(said.contains("speaks TLS"), "{said}");

    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let nobody = free.local_addr().expect("its address").port();
    drop(free);
    let said = refused(&format!("redis://127.0.0.1:{nobody}/0")).await;
    assert!(said.contains("nobody listens"), "{said}");
    let said = refused("redis+unix:///nowhere/socket?db=0").await;
    assert!(said.contains("no socket"), "{said}");

    let stopped = server.stop();
    let said = refused(&server.url(0)).await;
    assert!(said.contains("did not answer within 2 s"), "{said}");
    drop(stopped);
}

/// One that is away while a process runs is named as such in what its calls fail with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_went_away_is_told_from_one_that_hangs() {
    let server = Server::start();
    let store = store(&RedisOptions::new(&server.url(0))).await;
    let stopped = server.stop();
    let said = store.config.head().await.expect_err("it hangs").to_string();
    assert!(said.contains("did not answer"), "{said}");
    drop(stopped);
    server.kill();
    let said = until("it is noticed", async || {
        let said = store.config.head().await.expect_err("it is away").to_string();
        if said.contains("did not answer within 2 s") { Err(said) } else { Ok(said) }
    })
    .await;
    println!("{said}");
}
