//! Leases that ran out: what comes back, to whom, and what their old owners can still do.

use std::collections::BTreeSet;

use pregon_core::attempt::RecordKind;
use pregon_core::outcome::{DeliveryState, EndReason, PendingReason};

use super::Rig;
use super::kit::{MINUTE, RETRY, Results, WAITING, claim, events, key, node};
use super::rig::{eventually, keys, positions};
use crate::log::Books;
use crate::settlement::Transition;
use crate::work::{BATCH_MAX, HELD_BACK_AT, SUSPECT_AT, SUSPECT_WAIT};

const SUCCEEDED: &[(u64, Transition)] = &[(1, Transition::Succeeded)];

/// Another node gets the batch under a new name, and sees whose it was.
pub async fn a_lapsed_batch_is_taken_over(rig: &mut Rig) {
    let batch = rig.take_new("n1").await;
    rig.lapse().await;
    let again = rig.take_over("n2").await;
    assert_eq!(positions(&again), positions(std::slice::from_ref(&batch)));
    let again = &again[0];
    assert_eq!((again.takes, again.previous.clone()), (2, Some(node("n1"))));
    assert_eq!(again.partition, batch.partition);
    assert_ne!(again.token, batch.token);
    assert_eq!(again.events[0].event, batch.events[0].event);
    rig.settle(Results::all("n2", again, SUCCEEDED)).await;
    rig.lapse().await;
    assert!(rig.take_over("n1").await.is_empty(), "it is done");
}

/// Nobody gets what somebody holds.
pub async fn a_live_lease_is_not_taken_over(rig: &mut Rig) {
    let batch = rig.take_new("n1").await;
    assert!(rig.take_over("n2").await.is_empty());
    assert!(rig.take_over("n1").await.is_empty());
    rig.advance(super::kit::LEASE / 2).await;
    assert!(rig.take_over("n2").await.is_empty());
    rig.settle(Results::all("n1", &batch, SUCCEEDED)).await;
}

/// What was settled before the lease ran out does not come back.
pub async fn only_what_is_open_comes_back(rig: &mut Rig) {
    rig.accept(events(6)).await;
    let mut open = BTreeSet::new();
    for batch in rig.take_all("n1").await {
        let mut results = Results::of("n1", &batch);
        for (i, event) in batch.events.iter().enumerate() {
            results = match i % 3 {
                0 => results.matched(event, SUCCEEDED),
                1 => results.matched(event, &[(1, RETRY)]),
                _ => {
                    open.insert(event.event.position);
                    results
                }
            };
        }
        rig.settle(results).await;
    }
    rig.lapse().await;
    let again = rig.take_over("n2").await;
    assert_eq!(positions(&again), open);
    assert!(keys(&again).is_empty());
    rig.settle_all("n2", &again, SUCCEEDED).await;
}

/// Deliveries that were handed out as due come back as deliveries, at the same attempt.
pub async fn due_deliveries_come_back_with_their_attempts(rig: &mut Rig) {
    let position = rig.deliver(super::kit::event(), &[(1, RETRY), (2, RETRY)]).await;
    rig.advance(MINUTE).await;
    let expected = BTreeSet::from([key(position, 1), key(position, 2)]);
    assert_eq!(rig.due_keys("n1").await, expected);
    rig.lapse().await;
    assert!(rig.due("n2").await.is_empty(), "they are leased, not waiting");
    let again = rig.take_over("n2").await;
    assert_eq!(keys(&again), expected);
    for held in again.iter().flat_map(|batch| &batch.deliveries) {
        assert_eq!(held.attempts, 1, "one attempt was counted, and the lost one was not");
        assert_eq!(held.event.position, position);
    }
    eventually(Some(node("n2")), async || rig.delivery(key(position, 1)).await.node).await;
    rig.settle_all("n2", &again, SUCCEEDED).await;
    assert_eq!(rig.delivery(key(position, 1)).await.attempts, 2);
}

