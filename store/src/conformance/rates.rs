//! Rates that are kept over all that ask: slots are handed out once, in the order of time.
//!
//! The rates here are slow, a slot a minute, so that what a case itself takes does not matter.

use std::time::Duration;

use pregon_core::id::LaneNo;
use pregon_core::rate::Rate;

use super::Rig;
use super::kit::{HOUR, MINUTE, tenant};
use crate::Store;
use crate::rate::{ASKS_MAX, RateAsk, RateKey, RateLease};

/// One in 62.5 seconds.
const SLOT: Duration = Duration::from_millis(62_500);

fn slow(burst: u32) -> Rate {
    Rate::new(0.016, burst).expect("a rate")
}

fn ask(lane: u64, rate: Rate, want: u32) -> RateAsk {
    RateAsk { key: RateKey::Lane(LaneNo(lane)), rate, want }
}

async fn lease(store: &Store, asks: &[RateAsk]) -> Vec<RateLease> {
    store.rates.lease_rates(asks).await.expect("slots")
}

/// Asks again and again until there is nothing more; how many slots that were, and how long it is
/// no use to ask.
async fn all_of(store: &Store, ask: &RateAsk) -> (u32, Duration) {
    let mut all = 0;
    loop {
        let got = lease(store, std::slice::from_ref(ask)).await[0];
        all += got.slots;
        if got.slots == 0 {
            return (all, got.again);
        }
    }
}

/// After a pause the burst, and from then on a slot at a time.
pub async fn a_rate_gives_its_burst_and_then_its_pace(rig: &mut Rig) {
    rig.advance(HOUR).await;
    let ask = ask(1, slow(5), 100);
    let first = lease(&rig.store, std::slice::from_ref(&ask)).await[0];
    assert_eq!(first.slots, 3, "half of what is free: others may ask");
    assert!(first.first.unsigned_abs() > 4 * 62_000_000 && first.first < 0, "{first:?}");
    let (rest, again) = all_of(&rig.store, &ask).await;
    assert_eq!(rest, 2);
    assert!(again > SLOT / 2 && again <= SLOT, "{again:?}");
    rig.advance(SLOT).await;
    assert_eq!(all_of(&rig.store, &ask).await.0, 1);
    rig.advance(2 * SLOT).await;
    assert_eq!(lease(&rig.store, &[RateAsk { want: 1, ..ask.clone() }]).await[0].slots, 1);
    assert_eq!(all_of(&rig.store, &ask).await.0, 1);
}

/// Of lanes, hosts and tenants with the same name.
pub async fn rates_are_apart(rig: &mut Rig) {
    rig.advance(HOUR).await;
    let keys = [
        RateKey::Lane(LaneNo(1)),
        RateKey::Lane(LaneNo(11)),
        RateKey::Host("1".into()),
        RateKey::Host("1:443".into()),
        RateKey::Tenant(tenant("acme")),
        RateKey::Host("acme".into()),
    ];
    let asks = keys.map(|key| RateAsk { key, rate: slow(1), want: 1 });
    let first = lease(&rig.store, &asks).await;
    assert!(first.iter().all(|lease| lease.slots == 1), "{first:?}");
    let second = lease(&rig.store, &asks).await;
    assert!(second.iter().all(|lease| lease.slots == 0), "{second:?}");
}

/// However long nobody asked, there is no more than the burst.
pub async fn what_is_not_used_lapses(rig: &mut Rig) {
    rig.advance(HOUR).await;
    let ask = ask(1, slow(3), 100);
    for _ in 0..3 {
        assert_eq!(all_of(&rig.store, &ask).await.0, 3);
        rig.advance(HOUR).await;
    }
    rig.advance(24 * HOUR).await;
    assert_eq!(all_of(&rig.store, &ask).await.0, 3);
}

/// A rate that was raised does not wait for what the lower one would have had to.
pub async fn a_rate_that_changes_holds_from_then_on(rig: &mut Rig) {
    rig.advance(HOUR).await;
    let hourly = Rate::new(0.001, 1).expect("a rate");
    assert_eq!(all_of(&rig.store, &ask(1, hourly, 9)).await.0, 1);
    let (none, again) = all_of(&rig.store, &ask(1, hourly, 9)).await;
    assert!(none == 0 && again > 10 * MINUTE, "{again:?}");
    let (none, again) = all_of(&rig.store, &ask(1, slow(1), 9)).await;
    assert!(none == 0 && again < SLOT + Duration::from_secs(1), "{again:?}");
    rig.advance(SLOT + Duration::from_secs(1)).await;
    assert_eq!(all_of(&rig.store, &ask(1, slow(1), 9)).await.0, 1);
}

/// Answers are in the order of the asks, and there are not more than are looked at.
pub async fn many_rates_are_asked_for_at_once(rig: &mut Rig) {
    rig.advance(HOUR).await;
    let want = |lane: u64| u32::try_from(lane % 3).expect("a small number");
    let asks: Vec<_> = (1..=300).map(|lane| ask(lane, slow(9), want(lane))).collect();
    let answers = lease(&rig.store, &asks).await;
    assert_eq!(answers.len(), ASKS_MAX);
    for (ask, answer) in asks.iter().zip(&answers) {
        assert_eq!(answer.slots, ask.want, "{ask:?}");
    }
    assert!(lease(&rig.store, &[]).await.is_empty());
}

/// Neither at once nor for the time before.
pub async fn a_restart_gives_no_second_burst(rig: &mut Rig) {
    rig.advance(HOUR).await;
    let ask = ask(1, slow(5), 100);
    assert_eq!(all_of(&rig.store, &ask).await.0, 5);
    if !rig.reopen().await {
        return;
    }
    let (again, _) = all_of(&rig.store, &ask).await;
    assert!(again <= 1, "{again} of a rate that was used up");
    rig.advance(SLOT).await;
    assert!(all_of(&rig.store, &ask).await.0 <= 2);
}

/// What one was given the other is not.
pub async fn two_processes_share_a_rate(rig: &mut Rig) {
    let Some(other) = rig.second().await else { return };
    rig.advance(HOUR).await;
    let ask = ask(1, slow(8), 100);
    let ours = lease(&rig.store, std::slice::from_ref(&ask)).await[0];
    let theirs = lease(&other, std::slice::from_ref(&ask)).await[0];
    assert_eq!((ours.slots, theirs.slots), (4, 2), "each gets half of what is free");
    let apart = theirs.first - ours.first;
    let four = i64::try_from(4 * SLOT.as_micros()).expect("a small number");
    assert!((apart - four).abs() < 30_000_000, "theirs are behind ours: {apart}");
    assert_eq!(all_of(&rig.store, &ask).await.0 + all_of(&other, &ask).await.0, 2);
}
