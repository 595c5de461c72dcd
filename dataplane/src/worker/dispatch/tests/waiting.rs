//! What waits in memory: its bounds, and where it goes when the node does.

use super::*;

/// What waits in memory for one receiver keeps nothing from another lane in the store for long.
#[tokio::test]
async fn what_was_put_back_is_stored_though_another_delivery_of_the_event_waits() {
    let mut rig = Rig::new(2).await;
    let lane = rig.machine.snapshot.lane(LaneNo(2)).cloned().unwrap();
    let until = rig.now + Duration::from_secs(60);
    rig.machine.lanes.change(&lane, rig.now, |flow| flow.close(until, rig.now));
    let batch = rig.batch(9);
    let jobs = rig.take(batch);
    assert_eq!(jobs.len(), 8, "one waits for a slot of the first lane");
    rig.pass(SPLIT_AFTER);
    let settled = rig.settle_all();
    let waiting = settled.iter().filter(|to| matches!(to, Transition::Waiting(_)));
    assert_eq!(
        waiting.filter(|to| **to != Transition::Waiting(PendingReason::LaneFull)).count(),
        9
    );
}

#[tokio::test]
async fn what_waited_is_sent_as_the_subscription_is_now() {
    let mut rig = Rig::new(1).await;
    let batch = rig.batch(9);
    let mut jobs = rig.take(batch);
    let before = jobs[0].lane.url.clone();
    rig.change(1, |s| s.url = "https://elsewhere.example/hook".to_owned()).await;
    rig.report(jobs.pop().unwrap(), Outcome::Succeeded);
    let [job] = &rig.started()[..] else { panic!("one waited") };
    assert_ne!(job.lane.url.as_str(), before.as_str());
    assert_eq!(job.revision, rig.machine.snapshot.revision());
}

#[tokio::test]
async fn what_waits_in_memory_has_a_bound_and_the_rest_is_stored() {
    let mut rig = Rig::new(2).await;
    let mut stored = 0;
    for _ in 0..WAITING_MAX / 128 {
        let batch = rig.batch(128);
        rig.take(batch);
        let to = rig.settle_all();
        assert!(to.iter().all(|to| *to == Transition::Waiting(PendingReason::LaneFull)));
        stored += to.len();
    }
    let waiting: usize = rig.machine.lanes.all().map(|(_, flow)| flow.waiting()).sum();
    assert!(waiting < WAITING_MAX && waiting > WAITING_MAX / 2, "{waiting}");
    assert!(rig.machine.claimed() <= WAITING_MAX);
    let deliveries = 2 * WAITING_MAX;
    // An event with one delivery stored is settled only with the other.
    assert!(waiting + stored + rig.machine.in_flight() <= deliveries);
}

#[tokio::test]
async fn large_events_are_bounded_by_their_bytes() {
    let mut rig = Rig::new(1).await;
    let data = Bytes::from(vec![b' '; 256 * 1024]);
    let mut batch = rig.batch(256);
    for open in &mut batch.events {
        Arc::make_mut(&mut open.event).data = data.clone();
    }
    rig.take(batch);
    let bytes: usize = rig.machine.lanes.all().map(|(_, flow)| flow.waiting_bytes()).sum();
    assert!(bytes <= 33 * 1024 * 1024, "{bytes}");
    assert!(!rig.settle_all().is_empty());
}

#[tokio::test]
async fn a_node_that_goes_settles_what_ended_of_events_that_are_open() {
    let mut rig = Rig::new(2).await;
    let batch = rig.batch(1);
    let mut jobs = rig.take(batch);
    rig.report(jobs.pop().unwrap(), Outcome::Succeeded);
    rig.machine.drain(rig.now);
    assert!(rig.settle_all().is_empty(), "the other attempt may end in time");
    rig.machine.split_all(rig.now);
    assert_eq!(rig.settle_all(), [Transition::Succeeded, Transition::Held]);
}

#[tokio::test]
async fn an_event_of_which_nothing_was_touched_is_not_split() {
    let mut rig = Rig::new(1).await;
    let batch = rig.batch(20);
    let jobs = rig.take(batch);
    rig.now += Duration::from_millis(600);
    for job in jobs {
        rig.report(job, Outcome::Succeeded);
    }
    let next = rig.started();
    rig.settle_all();
    rig.pass(Duration::from_millis(600));
    assert!(rig.settle_all().is_empty(), "those in flight began late, the others did not begin");
    rig.pass(Duration::from_millis(500));
    assert_eq!(rig.settle_all(), vec![Transition::Held; next.len()]);
}

#[tokio::test]
async fn draining_takes_nothing_and_what_was_not_attempted_goes_back_with_its_batch() {
    let mut rig = Rig::new(1).await;
    let batch = rig.batch(20);
    let token = batch.token;
    let jobs = rig.take(batch);
    let one = rig.held(1, 1);
    assert!(rig.take(one).is_empty());
    rig.machine.drain(rig.now);
    assert_eq!(rig.machine.room(), 0);
    for job in jobs {
        rig.report(job, Outcome::Succeeded);
    }
    let all = rig.settle_all();
    let succeeded = all.iter().filter(|to| **to == Transition::Succeeded).count();
    assert_eq!((succeeded, all.len()), (8, 9), "a delivery with a record goes back by itself");
    assert_eq!((rig.machine.tokens(), rig.machine.claimed()), (vec![token], 12));
}
