//! History goes, work stays.

use super::*;
use crate::audit::{AuditBound, AuditClass, AuditId, AuditKept, AuditRange, NewAudit, WhenFull};
use crate::log::{EventQuery, Most};
use crate::operate::{Filled, Missing};
use pregon_core::clock::Clock as _;
use pregon_core::outcome::EndReason;

const SECOND: Duration = Duration::from_secs(1);

impl Bench {
    /// Trims until nothing is left to trim.
    fn trim(&self) {
        while self.embedded.handle.with_engine(|engine| engine.trim()).unwrap() {}
    }
}

#[tokio::test]
async fn old_events_go_with_all_that_belongs_to_them() {
    let bench = Bench::memory();
    let given = vec![event("acme", Some("o-1"), "1")];
    let first = place(&bench.store.intake.publish(given).await.unwrap()[0]);
    let name = bench.store.log.event(first).await.unwrap().unwrap().0.name();
    let others = bench.publish(1200).await;
    while let Some(batch) = bench.take(256).await {
        bench.match_all(&batch, Transition::Succeeded).await;
    }
    bench.clock.advance(8 * DAY);
    bench.trim();
    bench.check().await;
    assert_eq!(bench.store.log.find(&name).await.unwrap(), None);
    assert_eq!(bench.store.log.event(others[1199]).await.unwrap(), None);
    let left = |table: &str| {
        let sql = format!("SELECT COUNT(*) FROM {table}");
        let count = |engine: &mut crate::embedded::engine::Engine| {
            engine.db.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap()
        };
        bench.embedded.handle.with_engine(count).unwrap()
    };
    for table in ["event", "dedupe", "chunk", "map", "trail", "delivery", "unmatched", "stale"] {
        assert_eq!(left(table), 0, "{table}");
    }
    assert_eq!(bench.publish(1).await[0].n, 1202);
    let books = bench.store.log.books(None).await.unwrap();
    assert_eq!(books.succeeded, 1201, "history past retention is counted");
}

#[tokio::test]
async fn work_is_spared_and_failures_are_kept_longer() {
    let bench = Bench::memory();
    let positions = bench.publish(4).await;
    let batch = bench.take(3).await.unwrap();
    let to = [
        Transition::Retry(60 * DAY),
        Transition::Failed(EndReason::Refused),
        Transition::Cancelled(EndReason::ByCaller),
    ];
    let events = positions.iter().zip(to).map(|(position, to)| {
        let to = move_to(*position, 1, 1, to);
        event_settle(*position, EventOutcome::Matched(vec![to]))
    });
    bench.settle(settlement(batch.token, events.collect(), Vec::new())).await;
    bench.clock.advance(8 * DAY);
    bench.trim();
    let kept = || async {
        let mut kept = Vec::new();
        for (i, position) in positions.iter().enumerate() {
            if bench.store.log.event(*position).await.unwrap().is_some() {
                kept.push(i);
            }
        }
        kept
    };
    assert_eq!(kept().await, [0, 1, 3]);
    // Of the deliveries of what is spared the log may be gone: none is taken for missing.
    let missing = [0, 1, 2, 3].map(|i: usize| Missing { position: positions[i], lane: LaneNo(2) });
    let filled = bench.store.operate.fill(&missing, true).await.unwrap();
    let gone = Filled::EventGone;
    assert_eq!(filled, [gone, gone, gone, Filled::NotMatched]);
    bench.clock.advance(30 * DAY);
    bench.trim();
    assert_eq!(kept().await, [0, 3]);
    bench.check().await;
}

