//! Rates, with time and the store as arguments: what nodes send, slot by slot.

use std::collections::VecDeque;

use pregon_core::rate::Rate;
use pregon_store::rate::{RateAsk, RateKey, RateLease, lease};

use super::*;

const MS: Duration = Duration::from_millis(1);

/// What the store has handed out, by key.
#[derive(Default)]
struct Slots(HashMap<RateKey, f64>);

impl Slots {
    fn hand_out(&mut self, asks: &[RateAsk], at: Duration) -> Vec<RateLease> {
        let now = 1e12 + at.as_secs_f64() * 1e6;
        let hand_out = |ask: &RateAsk| {
            let next = self.0.entry(ask.key.clone()).or_insert(0.0);
            let (lease, after) = lease(*next, now, ask);
            *next = after;
            lease
        };
        asks.iter().map(hand_out).collect()
    }
}

/// A call for slots: when its answer comes, what was asked and when, the answer.
type Call = (Instant, Vec<RateAsk>, Instant, Vec<RateLease>);

/// A node whose attempts take three milliseconds, and whose calls take two.
struct Node {
    rig: Rig,
    calls: VecDeque<Call>,
    flying: VecDeque<(Instant, Job)>,
    /// Calls that it made.
    asked: usize,
}

impl Node {
    fn new(rig: Rig) -> Self {
        Self { rig, calls: VecDeque::new(), flying: VecDeque::new(), asked: 0 }
    }

    /// A millisecond passes; answers with the lanes of what starts.
    fn step(&mut self, slots: &mut Slots, at: Duration) -> Vec<u64> {
        self.rig.pass(MS);
        let now = self.rig.now;
        while self.calls.front().is_some_and(|(back, ..)| *back <= now) {
            let (_, asks, asked, leases) = self.calls.pop_front().unwrap();
            self.rig.machine.on_leases(&asks, &leases, (asked, now));
            self.rig.machine.on_tick(now);
        }
        let asks = self.rig.machine.rate_asks(now);
        if !asks.is_empty() {
            self.asked += 1;
            let leases = slots.hand_out(&asks, at + MS);
            self.calls.push_back((now + 2 * MS, asks, now, leases));
        }
        while self.flying.front().is_some_and(|(ends, _)| *ends <= now) {
            let (_, job) = self.flying.pop_front().unwrap();
            self.rig.report(job, Outcome::Succeeded);
        }
        let started = self.rig.started();
        let lanes = started.iter().map(|job| job.key.lane.0).collect();
        self.flying.extend(started.into_iter().map(|job| (now + 3 * MS, job)));
        self.rig.settle();
        lanes
    }

    /// Takes as much as it has use for of what is stored for a lane; says how much that was.
    fn fetch(&mut self, lane: u64, stored: usize) -> usize {
        let request = self.rig.machine.due_request(0, self.rig.now);
        let slots = request.slots.get(&LaneNo(lane)).copied().unwrap_or(request.default_slots);
        let count = stored.min(slots as usize);
        let mut batch = self.rig.empty();
        for _ in 0..count {
            batch.deliveries.append(&mut self.rig.held(lane, 1).deliveries);
        }
        let now = self.rig.now;
        self.rig.machine.on_batch(batch, (now, now), WALL);
        count
    }
}

async fn limited(lanes: u64, rate: Rate) -> Rig {
    let mut rig = Rig::new(lanes).await;
    for lane in 1..=lanes {
        rig.change(lane, |subscription| subscription.rate_limit = Some(rate)).await;
    }
    rig
}

/// The most of them that lie within one second.
fn busiest(at: &[Duration]) -> usize {
    let within = |first: Duration| {
        at.iter().filter(|at| **at >= first && **at < first + Duration::from_secs(1)).count()
    };
    at.iter().map(|first| within(*first)).max().unwrap_or(0)
}

/// Nodes drain a backlog of one lane; when each request went out. One that goes down does so after
/// two seconds, and comes back with nothing a second later.
async fn drain(nodes: usize, mut stored: usize, rate: Rate, goes_down: bool) -> Vec<Duration> {
    let mut all = Vec::new();
    for _ in 0..nodes {
        all.push(Node::new(limited(1, rate).await));
    }
    let (mut slots, mut sent, mut ms) = (Slots::default(), Vec::new(), 0);
    while stored > 0 || all.iter().any(|node| node.rig.machine.claimed() > 0) {
        ms += 1;
        assert!(ms < 60_000, "{stored} are left");
        let at = MS * ms;
        if goes_down && ms == 2000 {
            // What it had is taken over.
            stored += all[0].rig.machine.claimed();
            all[0] = Node::new(limited(1, rate).await);
        }
        for (no, node) in all.iter_mut().enumerate() {
            if goes_down && no == 0 && (2000..3000).contains(&ms) {
                continue;
            }
            stored -= node.fetch(1, stored);
            sent.extend(node.step(&mut slots, at).iter().map(|_| at));
        }
    }
    sent
}

