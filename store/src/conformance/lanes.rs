//! Lanes: they take turns, hand out what their slots allow, and close.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use pregon_core::id::LaneNo;

use super::Rig;
use super::kit::{HOUR, MINUTE, RETRY, Results, close, event, everything, key, lane};
use super::rig::keys;
use crate::batch::Batch;
use crate::settlement::Transition;
use crate::work::{DueRequest, LANE_QUANTUM};

/// How many deliveries of each lane there are in batches.
fn by_lane<'a>(batches: impl IntoIterator<Item = &'a Batch>) -> BTreeMap<u64, usize> {
    let mut count = BTreeMap::new();
    for held in batches.into_iter().flat_map(|batch| &batch.deliveries) {
        *count.entry(held.key.lane.0).or_default() += 1;
    }
    count
}

/// Everything but these lanes, which are full.
fn full(lanes: &[u64]) -> DueRequest {
    DueRequest { slots: lanes.iter().map(|number| (lane(*number), 0)).collect(), ..everything() }
}

/// A call goes round the lanes with a quantum each, so that no lane's backlog is before another's.
pub async fn lanes_take_turns(rig: &mut Rig) {
    const BACKLOG: usize = 3 * LANE_QUANTUM;
    let expected = rig.backlog(&[1, 2, 3], BACKLOG).await;
    let mut batches = Vec::new();
    let one_round = DueRequest { want: 3 * LANE_QUANTUM, ..everything() };
    for _ in 0..3 {
        rig.advance(Duration::from_secs(1)).await;
        for due in rig.ask("n1", &one_round).await {
            let counts = by_lane(&due.batch);
            assert!(counts.values().all(|count| *count <= LANE_QUANTUM), "{counts:?}");
            let same: BTreeSet<_> = counts.values().collect();
            assert!(same.len() <= 1 && (counts.is_empty() || counts.len() == 3), "{counts:?}");
            batches.extend(due.batch);
        }
    }
    batches.extend(rig.due("n1").await);
    assert_eq!(keys(&batches), expected);

    // A node with few slots still sees all lanes in turn.
    rig.settle_all("n1", &batches, &[(1, Transition::Waiting(super::kit::PAUSED))]).await;
    let request = DueRequest { want: LANE_QUANTUM, ..everything() };
    for partition in rig.partitions() {
        let mut seen = BTreeSet::new();
        for _ in 0..3 {
            rig.advance(Duration::from_secs(1)).await;
            let by = super::kit::claim("n1");
            let due = rig.store.work.due(partition, &by, request.clone()).await.expect("due");
            seen.extend(by_lane(&due.batch).into_keys());
        }
        assert!(seen.is_empty() || seen == BTreeSet::from([1, 2, 3]), "{seen:?}");
    }
}

/// Where there is nobody else, a lane has turn after turn in the same call.
pub async fn a_lane_alone_fills_a_call(rig: &mut Rig) {
    let expected = rig.backlog(&[1], 3 * LANE_QUANTUM).await;
    rig.advance(Duration::from_secs(1)).await;
    let request = DueRequest { default_slots: 1000, ..everything() };
    let answers = rig.ask("n1", &request).await;
    assert!(answers.iter().all(|due| !due.more), "{answers:?}");
    let batches: Vec<_> = answers.into_iter().filter_map(|due| due.batch).collect();
    assert_eq!(keys(&batches), expected);
}

/// Beside a lane with a long backlog, another's only delivery goes out in the same call.
pub async fn a_small_lane_is_not_held_up_by_a_large_one(rig: &mut Rig) {
    rig.backlog(&[1], 10 * LANE_QUANTUM).await;
    let position = rig.deliver(event(), &[(2, super::kit::WAITING)]).await;
    rig.advance(Duration::from_secs(1)).await;
    let answers = rig.ask("n1", &everything()).await;
    let batches: Vec<_> = answers.into_iter().filter_map(|due| due.batch).collect();
    assert!(keys(&batches).contains(&key(position, 2)));
}