#[tokio::test]
async fn too_many_events_are_trimmed_from_the_oldest() {
    let change = |options: &mut EmbeddedOptions| {
        options.history = History { max_events: 100, ..History::default() };
    };
    let bench = Bench::with(Location::Memory, change);
    let given = vec![event("acme", Some("o-1"), "1")];
    let first = place(&bench.store.intake.publish(given.clone()).await.unwrap()[0]);
    bench.publish(149).await;
    let batch = bench.take(256).await.unwrap();
    bench.match_all(&batch, Transition::Succeeded).await;
    bench.trim();
    assert_eq!(bench.store.log.event(first).await.unwrap(), None);
    let page =
        bench.store.log.events(&EventQuery::default(), None, Most::items(500)).await.unwrap();
    assert_eq!(page.items.len(), 100);
    // Its id is remembered for its day all the same.
    let again = bench.store.intake.publish(given.clone()).await.unwrap();
    assert_eq!(again, [Published::Accepted { position: first, duplicate: true }]);
    bench.clock.advance(DAY);
    bench.trim();
    assert_ne!(place(&bench.store.intake.publish(given).await.unwrap()[0]), first);
    bench.check().await;
}

/// Of each class of entries of the audit log as many are kept as may be, in number and in bytes.
#[tokio::test]
async fn the_audit_log_is_bounded_by_class() {
    let bound = AuditBound { entries: 20, bytes: 1 << 20 };
    let (calls, refusals) =
        (AuditBound { entries: 30, bytes: 1 << 20 }, AuditBound { entries: 1000, bytes: 5000 });
    let change = |options: &mut EmbeddedOptions| {
        let audit = AuditKept { calls, bound, refusals, ..AuditKept::default() };
        options.history = History { audit, ..History::default() };
    };
    let bench = Bench::with(Location::Memory, change);
    let now = bench.clock.now();
    let entry = |n: u32, class, len| NewAudit {
        id: AuditId::new(now, n, [0; 6]),
        class,
        bytes: vec![b'x'; len].into(),
    };
    for n in 0..400 {
        let call = entry(3 * n, AuditClass::Call, 10);
        let bound = entry(3 * n + 1, AuditClass::Bound, 11);
        let refusal = entry(3 * n + 2, AuditClass::Refusal, 100);
        bench.store.audit.record(&[call, bound, refusal], WhenFull::Refused).await.unwrap();
    }
    bench.trim();
    let range =
        AuditRange { since: Timestamp::MIN, until: Timestamp::MAX, before: None, limit: 1000 };
    let left = bench.store.audit.entries(range).await.unwrap();
    let of = |len| left.iter().filter(|it| it.bytes.len() == len).count();
    assert_eq!((of(10), of(11), of(100)), (30, 20, 50));
    assert_eq!(left[0].id, entry(1199, AuditClass::Refusal, 0).id);
    bench.check().await;
}

