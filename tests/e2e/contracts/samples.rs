//! The published samples of five companies leave byte for byte.

use pregon_core::json::{Node, Step, compact};
use serde_json::{Value, json};

use super::{Secured, get, import, publish, subscribe};
use crate::harness::receiver::Answer;
use crate::harness::root;
use crate::harness::shop::subscription;

/// A sample: its file, its contract, its event type, where in it the event's data is, and what else
/// was given at its publish.
struct Sample {
    file: &'static str,
    contract: &'static str,
    event_type: &'static str,
    data: Data,
    given: Value,
}

enum Data {
    /// The value of this member.
    Member(&'static str),
    /// This text.
    Text(&'static str),
}

fn samples() -> Vec<Sample> {
    let preauth = |file, event_type| Sample {
        file,
        contract: "preauth",
        event_type,
        data: Data::Member("order"),
        given: json!({}),
    };
    let wallet = |file, event_type, id: &str| Sample {
        file,
        contract: "mercadopago_wallet_connect",
        event_type,
        data: Data::Member("data"),
        given: json!({"id": id, "occur_time": "2021-09-30T23:24:44Z"}),
    };
    vec![
        preauth("1-order.captured", "order.captured"),
        preauth("1-order.desynchronized", "order.desynchronized"),
        preauth("1-order.liveness.fail", "order.liveness.fail"),
        Sample {
            file: "2-operator",
            contract: "operator",
            event_type: "payment.refunded",
            data: Data::Member("data"),
            given: json!({}),
        },
        wallet(
            "3-agreement.status.updated",
            "agreement.status.updated",
            "11ae6c7564ed497f945f755fcabat8k6",
        ),
        wallet(
            "3-agreement.payment_method.updated",
            "agreement.payment_method.updated",
            "44ae6c7564ed497f945f755fcabat9d4",
        ),
        Sample {
            file: "4-facturacion.encolado",
            contract: "tusfacturas",
            event_type: "facturacion.encolado",
            data: Data::Text(r#"{"external_reference":"17032"}"#),
            given: json!({"id": "xxxxx", "occur_time": "2022-03-18T15:58:11-03:00"}),
        },
        Sample {
            file: "5-crypto_delivered",
            contract: "crypto_onramp",
            event_type: "crypto_delivered",
            data: Data::Text(r#"{"orderId":"5a3288ea-0bd4-44d2-af11-aae1f88bbd61"}"#),
            given: json!({"occur_time": "2022-10-26T22:36:41.658Z"}),
        },
    ]
}

/// The sample in compact form.
fn text(file: &str) -> Vec<u8> {
    let path = root().join(format!("contracts/samples/{file}.json"));
    compact(&std::fs::read(path).unwrap())
}

#[tokio::test]
async fn each_sample_leaves_byte_for_byte() {
    let mut world = Secured::open(|_| Answer::Status(200)).await;
    let contracts =
        ["preauth", "operator", "mercadopago_wallet_connect", "tusfacturas", "crypto_onramp"];
    for contract in contracts {
        import(&mut world.shop, contract).await;
        let url = world.receiver.url(&format!("/{contract}"));
        subscribe(&mut world.shop, contract, contract, &url, json!({})).await;
    }
    let approve = json!({"name": subscription("operator")});
    world.shop.write("SubscriptionService/ApproveSubscription", approve).await;
    assert_eq!(get(&world.shop, "operator").await["state"], "SUBSCRIPTION_STATE_ACTIVE");

    let mut sent = std::collections::HashMap::<&str, usize>::new();
    for sample in samples() {
        let whole = text(sample.file);
        let data = match sample.data {
            Data::Member(name) => {
                let member = Node::of(&whole).follow(&[Step::Member(name.into())]).unwrap();
                String::from_utf8(member.source().to_vec()).unwrap()
            }
            Data::Text(text) => text.to_owned(),
        };
        let mut event = sample.given.clone();
        event["type"] = json!(sample.event_type);
        event["json"] = json!(data);
        publish(&world.shop, event).await;
        let before = sent.entry(sample.contract).or_default();
        *before += 1;
        let path = format!("/{}", sample.contract);
        let request = world.receiver.expect(&path, *before).await.remove(*before - 1);
        assert_eq!(request.header("content-type"), "application/json");
        let expected = match sample.contract {
            // Its secret is not public, so the signature is not: without a secret there is none.
            "crypto_onramp" => without_signature(&whole),
            _ => whole,
        };
        let (expected, received) = (String::from_utf8(expected).unwrap(), request.text());
        assert_eq!(received, expected, "{}", sample.file);
    }
    let report = world.shop.settled().await;
    assert_eq!(report["deliveries"]["succeeded"], "8");
}

/// The sample of contract 5 up to its signature, which is the last member.
fn without_signature(sample: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(sample).unwrap();
    let (before, _) = text.split_once(",\"signature\":").unwrap();
    format!("{before}}}").into_bytes()
}
