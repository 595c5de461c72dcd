//! Records of attempts agree with the attempts that the API shows, and metrics with the books.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::{contract, under};
use crate::harness::collector::otlp::{LogRecord, text};
use crate::harness::planes::Plan;
use crate::harness::shop::{Shop, subscription};
use crate::harness::{
    Answer, Caller, Collector, Env, Planes, Receiver, Standalone, eventually, golden,
};

/// How long a process may take to go down.
const DOWN: Duration = Duration::from_secs(30);

/// Under these the word of the API is the word of the record behind its prefix.
fn word<'a>(value: &'a Value, prefix: &str) -> &'a str {
    value.as_str().unwrap().strip_prefix(prefix).unwrap()
}

/// The records of a delivery, by number.
fn records_of(logs: &[LogRecord], delivery: &Value) -> Vec<LogRecord> {
    let name = delivery["name"].as_str().unwrap();
    let of = |log: &&LogRecord| text(&log.attributes, "pregon.delivery.name") == Some(name);
    let mut found: Vec<_> = logs.iter().filter(of).cloned().collect();
    found.sort_by_key(|log| log.attributes["pregon.attempt.number"].as_i64());
    found
}

#[tokio::test]
async fn every_attempt_is_a_record_with_the_ids_of_the_api() {
    let collector = Collector::start().await;
    let env = Env::to(&collector);
    let planes = Planes::start(Plan { env: Some(&env), ..Plan::default() }).await;
    let receiver = Receiver::start(|request| match (request.path(), request.earlier) {
        ("/good", _) | ("/second", 1) => Answer::Status(204),
        _ => Answer::Status(500),
    })
    .await;
    let mut shop = Shop::open(planes.grpcurl()).await;
    contract(&mut shop, "quick", "").await;
    // The second would go out in an hour: there is time to call it off.
    contract(&mut shop, "slow", "").await;
    let document = super::QUICK.replace("quick", "slow").replace("[1s]", "[1h]");
    let update = json!({"contract": {"name": "contracts/slow", "document": document}});
    shop.write("ContractService/UpdateContract", update).await;
    for (id, contract) in
        [("good", "quick"), ("second", "quick"), ("bad", "quick"), ("off", "slow")]
    {
        let url = receiver.url(&format!("/{id}?token=canary"));
        shop.subscribe_with(id, under(contract, &url)).await;
    }
    shop.served().await;
    let client = Caller::new(0xe1);
    client.through(&shop.grpc).ok("EventService/Publish", shop.request("o1", "{}")).await;
    let waits = eventually("its retry waits", || async {
        let filters = json!({"subscription": subscription("off")});
        let found = shop.deliveries(filters).await;
        let waits = |one: &&Value| one["nextAttemptTime"].is_string();
        found.iter().find(waits).cloned().ok_or(found)
    })
    .await;
    shop.grpc.ok("DeliveryService/CancelDelivery", json!({"name": waits["name"]})).await;

    for (id, state, severities) in [
        ("good", "SUCCEEDED", &["INFO"][..]),
        ("second", "SUCCEEDED", &["WARN", "INFO"]),
        ("bad", "FAILED", &["WARN", "ERROR"]),
        ("off", "CANCELLED", &["WARN"]),
    ] {
        let delivery = shop.delivery("o1", id, state).await;
        let attempts = shop.attempts(&delivery).await;
        assert_eq!(attempts.len(), severities.len(), "{id}");
        let all = |logs: &[LogRecord]| {
            let found = records_of(logs, &delivery);
            (found.len() >= severities.len()).then_some(found)
        };
        let records = collector.logs_with(&format!("the records of {id}"), all).await;
        assert_eq!(records.len(), severities.len(), "{id}: {records:?}");
        for ((record, attempt), severity) in records.iter().zip(&attempts).zip(severities) {
            assert_record(record, attempt, id);
            assert_eq!(
                (record.severity.as_str(), &record.trace_id),
                (*severity, &Some(client.trace_id.clone()))
            );
            assert_eq!(
                text(&record.attributes, "url.full"),
                Some(receiver.url(&format!("/{id}")).as_str())
            );
        }
        let end = text(&records.last().unwrap().attributes, "pregon.delivery.state");
        // Who called it off came after the attempt.
        assert_eq!(end, (id != "off").then_some(state), "{id}");
    }
}

