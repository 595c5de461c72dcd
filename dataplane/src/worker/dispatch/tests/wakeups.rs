//! When the lanes in the store are looked at: nothing that is due is waited for longer than needed.

use super::*;

fn found(batch: Batch) -> Due {
    Due { batch: Some(batch), ..Due::default() }
}

const RETRY: Outcome = Outcome::Retry { after: Duration::from_secs(5) };

#[tokio::test]
async fn who_stores_a_retry_knows_when_it_is_due() {
    let mut rig = Rig::new(1).await;
    let batch = rig.batch(2);
    let jobs = rig.take(batch);
    for job in jobs {
        rig.report(job, RETRY);
    }
    rig.settle();
    assert_eq!(rig.due, HashMap::from([(0, Duration::from_secs(5))]));
}

#[tokio::test]
async fn who_puts_back_looks_again_at_once() {
    let mut rig = Rig::new(1).await;
    let batch = rig.batch(200);
    let jobs = rig.take(batch);
    rig.pass(SPLIT_AFTER);
    rig.settle_all();
    assert!(rig.machine.wanted(rig.now).is_empty(), "no slot is free");
    for job in jobs {
        rig.report(job, Outcome::Succeeded);
    }
    assert_eq!(rig.machine.wanted(rig.now), BTreeSet::from([0]));
    let request = rig.machine.due_request(0, rig.now);
    assert_eq!(request.pull, [LaneNo(1)]);
    assert!(rig.machine.due_request(1, rig.now).pull.is_empty(), "the other partition has none");
}

/// Nobody here ever put anything into the lane: its deliveries all failed once and came due together.
#[tokio::test]
async fn a_lane_that_filled_its_slots_is_pulled_ahead_of_them() {
    let mut rig = Rig::new(1).await;
    let request = rig.machine.due_request(0, rig.now);
    let due = found(rig.due_batch(usize::try_from(request.default_slots).unwrap()));
    rig.machine.on_due(0, &request, &due, (rig.now, rig.now));
    assert_eq!(rig.take(due.batch.unwrap()).len(), 8);
    assert_eq!(rig.machine.wanted(rig.now), BTreeSet::from([0]));

    let request = rig.machine.due_request(0, rig.now);
    assert_eq!(request.pull, [LaneNo(1)]);
    rig.machine.on_due(0, &request, &Due::default(), (rig.now, rig.now));
    assert!(rig.machine.wanted(rig.now).is_empty(), "a look found nothing");
}

/// What a look says is as old as the look.
#[tokio::test]
async fn a_look_that_was_under_way_says_nothing_of_what_was_stored_since() {
    let mut rig = Rig::new(1).await;
    let batch = rig.batch(200);
    let jobs = rig.take(batch);
    let (request, asked) = (rig.machine.due_request(0, rig.now), rig.now);
    rig.pass(SPLIT_AFTER);
    rig.settle_all();
    let request = DueRequest { pull: vec![LaneNo(1)], ..request };
    rig.machine.on_due(0, &request, &Due::default(), (asked, rig.now));
    for job in jobs {
        rig.report(job, Outcome::Succeeded);
    }
    assert_eq!(rig.machine.wanted(rig.now), BTreeSet::from([0]));
}

#[tokio::test]
async fn partitions_share_the_slots_of_a_lane_and_are_known_apart() {
    let mut rig = Rig::new(1).await;
    let lane = rig.machine.snapshot.lane(LaneNo(1)).cloned().unwrap();
    let now = rig.now;
    for partition in 0..4 {
        rig.machine.lanes.change(&lane, now, |flow| flow.note_stored(partition, now));
    }
    let requests: Vec<_> = (0..4).map(|no| rig.machine.due_request(no, now)).collect();
    let slots: u32 = requests.iter().map(|request| request.slots[&LaneNo(1)]).sum();
    let means = rig.machine.means();
    assert_eq!(slots, rig.machine.lanes.get(LaneNo(1)).unwrap().credit(now, means));
    assert!(slots > limits::CONCURRENCY_START, "ahead of the slots");
    rig.machine.on_due(2, &requests[2], &Due::default(), (now, now));
    assert_eq!(rig.machine.wanted(now), BTreeSet::from([0, 1, 3]));
}

#[tokio::test]
async fn lanes_are_pulled_in_turns_where_there_are_more_than_one_call_takes() {
    let lanes = u64::try_from(PULL_MAX).unwrap() + 44;
    let mut rig = Rig::new(lanes).await;
    let now = rig.now;
    for no in 1..=lanes {
        let lane = rig.machine.snapshot.lane(LaneNo(no)).cloned().unwrap();
        rig.machine.lanes.change(&lane, now, |flow| flow.note_stored(0, now));
    }
    let mut pulled = BTreeSet::new();
    for _ in 0..2 {
        let request = rig.machine.due_request(0, now);
        assert_eq!(request.pull.len(), PULL_MAX);
        pulled.extend(request.pull);
    }
    assert_eq!(pulled.len(), usize::try_from(lanes).unwrap());
}

/// What was matched without a subscription that cannot be read would be lost to it.
#[tokio::test]
async fn nothing_is_taken_while_the_configuration_cannot_be_read_whole() {
    let mut rig = Rig::new(1).await;
    assert!(rig.machine.room() > 0);
    let name = "tenants/t/subscriptions/other".to_owned();
    let revision = rig.store.put(vec![(name.clone(), Some(Bytes::from_static(b"{")))]);
    rig.serve(revision).await;
    assert_eq!(rig.machine.room(), 0);
    assert_eq!(rig.machine.due_request(0, rig.now).want, 0);
    let revision = rig.store.put(vec![(name, None)]);
    rig.serve(revision).await;
    assert!(rig.machine.room() > 0);
}
