//! Configuration: commits, preconditions, lists, requests that are repeated.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use pregon_core::id::LaneNo;
use pregon_core::limits::REQUEST_ID_KEPT;

use super::Rig;
use super::kit::{HOUR, PAST_MEMORY};
use crate::config::{Changes, Commit, Committed, Document, Expect, ListRange, RequestKey};

/// Writes one document, whatever is there.
pub(super) fn write(name: &str, text: &str) -> Commit {
    let bytes = Some(Bytes::copy_from_slice(text.as_bytes()));
    Commit { write: vec![(name.to_owned(), bytes)], ..Commit::default() }
}

/// Deletes one document.
pub(super) fn delete(name: &str) -> Commit {
    Commit { write: vec![(name.to_owned(), None)], ..Commit::default() }
}

fn expecting(name: &str, expect: Expect, commit: Commit) -> Commit {
    Commit { expect: vec![(name.to_owned(), expect)], ..commit }
}

fn requested(id: u8, digest: u8, commit: Commit) -> Commit {
    let reply = Bytes::from(vec![digest; 3]);
    let request = Some(RequestKey { id: [id; 16], digest: [digest; 16], reply });
    Commit { request, ..commit }
}

pub(super) async fn commit(rig: &Rig, commit: Commit) -> Committed {
    rig.store.config.commit(commit).await.expect("a commit")
}

/// The revision of a commit that must happen.
pub(super) async fn done(rig: &Rig, what: Commit) -> i64 {
    match commit(rig, what).await {
        Committed::Done { revision } => revision,
        other @ (Committed::Conflict { .. }
        | Committed::Repeated { .. }
        | Committed::RequestReused) => panic!("a commit was {other:?}"),
    }
}

async fn get(rig: &Rig, name: &str) -> Option<Document> {
    let found = rig.store.config.get(&[name.to_owned()]).await.expect("a document");
    assert_eq!(found.len(), 1, "one answer to one name");
    found.into_iter().next().flatten()
}

async fn names(rig: &Rig, collections: &'static str, prefix: &str) -> Vec<String> {
    let range =
        ListRange { collections, prefix: prefix.to_owned(), after: String::new(), limit: 100 };
    let found = rig.store.config.list(range).await.expect("a list");
    found.into_iter().map(|document| document.name).collect()
}

/// Each commit is the next revision; one that is refused uses none up.
pub async fn commits_get_dense_revisions(rig: &mut Rig) {
    let before = rig.store.config.head().await.expect("the head");
    assert_eq!(before.revision, 0, "nothing was committed yet");
    let first = done(rig, write("tenants/a", "1")).await;
    assert!(first > 0, "0 means before the first commit");
    for next in first + 1..first + 20 {
        commit(rig, expecting("tenants/a", Expect::Absent, write("tenants/a", "x"))).await;
        assert_eq!(done(rig, write("tenants/a", "2")).await, next);
    }
    let after = rig.store.config.head().await.expect("the head");
    assert_eq!(after.revision, first + 19);
    assert_eq!(after.epoch, before.epoch, "it is the same life");
}

/// A commit of several documents whose precondition fails leaves none of them.
pub async fn a_commit_happens_whole_or_not_at_all(rig: &mut Rig) {
    let both = |text: &str| Commit {
        write: [write("tenants/a", text).write, write("tenants/b", text).write].concat(),
        ..Commit::default()
    };
    let revision = done(rig, both("1")).await;
    let head = rig.store.config.head().await.expect("the head");
    let refused = commit(rig, expecting("tenants/b", Expect::Absent, both("2"))).await;
    let conflict = Committed::Conflict { name: "tenants/b".into(), found: Some(revision) };
    assert_eq!(refused, conflict);
    for name in ["tenants/a", "tenants/b"] {
        let bytes = Bytes::from_static(b"1");
        let document = Document { name: name.into(), revision, bytes };
        assert_eq!(get(rig, name).await, Some(document));
    }
    assert_eq!(rig.store.config.head().await.expect("the head"), head);
}

/// Absent, present, and written by a certain revision.
pub async fn preconditions_are_held(rig: &mut Rig) {
    let name = "tenants/a";
    let conflict = |found| Committed::Conflict { name: name.into(), found };
    let attempt = |expect, text| expecting(name, expect, write(name, text));
    assert_eq!(commit(rig, attempt(Expect::Present, "0")).await, conflict(None));
    assert_eq!(commit(rig, attempt(Expect::Revision(1), "0")).await, conflict(None));
    let first = done(rig, attempt(Expect::Absent, "1")).await;
    assert_eq!(commit(rig, attempt(Expect::Absent, "0")).await, conflict(Some(first)));
    let second = done(rig, attempt(Expect::Revision(first), "2")).await;
    assert_eq!(
        commit(rig, attempt(Expect::Revision(first), "0")).await,
        conflict(Some(second)),
        "it moved on"
    );
    let third = done(rig, attempt(Expect::Present, "3")).await;
    assert_eq!(get(rig, name).await.map(|d| (d.revision, d.bytes)), Some((third, "3".into())));
}