/// A record says what the API says of the attempt, and belongs to its span.
fn assert_record(record: &LogRecord, attempt: &Value, id: &str) {
    let said = |key: &str| text(&record.attributes, key).unwrap_or_default();
    let said_number = |key: &str| record.attributes[key].clone();
    let number = said_number("pregon.attempt.number");
    let name = format!("{}/attempts/{number}", said("pregon.delivery.name"));
    assert_eq!(attempt["name"], name);
    assert_eq!(record.event_name, "pregon.attempt");
    assert_eq!(said("pregon.event.name"), "tenants/acme/events/o1");
    assert_eq!(said("pregon.subscription.name"), subscription(id));
    assert_eq!(attempt["node"], format!("nodes/{}", said("pregon.node")));
    assert_eq!(text(&record.resource, "service.instance.id"), Some(said("pregon.node")));
    assert_eq!(said("pregon.attempt.outcome"), word(&attempt["outcome"], "ATTEMPT_OUTCOME_"));
    let status = attempt["response"]["status"].clone();
    let status = if status.is_null() { json!(204) } else { status };
    assert_eq!(said_number("http.response.status_code"), status);
    assert_eq!(said("pregon.attempt.reason"), attempt["reason"].as_str().unwrap());
    for (key, field) in [
        ("pregon.configuration.revision", "configurationRevision"),
        ("pregon.contract.revision", "contractRevision"),
    ] {
        assert_eq!(attempt[field], said_number(key).to_string(), "{key}");
    }
    assert_eq!(record.span_id.as_ref().map(String::len), Some(16));
}

#[tokio::test]
async fn what_is_called_off_is_a_record_where_there_was_an_attempt() {
    let collector = Collector::start().await;
    let mut pregon = Standalone::telling(&["--in-memory"], None, &Env::to(&collector)).await;
    let receiver = Receiver::start(|_| Answer::Never).await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    contract(&mut shop, "quick", "timeouts: [5s]").await;
    let mut fields = under("quick", &receiver.url("/hook"));
    fields["max_concurrency"] = json!(1);
    shop.subscribe_with("erp", fields).await;
    for id in ["o1", "o2", "o3"] {
        shop.publish(id, "{}").await;
    }
    receiver.expect("/hook", 1).await;
    // One is under way and is seen to its end; two wait, were never attempted, and have nothing to tell.
    shop.turn("Disable", "erp").await;
    let report = shop.settled().await;
    assert_eq!(report["deliveries"]["cancelled"], "3");
    pregon.terminate().await;
    assert!(pregon.exit(DOWN).await.success(), "{}", pregon.output());
    let first = |logs: &[LogRecord]| logs.first().cloned();
    let record = collector.logs_with("a record of the attempt", first).await;
    let said = ["attempt.kind", "delivery.state", "delivery.end_reason"]
        .map(|key| text(&record.attributes, &format!("pregon.{key}")).unwrap_or_default());
    assert_eq!(said, ["ATTEMPT", "CANCELLED", "SUBSCRIPTION_DISABLED"]);
    assert_eq!(collector.logs().len(), 1, "{:?}", collector.logs());
}

