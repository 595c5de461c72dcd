//! Claiming new events, and what a lease is.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use pregon_core::event::NewEvent;
use pregon_core::id::Position;

use super::Rig;
use super::kit::{LEASE, MINUTE, Results, claim, event, events, node};
use super::rig::{eventually, positions, within};
use crate::log::EventStage;
use crate::settlement::Transition;
use crate::work::BATCH_MAX;

/// Awaits that an event stands so.
async fn stands(rig: &Rig, position: Position, expected: EventStage) {
    eventually(expected, async || {
        rig.store.log.event(position).await.expect("a read").expect("the event").1
    })
    .await;
}

/// Events are taken in the order of their numbers, as many as wanted, each once.
pub async fn a_take_hands_out_the_oldest_first(rig: &mut Rig) {
    assert!(rig.take_up_to("n1", 10).await.is_none(), "there is nothing yet");
    let published = rig.accept(events(25)).await;
    for partition in rig.partitions() {
        let mut expected =
            published.iter().copied().filter(|position| position.partition == partition).peekable();
        while expected.peek().is_some() {
            let batch = rig.take_in(partition, "n1", 10).await.expect("events to take");
            assert_eq!((batch.partition, batch.takes, batch.previous), (partition, 1, None));
            assert!(batch.deliveries.is_empty() && batch.spoiled.is_empty());
            let taken: Vec<_> = batch.events.iter().map(|open| open.event.position).collect();
            assert!(taken.len() <= 10 && !taken.is_empty());
            assert_eq!(taken, expected.by_ref().take(taken.len()).collect::<Vec<_>>());
            assert!(batch.events.iter().all(|open| open.cursor.is_none()));
        }
    }
    assert!(rig.take_up_to("n1", 10).await.is_none(), "all are taken");
}

/// However much is wanted, a batch has its bound.
pub async fn a_take_is_bounded(rig: &mut Rig) {
    let published = rig.accept(events(2 * BATCH_MAX + 10)).await;
    let mut batches = Vec::new();
    while let Some(batch) = rig.take_up_to("n1", 10 * BATCH_MAX).await {
        assert!(batch.len() <= BATCH_MAX, "a batch of {}", batch.len());
        batches.push(batch);
    }
    assert_eq!(positions(&batches), published.into_iter().collect());
}

/// A batch holds about as many bytes as wanted, and one event whatever its size.
pub async fn a_take_is_bounded_in_bytes(rig: &mut Rig) {
    const SIZE: usize = 50_000;
    let data: Vec<u8> = (0..SIZE).map(|i| b"0123456789"[i * i / 7 % 10]).collect();
    let large = NewEvent { data: Bytes::from(data), ..event() };
    rig.accept(vec![large; 12]).await;
    let mut taken = 0;
    for bytes in [1, SIZE * 3].into_iter().cycle() {
        let mut found = None;
        for partition in rig.partitions() {
            let batch = rig.store.work.take(partition, &claim("n1"), 100, bytes).await;
            found = batch.expect("a take");
            if found.is_some() {
                break;
            }
        }
        let Some(batch) = found else { break };
        let most = if bytes == 1 { 1 } else { 4 };
        assert!((1..=most).contains(&batch.len()), "{} events in {bytes} bytes", batch.len());
        taken += batch.len();
    }
    assert_eq!(taken, 12);
}

/// Many nodes that claim at once get ranges that do not overlap.
pub async fn claimants_never_share_an_event(rig: &mut Rig) {
    let published = rig.accept(events(500)).await;
    let mut nodes = tokio::task::JoinSet::new();
    for i in 0..16 {
        let (work, partitions) = (rig.store.work.clone(), rig.partitions());
        nodes.spawn(async move {
            let (by, mut batches) = (claim(&format!("n{i}")), Vec::new());
            for partition in partitions {
                while let Some(batch) =
                    work.take(partition, &by, 7, usize::MAX).await.expect("a take")
                {
                    batches.push(batch);
                }
            }
            batches
        });
    }
    let batches = nodes.join_all().await.concat();
    let tokens: BTreeSet<_> = batches.iter().map(|batch| batch.token).collect();
    assert_eq!(tokens.len(), batches.len(), "every batch has a name of its own");
    assert_eq!(positions(&batches), published.into_iter().collect());
}

