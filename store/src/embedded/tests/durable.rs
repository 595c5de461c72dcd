//! The directory: locks, modes, reopening, another boot.

use pregon_core::outcome::PendingReason;

use super::*;
use crate::config::{Commit, Committed, Head};
use crate::settlement::FilterError;

fn directory(dir: &tempfile::TempDir) -> Location {
    Location::Directory(dir.path().join("store"))
}

#[tokio::test]
async fn a_store_dropped_and_opened_again_has_everything() {
    let dir = tempfile::tempdir().unwrap();
    let (epoch, positions) = {
        let bench = Bench::with(directory(&dir), |_| {});
        let positions = bench.publish(10).await;
        let batch = bench.take(4).await.unwrap();
        bench.match_all(&batch, Transition::Succeeded).await;
        let write = vec![("tenants/acme".to_owned(), Some(Bytes::from_static(b"{}")))];
        let commit = Commit { write, ..Commit::default() };
        let done = bench.store.config.commit(commit).await.unwrap();
        assert_eq!(done, Committed::Done { revision: 1 });
        (bench.store.config.head().await.unwrap(), positions)
    };
    let bench = Bench::with(directory(&dir), |_| {});
    assert_eq!(bench.store.config.head().await.unwrap(), Head { ..epoch });
    let books = bench.store.log.books(None).await.unwrap();
    assert_eq!((books.accepted, books.matched, books.waiting), (10, 4, 6));
    let record = bench.store.log.delivery(key(positions[0], 1)).await.unwrap().unwrap();
    assert_eq!(record.state, DeliveryState::Succeeded);
    let batch = bench.take(100).await.unwrap();
    assert_eq!(batch.events[0].event.position, positions[4]);
    assert_eq!(bench.publish(1).await[0].n, 11);
    bench.check().await;
}

#[tokio::test]
async fn a_second_opening_is_refused_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::with(directory(&dir), |_| {});
    let refused = Bench::at(directory(&dir), bench.clock.clone(), |_| {}).err().unwrap();
    assert!(matches!(refused, OpenError::InUse(_)), "{refused}");
    assert!(refused.to_string().contains("in use by another process"), "{refused}");
    bench.embedded.close();
    assert_eq!(bench.store.config.head().await, Err(StoreError::Closed));
    Bench::at(directory(&dir), bench.clock.clone(), |_| {}).unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn only_its_owner_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::with(directory(&dir), |_| {});
    bench.publish(1).await;
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let store = dir.path().join("store");
    assert_eq!(mode(&store), 0o700);
    for file in std::fs::read_dir(&store).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{path:?}");
    }
}

#[tokio::test]
async fn a_later_schema_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    Bench::with(directory(&dir), |_| {}).embedded.close();
    let file = dir.path().join("store/pregon.db");
    rusqlite::Connection::open(file).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let refused = Bench::at(directory(&dir), ManualClock::at(START), |_| {}).err().unwrap();
    assert!(matches!(refused, OpenError::Newer { found: 99, known: 3 }), "{refused}");
}

