//! Two processes on the same data, where an engine can have them.

use std::collections::BTreeSet;

use pregon_core::event::NewEvent;

use super::Rig;
use super::config::{done, write};
use super::kit::{MINUTE, Results, claim, event, events, everything, given, node};
use super::rig::{positions, within};
use crate::Store;
use crate::batch::Batch;
use crate::config::{Changes, Commit, Committed, Expect};
use crate::intake::Published;
use crate::settlement::Transition;

/// All new events, by a node of that process.
async fn take_all(store: &Store, by: &str) -> Vec<Batch> {
    let mut all = Vec::new();
    for partition in 0..store.work.partitions() {
        while let Some(batch) =
            store.work.take(partition, &claim(by), 3, usize::MAX).await.expect("a take")
        {
            all.push(batch);
        }
    }
    all
}

/// What one publishes the other may take and settle, and each thing is done once.
pub async fn two_processes_share_the_work(rig: &mut Rig) {
    let Some(other) = rig.second().await else { return };
    let published: BTreeSet<_> = rig.accept(events(60)).await.into_iter().collect();
    let (ours, theirs) = tokio::join!(take_all(&rig.store, "n1"), take_all(&other, "n2"));
    let tokens: BTreeSet<_> = ours.iter().chain(&theirs).map(|batch| batch.token).collect();
    assert_eq!(tokens.len(), ours.len() + theirs.len(), "tokens of two processes differ");
    assert_eq!(positions(&[ours.clone(), theirs.clone()].concat()), published);
    rig.settle_all("n1", &ours, &[(1, Transition::Succeeded)]).await;
    for batch in &theirs {
        let results = Results::all("n2", batch, &[(1, Transition::Succeeded)]).settlement();
        assert_eq!(other.work.settle(results).await.expect("a settle").lost, []);
    }
    assert_eq!(rig.books().await.succeeded, 60);
    assert_eq!(other.log.books(None).await.expect("the books"), rig.books().await);

    let position = rig.accept_one(given("a")).await;
    let again = other.intake.publish(vec![given("a")]).await.expect("a publish");
    assert_eq!(again, [Published::Accepted { position, duplicate: true }]);
    let new = NewEvent { version: 1, ..given("a") };
    other.intake.publish(vec![new]).await.expect("a publish");
    assert_eq!(positions(&rig.take_all("n1").await).len(), 2);
}

/// A node of one process takes over from a node of another; the zombie is fenced.
pub async fn a_dead_process_is_taken_over(rig: &mut Rig) {
    let Some(other) = rig.second().await else { return };
    rig.accept_one(event()).await;
    let zombie = take_all(&other, "n2").await.remove(0);
    assert!(rig.take_over("n1").await.is_empty());
    rig.lapse().await;
    let again = rig.take_over("n1").await;
    assert_eq!((again[0].takes, again[0].previous.clone()), (2, Some(node("n2"))));
    let late = Results::all("n2", &zombie, &[(1, Transition::Succeeded)]).settlement();
    assert_eq!(other.work.settle(late).await.expect("a settle").lost, [zombie.token]);
    rig.settle_all("n1", &again, &[(1, super::kit::WAITING)]).await;
    let mut due = Vec::new();
    for partition in rig.partitions() {
        let answer = other.work.due(partition, &claim("n2"), everything()).await.expect("due");
        due.extend(answer.batch);
    }
    assert_eq!(due.len(), 1, "its lane is everybody's");
}

/// Two control planes write safely, and each follows what the other wrote.
pub async fn two_control_planes_see_each_other(rig: &mut Rig) {
    let Some(other) = rig.second().await else { return };
    let known = rig.store.config.head().await.expect("the head");
    let config = rig.store.config.clone();
    let follower = tokio::spawn(async move { config.changes(known, 10, 10 * MINUTE).await });
    let name = "tenants/acme";
    let first = Commit { expect: vec![(name.into(), Expect::Absent)], ..write(name, "1") };
    let committed = other.config.commit(first.clone()).await.expect("a commit");
    let Committed::Done { revision } = committed else { panic!("{committed:?}") };
    let seen = within(follower).await.expect("the follower").expect("the changes");
    assert!(matches!(seen, Changes::Next(changes) if changes[0].revision == revision));
    let conflict = Committed::Conflict { name: name.into(), found: Some(revision) };
    assert_eq!(rig.store.config.commit(first).await.expect("a commit"), conflict);
    assert_eq!(done(rig, write(name, "2")).await, revision + 1);
    let ours = rig.store.config.next_lane().await.expect("a lane");
    assert_ne!(ours, other.config.next_lane().await.expect("a lane"));
}
