//! Deliveries that go out again: when, how many at once, and to whom.

use std::collections::BTreeSet;
use std::time::Duration;

use pregon_core::limits::PAUSED_KEPT;
use pregon_core::outcome::{DeliveryState, EndReason, PendingReason};

use super::Rig;
use super::kit::{EXHAUSTED, MINUTE, RETRY, Results, claim, event, everything, key};
use super::rig::{keys, positions};
use crate::log::{Books, EventStage};
use crate::settlement::Transition;
use crate::work::DueRequest;

const PAUSED: Transition = Transition::Waiting(PendingReason::Paused);
const SECOND: Duration = Duration::from_secs(1);

/// Not before its time, and then at once.
pub async fn a_retry_is_due_in_its_time(rig: &mut Rig) {
    let before = rig.now().await;
    let position = rig.deliver(event(), &[(1, RETRY)]).await;
    let record = rig.delivery(key(position, 1)).await;
    assert_eq!(record.pending_reason, Some(PendingReason::RetryScheduled));
    let due_at = record.next_attempt.expect("a time");
    assert!(due_at >= before.plus(MINUTE) && due_at <= rig.now().await.plus(MINUTE));
    assert!(rig.due("n1").await.is_empty());
    rig.advance(MINUTE / 2).await;
    assert!(rig.due("n1").await.is_empty(), "it has half a minute left");
    rig.advance(MINUTE / 2).await;
    assert_eq!(rig.due_keys("n1").await, BTreeSet::from([key(position, 1)]));
}

/// A lane is looked at for its earliest delivery, whichever came last.
pub async fn an_early_retry_is_not_held_up_by_a_late_one(rig: &mut Rig) {
    let late = rig.deliver(event(), &[(1, Transition::Retry(60 * MINUTE))]).await;
    let early = rig.deliver(event(), &[(1, RETRY)]).await;
    rig.advance(MINUTE).await;
    assert_eq!(rig.due_keys("n1").await, BTreeSet::from([key(early, 1)]));
    rig.advance(60 * MINUTE).await;
    assert_eq!(rig.due_keys("n1").await, BTreeSet::from([key(late, 1)]));
}

/// A delivery keeps its count from attempt to attempt, and its creation time.
pub async fn attempts_are_counted_over_retries(rig: &mut Rig) {
    let position = rig.deliver(event(), &[(1, RETRY)]).await;
    let created = rig.delivery(key(position, 1)).await.create_time;
    for attempts in 1..6 {
        rig.advance(MINUTE).await;
        let due = rig.due("n1").await;
        let held = &due[0].deliveries[0];
        assert_eq!((held.attempts, held.create_time), (attempts, created));
        assert_eq!(held.event.position, position);
        assert_eq!((due[0].takes, due[0].previous.as_ref()), (1, None));
        rig.settle_all("n1", &due, &[(1, RETRY)]).await;
        assert_eq!(rig.delivery(key(position, 1)).await.attempts, attempts + 1);
    }
}

/// A delivery that was put back is due at once, and none of its attempts is used up.
pub async fn waiting_costs_no_attempt(rig: &mut Rig) {
    let full = Transition::Waiting(PendingReason::LaneFull);
    let position = rig.deliver(event(), &[(1, full)]).await;
    for _ in 0..10 {
        let record = rig.delivery(key(position, 1)).await;
        assert_eq!((record.state, record.attempts), (DeliveryState::Pending, 0));
        assert_eq!(record.pending_reason, Some(PendingReason::LaneFull));
        let due = rig.due("n1").await;
        assert_eq!(due[0].deliveries[0].attempts, 0);
        rig.settle_all("n1", &due, &[(1, full)]).await;
    }
}

