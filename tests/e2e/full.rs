//! The store cannot write: publishing is refused, soon and for now; what was accepted is kept, and
//! a repeat with the same ids is safe.

use crate::harness::load::{Publisher, Target, order};
use crate::harness::shop::{Shop, balanced};
use crate::harness::{Answer, Receiver, Standalone};

/// No file of the store may grow beyond this: room for its reserve, and for some of the events.
const KIB: u64 = 40 * 1024;
/// Twice as much as fits, in pieces below the limit of an event.
const EVENTS: usize = 400;
const EACH: usize = 200 * 1024;
/// Events in one call, below the limit of a message.
const BATCH: usize = 10;

#[tokio::test]
async fn a_store_that_cannot_write_loses_nothing() {
    let mut pregon = Standalone::on_disk(&[]).await;
    let receiver = Receiver::counting(|_| Answer::Status(204)).await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    pregon.kill().await;
    pregon.start_again_confined(KIB).await;

    // Each answer is OK or "later", within the client's deadline; the rest is asserted by `once`.
    let target = Target::new(vec![pregon.addr()]);
    let mut publisher = Publisher::new(target.clone());
    let mut refused = 0;
    for start in (0..EVENTS).step_by(BATCH) {
        refused += publisher.once(orders(start)).await.len();
    }
    assert!(refused > 0, "{EVENTS} events of {EACH} bytes fit into {KIB} KiB");
    shop.grpc = pregon.grpcurl();
    let report = shop.grpc.report("tenants/acme").await;
    balanced(&report).unwrap();
    println!("{refused} of {EVENTS} refused; accepted {}", report["events"]["accepted"]);

    // Room again, here by another start.
    pregon.kill().await;
    pregon.start_again().await;
    shop.grpc = pregon.grpcurl();
    target.moved(vec![pregon.addr()]);
    let mut publisher = Publisher::new(target);
    for start in (0..EVENTS).step_by(BATCH) {
        publisher.publish(orders(start)).await;
    }
    let report = shop.settled().await;
    assert_eq!(report["events"]["accepted"], EVENTS.to_string());
    assert_eq!(report["deliveries"]["succeeded"], EVENTS.to_string());
    assert_eq!(receiver.distinct("/hook"), EVENTS);
}

fn orders(start: usize) -> Vec<pregon_proto::v1::PublishRequest> {
    let pad = "x".repeat(EACH);
    (start..start + BATCH).map(|n| order(format!("e{n}"), format!("\"{n} {pad}\""))).collect()
}
