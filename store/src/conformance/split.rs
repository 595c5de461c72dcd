//! Events that are split: deliveries that take long get records of their own, under the same
//! lease, so that the others' results need not wait.

use std::collections::BTreeSet;

use pregon_core::outcome::{DeliveryState, PendingReason};

use super::Rig;
use super::kit::{MINUTE, RETRY, Results, key, node};
use super::rig::{keys, positions};
use crate::batch::{Batch, HeldDelivery};
use crate::log::Books;
use crate::settlement::Transition;

const SUCCEEDED: Transition = Transition::Succeeded;

/// One event, of which lane 1 has it already, and lanes 2 and 3 are still being attempted.
async fn split(rig: &Rig) -> (Batch, [HeldDelivery; 2]) {
    let batch = rig.take_new("n1").await;
    let to = [(1, SUCCEEDED), (2, Transition::Held), (3, Transition::Held)];
    rig.settle(Results::all("n1", &batch, &to)).await;
    let event = batch.events[0].event.clone();
    let held = [2, 3].map(|number| HeldDelivery {
        key: key(event.position, number),
        event: event.clone(),
        attempts: 0,
        create_time: event.accept_time(),
        due: None,
    });
    (batch, held)
}

/// The finished are settled; the open show as in flight, and nobody else gets them.
pub async fn an_open_event_is_split(rig: &mut Rig) {
    let (batch, held) = split(rig).await;
    let books =
        Books { accepted: 1, matched: 1, created: 3, succeeded: 1, pending: 2, ..Books::default() };
    assert_eq!(rig.books().await, books);
    let record = rig.delivery(held[0].key).await;
    assert_eq!(record.state, DeliveryState::Pending);
    assert_eq!(record.pending_reason, Some(PendingReason::InFlight));
    assert_eq!((record.node, record.attempts), (Some(node("n1")), 0));
    assert!(rig.due("n2").await.is_empty());
    assert!(rig.take_over("n2").await.is_empty());
    assert!(rig.extend(&[batch.token]).await.is_empty(), "the batch goes on");
}

/// Held deliveries end by the same token, one by one.
pub async fn a_held_delivery_succeeds(rig: &mut Rig) {
    let (batch, held) = split(rig).await;
    for (left, delivery) in [1, 0].into_iter().zip(&held) {
        rig.settle(Results::of("n1", &batch).delivery(delivery, SUCCEEDED)).await;
        assert_eq!(rig.books().await.pending, left);
        assert_eq!(rig.state(delivery.key).await.0, DeliveryState::Succeeded);
        assert_eq!(rig.delivery(delivery.key).await.attempts, 1);
    }
    assert_eq!(rig.extend(&[batch.token]).await, [batch.token]);
    rig.lapse().await;
    assert!(rig.take_over("n2").await.is_empty());
}

/// A held delivery that fails waits in its lane like any other.
pub async fn a_held_delivery_is_retried(rig: &mut Rig) {
    let (batch, [first, second]) = split(rig).await;
    let results = Results::of("n1", &batch).delivery(&first, RETRY).delivery(&second, SUCCEEDED);
    rig.settle(results).await;
    assert!(rig.due("n1").await.is_empty());
    rig.advance(MINUTE).await;
    let due = rig.due("n2").await;
    assert_eq!(keys(&due), BTreeSet::from([first.key]));
    assert_eq!(due[0].deliveries[0].attempts, 1);
    rig.settle_all("n2", &due, &[(2, SUCCEEDED)]).await;
    assert_eq!(rig.books().await.succeeded, 3);
}

/// After a crash held deliveries come back as deliveries; the event does not.
pub async fn held_deliveries_are_taken_over(rig: &mut Rig) {
    let (batch, held) = split(rig).await;
    rig.settle(Results::of("n1", &batch).delivery(&held[0], SUCCEEDED)).await;
    rig.lapse().await;
    let again = rig.take_over("n2").await;
    assert_eq!(keys(&again), BTreeSet::from([held[1].key]));
    assert!(positions(&again).is_empty());
    let delivery = &again[0].deliveries[0];
    assert_eq!(delivery.attempts, 0);
    assert_eq!(delivery.event, held[1].event);
    assert_eq!(delivery.create_time, rig.delivery(delivery.key).await.create_time);
    rig.settle_all("n2", &again, &[(3, SUCCEEDED)]).await;
    assert_eq!(rig.books().await.succeeded, 3);
}

/// The old owner of held deliveries moves neither of them.
pub async fn a_zombie_of_a_split_batch_settles_nothing(rig: &mut Rig) {
    let (batch, held) = split(rig).await;
    rig.lapse().await;
    let again = rig.take_over("n2").await;
    let before = rig.books().await;
    let zombie = Results::of("n1", &batch).delivery(&held[0], SUCCEEDED).delivery(&held[1], RETRY);
    rig.settle_in_vain(zombie).await;
    assert_eq!(rig.books().await, before);
    assert_eq!(keys(&again).len(), 2);
    rig.settle_all("n2", &again, &[(2, SUCCEEDED)]).await;
    assert_eq!(rig.books().await.succeeded, 3);
}
