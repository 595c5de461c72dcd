//! Following what happens: nothing is missed, nothing comes out of order, and everything is bounded.

use std::time::Duration;

use pregon_core::id::DeliveryKey;
use pregon_core::outcome::{DeliveryState, EndReason, PendingReason};

use super::Rig;
use super::kit::{EXHAUSTED, HOUR, MINUTE, RETRY, Results, WAITING, event, key, lane, tag, tenant};
use super::rig::within;
use crate::Store;
use crate::operate::{LaneEnd, Replay};
use crate::settlement::Transition;
use crate::watch::{Place, STRETCH, Seen, Stretch, WatchQuery};

const SUCCEEDED: Transition = Transition::Succeeded;

async fn tip(store: &Store) -> Place {
    store.watch.tip().await.expect("the tip")
}

/// All that there is behind a place, and the place behind it.
async fn follow(store: &Store, query: &WatchQuery, from: Place) -> (Vec<Seen>, Place) {
    let tip = tip(store).await;
    let (mut place, mut all) = (from, Vec::new());
    for partition in 0..place.partitions() {
        while place.lags_in(partition, &tip) {
            let before = place.clone();
            let read = store.watch.read_on(query, &place, &tip, partition).await.expect("a read");
            let Stretch::Read { seen, place: next } = read else {
                panic!("a gap behind {place}");
            };
            let entries = before.behind(&next).expect("a later place");
            assert!((1..=3 * STRETCH as u64).contains(&entries), "{entries} entries in one read");
            all.extend(seen);
            place = next;
        }
    }
    assert_eq!(place, tip);
    (all, place)
}

fn everything() -> WatchQuery {
    WatchQuery { attempts: true, ..WatchQuery::default() }
}

/// What was seen in short: the delivery, and its state, or the number of the attempt.
fn shown(seen: &[Seen]) -> Vec<(DeliveryKey, Result<DeliveryState, u32>)> {
    let short = |seen: &Seen| match seen {
        Seen::Attempt(record) => Err(record.number),
        Seen::Delivery(record) => Ok(record.state),
    };
    seen.iter().map(|seen| (seen.key(), short(seen))).collect()
}

fn states(seen: &[Seen]) -> Vec<(DeliveryKey, DeliveryState, Option<EndReason>)> {
    seen.iter()
        .filter_map(|seen| match seen {
            Seen::Attempt(_) => None,
            Seen::Delivery(it) => Some((it.key, it.state, it.end_reason)),
        })
        .collect()
}

/// Each attempt is followed by where it led, and a delivery's own come in their order.
pub async fn what_happens_is_seen_in_order(rig: &mut Rig) {
    let before = tip(&rig.store).await;
    let position = rig.deliver(event(), &[(1, RETRY), (2, SUCCEEDED), (3, EXHAUSTED)]).await;
    rig.advance(HOUR).await;
    for batch in rig.due("n1").await {
        rig.settle(Results::all("n1", &batch, &[(1, SUCCEEDED)])).await;
    }
    let (seen, place) = follow(&rig.store, &everything(), before).await;
    let own = |number: u64| {
        let own = key(position, number);
        let own: Vec<_> = shown(&seen).into_iter().filter(|(key, _)| *key == own).collect();
        own.into_iter().map(|(_, what)| what).collect::<Vec<_>>()
    };
    let (pending, succeeded) = (Ok(DeliveryState::Pending), Ok(DeliveryState::Succeeded));
    assert_eq!(own(1), [Err(1), pending, Err(2), succeeded]);
    assert_eq!(own(2), [Err(1), succeeded]);
    assert_eq!(own(3), [Err(1), Ok(DeliveryState::Failed)]);
    assert_eq!(seen.len(), 8);
    let (nothing, same) = follow(&rig.store, &everything(), place.clone()).await;
    assert_eq!((nothing, same), (Vec::new(), place));
}

/// What is seen of a delivery is what is recorded of it, but for its event's data.
pub async fn what_is_seen_is_what_is_recorded(rig: &mut Rig) {
    let before = tip(&rig.store).await;
    let position = rig.deliver(event(), &[(1, RETRY), (2, SUCCEEDED), (3, EXHAUSTED)]).await;
    rig.store.operate.cancel(key(position, 1), EndReason::ByCaller).await.expect("a cancel");
    let (seen, _) = follow(&rig.store, &WatchQuery::default(), before).await;
    for number in [1, 2, 3] {
        let recorded = rig.delivery(key(position, number)).await;
        let last = seen.iter().rfind(|seen| seen.key() == recorded.key).expect("was seen");
        let Seen::Delivery(last) = last else { panic!("no attempts were asked for") };
        assert!(last.event.data.is_empty());
        let event = recorded.event.clone();
        let (end, create) = (recorded.end_time, recorded.create_time);
        let last = crate::log::DeliveryRecord { event, ..*last.clone() };
        // A node's clock tells when an attempt ended, and the store's when that was recorded.
        let last = crate::log::DeliveryRecord { end_time: end, ..last };
        assert_eq!(last.create_time, create, "{number}");
        assert_eq!(last, recorded, "{number}");
    }
}

