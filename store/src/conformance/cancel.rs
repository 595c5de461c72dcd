//! Cancelling one delivery, wherever it is.

use pregon_core::id::{DeliveryKey, Position};
use pregon_core::outcome::{DeliveryState, EndReason};

use super::Rig;
use super::kit::{EXHAUSTED, HOUR, RETRY, Results, WAITING, event, given, key, tag};
use crate::operate::Cancelled;
use crate::settlement::Transition;

const SUCCEEDED: Transition = Transition::Succeeded;
const CANCELLED: (DeliveryState, Option<EndReason>) =
    (DeliveryState::Cancelled, Some(EndReason::ByCaller));

async fn cancel(rig: &Rig, key: DeliveryKey) -> Cancelled {
    rig.store.operate.cancel(key, EndReason::ByCaller).await.expect("a cancel")
}

/// It ends at once, is never handed out, and a second cancel finds it so.
pub async fn a_waiting_delivery_is_cancelled(rig: &mut Rig) {
    let position = rig.deliver(event(), &[(1, WAITING), (2, RETRY), (3, WAITING)]).await;
    for number in [1, 2] {
        let at = key(position, number);
        assert_eq!(cancel(rig, at).await, Cancelled::Done);
        assert_eq!(rig.state(at).await, CANCELLED);
        let record = rig.delivery(at).await;
        assert_eq!((record.next_attempt, record.end_time.is_some()), (None, true));
        assert_eq!(cancel(rig, at).await, Cancelled::Ended(DeliveryState::Cancelled));
    }
    rig.advance(HOUR).await;
    assert_eq!(rig.due_keys("n1").await, [key(position, 3)].into());
    assert_eq!(rig.books().await.cancelled, 2);
}

/// In flight, the attempt goes on; whatever is not a success ends as cancelled.
pub async fn a_delivery_in_flight_is_cancelled_instead_of_retried(rig: &mut Rig) {
    for to in [RETRY, WAITING, EXHAUSTED] {
        let (batch, held) = rig.in_flight("n1", 1).await;
        assert_eq!(cancel(rig, held.key).await, Cancelled::InFlight);
        assert_eq!(cancel(rig, held.key).await, Cancelled::InFlight, "again");
        assert_eq!(rig.state(held.key).await.0, DeliveryState::Pending);
        rig.settle(Results::of("n1", &batch).delivery(&held, to)).await;
        assert_eq!(rig.state(held.key).await, CANCELLED, "after {to:?}");
        assert_eq!(cancel(rig, held.key).await, Cancelled::Ended(DeliveryState::Cancelled));
    }
    rig.advance(HOUR).await;
    assert!(rig.due("n1").await.is_empty());
    assert_eq!(rig.books().await.cancelled, 3);
}

/// The receiver has it: a success stays a success.
pub async fn a_delivery_in_flight_may_still_succeed(rig: &mut Rig) {
    let (batch, held) = rig.in_flight("n1", 1).await;
    assert_eq!(cancel(rig, held.key).await, Cancelled::InFlight);
    rig.settle(Results::of("n1", &batch).delivery(&held, SUCCEEDED)).await;
    assert_eq!(rig.state(held.key).await, (DeliveryState::Succeeded, None));
    assert_eq!(cancel(rig, held.key).await, Cancelled::Ended(DeliveryState::Succeeded));
    assert_eq!(rig.books().await.cancelled, 0);
}

/// A delivery that was split off its event is in flight like any other.
pub async fn a_held_delivery_is_cancelled_too(rig: &mut Rig) {
    let batch = rig.take_new("n1").await;
    let event = &batch.events[0].event;
    rig.settle(Results::all("n1", &batch, &[(1, Transition::Held), (2, Transition::Held)])).await;
    let held = [1, 2].map(|number| crate::batch::HeldDelivery {
        key: key(event.position, number),
        event: event.clone(),
        attempts: 0,
        create_time: event.accept_time(),
        due: None,
    });
    assert_eq!(cancel(rig, held[0].key).await, Cancelled::InFlight);
    rig.settle(Results::of("n1", &batch).delivery(&held[0], RETRY).delivery(&held[1], RETRY)).await;
    assert_eq!(rig.state(held[0].key).await, CANCELLED);
    assert_eq!(rig.state(held[1].key).await.0, DeliveryState::Pending);
    assert_eq!(rig.books().await.pending, 1);
}

