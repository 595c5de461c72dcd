//! The rules as data: one row for each transition, with and without a mark, and what holds of all.

use pregon_core::id::{Position, ReplayTag, TenantId};
use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn delivery(to: Transition, attempts: u32, replay: bool) -> DeliverySettle {
    let position = Position { ms: 1, partition: 0, n: 7 };
    let replay = replay.then(|| ReplayTag::from_bits([1; 5]));
    DeliverySettle {
        key: DeliveryKey { position, lane: LaneNo(3), replay },
        tenant: TenantId::parse("t").unwrap(),
        attempts,
        age: Duration::ZERO,
        to,
    }
}

fn logging(keys: &[DeliveryKey]) -> Logged {
    Logged(keys.iter().copied().collect())
}

/// State, why it waits or ended, due, and what is kept, in words.
fn words(to: Move) -> String {
    let why = match to.reason {
        Some(reason) => reason.word(),
        None if to.state == DeliveryState::Pending => to.pending.word(),
        None => "-",
    };
    let unlogged = if to.unlogged { " unlogged" } else { "" };
    format!("{} {why} {:?} {:?}{unlogged}", to.state.word(), to.due, to.kept)
}

#[test]
fn every_transition_has_its_row() {
    use Transition::{Cancelled, Failed, Held, Later, Retry, Succeeded, Waiting};
    let rows: &[(Transition, u32, bool, &str, &str)] = &[
        (Succeeded, 1, true, "SUCCEEDED - 0ns Log", "SUCCEEDED - 0ns Log"),
        (Succeeded, 1, false, "SUCCEEDED - 0ns End", "SUCCEEDED - 0ns End"),
        (
            Failed(EndReason::AttemptsExhausted),
            9,
            false,
            "FAILED ATTEMPTS_EXHAUSTED 0ns End",
            "CANCELLED BY_CALLER 0ns End unlogged",
        ),
        (
            Cancelled(EndReason::ByCaller),
            1,
            false,
            "CANCELLED BY_CALLER 0ns End",
            "CANCELLED BY_CALLER 0ns End unlogged",
        ),
        (
            Retry(SECOND),
            1,
            false,
            "PENDING RETRY_SCHEDULED 1s Lane",
            "CANCELLED BY_CALLER 0ns End unlogged",
        ),
        (
            Later(SECOND, PendingReason::Suspect),
            0,
            false,
            "PENDING SUSPECT 1s Lane",
            "CANCELLED BY_CALLER 0ns End unlogged",
        ),
        (
            Waiting(PendingReason::LaneFull),
            0,
            false,
            "PENDING LANE_FULL 0ns Run",
            "CANCELLED BY_CALLER 0ns End unlogged",
        ),
        (
            Waiting(PendingReason::LaneFull),
            1,
            false,
            "PENDING LANE_FULL 0ns Lane",
            "CANCELLED BY_CALLER 0ns End unlogged",
        ),
        (Held, 0, false, "PENDING IN_FLIGHT 0ns Batch", "-"),
    ];
    let mut seen = HashSet::new();
    for (to, attempts, logged, plain, marked) in rows {
        let delivery = delivery(*to, *attempts, false);
        let logged = if *logged { logging(&[delivery.key]) } else { Logged::default() };
        let found = Move::of(&delivery, &logged);
        assert_eq!(words(found), *plain, "{to:?}");
        if found.leaves() {
            assert_eq!(words(found.if_marked(EndReason::ByCaller)), *marked, "{to:?}, marked");
        }
        seen.insert(std::mem::discriminant(to));
    }
    assert_eq!(seen.len(), 7, "a transition has no row");
}

