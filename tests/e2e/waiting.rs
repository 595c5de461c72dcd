//! A great many deliveries that wait and were never attempted: they are paused, resumed, drained and
//! called off together.
//!
//! What that takes is printed. With a million of each (release build; stored and read are 2 GB):
//! `PREGON_TEST_EVENTS=1000000 cargo test --release --test e2e -- --nocapture waiting::standalone`

use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::load::{Load, events, patience};
use crate::harness::poll::within;
use crate::harness::shop::subscription;
use crate::harness::{Receiver, Shop, World};
use crate::on_both;

on_both!(
    multi_thread:
        many_wait_together,
);

/// How many deliveries of the tenant are pending.
fn pending(report: &Value) -> usize {
    let text = report["deliveries"]["pending"].as_str().unwrap_or("0");
    text.parse().expect("a number")
}

async fn many_wait_together<W: World>() {
    let pregon = W::on_disk(&[]).await;
    let receiver = Receiver::counting(|_| crate::harness::Answer::Status(204)).await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let events = events();
    let limits = json!({"name": "tenants/acme", "limits": {"max_pending": 2 * events + 10_000}});
    let limits = json!({"tenant": limits});
    shop.write("TenantService/UpdateTenant", limits).await;
    for id in ["drained", "deleted"] {
        shop.subscribe(id, &receiver, &format!("/{id}")).await;
        shop.turn("Pause", id).await;
    }
    shop.served().await;
    let began = Instant::now();
    Load::start(events, &pregon.target()).done().await;
    let left = |expected: usize| {
        let grpc = &shop.grpc;
        async move {
            within(patience(events), "so many are pending", || async {
                let report = grpc.report("tenants/acme").await;
                if pending(&report) == expected { Ok(()) } else { Err(report) }
            })
            .await;
        }
    };
    left(2 * events).await;
    println!("{events} events published and put into two lanes in {:?}", began.elapsed());
    assert_eq!((receiver.distinct("/drained"), receiver.distinct("/deleted")), (0, 0));

    let began = Instant::now();
    shop.turn("Resume", "drained").await;
    let mut most = 0;
    let first = within(patience(events), "the first arrives", || async {
        if receiver.distinct("/drained") > 0 { Ok(Instant::now()) } else { Err(()) }
    })
    .await;
    within(patience(events), "all that waited are received", || {
        let nodes = pregon.events();
        most = nodes.iter().map(|addr| pregon.resident(*addr)).max().unwrap_or(0).max(most);
        let seen = receiver.distinct("/drained");
        async move { if seen == events { Ok(()) } else { Err(seen) } }
    })
    .await;
    println!(
        "the first came {:?} after the resume, all after {:?}; the node had {} MiB at most",
        first - began,
        began.elapsed(),
        most / (1024 * 1024),
    );
    let seen = receiver.seen("/drained");
    assert!(seen.values().all(|seen| seen.count == 1), "each once");
    assert_eq!(receiver.distinct("/deleted"), 0);

    let grpc = shop.grpc.clone();
    within(patience(events), "what was received is settled", || async {
        let report = grpc.report("tenants/acme").await;
        if pending(&report) == events { Ok(()) } else { Err(report) }
    })
    .await;
    let began = Instant::now();
    let delete = json!({"name": subscription("deleted")});
    shop.write("SubscriptionService/DeleteSubscription", delete).await;
    within(patience(events), "none is pending", || async {
        let report = grpc.report("tenants/acme").await;
        if pending(&report) == 0 { Ok(()) } else { Err(report) }
    })
    .await;
    println!("all of the other were called off {:?} after its deletion began", began.elapsed());
    let report = grpc.report("tenants/acme").await;
    let expected = json!(events.to_string());
    assert_eq!(report["deliveries"]["succeeded"], expected, "{report}");
    assert_eq!(report["deliveries"]["cancelled"], expected, "{report}");
    assert_eq!(receiver.distinct("/deleted"), 0);
    let query = json!({
        "parent": "tenants/acme", "subscription": subscription("drained"),
        "state": "DELIVERY_STATE_SUCCEEDED", "page_size": 10,
    });
    let page = grpc.ok("DeliveryService/ListDeliveries", query).await;
    assert_eq!(page["deliveries"].as_array().map(Vec::len), Some(10), "they are found: {page}");
}