/// The wish is kept when the node that had the delivery dies.
pub async fn a_cancel_outlives_a_take_over(rig: &mut Rig) {
    let (_, held) = rig.in_flight("n1", 1).await;
    assert_eq!(cancel(rig, held.key).await, Cancelled::InFlight);
    rig.lapse().await;
    let again = rig.take_over("n2").await;
    let delivery = &again[0].deliveries[0];
    assert_eq!(delivery.key, held.key);
    rig.settle(Results::of("n2", &again[0]).delivery(delivery, RETRY)).await;
    assert_eq!(rig.state(held.key).await, CANCELLED);
}

/// Also when nobody took it over for hours: the wish has no end of its own.
pub async fn a_cancel_outlives_a_long_stop(rig: &mut Rig) {
    let (_, held) = rig.in_flight("n1", 1).await;
    assert_eq!(cancel(rig, held.key).await, Cancelled::InFlight);
    for _ in 0..3 {
        rig.advance(26 * HOUR).await;
        rig.deliver(event(), &[(2, SUCCEEDED)]).await;
    }
    let again = rig.take_over("n2").await;
    rig.settle_all("n2", &again, &[(1, RETRY)]).await;
    assert_eq!(rig.state(held.key).await, CANCELLED);
}

/// A settle that comes twice, the second time when the delivery is in flight elsewhere, leaves
/// that one's cancel alone.
pub async fn a_repeated_settle_eats_no_cancel(rig: &mut Rig) {
    rig.backlog(&[1], 2).await;
    let batches = rig.due("n1").await;
    let held = batches[0].deliveries[0].clone();
    let step = Results::of("n1", &batches[0]).delivery(&held, WAITING).settlement();
    rig.settle_as_is(step.clone()).await;
    let elsewhere = rig.due("n2").await;
    assert_eq!(elsewhere[0].deliveries[0].key, held.key);
    assert_eq!(cancel(rig, held.key).await, Cancelled::InFlight);
    rig.settle_as_is(step).await;
    rig.settle_all("n2", &elsewhere, &[(1, RETRY)]).await;
    assert_eq!(rig.state(held.key).await, CANCELLED);
}

/// What ended cannot be called off; the end is told, also of a success without a record.
pub async fn an_ended_delivery_keeps_its_end(rig: &mut Rig) {
    let position = rig.deliver(event(), &[(1, SUCCEEDED), (2, EXHAUSTED)]).await;
    let ends = [(1, DeliveryState::Succeeded), (2, DeliveryState::Failed)];
    let before = rig.books().await;
    for (number, state) in ends {
        assert_eq!(cancel(rig, key(position, number)).await, Cancelled::Ended(state));
        assert_eq!(rig.state(key(position, number)).await.0, state);
    }
    assert_eq!(rig.books().await, before);
}

/// Nothing comes of cancelling what never was, neither now nor later.
pub async fn an_unknown_delivery_is_unknown(rig: &mut Rig) {
    let position = rig.deliver(given("a"), &[(1, WAITING)]).await;
    let none = Position { n: position.n + 1_000, ..position };
    let older = Position { ms: position.ms - 1, ..position };
    let replay = DeliveryKey { replay: Some(tag(1)), ..key(position, 1) };
    for unknown in [key(none, 1), key(older, 1), key(position, 2), replay] {
        assert_eq!(cancel(rig, unknown).await, Cancelled::Unknown, "{unknown}");
        assert_eq!(rig.find_delivery(unknown).await, None);
    }
    assert_eq!(rig.due_keys("n1").await, [key(position, 1)].into());
}