/// The attempt that was lost shows in the log, once; one that was given back was not made.
pub async fn a_lost_attempt_is_told(rig: &mut Rig) {
    let position = rig.deliver(super::kit::event(), &[(1, RETRY)]).await;
    rig.advance(MINUTE).await;
    let due = rig.due("n1").await;
    rig.store.work.release(&[due[0].token]).await.expect("a release");
    assert_eq!(keys(&rig.take_over("n2").await).len(), 1);
    rig.lapse().await;
    let again = rig.take_over("n3").await;
    rig.settle_all("n3", &again, SUCCEEDED).await;
    let attempts = rig.store.log.attempts(key(position, 1)).await.expect("the attempts");
    let mut shown: Vec<_> = attempts.iter().map(|a| (a.number, a.node.as_str(), a.kind)).collect();
    shown.sort_by_key(|(number, node, _)| (*number, *node));
    let (made, lost) = (RecordKind::Attempt, RecordKind::Lost);
    assert_eq!(shown, [(1, "n1", made), (2, "n2", lost), (2, "n3", made)]);
}

/// A delivery that is lost again and again, be it by one node, is told of each time.
pub async fn every_lost_attempt_is_told(rig: &mut Rig) {
    let position = rig.deliver(super::kit::event(), &[(1, RETRY)]).await;
    rig.advance(MINUTE).await;
    assert_eq!(rig.due("n1").await.len(), 1);
    let mut times = BTreeSet::new();
    for _ in 0..2 {
        rig.lapse().await;
        times.insert(rig.now().await);
        assert_eq!(rig.take_over("n1").await.len(), 1);
    }
    let attempts = rig.store.log.attempts(key(position, 1)).await.expect("the attempts");
    let lost: Vec<_> = attempts.iter().filter(|a| a.kind == RecordKind::Lost).collect();
    assert_eq!(lost.len(), 2, "{attempts:?}");
    let first = times.first().expect("a time");
    assert!(lost.iter().all(|lost| lost.start >= *first), "they were lost when it was found out");
}

/// A node that was away too long settles nothing; its attempt shows in the log as late.
pub async fn a_zombie_settles_nothing(rig: &mut Rig) {
    let batch = rig.take_new("n1").await;
    let position = batch.events[0].event.position;
    rig.lapse().await;
    let again = rig.take_over("n2").await;
    let before = rig.books().await;
    rig.settle_in_vain(Results::all("n1", &batch, SUCCEEDED)).await;
    assert_eq!(rig.books().await, before, "nothing moved");
    assert_eq!(rig.find_delivery(key(position, 1)).await, None);

    rig.settle_all("n2", &again, &[(1, Transition::Failed(EndReason::Refused))]).await;
    rig.settle_in_vain(Results::all("n1", &batch, SUCCEEDED)).await;
    let ended = (DeliveryState::Failed, Some(EndReason::Refused));
    assert_eq!(rig.state(key(position, 1)).await, ended, "the end stands");
    let attempts = rig.store.log.attempts(key(position, 1)).await.expect("the attempts");
    let shown: BTreeSet<_> =
        attempts.iter().map(|attempt| (attempt.node.as_str(), attempt.late)).collect();
    assert_eq!(shown, BTreeSet::from([("n1", true), ("n2", false)]));
}

/// A zombie learns of its loss at the next extension, also once the work is done.
pub async fn a_zombie_is_told_when_it_extends(rig: &mut Rig) {
    let batch = rig.take_new("n1").await;
    rig.lapse().await;
    let again = rig.take_over("n2").await;
    assert_eq!(rig.extend(&[batch.token, again[0].token]).await, [batch.token]);
    rig.settle_all("n2", &again, SUCCEEDED).await;
    assert_eq!(rig.extend(&[batch.token]).await, [batch.token]);
}

/// What a node gives back is there for others without a wait.
pub async fn released_batches_come_back_at_once(rig: &mut Rig) {
    let fresh = rig.take_new("n1").await;
    let kept = rig.take_new("n1").await;
    let (due, held) = rig.in_flight("n1", 1).await;
    rig.store.work.release(&[fresh.token, due.token]).await.expect("a release");
    let again = rig.take_over("n2").await;
    assert_eq!(positions(&again), positions(std::slice::from_ref(&fresh)));
    assert_eq!(keys(&again), BTreeSet::from([held.key]));
    rig.settle_in_vain(Results::all("n1", &fresh, SUCCEEDED)).await;
    rig.settle_in_vain(Results::of("n1", &due).delivery(&held, RETRY)).await;
    rig.settle_all("n2", &again, SUCCEEDED).await;
    rig.settle(Results::all("n1", &kept, SUCCEEDED)).await;
    assert_eq!(rig.books().await.succeeded, 3);
}