/// Stores of earlier releases: before pending deliveries were counted by age, and before what waits
/// unattempted was kept in runs. What waits in rows of its own goes on waiting.
#[tokio::test]
async fn an_earlier_schema_is_brought_up_to_date() {
    let of_schema = [
        (
            1,
            "DROP TABLE backlog; DROP TABLE filter_error; DROP TABLE run; DROP TABLE lease; PRAGMA user_version = 1",
        ),
        (2, "DROP TABLE run; DROP TABLE lease; PRAGMA user_version = 2"),
    ];
    for (version, undo) in of_schema {
        let dir = tempfile::tempdir().unwrap();
        let before = {
            let bench = Bench::with(directory(&dir), |_| {});
            bench.publish(300).await;
            while let Some(batch) = bench.take(200).await {
                bench.match_all(&batch, Transition::Waiting(PendingReason::Queued)).await;
            }
            let before = bench.store.backlog.backlog().await.unwrap();
            bench.embedded.close();
            before
        };
        assert_eq!(before.pending(), 300);
        let db = rusqlite::Connection::open(dir.path().join("store/pregon.db")).unwrap();
        // Schemas 1 and 2 know rows alone.
        let rows = db
            .execute(
                "INSERT INTO delivery(n, lane, replay, tenant, state, attempts, due, create_ms,
                   pending)
                 SELECT event.n, run.lane, '', run.tenant, 0, 0, run.began, run.began, run.pending
                 FROM event JOIN run ON run.base = event.n / 256 * 256",
                [],
            )
            .unwrap();
        assert_eq!(rows, 300);
        db.execute_batch(undo).unwrap();
        drop(db);
        let bench = Bench::with(directory(&dir), |_| {});
        let after = bench.store.backlog.backlog().await.unwrap();
        assert_eq!(
            (after.deliveries, after.oldest),
            (before.deliveries, before.oldest),
            "{version}"
        );
        bench.check().await;
    }
}

/// A store of the release before filters without an answer were counted: the schema is the same.
#[tokio::test]
async fn a_store_that_counted_no_filter_errors_does_so_from_now_on() {
    let dir = tempfile::tempdir().unwrap();
    Bench::with(directory(&dir), |_| {}).embedded.close();
    let db = rusqlite::Connection::open(dir.path().join("store/pregon.db")).unwrap();
    db.execute_batch("DROP TABLE filter_error").unwrap();
    drop(db);
    let bench = Bench::with(directory(&dir), |_| {});
    bench.publish(1).await;
    let batch = bench.take(1).await.unwrap();
    let mut event = event_settle(batch.events[0].event.position, EventOutcome::Unmatched);
    let error = FilterError { reason: "a is absent".into(), lanes: vec![LaneNo(1)] };
    event.filter_errors.push(error);
    bench.settle(settlement(batch.token, vec![event], Vec::new())).await;
    assert_eq!(bench.store.lanes.lane(LaneNo(1)).await.unwrap().unanswered.count, 1);
}

#[tokio::test]
async fn batches_of_another_boot_are_taken_over_without_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let old = {
        let bench = Bench::with(directory(&dir), |_| {});
        bench.publish(3).await;
        bench.take(3).await.unwrap()
    };
    let bench = Bench::with(directory(&dir), |_| {});
    let lost = bench.match_all(&old, Transition::Succeeded).await;
    assert_eq!(lost.lost, [old.token]);
    let batches = bench.take_over().await;
    // A process died over it once: still one batch of three, now in its second take.
    assert_eq!(batches.iter().map(Batch::len).sum::<usize>(), 3);
    assert!(batches.iter().all(|batch| batch.takes == 2));
    assert_eq!(batches[0].previous.as_ref().unwrap().as_str(), "n1");
    for batch in &batches {
        assert_eq!(bench.match_all(batch, Transition::Succeeded).await.lost, []);
    }
    bench.check().await;
    let attempts = bench.store.log.attempts(key(old.events[0].event.position, 1)).await.unwrap();
    assert_eq!(attempts.len(), 1, "the zombie's record and the new owner's are of one attempt");
}

#[tokio::test]
async fn calls_at_once_share_commits_and_each_gets_its_own_answer() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::with(directory(&dir), |_| {});
    let calls = (0..50).map(|i| {
        let intake = bench.store.intake.clone();
        tokio::spawn(async move {
            let id = format!("id-{}", i % 25);
            intake.publish(vec![event("acme", Some(&id), &format!("{}", i % 50))]).await.unwrap()
        })
    });
    let mut reused = 0;
    for call in calls.collect::<Vec<_>>() {
        if call.await.unwrap() == [Published::IdReused] {
            reused += 1;
        }
    }
    assert_eq!(reused, 25);
    assert_eq!(bench.store.log.books(None).await.unwrap().accepted, 25);
}