/// Preconditions may name documents that are not written; the first that fails is told.
pub async fn a_conflict_names_the_first_document_that_differs(rig: &mut Rig) {
    let revision = done(rig, write("tenants/a", "1")).await;
    let expect = [
        ("tenants/a", Expect::Present),
        ("tenants/b", Expect::Present),
        ("tenants/a", Expect::Revision(revision - 1)),
    ];
    let expect = expect.map(|(name, expect)| (name.to_owned(), expect)).to_vec();
    let refused = commit(rig, Commit { expect, ..write("tenants/c", "1") }).await;
    assert_eq!(refused, Committed::Conflict { name: "tenants/b".into(), found: None });
    assert_eq!(get(rig, "tenants/c").await, None);
}

/// Of many writers that read the same revision, one writes.
pub async fn of_racing_commits_one_wins(rig: &mut Rig) {
    let name = "tenants/a";
    let first = done(rig, write(name, "0")).await;
    let mut writers = tokio::task::JoinSet::new();
    for i in 0..32 {
        let config = rig.store.config.clone();
        let what = expecting(name, Expect::Revision(first), write(name, &i.to_string()));
        writers.spawn(async move { config.commit(what).await.expect("a commit") });
    }
    let answers = writers.join_all().await;
    let won = Committed::Done { revision: first + 1 };
    let lost = Committed::Conflict { name: name.into(), found: Some(first + 1) };
    assert_eq!(answers.iter().filter(|answer| **answer == won).count(), 1);
    assert_eq!(answers.iter().filter(|answer| **answer == lost).count(), 31);
}

/// A deleted document is not read, listed or present, and may be made again.
pub async fn a_deleted_document_is_gone(rig: &mut Rig) {
    let name = "tenants/a";
    let first = done(rig, write(name, "1")).await;
    done(rig, delete(name)).await;
    assert_eq!(get(rig, name).await, None);
    assert!(names(rig, "tenants", "tenants/").await.is_empty());
    assert!(rig.store.config.documents("", 10).await.expect("documents").is_empty());
    let again = done(rig, expecting(name, Expect::Absent, write(name, "2"))).await;
    assert_eq!(again, first + 2);
    assert_eq!(get(rig, name).await.map(|document| document.revision), Some(again));
}

/// Answers come in the order of the names, with a hole for each that does not exist.
pub async fn documents_are_got_in_the_order_asked(rig: &mut Rig) {
    for name in ["tenants/a", "tenants/b"] {
        done(rig, write(name, name)).await;
    }
    let asked = ["tenants/b", "tenants/x", "tenants/a", "tenants/b"].map(str::to_owned);
    let found = rig.store.config.get(&asked).await.expect("documents");
    let found: Vec<_> = found.into_iter().map(|d| d.map(|d| d.name)).collect();
    let expected = [Some("tenants/b"), None, Some("tenants/a"), Some("tenants/b")];
    assert_eq!(found, expected.map(|name| name.map(str::to_owned)));
    assert!(rig.store.config.get(&[]).await.expect("no documents").is_empty());
}

/// Kinds that share a prefix are told apart; names come sorted, after a name, up to a limit.
pub async fn lists_are_of_one_kind_under_a_prefix(rig: &mut Rig) {
    for name in [
        "tenants/ab/subscriptions/s9",
        "tenants/a/subscriptions/s2/secrets/k1",
        "tenants/a",
        "eventTypes/order.captured",
        "tenants/a/subscriptions/s2",
        "tenants/ab",
        "tenants/a/subscriptions/s10",
        "tenants/a/subscriptions/s1",
    ] {
        done(rig, write(name, "{}")).await;
    }
    assert_eq!(names(rig, "tenants", "tenants/").await, ["tenants/a", "tenants/ab"]);
    let all = ["s1", "s10", "s2"].map(|id| format!("tenants/a/subscriptions/{id}"));
    assert_eq!(names(rig, "tenants/subscriptions", "tenants/a/subscriptions/").await, all);
    assert_eq!(names(rig, "tenants/subscriptions", "tenants/").await.len(), 4, "of all tenants");
    let secrets = names(rig, "tenants/subscriptions/secrets", "tenants/a/subscriptions/s2/").await;
    assert_eq!(secrets, ["tenants/a/subscriptions/s2/secrets/k1"]);
    let range = ListRange {
        collections: "tenants/subscriptions",
        prefix: "tenants/a/subscriptions/".into(),
        after: all[0].clone(),
        limit: 1,
    };
    let page = rig.store.config.list(range).await.expect("a list");
    assert_eq!(page.len(), 1);
    assert_eq!(page[0].name, all[1]);
}

/// All documents, of all kinds, each once.
pub async fn all_documents_are_paged_by_name(rig: &mut Rig) {
    let mut expected = BTreeSet::new();
    for i in 0..25 {
        let name = format!("tenants/a/subscriptions/s{i}");
        done(rig, write(&name, "{}")).await;
        expected.insert(name);
    }
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page = rig.store.config.documents(&after, 10).await.expect("documents");
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 10);
        after.clone_from(&last.name);
        found.extend(page.into_iter().map(|document| document.name));
    }
    assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
}