/// Giving back is no sign of poison, however often it happens.
pub async fn a_release_counts_no_take(rig: &mut Rig) {
    rig.accept(events(4)).await;
    let mut batches = rig.take_all("n1").await;
    let (whole, count) = (positions(&batches), batches.len());
    for _ in 0..2 * HELD_BACK_AT {
        let tokens: Vec<_> = batches.iter().map(|batch| batch.token).collect();
        rig.store.work.release(&tokens).await.expect("a release");
        batches = rig.take_over("n2").await;
        assert_eq!(positions(&batches), whole);
        assert_eq!(batches.len(), count, "nothing was halved");
        assert!(batches.iter().all(|batch| batch.takes == 1));
    }
    rig.settle_all("n2", &batches, SUCCEEDED).await;
}

/// A node takes over no more batches than it can use.
pub async fn a_take_over_is_bounded(rig: &mut Rig) {
    let mut expected = BTreeSet::new();
    for _ in 0..6 {
        expected.insert(rig.take_new("n1").await.events[0].event.position);
    }
    rig.lapse().await;
    let mut found = Vec::new();
    for partition in rig.partitions() {
        loop {
            let taken = rig.store.work.take_over(partition, &claim("n2"), 2, 2).await;
            let (batches, _) = taken.expect("a takeover");
            assert!(batches.len() <= 2);
            if batches.is_empty() {
                break;
            }
            found.extend(batches);
        }
    }
    assert_eq!(positions(&found), expected);
    rig.settle_all("n2", &found, SUCCEEDED).await;
}

/// Many nodes that look at once get each batch once.
pub async fn one_lapsed_batch_goes_to_one_node(rig: &mut Rig) {
    let mut expected = BTreeSet::new();
    for _ in 0..20 {
        expected.insert(rig.take_new("n1").await.events[0].event.position);
    }
    rig.lapse().await;
    let mut nodes = tokio::task::JoinSet::new();
    for i in 0..8 {
        let (work, partitions) = (rig.store.work.clone(), rig.partitions());
        nodes.spawn(async move {
            let (by, mut all) = (claim(&format!("m{i}")), Vec::new());
            for partition in partitions {
                loop {
                    let taken = work.take_over(partition, &by, 2, 2).await;
                    let (batches, _) = taken.expect("a takeover");
                    if batches.is_empty() {
                        break;
                    }
                    all.extend(batches);
                }
            }
            all
        });
    }
    let batches = nodes.join_all().await.concat();
    assert_eq!(positions(&batches), expected);
}

/// Lapses the batches and has another node take them over, until their takes are as many.
async fn lapse_until(rig: &Rig, takes: u32) -> Vec<crate::batch::Batch> {
    for _ in 0..HELD_BACK_AT {
        rig.lapse().await;
        let batches = rig.take_over("n2").await;
        if batches.iter().all(|batch| batch.takes == takes) {
            return batches;
        }
        assert!(batches.iter().all(|batch| batch.takes < takes), "takes grow one by one");
    }
    panic!("batches never came to {takes} takes")
}

/// The first lapse hands everything on as it was. From the second on a batch is halved each time,
/// until what kills nodes is by itself; nothing is lost and nothing doubled by the cuts.
pub async fn a_suspect_is_halved_until_it_is_one_item(rig: &mut Rig) {
    let deliveries = rig.backlog(&[1], 3).await;
    assert_eq!(rig.due_keys("n1").await, deliveries);
    let published: BTreeSet<_> = rig.accept(events(4)).await.into_iter().collect();
    let taken = rig.take_all("n1").await;
    let first = &taken[0].events[0];
    rig.settle(Results::of("n1", &taken[0]).matched(first, SUCCEEDED)).await;
    let open: BTreeSet<_> =
        published.into_iter().filter(|position| *position != first.event.position).collect();

    let whole = lapse_until(rig, SUSPECT_AT - 1).await;
    let most = whole.iter().map(|batch| batch.len()).max().expect("batches");
    assert!(most > 1, "the first lapse takes nothing apart");
    let (mut batches, mut most) = (whole, most);
    while most > 1 {
        let (takes, half) = (batches[0].takes, most.div_ceil(2));
        rig.lapse().await;
        batches = rig.take_over("n2").await;
        assert!(batches.iter().all(|batch| batch.takes == takes + 1), "a lapse is one take");
        most = batches.iter().map(|batch| batch.len()).max().expect("batches");
        assert_eq!(most, half);
        assert_eq!(positions(&batches), open);
        assert_eq!(keys(&batches), deliveries);
        let items: usize = batches.iter().map(|batch| batch.len()).sum();
        assert_eq!(items, open.len() + deliveries.len(), "each item once");
    }
    for batch in &batches {
        rig.settle(Results::all("n2", batch, &[(1, WAITING)])).await;
    }
    let due = rig.due("n1").await;
    assert_eq!(keys(&due).len(), 6);
    assert!(due.iter().all(|batch| batch.takes == 1), "what goes on begins anew");
    assert!(due.iter().any(|batch| batch.len() > 1 && batch.len() <= BATCH_MAX));
}

