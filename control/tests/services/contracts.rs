//! ContractService, and what is imported from a contract.

use pregon_proto::v1;
use pregon_proto::v1::contract_service_server::ContractService as _;
use pregon_proto::v1::event_type_service_server::EventTypeService as _;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::world::{World, ask, assert_refused, assert_wrong, contract, mask};

fn create(id: &str, document: &str) -> v1::CreateContractRequest {
    v1::CreateContractRequest {
        contract_id: id.into(),
        contract: Some(v1::Contract { document: document.into(), ..Default::default() }),
        ..Default::default()
    }
}

fn update(given: v1::Contract, paths: &[&str]) -> v1::UpdateContractRequest {
    let update_mask = mask(paths).filter(|mask| !mask.paths.is_empty());
    v1::UpdateContractRequest { contract: Some(given), update_mask, ..Default::default() }
}

async fn get(world: &World, name: &str) -> v1::Contract {
    let request = v1::GetContractRequest { name: name.into() };
    ask!(world.contracts, get_contract, request).unwrap().contract.unwrap()
}

async fn names(world: &World, page_size: i32) -> Vec<String> {
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListContractsRequest { page_size, page_token, catalog: false };
        let page = ask!(world.contracts, list_contracts, request).unwrap();
        assert!(page.contracts.len() <= usize::try_from(page_size).unwrap());
        names.extend(page.contracts.into_iter().map(|it| it.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return names;
        }
    }
}

