//! The audit log: entries that come with commits, and others.

use std::time::Duration;

use bytes::Bytes;
use pregon_core::clock::Timestamp;

use super::Rig;
use super::config::{commit, done, write};
use crate::audit::{AuditClass, AuditId, AuditRange, AuditRecord, NewAudit, WhenFull};
use crate::config::{Commit, Committed, Expect, RequestKey};

/// An entry of this time, the `n`th.
fn entry(ms: i64, n: u8, class: AuditClass, text: &str) -> NewAudit {
    let id = AuditId::new(Timestamp::from_millis(ms), n.into(), [n; 6]);
    NewAudit { id, class, bytes: Bytes::copy_from_slice(text.as_bytes()) }
}

/// As it is read.
fn stored(entry: NewAudit, revision: i64) -> AuditRecord {
    AuditRecord { id: entry.id, revision, bytes: entry.bytes }
}

/// The present, by the store: what is much older goes by itself.
async fn now(rig: &Rig) -> i64 {
    rig.store.operate.now().await.expect("the time").millis()
}

fn everything() -> AuditRange {
    AuditRange { since: Timestamp::MIN, until: Timestamp::MAX, before: None, limit: 100 }
}

async fn entries(rig: &Rig, range: AuditRange) -> Vec<AuditRecord> {
    rig.store.audit.entries(range).await.expect("the audit log")
}

async fn record(rig: &Rig, entries: &[NewAudit]) {
    rig.store.audit.record(entries, WhenFull::Refused).await.expect("to be recorded");
}

/// The entry of a commit has its revision; what is refused or was done before leaves none.
pub async fn an_entry_is_there_if_its_commit_is(rig: &mut Rig) {
    assert_eq!(entries(rig, everything()).await, []);
    let now = now(rig).await;
    let told = |n| entry(now, n, AuditClass::Call, "made");
    let request =
        Some(RequestKey { id: [7; 16], digest: [1; 16], reply: Bytes::from_static(b"r") });
    let first = Commit { request, audit: Some(told(1)), ..write("tenants/a", "1") };
    let revision = done(rig, first.clone()).await;
    let only = [stored(told(1), revision)];
    assert_eq!(entries(rig, everything()).await, only);

    let expect = vec![("tenants/a".to_owned(), Expect::Absent)];
    let refused = Commit { expect, audit: Some(told(2)), ..write("tenants/a", "2") };
    assert!(matches!(commit(rig, refused).await, Committed::Conflict { .. }));
    let repeated = Commit { audit: Some(told(3)), ..first.clone() };
    assert!(matches!(commit(rig, repeated).await, Committed::Repeated { .. }));
    let request = first.request.clone().map(|it| RequestKey { digest: [2; 16], ..it });
    let reused = Commit { request, audit: Some(told(4)), ..first };
    assert_eq!(commit(rig, reused).await, Committed::RequestReused);
    assert_eq!(entries(rig, everything()).await, only);
    // A commit without an entry leaves none either.
    done(rig, write("tenants/a", "3")).await;
    assert_eq!(entries(rig, everything()).await, only);
}

/// An entry by itself has no revision, and takes the place of what had its id.
pub async fn an_entry_takes_the_place_of_its_id(rig: &mut Rig) {
    let now = now(rig).await;
    let begun = entry(now, 1, AuditClass::Call, "begun");
    let other = entry(now, 2, AuditClass::Refusal, "refused");
    record(rig, &[begun.clone(), other.clone()]).await;
    let found = entries(rig, everything()).await;
    assert_eq!(found, [stored(other.clone(), 0), stored(begun, 0)]);
    let ended = entry(now, 1, AuditClass::Call, "ended, and more is said of it");
    record(rig, std::slice::from_ref(&ended)).await;
    record(rig, &[]).await;
    assert_eq!(entries(rig, everything()).await, [stored(other, 0), stored(ended, 0)]);
}

/// Entries are read from the latest on, whatever they were written by and in which order.
pub async fn entries_are_read_from_the_latest_on(rig: &mut Rig) {
    let classes = AuditClass::ALL;
    let now = now(rig).await;
    let all: Vec<NewAudit> = (0..40)
        .map(|n: u8| entry(now + i64::from(n), n, classes[usize::from(n % 3)], &n.to_string()))
        .collect();
    record(rig, &all[20..]).await;
    record(rig, &all[..20]).await;
    let read = async |range: AuditRange| -> Vec<i64> {
        let found = entries(rig, range).await;
        let number = |it: &AuditRecord| String::from_utf8_lossy(&it.bytes).parse().expect("one");
        found.iter().map(number).collect()
    };
    let down = |from: i64, to: i64| (to..=from).rev().collect::<Vec<i64>>();
    assert_eq!(read(everything()).await, down(39, 0));
    assert_eq!(read(AuditRange { limit: 7, ..everything() }).await, down(39, 33));
    let before = Some(all[33].id.clone());
    let next = AuditRange { before: before.clone(), limit: 7, ..everything() };
    assert_eq!(read(next).await, down(32, 26));
    let at = |n: i64| Timestamp::from_millis(now + n);
    let between = AuditRange { since: at(10), until: at(20), ..everything() };
    assert_eq!(read(between.clone()).await, down(19, 10));
    assert_eq!(read(AuditRange { before, ..between.clone() }).await, down(19, 10));
    let rest = AuditRange { before: Some(all[12].id.clone()), ..between };
    assert_eq!(read(rest).await, down(11, 10));
    assert_eq!(read(AuditRange { since: at(40), ..everything() }).await, [] as [i64; 0]);
}

/// What is older than a quarter of a year goes by itself, and what is younger stays.
pub async fn entries_go_when_they_are_old(rig: &mut Rig) {
    let begun = now(rig).await;
    let old = |n| entry(begun, n, AuditClass::ALL[usize::from(n % 3)], "old");
    record(rig, &(0..250).map(old).collect::<Vec<_>>()).await;
    rig.advance(crate::audit::KEPT - Duration::from_secs(3600)).await;
    let young = entry(now(rig).await, 1, AuditClass::Call, "young");
    record(rig, std::slice::from_ref(&young)).await;
    rig.advance(Duration::from_secs(7200)).await;
    let bound = std::time::Instant::now() + Duration::from_secs(30);
    let only = [stored(young, 0)];
    loop {
        let found = entries(rig, AuditRange { limit: 300, ..everything() }).await;
        if found == only {
            return;
        }
        assert!(found.contains(&only[0]), "the young one went");
        assert!(std::time::Instant::now() < bound, "{} are still there", found.len());
        // Trimming has its own pace; each write gives it its turn.
        done(rig, write("tenants/a", "1")).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
