//! What a network, and whoever runs a Redis, can do to the configuration.

use std::time::Duration;

use bytes::Bytes;
use pregon_store::config::{Changes, Commit, Committed, Expect, Head};
use pregon_store::redis::{self as engine, OpenError, RedisOptions};
use pregon_store::{Store, StoreError};

use crate::proxy::Proxy;
use crate::server::Server;

fn write(name: &str, text: &str) -> Commit {
    let bytes = Some(Bytes::copy_from_slice(text.as_bytes()));
    Commit { write: vec![(name.to_owned(), bytes)], ..Commit::default() }
}

async fn store(url: &str) -> Store {
    let options = RedisOptions::new(url);
    engine::setup(&options, 4).await.expect("to set up");
    engine::open(options).await.expect("to open").store()
}

async fn head(store: &Store) -> Head {
    store.config.head().await.expect("the head")
}

async fn revision(store: &Store, commit: Commit) -> i64 {
    match store.config.commit(commit).await.expect("a commit") {
        Committed::Done { revision } => revision,
        other => panic!("a commit was {other:?}"),
    }
}

/// The connection breaks when the commit was carried out and its answer was on the way: the same
/// commit, sent again, is answered as it would have been, and did not happen twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_happens_once() {
    let url = crate::fresh();
    let (path, database) = url.trim_start_matches("redis+unix://").split_once("?db=").unwrap();
    let proxy = Proxy::before(path.into());
    let store = store(&proxy.url(database.parse().unwrap())).await;
    let first = revision(&store, write("tenants/a", "1")).await;
    for next in first + 1..first + 6 {
        proxy.lose_a_reply();
        let expect = vec![("tenants/a".to_owned(), Expect::Revision(next - 1))];
        assert_eq!(revision(&store, Commit { expect, ..write("tenants/a", "2") }).await, next);
        assert!(proxy.has_lost(), "a reply was lost");
    }
    assert_eq!(head(&store).await.revision, first + 5);
}

/// An emptied Redis is no store without configuration: no call takes it for one, and only setting
/// it up makes it another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_redis_is_not_an_empty_store() {
    let server = Server::start();
    let store = store(&server.url(0)).await;
    revision(&store, write("tenants/a", "1")).await;
    let known = head(&store).await;
    server.run(&["FLUSHALL"]);

    let emptied = |error: StoreError| assert!(matches!(error, StoreError::Emptied(_)), "{error}");
    let config = &store.config;
    emptied(config.head().await.unwrap_err());
    emptied(config.get(&["tenants/a".to_owned()]).await.unwrap_err());
    emptied(config.documents("", 10).await.unwrap_err());
    let range = pregon_store::config::ListRange {
        collections: "tenants",
        prefix: "tenants/".into(),
        after: String::new(),
        limit: 10,
    };
    emptied(config.list(range).await.unwrap_err());
    emptied(config.recall([0; 16], [0; 16]).await.unwrap_err());
    emptied(config.commit(write("tenants/b", "1")).await.unwrap_err());
    emptied(config.next_lane().await.unwrap_err());
    emptied(config.changes(known, 10, Duration::ZERO).await.unwrap_err());
    emptied(config.changes(known, 10, Duration::from_millis(50)).await.unwrap_err());
    let opened = engine::open(RedisOptions::new(&server.url(0))).await.map(|_| ()).unwrap_err();
    assert_eq!(opened, OpenError::NotSetUp);

    let options = RedisOptions::new(&server.url(0));
    assert!(engine::setup(&options, 4).await.unwrap().created);
    let changes = config.changes(known, 10, Duration::ZERO).await.unwrap();
    assert_eq!(changes, Changes::Gap, "it is another life");
    assert!(revision(&store, write("tenants/b", "1")).await > known.revision, "and goes on above");
}

/// Setting up twice changes nothing, and tells what is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_set_up_once() {
    let options = RedisOptions::new(&crate::fresh());
    let opened = engine::open(options.clone()).await.map(|_| ()).unwrap_err();
    assert_eq!(opened, OpenError::NotSetUp, "no process sets up by itself");
    let first = engine::setup(&options, 3).await.unwrap();
    assert!(first.created && first.partitions == 3);
    let again = engine::setup(&options, 8).await.unwrap();
    assert_eq!(again, engine::Setup { created: false, ..first });
    for wrong in [0, 4097] {
        let refused = engine::setup(&options, wrong).await.unwrap_err();
        assert!(refused.to_string().contains("--partitions"), "{refused}");
    }
}

/// A Redis that comes back with an old snapshot goes on with revisions that were given before:
/// their nonces tell them apart, so a follower reads all again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_set_back_is_another_history() {
    let server = Server::start();
    let options = RedisOptions::new(&server.url(0));
    let store = store(&options.url).await;
    revision(&store, write("tenants/a", "1")).await;
    let early = head(&store).await;
    server.run(&["SAVE"]);
    revision(&store, write("tenants/a", "2")).await;
    let known = head(&store).await;
    let server = Server::start_in(server.kill());

    let changes = async |known| store.config.changes(known, 10, Duration::ZERO).await.unwrap();
    assert_eq!(changes(known).await, Changes::Gap, "a revision that was lost");
    assert_eq!(changes(early).await, Changes::Next(Vec::new()), "one that was not");
    assert_eq!(revision(&store, write("tenants/a", "3")).await, known.revision);
    assert_eq!(changes(known).await, Changes::Gap, "the same number, another change");
    assert!(matches!(changes(early).await, Changes::Next(changes) if changes.len() == 1));
    drop(server);
}

