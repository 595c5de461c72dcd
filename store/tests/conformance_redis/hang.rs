//! A Redis that hangs for longer than a call is waited for, and then carries out what it was sent.

use std::time::Duration;

use pregon_core::outcome::PendingReason;
use pregon_store::StoreError;
use pregon_store::redis::RedisOptions;
use pregon_store::settlement::Transition;
use pregon_store::work::DueRequest;

use crate::queue::{
    LEASE, behind_a_proxy, claim, due, events, in_order, publish, results, settle, store, take,
    take_over,
};
use crate::server::Server;

const WAITING: Transition = Transition::Waiting(PendingReason::Queued);

fn is_silent<T: std::fmt::Debug>(answer: &Result<T, StoreError>) {
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
}

/// What a claim leased whose answer did not come in time is had by the next claim, and not by
/// whoever looks when its lease is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_whose_answer_came_too_late_is_taken_up() {
    let (store, proxy, options) = behind_a_proxy().await;
    publish(&store, 5).await;
    proxy.swallow_a_reply();
    is_silent(&store.work.take(0, &claim("n1"), 256, usize::MAX).await);
    let taken = take(&store).await;
    assert_eq!(taken.events.len(), 5);
    settle(&store, &taken, &[(1, WAITING)]).await;

    proxy.swallow_a_reply();
    let request = DueRequest { want: 100, default_slots: 100, ..DueRequest::default() };
    is_silent(&store.work.due(0, &claim("n1"), request).await);
    assert_eq!(due(&store).await.deliveries.len(), 5);

    options.ahead.advance(LEASE * 2);
    proxy.swallow_a_reply();
    is_silent(&store.work.take_over(0, &claim("n2"), 4, 4).await);
    let taken_over = take_over(&store).await;
    assert_eq!(taken_over.iter().map(|batch| batch.deliveries.len()).sum::<usize>(), 5);
    for batch in &taken_over {
        settle(&store, batch, &[(1, Transition::Succeeded)]).await;
    }
    in_order(&store).await;
}

/// The lease of a claim that is taken up late runs from then on; one that is over is not taken up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_is_taken_up_late_has_a_whole_lease_or_none() {
    let (store, proxy, options) = behind_a_proxy().await;
    publish(&store, 1).await;
    proxy.swallow_a_reply();
    is_silent(&store.work.take(0, &claim("n1"), 256, usize::MAX).await);
    options.ahead.advance(LEASE / 2);
    let taken = take(&store).await;
    options.ahead.advance(LEASE * 3 / 4);
    assert!(take_over(&store).await.is_empty(), "its lease is not over");
    settle(&store, &taken, &[(1, Transition::Succeeded)]).await;

    publish(&store, 1).await;
    proxy.swallow_a_reply();
    is_silent(&store.work.take(0, &claim("n1"), 256, usize::MAX).await);
    options.ahead.advance(LEASE * 2);
    let others = take_over(&store).await;
    assert_eq!(others.len(), 1);
    publish(&store, 1).await;
    let own = store.work.take(0, &claim("n1"), 256, usize::MAX).await.expect("a take");
    assert!(own.is_none(), "it is another's: {own:?}");
    settle(&store, &others[0], &[(1, Transition::Succeeded)]).await;
    settle(&store, &take(&store).await, &[(1, Transition::Succeeded)]).await;
    in_order(&store).await;
}

/// A settlement that is repeated because its answer came too late finds no lease lost; nor does it
/// when another one was settled in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settlement_whose_answer_came_too_late_lost_no_lease() {
    let (store, proxy, _) = behind_a_proxy().await;
    publish(&store, 3).await;
    let first = take(&store).await;
    publish(&store, 3).await;
    let second = take(&store).await;
    proxy.swallow_a_reply();
    is_silent(&store.work.settle(results(&first, &[(1, Transition::Succeeded)])).await);
    settle(&store, &first, &[(1, Transition::Succeeded)]).await;

    proxy.swallow_a_reply();
    is_silent(&store.work.settle(results(&second, &[(2, WAITING)])).await);
    let other = due(&store).await;
    assert_eq!(other.deliveries.len(), 3);
    settle(&store, &other, &[(2, Transition::Succeeded)]).await;
    let again = store.work.settle(results(&second, &[(2, WAITING)])).await.expect("a settle");
    assert_eq!(again.lost, [], "it ran once, and is known to have");
    in_order(&store).await;
}

/// Whoever gave up while Redis hung is not stored for when it goes on, but for what was on its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_that_was_given_up_is_not_stored_later() {
    const CALLERS: u64 = 1_000;
    const UNDER_WAY: u64 = 100;
    let server = Server::start();
    let store = store(&RedisOptions::new(&server.url(0))).await;
    publish(&store, 1).await;
    let stopped = server.stop();
    let callers = (0..CALLERS).map(|_| {
        let intake = store.intake.clone();
        tokio::spawn(async move {
            tokio::time::timeout(Duration::from_secs(1), intake.publish(events(1))).await.is_ok()
        })
    });
    for caller in futures::future::join_all(callers.collect::<Vec<_>>()).await {
        assert!(!caller.expect("a caller"), "Redis hangs");
    }
    drop(stopped);
    publish(&store, 1).await;
    let accepted = store.log.books(None).await.expect("the books").accepted;
    assert!(accepted <= 2 + UNDER_WAY, "{accepted} were stored");
    in_order(&store).await;
}