/// Waiting, claimed by a node, matched; and by which node after a takeover.
pub async fn an_event_shows_where_it_stands(rig: &mut Rig) {
    let position = rig.accept_one(event()).await;
    stands(rig, position, EventStage::Waiting).await;
    let batch = rig.take("n1").await;
    stands(rig, position, EventStage::Claimed(node("n1"))).await;
    rig.settle(Results::of("n1", &batch).postponed(&batch.events[0], MINUTE)).await;
    stands(rig, position, EventStage::Waiting).await;
    rig.advance(MINUTE).await;
    assert_eq!(rig.due("n1").await.len(), 1);
    stands(rig, position, EventStage::Claimed(node("n1"))).await;
    rig.lapse().await;
    let batches = rig.take_over("n2").await;
    stands(rig, position, EventStage::Claimed(node("n2"))).await;
    rig.settle(Results::of("n2", &batches[0]).unmatched(&batches[0].events[0])).await;
    stands(rig, position, EventStage::Matched).await;
}

/// A lease that is extended in time does not run out.
pub async fn an_extended_lease_holds(rig: &mut Rig) {
    let batch = rig.take_new("n1").await;
    for _ in 0..5 {
        rig.advance(LEASE * 3 / 4).await;
        assert!(rig.extend(&[batch.token]).await.is_empty());
        assert!(rig.take_over("n2").await.is_empty());
    }
    rig.settle(Results::all("n1", &batch, &[(1, Transition::Succeeded)])).await;
}

/// A batch whose items are all settled exists no more.
pub async fn a_finished_batch_is_gone(rig: &mut Rig) {
    let done = rig.take_new("n1").await;
    let open = rig.take_new("n1").await;
    rig.settle(Results::all("n1", &done, &[(1, Transition::Succeeded)])).await;
    assert_eq!(rig.extend(&[open.token, done.token]).await, [done.token]);
    assert!(rig.extend(&[]).await.is_empty());
}

/// The lease's end alone takes nothing away: until somebody takes over, the owner may settle.
pub async fn a_lapsed_lease_that_nobody_took_still_settles(rig: &mut Rig) {
    let batch = rig.take_new("n1").await;
    rig.lapse().await;
    rig.settle(Results::all("n1", &batch, &[(1, Transition::Succeeded)])).await;
    assert!(rig.take_over("n2").await.is_empty());
    assert_eq!(rig.books().await.succeeded, 1);
}

/// Whoever looks for lapsed leases learns when the next one ends.
pub async fn the_next_lapse_is_told(rig: &mut Rig) {
    assert_eq!(rig.next_lapse("n2").await, None, "nobody holds anything");
    let batch = rig.take_new("n1").await;
    let next = rig.next_lapse("n2").await.expect("a lease");
    assert!(next <= LEASE && next > LEASE / 2, "{next:?}");
    rig.advance(LEASE / 2).await;
    let next = rig.next_lapse("n2").await.expect("a lease");
    assert!(next <= LEASE / 2 && next > LEASE / 4, "{next:?}");
    rig.settle(Results::all("n1", &batch, &[(1, Transition::Succeeded)])).await;
    assert_eq!(rig.next_lapse("n2").await, None);
}

/// A node that waits is woken by a publish, long before its time is up.
pub async fn a_publish_wakes_a_waiting_node(rig: &mut Rig) {
    let work = rig.store.work.clone();
    let (asks, asked) = tokio::sync::oneshot::channel();
    let sleeper = tokio::spawn(async move {
        asks.send(()).expect("somebody to listen");
        for partition in (0..work.partitions()).cycle() {
            let batch = work.take(partition, &claim("n1"), 10, usize::MAX).await.expect("a take");
            if batch.is_some() {
                return;
            }
            if partition + 1 == work.partitions() {
                work.wait(10 * MINUTE).await;
            }
        }
    });
    asked.await.expect("the sleeper");
    rig.accept_one(event()).await;
    within(sleeper).await.expect("the sleeper");
}

/// With nothing to claim, a wait ends when it was said to.
pub async fn a_wait_ends_by_itself(rig: &mut Rig) {
    within(rig.store.work.wait(Duration::from_millis(5))).await;
    within(rig.store.work.wait(Duration::ZERO)).await;
}