/// Redis goes away and comes back: calls fail within their time, then go on by themselves, and
/// whoever follows is woken again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_back_is_used_again() {
    let server = Server::start();
    let store = store(&server.url(0)).await;
    let first = revision(&store, write("tenants/a", "1")).await;
    let known = head(&store).await;
    server.run(&["SAVE"]);
    let config = store.config.clone();
    let follower = tokio::spawn(async move {
        loop {
            match config.changes(known, 10, Duration::from_secs(20)).await {
                Ok(Changes::Next(changes)) if !changes.is_empty() => return changes[0].revision,
                Ok(other) => panic!("{other:?}"),
                Err(StoreError::Unavailable(_)) => {} // it looked while Redis was away
                Err(other) => panic!("{other}"),
            }
        }
    });
    let directory = server.kill();

    let begin = std::time::Instant::now();
    let refused = store.config.commit(write("tenants/a", "2")).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused}");
    assert!(begin.elapsed() < Duration::from_millis(2_500), "{:?}", begin.elapsed());

    let _server = Server::start_in(directory);
    assert_eq!(revision(&store, write("tenants/a", "2")).await, first + 1);
    let seen = tokio::time::timeout(Duration::from_secs(10), follower).await.unwrap().unwrap();
    assert_eq!(seen, first + 1);
}

/// What a server may not do is said before anything is stored in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_keep_the_promise_is_refused() {
    use pregon_store::intake::Durability;
    let server = Server::start();
    let with = |durability| RedisOptions { durability, ..RedisOptions::new(&server.url(0)) };
    let refused =
        async |durability| engine::setup(&with(durability), 4).await.unwrap_err().to_string();
    assert!(refused(Durability::Fsync).await.contains("appendonly"));
    assert!(refused(Durability::Replicated).await.contains("replicas"));
    server.run(&["CONFIG", "SET", "appendonly", "yes"]);
    server.run(&["CONFIG", "SET", "appendfsync", "always"]);
    engine::setup(&with(Durability::Fsync), 4).await.expect("to promise fsync");
    server.run(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    assert!(refused(Durability::Memory).await.contains("noeviction"));
}

/// At `replicated`, a write that no replica has is there and not acknowledged; and a copy of it,
/// sent again over another connection, is not taken for confirmed because it wrote nothing there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_without_its_replica_is_not_acknowledged() {
    use pregon_store::intake::Durability;
    let (primary, replica) = (Server::start(), Server::start());
    let port = primary.listen();
    replica.run(&["REPLICAOF", "127.0.0.1", &port.to_string()]);
    let until = std::time::Instant::now() + Duration::from_secs(20);
    let proxy = Proxy::before(primary.socket());
    let durability = Durability::Replicated;
    let options = RedisOptions { durability, ..RedisOptions::new(&proxy.url(0)) };
    while engine::setup(&options, 4).await.is_err() {
        assert!(std::time::Instant::now() < until, "the replica did not connect");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let store = engine::open(options).await.expect("to open").store();
    let first = revision(&store, write("tenants/a", "1")).await;
    proxy.lose_a_reply();
    assert_eq!(revision(&store, write("tenants/a", "2")).await, first + 1);
    assert!(proxy.has_lost(), "a reply was lost");

    let stopped = replica.stop();
    proxy.lose_a_reply();
    let refused = store.config.commit(write("tenants/a", "3")).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused}");
    assert!(proxy.has_lost(), "a reply was lost");
    assert_eq!(head(&store).await.revision, first + 2, "it is there all the same");
    drop(stopped);
    assert_eq!(revision(&store, write("tenants/a", "4")).await, first + 3);
}

/// A password that is wrong, or a URL, is never repeated in what goes wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_are_not_repeated() {
    let server = Server::start();
    server.run(&["ACL", "SETUSER", "pregon", "on", ">right-secret", "~*", "+@all"]);
    server.run(&["CONFIG", "SET", "requirepass", "other-secret"]);
    let mut options = RedisOptions::new(&server.url(0));
    options.user = Some("pregon".into());
    for (password, works) in [("right-secret", true), ("wrong-secret", false)] {
        options.password = Some(password.to_owned().into());
        let said = match engine::setup(&options, 4).await {
            Ok(setup) => format!("{setup:?}"),
            Err(error) => format!("{error} {error:?}"),
        };
        assert_eq!(said.contains("created"), works, "{said}");
        assert!(!said.contains("secret") && !format!("{options:?}").contains("secret"), "{said}");
    }
    let bad = RedisOptions::new("redis://user:some-secret@host:no-port/x");
    let said = engine::setup(&bad, 4).await.unwrap_err().to_string();
    assert!(said.contains("--redis-url") && !said.contains("secret"), "{said}");
}
