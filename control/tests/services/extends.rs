//! Contracts that extend another one: what is stored and shown, what an update of the other one does to
//! them, and what is refused.

use pregon_core::model::{ContractDocument, Resource};
use pregon_proto::v1;
use pregon_proto::v1::contract_service_server::ContractService as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::world::{World, ask, assert_refused, assert_wrong, contract, subscription};

type Updated = Result<v1::UpdateContractResponse, Status>;

/// A document that says these keys only.
fn extending(id: &str, parent: &str, keys: &str) -> String {
    format!("contract: {id}\nextends: {parent}\n{keys}\n")
}

async fn make(
    world: &World,
    id: &str,
    document: &str,
) -> Result<v1::CreateContractResponse, Status> {
    let request = v1::CreateContractRequest {
        contract_id: id.into(),
        contract: Some(v1::Contract { document: document.into(), ..Default::default() }),
        ..Default::default()
    };
    ask!(world.contracts, create_contract, request)
}

async fn change(world: &World, id: &str, given: v1::Contract) -> Updated {
    let given = v1::Contract { name: format!("contracts/{id}"), ..given };
    let request = v1::UpdateContractRequest { contract: Some(given), ..Default::default() };
    ask!(world.contracts, update_contract, request)
}

async fn rewrite(world: &World, id: &str, document: &str) -> Updated {
    change(world, id, v1::Contract { document: document.into(), ..Default::default() }).await
}

async fn delete(world: &World, id: &str) -> Result<v1::DeleteContractResponse, Status> {
    let name = format!("contracts/{id}");
    ask!(world.contracts, delete_contract, v1::DeleteContractRequest { name, ..Default::default() })
}

async fn get(world: &World, id: &str) -> v1::Contract {
    let request = v1::GetContractRequest { name: format!("contracts/{id}") };
    ask!(world.contracts, get_contract, request).unwrap().contract.unwrap()
}

async fn subscribe(world: &World, id: &str, contract: &str) -> v1::Subscription {
    let it = v1::Subscription { contract: format!("contracts/{contract}"), ..subscription() };
    world.subscribe("acme", id, it).await
}

/// What a refusal of a used contract says.
#[track_caller]
fn said<T: std::fmt::Debug>(refused: Result<T, Status>) -> String {
    let text = refused.as_ref().unwrap_err().message().to_owned();
    assert_refused(refused, Code::FailedPrecondition, "CONTRACT_IN_USE");
    text
}

/// The one violation of a document.
#[track_caller]
fn fault<T: std::fmt::Debug>(refused: Result<T, Status>) -> String {
    let details = refused.as_ref().unwrap_err().get_error_details();
    assert_wrong(refused, &[("contract.document", "CONTRACT_INVALID")]);
    details.bad_request().unwrap().field_violations[0].description.clone()
}

