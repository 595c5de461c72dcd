//! What a contract can be created from: the entries of the catalogue, and built-in contracts.
//!
//! The catalogue's entries are shown as contracts are, under names of their own (`catalog/{entry}`).
//! They are no contracts that a subscription can have: one is created from them, and is then one's
//! own.

use pregon_core::contract::document::catalog::{CATALOG, copy};
use pregon_core::contract::{CatalogEntry, catalog, catalogued};
use pregon_core::error::{Reason, Refusal, Rule, Violations};
use pregon_core::id::ContractId;
use pregon_core::model::ContractDocument;
use pregon_proto::v1;

use super::described;
use super::registry::built_in;
use crate::Control;
use crate::catalog::Kind;
use crate::listing::{PAGE_BYTES, Paging};

/// The refusal that says there is nothing of this name.
fn not_found(name: &str) -> Refusal {
    // A name is as long as a request may be; no entry's has more than an id's letters.
    let shown: String = name.chars().take(CATALOG.len() + 64).collect();
    Refusal::not_found(ContractDocument::WORD, shown)
}

/// An entry as the API shows it.
fn shown(entry: &CatalogEntry) -> v1::Contract {
    let document = entry.document().to_owned();
    v1::Contract { name: entry.name(), document, ..described(entry.contract()) }
}

/// The entry of a name that is of the catalogue; none where it is another's.
///
/// # Errors
///
/// The catalogue has no such entry.
pub(super) fn shown_entry(name: &str) -> Result<Option<v1::Contract>, Refusal> {
    if !name.starts_with(CATALOG) {
        return Ok(None);
    }
    catalogued(name).map(|entry| Some(shown(entry))).ok_or_else(|| not_found(name))
}

/// The refusal to change what is in the catalogue.
pub(super) fn check_not_of_catalog(name: &str) -> Result<(), Refusal> {
    if !name.starts_with(CATALOG) {
        return Ok(());
    }
    let entry = catalogued(name).ok_or_else(|| not_found(name))?;
    let name = entry.name();
    let message = format!(
        "{name} is of the catalogue: create a contract from it (CreateContract with from) and \
         change that"
    );
    Err(Refusal::new(Reason::BuiltIn, message).about(ContractDocument::WORD, name))
}

/// The document that a request to create a contract of this id starts with, in the contract as it
/// is given. None stands beside a note.
///
/// # Errors
///
/// `from` names nothing that there is.
pub(super) fn begun(
    request: &v1::CreateContractRequest,
    id: Option<&ContractId>,
    wrong: &mut Violations,
) -> Result<Option<v1::Contract>, Refusal> {
    let given = request.contract.clone();
    let from = request.from.as_str();
    if from.is_empty() {
        let Some(given) = given else {
            wrong.add("contract", Rule::Required, "must be set");
            return Ok(None);
        };
        if given.document.is_empty() {
            let rule = "must be a contract in YAML, unless from says what to start from";
            wrong.add("contract.document", Rule::Required, rule);
            return Ok(None);
        }
        return Ok(Some(given));
    }
    let given = given.unwrap_or_default();
    if !given.document.is_empty() {
        let rule = "must be empty where contract.document is given, and that where from is";
        wrong.add("from", Rule::Malformed, rule);
        return Ok(None);
    }
    let document = match ContractId::parse_name(from) {
        _ if from.starts_with(CATALOG) => {
            catalogued(from).map(CatalogEntry::document).ok_or_else(|| not_found(from))?
        }
        Ok(named) => match built_in(&named) {
            Some(it) => it.document,
            None => {
                let message = format!("{from} is not built in: only that, or of the catalogue");
                let refusal = Refusal::new(Reason::ResourceNotFound, message);
                return Err(refusal.about(ContractDocument::WORD, from));
            }
        },
        Err(_) => {
            let rule = "must be catalog/{entry}, or contracts/{contract} of a built-in one";
            wrong.add("from", Rule::Malformed, rule);
            return Ok(None);
        }
    };
    let Some(id) = id else { return Ok(None) };
    Ok(Some(v1::Contract { document: copy(document, id), ..given }))
}

impl Control {
    /// A page of the catalogue, by name.
    pub(super) async fn list_catalog(&self, paging: &Paging) -> v1::ListContractsResponse {
        let after = paging.from.as_deref().unwrap_or_default();
        let first = catalog().partition_point(|entry| entry.name().as_str() <= after);
        let (mut contracts, mut bytes) = (Vec::<v1::Contract>::new(), 0);
        for entry in catalog().get(first..).unwrap_or_default() {
            let size = entry.document().len();
            let full = contracts.len() == paging.size
                || (bytes + size > PAGE_BYTES && !contracts.is_empty());
            if full {
                let last = contracts.last().map(|contract| contract.name.as_str());
                let next_page_token = self.next_page(paging, last);
                return v1::ListContractsResponse { contracts, next_page_token };
            }
            bytes += size;
            contracts.push(shown(entry));
            // An entry that is shown for the first time was compiled.
            tokio::task::yield_now().await;
        }
        v1::ListContractsResponse { contracts, next_page_token: String::new() }
    }
}
