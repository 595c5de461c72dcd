//! The process is killed under load, five times, and started again on the same directory: no event
//! that was acknowledged is lost, and no more is repeated than was under way.
//!
//! The publisher gives ids and repeats what was not acknowledged; the receiver counts requests by
//! id. What may come twice after a kill is what had reached the receiver and was not yet settled in
//! the store; that is counted at each kill, by what the receiver has and what the API says.

use crate::harness::load::{self, Load, Publisher, id, order};
use crate::harness::shop::{Shop, balanced};
use crate::harness::{Answer, Receiver, World, eventually, poll};
use crate::on_both;

on_both!(multi_thread: nothing_is_lost_when_the_process_is_killed, what_was_settled_is_not_repeated);

const KILLS: usize = 5;

async fn nothing_is_lost_when_the_process_is_killed<W: World>() {
    let events = load::events();
    let mut pregon = W::on_disk(&[]).await;
    let receiver = Receiver::counting(|_| Answer::Status(204)).await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    shop.served().await;
    let target = pregon.target();
    let load = Load::start(events, &target);

    let mut under_way = 0;
    for kill in 1..=KILLS {
        // Spread over the run, and always while requests are under way.
        load.reach(events * kill / (KILLS + 1)).await;
        // Asked before the kill: what is settled between this and the kill only widens the count.
        let report = shop.grpc.report("tenants/acme").await;
        let settled = report["deliveries"]["succeeded"].as_str().unwrap().parse::<usize>().unwrap();
        pregon.kill().await;
        let received = receiver.distinct("/hook");
        let accepted = load.accepted();
        println!("kill {kill}: {accepted} accepted, {received} received, {settled} settled before");
        under_way += received - settled;
        pregon.start_again().await;
        target.moved(pregon.events());
        shop.grpc = pregon.grpcurl();
        if W::NODES == 1 {
            // One process takes its work up again at once, and what it takes up five times without
            // an end is set aside as what kills it: each kill has work of its own.
            poll::within(load::patience(events), "what was under way is settled", || async {
                let report = shop.grpc.report("tenants/acme").await;
                let settled = report["deliveries"]["succeeded"].as_str().map(str::parse::<usize>);
                match settled {
                    Some(Ok(settled)) if settled >= received => Ok(()),
                    _ => Err(report),
                }
            })
            .await;
        }
    }
    let repeats = load.done().await;

    poll::within(load::patience(events), "every event is received", || async {
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

/// A kill between calls, when nothing is under way, leaves nothing to repeat.
async fn what_was_settled_is_not_repeated<W: World>() {
    let mut pregon = W::on_disk(&[]).await;
    let receiver = Receiver::counting(|_| Answer::Status(204)).await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    shop.served().await;
    let mut publisher = Publisher::new(pregon.target());
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
