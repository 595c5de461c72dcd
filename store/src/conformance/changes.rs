//! The change log: what followers see, and when they are told to read all again.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::Rig;
use super::config::{delete, done, write};
use super::kit::MINUTE;
use super::rig::within;
use crate::config::{CHANGES_KEPT, Change, Changes, Commit, ConfigStore, Head};

const NO_WAIT: Duration = Duration::ZERO;

async fn head(rig: &Rig) -> Head {
    rig.store.config.head().await.expect("the head")
}

async fn changes(rig: &Rig, known: Head, limit: usize) -> Changes {
    rig.store.config.changes(known, limit, NO_WAIT).await.expect("the changes")
}

/// The changes after `known`; there must be no gap.
async fn next(rig: &Rig, known: Head, limit: usize) -> Vec<Change> {
    match changes(rig, known, limit).await {
        Changes::Next(changes) => changes,
        Changes::Gap => panic!("a gap after {known:?}"),
    }
}

/// Where a follower stands after a change.
fn after(known: Head, change: &Change) -> Head {
    Head { revision: change.revision, nonce: change.nonce, ..known }
}

/// Every commit is one change, in order, with the contents of what it wrote.
pub async fn changes_follow_commits_in_order(rig: &mut Rig) {
    let start = head(rig).await;
    assert_eq!(changes(rig, start, 10).await, Changes::Next(Vec::new()));
    let first = done(rig, write("tenants/a", "1")).await;
    let both = [write("tenants/a", "2").write, write("tenants/b", "2").write].concat();
    done(rig, Commit { write: both.clone(), ..Commit::default() }).await;
    done(rig, delete("tenants/b")).await;

    let mut seen = next(rig, start, 10).await;
    assert_eq!(seen.iter().map(|c| c.revision).collect::<Vec<_>>(), [first, first + 1, first + 2]);
    seen[1].documents.sort();
    let text = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    assert_eq!(seen[0].documents, [("tenants/a".to_owned(), text("1"))]);
    assert_eq!(seen[1].documents, both);
    assert_eq!(seen[2].documents, [("tenants/b".to_owned(), None)]);

    assert_eq!(next(rig, start, 2).await.len(), 2, "up to the limit");
    let known = after(start, &seen[1]);
    assert_eq!(next(rig, known, 10).await, seen[2..], "from the middle");
    assert_eq!(head(rig).await, after(start, &seen[2]), "the head is the last change");
    assert_eq!(next(rig, head(rig).await, 10).await, []);
}

/// A revision that is kept is enough to go on from; one that never was, or is trimmed, is not.
pub async fn a_follower_goes_on_after_any_revision(rig: &mut Rig) {
    let config = rig.store.config.clone();
    let head_at = async |revision| config.head_at(revision).await.expect("a head");
    assert_eq!(head_at(head(rig).await.revision + 1).await, None);
    let first = done(rig, write("tenants/a", "1")).await;
    let second = done(rig, write("tenants/a", "2")).await;
    let known = head_at(first).await.expect("it is kept");
    assert_eq!(known.revision, first);
    let after = next(rig, known, 10).await;
    assert_eq!(after.iter().map(|change| change.revision).collect::<Vec<_>>(), [second]);
    assert_eq!(head_at(second).await, Some(head(rig).await));
    assert_eq!(head_at(second + 1).await, None);
}

/// A follower that waits is answered by the commit, long before its time is up.
pub async fn a_follower_is_woken_by_a_commit(rig: &mut Rig) {
    let known = head(rig).await;
    let config = rig.store.config.clone();
    let follower = tokio::spawn(async move { config.changes(known, 10, 10 * MINUTE).await });
    tokio::task::yield_now().await;
    let revision = done(rig, write("tenants/a", "1")).await;
    let seen = within(follower).await.expect("the follower").expect("the changes");
    match seen {
        Changes::Next(changes) => assert_eq!(changes[0].revision, revision),
        Changes::Gap => panic!("a gap after {known:?}"),
    }
}

/// Nothing new: the answer is empty, and comes in time.
pub async fn a_follower_waits_no_longer_than_asked(rig: &mut Rig) {
    done(rig, write("tenants/a", "1")).await;
    let known = head(rig).await;
    let wait = Duration::from_millis(5);
    let seen = within(rig.store.config.changes(known, 10, wait)).await.expect("the changes");
    assert_eq!(seen, Changes::Next(Vec::new()));
}

