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
mod layout;
mod of_runs;
mod of_runs_model;
mod proxy;
mod queue;
mod run_bits;
mod run_costs;
mod server;
mod test_requests;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pregon_store::Store;
use pregon_store::conformance::{Engine, Rig};
use pregon_store::intake::Durability;
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

    async fn everything(&self) -> Vec<Vec<u8>> {
        let client = redis::Client::open(self.options.url.as_str()).expect("a URL");
        let mut connection = client.get_connection().expect("a connection");
        everything(&mut connection)
    }

    async fn second(&self) -> Option<Store> {
        Some(open(&self.options).await.store())
    }
}

/// Every value of every key, as its type is read.
fn everything(connection: &mut redis::Connection) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(connection).expect("keys");
    for key in keys {
        let kind: String = redis::cmd("TYPE").arg(&key).query(connection).expect("a type");
        let (command, rest): (_, &[&str]) = match kind.as_str() {
            "string" => ("GET", &[]),
            "hash" => ("HGETALL", &[]),
            "stream" => ("XRANGE", &["-", "+"]),
            "zset" => ("ZRANGE", &["0", "-1"]),
            "list" => ("LRANGE", &["0", "-1"]),
            other => panic!("a key of type {other}"),
        };
        let value = redis::cmd(command).arg(&key).arg(rest).query(connection).expect("a value");
        flatten(value, &mut all);
        all.push(key);
    }
    all
}

fn flatten(value: redis::Value, all: &mut Vec<Vec<u8>>) {
    match value {
        redis::Value::BulkString(bytes) => all.push(bytes),
        redis::Value::Array(values) => values.into_iter().for_each(|it| flatten(it, all)),
        redis::Value::Map(pairs) => pairs.into_iter().for_each(|(name, value)| {
            flatten(name, all);
            flatten(value, all);
        }),
        _ => {}
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
