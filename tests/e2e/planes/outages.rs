//! One part is gone, by order or by accident; the others go on, and it comes back.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::harness::load::{Load, Publisher, Target, order};
use crate::harness::planes::{Plan, Planes};
use crate::harness::redis::Keep;
use crate::harness::shop::{Shop, subscription};
use crate::harness::{Answer, Grpcurl, Receiver, World, eventually, poll};

async fn shop_on(planes: &Planes, receiver: &Receiver) -> Shop {
    let mut shop = Shop::open(planes.grpcurl()).await;
    shop.subscribe("erp", receiver, "/hook").await;
    shop.served().await;
    shop
}

/// Waits until a server says this of its health.
async fn healthy(addr: std::net::SocketAddr, wanted: &str) {
    let grpc = Grpcurl::new(addr);
    eventually(&format!("{addr} is {wanted}"), || async {
        let health = grpc.health().await;
        if health == wanted { Ok(()) } else { Err(health) }
    })
    .await;
}

#[tokio::test]
async fn nodes_go_on_without_control() {
    let mut planes = Planes::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = shop_on(&planes, &receiver).await;
    planes.control.kill().await;
    let orders = (0..100).map(|n| order(format!("e{n}"), "{}".into())).collect();
    Publisher::new(planes.target()).publish(orders).await;
    for node in planes.events() {
        let publish = json!({"tenant": "tenants/acme", "event": {
            "id": format!("by-{}", node.port()), "type": "order.captured", "json": "{}",
        }});
        Grpcurl::new(node).ok("EventService/Publish", publish).await;
        healthy(node, "SERVING").await;
    }
    receiver.expect("/hook", 102).await;

    planes.control.start_again().await;
    shop.grpc = planes.grpcurl();
    let report = shop.settled().await;
    assert_eq!(report["deliveries"]["succeeded"], "102");
    shop.subscribe("crm", &receiver, "/crm").await;
    shop.publish("e100", "{}").await;
    receiver.expect("/crm", 1).await;
}

#[tokio::test]
async fn a_test_send_that_no_node_takes_is_told_and_never_sent() {
    let mut planes = Planes::in_memory().await;
    let receiver = Receiver::friendly().await;
    let shop = shop_on(&planes, &receiver).await;
    for node in &mut planes.nodes {
        node.kill().await;
    }
    let event = json!({"type": "order.captured", "json": "{}"});
    let test = json!({"name": subscription("erp"), "event": event, "timeout": "2s"});
    let refused = shop.grpc.refused("SubscriptionService/TestSubscription", test).await;
    assert_eq!((refused.code, refused.reason()), ("UNAVAILABLE", "NO_NODE"));

    // A node that comes back does not find it: whoever asked has gone.
    for node in &mut planes.nodes {
        node.start_again().await;
    }
    let grpc = planes.grpcurl();
    let event = json!({"id": "real", "type": "order.captured", "json": "{}"});
    let publish = json!({"tenant": "tenants/acme", "event": event});
    grpc.ok("EventService/Publish", publish).await;
    let received = receiver.expect("/hook", 1).await;
    assert_eq!(received[0].header("webhook-id"), "real");
    shop.settled().await;
    assert_eq!(receiver.requests("/hook").len(), 1);
}

