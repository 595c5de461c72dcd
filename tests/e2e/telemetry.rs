//! What Pregón tells of itself, on the real collector: connected traces, records of attempts, metrics that agree with the
//! books, and that none of it ever costs a delivery.

use serde_json::{Value, json};

use crate::harness::shop::Shop;

mod outage;
mod records;
mod sampling;
mod secrets;
mod settings;
mod trace;

/// A contract that tries again after a second.
const QUICK: &str = r#"
contract: quick
body: { type: "${event.type}", data: "${event.data}" }
headers: { webhook-id: "${event.unique_id}" }
retry: { delays: [1s], retry_after: ignore }
examples:
  - event: { type: order.captured, data: '{}' }
    expect: { body: '{"type":"order.captured","data":{}}' }
"#;

/// Creates [`QUICK`] under another name, with these lines beside.
async fn contract(shop: &mut Shop, id: &str, more: &str) {
    let document = QUICK.replace("contract: quick", &format!("contract: {id}\n{more}"));
    let request = json!({"contract_id": id, "contract": {"document": document}});
    shop.write("ContractService/CreateContract", request).await;
}

/// Fields of a subscription to all orders under a contract.
fn under(contract: &str, url: &str) -> Value {
    json!({"url": url, "contract": format!("contracts/{contract}"), "event_types": ["order.*"]})
}
