//! The catalogue: shown apart, used by nobody, and where contracts begin.

use pregon_core::contract::catalog;
use pregon_proto::v1;
use pregon_proto::v1::callback_service_server::CallbackService as _;
use pregon_proto::v1::contract_service_server::ContractService as _;
use pregon_proto::v1::event_type_service_server::EventTypeService as _;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::world::{World, ask, assert_refused, assert_wrong, contract};

fn from(id: &str, from: &str) -> v1::CreateContractRequest {
    v1::CreateContractRequest {
        contract_id: id.into(),
        contract: Some(v1::Contract::default()),
        from: from.into(),
        ..Default::default()
    }
}

async fn get(world: &World, name: &str) -> Result<v1::Contract, tonic::Status> {
    let request = v1::GetContractRequest { name: name.into() };
    ask!(world.contracts, get_contract, request).map(|answer| answer.contract.unwrap())
}

#[tokio::test]
async fn it_is_listed_apart_page_by_page() {
    let world = World::new();
    world.contract("mine", "").await;
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListContractsRequest { page_size: 20, page_token, catalog: true };
        let page = ask!(world.contracts, list_contracts, request).unwrap();
        assert!(page.contracts.len() <= 20);
        found.extend(page.contracts);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let names: Vec<_> = found.iter().map(|it| it.name.clone()).collect();
    let entries: Vec<_> = catalog().iter().map(|it| it.name()).collect();
    assert_eq!(names, entries);
    assert!(found.iter().all(|it| !it.built_in && it.revision == 0 && it.etag.is_empty()));
    assert!(found.iter().all(|it| !it.description.is_empty() && !it.document.is_empty()));

    let request = v1::ListContractsRequest { page_size: 1000, ..Default::default() };
    let page = ask!(world.contracts, list_contracts, request).unwrap();
    assert!(page.contracts.iter().all(|it| it.name.starts_with("contracts/")));
    // The token of one list is none of the other.
    let request = v1::ListContractsRequest { page_size: 5, catalog: true, ..Default::default() };
    let page = ask!(world.contracts, list_contracts, request).unwrap();
    let other = v1::ListContractsRequest { page_token: page.next_page_token, ..Default::default() };
    let answer = ask!(world.contracts, list_contracts, other);
    assert_wrong(answer, &[("page_token", "PAGE_TOKEN_INVALID")]);
}

