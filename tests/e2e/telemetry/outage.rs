//! The collector is gone, hangs, or refuses: that costs its data, and nothing else.
//!
//! Every event of the stories under load has [`LANES`] deliveries and leaves some twenty spans, of which all but a queue's
//! worth are dropped. So a queue that held on to them would be seen: with a million places, memory grew by 90 MiB, far
//! more than [`GROWTH`].

use std::time::Duration;

use crate::harness::collector::Wish;
use crate::harness::collector::otlp::Span;
use crate::harness::collector::tree::Tree;
use crate::harness::load::{Load, Publisher, events, id, order};
use crate::harness::shop::Shop;
use crate::harness::tls::Authority;
use crate::harness::{Answer, Caller, Collector, Env, Receiver, Standalone, World, eventually};

/// Subscriptions of the stories under load.
const LANES: usize = 4;
/// How much memory may grow while the collector takes nothing: the queues below are some 2 MiB when they are full, what
/// is under way of each signal is less, and the rest is for the store, whose events are more and more meanwhile.
const GROWTH: u64 = 32 << 20;
/// How long a process may take to go down: 3 s for telemetry, and as long again for a busy machine. Far below the
/// minute for which exports are given time in these stories.
const DOWN: Duration = Duration::from_secs(10);

/// Small queues and short patience, so that drops happen soon: a batch is tried once, and lost when that is told.
fn impatient(collector: &Collector) -> Env {
    Env::to(collector)
        .with("OTEL_BSP_MAX_QUEUE_SIZE", "512")
        .with("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "256")
        .with("OTEL_BLRP_MAX_QUEUE_SIZE", "512")
        .with("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "256")
        .with("OTEL_EXPORTER_OTLP_TIMEOUT", "500")
        .with("OTEL_BSP_EXPORT_TIMEOUT", "900")
        .with("OTEL_BLRP_EXPORT_TIMEOUT", "900")
        .with("OTEL_METRIC_EXPORT_TIMEOUT", "1500")
}

async fn shop_on(pregon: &Standalone, receiver: &Receiver) -> Shop {
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", receiver, "/hook").await;
    shop.served().await;
    shop
}

/// Waits until the page counts drops of a signal for a reason.
async fn dropped(collector: &Collector, signal: &str, reason: &str) -> String {
    let labels = [format!("signal=\"{signal}\""), format!("reason=\"{reason}\"")];
    let what = format!("{signal} that were dropped: {reason}");
    let wanted = |line: &str| {
        line.starts_with("pregon_telemetry_dropped_total")
            && labels.iter().all(|label| line.contains(label))
            && !line.ends_with(" 0")
    };
    collector.page_line(&what, wanted).await
}

/// Waits until the process says this of a signal.
async fn says(pregon: &Standalone, signal: &str, what: &str) {
    let of_signal = format!("\"signal\":\"{signal}\"");
    eventually(&format!("it says of {signal}: {what}"), || async {
        let said = pregon.output();
        let found = |line: &str| line.contains(what) && line.contains(&of_signal);
        if said.lines().any(found) { Ok(()) } else { Err(said) }
    })
    .await;
}

/// Publishes in a trace that the collector is to get whole.
async fn assert_told(collector: &Collector, shop: &Shop, number: u8) {
    let client = Caller::new(number);
    let id = format!("told-{number}");
    client.through(&shop.grpc).ok("EventService/Publish", shop.request(&id, "{}")).await;
    shop.delivery(&id, "erp", "SUCCEEDED").await;
    let told = |tree: &Tree| tree.trace_id == client.trace_id && tree.find("POST").is_some();
    collector.trace("a trace after the outage", told).await;
}

/// Half of a load with the collector, the other half without; all arrives either way.
async fn under_load(
    collector: &mut Collector,
    pregon: &Standalone,
    go: impl AsyncFnOnce(&mut Collector),
    come: impl AsyncFnOnce(&mut Collector),
    why: &str,
) {
    let receiver = Receiver::counting(|_| Answer::Status(204)).await;
    let mut shop = shop_on(pregon, &receiver).await;
    for lane in 1..LANES {
        shop.subscribe(&format!("erp-{lane}"), &receiver, &format!("/hook-{lane}")).await;
    }
    shop.served().await;
    let events = events();
    let load = Load::start(events, &pregon.target());
    load.reach(events / 2).await;
    go(collector).await;
    let before = pregon.resident();
    load.reach(events * 3 / 4).await;
    let during = pregon.resident();
    load.done().await;
    let report = shop.settled().await;
    let after = pregon.resident();
    assert_eq!(report["deliveries"]["succeeded"], (LANES * events).to_string());
    for lane in 1..LANES {
        assert_eq!(receiver.distinct(&format!("/hook-{lane}")), events);
    }
    assert_eq!(receiver.distinct("/hook"), events);
    println!(
        "resident: {} KiB before, {} KiB during, {} KiB after",
        before >> 10,
        during >> 10,
        after >> 10
    );
    let grown = during.max(after).saturating_sub(before);
    assert!(grown < GROWTH, "memory grew by {} KiB without a collector", grown >> 10);

    let (gone, back) = ("takes no telemetry", "takes telemetry again");
    for signal in ["traces", "logs"] {
        says(pregon, signal, gone).await;
    }
    come(collector).await;
    for (signal, reason) in
        [("traces", "QUEUE_FULL"), ("logs", "QUEUE_FULL"), ("traces", why), ("logs", why)]
    {
        println!("{}", dropped(collector, signal, reason).await);
    }
    // Until then the queue may be full.
    for signal in ["traces", "logs"] {
        says(pregon, signal, back).await;
    }
    assert_told(collector, &shop, 0xd1).await;
    // Changes are told, not every export that fails.
    let said = pregon.output();
    let told = said.matches(gone).count();
    assert!(told <= 3 + said.matches(back).count(), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_killed_costs_no_delivery() {
    let mut collector = Collector::start().await;
    let dir = Some(tempfile::tempdir().unwrap());
    let pregon = Standalone::telling(&[], dir, &impatient(&collector)).await;
    let go = async |collector: &mut Collector| collector.kill().await;
    let come = async |collector: &mut Collector| collector.start_again().await;
    under_load(&mut collector, &pregon, go, come, "UNAVAILABLE").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_hangs_costs_no_delivery() {
    let mut collector = Collector::start().await;
    let dir = Some(tempfile::tempdir().unwrap());
    let pregon = Standalone::telling(&[], dir, &impatient(&collector)).await;
    let go = async |collector: &mut Collector| collector.stop().await;
    let come = async |collector: &mut Collector| collector.go_on().await;
    under_load(&mut collector, &pregon, go, come, "TIMEOUT").await;
}

#[tokio::test]
async fn pregon_goes_down_while_the_collector_hangs() {
    let collector = Collector::start().await;
    let env = Env::to(&collector)
        .with("OTEL_EXPORTER_OTLP_TIMEOUT", "60000")
        .with("OTEL_METRIC_EXPORT_TIMEOUT", "60000")
        .with("OTEL_BSP_EXPORT_TIMEOUT", "60000");
    let mut pregon = Standalone::telling(&["--in-memory"], None, &env).await;
    let receiver = Receiver::friendly().await;
    let shop = shop_on(&pregon, &receiver).await;
    assert_told(&collector, &shop, 0xd2).await;
    collector.stop().await;
    // More than one batch of each signal, so that some are under way and some wait.
    for start in (0..3_000).step_by(500) {
        let orders = (start..start + 500).map(|n| order(id(n), "{}".into())).collect();
        Publisher::new(pregon.target()).publish(orders).await;
    }
    shop.settled().await;
    pregon.terminate().await;
    let status = pregon.exit(DOWN).await;
    assert!(status.success(), "{status}: {}", pregon.output());
    collector.go_on().await;
}

#[tokio::test]
async fn what_is_told_last_still_leaves() {
    let collector = Collector::start().await;
    // Nothing leaves by itself within this story.
    let env = Env::to(&collector)
        .with("OTEL_BSP_SCHEDULE_DELAY", "600000")
        .with("OTEL_BLRP_SCHEDULE_DELAY", "600000")
        .with("OTEL_METRIC_EXPORT_INTERVAL", "600000");
    let mut pregon = Standalone::telling(&["--in-memory"], None, &env).await;
    let receiver = Receiver::friendly().await;
    let shop = shop_on(&pregon, &receiver).await;
    shop.publish("o1", "{}").await;
    shop.settled().await;
    assert_eq!(collector.spans(), []);
    pregon.terminate().await;
    assert!(pregon.exit(DOWN).await.success(), "{}", pregon.output());
    let posted = |spans: &[Span]| spans.iter().any(|span| span.name == "POST").then_some(());
    collector.spans_with("the attempt's span", posted).await;
    collector.logs_with("its record", |logs| (!logs.is_empty()).then_some(())).await;
    let succeeded =
        |line: &str| line.starts_with("pregon_deliveries_succeeded_total") && line.ends_with(" 1");
    collector.page_line("the last metrics", succeeded).await;
}

#[tokio::test]
async fn a_collector_that_refuses_loses_what_it_is_sent() {
    let refuses = Collector::wished(Wish { token: Some("right"), ..Wish::default() }).await;
    let page = Collector::start().await;
    // Metrics go where they are taken, so that they say what became of the rest.
    let env = Env::to(&refuses)
        .with("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20canary")
        .with("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &page.endpoint());
    let pregon = Standalone::telling(&["--in-memory"], None, &env).await;
    let receiver = Receiver::friendly().await;
    let shop = shop_on(&pregon, &receiver).await;
    shop.publish("o1", "{}").await;
    shop.settled().await;
    for signal in ["traces", "logs"] {
        println!("{}", dropped(&page, signal, "REFUSED").await);
    }
    assert_eq!((refuses.spans(), refuses.logs()), (vec![], vec![]));
    let said = pregon.output();
    assert!(said.contains("the collector takes no telemetry"), "{said}");
    assert!(said.contains("Unauthenticated") && !said.contains("canary"), "{said}");
}

#[tokio::test]
async fn tls_and_headers_are_those_of_the_standard_variables() {
    let authority = Authority::new();
    let wish = Wish { tls: Some(&authority), token: Some("a-token") };
    let collector = Collector::wished(wish).await;
    let page = Collector::start().await;
    let env = Env::to(&collector)
        .with("OTEL_EXPORTER_OTLP_CERTIFICATE", &authority.file())
        .with("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20a-token")
        .with("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip");
    let pregon = Standalone::telling(&["--in-memory"], None, &env).await;
    let receiver = Receiver::friendly().await;
    let shop = shop_on(&pregon, &receiver).await;
    assert_told(&collector, &shop, 0xd3).await;
    collector.logs_with("a record", |logs| (!logs.is_empty()).then_some(())).await;
    collector.page_line("metrics", |line| line.starts_with("pregon_build_info")).await;

    // Under an authority that nobody told it of, nothing leaves.
    let another = Authority::new();
    let env = Env::to(&collector)
        .with("OTEL_EXPORTER_OTLP_CERTIFICATE", &another.file())
        .with("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20a-token")
        .with("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &page.endpoint())
        .with("OTEL_BSP_EXPORT_TIMEOUT", "900");
    let stranger = Standalone::telling(&["--in-memory"], None, &env).await;
    Shop::open(stranger.grpcurl()).await;
    dropped(&page, "traces", "UNAVAILABLE").await;
    says(&stranger, "traces", "takes no telemetry").await;
}