#[tokio::test]
async fn usual_successes_can_be_left_out() {
    let collector = Collector::start().await;
    let env = Env::to(&collector)
        .with("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
        .with("OTEL_TRACES_SAMPLER_ARG", "0")
        .with("PREGON_OTEL_ATTEMPTS", "sampled");
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
    let traced = Caller::new(0xe2).through(&shop.grpc);
    traced.ok("EventService/Publish", shop.request("traced", "{}")).await;
    shop.settled().await;
    // The last in a queue that keeps its order.
    shop.publish("fails-too", "{}").await;
    shop.settled().await;
    let both = |logs: &[LogRecord]| (logs.len() >= 2).then(|| logs.to_vec());
    collector.logs_with("the failure and the traced one", both).await;
    let entries = shop.grpc.ok("AuditLogService/ListAuditEntries", json!({})).await;
    pregon.terminate().await;
    assert!(pregon.exit(DOWN).await.success());
    // Nothing comes after its end.
    let seen = |logs: &[LogRecord]| {
        let what = |log: &LogRecord| {
            let said = |key: &str| text(&log.attributes, key).unwrap_or_default().to_owned();
            (
                said("pregon.event.name").replace("tenants/acme/events/", ""),
                said("pregon.attempt.outcome"),
            )
        };
        logs.iter().map(what).collect::<BTreeSet<_>>()
    };
    let expected = [("fails", "RETRY"), ("traced", "SUCCEEDED")];
    let expected = expected.map(|(id, outcome)| (id.to_owned(), outcome.to_owned()));
    assert_eq!(seen(&collector.logs()), expected.into());

    // Entries of the audit log leave whatever attempts do.
    let told: BTreeSet<_> = collector
        .audit()
        .iter()
        .map(|log| {
            let said = |key: &str| text(&log.attributes, key).unwrap_or_default().to_owned();
            (said("pregon.audit.id"), said("rpc.method"), said("pregon.resource"))
        })
        .collect();
    let entry = |it: &Value| {
        let said = |key: &str| it[key].as_str().unwrap_or_default().to_owned();
        (said("name").replace("auditEntries/", ""), said("method"), said("resource"))
    };
    let entries = entries["auditEntries"].as_array().unwrap().iter().map(entry);
    assert_eq!(told, entries.collect());
    assert!(told.len() >= 4, "{told:?}");
}

/// The sums of the page's series over all processes, by name and by their own labels.
fn sums(page: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (name, _) = line.split_once('{').unwrap();
        let (_, value) = line.rsplit_once(' ').unwrap();
        *sums.entry(name.to_owned()).or_default() += value.parse::<f64>().unwrap();
    }
    sums
}

