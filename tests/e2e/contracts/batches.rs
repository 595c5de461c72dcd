//! Several events in one request.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{story, subscribe};
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::shop::Shop;
use crate::harness::{Request, World};
use crate::on_both;

on_both!(events_go_out_together_and_each_keeps_its_record,);

const LISTS: &str = r#"
contract: lists
body:
  try: ${attempt.number}
  events:
    - id: ${event.id}
      total: ${event.data.total}
      note: "note ${event.data.note}"
batch: { list: events, max_events: 10, max_wait: 2s }
secret: { required: true, form: hex, bytes: [16, 64], generate: 32 }
signatures: [{ algorithm: hmac_sha256, header: x-signature }]
retry: { delays: [1s, 1s] }
examples:
  - event: { type: order.captured, data: '{"total":1,"note":"n"}' }
"#;

/// The ids in a request, in their order.
fn ids(request: &Request) -> Vec<String> {
    let body: Value = serde_json::from_str(request.text()).unwrap();
    let events = body["events"].as_array().unwrap();
    events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

async fn events_go_out_together_and_each_keeps_its_record<W: World>() {
    let pregon = W::in_memory().await;
    let receiver =
        Receiver::start(|request: &Request| match request.text().contains(r#""try":1"#) {
            true => Answer::Status(500),
            false => Answer::Status(200),
        })
        .await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let request = json!({"contract_id": "lists", "contract": {"document": LISTS}});
    shop.write("ContractService/CreateContract", request).await;
    subscribe(&mut shop, "erp", "lists", &receiver.url("/hook"), json!({})).await;

    // The last one has no note, so its body cannot be made.
    let data = |n: usize| match n {
        25 => json!({"total": n}).to_string(),
        _ => json!({"total": n, "note": "n"}).to_string(),
    };
    let requests: Vec<_> = (1..=25)
        .map(|n| {
            let event = json!({"id": format!("e{n}"), "type": "order.captured", "json": data(n)});
            json!({"tenant": "tenants/acme", "min_revision": shop.revision, "event": event})
        })
        .collect();
    shop.grpc.ok("EventService/PublishBatch", json!({"requests": requests})).await;

    let mut first_tries = BTreeMap::new();
    for n in 1..=24 {
        let (_, attempts) = story(&shop, &format!("e{n}"), "erp", "SUCCEEDED").await;
        let statuses: Vec<_> = attempts.iter().map(|it| it["response"]["status"].clone()).collect();
        assert_eq!(statuses, [500, 200], "e{n}: {attempts:#?}");
        let start = attempts[0]["startTime"].as_str().unwrap().to_owned();
        *first_tries.entry(start).or_insert(0) += 1;
    }
    let (alone, attempts) = story(&shop, "e25", "erp", "FAILED").await;
    assert_eq!((&alone["endReason"], attempts.len()), (&json!("END_REASON_RENDER_FAILED"), 1));

    let sent = receiver.requests("/hook");
    let (mut tries, mut counts) = ([Vec::new(), Vec::new()], [0, 0]);
    for request in &sent {
        let ids = ids(request);
        assert!(ids.len() <= 10, "{ids:?}");
        let again = usize::from(!request.text().contains(r#""try":1"#));
        counts[again] += 1;
        tries[again].extend(ids);
    }
    tries.iter_mut().for_each(|ids| ids.sort());
    let mut all: Vec<_> = (1..=24).map(|n| format!("e{n}")).collect();
    all.sort();
    assert_eq!(tries, [all.clone(), all], "each once a try");
    assert!(counts[0] <= 8 && counts[1] <= 8, "together: {counts:?}");
    assert!(first_tries.len() <= counts[0], "those of one request began together");
    shop.settled().await;
}
