//! What is recorded: as the head of the trace decided, and every attempt that failed.

use std::time::Duration;

use serde_json::json;

use super::{contract, under};
use crate::harness::collector::otlp::{LogRecord, Span, text};
use crate::harness::shop::Shop;
use crate::harness::{Answer, Caller, Collector, Env, Receiver, Standalone};

/// How long a process may take to go down.
const DOWN: Duration = Duration::from_secs(30);

/// Publishes four events to a process with this sampler, and gives all spans that it told until its end: one that is
/// delivered, one that is refused once, and one each of a caller whose trace is recorded and of one whose trace is not.
async fn told(collector: &Collector, sampler: &str, ratio: &str) -> Vec<Span> {
    let env = Env::to(collector)
        .with("OTEL_TRACES_SAMPLER", sampler)
        .with("OTEL_TRACES_SAMPLER_ARG", ratio);
    let mut pregon = Standalone::telling(&["--in-memory"], None, &env).await;
    let receiver = Receiver::start(|request| match request.header("webhook-id") {
        "fails" if request.earlier == 0 => Answer::Status(500),
        _ => Answer::Status(204),
    })
    .await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    contract(&mut shop, "quick", "").await;
    shop.subscribe_with("erp", under("quick", &receiver.url("/hook"))).await;
    shop.publish("usual", "{}").await;
    shop.publish("fails", "{}").await;
    for (id, caller) in [("yes", Caller::new(0xf1)), ("no", Caller::unsampled(0xf2))] {
        let through = caller.through(&shop.grpc);
        through.ok("EventService/Publish", shop.request(id, "{}")).await;
    }
    let report = shop.settled().await;
    assert_eq!(report["deliveries"]["succeeded"], "4");
    pregon.terminate().await;
    assert!(pregon.exit(DOWN).await.success(), "{}", pregon.output());
    // Records are never sampled here: with the last of them, spans are there, which left before the process ended.
    let five = |logs: &[LogRecord]| (logs.len() == 5).then_some(());
    collector.logs_with("the records of all attempts", five).await;
    for request in receiver.requests("/hook") {
        let sent = request.header("traceparent").to_owned();
        match request.header("webhook-id") {
            "yes" => assert!(sent.starts_with(&format!("00-{}", "f1".repeat(16))), "{sent}"),
            "no" => assert!(sent.starts_with(&format!("00-{}", "f2".repeat(16))), "{sent}"),
            _ => {}
        }
    }
    collector.spans()
}

/// Attempts among spans: their event by the caller's trace, and the outcome.
fn attempts(spans: &[Span]) -> Vec<(bool, &str)> {
    let posts = spans.iter().filter(|span| span.name == "POST");
    let mut found: Vec<_> = posts
        .map(|span| {
            let outcome = text(&span.attributes, "pregon.attempt.outcome").unwrap();
            (span.trace_id == "f1".repeat(16), outcome)
        })
        .collect();
    found.sort_unstable();
    found
}

#[tokio::test]
async fn of_a_ratio_of_nothing_failures_and_callers_who_ask_for_it_are_left() {
    let collector = Collector::start().await;
    let spans = told(&collector, "parentbased_traceidratio", "0").await;
    assert_eq!(attempts(&spans), [(false, "RETRY"), (true, "SUCCEEDED")]);
    // The caller who asked has all of it; of the failure there is the attempt, with its stages.
    let others: Vec<_> = spans.iter().filter(|it| it.trace_id != "f1".repeat(16)).collect();
    let failed = others.iter().find(|span| span.name == "POST").unwrap();
    assert_eq!(failed.parent, None, "nobody tells of what would be above it");
    assert_eq!(failed.attributes["http.response.status_code"], json!(500));
    for span in others.iter().filter(|span| span.name != "POST") {
        assert_eq!(span.parent.as_ref(), Some(&failed.span_id), "{}", span.name);
    }
    let of_caller = spans.iter().filter(|it| it.trace_id == "f1".repeat(16));
    let names: Vec<_> = of_caller.map(|span| span.name.as_str()).collect();
    for name in
        ["pregon.v1.EventService/Publish", "publish order.captured", "process order.captured"]
    {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
}

#[tokio::test]
async fn the_default_respects_callers_who_record_nothing() {
    let collector = Collector::start().await;
    let spans = told(&collector, "parentbased_always_on", "").await;
    let unsampled = spans.iter().filter(|span| span.trace_id == "f2".repeat(16)).count();
    assert_eq!(unsampled, 0, "a caller said -00");
    assert_eq!(
        attempts(&spans),
        [(false, "RETRY"), (false, "SUCCEEDED"), (false, "SUCCEEDED"), (true, "SUCCEEDED")]
    );
}

#[tokio::test]
async fn always_on_records_what_callers_do_not() {
    let collector = Collector::start().await;
    let spans = told(&collector, "always_on", "").await;
    let unsampled = spans.iter().filter(|span| span.trace_id == "f2".repeat(16));
    assert!(unsampled.clone().any(|span| span.name == "POST"), "the sampler asks nobody");
    assert_eq!(attempts(&spans).len(), 5);
}

#[tokio::test]
async fn of_always_off_nothing_leaves() {
    let collector = Collector::start().await;
    assert_eq!(told(&collector, "always_off", "").await, []);
}