/// Commits so many documents, in flights, so that group commits carry them.
async fn commit_many(config: &dyn ConfigStore, commits: usize) {
    const FLIGHT: usize = 200;
    for from in (0..commits).step_by(FLIGHT) {
        let flight = (from..commits.min(from + FLIGHT)).map(|i| {
            let commit = write(&format!("tenants/t{}", i % 50), &i.to_string());
            async move { config.commit(commit).await.expect("a commit") }
        });
        join_all(flight).await;
    }
}

/// Awaits all of them at once.
async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) {
    let mut open: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|context| {
        open.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if open.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

/// The log reaches back as far as it says; further back is a gap, never a silent one.
pub async fn a_follower_behind_the_log_meets_a_gap(rig: &mut Rig) {
    let start = head(rig).await;
    let first = done(rig, write("tenants/a", "1")).await;
    let early = head(rig).await;
    commit_many(&*rig.store.config, 10).await;
    let kept = head(rig).await;
    commit_many(&*rig.store.config, CHANGES_KEPT - 1).await;
    assert_eq!(changes(rig, start, 10).await, Changes::Gap, "from before the first");
    assert_eq!(changes(rig, early, 10).await, Changes::Gap, "from the first");

    let (mut known, mut followed) = (kept, 0);
    loop {
        let some = next(rig, known, 1_000).await;
        let Some(last) = some.last() else { break };
        for (i, change) in (1..).zip(&some) {
            assert_eq!(change.revision, known.revision + i, "revisions are dense");
        }
        known = after(known, last);
        followed += some.len();
    }
    assert_eq!(followed, CHANGES_KEPT - 1);
    assert_eq!(known, head(rig).await);
    let all = i64::try_from(CHANGES_KEPT + 9).expect("a small number");
    assert_eq!(known.revision, first + all);
}

/// Another nonce, another epoch, or a revision that is not there yet: the history is another.
pub async fn another_history_is_a_gap(rig: &mut Rig) {
    done(rig, write("tenants/a", "1")).await;
    let middle = head(rig).await;
    done(rig, write("tenants/a", "2")).await;
    let known = head(rig).await;
    for known in [middle, known] {
        let nonce = Head { nonce: known.nonce ^ 1, ..known };
        assert_eq!(changes(rig, nonce, 10).await, Changes::Gap, "another nonce");
        let epoch = Head { epoch: known.epoch ^ 1, ..known };
        assert_eq!(changes(rig, epoch, 10).await, Changes::Gap, "another epoch");
    }
    let ahead = Head { revision: known.revision + 1, ..known };
    assert_eq!(changes(rig, ahead, 10).await, Changes::Gap, "a revision that was lost");
    assert_eq!(next(rig, middle, 10).await.len(), 1, "and the right one goes on");
}

/// A change of documents too large for a log entry still carries their contents.
pub async fn large_documents_travel_whole(rig: &mut Rig) {
    let start = head(rig).await;
    let text = "x".repeat(200_000);
    let both = [write("tenants/a", &text).write, write("tenants/b", &text).write].concat();
    done(rig, Commit { write: both.clone(), ..Commit::default() }).await;
    let mut seen = next(rig, start, 10).await;
    seen[0].documents.sort();
    assert_eq!(seen[0].documents, both);
}

/// Reading all documents while others write, then the changes since, gives what is there.
pub async fn a_snapshot_and_the_changes_after_it_agree(rig: &mut Rig) {
    commit_many(&*rig.store.config, 100).await;
    let config = rig.store.config.clone();
    let writer = tokio::spawn(async move {
        commit_many(&*config, 300).await;
        for i in 0..25 {
            config.commit(delete(&format!("tenants/t{i}"))).await.expect("a commit");
        }
    });

    let mut known = head(rig).await;
    let mut copy = BTreeMap::new();
    let mut name = String::new();
    loop {
        let page = rig.store.config.documents(&name, 7).await.expect("documents");
        let Some(last) = page.last() else { break };
        name.clone_from(&last.name);
        copy.extend(page.into_iter().map(|d| (d.name, (d.revision, d.bytes))));
    }
    within(writer).await.expect("the writer");
    while known != head(rig).await {
        for change in next(rig, known, 50).await {
            known = after(known, &change);
            for (name, bytes) in change.documents {
                let newer = copy.get(&name).is_none_or(|(read, _)| *read <= change.revision);
                match bytes {
                    Some(bytes) if newer => drop(copy.insert(name, (change.revision, bytes))),
                    None if newer => drop(copy.remove(&name)),
                    Some(_) | None => {}
                }
            }
        }
    }
    let all = rig.store.config.documents("", 1_000).await.expect("documents");
    let all: BTreeMap<_, _> = all.into_iter().map(|d| (d.name, (d.revision, d.bytes))).collect();
    assert_eq!(copy, all);
    assert_eq!(all.len(), 25);
}
