//! What nodes went down with: who is suspected, and what becomes of a suspect.

use pregon_store::work::{HELD_BACK_AT, SUSPECT_AT};

use super::*;

#[tokio::test]
async fn a_suspect_is_held_back_and_not_given_up() {
    let mut rig = Rig::new(1).await;
    let previous = Some(NodeId::parse("dead").unwrap());
    let batch = Batch { takes: HELD_BACK_AT, previous, ..rig.batch(1) };
    assert!(rig.take(batch).is_empty(), "it is not attempted");
    let held = Transition::Later(SUSPECT_HOLD, PendingReason::Suspect);
    assert_eq!(rig.settle_all(), [held]);

    let batch = Batch { takes: HELD_BACK_AT, ..rig.held(1, 3) };
    assert!(rig.take(batch).is_empty());
    assert_eq!(rig.settle_all(), [held]);
}

#[tokio::test]
async fn what_is_not_by_itself_is_attempted_however_often_it_was_taken() {
    let mut rig = Rig::new(1).await;
    let batch = Batch { takes: HELD_BACK_AT, ..rig.batch(2) };
    assert_eq!(rig.take(batch).len(), 2);
}

#[tokio::test]
async fn an_event_whose_matching_kills_waits_unmatched() {
    let mut rig = Rig::new(1).await;
    let batch = Batch { takes: HELD_BACK_AT + 1, ..rig.batch(1) };
    assert!(rig.take(batch).is_empty());
    let settlement = rig.settle();
    let outcome = &settlement.batches[0].events[0].outcome;
    assert!(matches!(outcome, EventOutcome::Postponed(SUSPECT_HOLD)), "{outcome:?}");
}

#[tokio::test]
async fn one_suspect_is_on_trial_at_a_time() {
    let mut rig = Rig::new(1).await;
    assert_eq!(rig.machine.suspects(rig.now), 1);
    let batch = Batch { takes: SUSPECT_AT - 1, ..rig.batch(1) };
    let jobs = rig.take(batch);
    assert_eq!(rig.machine.suspects(rig.now), 1, "one lapse is no sign");
    let suspect = Batch { takes: SUSPECT_AT, ..rig.batch(1) };
    let tried = rig.take(suspect);
    assert_eq!(rig.machine.suspects(rig.now), 0);
    for job in tried {
        rig.report(job, Outcome::Succeeded);
    }
    assert_eq!(rig.machine.suspects(rig.now), 1, "it came to its end");

    let suspect = Batch { takes: SUSPECT_AT, ..rig.batch(1) };
    rig.take(suspect);
    assert_eq!(rig.machine.suspects(rig.now), 0);
    rig.pass(TRIAL);
    assert_eq!(rig.machine.suspects(rig.now), 1, "it was survived");
    drop(jobs);
}