#[tokio::test]
async fn a_backlog_goes_out_at_its_rate_and_no_faster() {
    let rate = Rate::new(200.0, 0).unwrap();
    for nodes in [1, 2, 3] {
        let sent = drain(nodes, 2000, rate, false).await;
        assert_eq!(sent.len(), 2000);
        assert!(busiest(&sent) <= 210, "{} in a second, by {nodes} nodes", busiest(&sent));
        let took = sent.last().copied().unwrap();
        assert!(took <= Duration::from_millis(11_000), "{took:?} by {nodes} nodes; ideal is 10 s");
    }
}

#[tokio::test]
async fn a_node_that_dies_takes_slots_along_and_brings_none_back() {
    let rate = Rate::new(200.0, 0).unwrap();
    for nodes in [1, 2] {
        let sent = drain(nodes, 1500, rate, true).await;
        assert!(sent.len() >= 1500, "once at least");
        assert!(busiest(&sent) <= 210, "{} in a second, by {nodes} nodes", busiest(&sent));
    }
}

#[tokio::test]
async fn a_slow_rate_goes_out_one_by_one() {
    let sent = drain(1, 12, Rate::new(4.0, 1).unwrap(), false).await;
    for pair in sent.windows(2) {
        let apart = pair[1] - pair[0];
        assert!(
            (Duration::from_millis(240)..Duration::from_millis(270)).contains(&apart),
            "{apart:?}"
        );
    }
}

#[tokio::test]
async fn what_waits_for_a_rate_is_fetched_as_it_goes_out() {
    let mut node = Node::new(limited(1, Rate::new(10.0, 0).unwrap()).await);
    let mut slots = Slots::default();
    node.step(&mut slots, MS);
    let mut most = node.fetch(1, usize::MAX); // it is not known to be limited until it is met
    assert!(most <= 8);
    for ms in 2..3000 {
        node.step(&mut slots, MS * ms);
        node.fetch(1, usize::MAX);
        most = most.max(node.rig.machine.claimed());
        if ms > 1000 {
            assert!(node.rig.machine.claimed() <= 7, "{}", node.rig.machine.claimed());
        }
    }
    assert!(most <= 16, "{most}");
    assert!(node.asked < 120, "{} calls in three seconds", node.asked);
}

#[tokio::test]
async fn what_finds_no_place_waits_in_the_store_for_its_rate() {
    let mut rig = limited(1, Rate::new(1.0, 0).unwrap()).await;
    let batch = rig.batch(50);
    assert!(rig.take(batch).is_empty(), "no slot is here yet");
    let moves = rig.settle_all();
    assert_eq!(moves.len(), 40, "ten seconds' worth waits in memory");
    assert!(moves.iter().all(|to| *to == Transition::Waiting(PendingReason::RateLimited)));
    assert_eq!(rig.machine.lanes.ahead(), 0, "nobody waits for this node");
    assert_eq!(rig.machine.rated(), 1);
    let flow = rig.machine.lanes.get(LaneNo(1)).unwrap();
    assert!(flow.stored_in(0), "the store is asked for them");
}

#[tokio::test]
async fn lanes_of_one_tenant_take_turns() {
    let mut rig = Rig::new(5).await;
    let mut tenant = tenant("t");
    tenant.limits.attempts_per_second = 100;
    let revision = rig.store.write(&[Resource::Tenant(tenant)]);
    rig.serve(revision).await;
    let (mut node, mut slots) = (Node::new(rig), Slots::default());
    let batch = node.rig.batch(200);
    let now = node.rig.now;
    node.rig.machine.on_batch(batch, (now, now), WALL);
    let mut counts = [0usize; 5];
    let mut sent = Vec::new();
    for ms in 1..=3000 {
        for lane in node.step(&mut slots, MS * ms) {
            counts[usize::try_from(lane).unwrap() - 1] += 1;
            sent.push(MS * ms);
        }
    }
    assert!(
        sent.len() > 280 && busiest(&sent) <= 105,
        "{} of which {}",
        sent.len(),
        busiest(&sent)
    );
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(most - least <= 2, "{counts:?}");
}

