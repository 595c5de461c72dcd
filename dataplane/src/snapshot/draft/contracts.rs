//! Contracts as they come and go, who is under which, and who waits for one.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use pregon_core::contract::{Contract, DocumentFault, builtins};
use pregon_core::id::{CallbackName, ContractId, LaneNo, SignerName};
use pregon_core::model::{Callback, ContractDocument, Subscription};

use super::{CallbackEntry, Draft, Lane, Placed, Refused};

/// A document that waits for its contract.
pub(super) struct Aside {
    document: Waiting,
    revision: i64,
    /// It was reported.
    reported: bool,
}

enum Waiting {
    Subscription(Box<Subscription>),
    Callback(Box<Callback>),
}

impl Aside {
    pub(super) fn subscription(document: Subscription, revision: i64) -> Self {
        Self { document: Waiting::Subscription(Box::new(document)), revision, reported: false }
    }

    pub(super) fn callback(document: Callback, revision: i64) -> Self {
        Self { document: Waiting::Callback(Box::new(document)), revision, reported: false }
    }

    fn contract(&self) -> &ContractId {
        match &self.document {
            Waiting::Subscription(document) => &document.contract,
            Waiting::Callback(document) => &document.contract,
        }
    }

    /// Tells once that it waits.
    pub(super) fn tell(&mut self, name: &SignerName) -> Option<Refused> {
        let reported = std::mem::replace(&mut self.reported, true);
        (!reported).then(|| Refused {
            resource: name.to_string(),
            revision: self.revision,
            reason: format!("contract: {} is not known; it waits for it", self.contract().name()),
        })
    }
}

/// Who is under which contract.
#[derive(Default)]
pub(super) struct Under {
    lanes: HashMap<ContractId, HashSet<LaneNo>>,
    callbacks: HashMap<ContractId, HashSet<CallbackName>>,
}

impl Under {
    /// Puts a lane under a contract.
    pub(super) fn move_lane(&mut self, lane: LaneNo, from: Option<ContractId>, to: &Contract) {
        moved(&mut self.lanes, lane, from, to.id().clone());
    }

    pub(super) fn move_callback(
        &mut self,
        name: CallbackName,
        from: Option<ContractId>,
        to: ContractId,
    ) {
        moved(&mut self.callbacks, name, from, to);
    }

    pub(super) fn remove_lane(&mut self, lane: LaneNo, contract: &ContractId) {
        removed(&mut self.lanes, &lane, contract);
    }

    pub(super) fn remove_callback(&mut self, name: &CallbackName, contract: &ContractId) {
        removed(&mut self.callbacks, name, contract);
    }
}

fn moved<K: Eq + Hash>(
    under: &mut HashMap<ContractId, HashSet<K>>,
    who: K,
    from: Option<ContractId>,
    to: ContractId,
) {
    match from {
        Some(from) if from == to => return,
        Some(from) => removed(under, &who, &from),
        None => {}
    }
    under.entry(to).or_default().insert(who);
}

fn removed<K: Eq + Hash>(
    under: &mut HashMap<ContractId, HashSet<K>>,
    who: &K,
    contract: &ContractId,
) {
    if let Some(all) = under.get_mut(contract) {
        all.remove(who);
        if all.is_empty() {
            under.remove(contract);
        }
    }
}

impl Draft {
    /// Compiles a contract and puts everybody under it who names it. Nothing else of them is
    /// compiled anew.
    pub(super) fn put_contract(
        &mut self,
        document: &ContractDocument,
        revision: i64,
    ) -> Result<Placed, String> {
        if is_built_in(&document.id) {
            return Err("is the name of a built-in contract".to_owned());
        }
        let contract = Contract::read(&document.document, document.written_at(revision))
            .map_err(|faults| summary(&faults))?;
        if *contract.id() != document.id {
            return Err(format!("document: is that of {}", contract.id().name()));
        }
        self.set_contract(Arc::new(contract));
        Ok(Placed::Used)
    }

    pub(super) fn set_contract(&mut self, contract: Arc<Contract>) {
        let id = contract.id();
        let lanes = self.under.lanes.get(id).into_iter().flatten();
        let lanes: Vec<Arc<Lane>> =
            lanes.filter_map(|lane| self.snapshot.lanes.get(lane).cloned()).collect();
        for lane in lanes {
            let mut lane = Lane::clone(&lane);
            lane.put_under(&contract);
            self.put_lane(lane);
        }
        let callbacks = self.under.callbacks.get(id).into_iter().flatten();
        let callbacks: Vec<Arc<CallbackEntry>> =
            callbacks.filter_map(|name| self.snapshot.callbacks.get(name).cloned()).collect();
        for entry in callbacks {
            let mut entry = CallbackEntry::clone(&entry);
            entry.put_under(&contract);
            self.set_callback(entry);
        }
        let id = id.clone();
        self.contracts.insert(id.clone(), contract);
        self.place_aside(&id);
    }

    /// Forgets a contract. Whoever is under it stays so: the control plane deletes none that is in
    /// use.
    pub(super) fn remove_contract(&mut self, id: &ContractId) {
        if !is_built_in(id) {
            self.contracts.remove(id);
        }
    }

    /// Places what waited for this contract.
    fn place_aside(&mut self, id: &ContractId) {
        let waiting = self.aside.extract_if(|_, aside| aside.contract() == id);
        let waiting: Vec<(SignerName, Aside)> = waiting.collect();
        for (name, Aside { document, revision, .. }) in waiting {
            let done = match document {
                Waiting::Subscription(document) => self.put_subscription(*document, revision, None),
                Waiting::Callback(document) => self.put_callback(*document, revision, None),
            };
            if let Err(reason) = done {
                self.refused.push(Refused { resource: name.to_string(), revision, reason });
            }
        }
    }
}

fn is_built_in(id: &ContractId) -> bool {
    builtins().iter().any(|it| it.contract.id() == id)
}

/// The first fault, and how many more there are.
fn summary(faults: &[DocumentFault]) -> String {
    match faults {
        [] => "document: cannot be read".to_owned(),
        [one] => format!("document: {one}"),
        [first, more @ ..] => format!("document: {first} (and {} more)", more.len()),
    }
}
