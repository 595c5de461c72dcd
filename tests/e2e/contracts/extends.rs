//! A platform's own contract that extends another: deliveries under it follow both.

use serde_json::json;

use super::{publish, story, subscribe};
use crate::harness::World;
use crate::harness::receiver::Receiver;
use crate::harness::shop::Shop;
use crate::on_both;

on_both!(a_delivery_follows_a_contract_and_the_one_that_it_extends);

const BASE: &str = r#"
contract: base
body: { kind: "${event.type}", order: "${event.data}" }
headers: { X-Team: "orders" }
examples:
  - event: { type: order.captured, data: '{"id":"o1"}' }
    expect: { body: '{"kind":"order.captured","order":{"id":"o1"}}' }
"#;

const MINE: &str = "contract: mine\nextends: contracts/base\nheaders: { X-Team: shop }\n";

async fn a_delivery_follows_a_contract_and_the_one_that_it_extends<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    for (id, document) in [("base", BASE), ("mine", MINE)] {
        let request = json!({"contract_id": id, "contract": {"document": document}});
        shop.write("ContractService/CreateContract", request).await;
    }
    subscribe(&mut shop, "erp", "mine", &receiver.url("/hook"), json!({})).await;
    let event = |id: &str| json!({"id": id, "type": "order.captured", "json": r#"{"id":"o1"}"#});
    publish(&shop, event("e1")).await;
    story(&shop, "e1", "erp", "SUCCEEDED").await;
    let sent = receiver.requests("/hook").remove(0);
    assert_eq!(sent.header("x-team"), "shop");
    assert_eq!(sent.text(), r#"{"kind":"order.captured","order":{"id":"o1"}}"#);

    // The other one changes: what is inherited changes with it, and the key of its own stays.
    let changed = BASE.replace("kind:", "event:").replace(r#"{"kind""#, r#"{"event""#);
    let changed = changed.replace("orders", "billing");
    let update = json!({"contract": {"name": "contracts/base", "document": changed}});
    let revision = shop.write("ContractService/UpdateContract", update).await["revision"].clone();
    let name = json!({"name": "contracts/mine"});
    let mine = shop.grpc.ok("ContractService/GetContract", name).await["contract"].clone();
    assert_eq!((&mine["document"], &mine["revision"]), (&json!(MINE), &revision));
    shop.served().await;
    publish(&shop, event("e2")).await;
    let (_, attempts) = story(&shop, "e2", "erp", "SUCCEEDED").await;
    assert_eq!(attempts[0]["contractRevision"], revision);
    let sent = receiver.requests("/hook").remove(1);
    assert_eq!(sent.header("x-team"), "shop");
    assert_eq!(sent.text(), r#"{"event":"order.captured","order":{"id":"o1"}}"#);

    // The other one stays as long as it is extended.
    let name = json!({"name": "contracts/base"});
    let refused = shop.grpc.refused("ContractService/DeleteContract", name).await;
    assert_eq!((refused.code, refused.reason()), ("FAILED_PRECONDITION", "CONTRACT_IN_USE"));
}