#[tokio::test]
async fn a_node_that_is_asked_to_go_hands_its_work_back() {
    const EVENTS: usize = 200;
    // Longer than any condition is waited for: what is done in time was not waited out.
    let node = &["--lease", "120s"];
    let mut planes = Planes::start(Plan { node, ..Plan::default() }).await;
    let receiver = Receiver::counting(|_| Answer::After(Duration::from_millis(300))).await;
    let shop = shop_on(&planes, &receiver).await;
    // While the other one stands still, all work is this one's.
    planes.nodes[0].signal("STOP").await;
    let going = Target::new(vec![planes.nodes[1].addr()]);
    let orders = (0..EVENTS).map(|n| order(format!("e{n}"), "{}".into())).collect();
    Publisher::new(going).publish(orders).await;
    eventually("attempts are under way", || async {
        let now = receiver.in_flight("/hook");
        if now >= 4 { Ok(()) } else { Err(now) }
    })
    .await;
    planes.nodes[0].signal("CONT").await;
    planes.nodes[1].terminate().await;
    let asked = Instant::now();
    let status = planes.nodes[1].exit(Duration::from_secs(60)).await;
    assert!(status.success(), "{status}: {}", planes.nodes[1].output());
    let (down, before) = (asked.elapsed(), receiver.distinct("/hook"));
    // Below the 10 s after which an idle node looks by itself, so that what works only by that is
    // noticed.
    poll::within(Duration::from_secs(7), "the other node goes on", || async {
        let now = receiver.distinct("/hook");
        if now > before { Ok(()) } else { Err(now) }
    })
    .await;
    let went_on = asked.elapsed();
    let report = shop.settled().await;
    assert_eq!(report["deliveries"]["succeeded"], EVENTS.to_string());
    println!(
        "down after {down:?} with {before} of {EVENTS} received; after the signal, the other node \
         sends after {went_on:?}, everything is settled after {:?}; at most {} in flight",
        asked.elapsed(),
        receiver.most_in_flight("/hook"),
    );
    let seen = receiver.seen("/hook");
    let twice: Vec<_> = seen.iter().filter(|(_, seen)| seen.count > 1).collect();
    assert!(twice.is_empty(), "twice: {twice:?}");
}

#[tokio::test]
async fn redis_goes_and_comes_back() {
    let plan = Plan { keep: Keep::EverySecond, ..Plan::default() };
    let mut planes = Planes::start(plan).await;
    let receiver = Receiver::friendly().await;
    let shop = shop_on(&planes, &receiver).await;
    shop.publish("before", "{}").await;
    shop.settled().await;
    planes.redis.stop().await;
    for _ in &planes.nodes {
        let asked = Instant::now();
        let refused = shop.grpc.refused("EventService/Publish", shop.request("lost", "{}")).await;
        println!("refused after {:?}: {refused}", asked.elapsed());
        assert_eq!(refused.code, "UNAVAILABLE", "{refused}");
        // A call to the store gives up after two seconds; the rest is for a noisy machine.
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    }
    let create = json!({"tenant_id": "other", "tenant": {}});
    let refused = shop.grpc.refused("TenantService/CreateTenant", create.clone()).await;
    assert_eq!(refused.code, "UNAVAILABLE", "{refused}");
    let all = [&[planes.control.addr()][..], &planes.events()].concat();
    for &addr in &all {
        healthy(addr, "NOT_SERVING").await;
    }

    planes.redis.start_again().await;
    for &addr in &all {
        healthy(addr, "SERVING").await;
    }
    planes.ready(2).await;
    // Nobody was started again, and nothing has to be set up.
    shop.grpc.ok("TenantService/CreateTenant", create).await;
    for event in ["after-1", "after-2"] {
        shop.publish(event, "{}").await;
        shop.delivery(event, "erp", "SUCCEEDED").await;
    }
    shop.settled().await;
}

