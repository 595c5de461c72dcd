//! Documents that extend another one: what comes of them, and how they are refused.

use crate::contract::Contract;
use crate::contract::document::catalog;
use crate::contract::document::extend::{Composed, Extends, shipped};
use crate::contract::document::tests::spec;
use crate::contract::{BuiltIn, builtins};

const BASE: &str = "contract: base\n\
    description: Ours\n\
    timeouts: [5s]\n\
    headers: { x-a: one }\n\
    examples:\n\
    \x20 - event: { type: a, data: '{}' }\n\
    \x20   expect: { headers: { x-a: one } }\n";

fn composed(keys: &str, parent: &str) -> Result<Composed, Vec<String>> {
    let document = format!("contract: mine\nextends: contracts/base\n{keys}");
    let told = |fault: &crate::contract::DocumentFault| fault.to_string();
    let extends = Extends::of(&document).map_err(|fault| vec![told(&fault)])?.unwrap();
    extends.compose(&document, parent, 7).map_err(|faults| faults.iter().map(told).collect())
}

#[test]
fn a_key_goes_before_the_parents_and_all_others_are_inherited() {
    let it = composed("timeouts: [7s, 9s]\n", BASE).unwrap();
    let whole = BASE.replace("contract: base", "contract: mine").replace("[5s]", "[7s, 9s]");
    assert_eq!(spec(&it.document), spec(&whole));
    assert_eq!((it.examples, it.contract.revision(), it.contract.id().as_str()), (1, 7, "mine"));
    assert_eq!(Contract::read_counting(&it.document, 7).unwrap().1, 1);
    // A mapping is replaced whole, and so are the examples.
    let keys = "headers: { x-b: two }\nexamples: [{ event: { type: b, data: '{}' } }]\n";
    let it = spec(&composed(keys, BASE).unwrap().document);
    assert_eq!(it.headers.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["x-b"]);
}

#[test]
fn null_takes_a_key_away() {
    let keys = "description: null\nexamples: [{ event: { type: b, data: '{}' } }]\n";
    let keys = format!("headers: null\n{keys}");
    let it = composed(&keys, BASE).unwrap();
    assert!(!it.document.contains("headers") && it.contract.description().is_empty());
    let gone = composed("examples: null\n", BASE).unwrap_err();
    assert_eq!(gone, ["1:1: needs at least one of examples, or a type with an example"]);
    // What is no key cannot be taken away either.
    let unknown = composed("colour: null\n", BASE).unwrap_err();
    assert!(unknown[0].starts_with("3:1: unknown key \"colour\""), "{unknown:?}");
}

#[test]
fn a_fault_names_the_document_that_it_stands_in() {
    let own = composed("timeouts: [40s]\n", BASE).unwrap_err();
    assert!(own[0].starts_with("3:12: timeouts[0]: must be a duration"), "{own:?}");
    // The inherited example expects what the document does not send any more.
    let theirs = composed("headers: { x-a: two }\n", BASE).unwrap_err();
    assert!(theirs[0].starts_with("contracts/base:7:"), "{theirs:?}");
    let broken = composed("", "contract: base\nbody: *x\n").unwrap_err();
    assert!(broken[0].starts_with("contracts/base:2:7: an alias"), "{broken:?}");
}

#[test]
fn only_one_that_extends_none_is_extended() {
    let parent = format!("{BASE}extends: contracts/other\n");
    let faults = composed("", &parent).unwrap_err();
    let rule = "extends another contract itself: only one that extends none can be extended";
    assert_eq!(faults, [format!("2:10: extends: contracts/base {rule}")]);
    let of = |text: &str| Extends::of(text).unwrap_err().to_string();
    let itself = of("contract: base\nextends: contracts/base\n");
    assert_eq!(itself, "2:10: extends: is this contract itself: name another one");
    let rule = "must be contracts/{contract}, or catalog/{entry} of the catalogue";
    assert_eq!(of("extends: stripe\n"), format!("1:10: extends: {rule}"));
    assert!(of("extends: [a]\n").starts_with("1:10: extends: must be text"));
    assert_eq!(Extends::of("contract: mine\n"), Ok(None));
    // By itself such a document is none.
    let faults = Contract::read(&parent, 1).unwrap_err();
    assert!(faults[0].text.starts_with("extends: "), "{faults:?}");
}

#[test]
fn what_is_composed_keeps_to_the_bounds() {
    let half = "x".repeat(40 * 1024);
    let example = |id: &str| format!("{{ event: {{ type: a, id: {id}, data: '\"{half}\"' }} }}");
    let base = format!("contract: base\nexamples: [{}]\n", example("e"));
    let types = format!("types: [{{ type: a, example: '\"{half}\"' }}]\n");
    let faults = composed(&types, &base).unwrap_err();
    assert!(faults[0].starts_with("2:10: extends: with contracts/base it is 8"), "{faults:?}");
    assert!(composed("", &base).is_ok());
}

#[test]
fn all_that_comes_along_can_be_extended() {
    let ours = builtins().iter().map(|BuiltIn { contract, .. }| contract.id().name());
    let entries = catalog::catalog().iter().map(catalog::CatalogEntry::name);
    for name in ours.chain(entries) {
        let document = format!("contract: mine\nextends: {name}\ndescription: \"\\uFEFF\\x7F\"\n");
        let extends = Extends::of(&document).unwrap().unwrap();
        let it = extends.compose(&document, shipped(&name).unwrap(), 1);
        let it = it.unwrap_or_else(|faults| panic!("{name}: {faults:#?}"));
        assert_eq!(it.contract.description(), "\u{feff}\u{7f}", "{name}");
        assert!(Contract::read(&it.document, 1).is_ok(), "{name}");
    }
    assert!(shipped("catalog/nobody").is_none() && shipped("contracts/stripe").is_none());
}
