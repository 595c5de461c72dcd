//! Documents: what they may state, and how they are refused.

mod accepted;
mod answers;
mod batches;
mod extends;
mod lets;
mod pairs;
mod places;
mod refused;
mod sends;

use super::read::stated;
use crate::contract::{ContractSpec, builtins};
use crate::yaml::{self, At};

/// What a document states, its examples untried.
pub(in crate::contract) fn spec(document: &str) -> ContractSpec {
    let node = yaml::read(document).unwrap();
    stated(&At::root(&node)).unwrap().0
}

/// What the built-in contract of this name states.
pub(in crate::contract) fn built_in(name: &str) -> ContractSpec {
    let found = builtins().iter().find(|it| it.contract.id().as_str() == name).unwrap();
    spec(found.document)
}

#[test]
fn the_built_in_documents_hold_their_own_examples() {
    for built_in in builtins() {
        let id = built_in.contract.id().as_str();
        assert!(built_in.document.contains(&format!("contract: {id}\n")), "{id}");
        assert_eq!(built_in.contract.revision(), 0);
    }
}