/// Whoever asks for due work learns when to ask again.
pub async fn the_next_due_moment_is_told(rig: &mut Rig) {
    for due in rig.ask("n1", &everything()).await {
        assert!(due.batch.is_none() && !due.more && due.next.is_none(), "{due:?}");
    }
    let position = rig.deliver(event(), &[(1, RETRY), (2, Transition::Retry(2 * MINUTE))]).await;
    let next = |dues: Vec<crate::work::Due>| dues.into_iter().filter_map(|due| due.next).min();
    let first = next(rig.ask("n1", &everything()).await).expect("a moment");
    assert!(first <= MINUTE && first > MINUTE / 2, "{first:?}");
    rig.advance(MINUTE).await;
    assert_eq!(rig.due_keys("n1").await, BTreeSet::from([key(position, 1)]));
    let second = next(rig.ask("n1", &everything()).await).expect("a moment");
    assert!(second <= MINUTE && second > MINUTE / 2, "{second:?}");
}

/// However much is due, a node gets what it wants, and learns that there is more.
pub async fn due_hands_out_no_more_than_wanted(rig: &mut Rig) {
    let expected = rig.backlog(&[1, 2, 3], 10).await;
    let request = DueRequest { want: 7, ..everything() };
    let mut batches = Vec::new();
    loop {
        rig.advance(SECOND).await;
        let answers = rig.ask("n1", &request).await;
        let found: Vec<_> = answers.iter().filter_map(|due| due.batch.clone()).collect();
        assert!(found.iter().all(|batch| batch.len() <= 7));
        assert!(found.iter().all(|batch| batch.len() == batch.deliveries.len()));
        if found.is_empty() {
            break;
        }
        batches.extend(found);
        let left = keys(&batches).len() < expected.len();
        let soon = |due: &crate::work::Due| due.more || due.next.is_some_and(|next| next < SECOND);
        assert_eq!(answers.iter().any(soon), left, "whether there is more is told");
    }
    assert_eq!(keys(&batches), expected);
}

/// What one node was handed is not there for another.
pub async fn a_due_delivery_is_handed_out_once(rig: &mut Rig) {
    let expected = rig.backlog(&[1], 5).await;
    let first = rig.due("n1").await;
    assert_eq!(keys(&first), expected);
    assert!(rig.due("n2").await.is_empty());
    assert!(rig.take_over("n2").await.is_empty());
    rig.settle_all("n1", &first, &[(1, Transition::Succeeded)]).await;
    rig.lapse().await;
    assert!(rig.due("n2").await.is_empty());
}

/// Many nodes that ask at once share the work.
pub async fn due_claimants_never_share_a_delivery(rig: &mut Rig) {
    let expected = rig.backlog(&[1, 2, 3, 4], 50).await;
    let mut nodes = tokio::task::JoinSet::new();
    for i in 0..8 {
        let (work, partitions) = (rig.store.work.clone(), rig.partitions());
        nodes.spawn(async move {
            let (by, mut batches) = (claim(&format!("n{i}")), Vec::new());
            for partition in partitions {
                let request = DueRequest { want: 9, ..everything() };
                loop {
                    let due = work.due(partition, &by, request.clone()).await.expect("due");
                    let Some(batch) = due.batch else { break };
                    batches.push(batch);
                }
            }
            batches
        });
    }
    let mut batches = nodes.join_all().await.concat();
    batches.extend(rig.due("n0").await);
    assert_eq!(keys(&batches), expected);
}

/// An event that cannot be matched yet comes back, as an event, after its wait.
pub async fn a_postponed_event_comes_back_as_an_event(rig: &mut Rig) {
    let batch = rig.take_new("n1").await;
    let event = &batch.events[0].event;
    rig.settle(Results::of("n1", &batch).postponed(&batch.events[0], MINUTE)).await;
    let waiting = Books { accepted: 1, waiting: 1, ..Books::default() };
    assert_eq!(rig.books().await, waiting);
    assert_eq!(rig.extend(&[batch.token]).await, [batch.token], "the batch let it go");
    assert!(rig.due("n1").await.is_empty());
    rig.advance(MINUTE).await;

    let due = rig.due("n2").await;
    assert_eq!(due.len(), 1);
    assert_eq!((due[0].takes, due[0].deliveries.len()), (1, 0));
    assert_eq!(&due[0].events[0].event, event);
    assert_eq!(due[0].events[0].cursor, None);
    assert_eq!(rig.books().await, waiting);
    rig.settle(Results::all("n2", &due[0], &[(1, Transition::Succeeded)])).await;
    assert!(rig.due("n1").await.is_empty());
    let books = Books { accepted: 1, matched: 1, created: 1, succeeded: 1, ..Books::default() };
    assert_eq!(rig.books().await, books);
}

