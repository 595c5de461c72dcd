//! What an acknowledged publish survives, on servers that can say when their disk has it.

use std::time::{Duration, Instant};

use pregon_store::intake::Durability;
use pregon_store::redis::{self as engine, RedisOptions};

use crate::queue::{events, in_order, store};
use crate::server::{REDIS_8, Server, VALKEY_9, have};

/// Publishers at once, and for how long.
const CALLERS: usize = 20;
const LOAD: Duration = Duration::from_secs(6);

fn fsync(server: &Server) -> RedisOptions {
    RedisOptions { durability: Durability::Fsync, ..RedisOptions::new(&server.url(0)) }
}

async fn refused(server: &Server) -> String {
    engine::setup(&fsync(server), 1).await.expect_err("it is refused").to_string()
}

/// One sync a second confirms all publishes of that second, whoever makes them, and nobody is told
/// that the store does not answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_sync_confirms_all_publishes_of_a_second() {
    if !have(REDIS_8) {
        return;
    }
    let server = Server::synced(REDIS_8, "everysec");
    let store = store(&fsync(&server)).await;
    let within = store.intake.answers_within();
    let began = Instant::now();
    let callers = (0..CALLERS).map(|_| {
        let intake = store.intake.clone();
        tokio::spawn(async move {
            let mut took = Vec::new();
            while began.elapsed() < LOAD {
                let asked = Instant::now();
                intake.publish(events(1)).await.expect("a publish");
                took.push(asked.elapsed());
            }
            took
        })
    });
    let took = futures::future::join_all(callers.collect::<Vec<_>>()).await;
    let mut took: Vec<Duration> = took.into_iter().flat_map(|it| it.expect("a caller")).collect();
    took.sort_unstable();
    let worst = took[took.len() * 99 / 100];
    println!("{} publishes by {CALLERS} in {:?}; p99 {worst:?}", took.len(), began.elapsed());
    assert!(took.last().is_some_and(|most| *most < within), "{took:?}");
    // Twelve syncs would be one in half a second, and half of what each second allows is enough.
    let seconds = usize::try_from(LOAD.as_secs()).expect("few");
    assert!(took.len() >= CALLERS * seconds / 2, "{} publishes", took.len());
    assert_eq!(store.log.books(None).await.expect("the books").accepted, took.len() as u64);
    in_order(&store).await;
}

/// A disk that is synced before each answer needs no confirmation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_synced_at_once_confirms_at_once() {
    for program in [REDIS_8, VALKEY_9] {
        if !have(program) {
            continue;
        }
        let server = Server::synced(program, "always");
        let store = store(&fsync(&server)).await;
        assert_eq!(store.intake.durability(), Durability::Fsync);
        for _ in 0..10 {
            store.intake.publish(events(1)).await.expect("a publish");
        }
        in_order(&store).await;
    }
}

/// Where nobody can tell when a write is on disk, no publish is told that it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_nobody_syncs_is_refused() {
    for program in ["redis-server", REDIS_8, VALKEY_9] {
        if !have(program) {
            continue;
        }
        let refused = refused(&Server::synced(program, "no")).await;
        assert!(refused.contains("appendfsync always"), "{program}: {refused}");
    }
}

/// A server that confirms before its disk has it is found out, and refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_confirms_too_early_is_refused() {
    if !have(VALKEY_9) {
        return;
    }
    let server = Server::synced(VALKEY_9, "everysec");
    let said = refused(&server).await;
    assert!(said.contains("appendfsync always") && said.contains("Valkey 9"), "{said}");
    let memory = RedisOptions { durability: Durability::Memory, ..fsync(&server) };
    store(&memory).await.intake.publish(events(1)).await.expect("less is promised");
    // Where it does not tell, early may be either.
    server.run(&["ACL", "SETUSER", "default", "-config|get"]);
    let said = refused(&server).await;
    assert!(said.contains("does not tell"), "{said}");
}

/// A server that does not sync while it rewrites its file is refused, even with `always`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_not_synced_during_rewrites_is_refused() {
    let server = Server::synced("redis-server", "always");
    server.run(&["CONFIG", "SET", "no-appendfsync-on-rewrite", "yes"]);
    let said = refused(&server).await;
    assert!(said.contains("no-appendfsync-on-rewrite"), "{said}");
    server.run(&["CONFIG", "SET", "no-appendfsync-on-rewrite", "no"]);
    engine::setup(&fsync(&server), 1).await.expect("to set up");
}