#[tokio::test]
async fn a_contract_begins_as_a_copy_and_is_ones_own() {
    let world = World::with_tenant().await;
    let entry = get(&world, "catalog/stripe").await.unwrap();
    assert!(entry.document.contains("\ncontract: stripe\n"));
    assert!(entry.description.contains("Stripe") && !entry.built_in);

    let dry = v1::CreateContractRequest { validate_only: true, ..from("mine", "catalog/stripe") };
    let shown = ask!(world.contracts, create_contract, dry).unwrap();
    assert_eq!(shown.revision, 0);
    let labels = [("commit".to_owned(), "1a2b".to_owned())];
    let request = v1::CreateContractRequest {
        contract: Some(v1::Contract { labels: labels.into(), ..Default::default() }),
        request_id: "r".into(),
        ..from("mine", "catalog/stripe")
    };
    let made = ask!(world.contracts, create_contract, request.clone()).unwrap();
    assert_eq!(ask!(world.contracts, create_contract, request.clone()).unwrap(), made);
    let other = v1::CreateContractRequest { from: "catalog/github".into(), ..request };
    let answer = ask!(world.contracts, create_contract, other);
    assert_refused(answer, Code::AlreadyExists, "REQUEST_ID_REUSED");
    let mine = get(&world, "contracts/mine").await.unwrap();
    assert_eq!((mine.revision, mine.labels.len()), (made.revision, 1));
    assert_eq!(mine.document, shown.contract.unwrap().document);
    let said = entry.document.replace("\ncontract: stripe\n", "\ncontract: \"mine\"\n");
    assert_eq!((mine.document, mine.description), (said, entry.description));

    // Nothing beside it need be given.
    let bare = v1::CreateContractRequest { contract: None, ..from("1e5", "catalog/github") };
    let bare = ask!(world.contracts, create_contract, bare).unwrap().contract.unwrap();
    assert_eq!(bare.name, "contracts/1e5");
    let ours = from("ours", "contracts/standard_webhooks");
    let ours = ask!(world.contracts, create_contract, ours).unwrap().contract.unwrap();
    assert!(ours.document.contains("contract: \"ours\"\n") && !ours.built_in);

    // It is used as any other.
    let request = v1::CreateSubscriptionRequest {
        parent: "tenants/acme".into(),
        subscription_id: "erp".into(),
        subscription: Some(v1::Subscription {
            url: "https://example.com/hook".into(),
            event_types: vec!["*".into()],
            contract: "contracts/mine".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    ask!(world.subscriptions, create_subscription, request).unwrap();
}

#[tokio::test]
async fn a_beginning_that_is_none_is_refused_by_name() {
    let world = World::new();
    world.contract("mine", "").await;
    let both = v1::CreateContractRequest {
        contract: Some(v1::Contract { document: contract("x", ""), ..Default::default() }),
        ..from("x", "catalog/stripe")
    };
    assert_wrong(ask!(world.contracts, create_contract, both), &[("from", "MALFORMED")]);
    let neither = ask!(world.contracts, create_contract, from("x", ""));
    assert_wrong(neither, &[("contract.document", "REQUIRED")]);
    let nothing = v1::CreateContractRequest { contract: None, ..from("x", "") };
    let nothing = ask!(world.contracts, create_contract, nothing);
    assert_wrong(nothing, &[("contract", "REQUIRED")]);
    for name in ["stripe", "catalogue/stripe", "tenants/acme"] {
        let answer = ask!(world.contracts, create_contract, from("x", name));
        assert_wrong(answer, &[("from", "MALFORMED")]);
    }
    for name in ["catalog/nobody", "catalog/", "contracts/mine", "contracts/nobody"] {
        let answer = ask!(world.contracts, create_contract, from("x", name));
        assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    }
    let wrong = ask!(world.contracts, create_contract, from("a b", "catalog/stripe"));
    assert_wrong(wrong, &[("contract_id", "MALFORMED")]);
    let taken = ask!(world.contracts, create_contract, from("mine", "catalog/stripe"));
    assert_refused(taken, Code::AlreadyExists, "RESOURCE_EXISTS");
    assert_refused(get(&world, "catalog/nobody").await, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn an_entry_is_neither_used_nor_changed() {
    let world = World::with_tenant().await;
    let given = v1::Contract { name: "catalog/stripe".into(), ..Default::default() };
    let update = |given| v1::UpdateContractRequest {
        contract: Some(given),
        allow_missing: true,
        ..Default::default()
    };
    let answer = ask!(world.contracts, update_contract, update(given.clone()));
    let said = answer.as_ref().unwrap_err().message().to_owned();
    assert!(said.contains("create a contract from it (CreateContract with from)"), "{said}");
    assert_refused(answer, Code::FailedPrecondition, "BUILT_IN");
    let unknown = v1::Contract { name: "catalog/nobody".into(), ..given };
    let answer = ask!(world.contracts, update_contract, update(unknown));
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    let delete = v1::DeleteContractRequest { name: "catalog/stripe".into(), ..Default::default() };
    let answer = ask!(world.contracts, delete_contract, delete);
    assert_refused(answer, Code::FailedPrecondition, "BUILT_IN");

    // Wherever a contract is named, the refusal says what to do.
    let create_first = |status: &tonic::Status, field: &str| {
        let details = status.get_error_details();
        let wrong = details.bad_request().unwrap().field_violations[0].clone();
        assert_eq!((wrong.field.as_str(), wrong.reason.as_str()), (field, "MALFORMED"));
        assert!(wrong.description.contains("CreateContract with from"), "{}", wrong.description);
    };
    let subscription = v1::Subscription {
        url: "https://example.com/hook".into(),
        event_types: vec!["*".into()],
        contract: "catalog/stripe".into(),
        ..Default::default()
    };
    let request = v1::CreateSubscriptionRequest {
        parent: "tenants/acme".into(),
        subscription_id: "erp".into(),
        subscription: Some(subscription),
        ..Default::default()
    };
    let answer = ask!(world.subscriptions, create_subscription, request);
    create_first(&answer.unwrap_err(), "subscription.contract");
    let callback = v1::Callback {
        url: "https://example.com/hook".into(),
        contract: "catalog/stripe".into(),
        ..Default::default()
    };
    let request = v1::CreateCallbackRequest {
        parent: "tenants/acme".into(),
        callback_id: "ask".into(),
        callback: Some(callback),
        ..Default::default()
    };
    let answer = ask!(world.callbacks, create_callback, request);
    create_first(&answer.unwrap_err(), "callback.contract");
    let request =
        v1::ImportEventTypesRequest { contract: "catalog/stripe".into(), validate_only: true };
    let answer = ask!(world.event_types, import_event_types, request);
    create_first(&answer.unwrap_err(), "contract");
}
