//! The conformance suite on a real Redis, and what only a network and a server of its own can do
//! to an engine.
//!
//! One `redis-server` serves all cases, each in a database of its own. Where it syncs its file before
//! each answer, what the suite's cases are acknowledged is on disk.

#![allow(clippy::wildcard_enum_match_arm, reason = "what is not expected fails the test")]

mod configuration;
mod durability;
mod failover;
mod hang;
mod history;
mod proxy;
mod queue;
mod server;
mod test_requests;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pregon_store::Store;
use pregon_store::conformance::{Engine, Rig};
use pregon_store::queue::Durability;
use pregon_store::redis::{self as engine, Ahead, Redis, RedisOptions};

use server::{DATABASES, Server};

/// A store of Redis whose time the suite moves.
struct Tested {
    options: RedisOptions,
    open: Redis,
}

/// The URL of a database that nobody used yet.
fn fresh() -> String {
    static SERVER: OnceLock<Server> = OnceLock::new();
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let database = NEXT.fetch_add(1, Ordering::SeqCst);
    assert!(database < DATABASES, "a server has {DATABASES} databases");
    SERVER.get_or_init(Server::shared).url(database)
}

async fn open(options: &RedisOptions) -> Redis {
    engine::open(options.clone()).await.expect("to open")
}

/// Ends the process, as it were, and starts another on the same data.
#[async_trait]
impl Engine for Tested {
    fn store(&self) -> Store {
        self.open.store()
    }

    async fn advance(&self, by: Duration) {
        self.options.ahead.advance(by);
    }

    async fn reopen(&mut self) -> bool {
        self.open = open(&self.options).await;
        true
    }

    async fn second(&self) -> Option<Store> {
        Some(open(&self.options).await.store())
    }
}

async fn on_redis() -> Rig {
    let durability = match std::env::var("PREGON_TEST_APPENDFSYNC").as_deref() {
        Ok("always") => Durability::Fsync,
        _ => Durability::Memory,
    };
    let ahead = Ahead::default();
    let options = RedisOptions { ahead, durability, ..RedisOptions::new(&fresh()) };
    engine::setup(&options, engine::PARTITIONS).await.expect("to set up");
    let open = open(&options).await;
    Rig::new(Tested { options, open })
}

pregon_store::conformance_suite!(on_redis);
