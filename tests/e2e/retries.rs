//! A retry comes when it is due, however idle or busy the store is, and what is due together goes out
//! at the receiver's pace.
//!
//! The bounds here are far above what is meant, and below what a missed wake-up costs; how late
//! attempts are the benchmark says.

use std::time::Duration;

use tokio::time::Instant;

use crate::harness::load::{Publisher, Target, order};
use crate::harness::poll::within;
use crate::harness::{Answer, Receiver, Shop, World};
use crate::on_both;

on_both!(
    a_retry_comes_when_it_is_due_on_an_idle_store,
    what_is_due_together_goes_out_at_the_pace_of_the_receiver,
    nothing_is_left_lying_after_a_burst,
);

/// The first delay of the default contract, give or take a tenth.
const FIRST_DELAY: Duration = Duration::from_secs(5);
/// A node that forgot what it stored looks at its lanes every ten seconds.
const WELL_BEFORE_A_LOOK: Duration = Duration::from_secs(3);

async fn a_retry_comes_when_it_is_due_on_an_idle_store<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::start(|request| match request.earlier {
        0 => Answer::Status(500),
        _ => Answer::Status(204),
    })
    .await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    shop.served().await;
    shop.publish("e1", "{}").await;
    shop.delivery("e1", "erp", "SUCCEEDED").await;
    let requests = receiver.requests("/hook");
    let [first, second] = requests.as_slice() else { panic!("{requests:?}") };
    let between = second.at - first.at;
    println!("the second attempt began {between:?} after the first");
    assert!(between >= FIRST_DELAY.mul_f64(0.9), "it came early: after {between:?}");
    assert!(between < FIRST_DELAY.mul_f64(1.1) + WELL_BEFORE_A_LOOK, "late: after {between:?}");
}

async fn what_is_due_together_goes_out_at_the_pace_of_the_receiver<W: World>() {
    /// Of five events one fails at first: where half of 64 fail, less is sent, and with one in three that
    /// happens by chance.
    const EVENTS: usize = 5000;
    const RETRIES: usize = EVENTS / 5;
    let pregon = W::in_memory().await;
    let receiver = Receiver::counting(|request| {
        let number = request.header("webhook-id").trim_start_matches('e').parse::<usize>();
        match request.earlier == 0 && number.is_ok_and(|number| number % 5 == 0) {
            true => Answer::Status(503),
            false => Answer::Status(204),
        }
    })
    .await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    shop.served().await;
    let mut publisher = Publisher::new(pregon.target());
    for thousand in 0..EVENTS / 1000 {
        let numbers = 1000 * thousand..1000 * (thousand + 1);
        publisher.publish(numbers.map(|n| order(format!("e{n}"), "{}".into())).collect()).await;
    }
    let begun = Instant::now();
    within(Duration::from_secs(20), "every retry has come", || async {
        let report = shop.grpc.report("tenants/acme").await;
        let succeeded = report["deliveries"]["succeeded"].as_str().map(str::to_owned);
        if succeeded == Some(EVENTS.to_string()) { Ok(()) } else { Err(report) }
    })
    .await;
    println!(
        "{RETRIES} retries of a delay of {FIRST_DELAY:?} were done after {:?}",
        begun.elapsed()
    );
    let requests: u32 = receiver.seen("/hook").values().map(|seen| seen.count).sum();
    assert_eq!(requests as usize, EVENTS + RETRIES);
}

/// Many callers and several subscriptions make lanes overflow for a moment. What overflowed goes out
/// as soon as there is room.
async fn nothing_is_left_lying_after_a_burst<W: World>() {
    const EVENTS: usize = 2000;
    const CALLERS: usize = 32;
    const LANES: usize = 10;
    let pregon = W::in_memory().await;
    let receiver = Receiver::counting(|_| Answer::Status(204)).await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    for lane in 0..LANES {
        shop.subscribe(&format!("s{lane}"), &receiver, &format!("/hook{lane}")).await;
    }
    shop.served().await;
    publish_one_by_one(&pregon.target(), EVENTS, CALLERS).await;
    let begun = Instant::now();
    within(Duration::from_secs(30), "everything is delivered", || async {
        let report = shop.grpc.report("tenants/acme").await;
        let succeeded = report["deliveries"]["succeeded"].as_str().map(str::to_owned);
        if succeeded == Some((EVENTS * LANES).to_string()) { Ok(()) } else { Err(report) }
    })
    .await;
    let took = begun.elapsed();
    println!("{EVENTS} events to {LANES} receivers: the last {took:?} after the last publish");
    // However long the machine needs for all of it, it never stands still with work left.
    let silence = receiver.longest_silence();
    assert!(silence < WELL_BEFORE_A_LOOK, "nothing came for {silence:?}, and then the rest");
}

async fn publish_one_by_one(target: &Target, events: usize, callers: usize) {
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..callers {
        let mut publisher = Publisher::new(target.clone());
        tasks.spawn(async move {
            for n in (caller..events).step_by(callers) {
                publisher.publish(vec![order(format!("e{n}"), "{}".into())]).await;
            }
        });
    }
    tasks.join_all().await;
}