/// A replay, and what was attempted, is never a bit: a run knows nothing of either.
#[test]
fn a_run_has_what_was_never_touched() {
    let waiting = Transition::Waiting(PendingReason::Queued);
    let kept =
        |attempts, replay| Move::of(&delivery(waiting, attempts, replay), &Logged::default()).kept;
    assert_eq!(kept(0, false), Kept::Run);
    assert_eq!((kept(0, true), kept(1, false)), (Kept::Lane, Kept::Lane));
    let mut of_event = delivery(waiting, 0, false);
    of_event.key.lane = LaneNo::EVENTS;
    assert_eq!(Move::of(&of_event, &Logged::default()).kept, Kept::Lane);
}

/// An event that is matched to nobody is unmatched, and only a body that nobody can read says by
/// itself whose it is.
#[test]
fn events_go_one_of_four_ways() {
    let some = vec![delivery(Transition::Succeeded, 1, false)];
    let of = |outcome: &EventOutcome| match EventMove::of(outcome) {
        EventMove::Unmatched { known } => format!("unmatched {known}"),
        EventMove::Matched(to) => format!("matched {}", to.len()),
        EventMove::Step(to, cursor, done) => format!("step {} {} {done}", to.len(), cursor.0),
        EventMove::PutOff(wait) => format!("put off {wait:?}"),
        EventMove::Schedule(at) => format!("at {}", at.millis()),
    };
    assert_eq!(of(&EventOutcome::Unmatched), "unmatched true");
    assert_eq!(of(&EventOutcome::Matched(Vec::new())), "unmatched true");
    assert_eq!(of(&EventOutcome::SetAside), "unmatched false");
    assert_eq!(of(&EventOutcome::Matched(some.clone())), "matched 1");
    let step = |deliveries| EventOutcome::FannedOut { deliveries, cursor: LaneNo(9), done: false };
    assert_eq!(of(&step(some)), "step 1 9 false");
    assert_eq!(of(&step(Vec::new())), "step 0 9 false");
    assert_eq!(of(&EventOutcome::Postponed(SECOND)), "put off 1s");
}

fn any_transition() -> impl Strategy<Value = Transition> {
    let pending = prop::sample::select(PendingReason::ALL.to_vec());
    let ended = prop::sample::select(EndReason::ALL.to_vec());
    let wait = (0u64..1 << 40).prop_map(Duration::from_millis);
    prop_oneof![
        Just(Transition::Succeeded),
        Just(Transition::Held),
        ended.clone().prop_map(Transition::Failed),
        ended.prop_map(Transition::Cancelled),
        wait.clone().prop_map(Transition::Retry),
        pending.clone().prop_map(Transition::Waiting),
        (wait, pending).prop_map(|(wait, reason)| Transition::Later(wait, reason)),
    ]
}

proptest! {
    /// Whatever is decided: what is pending is kept where somebody finds it again, an end has a
    /// reason unless it is a success, and only what waits has a time.
    #[test]
    fn moves_are_consistent(
        to in any_transition(),
        attempts in 0u32..20,
        replay: bool,
        logged: bool,
        mark: bool,
    ) {
        let delivery = delivery(to, attempts, replay);
        let logged = if logged { logging(&[delivery.key]) } else { Logged::default() };
        let mut found = Move::of(&delivery, &logged);
        let before = found;
        if mark && found.leaves() {
            found = found.if_marked(EndReason::ByCaller);
            prop_assert_eq!(found.unlogged, before.state != DeliveryState::Succeeded);
            prop_assert!(found.state != DeliveryState::Pending, "a mark ends it");
        } else {
            prop_assert!(!found.unlogged);
        }
        let pending = found.state == DeliveryState::Pending;
        let waits = matches!(found.kept, Kept::Run | Kept::Lane | Kept::Batch);
        prop_assert_eq!(pending, waits);
        let succeeded = found.state == DeliveryState::Succeeded;
        prop_assert_eq!(found.reason.is_some(), !pending && !succeeded);
        prop_assert!(found.due == Duration::ZERO || found.kept == Kept::Lane);
        prop_assert!(found.kept != Kept::Log || succeeded && logged.tells_of(&delivery.key));
        prop_assert!(found.kept != Kept::Run || attempts == 0 && !replay);
    }
}
