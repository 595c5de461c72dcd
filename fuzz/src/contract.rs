//! Contracts, as documents.

use bytes::Bytes;
use pregon_core::contract::{Contract, DocumentFault, Extends, Overrides, Trial};
use pregon_core::event::{Attributes, Environment, NewEvent};
use pregon_core::id::{EventTypeId, TenantId};
use pregon_core::limits;

use crate::event::sendable;

/// The revision that the documents are written by.
const REVISION: i64 = 7;

/// A document.
///
/// - Every fault has a place in the document and words, and the same document has the same faults.
/// - A contract that is taken keeps its bounds, and what it makes of an event can be sent.
/// - A document that extends it is put together to one that is read as the same contract.
pub fn contract(data: &[u8]) {
    let Ok(document) = std::str::from_utf8(data) else { return };
    match Overrides::read(document) {
        Ok(overrides) => assert_eq!(Overrides::read(document), Ok(overrides)),
        Err(faults) => placed(document, &faults),
    }
    if let Err(fault) = Extends::of(document) {
        placed(document, &[fault]);
    }
    let (read, again) =
        (Contract::read_counting(document, REVISION), Contract::read(document, REVISION));
    match (read, again) {
        (Ok((contract, examples)), Ok(_)) => taken(document, &contract, examples),
        (Err(faults), Err(again)) => {
            assert_eq!(faults, again, "a document has the same faults each time");
            placed(document, &faults);
        }
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => panic!("a document is taken at one time only"),
    }
}

fn placed(document: &str, faults: &[DocumentFault]) {
    assert!(!faults.is_empty(), "what is refused is told why");
    let lines = document.split('\n').count();
    for fault in faults {
        assert!((1..=lines + 1).contains(&fault.line), "{fault}");
        assert!(fault.column >= 1 && fault.column <= document.chars().count() + 1, "{fault}");
        assert!(!fault.text.is_empty());
        assert_eq!(fault.parent, None, "{fault}");
    }
}

fn taken(document: &str, contract: &Contract, examples: usize) {
    assert!(document.len() <= limits::CONTRACT_LEN);
    assert_eq!(contract.revision(), REVISION);
    assert!((1..=limits::ID_LEN).contains(&contract.id().as_str().len()));
    assert!(examples > 0, "a contract has an example that holds");
    assert!(contract.longest_timeout() >= contract.timeout(1));
    for sent in 1..=contract.retry().sends().min(200) {
        if let Some(delay) = contract.retry().delay(sent) {
            assert!(delay.as_secs() <= 366 * 24 * 3600, "a delay has a bound");
        }
    }
    for event_type in contract.types().iter().map(|it| it.id.clone()).chain(named("order.paid")) {
        tried(contract, event_type);
    }
    extended(document, contract);
}

fn named(event_type: &str) -> Option<EventTypeId> {
    EventTypeId::parse(event_type).ok()
}

fn tried(contract: &Contract, event_type: EventTypeId) {
    let event = NewEvent {
        tenant: TenantId::parse("acme").expect("a tenant's id"),
        id: None,
        version: 3,
        event_type,
        environment: Environment::Test,
        occur_time: None,
        since: None,
        min_revision: 0,
        trace: None,
        terms: None,
        attributes: Attributes::from([("subject".to_owned(), "orders/17".to_owned())]),
        data: Bytes::from_static(br#"{"id": "17", "total": 150.00, "lines": [{"sku": "a"}]}"#),
    };
    let Ok(trial) = Trial::of(event) else { return };
    let (made, again) = (trial.make(contract), trial.make(contract));
    assert_eq!(made.is_ok(), again.is_ok());
    let (Ok(made), Ok(again)) = (made, again) else { return };
    sendable(&made);
    // Signatures of some kinds differ each time, and so do boundaries.
    assert_eq!(made.signed.headers.len(), again.signed.headers.len());
}

fn extended(document: &str, contract: &Contract) {
    let child = format!("contract: child_of_it\nextends: contracts/{}\n", contract.id());
    let Ok(Some(extends)) = Extends::of(&child) else { return };
    let Ok(composed) = extends.compose(&child, document, REVISION) else { return };
    assert!(composed.document.len() <= limits::CONTRACT_LEN);
    assert_eq!(composed.contract.id().as_str(), "child_of_it");
    let (read, examples) = Contract::read_counting(&composed.document, REVISION)
        .unwrap_or_else(|faults| panic!("what was put together is a document: {}", faults[0]));
    assert_eq!((read.id(), examples), (composed.contract.id(), composed.examples));
    assert_eq!(read.header_names(), composed.contract.header_names());
    assert_eq!(read.longest_timeout(), composed.contract.longest_timeout());
}
