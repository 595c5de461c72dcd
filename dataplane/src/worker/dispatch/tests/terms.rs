//! What an event says of its own delivery: when, for how long, to whom.

use pregon_core::event::Terms;
use pregon_core::id::SubscriptionId;

use super::*;

/// A batch of one event with these terms.
fn batch_with(rig: &mut Rig, terms: Terms) -> Batch {
    let mut batch = rig.batch(1);
    Arc::make_mut(&mut batch.events[0].event).terms = Some(Arc::new(terms));
    batch
}

fn at(time: Timestamp) -> Terms {
    Terms { deliver_time: Some(time), ..Terms::default() }
}

/// Whether its time has come only the store says, whatever this node's clock does.
#[tokio::test]
async fn an_event_is_matched_when_the_store_says_that_its_time_has_come() {
    let mut rig = Rig::new(1).await;
    let accepted = rig.event().accept_time();
    for time in [accepted.plus(Duration::from_millis(1)), WALL.plus(Duration::from_secs(3600))] {
        let batch = batch_with(&mut rig, at(time));
        assert!(rig.take(batch.clone()).is_empty());
        let settled = rig.settle();
        let outcome = &settled.batches[0].events[0].outcome;
        assert!(matches!(outcome, EventOutcome::Scheduled(to) if *to == time), "{outcome:?}");
        assert_eq!(rig.due[&0], time.since(WALL), "the node looks again at that time");
        let mut ripe = batch;
        ripe.token.sequence += 1000;
        ripe.events[0].ripe = true;
        assert_eq!(rig.take(ripe).len(), 1);
    }
    let batch = batch_with(&mut rig, at(accepted));
    assert_eq!(rig.take(batch).len(), 1, "a time that has passed is none");
}

/// What would be tried again too late ends at once, and what comes out of its lane too late is not
/// tried at all, be it paused or not.
#[tokio::test]
async fn nothing_is_tried_after_its_events_time() {
    let expired = Transition::Failed(EndReason::Expired);
    let mut rig = Rig::new(1).await;
    let after_wall = |rig: &mut Rig, left: Duration| {
        let accepted = rig.event().accept_time();
        let within = WALL.since(accepted) + left;
        Terms { deliver_within: Some(within), ..Terms::default() }
    };
    let minute = Duration::from_secs(60);
    for (left, to) in [(2 * minute, Transition::Retry(minute)), (minute, expired)] {
        let terms = after_wall(&mut rig, left);
        let batch = batch_with(&mut rig, terms);
        let job = rig.take(batch).remove(0);
        rig.report(job, Outcome::Retry { after: minute });
        let settled = rig.settle();
        assert_eq!(moves(&settled.batches[0]), [to]);
    }
    let terms = after_wall(&mut rig, Duration::ZERO);
    let mut late = rig.held(1, 3);
    Arc::make_mut(&mut late.deliveries[0].event).terms = Some(Arc::new(terms));
    assert!(rig.take(late).is_empty());
    let settled = rig.settle();
    assert_eq!(moves(&settled.batches[0]), [expired]);
    assert_eq!(settled.batches[0].deliveries[0].attempts, 3, "none is counted");
}

/// Of the subscriptions that match, those that the event names.
#[tokio::test]
async fn an_event_goes_to_the_subscriptions_it_names() {
    let mut rig = Rig::new(3).await;
    let named = ["s2", "nobodys"].map(|id| SubscriptionId::parse(id).unwrap());
    let terms = Terms { subscriptions: named.into(), ..Terms::default() };
    let batch = batch_with(&mut rig, terms);
    let jobs = rig.take(batch);
    assert_eq!(jobs.iter().map(|job| job.key.lane.0).collect::<Vec<_>>(), [2]);
}
