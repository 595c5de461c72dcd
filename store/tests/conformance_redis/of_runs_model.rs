//! Runs against a model: whatever happens to deliveries, in whatever order, the store says of each
//! what became of it, and counts what there is.

use std::collections::BTreeMap;
use std::time::Duration;

use pregon_core::id::{DeliveryKey, LaneNo};
use pregon_core::outcome::{DeliveryState, EndReason, PendingReason};
use pregon_store::Store;
use pregon_store::batch::Batch;
use pregon_store::log::DeliveryQuery;
use pregon_store::operate::{Cancelled, LaneEnd};
use pregon_store::redis::RedisOptions;
use pregon_store::settlement::{Settlement, Transition};

use crate::of_runs::{Results, WAITING, key};
use crate::queue::{LEASE, claim, in_order, publish, store};

/// Numbers by chance, the same for a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }

    fn one_in(&mut self, most: u64) -> bool {
        self.below(most) == 0
    }
}

/// What the model knows of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    state: DeliveryState,
    /// A batch has it.
    held: bool,
    /// It is to be cancelled at its settle.
    doomed: bool,
}

struct Model {
    store: Store,
    options: RedisOptions,
    chance: Chance,
    known: BTreeMap<DeliveryKey, Known>,
    batches: Vec<Batch>,
}

const LANES: [u64; 3] = [1, 2, 3];

impl Model {
    fn set(&mut self, key: DeliveryKey, state: DeliveryState, held: bool) {
        self.known.insert(key, Known { state, held, doomed: false });
    }

    /// Where a transition leads, with the mark of a cancel in mind.
    fn moved(&mut self, key: DeliveryKey, to: Transition) {
        let doomed = self.known.get(&key).is_some_and(|known| known.doomed);
        let held = to == Transition::Held;
        let state = match to {
            Transition::Succeeded => DeliveryState::Succeeded,
            _ if doomed && !held => DeliveryState::Cancelled,
            Transition::Failed(_) => DeliveryState::Failed,
            Transition::Cancelled(_) => DeliveryState::Cancelled,
            _ => DeliveryState::Pending,
        };
        self.known.insert(key, Known { state, held, doomed: doomed && held });
    }

    fn transition(&mut self) -> (Transition, bool) {
        let shown = !self.chance.one_in(6);
        let to = match self.chance.below(16) {
            0..4 => WAITING,
            4 => Transition::Waiting(PendingReason::Paused),
            5..10 => Transition::Succeeded,
            10 => Transition::Retry(Duration::from_secs(30)),
            11 => Transition::Failed(EndReason::AttemptsExhausted),
            12 => Transition::Later(Duration::from_secs(5), PendingReason::Suspect),
            13 => Transition::Cancelled(EndReason::ByCaller),
            _ => Transition::Held,
        };
        (to, shown)
    }

    async fn take(&mut self) {
        let count = 1 + self.chance.below(40);
        publish(&self.store, usize::try_from(count).expect("few")).await;
        let want = 1 + usize::try_from(self.chance.below(60)).expect("few");
        let taken = self.store.work.take(0, &claim("n1"), want, usize::MAX).await;
        let Some(batch) = taken.expect("a take") else { return };
        if self.chance.one_in(4) {
            self.batches.push(batch); // its end comes, or its lease's
            return;
        }
        // All at once, or in two parts; most of them only wait.
        let cut = if self.chance.one_in(3) { batch.events.len() / 2 } else { batch.events.len() };
        let plain = self.chance.one_in(2);
        for part in [&batch.events[..cut], &batch.events[cut..]] {
            if part.is_empty() {
                continue;
            }
            let mut results = Results::of(&batch);
            results.age = Duration::from_millis(self.chance.below(2_000));
            for open in part {
                let mut to = Vec::new();
                for lane in LANES {
                    if self.chance.one_in(3) {
                        continue;
                    }
                    let at = key(open.event.position, lane);
                    let (mut way, _) = self.transition();
                    if plain {
                        way = if lane == 1 { Transition::Succeeded } else { WAITING };
                    }
                    to.push((lane, way));
                    self.moved(at, way);
                }
                results = results.event(open, &to);
            }
            let again = results.settlement();
            self.settle(again).await;
        }
        // What it holds of its events is settled when its lease is over.
    }

    async fn settle(&mut self, settlement: Settlement) {
        let settled = self.store.work.settle(settlement.clone()).await.expect("a settle");
        assert_eq!(settled.lost, [], "no lease was lost");
        if self.chance.one_in(10) {
            self.store.work.settle(settlement).await.expect("a repeated settle");
        }
    }