/// A repeat gets the first answer, though its precondition no longer holds, and changes nothing.
pub async fn a_repeated_request_is_answered_as_before(rig: &mut Rig) {
    let what = requested(1, 7, expecting("tenants/a", Expect::Absent, write("tenants/a", "1")));
    assert_eq!(rig.store.config.recall([1; 16], [7; 16]).await.expect("a recall"), None);
    let revision = done(rig, what.clone()).await;
    let repeated = Committed::Repeated { revision, reply: Bytes::from_static(&[7; 3]) };
    assert_eq!(commit(rig, what.clone()).await, repeated);
    done(rig, write("tenants/a", "2")).await;
    assert_eq!(commit(rig, what.clone()).await, repeated, "also when others wrote since");
    let recalled = rig.store.config.recall([1; 16], [7; 16]).await.expect("a recall");
    assert_eq!(recalled, Some(repeated.clone()));
    assert_eq!(get(rig, "tenants/a").await.map(|d| d.bytes), Some("2".into()));

    rig.advance(REQUEST_ID_KEPT - HOUR).await;
    assert_eq!(commit(rig, what).await, repeated, "all the day");
}

/// The same request id for something else is a mistake that changes nothing.
pub async fn a_request_id_belongs_to_one_request(rig: &mut Rig) {
    let revision = done(rig, requested(1, 7, write("tenants/a", "1"))).await;
    let other = requested(1, 8, write("tenants/a", "2"));
    assert_eq!(commit(rig, other).await, Committed::RequestReused);
    let recalled = rig.store.config.recall([1; 16], [8; 16]).await.expect("a recall");
    assert_eq!(recalled, Some(Committed::RequestReused));
    assert_eq!(get(rig, "tenants/a").await.map(|d| d.bytes), Some("1".into()));
    assert_eq!(done(rig, requested(2, 8, write("tenants/a", "2"))).await, revision + 1);
}

/// After its time a request id is free again.
pub async fn a_request_is_forgotten_after_the_day(rig: &mut Rig) {
    let first = done(rig, requested(1, 7, write("tenants/a", "1"))).await;
    rig.advance(PAST_MEMORY + Duration::from_secs(1)).await;
    assert_eq!(rig.store.config.recall([1; 16], [7; 16]).await.expect("a recall"), None);
    assert_eq!(done(rig, requested(1, 8, write("tenants/a", "2"))).await, first + 1);
}

/// A commit that did not happen may be repeated, and happens then.
pub async fn a_refused_request_is_not_remembered(rig: &mut Rig) {
    let what = requested(1, 7, expecting("tenants/a", Expect::Present, write("tenants/a", "2")));
    let conflict = Committed::Conflict { name: "tenants/a".into(), found: None };
    assert_eq!(commit(rig, what.clone()).await, conflict);
    assert_eq!(rig.store.config.recall([1; 16], [7; 16]).await.expect("a recall"), None);
    let first = done(rig, write("tenants/a", "1")).await;
    assert_eq!(done(rig, what).await, first + 1);
}

/// A commit may write nothing: its request is remembered, also across a restart, and whoever follows
/// sees a revision in which nothing changed.
pub async fn a_request_alone_is_remembered(rig: &mut Rig) {
    let first = done(rig, write("tenants/a", "1")).await;
    let known = rig.store.config.head().await.expect("the head");
    let what = requested(1, 7, Commit::default());
    assert_eq!(done(rig, what.clone()).await, first + 1);
    let reply = Bytes::from(vec![7; 3]);
    let repeated = Committed::Repeated { revision: first + 1, reply };
    assert_eq!(commit(rig, what.clone()).await, repeated);
    assert_eq!(commit(rig, requested(1, 8, Commit::default())).await, Committed::RequestReused);
    let changes = rig.store.config.changes(known, 10, Duration::ZERO).await.expect("changes");
    let Changes::Next(changes) = changes else { panic!("a gap") };
    let seen: Vec<_> = changes.iter().map(|it| (it.revision, it.documents.len())).collect();
    assert_eq!(seen, [(first + 1, 0)]);
    if rig.reopen().await {
        assert_eq!(commit(rig, what).await, repeated);
    }
}

/// Lane numbers are unique whoever asks, and none is the events' own.
pub async fn lane_numbers_are_never_given_twice(rig: &mut Rig) {
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let config = rig.store.config.clone();
        callers.spawn(async move { config.next_lane().await.expect("a lane number") });
    }
    let lanes: BTreeSet<LaneNo> = callers.join_all().await.into_iter().collect();
    assert_eq!(lanes.len(), 100);
    assert!(!lanes.contains(&LaneNo::EVENTS));
    if rig.reopen().await {
        let next = rig.store.config.next_lane().await.expect("a lane number");
        assert!(!lanes.contains(&next), "{next} was given in the earlier life");
    }
}