#[tokio::test]
async fn a_contract_lives_and_goes() {
    let world = World::new();
    let document = contract("mine", "description: Ours\nevent_types: [order.*]");
    let request = v1::CreateContractRequest { request_id: "r".into(), ..create("mine", &document) };
    let dry = v1::CreateContractRequest { validate_only: true, ..request.clone() };
    assert_eq!(ask!(world.contracts, create_contract, dry).unwrap().revision, 0);
    let made = ask!(world.contracts, create_contract, request.clone()).unwrap();
    assert_eq!(ask!(world.contracts, create_contract, request).unwrap(), made);
    let it = made.contract.unwrap();
    assert_eq!(
        (it.name.as_str(), it.revision, it.built_in),
        ("contracts/mine", made.revision, false)
    );
    assert_eq!(
        (it.description.as_str(), it.event_types.as_slice()),
        ("Ours", &["order.*".to_owned()][..])
    );
    assert_eq!((get(&world, "contracts/mine").await, &it.document), (it.clone(), &document));
    let again = ask!(world.contracts, create_contract, create("mine", &document));
    assert_refused(again, Code::AlreadyExists, "RESOURCE_EXISTS");

    let document = contract("mine", "description: Others");
    let given = v1::Contract { name: it.name.clone(), document, ..Default::default() };
    let stale = v1::Contract { etag: "r0".into(), ..given.clone() };
    let answer = ask!(world.contracts, update_contract, update(stale, &[]));
    assert_refused(answer, Code::Aborted, "ETAG_MISMATCH");
    let labelled = v1::Contract { labels: [("a".to_owned(), "b".to_owned())].into(), ..given };
    let now = ask!(world.contracts, update_contract, update(labelled, &[])).unwrap();
    let now = now.contract.unwrap();
    assert_eq!((now.description.as_str(), now.labels.len()), ("Others", 1));
    assert!(now.revision > it.revision && now.event_types == ["*"]);
    assert_eq!(get(&world, "contracts/mine").await, now);

    let delete = v1::DeleteContractRequest { name: it.name, ..Default::default() };
    ask!(world.contracts, delete_contract, delete.clone()).unwrap();
    let answer = ask!(world.contracts, delete_contract, delete.clone());
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    let delete = v1::DeleteContractRequest { allow_missing: true, ..delete };
    assert_eq!(ask!(world.contracts, delete_contract, delete).unwrap().revision, 0);
    let answer = ask!(world.contracts, get_contract, v1::GetContractRequest { name: now.name });
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn every_fault_of_a_document_is_reported_with_its_place() {
    let world = World::new();
    let document = "contract: mine\nbody: \"${event.data\"\nsecret: { form: morse }\ncolour: red\n";
    let status = ask!(world.contracts, create_contract, create("mine", document)).unwrap_err();
    let details = status.get_error_details();
    let faults = &details.bad_request().unwrap().field_violations;
    assert!(faults.len() >= 3, "{faults:?}");
    for fault in faults {
        assert_eq!(fault.field, "contract.document");
        assert!(["CONTRACT_INVALID", "EXPRESSION_INVALID"].contains(&fault.reason.as_str()));
        let (line, rest) = fault.description.split_once(':').unwrap();
        let (column, _) = rest.split_once(": ").unwrap();
        assert!(line.parse::<u32>().is_ok() && column.parse::<u32>().is_ok(), "{fault:?}");
    }
    let invalid = [("contract.document", "CONTRACT_INVALID")];
    let other = create("mine", &contract("other", ""));
    assert_wrong(ask!(world.contracts, create_contract, other), &invalid);
    let answer = ask!(world.contracts, create_contract, create("a b", ""));
    assert_wrong(answer, &[("contract.document", "REQUIRED"), ("contract_id", "MALFORMED")]);
    let long = format!("contract: mine # {}", "x".repeat(64 * 1024));
    let answer = ask!(world.contracts, create_contract, create("mine", &long));
    assert_wrong(answer, &[("contract.document", "TOO_LONG")]);
    // An example that does not come out as expected refuses the document.
    let wrong = contract("mine", "").replace("\"d\":{}", "\"d\":{ }");
    assert_wrong(ask!(world.contracts, create_contract, create("mine", &wrong)), &invalid);
}

#[tokio::test]
async fn built_in_ones_are_listed_among_the_others_and_stay() {
    let world = World::new();
    for id in ["aaa", "nnn", "zzz"] {
        world.contract(id, "").await;
    }
    let all = names(&world, 1000).await;
    let mut sorted = all.clone();
    sorted.sort();
    assert_eq!((all.len(), &all), (11, &sorted));
    assert_eq!(names(&world, 2).await, all);
    assert_eq!((all[0].as_str(), all[10].as_str()), ("contracts/aaa", "contracts/zzz"));
    let ours = get(&world, "contracts/standard_webhooks").await;
    assert!(ours.built_in && ours.revision == 0 && ours.create_time.is_none());
    assert!(ours.document.contains("contract: standard_webhooks"));
    let own = contract("preauth", "");
    let answer = ask!(world.contracts, create_contract, create("preauth", &own));
    assert_refused(answer, Code::FailedPrecondition, "BUILT_IN");
    let given = v1::Contract { name: ours.name.clone(), document: own, ..Default::default() };
    let answer = ask!(world.contracts, update_contract, update(given, &[]));
    assert_refused(answer, Code::FailedPrecondition, "BUILT_IN");
    let delete = v1::DeleteContractRequest { name: ours.name, ..Default::default() };
    let answer = ask!(world.contracts, delete_contract, delete);
    assert_refused(answer, Code::FailedPrecondition, "BUILT_IN");
}

#[tokio::test]
async fn an_update_may_create() {
    let world = World::new();
    let document = contract("mine", "");
    let given = v1::Contract { name: "contracts/mine".into(), document, ..Default::default() };
    let missing = update(given.clone(), &[]);
    let answer = ask!(world.contracts, update_contract, missing.clone());
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    let request = v1::UpdateContractRequest { allow_missing: true, ..missing };
    ask!(world.contracts, update_contract, request).unwrap();
    assert_eq!(get(&world, "contracts/mine").await.document, given.document);
}

#[tokio::test]
async fn what_a_contract_brings_along_is_imported_once() {
    let world = World::new();
    let existing = v1::CreateEventTypeRequest {
        event_type_id: "payment.voided".into(),
        event_type: Some(v1::EventType { description: "mine".into(), ..Default::default() }),
        ..Default::default()
    };
    let existing = ask!(world.event_types, create_event_type, existing).unwrap();
    let import = |validate_only| v1::ImportEventTypesRequest {
        contract: "contracts/operator".into(),
        validate_only,
    };
    let dry = ask!(world.event_types, import_event_types, import(true)).unwrap();
    assert_eq!(
        (dry.revision, dry.created.as_slice()),
        (0, &["eventTypes/payment.refunded".to_owned()][..])
    );
    let made = ask!(world.event_types, import_event_types, import(false)).unwrap();
    assert_eq!((made.created.len(), made.event_types.len()), (1, 2));
    for kind in &made.event_types {
        let fresh = made.created.contains(&kind.name);
        assert_eq!(kind.revision, if fresh { made.revision } else { existing.revision });
        assert_eq!(kind.description == "mine", !fresh);
        let get = v1::GetEventTypeRequest { name: kind.name.clone() };
        let stored = ask!(world.event_types, get_event_type, get).unwrap().event_type.unwrap();
        assert_eq!(&stored, kind);
    }
    let again = ask!(world.event_types, import_event_types, import(false)).unwrap();
    assert_eq!((again.revision, again.created.len(), again.event_types.len()), (0, 0, 2));
    let unknown =
        v1::ImportEventTypesRequest { contract: "contracts/none".into(), ..Default::default() };
    let answer = ask!(world.event_types, import_event_types, unknown);
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn a_pool_that_there_is_not_is_refused_by_name() {
    let world = World::with_tenant().await;
    let document = contract("mine", "egress: internal");
    let answer = ask!(world.contracts, create_contract, create("mine", &document));
    assert_wrong(answer, &[("contract.document", "UNSUPPORTED")]);
    let document = contract("mine", "egress: default");
    ask!(world.contracts, create_contract, create("mine", &document)).unwrap();
}