/// A lane hands out no more than the slots that are free for it.
pub async fn slots_bound_what_a_lane_hands_out(rig: &mut Rig) {
    rig.backlog(&[1, 2, 3], 10).await;
    let request = DueRequest {
        want: 100,
        slots: HashMap::from([(lane(1), 3), (lane(2), 1)]),
        default_slots: 5,
        pull: Vec::new(),
    };
    for due in rig.ask("n1", &request).await {
        let counts = by_lane(&due.batch);
        let bound = [(1, 3), (2, 1), (3, 5)];
        for (number, most) in bound {
            assert!(counts.get(&number).is_none_or(|count| *count <= most), "{counts:?}");
        }
        assert!(counts.is_empty() || counts.len() == 3, "{counts:?}");
    }
}

/// A lane without a free slot is passed over, and the others get what is theirs.
pub async fn a_full_lane_gives_nothing_and_holds_nobody_up(rig: &mut Rig) {
    let expected = rig.backlog(&[1, 2], 2 * LANE_QUANTUM).await;
    let batches = rig.due_of("n1", &full(&[1])).await;
    assert_eq!(by_lane(&batches), BTreeMap::from([(2, 2 * LANE_QUANTUM)]));
    for due in rig.ask("n1", &full(&[1])).await {
        assert!(due.batch.is_none() && !due.more, "a full lane is no work: {due:?}");
    }
    rig.settle_all("n1", &batches, &[(2, Transition::Succeeded)]).await;
    let left = u64::try_from(expected.len() / 2).expect("a small number");
    assert_eq!(rig.books().await.pending, left, "what was not handed out still waits");
}

/// When a slot comes free the node asks for that lane by name, and gets it at once.
pub async fn a_full_lane_is_pulled(rig: &mut Rig) {
    rig.backlog(&[1, 2], 5).await;
    for _ in 0..4 {
        rig.ask("n1", &full(&[1, 2])).await;
    }
    let request = DueRequest {
        slots: HashMap::from([(lane(1), 2), (lane(2), 0)]),
        pull: vec![lane(1), lane(77)],
        ..everything()
    };
    let answers = rig.ask("n1", &request).await;
    let pulled = by_lane(answers.iter().filter_map(|due| due.batch.as_ref()));
    assert_eq!(pulled.keys().copied().collect::<Vec<_>>(), [1], "a lane without work is nothing");
    let most = 2 * usize::from(rig.store.work.partitions());
    assert!(pulled[&1] >= 1 && pulled[&1] <= most, "{pulled:?}");
}

/// A lane that was put off comes up again without being asked for.
pub async fn a_full_lane_is_looked_at_again_by_itself(rig: &mut Rig) {
    let expected = rig.backlog(&[1], 5).await;
    for _ in 0..10 {
        rig.ask("n1", &full(&[1])).await;
        rig.advance(Duration::from_millis(500)).await;
    }
    for due in rig.ask("n1", &full(&[1])).await {
        let next = due.next;
        assert!(next.is_none_or(|next| next <= Duration::from_secs(5)), "put off for {next:?}");
    }
    rig.advance(Duration::from_secs(5)).await;
    assert_eq!(rig.due_keys("n2").await, expected);
}

/// While a lane is closed its deliveries wait, whoever asks and pulls; others go on.
pub async fn a_closed_lane_gives_nothing(rig: &mut Rig) {
    rig.backlog(&[1, 2], 5).await;
    rig.store.operate.close_lanes(&[close(1, HOUR)]).await.expect("to close");
    let pull = DueRequest { pull: vec![lane(1)], ..everything() };
    let batches = rig.due_of("n1", &pull).await;
    assert_eq!(by_lane(&batches), BTreeMap::from([(2, 5)]));
    rig.settle_all("n1", &batches, &[(2, Transition::Succeeded)]).await;
    for _ in 0..3 {
        rig.advance(HOUR / 4).await;
        assert!(rig.due_of("n2", &pull).await.is_empty());
        let next = rig.ask("n2", &pull).await.into_iter().filter_map(|due| due.next).min();
        assert!(next.is_none_or(|next| next > MINUTE), "there is nothing to do: {next:?}");
    }
    assert_eq!(rig.books().await.pending, 5);
}

/// Asks for due work for a while: a lane that was closed may hand out one delivery first.
async fn due_over_minutes(rig: &Rig) -> BTreeSet<pregon_core::id::DeliveryKey> {
    let mut all = BTreeSet::new();
    for _ in 0..20 {
        let batches = rig.due("n1").await;
        all.extend(keys(&batches));
        rig.settle_all("n1", &batches, &[(1, Transition::Succeeded)]).await;
        rig.advance(MINUTE).await;
    }
    all
}