async fn children(world: &World, id: &str) -> Option<String> {
    let name = format!("contracts/{id}/children");
    let found = world.store.config.get(&[name]).await.unwrap().pop().unwrap();
    found.map(|it| String::from_utf8(it.bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn what_comes_along_is_extended_and_shown_as_it_was_given() {
    let world = World::new();
    for (id, parent) in [("a", "contracts/preauth"), ("b", "catalog/github")] {
        let given = extending(id, parent, "timeouts: [7s] # ours");
        let made = make(&world, id, &given).await.unwrap().contract.unwrap();
        assert_eq!(made.document, given);
        assert!(made.composed.contains("\"timeouts\": [\"7s\"]"), "{}", made.composed);
        assert!(!made.composed.contains("extends") && made.composed.contains("\"examples\""));
        assert_eq!(get(&world, id).await, made);
        assert_eq!(children(&world, parent.split_once('/').unwrap().1).await, None);
        let ours =
            ask!(world.contracts, get_contract, v1::GetContractRequest { name: parent.into() });
        let ours = ours.unwrap().contract.unwrap();
        assert_eq!((&made.event_types, ours.composed), (&ours.event_types, String::new()));
        // The whole is a document too, and the same contract.
        let whole = made.composed.replace(&format!("\"{id}\""), "\"whole\"");
        let whole = make(&world, "whole", &whole).await.unwrap().contract.unwrap();
        assert!(whole.composed.is_empty() && whole.event_types == made.event_types);
        delete(&world, "whole").await.unwrap();
        delete(&world, id).await.unwrap();
    }
    let left = world.names().await;
    assert!(!left.iter().any(|name| name.starts_with("contracts/")), "{left:?}");
}

#[tokio::test]
async fn an_update_reaches_those_that_extend_it() {
    let world = World::with_tenant().await;
    world.contract("base", "headers: { x-a: one }\nretry: none").await;
    let mine = extending("mine", "contracts/base", "timeouts: [7s]");
    let other = extending("other", "contracts/base", "headers: null\nretry: null");
    let made = make(&world, "mine", &mine).await.unwrap().contract.unwrap();
    make(&world, "other", &other).await.unwrap();
    subscribe(&world, "erp", "mine").await;
    assert_eq!(children(&world, "base").await.unwrap(), r#"{"children":["mine","other"]}"#);
    let before = get(&world, "other").await;

    let base = contract("base", "headers: { x-a: two }\nretry: none");
    let revision = rewrite(&world, "base", &base).await.unwrap().revision;
    let now = get(&world, "mine").await;
    assert_eq!((now.document.as_str(), now.revision), (mine.as_str(), revision));
    assert!(now.composed.contains("\"x-a\": \"two\"") && now.composed.contains("7s"));
    assert!(made.composed.contains("\"x-a\": \"one\""));
    // One that says that key itself is as it was.
    assert_eq!(get(&world, "other").await, before);
    // A name for people changes nothing of it, and who is under it can change.
    let named = v1::Contract { display_name: "Mine".into(), ..Default::default() };
    change(&world, "mine", named).await.unwrap();
    assert_eq!(get(&world, "mine").await.composed, now.composed);
    subscribe(&world, "crm", "mine").await;
    subscribe(&world, "pim", "base").await;

    // It moves to another one, becomes whole, and goes.
    world.contract("next", "headers: { x-a: three }").await;
    let moved = extending("mine", "contracts/next", "timeouts: [7s]");
    let moved = rewrite(&world, "mine", &moved).await.unwrap().contract.unwrap();
    assert!(moved.composed.contains("three"));
    assert_eq!(children(&world, "base").await.unwrap(), r#"{"children":["other"]}"#);
    assert_eq!(children(&world, "next").await.unwrap(), r#"{"children":["mine"]}"#);
    let whole = rewrite(&world, "mine", &contract("mine", "")).await.unwrap().contract.unwrap();
    assert!(whole.composed.is_empty() && whole.document == contract("mine", ""));
    assert_eq!(children(&world, "next").await, None);
    delete(&world, "next").await.unwrap();
    delete(&world, "other").await.unwrap();
    assert_eq!(children(&world, "base").await, None);
}

#[tokio::test]
async fn an_update_that_one_of_them_cannot_bear_is_refused() {
    let world = World::with_tenant().await;
    world.contract("base", "").await;
    let with_header = "headers: { x-a: one }\nexamples: [{ event: { type: a, data: '{}' }, expect: { body: '{\"t\":\"a\",\"d\":{}}' } }]";
    make(&world, "mine", &extending("mine", "contracts/base", with_header)).await.unwrap();
    subscribe(&world, "erp", "mine").await;
    let stored = world.stored("contracts/mine").await;

    // Its own example does not come out with this body.
    let base = contract("base", "").replace("{ t:", "{ k:").replace("\"t\":", "\"k\":");
    let text = said(rewrite(&world, "base", &base).await);
    assert!(text.starts_with("contracts/mine, which extends it, would not hold: 4:"), "{text}");
    // What extends it would extend one that extends another.
    let text = said(rewrite(&world, "base", &extending("base", "contracts/preauth", "")).await);
    assert!(text.contains("contracts/mine, which") && text.contains("itself: only one"), "{text}");
    // Its subscription does not fit.
    let text = said(rewrite(&world, "base", &contract("base", "url: { ports: [8443] }")).await);
    let expected =
        "tenants/acme/subscriptions/erp would not fit contracts/mine, which extends it: ";
    assert!(text.starts_with(expected), "{text}");
    assert_eq!(world.stored("contracts/mine").await, stored);
    rewrite(&world, "base", &contract("base", "url: { ports: [443] }")).await.unwrap();
    // What is said of it alone can be refused as well.
    let own = extending("mine", "contracts/base", "url: { ports: [8443] }");
    let text = said(rewrite(&world, "mine", &own).await);
    assert!(text.starts_with("tenants/acme/subscriptions/erp would not fit it: "), "{text}");
}

#[tokio::test]
async fn one_that_is_extended_stays() {
    let world = World::new();
    world.contract("base", "").await;
    for id in ["c1", "c2", "c3", "c4", "c5", "c6"] {
        make(&world, id, &extending(id, "contracts/base", "")).await.unwrap();
    }
    let text = said(delete(&world, "base").await);
    let named = "contracts/c1, contracts/c2, contracts/c3, contracts/c4, contracts/c5, 1 more";
    assert_eq!(text, format!("contracts/base is extended by {named}"));
    for id in ["c2", "c3", "c4", "c5", "c6"] {
        delete(&world, id).await.unwrap();
    }
    let text = said(delete(&world, "base").await);
    assert_eq!(text, "contracts/base is extended by contracts/c1");
    delete(&world, "c1").await.unwrap();
    delete(&world, "base").await.unwrap();
    let left = world.names().await;
    assert!(!left.iter().any(|name| name.starts_with("contracts/")), "{left:?}");
}

#[tokio::test]
async fn what_cannot_be_extended_is_told_at_its_place() {
    let world = World::new();
    world.contract("base", "headers: { x-a: one }").await;
    make(&world, "mine", &extending("mine", "contracts/base", "")).await.unwrap();
    for (parent, why) in [
        ("contracts/none", "2:10: extends: contracts/none does not exist"),
        ("catalog/none", "2:10: extends: there is no such entry of the catalogue"),
        ("contracts/mine", "2:10: extends: contracts/mine extends another contract itself"),
        ("contracts/next", "2:10: extends: is this contract itself"),
        ("stripe", "2:10: extends: must be contracts/{contract}"),
    ] {
        let text = fault(make(&world, "next", &extending("next", parent, "")).await);
        assert!(text.starts_with(why), "{text}");
    }
    // A fault in what is inherited names the other contract; the id is the resource's.
    let keys = "body: { x: \"${event.type}\" }";
    let text = fault(make(&world, "next", &extending("next", "contracts/base", keys)).await);
    assert!(text.starts_with("contracts/base:7:"), "{text}");
    let text = fault(make(&world, "next", &extending("last", "contracts/base", "")).await);
    assert!(text.contains("contract: must be next"), "{text}");
    let text = fault(rewrite(&world, "mine", &extending("mine", "contracts/none", "")).await);
    assert!(text.starts_with("2:10: extends: contracts/none"), "{text}");
    // It is told beside what else is wrong.
    let given = v1::Contract {
        document: extending("next", "contracts/none", ""),
        display_name: "x".repeat(129),
        ..Default::default()
    };
    let request = v1::CreateContractRequest {
        contract_id: "next".into(),
        contract: Some(given),
        ..Default::default()
    };
    let wrong = [("contract.display_name", "TOO_LONG"), ("contract.document", "CONTRACT_INVALID")];
    assert_wrong(ask!(world.contracts, create_contract, request), &wrong);
}

#[tokio::test]
async fn a_contract_is_extended_a_hundred_times() {
    let world = World::new();
    world.contract("base", "").await;
    let own = |id: &str| extending(id, "contracts/base", "");
    for n in 0..100 {
        make(&world, &format!("c{n}"), &own(&format!("c{n}"))).await.unwrap();
    }
    let refused = make(&world, "last", &own("last")).await;
    let text = refused.as_ref().unwrap_err().message().to_owned();
    assert_eq!(text, "contracts/base is extended by 100 contracts, and may be by no more");
    assert_refused(refused, Code::ResourceExhausted, "QUOTA_EXCEEDED");
    // Those that do can change, and all follow.
    rewrite(&world, "c7", &extending("c7", "contracts/base", "retry: none")).await.unwrap();
    let base = contract("base", "headers: { x-a: one }");
    let revision = rewrite(&world, "base", &base).await.unwrap().revision;
    assert_eq!(get(&world, "c99").await.revision, revision);
    delete(&world, "c3").await.unwrap();
    make(&world, "last", &own("last")).await.unwrap();
}

#[tokio::test]
async fn one_that_was_stored_without_a_source_is_whole() {
    let world = World::with_tenant().await;
    world.contract("base", "").await;
    let Some(Resource::Contract(it)) = world.stored("contracts/base").await else {
        panic!("no contract is stored");
    };
    let bytes = Resource::Contract(it.clone()).encode();
    assert!(!String::from_utf8(bytes).unwrap().contains("\"source\""));
    assert_eq!((it.source(), it.source.as_str()), (it.document.as_str(), ""));
    let shown = get(&world, "base").await;
    assert_eq!((shown.document, shown.composed), (contract("base", ""), String::new()));
    // One that extends another keeps both.
    let mine = extending("mine", "contracts/base", "");
    make(&world, "mine", &mine).await.unwrap();
    let Some(Resource::Contract(ContractDocument { source, document, .. })) =
        world.stored("contracts/mine").await
    else {
        panic!("no contract is stored");
    };
    assert!(source == mine && document.contains("\"examples\""));
}
