//! Restarts: what an engine acknowledged, it has, and what it had leased comes back.
//!
//! An engine that keeps nothing has nothing to show here.

use std::collections::BTreeSet;

use pregon_core::event::{Environment, NewEvent};
use pregon_core::outcome::{DeliveryState, EndReason};

use super::Rig;
use super::config::{done, write};
use super::kit::{
    EXHAUSTED, HOUR, MINUTE, RETRY, Results, WAITING, close, event, given, key, lane,
};
use super::rig::{keys, positions};
use crate::config::Changes;
use crate::intake::Published;
use crate::log::DeliveryQuery;
use crate::operate::Cancelled;
use crate::settlement::Transition;

/// Configuration, events, deliveries in every state, logs, books: as they were.
pub async fn everything_survives_a_restart(rig: &mut Rig) {
    let start = rig.store.config.head().await.expect("the head");
    done(rig, write("tenants/acme", "{}")).await;
    let head = rig.store.config.head().await.expect("the head");
    let documents = rig.store.config.documents("", 10).await.expect("documents");
    let full = NewEvent { environment: Environment::Test, min_revision: 3, ..given("a") };
    let to = [(1, Transition::Succeeded), (2, EXHAUSTED), (3, RETRY), (4, WAITING)];
    let position = rig.deliver(full.clone(), &to).await;
    let waiting = rig.accept_one(event()).await;
    let books = rig.books().await;
    let records = rig.list(&DeliveryQuery::default(), 10).await;
    let attempts = rig.store.log.attempts(key(position, 2)).await.expect("the attempts");
    let stored = rig.store.log.event(position).await.expect("a read");

    if !rig.reopen().await {
        return;
    }
    assert_eq!(rig.store.config.head().await.expect("the head"), head);
    assert_eq!(rig.store.config.documents("", 10).await.expect("documents"), documents);
    let changes = rig.store.config.changes(start, 10, std::time::Duration::ZERO).await;
    let Changes::Next(changes) = changes.expect("the changes") else { panic!("a gap") };
    assert_eq!(changes.len(), 1);
    assert_eq!(rig.books().await, books);
    assert_eq!(rig.list(&DeliveryQuery::default(), 10).await, records);
    assert_eq!(rig.store.log.event(position).await.expect("a read"), stored);
    let again = rig.store.log.attempts(key(position, 2)).await.expect("the attempts");
    assert_eq!(again, attempts);
    let duplicate = Published::Accepted { position, duplicate: true };
    assert_eq!(rig.publish(vec![full]).await, [duplicate], "ids are remembered");

    assert_eq!(positions(&rig.take_all("n2").await), BTreeSet::from([waiting]));
    assert_eq!(rig.due_keys("n2").await, BTreeSet::from([key(position, 4)]));
    rig.advance(MINUTE).await;
    assert_eq!(rig.due_keys("n2").await, BTreeSet::from([key(position, 3)]));
}

/// What the earlier life held is taken over: at once where there can be no other process.
pub async fn leases_of_an_earlier_life_come_back(rig: &mut Rig) {
    let (_, held) = rig.in_flight("n1", 1).await;
    let batch = rig.take_new("n1").await;
    let split = rig.take_new("n1").await;
    let to = [(2, Transition::Held), (3, Transition::Succeeded)];
    rig.settle(Results::all("n1", &split, &to)).await;
    let fanned = rig.take_new("n1").await;
    rig.settle(Results::of("n1", &fanned).fanned_out(&fanned.events[0], 1..=9, false)).await;
    if !rig.reopen_and_lapse().await {
        return;
    }
    let again = rig.take_over("n1").await;
    let open = [&batch, &fanned].map(|batch| batch.events[0].event.position);
    assert_eq!(positions(&again), open.into());
    let cursor = |open: &crate::batch::OpenEvent| open.cursor;
    let cursors: Vec<_> = again.iter().flat_map(|b| &b.events).filter_map(cursor).collect();
    assert_eq!(cursors, [lane(9)]);
    assert_eq!(keys(&again), [held.key, key(split.events[0].event.position, 2)].into());
    rig.settle_all("n1", &again, &[(10, Transition::Succeeded)]).await;
    let due = rig.due("n1").await;
    assert_eq!(keys(&due).len(), 9);
    rig.settle_all("n1", &due, &[(1, Transition::Succeeded)]).await;
    assert_eq!(rig.books().await.pending, 0);
}

/// The earlier life's tokens are nobody's.
pub async fn a_token_of_an_earlier_life_settles_nothing(rig: &mut Rig) {
    let batch = rig.take_new("n1").await;
    if !rig.reopen_and_lapse().await {
        return;
    }
    let again = rig.take_over("n1").await;
    assert_ne!(again[0].token, batch.token);
    rig.settle_in_vain(Results::all("n1", &batch, &[(1, Transition::Succeeded)])).await;
    assert_eq!(rig.extend(&[batch.token]).await, [batch.token]);
    rig.settle_all("n1", &again, &[(1, Transition::Succeeded)]).await;
    assert_eq!(rig.books().await.succeeded, 1);
}

/// A lane stays closed, and a wish to cancel is kept.
pub async fn closed_lanes_and_cancels_survive(rig: &mut Rig) {
    let waiting = rig.backlog(&[1], 3).await;
    rig.store.operate.close_lanes(&[close(1, HOUR)]).await.expect("to close");
    let (_, held) = rig.in_flight("n1", 2).await;
    let cancelled = rig.store.operate.cancel(held.key, EndReason::ByCaller).await;
    assert_eq!(cancelled.expect("a cancel"), Cancelled::InFlight);
    if !rig.reopen_and_lapse().await {
        return;
    }
    assert!(rig.due("n1").await.is_empty());
    let again = rig.take_over("n1").await;
    rig.settle_all("n1", &again, &[(2, RETRY)]).await;
    let end = (DeliveryState::Cancelled, Some(EndReason::ByCaller));
    assert_eq!(rig.state(held.key).await, end);
    rig.store.operate.open_lanes(&[lane(1)]).await.expect("to open");
    assert_eq!(rig.due_keys("n1").await, waiting);
}

/// No number is given twice, and no token.
pub async fn numbers_go_on_after_a_restart(rig: &mut Rig) {
    let mut tokens = BTreeSet::new();
    let mut last = std::collections::BTreeMap::new();
    for _ in 0..4 {
        for _ in 0..5 {
            let batch = rig.take_new("n1").await;
            let position = batch.events[0].event.position;
            let last = last.entry(position.partition).or_insert(0);
            assert_eq!(position.n, *last + 1, "dense over restarts");
            *last = position.n;
            assert!(tokens.insert(batch.token), "{} was given twice", batch.token);
            rig.settle(Results::all("n1", &batch, &[(1, Transition::Succeeded)])).await;
        }
        if !rig.reopen().await {
            return;
        }
        assert_eq!(rig.take_up_to("n1", 1).await.map(|batch| batch.token), None);
    }
}
