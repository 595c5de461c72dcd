//! Tenants that ask for too much, beside one that does not: costly filters delay their own tenant's
//! events, and nobody's leases, deliveries or end.

use std::time::Duration;

use pregon_proto::v1::PublishRequest;
use serde_json::json;
use tokio::time::Instant;

use crate::harness::load::{Publisher, order};
use crate::harness::poll::within;
use crate::harness::{Answer, Receiver, Shop, World};
use crate::on_both;

on_both!(multi_thread: costly_filters_cost_their_own_tenant_only);

/// Subscriptions with a filter that takes milliseconds, and events for them: more than half a minute
/// of one core.
const FILTERS: usize = 60;
const COSTLY_EVENTS: usize = 40;
/// Text that the filters run over, in bytes.
const TEXT: usize = 200_000;
/// Events of the other tenant.
const EVENTS: usize = 100;

async fn costly_filters_cost_their_own_tenant_only<W: World>() {
    let mut pregon = W::on_disk(&[]).await;
    let receiver = Receiver::counting(|_| Answer::Status(204)).await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    shop.write("TenantService/CreateTenant", json!({"tenant_id": "greedy", "tenant": {}})).await;
    let clause = "event.data.s.matches(\"^(a|aa|b)*c$\")";
    let filter = [clause; 8].join(" || ");
    for n in 0..FILTERS {
        let request = json!({
            "parent": "tenants/greedy",
            "subscription_id": format!("s{n}"),
            "subscription": {
                "url": receiver.url("/greedy"), "event_types": ["order.*"], "filter": filter,
            },
        });
        shop.write("SubscriptionService/CreateSubscription", request).await;
    }
    shop.served().await;
    let mut publisher = Publisher::new(pregon.target());
    let data = format!(r#"{{"s":"{}"}}"#, "a".repeat(TEXT));
    for n in 0..COSTLY_EVENTS {
        let tenant = "tenants/greedy".to_owned();
        let costly = PublishRequest { tenant, ..order(format!("costly{n}"), data.clone()) };
        publisher.publish(vec![costly]).await;
    }

    let begun = Instant::now();
    for n in 0..EVENTS {
        publisher.publish(vec![order(format!("e{n}"), "{}".into())]).await;
    }
    within(Duration::from_secs(20), "the other tenant's events are received", || async {
        let received = receiver.distinct("/hook");
        if received == EVENTS { Ok(()) } else { Err(received) }
    })
    .await;
    println!("{EVENTS} events beside {COSTLY_EVENTS} costly ones took {:?}", begun.elapsed());
    let report = shop.grpc.report("tenants/greedy").await;
    assert_ne!(report["events"]["awaitingMatch"], "0", "the costly ones are far from done");
    let node = crate::harness::Grpcurl::new(pregon.events()[0]);
    assert_eq!(node.health_of("liveness").await, "SERVING");

    pregon.terminate().await;
    let asked = Instant::now();
    pregon.exit(Duration::from_secs(45)).await;
    println!("and it ended {:?} after it was asked to", asked.elapsed());
    assert!(!pregon.output().contains("a lease was lost"), "{}", pregon.output());
}
