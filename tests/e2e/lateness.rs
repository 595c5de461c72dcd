//! How long after its `next_attempt_time` a retry begins, on an idle store and on a loaded one:
//! printed, not asserted. `cargo test --release --test e2e -- --ignored --nocapture --test-threads 1
//! lateness`

use std::time::Duration;

use pregon_core::clock::Timestamp;
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::load::{Publisher, order};
use crate::harness::poll::within;
use crate::harness::{Answer, Planes, Receiver, Shop, Standalone, World};

/// Events whose first attempt is refused, one after the other.
const EVENTS: usize = 60;
const BETWEEN: Duration = Duration::from_millis(150);
/// The load beside them: publishers that publish so many events at a time, without a pause.
const PUBLISHERS: usize = 2;
const BATCH: usize = 50;

async fn lateness<W: World>(loaded: bool) {
    let pregon = W::on_disk(&[]).await;
    let receiver = Receiver::counting(|request| {
        let refused = request.path() == "/refuses" && request.header("webhook-id").starts_with('e');
        match refused && request.earlier == 0 {
            true => Answer::Status(503),
            false => Answer::Status(204),
        }
    })
    .await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let filter = json!({"url": receiver.url("/refuses"), "filter": "event.data.amount == 1"});
    shop.subscribe_with("refuses", filter).await;
    shop.subscribe("takes", &receiver, "/takes").await;
    shop.served().await;
    let mut load = JoinSet::new();
    for share in (0..PUBLISHERS).filter(|_| loaded) {
        let mut publisher = Publisher::new(pregon.target());
        load.spawn(async move {
            for n in 0.. {
                let id = |one| format!("load-{share}-{n}-{one}");
                let data = || r#"{"amount":2}"#.to_owned();
                publisher.publish((0..BATCH).map(|one| order(id(one), data())).collect()).await;
            }
        });
    }
    let mut publisher = Publisher::new(pregon.target());
    for n in 0..EVENTS {
        // The pace of the measurement.
        tokio::time::sleep(BETWEEN).await;
        // A receiver that fails often is asked less: four of five it takes.
        let ids = ["e", "a", "b", "c", "d"].map(|kind| format!("{kind}{n}"));
        let one = |id: String| order(id, r#"{"amount":1}"#.to_owned());
        publisher.publish(ids.map(one).into()).await;
    }
    within(Duration::from_secs(120), "each is tried again", || async {
        let seen = receiver.seen("/refuses");
        let again = seen.values().filter(|seen| seen.count > 1).count();
        if again == EVENTS { Ok(()) } else { Err(again) }
    })
    .await;
    load.shutdown().await;
    let mut late = Vec::new();
    for n in 0..EVENTS {
        let delivery = shop.delivery(&format!("e{n}"), "refuses", "SUCCEEDED").await;
        let attempts = shop.attempts(&delivery).await;
        let at = |n: usize, field: &str| {
            Timestamp::parse(attempts[n][field].as_str().unwrap()).unwrap().millis()
        };
        late.push(at(1, "startTime") - at(0, "nextAttemptTime"));
    }
    late.sort_unstable();
    let at = |percent: usize| late[(late.len() - 1) * percent / 100];
    println!(
        "{} store, {}: retries begin p50 {} ms, p99 {} ms, at most {} ms after they are due",
        if loaded { "a loaded" } else { "an idle" },
        std::any::type_name::<W>(),
        at(50),
        at(99),
        at(100),
    );
}

macro_rules! measured {
    ($($name:ident: $world:ident, $loaded:literal;)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[ignore = "it measures for a minute"]
        async fn $name() {
            Box::pin(lateness::<$world>($loaded)).await;
        }
    )+};
}

measured! {
    on_an_idle_embedded_store: Standalone, false;
    on_a_loaded_embedded_store: Standalone, true;
    on_an_idle_redis: Planes, false;
    on_a_loaded_redis: Planes, true;
}
