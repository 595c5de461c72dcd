//! No room: new work is refused, what was accepted is finished.

use super::*;
use pregon_core::clock::Clock as _;

use crate::audit::{AuditClass, AuditId, NewAudit, WhenFull};

/// A database that may have a megabyte and a half.
fn small(options: &mut EmbeddedOptions) {
    options.max_size = 3 * 512 * 1024;
}

async fn fill(bench: &Bench) -> StoreError {
    let data = "x".repeat(10_000);
    for _ in 0..1000 {
        let events = vec![event("acme", None, &data)];
        if let Err(error) = bench.store.intake.publish(events).await {
            return error;
        }
    }
    panic!("it never got full");
}

#[tokio::test]
async fn publishes_are_refused_and_settles_go_on() {
    for directory in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let location = match directory {
            true => Location::Directory(dir.path().to_owned()),
            false => Location::Memory,
        };
        let bench = Bench::with(location, small);
        let refused = fill(&bench).await;
        assert!(matches!(refused, StoreError::Full(_)), "{refused}");
        assert!(!dir.path().join("reserve").exists());
        let books = bench.store.log.books(None).await.unwrap();
        assert!(books.accepted > 50, "{books:?}");
        bench.check().await;

        let more = vec![event("acme", None, "1")];
        let refused = bench.store.intake.publish(more.clone()).await;
        assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
        // A step that makes room is written down, and no other is.
        let entry = [NewAudit {
            id: AuditId::new(bench.clock.now(), 0, [0; 6]),
            class: AuditClass::Call,
            bytes: "{}".into(),
        }];
        let refused = bench.store.audit.record(&entry, WhenFull::Refused).await;
        assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
        bench.store.audit.record(&entry, WhenFull::Written).await.unwrap();
        while let Some(batch) = bench.take(256).await {
            let settled = bench.match_all(&batch, Transition::Retry(DAY)).await;
            assert_eq!(settled.lost, []);
        }
        bench.check().await;
        let after = bench.store.log.books(None).await.unwrap();
        assert_eq!(after.pending, books.accepted);
    }
}

#[tokio::test]
async fn room_comes_back_with_trimming() {
    let bench = Bench::with(Location::Memory, small);
    fill(&bench).await;
    while let Some(batch) = bench.take(256).await {
        bench.match_all(&batch, Transition::Succeeded).await;
    }
    bench.clock.advance(8 * DAY);
    for _ in 0..5 {
        bench.clock.advance(Duration::from_secs(1));
        bench.take_over().await; // any call gives the engine its turn
    }
    bench.publish(1).await;
    bench.check().await;
}

#[tokio::test]
async fn a_group_that_fails_spoils_only_what_fails_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::with(Location::Directory(dir.path().to_owned()), small);
    let data = "x".repeat(900_000);
    bench.publish(10).await;
    let calls: Vec<_> = (0..20)
        .map(|i| {
            let intake = bench.store.intake.clone();
            // Two that fit at first, one that never does.
            let data = if i % 5 == 4 { data.repeat(2) } else { "1".to_owned() };
            tokio::spawn(async move { intake.publish(vec![event("acme", None, &data)]).await })
        })
        .collect();
    let mut accepted = 10;
    for call in calls {
        match call.await.unwrap() {
            Ok(_) => accepted += 1,
            Err(error) => assert!(matches!(error, StoreError::Full(_)), "{error}"),
        }
    }
    assert!(accepted < 30);
    assert_eq!(bench.store.log.books(None).await.unwrap().accepted, accepted);
    bench.check().await;
}
