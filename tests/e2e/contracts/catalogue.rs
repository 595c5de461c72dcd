//! The catalogue on the running program: a contract begins as a copy, and a receiver sees its form.

use data_encoding::HEXLOWER;
use hmac::{Hmac, Mac as _};
use serde_json::json;
use sha2::Sha256;

use super::{publish, story, subscribe};
use crate::harness::World;
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::shop::Shop;
use crate::on_both;

on_both!(a_contract_from_the_catalogue_delivers_in_the_senders_form);

async fn a_contract_from_the_catalogue_delivers_in_the_senders_form<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::start(|_| Answer::Status(200)).await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let list = json!({"catalog": true, "page_size": 1000});
    let listed = shop.grpc.ok("ContractService/ListContracts", list).await;
    let listed = listed["contracts"].as_array().unwrap();
    assert!(listed.len() >= 40, "{} entries", listed.len());
    assert!(listed.iter().all(|it| it["name"].as_str().unwrap().starts_with("catalog/")));

    let request = json!({"contract_id": "payments", "from": "catalog/stripe"});
    let made = shop.write("ContractService/CreateContract", request).await;
    assert_eq!(made["contract"]["name"], "contracts/payments");
    subscribe(&mut shop, "erp", "payments", &receiver.url("/hook"), json!({})).await;
    let event =
        json!({"id": "e1", "type": "order.captured", "json": r#"{"id":"in_1", "paid":1.0}"#});
    publish(&shop, event).await;
    let (delivery, _) = story(&shop, "e1", "erp", "SUCCEEDED").await;
    assert_eq!(delivery["contract"], "contracts/payments");
    let sent = receiver.requests("/hook").remove(0);
    assert!(sent.text().contains(r#""data":{"object":{"id":"in_1", "paid":1.0}}"#));
    let header = sent.header("stripe-signature");
    let (time, value) = header.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    let secret = shop.secret("erp").await;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{time}.{}", sent.text()).as_bytes());
    assert_eq!(value, HEXLOWER.encode(&mac.finalize().into_bytes()));
}