/// A cancel, a lane that ends, a cancel in flight, a lane without room: all of them are seen, each
/// once, and what they overruled is not.
pub async fn ends_without_an_attempt_are_seen(rig: &mut Rig) {
    let (batch, held) = rig.in_flight("n1", 4).await;
    let waiting = rig.deliver(event(), &[(1, WAITING), (2, WAITING)]).await;
    let before = tip(&rig.store).await;
    let operate = rig.store.operate.clone();
    operate.cancel(key(waiting, 1), EndReason::ByCaller).await.expect("a cancel");
    let end = LaneEnd {
        lane: lane(2),
        state: DeliveryState::Cancelled,
        reason: EndReason::SubscriptionDeleted,
        before: None,
        limit: 10,
    };
    assert_eq!(operate.end_lane(end).await.expect("an end"), 1);
    operate.cancel(held.key, EndReason::ByCaller).await.expect("a cancel");
    rig.settle(Results::of("n1", &batch).delivery(&held, RETRY)).await;

    let (seen, _) = follow(&rig.store, &WatchQuery::default(), before).await;
    let mut ends = states(&seen);
    ends.sort_by_key(|(key, ..)| (key.lane, key.position));
    assert_eq!(
        ends,
        [
            (key(waiting, 1), DeliveryState::Cancelled, Some(EndReason::ByCaller)),
            (key(waiting, 2), DeliveryState::Cancelled, Some(EndReason::SubscriptionDeleted)),
            (held.key, DeliveryState::Cancelled, Some(EndReason::ByCaller)),
        ]
    );
}

/// Tenant, lane, states and attempts are as asked for.
pub async fn a_watcher_sees_what_it_asked_for(rig: &mut Rig) {
    let before = tip(&rig.store).await;
    let other = pregon_core::event::NewEvent { tenant: tenant("globex"), ..event() };
    let own = rig.deliver(event(), &[(1, RETRY), (2, EXHAUSTED)]).await;
    let theirs = rig.deliver(other, &[(3, SUCCEEDED)]).await;
    let see = async |query: WatchQuery| shown(&follow(&rig.store, &query, before.clone()).await.0);
    let (retried, failed) =
        ((key(own, 1), Ok(DeliveryState::Pending)), (key(own, 2), Ok(DeliveryState::Failed)));
    let any = WatchQuery::default;
    assert_eq!(see(WatchQuery { tenant: Some(tenant("acme")), ..any() }).await, [retried, failed]);
    let theirs = (key(theirs, 3), Ok(DeliveryState::Succeeded));
    assert_eq!(see(WatchQuery { tenant: Some(tenant("globex")), ..any() }).await, [theirs]);
    assert_eq!(see(WatchQuery { lane: Some(lane(2)), ..any() }).await, [failed]);
    let states = vec![DeliveryState::Failed, DeliveryState::Cancelled];
    assert_eq!(see(WatchQuery { states: states.clone(), ..any() }).await, [failed]);
    let attempts = WatchQuery { states, attempts: true, ..any() };
    assert_eq!(see(attempts).await, [(key(own, 2), Err(1)), failed]);
    assert_eq!(see(any()).await.len(), 3);
}

/// One read looks at so many entries at most, and reading on misses and repeats nothing.
pub async fn a_watcher_reads_in_bounded_steps(rig: &mut Rig) {
    let before = tip(&rig.store).await;
    let mut made = Vec::new();
    for round in 0..2 * STRETCH + 3 {
        let to = if round % 3 == 0 { EXHAUSTED } else { SUCCEEDED };
        made.push(key(rig.deliver(event(), &[(1, to)]).await, 1));
    }
    let (seen, _) = follow(&rig.store, &WatchQuery::default(), before).await;
    let mut keys: Vec<_> = seen.iter().map(Seen::key).collect();
    keys.sort_unstable();
    made.sort_unstable();
    assert_eq!(keys, made);
}