#[tokio::test]
async fn counters_are_the_books() {
    let collector = Collector::start().await;
    let env = Env::to(&collector);
    let planes = Planes::start(Plan { env: Some(&env), ..Plan::default() }).await;
    let receiver = Receiver::start(|request| match (request.path(), request.earlier) {
        ("/good", _) | ("/second", 1) => Answer::Status(204),
        // No sign of trouble, which would have less sent.
        _ => Answer::Status(404),
    })
    .await;
    let mut shop = Shop::open(planes.grpcurl()).await;
    contract(&mut shop, "quick", "").await;
    contract(&mut shop, "never", "").await;
    let document = super::QUICK.replace("quick", "never").replace("[1s]", "[1h]");
    let update = json!({"contract": {"name": "contracts/never", "document": document}});
    shop.write("ContractService/UpdateContract", update).await;
    for (id, contract) in [
        ("good", "quick"),
        ("second", "quick"),
        ("bad", "quick"),
        ("off", "never"),
        ("gone", "never"),
    ] {
        shop.subscribe_with(id, under(contract, &receiver.url(&format!("/{id}")))).await;
    }
    // One that is wanted by nobody, one that is refused, one that came twice.
    let type_of = json!({"event_type_id": "user.left", "event_type": {}});
    shop.write("EventTypeService/CreateEventType", type_of).await;
    shop.served().await;
    for n in 0..20 {
        shop.publish(&format!("o{n}"), "{}").await;
    }
    shop.publish("o1", "{}").await;
    let left =
        json!({"tenant": "tenants/acme", "event": {"id": "l1", "type": "user.left", "json": "{}"}});
    shop.grpc.ok("EventService/Publish", left).await;
    let refused =
        json!({"tenant": "tenants/acme", "event": {"id": "x", "type": "no.such", "json": "{}"}});
    shop.grpc.refused("EventService/Publish", refused).await;
    let test =
        json!({"name": subscription("good"), "event": {"type": "order.captured", "json": "{}"}});
    shop.grpc.ok("SubscriptionService/TestSubscription", test).await;

    call_off(&shop).await;
    let name = json!({"name": subscription("gone")});
    shop.write("SubscriptionService/DeleteSubscription", name).await;
    let again = shop.delivery("o2", "bad", "FAILED").await;
    shop.grpc.ok("DeliveryService/ReplayDelivery", json!({"name": again["name"]})).await;
    let books = shop.settled().await;
    println!("{books:#}");
    let count =
        |part: &str, field: &str| books[part][field].as_str().unwrap().parse::<f64>().unwrap();
    assert_eq!((count("deliveries", "created"), count("deliveries", "cancelled")), (101.0, 40.0));

    let expected = [
        ("pregon_events_accepted_total", count("events", "accepted")),
        ("pregon_events_matched_total", count("events", "matched")),
        ("pregon_events_unmatched_total", count("events", "unmatched")),
        ("pregon_events_duplicates_total", 1.0),
        ("pregon_events_refused_total", 1.0),
        ("pregon_test_sends_total", 1.0),
        ("pregon_deliveries_created_total", count("deliveries", "created")),
        ("pregon_deliveries_succeeded_total", count("deliveries", "succeeded")),
        ("pregon_deliveries_failed_total", count("deliveries", "failed")),
        ("pregon_deliveries_cancelled_total", count("deliveries", "cancelled")),
    ];
    eventually("the counters are the books", || async {
        let page = collector.page().await.map_err(|error| error.to_string())?;
        let sums = sums(&page);
        let differ = |(name, wanted): &&(&str, f64)| sums.get(*name) != Some(wanted);
        let wrong: Vec<_> = expected
            .iter()
            .filter(differ)
            .map(|(name, wanted)| (*name, *wanted, sums.get(*name).copied()))
            .collect();
        if wrong.is_empty() { Ok(()) } else { Err(format!("{wrong:?}")) }
    })
    .await;
    assert_page(&collector).await;
}

/// Calls off what waits for `off`: by a caller, one by one.
async fn call_off(shop: &Shop) {
    let filters = json!({"subscription": subscription("off")});
    eventually("all wait for their retry", || async {
        let found = shop.deliveries(filters.clone()).await;
        let waits = found.iter().filter(|one| one["nextAttemptTime"].is_string()).count();
        if waits == 20 { Ok(()) } else { Err(waits) }
    })
    .await;
    for delivery in shop.deliveries(filters).await {
        shop.grpc.ok("DeliveryService/CancelDelivery", json!({"name": delivery["name"]})).await;
    }
}

/// Metrics that nothing in the story brings about: each needs a fault, a callback or a verification.
const ABSENT: [&str; 13] = [
    "pregon.attempts.late",
    "pregon.breaker.changes",
    "pregon.check.duration",
    "pregon.checks",
    "pregon.configuration.documents.refused",
    "pregon.egress.denied",
    "pregon.filter.errors",
    "pregon.leases.lost",
    "pregon.leases.taken_over",
    "pregon.store.errors",
    "pregon.subscriptions.disabled",
    "pregon.subscriptions.warned",
    "pregon.verifications",
];

/// The page has every series that the list promises, and none beside.
async fn assert_page(collector: &Collector) {
    let promised: BTreeMap<_, _> = golden::series();
    eventually("all promised metrics are on the page", || async {
        let page = collector.page().await.map_err(|error| error.to_string())?;
        let there = sums(&page);
        let missing: BTreeSet<_> = promised
            .iter()
            .filter(|(name, series)| {
                !there.contains_key(*name) && !ABSENT.contains(&series.metric.as_str())
            })
            .map(|(name, _)| name.as_str())
            .collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?}")) }
    })
    .await;
    let page = collector.page().await.unwrap();
    let unknown: Vec<_> = sums(&page)
        .into_keys()
        .filter(|name| !promised.contains_key(name) && name != "target_info")
        .collect();
    assert_eq!(unknown, Vec::<String>::new(), "on the page, but not in the list");
}