/// Of suspects a node gets as many as it asks for, and what is none is not kept waiting by them.
pub async fn suspects_are_leased_as_many_as_are_asked_for(rig: &mut Rig) {
    let suspects = [rig.take_new("n1").await, rig.take_new("n1").await];
    lapse_until(rig, SUSPECT_AT - 1).await;
    let fresh = rig.take_new("n1").await;
    rig.lapse().await;
    let none = take_over(rig, 0).await;
    assert_eq!(positions(&none), positions(std::slice::from_ref(&fresh)));
    let mut found = BTreeSet::new();
    for left in [1, 0] {
        rig.advance(SUSPECT_WAIT).await;
        let one = take_over(rig, 1).await;
        let open = left == 0 || one.len() == 1 || rig.partitions().count() > 1;
        assert!(open, "more than was asked for: {one:?}");
        assert!(one.iter().all(|batch| batch.takes == SUSPECT_AT), "{one:?}");
        found.extend(positions(&one));
    }
    assert_eq!(found, positions(&suspects));
}

/// What n2 takes over, with so many suspects in each partition.
async fn take_over(rig: &Rig, suspects: usize) -> Vec<crate::batch::Batch> {
    let mut all = Vec::new();
    for partition in rig.partitions() {
        let taken = rig.store.work.take_over(partition, &claim("n2"), 8, suspects).await;
        all.extend(taken.expect("a takeover").0);
    }
    all
}

/// A batch may hold many deliveries for each of its events. Halves of it are named apart from all
/// others, and every delivery can be settled by the name of its half.
pub async fn a_large_suspect_is_halved(rig: &mut Rig) {
    let lanes: Vec<_> = (1..=60).map(|lane| (lane, Transition::Held)).collect();
    rig.accept(events(10)).await;
    for batch in rig.take_all("n1").await {
        rig.settle(Results::all("n1", &batch, &lanes)).await;
    }
    let mut batches = lapse_until(rig, SUSPECT_AT).await;
    for _ in 0..2 {
        rig.lapse().await;
        batches = rig.take_over("n2").await;
    }
    let names: BTreeSet<_> = batches.iter().map(|batch| batch.token).collect();
    assert_eq!(names.len(), batches.len());
    assert_eq!(keys(&batches).len(), 600);
    rig.settle_all("n2", &batches, SUCCEEDED).await;
    let books =
        Books { accepted: 10, matched: 10, created: 600, succeeded: 600, ..Books::default() };
    assert_eq!(rig.books().await, books);
}

/// What nodes die over by itself shows in its takes, so that a node can hold it back: it waits,
/// visibly, and comes again.
pub async fn a_suspect_is_held_back(rig: &mut Rig) {
    let delivery = *rig.backlog(&[1], 1).await.first().expect("a delivery");
    assert_eq!(rig.due("n1").await.len(), 1);
    let event = rig.take_new("n1").await.events[0].event.position;
    let suspects = lapse_until(rig, HELD_BACK_AT).await;
    assert_eq!(suspects.len(), 2);
    let held = Transition::Later(MINUTE, PendingReason::Suspect);
    for batch in &suspects {
        rig.settle(Results::all("n2", batch, &[(1, held)])).await;
    }
    let all = BTreeSet::from([delivery, key(event, 1)]);
    for key in &all {
        assert_eq!(rig.state(*key).await, (DeliveryState::Pending, None));
        let pending = rig.delivery(*key).await.pending_reason;
        assert_eq!(pending, Some(PendingReason::Suspect));
    }
    assert!(rig.due("n1").await.is_empty());
    rig.advance(MINUTE).await;
    assert_eq!(rig.due_keys("n1").await, all);
    let books = Books { accepted: 2, matched: 2, created: 2, pending: 2, ..Books::default() };
    assert_eq!(rig.books().await, books);
}
