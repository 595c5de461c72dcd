//! SIGTERM, and who may use a directory.

use std::time::Duration;

use serde_json::json;

use crate::harness::load::{Publisher, order};
use crate::harness::process::Process;
use crate::harness::shop::Shop;
use crate::harness::{Answer, Receiver, Standalone, World, eventually};
use crate::on_both;

on_both!(a_drain_finishes_what_is_in_flight_and_repeats_nothing, a_drain_does_not_wait_for_ever,);

/// Events published before the server is asked to go.
const EVENTS: usize = 400;

async fn a_drain_finishes_what_is_in_flight_and_repeats_nothing<W: World>() {
    let mut pregon = W::on_disk(&[]).await;
    // Slow enough that attempts are under way whenever the signal comes.
    let receiver = Receiver::counting(|_| Answer::After(Duration::from_millis(400))).await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    shop.served().await;
    let mut publisher = Publisher::new(pregon.target());
    let orders = (0..EVENTS).map(|n| order(format!("e{n}"), format!("{n}"))).collect();
    publisher.publish(orders).await;
    eventually("attempts are under way", || async {
        let now = receiver.in_flight("/hook");
        if now >= 8 { Ok(()) } else { Err(now) }
    })
    .await;

    pregon.terminate().await;
    let status = pregon.exit(Duration::from_secs(60)).await;
    assert!(status.success(), "{status}: {}", pregon.output());
    let before = receiver.distinct("/hook");
    assert_eq!(receiver.in_flight("/hook"), 0, "nothing was cut off");
    assert!(before < EVENTS, "the signal came too late to show anything");

    // The rest was handed back: it goes out at once, and nothing goes out twice.
    pregon.start_again().await;
    shop.grpc = pregon.grpcurl();
    let report = shop.settled().await;
    assert_eq!(report["deliveries"]["succeeded"], EVENTS.to_string());
    let seen = receiver.seen("/hook");
    assert_eq!(seen.len(), EVENTS);
    let twice: Vec<_> = seen.iter().filter(|(_, seen)| seen.count > 1).collect();
    assert!(twice.is_empty(), "{before} before the signal; twice: {twice:?}");
    println!("{before} of {EVENTS} before the end of the drain, the rest after it, none twice");
}

async fn a_drain_does_not_wait_for_ever<W: World>() {
    let mut pregon = W::on_disk(&["--drain-limit", "1s"]).await;
    let receiver = Receiver::start(|request| match request.earlier {
        0 => Answer::Never,
        _ => Answer::Status(204),
    })
    .await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    shop.publish("e1", "{}").await;
    receiver.expect("/hook", 1).await;
    pregon.terminate().await;
    // The limit, and the time to say goodbye; far below the 15 s of the attempt.
    pregon.exit(Duration::from_secs(10)).await;
    pregon.start_again().await;
    shop.grpc = pregon.grpcurl();
    // The attempt that was cut off goes out again, under its own number.
    shop.delivery("e1", "erp", "SUCCEEDED").await;
    let [first, second] = receiver.requests("/hook").try_into().unwrap();
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
}

#[tokio::test]
async fn two_processes_cannot_share_a_directory() {
    let pregon = Standalone::on_disk(&[]).await;
    let dir = pregon.dir().display().to_string();
    let args = ["standalone", "--listen", "127.0.0.1:0", "--data-dir", &dir];
    let (status, output) = Process::run(&args, &[]).await;
    assert!(!status.success());
    assert!(output.contains(&dir), "it names the directory: {output}");
    let clear = ["in use", "another process", "locked"].iter().any(|word| output.contains(word));
    assert!(clear, "it says why: {output}");
    assert!(!output.contains("panicked"), "{output}");
    // The first one is none the worse.
    let shop = Shop::open(pregon.grpcurl()).await;
    shop.publish("e1", "{}").await;
    let name = json!({"name": "tenants/acme/events/e1"});
    shop.grpc.ok("DeliveryService/GetEvent", name).await;
}