/// Waiting for a revision may take many rounds, and a crash in between.
pub async fn a_postponed_event_can_be_postponed_again(rig: &mut Rig) {
    let position = rig.accept_one(event()).await;
    let mut batch = rig.take("n1").await;
    for round in 0..5 {
        rig.settle(Results::of("n1", &batch).postponed(&batch.events[0], SECOND)).await;
        rig.check().await;
        rig.advance(SECOND).await;
        batch = rig.due("n1").await.remove(0);
        if round == 2 {
            rig.lapse().await;
            batch = rig.take_over("n1").await.remove(0);
        }
        assert_eq!(positions(std::slice::from_ref(&batch)), BTreeSet::from([position]));
    }
    rig.settle(Results::of("n1", &batch).unmatched(&batch.events[0])).await;
    let stage = rig.store.log.event(position).await.expect("a read").expect("the event").1;
    assert_eq!(stage, EventStage::Matched);
    assert_eq!(rig.books().await, Books { accepted: 1, unmatched: 1, ..Books::default() });
}

/// History may be trimmed; what is still to be done is not history, however old it is.
pub async fn what_waits_is_kept_however_long(rig: &mut Rig) {
    let month = 30 * 24 * 60 * MINUTE;
    let done = rig.deliver(event(), &[(1, Transition::Succeeded)]).await;
    let to = [(1, Transition::Succeeded), (2, Transition::Retry(month)), (3, PAUSED)];
    let waits = rig.deliver(event(), &to).await;
    let new = rig.accept_one(event()).await;
    for _ in 0..40 {
        rig.advance(month).await;
        rig.check().await;
        // Something goes on meanwhile.
        rig.store.operate.close_lanes(&[super::kit::close(9, MINUTE)]).await.expect("to close");
    }
    let due = rig.due("n1").await;
    assert_eq!(keys(&due), BTreeSet::from([key(waits, 2), key(waits, 3)]));
    assert_eq!(due[0].deliveries[0].event.data, event().data);
    assert_eq!(positions(&rig.take_all("n1").await), BTreeSet::from([new]));
    let all = Books {
        accepted: 3,
        matched: 2,
        waiting: 1,
        created: 4,
        succeeded: 2,
        pending: 2,
        ..Books::default()
    };
    assert_eq!(rig.books().await, all, "the books forget nothing");
    if let Some(record) = rig.find_delivery(key(done, 1)).await {
        assert_eq!(record.state, DeliveryState::Succeeded, "if it is still kept");
    }
}

/// The last attempt ends a delivery, and nothing of it is due for ever after.
pub async fn the_schedule_ends(rig: &mut Rig) {
    let position = rig.deliver(event(), &[(1, RETRY)]).await;
    rig.advance(MINUTE).await;
    let due = rig.due("n1").await;
    rig.settle_all("n1", &due, &[(1, EXHAUSTED)]).await;
    let record = rig.delivery(key(position, 1)).await;
    assert_eq!(record.state, DeliveryState::Failed);
    assert_eq!(record.end_reason, Some(EndReason::AttemptsExhausted));
    assert_eq!((record.attempts, record.next_attempt, record.node), (2, None, None));
    assert!(record.end_time.is_some_and(|end| end >= record.create_time));
    rig.advance(PAUSED_KEPT).await;
    assert!(rig.due("n1").await.is_empty());
    assert!(rig.take_over("n1").await.is_empty());
}