/// What was spared for a retry goes once that ends, as fast as everything else, and with it what was
/// logged of it, however young.
#[tokio::test]
async fn what_was_retried_goes_with_its_attempts_when_it_ends() {
    let change = |options: &mut EmbeddedOptions| {
        options.history = History { max_events: 100, ..History::default() };
    };
    let bench = Bench::with(Location::Memory, change);
    bench.publish(1500).await;
    let record = |position, number, outcome| AttemptRecord {
        number,
        outcome: Some(outcome),
        ..success(position, 1)
    };
    while let Some(batch) = bench.take(256).await {
        let positions: Vec<Position> =
            batch.events.iter().map(|open| open.event.position).collect();
        let events = positions.iter().map(|position| {
            let to = move_to(*position, 1, 1, Transition::Retry(SECOND));
            event_settle(*position, EventOutcome::Matched(vec![to]))
        });
        let mut retried = settlement(batch.token, events.collect(), Vec::new());
        let tried = positions.iter().map(|place| {
            let bad = AttemptRecord { end: None, ..record(*place, 1, AttemptOutcome::Retry) };
            (batch.token, bad.into())
        });
        retried.attempts = tried.collect();
        bench.settle(retried).await;
    }
    bench.trim();
    let left = |table: &str| {
        let sql = format!("SELECT COUNT(*) FROM {table}");
        let count = |engine: &mut crate::embedded::engine::Engine| {
            engine.db.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap()
        };
        bench.embedded.handle.with_engine(count).unwrap()
    };
    assert_eq!(left("event"), 1500, "work is spared");
    bench.clock.advance(2 * SECOND);
    // Few at a time, so that there are as many settlements as nodes that drain slowly make.
    while let Some(batch) = bench.due_of(16).await.batch {
        let keys: Vec<DeliveryKey> = batch.deliveries.iter().map(|held| held.key).collect();
        let moved = keys.iter().map(|at| move_to(at.position, 1, 2, Transition::Succeeded));
        let mut done = settlement(batch.token, Vec::new(), moved.collect());
        let ended = keys
            .iter()
            .map(|at| (batch.token, record(at.position, 2, AttemptOutcome::Succeeded).into()));
        done.attempts = ended.collect();
        bench.settle(done).await;
    }
    let steps = (1..20).find(|_| {
        bench.embedded.handle.with_engine(|engine| engine.trim());
        left("event") <= 100
    });
    assert!(steps.is_some_and(|steps| steps <= 6), "{steps:?}, {} left", left("event"));
    // Chunks are looked at in a round that may begin anywhere.
    (0..2).for_each(|_| bench.trim());
    let sparing = "chunk WHERE max_n < (SELECT COALESCE(MIN(n), max_n + 1) FROM event)";
    assert_eq!(left(sparing), 0, "{} chunks tell of nothing", left(sparing));
    bench.check().await;
}

/// A watcher whose place was trimmed away is told so, whichever kind of chunk went.
#[tokio::test]
async fn what_is_trimmed_is_a_gap_to_watchers() {
    use crate::operate::{Cancelled, Replay};
    use crate::watch::{ENDS_KEPT, Stretch, WatchQuery};
    use pregon_core::id::ReplayTag;
    use pregon_core::outcome::EndReason;

    let bench = Bench::with(Location::Memory, |options| {
        options.history = History { max_events: 10, ..History::default() };
    });
    let watch = &bench.store.watch;
    let read = async |from: &crate::watch::Place| {
        let tip = watch.tip().await.unwrap();
        watch.read_on(&WatchQuery::default(), from, &tip, 0).await.unwrap()
    };
    let begun = watch.tip().await.unwrap();
    bench.publish(20).await;
    let batch = bench.take(20).await.unwrap();
    bench.match_all(&batch, Transition::Succeeded).await;
    assert!(matches!(read(&begun).await, Stretch::Read { .. }));
    let position = bench.publish(20).await[0];
    let batch = bench.take(20).await.unwrap();
    bench.match_all(&batch, Transition::Succeeded).await;
    bench.trim();
    assert_eq!(read(&begun).await, Stretch::Gap, "the first chunk told of trimmed events");

    // Ends are kept by their number, whatever becomes of their events.
    let kept = bench.publish(1).await[0];
    let batch = bench.take(1).await.unwrap();
    bench.match_all(&batch, Transition::Succeeded).await;
    assert_ne!(position, kept);
    let before = watch.tip().await.unwrap();
    for number in 0..=ENDS_KEPT {
        let bits = u32::try_from(number).unwrap().to_be_bytes();
        let tag = ReplayTag::from_bits([0, bits[0], bits[1], bits[2], bits[3]]);
        let own = DeliveryKey { replay: Some(tag), ..key(kept, 1) };
        bench
            .store
            .operate
            .replay(&[Replay { key: key(kept, 1), tag, where_needed: false }])
            .await
            .unwrap();
        let cancelled = bench.store.operate.cancel(own, EndReason::ByCaller).await.unwrap();
        assert_eq!(cancelled, Cancelled::Done);
    }
    assert!(matches!(read(&before).await, Stretch::Read { .. }));
    bench.trim();
    assert_eq!(read(&before).await, Stretch::Gap, "one more than are kept");
}
