//! A process that dies time and again under load, as one does that is short of memory: nobody's event
//! is given up for it, and every receiver that is well gets everything.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::harness::load::{Publisher, id, order};
use crate::harness::poll::within;
use crate::harness::{Answer, Receiver, Shop, World};
use crate::on_both;

on_both!(multi_thread: ten_kills_in_a_row_fail_nothing);

const KILLS: usize = 10;
/// Events published at once, and how often: 300 a second.
const STEP: usize = 30;
const EVERY: Duration = Duration::from_millis(100);
/// Events accepted between two kills: about a second's.
const BETWEEN: usize = 250;

async fn ten_kills_in_a_row_fail_nothing<W: World>() {
    let mut pregon = W::on_disk(&[]).await;
    let receiver = Receiver::counting(|_| Answer::After(Duration::from_millis(20))).await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    shop.served().await;
    let target = pregon.target();
    let events = (KILLS + 1) * BETWEEN;
    let accepted = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (count, mut publisher) = (accepted.clone(), Publisher::new(target.clone()));
    let load = tokio::spawn(async move {
        let mut pace = interval(EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
        for start in (0..events).step_by(STEP) {
            pace.tick().await;
            let numbers = start..(start + STEP).min(events);
            let done = numbers.end;
            publisher.publish(numbers.map(|n| order(id(n), "{}".into())).collect()).await;
            count.store(done, std::sync::atomic::Ordering::Relaxed);
        }
    });
    for kill in 1..=KILLS {
        within(Duration::from_secs(60), "publishing goes on", || async {
            let now = accepted.load(std::sync::atomic::Ordering::Relaxed);
            if now >= kill * BETWEEN { Ok(()) } else { Err(now) }
        })
        .await;
        pregon.kill().await;
        pregon.start_again().await;
        target.moved(pregon.events());
    }
    shop.grpc = pregon.grpcurl();
    load.await.unwrap();

    // What nodes had in hand when they died comes back when their leases end, half by half.
    within(Duration::from_secs(120), "every event is received", || async {
        let received = receiver.distinct("/hook");
        if received == events { Ok(()) } else { Err(received) }
    })
    .await;
    let report = shop.settled().await;
    let requests: usize = receiver.seen("/hook").values().map(|seen| seen.count as usize).sum();
    println!("{events} events, {KILLS} kills, {requests} requests");
    assert_eq!(report["deliveries"]["failed"], "0", "{report}");
    assert_eq!(report["deliveries"]["succeeded"].as_str(), Some(events.to_string().as_str()));
    assert!(!pregon.output().contains("held back"), "nobody was a suspect to the end");
}
