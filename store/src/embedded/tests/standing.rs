//! What is said of a store that cannot write any more.

use std::time::Duration;

use super::*;
use crate::StoreError;
use crate::embedded::engine::Class;

#[tokio::test]
async fn a_store_that_cannot_take_events_says_so_until_it_can() {
    let bench = Bench::memory();
    bench.publish(1).await;
    assert_eq!(bench.embedded.fault(), None);
    let rename = |from: &str, to: &str| {
        let sql = format!("ALTER TABLE {from} RENAME TO {to}");
        bench.embedded.handle.with_engine(|engine| engine.db.execute_batch(&sql)).unwrap().unwrap();
    };
    rename("event", "lost");
    let refused = bench.store.intake.publish(vec![event("acme", None, "{}")]).await;
    assert!(refused.is_err(), "{refused:?}");
    assert!(bench.embedded.fault().is_some());
    rename("lost", "event");
    bench.publish(1).await;
    assert_eq!(bench.embedded.fault(), None);
}

#[tokio::test]
async fn a_writer_that_panics_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path()).unwrap();
    let handle = std::sync::Arc::clone(&bench.embedded.handle);
    let panics = |_: &mut crate::embedded::engine::state::Tx<'_>| -> crate::embedded::engine::fault::Result<()> {
        panic!("as a test wants it")
    };
    let answer = handle.write(Class::Finish, 1, panics).await;
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    tokio::time::timeout(Duration::from_secs(30), bench.embedded.broken()).await.unwrap();
}