    async fn due(&mut self) {
        let mut request = pregon_store::work::DueRequest {
            want: 1 + usize::try_from(self.chance.below(100)).expect("few"),
            default_slots: 1 + u32::try_from(self.chance.below(60)).expect("few"),
            ..Default::default()
        };
        request.pull.extend(LANES.map(LaneNo));
        let due = self.store.work.due(0, &claim("n1"), request).await.expect("what is due");
        let Some(batch) = due.batch else { return };
        for held in &batch.deliveries {
            let known = self.known[&held.key];
            assert!(known.state == DeliveryState::Pending && !known.held, "{held:?} {known:?}");
            let accepted = held.event.accept_time();
            assert!(held.create_time >= accepted.minus(Duration::from_secs(3)), "{held:?}");
            self.set(held.key, DeliveryState::Pending, true);
        }
        if self.chance.one_in(5) {
            let tokens = [batch.token];
            if self.chance.one_in(2) {
                self.store.work.release(&tokens).await.expect("a release");
            }
            return; // its lease ends
        }
        self.batches.push(batch);
    }

    async fn finish_one(&mut self) {
        if self.batches.is_empty() {
            return;
        }
        let i = usize::try_from(self.chance.below(self.batches.len() as u64)).expect("few");
        let batch = self.batches.swap_remove(i);
        let uniform = self.chance.one_in(3).then(|| self.transition());
        let mut results = Results::of(&batch);
        for open in &batch.events {
            let (to, _) = self.transition();
            results = results.event(open, &[(1, to), (2, WAITING)]);
            self.moved(key(open.event.position, 1), to);
            self.moved(key(open.event.position, 2), WAITING);
        }
        let mut rest = Results::of(&batch);
        let mut some = false;
        for held in &batch.deliveries {
            let (to, shown) = uniform.unwrap_or_else(|| self.transition());
            if self.chance.one_in(8) {
                // In a settlement of its own.
                some = true;
                rest = rest.delivery(held, to, shown);
            } else {
                results = results.delivery(held, to, shown);
            }
            self.moved(held.key, to);
        }
        self.settle(results.settlement()).await;
        if some {
            let rest = rest.settlement();
            self.store.work.settle(rest).await.expect("a settle");
        }
    }

    /// Leases end, and what they had is taken over and put back, or settled in parts.
    async fn lapse(&mut self) {
        self.options.ahead.advance(LEASE + Duration::from_secs(1));
        self.batches.clear();
        loop {
            let taken = self.store.work.take_over(0, &claim("n2"), 4, 4).await;
            let (batches, _) = taken.expect("a takeover");
            if batches.is_empty() {
                return;
            }
            for batch in &batches {
                for held in &batch.deliveries {
                    let known = self.known[&held.key];
                    assert!(known.state == DeliveryState::Pending && known.held, "{held:?}");
                }
            }
            self.batches.extend(batches);
            if self.chance.one_in(3) {
                // Suspects, in the end: they are halved.
                self.options.ahead.advance(LEASE + Duration::from_secs(1));
                self.batches.clear();
            } else {
                while !self.batches.is_empty() {
                    self.finish_one().await;
                }
            }
        }
    }

    async fn cancel(&mut self) {
        let Some(i) = (self.known.len() as u64).checked_sub(1) else { return };
        let i = usize::try_from(self.chance.below(i + 1)).expect("few");
        let (at, known) = self.known.iter().nth(i).map(|(at, known)| (*at, *known)).expect("one");
        let done = self.store.operate.cancel(at, EndReason::ByCaller).await.expect("a cancel");
        match (known.state, known.held) {
            (DeliveryState::Pending, false) => {
                assert_eq!(done, Cancelled::Done, "{at}");
                self.set(at, DeliveryState::Cancelled, false);
            }
            (DeliveryState::Pending, true) => {
                assert_eq!(done, Cancelled::InFlight, "{at}");
                self.known.insert(at, Known { doomed: true, ..known });
            }
            (state, _) => assert_eq!(done, Cancelled::Ended(state), "{at}"),
        }
    }

