//! The catalogue: documents in `contracts/catalog` that say what well-known senders send, to start
//! from. A subscription uses none of them: a contract is created from one, and is its owner's.

use std::sync::{Arc, LazyLock, OnceLock};

use crate::contract::compiled::Contract;
use crate::id::ContractId;

/// The documents, each with the id that it says, by id.
const DOCUMENTS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/catalog.rs"));

/// What the name of an entry begins with.
pub const CATALOG: &str = "catalog/";

/// An entry of the catalogue. It is read when its contract is first asked for.
#[derive(Debug)]
pub struct CatalogEntry {
    id: &'static str,
    document: &'static str,
    contract: OnceLock<Arc<Contract>>,
}

impl CatalogEntry {
    /// The resource name, `catalog/{entry}`.
    pub fn name(&self) -> String {
        format!("{CATALOG}{}", self.id)
    }

    /// The document, whose contract has the entry's id.
    pub fn document(&self) -> &'static str {
        self.document
    }

    /// The contract that it states; its revision is 0.
    pub fn contract(&self) -> &Arc<Contract> {
        self.contract.get_or_init(|| {
            let contract = Contract::read(self.document, 0);
            Arc::new(contract.expect("of the catalogue, and tested to be valid"))
        })
    }
}

static ENTRIES: LazyLock<Vec<CatalogEntry>> = LazyLock::new(|| {
    let entry = |(id, document): &(&'static str, &'static str)| CatalogEntry {
        id,
        document,
        contract: OnceLock::new(),
    };
    DOCUMENTS.iter().map(entry).collect()
});

/// Every entry of the catalogue, by name. Reads none of them.
pub fn catalog() -> &'static [CatalogEntry] {
    &ENTRIES
}

/// The entry of a resource name, if there is one.
pub fn catalogued(name: &str) -> Option<&'static CatalogEntry> {
    let id = name.strip_prefix(CATALOG)?;
    catalog().iter().find(|entry| entry.id == id)
}

/// A copy of a document that comes with Pregón under another id. All else of it stays as it is,
/// comments too.
pub fn copy(document: &str, id: &ContractId) -> String {
    let mut renamed = false;
    let lines = document.split_inclusive('\n').map(|line| {
        if renamed || !line.starts_with("contract: ") {
            return line.to_owned();
        }
        renamed = true;
        // In quotes, as an id may look like a number or a word of YAML.
        format!("contract: \"{id}\"\n")
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::builtins;

    #[test]
    fn a_copy_says_its_own_id_and_all_else_of_the_original() {
        let ours = builtins().iter().map(|it| it.document);
        for document in catalog().iter().map(CatalogEntry::document).chain(ours) {
            for id in ["mine", "1e5", "true", "-", "null"] {
                let id = ContractId::parse(id).unwrap();
                let copy = copy(document, &id);
                let parted: Vec<_> =
                    document.lines().zip(copy.lines()).filter(|(a, b)| a != b).collect();
                assert_eq!(parted.len(), 1, "{parted:?}");
                assert_eq!(document.lines().count(), copy.lines().count());
                if id.as_str() == "1e5" {
                    assert_eq!(*Contract::read(&copy, 1).unwrap().id(), id);
                }
            }
        }
    }

    #[test]
    fn an_entry_is_found_by_its_name() {
        assert_eq!(catalogued("catalog/stripe").unwrap().name(), "catalog/stripe");
        for name in ["catalog/", "catalog/nobody", "contracts/stripe", "stripe"] {
            assert!(catalogued(name).is_none(), "{name}");
        }
    }
}