/// When its time is over a lane hands out again, at first perhaps only to see how it goes.
pub async fn a_closed_lane_opens_in_its_time(rig: &mut Rig) {
    let expected = rig.backlog(&[1], 5).await;
    rig.store.operate.close_lanes(&[close(1, MINUTE)]).await.expect("to close");
    assert!(rig.due("n1").await.is_empty());
    rig.advance(MINUTE).await;
    let first = rig.due("n1").await;
    assert!(!first.is_empty(), "the time is over");
    rig.settle_all("n1", &first, &[(1, Transition::Succeeded)]).await;
    let mut all = keys(&first);
    all.extend(due_over_minutes(rig).await);
    assert_eq!(all, expected);
}

/// Opening does not wait for the time, and repeats do nothing.
pub async fn a_lane_is_opened_by_hand(rig: &mut Rig) {
    let expected = rig.backlog(&[1], 40).await;
    rig.store.operate.close_lanes(&[close(1, HOUR)]).await.expect("to close");
    assert!(rig.due("n1").await.is_empty());
    for _ in 0..2 {
        rig.store.operate.open_lanes(&[lane(1), lane(77)]).await.expect("to open");
    }
    assert_eq!(rig.due_keys("n1").await, expected);
}

/// A shorter closing neither shortens a longer one nor opens.
pub async fn closing_longer_wins(rig: &mut Rig) {
    rig.backlog(&[1, 2], 1).await;
    let both = [close(1, HOUR), close(2, MINUTE)];
    rig.store.operate.close_lanes(&both).await.expect("to close");
    let both = [close(1, MINUTE), close(2, HOUR)];
    rig.store.operate.close_lanes(&both).await.expect("to close");
    rig.advance(2 * MINUTE).await;
    let pull = DueRequest { pull: vec![lane(1), lane(2)], ..everything() };
    assert!(rig.due_of("n1", &pull).await.is_empty());
    rig.advance(HOUR).await;
    let lanes: BTreeSet<LaneNo> = rig.due_keys("n1").await.iter().map(|key| key.lane).collect();
    assert_eq!(lanes, BTreeSet::from([lane(1), lane(2)]));
}

/// A lane may be closed before anything is in it.
pub async fn an_empty_lane_can_be_closed(rig: &mut Rig) {
    rig.store.operate.close_lanes(&[close(1, MINUTE)]).await.expect("to close");
    let expected = rig.backlog(&[1], 3).await;
    assert!(rig.due("n1").await.is_empty());
    rig.advance(MINUTE).await;
    assert_eq!(due_over_minutes(rig).await, expected);
}

/// A receiver that asked to be left alone closes its lane in the step that settles the attempt.
pub async fn a_settle_closes_lanes(rig: &mut Rig) {
    rig.backlog(&[2], 3).await;
    let batch = rig.take_new("n1").await;
    let retry = [(1, Transition::Retry(Duration::from_secs(1)))];
    rig.settle(Results::all("n1", &batch, &retry).close(1, HOUR).close(2, HOUR)).await;
    rig.advance(MINUTE).await;
    assert!(rig.due("n1").await.is_empty());
    rig.store.operate.open_lanes(&[lane(1), lane(2)]).await.expect("to open");
    assert_eq!(rig.due_keys("n1").await.len(), 4);
}

/// A retry that falls due in a closed lane waits for it, and then is due.
pub async fn a_retry_into_a_closed_lane_waits(rig: &mut Rig) {
    let (batch, held) = rig.in_flight("n1", 1).await;
    rig.store.operate.close_lanes(&[close(1, HOUR)]).await.expect("to close");
    rig.settle(Results::of("n1", &batch).delivery(&held, RETRY)).await;
    rig.advance(2 * MINUTE).await;
    assert!(rig.due("n1").await.is_empty());
    assert_eq!(rig.delivery(held.key).await.attempts, 1);
    rig.advance(HOUR).await;
    assert_eq!(rig.due_keys("n1").await, BTreeSet::from([held.key]));
}