/// Who lost the lease moved nothing: the attempt shows, and its delivery does not move by it.
pub async fn a_late_result_moves_nothing(rig: &mut Rig) {
    let (zombie, held) = rig.in_flight("n1", 1).await;
    rig.lapse().await;
    let again = rig.take_over("n2").await;
    let before = tip(&rig.store).await;
    rig.settle_in_vain(Results::of("n1", &zombie).delivery(&held, EXHAUSTED)).await;
    for batch in &again {
        rig.settle(Results::all("n2", batch, &[(1, SUCCEEDED)])).await;
    }
    let (seen, _) = follow(&rig.store, &everything(), before).await;
    assert_eq!(states(&seen), [(held.key, DeliveryState::Succeeded, None)]);
    let late = seen.iter().filter(|it| matches!(it, Seen::Attempt(record) if record.late));
    assert_eq!(late.count(), 1);
}

/// A replay is a delivery of its own.
pub async fn a_replay_is_seen_under_its_own_name(rig: &mut Rig) {
    let position = rig.deliver(event(), &[(1, EXHAUSTED)]).await;
    let before = tip(&rig.store).await;
    let replay = Replay { key: key(position, 1), tag: tag(1), where_needed: false };
    rig.store.operate.replay(&[replay]).await.expect("a replay");
    for batch in rig.due("n1").await {
        rig.settle(Results::all("n1", &batch, &[(1, SUCCEEDED)])).await;
    }
    let (seen, _) = follow(&rig.store, &WatchQuery::default(), before).await;
    let replayed = DeliveryKey { replay: Some(tag(1)), ..key(position, 1) };
    assert_eq!(states(&seen), [(replayed, DeliveryState::Succeeded, None)]);
}

/// A retry says when the next attempt is due, and that it waits for that.
pub async fn a_retry_says_what_it_waits_for(rig: &mut Rig) {
    let before = tip(&rig.store).await;
    rig.deliver(event(), &[(1, RETRY)]).await;
    let (seen, _) = follow(&rig.store, &WatchQuery::default(), before).await;
    let [Seen::Delivery(record)] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!(record.pending_reason, Some(PendingReason::RetryScheduled));
    assert!(record.next_attempt.is_some() && record.end_time.is_none());
    assert_eq!(record.attempts, 1);
}

/// A place of another history, or one that the store has not reached, is a gap and no guess.
pub async fn a_place_of_another_history_is_a_gap(rig: &mut Rig) {
    let before = tip(&rig.store).await;
    rig.deliver(event(), &[(1, SUCCEEDED)]).await;
    let now = tip(&rig.store).await;
    let partition = (0..now.partitions()).find(|p| before.lags_in(*p, &now)).expect("it moved");
    let read = async |from: &Place, to: &Place| {
        let read = rig.store.watch.read_on(&everything(), from, to, partition).await;
        read.expect("a read")
    };
    assert_eq!(read(&now, &before).await, Stretch::Gap, "from ahead of the tip");
    let other = Place { epoch: before.epoch.wrapping_add(1), ..before.clone() };
    assert_eq!(read(&other, &now).await, Stretch::Gap, "another life");
    assert!(matches!(read(&before, &now).await, Stretch::Read { .. }));
}

/// Who waits is woken by what happens, and otherwise in time.
pub async fn a_watcher_is_woken(rig: &mut Rig) {
    let place = tip(&rig.store).await;
    within(rig.store.watch.wait_past(&place, Duration::from_millis(5))).await;
    let (watch, at) = (rig.store.watch.clone(), place.clone());
    let waiting = tokio::spawn(async move { watch.wait_past(&at, 10 * MINUTE).await });
    tokio::task::yield_now().await;
    rig.deliver(event(), &[(1, SUCCEEDED)]).await;
    within(waiting).await.expect("to be woken");
    assert_ne!(tip(&rig.store).await, place);
}

/// What another process settles is seen here.
pub async fn a_watch_crosses_processes(rig: &mut Rig) {
    let Some(other) = rig.second().await else { return };
    let before = tip(&other).await;
    let position = rig.deliver(event(), &[(1, SUCCEEDED)]).await;
    within(other.watch.wait_past(&before, 10 * MINUTE)).await;
    let (seen, _) = follow(&other, &WatchQuery::default(), before).await;
    assert_eq!(states(&seen), [(key(position, 1), DeliveryState::Succeeded, None)]);
}

/// A place outlives the process that it was read by.
pub async fn a_place_survives_a_restart(rig: &mut Rig) {
    let before = tip(&rig.store).await;
    let position = rig.deliver(event(), &[(1, SUCCEEDED)]).await;
    if !rig.reopen().await {
        return;
    }
    let (seen, _) = follow(&rig.store, &WatchQuery::default(), before).await;
    assert_eq!(states(&seen), [(key(position, 1), DeliveryState::Succeeded, None)]);
}
