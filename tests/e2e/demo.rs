//! The first command that a stranger types, and the receiver that integrators use.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::process::Process;
use crate::harness::shop::Shop;
use crate::harness::{Standalone, eventually};

/// The event types that the demo publishes: one for each sample of the five contracts.
const SAMPLES: [&str; 8] = [
    "order.captured",
    "order.desynchronized",
    "order.liveness.fail",
    "payment.refunded",
    "agreement.payment_method.updated",
    "agreement.status.updated",
    "facturacion.encolado",
    "crypto_delivered",
];

#[tokio::test]
async fn the_demo_shows_every_sample_under_its_contract() {
    let (status, output) = Process::run(&["demo", "--exit"], &[]).await;
    assert!(status.success(), "{status}:\n{output}");
    for sample in SAMPLES {
        let equal = format!("equal to the sample of {sample} byte for byte");
        assert_eq!(output.matches(&equal).count(), 1, "{sample} is not received:\n{output}");
    }
    for said in [
        // Who waits for an operator, and is approved.
        "PENDING_APPROVAL",
        "ApproveSubscription  ACTIVE",
        // A test send, and callbacks that were asked.
        "TestSubscription sends an example, answered 200",
        "callbacks/known: ALLOWED",
        "callbacks/unknown: DENIED",
        // Signatures in a header and in a body, and none.
        "contract standard_webhooks: v1 verified",
        "contract crypto_onramp: body verified",
        "unsigned (the contract signs nothing)",
        // One path refuses each event once, so that a retry is to be seen.
        "VERIFIED, answered 503",
        "the retry of what was refused",
        // And the books.
        "8 events accepted = 8 matched",
    ] {
        assert!(output.contains(said), "it does not show {said:?}:\n{output}");
    }
}

#[tokio::test]
async fn the_demo_stays_up_until_it_is_asked_to_go() {
    let mut demo = Process::pregon(&["demo"], &[]);
    demo.line_with("every signature verified").await;
    demo.terminate().await;
    let status = demo.exit(Duration::from_secs(60)).await;
    assert!(status.success(), "{status}:\n{}", demo.output());
}

#[tokio::test]
async fn the_receiver_verifies_and_misbehaves_as_told() {
    let pregon = Standalone::in_memory().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let key = "whsec_cHJlZ29uLXByZWdvbi1wcmVnb24tcHJlZ29u";
    let args = ["receiver", "--listen", "127.0.0.1:0", "--secret", key, "--json"];
    let mut receiver = Process::pregon(&args, &[]);
    let addr = receiver.address().await;
    for (id, path) in [("good", "/hook"), ("moody", "/fail-first/1"), ("strange", "/other")] {
        shop.subscribe_with(id, json!({"url": format!("http://{addr}{path}")})).await;
        if id != "strange" {
            let parent = crate::harness::shop::subscription(id);
            let request = json!({"parent": parent, "material": key, "overlap": "0s"});
            shop.write("SecretService/RotateSecret", request).await;
        }
    }
    shop.publish("e1", r#"{"amount":1.0}"#).await;
    for id in ["good", "moody", "strange"] {
        shop.delivery("e1", id, "SUCCEEDED").await;
    }
    let lines = eventually("four requests are printed", || async {
        let printed: Vec<Value> = receiver
            .lines()
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|line: &Value| line.get("verdict").is_some())
            .collect();
        if printed.len() == 4 { Ok(printed) } else { Err(receiver.output()) }
    })
    .await;
    let verified = |line: &Value| line["verdict"] == "VERIFIED";
    let of = |path: &str| lines.iter().filter(|line| line["path"] == path).collect::<Vec<_>>();
    assert!(of("/hook").into_iter().all(verified), "{lines:?}");
    assert_eq!(of("/fail-first/1").len(), 2);
    assert!(of("/fail-first/1").into_iter().all(verified), "{lines:?}");
    assert_eq!(of("/other")[0]["verdict"], "WRONG_SIGNATURE", "its key is another: {lines:?}");
    assert!(lines.iter().all(|line| line["contract"] == "standard_webhooks"), "{lines:?}");
}
