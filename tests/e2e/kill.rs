//! The process is killed under load, five times, and started again on the same directory: no event
//! that was acknowledged is lost, and no more is repeated than was under way.
//!
//! The publisher gives ids and repeats what was not acknowledged; the receiver counts requests by
//! id. What may come twice after a kill is what had reached the receiver and was not yet settled in
//! the store; that is counted at each kill, by what the receiver has and what the API says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::load::{Publisher, Target, order};
use crate::harness::shop::{Shop, balanced};
use crate::harness::{Answer, Receiver, Standalone, eventually, poll};

const KILLS: usize = 5;
/// Publishers at once, and events in each of their calls.
const PUBLISHERS: usize = 4;
const BATCH: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_process_is_killed() {
    let events = std::env::var("PREGON_TEST_EVENTS").map_or(10_000, |text| {
        text.parse::<usize>().expect("PREGON_TEST_EVENTS is a number of events")
    });
    let mut pregon = Standalone::on_disk(&[]).await;
    let receiver = Receiver::counting(|_| Answer::Status(204)).await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    let target = Target::new(pregon.addr());
    let accepted = Arc::new(AtomicUsize::new(0));
    let mut publishers = tokio::task::JoinSet::new();
    for share in 0..PUBLISHERS {
        publishers.spawn(publish(share, events, target.clone(), Arc::clone(&accepted)));
    }

    let mut under_way = 0;
    for kill in 1..=KILLS {
        // Spread over the run, and always while requests are under way.
        let after = events * kill / (KILLS + 1);
        poll::within(patience(events), "publishing goes on", || async {
            let now = accepted.load(Ordering::Relaxed);
            if now >= after { Ok(()) } else { Err(now) }
        })
        .await;
        // Asked before the kill: what is settled between this and the kill only widens the count.
        let report = shop.grpc.report("tenants/acme").await;
        let settled = report["deliveries"]["succeeded"].as_str().unwrap().parse::<usize>().unwrap();
        pregon.kill().await;
        let received = receiver.distinct("/hook");
        let accepted = accepted.load(Ordering::Relaxed);
        println!("kill {kill}: {accepted} accepted, {received} received, {settled} settled before");
        under_way += received - settled;
        pregon.start_again().await;
        target.moved(pregon.addr());
        shop.grpc = pregon.grpcurl();
    }
    let mut repeats = 0;
    while let Some(done) = publishers.join_next().await {
        repeats += done.expect("a publisher gets everything accepted");
    }

    poll::within(patience(events), "every event is received", || async {
        let received = receiver.distinct("/hook");
        if received == events { Ok(()) } else { Err(received) }
    })
    .await;
    let report = shop.settled().await;
    balanced(&report).unwrap();
    assert_eq!(report["events"]["accepted"], events.to_string());
    assert_eq!(report["events"]["matched"], events.to_string());
    assert_eq!(report["deliveries"]["succeeded"], events.to_string());

    let seen = receiver.seen("/hook");
    for n in 0..events {
        assert!(seen.contains_key(&id(n)), "{} was accepted and never received", id(n));
    }
    let requests: usize = seen.values().map(|seen| seen.count as usize).sum();
    let twice = requests - events;
    println!(
        "{events} events, {KILLS} kills, {repeats} publishes repeated, {requests} requests: {twice} \
         repeats of {under_way} that were under way at the kills"
    );
    assert!(twice <= under_way, "{twice} repeated");
    let most = seen.values().map(|seen| seen.count as usize).max().unwrap_or(0);
    assert!(most <= 1 + KILLS, "one event came {most} times");
}

/// Publishes every n-th batch until all of it is accepted; how many calls were repeated.
async fn publish(share: usize, events: usize, target: Target, accepted: Arc<AtomicUsize>) -> usize {
    let mut publisher = Publisher::new(target);
    let mut repeats = 0;
    for start in (share * BATCH..events).step_by(PUBLISHERS * BATCH) {
        let numbers = start..(start + BATCH).min(events);
        let count = numbers.len();
        let orders = numbers.map(|n| order(id(n), format!(r#"{{"n":{n}}}"#))).collect();
        repeats += publisher.publish(orders).await;
        accepted.fetch_add(count, Ordering::Relaxed);
    }
    repeats
}

fn id(n: usize) -> String {
    format!("event-{n}")
}

/// The bound of all conditions, and more where more events were asked for.
fn patience(events: usize) -> Duration {
    poll::BOUND + Duration::from_millis(10) * u32::try_from(events).unwrap_or(u32::MAX)
}

/// A kill between calls, when nothing is under way, leaves nothing to repeat.
#[tokio::test]
async fn what_was_settled_is_not_repeated() {
    let mut pregon = Standalone::on_disk(&[]).await;
    let receiver = Receiver::counting(|_| Answer::Status(204)).await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    let mut publisher = Publisher::new(Target::new(pregon.addr()));
    publisher.publish((0..200).map(|n| order(id(n), "{}".into())).collect()).await;
    shop.settled().await;
    pregon.kill().await;
    pregon.start_again().await;
    shop.grpc = pregon.grpcurl();
    shop.publish("afterwards", "{}").await;
    eventually("the new event is received", || async {
        let seen = receiver.seen("/hook");
        if seen.contains_key("afterwards") { Ok(()) } else { Err(seen.len()) }
    })
    .await;
    let report = shop.settled().await;
    assert_eq!(report["events"]["accepted"], "201");
    assert!(receiver.seen("/hook").values().all(|seen| seen.count == 1));
}