/// A Redis that hangs makes nothing ready, and kills nothing: whoever ends what does not live would
/// only end what could go on.
#[tokio::test]
async fn a_redis_that_hangs_is_no_reason_to_end_a_process() {
    let mut planes = Planes::in_memory().await;
    let receiver = Receiver::friendly().await;
    let shop = shop_on(&planes, &receiver).await;
    let all = [&[planes.control.addr()][..], &planes.events()].concat();
    let says = async |addr: std::net::SocketAddr, name: &str, wanted: &str| {
        let grpc = Grpcurl::new(addr);
        eventually(&format!("{addr} {name} is {wanted}"), || async {
            let said = grpc.health_of(name).await;
            if said == wanted { Ok(()) } else { Err(said) }
        })
        .await;
    };
    for &addr in &all {
        says(addr, "readiness", "SERVING").await;
        says(addr, "liveness", "SERVING").await;
    }
    planes.redis.signal("STOP").await;
    for &addr in &all {
        says(addr, "readiness", "NOT_SERVING").await;
        says(addr, "", "NOT_SERVING").await;
        assert_eq!(Grpcurl::new(addr).health_of("liveness").await, "SERVING");
    }
    let service = "pregon.v1.EventService";
    assert_eq!(Grpcurl::new(planes.events()[0]).health_of(service).await, "NOT_SERVING");
    planes.redis.signal("CONT").await;
    for &addr in &all {
        says(addr, "readiness", "SERVING").await;
        assert_eq!(Grpcurl::new(addr).health_of("liveness").await, "SERVING");
    }
    planes.ready(2).await;
    shop.publish("after", "{}").await;
    shop.delivery("after", "erp", "SUCCEEDED").await;
}

/// What Redis carried out late, after a call to it was given up, is taken up: nothing waits for the
/// end of a lease, and no lease is said to be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hung_costs_no_lease() {
    const HANG: Duration = Duration::from_secs(5);
    // Longer than any condition is waited for: what is done in time was not waited out.
    let node = &["--lease", "120s"];
    let mut planes = Planes::start(Plan { node, ..Plan::default() }).await;
    let receiver = Receiver::counting(|_| Answer::After(Duration::from_millis(20))).await;
    let shop = shop_on(&planes, &receiver).await;
    let load = Load::start(EVENTS_AROUND_A_HANG, &planes.target());
    for hang in 1..=2 {
        load.reach(EVENTS_AROUND_A_HANG * hang / 4).await;
        planes.redis.signal("STOP").await;
        // It is the length of the hang that is tried.
        tokio::time::sleep(HANG).await;
        planes.redis.signal("CONT").await;
    }
    load.done().await;
    let went_on = Instant::now();
    let report = shop.settled().await;
    println!("settled {:?} after the last publish", went_on.elapsed());
    assert_eq!(report["deliveries"]["succeeded"], EVENTS_AROUND_A_HANG.to_string());
    let output = planes.output();
    assert!(!output.contains("a lease was lost"), "{output}");
}

/// Events of a load in which Redis hangs twice.
const EVENTS_AROUND_A_HANG: usize = 4_000;

#[tokio::test]
async fn an_emptied_redis_is_not_an_empty_configuration() {
    let planes = Planes::in_memory().await;
    let receiver = Receiver::friendly().await;
    let shop = shop_on(&planes, &receiver).await;
    shop.publish("before", "{}").await;
    shop.settled().await;
    planes.redis.flush().await;
    for plane in std::iter::once(&planes.control).chain(&planes.nodes) {
        eventually("it is said", || async {
            let output = plane.output();
            if output.contains("the store was emptied") { Ok(()) } else { Err(output) }
        })
        .await;
        healthy(plane.addr(), "NOT_SERVING").await;
    }
    for (method, request) in [
        ("TenantService/CreateTenant", json!({"tenant_id": "acme", "tenant": {}})),
        ("TenantService/GetTenant", json!({"name": "tenants/acme"})),
        ("SubscriptionService/ListSubscriptions", json!({"parent": "tenants/acme"})),
    ] {
        let refused = shop.grpc.refused(method, request).await;
        assert_eq!(refused.code, "UNAVAILABLE", "{method}: {refused}");
    }
    // What nodes knew they still know: events are taken and delivered.
    for event in ["e1", "e2"] {
        let publish = json!({"tenant": "tenants/acme", "event": {
            "id": event, "type": "order.captured", "json": "{}",
        }});
        eventually("an event is taken", || shop.grpc.call("EventService/Publish", publish.clone()))
            .await;
    }
    receiver.expect("/hook", 3).await;
}
