//! The document that a request gives, and the whole contract that it becomes.
//!
//! One that extends what comes with Pregón is put together as it is parsed. One that extends a stored
//! contract is put together where it is written, which relies on that contract as it was read.

use std::sync::Arc;

use pregon_core::contract::{Contract, DocumentFault, Extends, shipped};
use pregon_core::error::{Refusal, Rule, Violations};
use pregon_core::id::ContractId;
use pregon_core::limits;
use pregon_core::model::ContractDocument;

use super::children::{Children, document};
use crate::commit::Plan;
use crate::{Control, catalog};

const FIELD: &str = "contract.document";
/// What is wrong with a document is reported up to here: a refusal travels in gRPC trailers.
const FAULTS: usize = 20;

/// A document as it is given.
#[derive(Clone, Debug)]
pub(super) enum Given {
    /// All that it becomes is known.
    Ready(Ready),
    /// It extends a stored contract.
    Extends {
        /// The document.
        text: String,
        /// The id that it has to have; none where that is wrong.
        id: Option<ContractId>,
        /// What it says that it extends.
        extends: Extends,
        /// That contract.
        parent: ContractId,
    },
}

/// What a document becomes.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    /// The whole document.
    document: String,
    /// The one that was given, where that is not whole.
    source: String,
    /// The contract.
    pub contract: Arc<Contract>,
}

/// The stored contract that a document extends, as it was read.
#[derive(Debug)]
pub(super) struct Parent {
    /// Its id.
    pub id: ContractId,
    revision: i64,
    children: Children,
}

impl Ready {
    /// Puts it into a contract.
    pub(super) fn apply(&self, contract: &mut ContractDocument) {
        contract.document.clone_from(&self.document);
        contract.source.clone_from(&self.source);
    }
}

impl Parent {
    /// Adds to a plan that it is as it was read, and that this one extends it from then on.
    pub(super) fn joined(self, plan: Plan, child: &ContractId) -> Result<Plan, Refusal> {
        let plan = plan.relies_on(self.id.name(), Some(self.revision));
        self.children.with(plan, child)
    }
}

impl Given {
    /// A document that is to be a contract of this id; every fault that needs no stored contract to
    /// be found is a violation.
    pub(super) fn parse(
        text: &str,
        id: Option<&ContractId>,
        wrong: &mut Violations,
    ) -> Option<Self> {
        if text.is_empty() {
            wrong.add(FIELD, Rule::Required, "must be a contract in YAML");
            return None;
        }
        if text.len() > limits::CONTRACT_LEN {
            let text = format!("must be {} bytes at most, is {}", limits::CONTRACT_LEN, text.len());
            wrong.add(FIELD, Rule::TooLong, text);
            return None;
        }
        let read = match Extends::of(text) {
            Err(fault) => Err(vec![fault]),
            Ok(None) => Contract::read(text, 0).map(|it| (it, text.to_owned(), String::new())),
            Ok(Some(extends)) => match (shipped(extends.name()), extends.name()) {
                (Some(parent), _) => extends
                    .compose(text, parent, 0)
                    .map(|it| (it.contract, it.document, text.to_owned())),
                (None, name) => match ContractId::parse_name(name) {
                    Ok(parent) => {
                        let (text, id) = (text.to_owned(), id.cloned());
                        return Some(Self::Extends { text, id, extends, parent });
                    }
                    Err(_) => Err(vec![extends.fault("there is no such entry of the catalogue")]),
                },
            },
        };
        ready(read, id, wrong).map(Self::Ready)
    }
}

/// What was read, if it can be the contract of this id.
fn ready(
    read: Result<(Contract, String, String), Vec<DocumentFault>>,
    id: Option<&ContractId>,
    wrong: &mut Violations,
) -> Option<Ready> {
    match read {
        Ok((contract, document, source)) => {
            if let Some(id) = id.filter(|id| *id != contract.id()) {
                let text = format!("contract: must be {id}, as the resource is called");
                wrong.add(FIELD, Rule::ContractInvalid, text);
            }
            Some(Ready { document, source, contract: Arc::new(contract) })
        }
        Err(faults) => {
            for fault in faults.iter().take(FAULTS) {
                wrong.add(FIELD, fault.rule, fault);
            }
            None
        }
    }
}

impl Control {
    /// What a document becomes, and the stored contract that it extends, if it extends one.
    pub(super) async fn ready(&self, given: &Given) -> Result<(Ready, Option<Parent>), Refusal> {
        let mut wrong = Violations::new();
        let found = self.put_together(given, &mut wrong).await?;
        crate::parse::done(wrong, found)
    }

    /// Notes all that is wrong with a document beside what is wrong already, so that one answer tells
    /// everything; where nothing is, it is told as it is written.
    pub(super) async fn note_faults(
        &self,
        given: Option<&Given>,
        wrong: &mut Violations,
    ) -> Result<(), Refusal> {
        match given.filter(|_| !wrong.is_empty()) {
            Some(given) => self.put_together(given, wrong).await.map(drop),
            None => Ok(()),
        }
    }

    async fn put_together(
        &self,
        given: &Given,
        wrong: &mut Violations,
    ) -> Result<Option<(Ready, Option<Parent>)>, Refusal> {
        let found = self.composed(given, wrong).await?;
        if let Some((ready, _)) = &found {
            wrong.check(FIELD, ready.contract.check_egress(self.contracts.pools()));
        }
        Ok(found)
    }

    async fn composed(
        &self,
        given: &Given,
        wrong: &mut Violations,
    ) -> Result<Option<(Ready, Option<Parent>)>, Refusal> {
        let (text, id, extends, parent) = match given {
            Given::Ready(ready) => return Ok(Some((ready.clone(), None))),
            Given::Extends { text, id, extends, parent } => (text, id.as_ref(), extends, parent),
        };
        let mut found =
            self.store.config.get(&[parent.name(), document(parent)]).await?.into_iter();
        let (stored, children) = (found.next().flatten(), found.next().flatten());
        let Some(stored) = stored else {
            let missing = extends.fault(&format!("{} does not exist", parent.name()));
            return Ok(ready(Err(vec![missing]), id, wrong).zip(None));
        };
        let stored = catalog::read::<ContractDocument>(&stored)?;
        let children = Children::read(parent, children.as_ref())?;
        let parent = Parent { id: parent.clone(), revision: stored.revision, children };
        let whole = extends.compose(text, stored.value.source(), 0);
        let whole = whole.map(|it| (it.contract, it.document, text.clone()));
        Ok(ready(whole, id, wrong).map(|ready| (ready, Some(parent))))
    }
}