#[tokio::test]
async fn a_host_has_one_rate_whoever_sends_to_it() {
    let hosts = HostRates::new(vec!["t.example:443=50".parse().unwrap()]);
    let mut rig = Rig::new(3).await;
    rig.machine.rates = Rates::new(Arc::new(hosts));
    rig.change(3, |it| it.url = "https://other.example/hook".to_owned()).await;
    let (mut node, mut slots) = (Node::new(rig), Slots::default());
    let batch = node.rig.batch(100);
    let now = node.rig.now;
    node.rig.machine.on_batch(batch, (now, now), WALL);
    let (mut held, mut free) = (Vec::new(), 0);
    for ms in 1..=2000 {
        for lane in node.step(&mut slots, MS * ms) {
            if lane == 3 { free += 1 } else { held.push(MS * ms) }
        }
    }
    assert_eq!(free, 100);
    assert!((90..=106).contains(&held.len()) && busiest(&held) <= 53, "{}", held.len());
}

#[tokio::test]
async fn lanes_under_two_rates_go_at_the_slower_one() {
    let hosts = HostRates::new(vec!["t.example:443=1000".parse().unwrap()]);
    let mut rig = Rig::new(2).await;
    rig.machine.rates = Rates::new(Arc::new(hosts));
    let mut tenant = tenant("t");
    tenant.limits.attempts_per_second = 20;
    let revision = rig.store.write(&[Resource::Tenant(tenant)]);
    rig.serve(revision).await;
    let (mut node, mut slots) = (Node::new(rig), Slots::default());
    let batch = node.rig.batch(50);
    let now = node.rig.now;
    node.rig.machine.on_batch(batch, (now, now), WALL);
    let mut sent = Vec::new();
    for ms in 1..=2000 {
        sent.extend(node.step(&mut slots, MS * ms).iter().map(|_| MS * ms));
    }
    assert!((35..=44).contains(&sent.len()) && busiest(&sent) <= 22, "{}", sent.len());
}

#[tokio::test]
async fn a_test_send_waits_for_nobody_and_counts() {
    let rate = Rate::new(20.0, 0).unwrap();
    let mut counts = [0, 0];
    for (tests, count) in [0, 10].into_iter().zip(&mut counts) {
        let (mut node, mut slots) = (Node::new(limited(1, rate).await), Slots::default());
        for ms in 1..=2000 {
            if ms % 150 == 0 && ms / 150 <= tests {
                let now = node.rig.now;
                node.rig.machine.on_test(LaneNo(1), now);
            }
            node.fetch(1, usize::MAX);
            *count += node.step(&mut slots, MS * ms).len();
        }
    }
    assert!((8..=12).contains(&(counts[0] - counts[1])), "{counts:?}");
}

#[tokio::test]
async fn another_rate_holds_from_then_on() {
    let slow = Rate::new(0.2, 0).unwrap();
    let (mut node, mut slots) = (Node::new(limited(1, slow).await), Slots::default());
    let batch = node.rig.batch(1);
    let now = node.rig.now;
    node.rig.machine.on_batch(batch, (now, now), WALL);
    let batch = node.rig.batch(1);
    node.rig.machine.on_batch(batch, (now, now), WALL);
    let first: usize = (1..=100).map(|ms| node.step(&mut slots, MS * ms).len()).sum();
    assert_eq!((first, node.rig.machine.rated()), (1, 1));
    node.rig.change(1, |it| it.rate_limit = Rate::new(100.0, 0)).await;
    let next: usize = (101..=500).map(|ms| node.step(&mut slots, MS * ms).len()).sum();
    assert_eq!(next, 1, "it does not wait for what the lower rate would have had it wait for");
    let batch = node.rig.batch(1);
    let now = node.rig.now;
    node.rig.machine.on_batch(batch, (now, now), WALL);
    node.rig.change(1, |it| it.rate_limit = None).await;
    assert_eq!(node.step(&mut slots, MS * 501).len(), 1, "and for nothing without one");
    assert_eq!(node.rig.machine.rated(), 0);
}

#[tokio::test]
async fn who_has_no_rate_asks_for_nothing() {
    let (mut node, mut slots) = (Node::new(Rig::new(2).await), Slots::default());
    let batch = node.rig.batch(50);
    let now = node.rig.now;
    node.rig.machine.on_batch(batch, (now, now), WALL);
    (1..=500).for_each(|ms| drop(node.step(&mut slots, MS * ms)));
    assert_eq!((node.asked, node.rig.machine.next_rate_ask()), (0, None));
}