    async fn end_lane(&mut self) {
        let lane = LANES[usize::try_from(self.chance.below(3)).expect("few")];
        let failed = self.chance.one_in(2);
        let (state, reason) = match failed {
            true => (DeliveryState::Failed, EndReason::Expired),
            false => (DeliveryState::Cancelled, EndReason::SubscriptionDisabled),
        };
        let now = self.store.operate.now().await.expect("the time");
        let back = Duration::from_secs(self.chance.below(60));
        let end = LaneEnd {
            lane: LaneNo(lane),
            state,
            reason,
            before: self.chance.one_in(2).then(|| now.minus(back)),
            limit: 1 + usize::try_from(self.chance.below(120)).expect("few"),
        };
        let waiting = |known: &BTreeMap<DeliveryKey, Known>| -> Vec<DeliveryKey> {
            let own = known.iter().filter(|(at, it)| {
                at.lane.0 == lane && it.state == DeliveryState::Pending && !it.held
            });
            own.map(|(at, _)| *at).collect()
        };
        let all = waiting(&self.known);
        let ended = self.store.operate.end_lane(end.clone()).await.expect("an end");
        assert!(ended <= end.limit);
        let mut found = 0;
        for at in all {
            let record = self.store.log.delivery(at).await.expect("a read").expect("a delivery");
            if record.state != DeliveryState::Pending {
                assert_eq!((record.state, record.end_reason), (state, Some(reason)));
                assert!(end.before.is_none_or(|before| record.create_time < before), "{at}");
                self.set(at, state, false);
                found += 1;
            } else if end.before.is_none_or(|before| record.create_time < before) {
                assert_eq!(ended, end.limit, "{at} was to end: {record:?}");
            }
        }
        assert_eq!(found, ended);
    }

    async fn check(&self) {
        let books = self.store.log.books(None).await.expect("the books");
        let of = |state| self.known.values().filter(|known| known.state == state).count() as u64;
        assert_eq!(books.pending, of(DeliveryState::Pending), "{books:?}");
        assert_eq!(books.succeeded, of(DeliveryState::Succeeded), "{books:?}");
        assert_eq!(books.failed, of(DeliveryState::Failed), "{books:?}");
        assert_eq!(books.cancelled, of(DeliveryState::Cancelled), "{books:?}");
        assert!(books.balance(), "{books:?}");
        let backlog = self.store.backlog.backlog().await.expect("the backlog");
        assert_eq!(backlog.pending(), books.pending);
        for lane in LANES {
            let report = self.store.lanes.lane(LaneNo(lane)).await.expect("a lane");
            let own = |held| {
                let own = self.known.iter().filter(|(at, it)| {
                    at.lane.0 == lane && it.state == DeliveryState::Pending && it.held == held
                });
                own.count() as u64
            };
            assert_eq!((report.waiting, report.held), (own(false), own(true)), "lane {lane}");
        }
    }

    async fn check_each(&self) {
        let mut listed = BTreeMap::new();
        for state in DeliveryState::ALL {
            for lane in LANES {
                let query = DeliveryQuery {
                    state: Some(*state),
                    lane: Some(LaneNo(lane)),
                    ..DeliveryQuery::default()
                };
                let mut from = None::<String>;
                loop {
                    let page = self.store.log.deliveries(&query, from.as_deref(), 50).await;
                    let page = page.expect("a page");
                    listed.extend(page.items.into_iter().map(|it| (it.key, it.state)));
                    from = page.next;
                    if from.is_none() {
                        break;
                    }
                }
            }
        }
        for (at, known) in &self.known {
            let record = self.store.log.delivery(*at).await.expect("a read");
            let state = record.map(|record| record.state);
            assert_eq!(state, Some(known.state), "{at} {known:?}");
            assert_eq!(listed.remove(at), Some(known.state), "{at} {known:?}");
        }
        assert_eq!(listed, BTreeMap::new(), "nobody knows of them");
    }
}

/// A while of this and that; the same for a seed.
async fn walk(seed: u64, steps: usize) {
    let options = RedisOptions { janitor: false, ..RedisOptions::new(&crate::fresh()) };
    let store = store(&options).await;
    let chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let (known, batches) = (BTreeMap::new(), Vec::new());
    let mut model = Model { store, options, chance, known, batches };
    for step in 0..steps {
        match model.chance.below(20) {
            0..5 => model.take().await,
            5..10 => model.due().await,
            10..14 => model.finish_one().await,
            14..17 => model.cancel().await,
            17 => model.end_lane().await,
            18 => model.lapse().await,
            _ => model.options.ahead.advance(Duration::from_millis(model.chance.below(20_000))),
        }
        model.check().await;
        if step % 20 == 19 {
            in_order(&model.store).await;
        }
    }
    model.check_each().await;
    in_order(&model.store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_knows_of_each_delivery_what_became_of_it() {
    for seed in 1..=5 {
        println!("seed {seed}");
        walk(seed, 120).await;
    }
}
